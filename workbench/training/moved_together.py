"""Does an augmentation move image and keypoints together?

One image learned by heart hides it when it does not: whatever is shown, the answer is the same. So the pixels
under each keypoint are compared before and after. They are the same pixels, turned, mirrored or scaled,
where truth moved along, and others where it did not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.records import Sample
from workbench.training.trainer import Augment

if TYPE_CHECKING:
    from jaxtyping import Float

# Shares of the box's longer side: rings do not change when the image is turned or mirrored.
RINGS = (0.0, 0.015, 0.03, 0.045)

# Correlation of colours before and after. Mirrored, turned, scaled and coloured anew together it stays above
# .95; mirrored or turned alone it was .8 at most on photographs and drawn animals.
TOGETHER = 0.85

DRAWS = 8


def likeness(change: Augment, samples: Sequence[Sample]) -> float:
    """Correlation of what lies under the keypoints before and after, median of some draws.

    Args:
        change: image, box and truth together.
        samples: with truth.

    Returns:
        nan where nothing can be compared: no visible keypoint, or one colour everywhere.
    """
    found = []
    for draw in range(DRAWS):
        changed = change(samples, np.random.default_rng(draw))
        pairs = [pair for a, b in zip(samples, changed, strict=True) for pair in _pairs(a, b)]
        if pairs:
            before, after = (np.stack(side) for side in zip(*pairs, strict=True))
            found.append(_correlation(before, after))
    return float(np.nanmedian(found)) if np.isfinite(found).any() else float("nan")


def apart_text(change: Augment | None, samples: Sequence[Sample]) -> str:
    """What is wrong, in words; "" where nothing is, or there is no change."""
    if change is None or not (alike := likeness(change, samples)) < TOGETHER:
        return ""
    return (
        "image and keypoints are not changed together: what lies under the keypoints before and after "
        f"correlates by {alike:.2f}, expected at least {TOGETHER}"
    )


def _pairs(before: Sample, after: Sample) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What lies under each keypoint that can be seen before and after."""
    if before.truth is None or after.truth is None:
        return
    for a, b in zip(np.asarray(before.truth, float), np.asarray(after.truth, float), strict=True):
        if a[2] > 0 and b[2] > 0 and _inside(before, a) and _inside(after, b):
            yield _rings(before, a[:2]), _rings(after, b[:2])


def _inside(sample: Sample, point: np.ndarray) -> bool:
    H, W = sample.image.shape[:2]
    return bool(0 <= point[0] <= W - 1 and 0 <= point[1] <= H - 1)


def _rings(sample: Sample, point: Float[np.ndarray, " 2"]) -> Float[np.ndarray, "rings 3"]:
    """Mean colour of every ring around a point."""
    H, W = sample.image.shape[:2]
    x0, y0, x1, y1 = sample.box
    radii = np.array(RINGS) * max(x1 - x0, y1 - y0)
    reach = int(np.ceil(radii[-1]))
    centre = point.round().astype(int)
    rows = np.arange(max(centre[1] - reach, 0), min(centre[1] + reach + 1, H))
    columns = np.arange(max(centre[0] - reach, 0), min(centre[0] + reach + 1, W))
    far = np.hypot(columns[None, :] - point[0], rows[:, None] - point[1])
    patch = sample.image[rows[:, None], columns[None, :]].astype(float)
    # The innermost ring of a small box may hold no pixel centre: half a pixel more always does.
    edges = np.maximum(radii, [0, *np.arange(1, len(radii)) * 0.75])
    inside = [(far >= low) & (far < high) for low, high in itertools.pairwise(edges)]
    return np.stack([patch[ring].mean(0) if ring.any() else np.full(3, np.nan) for ring in inside])


def _correlation(before: Float[np.ndarray, "n rings 3"], after: Float[np.ndarray, "n rings 3"]) -> float:
    """Pearson's, over keypoints and rings, each channel about its own mean."""
    known = np.isfinite(before) & np.isfinite(after)
    a, b = (np.where(known, side, np.nan) for side in (before, after))
    a, b = (side - np.nanmean(side, axis=(0, 1)) for side in (a, b))
    spread = np.sqrt(np.nansum(a**2) * np.nansum(b**2))
    return float(np.nansum(a * b) / spread) if spread > 0 else float("nan")
