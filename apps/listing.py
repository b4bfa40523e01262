"""Runs and data sets as the API lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apps.runs import RunFolder
from workbench.cli import MISTAKES, sentence
from workbench.figures import keypoint_colours
from workbench.records import Skeleton

if TYPE_CHECKING:
    from apps.context import Context


def listed_runs(context: Context) -> list[dict[str, Any]]:
    """Every run folder, with the sets it can be judged on."""
    return [listed_run(context, run) for run in context.registry.runs()]


def listed_run(context: Context, run: RunFolder) -> dict[str, Any]:
    """One run; when it cannot be opened, the reason instead of a family."""
    family, reason = context.registry.family(run)
    sets: list[str] = []
    if family is not None:
        try:
            last = run.epochs[-1].index
            sets = context.registry.sets.fitting(context.registry.skeleton(run.id, last))
        except MISTAKES as mistake:
            reason = sentence(mistake)
    return {
        "id": run.id,
        "title": run.title,
        "family": family,
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
