"""From a whole image to a network's input, and from the maps of several passes to one pair of maps to group.

Resizing has three rules, each as its source has it. ``align``: the short side takes the input size, the long
side is rounded up to a multiple, and the affine scales both axes by the ratio of the widths around a rounded
centre: the input then shows more than the image. ``expand`` and ``fit`` are mmpose's.

A network with two resolutions, run plainly, mirrored and at several scales, leaves many maps of one image.
The published figures rest on all steps of the aggregation; each can be left out without a forward pass. Order
and arithmetic are the source's, so that ties stay ties.

Sources: HRNet/HigherHRNet-Human-Pose-Estimation@aa23881:lib/utils/transforms.py (get_multi_scale_size,
resize_align_multi_scale), lib/core/inference.py (get_multi_stage_outputs, aggregate_results), tools/valid.py;
mmpose 1.3.2 datasets/transforms/bottomup_transforms.py (BottomupResize).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from workbench.core import Batch, NotAvailable, Outputs, checked_area, geometry
from workbench.core.geometry import apply, inverse
from workbench.core.report import counted

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor

    from workbench.core.capabilities import BottomUpModel

Rule = Literal["align", "expand", "fit"]

# Boxes are in units of this many pixels in the source; dividing and multiplying again rounds, and so do we.
_PIXELS = 200.0


@dataclass(frozen=True)
class Resizing:
    """Where the input of one image at one scale lies.

    Attributes:
        size: (height, width) of the input, pixels.
        centre: (x, y) in image pixels of the input's centre.
        extent: (width, height) in image pixels that the input shows, beyond the image's borders included.
        rule: which affine belongs to it.
    """

    size: tuple[int, int]
    centre: tuple[float, float]
    extent: tuple[float, float]
    rule: Rule = "align"

    def __post_init__(self) -> None:
        # A thin image makes a long input: its short side takes the input size.
        checked_area(self.size, "an input")

    def apply(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The input: bilinear, black outside the image; equal to the source's pixel for pixel."""
        import cv2

        H, W = self.size
        if self.rule != "align":
            matrix = geometry.warp_matrix(np.array(self.centre), np.array(self.extent), self.size)
        else:
            # The centre, a point above it, and one to the left of that: the source's corners, in its float32.
            x, y = np.array(self.centre, np.float32)
            above = np.float32(self.centre[1] - self.extent[0] * 0.5)
            source = np.array([[x, y], [x, above], [x - (y - above), above]], np.float32)
            target = np.array([[W * 0.5, H * 0.5], [W * 0.5, H * 0.5 - W * 0.5], [0, H * 0.5 - W * 0.5]])
            matrix = cv2.getAffineTransform(source, target.astype(np.float32))
        return cv2.warpAffine(np.ascontiguousarray(image), matrix, (W, H), flags=cv2.INTER_LINEAR)

    def to_image(self, cells: tuple[int, int] | None = None) -> Float[np.ndarray, "2 3"]:
        """Affine map to image pixels from the input's pixels, or from a map's cells.

        The pixel or cell coordinate 0 is the outer edge of the first one here: grouping gives the centre of
        the first cell as (.5, .5).

        Args:
            cells: (h, w) of a map over the whole input.
        """
        h, w = cells or self.size
        if self.rule != "align":
            return geometry.input_to_image(np.array(self.centre), np.array(self.extent), (h, w))
        # One ratio for both axes, that of the widths, as the affine to the input has it.
        ratio = self.extent[0] / w
        x, y = self.centre
        return np.array([[ratio, 0, x - ratio * w * 0.5], [0, ratio, y - ratio * h * 0.5]])


def resizing(
    image: tuple[int, int],
    input_size: int | tuple[int, int],
    scale: float = 1.0,
    least_scale: float = 1.0,
    rule: Rule = "align",
    multiple: int = 64,
) -> Resizing:
    """Where the input of an image at one scale lies.

    Args:
        image: (height, width), pixels.
        input_size: of the short side at scale 1; (height, width) for the other rules, which want both.
        scale: of this input.
        least_scale: the smallest of all scales used together: sizes are rounded at it, so that the others
            are exact multiples.
        rule: see the module.
        multiple: what sides are rounded up to.

    Raises:
        ValueError: no pixels, a size or scale that is not above 0, a size that ``fit`` cannot use, or an
            input of more pixels than `checked_area` takes.
    """
    h, w = image
    short = min(input_size) if isinstance(input_size, tuple) else input_size
    if min(h, w) < 1 or short < 1 or scale <= 0 or least_scale <= 0:
        raise ValueError(
            f"resizing: expected an image, an input size and scales above 0, got {w} x {h} pixels, "
            f"{input_size} and {scale:g}"
        )
    if rule != "align":
        both = input_size if isinstance(input_size, tuple) else (input_size, input_size)
        return _mmpose(image, both, scale, rule, multiple)
    short = _up(least_scale * short, multiple)
    long = _up(short / min(w, h) * max(w, h), multiple)
    low, high = int(short * scale / least_scale), int(long * scale / least_scale)
    centre = float(int(w / 2.0 + 0.5)), float(int(h / 2.0 + 0.5))
    if w < h:
        extent = w / _PIXELS * _PIXELS, high / low * w / _PIXELS * _PIXELS
        return Resizing((high, low), centre, extent)
    extent = high / low * h / _PIXELS * _PIXELS, h / _PIXELS * _PIXELS
    return Resizing((low, high), centre, extent)


def _up(length: float, multiple: int) -> int:
    # Through integers as the source does: 512.5 is rounded up to 512, not to 576.
    return int((length + multiple - 1) // multiple * multiple)


def _mmpose(
    image: tuple[int, int], size: tuple[int, int], scale: float, rule: Rule, multiple: int
) -> Resizing:
    h, w = image
    asked = [side if scale == 1 else int(side * scale) for side in size]
    H, W = (math.ceil(side / multiple) * multiple for side in asked)
    if rule == "fit" and asked != [H, W]:
        raise ValueError(f"input size: fit needs multiples of {multiple}, got {asked[1]} x {asked[0]}")
    pick = min if rule == "fit" else max
    width, height = pick(W, H * (w / h)), pick(H, W / (w / h))
    if rule == "expand":
        H, W = (math.ceil(side / multiple) * multiple for side in (height, width))
    extent = np.array([w * W / width, h * H / height], np.float32)
    return Resizing((H, W), (w / 2, h / 2), (float(extent[0]), float(extent[1])), rule)


# Aggregation.


# Enlarged maps by pass, size and rule, for several readings of the same passes.
MapCache = dict[tuple[object, ...], "Tensor"]


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
class PassMaps:
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
    passes: Sequence[PassMaps],
    places: Mapping[float, Resizing],
    base: tuple[int, int],
    image: tuple[int, int],
    mirror: Sequence[int],
    settings: Aggregation,
    cache: MapCache | None = None,
) -> Maps:
    """One image's maps from all passes over it.

    Args:
        passes: at least one plain pass.
        places: where the input of each scale lies.
        base: (height, width) of the input at scale 1.
        image: (height, width), pixels.
        mirror: for each keypoint its left-right partner.
        settings: what counts.
        cache: what earlier calls with the same passes made; filled here.

    Raises:
        ValueError: a scale is asked for that was not made, several without scale 1, or nothing to mirror by.
        NotAvailable: a resolution that the network does not give.
    """
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
        maps, own = zip(*(_one(p, target, mirror, settings, cache) for p in here), strict=True)
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
    seen: PassMaps,
    target: tuple[int, int] | None,
    mirror: Sequence[int],
    settings: Aggregation,
    cache: MapCache | None,
) -> tuple[Tensor, Tensor]:
    """Heatmaps [K, H, W] and tags [L, T, H, W] of one pass, turned back and enlarged."""
    if seen.mirrored and len(mirror) != len(seen.heatmaps):
        raise ValueError(f"flip: {len(mirror)} mirror partners for {counted(len(seen.heatmaps), 'keypoint')}")
    cache = {} if cache is None else cache
    whose = (seen.scale, seen.mirrored, settings.align_corners, target)
    swap = settings.mirror_swap
    of_heatmaps = (*whose, settings.resolutions, seen.mirrored and swap in ("both", "heatmaps"))
    of_tags = (*whose, "tag maps", seen.mirrored and swap in ("both", "tags"))
    for key, make in (
        (of_heatmaps, lambda: _heatmaps(seen, settings)),
        (of_tags, lambda: _enlarged(seen.tags, seen.heatmaps.shape[-2:], settings.align_corners)),
    ):
        if key not in cache:
            maps = _turned_back(make(), mirror if key[-1] else ()) if seen.mirrored else make()
            cache[key] = maps if target is None else _enlarged(maps, target, settings.align_corners)
    return cache[of_heatmaps], cache[of_tags]


def _heatmaps(seen: PassMaps, settings: Aggregation) -> Float[Tensor, "K h w"]:
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


# What would a perfect bottom-up network say? Maps made from annotations, in the shape of a real one's.


# Tags of two people differ by about this much: far above the threshold of 1 below which they are one.
APART = 4.0
# Tags of one person differ by less than this, from cell to cell. The published grouping keeps people in a
# table by their first tag: were a person's tags equal to the last bit, its second-best peak, which ought to
# found a person of its own, would overwrite the best.
WITHIN = 0.25
# Cells by which peaks are moved: one half way between two cells is two equal peaks, and NMS would keep both.
NUDGE = 1e-3


def true_outputs(
    model: BottomUpModel,
    like: Outputs,
    batch: Batch,
    truth: Sequence[Float[np.ndarray, "P K 3"]],
    sigma: float = 2.0,
) -> Outputs:
    """Heatmaps that peak at 1 where each annotated keypoint lies, tags that say whose it is.

    Peaks lie between cells where the keypoints do: training targets are rounded to cells, these are better. A
    cell has the tag of the person with the nearest keypoint (of its kind, where every keypoint has its map);
    no two cells have quite the same.

    Args:
        model: whose rules place the input in the image.
        like: its outputs, or any of the same shapes, with the passes that are wanted.
        batch: whole images.
        truth: for each row of the batch its people, (x, y, visibility) in image pixels.
        sigma: of the peaks, cells.
    """
    import torch

    def stacked(pattern: Tensor | None, scale: float, mirrored: bool, tags: bool) -> Tensor | None:
        if pattern is None:
            return None
        cells = pattern.shape[-2], pattern.shape[-1]
        rows = []
        for n, people in enumerate(truth):
            place = model.place(batch.samples[n].image.shape[:2], scale)
            points = _cells_of(people, place.to_image(cells))
            maps = _tags(points, cells, model.tags == 1) if tags else _peaks(points, cells, sigma)
            rows.append(np.tile(maps, (model.tag_size, 1, 1)) if tags else maps)
        drawn = torch.from_numpy(np.stack(rows))
        if not mirrored:
            return drawn
        mirror = list(model.skeleton.mirror)
        order = [block * len(mirror) + k for block in range(drawn.shape[1] // len(mirror)) for k in mirror]
        # The network sees left and right exchanged, and has no partners where one map is for all.
        return drawn.flip(-1)[:, order] if order else drawn.flip(-1)

    def one(pattern: Outputs, scale: float, mirrored: bool) -> Outputs:
        return Outputs(
            heatmaps=stacked(pattern.heatmaps, scale, mirrored, False),
            coarse=stacked(pattern.coarse, scale, mirrored, False),
            tags=stacked(pattern.tags, scale, mirrored, True),
        )

    passes = {name: one(pattern, *model.pass_named(name)) for name, pattern in like.passes.items()}
    return dataclasses.replace(one(like, model.main_scale, False), passes=passes)


def _cells_of(people: Float[np.ndarray, "P K 3"], to_image: np.ndarray) -> Float[np.ndarray, "P K 2"]:
    """Indices of cells, with fractions; nan where nothing is labelled."""
    labelled = people[..., 2:] > 0
    points = apply(inverse(to_image), people[..., :2])
    # The first cell's centre is .5 there and its index is 0.
    return np.where(labelled, points - 0.5, np.nan)


def _peaks(points: Float[np.ndarray, "P K 2"], cells: tuple[int, int], sigma: float) -> np.ndarray:
    h, w = cells
    along = [
        np.exp(-((np.arange(n) - points[..., i, None] - NUDGE) ** 2) / (2 * sigma**2))
        for i, n in ((0, w), (1, h))
    ]
    x, y = (np.nan_to_num(axis, nan=0.0) for axis in along)
    if not len(points):
        return np.zeros((points.shape[1], h, w), np.float32)
    return (y[..., :, None] * x[..., None, :]).max(0).astype(np.float32)


def _tags(points: Float[np.ndarray, "P K 2"], cells: tuple[int, int], shared: bool) -> np.ndarray:
    h, w = cells
    own = np.arange(h * w, dtype=np.float32).reshape(h, w) / (h * w)
    return _owners(points, cells, shared) * np.float32(APART) + own * np.float32(WITHIN)


def _owners(points: Float[np.ndarray, "P K 2"], cells: tuple[int, int], shared: bool) -> np.ndarray:
    """For every cell the number of the nearest person, from 1; 0 where there is nobody."""
    h, w = cells
    K = 1 if shared else points.shape[1]
    if not len(points):
        return np.zeros((K, h, w), np.float32)
    x, y = ((np.arange(n) - points[..., i, None]) ** 2 for i, n in ((0, w), (1, h)))
    distance = np.nan_to_num(y[..., :, None] + x[..., None, :], nan=np.inf)
    if shared:
        distance = distance.min(1, keepdims=True)
    return (distance.argmin(0) + 1.0).astype(np.float32)
