"""Figures that are made of distances: mean OKS, and PCK by the lengths that people use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from workbench.core.pck import distances, pooled_pck
from workbench.diagnosis.label_causes import plain_name
from workbench.evaluation.ground_truth import GroundTruth
from workbench.evaluation.keypoint_ap import KeypointAP
from workbench.evaluation.oks import oks_of_pairs
from workbench.evaluation.predictions import Predictions

DIAGONAL, CROP = "image's diagonal", "crop's side"
# What a crop shows of its box, as GetBBoxCenterScale of mmpose has it.
PADDING = 1.25
# Sides of inputs, and distances in pixels of them by which a keypoint counts as right.
INPUTS, PIXELS = (128, 192, 256, 384), (2, 3, 4, 5, 6, 8, 10)
# Pairs of keypoints whose distance is a pose's own measure: torso, hips, eyes.
TORSOS = (
    ("neck", "root_of_tail"),
    ("left_shoulder", "right_hip"),
    ("right_shoulder", "left_hip"),
    ("left_shoulder", "left_hip"),
    ("left_hip", "right_hip"),
    ("left_shoulder", "right_shoulder"),
    ("left_eye", "right_eye"),
)
COMMON = ("root of the box", "longer side", "shorter side", "box's diagonal", DIAGONAL)
SHARES = {DIAGONAL: (0.01, 0.02, 0.05)}


def _pair_oks(result: Any) -> np.ndarray:
    best = np.zeros(len(result.truth))
    np.maximum.at(best, result.matches.pair_truth, result.matches.pair_oks)
    return best[~result.truth.ignored]


def torsos(truth: GroundTruth, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The distance of two keypoints of each annotation, in pixels, for the pairs by which people measure."""
    places = {plain_name(name): k for k, name in enumerate(names)}
    points = np.where(truth.keypoints[..., 2:] > 0, truth.keypoints[..., :2], np.nan)
    return {
        f"distance from {one} to {other}".replace("_", " "): np.linalg.norm(
            points[:, places[one]] - points[:, places[other]], axis=-1
        )
        for one, other in TORSOS
        if one in places and other in places
    }


def distance_figures(
    own: KeypointAP, found: Predictions, measured: Mapping[str, np.ndarray], rare: bool = False
) -> Mapping[str, Callable[[], float]]:
    """Mean OKS, and PCK by the lengths that people use; each is computed when it is asked for.

    Args:
        own: the poses judged by COCO's rules.
        found: the poses.
        measured: further lengths of each annotation, in pixels: of the image, of the pose itself.
        rare: those alone that few people use, which only a figure of many digits can tell: by the pose,
            and in pixels of the input.
    """
    rows = _pairs(own, found)
    if not rows:
        return {}
    truth, held = own.truth, list(rows)
    points = found.keypoints[list(rows.values())]
    w, h = truth.boxes[held, 2:].T
    best, judged = _pair_oks(own), int((~truth.ignored).sum())
    paired = oks_of_pairs(points, truth, own.sigmas, np.arange(len(held)), np.array(held))

    def pck(length: np.ndarray, share: float) -> Callable[[], float]:
        # Scripts that pair poses leave out what was not found, and so do these.
        return lambda: pooled_pck(distances(points, truth.keypoints[held], length, "left out"), share)

    lengths = {
        "root of the box": np.sqrt(w * h),
        "longer side": np.maximum(w, h),
        "shorter side": np.minimum(w, h),
        "box's diagonal": np.hypot(w, h),
        CROP: PADDING * np.maximum(w, h),
        **{name: length[held] for name, length in measured.items()},
    }
    means: dict[str, Callable[[], float]] = {
        "mean OKS of matched poses": lambda: float(np.nanmean(best)),
        "mean OKS of each instance's own pose": lambda: float(np.nanmean(paired)),
    }
    if len(held) < judged:
        means["mean OKS, 0 without a pose"] = lambda: float(np.nansum(paired)) / judged
    by_length = {
        f"PCK at {share:g} of the {name}": pck(length, share)
        for name, length in lengths.items()
        if rare == (name not in COMMON) and np.isfinite(length).any()
        if rare or np.isfinite(length).all()
        for share in SHARES.get(name, (0.05, 0.1, 0.2))
    }
    if not rare:
        return means | by_length
    return by_length | {
        f"PCK within {pixels} pixels of an input of {side}": pck(lengths[CROP], pixels / side)
        for side in INPUTS
        for pixels in PIXELS
    }


def _pairs(own: KeypointAP, found: Predictions) -> dict[int, int]:
    """Row of each judged annotation -> that of its pose: by id or order, else by OKS, best pairs first."""
    judged = np.flatnonzero(~own.truth.ignored).tolist()
    if found.image_id.tolist() == own.truth.image_ids[own.truth.image[judged]].tolist():
        return {row: n for n, row in enumerate(judged)}  # one pose of each annotated box
    if found.annotation_id is not None:
        pose_of = {int(n): row for row, n in enumerate(found.annotation_id)}
        return {row: pose_of[int(own.truth.ids[row])] for row in judged if int(own.truth.ids[row]) in pose_of}
    matches, chosen = own.matches, {}
    taken: set[int] = set()
    for pair in np.argsort(-matches.pair_oks, kind="stable"):
        row, pose = int(matches.pair_truth[pair]), int(matches.detection[matches.pair_detection[pair]])
        if row not in chosen and pose not in taken and not own.truth.ignored[row]:
            chosen[row] = pose
            taken.add(pose)
    return chosen
