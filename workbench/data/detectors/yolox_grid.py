"""What do YOLOX's raw rows say? Boxes from centre, size, objectness and class scores per grid cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.data.detectors import without_overlaps

if TYPE_CHECKING:
    from jaxtyping import Float, Int

STRIDES = (8, 16, 32)
"""Pixels per cell of the three grids, in the order of the rows; within a grid, x runs fastest."""


def boxes_of_rows(
    rows: Float[np.ndarray, "A V"],
    size: tuple[int, int],
    labels: tuple[int, ...],
    threshold: float,
    overlap: float,
) -> tuple[Float[np.ndarray, "n 4"], Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Boxes (x0, y0, x1, y1) in input pixels, their scores and labels, suppressed class by class.

    Rows hold x, y, width, height, objectness and one score per class, both already in 0..1. Exports with
    YOLOX's ``--decode_in_inference`` give pixels; others give offsets within the cell and logarithms of the
    size, both in strides, which the negative numbers among the sizes give away.

    Raises:
        ValueError: the number of rows is not that of the grids.
    """
    cells = [(size[0] // stride, size[1] // stride, stride) for stride in STRIDES]
    count = sum(h * w for h, w, _ in cells)
    if len(rows) != count:
        raise ValueError(
            f"detector: expected {count} rows for {size[0]} x {size[1]} pixels at strides {STRIDES},"
            f" got {len(rows)}"
        )
    centre, extent = rows[:, :2].astype(float), rows[:, 2:4].astype(float)
    if (extent <= 0).any():
        grids = [np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1).reshape(-1, 2) for h, w, _ in cells]
        stride = np.concatenate([np.full((h * w, 1), s) for h, w, s in cells])
        centre, extent = (centre + np.concatenate(grids)) * stride, np.exp(extent) * stride
    boxes = np.concatenate([centre - extent / 2, centre + extent / 2], 1)
    found: list[tuple[int, int]] = []
    for label in labels:
        if not 0 <= label < rows.shape[1] - 5:
            continue
        scores = rows[:, 4] * rows[:, 5 + label]
        likely = np.flatnonzero(scores >= threshold)
        kept = without_overlaps(boxes[likely], scores[likely], overlap)
        found += [(int(likely[i]), label) for i in kept]
    index = np.array([i for i, _ in found], int)
    label_of = np.array([label for _, label in found], int)
    return boxes[index], rows[index, 4] * rows[index, 5 + label_of], label_of
