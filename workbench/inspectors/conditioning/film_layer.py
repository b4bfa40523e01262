"""What arrives of scale and shift at one place where text meets features, and what that amounts to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import PICTURE, plain

if TYPE_CHECKING:
    from jaxtyping import Float

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
