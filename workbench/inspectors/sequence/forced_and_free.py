"""How large is the error of each step, teacher-forced and free-running?

The training loss measures teacher forcing, inference is free-running. A small teacher-forced error with a
free-running error that grows with the step is exposure bias: the model has learned to continue true tokens,
and its own slightly wrong answers lead it to inputs that training never contained. A gap alone does not show
it: on one image two keypoints may make it, and true tokens tell more of the rest than wrong ones do. With
exposure bias an answer moves as far as the tokens that it read were moved, or farther; a model that looks at
the image draws it back.

Neither shows anything where teacher forcing gives the answer away: a step that reads its own true token, or
later ones, has a small error without having learned anything. So these are moved, and no answer may follow.

Errors of free-running answers can also depend on rounding: a difference in the last digits of the input is
amplified until an answer moves, and then another machine, batch size or library version gives other
figures. The input is changed by a millionth, about the size of rounding, and the rollout is repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Batch, Run, Skeleton
from workbench.core.capabilities import RollsOut
from workbench.core.inspector import Inspector, Needs
from workbench.core.report import Report, counted, rows
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, new_figure
from workbench.inspectors.sequence import rollout
from workbench.inspectors.sequence.rollout import (
    AMPLIFIED,
    CHANGE,
    COPIES,
    DRAWS,
    EXPOSURE_BIAS,
    GROWS,
    MATTERS,
    NOT_LEARNED,
    NOTHING_COUNTS,
    PckParams,
    PckRule,
    granularity,
    moved_by_rounding,
)
from workbench.training.sequence_checks import answer_leak, answer_order, leak_text

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure


# By how much of the input true tokens are moved to see how far the answers follow.
NUDGE = 0.02
# What mends a step that reads its own answer.
SHIFT = "shift the tokens by one step, mask attention to later ones, and train again"
# What mends answers that stand at the places of other keypoints.
REORDER = "write the answer of each step as the keypoint of its step: nothing rolled, sorted or exchanged"
# Part of the error that is left where answers are put in the order that their reading shows.
LEFT_IN_ORDER = 0.8
# Free-running errors so many times as large are not as good, whatever PCK counts.
LARGER = 2.0


def amplification(run: Run, points: Float[np.ndarray, "N K 2"]) -> float:
    """How far teacher-forced answers move over how far the tokens that they read were moved, means.

    Args:
        run: of a sequence model.
        points: its teacher-forced answers, image pixels.

    Returns:
        nan where nothing can be compared.
    """
    true = rollout.true_coordinates(run.batch)
    noise = NUDGE * np.random.default_rng(0).standard_normal((DRAWS, *true.shape))
    places = rollout.image_points(run.batch, true)
    moved, far = [], []
    for nudge in noise:
        batch = rollout.with_extra(run.batch, given=true + nudge)
        again = rollout.points_of(run, rollout.teacher_forced(run, batch))
        # The first answer reads no token, and nothing reads the last one.
        moved.append(np.linalg.norm(again - points, axis=-1)[:, 1:])
        far.append(np.linalg.norm(rollout.image_points(run.batch, true + nudge) - places, axis=-1)[:, :-1])
    answers, tokens = np.array(moved), np.array(far)
    known = np.isfinite(answers)
    return float(answers[known].mean() / np.nanmean(tokens)) if known.any() else float("nan")


@dataclass(frozen=True)
class Params(PckParams):
    """Parameters.

    Attributes:
        threshold: PCK threshold, a share of the normaliser; .2 in MP-100.
        normaliser: what distances are divided by.
    """


@dataclass(frozen=True, eq=False)
class ForcedAndFree(Report):
    """Errors per step in both modes.

    Attributes:
        skeleton: names of the steps.
        forced: teacher-forced error, shares of the normaliser; nan where not counted.
        free: free-running error.
        pck_forced: teacher-forced PCK.
        pck_free: free-running PCK.
        rule: in words.
        steps_of_pck: the possible values of PCK.
        threshold: of the rule.
        rounding: movement of the free-running answers when the input changes by a millionth, shares of the
            box's longer side; None where not measured.
        amplified: how far answers move over how far the tokens before them were moved; nan where not known.
        of_copies: median teacher-forced error over that of the true token before, taken as the answer; nan
            where not known.
        leak: how far answers move over how far the true tokens of their own and later steps were moved; nan
            where not known.
    """

    skeleton: Skeleton
    forced: Float[np.ndarray, "N K"]
    free: Float[np.ndarray, "N K"]
    pck_forced: float
    pck_free: float
    rule: str
    steps_of_pck: str
    threshold: float
    rounding: Float[np.ndarray, "N K"] | None = None
    amplified: float = float("nan")
    of_copies: float = float("nan")
    leak: float = float("nan")
    order: tuple[int, ...] = ()
    pck_ordered: float = float("nan")

    @property
    def leaks(self) -> str:
        """The leak as a sentence; "" where there is none, or only the order of the answers is wrong."""
        return "" if self.order else leak_text(self.leak)

    @property
    def order_text(self) -> str:
        """Which answers stand at other keypoints' places, as a sentence; "" where none do."""
        names = self.skeleton.keypoints
        off = [f"{names[p]} is {names[k]}" for k, p in enumerate(self.order) if p != k]
        if not off:
            return ""
        more = f" and {len(off) - 3} more" if len(off) > 3 else ""
        return (
            "by the true tokens that they read, answers stand at the places of other keypoints "
            f"({', '.join(off[:3])}{more}); put in order, teacher-forced PCK goes "
            f"from {self.pck_forced:.2f} to {self.pck_ordered:.2f}"
        )

    @property
    def learned(self) -> bool:
        """Whether it finds keypoints when teacher-forced, by more than repeating the token it is given."""
        return not (self.pck_forced < NOT_LEARNED or self.of_copies > COPIES)

    @property
    def fails_on_its_own(self) -> bool:
        """Exposure bias: free-running is worse, and errors do not fade from step to step.

        A model that hardly does more than repeat the true token before has nothing to lose without it, and
        one that reads what it has to predict loses more than a token before.
        """
        if self.of_copies > COPIES or self.order or self.leaks:
            return False
        return self.gap > (0 if self.amplified >= GROWS else EXPOSURE_BIAS) and not self.amplified < AMPLIFIED

    @property
    def rounding_warning(self) -> str:
        """One sentence where a free-running answer depends on rounding; "" otherwise."""
        if self.rounding is None or not self.rounding.max(initial=0) >= MATTERS:
            return ""
        worst = self.rounding.max(0)
        name, far = self.skeleton.keypoints[int(worst.argmax())], worst.max()
        how = (
            f"moves {name} by {far:.2f} of the box" if np.isfinite(far) else f"makes {name} appear or vanish"
        )
        many = int((worst >= MATTERS).sum())
        return (
            f"results depend on rounding: a change of the input by {CHANGE:g} {how} ({many} of "
            f"{counted(len(worst), 'keypoint')} by {MATTERS:g} or more), so free-running figures may differ "
            "between machines and batch sizes"
        )

    @property
    def gap(self) -> float:
        """Teacher-forced minus free-running PCK."""
        return self.pck_forced - self.pck_free

    @property
    def per_step(self) -> list[dict[str, Any]]:
        """Mean error over samples, by step."""
        return rows(step=range(self.forced.shape[1]), forced=_mean(self.forced), free=_mean(self.free))

    def summary(self) -> str:
        if np.isnan(self.pck_forced):
            return f"Not measurable: {NOTHING_COUNTS}"
        text = (
            f"PCK {self.pck_forced:.2f} teacher-forced, {self.pck_free:.2f} free-running "
            f"({self.rule}; possible values {self.steps_of_pck})"
        )
        if np.isfinite(self.amplified):
            text += f"; an answer moves {self.amplified:.2g} times as far as the tokens before it are moved"
        text += "".join(f"; {also}" for also in (self.leaks, self.order_text) if also)
        if self.of_copies > COPIES:
            text += f"; teacher-forced errors are {self.of_copies:.0%} of those of repeating its token"
        if self.rounding_warning:
            text += f"; {self.rounding_warning}"
        lost = np.flatnonzero((_mean(self.free) >= self.threshold) & (_mean(self.forced) < self.threshold))
        if not len(lost):
            return text
        first = f"step {lost[0]} ({self.skeleton.keypoints[lost[0]]})"
        after = _mean(self.free)[lost[0] :]
        to_the_end = np.all(after[~np.isnan(after)] >= self.threshold)
        where = f"from {first} on" if to_the_end else f"first at {first}"
        advice = ": try scheduled sampling" if self.fails_on_its_own else ""
        return f"{text}; free-running errors exceed the threshold {where}{advice}"

    def plot(self) -> Figure:
        figure = new_figure(self.summary(), x="step", y="error (share of the normaliser)")
        step = np.arange(self.forced.shape[1], dtype=np.float32)
        for name, values, ink in (
            ("teacher-forced", self.forced, QUIET_COLOUR),
            ("free-running", self.free, FINDING_COLOUR),
        ):
            figure.add_scatter(x=step, y=_mean(values).astype(np.float32), mode="lines+markers", name=name,
                               line={"color": ink}, text=list(self.skeleton.keypoints),
                               hovertemplate="step %{x}, %{text}<br>error %{y:.3f}")  # fmt: skip
        figure.add_hline(y=self.threshold, line={"dash": "dot", "color": QUIET_COLOUR, "width": 1})
        return figure

    def table(self) -> list[dict[str, Any]]:
        return [
            {**row, "keypoint": name}
            for row, name in zip(self.per_step, self.skeleton.keypoints, strict=True)
        ]


def diagnosis(steps: ForcedAndFree) -> str:
    """The main problem in one clause, with its figures and what to do."""
    if np.isnan(steps.pck_forced):
        return NOTHING_COUNTS
    numbers = f"PCK {steps.pck_forced:.2f} teacher-forced, {steps.pck_free:.2f} free-running"
    numbers += f" ({steps.rule}, {steps.steps_of_pck})"
    if steps.leaks:
        return f"{steps.leaks}: {numbers}; {SHIFT}"
    if steps.order:
        return f"{steps.order_text}: {numbers}; {REORDER}"
    if steps.fails_on_its_own:
        return f"exposure bias, it fails on its own answers: {numbers}; train with scheduled sampling"
    if steps.of_copies > COPIES:
        return (
            f"it hardly does more than repeat the token before, with {steps.of_copies:.0%} of the error of "
            f"that: {numbers}; train it longer or overfit one image"
        )
    if steps.pck_forced < NOT_LEARNED:
        return (
            f"it does not find the keypoints even when teacher-forced: {numbers}; train it longer or overfit "
            "one image"
        )
    if steps.gap > EXPOSURE_BIAS:
        return f"true tokens help it, but its own errors do not grow ({steps.amplified:.2g} times): {numbers}"
    forced, free = float(np.nanmean(steps.forced)), float(np.nanmean(steps.free))
    if free > LARGER * forced:
        return (
            f"free-running errors are {free / max(forced, 1e-12):.1f} times the teacher-forced ones "
            f"({free:.3f} against {forced:.3f} of the normaliser), which PCK does not show: {numbers}; "
            "measure with a smaller threshold"
        )
    return f"free-running is as good as teacher-forced: {numbers}"


def compute(run: Run, params: Params) -> ForcedAndFree:
    """One teacher-forced pass, one rollout, and the rollout again on inputs changed by a millionth."""
    rule, outputs = params.rule, rollout.teacher_forced(run)
    rollout.true_coordinates(run.batch)  # other tokens cannot be moved
    forced = rollout.points_of(run, outputs)
    one = rule.errors(run, forced)
    answers = rollout.points_of(run, rollout.free_running(run))
    two = rule.errors(run, answers)
    leak = answer_leak(_tokens_read(run), run.batch)
    order, ordered = _order(run, forced, one, rule) if leak_text(leak) else ((), float("nan"))
    return ForcedAndFree(
        run.model.skeleton,
        one,
        two,
        rule.pck(one),
        rule.pck(two),
        rule.text(),
        granularity(run),
        rule.threshold,
        moved_by_rounding(run, answers),
        amplification(run, forced),
        _of_copies(run, one, rule),
        leak,
        order,
        ordered,
    )


def _tokens_read(run: Run) -> Callable[[Batch], Float[np.ndarray, "N K 2"]]:
    """Teacher-forced keypoints, as tokens, of batches with other true tokens."""

    def answers(batch: Batch) -> Float[np.ndarray, "N K 2"]:
        return rollout.tokens_of(run.batch, rollout.points_of(run, rollout.teacher_forced(run, batch)))

    return answers


def _order(
    run: Run, points: Float[np.ndarray, "N K 2"], errors: Float[np.ndarray, "N K"], rule: PckRule
) -> tuple[tuple[int, ...], float]:
    """The place of each step's answer and PCK in that order; () where that is no better."""
    order = answer_order(_tokens_read(run), run.batch)
    if order is None:
        return (), float("nan")
    ordered = rule.errors(run, points[:, order])
    if not np.nanmean(ordered) < LEFT_IN_ORDER * np.nanmean(errors):
        return (), float("nan")
    return tuple(order), rule.pck(ordered)


def _of_copies(run: Run, errors: Float[np.ndarray, "N K"], rule: PckRule) -> float:
    """Median of the errors over that of the last true token before each, taken as the answer."""
    truth = np.array(run.truth, float)
    copies, last = np.full((*truth.shape[:2], 2), np.nan), np.full((len(truth), 2), np.nan)
    for k in range(truth.shape[1]):
        copies[:, k] = last
        last = np.where(truth[:, k, 2:] > 0, truth[:, k, :2], last)
    of_them = rule.errors(run, copies)
    both = np.isfinite(errors) & np.isfinite(of_them)
    return float(np.median(errors[both]) / np.median(of_them[both])) if both.any() else float("nan")


def _mean(errors: Float[np.ndarray, "N K"]) -> Float[np.ndarray, " K"]:
    """Mean over samples; nan where no sample counts."""
    known = ~np.isnan(errors)
    total = np.where(known, errors, 0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)


INSPECTOR = Inspector(
    "Teacher-forced and free-running", Params, compute, needs=Needs(capability=RollsOut, truth=True), order=10
)
