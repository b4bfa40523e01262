"""How much does each keypoint depend on the surroundings of every other keypoint?

The input is divided into regions: the surroundings of each keypoint that the model found, the rest of the
box, and what lies outside of it. Each region is taken away in turn, and the fall of every target is measured.

Computed by captum (FeatureAblation), all keypoints at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch

from workbench.core import Run, Skeleton
from workbench.core.inspector import INSTANCE, Inspector, Needs, Range
from workbench.core.report import Report, counted
from workbench.figures import DIVERGING, new_figure
from workbench.figures.panels import in_input
from workbench.inspectors.attribution.maps import box_side
from workbench.inspectors.attribution.methods import BATCH, Baseline, asking, baseline
from workbench.inspectors.attribution.targets import OUTPUTS, TARGET, UNITS, Targets, score_of, targets_of

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from plotly.graph_objects import Figure

REST, OUTSIDE = "rest of the box", "outside the box"


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        instance: which sample of the run; the first when empty.
        target: the output value that is explained.
        radius: radius around a keypoint, share of the box's longer side; between two keypoints the
            nearer one has the pixel.
        fill: what the pixels of a region become: zero, the mean colour of this input, or a blurred copy.
    """

    instance: Annotated[str, INSTANCE] = ""
    target: Annotated[str, TARGET] = ""
    radius: Annotated[float, Range(0.02, 0.5, 0.01)] = 0.12
    fill: Baseline = "blurred"


@dataclass(frozen=True, eq=False)
class FeatureAblation(Report):
    """Fall of each keypoint's target without each region.

    Attributes:
        key: the sample's name.
        skeleton: of the model.
        keypoints: the T indices in the skeleton that have a target.
        target: kind of target, key of targets.UNITS.
        values: the targets, undisturbed.
        regions: names: the T keypoints, then REST and OUTSIDE.
        sizes: share of the input that each region covers.
        falls: of target t without region r; nan for a region without pixels.
        mirror: for each of the T keypoints the region of its mirror partner; -1 where there is none.
    """

    key: str
    skeleton: Skeleton
    keypoints: tuple[int, ...]
    target: str
    values: Float[np.ndarray, " T"]
    regions: tuple[str, ...]
    sizes: Float[np.ndarray, " R"]
    falls: Float[np.ndarray, "T R"]
    mirror: Int[np.ndarray, " T"]

    @property
    def strongest(self) -> Int[np.ndarray, " T"]:
        """The region without which each target falls most."""
        return np.nan_to_num(self.falls, nan=-np.inf).argmax(1)

    def summary(self) -> str:
        names = [self.skeleton.keypoints[k] for k in self.keypoints]
        head = f"Each region removed in turn ({UNITS[self.target]})"
        if not np.nan_to_num(self.falls).any():
            return (
                f"{head}: nothing changes, so the output does not depend on the image; check that it is read"
            )
        best, own = self.strongest, np.arange(len(names))
        most = self.falls[own, best]
        self_reliant = int(((best == own) & (most > 0)).sum())
        text = (
            f"{head}: {self_reliant} of {counted(len(names), 'keypoint')} depend most on their own "
            "surroundings"
        )
        rest = int((best >= len(names)).sum())
        text += f", {rest} on the rest of the box or on what lies outside" if rest else ""
        others = np.flatnonzero((best != own) & (best < len(names)) & (most > 0))
        if not others.size:
            return f"{text}; none depends more on another keypoint's surroundings than on its own"
        t = int(others[most[others].argmax()])
        what = "its mirror partner" if best[t] == self.mirror[t] else self.regions[best[t]]
        return (
            f"{text}; the largest fall is that of {names[t]} without {what} ({most[t]:.3g}; without its own "
            f"surroundings {self.falls[t, t]:.3g}), so it may fail where that part is hidden"
        )

    def plot(self) -> Figure:
        names = [self.skeleton.keypoints[k] for k in self.keypoints]
        high = float(np.nanmax(np.abs(self.falls))) or 1.0
        figure = new_figure(self.summary(), height=24 * len(names) + 230)
        figure.add_heatmap(
            z=self.falls.astype(np.float32), x=list(self.regions), y=names, zmin=-high, zmax=high,
            colorscale=[list(c) for c in DIVERGING], xgap=1, ygap=1,
            colorbar={"title": {"text": "fall"}, "thickness": 12, "outlinewidth": 0},
            hovertemplate="%{y} without %{x}<br>fall %{z:.4g}<extra></extra>",
        )  # fmt: skip
        figure.update_xaxes(title_text="region removed", tickangle=-45, showgrid=False)
        figure.update_yaxes(title_text="target of", autorange="reversed", showgrid=False)
        return figure

    def table(self) -> list[dict[str, Any]]:
        best = self.strongest
        return [
            {
                "keypoint": self.skeleton.keypoints[k],
                "target": float(self.values[t]),
                "fall_without_own": _number(self.falls[t, t]),
                "needs_most": self.regions[best[t]],
                "fall_without_it": _number(self.falls[t, best[t]]),
                "fall_without_outside": _number(self.falls[t, -1]),
            }
            for t, k in enumerate(self.keypoints)
        ]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def compute(run: Run, params: Params) -> FeatureAblation:
    """Take region after region away.

    Raises:
        NotAvailable: the outputs have no target.
        ValueError: no such sample or target.
    """
    from captum.attr import FeatureAblation as Captum

    n = INSTANCE.index(run, params.instance)
    targets = targets_of(run, n, params.target)
    score = score_of(run, n, targets)
    pixels = run.batch.pixels[n : n + 1].detach()
    region = regions_of(run, n, targets, params.radius)
    T = len(targets.keypoints)
    # captum counts regions from 0 without gaps.
    present, dense = np.unique(region, return_inverse=True)
    mask = torch.from_numpy(dense.reshape(region.shape)).to(pixels.device)[None, None]
    with asking(run, gradients=False):
        values = score(pixels)[0]
        found = Captum(score).attribute(
            pixels,
            baselines=baseline(pixels[0], params.fill)[None],
            feature_mask=mask,
            perturbations_per_eval=min(BATCH, len(present)),
        )
    # [T, 3, H, W]: the fall stands at every pixel of the region, in each channel.
    falls = np.full((T, T + 2), np.nan)
    first = {int(r): int(np.flatnonzero(region.ravel() == r)[0]) for r in present}
    flat = found.reshape(T, -1, region.size)[:, 0].double().cpu().numpy()
    for r, place in first.items():
        falls[:, r] = flat[:, place]
    names = run.model.skeleton.keypoints
    return FeatureAblation(
        key=INSTANCE.of(run)[n],
        skeleton=run.model.skeleton,
        keypoints=targets.keypoints,
        target=targets.kind,
        values=values.double().cpu().numpy(),
        regions=(*(names[k] for k in targets.keypoints), REST, OUTSIDE),
        sizes=np.bincount(region.ravel(), minlength=T + 2) / region.size,
        falls=falls,
        mirror=_mirrored(run.model.skeleton, targets.keypoints),
    )


def regions_of(run: Run, n: int, targets: Targets, radius: float) -> Int[np.ndarray, "H W"]:
    """The region of each input pixel: a target's index, T for the rest of the box, T + 1 for outside.

    Args:
        run: of the model.
        n: the sample.
        targets: with their places.
        radius: of a keypoint's surroundings, share of the box's longer side.
    """
    H, W = run.batch.pixels.shape[-2:]
    y, x = np.mgrid[:H, :W]
    x0, y0, x1, y1 = run.samples[n].box
    (left, top), (right, bottom) = in_input(run, n, np.array([[x0, y0], [x1, y1]], float))
    T = len(targets.keypoints)
    region = np.where((x >= left) & (x <= right) & (y >= top) & (y <= bottom), T, T + 1)
    away = np.hypot(x - targets.points[:, :1, None], y - targets.points[:, 1:, None])
    nearest = away.argmin(0)
    return np.where(away.min(0) <= radius * box_side(run, n), nearest, region)


def _mirrored(skeleton: Skeleton, keypoints: tuple[int, ...]) -> Int[np.ndarray, " T"]:
    """For each target the index of its mirror partner among the targets; -1 for none."""
    if not skeleton.mirror:
        return np.full(len(keypoints), -1)
    partners = [skeleton.mirror[k] for k in keypoints]
    return np.array(
        [
            keypoints.index(p) if p != k and p in keypoints else -1
            for k, p in zip(keypoints, partners, strict=True)
        ]
    )


INSPECTOR = Inspector("Feature ablation", Params, compute, needs=Needs(outputs=OUTPUTS), order=40)
