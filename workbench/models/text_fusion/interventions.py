"""What if the text said something else, or nothing, or the neck and the refiner were not there?

Each answers the `replace` of one workbench.core.run: edits at named taps. A tap that the path does not go
through is not edited, and the run is what it was: that a neck can be bypassed without any effect is the
finding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Edits = dict[str, "Callable[[Tensor], Tensor]"]

TEXT = ("text.subject", "text.keypoints")


def without_neck() -> Edits:
    """The features that enter the neck come out of it."""
    return passed_by("neck.before", "neck")


def without_refiner() -> Edits:
    """The raw SimCC vectors leave the head."""
    return passed_by("raw.x", "refined.x") | passed_by("raw.y", "refined.y")


def passed_by(before: str, after: str) -> Edits:
    """What passes at one tap comes out at a later one of the same forward pass."""
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        # clone: an in-place layer behind would rewrite what is kept.
        kept[:] = [tensor.clone()]
        return tensor

    return {before: keep, after: lambda _: kept[0]}


def zero_text() -> Edits:
    """All vectors are zero."""
    return {tap: lambda tensor: tensor * 0 for tap in TEXT}


def shuffled_text(seed: int = 0) -> Edits:
    """Every image has the text of another one of its batch, every keypoint the sentence of another."""

    def exchanged(tensor: Tensor) -> Tensor:
        axis = 0 if tensor.ndim == 2 else 1
        order = np.random.default_rng(seed).permutation(tensor.shape[axis])
        return tensor.index_select(axis, _index(order, tensor))

    return dict.fromkeys(TEXT, exchanged)


def noise_text(seed: int = 0) -> Edits:
    """Random vectors of the length that the sentences' have."""

    def noise(tensor: Tensor) -> Tensor:
        import torch

        drawn = np.random.default_rng(seed).standard_normal(tensor.shape).astype(np.float32)
        random = torch.from_numpy(drawn).to(tensor)
        return random / random.norm(dim=-1, keepdim=True) * tensor.norm(dim=-1, keepdim=True)

    return dict.fromkeys(TEXT, noise)


def other_subject(vector: np.ndarray) -> Edits:
    """Every image has this subject's vector."""

    def other(tensor: Tensor) -> Tensor:
        import torch

        return torch.as_tensor(vector, dtype=tensor.dtype, device=tensor.device).expand_as(tensor)

    return {"text.subject": other}


def _index(order: np.ndarray, like: Tensor) -> Tensor:
    import torch

    return torch.as_tensor(order, device=like.device)
