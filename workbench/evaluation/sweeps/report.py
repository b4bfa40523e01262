"""What a sweep found: COCO's figures of every epoch and variant, and which checkpoints failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import Report, plain
from workbench.evaluation.ablation.variants import REFERENCE

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.evaluation.sweeps.plan import FailedCheckpoint

# Lines that can be told apart; the table has all of them.
_MOST_LINES = 12


@dataclass(frozen=True, eq=False)
class SweepReport(Report):
    """A finished sweep.

    Attributes:
        run: name of its folder.
        data: name of the set.
        variants: the reference first.
        rows: of the table: epoch, checkpoint, variant and COCO's ten figures, null where there is no such
            ground truth; in the order of training, the reference first.
        failed: checkpoints that were passed over.
        resumed: checkpoints that an earlier call had finished.
        seconds: of this call.
        folder: of the predictions.
        protocol: of the reference, in words.
    """

    run: str
    data: str
    variants: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    failed: tuple[FailedCheckpoint, ...]
    resumed: int
    seconds: float
    folder: str
    protocol: str = ""

    @property
    def done(self) -> int:
        """Checkpoints that are finished."""
        return len({row["checkpoint"] for row in self.rows})

    def of(self, variant: str) -> list[dict[str, Any]]:
        """The rows of one variant, epoch by epoch."""
        return [row for row in self.rows if row["variant"] == variant]

    def summary(self) -> str:
        known = [row for row in self.rows if row["AP"] is not None]
        count = f"{self.done} checkpoint{'s' * (self.done != 1)} of {self.run} on {self.data}"
        text = f"{count}, {len(self.variants)} variant{'s' * (len(self.variants) != 1)}"
        own = [row for row in known if row["variant"] == REFERENCE]
        if own:
            best, last = max(own, key=lambda row: row["AP"]), own[-1]
            text += f": AP is highest at epoch {best['epoch']}, {best['AP']:.3f}"
            if best is not last:
                text += f"; the last, epoch {last['epoch']}, has {last['AP']:.3f}"
            top = max(known, key=lambda row: row["AP"])
            if top["AP"] > best["AP"]:
                text += f"; with '{top['variant']}' epoch {top['epoch']} has {top['AP']:.3f}"
        if self.failed:
            text += f"; {len(self.failed)} failed and were passed over"
        return f"{text}. Protocol: {self.protocol}." if self.protocol else f"{text}."

    def wide_table(self) -> list[dict[str, Any]]:
        """AP of every epoch (rows) and variant (columns); of the reference AP and AR."""
        table: dict[int, dict[str, Any]] = {}
        for row in self.rows:
            wide = table.setdefault(row["epoch"], {"epoch": row["epoch"]})
            if row["variant"] == REFERENCE:
                wide |= {"AP": row["AP"], "AR": row["AR"]}
            else:
                wide[f"AP {row['variant']}"] = row["AP"]
            table[row["epoch"]] = wide
        return list(table.values())

    def plot(self) -> Figure:
        """AP over the epochs, one line for each variant; at most twelve, those that differ most."""
        import plotly.graph_objects as go

        from workbench.figures import RUN_COLOURS, new_figure

        figure = new_figure(self.summary(), x="epoch", y="AP (0 to 1)")
        for number, name in enumerate(self._shown()):
            rows = self.of(name)
            figure.add_trace(
                go.Scatter(
                    x=np.array([row["epoch"] for row in rows], np.float32),
                    y=np.array([np.nan if r["AP"] is None else r["AP"] for r in rows], np.float32),
                    name=name,
                    mode="lines+markers",
                    line={"color": RUN_COLOURS[number % len(RUN_COLOURS)], "width": 3 if not number else 1.5},
                )
            )
        return figure

    def _shown(self) -> Sequence[str]:
        if len(self.variants) <= _MOST_LINES:
            return self.variants
        own = {row["epoch"]: row["AP"] or 0.0 for row in self.of(REFERENCE)}

        def differs(name: str) -> float:
            return max((abs((r["AP"] or 0.0) - own.get(r["epoch"], 0.0)) for r in self.of(name)), default=0)

        others = sorted(self.variants[1:], key=differs, reverse=True)[: _MOST_LINES - 1]
        return [self.variants[0], *(name for name in self.variants if name in others)]

    def table(self) -> list[dict[str, Any]]:
        return [plain(row) for row in self.rows]

    def to_json(self) -> dict[str, Any]:
        """The facts under the names of the command line."""
        return plain(
            {
                "summary": self.summary(),
                "run": self.run,
                "data": self.data,
                "protocol": self.protocol,
                "variants": self.variants,
                "done": self.done,
                "failed": self.failed,
                "resumed": self.resumed,
                "seconds": round(self.seconds, 3),
                "table": self.rows,
                "out": self.folder,
            }
        )
