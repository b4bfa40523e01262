"""Which boxes survive non-maximum suppression? The one compiled operation that mmdet's detectors need.

mmcv-lite has no compiled operations; RTMDet and YOLOX of mmdet ask for this one alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from workbench.data.detectors import without_overlaps

if TYPE_CHECKING:
    from jaxtyping import Float, Int


def nms(
    boxes: Float[torch.Tensor, "n 4"],
    scores: Float[torch.Tensor, " n"],
    iou_threshold: float,
    offset: int = 0,
) -> Int[torch.Tensor, " k"]:
    """Indices of the boxes (x0, y0, x1, y1) that survive, best first.

    Args:
        boxes: in pixels.
        scores: one for each box.
        iou_threshold: a box that overlaps a better one by more than this is dropped.
        offset: 1 where a box includes its last pixel, else 0.

    Source: mmcv 2.1.0, ops/csrc/pytorch/cpu/nms.cpp (its name, arguments and strict comparison).
    """
    corners = boxes.detach().cpu().double().numpy().copy()
    corners[:, 2:] += offset
    kept = without_overlaps(corners, scores.detach().cpu().double().numpy(), iou_threshold)
    return torch.tensor(kept, dtype=torch.int64, device=boxes.device)
