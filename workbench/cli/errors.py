"""workbench errors: what is wrong with the keypoints of a result, and the AP that each repair gives back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from workbench.cli.options import (
    BatchSize,
    BoxOptions,
    DataOptions,
    Demo,
    EvaluatorOptions,
    ModelOptions,
    PoseScore,
    ReadingOptions,
    Rule,
    argument,
    demo_run,
    model_files,
    option,
    predicted,
    same_keypoints,
)
from workbench.cli.output import Answer, check_file, written
from workbench.core.files import require_file
from workbench.core.report import counted

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation import Evaluation
    from workbench.evaluation.errors_report import Errors

Files = Annotated[
    list[Path] | None,
    argument("A COCO result json (a list), predictions written by `evaluate --out`, or a checkpoint."),
]
RepairRule = Annotated[
    str,
    option(
        "--repair",
        "Where a wrong keypoint is put: published (at the limit of its kind), coco-analyze (at half of "
        "that distance, as the authors' code), exact (on the annotation).",
    ),
]
KindName = Annotated[
    str | None,
    option(
        "--list",
        "List the instances with one kind of error: jitter, inversion, swap, miss, scoring, "
        "background_false_positive, background_false_negative, undetected.",
    ),
]
KeypointName = Annotated[
    str | None, option("--keypoint", "With --list: only instances where this keypoint has the error.")
]
Out = Annotated[Path | None, option("--out", "Write the figure and all facts, a name ending in .html.")]
RESULTS = (".json", ".parquet")


def command(
    files: Files = None,
    *,
    data: DataOptions,
    repair: RepairRule = "published",
    listed: KindName = None,
    keypoint: KeypointName = None,
    model: ModelOptions,
    boxes: BoxOptions,
    reading: ReadingOptions,
    pose_score: PoseScore = "bbox_keypoint",
    evaluator: EvaluatorOptions,
    batch_size: BatchSize = 16,
    rule: Rule = None,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Sort keypoints into good, jitter, inversion, swap and miss; and errors of whole instances.

    A result file needs no model and no image; a checkpoint is predicted first.
    """
    from workbench.evaluation.errors import REPAIRS
    from workbench.evaluation.errors_report import errors

    if demo:
        files, data, model = demo_run(data, model)
        files = files[-1:]
    if repair not in REPAIRS:
        raise ValueError(f"--repair: expected one of {', '.join(REPAIRS)}, got {repair!r}")
    check_listing(listed, keypoint)
    check_file(out, ".html")
    data.require("errors")
    name, evaluation, pose_set, note = (
        of_results(files[0], data, evaluator, model.skeleton)
        if files
        and len(files) == 1
        and files[0].suffix in RESULTS
        and not files[0].name.endswith(".index.json")
        else (
            *of_checkpoint(
                files, data, model, boxes, reading, pose_score, evaluator, batch_size, rule, not demo
            ),
            "",
        )
    )
    report = errors(evaluation, pose_set, repair)  # type: ignore[arg-type]
    answer = answered(report, name, pose_set, listed, keypoint, out)
    return Answer({**answer.facts, "note": note}, f"{answer.text}\nmind: {note}") if note else answer


def check_listing(listed: str | None, keypoint: str | None) -> None:
    """Raise ValueError where there is no such kind of error, or a keypoint without a kind."""
    from workbench.evaluation.errors import WORDS

    if listed is not None and listed not in WORDS:
        raise ValueError(f"--list: expected one of {', '.join(WORDS)}, got {listed!r}")
    if keypoint is not None and listed is None:
        raise ValueError("--keypoint: belongs to --list; name the kind of error as well")


def of_results(
    path: Path, data: DataOptions, evaluator: EvaluatorOptions, skeleton: str | None = None
) -> tuple[str, Evaluation, PoseSet, str]:
    """The evaluation of a result file, without a model; last, which part of the set was predicted.

    Args:
        path: of the results.
        data: the annotations.
        evaluator: how is counted.
        skeleton: what the keypoints are where the annotations number them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no result file, or of another data set.
    """
    from workbench.data.coco import read_json
    from workbench.evaluation import Predictions, evaluate
    from workbench.evaluation.predicted_part import part_of_predictions
    from workbench.evaluation.protocol import judged_as
    from workbench.evaluation.result_lists import keypoint_count, minus_ones, of_categories, results_of

    require_file(path, f"{path}: no such result file")
    if path.suffix == ".parquet":
        predictions, protocol = Predictions.from_parquet(path)
        count = predictions.keypoints.shape[1] or None
        pose_set = data.open("errors", count, skeleton)
        if evaluator.sigmas is None:
            pose_set = judged_as(pose_set, [protocol])
    else:
        given, protocol = read_json(path), None
        pose_set = data.open("errors", keypoint_count(given), skeleton)
        items = results_of(pose_set, given)
        if data.category is not None:
            items, _ = of_categories(pose_set, items)
        predictions = Predictions.from_coco(items, path.name)
    part = part_of_predictions(pose_set, [predictions], [protocol], [path])
    counting = {**evaluator.rules(len(pose_set.skeleton)), "indices": part.indices}
    evaluation = evaluate(pose_set, predictions, protocol, **counting)
    notes = [part.sentence] if part.sentence else []
    return path.name, evaluation, pose_set, "; ".join((*notes, *minus_ones(predictions, path.name)))


def of_checkpoint(
    files: Sequence[Path] | None,
    data: DataOptions,
    model: ModelOptions,
    boxes: BoxOptions,
    reading: ReadingOptions,
    pose_score: str,
    evaluator: EvaluatorOptions,
    batch_size: int,
    rule: Sequence[str] | None,
    run_config: bool,
) -> tuple[str, Evaluation, PoseSet]:
    """The evaluation of a checkpoint, whose predictions are made first; arguments as of `command`."""
    from workbench.evaluation import check_evaluable, evaluate, protocol_of_loaded

    file = model_files(files)
    model.require("errors", file)
    loaded = model.open(file, rule, run_config=run_config)
    pose_set = data.open("errors", len(loaded.model.skeleton), model.skeleton)
    loaded, pose_set = same_keypoints(loaded, pose_set, evaluator.sigmas)
    counting = evaluator.rules(len(pose_set.skeleton))
    check_evaluable(pose_set, **counting)
    found, source = boxes.of(pose_set)
    rules = reading.rules(pose_score)
    predictions = predicted(loaded, pose_set, boxes=found, batch_size=batch_size, **rules)
    protocol = protocol_of_loaded(loaded, boxes=source, batch_size=batch_size, **rules)
    return loaded.title, evaluate(pose_set, predictions, protocol, **counting), pose_set


def answered(
    report: Errors, name: str, pose_set: PoseSet, listed: str | None, keypoint: str | None, out: Path | None
) -> Answer:
    """Facts and text; with --list the instances of one kind of error.

    Raises:
        KeyError: no such keypoint.
    """
    facts: dict[str, Any] = {**report.to_json(), "results": name}
    lines = [f"{name}: {report.text()}", "", f"protocol: {report.protocol.text()}"]
    if listed is not None:
        k = -1 if keypoint is None else report.skeleton.index(keypoint)
        rows = pose_set.in_own_ids(report.instances(listed, k))
        facts["instances"] = rows
        lines += [
            "",
            f"{counted(len(rows), 'instance')} with {listed}" + (f" of {keypoint}" if keypoint else ""),
        ]
        lines += [_line(row) for row in rows[:50]]
        lines += [f"... and {len(rows) - 50} more: --json lists all"] if len(rows) > 50 else []
    return written(Answer(facts, "\n".join(lines)), out, report)


def _line(row: dict[str, Any]) -> str:
    parts = [f"image {row['image_id']}"]
    parts += [f"annotation {row['annotation_id']}"] if row["annotation_id"] is not None else []
    parts += [f"OKS {row['oks']:.3f}"] if row["oks"] is not None else []
    parts += [f"score {row['score']:.3f}"] if row["score"] is not None else []
    parts += [", ".join(row["keypoints"])] if row["keypoints"] else []
    parts += [f"taken from {row['of']}"] if row["of"] is not None else []
    return "  ".join(parts)
