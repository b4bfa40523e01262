"""workbench curves: the training logs of any trainer as one table, and what they show."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from workbench.cli.options import Demo, argument, option
from workbench.cli.output import REPORT_ENDINGS, Answer, check_file, written

if TYPE_CHECKING:
    from workbench.core.finding import Finding
    from workbench.curves import Curves

Logs = Annotated[
    list[Path] | None,
    argument(
        "Logs or folders of runs: mmengine, mmcv 0.x, TensorBoard, W&B offline, Lightning, ultralytics, "
        "JSON, JSONL, CSV, or a text with tables; - reads standard input. The first is the base of the "
        "others."
    ),
]
Name = Annotated[
    list[str] | None, option("--series", "Show these series instead of the usual ones; may be repeated.")
]
TrainImages = Annotated[
    int | None,
    option("--train-images", "Number of training images; with --batch, tells whether warm-up is long."),
]
Batch = Annotated[int | None, option("--batch", "Images in one training step, of all devices together.")]
WarmUp = Annotated[int, option("--warm-up", "Iterations of warm-up; mmpose's recipes have 500 or 1000.")]
Out = Annotated[
    Path | None, option("--out", "Write the figure (.html), the facts (.json) or all values (.csv).")
]

DEMO_RUNS = ("rtmpose-text-base", "rtmpose-text-fusion", "cape-demo-defects")


def command(
    logs: Logs = None,
    series: Name = None,
    train_images: TrainImages = None,
    batch: Batch = None,
    warm_up: WarmUp = 1000,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Read the logs, whoever wrote them; print best and last figures and what stands out."""
    from workbench.curves.report import CurvesReport, distinct

    check_file(out, *REPORT_ENDINGS)
    if not logs and not demo:
        raise ValueError("curves: expected a log, a run's folder, - for standard input, or --demo")
    runs = _demo_runs() if demo else [run for log in logs or [] for run in _read(log)]
    runs = list(distinct(runs))
    more = _of_data(runs, train_images, batch, warm_up)
    report = CurvesReport(tuple(runs), tuple(series or ()), tuple(more))
    report.check()
    return written(Answer(report.facts(), "\n".join(report.text())), out, report)


def _read(log: Path) -> tuple[Curves, ...]:
    from workbench.curves import read_runs, read_text

    if str(log) != "-":
        return read_runs(log)

    from workbench.curves.source import MOST_BYTES

    text = sys.stdin.read(MOST_BYTES // 4)
    return read_text(text, "standard input", piped=True)


def _demo_runs() -> list[Curves]:
    from workbench.checkpoints.demo import demo_log
    from workbench.curves import read_curves

    return [read_curves(demo_log(name), name) for name in DEMO_RUNS]


def _of_data(
    runs: list[Curves], images: int | None, batch: int | None, warm_up: int
) -> list[tuple[str, Finding]]:
    """Whether warm-up is long for the data that were named.

    Raises:
        ValueError: one of the two counts is missing.
    """
    from workbench.curves import warm_up_of_data

    if images is None and batch is None:
        return []
    if images is None or batch is None:
        raise ValueError(
            "curves: --train-images and --batch belong together: both give the iterations of an epoch"
        )
    last = runs[-1].headline
    epochs = (
        float(last.x.max()) if last is not None and last.unit == "epoch" and len(last.x) else float("nan")
    )
    found: Any = warm_up_of_data(images, batch, warm_up, epochs)
    return [] if found is None else [(runs[-1].title, found)]
