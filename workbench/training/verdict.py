"""Verdict of an overfit attempt: learned, or one of three kinds of failure; and the record of evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from workbench.core.finding import Finding
from workbench.core.report import counted

Outcome = Literal[
    "learned", "loss falls but decoding fails", "train and inference paths disagree", "cannot fit"
]


@dataclass(frozen=True)
class Expectation:
    """What a network that can learn at all achieves on one image.

    Attributes:
        pck: minimum PCK in evaluation mode.
        loss_fall: the loss of a network that fits its target falls below this share of its first value. It
            only separates the kinds of failure; it is not required of a network that learned, because an
            objective may have a lower bound above 0.
    """

    pck: float = 0.9
    loss_fall: float = 0.1


@dataclass(frozen=True)
class Verdict:
    """Expected and measured result of an attempt.

    Attributes:
        outcome: one of four.
        expected: sentence.
        came: sentence with what was measured.
        loss: last value; nan where the run diverged.
        pck: last value in evaluation mode; nan where no keypoint could be decoded.
        pck_train: last value in training mode; nan likewise.
    """

    outcome: Outcome
    expected: str
    came: str
    loss: float
    pck: float
    pck_train: float

    @property
    def learned(self) -> bool:
        """Whether the expectation was met."""
        return self.outcome == "learned"


@dataclass(frozen=True)
class Evidence:
    """One defect that was seen without further training, or a remark.

    Attributes:
        text: what was seen; one sentence.
        culprit: name of the switch that removes it; "" where none is known.
        why: what such a switch does.
        mended: what holds without it.
        decides: it explains a failed attempt by itself and no switch of the bisection removes it; a switch
            that lets the network learn all the same would only hide the cause.
        remark: not a defect in itself; worth checking where the attempt failed.
        name: of the defect, in a few words, where no switch names it.
    """

    text: str
    culprit: str = ""
    why: str = ""
    mended: str = ""
    decides: bool = False
    remark: bool = False
    name: str = ""

    def finding(self) -> Finding:
        """The evidence as a finding."""
        fix = f"without {self.culprit} {self.mended}: {self.why}" if self.culprit else ""
        return Finding(
            cause=self.culprit or self.name or "one image cannot be learned",
            evidence=self.text,
            fix=fix,
            severity="remark" if self.remark else "error",
            confidence="proved" if self.culprit else "measured",
            refuted_by=f"a run with {self.culprit} that learns the same" if self.culprit else "",
        )


CONFIG_WRONG = "config contradicts itself"
"""Name of the evidence that the config's own training has a fault, whatever the attempt learned."""


def headline(verdict: Verdict, evidence: Sequence[Evidence]) -> str:
    """The outcome in a few words; of an image that was learned, with the fault that was named all the same.

    Args:
        verdict: of the attempt.
        evidence: everything else that was seen.
    """
    wrong = [one for one in evidence if not one.remark]
    if not verdict.learned or not wrong:
        return verdict.outcome
    if config := [one.text.partition(":")[0] for one in wrong if one.name == CONFIG_WRONG]:
        return f"learned, but the training as configured has a fault: {config[0]}"
    names = dict.fromkeys(one.name or one.text.partition(":")[0] for one in wrong)
    return f"learned, but a fault was seen: {', '.join(names)}"


def judge(rows: Sequence[dict[str, Any]], expectation: Expectation | None = None, steps: int = 0) -> Verdict:
    """Compare a finished attempt with the expectation.

    Args:
        rows: of the training session, first and last of them measured.
        expectation: the default one when None.
        steps: steps allowed; 0 takes the number of rows.

    Raises:
        ValueError: no step was measured.
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
    share = _share(first, last)
    done, at = rows[-1]["step"], measured[-1]["step"]
    # The last measurement of a run that was stopped is some steps old.
    when = f" at step {at}" if at != done else ""
    all_steps = f"{done} of {steps}" if done < steps else f"{done}"
    came = (
        f"PCK {pck:.2f} in evaluation, {pck_train:.2f} in training{when}, loss {first:.3g} -> "
        f"{last:.3g}{share} after {counted(all_steps, 'step')}"
    )
    return Verdict(outcome, expected_text(expectation, steps or done), came, last, pck, pck_train)


def _share(first: float, last: float) -> str:
    """The last loss beside the first: a percentage, or how many times as much where it has grown."""
    if first <= 0 or last < 0:
        return ""
    # A percentage of an exploded loss has a dozen digits, and says less than its order of magnitude.
    return f" ({last / first:.0%})" if last < 10 * first else f" ({last / first:.2g} times as much)"


def diverged(why: str, expectation: Expectation | None = None, steps: int = 0) -> Verdict:
    """Verdict of an attempt whose loss is no longer finite.

    Args:
        why: sentence that names the step.
        expectation: the default one when None.
        steps: steps allowed.
    """
    expected = expected_text(expectation or Expectation(), steps)
    return Verdict("cannot fit", expected, why, math.nan, math.nan, math.nan)


def expected_text(expectation: Expectation, steps: int) -> str:
    """The expectation as a sentence.

    Args:
        expectation: minimum PCK.
        steps: steps allowed.
    """
    return f"PCK at least {expectation.pck:.2f} in evaluation within {counted(steps, 'step')}"


def _number(value: Any) -> float:
    """A measurement; nan where it could not be made, so that comparisons with it are false."""
    return math.nan if value is None else float(value)
