"""workbench evaluate: AP and AR of a checkpoint on a data set, with the rules they were made under."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from workbench.cli.options import (
    NMS,
    BatchSize,
    BoxOptions,
    DataOptions,
    Demo,
    EvaluatorOptions,
    Files,
    MetricOptions,
    ModelOptions,
    PoseScore,
    ReadingOptions,
    Rule,
    demo_run,
    model_files,
    option,
    predicted,
    same_keypoints,
)
from workbench.cli.output import Answer, check_room, with_next_steps, written
from workbench.cli.rollout import NO_SUPPORT, Support, with_support
from workbench.core.capabilities import TakesSupport
from workbench.core.errors import ReadingNote
from workbench.core.files import write_text

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation import Evaluation, Predictions
    from workbench.evaluation.measures import Measures
    from workbench.models import LoadedModel

Out = Annotated[
    Path | None, option("--out", "Write the predictions: .parquet, or .json as a COCO result file.")
]


def command(
    files: Files = None,
    *,
    data: DataOptions,
    model: ModelOptions,
    boxes: BoxOptions,
    reading: ReadingOptions,
    pose_score: PoseScore = "bbox_keypoint",
    nms: NMS = None,
    evaluator: EvaluatorOptions,
    metric: MetricOptions,
    batch_size: BatchSize = 16,
    rule: Rule = None,
    support: Support = None,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Predict every instance of a data set and compare with its annotations.

    A bottom-up model gets whole images and no boxes; --rule changes one of its rules.
    """
    file = model_files(files)
    if demo:
        files, data, model = demo_run(data, model)
        file = files[-1]
    model.require("evaluate", file)
    data.require("evaluate")
    from workbench.evaluation import PCK, check_evaluable, evaluate, protocol_of_loaded
    from workbench.evaluation.measures import check_measurable, measure

    if out is not None and out.suffix.lower() not in (".parquet", ".json"):
        raise ValueError(f"--out: expected a name ending in .parquet or .json, got {out.name}")
    # All that can be refused is refused before the images are predicted, which may take hours.
    accuracy, measuring = PCK() if metric.pck is None else PCK(metric.pck), metric.measuring
    # The demo's config comes with its checkpoints: it is read, and not run.
    loaded = model.open(file, rule, run_config=not demo)
    loaded, pose_set = _with_data(loaded, data, model.skeleton, evaluator.sigmas, support)
    counting = evaluator.rules(len(pose_set.skeleton))
    name, why = metric.chosen(pose_set, counting["sigmas"])
    if name == "ap":
        check_evaluable(pose_set, **counting)
    else:
        check_measurable(pose_set, name, **measuring)
    if out is not None:
        check_room(out)
    found, source = boxes.of(pose_set)
    rules = {**reading.rules(pose_score), "nms": nms}
    predictions = predicted(loaded, pose_set, boxes=found, batch_size=batch_size, **rules)
    protocol = protocol_of_loaded(loaded, boxes=source, batch_size=batch_size, **rules)
    if name == "ap":
        report = evaluate(pose_set, predictions, protocol, pck=accuracy, **counting)
    else:
        report = measure(pose_set, predictions, name, protocol=protocol, note=why, **measuring)
    answer = _answer(loaded, pose_set, report, predictions, out)
    given = [*(files or ()), *_options(model)]
    return with_next_steps(answer, given, data.data, data.images)


def _options(model: ModelOptions) -> list[str]:
    """The options of the model that were given, as `diagnose` takes them."""
    named = [(name, getattr(model, name)) for name in ("config", "adapter", "family", "skeleton")]
    named += [("output", value) for value in model.output or ()]
    named += [("assume", value) for value in model.stated]
    return [word for name, value in named if value is not None for word in (f"--{name}", str(value))]


def _with_data(
    loaded: LoadedModel, data: DataOptions, skeleton: str | None, sigmas: str | None, support: str | None
) -> tuple[LoadedModel, PoseSet]:
    """The model with the keypoint names of the data set, and the data set with the sigmas that count.

    A support example that is named says what the model looks for, whatever its own keypoints are.
    """
    from workbench.data.image_lints import turned_lints

    if support is not None and not isinstance(loaded.model, TakesSupport):
        raise ValueError(NO_SUPPORT)
    pose_set = data.open("evaluate", len(loaded.model.skeleton), skeleton)
    if support is not None:
        loaded = with_support(loaded, pose_set, support)
    loaded, pose_set = same_keypoints(loaded, pose_set, sigmas)
    for text in turned_lints(pose_set):
        warnings.warn(text, ReadingNote, stacklevel=2)
    return loaded, pose_set


def _answer(
    loaded: LoadedModel,
    pose_set: PoseSet,
    report: Evaluation | Measures,
    predictions: Predictions,
    out: Path | None,
) -> Answer:
    from workbench.core import Groups
    from workbench.evaluation.predictions import without_peak

    facts: dict[str, Any] = {**report.to_json(), "checkpoint": loaded.title, "note": loaded.note}
    lines = [f"{loaded.title} on {pose_set.name}: {report.text()}"]
    groups = isinstance(loaded.model, Groups)
    if missing := "" if groups else without_peak(predictions.keypoints, predictions.scores):
        facts, lines = {**facts, "missing": missing}, [*lines, "", missing]
    if loaded.note:
        lines += ["", f"assumed: {loaded.note}"]
    if out is not None:
        epoch = loaded.checkpoint.epoch if loaded.checkpoint is not None else None
        out = write_predictions(out, predictions, report, epoch, pose_set=pose_set, follow=True)
    return written(Answer(facts, "\n".join(lines)), out)


def write_predictions(
    out: Path,
    predictions: Predictions,
    report: Evaluation | Measures,
    epoch: int | None = None,
    origin: str = "",
    pose_set: PoseSet | None = None,
    follow: bool = False,
) -> Path:
    """Write predictions as the ending says; image ids as the annotation file has them.

    Args:
        out: .parquet, or .json for a COCO result file.
        predictions: of one epoch.
        report: their figures; a Parquet file also holds its OKS and protocol.
        epoch: its number, where it is known.
        origin: see workbench.evaluation.predictions.origin_of; "" for none.
        pose_set: whose image ids the .json has.
        follow: see workbench.core.files.replacing; True for a file that the user named.
    """
    if out.suffix.lower() == ".json":
        import json

        out.parent.mkdir(parents=True, exist_ok=True)
        results = predictions.to_coco()
        if pose_set is not None and pose_set.id_texts:
            results = [{**r, "image_id": pose_set.image_name(r["image_id"])} for r in results]
        return write_text(out, json.dumps(results, allow_nan=False), follow)
    from workbench.evaluation.evaluate import pose_oks
    from workbench.evaluation.measures import Measures

    oks, terms = (None, None) if isinstance(report, Measures) else pose_oks(predictions, report.ap)
    return predictions.to_parquet(
        out, epoch=epoch, protocol=report.protocol, oks=oks, terms=terms, origin=origin, follow=follow
    )
