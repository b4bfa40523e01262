"""workbench score: AP and AR of a COCO result file, whoever made it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.cli.options import (
    Category,
    Data,
    Demo,
    EvaluatorOptions,
    ImageOptions,
    Images,
    MetricOptions,
    SkeletonName,
    argument,
    opened,
)
from workbench.cli.output import Answer, with_next_steps
from workbench.core.report import counted

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation import Evaluation, Predictions, Protocol
    from workbench.evaluation.measures import Measures

Results = Annotated[
    Path | None, argument("A COCO result json (a list), or predictions written by `evaluate --out`.")
]


def command(
    results: Results = None,
    data: Data = None,
    images: Images = None,
    category: Category = None,
    skeleton: SkeletonName = None,
    *,
    pictures: ImageOptions,
    evaluator: EvaluatorOptions,
    metric: MetricOptions,
    demo: Demo = False,
) -> Answer:
    """Compare the poses in a file with annotations; no model and no image is needed.

    Where images are at hand (--images, else the usual folders), their sizes and EXIF rotations are checked.
    """
    if results is None and not demo:
        raise ValueError("score: expected a COCO result json or a .parquet of predictions; or --demo")
    if data is None and not demo:
        raise ValueError("score: expected --data with a COCO-format json or a built-in set")
    if results is not None and not results.is_file():
        raise FileNotFoundError(f"{results}: no such result file")
    from workbench.data.coco import read_json
    from workbench.data.facts import counted_findings
    from workbench.data.image_lints import pixel_lints
    from workbench.data.lints import lints
    from workbench.evaluation.predicted_part import part_of_predictions
    from workbench.evaluation.result_lists import keypoint_count, minus_ones, unranked, with_own_annotations

    given = read_json(results) if results is not None and results.suffix != ".parquet" else None
    pose_set = opened(
        data or "astronaut", images, category, keypoint_count(given), pictures.reading, skeleton
    )
    if results is not None and results.suffix == ".parquet":
        from workbench.evaluation import Predictions
        from workbench.evaluation.protocol import judged_as

        predictions, protocol = Predictions.from_parquet(results)
        others = 0
        if evaluator.sigmas is None:
            pose_set = judged_as(pose_set, [protocol])
    else:
        protocol = None
        name = "results" if results is None else results.name
        predictions, others = _from_results(pose_set, given, results is None, category, name)
    part = part_of_predictions(pose_set, [predictions], [protocol], [results] if results else [])
    # The same poses have the same figures, whatever the format of their file.
    predictions, _ = with_own_annotations(pose_set, predictions)
    report = _report(pose_set, predictions, protocol, evaluator, metric, part.indices)
    findings = (*lints(pose_set), *counted_findings(pose_set), *pixel_lints(pose_set))
    findings = (*findings, *([part.sentence] if part.sentence else []))
    name = results.name if results is not None else "the annotations, moved by 3 pixels"
    findings = (*findings, *minus_ones(predictions, name), *unranked(predictions, name))
    if others:
        findings = (
            *findings,
            f"{counted(others, 'result is', 'results are')} of other categories and were left out, as "
            "--category says",
        )
    text = f"{name} on {pose_set.name}: {report.text()}"
    lines = [text, *([""] if findings else []), *(f"finding: {finding}" for finding in findings)]
    answer = Answer({**report.to_json(), "results": name, "findings": findings}, "\n".join(lines))
    return with_next_steps(answer, [results], data, images) if len(predictions) else answer


def _from_results(
    pose_set: PoseSet, given: Any, demo: bool, category: str | None, name: str
) -> tuple[Predictions, int]:
    """Poses of a result list, and the number of results that were left out."""
    from workbench.evaluation import Predictions
    from workbench.evaluation.result_lists import of_categories, results_of

    items, others = _demo_results(pose_set) if demo else results_of(pose_set, given), 0
    if category is not None and not demo:
        items, others = of_categories(pose_set, items)
    return Predictions.from_coco(items, name), others


def _report(
    pose_set: PoseSet,
    predictions: Predictions,
    protocol: Protocol | None,
    evaluator: EvaluatorOptions,
    metric: MetricOptions,
    indices: tuple[int, ...] | None,
) -> Evaluation | Measures:
    from workbench.evaluation import PCK, evaluate
    from workbench.evaluation.measures import measure

    counting = evaluator.rules(len(pose_set.skeleton))
    name, why = metric.chosen(pose_set, counting["sigmas"])
    measuring = metric.measuring
    if name == "ap":
        accuracy = PCK() if metric.pck is None else PCK(metric.pck)
        return evaluate(pose_set, predictions, protocol, indices=indices, pck=accuracy, **counting)
    return measure(pose_set, predictions, name, protocol=protocol, note=why, **measuring)


def _demo_results(pose_set: PoseSet) -> list[dict[str, Any]]:
    """The annotations, moved by 3 pixels to the right: they show what a score looks like."""
    return [
        {
            "image_id": instance.image_id,
            "category_id": instance.category_id,
            "keypoints": np.add(instance.truth, (3.0, 0.0, 0.0)).ravel().tolist(),
            "score": 1.0,
        }
        for instance in (pose_set.instances[i] for i in pose_set.labelled)
    ]
