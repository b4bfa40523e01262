"""workbench report: one HTML file about a run: numbers, curves, worst cases, findings, and what made it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.cli.compare import Epoch, Judging, epochs_of, is_results, judged_epochs, titles_of
from workbench.cli.options import (
    BatchSize,
    DataOptions,
    Demo,
    EvaluatorOptions,
    ModelOptions,
    PoseScore,
    ReadingOptions,
    Resamples,
    argument,
    numbers_of,
    option,
)
from workbench.cli.output import Answer, check_file, written
from workbench.core.command_line import command_line
from workbench.core.errors import USER_ERRORS, beside, sentence
from workbench.core.report import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workbench.curves.report import CurvesReport
    from workbench.data import PoseSet
    from workbench.diagnosis.report import Diagnosis
    from workbench.evaluation import History
    from workbench.figures.document import Input

Files = Annotated[
    list[Path] | None,
    argument("A run's folder, checkpoints, predictions (.parquet) or COCO result files (.json)."),
]
Log = Annotated[
    list[Path] | None,
    option("--log", "A training log of the run; by default the one beside the checkpoints."),
]
Diagnose = Annotated[
    str, option("--diagnose", "Tests of the diagnostics run: none, files, forward, evaluate, or train.")
]
Most = Annotated[int, option("--most", "Maximum number of checkpoints of a run's folder to evaluate.", min=2)]
Worst = Annotated[int, option("--worst", "Worst instances that are shown.", min=0)]
Out = Annotated[Path | None, option("--out", "The report, a name ending in .html.")]


def command(
    files: Files = None,
    *,
    data: DataOptions,
    model: ModelOptions,
    reading: ReadingOptions,
    pose_score: PoseScore = "bbox_keypoint",
    evaluator: EvaluatorOptions,
    log: Log = None,
    diagnose: Diagnose = "files",
    most: Most = 4,
    worst: Worst = 8,
    resamples: Resamples = 1000,
    batch_size: BatchSize = 16,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Evaluate, compare, read the logs, and write all of it into one file that needs no other."""
    from workbench.diagnosis.run_report import document, run_report

    check_file(out, ".html")
    _check_level(diagnose)
    if not files and not demo:
        raise ValueError("report: expected a run's folder, checkpoints or result files, or --demo")
    how = Judging(data, model, reading, pose_score, evaluator, batch_size)
    notes: list[str] = []
    if demo:
        paths: list[Path] = []
        truth, epochs, counting = _demo()
        notes = ["demo: the last two epochs of rtmpose-demo on its own data and with its own log"]
    else:
        paths, notes = _chosen(list(files or []), most)
        truth, epochs, counting, more = judged_epochs(paths, how, list(files or []))
        read = {epoch.title for epoch in epochs}
        paths = [path for path, title in zip(paths, titles_of(paths), strict=True) if title in read]
        notes = [*more, *notes]
    curves, logs = _curves(list(files or []), log, demo)
    groups = (data, model, reading, evaluator)
    words = _command(list(files or []), log, groups, pose_score, diagnose, most, worst, resamples, out, demo)
    diagnosis, why = _diagnosed([*(files or []), *logs], data, model, diagnose, evaluator.sigmas)
    report = run_report(
        truth,
        [(epoch.title, epoch.predictions) for epoch in epochs],
        [epoch.protocol for epoch in epochs],
        runs=[epoch.run for epoch in epochs],
        curves=curves, history=_folder_of_epochs(files or []), diagnosis=diagnosis,
        inputs=list(_inputs(paths, truth, logs)), commands=[words], notes=[*notes, *why],
        worst=worst, resamples=resamples, **counting,
    )  # fmt: skip
    facts = report.to_json()
    lines = [report.summary(), *(f"note: {note}" for note in report.notes)]
    lines += [f"* {source}: {finding.text()}" for source, finding in report.findings[:10]]
    if out is not None:
        from workbench.core.files import write_text

        write_text(out, document(report))
    return written(Answer(facts, "\n".join(lines)), out)


def _chosen(files: list[Path], most: int) -> tuple[list[Path], list[str]]:
    """The files to evaluate; of a folder with many checkpoints some, evenly spread, and a note."""
    if len(files) == 1 and not files[0].is_dir():
        if not files[0].is_file():
            raise FileNotFoundError(
                f"{files[0]}: no such checkpoint, predictions or folder{beside(files[0])}"
            )
        return files, []
    paths = epochs_of(files, "report")
    if len(files) > 1 or len(paths) <= most:
        return paths, []
    chosen = [paths[int(i)] for i in np.linspace(0, len(paths) - 1, most).round()]
    return chosen, [
        f"{most} of {counted(len(paths), 'checkpoint')} were evaluated "
        f"({', '.join(p.name for p in chosen)}); --most takes more"
    ]


def _curves(files: list[Path], log: list[Path] | None, demo: bool) -> tuple[CurvesReport | None, list[Path]]:
    """Curves of the logs that were named, else of those beside the files; and the logs."""
    from workbench.curves import read_logs, read_runs, run_logs
    from workbench.curves.report import CurvesReport, distinct

    if log:
        runs = [run for one in log for run in read_runs(one)]
        return CurvesReport(distinct(runs)), [
            path for one in log for path in (run_logs(one) if one.is_dir() else (one,))
        ]
    if demo:
        from workbench.checkpoints.demo import demo_log

        return CurvesReport(read_logs([demo_log()], "rtmpose-demo")), [demo_log()]
    folders = dict.fromkeys(one.resolve() if one.is_dir() else one.resolve().parent for one in files)
    found = [(folder, logs) for folder in folders if (logs := run_logs(folder))]
    runs = [run for folder, logs in found for run in read_logs(logs, folder.name)]
    return (CurvesReport(distinct(runs)) if runs else None), [path for _, logs in found for path in logs]


def _inputs(paths: Sequence[Path], pose_set: PoseSet, logs: Sequence[Path]) -> Iterator[Input]:
    from workbench.evaluation.exchange_formats import is_dump
    from workbench.figures.document import Input

    for path in paths:
        results = path.suffix == ".parquet" or is_results(path) or is_dump(path)
        kind = "results" if results else "checkpoint"
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            yield Input.of(kind, file)
    annotations = Path(pose_set.source)
    if pose_set.source and len(pose_set.source) < 1000 and annotations.is_file():
        yield Input.of("annotations", annotations)
    for path in logs:
        yield Input.of("log", path)


def _folder_of_epochs(files: Sequence[Path]) -> History | None:
    """The one folder that was named, where it holds the predictions of several epochs."""
    from workbench.evaluation import query_epochs

    if len(files) != 1 or not files[0].is_dir() or not any(files[0].glob("*.parquet")):
        return None
    try:
        history = query_epochs(files[0], mixed=True)
    except FileNotFoundError:
        return None
    return history if len(history.files) > 1 else None


def _check_level(level: str) -> None:
    """Raise ValueError unless the diagnostics run knows the level."""
    from workbench.diagnosis.cause import LEVELS

    levels = ("none", *LEVELS)
    if level not in levels:
        raise ValueError(f"--diagnose: expected {', '.join(levels)}, got {level!r}")


def _diagnosed(
    targets: Sequence[Path], data: DataOptions, model: ModelOptions, level: str, sigmas: str | None
) -> tuple[Diagnosis | None, list[str]]:
    """The diagnostics run, or why there is none."""
    from workbench.diagnosis import diagnose

    if level == "none" or not targets:
        return None, []
    try:
        found = diagnose(
            targets, data=data.data, images=data.images, bits=data.pictures.reading.bits,
            as_stored=data.pictures.as_stored, config=model.config, adapter=model.adapter,
            family=model.family, skeleton=model.skeleton, device=model.device,
            sigmas=tuple(() if sigmas is None else numbers_of(sigmas)),
            level=level,  # type: ignore[arg-type]
        )  # fmt: skip
    except USER_ERRORS as reason:
        return None, [f"no diagnostics run: {sentence(reason)}"]
    return found, []


def _command(
    files: list[Path],
    log: list[Path] | None,
    groups: Sequence[Any],
    pose_score: str,
    diagnose: str,
    most: int,
    worst: int,
    resamples: int,
    out: Path | None,
    demo: bool,
) -> str:
    """The line that makes the report again; what is as by default is left out."""
    words = ["workbench", "report", *files]
    options = [one for group in groups for one in _options_of(group)]
    options += [
        ("pose_score", pose_score, "bbox_keypoint"),
        ("diagnose", diagnose, "files"),
        ("most", most, 4),
        ("worst", worst, 8),
    ]
    options += [("resamples", resamples, 1000), ("log", log, None), ("out", out, None), ("demo", demo, False)]
    for name, value, default in options:
        if value == default or value is None:
            continue
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        else:
            for one in value if isinstance(value, (list, tuple)) else [value]:
                words += [option, one]
    return command_line(words)


def _options_of(group: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, value and default of every option of a group, those of the groups in it among them."""
    for field in dataclasses.fields(group):
        value = getattr(group, field.name)
        if dataclasses.is_dataclass(value):
            yield from _options_of(value)
        else:
            yield field.name, value, field.default


def _demo() -> tuple[PoseSet, list[Epoch], dict[str, Any]]:
    """The last two checkpoints of the demo run on the drawn scenes."""
    from workbench.checkpoints.demo import demo_checkpoints, demo_config
    from workbench.data import builtin
    from workbench.evaluation import predict
    from workbench.evaluation.protocol import protocol_of_loaded
    from workbench.models import open_model

    pose_set, epochs = builtin("scenes-val"), []
    for file in demo_checkpoints()[-2:]:
        loaded = open_model(file, config=demo_config())
        found = predict(loaded.model, pose_set)
        epochs.append(Epoch(file.stem, found, protocol_of_loaded(loaded), int(file.stem.rpartition("_")[2])))
    return pose_set, epochs, {}
