"""PCK as the family's own training log has it, rightly or in the wrong coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import geometry

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.core import Batch

# MP-100's convention (Pose-for-Everything, PoseAnything): strictly closer than .2 of the box's longer side.
THRESHOLD = 0.2


def logged_pck(
    points: Sequence[Float[np.ndarray, "K 2"]],
    batch: Batch,
    input_size: tuple[int, int],
    in_input_pixels: bool = False,
) -> float:
    """Mean over images of the share of keypoints, visible in query and support, that are right.

    Args:
        points: (x, y) in image pixels.
        batch: with truth.
        input_size: (height, width) of the network's input, pixels.
        in_input_pixels: the defect: distances in input pixels, the box in image pixels.
    """
    shares = []
    # As in MP-100: what the support does not show was not asked for.
    asked = batch.extra["support_visible"].any(1).cpu().numpy()
    for n, (found, sample, affine) in enumerate(zip(points, batch.samples, batch.to_image, strict=True)):
        truth = np.asarray(sample.truth, float)
        x0, y0, x1, y1 = sample.box
        a, b = found, truth[:, :2]
        if in_input_pixels:
            a, b = (geometry.apply(geometry.inverse(affine), p) for p in (a, b))
        visible = (truth[:, 2] > 0) & asked[n]
        near = np.linalg.norm(a - b, axis=1) < THRESHOLD * max(x1 - x0, y1 - y0)
        shares.append(near[visible].mean())
    return float(np.mean(shares))
