"""workbench oracle: where is AP lost? Boxes, heatmaps, tags, grouping, scores, each replaced by the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, cast

import typer

from workbench.cli.answer import Answer
from workbench.cli.options import (
    Adapter,
    Assume,
    Boxes,
    Config,
    Data,
    Demo,
    Device,
    Family,
    Files,
    Flip,
    Images,
    Out,
    Output,
    Partial,
    Remap,
    SkeletonName,
    model_files,
)
from workbench.cli.places import check_file
from workbench.core import FLIP_BY_DEFAULT
from workbench.core.files import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.data.boxes import FoundBox
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.oracle import Waterfall
    from workbench.models import LoadedModel
    from workbench.models.bottom_up import BottomUp

Limit = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--limit", help="Only the first so many images of the set that have annotations."),
]
DEMO = "higherhrnet-demo"
# Enough images for every part to show, few enough for a minute.
DEMO_IMAGES = 10


def command(
    files: Files = None,
    data: Data = None,
    images: Images = None,
    config: Config = None,
    family: Family = None,
    adapter: Adapter = None,
    remap: Remap = False,
    allow_partial: Partial = False,
    output: Output = None,
    assume: Assume = None,
    skeleton: SkeletonName = None,
    device: Device = "cpu",
    boxes: Boxes = None,
    flip: Flip = FLIP_BY_DEFAULT,
    limit: Limit = None,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """AP with one part after the other replaced by the truth, and with each alone."""
    file = model_files(files)
    if demo:
        file, data, limit = _demo(file, data, limit)
    if file is None and adapter is None:
        raise ValueError("oracle: expected a checkpoint, or an --adapter that needs none; or --demo")
    if data is None:
        raise ValueError("oracle: expected --data with a COCO-format json or a built-in set")
    if limit is not None and limit < 1:
        raise ValueError(f"--limit: expected at least 1 image, got {limit}")
    check_file(out, ".html")
    from workbench.data.opening import open_data
    from workbench.evaluation import check_evaluable
    from workbench.evaluation.protocol import judged_by
    from workbench.models import open_model

    loaded = open_model(
        file,
        config=config,
        family=family,
        adapter=adapter,
        remap=remap,
        output=output or (),
        assume=assume or (),
        skeleton=skeleton,
        allow_partial=allow_partial,
        device=device,
    )
    pose_set = open_data(data, images)
    pose_set = judged_by(pose_set, loaded.model.skeleton)
    check_evaluable(pose_set)
    report = waterfall(loaded, pose_set, boxes, flip, limit)
    facts: dict[str, Any] = {**report.to_json(), "checkpoint": loaded.title, "data": pose_set.name}
    lines = [report.text()]
    if loaded.loaded_fraction < 1:
        lines.append(
            f"only {100 * loaded.loaded_fraction:.1f} % of the model's parameters came from the file"
        )
    if loaded.note:
        facts["note"] = loaded.note
        lines.append(f"assumed: {loaded.note}")
    if out is not None:
        write_text(out, report.plot().to_html())
        facts["written"] = str(out)
        lines.append(f"written: {out}")
    return Answer(facts, "\n".join(lines))


def waterfall(
    loaded: LoadedModel, pose_set: PoseSet, boxes: str | None, flip: bool, limit: int | None
) -> Waterfall:
    """The waterfall of the model's kind."""
    from workbench.cli.evaluate import Progress
    from workbench.evaluation.oracle import crops_waterfall, people_waterfall
    from workbench.evaluation.predict import finds_people

    chosen = list(pose_set.images) if limit is None else list(pose_set.labelled_of_image)[:limit]
    told: dict[str, Any] = {
        "flip": flip,
        "title": loaded.title,
        "progress": Progress(f"looking with {loaded.title}"),
    }
    if finds_people(loaded.model):
        if boxes is not None:
            raise ValueError("--boxes: a bottom-up model looks at whole images; leave it out")
        return people_waterfall(cast("BottomUp", loaded.model), pose_set, chosen, **told)
    found = _boxes(pose_set, boxes)
    named = "annotation" if found is None else "whole image" if boxes == "whole" else Path(boxes or "").name
    return crops_waterfall(loaded.model, pose_set, chosen, boxes=found, boxes_from=named, **told)


def _boxes(pose_set: PoseSet, boxes: str | None) -> Sequence[FoundBox] | None:
    from workbench.data.boxes import read_detections, whole_images

    if boxes in (None, "annotation"):
        return None
    return whole_images(pose_set) if boxes == "whole" else read_detections(Path(boxes), pose_set)


def _demo(file: Path | list[Path] | None, data: str | None, limit: int | None) -> tuple[Path, str, int]:
    from workbench.checkpoints.demo import DEFAULT, demo_checkpoints, demo_data, demo_manifest

    if file is not None:
        raise ValueError("--demo brings its own checkpoint; leave the file out")
    # The one that has most parts to replace.
    name = DEMO if DEMO in [run["name"] for run in demo_manifest()] else DEFAULT
    return demo_checkpoints(name)[-1], data or demo_data(name), DEMO_IMAGES if limit is None else limit
