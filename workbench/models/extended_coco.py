"""xtcocotools' interface over pycocotools, for mmpose's CocoMetric where xtcocotools cannot be imported.

The differences that change figures, read at xtcocotools 1.14.3 cocoeval.py: five arguments, visible
keypoints counted from `v` and not from `num_keypoints`, detections with nothing but zeros dropped, id 0 is an
id like any other, `use_area=False` takes .53 of the box, and whole-body annotations come in five parts.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from pycocotools import coco, cocoeval

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
# Area of a person as a share of its box, for annotations without area.
_AREA_OF_BOX = 0.53

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
                truth["area"] = truth["bbox"][2] * truth["bbox"][3] * _AREA_OF_BOX
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
