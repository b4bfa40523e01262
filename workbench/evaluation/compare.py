"""Which instances did an epoch gain and lose, and is the change of AP more than luck of the images?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.evaluation.compare import Comparison, paired_bootstrap
from workbench.evaluation.evaluate import Evaluation, evaluate
from workbench.evaluation.ground_truth import AreaRule
from workbench.evaluation.predictions import Predictions
from workbench.evaluation.protocol import Protocol

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet


def compare(
    pose_set: PoseSet,
    epochs: Sequence[tuple[str, Predictions]],
    protocols: Sequence[Protocol | None] | None = None,
    *,
    indices: Iterable[int] | None = None,
    area_rule: AreaRule = "annotated",
    sigmas: Sequence[float] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Evaluate several epochs on one set and put them side by side.

    Args:
        pose_set: the annotations.
        epochs: title and predictions of each, in the order to show.
        protocols: of each, where known; differences are marked.
        indices: as in evaluate.
        area_rule: as in evaluate.
        sigmas: as in evaluate.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: fewer than two epochs, or two of the same title; and what evaluate raises.
    """
    rules = [None] * len(epochs) if protocols is None else list(protocols)
    if len(rules) != len(epochs):
        raise ValueError(f"compare: {len(epochs)} epochs and {len(rules)} protocols")
    chosen = None if indices is None else list(indices)
    evaluations = [
        evaluate(pose_set, found, rule, indices=chosen, area_rule=area_rule, sigmas=sigmas)
        for (_, found), rule in zip(epochs, rules, strict=True)
    ]
    return comparison_of([title for title, _ in epochs], evaluations, resamples=resamples, seed=seed)


def comparison_of(
    titles: Sequence[str], evaluations: Sequence[Evaluation], *, resamples: int = 1000, seed: int = 0
) -> Comparison:
    """Put finished evaluations of one set side by side; arguments as in compare.

    Raises:
        ValueError: fewer than two, two of the same title, or not of the same instances.
    """
    titles = tuple(titles)
    if len(evaluations) < 2:
        raise ValueError(f"compare: expected two epochs or more, got {len(evaluations)}")
    if len(set(titles)) < len(titles):
        raise ValueError(f"compare: two epochs have the same title among {', '.join(titles)}")
    truth = evaluations[0].ap.truth
    for title, other in zip(titles, evaluations, strict=True):
        if not np.array_equal(truth.ids, other.ap.truth.ids):
            raise ValueError(f"compare: {title} was evaluated on other instances than {titles[0]}")
    first = evaluations[0]
    countable = bool(np.isfinite(first.figures["AP"]))
    return Comparison(
        titles=titles,
        evaluations=tuple(evaluations),
        oks=np.stack([np.where(truth.ignored, np.nan, e.oks) for e in evaluations]),
        intervals=tuple(
            paired_bootstrap(first.ap, other.ap, resamples=resamples, seed=seed) for other in evaluations[1:]
        )
        if countable
        else (),
        differences=tuple(
            f"{title}: {what}"
            for title, other in zip(titles[1:], evaluations[1:], strict=True)
            for what in other.protocol.differs_from(first.protocol)
        ),
    )
