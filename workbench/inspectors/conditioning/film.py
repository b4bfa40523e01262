"""What do γ and β do to the features: destroy, leave unchanged, ignore the condition, or use it?

Measured along the training pass, where the condition is applied in any case. A scale near 0 deletes a
channel, a scale of 1 with a shift of 0 leaves it unchanged; behind a gate only the gate's share of both
arrives, and the verdict is about that. Scales that are the same for every image carry nothing about the
image: the next layer could have learned them without any condition.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core import NotAvailable
from workbench.core.capabilities import Conditioned
from workbench.core.errors import available
from workbench.core.inspector import Inspector, Needs, Range
from workbench.core.report import PICTURE, Report, counted, plain, rows
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS, new_figure
from workbench.figures.colours import rgba
from workbench.inspectors.conditioning.applied import Applied, applied
from workbench.inspectors.conditioning.passes import (
    FEATURES,
    OUTPUTS,
    OnePass,
    centred_cells,
    conditioning_of,
    effective_rank,
    one_pass,
    random_condition,
    relative_difference,
    without_condition,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.core import PoseModel, Run
    from workbench.core.conditioning import Conditioning

# Enough draws that a share of 10 % is read within a few tenths of a percent.
DRAWS = 1 << 16
# Of a uniformly random matrix more than half of the singular directions count; of one that was learned from
# zero on a few conditions, a handful.
RANDOM_RANK = 0.4
# How near to the standard deviation that torch starts with counts as "not moved".
RANDOM_STD = 0.25
DESTROYED, IDENTITY, IGNORED, USED = "destroyed", "identity", "ignored", "used"
# A change of the features below this share of their length is none.
NOTHING = 1e-3
# A channel scaled below this is as good as deleted.
DELETED = 0.1
# Scales whose standard deviation over images is below this are the same (float32).
SAME = 1e-7
# Share of scales at exactly 0 above which they are clipped; a learned scale is never exactly 0.
AT_ZERO = 0.01


@dataclass(frozen=True)
class ConditionLayers:
    """What is known of the layers between condition and γ without looking at an image.

    Attributes:
        clips: their output cannot be negative.
        alone: no code of the user's changes their output.
        dropped: share of their output that training sets to zero at random, 0 to 1.
        scales_at_zero: share of the scales (γ) that are exactly 0 for the known conditions.
        shifts_at_zero: the same of the shifts (β).
        weight_std: of the last linear layer's weights.
        default_std: with which torch starts such a layer.
        rank: effective rank of these weights, as a share of the largest possible.
        scale: mean scale for the known conditions, baseline included.
    """

    clips: bool
    alone: bool
    dropped: float
    scales_at_zero: float
    shifts_at_zero: float
    weight_std: float
    default_std: float
    rank: float
    scale: float

    @property
    def at_random(self) -> bool:
        """Whether the weights have the size and the rank with which torch starts them."""
        near = abs(self.weight_std / self.default_std - 1) < RANDOM_STD
        return near and self.rank > RANDOM_RANK

    @property
    def starts_by_deleting(self) -> bool:
        """Whether random weights put the scales near 0 instead of 1, where few features are left."""
        return self.at_random and abs(self.scale) < 0.5


@dataclass(frozen=True, eq=False)
class Layer:
    """One place where a condition modulates the features.

    Attributes:
        name: its tap.
        gamma: scales, the baseline included, before the gate; empty for attention.
        beta: shifts before the gate.
        gate: share of the modulated features in what leaves; 1 without a gate; nan where it is not known.
        change: length of (leaving - entering) as a share of entering.
        text_effect: the same of (leaving with a random condition - leaving).
        rank_before: directions that the entering features use; see passes.effective_rank.
        rank_after: of the leaving ones.
        departs: how the code applies γ and β in another way than declared, as measured; "" where it does not.
        saturated: how an activation behind γ takes its variation away; "" where none does.
    """

    name: str
    gamma: Float[np.ndarray, "N C"] = field(metadata=PICTURE)
    beta: Float[np.ndarray, "N C"] = field(metadata=PICTURE)
    gate: float
    change: float
    text_effect: float
    rank_before: float
    rank_after: float
    departs: str = ""
    saturated: str = ""

    @property
    def arriving(self) -> tuple[Float[np.ndarray, "N C"], Float[np.ndarray, "N C"]]:
        """Scale and shift with the gate included."""
        return self.gate * self.gamma + 1 - self.gate, self.gate * self.beta

    @property
    def across_images(self) -> float:
        """Standard deviation of the scales over images, mean over channels; nan for a single image."""
        if not self.gamma.size or len(self.gamma) < 2:
            return float("nan")
        return float(self.gamma.astype(float).std(0).mean())

    @property
    def across_channels(self) -> float:
        """Standard deviation of the mean scale over channels."""
        return float(self.gamma.astype(float).mean(0).std()) if self.gamma.size else float("nan")

    @property
    def deleted(self) -> float:
        """Share of channels whose arriving scale is near 0."""
        if not self.gamma.size or np.isnan(self.gate):
            return float("nan")
        return float((np.abs(self.arriving[0]) < DELETED).mean())

    @property
    def clipped(self) -> bool:
        """Whether scales or shifts are never negative and some of them exactly 0, as a ReLU leaves them."""
        # Shifts that are all 0 are none: a layer may start so, or give scales alone.
        return any(
            bool(values.size and values.min() >= 0 < values.max() and (values == 0).mean() > AT_ZERO)
            for values in (self.gamma, self.beta)
        )

    @property
    def verdict(self) -> str:
        """``destroyed``, ``identity``, ``ignored`` or ``used``."""
        if self.rank_after < 0.5 * self.rank_before or self.deleted > 0.5:
            return DESTROYED
        if self.change < NOTHING:
            return IDENTITY
        return IGNORED if self.text_effect < NOTHING else USED

    def row(self) -> dict[str, Any]:
        """The facts under the names of the command line."""
        none = not self.gamma.size
        return plain(
            {
                "name": self.name,
                "gamma_mean": None if none else self.gamma.mean(),
                "gamma_std": None if none else self.gamma.std(),
                "beta_mean": None if none else self.beta.mean(),
                "beta_std": None if none else self.beta.std(),
                "across_images": self.across_images,
                "across_channels": self.across_channels,
                "gate": self.gate,
                "deleted": self.deleted,
                "change": self.change,
                "text_effect": self.text_effect,
                "rank_before": self.rank_before,
                "rank_after": self.rank_after,
                "verdict": self.verdict,
                "departs": self.departs,
            }
        )


@dataclass(frozen=True)
class Params:
    """Controls.

    Attributes:
        seed: random seed of the random vectors that replace the condition.
        bins: number of bins of the histograms.
    """

    seed: Annotated[int, Range(0, 99, 1)] = 0
    bins: Annotated[int, Range(10, 200, 10)] = 60


@dataclass(frozen=True, eq=False)
class Film(Report):
    """What the condition does to the features of some samples.

    Attributes:
        title: of the model.
        layers: where the condition modulates the features.
        text: of the layers between condition and γ; None where they are not known.
        subjects: names of the known conditions.
        images: how many samples.
        at_inference: the predict pass applies γ and β.
        bins: number of bins of the histograms.
    """

    title: str
    layers: tuple[Layer, ...]
    text: ConditionLayers | None
    subjects: tuple[str, ...]
    images: int
    at_inference: bool
    bins: int

    @property
    def clips(self) -> bool:
        """Whether γ and β are clipped at 0: by the layers that output them, or by values where code may."""
        # Where nothing follows these layers, values of exactly 0 are those of the last linear one.
        if self.text is not None and (self.text.clips or self.text.alone):
            return self.text.clips
        return self.layers[0].clipped

    def summary(self) -> str:
        layer = self.layers[0]
        parts = [f"At {layer.name} {MEANING[layer.verdict]}"]
        if np.isfinite(layer.change):
            parts[0] += f" (they change {amount(layer.change)})"
        if layer.gamma.size:
            across = layer.across_images
            parts.append(f"γ {layer.gamma.mean():.3f} ± {layer.gamma.std():.3f}, β {layer.beta.mean():.3f}")
            if np.isfinite(across):
                parts.append(
                    "γ is the same for every image"
                    if across < SAME
                    else f"γ varies by {across:.2g} over images and {layer.across_channels:.2g} over channels"
                )
        if layer.departs:
            parts.append(f"measured at the features, not as declared: {layer.departs}")
        if self.clips:
            parts.append("γ and β cannot be negative: the layer clips them at 0")
        if self.text is not None and self.text.dropped:
            parts.append(f"training sets {100 * self.text.dropped:.0f} % of γ and β to 0 at random (dropout)")
        if not self.at_inference:
            parts.append("the predict pass does not use them")
        return "; ".join(parts)

    def plot(self) -> Figure:
        layer = self.layers[0]
        figure = new_figure(self.summary(), height=380, barmode="overlay")
        if not layer.gamma.size:
            figure.add_bar(
                x=np.array([layer.rank_before, layer.rank_after], np.float32),
                y=["entering", "leaving"], orientation="h",
                marker={"color": [QUIET_COLOUR, RUN_COLOURS[0]]}, name="directions", showlegend=False,
            )  # fmt: skip
            return figure.update_xaxes(title_text="directions that the features use (effective rank)")
        for i, (values, rest, name) in enumerate(
            ((layer.gamma, 1.0, "γ, scale"), (layer.beta, 0.0, "β, shift"))
        ):
            suffix = "" if i == 0 else "2"
            counts, edges = np.histogram(values, bins=self.bins, range=_span(values, rest))
            axes = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
            figure.add_bar(
                x=((edges[:-1] + edges[1:]) / 2).astype(np.float32),
                y=(100 * counts / values.size).astype(np.float32),
                width=float(edges[1] - edges[0]), marker={"color": RUN_COLOURS[i], "line": {"width": 0}},
                name=name, showlegend=False,
                hovertemplate=name + " %{x:.3f}: %{y:.1f} % of channels<extra></extra>", **axes,
            )  # fmt: skip
            figure.add_shape(
                type="line", x0=rest, x1=rest, y0=0, y1=1, xref=f"x{suffix}", yref=f"y{suffix} domain",
                line={"color": FINDING_COLOUR, "width": 1.5, "dash": "dot"},
            )  # fmt: skip
            figure.add_annotation(
                x=rest, y=1, xref=f"x{suffix}", yref=f"y{suffix} domain", text=f"identity: {rest:g}",
                showarrow=False, xanchor="left", yanchor="bottom", font={"size": 11},
            )  # fmt: skip
            left = i * 0.54
            figure.update_layout(
                {
                    # Ticks without colour keep the first label away from the y axis' 0.
                    f"xaxis{suffix}": {"domain": [left, left + 0.46], "anchor": f"y{suffix}",
                                       "ticks": "outside", "ticklen": 6, "tickcolor": "rgba(0,0,0,0)",
                                       "title": {"text": f"{name} (before the gate)"}},
                    f"yaxis{suffix}": {"anchor": f"x{suffix}", "title": {"text": "channels, %"}},
                }
            )  # fmt: skip
        return figure

    def table(self) -> list[dict[str, Any]]:
        return [layer.row() for layer in self.layers]

    def to_json(self) -> dict[str, Any]:
        """The facts under the names of the command line."""
        return plain(
            {
                "summary": self.summary(),
                "title": self.title,
                "layers": self.table(),
                "text_layers": self.text,
                "subjects": self.subjects,
                "images": self.images,
                "at_inference": self.at_inference,
            }
        )


MEANING = {
    DESTROYED: "the features are destroyed",
    IDENTITY: "the features stay unchanged",
    IGNORED: "the condition is ignored: a random one gives the same features",
    USED: "the condition is used",
}


def amount(change: float) -> str:
    """A share of change in words: ``by 12 %``, ``20-fold``."""
    return f"{change:.0f}-fold" if change >= 10 else f"by {100 * change:.3g} %"


def _span(values: Float[np.ndarray, "*s"], rest: float) -> tuple[float, float]:
    """All values and the identity, with a margin."""
    low, high = min(float(values.min()), rest), max(float(values.max()), rest)
    margin = 0.04 * (high - low) or 0.1
    return low - margin, high + margin


def compute(run: Run, params: Params) -> Film:
    """Run the training pass with the condition and with a random one.

    Raises:
        NotAvailable: the model declares no condition, or neither γ and β nor the features around them.
    """
    record = conditioning_of(run.model)
    if not record.film and not (record.before and record.after):
        raise NotAvailable(
            "film: the layer of your code that outputs γ and β is not declared; name its tap with "
            "--film-tap NAME, or as `film` of an adapter's conditioning (workbench paths lists the taps)"
        )
    trained = one_pass(run, "training")
    if record.film and record.film not in trained.parts:
        raise NotAvailable(f"film: the training pass does not reach the tap {record.film}")
    read = (record.film,) if record.film else record.condition
    return Film(
        title=run.title,
        layers=(_layer(run, record, trained, params.seed),),
        text=condition_layers(run.model, trained) if record.film else None,
        subjects=record.names,
        images=len(run.samples),
        at_inference=any(tap in one_pass(run, "predict", read).parts for tap in read),
        bins=params.bins,
    )


def _layer(run: Run, record: Conditioning, trained: OnePass, seed: int) -> Layer:
    gamma = beta = np.zeros((len(run.samples), 0), np.float32)
    name = run.model.taps[record.film or record.part]
    if record.film:
        leaving = trained.parts[record.film]
        if leaving.ndim < 2 or leaving.shape[1] % 2:
            raise NotAvailable(
                f"film: expected γ and β side by side, [N, 2C], at the tap {record.film}, got "
                f"{list(leaving.shape)}"
            )
        gamma, beta = np.split(leaving.reshape(len(leaving), leaving.shape[1], -1).mean(-1), 2, axis=1)
        gamma = gamma + np.float32(record.baseline)
    after = _features(trained, record)
    read = (record.after,) if record.after else ()
    other = _features(random_condition(run, "training", seed, read), record)
    before = _before(run, record, trained, after)
    known = after.ndim == 4 and np.isfinite(before).all()
    ranks = [effective_rank(centred_cells(maps)) if known else float("nan") for maps in (before, after)]
    used = Applied(gamma, beta, record.gate_of(run.model.module))
    if record.film and record.before and record.after:
        used = applied(used, before, after)
    return Layer(
        name=name,
        gamma=used.gamma,
        beta=used.beta,
        gate=used.gate,
        change=relative_difference(before, after),
        text_effect=relative_difference(after, other),
        rank_before=ranks[0],
        rank_after=ranks[1],
        departs=used.text,
        saturated=used.saturated,
    )


def _features(made: OnePass, record: Conditioning) -> Float[np.ndarray, ...]:
    """The modulated features: at their tap, else what the head is given, else what the network gives."""
    return next(made.parts[part] for part in (record.after, FEATURES, OUTPUTS) if part in made.parts)


def _before(
    run: Run, record: Conditioning, trained: OnePass, after: Float[np.ndarray, ...]
) -> Float[np.ndarray, ...]:
    """The features without the condition; nan where the code cannot run without it."""
    if record.before:
        before = trained.parts[record.before]
        return before if before.shape == after.shape else np.full(after.shape, np.nan)
    return available(
        lambda: _features(without_condition(run, "training"), record), np.full(after.shape, np.nan)
    )


def condition_layers(model: PoseModel, trained: OnePass) -> ConditionLayers | None:
    """The facts of the layers that output γ and β; None where they are not linear layers with the condition.

    Args:
        model: conditioned; its record names the layer.
        trained: a training pass, whose condition vectors are used where the record holds none.
    """
    import torch
    from torch import nn

    from workbench.models.randomness import private_randomness

    record = conditioning_of(model, needed=False)
    vectors = record.vectors
    if vectors is None and record.condition:
        vectors = trained.parts.get(record.condition[0])
    part = model.module.get_submodule(model.taps[record.film])
    found = [part] if isinstance(part, nn.Linear) else list(part) if isinstance(part, nn.Sequential) else []
    linear = [i for i, one in enumerate(found) if isinstance(one, nn.Linear)]
    if vectors is None or vectors.ndim != 2 or not linear:
        return None
    if found[linear[0]].in_features != vectors.shape[1]:
        return None
    # A copy: modes are changed below, and the network may be in use.
    layers: Any = copy.deepcopy(nn.Sequential(*found)).cpu()
    last = linear[-1]
    tail = layers[last + 1 :]
    with torch.no_grad(), private_randomness(0):
        clips = float(tail.eval()(torch.tensor([-1.0]))) == 0
        dropped = float((tail.train()(torch.ones(DRAWS)) == 0).float().mean())
        left = layers.eval()(torch.from_numpy(vectors))
    raw_scale, shift = (half.numpy() for half in left.chunk(2, -1))
    weights = layers[last].weight.detach().numpy().astype(float)
    return ConditionLayers(
        clips=clips,
        alone=type(part).forward in (nn.Linear.forward, nn.Sequential.forward),
        dropped=dropped,
        scales_at_zero=float((raw_scale == 0).mean()),
        shifts_at_zero=float((shift == 0).mean()),
        weight_std=float(weights.std()),
        # nn.Linear draws uniformly from ±1/sqrt(inputs).
        default_std=float((3 * weights.shape[1]) ** -0.5),
        rank=effective_rank(weights) / min(weights.shape),
        scale=float((raw_scale + np.float32(record.baseline)).mean()),
    )


INSPECTOR = Inspector("FiLM", Params, compute, needs=Needs(capability=Conditioned), order=10)


# How do scale, shift and gate change over the epochs, and do they ever differ between images?


QUANTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True, eq=False)
class OverEpochs(Report):
    """The first FiLM layer of several checkpoints on the same samples.

    Attributes:
        titles: of the epochs, in their order.
        gamma: quantiles of the scales, see QUANTILES; nan without FiLM.
        beta: quantiles of the shifts.
        gate: of each epoch.
        change: of the features, share of their length.
        across_images: see film.Layer.
        verdicts: see film.Layer.
    """

    titles: tuple[str, ...]
    gamma: Float[np.ndarray, "E Q"]
    beta: Float[np.ndarray, "E Q"]
    gate: Float[np.ndarray, " E"]
    change: Float[np.ndarray, " E"]
    across_images: Float[np.ndarray, " E"]
    verdicts: tuple[str, ...]

    def summary(self) -> str:
        median = len(QUANTILES) // 2
        gate = (
            f"the gate changes from {self.gate[0]:.3g} to {self.gate[-1]:.3g}"
            if np.isfinite(self.gate).all()
            else "no gate is known"
        )
        scale = ""
        if np.isfinite(self.gamma).all():
            scale = f", the median γ from {self.gamma[0, median]:.3f} to {self.gamma[-1, median]:.3f}"
        spread = np.nan_to_num(self.across_images).max()
        images = (
            "γ is the same for every image at every epoch"
            if spread < 1e-7
            else f"γ varies by up to {spread:.2g} over images"
        )
        return (
            f"Over {counted(len(self.titles), 'epoch')} {gate}{scale}; {images}; last epoch: "
            f"{self.verdicts[-1]}"
        )

    def plot(self) -> Figure:
        figure = new_figure(self.summary(), height=380)
        places = np.arange(len(self.titles), dtype=np.float32)
        for i, (values, rest, name) in enumerate(((self.gamma, 1.0, "γ"), (self.beta, 0.0, "β"))):
            suffix = "" if i == 0 else "2"
            axes: dict[str, Any] = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
            ink = RUN_COLOURS[i]
            for low, high, alpha in ((0, 4, 0.18), (1, 3, 0.32)):
                figure.add_scatter(
                    x=np.concatenate([places, places[::-1]]),
                    y=np.concatenate([values[:, low], values[::-1, high]]).astype(np.float32),
                    fill="toself", fillcolor=rgba(ink, alpha), line={"width": 0}, mode="lines",
                    name=f"{name}, {QUANTILES[low]} to {QUANTILES[high]} %", hoverinfo="skip",
                    showlegend=False, **axes,
                )  # fmt: skip
            figure.add_scatter(x=places, y=values[:, 2].astype(np.float32), mode="lines+markers",
                               name=f"{name}, median", line={"color": ink}, text=list(self.titles),
                               showlegend=False,
                               hovertemplate="%{text}: %{y:.4f}<extra></extra>", **axes)  # fmt: skip
            figure.add_shape(
                type="line", x0=0, x1=1, y0=rest, y1=rest, xref=f"x{suffix} domain", yref=f"y{suffix}",
                line={"color": FINDING_COLOUR, "dash": "dot", "width": 1},
            )  # fmt: skip
            if i == 0:
                figure.add_scatter(
                    x=places, y=self.gate.astype(np.float32), mode="lines+markers", name="gate",
                    line={"color": QUIET_COLOUR, "dash": "dash"}, text=list(self.titles),
                    hovertemplate="%{text}: gate %{y:.4f}<extra></extra>", **axes,
                )  # fmt: skip
            left = i * 0.54
            ticks = {"tickvals": places, "ticktext": [t.rpartition(", ")[2] for t in self.titles]}
            figure.update_layout(
                {f"xaxis{suffix}": {"domain": [left, left + 0.46], "anchor": f"y{suffix}",
                                    "title": {"text": "epoch"}}
                 | ticks,
                 f"yaxis{suffix}": {"anchor": f"x{suffix}",
                                    "title": {"text": f"{name}: median, 25 to 75, 5 to 95 %"
                                              + (" (dashed: gate)" if i == 0 else "")}}}
            )  # fmt: skip
        return figure.update_layout(showlegend=False)

    def table(self) -> list[dict[str, Any]]:
        return rows(
            epoch=self.titles,
            gamma_median=self.gamma[:, 2],
            beta_median=self.beta[:, 2],
            gate=self.gate,
            change=self.change,
            across_images=self.across_images,
            verdict=self.verdicts,
        )


def over_epochs(reports: Sequence[Film]) -> OverEpochs:
    """Several checkpoints' FiLM side by side.

    Args:
        reports: of the same samples, in the order of their epochs.

    Raises:
        ValueError: none.
    """
    if not reports:
        raise ValueError("epochs: expected at least one checkpoint, got none")
    layers = [report.layers[0] for report in reports]

    def quantiles(values: Float[np.ndarray, "N C"]) -> Float[np.ndarray, " Q"]:
        return np.percentile(values, QUANTILES) if values.size else np.full(len(QUANTILES), np.nan)

    return OverEpochs(
        titles=tuple(report.title for report in reports),
        gamma=np.stack([quantiles(layer.gamma) for layer in layers]),
        beta=np.stack([quantiles(layer.beta) for layer in layers]),
        gate=np.array([layer.gate for layer in layers]),
        change=np.array([layer.change for layer in layers]),
        across_images=np.array([layer.across_images for layer in layers]),
        verdicts=tuple(layer.verdict for layer in layers),
    )
