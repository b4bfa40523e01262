"""What do the tag maps mean? Variants that let keypoints read other maps, fewer of them, or worse ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.core import NotAvailable
from workbench.evaluation.ablation.variants import (
    ComponentForAll,
    FirstComponents,
    MeanOf,
    Noisy,
    Variant,
    reference,
)

if TYPE_CHECKING:
    from workbench.models.bottom_up import BottomUp

COMPONENTS = (1, 2, 4, 8)
NOISE = (0.1, 0.3, 1.0)


def tag_variants(model: BottomUp, subset: Sequence[int] = (), flip: bool = True) -> list[Variant]:
    """The reference first, then one map for all, means, components, noise.

    Args:
        model: with one tag map per keypoint.
        subset: indices of maps whose mean is asked for besides the built-in thirds.
        flip: the mirrored pass counts, where there is one.

    Raises:
        NotAvailable: the network has one tag map for all keypoints.
        ValueError: the subset names a map that is not there.
    """
    own, T = reference(model, flip), model.tags
    if T == 1:
        raise NotAvailable(
            "ablate tags: this network has one tag map for all keypoints, so there is nothing to choose among"
        )
    if not all(0 <= index < T for index in subset):
        raise ValueError(f"maps: expected indices from 0 to {T - 1}, got {list(subset)}")
    K, names = len(model.skeleton), model.skeleton.keypoints
    variants = [own]
    for n in range(T):
        whose = f", that of {names[n]}," if T == K else ""
        variants.append(
            own.but(f"map {n} for all", f"every keypoint reads map {n}{whose} alone", tag_layout=(n,) * K)
        )
    if T == K and model.skeleton.mirror and model.grouping.tag_layout == "per_joint":
        variants.append(
            own.but(
                "partner's map",
                "left keypoints read the right one's map, and right the left one's",
                tag_layout=model.skeleton.mirror,
            )
        )
    for maps in _subsets(T, subset):
        label = "mean of all maps" if len(maps) == T else f"mean of maps {_span(maps)}"
        variants.append(own.but(label, "one map for all keypoints", MeanOf(maps), tag_layout="shared"))
    for count in (c for c in COMPONENTS if c < T):
        what = f"{count} principal component{'s' if count > 1 else ''}"
        about = "every keypoint reads its own map, as far as these tell it"
        variants.append(own.but(what, about, FirstComponents(count)))
    about = "one map for all keypoints: what the maps have in common"
    variants.append(own.but("first component for all", about, ComponentForAll(), tag_layout="shared"))
    variants += [
        own.but(f"noise {deviation:g}", "added to every cell of every tag map", Noisy(deviation))
        for deviation in NOISE
    ]
    return variants


def _subsets(T: int, subset: Sequence[int]) -> list[tuple[int, ...]]:
    """All, thirds (head, arms and legs in COCO's order), and the one asked for."""
    edges = [0, round(T / 3), round(2 * T / 3), T]
    thirds = [tuple(range(a, b)) for a, b in itertools.pairwise(edges) if 1 < b - a < T]
    chosen = [tuple(range(T)), *thirds]
    asked = tuple(dict.fromkeys(subset))
    return [*chosen, asked] if asked and asked not in chosen else chosen


def _span(maps: tuple[int, ...]) -> str:
    if len(maps) > 2 and maps == tuple(range(maps[0], maps[-1] + 1)):
        return f"{maps[0]} to {maps[-1]}"
    return ", ".join(map(str, maps))
