"""What does an mmpose 1.x config say about associative embedding? From its head, codec and pipeline to rules.

The head declares its layout itself: heatmaps first, then as many tag maps as `tag_per_keypoint` and `tag_dim`
say. Groups are mmpose's, which differ in small ways from those of the published HigherHRNet protocol.

Source: mmpose 1.3.2 models/heads/heatmap_heads/ae_head.py, codecs/associative_embedding.py. Two departures.
There `restore_heatmap_size` has no effect without the flip test, so that keypoints come out at a quarter of
their coordinates; here maps are enlarged in both cases. There the multi-scale test ends in a TypeError; here
it follows the published protocol.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.core import NotAvailable, Skeleton
from workbench.decoding.grouping import MMPOSE, GroupingSettings
from workbench.models.bottom_up import Aggregation, BottomUp
from workbench.models.mmpose.config import decoder_of, pipeline_of

if TYPE_CHECKING:
    from torch import Tensor, nn

# Defaults of BottomupResize and of the codec, for configs that leave them out.
_RESIZE = {"resize_mode": "fit", "size_factor": 32, "use_udp": False, "aug_scales": None}
_CODEC = {
    "decode_keypoint_order": (),
    "decode_nms_kernel": 5,
    "decode_keypoint_thr": 0.1,
    "decode_tag_thr": 1.0,
    "decode_topk": 30,
    "decode_center_shift": 0.0,
    "decode_max_instances": None,
}


def groups(head: Any) -> bool:
    """Whether a head gives heatmaps and tags."""
    return hasattr(head, "tag_per_keypoint") and hasattr(head, "num_keypoints")


def bottom_up_of(
    module: nn.Module, config: Mapping[str, Any], skeleton: Skeleton, device: str = "cpu", note: str = ""
) -> BottomUp:
    """A workbench model around mmpose's BottomupPoseEstimator with an AssociativeEmbeddingHead.

    Raises:
        NotAvailable: the config asks for something that has no equal here; the message names it.
        ValueError: it contradicts itself.
    """
    head: Any = module.head
    model = config.get("model") or {}
    test = model.get("test_cfg") or {}
    steps = {str(step.get("type")).rpartition(".")[2]: step for step in pipeline_of(config)}
    resize = {**_RESIZE, **steps.get("BottomupResize", {})}
    codec = {**_CODEC, **decoder_of(config)}
    if resize["use_udp"] or codec.get("use_udp"):
        raise NotAvailable("bottom-up with UDP: no equal of BottomupResize(use_udp=True) here")
    if test.get("shift_heatmap"):
        raise NotAvailable("bottom-up with shift_heatmap: mirrored maps are not moved by a cell here")
    size = resize.get("input_size") or codec.get("input_size")
    if not size:
        raise ValueError("config: expected an input_size in BottomupResize or in the codec, found neither")
    if "BottomupResize" not in steps:
        assumed = "the config has no test pipeline: BottomupResize's own defaults assumed"
        note = f"{note}; {assumed}" if note else assumed
    normal = model.get("data_preprocessor") or {}
    scales = (1.0, *(float(s) for s in resize["aug_scales"] or ())) if test.get("multiscale_test") else (1.0,)
    return BottomUp(
        module=module.to(device),
        skeleton=skeleton,
        tags=head.num_keypoints if head.tag_per_keypoint else 1,
        tag_size=head.tag_dim,
        input_size=(int(size[1]), int(size[0])),
        scales=scales,
        rule=resize["resize_mode"],
        multiple=int(resize["size_factor"]),
        aggregation=Aggregation(
            align_corners=bool(test.get("align_corners")), project=bool(test.get("restore_heatmap_size"))
        ),
        grouping=_grouping(codec, head.tag_per_keypoint),
        mean=tuple(normal.get("mean") or (0.0,) * 3),
        std=tuple(normal.get("std") or (1.0,) * 3),
        bgr=not (normal.get("bgr_to_rgb") or normal.get("rgb_to_bgr")),
        call=functools.partial(_called, module),
        note=note,
    )


def _grouping(codec: Mapping[str, Any], tag_per_keypoint: bool) -> GroupingSettings:
    return dataclasses.replace(
        MMPOSE,
        nms_kernel=int(codec["decode_nms_kernel"]),
        top_k=int(codec["decode_topk"]),
        joint_order=tuple(int(k) for k in codec["decode_keypoint_order"]),
        detection_threshold=float(codec["decode_keypoint_thr"]),
        tag_threshold=float(codec["decode_tag_thr"]),
        centre_shift=float(codec["decode_center_shift"]),
        max_people=codec["decode_max_instances"],
        tag_layout="per_joint" if tag_per_keypoint else "shared",
    )


def _called(module: nn.Module, pixels: Tensor) -> Any:
    # Not a closure: a copy of the model must call the copied network.
    return module(pixels, None, mode="tensor")
