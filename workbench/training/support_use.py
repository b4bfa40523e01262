"""Do a sequence model's answers depend on the support that it is given?

One image can be learned by heart without it: the loss falls, PCK is 1, and the model is of no use on any
other. So the support's points are put elsewhere and the answers are compared. Where not one of them moves,
the support is not read: its features are masked, discarded or never connected.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from workbench.core import Batch, DecodeOptions
from workbench.training.measures import evaluated

# Rounding of float32 sums in another order moves answers by some 1e-6 of the box.
NOTHING = 1e-5


def support_moves(model: Any, batch: Batch) -> float:
    """How far the answer that moves most is moved by another support, shares of the box's longer side.

    Args:
        model: the one that is trained, in evaluation mode rolled out.
        batch: with the support's points in ``extra["support"]``, (x, y) in 0..1.

    Returns:
        nan where the batch tells of no support.
    """
    support = batch.extra.get("support")
    if support is None:
        return float("nan")
    # Mirrored in both axes: every point moves but one in the very centre, and none leaves the crop.
    other = dataclasses.replace(batch, extra={**batch.extra, "support": 1 - support})
    one, two = (model.decode(evaluated(model, b), b, DecodeOptions()) for b in (batch, other))
    far = [0.0]
    for a, b, sample in zip(one, two, batch.samples, strict=True):
        x0, y0, x1, y1 = sample.box
        moved = np.linalg.norm(a.keypoints - b.keypoints, axis=1) / max(x1 - x0, y1 - y0)
        far += [float(v) for v in moved if np.isfinite(v)]
    return max(far)


def is_unread(model: Any, batch: Batch) -> bool:
    """Whether there is a support and no answer depends on it."""
    return support_moves(model, batch) < NOTHING
