"""Is it learning? PCK on the training images, size of the updates, units that never fire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import Prediction, Sample
from workbench.core.pck import BoxLength, box_lengths, distances, pooled_pck

if TYPE_CHECKING:
    from torch import Tensor, nn


def pck(
    predictions: Sequence[Prediction],
    samples: Sequence[Sample],
    threshold: float,
    length: BoxLength = "longer side",
) -> float:
    """Share of labelled keypoints closer than `threshold` times a length of the box, original pixels.

    Args:
        predictions: in image pixels; nan counts as wrong.
        samples: with truth.
        threshold: fraction of the length; strictly closer counts, as in MP-100 and mmpose.
        length: of the box: its longer side, diagonal, or root of area.

    Returns:
        0 to 1; nan when nothing is labelled.
    """
    truth = np.stack([np.asarray(sample.truth, float) for sample in samples])
    keypoints = np.stack([np.asarray(prediction.keypoints, float) for prediction in predictions])
    lengths = box_lengths([sample.box for sample in samples], length)
    return pooled_pck(distances(keypoints, truth, lengths), threshold)


def norms(groups: Sequence[Mapping], *, gradients: bool) -> dict[str, Tensor]:
    """L2 norm of the weights or gradients of each named parameter group, groups of one name together."""
    from torch.nn.utils import get_total_norm

    by_name: dict[str, list[Tensor]] = {}
    for group in groups:
        tensors = [p.grad if gradients else p.detach() for p in group["params"]]
        by_name.setdefault(group["name"], []).extend(t for t in tensors if t is not None)
    return {name: get_total_norm(tensors) for name, tensors in by_name.items() if tensors}


class Updates:
    """How far a step moved the weights of each named parameter group, over how large they are."""

    def __init__(self, groups: Sequence[Mapping]) -> None:
        """Nothing is kept before the first `keep`."""
        self._weights: dict[str, list[Tensor]] = {}
        for group in groups:
            self._weights.setdefault(group["name"], []).extend(p.detach() for p in group["params"])
        # Memory taken once: fresh pages at every measurement would cost more than the copy.
        self._before: dict[str, list[Tensor]] = {}

    def keep(self) -> None:
        """Remember the weights as they are."""
        if not self._before:
            self._before = {name: [p.clone() for p in now] for name, now in self._weights.items()}
            return
        for name, now in self._weights.items():
            for before, weight in zip(self._before[name], now, strict=True):
                before.copy_(weight)

    def ratios(self) -> dict[str, float]:
        """Norm of what was added since `keep` over the norm of the weights; about 1e-3 is healthy.

        What was kept is used up.
        """
        from torch.nn.utils import get_total_norm

        found = {}
        for name, now in self._weights.items():
            before = self._before[name]
            size = get_total_norm(before).clamp(min=1e-12)
            for was, weight in zip(before, now, strict=True):
                was.sub_(weight)
            found[name] = (get_total_norm(before) / size).item()
        return found


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
