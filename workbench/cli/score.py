"""workbench score: AP and AR of a COCO result file, whoever made it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from workbench.cli.answer import Answer
from workbench.cli.evaluate import Category, MaxDets, NoArea, Sigmas, constants
from workbench.cli.measuring import Metric, Normalise, Threshold, Thresholds, chosen_metric, thresholds_of
from workbench.cli.options import Data, Demo

Results = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Argument(help="A COCO result json (a list), or predictions kept with `evaluate --out`."),
]


def command(
    results: Results = None,
    data: Data = None,
    category: Category = None,
    no_area: NoArea = False,
    sigmas: Sigmas = None,
    max_dets: MaxDets = 20,
    metric: Metric = None,
    normalise: Normalise = None,
    thresholds: Thresholds = None,
    pck: Threshold = None,
    demo: Demo = False,
) -> Answer:
    """Compare poses in a file with annotations; no model and no image is needed."""
    if results is None and not demo:
        raise ValueError("score: expected a COCO result json or a .parquet of predictions; or --demo")
    if data is None and not demo:
        raise ValueError("score: expected --data with a COCO-format json or a built-in set")
    if results is not None and not results.is_file():
        raise FileNotFoundError(f"{results}: no such result file")
    from workbench.data.coco import read_json
    from workbench.data.lints import lints
    from workbench.data.opening import open_data_for
    from workbench.evaluation import PCK, Detections, Predictions, evaluate
    from workbench.evaluation.measures import measure
    from workbench.evaluation.predictions import keypoint_count, of_categories, results_of

    given = read_json(results) if results is not None and results.suffix != ".parquet" else None
    pose_set = open_data_for(data or "astronaut", keypoint_count(given), category=category)
    detections, protocol, others = None, None, 0
    if results is None:
        items = _demo_results(pose_set)
        predictions, detections = Predictions.from_coco(items), Detections.from_coco(items)
    elif results.suffix == ".parquet":
        predictions, protocol = Predictions.from_parquet(results)
    else:
        items = results_of(pose_set, given)
        if category is not None:
            items, others = of_categories(pose_set, items)
        predictions, detections = Predictions.from_coco(items), Detections.from_coco(items)
    chosen = constants(sigmas, len(pose_set.skeleton))
    metric, why = chosen_metric(metric, pose_set, chosen, normalise)
    steps = thresholds_of(thresholds)
    if metric == "ap":
        report = evaluate(
            pose_set,
            predictions,
            protocol,
            area_rule="box" if no_area else "annotated",
            sigmas=chosen,
            max_dets=max_dets,
            pck=PCK() if pck is None else PCK(pck),
            detections=detections,
        )
    else:
        measured = {"normalise": normalise, "threshold": pck, "thresholds": steps}
        report = measure(pose_set, predictions, metric, protocol=protocol, note=why, **measured)
    findings = lints(pose_set)
    if others:
        findings = (
            *findings,
            f"{others} results are of other categories and were left out, as --category says",
        )
    name = results.name if results is not None else "the annotations, moved by 3 pixels"
    text = f"{name} on {pose_set.name}: {report.text()}"
    lines = [text, *([""] if findings else []), *(f"mind: {finding}" for finding in findings)]
    return Answer({**report.to_json(), "results": name, "findings": findings}, "\n".join(lines))


def _demo_results(pose_set: Any) -> list[dict[str, Any]]:
    """The annotations, moved by 3 pixels to the right: what a score looks like, and no model's merit."""
    import numpy as np

    return [
        {
            "image_id": instance.image_id,
            "category_id": instance.category_id,
            "keypoints": np.add(instance.truth, (3.0, 0.0, 0.0)).ravel().tolist(),
            "score": 1.0,
        }
        for instance in (pose_set.instances[i] for i in pose_set.labelled)
    ]
