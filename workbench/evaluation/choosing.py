"""Who takes whom, when detections choose one after the other?

In each image and category the detections choose in order of score: the free annotation with the highest OKS
at or above the threshold, one that counts before one that is ignored, the later one of equals. Crowd
regions stay free.

Nearly every detection is near one annotation only, and then the choice is a race: at each threshold the
first detection near enough takes it, whatever the area range. Annotations for which a detection has an
alternative are fought for step by step, all images at the same time.

Source: cocodataset/cocoapi@8c9bcc3:PythonAPI/pycocotools/cocoeval.py, evaluateImg.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

THRESHOLDS = np.linspace(0.5, 0.95, 10)
# A threshold of 1 must be reachable by an OKS that rounding left just below it.
HIGHEST = 1 - 1e-10
NOBODY = -1


def choices(
    detection: Int[np.ndarray, " P"],
    target: Int[np.ndarray, " P"],
    oks: Float[np.ndarray, " P"],
    cell: Int[np.ndarray, " D"],
    ignored: Bool[np.ndarray, "A G"],
    crowd: Bool[np.ndarray, " G"],
) -> Int[np.ndarray, "A T D"]:
    """The annotation that each detection takes; NOBODY where it finds none.

    Args:
        detection: of every pair; rising, and within a cell in order of score.
        target: the annotation of every pair; in the order of the file for each detection.
        oks: of every pair.
        cell: image and category of each detection.
        ignored: annotations that do not count, by area range.
        crowd: annotations that any number of detections may take.
    """
    thresholds = np.minimum(THRESHOLDS, HIGHEST)
    partner = np.full((len(ignored), len(thresholds), len(cell)), NOBODY)
    near = oks >= thresholds[0]
    detection, target, oks = detection[near], target[near], oks[near]
    alternatives = np.bincount(detection, minlength=len(cell))[detection] > 1
    contested = np.zeros(len(crowd), bool)
    contested[target[alternatives]] = True
    fight = contested[target]
    _race(partner, thresholds, detection[~fight], target[~fight], oks[~fight], crowd)
    _fight(partner, thresholds, detection[fight], target[fight], oks[fight], cell, ignored, crowd)
    return partner


def _race(
    partner: Int[np.ndarray, "A T D"],
    thresholds: Float[np.ndarray, " T"],
    detection: Int[np.ndarray, " P"],
    target: Int[np.ndarray, " P"],
    oks: Float[np.ndarray, " P"],
    crowd: Bool[np.ndarray, " G"],
) -> None:
    """Fill in partners where each detection is near one annotation only."""
    order = np.argsort(target, kind="stable")
    detection, target, oks = detection[order], target[order], oks[order]
    for t, threshold in enumerate(thresholds):
        near = oks >= threshold
        d, g = detection[near], target[near]
        takes = (np.diff(g, prepend=NOBODY) != 0) | crowd[g]
        partner[:, t, d[takes]] = g[takes]


def _fight(
    partner: Int[np.ndarray, "A T D"],
    thresholds: Float[np.ndarray, " T"],
    detection: Int[np.ndarray, " P"],
    target: Int[np.ndarray, " P"],
    oks: Float[np.ndarray, " P"],
    cell: Int[np.ndarray, " D"],
    ignored: Bool[np.ndarray, "A G"],
    crowd: Bool[np.ndarray, " G"],
) -> None:
    """Fill in partners where alternatives exist: the n-th detections of all cells choose at the same time."""
    chooser, first, count = np.unique(detection, return_index=True, return_counts=True)
    rank = np.arange(len(chooser)) - np.searchsorted(cell[chooser], cell[chooser])
    free = np.ones((*partner.shape[:2], len(crowd)), bool)
    for step in range(rank.max(initial=-1) + 1):
        now = np.flatnonzero(rank == step)
        # Ragged lists of candidates, padded to the longest: [n, width].
        place = np.arange(count[now].max())
        real = place < count[now][:, None]
        pair = np.where(real, first[now][:, None] + place, first[now][:, None])
        candidate = target[pair]
        value = np.where(real, oks[pair], -1.0)
        able = (value >= thresholds[:, None, None]) & (free[..., candidate] | crowd[candidate])
        skip = ignored[:, None, candidate]
        choice, chosen = _last_best(value, able & ~skip)
        second, spare = _last_best(value, able & skip)
        choice = np.where(chosen, choice, second)
        a, t, n = np.nonzero(chosen | spare)
        taken = candidate[n, choice[a, t, n]]
        partner[a, t, chooser[now[n]]] = taken
        free[a, t, taken] = False


def _last_best(
    value: Float[np.ndarray, "n width"], able: Bool[np.ndarray, "A T n width"]
) -> tuple[Int[np.ndarray, "A T n"], Bool[np.ndarray, "A T n"]]:
    """Position of the last of the highest values among the able, and whether there is any."""
    masked = np.where(able, value, -1.0)
    last = masked.shape[-1] - 1 - masked[..., ::-1].argmax(-1)
    return last, np.asarray(able.any(-1))
