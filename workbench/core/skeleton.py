"""Which keypoints does a model or a data set speak of?"""

from __future__ import annotations

from dataclasses import dataclass

from workbench.core.errors import nearest


@dataclass(frozen=True)
class Skeleton:
    """The keypoints a model or a data set speaks of.

    Attributes:
        name: e.g. ``coco-17``.
        keypoints: the K names, in order.
        limbs: index pairs to draw.
        mirror: for each keypoint the index of its left-right partner (itself on the midline);
            empty when unknown, and then nothing may be flipped.
        sigmas: OKS constants per keypoint; empty when nobody has published any.
        source: where names and sigmas were taken from.
    """

    name: str
    keypoints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...] = ()
    mirror: tuple[int, ...] = ()
    sigmas: tuple[float, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        K = len(self.keypoints)
        if self.mirror and sorted(self.mirror) != list(range(K)):
            raise ValueError(f"skeleton {self.name}: mirror is no permutation of {K} keypoints")
        if self.sigmas and len(self.sigmas) != K:
            raise ValueError(f"skeleton {self.name}: {len(self.sigmas)} sigmas for {K} keypoints")

    def __len__(self) -> int:
        return len(self.keypoints)

    def index(self, keypoint: str) -> int:
        """Position of a keypoint by name."""
        if keypoint not in self.keypoints:
            raise KeyError(f"no keypoint {keypoint!r}; nearest: {nearest(keypoint, self.keypoints)}")
        return self.keypoints.index(keypoint)
