"""Does the attribution map of a keypoint depend on the network's weights?

A map that stays as it is when the weights are shuffled shows the image, or the architecture, and explains
nothing that the network has learned. Weights are shuffled within each tensor, so that their sizes stay: from
the output backwards, part after part (cascading), or all at once. The target keeps its place.

Source: Adebayo et al. 2018, Sanity Checks for Saliency Maps: rank correlation of absolute maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch

from workbench.core import NotAvailable, Run, Skeleton
from workbench.core.finding import Finding, Measurement
from workbench.core.hooks import recording
from workbench.core.inspector import INSTANCE, Inspector, Needs, Range
from workbench.core.report import Report, counted
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, keypoint_colours, new_figure
from workbench.inspectors.attribution import methods
from workbench.inspectors.attribution.methods import LAYER, chosen_layer
from workbench.inspectors.attribution.targets import TARGET, score_of, targets_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure
    from torch import Tensor, nn

UNCHANGED = 0.5
"""Rank correlation above which a map is called the same: the fully shuffled network then still gives at least
a quarter of the variance of the ranks."""


NEEDS = Needs(outputs=("heatmaps", "simcc"))


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        instance: which sample of the run; the first when empty.
        method: method whose maps are compared; gradient is the absolute gradient of the pixels.
        order: part after part from the output backwards, or all weights at once.
        parts: number of parts of the network that are shuffled one after the other.
        target: the output value that is explained.
        layer: layer of Grad-CAM; automatic takes the last one at the network's coarsest resolution.
        seed: random seed of the shuffling.
    """

    instance: Annotated[str, INSTANCE] = ""
    method: Literal["Grad-CAM", "gradient", "occlusion"] = "Grad-CAM"
    order: Literal["cascading", "all at once"] = "cascading"
    parts: Annotated[int, Range(2, 12, 1)] = 5
    target: Annotated[str, TARGET] = ""
    layer: Annotated[str, LAYER] = ""
    seed: Annotated[int, Range(0, 9999, 1)] = 0


@dataclass(frozen=True, eq=False)
class RandomisedWeights(Report):
    """Rank correlation of maps with those of the unchanged network.

    Attributes:
        key: the sample's name.
        method: whose maps.
        skeleton: of the model.
        keypoints: the T indices in the skeleton.
        stages: what had been shuffled, one more part in each stage; the last is everything.
        shuffled: share of the weights shuffled in each stage.
        correlations: Spearman's, of absolute values, of stage s and target t; nan where a map is constant.
    """

    key: str
    method: str
    skeleton: Skeleton
    keypoints: tuple[int, ...]
    stages: tuple[str, ...]
    shuffled: Float[np.ndarray, " S"]
    correlations: Float[np.ndarray, "S T"]

    @property
    def medians(self) -> Float[np.ndarray, " S"]:
        """Median over the keypoints in each stage; nan where no map can be compared."""
        known = np.isfinite(self.correlations)
        return np.array(
            [
                np.median(row[k]) if k.any() else np.nan
                for row, k in zip(self.correlations, known, strict=True)
            ]
        )

    def to_findings(self) -> tuple[Finding, ...]:
        """The map does not depend on the weights; () where it does, or where nothing can be compared."""
        last = float(self.medians[-1])
        if not last > UNCHANGED:
            return ()
        numbers = (
            Measurement("median rank correlation, all weights shuffled", last, expected=0.0,
                        protocol=(
                            f"{self.method}, {counted(len(self.keypoints), 'keypoint')}, sample {self.key}"
                        )),
        )  # fmt: skip
        return (
            Finding(
                "the map does not depend on the weights",
                f"{self.method} maps of the network with all weights shuffled have the median rank "
                f"correlation {last:.2f} with those of the trained one",
                "do not read these maps as what the network has learned; take another layer or method",
                numbers,
                refuted_by="a correlation near 0 for other seeds and samples",
                severity="warning",
            ),
        )

    def summary(self) -> str:
        last = self.medians[-1]
        if not np.isfinite(last):
            return (
                f"{self.method} maps cannot be compared: they are constant before or after the weights are "
                "shuffled; choose another layer or method"
            )
        if found := self.to_findings():
            return found[0].text()
        first = next((s for s, m in enumerate(self.medians) if m <= UNCHANGED), len(self.stages) - 1)
        return (
            f"{self.method} maps change with the weights: the median rank correlation falls to {last:.2f} "
            f"with all of them shuffled (below {UNCHANGED:g} with stage {self.stages[first]}), so they show "
            "something that was learned and may be read"
        )

    def plot(self) -> Figure:
        figure = new_figure(self.summary(), y="rank correlation with the trained map", height=420)
        stages = ["trained", *self.stages]
        colours = keypoint_colours(self.skeleton)
        for t, k in enumerate(self.keypoints):
            figure.add_scatter(
                x=stages, y=np.concatenate([[1.0], self.correlations[:, t]]).astype(np.float32),
                mode="lines+markers", name=self.skeleton.keypoints[k], showlegend=False, opacity=0.45,
                line={"color": colours[k], "width": 1}, marker={"size": 4},
                hovertemplate="%{x}<br>%{y:.2f}<extra>%{fullData.name}</extra>",
            )  # fmt: skip
        ink = FINDING_COLOUR if self.to_findings() else QUIET_COLOUR
        medians = np.concatenate([[1.0], self.medians]).astype(np.float32)
        figure.add_scatter(
            x=stages, y=medians, mode="lines+markers", name="median", line={"color": ink, "width": 3}
        )
        figure.add_hline(y=UNCHANGED, line={"dash": "dot", "color": QUIET_COLOUR, "width": 1})
        figure.update_xaxes(title_text="weights shuffled, from the output backwards", tickangle=-30)
        return figure.update_yaxes(range=[-1.05, 1.05])

    def table(self) -> list[dict[str, Any]]:
        return [
            {
                "shuffled": stage,
                "share_of_weights": float(share),
                "median": None if np.isnan(median) else float(median),
                "lowest": _extreme(np.min, row),
                "highest": _extreme(np.max, row),
            }
            for stage, share, median, row in zip(
                self.stages, self.shuffled, self.medians, self.correlations, strict=True
            )
        ]

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "findings": [finding.facts() for finding in self.to_findings()]}


def _extreme(of: Any, row: Float[np.ndarray, " T"]) -> float | None:
    known = row[np.isfinite(row)]
    return float(of(known)) if known.size else None


def compute(run: Run, params: Params) -> RandomisedWeights:
    """Shuffle the weights, compare the maps, and put the weights back.

    Raises:
        NotAvailable: the network has no weights that PyTorch knows of, or gives no gradients.
        ValueError: no such sample, target or layer.
    """
    if sentence := NEEDS.unmet_in(run):
        raise NotAvailable(sentence)
    n = INSTANCE.index(run, params.instance)
    module = run.model.module
    weights = [name for name, weight in module.named_parameters() if weight.is_floating_point()]
    if not weights:
        raise NotAvailable(
            "randomised weights: this model's network holds no parameters that PyTorch knows of"
        )
    targets = targets_of(run, n, params.target)
    score = score_of(run, n, targets)
    maps = _maps_of(run, n, score, params)
    count = 1 if params.order == "all at once" else min(params.parts, len(weights))
    # The order of definition, which is nearly always that of the forward pass.
    parts = [[weights[i] for i in part] for part in np.array_split(np.arange(len(weights)), count)][::-1]
    with recording(module, {}, ()), restored(module):
        before = maps()
        after = []
        generator = np.random.default_rng(params.seed)
        for part in parts:
            shuffle(module, part, generator)
            after.append(maps())
    stages = _named(parts)
    numel = {name: weight.numel() for name, weight in module.named_parameters()}
    amounts = np.array([sum(numel[name] for name in part) for part in parts], float)
    return RandomisedWeights(
        key=INSTANCE.of(run)[n],
        method=params.method,
        skeleton=run.model.skeleton,
        keypoints=targets.keypoints,
        stages=stages,
        shuffled=np.cumsum(amounts) / amounts.sum(),
        correlations=np.array(
            [[rank_correlation(a, b) for a, b in zip(before, maps_, strict=True)] for maps_ in after]
        ),
    )


def _maps_of(run: Run, n: int, score: methods.Score, params: Params) -> Any:
    """The function that makes the maps [T, h, w] of the network as it stands."""
    pixels = run.batch.pixels[n].detach()
    if params.method == "Grad-CAM":
        tap, _ = chosen_layer(run, n, score, params.layer)
        path = run.model.taps[tap]
        return lambda: _array(methods.grad_cam(score, pixels, run.model.module, path, positive=False))
    LAYER.index(run, params.layer)
    if params.method == "gradient":

        def gradients() -> Float[np.ndarray, "T H W"]:
            with methods.asking(run, gradients=True):
                return _array(methods.gradients_of_input(score, pixels).abs().sum(1))

        return gradients
    side = max(1, round(0.2 * min(pixels.shape[1:])))
    step = max(1, side // 2)

    def occluded() -> Float[np.ndarray, "T H W"]:
        with methods.asking(run, gradients=False):
            return _array(methods.occlusion(score, pixels, (side, side), (step, step)))

    return occluded


def _array(maps: Tensor) -> Float[np.ndarray, "T h w"]:
    return maps.detach().double().cpu().numpy()


def rank_correlation(a: Float[np.ndarray, "h w"], b: Float[np.ndarray, "h w"]) -> float:
    """Spearman's rank correlation of absolute values; nan where one of the maps is constant.

    Only places where at least one map is not 0 count: outside of a cell's receptive field both are 0 with any
    weights, and would make all maps of one architecture alike.
    """
    from scipy.stats import rankdata

    somewhere = (a != 0) | (b != 0)
    ranks = [rankdata(np.abs(values[somewhere])) for values in (a, b)]
    if not somewhere.any():
        return np.nan
    centred = [r - r.mean() for r in ranks]
    size = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum() / size) if size else np.nan


def shuffle(module: nn.Module, names: Sequence[str], generator: np.random.Generator) -> None:
    """Shuffle the entries of each named parameter in place."""
    weights = dict(module.named_parameters())
    with torch.no_grad():
        for name in names:
            weight = weights[name]
            order = torch.from_numpy(generator.permutation(weight.numel())).to(weight.device)
            weight.copy_(weight.flatten()[order].view_as(weight))


@contextmanager
def restored(module: nn.Module) -> Iterator[None]:
    """After the block every parameter is what it was before."""
    before = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, weight in module.named_parameters():
                weight.copy_(before[name])


def _named(parts: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """What each part is called: its number and the first module in it; the last stage is everything."""
    if len(parts) == 1:
        return ("all weights",)
    heads = [".".join(part[0].split(".")[:-1][:3]) or part[0] for part in parts]
    return (*(f"{i + 1}: from {head}" for i, head in enumerate(heads[:-1])), f"{len(parts)}: all weights")


INSPECTOR = Inspector("Randomised weights", Params, compute, needs=NEEDS, order=50)
