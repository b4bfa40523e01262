"""How much of a target is foreground? The imbalance a network sees, and what predicting nothing costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.training.objectives import Target


@dataclass(frozen=True)
class Energy:
    """Foreground against background of a target, labelled keypoints only.

    Attributes:
        foreground_cells: fraction of cells above `level`.
        foreground_energy: fraction of the squared target that lies in them.
        level: what counts as foreground, as a fraction of the peak.
        loss_of_nothing: mean squared error of an all-zero output: a loss that only looks small.
    """

    foreground_cells: float
    foreground_energy: float
    level: float
    loss_of_nothing: float

    def summary(self) -> str:
        """The imbalance in one sentence."""
        return (
            f"{self.foreground_cells:.2%} of the cells are foreground and hold {self.foreground_energy:.0%} "
            f"of the target's energy; predicting nothing at all costs {self.loss_of_nothing:.2g}"
        )


def energy(target: Target, level: float = 0.1) -> Energy:
    """The imbalance of a target.

    Args:
        target: heatmaps or SimCC vectors.
        level: what counts as foreground, as a fraction of the peak.

    Raises:
        ValueError: no keypoint is labelled.
    """
    import torch

    labelled = target.weights > 0
    if not labelled.any():
        raise ValueError("energy: no keypoint is labelled, so the target is empty")
    maps = [target.heatmaps] if target.heatmaps is not None else list(target.simcc or ())
    cells = torch.cat([m[labelled].flatten() for m in maps])
    front = cells > level * cells.max()
    squared = cells**2
    return Energy(
        front.float().mean().item(),
        (squared[front].sum() / squared.sum()).item(),
        level,
        squared.mean().item(),
    )
