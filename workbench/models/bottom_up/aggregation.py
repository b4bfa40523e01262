"""How do the maps of several passes become one pair, heatmaps and tags, that can be grouped?

A network that gives two resolutions, asked plainly and mirrored and at several scales, leaves many maps of
one image. The published figures rest on all of the steps here; each can be left out, at no forward pass.
Order and arithmetic are the source's, so that ties stay ties.

Source: HRNet/HigherHRNet-Human-Pose-Estimation@aa23881:lib/core/inference.py (get_multi_stage_outputs,
aggregate_results), tools/valid.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from workbench.core import NotAvailable
from workbench.models.bottom_up.aggregation import Resizing

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float
    from torch import Tensor


# Enlarged maps by pass, size and rule, for several readings of the same passes.
Kept = dict[tuple[object, ...], "Tensor"]


@dataclass(frozen=True)
class Aggregation:
    """Which of the maps are used, and how; the defaults are the published protocol.

    Attributes:
        flip: the mirrored passes count, where there are any.
        mirror_swap: which of the mirrored maps have left and right exchanged back: ``both`` (published),
            ``heatmaps``, ``tags`` or ``neither``, as where a script or a network does otherwise.
        flip_tags: their tags stand beside the plain ones, so that a tag has two numbers.
        scales: which of the scales count; () for all that were made. Tags are of scale 1 only.
        resolutions: ``both`` averages the two heatmaps; ``fine`` or ``coarse`` takes one of them.
        align_corners: how maps are enlarged; True moves peaks towards the middle of the image.
        project: maps are enlarged to the input's size before grouping; off, they are grouped as they are.
        inverse_affine: groups are taken back to the image by the inverse of the input's affine. Off, maps are
            stretched over the image instead, as if the input showed the image and nothing beyond its border.
    """

    flip: bool = True
    flip_tags: bool = True
    mirror_swap: Literal["both", "heatmaps", "tags", "neither"] = "both"
    scales: tuple[float, ...] = ()
    resolutions: Literal["both", "fine", "coarse"] = "both"
    align_corners: bool = False
    project: bool = True
    inverse_affine: bool = True

    def __post_init__(self) -> None:
        if self.resolutions not in ("both", "fine", "coarse"):
            raise ValueError(f"resolutions: expected both, fine or coarse, got {self.resolutions!r}")
        if self.mirror_swap not in ("both", "heatmaps", "tags", "neither"):
            raise ValueError(
                f"mirror_swap: expected both, heatmaps, tags or neither, got {self.mirror_swap!r}"
            )

    def text(self) -> str:
        """What is not as published, in a few words; "" when all is."""
        return ", ".join(
            words
            for words, said in (
                ("mirrored pass left out", not self.flip),
                (
                    f"left and right exchanged back in {self.mirror_swap} of the mirrored maps",
                    self.flip and self.mirror_swap != "both",
                ),
                ("mirrored tags left out", self.flip and not self.flip_tags),
                (f"scales {', '.join(f'{s:g}' for s in self.scales)}", bool(self.scales)),
                (f"{self.resolutions} heatmaps only", self.resolutions != "both"),
                ("align_corners", self.align_corners),
                ("not enlarged", not self.project),
                ("no inverse affine", not self.inverse_affine),
            )
            if said
        )


@dataclass(frozen=True, eq=False)
class Seen:
    """What one pass left for one image; every map as the network left it.

    Attributes:
        heatmaps: the finest.
        coarse: of half that size; None for a network with one resolution.
        tags: L maps for each keypoint, or L for all; at the coarser resolution.
        mirrored: the input was mirrored, and the maps have not been turned back.
        scale: of the input.
    """

    heatmaps: Float[Tensor, "K h w"]
    coarse: Float[Tensor, "K h' w'"] | None
    tags: Float[Tensor, "L T h' w'"]
    mirrored: bool = False
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class Maps:
    """One image's maps, ready to be grouped.

    Attributes:
        heatmaps: of the keypoints.
        tags: of the keypoints, or of all; L values in each cell.
        to_image: affine map from cells, as grouping gives them, to image pixels.
    """

    heatmaps: Float[np.ndarray, "K H W"]
    tags: Float[np.ndarray, "T H W L"]
    to_image: Float[np.ndarray, "2 3"]


def aggregated(
    passes: Sequence[Seen],
    places: Mapping[float, Resizing],
    base: tuple[int, int],
    image: tuple[int, int],
    mirror: Sequence[int],
    settings: Aggregation,
    kept: Kept | None = None,
) -> Maps:
    """One image's maps from all passes over it.

    Args:
        passes: at least one plain pass.
        places: where the input of each scale lies.
        base: (height, width) of the input at scale 1.
        image: (height, width), pixels.
        mirror: for each keypoint its left-right partner.
        settings: what counts.
        kept: what earlier calls with the same passes made; filled here.

    Raises:
        ValueError: a scale is asked for that was not made, several without scale 1, or nothing to mirror by.
        NotAvailable: a resolution that the network does not give.
    """
    import numpy as np

    made = sorted({p.scale for p in passes}, reverse=True)
    chosen = _chosen(made, settings.scales)
    target = base if settings.project else None
    if not settings.inverse_affine:
        target = image
    total: Tensor | None = None
    tags: list[Tensor] = []
    for scale in chosen:
        here = sorted((p for p in passes if p.scale == scale), key=lambda p: p.mirrored)
        if not settings.flip:
            here = [p for p in here if not p.mirrored]
        maps, own = zip(*(_one(p, target, mirror, settings, kept) for p in here), strict=True)
        mean = (maps[0] + maps[1]) / 2.0 if len(maps) == 2 else maps[0]
        if scale == 1 or len(chosen) == 1:
            size = mean.shape[-2:] if total is None else total.shape[-2:]
            tags += [
                _enlarged(t, size, settings.align_corners) for t in (own if settings.flip_tags else own[:1])
            ]
        total = mean if total is None else total + _enlarged(mean, total.shape[-2:], settings.align_corners)
    assert total is not None  # `_chosen` gives at least one
    heatmaps = total / float(len(chosen)) if len(chosen) > 1 else total
    h, w = heatmaps.shape[-2:]
    # As in the source, the smallest scale's affine goes back; they differ by rounding only.
    affine = places[chosen[-1]].to_image((h, w)) if settings.inverse_affine else np.eye(2, 3)
    return Maps(heatmaps.numpy(), _values_last(tags), affine)


def _values_last(tags: Sequence[Float[Tensor, "L T H W"]]) -> Float[np.ndarray, "T H W L"]:
    """All values of a cell beside each other. Plane by plane: an eighth of the time of a permuted copy."""
    import numpy as np

    planes = [plane.numpy() for several in tags for plane in several]
    joined = np.empty((*planes[0].shape, len(planes)), np.float32)
    for place, plane in enumerate(planes):
        joined[..., place] = plane
    return joined


def _chosen(made: list[float], asked: Sequence[float]) -> list[float]:
    """The scales that count, the largest first."""
    missing = sorted(set(asked) - set(made))
    if missing:
        raise ValueError(
            f"scales: {missing[0]:g} was not made; there are {', '.join(f'{s:g}' for s in made)}"
        )
    chosen = [s for s in made if not asked or s in asked]
    if len(chosen) > 1 and 1.0 not in chosen:
        raise ValueError("scales: expected 1 among several, because tags are read at scale 1 only")
    return chosen


def _one(
    seen: Seen,
    target: tuple[int, int] | None,
    mirror: Sequence[int],
    settings: Aggregation,
    kept: Kept | None,
) -> tuple[Tensor, Tensor]:
    """Heatmaps [K, H, W] and tags [L, T, H, W] of one pass, turned back and enlarged."""
    if seen.mirrored and len(mirror) != len(seen.heatmaps):
        raise ValueError(f"flip: {len(mirror)} mirror partners for {len(seen.heatmaps)} keypoints")
    kept = {} if kept is None else kept
    whose = (seen.scale, seen.mirrored, settings.align_corners, target)
    swap = settings.mirror_swap
    of_heatmaps = (*whose, settings.resolutions, seen.mirrored and swap in ("both", "heatmaps"))
    of_tags = (*whose, "tag maps", seen.mirrored and swap in ("both", "tags"))
    for key, make in (
        (of_heatmaps, lambda: _heatmaps(seen, settings)),
        (of_tags, lambda: _enlarged(seen.tags, seen.heatmaps.shape[-2:], settings.align_corners)),
    ):
        if key not in kept:
            maps = _turned_back(make(), mirror if key[-1] else ()) if seen.mirrored else make()
            kept[key] = maps if target is None else _enlarged(maps, target, settings.align_corners)
    return kept[of_heatmaps], kept[of_tags]


def _heatmaps(seen: Seen, settings: Aggregation) -> Float[Tensor, "K h w"]:
    """Of the resolutions that count, at the finest one's size."""
    if seen.coarse is None:
        if settings.resolutions != "both":
            raise NotAvailable(f"{settings.resolutions} heatmaps: this network gives one resolution")
        return seen.heatmaps
    if settings.resolutions == "fine":
        return seen.heatmaps
    up = _enlarged(seen.coarse, seen.heatmaps.shape[-2:], settings.align_corners)
    return up if settings.resolutions == "coarse" else (up + seen.heatmaps) / 2


def _turned_back(maps: Tensor, mirror: Sequence[int]) -> Tensor:
    """Of the mirrored input, as of the plain one; one map for all keypoints has no partners, nor has ()."""
    order = list(mirror)
    return maps.flip(-1)[..., order, :, :] if maps.shape[-3] == len(order) else maps.flip(-1)


def _enlarged(maps: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """[C, h, w] or [L, T, h, w] of another size; the same tensor where it has that size already."""
    from torch.nn import functional

    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    whole = maps if maps.ndim == 4 else maps[None]
    resized = functional.interpolate(whole, size=tuple(size), mode="bilinear", align_corners=align_corners)
    return resized if maps.ndim == 4 else resized[0]
