"""What is measured during training: PCK, gradient norms, size of the updates, dead units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Batch, Outputs, PoseModel, Prediction, Sample
from workbench.core.pck import BoxLength, box_lengths, distances, pooled_pck

if TYPE_CHECKING:
    from torch import Tensor, nn


def pck(
    predictions: Sequence[Prediction],
    samples: Sequence[Sample],
    threshold: float,
    length: BoxLength = "longer side",
) -> float:
    """Share of labelled keypoints closer than `threshold` times a length of the box, in image pixels.

    Args:
        predictions: keypoints in image pixels; nan counts as wrong.
        samples: with ground truth.
        threshold: fraction of the length; strictly closer counts, as in MP-100 and mmpose.
        length: of the box: its longer side, diagonal, or root of area.

    Returns:
        0 to 1; nan when nothing is labelled.
    """
    truth = np.stack([np.asarray(sample.truth, float) for sample in samples])
    keypoints = np.stack([np.asarray(prediction.keypoints, float) for prediction in predictions])
    lengths = box_lengths([sample.box for sample in samples], length)
    return pooled_pck(distances(keypoints, truth, lengths), threshold)


def evaluated(model: PoseModel, batch: Batch, average: Any = None) -> Outputs:
    """Outputs in evaluation mode, detached; the network is in training mode afterwards.

    Args:
        model: the one that is trained.
        batch: on its device.
        average: torch's AveragedModel, whose weights the model uses for this pass.
    """
    import torch

    module = model.module
    current = {k: v.clone() for k, v in module.state_dict().items()} if average else None
    if average:
        module.load_state_dict(average.module.state_dict())
    module.eval()
    try:
        with torch.no_grad():
            return model.forward(batch).detach()
    finally:
        if current is not None:
            module.load_state_dict(current)
        module.train()


def finite(outputs: Outputs) -> bool:
    """Whether all outputs are finite, so that keypoints can be decoded.

    A diverging step is reported by its loss, not by its decoder.
    """
    # What a sequence model read is nan where the support shows no keypoint, and should be.
    answers = (tensor for name, tensor in outputs.tokens.items() if name != "read")
    tensors = (outputs.heatmaps, *(outputs.simcc or ()), *answers)
    return all(bool(t.isfinite().all()) for t in tensors if t is not None)


class GradientNorms:
    """L2 norms of the gradients of one step: per parameter group name, and of all together.

    The norm of every tensor is computed once, in one call, and both are combined from these; the numbers are
    bitwise those of torch.nn.utils.get_total_norm on the same tensors.
    """

    def __init__(self, groups: Sequence[Mapping]) -> None:
        """Compute the norms.

        Args:
            groups: with ``name`` and ``params``; parameters without a gradient are left out.
        """
        import torch

        self._names: list[str] = []
        gradients: list[Tensor] = []
        for group in groups:
            some = [p.grad for p in group["params"] if p.grad is not None]
            gradients += some
            self._names += [group["name"]] * len(some)
        self._norms: list[Tensor] = list(torch._foreach_norm(gradients)) if gradients else []  # type: ignore[reportPrivateImportUsage]

    def by_name(self) -> dict[str, Tensor]:
        """Norm over the parameters of each name, groups of one name together."""
        found: dict[str, list[Tensor]] = {}
        for name, norm in zip(self._names, self._norms, strict=True):
            found.setdefault(name, []).append(norm)
        return {name: _combined(norms) for name, norms in found.items()}

    def total(self) -> Tensor:
        """Norm over all parameters."""
        import torch

        return _combined(self._norms) if self._norms else torch.tensor(0.0)


def _combined(norms: Sequence[Tensor]) -> Tensor:
    import torch

    first = norms[0].device
    return torch.linalg.vector_norm(torch.stack([norm.to(first) for norm in norms]))


class Updates:
    """Size of an update relative to the weights, per parameter group name."""

    def __init__(self, groups: Sequence[Mapping]) -> None:
        """Take the parameters; nothing is copied before the first `record`.

        Args:
            groups: with ``name`` and ``params``.
        """
        self._weights: dict[str, list[Tensor]] = {}
        for group in groups:
            self._weights.setdefault(group["name"], []).extend(p.detach() for p in group["params"])
        # Allocated once: fresh pages at every measurement would cost more than the copy.
        self._before: dict[str, list[Tensor]] = {}

    def record(self) -> None:
        """Copy the weights as they are, before an update."""
        if not self._before:
            self._before = {name: [p.clone() for p in now] for name, now in self._weights.items()}
            return
        for name, now in self._weights.items():
            for before, weight in zip(self._before[name], now, strict=True):
                before.copy_(weight)

    def ratios(self) -> dict[str, float]:
        """Norm of the change since `record` over the norm of the weights; about 1e-3 is healthy.

        The copy is used up: call `record` before the next update.
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
    """Taps at every ReLU of a network: module path by module path."""
    from torch import nn

    return {
        name: name for name, part in module.named_modules() if isinstance(part, (nn.ReLU, nn.ReLU6)) and name
    }


def dead_share(activations: Mapping[str, Tensor]) -> float:
    """Share of rectified channels that are zero everywhere.

    Args:
        activations: output of every ReLU, [N, C, ...], by module path.

    Returns:
        0 to 1; nan where the network has no ReLU.
    """
    if not activations:
        return float("nan")
    dead = total = 0
    for tensor in activations.values():
        channels = tensor.transpose(0, 1).flatten(1) if tensor.ndim > 2 else tensor.T
        dead += int((channels.abs().amax(1) == 0).sum())
        total += channels.shape[0]
    return dead / total
