"""Do AP and AR change in opposite directions, between two runs or within one? Read from a trainer's logs.

AR only asks where keypoints lie (with one pose for each annotation), AP also asks for an order of the poses.
If one falls while the other rises, or AP falls alone, precision was not traded for recall: the
scores changed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from workbench.core import NotAvailable
from workbench.core.report import Report
from workbench.figures import FINDING_COLOUR, RUN_COLOURS, new_figure

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure


# A change below this is noise of the last digits.
NOTHING = 0.002
# AP that moves this far, and so many times as far as AR, changes alone: the order of the poses is suspect.
MUCH, ALONE_BY = 0.02, 3.0
OPPOSITE, ALONE, SAME = "opposite directions", "AP alone", "the same direction"


@dataclass(frozen=True, eq=False)
class Curve:
    """AP and AR of one run, as its log has them.

    Attributes:
        title: of the run.
        epochs: evaluated ones, rising.
        AP: of each.
        AR: of each.
    """

    title: str
    epochs: Float[np.ndarray, " E"]
    AP: Float[np.ndarray, " E"]
    AR: Float[np.ndarray, " E"]

    @property
    def best(self) -> int:
        """Index of the highest AP."""
        return int(np.nanargmax(self.AP))

    @property
    def opposite(self) -> list[int]:
        """Indices at which AP falls while AR rises, or AP rises while AR falls, against the epoch before."""
        ap, ar = np.diff(self.AP), np.diff(self.AR)
        apart = (np.minimum(np.abs(ap), np.abs(ar)) > NOTHING) & (np.sign(ap) != np.sign(ar))
        return [int(i) + 1 for i in np.flatnonzero(apart)]


@dataclass(frozen=True, eq=False)
class Trends(Report):
    """One or two runs.

    Attributes:
        curves: the run, and the one that it is compared with.
    """

    curves: tuple[Curve, ...]

    @property
    def between(self) -> tuple[float, float] | None:
        """(AP, AR) of the run less that of the other, each run at its best AP; None for a single run."""
        if len(self.curves) < 2:
            return None
        run, other = self.curves[:2]
        return (
            float(run.AP[run.best] - other.AP[other.best]),
            float(run.AR[run.best] - other.AR[other.best]),
        )

    @property
    def flagged(self) -> bool:
        """Whether AP and AR change in opposite directions, or AP alone."""
        if self.between is not None:
            ap, ar = self.between
            if parting(ap, ar) != SAME:
                return True
        return bool(self.curves[0].opposite)

    def summary(self) -> str:
        run = self.curves[0]
        text = f"{run.title}: best AP {run.AP[run.best]:.3f} at epoch {run.epochs[run.best]:g}"
        if self.between is not None:
            ap, ar = self.between
            meaning = {
                ALONE: "AP changes much more than AR: the poses are nearly the same and their scores order "
                "them differently; check the scores",
                OPPOSITE: "AP and AR change in opposite directions: the poses and the order of their "
                "scores changed differently; check the scores",
                SAME: "both change in the same direction",
            }[parting(ap, ar)]
            text += f"; against {self.curves[1].title} AP {ap:+.3f}, AR {ar:+.3f}: {meaning}"
        if run.opposite:
            at = ", ".join(f"{run.epochs[i]:g}" for i in run.opposite[:6])
            text += f"; AP and AR change in opposite directions at epoch {at}"
        return text

    def plot(self) -> Figure:
        import plotly.graph_objects as go

        figure = new_figure(self.summary(), x="epoch", y="AP, AR", height=360)
        for i, curve in enumerate(self.curves):
            for name, values, dash in (("AP", curve.AP, "solid"), ("AR", curve.AR, "dot")):
                figure.add_trace(
                    go.Scatter(
                        x=curve.epochs.astype(np.float32), y=values.astype(np.float32), mode="lines+markers",
                        name=f"{name}, {curve.title}", line={"color": RUN_COLOURS[i], "dash": dash},
                        hovertemplate="epoch %{x:.0f}: " + name + " %{y:.3f}<extra></extra>",
                    )
                )  # fmt: skip
        epochs = np.unique(np.concatenate([curve.epochs for curve in self.curves]))
        if len(epochs) <= 12:
            figure.update_xaxes(tickvals=epochs.astype(np.float32))
        for i in self.curves[0].opposite:
            figure.add_vrect(
                x0=float(self.curves[0].epochs[i - 1]), x1=float(self.curves[0].epochs[i]),
                fillcolor=FINDING_COLOUR, opacity=0.12, line_width=0,
            )  # fmt: skip
        return figure

    def table(self) -> list[dict[str, Any]]:
        return [
            {"run": c.title, "epoch": float(e), "AP": float(p), "AR": float(r), "opposite": i in c.opposite}
            for c in self.curves
            for i, (e, p, r) in enumerate(zip(c.epochs, c.AP, c.AR, strict=True))
        ]


def parting(ap: float, ar: float) -> str:
    """How two changes compare: OPPOSITE, ALONE (AP changes far more than AR), or SAME.

    Args:
        ap: change of AP.
        ar: change of AR.
    """
    if min(abs(ap), abs(ar)) > NOTHING and (ap < 0) != (ar < 0):
        return OPPOSITE
    return ALONE if abs(ap) > MUCH and abs(ap) > ALONE_BY * abs(ar) else SAME


# Reading the logs.

# A printed line: "Epoch(val) [10][34/34]  coco/AP: 0.0805  coco/AP .5: ...  coco/AR: ..."; mmcv 0.x alike.
_EPOCH = re.compile(r"Epoch\(val\)\s*\[(\d{1,9})\]")
_FIGURE = re.compile(r"(?:^|[\s/,])(AP|AR): (-?\d{1,20}(?:\.\d{0,30})?(?:e[+-]?\d{1,3})?)(?![\w.])")
# A run of 10,000 epochs that prints every iteration leaves less.
_SIZE = 256 << 20
_LINE = 20_000


def curve_of(folder: Path, title: str = "") -> Curve:
    """AP and AR by epoch of a run, from all logs in its folder; of an epoch logged twice the later counts.

    Args:
        folder: of a run: mmengine's work_dir, with a dated folder for each start, or one with vis_data/.
        title: of the run; the folder's name by default.

    Raises:
        FileNotFoundError: no such folder.
        NotAvailable: no log, or none that holds AP and AR.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"curves: no folder {folder}")
    logs = logs_of(folder)
    if not logs:
        raise NotAvailable(
            f"no log lies beside the checkpoints of {title or folder.name}: expected vis_data/scalars.json "
            "or a .log, there or in a folder below"
        )
    return read_validation(logs, title or folder.resolve().name)


def read_validation(logs: Path | Sequence[Path], title: str = "") -> Curve:
    """AP and AR by epoch of mmengine's or mmcv's logs.

    Args:
        logs: JSON lines (``vis_data/scalars.json``), or the text that the trainer prints (``.log``); of an
            epoch in two of them the later one counts.
        title: of the run; the folder's name by default.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line is no JSON.
        NotAvailable: no line holds AP and AR.
    """
    files = [logs] if isinstance(logs, Path) else list(logs)
    found: dict[float, tuple[float, float]] = {}
    for path in files:
        if path.stat().st_size > _SIZE:
            raise ValueError(f"{path.name}: a log of more than {_SIZE >> 20} MB is refused")
        text = path.read_text(encoding="utf-8", errors="replace")
        found |= dict(_from_text(text) if path.suffix == ".log" else _from_json(text, path.name))
    if not found:
        raise NotAvailable(f"{files[-1].name}: no line holds AP and AR, so there are no curves")
    epochs, pairs = zip(*sorted(found.items()), strict=True)
    ap, ar = np.array(pairs, float).T
    return Curve(title or files[-1].parent.name, np.array(epochs, float), ap, ar)


def _from_json(text: str, file: str) -> Iterator[tuple[float, tuple[float, float]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, nested without end
            raise ValueError(f"{file}, line {number}: expected a JSON object per line") from None
        if not isinstance(row, dict):
            raise ValueError(f"{file}, line {number}: expected a JSON object per line")
        # mmengine puts the evaluator's prefix before the name ("coco/AP"), mmcv 0.x nothing.
        by_name = {name.rpartition("/")[2]: value for name, value in row.items()}
        # mmengine: validation rows count epochs in `step`; mmcv 0.x has "epoch".
        epoch, ap, ar = by_name.get("step", by_name.get("epoch")), by_name.get("AP"), by_name.get("AR")
        if _is_figure(epoch) and _is_figure(ap) and _is_figure(ar):
            yield float(epoch), (float(ap), float(ar))


def _is_figure(value: Any) -> TypeGuard[float]:
    """Whether it is a finite number; a validation that failed logs nan."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def _from_text(text: str) -> Iterator[tuple[float, tuple[float, float]]]:
    for line in text.splitlines():
        # Where a line is longer than any that a trainer prints, the rest of it is left alone.
        epoch = _EPOCH.search(line[:_LINE])
        figures = {name: float(value) for name, value in _FIGURE.findall(line[:_LINE])}
        if epoch and {"AP", "AR"} <= set(figures):
            yield float(epoch[1]), (figures["AP"], figures["AR"])


def logs_of(folder: Path) -> tuple[Path, ...]:
    """The logs beside a run's checkpoints, in the order of their starts; empty without one.

    Where a start left JSON lines its printed text, which says the same, is left out.
    """
    found: list[Path] = []
    starts = sorted(p for p in folder.iterdir() if p.is_dir() and p.name != "vis_data")
    for start in (folder, *starts):
        files = sorted(start.glob("vis_data/*.json"))
        # mmengine writes everything into scalars.json and repeats the training rows in a dated file.
        whole = [path for path in files if path.name == "scalars.json"] or files
        found += whole or sorted((*start.glob("*.log.json"), *start.glob("*.log")))[-1:]
    return tuple(found)
