"""Where does a network find its text? Vectors of a batch, or what mmpose's data samples carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sentences:
    """The vectors of the sentences that go with a batch.

    Attributes:
        subject: one vector per image, of what is seen in it (the species).
        keypoints: one vector per image and keypoint.
    """

    subject: Float[Tensor, "N D"]
    keypoints: Float[Tensor, "N K D"]

    def to(self, device: torch.device | str) -> Sentences:
        """The same vectors elsewhere."""
        return Sentences(self.subject.to(device), self.keypoints.to(device))


def in_data_samples(data_samples: Sequence[Any] | None) -> Sentences | None:
    """What LoadTextEmbeddings put into the samples; None where one of them carries no text."""
    found = [_of(sample) for sample in data_samples or ()]
    if not found or any(subject is None or keypoints is None for subject, keypoints in found):
        return None
    return Sentences(
        torch.stack([torch.as_tensor(subject, dtype=torch.float32) for subject, _ in found]),
        torch.stack([torch.as_tensor(keypoints, dtype=torch.float32) for _, keypoints in found]),
    )


def _of(sample: Any) -> tuple[Any, Any]:
    told = sample if isinstance(sample, dict) else sample.metainfo
    return told.get("global_text"), told.get("local_text")
