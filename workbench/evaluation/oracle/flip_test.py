"""Does averaging with the mirrored pass cost AP? No part holds it: true maps are drawn for both passes.

A flip test that exchanges left and right wrongly, or not at all, loses in every part at once, in heatmaps,
tags and grouping. The same outputs without the mirrored pass tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.finding import Effect, Finding
from workbench.core.report import plain, signed_text
from workbench.core.statistics import standard_error

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.core import PoseModel

NOT_ASKED = "the mirrored pass is not used; --flip uses it, and says what it costs"
NO_PAIRS = "this model names no pairs of left and right, so there is no mirrored pass"
# AP, and standard errors of the OKS of the annotated people, that leaving it out must give back.
LEAST_GAIN, LEAST_ERRORS = 0.03, 3.0


@dataclass(frozen=True, eq=False)
class FlipTest:
    """Figures with the mirrored pass and without it.

    Attributes:
        AP: with it.
        AP_without: with the plain pass alone.
        gains: OKS of each annotated person without it, less that with it.
    """

    AP: float
    AP_without: float
    gains: Float[np.ndarray, " Q"]

    @property
    def gain(self) -> float:
        """AP that leaving it out gives back."""
        return self.AP_without - self.AP

    @property
    def costs(self) -> bool:
        """Whether it costs AP, and not by chance."""
        if self.gain < LEAST_GAIN or len(self.gains) < 2:
            return False
        return bool(self.gains.mean() > max(0.0, LEAST_ERRORS * standard_error(self.gains)))

    def text(self) -> str:
        """The finding with its evidence; "" where it costs nothing."""
        if not self.costs:
            return ""
        error = standard_error(self.gains)
        return (
            f"without the mirrored pass AP {self.AP:.3f} becomes {self.AP_without:.3f}, OKS of the annotated "
            f"people {signed_text(float(self.gains.mean()))} (standard error {error:.3f}): a flip test "
            "should cost nothing"
        )

    def finding(self) -> Finding | None:
        """As a record; None where it costs nothing."""
        if not self.costs:
            return None
        return Finding(
            "the flip test costs AP",
            self.text(),
            "check that left and right of the mirrored outputs are exchanged once, and the names of the "
            "pairs; a network that was trained without mirrored images is read without it",
            effect=Effect("AP", self.gain),
            refuted_by="other images on which averaging with the mirrored pass costs nothing",
            confidence="proved",
        )

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return plain({"AP": self.AP, "AP_without": self.AP_without, "found": self.costs, "text": self.text()})


def left_out(flip_test: FlipTest | None, model: PoseModel) -> dict[str, str]:
    """Why nothing is said of a flip test, by its name; empty where it was measured.

    Args:
        flip_test: as measured; None where it was not.
        model: whose.
    """
    if flip_test is not None:
        return {}
    return {"flip test": NOT_ASKED if model.skeleton.mirror else NO_PAIRS}
