"""workbench evaluate: AP and AR of a checkpoint on a data set, with the rules they were made under."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from workbench.cli.answer import Answer
from workbench.cli.measuring import Metric, Normalise, Threshold, Thresholds, chosen_metric, thresholds_of
from workbench.cli.options import (
    Adapter,
    Assume,
    Boxes,
    Config,
    Data,
    Decoder,
    Demo,
    Detector,
    Device,
    Family,
    Files,
    Flip,
    Images,
    Output,
    Partial,
    Remap,
    Rule,
    ScoreRule,
    SkeletonName,
    model_files,
)
from workbench.cli.places import check_room
from workbench.core import FLIP_BY_DEFAULT
from workbench.core.files import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.data.boxes import FoundBox
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation import Evaluation, Predictions
    from workbench.evaluation.measures import Measures

PoseScore = Annotated[
    str,
    typer.Option("--pose-score", help="bbox_keypoint (as mmpose), bbox, bbox_rle, mean, min, oracle."),
]
NMS = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--nms", help="OKS above which the worse of two poses is dropped; 1 for none."),
]
NoArea = Annotated[
    bool,
    typer.Option("--no-area", help="Take .53 of the box as area: for sets without area (CrowdPose, AIC)."),
]
Sigmas = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--sigmas", help="OKS constants, comma separated; one for all. The skeleton's by default."),
]
MaxDets = Annotated[int, typer.Option("--max-dets", help="Detections that count per image and category.")]
SkipMissing = Annotated[
    bool,
    typer.Option("--skip-missing", help="Leave missing images out; the figures say so."),
]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Crops in one forward pass.")]
Category = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--category", help="Id or name of the one category to read."),
]
Out = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--out", help="Keep the predictions: .parquet, or .json as a COCO result file."),
]


def command(
    files: Files = None,
    data: Data = None,
    images: Images = None,
    category: Category = None,
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
    detector: Detector = None,
    flip: Flip = FLIP_BY_DEFAULT,
    decoder: Decoder = "",
    score: ScoreRule = "",
    pose_score: PoseScore = "bbox_keypoint",
    nms: NMS = None,
    no_area: NoArea = False,
    sigmas: Sigmas = None,
    max_dets: MaxDets = 20,
    metric: Metric = None,
    normalise: Normalise = None,
    thresholds: Thresholds = None,
    pck: Threshold = None,
    batch_size: BatchSize = 16,
    skip_missing: SkipMissing = False,
    rule: Rule = None,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Predict every instance of a data set and compare with its annotations.

    A bottom-up model looks at every image and finds people by itself; --rule changes one of its rules.
    """
    file = model_files(files)
    if demo:
        from workbench.checkpoints.demo import demo_checkpoints, demo_config, demo_data

        file, config, data = demo_checkpoints()[-1], demo_config(), data or demo_data()
    if file is None and adapter is None:
        raise ValueError("evaluate: expected a checkpoint, or an --adapter that needs none; or --demo")
    if data is None:
        raise ValueError("evaluate: expected --data with a COCO-format json or a built-in set")
    from workbench.core import DecodeOptions
    from workbench.data.opening import open_data_for
    from workbench.data.pose_set import with_present_images
    from workbench.evaluation import PCK, check_evaluable, evaluate, predict, protocol_of_loaded
    from workbench.evaluation.measures import check_measurable, measure
    from workbench.evaluation.protocol import check_same_keypoints, judged_by
    from workbench.models import open_model

    if out is not None and out.suffix not in (".parquet", ".json"):
        raise ValueError(f"--out: expected a name ending in .parquet or .json, got {out.name}")
    accuracy, steps = PCK() if pck is None else PCK(pck), thresholds_of(thresholds)
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
        # The demo's config comes along with its checkpoints: it is read, and not run.
        run_config=not demo,
    ).with_rules(rule or ())
    count = len(loaded.model.skeleton)
    pose_set = open_data_for(data, count, images, category, Progress("drawing scenes"))
    loaded = loaded.named_as(pose_set)
    if sigmas is None:
        pose_set = judged_by(pose_set, loaded.model.skeleton)
    if skip_missing:
        pose_set = with_present_images(pose_set)
    judged: dict[str, Any] = {
        "area_rule": "box" if no_area else "annotated",
        "sigmas": constants(sigmas, len(pose_set.skeleton)),
        "max_dets": max_dets,
    }
    check_same_keypoints(loaded.model.skeleton, pose_set.skeleton, pose_set.name)
    metric, why = chosen_metric(metric, pose_set, judged["sigmas"], normalise)
    measured = {"normalise": normalise, "threshold": pck, "thresholds": steps}
    if metric == "ap":
        check_evaluable(pose_set, **judged)
    else:
        check_measurable(pose_set, metric, **measured)
    if out is not None:
        check_room(out)
    found, source = _boxes(pose_set, boxes, detector)
    options = DecodeOptions(decoder, score)  # type: ignore[arg-type]  # decode refuses other words
    rules = {"flip": flip, "options": options, "score_rule": pose_score, "nms": nms}
    predictions = predict(
        loaded.model,
        pose_set,
        boxes=found,
        batch_size=batch_size,
        progress=Progress(f"predicting with {loaded.title}"),
        **rules,
    )
    protocol = protocol_of_loaded(loaded, boxes=source, **rules)
    if metric == "ap":
        report = evaluate(pose_set, predictions, protocol, pck=accuracy, **judged)
    else:
        report = measure(pose_set, predictions, metric, protocol=protocol, note=why, **measured)
    facts: dict[str, Any] = {**report.to_json(), "checkpoint": loaded.title, "note": loaded.note}
    lines = [f"{loaded.title} on {pose_set.name}: {report.text()}"]
    if loaded.note:
        lines += ["", f"assumed: {loaded.note}"]
    if out is not None:
        epoch = loaded.checkpoint.epoch if loaded.checkpoint is not None else None
        facts["written"] = str(keep(out, predictions, report, epoch, pose_set=pose_set))
        lines += ["", f"written: {out}"]
    return Answer(facts, "\n".join(lines))


def _boxes(pose_set: PoseSet, boxes: str | None, detector: Path | None) -> tuple[list[FoundBox] | None, str]:
    """The boxes to look into, None for the annotations' own; and what to call them in the protocol."""
    if detector is not None:
        if boxes is not None:
            raise ValueError("--boxes and --detector: expected one of the two")
        from workbench.data.boxes import detect
        from workbench.data.detectors import labels_for, open_detector

        finder = open_detector(detector, labels_for(pose_set.skeleton))
        return detect(finder, pose_set, progress=Progress("detecting")), finder.title
    if boxes in (None, "annotation"):
        return None, "annotation"
    from workbench.data.boxes import read_detections, whole_images

    if boxes == "whole":
        return whole_images(pose_set), "whole image"
    return read_detections(Path(boxes), pose_set), Path(boxes).name


def constants(text: str | None, count: int) -> Sequence[float] | None:
    """OKS constants as people type them; None for the skeleton's own.

    Raises:
        ValueError: not numbers, or neither one nor one for each keypoint.
    """
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--sigmas: expected numbers with commas between, got {text!r}") from None
    if len(values) not in (1, count):
        raise ValueError(f"--sigmas: expected one number or {count}, got {len(values)}")
    return values * count if len(values) == 1 else values


def keep(
    out: Path,
    predictions: Predictions,
    report: Evaluation | Measures,
    epoch: int | None = None,
    origin: str = "",
    pose_set: PoseSet | None = None,
) -> Path:
    """Write predictions as the ending says; image ids as the annotation file has them."""
    if out.suffix == ".json":
        import json

        out.parent.mkdir(parents=True, exist_ok=True)
        results = predictions.to_coco()
        if pose_set is not None and pose_set.id_texts:
            results = [{**r, "image_id": pose_set.image_name(r["image_id"])} for r in results]
        return write_text(out, json.dumps(results, allow_nan=False))
    from workbench.evaluation.evaluate import pose_oks
    from workbench.evaluation.measures import Measures

    oks, terms = (None, None) if isinstance(report, Measures) else pose_oks(predictions, report.ap)
    return predictions.to_parquet(
        out, epoch=epoch, protocol=report.protocol, oks=oks, terms=terms, origin=origin
    )


class Progress:
    """Tells on stderr how far something is: on a terminal at once, in a log now and then."""

    PAUSE = 5.0  # seconds between two lines of a log

    def __init__(self, what: str) -> None:
        self.what = what
        self.started = self.told = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """One line: what, how far, and the seconds left at this pace."""
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if not terminal and now - self.told < self.PAUSE:
            return
        self.told = now
        left = (now - self.started) / done * (total - done) if done else 0
        more = f", {left:.0f} s left" if done and done < total else ""
        line = f"{self.what}: {done} of {total}{more}"
        typer.echo(f"\r\033[K{line}" if terminal else line, err=True, nl=not terminal or done >= total)
