"""Stand-ins for three packages that mmpose asks for and that may be absent or broken.

`nms` is the one compiled operation that mmdet's detectors (RTMDet, YOLOX) need; mmcv-lite has none.

`COCO` and `COCOeval` have xtcocotools' interface over pycocotools, for mmpose's CocoMetric. The differences
that change figures, read at xtcocotools 1.14.3 cocoeval.py: five arguments, visible keypoints counted from
`v` and not from `num_keypoints`, detections with nothing but zeros dropped, id 0 is an id like any other,
`use_area=False` takes .53 of the box, and whole-body annotations come in five parts.

`VisionTransformer` has mmpretrain's arguments, so that ViTPose configs build without mmpretrain: version
1.2.0 needs a torchvision that works and breaks beside transformers 5. The network itself is
workbench.models.vitpose.network.ViT.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.model import BaseModule
from pycocotools import coco, cocoeval

from workbench.core.geometry import BOX_SHARE
from workbench.data.boxes import without_overlaps
from workbench.models.vitpose.network import Architecture, ViT, sizes_of

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


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
    remaining = without_overlaps(corners, scores.detach().cpu().double().numpy(), iou_threshold)
    return torch.tensor(remaining, dtype=torch.int64, device=boxes.device)


# COCO evaluation.


# Whole-body annotations keep their keypoints under these names, in this order.
_PARTS = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
_READ = {
    "keypoints": _PARTS[:1],
    "keypoints_foot": _PARTS[1:2],
    "keypoints_face": _PARTS[2:3],
    "keypoints_lefthand": _PARTS[3:4],
    "keypoints_righthand": _PARTS[4:5],
    "keypoints_wholebody": _PARTS,
}

Params = cocoeval.Params
# pycocotools' stubs type its dictionaries more narrowly than annotations in the wild are.
_Coco: Any = coco.COCO
_Evaluation: Any = cocoeval.COCOeval


class COCO(_Coco):
    """pycocotools' COCO that reads annotations without `iscrowd`, and empty results."""

    def createIndex(self) -> None:  # noqa: N802 - pycocotools' name
        for annotation in self.dataset.get("annotations", ()):
            annotation.setdefault("iscrowd", 0)
        super().createIndex()

    def loadRes(self, resFile: Any) -> Any:  # noqa: N802 - pycocotools' names
        if isinstance(resFile, list) and not resFile:
            empty = COCO()
            empty.dataset = {**self.dataset, "annotations": []}
            empty.createIndex()
            return empty
        return super().loadRes(resFile)


class COCOeval(_Evaluation):
    """pycocotools' evaluation, called and counting as xtcocotools'."""

    def __init__(
        self,
        cocoGt: Any = None,
        cocoDt: Any = None,
        iouType: str = "keypoints",
        sigmas: Any = None,
        use_area: bool = True,
    ) -> None:
        if iouType not in (*_READ, "bbox", "segm"):
            raise ValueError(
                f"evaluation of {iouType!r} needs the real xtcocotools; "
                f"without it: {', '.join(_READ)}, bbox, segm"
            )
        super().__init__(cocoGt, cocoDt, "keypoints" if iouType in _READ else iouType)
        self._read = _READ.get(iouType, ())
        self._score = "score" if iouType == "keypoints" else f"{iouType.partition('_')[2]}_score"
        self._use_area = use_area
        if sigmas is not None:
            self.params.kpt_oks_sigmas = np.asarray(sigmas, float)

    def _prepare(self) -> None:
        if not self._read:
            super()._prepare()
            return
        chosen = {"imgIds": self.params.imgIds, "catIds": self.params.catIds if self.params.useCats else []}
        self._gts, self._dts = defaultdict(list), defaultdict(list)
        for annotation in self.cocoGt.loadAnns(self.cocoGt.getAnnIds(**chosen)):
            truth = self._as_keypoints(annotation)
            crowd, visible = truth.setdefault("iscrowd", 0), np.any(np.array(truth["keypoints"][2::3]) > 0)
            truth["ignore"] = int(bool(crowd) or not visible)
            if self._use_area and "area" not in truth:
                raise ValueError(f"annotation {annotation['id']} has no area; use_area=False takes the box's")
            if not self._use_area:
                truth["area"] = truth["bbox"][2] * truth["bbox"][3] * BOX_SHARE
            self._gts[truth["image_id"], truth["category_id"]].append(truth)
        for annotation in self.cocoDt.loadAnns(self.cocoDt.getAnnIds(**chosen)):
            found = self._as_keypoints(annotation)
            found["score"] = found.get(self._score, found["score"])
            if np.any(np.array(found["keypoints"][2::3]) > 0):
                self._dts[found["image_id"], found["category_id"]].append(found)
        self.evalImgs, self.eval = defaultdict(list), {}

    def _as_keypoints(self, annotation: dict[str, Any]) -> dict[str, Any]:
        """A copy with the evaluated part as `keypoints`; ids from 1: pycocotools reads 0 as unmatched."""
        keypoints = [value for part in self._read for value in annotation[part]]
        return {**annotation, "keypoints": keypoints, "id": annotation["id"] + 1}


# Vision transformer.


class VisionTransformer(ViT, BaseModule):
    """Image to feature map, one cell per patch, built from the arguments of mmpretrain's class of this name.

    Args:
        arch: a name of workbench.models.vitpose.network.ARCHITECTURES or mmpretrain's dict (embed_dims,
            num_layers, num_heads, feedforward_channels).
        img_size: (height, width) of the input the position embedding belongs to, pixels.
        patch_size: side of a patch and stride, pixels.
        drop_path_rate: stochastic depth of the last layer; grows linearly from 0.
        qkv_bias: bias of the query, key and value projection.
        final_norm: layer norm on the last output.
        out_type: only ``featmap``.
        with_cls_token: only False, as in mmpose 1.x; ViTPose 0.x checkpoints lose theirs by a remap.
        patch_cfg: ``padding`` of the patch convolution, pixels.
        init_cfg: as mmengine has it.
        norm_eps: of all layer norms.
        frozen_stages: only -1, none frozen.
    """

    def __init__(
        self,
        arch: str | Mapping[str, int] = "base",
        img_size: int | Sequence[int] = 224,
        patch_size: int = 16,
        drop_path_rate: float = 0.0,
        qkv_bias: bool = True,
        final_norm: bool = True,
        out_type: str = "featmap",
        with_cls_token: bool = False,
        patch_cfg: Mapping[str, Any] | None = None,
        init_cfg: Any = None,
        norm_eps: float = 1e-6,
        frozen_stages: int = -1,
    ) -> None:
        if out_type != "featmap" or with_cls_token or frozen_stages > 0:
            raise ValueError(
                "this ViT gives feature maps without class token or frozen stages, got "
                f"{out_type=}, {with_cls_token=}, {frozen_stages=}; other variants need mmpretrain itself"
            )
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        super().__init__(
            Architecture(
                *sizes_of(arch),
                image=(height, width),
                patch=patch_size,
                padding=int((patch_cfg or {}).get("padding", 0)),
                eps=norm_eps,
                qkv_bias=qkv_bias,
                final_norm=final_norm,
                drop_path=drop_path_rate,
            )
        )
        self.init_cfg = init_cfg

    def forward(self, image: Float[Tensor, "N 3 H W"]) -> Any:
        """The last feature map, in a tuple as mmpose's heads expect."""
        return (super().forward(image),)
