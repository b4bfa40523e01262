"""PCK, AUC, EPE and NME of paired poses: distances in pixels and as a share of a length.

One set of functions for every figure that counts keypoints; arrays in, numbers out. They follow mmpose 1.3.2
(evaluation/functional/keypoint_eval.py) to the last keypoint: nearer than the threshold is right (strictly),
distances are float32, the mean is over keypoints that are labelled somewhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.core import Skeleton
from workbench.core import pck as core_pck
from workbench.core.pck import pck_by_keypoint
from workbench.core.statistics import finite_mean
from workbench.evaluation.oks import keypoint_terms

if TYPE_CHECKING:
    from jaxtyping import Float


# PoseAnything's and MP-100's mPCK. Source: orhir/PoseAnything@7f1253f, thresholds of its evaluation.
MPCK_THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25)
# mmpose's AUC: 20 thresholds i / 20, of 30 pixels.
AUC_STEPS, AUC_PIXELS = 20, 30.0
# MPII's own evaluation leaves these out of the mean. Source: mmpose 1.3.2 MpiiPCKAccuracy.
MPII_LEFT_OUT = ("pelvis", "thorax")

_TORSO = ("left_shoulder", "right_hip")  # J-HMDB's; source: mmpose 1.3.2 PCKAccuracy, keypoints 4 and 5
_HEAD = (("head_top", "upper_neck"), ("top_head", "neck"), ("head_top", "neck"))
# Lengths that annotations state: AFLW's side of the face. mmpose reads it as `box_size` of AFLWDataset.
ITEMS = {"box_size": "the annotated box_size", "head_size": "the annotated head_size"}
NORMALISERS = ("box", "diagonal", "area", "head", "torso", *ITEMS)


@dataclass(frozen=True)
class Normaliser:
    """The length that distances are divided by.

    Attributes:
        kind: ``box`` (its longest side), ``diagonal`` (of the box), ``area`` (its root), ``pair`` (of
            keypoints), ``stated`` (a length that the annotation states, see `stated_item`), or ``pixels``.
        pair: indices of two keypoints.
        pixels: a fixed length.
        text: in words, for the protocol.
    """

    kind: str
    text: str
    pair: tuple[int, int] | None = None
    pixels: float = float("nan")

    @classmethod
    def of(cls, text: str, skeleton: Skeleton, stated: bool = False) -> Normaliser:
        """Read what a person types.

        Args:
            text: box (mmpose calls it bbox_size), diagonal, area, head, torso, box_size or head_size (as
                annotated), two keypoints by name or number (``left_eye,right_eye``), or pixels (``30px``).
            skeleton: of the data set.
            stated: annotations state the length that `stated_item` names.

        Raises:
            ValueError: it is none of these, or the skeleton has not such keypoints.
        """
        known = {
            "box": "the box's longest side",
            "bbox_size": "the box's longest side",
            "diagonal": "the box's diagonal",
            "area": "the root of the area",
        }
        if text in known:
            return cls("box" if text == "bbox_size" else text, known[text])
        if text in ITEMS:
            if not stated:
                raise ValueError(f"--normalise {text}: no annotation states a {text} above 0")
            return cls("stated", ITEMS[text])
        if pixels := re.fullmatch(r"(\d+(?:\.\d+)?)\s*px", text):
            value = float(pixels[1])
            if not 0 < value < 1e6:
                raise ValueError(f"--normalise: expected a length above 0 px, got {text}")
            return cls("pixels", f"{value:g} px", pixels=value)
        if text == "head" and stated:
            return cls("stated", "the annotated head size")
        pairs = {"head": _HEAD, "torso": (_TORSO,)}.get(text)
        if pairs is not None:
            for a, b in pairs:
                if a in skeleton.keypoints and b in skeleton.keypoints:
                    return cls("pair", f"{a} to {b}", (skeleton.index(a), skeleton.index(b)))
            raise ValueError(
                f"--normalise {text}: {skeleton.name} has no {' and '.join(pairs[0])}"
                + (", and the annotations state no head_size" if text == "head" else "")
                + "; name two keypoints, such as --normalise left_eye,right_eye"
            )
        a, comma, b = (part.strip() for part in text.partition(","))
        if not comma:
            raise ValueError(
                f"--normalise: expected {', '.join(NORMALISERS)}, two keypoints (left_eye,right_eye) or"
                f" pixels (30px), got {text!r}"
            )
        i, j = _index(a, skeleton), _index(b, skeleton)
        if i == j:
            raise ValueError(f"--normalise: expected two different keypoints, got {text!r}")
        return cls("pair", f"{skeleton.keypoints[i]} to {skeleton.keypoints[j]}", (i, j))

    def lengths(
        self,
        truth: Float[np.ndarray, "N K 3"],
        boxes: Float[np.ndarray, "N 4"],
        area: Float[np.ndarray, " N"],
        stated: Float[np.ndarray, " N"],
    ) -> Float[np.ndarray, " N"]:
        """Pixels for each instance; nan where it has no such length: it then counts nowhere.

        Args:
            truth: (x, y, visibility).
            boxes: (x0, y0, x1, y1), clipped to the image as mmpose clips them.
            area: square pixels.
            stated: lengths of the annotations, see `stated_item`; nan where unknown.
        """
        if self.pair is not None:
            i, j = self.pair
            seen = (truth[:, i, 2] > 0) & (truth[:, j, 2] > 0)
            found = np.where(seen, np.linalg.norm(truth[:, i, :2] - truth[:, j, :2], axis=1), np.nan)
        elif self.kind == "pixels":
            found = np.full(len(truth), self.pixels)
        elif self.kind == "stated":
            found = stated
        elif self.kind == "area":
            found = np.sqrt(np.where(area > 0, area, np.nan))
        else:
            found = core_pck.box_lengths(boxes, "diagonal" if self.kind == "diagonal" else "longer side")
        return np.where(found > 0, found, np.nan)


def stated_item(normaliser: str) -> str:
    """The key under which annotations state the length of a normaliser as people type it; head_size else."""
    return normaliser if normaliser in ITEMS else "head_size"


def _index(name: str, skeleton: Skeleton) -> int:
    if name in skeleton.keypoints:
        return skeleton.keypoints.index(name)
    if name.isascii() and name.isdigit() and len(name) < 6 and int(name) < len(skeleton):
        return int(name)
    return skeleton.index(name)


def distances(
    keypoints: Float[np.ndarray, "N K 2"],
    truth: Float[np.ndarray, "N K 3"],
    lengths: Float[np.ndarray, " N"] | None = None,
) -> Float[np.ndarray, "N K"]:
    """`workbench.core.pck.distances` in mmpose's precision.

    Args:
        keypoints: predicted (x, y) in image pixels; nan where the model gave none.
        truth: (x, y, visibility) in image pixels.
        lengths: of each instance, pixels; None for distances in pixels.

    Returns:
        float32; nan where nothing is labelled or the length is unknown, inf where nothing was predicted.
    """
    with np.errstate(over="ignore"):
        return core_pck.distances(keypoints, truth, lengths).astype(np.float32)


def pck(found: Float[np.ndarray, "N K"], threshold: float) -> float:
    """Mean PCK over the keypoints that are labelled somewhere, as mmpose; nan when none is.

    Args:
        found: distances, nan where they do not count.
        threshold: in the unit of the distances; strictly nearer is right.
    """
    return finite_mean(pck_by_keypoint(found, threshold))


def auc(found: Float[np.ndarray, "N K"]) -> float:
    """Mean PCK over the thresholds 0, 1 / AUC_STEPS, ... below 1 of the normalising length.

    Args:
        found: distances in units of the normalising length; nan where nothing counts.
    """
    return finite_mean(np.array([pck(found, i / AUC_STEPS) for i in range(AUC_STEPS)]))


def mean_pck(found: Float[np.ndarray, "N K"], thresholds: Sequence[float] = MPCK_THRESHOLDS) -> float:
    """Mean PCK over some thresholds.

    Args:
        found: distances in units of the normalising length; nan where nothing counts.
        thresholds: in the same units.
    """
    return finite_mean(np.array([pck(found, threshold) for threshold in thresholds]))


def mean_distance(found: Float[np.ndarray, "N K"]) -> float:
    """Mean over all labelled keypoints that were predicted: EPE of pixels, NME of parts of a length."""
    return finite_mean(found)


# Which keypoint is wrong, and by how much? Poses beside their annotations, one row for each keypoint.


KeypointLength = Literal["longest side", "diagonal", "root of area"]


@dataclass(frozen=True)
class PCK:
    """PCK rule: a keypoint is correct if its distance is below `threshold` times a length.

    Attributes:
        threshold: strictly below it is right. .05 is mmpose's default, MP-100 has .2.
        normaliser: the length: the box's longest side (mmpose's ``bbox``, MP-100), its diagonal, or the
            root of the object's area.
    """

    threshold: float = 0.05
    normaliser: KeypointLength = "longest side"

    def __post_init__(self) -> None:
        if not 0 < self.threshold < np.inf:
            raise ValueError(f"pck: expected a threshold above 0, such as 0.05, got {self.threshold:g}")

    def __str__(self) -> str:
        return f"PCK@{self.threshold:g} of the {self.normaliser}"

    def lengths(
        self, boxes: Float[np.ndarray, "N 4"], area: Float[np.ndarray, " N"]
    ) -> Float[np.ndarray, " N"]:
        """Pixels that the threshold multiplies, for boxes (x, y, width, height).

        Args:
            boxes: image pixels.
            area: of the annotations, square pixels.
        """
        if self.normaliser == "root of area":
            return np.sqrt(area)
        if self.normaliser == "diagonal":
            return np.hypot(boxes[:, 2], boxes[:, 3])
        return boxes[:, 2:].max(1, initial=-np.inf)


def per_keypoint(
    keypoints: Float[np.ndarray, "N K 2"],
    truth: Float[np.ndarray, "N K 3"],
    area: Float[np.ndarray, " N"],
    boxes: Float[np.ndarray, "N 4"],
    sigmas: Float[np.ndarray, " K"],
    names: tuple[str, ...],
    pck: PCK,
) -> list[dict[str, Any]]:
    """One row for each keypoint, over the poses in which it is labelled.

    Args:
        keypoints: predicted (x, y) in image pixels, nan where the model gave none.
        truth: (x, y, visibility) of the same instances.
        area: of the instances, square pixels.
        boxes: of the instances, (x, y, width, height).
        sigmas: OKS constants.
        names: of the keypoints.
        pck: when a keypoint is right.

    Returns:
        keypoint; labelled: in how many poses; oks: mean of its part, 0 to 1; pck: share that is right;
        error_px: median distance in image pixels, of those that were predicted. nan where none is labelled.
    """
    labelled = truth[..., 2] > 0
    pixels = core_pck.distances(keypoints, truth)
    terms = keypoint_terms(keypoints, truth, area, sigmas)
    # Where the length is unknown the distance is nan, thus not below the threshold: wrong.
    right = core_pck.distances(keypoints, truth, pck.lengths(boxes, area)) < pck.threshold
    rows = []
    for k, name in enumerate(names):
        seen = labelled[:, k]
        given = np.sort(pixels[seen & np.isfinite(pixels[:, k]), k])
        middle = given[[(len(given) - 1) // 2, len(given) // 2]].sum() / 2 if len(given) else np.nan
        rows.append(
            {
                "keypoint": name,
                "labelled": int(seen.sum()),
                "oks": float(terms[seen, k].mean()) if seen.any() else np.nan,
                "pck": float(right[seen, k].mean()) if seen.any() else np.nan,
                "error_px": float(middle),
            }
        )
    return rows
