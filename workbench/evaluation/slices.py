"""Where does a change come from? Per keypoint and slice: size, visibility, crowding, category."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import plain
from workbench.evaluation.bootstrap import Interval, drawn_images, paired_means
from workbench.evaluation.keypoint_ap import AREA_RANGES
from workbench.evaluation.oks import keypoint_terms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, Float

    from workbench.evaluation.ground_truth import GroundTruth
    from workbench.evaluation.keypoint_ap import KeypointAP

# Part of the labelled keypoints that are marked occluded (v = 1).
OCCLUDED = 0.5
# Intersection over union of two people's boxes from which they crowd each other.
CROWDED = 0.1
# A slice or a keypoint with fewer labelled values tells nothing.
FEWEST = 3


@dataclass(frozen=True)
class Change:
    """A change of the mean OKS of some instances, or of one keypoint's part of it.

    Attributes:
        kind: ``keypoint``, ``size``, ``visibility``, ``crowding`` or ``category``.
        name: of the keypoint or slice.
        count: instances in it.
        before: mean of A.
        after: mean of B.
        interval: of the mean change; None where there are too few.
    """

    kind: str
    name: str
    count: int
    before: float
    after: float
    interval: Interval | None

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        low, high = (None, None) if self.interval is None else (self.interval.low, self.interval.high)
        return plain(
            {
                "kind": self.kind, "name": self.name, "count": self.count, "before": self.before,
                "after": self.after, "change": self.after - self.before, "low": low, "high": high,
            }
        )  # fmt: skip


def changes(
    a: KeypointAP,
    b: KeypointAP,
    terms: tuple[Float[np.ndarray, "G K"], Float[np.ndarray, "G K"]],
    names: Sequence[str],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Change]:
    """Change of every keypoint and every slice, with its paired bootstrap interval.

    Args:
        a: before.
        b: after, on the same instances.
        terms: of both, see `instance_terms`.
        names: of the keypoints.
        resamples: of the bootstrap.
        level: of the intervals.
        seed: of the bootstrap.
    """
    truth = a.truth
    weights = drawn_images(a, b, resamples, level, seed)
    before, after = (np.where(truth.ignored[:, None], np.nan, part) for part in terms)
    found = []

    def add(kind: str, name: str, x: np.ndarray, y: np.ndarray) -> None:
        finite = np.isfinite(x) & np.isfinite(y)
        if finite.any():
            few = finite.sum() < FEWEST
            interval = None if few else paired_means(y - x, truth.image, weights, level, seed)
            found.append(
                Change(
                    kind, name, int(finite.sum()), float(x[finite].mean()), float(y[finite].mean()), interval
                )
            )

    for k, name in enumerate(names):
        add("keypoint", name, before[:, k], after[:, k])
    labelled = np.isfinite(before).sum(1)
    whole = [
        np.divide(np.nansum(part, 1), labelled, out=np.full(len(part), np.nan), where=labelled > 0)
        for part in (before, after)
    ]
    for kind, name, mask in slices_of(truth):
        add(kind, name, np.where(mask, whole[0], np.nan), np.where(mask, whole[1], np.nan))
    return found


def instance_terms(
    keypoints: Float[np.ndarray, "G K 2"], truth: GroundTruth, sigmas: Float[np.ndarray, " K"]
) -> Float[np.ndarray, "G K"]:
    """Each keypoint's part of the OKS of every annotated instance; nan where it is not labelled.

    Args:
        keypoints: the pose of each instance; nan where it has none: all its labelled keypoints count 0.
        truth: the annotations.
        sigmas: OKS constants.
    """
    return keypoint_terms(keypoints, truth.keypoints, truth.area, sigmas)


def slices_of(truth: GroundTruth) -> list[tuple[str, str, Bool[np.ndarray, " G"]]]:
    """(kind, name, members) of every slice that holds somebody and not everybody."""
    medium, large = (AREA_RANGES[name] for name in ("medium", "large"))
    visible = truth.keypoints[..., 2]
    labelled = (visible > 0).sum(1)
    occluded = (visible == 1).sum(1) >= OCCLUDED * np.maximum(labelled, 1)
    crowded = overlap(truth) >= CROWDED
    found = [
        ("size", "small, below 32² px", truth.area < medium[0]),
        ("size", "medium", (truth.area >= medium[0]) & (truth.area <= medium[1])),
        ("size", "large, above 96² px", truth.area > large[0]),
        ("visibility", "mostly visible", ~occluded & (labelled > 0)),
        ("visibility", "at least half occluded", occluded & (labelled > 0)),
        ("crowding", "boxes apart", ~crowded),
        ("crowding", f"boxes overlap (IoU at least {CROWDED:g})", crowded),
    ]
    if len(truth.category_ids) > 1:
        names = truth.category_names or tuple(map(str, truth.category_ids.tolist()))
        found += [("category", name, truth.category == c) for c, name in enumerate(names)]
    counted = ~truth.ignored
    return [
        (kind, name, mask & counted)
        for kind, name, mask in found
        if (mask & counted).any() and (kind == "category" or (mask & counted).sum() < counted.sum())
    ]


def overlap(truth: GroundTruth) -> Float[np.ndarray, " G"]:
    """Largest intersection over union of each instance's box with another's of its image; 0 without one."""
    found = np.zeros(len(truth))
    low = truth.boxes[:, :2]
    high = low + truth.boxes[:, 2:]
    size = np.prod(truth.boxes[:, 2:], axis=1)
    order = np.argsort(truth.image, kind="stable")
    _, first = np.unique(truth.image[order], return_index=True)
    for own in np.split(order, first[1:]) if len(order) else []:
        if len(own) < 2:
            continue
        sides = np.minimum(high[own, None], high[None, own]) - np.maximum(low[own, None], low[None, own])
        shared = np.prod(np.maximum(sides, 0), axis=2)
        union = size[own, None] + size[None, own] - shared
        iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        np.fill_diagonal(iou, 0)
        found[own] = np.nan_to_num(iou).max(1)
    return found
