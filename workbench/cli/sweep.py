"""workbench sweep: AP of all checkpoints of a run by all variants, stopped and resumed at any moment."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from workbench.cli.options import (
    NMS,
    BatchSize,
    Boxes,
    DataOptions,
    Demo,
    EvaluatorOptions,
    Limit,
    ModelOptions,
    PoseScore,
    ReadingOptions,
    argument,
    check_limit,
    constants,
    option,
    with_demo,
)
from workbench.cli.output import Answer, as_columns, check_room, run_in_job

if TYPE_CHECKING:
    from workbench.evaluation.sweeps.ray_engine import Cluster
    from workbench.evaluation.sweeps.report import SweepReport
    from workbench.evaluation.sweeps.rules import SweepRules

Run = Annotated[Path | None, argument("The folder of a run's checkpoints.")]
Ablations = Annotated[
    list[str] | None,
    option(
        "--ablations",
        "Variants to evaluate, comma separated: decoders, flip, codec; for a bottom-up model tags, grouping, "
        "faults; for a model with text conditioning; or the name of one variant. May be repeated.",
    ),
]
EngineName = Annotated[str, option("--engine", "local (this process) or ray.")]
Address = Annotated[
    str | None,
    option("--address", "Address of a running Ray cluster: host:port, or auto; this machine by default."),
]
Workers = Annotated[
    int | None,
    option(
        "--workers",
        "With --engine ray: maximum number of workers; by default one for each GPU or CPU.",
        min=1,
    ),
]
Cpus = Annotated[int, option("--cpus", "With --engine ray: CPUs of a worker without a GPU.", min=1)]
Patience = Annotated[
    float, option("--patience", "Seconds within which a Ray cluster, and its first worker, answers.", min=1.0)
]
Folder = Annotated[Path | None, option("--out", "A folder for predictions and table; RUN/sweep by default.")]

DEMO_IMAGES = 4


def command(
    run: Run = None,
    *,
    data: DataOptions,
    model: ModelOptions,
    reading: ReadingOptions,
    boxes: Boxes = None,
    nms: NMS = None,
    pose_score: PoseScore = "bbox_keypoint",
    evaluator: EvaluatorOptions,
    ablations: Ablations = None,
    limit: Limit = None,
    batch_size: BatchSize = 16,
    engine: EngineName = "local",
    address: Address = None,
    workers: Workers = None,
    cpus: Cpus = 1,
    patience: Patience = 60.0,
    out: Folder = None,
    demo: Demo = False,
) -> Answer:
    """Predict with every checkpoint of a run, read by every variant; AP of each in one table.

    A call that was stopped or killed goes on where it was when it is made again. The folder of --out opens in
    `workbench history`, `workbench compare` and the app; its table.csv in `workbench curves`.
    """
    lasting = True
    with contextlib.ExitStack() as stack:
        if demo:
            from tempfile import TemporaryDirectory

            from workbench.checkpoints.demo import demo_run

            run, limit = demo_run(), limit or DEMO_IMAGES
            data = with_demo(data)
            lasting = out is not None
            out = out or Path(stack.enter_context(TemporaryDirectory()))
        if run is None:
            raise ValueError("sweep: expected the folder of a run, or --demo")
        data.require("sweep")
        check_limit(limit)
        cluster = _cluster(engine, address, workers, cpus, patience)
        rules = _rules(data, model, reading, pose_score, evaluator, ablations, limit, batch_size)
        rules = dataclasses.replace(rules, boxes=boxes or "", nms=nms)
        report = _swept(run, data, out, rules, engine, cluster)
        facts, lines = report.to_json(), _lines(report)
        if lasting:
            lines.append(f"written: {report.folder}")
        else:
            facts["out"] = None
        return Answer(facts, "\n".join(lines))


def _cluster(
    engine: str, address: str | None, workers: int | None, cpus: int, patience: float
) -> Cluster | None:
    """What the options say of Ray; None for the local engine.

    Raises:
        ValueError: options of Ray without it.
    """
    if engine != "ray":
        given = {"--address": address, "--workers": workers, "--cpus": None if cpus == 1 else cpus}
        for option, value in given.items():
            if value is not None:
                raise ValueError(f"{option}: is for --engine ray, and the engine is {engine}")
        return None
    from workbench.evaluation.sweeps.ray_engine import Cluster

    return Cluster(address, workers, cpus, patience)


def _rules(
    data: DataOptions,
    model: ModelOptions,
    reading: ReadingOptions,
    pose_score: str,
    evaluator: EvaluatorOptions,
    ablations: list[str] | None,
    limit: int | None,
    batch_size: int,
) -> SweepRules:
    from workbench.evaluation.protocol import check_score_rule
    from workbench.evaluation.sweeps.rules import SweepRules

    check_score_rule(pose_score)
    if batch_size < 1:
        raise ValueError(f"--batch-size: expected at least 1, got {batch_size}")
    words = [word.strip() for text in ablations or () for word in _split(text)]
    sigmas = evaluator.sigmas
    opening = {name: value for name, value in vars(model).items() if name not in ("device", "expert")}
    opening |= {"output": tuple(model.output or ()), "assume": tuple(model.stated)}
    return SweepRules(
        ablations=tuple(dict.fromkeys(word for word in words if word)),
        category=data.category,
        bits=data.pictures.reading.bits,
        as_stored=data.pictures.as_stored,
        limit=limit,
        flip=reading.flip,
        score_rule=pose_score,
        decoder=reading.decoder,
        keypoint_score=reading.score,
        batch_size=batch_size,
        area_rule="box" if evaluator.no_area else "annotated",
        sigmas=None if sigmas is None else tuple(constants(sigmas, len(sigmas.split(","))) or ()),
        max_dets=evaluator.max_dets,
        device=model.device,
        opening=opening,
    )


def _split(text: str) -> list[str]:
    """Names with commas between; the name of a single variant may hold ", " itself."""
    return text.replace(", ", "\0").replace(",", "\n").replace("\0", ", ").split("\n")


def _swept(
    run: Path, data: DataOptions, out: Path | None, rules: SweepRules, engine: str, cluster: Cluster | None
) -> SweepReport:
    from workbench.evaluation.sweeps.plan import checkpoints_in
    from workbench.evaluation.sweeps.sweep import sweep

    checkpoints_in(run)  # refused before a folder is made
    folder = out if out is not None else run / "sweep"
    check_room(folder / "table.csv")

    return run_in_job(
        f"sweep over {run.name}", sweep, run, data.data or "", folder, images=data.images, rules=rules,
        engine=engine, cluster=cluster, kept="what was finished is kept; the same command goes on with it",
    )  # fmt: skip


def _lines(report: SweepReport) -> list[str]:
    wide = report.wide_table()
    lines = [report.summary(), "", *as_columns(wide)]
    lines += [f"failed: {one.checkpoint}: {one.reason}" for one in report.failed]
    if report.resumed:
        lines.append(f"finished by an earlier call: {report.resumed} of {report.done}")
    return [*lines, "", f"seconds: {report.seconds:.1f}"]
