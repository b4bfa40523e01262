"""Can the layers between text and γ do their work? What they clip, what they drop, where they started."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core import Conditioned, NotAvailable, Run
from workbench.core.report import PICTURE, Inspector, Range, Report, plain
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS, new_figure
from workbench.inspectors.conditioning.evidence import noise, without_text
from workbench.inspectors.conditioning.passes import (
    FEATURES,
    apart,
    cells,
    conditioned,
    fused,
    neck_of,
    passed,
)
from workbench.inspectors.conditioning.passes import passed_of_own_passes as passed

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.core import Run
    from workbench.models.text_fusion import TextFusion

    pass


# Enough draws that a share of 10 % is read within a few tenths of a percent.
DRAWS = 1 << 16
# Of a uniformly random matrix more than half of the singular directions count; of one that was learned from
# zero by a few sentences, a handful.
RANDOM_RANK = 0.4
# How near to the standard deviation that torch starts with counts as "not moved".
RANDOM_STD = 0.25


@dataclass(frozen=True)
class TextLayers:
    """What can be said of the layers without looking at an image.

    Attributes:
        clips: nothing negative leaves them.
        dropped: share of what leaves that is zero at random in training, 0 to 1.
        scales_at_zero: share of the scales (γ) that are exactly 0 on the text at hand.
        shifts_at_zero: the same of the shifts (β).
        weight_std: of the last linear layer's weights.
        default_std: that torch would start this layer with.
        rank: effective rank of these weights, share of what is possible.
        scale: mean scale on the text at hand, baseline included.
    """

    clips: bool
    dropped: float
    scales_at_zero: float
    shifts_at_zero: float
    weight_std: float
    default_std: float
    rank: float
    scale: float

    @property
    def at_random(self) -> bool:
        """The weights look as torch starts them: uniform in size and in all directions."""
        near = abs(self.weight_std / self.default_std - 1) < RANDOM_STD
        return near and self.rank > RANDOM_RANK

    @property
    def starts_by_deleting(self) -> bool:
        """Random weights put the scale near 0 instead of 1: nothing of the features is left to learn on."""
        return self.at_random and abs(self.scale) < 0.5


def text_layers_of(model: TextFusion) -> TextLayers | None:
    """The facts of a FiLM neck's layers; None for a neck without FiLM or a model without text."""
    import torch
    from torch import nn

    from workbench.models.randomness import private_randomness
    from workbench.models.text_fusion.neck import scale_and_shift

    neck = neck_of(model)
    if model.text is None or "film" not in getattr(neck, "fusion_type", ""):
        return None
    # A copy: modes are changed below, and the network may be in use.
    layers: Any = copy.deepcopy(neck.global_mlp).cpu()
    last = max(i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear))
    tail = layers[last + 1 :]
    with torch.no_grad(), private_randomness(0):
        clips = float(tail.eval()(torch.tensor([-1.0]))) == 0
        dropped = float((tail.train()(torch.ones(DRAWS)) == 0).float().mean())
        left = layers.eval()(torch.from_numpy(model.text.subject_vectors))
    raw_scale, shift = (part.numpy() for part in left.chunk(2, -1))
    scale = scale_and_shift(left, neck.gamma_baseline)[0].numpy()
    weights = layers[last].weight.detach().numpy().astype(float)
    return TextLayers(
        clips=clips,
        dropped=dropped,
        scales_at_zero=float((raw_scale == 0).mean()),
        shifts_at_zero=float((shift == 0).mean()),
        weight_std=float(weights.std()),
        # nn.Linear draws uniformly from ±1/sqrt(inputs).
        default_std=float((3 * weights.shape[1]) ** -0.5),
        rank=effective_rank(weights) / min(weights.shape),
        scale=float(scale.mean()),
    )


def effective_rank(matrix: Float[np.ndarray, "M D"]) -> float:
    """How many directions a matrix uses: the exponential of the entropy of its squared singular values.

    Source: Roy and Vetterli 2007, "The effective rank", with energies for singular values. 0 for zeros.
    """
    energies = np.linalg.svd(np.asarray(matrix, float), compute_uv=False) ** 2
    total = energies.sum()
    if not total > 0:
        return 0.0
    shares = energies[energies > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


# What arrives of scale and shift at one place where text meets features, and what that amounts to.


DESTROYED, IDENTITY, IGNORED, USED = "destroyed", "identity", "ignored", "used"
# A change of the features below this share of their length is none.
NOTHING = 1e-3
# A channel scaled below this is as good as deleted.
DELETED = 0.1


@dataclass(frozen=True, eq=False)
class Layer:
    """One place where text meets features.

    Attributes:
        name: its tap.
        gamma: scales, the baseline included, before the gate; empty for attention.
        beta: shifts before the gate.
        gate: share of the fused features in what leaves; 1 without a gate; nan where it is not known.
        change: length of (leaving - entering) as a share of entering.
        text_effect: the same of (leaving with random text - leaving).
        rank_before: directions that the entering features use; see text_layers.effective_rank.
        rank_after: of the leaving ones.
    """

    name: str
    gamma: Float[np.ndarray, "N C"] = field(metadata=PICTURE)
    beta: Float[np.ndarray, "N C"] = field(metadata=PICTURE)
    gate: float
    change: float
    text_effect: float
    rank_before: float
    rank_after: float

    @property
    def arriving(self) -> tuple[Float[np.ndarray, "N C"], Float[np.ndarray, "N C"]]:
        """Scale and shift with the gate counted in."""
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
    def verdict(self) -> str:
        """``destroyed``, ``identity``, ``ignored`` or ``used``."""
        if self.rank_after < 0.5 * self.rank_before or self.deleted > 0.5:
            return DESTROYED
        if self.change < NOTHING:
            return IDENTITY
        return IGNORED if self.text_effect < NOTHING else USED

    def row(self) -> dict[str, Any]:
        """As the command line tells it."""
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
            }
        )


# What do γ and β make of the features: destroyed, left as they are, the text ignored, or used?


@dataclass(frozen=True)
class Params:
    """Knobs.

    Attributes:
        seed: of the random text that stands for any other text.
        bins: of the histograms.
    """

    seed: Annotated[int, Range(0, 99, 1)] = 0
    bins: Annotated[int, Range(10, 200, 10)] = 60


@dataclass(frozen=True, eq=False)
class Film(Report):
    """What the neck does to the features of some samples.

    Attributes:
        title: of the model.
        layers: where text meets features.
        text: what the layers between text and scale can and cannot do; None without FiLM.
        subjects: names of the text's subjects.
        images: how many samples.
        at_inference: the way of inference goes through the neck.
        bins: of the histograms.
    """

    title: str
    layers: tuple[Layer, ...]
    text: TextLayers | None
    subjects: tuple[str, ...]
    images: int
    at_inference: bool
    bins: int

    def summary(self) -> str:
        layer = self.layers[0]
        told = [f"{layer.name}: {_SAID[layer.verdict]}"]
        if np.isfinite(layer.change):
            told[0] += f" (features change {_much(layer.change)})"
        if layer.gamma.size:
            across = layer.across_images
            told.append(f"γ {layer.gamma.mean():.3f} ± {layer.gamma.std():.3f}, β {layer.beta.mean():.3f}")
            if np.isfinite(across):
                told.append(
                    "γ is the same for every image"
                    if across < 1e-7
                    else f"γ varies by {across:.2g} over images, {layer.across_channels:.2g} over channels"
                )
        if self.text is not None and self.text.clips:
            told.append("nothing negative can leave the layer")
        if self.text is not None and self.text.dropped:
            told.append(f"training drops {100 * self.text.dropped:.0f} % of γ and β")
        if not self.at_inference:
            told.append("inference does not go through it")
        return "; ".join(told)

    def plot(self) -> Figure:
        import plotly.graph_objects as go

        layer = self.layers[0]
        figure = new_figure(self.summary(), height=380, barmode="overlay")
        if not layer.gamma.size:
            figure.add_trace(
                go.Bar(
                    x=np.array([layer.rank_before, layer.rank_after], np.float32),
                    y=["entering", "leaving"], orientation="h",
                    marker={"color": [QUIET_COLOUR, RUN_COLOURS[0]]}, name="directions", showlegend=False,
                )
            )  # fmt: skip
            return figure.update_xaxes(title_text="directions that the features use (effective rank)")
        for i, (values, rest, name) in enumerate(
            ((layer.gamma, 1.0, "γ, scale"), (layer.beta, 0.0, "β, shift"))
        ):
            suffix = "" if i == 0 else "2"
            counts, edges = np.histogram(values, bins=self.bins, range=_span(values, rest))
            axes = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
            figure.add_trace(
                go.Bar(
                    x=((edges[:-1] + edges[1:]) / 2).astype(np.float32),
                    y=(100 * counts / values.size).astype(np.float32),
                    width=float(edges[1] - edges[0]), marker={"color": RUN_COLOURS[i], "line": {"width": 0}},
                    name=name, showlegend=False,
                    hovertemplate=name + " %{x:.3f}: %{y:.1f} % of channels<extra></extra>", **axes,
                )
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
                    f"xaxis{suffix}": {"domain": [left, left + 0.46], "anchor": f"y{suffix}",
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


_SAID = {
    DESTROYED: "the features are destroyed",
    IDENTITY: "the features leave as they entered",
    IGNORED: "the text is ignored, any other would do the same",
    USED: "the text is used",
}


def _much(change: float) -> str:
    return f"{change:.0f}-fold" if change >= 10 else f"by {100 * change:.3g} %"


def _span(values: Float[np.ndarray, "*s"], rest: float) -> tuple[float, float]:
    """All values and the identity, with a little air."""
    low, high = min(float(values.min()), rest), max(float(values.max()), rest)
    air = 0.04 * (high - low) or 0.1
    return low - air, high + air


def compute(run: Run, params: Params) -> Film:
    """Go through the neck with the text and with another.

    Raises:
        NotAvailable: the model reads no text, or its neck fuses nothing.
    """
    from workbench.models.text_fusion.family import noise_text

    if isinstance(run.model, Conditioned):
        pass

        return own_film(run, params.bins, params.seed)
    model = conditioned(run.model)
    way = fused(model)
    looked = passed(run, way, ("neck.before", "neck", "film"))
    otherwise = passed(run, way, ("neck",), noise_text(params.seed))
    return Film(
        title=run.title,
        layers=_layers(model, looked, otherwise),
        text=text_layers_of(model),
        subjects=model.text.subjects if model.text is not None else (),
        images=len(run.samples),
        at_inference=model.inference.fuse,
        bins=params.bins,
    )


def _layers(model: TextFusion, looked: Run, otherwise: Run) -> tuple[Layer, ...]:
    import torch

    from workbench.models.text_fusion.neck import scale_and_shift

    neck = neck_of(model)
    before, after = (looked.activation(tap).float().numpy() for tap in ("neck.before", "neck"))
    other = otherwise.activation("neck").float().numpy()
    nothing = np.zeros((len(before), 0), np.float32)
    gamma = beta = nothing
    name, gate = "neck.cross_attn", 1.0
    if "film" in neck.fusion_type:
        name, gate = "neck.global_mlp", float(torch.as_tensor(neck.film_gate).detach())
        gamma, beta = (
            part.float().numpy() for part in scale_and_shift(looked.activation("film"), neck.gamma_baseline)
        )
    return (
        Layer(
            name=name,
            gamma=gamma,
            beta=beta,
            gate=gate,
            change=apart(before, after),
            text_effect=apart(after, other),
            rank_before=effective_rank(cells(before)),
            rank_after=effective_rank(cells(after)),
        ),
    )


INSPECTOR = Inspector(
    "FiLM",
    "What do γ and β make of the features: destroyed, left as they are, the text ignored, or used?",
    Params,
    compute,
)


# What do γ and β make of the features in code of the user's own, whose layer is named?


def own_film(run: Run, bins: int, seed: int) -> Film:
    """γ and β as the named layer leaves them, and what the text makes of the features, in the training pass.

    Args:
        run: of a model of the user's own.
        bins: of the histograms.
        seed: of the random text.

    Raises:
        NotAvailable: no layer is named, or the features or the text are not at hand.
    """
    model: Any = run.model
    tap = model.text_taps.get("film")
    if tap is None:
        raise NotAvailable(
            "film: nothing declares which layer of your code leaves γ and β; name its tap: --film-tap NAME, "
            "or text_taps['film'] in an adapter (workbench paths lists the taps)"
        )
    kept = passed(run, "training")
    try:
        without = without_text(run, "training")
    except NotAvailable:
        without = None
    if tap not in kept.parts:
        raise NotAvailable(f"film: your training pass does not reach the tap {tap}")
    if FEATURES not in kept.parts:
        raise NotAvailable("film: training_pass of your adapter does not give Passed.features")
    leaving = kept.parts[tap]
    if leaving.ndim < 2 or leaving.shape[1] % 2:
        raise NotAvailable(
            f"film: expected γ and β side by side, [N, 2C], at the tap {tap}, got {list(leaving.shape)}"
        )
    gamma, beta = np.split(leaving.reshape(len(leaving), leaving.shape[1], -1).mean(-1), 2, axis=1)
    other = passed(run, "training", noise(seed))
    after = kept.parts[FEATURES]
    # nan where the code cannot do without text: then nobody knows what it would give the head.
    before = np.full(after.shape, np.nan) if without is None else without.parts[FEATURES]
    known = after.ndim == 4 and without is not None
    rank = [effective_rank(cells(maps)) if known else float("nan") for maps in (before, after)]
    layer = Layer(
        name=tap,
        gamma=gamma,
        beta=beta,
        # What lies between this layer and the features is the user's code: no gate is known.
        gate=float("nan"),
        change=apart(before, after),
        text_effect=apart(after, other.parts[FEATURES]),
        rank_before=rank[0],
        rank_after=rank[1],
    )
    text = getattr(model, "text", None)
    return Film(
        title=run.title,
        layers=(layer,),
        text=None,
        subjects=() if text is None else text.subjects,
        images=len(run.samples),
        at_inference=tap in passed(run, "predict").parts,
        bins=bins,
    )
