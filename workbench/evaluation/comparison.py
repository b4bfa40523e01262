"""What is shown of several epochs side by side: figures, intervals, gained and lost instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import Report, plain
from workbench.evaluation.compare import FOUND, Interval
from workbench.evaluation.evaluate import Evaluation, said

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from plotly.graph_objects import Figure


@dataclass(frozen=True, eq=False)
class Comparison(Report):
    """Epochs of one run, or any models, on one set of instances.

    Attributes:
        titles: of the epochs, in the order given.
        evaluations: one for each.
        oks: of every instance in every epoch, in the order of the ground truth; nan where nothing is
            labelled, the instance does not count, or no pose was predicted for it.
        intervals: change of AP from the first epoch to each other; empty where nothing counts.
        differences: rules in which an epoch's protocol differs from the first's: then numbers do not compare.
    """

    titles: tuple[str, ...]
    evaluations: tuple[Evaluation, ...]
    oks: Float[np.ndarray, "E N"]
    intervals: tuple[Interval, ...]
    differences: tuple[str, ...]

    def gained(self, a: int = 0, b: int = -1) -> Int[np.ndarray, " M"]:
        """Instances not found in epoch a and found in epoch b, the largest change first."""
        return self._sorted((self.oks[a] < FOUND) & (self.oks[b] >= FOUND), self.oks[a] - self.oks[b])

    def lost(self, a: int = 0, b: int = -1) -> Int[np.ndarray, " M"]:
        """Instances found in epoch a and not in epoch b, the largest change first."""
        return self._sorted((self.oks[a] >= FOUND) & (self.oks[b] < FOUND), self.oks[b] - self.oks[a])

    def most_changed(self, a: int = 0, b: int = -1, count: int = 20) -> Int[np.ndarray, " M"]:
        """Instances whose OKS changed most, in either direction."""
        change = np.abs(self.oks[b] - self.oks[a])
        return self._sorted(np.isfinite(change), -change)[:count]

    def _sorted(self, mask: np.ndarray, key: np.ndarray) -> Int[np.ndarray, " M"]:
        rows = np.flatnonzero(mask)
        return rows[np.argsort(key[rows], kind="stable")]

    def summary(self) -> str:
        first, last = self.evaluations[0].figures["AP"], self.evaluations[-1].figures["AP"]
        if not self.intervals:
            return f"{self.titles[0]} to {self.titles[-1]}: no instance counts, so there is no AP to compare."
        interval = self.intervals[-1]
        luck = "" if interval.certain else ", which another sample of images may not repeat"
        mark = f" NOT COMPARABLE, protocols differ ({self.differences[0]})." if self.differences else ""
        return (
            f"{self.titles[0]} to {self.titles[-1]}: AP {first:.3f} -> {last:.3f}, {interval}{luck}; "
            f"{len(self.gained())} instances gained, {len(self.lost())} lost.{mark} "
            f"Protocol: {self.evaluations[-1].protocol.text()}."
        )

    def plot(self) -> Figure:
        """AP and AR over the epochs, with the interval of each change from the first."""
        import plotly.graph_objects as go

        from workbench.figures import RUN_COLOURS, new_figure

        figure = new_figure(self.summary(), x="epoch", y="AP, AR (0 to 1)")
        values = {name: self._values(name) for name in ("AP", "AR")}
        for (name, value), colour in zip(values.items(), RUN_COLOURS, strict=False):
            spread = {}
            if name == "AP" and self.intervals:
                base = value[0]
                high = np.array([base, *(base + i.high for i in self.intervals)], np.float32)
                low = np.array([base, *(base + i.low for i in self.intervals)], np.float32)
                spread = {"type": "data", "array": high - value, "arrayminus": value - low}
            figure.add_trace(
                go.Scatter(
                    x=list(self.titles),
                    y=value,
                    error_y=spread or None,
                    name=name if not spread else "AP, 95 % of the change from the first",
                    mode="lines+markers",
                    line={"color": colour},
                    hovertemplate="%{x}: " + name + " %{y:.3f}<extra></extra>",
                )
            )
        figure.update_yaxes(rangemode="tozero")
        return figure

    def _values(self, name: str) -> Float[np.ndarray, " E"]:
        return np.array([e.figures[name] for e in self.evaluations], np.float32)

    def table(self) -> list[dict[str, Any]]:
        """One row for each epoch."""
        changes = [None, *self.intervals] if self.intervals else [None] * len(self.titles)
        return [
            {
                "title": title,
                **plain(evaluation.figures),
                "delta_AP": None if change is None else change.delta,
                "low": None if change is None else change.low,
                "high": None if change is None else change.high,
                "gained": len(self.gained(0, e)),
                "lost": len(self.lost(0, e)),
            }
            for e, (title, evaluation, change) in enumerate(
                zip(self.titles, self.evaluations, changes, strict=True)
            )
        ]

    def instances(self, rows: Int[np.ndarray, " M"]) -> list[dict[str, Any]]:
        """Names and OKS of some instances, in every epoch."""
        truth = self.evaluations[0].ap.truth
        return [
            {
                "annotation_id": int(truth.ids[i]),
                "image_id": int(truth.image_ids[truth.image[i]]),
                "oks": plain(self.oks[:, i]),
            }
            for i in rows
        ]

    def to_json(self) -> dict[str, Any]:
        """All epochs, what was gained and lost from the first to the last, and the protocols."""
        return {
            "summary": self.summary(),
            "epochs": self.table(),
            "gained": self.instances(self.gained()),
            "lost": self.instances(self.lost()),
            "most_changed": self.instances(self.most_changed()),
            "intervals": plain(self.intervals),
            "per_keypoint": {t: e.table() for t, e in zip(self.titles, self.evaluations, strict=True)},
            "protocols": {
                t: e.protocol.to_json() for t, e in zip(self.titles, self.evaluations, strict=True)
            },
            "differences": list(self.differences),
        }

    def text(self) -> str:
        """For the command line."""
        width = max(20, *(len(t) for t in self.titles))
        lines = [
            self.summary(),
            "",
            f"{'epoch':<{width}}    AP     AR    change of AP            gained  lost",
        ]
        changes = ["", *map(str, self.intervals)] if self.intervals else [""] * len(self.titles)
        for e, (title, evaluation, change) in enumerate(
            zip(self.titles, self.evaluations, changes, strict=True)
        ):
            figures = evaluation.figures
            lines.append(
                f"{title:<{width}} {said(figures['AP'])}  {said(figures['AR'])}   {change:<23}"
                f" {len(self.gained(0, e)):6d} {len(self.lost(0, e)):5d}"
            )
        lines += [f"protocols differ, do not compare: {what}" for what in self.differences]
        return "\n".join(lines)
