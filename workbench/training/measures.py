"""Is it learning? PCK on the training images, size of the updates, units that never fire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.records import Prediction, Sample

if TYPE_CHECKING:
    from torch import Tensor, nn


def pck(predictions: Sequence[Prediction], samples: Sequence[Sample], threshold: float) -> float:
    """Share of labelled keypoints closer than `threshold` times the longer side of the box, original pixels.

    Args:
        predictions: in image pixels; nan counts as wrong.
        samples: with truth.
        threshold: fraction of the box's longer side; strictly closer counts, as in MP-100 and mmpose.

    Returns:
        0 to 1; nan when nothing is labelled.
    """
    right = labelled = 0
    for prediction, sample in zip(predictions, samples, strict=True):
        truth = np.asarray(sample.truth, float)
        x0, y0, x1, y1 = sample.box
        distance = np.linalg.norm(prediction.keypoints - truth[:, :2], axis=1)
        visible = truth[:, 2] > 0
        right += int((distance[visible] < threshold * max(x1 - x0, y1 - y0)).sum())
        labelled += int(visible.sum())
    return right / labelled if labelled else float("nan")


def norms(groups: Sequence[Mapping], *, gradients: bool) -> dict[str, Tensor]:
    """L2 norm of the weights or gradients of each named parameter group, groups of one name together."""
    from torch.nn.utils import get_total_norm

    by_name: dict[str, list[Tensor]] = {}
    for group in groups:
        tensors = [p.grad if gradients else p.detach() for p in group["params"]]
        by_name.setdefault(group["name"], []).extend(t for t in tensors if t is not None)
    return {name: get_total_norm(tensors) for name, tensors in by_name.items() if tensors}


def copy_of(groups: Sequence[Mapping]) -> dict[str, list[Tensor]]:
    """The weights of each named group, copied, to measure the next update against."""
    weights: dict[str, list[Tensor]] = {}
    for group in groups:
        weights.setdefault(group["name"], []).extend(p.detach().clone() for p in group["params"])
    return weights


def update_ratio(before: Mapping[str, list[Tensor]], groups: Sequence[Mapping]) -> dict[str, float]:
    """Norm of the last update over the norm of the weights, per named group; about 1e-3 is healthy."""
    from torch.nn.utils import get_total_norm

    now: dict[str, list[Tensor]] = {}
    for group in groups:
        now.setdefault(group["name"], []).extend(p.detach() for p in group["params"])
    ratios = {}
    for name, old in before.items():
        moved = get_total_norm([new - was for new, was in zip(now[name], old, strict=True)])
        ratios[name] = (moved / get_total_norm(old).clamp(min=1e-12)).item()
    return ratios


def rectifiers(module: nn.Module) -> dict[str, str]:
    """Taps at every ReLU of a network: its path by its path."""
    from torch import nn

    return {
        name: name for name, part in module.named_modules() if isinstance(part, (nn.ReLU, nn.ReLU6)) and name
    }


def dead_share(activations: Mapping[str, Tensor]) -> float:
    """Share of rectified channels that were zero everywhere; nan where the network has no rectifier."""
    if not activations:
        return float("nan")
    dead = total = 0
    for tensor in activations.values():
        channels = tensor.transpose(0, 1).flatten(1) if tensor.ndim > 2 else tensor.T
        dead += int((channels.abs().amax(1) == 0).sum())
        total += channels.shape[0]
    return dead / total
