"""Did it learn the image, and if not, in which of four ways did it fail?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal[
    "learned",
    "loss falls but decoding fails",
    "train and inference paths disagree",
    "cannot fit",
]


@dataclass(frozen=True)
class Expectation:
    """What a network that can learn at all does to one image.

    Attributes:
        pck: at least this, in evaluation mode.
        loss_fall: the loss of one that fits its target falls below this share of its first value. It tells
            the failures apart and is not asked of a network that learned: an objective may have a floor.
    """

    pck: float = 0.9
    loss_fall: float = 0.1


@dataclass(frozen=True)
class Verdict:
    """What was expected, what came.

    Attributes:
        outcome: one of four.
        expected: in words.
        came: in words.
        loss: the last one.
        pck: the last in evaluation mode.
        pck_train: the last in training mode.
    """

    outcome: Outcome
    expected: str
    came: str
    loss: float
    pck: float
    pck_train: float

    @property
    def learned(self) -> bool:
        """Whether what was expected came."""
        return self.outcome == "learned"


def judge(rows: Sequence[dict[str, Any]], expectation: Expectation | None = None, steps: int = 0) -> Verdict:
    """Compare a finished attempt with what was expected.

    Args:
        rows: of the training session, the first and last of them measured.
        expectation: the default one when None.
        steps: allowed; the number of rows by default.

    Raises:
        ValueError: there is no measured step to judge by.
    """
    expectation = expectation or Expectation()
    measured = [row for row in rows if row.get("pck") is not None]
    if not measured:
        raise ValueError("verdict: no step was measured, so there is nothing to judge; run at least one step")
    first, last = rows[0]["loss"], rows[-1]["loss"]
    pck, pck_train = (_number(measured[-1].get(key)) for key in ("pck", "pck_train"))
    # A loss may be negative (a likelihood): it fell by most of its first value, whatever its sign.
    fell = last < first - (1 - expectation.loss_fall) * abs(first)
    if pck >= expectation.pck:
        outcome: Outcome = "learned"
    elif pck_train >= expectation.pck:
        outcome = "train and inference paths disagree"
    elif fell:
        outcome = "loss falls but decoding fails"
    else:
        outcome = "cannot fit"
    share = f" ({last / first:.0%})" if first > 0 and last >= 0 else ""
    done, at = rows[-1]["step"], measured[-1]["step"]
    # A run that was stopped was measured some steps before.
    when = f" at step {at}" if at != done else ""
    all_steps = f"{done} of {steps}" if done < steps else f"{done}"
    came = (
        f"PCK {pck:.2f} in evaluation, {pck_train:.2f} in training{when}, loss {first:.3g} -> {last:.3g}"
        f"{share} after {all_steps} steps"
    )
    return Verdict(outcome, expected_text(expectation, steps or done), came, last, pck, pck_train)


def diverged(why: str, expectation: Expectation | None = None, steps: int = 0) -> Verdict:
    """Of an attempt whose loss is no number any more.

    Args:
        why: at which step, in words.
        expectation: the default one when None.
        steps: allowed.
    """
    expected = expected_text(expectation or Expectation(), steps)
    return Verdict("cannot fit", expected, why, math.nan, math.nan, math.nan)


def expected_text(expectation: Expectation, steps: int) -> str:
    """In words."""
    return f"PCK at least {expectation.pck:.2f} in evaluation within {steps} steps"


def _number(value: Any) -> float:
    """A measurement, nan where it could not be made; comparisons with nan are false, as they should be."""
    return math.nan if value is None else float(value)
