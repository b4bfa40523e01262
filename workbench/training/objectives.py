"""Losses on heatmaps and SimCC vectors, by name. Each is returned in parts, so that a curve can be read.

A Gaussian of sigma 2 fills under 1 % of a 64x48 map, so plain MSE is almost all background. Focal weighting
and hard keypoint mining are two answers to that.

Sources: mmpose 1.3.2 models/losses/heatmap_loss.py (KeypointMSELoss, KeypointOHKMMSELoss, FocalHeatmapLoss)
and classification_loss.py (KLDiscretLoss); OHKM: Chen et al., Cascaded Pyramid Network, CVPR 2018; focal: Law
and Deng, CornerNet, ECCV 2018, eq. 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.core import Codec, Outputs, nearest
from workbench.core.report import counted

if TYPE_CHECKING:
    import numpy as np
    import torch
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Target:
    """What the outputs should have been.

    Attributes:
        weights: 0 where a keypoint is not labelled and must not count.
        heatmaps: one map per keypoint, or None.
        simcc: labels along x and y, or None.
        offsets: of UDP's combined form, from each cell to the keypoint, cells.
        radius: of its disc, cells.
    """

    weights: Float[Tensor, "N K"]
    heatmaps: Float[Tensor, "N K h w"] | None = None
    simcc: tuple[Float[Tensor, "N K bins_x"], Float[Tensor, "N K bins_y"]] | None = None
    offsets: Float[Tensor, "N K 2 h w"] | None = None
    radius: float = 1.0

    def as_outputs(self) -> Outputs:
        """What a network leaves that gives exactly this."""
        fields = {} if self.offsets is None else {"offsets": self.offsets}
        return Outputs(heatmaps=self.heatmaps, simcc=self.simcc, fields=fields)


Parts = Mapping[str, "Tensor"]
Objective = Callable[[Outputs, Target], Parts]
"""From outputs and target to the parts of the loss; their sum is minimised."""


def target_of(
    codec: Codec,
    points: Float[np.ndarray, "N K 2"],
    visible: Float[np.ndarray, "N K"],
    device: str | torch.device = "cpu",
) -> Target:
    """The codec's target as tensors.

    Args:
        codec: encodes coordinates.
        points: (x, y) in input pixels.
        visible: 0 where not labelled.
        device: of the network.
    """
    import torch

    from workbench.decoding.targets import as_outputs, target

    made = target(codec, points, visible)
    weights = torch.as_tensor(made["weights"], device=device)
    left = as_outputs(made, lambda array: torch.as_tensor(array, device=device))
    return Target(weights, left.heatmaps, left.simcc, left.fields.get("offsets"), codec.sigma[0])


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
    """Mean squared error over all cells, a scalar; keypoints that are not labelled count as zero.

    Of UDP's combined form also that of the offsets within the disc, in units of its radius; both together are
    twice mmpose's CombinedTargetMSELoss.

    Args:
        outputs: with heatmaps.
        target: heatmaps of the same size.
        foreground: a cell has weight 1 + foreground x target, so that peaks weigh against the background.

    Raises:
        ValueError: no heatmaps, or maps of another size.
    """
    given, wanted = _maps(outputs, target)
    squared = (given - wanted) ** 2 * target.weights[..., None, None]
    parts = {"heatmap": (squared * (1 + foreground * wanted) if foreground else squared).mean()}
    if target.offsets is not None:
        disc = (wanted * target.weights[..., None, None])[:, :, None]
        off = (outputs.fields["offsets"] - target.offsets) * disc / target.radius
        parts["offsets"] = (off**2).sum(2).mean()
    return parts


def ohkm(outputs: Outputs, target: Target, hardest: int = 8) -> dict[str, Tensor]:
    """Mean squared error, a scalar, of the hardest keypoints of each sample (online hard keypoint mining).

    Args:
        outputs: with heatmaps.
        target: heatmaps of the same size.
        hardest: number of keypoints that count in each sample.

    Raises:
        ValueError: fewer keypoints than `hardest`, no heatmaps, or maps of another size.
    """
    given, wanted = _maps(outputs, target)
    if given.shape[1] < hardest:
        raise ValueError(
            f"OHKM: expected at least {counted(hardest, 'keypoint')} to choose from, got {given.shape[1]}"
        )
    weights = target.weights[..., None, None]
    per_keypoint = ((given * weights - wanted * weights) ** 2).mean((2, 3))
    return {"heatmap": per_keypoint.topk(hardest, 1).values.mean(1).mean()}


def focal(outputs: Outputs, target: Target, alpha: float = 2.0, beta: float = 4.0) -> dict[str, Tensor]:
    """CornerNet's focal loss as two scalars; cells that are exactly 1 in the target are the positives.

    Args:
        outputs: maps as probabilities in (0, 1); clamped to 1e-4 from either end, because one saturated cell
            would make the loss infinite.
        target: with peaks of exactly 1, as MSRA's rounded Gaussians have them.
        alpha: reduces the weight of cells that are already right.
        beta: reduces the weight of negatives near a peak.

    Raises:
        ValueError: no heatmaps, or maps of another size.
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


def kl(outputs: Outputs, target: Target, beta: float = 10.0, label_beta: float = 10.0) -> dict[str, Tensor]:
    """Kullback-Leibler divergence of the softmax from the label's softmax, a scalar per axis.

    As mmpose trains RTMPose. The sum over samples is divided by the number of keypoints only, so the loss
    grows with the batch: one reason why a learning rate does not transfer between batch sizes.

    Args:
        outputs: SimCC logits.
        target: SimCC labels and weights.
        beta: sharpening of the prediction.
        label_beta: sharpening of the label.

    Raises:
        ValueError: no SimCC vectors, or vectors of another length.
    """
    from torch.nn import functional

    if outputs.simcc is None or target.simcc is None:
        raise ValueError("SimCC objective: expected SimCC vectors from the model and in the target")
    parts = {}
    for axis, given, wanted in zip("xy", outputs.simcc, target.simcc, strict=True):
        if given.shape != wanted.shape:
            raise ValueError(
                f"SimCC objective, {axis}: the model gives {tuple(given.shape)}, the target is "
                f"{tuple(wanted.shape)}: its codec's split ratio or input size is wrong"
            )
        log_p = functional.log_softmax(given * beta, -1)
        label = functional.softmax(wanted * label_beta, -1)
        per_keypoint = functional.kl_div(log_p, label, reduction="none").mean(-1)
        parts[axis] = (per_keypoint * target.weights).sum() / given.shape[1]
    return parts


OBJECTIVES: dict[str, Objective] = {
    "heatmap_mse": mse,
    "heatmap_focal": focal,
    "heatmap_ohkm": ohkm,
    "simcc_kl": kl,
}
"""Name, as in Settings.objective -> loss."""


def objective_for(codec: Codec, name: str = "") -> Objective:
    """The objective of that name, or the default of the codec's kind.

    Args:
        codec: of the outputs.
        name: a key of OBJECTIVES; "" selects the default.

    Raises:
        KeyError: no such objective; the message lists near ones.
        ValueError: it needs another kind of output, or other targets, than the codec describes.
    """
    name = name or {"heatmap": "heatmap_mse", "simcc": "simcc_kl"}[codec.kind]
    if name not in OBJECTIVES:
        raise KeyError(f"no objective {name!r}; nearest: {nearest(name, OBJECTIVES)}")
    if not name.startswith(codec.kind):
        raise ValueError(
            f"objective {name}: expected a {name.split('_')[0]} output, this model gives {codec.kind}"
        )
    if codec.decoder == "udp-combined" and name != "heatmap_mse":
        raise ValueError(f"objective {name}: UDP's combined form learns offsets too; expected heatmap_mse")
    if codec.decoder == "megvii" and name == "heatmap_focal":
        raise ValueError(f"objective {name}: expected targets with peaks of 1, Megvii's have 255")
    return OBJECTIVES[name]
