"""Which keypoints are right? PCK as MP-100 has it, in original pixels, its rule always shown.

Source: Pose-for-Everything and PoseAnything: strictly closer than .2 of the box's longer side; keypoints
visible in the query and in the support count; the mean over images, so that each image weighs the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.pck import BOX_LENGTHS, BoxLength, box_lengths, distances, pck_by_image

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from workbench.core import Run

Normaliser = BoxLength
NORMALISERS = BOX_LENGTHS


@dataclass(frozen=True)
class PckRule:
    """When is a keypoint right?

    Attributes:
        threshold: share of the normaliser; strictly closer is right.
        normaliser: the box's longer side (MP-100), its diagonal (some CAPE code), or the root of its area.
    """

    threshold: float = 0.2
    normaliser: Normaliser = "longer side"

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise ValueError(f"PCK: expected a threshold above 0, got {self.threshold}")
        if self.normaliser not in NORMALISERS:
            raise ValueError(f"PCK: expected longer side, diagonal or root of area, got {self.normaliser!r}")

    def text(self) -> str:
        """The rule in words."""
        return f"PCK@{self.threshold:g} of the box's {self.normaliser}, original pixels"

    def sizes(self, run: Run) -> Float[np.ndarray, " N"]:
        """The normaliser of every sample, image pixels."""
        return box_lengths([sample.box for sample in run.samples], self.normaliser)

    def errors(self, run: Run, points: Float[np.ndarray, "N K 2"]) -> Float[np.ndarray, "N K"]:
        """Distance to the truth in shares of the normaliser; nan where not counted, inf where no answer."""
        truth = np.array(run.truth, float)
        truth[~counted(run), 2] = 0
        return distances(points, truth, self.sizes(run))

    def pck(self, errors: Float[np.ndarray, "N K"]) -> float:
        """Mean over samples of the share of counted keypoints that are right; nan where none counts."""
        shares = pck_by_image(np.asarray(errors, float), self.threshold)
        known = shares[~np.isnan(shares)]
        return float(known.mean()) if len(known) else float("nan")


def explaining_rule(run: Run, points: Float[np.ndarray, "N K 2"], figure: float) -> PckRule | None:
    """The rule by which a figure is the PCK of these points; None where no known one gives it.

    Args:
        run: with truth.
        points: in image pixels.
        figure: what a log says.
    """
    for normaliser in NORMALISERS:
        rule = PckRule(normaliser=normaliser)
        if abs(rule.pck(rule.errors(run, points)) - figure) < 1e-6:
            return rule
    return None


NOTHING_COUNTS = "no keypoint is visible in both the image and its support, so no PCK can be measured"


def counted(run: Run) -> Bool[np.ndarray, "N K"]:
    """Keypoints visible in the query, and in the support where the model has one."""
    visible = run.truth[..., 2] > 0
    support = run.batch.extra.get("support_visible")
    return visible if support is None else visible & support.any(1).cpu().numpy()


def granularity(run: Run) -> str:
    """Which values PCK can take at all: ``k/9``; with more images, ``k/9 to k/17, mean of 4``."""
    counts = [int(c) for c in counted(run).sum(1) if c]
    if not counts:
        return "nothing counts"
    low, high = min(counts), max(counts)
    steps = f"k/{low}" if low == high else f"k/{low} to k/{high}"
    return steps if len(counts) == 1 else f"{steps}, mean of {len(counts)} images"
