"""How many keypoints would a confidence mask let through?

Consistency training on unlabelled images can leave out keypoints of which the teacher is not sure. A
threshold on the peak of a map does that. A threshold on the softmax of a map over its thousands of cells
lets nothing through, however good the map: the loss is then 0, and nobody sees it.

Source: hnuzhy/MultiAugs@5443fb9 lib/core/loss.py, CONF_MASKING: peak above CONF_THRESH = .5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from workbench.core import Skeleton
from workbench.core.inspector import Inspector, Needs, Range
from workbench.core.report import Report, counted, rows
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, new_figure
from workbench.training.consistency import best_confidence, confidence

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.core import Run

# A Gaussian of this sigma fills one cell.
_ONE_CELL = 1e-3
# Points of the curve.
_POINTS = 101


@dataclass(frozen=True)
class Params:
    """Controls.

    Attributes:
        threshold: keypoints above it pass.
        rule: the peak of the map, as upstream, or the largest value of its softmax.
        temperature: temperature of the softmax.
    """

    threshold: Annotated[float, Range(0, 1, 0.01)] = 0.5
    rule: Literal["peak", "softmax"] = "peak"
    temperature: Annotated[float, Range(0.05, 2, 0.05)] = 0.5


@dataclass(frozen=True, eq=False)
class MaskedKeypoints(Report):
    """Keypoints that pass a confidence mask.

    Attributes:
        threshold: of the mask.
        rule: what is compared with it.
        temperature: temperature of the softmax.
        confidences: by the rule.
        peaks: of the maps themselves.
        best: confidence of a perfect map of this size, by the rule; of a single cell without a codec.
        size: height and width of a map, cells.
    """

    skeleton: Skeleton
    threshold: float
    rule: str
    temperature: float
    confidences: Float[np.ndarray, "N K"]
    peaks: Float[np.ndarray, "N K"]
    best: float
    size: tuple[int, int]

    @property
    def passed(self) -> int:
        """Number of keypoints above the threshold."""
        return int((self.confidences > self.threshold).sum())

    def summary(self) -> str:
        total = self.confidences.size
        what = "a peak" if self.rule == "peak" else f"softmax(map / {self.temperature:g})"
        text = f"{self.passed} of {counted(total, 'keypoint')} have {what} above {self.threshold:g}"
        if self.passed == total:
            return f"{text}: the mask leaves nothing out"
        if self.passed:
            return f"{text}; the others do not count in the consistency loss"
        h, w = self.size
        if self.best <= self.threshold:
            text += f", and none can: a perfect {h}x{w} map reaches {self.best:.2g}"
        usual = int((self.peaks > 0.5).sum())
        return (
            f"{text}, so the consistency loss is 0; compare the peak itself (upstream: above 0.5, which "
            f"{usual} of {total} are)"
        )

    def plot(self) -> Figure:
        figure = new_figure(self.summary())
        thresholds = np.linspace(0, 1, _POINTS, dtype=np.float32)
        for name, values, colour in (
            (
                self.rule if self.rule == "peak" else f"softmax at {self.temperature:g}",
                self.confidences,
                FINDING_COLOUR,
            ),
            ("peak (upstream)", self.peaks, QUIET_COLOUR),
        ):
            if name == "peak (upstream)" and self.rule == "peak":
                continue
            share = (values.ravel()[None] > thresholds[:, None]).mean(1).astype(np.float32) * 100
            figure.add_scatter(x=thresholds, y=share, name=name, mode="lines", line={"color": colour})
        figure.add_vline(x=self.threshold, line={"dash": "dot", "color": QUIET_COLOUR})
        return figure.update_layout(
            xaxis_title="threshold", yaxis_title="keypoints that pass (%)", yaxis_range=[-2, 102]
        )

    def table(self) -> list[dict[str, Any]]:
        return rows(
            keypoint=self.skeleton.keypoints,
            passing=(self.confidences > self.threshold).sum(0),
            samples=[len(self.confidences)] * self.confidences.shape[1],
            median_confidence=np.median(self.confidences, 0),
            median_peak=np.median(self.peaks, 0),
        )


def compute(run: Run, params: Params) -> MaskedKeypoints:
    """Compare every map of the run with the threshold."""
    maps = run.heatmaps
    temperature = params.temperature if params.rule == "softmax" else 0.0
    h, w = maps.shape[2:]
    codec = run.model.codec
    # Without a stated sigma the bound is that of a single cell: no map of height 1 is surer.
    sigma = float(np.mean(codec.sigma)) if codec is not None else 0.0
    best = best_confidence(h, w, max(sigma, _ONE_CELL), temperature)
    return MaskedKeypoints(
        run.model.skeleton, params.threshold, params.rule, params.temperature,
        confidence(maps, temperature), confidence(maps), best, (h, w),
    )  # fmt: skip


INSPECTOR = Inspector("Consistency mask", Params, compute, needs=Needs(outputs=("heatmaps",)), order=95)
