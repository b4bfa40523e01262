"""The one operation of mmcv that stands in where mmcv-lite has none."""

from __future__ import annotations

import pytest
import torch

from workbench.models import mmpose_compat
from workbench.models.mmpose.stand_ins import nms


def test_the_weaker_of_two_boxes_that_overlap_by_more_is_dropped():
    # 10 x 10 and 10 x 8 overlap by .8; with their last pixel, 11 x 11 and 11 x 9, by .818.
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 8], [20, 20, 30, 30]]).float()
    scores = torch.tensor([0.5, 0.9, 0.1])
    assert nms(boxes, scores, 0.79).tolist() == [1, 2]
    assert nms(boxes, scores, 0.81).tolist() == [1, 0, 2]
    assert nms(boxes, scores, 0.81, offset=1).tolist() == [1, 2]
    assert boxes[0, 2] == 10  # its argument is as it was
    assert nms(boxes[:0], scores[:0], 0.5).dtype == torch.int64


def test_mmcv_lite_suppresses_class_by_class_as_the_compiled_mmcv_does():
    if mmpose_compat.install().mmcv_ops != "refused":
        pytest.skip("the full mmcv is installed here and has an operation of its own")
    from mmcv.ops import batched_nms

    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [40, 40, 50, 50]]).float()
    scores, labels = torch.tensor([0.5, 0.9, 0.7, 0.1]), torch.tensor([0, 0, 1, 0])
    dets, chosen = batched_nms(boxes, scores, labels, {"type": "nms", "iou_threshold": 0.5})
    assert chosen.tolist() == [1, 2, 3]
    assert torch.equal(dets[:, 4], scores[chosen])
