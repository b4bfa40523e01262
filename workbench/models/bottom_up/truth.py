"""What would a perfect bottom-up network say? Maps made from annotations, in the shape of a real one's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import Batch, Outputs
from workbench.core.geometry import apply, inverse

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from workbench.core.capabilities import BottomUpModel


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
