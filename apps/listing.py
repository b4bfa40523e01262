"""Runs and data sets as the API lists them."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING, Any

from apps.server.folders import RunFolder
from apps.server.registry import Description
from workbench.cli import MISTAKES, sentence
from workbench.core import Skeleton
from workbench.figures import keypoint_colours

if TYPE_CHECKING:
    from apps.server.context import Context


FIRST_SECONDS, NEXT_SECONDS = 60.0, 15.0
"""A list of runs waits so long for the first description, which imports libraries, and after each for the
next; entries of runs without one then say so."""


def listed_runs(context: Context) -> list[dict[str, Any]]:
    """Every run folder, with the sets it can be judged on; one that cannot be read tells why in its entry."""
    runs = context.registry.runs()
    described = [context.registry.described(run) for run in runs]
    waiting, patience = set(described), FIRST_SECONDS
    while waiting:
        done, waiting = wait(waiting, patience, return_when=FIRST_COMPLETED)
        if not done:
            break
        patience = NEXT_SECONDS
    return [listed_run(context, run, found) for run, found in zip(runs, described, strict=True)]


def listed_run(context: Context, run: RunFolder, described: Future[Description]) -> dict[str, Any]:
    """One run; when it cannot be opened, the reason instead of a family."""
    sets: list[str] = []
    if not described.done():
        found = Description(None, "its first file is still being read; reload in a while")
    elif (error := described.exception()) is not None:
        found = Description(None, f"it cannot be read ({type(error).__name__}: {sentence(error)})")
    else:
        found = described.result()
    reason = found.reason
    if found.skeleton is not None:
        try:
            sets = context.registry.sets.fitting(found.skeleton)
        except MISTAKES as mistake:
            reason = sentence(mistake)
    return {
        "id": run.id,
        "title": run.title,
        "family": found.family,
        "reason": reason if not sets else "",
        "epochs": [
            {"index": e.index, "epoch": e.epoch, "label": e.label, "file": e.path.name} for e in run.epochs
        ],
        "data": sets,
    }


def listed_data(context: Context) -> list[dict[str, Any]]:
    """Every set that can be opened; `reason` for one that cannot."""
    listed = []
    for identity in context.registry.sets.ids():
        try:
            count = context.registry.sets.count(identity)
            skeleton = told_skeleton(context.registry.sets.skeleton(identity))
            facts = {"count": count, "skeleton": skeleton, "reason": ""}
        except MISTAKES as mistake:
            facts = {"count": None, "skeleton": None, "reason": sentence(mistake)}
        listed.append({"id": identity, "title": identity, **facts})
    return listed


def told_skeleton(skeleton: Skeleton) -> dict[str, Any]:
    """Names, limbs, pairs, colours and OKS constants of a skeleton."""
    return {
        "name": skeleton.name,
        "keypoints": skeleton.keypoints,
        "limbs": skeleton.limbs,
        "mirror": skeleton.mirror,
        "colours": keypoint_colours(skeleton),
        "sigmas": skeleton.sigmas,
    }
