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


# Below so many elements a tensor's norm costs its call and not its reading: such tensors are joined first.
FEW_ELEMENTS = 4096


class GradientNorms:
    """L2 norms of the gradients of a step: per parameter group name, and of all together."""

    def __init__(self, groups: Sequence[Mapping]) -> None:
        """Take the parameters, once for all steps.

        Args:
            groups: with ``name`` and ``params``; groups of one name count together.
        """
        self._parameters: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
        for group in groups:
            for kept, more in zip(
                self._parameters.setdefault(group["name"], ([], [])), by_size(group["params"]), strict=True
            ):
                kept.extend(more)

    def by_name(self) -> dict[str, Tensor]:
        """Norm, a scalar, over the parameters of each name that have a gradient; without any, no entry."""
        found = {}
        for name, parameters in self._parameters.items():
            # Read once each: after a backward pass every one of them has left the processor's cache.
            few, many = ([g for p in own if (g := p.grad) is not None] for own in parameters)
            if few or many:
                found[name] = _joined_norm(few, many)
        return found


def by_size(tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Tensors of any shape: those of fewer than FEW_ELEMENTS elements, and the others."""
    return [t for t in tensors if t.numel() < FEW_ELEMENTS], [t for t in tensors if t.numel() >= FEW_ELEMENTS]


def total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """L2 norm, a scalar, over all elements of some tensors of any shape; 0 for none."""
    import torch

    return _joined_norm(*by_size(tensors)) if tensors else torch.tensor(0.0)


def _joined_norm(few: Sequence[Tensor], many: Sequence[Tensor]) -> Tensor:
    """Norm of tensors of which some are so small that their elements are joined first."""
    import torch

    joined = [torch.cat([t.reshape(-1) for t in few])] if few else []
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm([*many, *joined])))  # type: ignore[reportPrivateImportUsage]


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
        import torch

        for name, now in self._weights.items():
            torch._foreach_copy_(self._before[name], now)  # type: ignore[reportPrivateImportUsage]

    def ratios(self) -> dict[str, float]:
        """Norm of the change since `record` over the norm of the weights; about 1e-3 is healthy.

        The copy is used up: call `record` before the next update.
        """
        import torch

        found = {}
        for name, now in self._weights.items():
            before = self._before[name]
            size = total_norm(before).clamp(min=1e-12)
            torch._foreach_sub_(before, now)  # type: ignore[reportPrivateImportUsage]
            found[name] = (total_norm(before) / size).item()
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
