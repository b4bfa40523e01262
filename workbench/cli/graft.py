"""workbench graft: B with the weights of one part from A, part by part: which part lost or gained the AP?"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from workbench.cli.options import (
    BatchSize,
    DataOptions,
    Demo,
    EvaluatorOptions,
    Limit,
    ModelOptions,
    PoseScore,
    ReadingOptions,
    Resamples,
    argument,
    check_limit,
    demo_run,
    judged_set,
    option,
)
from workbench.cli.output import REPORT_ENDINGS, Answer, check_file, in_job, written
from workbench.core.report import signed_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.core import PoseModel
    from workbench.core.job import Job
    from workbench.data import PoseSet
    from workbench.evaluation import Evaluation
    from workbench.models import LoadedModel

A = Annotated[Path | None, argument("The checkpoint that gives parts.")]
B = Annotated[Path | None, argument("The checkpoint that takes them.")]
Depth = Annotated[
    int,
    option(
        "--depth",
        "How many levels of tensor names make a part: 1 for backbone, neck and head; 2 splits each of them.",
        min=1,
    ),
]
Out = Annotated[
    Path | None, option("--out", "Write the figure (.html), the facts (.json) or the table (.csv).")
]

DEMO_LIMIT = 6


def command(
    a: A = None,
    b: B = None,
    *,
    data: DataOptions,
    model: ModelOptions,
    reading: ReadingOptions,
    pose_score: PoseScore = "bbox_keypoint",
    evaluator: EvaluatorOptions,
    depth: Depth = 1,
    limit: Limit = None,
    resamples: Resamples = 1000,
    batch_size: BatchSize = 16,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Evaluate B with each part of A in turn, on the same instances, from their annotated boxes."""
    check_file(out, *REPORT_ENDINGS)
    check_limit(limit)
    if demo:
        epochs, data, model = demo_run(data, model)
        a, b, limit = epochs[0], epochs[-1], limit or DEMO_LIMIT
    if a is None or b is None:
        raise ValueError("graft: expected two checkpoints of one network, A and B; or --demo")
    data.require("graft")
    rules = reading.rules(pose_score)
    models = [model.open(path, run_config=not demo) for path in (a, b)]
    pose_set = data.open("graft", len(models[1].model.skeleton), model.skeleton)
    models = [one.named_as(pose_set) for one in models]
    judged = _judge(models[1], pose_set, evaluator, rules, limit, batch_size)
    report = in_job(
        f"parts of {models[0].title} in {models[1].title}",
        lambda job: _grafted(models, functools.partial(judged, job), depth, resamples),
    )
    facts = report.to_json()
    lines = [report.summary(), "", *_rows(report.table()), "", f"protocol: {report.b.protocol.text()}"]
    return written(Answer(facts, "\n".join(lines)), out, report)


def _grafted(
    models: list[LoadedModel], judged: Callable[[str, PoseModel], Evaluation], depth: int, resamples: int
) -> Any:
    """The report, from two open models.

    Raises:
        ValueError: the two would be called the same.
    """
    from workbench.evaluation.graft import grafting

    first, second = models
    titles = [first.title, second.title]
    if titles[0] == titles[1]:
        titles = [f"A ({titles[0]})", f"B ({titles[1]})"]
    of_a, of_b = judged(titles[0], first.model), judged(titles[1], second.model)
    given = {name: value.detach() for name, value in first.model.module.state_dict().items()}
    return grafting(
        (titles[0], given, of_a), (titles[1], second.model, of_b), judged, depth=depth, resamples=resamples
    )


def _judge(
    loaded: LoadedModel,
    pose_set: PoseSet,
    evaluator: EvaluatorOptions,
    rules: dict[str, Any],
    limit: int | None,
    batch_size: int,
) -> Callable[[Job, str, PoseModel], Evaluation]:
    """What evaluates a model on the instances that were asked for; the job's bar is that of one part."""
    from workbench.evaluation import check_counting, evaluate, predict, protocol_of_loaded

    counting = evaluator.rules(len(pose_set.skeleton))
    truth = judged_set(pose_set, loaded.model.skeleton, evaluator.sigmas)
    check_counting(truth, **counting)
    images = set(truth.first_images(limit))
    chosen = [i for i in truth.labelled if truth.instances[i].image_id in images]
    protocol = protocol_of_loaded(loaded, batch_size=batch_size, **rules)

    def judged(job: Job, part: str, model: PoseModel) -> Evaluation:
        job.step = part
        found = predict(
            model, truth, indices=chosen, batch_size=batch_size, progress=job.progress,
            cancelled=job.cancelled, **rules,
        )  # fmt: skip
        return evaluate(truth, found, protocol, indices=chosen, **counting)

    return judged


def _rows(table: list[dict[str, Any]]) -> list[str]:
    width = max(4, *(len(row["part"]) for row in table))
    lines = [f"{'part':<{width}}  tensors  moved    AP    change of AP"]
    for row in table:
        moved = "    -" if row["moved"] is None else f"{row['moved']:5.0%}"
        change = row["reason"] or ""
        if not change and row["change"] is not None:
            ends = (
                "(no interval)"
                if row["low"] is None
                else f"[{signed_text(row['low'])}, {signed_text(row['high'])}]"
            )
            change = f"{row['AP']:.3f}  {signed_text(row['change'])} {ends}"
        lines.append(f"{row['part']:<{width}}  {row['tensors']:7d}  {moved}  {change}")
    return lines
