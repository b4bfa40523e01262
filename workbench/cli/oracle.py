"""workbench oracle: where is AP lost? Each part replaced by ground truth (boxes, heatmaps, tags, ...)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cli.options import (
    BOTTOM_UP_DEMO,
    BoxOptions,
    DataOptions,
    Demo,
    Files,
    Flip,
    HtmlOut,
    Limit,
    ModelOptions,
    Sigmas,
    check_limit,
    model_files,
    same_keypoints,
    with_loading,
)
from workbench.cli.output import Answer, check_file, run_in_job, written
from workbench.core import FLIP_BY_DEFAULT, NotAvailable
from workbench.core.capabilities import BottomUpModel, PlacesMaps
from workbench.core.inspector import absent_capability

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.oracle import Waterfall
    from workbench.models import LoadedModel

# Enough images for every part to show, few enough for a minute.
DEMO_IMAGES = 10


def command(
    files: Files = None,
    *,
    data: DataOptions,
    model: ModelOptions,
    boxes: BoxOptions,
    flip: Flip = FLIP_BY_DEFAULT,
    limit: Limit = None,
    sigmas: Sigmas = None,
    out: HtmlOut = None,
    demo: Demo = False,
) -> Answer:
    """AP with one part after the other replaced by the truth, and with each alone."""
    file = model_files(files)
    if demo:
        file, name, limit = _demo(data.data, limit)
        data = dataclasses.replace(data, data=name)
    model.require("oracle", file)
    data.require("oracle")
    check_limit(limit)
    check_file(out, ".html")
    from workbench.evaluation import check_counting

    loaded = model.open(file)
    pose_set = data.open("oracle", len(loaded.model.skeleton), model.skeleton)
    loaded, pose_set = same_keypoints(loaded, pose_set, sigmas)
    check_counting(pose_set)
    report = waterfall(loaded, pose_set, boxes, flip, limit)
    facts: dict[str, Any] = {**report.to_json(), "checkpoint": loaded.title, "data": pose_set.name}
    return written(with_loading(Answer(facts, report.text()), loaded), out, report)


def waterfall(
    loaded: LoadedModel, pose_set: PoseSet, boxes: BoxOptions, flip: bool, limit: int | None
) -> Waterfall:
    """The waterfall of the model's kind."""
    from workbench.evaluation.oracle import crops_waterfall, people_waterfall
    from workbench.evaluation.predict import finds_people

    made, more = crops_waterfall, {}
    if finds_people(loaded.model):
        if boxes != BoxOptions():
            raise ValueError("--boxes: a bottom-up model gets whole images and no boxes; leave it out")
        if not isinstance(loaded.model, BottomUpModel):
            raise NotAvailable(f"oracle: {absent_capability(PlacesMaps)}")
        made = people_waterfall
    else:
        found, named = boxes.of(pose_set)
        more = {"boxes": found, "boxes_from": named}
    chosen = pose_set.first_images(limit)
    return run_in_job(
        f"predicting with {loaded.title}", made, loaded.model, pose_set, chosen, flip=flip,
        title=loaded.title, **more,
    )  # fmt: skip


def _demo(data: str | None, limit: int | None) -> tuple[Path, str, int]:
    from workbench.checkpoints.demo import DEFAULT, demo_checkpoints, demo_data, demo_manifest

    # The one that has most parts to replace.
    name = BOTTOM_UP_DEMO if BOTTOM_UP_DEMO in [run["name"] for run in demo_manifest()] else DEFAULT
    return demo_checkpoints(name)[-1], data or demo_data(name), DEMO_IMAGES if limit is None else limit
