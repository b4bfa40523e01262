"""Which image patches does a transformer attend to for each keypoint, over all layers and in each head?

A keypoint is read at the token under its peak. Rollout follows that token's attention back through all layers
to the patches of the input; a single head shows one layer. Attention is where information may come from, not
proof that it is used: Occlusion shows what happens without it.

Source: Abnar and Zuidema 2020, Quantifying Attention Flow in Transformers: half of each layer's output is its
own token (the residual), so the layers are multiplied as (A + I) / 2 with A the mean over heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core import NotAvailable, Run
from workbench.core.capabilities import HasAttention
from workbench.core.hooks import replacing
from workbench.core.inspector import INSTANCE, Choice, Inspector, Needs
from workbench.core.report import PICTURE, counted, rows
from workbench.core.run import evaluating
from workbench.decoding.map_statistics import entropy
from workbench.figures import SEQUENTIAL, keypoint_colours
from workbench.figures.panels import add_crop, add_map, add_marks, panel_figure
from workbench.inspectors.attribution.maps import NEAR, SHOWN, MapsReport, box_side, map_facts
from workbench.inspectors.attribution.targets import kinds, one_sample, targets_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure
    from torch import Tensor

LAST = "last layer"


def layer_names(run: Run) -> list[str]:
    """The layers whose heads can be drawn: the last, or one by its number from the input."""
    count = len(run.model.attention.weights) if isinstance(run.model, HasAttention) else 0
    return [LAST, *(f"layer {i + 1}" for i in range(count))]


LAYER = Choice(layer_names)


NEEDS = Needs(outputs=("heatmaps", "simcc"), capability=HasAttention)


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        instance: which sample of the run; the first when empty.
        keypoint: the rollout of all keypoints side by side, or one keypoint's rollout and heads.
        layer: layer whose heads are drawn for one keypoint.
    """

    instance: Annotated[str, INSTANCE] = ""
    keypoint: Annotated[str, SHOWN] = ""
    layer: Annotated[str, LAYER] = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class AttentionMaps(MapsReport):
    """Attention from the token under each keypoint's peak; `maps` holds the rollout, sums of 1 or less.

    Attributes:
        layer: number of the layer whose heads are drawn, from 1.
        bits: entropy of each rollout over the patches.
        uniform: share of the patches within NEAR of each answer: `near` of attention without preference.
        distances: mean distance of the attention from its token, shares of the box's longer side, by layer
            and head, mean over the T keypoints.
        head_bits: entropy by layer and head, mean over the T keypoints.
        elsewhere: share of each rollout on tokens that are no patches, such as a class token.
        heads: of the chosen layer, one map per keypoint and head.
    """

    layer: int
    bits: Float[np.ndarray, " T"]
    uniform: Float[np.ndarray, " T"]
    distances: Float[np.ndarray, "layers heads"]
    head_bits: Float[np.ndarray, "layers heads"]
    elsewhere: Float[np.ndarray, " T"]
    heads: Float[np.ndarray, "T heads h w"] = field(metadata=PICTURE)

    def summary(self) -> str:
        near, uniform = float(np.nanmean(self.near)), float(self.uniform.mean())
        layers, heads = self.distances.shape
        text = (
            f"Attention rollout through {counted(layers, 'layer')} of {counted(heads, 'head')}: {near:.0%} "
            f"lies within {NEAR:.0%} of the box from the keypoint (without preference {uniform:.0%})"
        )
        local = np.unravel_index(self.distances.argmin(), self.distances.shape)
        text += (
            f"; layer {local[0] + 1} head {local[1] + 1} looks nearest, {self.distances.min():.0%} of the "
            "box away on average"
        )
        if near < 1.1 * uniform:
            return f"{text}; the keypoints do not attend to themselves, so test with Occlusion what they need"
        far = int(np.nan_to_num(self.near, nan=2).argmin())
        return (
            f"{text}; {self.names[far]} attends least to itself ({self.near[far]:.0%}), so test it with "
            "Occlusion"
        )

    def bar_title(self) -> str:
        return "attention"

    def plot(self) -> Figure:
        return super().plot() if self.chosen < 0 else self._heads()

    def _heads(self) -> Figure:
        t = self.keypoints.index(self.chosen)
        maps = [self.maps[t], self.heads[t].mean(0), *self.heads[t]]
        names = [
            "rollout",
            f"layer {self.layer}, mean",
            *(f"head {i + 1}" for i in range(len(self.heads[t]))),
        ]
        colours = [keypoint_colours(self.skeleton)[self.chosen]] * len(names)
        figure = panel_figure(self.summary(), names, self.crop.shape[:2], 6, colours)
        figure.update_layout(coloraxis={"showscale": False, "colorscale": [list(c) for c in SEQUENTIAL]})
        for panel, (name, values) in enumerate(zip(names, maps, strict=True)):
            add_crop(figure, panel, self.crop)
            add_map(figure, panel, values, self.pitch, (0, float(values.max()) or 1.0), name=name,
                    origin=self.origin, unit="attention", transparent=True)  # fmt: skip
            add_marks(figure, panel, self.points[t], np.full(2, np.nan), "answer")
        return figure

    def table(self) -> list[dict[str, Any]]:
        if self.chosen < 0:
            return rows(
                keypoint=self.names, near=self.near, without_preference=self.uniform, entropy_bits=self.bits,
                away_box=self.away, on_other_tokens=self.elsewhere,
            )  # fmt: skip
        layers, heads = self.distances.shape
        return rows(
            layer=np.repeat(np.arange(layers) + 1, heads), head=np.tile(np.arange(heads) + 1, layers),
            mean_distance_box=self.distances.ravel(), entropy_bits=self.head_bits.ravel(),
        )  # fmt: skip


def compute(run: Run, params: Params) -> AttentionMaps:
    """Attention of one forward pass.

    Raises:
        NotAvailable: the model has no attention over patches, or found no keypoint.
        ValueError: no such sample, keypoint or layer.
    """
    import torch

    model: Any = run.model
    if sentence := NEEDS.unmet_in(run):
        raise NotAvailable(sentence)
    n = INSTANCE.index(run, params.instance)
    chosen = LAYER.index(run, params.layer) - 1
    layers = len(model.attention.weights)
    chosen = layers - 1 if chosen < 0 else chosen
    targets = targets_of(run, n, kinds(run)[0])
    tokens = tokens_under(run, targets.points)
    rollout, by_head = followed(run, n, tokens)
    maps = patches_of(model.attention, rollout)
    facts = map_facts(
        run, n, targets, torch.from_numpy(run.scores[n][list(targets.keypoints)]), maps, params.keypoint
    )
    away = token_distances(run, n, tokens)
    weights = np.stack([patches_of(model.attention, rows_).double().numpy() for rows_ in by_head])
    share = weights.sum((3, 4), keepdims=True)
    weights = weights / np.where(share > 0, share, 1)
    return AttentionMaps(
        **facts,
        layer=chosen + 1,
        bits=np.array([entropy(m) for m in np.asarray(maps, float)]),
        uniform=(away <= NEAR).mean((1, 2)),
        distances=(weights * away).sum((3, 4)).mean(2),
        head_bits=np.array([[[entropy(m) for m in head] for head in layer] for layer in weights]).mean(2),
        # Rounded: with patches alone the rest is the rounding of float32.
        elsewhere=np.maximum(np.round(1 - np.asarray(maps, float).sum((1, 2)), 6), 0),
        heads=weights[chosen].swapaxes(0, 1).astype(np.float32),
    )


def followed(run: Run, n: int, tokens: Any) -> tuple[Tensor, list[Tensor]]:
    """Rollout rows [T, tokens] of the queried tokens, and by layer those of each head [heads, T, tokens].

    Only these are held: all weights of a large network would need gigabytes.

    Args:
        run: of a model that HasAttention.
        n: the sample.
        tokens: T indices.

    Raises:
        NotAvailable: a layer's weights did not pass.
    """
    import torch

    model: Any = run.model
    attention = model.attention
    by_head: list[Tensor] = []
    product: list[Tensor] = []

    def follow(weights: Tensor) -> Tensor:
        own = weights[0].detach().float().cpu()
        by_head.append(own[:, tokens].clone())
        mean = own.mean(0)
        layer = (mean + torch.eye(len(mean))) / 2
        product[:] = [layer if not product else layer @ product[0]]
        return weights

    edits: dict[str, Callable[[Tensor], Tensor]] = dict.fromkeys(attention.weights, follow)
    with torch.no_grad(), replacing(model.module, attention.taps, edits), evaluating(model.module):
        model.forward(one_sample(run, n))
    if len(by_head) != len(attention.weights):
        raise NotAvailable(
            f"attention: {len(by_head)} of {len(attention.weights)} declared layers gave weights; the "
            "model's `attention` names modules that did not run"
        )
    return product[0][tokens], by_head


def tokens_under(run: Run, points: Float[np.ndarray, "T 2"]) -> Any:
    """Index of the token whose patch each point (x, y) in input pixels lies in."""
    model: Any = run.model
    (h, w), before = model.attention.grid, model.attention.before
    H, W = run.batch.pixels.shape[-2:]
    x = np.floor((points[:, 0] + 0.5) * w / W).astype(int).clip(0, w - 1)
    y = np.floor((points[:, 1] + 0.5) * h / H).astype(int).clip(0, h - 1)
    return before + y * w + x


def patches_of(attention: Any, rows_: Tensor) -> Tensor:
    """Rows over all tokens [..., tokens] as maps of the patches [..., h, w]."""
    h, w = attention.grid
    return rows_[..., attention.before : attention.before + h * w].unflatten(-1, (h, w))


def token_distances(run: Run, n: int, tokens: Any) -> Float[np.ndarray, "T h w"]:
    """Distance of each patch from each queried one, shares of the box's longer side."""
    model: Any = run.model
    (h, w), before = model.attention.grid, model.attention.before
    H, W = run.batch.pixels.shape[-2:]
    y, x = np.mgrid[:h, :w]
    row, column = np.divmod(np.asarray(tokens) - before, w)
    across = (x - column[:, None, None]) * (W / w)
    down = (y - row[:, None, None]) * (H / h)
    return np.hypot(across, down) / box_side(run, n)


INSPECTOR = Inspector("Attention", Params, compute, needs=NEEDS, order=60)
