"""Can the keypoints be learned at all, or do too many of them lie where no target can be put?

A keypoint outside the crop is in no heatmap and no token. It counts in PCK all the same, as it will when the
network is used; where many are outside, the network is not what fails.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.core import Batch
from workbench.core.geometry import apply, inverse
from workbench.training.verdict import Expectation

# Of the box's longer side: a keypoint so little outside is right when its answer lies at the crop's edge.
NEAR = 0.05


def out_of_reach(model: Any, batch: Batch) -> tuple[int, int]:
    """How many labelled keypoints no answer can reach, and how many there are.

    Args:
        model: with a codec, or one that reads true tokens; of any other nothing is known.
        batch: with samples that have truth.
    """
    H, W = batch.pixels.shape[-2:]
    given = batch.extra.get("given")
    far = labelled = 0
    for n, sample in enumerate(batch.samples):
        truth = np.asarray(sample.truth, float)
        visible = truth[:, 2] > 0
        labelled += int(visible.sum())
        if model.codec is not None:
            affine, (x0, y0, x1, y1) = batch.to_image[n], sample.box
            # Pixels reach half a pixel beyond their centres.
            edge = np.clip(apply(inverse(affine), truth[:, :2]), -0.5, (W - 0.5, H - 0.5))
            off = np.linalg.norm(apply(affine, edge) - truth[:, :2], axis=1)
            far += int((visible & (off >= NEAR * max(x1 - x0, y1 - y0))).sum())
        elif given is not None:
            far += int((visible & ~given[n].isfinite().all(-1).cpu().numpy()).sum())
    return far, labelled


def reach_text(model: Any, batch: Batch) -> str:
    """In words; "" while enough can be reached for the image to count as learned."""
    far, labelled = out_of_reach(model, batch)
    if not far or 1 - far / labelled >= Expectation().pck:
        return ""
    return (
        f"{far} of {labelled} labelled keypoints lie outside the crop, where no target can be put: "
        "look at box and padding"
    )
