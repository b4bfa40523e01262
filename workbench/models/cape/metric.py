"""PCK as the family's own training log has it, rightly or in the wrong coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import geometry
from workbench.core.pck import box_lengths, distances, pck_by_image

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
    truth = np.stack([np.asarray(sample.truth, float) for sample in batch.samples])
    found = np.stack([np.asarray(p, float) for p in points])
    # As in MP-100: what the support does not show was not asked for.
    truth[~batch.extra["support_visible"].any(1).cpu().numpy(), 2] = 0
    if in_input_pixels:
        for n, affine in enumerate(batch.to_image):
            back = geometry.inverse(affine)
            found[n], truth[n, :, :2] = geometry.apply(back, found[n]), geometry.apply(back, truth[n, :, :2])
    lengths = box_lengths([sample.box for sample in batch.samples])
    return float(np.mean(pck_by_image(distances(found, truth, lengths), THRESHOLD)))
