"""How does a student learn from a teacher, and does it learn maps or only their mean?

Source: the idea of Zhang et al., Fast Human Pose Estimation, CVPR 2019: the teacher's heatmaps as targets.
Weighting the foreground is what answers a student that fits the background and nothing else.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.core import Batch, DecodeOptions, Outputs, PoseModel, Prediction, Sample, Skeleton
from workbench.core.hooks import recording
from workbench.core.report import Report, counted, rows, signed_text
from workbench.decoding.map_statistics import likeness
from workbench.figures import RUN_COLOURS, SEQUENTIAL
from workbench.figures.layout import new_figure
from workbench.training.objectives import Target, mse
from workbench.training.sequences import trainable
from workbench.training.settings import Settings
from workbench.training.trainer import Trainer

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure
    from torch import Tensor, nn


@dataclass(eq=False)
class Distilled:
    """A student as the Trainer wants it: the teacher's maps are its truth.

    Attributes:
        student: trained; top-down or bottom-up.
        teacher: asked once for every batch, never trained. Sees the student's own input.
        foreground: a cell counts 1 + foreground x the teacher's value; 0 is the plain error.
    """

    student: Any
    teacher: PoseModel
    foreground: float = 0.0

    def __post_init__(self) -> None:
        if self.student.skeleton.keypoints != self.teacher.skeleton.keypoints:
            raise ValueError(
                f"distillation: the student predicts {self.student.skeleton.name}, the teacher "
                f"{self.teacher.skeleton.name}; expected the same keypoints"
            )
        self.student = trainable(self.student)

    @property
    def module(self) -> nn.Module:
        """The student's network."""
        return self.student.module

    @property
    def skeleton(self) -> Skeleton:
        """The student's own."""
        return self.student.skeleton

    @property
    def taps(self) -> Mapping[str, str]:
        """The student's own."""
        return self.student.taps

    @property
    def codec(self) -> None:
        """The teacher writes the targets."""
        return None

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """The student's batch, with what the teacher says of it under ``extra["teacher"]``.

        Raises:
            ValueError: the teacher would be given another input, or has no heatmaps.
        """
        import torch

        batch = self.student.prepare(samples)
        theirs = self.teacher.prepare(batch.extra.get("rows", samples)).pixels
        if theirs.shape != batch.pixels.shape or not torch.allclose(theirs, batch.pixels.to(theirs.device)):
            raise ValueError(
                f"distillation: the student's input is {list(batch.pixels.shape)}, the teacher's "
                f"{list(theirs.shape)}; expected the same size, crop, mean and deviation, because both see "
                "one input"
            )
        module = self.teacher.module
        was_training = module.training
        module.eval()
        try:
            with torch.no_grad():
                maps = self.teacher.forward(batch).heatmaps
        finally:
            module.train(was_training)
        if maps is None:
            raise ValueError("distillation: expected a teacher with heatmaps; this one gives none")
        return dataclasses.replace(batch, extra={**batch.extra, "teacher": maps.detach().float()})

    def forward(self, batch: Batch) -> Outputs:
        """The student's pass."""
        return self.student.forward(batch)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """The student's own reading."""
        return self.student.decode(outputs, batch, options)

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error to the teacher's maps, a scalar; weighted by them where asked for.

        Raises:
            ValueError: the maps are of different sizes.
        """
        teacher = batch.extra["teacher"]
        if outputs.heatmaps is None or outputs.heatmaps.shape != teacher.shape:
            given = None if outputs.heatmaps is None else tuple(outputs.heatmaps.shape)
            raise ValueError(f"distillation: the student gives {given}, the teacher {tuple(teacher.shape)}")
        full = dataclasses.replace(outputs, heatmaps=outputs.heatmaps.float())
        # A teacher's maps go below zero; no cell may count less than background.
        ones = teacher.new_ones(teacher.shape[:2])
        squared = mse(full, Target(ones, heatmaps=teacher))["heatmap"]
        if self.foreground:
            weight = self.foreground * teacher.clamp(min=0)
            squared = squared + (weight * (full.heatmaps - teacher) ** 2).mean()
        return {"teacher": squared}


# What became of a student? Epoch by epoch: its maps, its weights, its stem, and where its energy lies.


Outcome = Literal["collapsed", "background only", "healthy"]
# A student whose mean in the foreground is below this share of the teacher's has fitted the background.
FAINT = 0.1

# Places of the panels in the figure.
LEFT, RIGHT, TOP, MIDDLE, BOTTOM = [0, 0.44], [0.56, 1], [0.7, 1], [0.34, 0.6], [0, 0.22]
EPOCH_AXIS = {"title": {"text": "epoch"}}


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
        features: of the first image, the first channels of the stem's output: before the first step and at
            the end.
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
    features: Float[np.ndarray, "2 C h w"]

    @property
    def outcome(self) -> Outcome:
        """What the last epoch is. Collapsed: its maps are far more alike than the teacher's."""
        # Halfway from the teacher's own likeness to one map for all; one map alone has no likeness.
        alone = not math.isfinite(self.teacher_correlation)
        if not alone and not self.correlation[-1] <= (1 + self.teacher_correlation) / 2:
            return "collapsed"
        return "background only" if self.reach[-1] < FAINT else "healthy"

    def summary(self) -> str:
        alike = (
            f"mean correlation of two maps {signed_text(self.correlation[-1], '.2f')} (teacher "
            f"{signed_text(self.teacher_correlation, '.2f')}), effective rank {self.rank[-1]:.1f} (teacher "
            f"{self.teacher_rank:.1f})"
        )
        if not math.isfinite(self.teacher_correlation):
            alike = "the teacher has no two maps that vary, so their likeness is not known"
        reach = f"the foreground reaches {signed_text(self.reach[-1], '.0%')} of the teacher's mean"
        if self.outcome == "collapsed":
            return f"The student has collapsed, its maps are nearly equal: {alike}; {reach}"
        if self.outcome == "background only":
            return f"The student has fitted the background, or nothing yet: {reach}; {alike}"
        verb = "reaches" if not math.isfinite(self.teacher_correlation) else "distinguishes"
        return f"The student {verb} its keypoints: {alike}; {reach}"

    def plot(self) -> Figure:
        """Correlation, energy and the two histograms over the epochs; the stem's features at both ends."""
        figure = new_figure(self.summary(), height=860)
        self._draw_curves(figure)
        self._draw_histograms(figure)
        self._draw_features(figure)
        return figure

    def _draw_curves(self, figure: Figure) -> None:
        """Upper row: correlation of the maps; energy in foreground and background."""
        lines = [
            ("correlation of the mean pair", self.correlation, "x", "y"),
            ("reach: foreground over the teacher's", self.reach, "x2", "y2"),
            ("leak: energy in the background", self.leak, "x2", "y2"),
        ]
        for (name, values, along, up), colour in zip(lines, RUN_COLOURS, strict=False):
            figure.add_scatter(
                x=np.array(self.epochs, np.float32), y=np.float32(values), name=name,
                mode="lines+markers", line_color=colour, xaxis=along, yaxis=up,
            )  # fmt: skip
        figure.add_hline(self.teacher_correlation, line_dash="dot", line_color="#747c88", yref="y")
        figure.update_layout(
            xaxis={"domain": LEFT, "anchor": "y", **EPOCH_AXIS},
            yaxis={"domain": TOP, "anchor": "x", "range": [-0.2, 1.05], "title": {"text": "correlation"}},
            xaxis2={"domain": RIGHT, "anchor": "y2", **EPOCH_AXIS},
            yaxis2={"domain": TOP, "anchor": "x2", "range": [-0.05, 1.25], "title": {"text": "share"}},
        )

    def _draw_histograms(self, figure: Figure) -> None:
        """Middle row: values of the maps, and weights of the stem, one column per epoch."""
        histograms = [
            (self.map_edges, self.map_counts, "x3", "y3"), (self.weight_edges, self.weight_counts, "x4", "y4")
        ]  # fmt: skip
        for edges, counts, along, up in histograms:
            middles = (edges[1:] + edges[:-1]) / 2
            shown = np.log10(np.maximum(counts.T, 1e-5)).astype(np.float32)
            figure.add_heatmap(
                x=np.array(self.epochs, np.float32), y=np.float32(middles), z=shown,
                colorscale=SEQUENTIAL, xaxis=along, yaxis=up, showscale=along == "x3",
                colorbar={"title": {"text": "log10 of the share"}},
            )  # fmt: skip
        figure.update_layout(
            xaxis3={"domain": LEFT, "anchor": "y3", **EPOCH_AXIS},
            yaxis3={"domain": MIDDLE, "anchor": "x3", "title": {"text": "heatmap value"}},
            xaxis4={"domain": RIGHT, "anchor": "y4", **EPOCH_AXIS},
            yaxis4={"domain": MIDDLE, "anchor": "x4", "title": {"text": "weight of the stem"}},
        )

    def _draw_features(self, figure: Figure) -> None:
        """Lower row: the stem's channels, before the first step and at the end."""
        figure.add_heatmap(
            z=_mosaic(self.features), colorscale=SEQUENTIAL, xaxis="x5", yaxis="y5", showscale=False,
            hoverinfo="skip",
        )  # fmt: skip
        h = self.features.shape[2]
        title = f"the stem's first {counted(self.features.shape[1], 'channel')} on the first image"
        figure.update_layout(
            xaxis5={"anchor": "y5", "showticklabels": False, "showgrid": False, "title": {"text": title}},
            yaxis5={
                "domain": BOTTOM,
                "anchor": "x5",
                "autorange": "reversed",
                "showgrid": False,
                "tickvals": np.array([h / 2, 1.5 * h], np.float32),
                "ticktext": ["at first", "at the end"],
            },
        )

    def table(self) -> list[dict[str, Any]]:
        return rows(
            epoch=self.epochs, loss=self.loss, correlation=self.correlation, rank=self.rank,
            reach=self.reach, leak=self.leak, stem=self.stem,
        )  # fmt: skip


def _mosaic(features: Float[np.ndarray, "2 C h w"]) -> Float[np.ndarray, "rows columns"]:
    """All planes in one picture, each from its own lowest value to its highest."""
    low, high = features.min((2, 3), keepdims=True), features.max((2, 3), keepdims=True)
    even = ((features - low) / np.where(high > low, high - low, 1)).astype(np.float32)
    return np.concatenate([np.concatenate(list(row), 1) for row in even], 0)


# A student is trained on its teacher's maps and looked at between: what became of it?


BINS = 41
# Foreground: cells above this share of the teacher's highest value.
LEVEL = 0.1
# Stem channels that are shown, and the most cells along a side of one: a screen cannot show more.
FEATURES, FEATURE_SIDE = 12, 64


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
        epochs: how often to look; 0 looks at the student as it is and trains nothing.
        foreground: weight of the cells in the teacher's peaks, 0 for the plain error.
        device: where to train.
        on_epoch: called with each row of the table.

    Raises:
        ValueError: the two do not fit together, or there are fewer steps than epochs.
    """
    steps = settings.steps if epochs else 0
    if not 0 <= epochs <= settings.steps:
        raise ValueError(
            f"distillation: expected 1 to {counted(settings.steps, 'epoch')}, as many as steps, got {epochs}"
        )
    trainer = Trainer(Distilled(student, teacher, foreground), samples, settings, device=device)
    course = _Course(trainer)
    marks = {round(steps * (i + 1) / epochs) for i in range(epochs)}
    losses: list[float] = []
    for step in range(steps + 1):
        if step:
            losses.append(trainer.advance()["loss"])
        if step and step not in marks:
            continue
        row = course.measure(float(np.mean(losses)) if losses else float("nan"))
        losses = []
        if on_epoch:
            on_epoch({key: value for key, value in row.items() if key not in ("maps", "weights")})
    return course.report()


class _Course:
    """What is measured of a student while it is trained; the first measurement is before the first step."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._wanted = trainer.batch.extra["teacher"].cpu().numpy()
        most = float(self._wanted.max())
        self._front = self._wanted > LEVEL * most
        self._stem, self._first_layer = _stem(trainer.model.module)
        self._map_edges = np.linspace(-0.5, 1.25, BINS + 1) * most
        self._rows: list[dict[str, Any]] = []
        self._features: list[np.ndarray] = []

    def measure(self, loss: float) -> dict[str, Any]:
        """The student as it is now, as a row.

        Args:
            loss: mean since the row before.
        """
        maps, stem = _student_outputs(self._trainer, self._stem)
        alike, front = likeness(maps), self._front
        energy = float((maps**2).sum())
        row = {
            "epoch": len(self._rows),
            "loss": loss,
            "correlation": alike.correlation,
            "rank": alike.rank,
            "reach": float(maps[front].mean() / self._wanted[front].mean()),
            "leak": float((maps[~front] ** 2).sum() / energy) if energy else float("nan"),
            "stem": float(np.sqrt(np.mean(stem**2))),
            "maps": _shares(maps, self._map_edges),
            "weights": self._first_layer.weight.detach().cpu().numpy().copy(),
        }
        self._rows.append(row)
        self._features = [*self._features[:1], _shown(stem)]  # the first and the last
        return row

    def report(self) -> Distillation:
        """All rows."""
        found, teacher = self._rows, likeness(self._wanted)
        # One range for all epochs: weights grow.
        spread = max(float(np.abs(row["weights"]).max()) for row in found) or 1.0
        weight_edges = np.linspace(-spread, spread, BINS + 1)
        shares = np.array([_shares(row["weights"], weight_edges) for row in found], float)
        column = {key: np.array([row[key] for row in found], float) for key in found[0] if key != "weights"}
        features = np.stack([self._features[0], self._features[-1]])
        return Distillation(
            tuple(range(len(found))), column["loss"], column["correlation"], column["rank"],
            teacher.correlation, teacher.rank, column["reach"], column["leak"], column["stem"],
            self._map_edges, column["maps"], weight_edges, shares, features,
        )  # fmt: skip


def _student_outputs(trainer: Trainer, stem: str) -> tuple[np.ndarray, np.ndarray]:
    """The student's maps in evaluation mode, and its first layer's output."""
    with recording(trainer.model.module, {"stem": stem}, ["stem"]) as seen:
        outputs = trainer.evaluated()
    assert outputs.heatmaps is not None  # the objective read them
    return outputs.heatmaps.numpy(), seen["stem"].float().numpy()


def _shown(stem: Float[np.ndarray, "N C ..."]) -> Float[np.ndarray, "C h w"]:
    """The first channels of the first image, thinned out; a stem without a plane is one row of numbers."""
    planes = stem[0][:FEATURES] if stem.ndim == 4 else stem[0].reshape(1, 1, -1)
    step = -(-max(planes.shape[1:]) // FEATURE_SIDE)
    return planes[:, ::step, ::step]


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
