"""A folder of epochs as a report: AP over the epochs, and the instances behind two of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import Report, plain

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.evaluation.history import History


@dataclass(frozen=True, eq=False)
class HistoryReport(Report):
    """All epochs of a folder; lists of instances are cut, `counts` are not.

    Attributes:
        title: of the folder.
        epochs: as `History.epochs`; with ``rules``, the number of its rules, where epochs differ in them.
        a: the earlier of two epochs that are compared.
        b: the later.
        worst: instances of b with the lowest OKS.
        gained: found in b and not in a; the largest change first.
        lost: found in a and not in b; the largest change first.
        regressions: keypoints whose part of the OKS fell most.
        counts: of gained and lost instances.
        image_id: one image, followed over the epochs; None for none.
        instances: of that image: OKS by epoch, by annotation id.
        not_compared: why a and b are not compared; "" where they are.
    """

    title: str
    epochs: list[dict[str, Any]]
    a: int
    b: int
    worst: list[dict[str, Any]]
    gained: list[dict[str, Any]]
    lost: list[dict[str, Any]]
    regressions: list[dict[str, Any]]
    counts: dict[str, int]
    image_id: int | None = None
    instances: dict[int, list[dict[str, Any]]] | None = None
    not_compared: str = ""

    @property
    def figure(self) -> str:
        """What the curve shows: AP, or the mean OKS where AP is not known."""
        return "AP" if any(row.get("AP") is not None for row in self.epochs) else "oks"

    def summary(self) -> str:
        name = "AP" if self.figure == "AP" else "mean OKS"
        known = [row for row in self.epochs if row.get(self.figure) is not None]
        if not known:
            return f"{self.title}: {len(self.epochs)} epochs, and none is compared with annotations."
        best, last = max(known, key=lambda row: row[self.figure]), known[-1]
        text = (
            f"{len(self.epochs)} epochs: {name} is highest at epoch {best['epoch']}, {best[self.figure]:.3f}"
        )
        if best is not last:
            text += f"; the last, epoch {last['epoch']}, has {last[self.figure]:.3f}"
        if self.not_compared:
            return f"{text}. {self.not_compared}"
        change = f"{self.counts['gained']} gained, {self.counts['lost']} lost"
        return f"{text}. Instances from epoch {self.a} to {self.b}: {change}."

    def plot(self) -> Figure:
        """The curve; the two epochs; the instances of the chosen image."""
        import plotly.graph_objects as go

        from workbench.figures import QUIET_COLOUR, RUN_COLOURS, new_figure

        name = "AP" if self.figure == "AP" else "mean OKS"
        figure = new_figure(self.summary(), x="epoch", y=f"{name} (0 to 1)")
        numbers = np.array([row["epoch"] for row in self.epochs], np.float32)
        for number, own in enumerate((self.instances or {}).items()):
            annotation_id, rows = own
            figure.add_trace(
                go.Scatter(
                    x=np.array([row["epoch"] for row in rows], np.float32),
                    y=np.array([row["oks"] for row in rows], np.float32),
                    mode="lines", line={"width": 1, "color": QUIET_COLOUR}, showlegend=number == 0,
                    name=f"OKS of the instances of image {self.image_id}",
                    hovertemplate=f"{annotation_id}, epoch %{{x:.0f}}: OKS %{{y:.3f}}<extra></extra>",
                )
            )  # fmt: skip
        values = np.array(
            [np.nan if row.get(self.figure) is None else row[self.figure] for row in self.epochs], np.float32
        )
        figure.add_trace(
            go.Scatter(
                x=numbers, y=values, mode="lines+markers", name=name, line={"color": RUN_COLOURS[0]},
                hovertemplate=f"epoch %{{x:.0f}}: {name} %{{y:.3f}}<extra></extra>",
            )
        )  # fmt: skip
        for letter, epoch in (("A", self.a), ("B", self.b)):
            line = {"dash": "dot", "width": 1.5, "color": QUIET_COLOUR}
            figure.add_vline(x=epoch, line=line, annotation_text=letter)
        return figure

    def table(self) -> list[dict[str, Any]]:
        """One row for each epoch."""
        return [plain(row) for row in self.epochs]


def history_report(
    history: History,
    a: int | None = None,
    b: int | None = None,
    image_id: int | None = None,
    count: int = 50,
    title: str = "",
) -> HistoryReport:
    """The report of a folder.

    Args:
        history: of `workbench.evaluation.query_epochs`.
        a: an epoch; the first by default.
        b: another; the last by default.
        image_id: an image to be followed.
        count: rows of a list at most.
        title: of the folder; its name by default.

    Raises:
        KeyError: there is no such epoch.
        ValueError: a file cannot be read.
    """
    known = list(history.files)
    a, b = known[0] if a is None else a, known[-1] if b is None else b
    epochs, differences = history.epochs(), history.differences
    if differences:
        epochs = [{**row, "rules": history.rules[row["epoch"]]} for row in epochs]
    not_compared = ""
    try:
        history.check_comparable([a, b])
    except ValueError as reason:
        not_compared = str(reason).partition(": ")[2].partition(";")[0] + "."
    gained = lost = regressions = []
    if not not_compared:
        gained, lost = history.gained(a, b), history.lost(a, b)
        same = history.keypoint_counts[a] == history.keypoint_counts[b]
        regressions = history.regressions(a, b, count) if same else []
    instances = None
    if image_id is not None:
        own = [row for row in history.worst(b, 1_000_000) if row["image_id"] == image_id]
        instances = {row["annotation_id"]: history.of(row["annotation_id"]) for row in own}
    return HistoryReport(
        title or history.folder.name, epochs, a, b, history.worst(b, count), gained[:count], lost[:count],
        regressions, {"gained": len(gained), "lost": len(lost)}, image_id, instances, not_compared,
    )  # fmt: skip
