"""What became of a student? Epoch by epoch: its maps, its weights, its stem, and where its energy lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.decoding.likeness import likeness
from workbench.figures import RUN_COLOURS, SEQUENTIAL
from workbench.figures.layout import new_figure
from workbench.records import PoseModel, Sample
from workbench.report import Report
from workbench.training.distilling import Distilled
from workbench.training.settings import Settings
from workbench.training.trainer import Trainer

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

Outcome = Literal["collapsed", "background only", "healthy"]
BINS = 41
# Foreground: cells above this share of the teacher's highest value.
LEVEL = 0.1
# A student whose peaks reach less than this share of the teacher's has fitted the background.
FAINT = 0.1


@dataclass(frozen=True, eq=False)
class Distillation(Report):
    """A student's way, one row per epoch; epoch 0 is before the first step.

    Attributes:
        epochs: numbers of the rows.
        loss: to the teacher; nan for epoch 0.
        correlation: of a pair of the student's maps, mean over all pairs.
        rank: effective number of different maps.
        teacher_correlation: the same of the teacher's maps, which a good student comes to.
        teacher_rank: likewise.
        reach: the student's mean value in the foreground over the teacher's there.
        leak: share of the student's squared maps that lies in the background.
        stem: root mean square of the first layer's output.
        map_edges: of the bins of `map_counts`, heatmap values.
        map_counts: share of all cells of the student's maps in each bin.
        weight_edges: of the bins of `weight_counts`.
        weight_counts: share of the stem's weights in each bin.
    """

    epochs: tuple[int, ...]
    loss: Float[np.ndarray, " E"]
    correlation: Float[np.ndarray, " E"]
    rank: Float[np.ndarray, " E"]
    teacher_correlation: float
    teacher_rank: float
    reach: Float[np.ndarray, " E"]
    leak: Float[np.ndarray, " E"]
    stem: Float[np.ndarray, " E"]
    map_edges: Float[np.ndarray, " bins"]
    map_counts: Float[np.ndarray, "E bins"]
    weight_edges: Float[np.ndarray, " bins"]
    weight_counts: Float[np.ndarray, "E bins"]

    @property
    def outcome(self) -> Outcome:
        """What the last epoch is. Collapsed: its maps are far more alike than the teacher's."""
        # Halfway from the teacher's own likeness to one map for all.
        if not self.correlation[-1] <= (1 + self.teacher_correlation) / 2:
            return "collapsed"
        return "background only" if self.reach[-1] < FAINT else "healthy"

    def summary(self) -> str:
        alike = (
            f"mean pair of maps correlates by {self.correlation[-1]:.2f} (teacher "
            f"{self.teacher_correlation:.2f}), worth {self.rank[-1]:.1f} different maps (teacher "
            f"{self.teacher_rank:.1f})"
        )
        reach = f"peaks reach {self.reach[-1]:.0%} of the teacher's"
        if self.outcome == "collapsed":
            return f"The student has collapsed, all its maps look alike: {alike}; {reach}"
        if self.outcome == "background only":
            return f"The student has fitted the background: {reach}; {alike}"
        return f"The student tells keypoints apart: {alike}; {reach}"

    def plot(self) -> Figure:
        """Likeness, energy and the two histograms over the epochs."""
        import plotly.graph_objects as go

        figure = new_figure(self.summary(), height=640)
        x = np.array(self.epochs, np.float32)
        lines = [
            ("correlation of the mean pair", self.correlation, "x", "y"),
            ("reach: foreground over the teacher's", self.reach, "x2", "y2"),
            ("leak: energy in the background", self.leak, "x2", "y2"),
        ]
        for (name, values, along, up), colour in zip(lines, RUN_COLOURS, strict=False):
            figure.add_trace(
                go.Scatter(
                    x=x, y=np.float32(values), name=name, mode="lines+markers", line_color=colour,
                    xaxis=along, yaxis=up,
                )
            )  # fmt: skip
        figure.add_hline(self.teacher_correlation, line_dash="dot", line_color="#747c88", yref="y")
        histograms = [
            (self.map_edges, self.map_counts, "x3", "y3"), (self.weight_edges, self.weight_counts, "x4", "y4")
        ]  # fmt: skip
        for edges, counts, along, up in histograms:
            middles = (edges[1:] + edges[:-1]) / 2
            shown = np.log10(np.maximum(counts.T, 1e-5)).astype(np.float32)
            figure.add_trace(
                go.Heatmap(
                    x=x, y=np.float32(middles), z=shown, colorscale=SEQUENTIAL, xaxis=along, yaxis=up,
                    showscale=along == "x3", colorbar={"title": {"text": "log10 of the share"}},
                )
            )  # fmt: skip
        left, right, top, bottom = [0, 0.44], [0.56, 1], [0.58, 1], [0, 0.42]
        epoch = {"title": {"text": "epoch"}}
        figure.update_layout(
            xaxis={"domain": left, "anchor": "y", **epoch},
            yaxis={"domain": top, "anchor": "x", "range": [-0.2, 1.05], "title": {"text": "correlation"}},
            xaxis2={"domain": right, "anchor": "y2", **epoch},
            yaxis2={"domain": top, "anchor": "x2", "range": [-0.05, 1.25], "title": {"text": "share"}},
            xaxis3={"domain": left, "anchor": "y3", **epoch},
            yaxis3={"domain": bottom, "anchor": "x3", "title": {"text": "heatmap value"}},
            xaxis4={"domain": right, "anchor": "y4", **epoch},
            yaxis4={"domain": bottom, "anchor": "x4", "title": {"text": "weight of the stem"}},
        )
        return figure

    def table(self) -> list[dict[str, Any]]:
        from workbench.report import rows

        return rows(
            epoch=self.epochs, loss=self.loss, correlation=self.correlation, rank=self.rank,
            reach=self.reach, leak=self.leak, stem=self.stem,
        )  # fmt: skip


def distil(
    student: PoseModel,
    teacher: PoseModel,
    samples: Sequence[Sample],
    settings: Settings,
    *,
    epochs: int = 5,
    foreground: float = 0.0,
    device: str = "cpu",
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Distillation:
    """Train a student on a teacher's maps and look at it after every epoch.

    Args:
        student: trained in place.
        teacher: stays as it is; its heatmaps must have the student's size.
        samples: with truth, as the Trainer wants them; all of them form every batch.
        settings: of the training; its steps are cut into epochs.
        epochs: how often to look.
        foreground: weight of the cells in the teacher's peaks, 0 for the plain error.
        device: where to train.
        on_epoch: told each row of the table.

    Raises:
        ValueError: the two do not fit together, or there are fewer steps than epochs.
    """
    if not 1 <= epochs <= settings.steps:
        raise ValueError(
            f"distillation: expected 1 to {settings.steps} epochs, as many as steps, got {epochs}"
        )
    trainer = Trainer(Distilled(student, teacher, foreground), samples, settings, device=device)
    wanted = trainer.batch.extra["teacher"].cpu().numpy()
    of_teacher = likeness(wanted)
    most = float(wanted.max())
    front = wanted > LEVEL * most
    name, first = _stem(trainer.model.module)
    map_edges = np.linspace(-0.5, 1.25, BINS + 1) * most
    spread = 4 * float(first.weight.detach().abs().mean()) or 1.0
    weight_edges = np.linspace(-spread, spread, BINS + 1)
    found: list[dict[str, Any]] = []
    losses: list[float] = []
    marks = {round(settings.steps * (i + 1) / epochs) for i in range(epochs)}
    for step in range(settings.steps + 1):
        if step:
            losses.append(trainer.advance()["loss"])
        if step and step not in marks:
            continue
        maps, stem = _seen(trainer, name)
        alike = likeness(maps)
        energy = float((maps**2).sum())
        weights = first.weight.detach().cpu().numpy()
        row = {
            "epoch": len(found),
            "loss": float(np.mean(losses)) if losses else float("nan"),
            "correlation": alike.correlation,
            "rank": alike.rank,
            "reach": float(maps[front].mean() / wanted[front].mean()),
            "leak": float((maps[~front] ** 2).sum() / energy) if energy else float("nan"),
            "stem": stem,
            "maps": _shares(maps, map_edges),
            "weights": _shares(weights, weight_edges),
        }
        found.append(row)
        losses = []
        if on_epoch:
            on_epoch({key: value for key, value in row.items() if key not in ("maps", "weights")})
    column = {key: np.array([row[key] for row in found], float) for key in found[0]}
    return Distillation(
        tuple(range(len(found))), column["loss"], column["correlation"], column["rank"],
        of_teacher.correlation, of_teacher.rank, column["reach"], column["leak"], column["stem"],
        map_edges, column["maps"], weight_edges, column["weights"],
    )  # fmt: skip


def _seen(trainer: Trainer, stem: str) -> tuple[np.ndarray, float]:
    """The student's maps in evaluation mode, and how loud its first layer is."""
    from workbench.hooks import recording

    with recording(trainer.model.module, {"stem": stem}, ["stem"]) as seen:
        outputs = trainer.evaluated()
    assert outputs.heatmaps is not None  # the objective read them
    return outputs.heatmaps.numpy(), float(seen["stem"].float().pow(2).mean().sqrt())


def _stem(module: Any) -> tuple[str, Any]:
    """The first layer with a weight matrix: path and layer."""
    for path, part in module.named_modules():
        weight = getattr(part, "weight", None)
        if weight is not None and weight.ndim > 1:
            return path, part
    raise ValueError("distillation: the student has no layer with weights")


def _shares(values: np.ndarray, edges: np.ndarray) -> Float[np.ndarray, " bins"]:
    """Share of the values in each bin; what lies beyond is counted in the outermost ones."""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return counts / values.size
