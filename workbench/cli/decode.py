"""workbench decode: one output read with every decoder, flip test and score rule, and which is best."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from workbench.cli.options import (
    BatchSize,
    BoxOptions,
    DataOptions,
    Demo,
    EvaluatorOptions,
    Files,
    Flip,
    Limit,
    ModelOptions,
    Out,
    PoseScore,
    check_limit,
    model_files,
    option,
    same_keypoints,
    with_demo,
)
from workbench.cli.output import REPORT_ENDINGS, Answer, check_file, run_in_job, written
from workbench.core import FLIP_BY_DEFAULT

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.codecs import CodecMatrix
    from workbench.models import LoadedModel

Arrows = Annotated[
    Path | None,
    option(
        "--arrows",
        "Write a picture (.html) of arrows from the model's own keypoints to those of another variant.",
    ),
]
Against = Annotated[str, option("--against", "Variant that --arrows draws; the best one by default.")]
Resamples = Annotated[int, option("--resamples", "Resamples of the bootstrap over images.")]
# Enough images for an interval, few enough for some seconds.
DEMO_IMAGES = 10


def command(
    files: Files = None,
    *,
    data: DataOptions,
    model: ModelOptions,
    boxes: BoxOptions,
    evaluator: EvaluatorOptions,
    flip: Flip = FLIP_BY_DEFAULT,
    pose_score: PoseScore = "bbox_keypoint",
    batch_size: BatchSize = 16,
    resamples: Resamples = 500,
    limit: Limit = None,
    arrows: Arrows = None,
    against: Against = "",
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """AP, pixel error and bias of every way to read a model's outputs, against its own way.

    The network is asked once. --flip and --pose-score say what the model's own way is.
    """
    file = model_files(files)
    if demo:
        from workbench.checkpoints.demo import demo_checkpoints

        file, limit = demo_checkpoints()[-1], DEMO_IMAGES if limit is None else limit
        data = with_demo(data)
    model.require("decode", file)
    data.require("decode")
    check_limit(limit)
    check_file(out, *REPORT_ENDINGS)
    check_file(arrows, ".html")
    from workbench.evaluation.protocol import check_score_rule

    if resamples < 2:
        raise ValueError(f"--resamples: expected 2 or more, got {resamples}")
    check_score_rule(pose_score)
    loaded = model.open(file)
    report = matrix(
        loaded, data.open("decode", len(loaded.model.skeleton), model.skeleton), boxes, evaluator, flip,
        pose_score, limit, batch_size, resamples,
    )  # fmt: skip
    facts: dict[str, Any] = {**report.to_json(), "checkpoint": loaded.title, "note": loaded.note}
    lines = [report.text(), *([f"assumed: {loaded.note}"] if loaded.note else [])]
    answer = written(Answer(facts, "\n".join(lines)), out, report)
    if arrows is None:
        return answer
    from workbench.core.files import write_text

    write_text(arrows, report.arrows(against).to_html())
    return written(answer, arrows, key="arrows")


def matrix(
    loaded: LoadedModel,
    pose_set: PoseSet,
    boxes: BoxOptions,
    evaluator: EvaluatorOptions,
    flip: bool,
    pose_score: str,
    limit: int | None,
    batch_size: int,
    resamples: int,
) -> CodecMatrix:
    """The matrix of a model on a set; everything that can be refused is refused before the first image."""
    from workbench.evaluation import check_counting, protocol_of_loaded
    from workbench.evaluation.codecs import codec_matrix
    from workbench.evaluation.codecs.ways import own_way

    own_way(loaded.model, flip, pose_score)
    loaded, pose_set = same_keypoints(loaded, pose_set, evaluator.sigmas)
    counting = evaluator.rules(len(pose_set.skeleton))
    check_counting(pose_set, **counting)
    found, source = boxes.of(pose_set)
    ids = None if limit is None else pose_set.first_images(limit)
    protocol = protocol_of_loaded(
        loaded, boxes=source, flip=flip, score_rule=pose_score, batch_size=batch_size
    )
    return run_in_job(
        f"predicting with {loaded.title}", codec_matrix, loaded.model, pose_set, ids, boxes=found,
        boxes_from=source, flip=flip, score_rule=pose_score, protocol=protocol, title=loaded.title,
        evaluator=counting, batch_size=batch_size, resamples=resamples,
    )  # fmt: skip
