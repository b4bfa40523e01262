"""How often does the decoder see its own last answer instead of the truth while it is trained?

Source: Bengio et al., Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks, NIPS 2015,
section 2.4: the probability of the truth decays linearly, exponentially or as an inverse sigmoid.
"""

from __future__ import annotations

import math
from typing import Literal

Kind = Literal["teacher", "linear", "sigmoid", "exponential"]


def truth_probability(kind: Kind, step: int, steps: int, floor: float = 0.0) -> float:
    """Probability that a token fed back is the true one.

    Args:
        kind: ``teacher`` is always 1.
        step: 0 to `steps`.
        steps: when the decay has run its course.
        floor: it never falls below.

    Raises:
        ValueError: unknown kind, or steps not positive.
    """
    if steps < 1:
        raise ValueError(f"scheduled sampling: expected at least one step, got {steps}")
    t = min(max(step / steps, 0.0), 1.0)
    curves = {
        "teacher": 1.0,
        "linear": 1 - t,
        # From .98 to .02, the paper's k/(k + exp(i/k)) stretched over the run.
        "sigmoid": 1 / (1 + math.exp(8 * (t - 0.5))),
        # e^-4 = .02 at the end.
        "exponential": math.exp(-4 * t),
    }
    if kind not in curves:
        raise ValueError(f"scheduled sampling: expected one of {', '.join(curves)}, got {kind!r}")
    return max(floor, curves[kind])
