"""Does a sequence model put its own small errors right, or make them larger?

In use it reads its own answers, each a little off. A model that was only ever shown the truth has not learned
what to do then: the answer after a token that is off by a little is off by more, and a long sequence, another
image or one keypoint missed is enough to lose the rest. One image learned by heart may hide that, since its
answers lie on the truth; so it is measured with noise.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from workbench.core import Batch
from workbench.training.measures import evaluated
from workbench.training.sequences import TaughtSequence

# Of the input: a few pixels, as far off as answers are that PCK still counts as right.
NOISE = 0.02

# Above 1 an error grows. The noise is drawn a few times only, so the figure is good to some 10 %.
GROWS = 1.2

DRAWS = 8


def error_gain(model: Any, batch: Batch) -> float:
    """Mean distance by which answers move, over that by which the tokens read before them were moved.

    Args:
        model: a TaughtSequence.
        batch: with the true tokens in ``extra["given"]``, [N, K, 2].

    Returns:
        nan where the model is no such, or nothing is read before an answer.
    """
    import torch

    given = batch.extra.get("given")
    if given is None or not isinstance(model, TaughtSequence):
        return float("nan")
    inner = model.model
    random = torch.Generator().manual_seed(0)
    answers = evaluated(inner, batch).tokens.get("coordinates")
    if answers is None:
        return float("nan")
    moved, noises = [], []
    for _ in range(DRAWS):
        noise = NOISE * torch.randn(given.shape, generator=random).to(given.device)
        noisy = dataclasses.replace(batch, extra={**batch.extra, "given": given + noise})
        off = (evaluated(inner, noisy).tokens["coordinates"] - answers).norm(dim=-1).cpu().numpy()
        # A keypoint that is not annotated is neither read nor compared.
        known = given.isfinite().all(-1).cpu().numpy()
        moved.append(off[:, 1:][known[:, 1:]])
        noises.append(noise.norm(dim=-1).cpu().numpy()[:, :-1][known[:, :-1]])
    far, by = np.concatenate(moved), np.concatenate(noises)
    return float(far.mean() / by.mean()) if len(far) and len(by) else float("nan")


def growth_text(gain: float) -> str:
    """In words; "" while errors do not grow."""
    if not gain > GROWS:
        return ""
    return (
        f"errors grow: tokens that are {NOISE:.0%} of the input off move the answers after them {gain:.1f} "
        "times as far"
    )
