"""Which way through the network? Training and inference need not go the same, and that is a finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Refining = Literal["", "training", "inference"]


@dataclass(frozen=True)
class Path:
    """One way through the network.

    Attributes:
        fuse: the neck is given the text. Without text it hands the features on as they are.
        refine: "" leaves the refiner out; ``inference`` refines what is uncertain and normalises as the
            options say; ``training`` refines every keypoint and normalises none.
    """

    fuse: bool
    refine: Refining = ""

    def __str__(self) -> str:
        return f"{'with' if self.fuse else 'without'} fusion, {'with' if self.refine else 'without'} refiner"
