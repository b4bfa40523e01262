"""Does a category do better with another one's condition? Conditions of classes that are exchanged.

Every labelled sample is passed with the condition of each other category in place of its own. Where some
categories all find more with each other's conditions, each with that of another one, these are exchanged: in
the file of the vectors, in the embedding, or in the numbers by which the data set calls its categories.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import DecodeOptions
from workbench.core.finding import Effect, Finding, Measurement
from workbench.core.hooks import OnceComputed
from workbench.core.report import counted
from workbench.evaluation.probes.judge import Judge
from workbench.inspectors.conditioning.findings import CLASSES_EXCHANGED
from workbench.inspectors.conditioning.passes import UNCHANGED, pass_of

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.core import PoseModel, Sample
    from workbench.data.pose_set import PoseSet

# Categories that are compared, and instances of each: all of them make one batch.
CATEGORIES, EACH = 8, 5
# Instances below which nothing is said of a category.
FEWEST = 3
# Mean OKS or PCK that each of the categories must gain.
GAIN = 0.05


def exchanged_classes(
    model: PoseModel,
    pose_set: PoseSet,
    indices: Sequence[int],
    noun: str = "condition",
    stepped: Callable[[], None] = lambda: None,
) -> Finding | None:
    """The categories that find more with each other's conditions; None where there are none.

    Args:
        model: conditioned; its predict pass reads the condition.
        pose_set: annotated, with the model's keypoints.
        indices: instances that may be used.
        noun: what the condition is called.
        stepped: called before every pass; what it raises ends the measurement.

    Raises:
        NotAvailable: the condition cannot be replaced.
    """
    rows = _rows(pose_set, indices)
    if len(rows) < 2:
        return None
    samples = pose_set.samples([i for own in rows.values() for i in own])
    owner = np.array([category for category, own in rows.items() for _ in own])
    judge = Judge.of(model, samples, pose_set.skeleton.sigmas or model.skeleton.sigmas, 0)
    own, others = _values(model, samples, owner, judge, stepped)
    best = {c: max(rows, key=lambda d: -np.inf if d == c else _mean(others[d], owner == c)) for c in rows}
    better = {c: d for c, d in best.items() if _mean(others[d] - own, owner == c) > GAIN}
    # What is left are cycles: each of them gives its condition to one and gets that of one.
    while outside := {c for c, d in better.items() if d not in better or c not in better.values()}:
        better = {c: d for c, d in better.items() if c not in outside}
    if not better:
        return None
    gained = np.zeros(len(owner))
    for category, donor in better.items():
        gained[owner == category] = np.nan_to_num(others[donor] - own)[owner == category]
    used = np.isin(owner, list(better))
    low, high = judge.interval(gained, (used & np.isfinite(own)).astype(float))
    if not low > 0:
        return None
    return _finding(pose_set, better, own[used], gained[used], (low, high), judge, noun)


def _rows(pose_set: PoseSet, indices: Sequence[int]) -> dict[int, list[int]]:
    """Category -> some of its instances with a box; the most frequent categories."""
    found: dict[int, list[int]] = defaultdict(list)
    labelled = set(pose_set.labelled)
    for i in indices:
        if i in labelled:
            found[pose_set.instances[i].category_id].append(i)
    frequent = sorted((c for c in found if len(found[c]) >= FEWEST), key=lambda c: -len(found[c]))
    return {c: found[c][:EACH] for c in frequent[:CATEGORIES]}


def _values(
    model: PoseModel, samples: Sequence[Sample], owner: np.ndarray, judge: Judge, stepped: Callable[[], None]
) -> tuple[Float[np.ndarray, " N"], dict[int, Float[np.ndarray, " N"]]]:
    """OKS or PCK of each sample with its own condition, and with that of each category."""
    import torch

    batch = model.prepare(samples)
    shared = OnceComputed.of(model.module, len(samples))

    def measured(donor: int | None) -> Float[np.ndarray, " N"]:
        stepped()
        place = None if donor is None else int(np.flatnonzero(owner == donor)[0])
        edit = UNCHANGED if place is None else lambda vectors: vectors[[place] * len(vectors)]
        with torch.no_grad(), nullcontext() if shared is None else shared.reused():
            outputs = pass_of(model, "predict", edit)(batch).detach()
        found = model.decode(outputs, batch, DecodeOptions())
        return judge.values(np.stack([p.keypoints for p in found]))

    return measured(None), {int(c): measured(int(c)) for c in dict.fromkeys(owner)}


def _mean(values: Float[np.ndarray, " N"], chosen: np.ndarray) -> float:
    return float(np.nan_to_num(values[chosen], nan=0.0).mean())


def _finding(
    pose_set: PoseSet,
    better: dict[int, int],
    own: Float[np.ndarray, " n"],
    gained: Float[np.ndarray, " n"],
    ends: tuple[float, float],
    judge: Judge,
    noun: str,
) -> Finding:
    names = {c: pose_set.categories.get(c) or f"category {c}" for c in better}
    pairs = ", ".join(f"{names[c]} with that of {names[d]}" for c, d in better.items())
    before, gain = float(np.nanmean(own)), float(gained.mean())
    return Finding(
        CLASSES_EXCHANGED,
        f"with the {noun} of another category {judge.measure} rises from {before:.3f} to "
        f"{before + gain:.3f} on {counted(len(own), 'instance')}: {pairs}",
        "exchange them back: look at the order of the vectors and at the numbers of the categories "
        f"(category_id) by which your code picks the {noun}",
        (Measurement(f"{judge.measure} with the other {noun}", before + gain, "", before, judge.protocol),),
        Effect(judge.measure, gain, *ends, judge.protocol),
        refuted_by=f"other images of these categories on which each finds more with its own {noun}",
    )
