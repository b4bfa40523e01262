"""Losses on heatmaps: how far is each map from its Gaussian?

A Gaussian of sigma 2 fills under 1 % of a 64x48 map: plain MSE is almost all background (see energy.py),
which focal weighting and hard-keypoint mining answer in two ways.

Sources: mmpose 1.3.2 models/losses/heatmap_loss.py (KeypointMSELoss, KeypointOHKMMSELoss, FocalHeatmapLoss);
OHKM: Chen et al., Cascaded Pyramid Network, CVPR 2018; focal: Law and Deng, CornerNet, ECCV 2018, eq. 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.core import Outputs

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from workbench.training.objectives import Target


def _maps(outputs: Outputs, target: Target) -> tuple[Float[Tensor, "N K h w"], Float[Tensor, "N K h w"]]:
    given, wanted = outputs.heatmaps, target.heatmaps
    if given is None or wanted is None:
        raise ValueError("heatmap objective: expected heatmaps from the model and in the target")
    if given.shape != wanted.shape:
        raise ValueError(
            f"heatmap objective: the model gives {tuple(given.shape)}, the target is {tuple(wanted.shape)}: "
            "its codec's output_size or its number of keypoints is wrong"
        )
    return given, wanted


def mse(outputs: Outputs, target: Target, foreground: float = 0.0) -> dict[str, Tensor]:
    """Mean squared error over all cells, unlabelled keypoints counting as zero.

    Args:
        outputs: with heatmaps.
        target: of the same size.
        foreground: a cell counts 1 + foreground x target, so that peaks are not lost in the background.
    """
    given, wanted = _maps(outputs, target)
    squared = (given - wanted) ** 2 * target.weights[..., None, None]
    return {"heatmap": (squared * (1 + foreground * wanted) if foreground else squared).mean()}


def ohkm(outputs: Outputs, target: Target, hardest: int = 8) -> dict[str, Tensor]:
    """Mean squared error of the hardest keypoints of each sample.

    Raises:
        ValueError: fewer keypoints than `hardest`.
    """
    given, wanted = _maps(outputs, target)
    if given.shape[1] < hardest:
        raise ValueError(f"OHKM: expected at least {hardest} keypoints to choose from, got {given.shape[1]}")
    weights = target.weights[..., None, None]
    per_keypoint = ((given * weights - wanted * weights) ** 2).mean((2, 3))
    return {"heatmap": per_keypoint.topk(hardest, 1).values.mean(1).mean()}


def focal(outputs: Outputs, target: Target, alpha: float = 2.0, beta: float = 4.0) -> dict[str, Tensor]:
    """CornerNet's focal loss; cells that are exactly 1 in the target are the positives.

    Args:
        outputs: maps as probabilities in (0, 1); they are clamped to 1e-4 from either end, without which
            one saturated cell makes the loss infinite.
        target: with peaks of exactly 1, as MSRA's rounded Gaussians have them.
        alpha: down-weights what is already right.
        beta: down-weights negatives near a peak.
    """
    given, wanted = _maps(outputs, target)
    given = given.clamp(1e-4, 1 - 1e-4)
    weights = target.weights[..., None, None]
    positive = wanted.eq(1).float() * weights
    negative = wanted.lt(1).float() * weights
    hit = given.log() * (1 - given) ** alpha * positive
    miss = (1 - given).log() * given**alpha * (1 - wanted) ** beta * negative
    count = positive.sum().clamp(min=1)
    return {"foreground": -hit.sum() / count, "background": -miss.sum() / count}
