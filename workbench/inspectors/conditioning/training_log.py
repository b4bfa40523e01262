"""Do AP and AR change in opposite directions, between two runs or within one? Read from a trainer's logs.

AR only asks where keypoints lie (with one pose for each annotation), AP also asks for an order of the poses.
If one falls while the other rises, or AP falls alone, precision was not traded for recall: the
scores changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable
from workbench.core.report import Report, signed_text
from workbench.curves.flags import ALONE, NOTHING, OPPOSITE, SAME, parting
from workbench.curves.quantities import short
from workbench.curves.reading import logs_of, read_logs
from workbench.figures import FINDING_COLOUR, RUN_COLOURS, new_figure

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.curves.table import Curves


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

    def summary(self) -> str:
        run = self.curves[0]
        best = f"best AP {run.AP[run.best]:.3f} at epoch {run.epochs[run.best]:g}"
        text = f"{run.title}: {best} of its training log"
        if self.between is not None:
            ap, ar = self.between
            meaning = {
                ALONE: "AP changes much more than AR: the poses are nearly the same and their scores order "
                "them differently; check the scores",
                OPPOSITE: "AP and AR change in opposite directions: the poses and the order of their "
                "scores changed differently; check the scores",
                SAME: "both change in the same direction",
            }[parting(ap, ar)]
            text += f"; against {self.curves[1].title} AP {signed_text(ap)}, AR {signed_text(ar)}: {meaning}"
        if run.opposite:
            at = ", ".join(f"{run.epochs[i]:g}" for i in run.opposite[:6])
            text += f"; AP and AR change in opposite directions at epoch {at}"
        return text

    def plot(self) -> Figure:
        figure = new_figure(self.summary(), x="epoch", y="AP, AR", height=360)
        for i, curve in enumerate(self.curves):
            for name, values, dash in (("AP", curve.AP, "solid"), ("AR", curve.AR, "dot")):
                figure.add_scatter(
                    x=curve.epochs.astype(np.float32), y=values.astype(np.float32), mode="lines+markers",
                    name=f"{name}, {curve.title}", line={"color": RUN_COLOURS[i], "dash": dash},
                    hovertemplate="epoch %{x:.0f}: " + name + " %{y:.3f}<extra></extra>",
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


# Reading the logs.


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
    """AP and AR by epoch of a run's logs, in any format of workbench.curves.

    Args:
        logs: such as ``vis_data/scalars.json``, or the text that the trainer prints (``.log``); of an
            epoch in two of them the later one counts.
        title: of the run; the folder's name by default.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no log.
        NotAvailable: no line holds AP and AR.
    """
    files = [logs] if isinstance(logs, Path) else list(logs)
    title = title or files[-1].parent.name
    found = read_logs(files, title)
    # mmengine writes coco/AP, mmcv AP; a run that changed from one to the other is still one curve.
    figures = {name: _validated(found, name) for name in ("AP", "AR")}
    epochs = sorted(figures["AP"].keys() & figures["AR"].keys())
    if not epochs:
        raise NotAvailable(f"{files[-1].name}: no line holds AP and AR, so there are no curves")
    ap, ar = (np.array([figures[name][epoch] for epoch in epochs]) for name in ("AP", "AR"))
    return Curve(title, np.array(epochs, float), ap, ar)


def _validated(found: Sequence[Curves], name: str) -> dict[float, float]:
    """Epoch -> value of a figure, whichever evaluator wrote it."""
    series = [s for one in found for s in one.series if short(s.name) == name and s.split != "train"]
    return {float(x): float(v) for s in series for x, v in zip(*s.finite(), strict=True)}
