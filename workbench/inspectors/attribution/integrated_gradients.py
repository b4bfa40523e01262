"""How much does each pixel contribute to the output for one keypoint?

Integrated gradients: from a baseline without image to the image in small steps, the gradients of the target
are added up. Their sum is the rise of the target from baseline to image; what is missing is the error of the
steps.

Computed by captum. Source: Sundararajan et al. 2017.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch

from workbench.core import NotAvailable, Run
from workbench.core.finding import Finding, Measurement
from workbench.core.inspector import INSTANCE, KEYPOINT, Inspector, Needs, Range, keypoint_of
from workbench.core.report import PICTURE, Report, counted, rows
from workbench.figures import DIVERGING
from workbench.figures.panels import add_crop, add_map, add_marks, crop_of, panel_figure
from workbench.inspectors.attribution.maps import NEAR, box_side
from workbench.inspectors.attribution.methods import NO_GRADIENT, Baseline, asking, baseline
from workbench.inspectors.attribution.targets import OUTPUTS, TARGET, UNITS, score_of, targets_of

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from plotly.graph_objects import Figure

LARGEST_ERROR = 0.05
"""Share of the rise that may be missing before the map is called unreliable."""

RINGS = (0.05, 0.1, 0.2, 0.3, 0.5)  # distances of the table, shares of the box's longer side


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes:
        instance: which sample of the run; the first when empty.
        keypoint: keypoint whose output is explained; by default the one with the lowest score.
        target: the output value that is explained.
        baseline: the input without an image from which the steps begin: zero (the mean colour of the training
            data, where inputs are normalised), the mean colour of this input, or a blurred copy of it.
        steps: between baseline and image; more make the sum exact.
    """

    instance: Annotated[str, INSTANCE] = ""
    keypoint: Annotated[str, KEYPOINT] = ""
    target: Annotated[str, TARGET] = ""
    baseline: Baseline = "zero"
    steps: Annotated[int, Range(4, 200, 4)] = 32


@dataclass(frozen=True, eq=False)
class IntegratedGradients(Report):
    """Attribution of one keypoint's target to the pixels.

    Attributes:
        key: the sample's name.
        keypoint: name.
        target: kind of target, key of targets.UNITS.
        value: the target for the image.
        value_of_baseline: the target for the baseline.
        total: sum of the map; equals the difference of the two values where the steps suffice.
        error: what is missing of the rise, share of it; nan where nothing rises.
        near: share of the absolute attribution within NEAR of the answer; nan for a map of zeros.
        rings: share of the absolute attribution within each distance of RINGS.
        steps: between baseline and image.
        point: (x, y) of the model's answer, input pixels.
        strongest: (x, y) of the pixel with the largest attribution, input pixels; nan for a map of zeros.
        map: attribution of each pixel, channels added.
        crop: the network's input.
    """

    key: str
    keypoint: str
    target: str
    value: float
    value_of_baseline: float
    total: float
    error: float
    near: float
    rings: Float[np.ndarray, " R"]
    steps: int
    point: Float[np.ndarray, " 2"]
    strongest: Float[np.ndarray, " 2"]
    map: Float[np.ndarray, "H W"] = field(metadata=PICTURE)
    crop: UInt8[np.ndarray, "H W 3"] = field(metadata=PICTURE)

    def summary(self) -> str:
        head = (
            f"Integrated gradients of {self.keypoint} ({UNITS[self.target]}): the value rises from "
            f"{self.value_of_baseline:.3g} at the baseline to {self.value:.3g}"
        )
        if self.to_findings():
            return f"{head}; {self.to_findings()[0].text()}"
        if not np.isfinite(self.near):
            return f"{head}, and no pixel contributes: this output does not depend on the image"
        place = (
            f"{self.near:.0%} of the attribution lies within {NEAR:.0%} of the box from the keypoint, the "
            "rest farther away"
        )
        if np.isfinite(self.error):
            place += f"; the steps suffice (the sum misses {self.error:.1%} of the rise)"
        return f"{head}; {place}"

    def to_findings(self) -> tuple[Finding, ...]:
        """What makes the map unreliable; () for nothing."""
        if not np.isfinite(self.error) or self.error <= LARGEST_ERROR:
            return ()
        numbers = (
            Measurement(
                "missing share of the rise",
                self.error,
                expected=0.0,
                protocol=f"{counted(self.steps, 'step')}",
            ),
        )
        return (
            Finding(
                "too few steps",
                f"the map misses {self.error:.0%} of the rise with {counted(self.steps, 'step')}",
                "take more steps before reading it",
                numbers,
                severity="warning",
            ),
        )

    def plot(self) -> Figure:
        H, W = self.crop.shape[:2]
        # The largest pixels alone would leave the rest of the map empty.
        high = float(np.quantile(np.abs(self.map), 0.999)) or float(np.abs(self.map).max()) or 1.0
        bar = {
            "colorscale": [list(c) for c in DIVERGING], "cmin": -high, "cmax": high,
            "colorbar": {"title": {"text": "attribution"}},
        }  # fmt: skip
        figure = panel_figure(self.summary(), [f"input, {self.keypoint}", "attribution"], (H, W), 2, bar=bar)
        figure.update_layout(height=440)
        nowhere = np.full(2, np.nan)
        add_crop(figure, 0, self.crop, quality=80)
        add_marks(figure, 0, self.point, nowhere, "answer")
        clipped = self.map.clip(-high, high)
        add_map(figure, 1, clipped, (1.0, 1.0), (-high, high), name=self.keypoint, unit="attribution",
                colours=DIVERGING)  # fmt: skip
        add_marks(figure, 1, self.point, nowhere, "answer")
        return figure

    def table(self) -> list[dict[str, Any]]:
        return rows(within_share_of_box=RINGS, share_of_attribution=self.rings)

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "findings": [finding.facts() for finding in self.to_findings()]}


def compute(run: Run, params: Params) -> IntegratedGradients:
    """Integrated gradients of one keypoint.

    Raises:
        NotAvailable: the model gives no gradients, or did not find the keypoint.
        ValueError: no such sample, keypoint or target.
    """
    from captum.attr import IntegratedGradients as Captum

    n = INSTANCE.index(run, params.instance)
    k = keypoint_of(run, n, params.keypoint)
    targets = targets_of(run, n, params.target).only(k)
    score = score_of(run, n, targets)
    pixels = run.batch.pixels[n : n + 1].detach()
    nothing = baseline(pixels[0], params.baseline)[None]
    if torch.allclose(pixels, nothing, atol=1e-5):
        raise ValueError(f"baseline: {params.baseline} gives this image itself; choose another baseline")
    with asking(run, gradients=True):
        value = score(pixels.clone().requires_grad_(True))
        if not value.requires_grad:
            raise NotAvailable(NO_GRADIENT.format(what="the input"))
        value, without = value.detach(), score(nothing).detach()
        # One target per input is enough for captum; 0 is its index.
        found = Captum(score).attribute(
            pixels, baselines=nothing, target=0, n_steps=params.steps, internal_batch_size=8
        )
    values = found[0].detach().double().sum(0).cpu().numpy()
    rise = float(value[0, 0]) - float(without[0, 0])
    point, near, rings, strongest = _placed(run, n, targets.points[0], values)
    return IntegratedGradients(
        key=INSTANCE.of(run)[n],
        keypoint=run.model.skeleton.keypoints[k],
        target=targets.kind,
        value=float(value[0, 0]),
        value_of_baseline=float(without[0, 0]),
        total=float(values.sum()),
        error=abs(values.sum() - rise) / abs(rise) if rise else np.nan,
        near=near,
        rings=rings,
        steps=params.steps,
        point=point,
        strongest=strongest,
        map=values.astype(np.float32),
        crop=crop_of(run, n),
    )


def _placed(run: Run, n: int, point: Any, values: Any) -> tuple[Any, float, Any, Any]:
    """The answer; shares of the absolute attribution near it and within RINGS; the strongest pixel."""
    size = np.abs(values)
    total = float(size.sum())
    if not total:
        return point, np.nan, np.full(len(RINGS), np.nan), np.full(2, np.nan)
    y, x = np.mgrid[: size.shape[0], : size.shape[1]]
    away = np.hypot(x - point[0], y - point[1]) / box_side(run, n)
    rings = np.array([size[away <= ring].sum() / total for ring in RINGS])
    row, column = np.unravel_index(size.argmax(), size.shape)
    return point, float(size[away <= NEAR].sum() / total), rings, np.array([column, row], float)


INSPECTOR = Inspector("Integrated gradients", Params, compute, needs=Needs(outputs=OUTPUTS), order=30)
