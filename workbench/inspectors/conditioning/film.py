"""What do γ and β make of the features: destroyed, left as they are, the text ignored, or used?

The features go along the way of training, where the neck is part of it. A scale near 0 deletes a channel, a
scale of 1 with a shift of 0 leaves it alone; behind a gate only the gate's share of both arrives, and that
is what the verdict is about. Scales that are the same for every image carry nothing about the image: the next
layer could have learned them without any text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core.capabilities import Conditioned, TakesText
from workbench.core.inspector import Inspector, Range
from workbench.core.needs import Needs
from workbench.core.report import Report, plain
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS, new_figure
from workbench.inspectors.conditioning.film_layer import DESTROYED, IDENTITY, IGNORED, USED, Layer
from workbench.inspectors.conditioning.passes import apart, cells, conditioned, fused, neck_of, passed
from workbench.inspectors.conditioning.text_layers import TextLayers, effective_rank, text_layers_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.core import Run
    from workbench.models.text_fusion import TextFusion


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
    from workbench.models.text_fusion.interventions import noise_text

    if isinstance(run.model, Conditioned):
        from workbench.inspectors.conditioning.own_film import own_film

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

    from workbench.models.text_fusion.film import scale_and_shift

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
    needs=Needs(capability=(Conditioned, TakesText)),
    order=10,
)
