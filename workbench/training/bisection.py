"""Cause of a failed overfit attempt: what can be seen without training, then one piece removed at a time.

Evidence is collected after every attempt, also a successful one: a model that memorises one image can be of
no use (its output does not depend on the support, its errors grow, its images and annotations do not match),
and its own log can be wrong whatever it learned. The bisection then repeats the attempt from the same initial
weights with one piece of the pipeline removed at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.core import DecodeOptions, PoseModel, Sample
from workbench.training.augmentation_check import apart_text
from workbench.training.checks import reach_text
from workbench.training.measures import evaluated
from workbench.training.model_state import ModelState
from workbench.training.placement import placements
from workbench.training.plan import Plan, new_session
from workbench.training.sequence_checks import (
    LEAK_NAME,
    complaints,
    error_gain,
    growth_text,
    is_unread,
    leak_of,
    leak_text,
    own_log,
)
from workbench.training.session import Session
from workbench.training.switches import STEP_LIMIT, SWITCHES, Switch, suspected, switches_of, why_of
from workbench.training.trainer import Diverged
from workbench.training.verdict import Evidence, Expectation, Verdict, diverged, judge

UNREAD_NAME, WRONG_LOG, GROWING = "support not read", "coordinates disagree", "exposure bias"
# A loss that ends so many times its first size below 0 has no bound; a likelihood falls like a logarithm.
UNBOUNDED = 100
UNREAD = "the output does not depend on the support: with its points moved elsewhere no keypoint changes"


@dataclass(frozen=True)
class Trial:
    """One attempt of the bisection.

    Attributes:
        without: name of the switch that was removed.
        verdict: of this attempt.
        passed: whether the defect is gone.
    """

    without: str
    verdict: Verdict
    passed: bool


@dataclass(frozen=True)
class Cause:
    """What was found to be wrong with an attempt.

    Attributes:
        culprit: name of the switch; "" none.
        why: what such a switch does.
        mended: what holds without it: "it learns".
        trials: in the order made.
        evidence: everything that is wrong besides the verdict, each with its own switch.
        helped: where all trials fail, the one that came nearest, as a sentence; "" where none came nearer.
    """

    culprit: str = ""
    why: str = ""
    mended: str = ""
    trials: tuple[Trial, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    helped: str = ""


def run_to_end(session: Session, stopped: Callable[[], bool] | None = None) -> bool:
    """Run a session to its end.

    Args:
        session: ready or paused.
        stopped: polled ten times a second; True ends the session early.

    Returns:
        False when it was stopped before its end.
    """
    session.start()
    try:
        while not session.join(0.1 if stopped else None):
            if stopped and stopped():
                session.stop()
    except BaseException:  # Ctrl-C: the loop must not continue alone, and finished steps are written
        session.stop()
        raise
    return session.status().state != "stopped"


def verdict_of(session: Session, expectation: Expectation | None = None) -> Verdict:
    """Judge a session that has ended.

    Args:
        session: finished or stopped.
        expectation: what counts as learned; the default one when None.

    Raises:
        ValueError: it failed; the sentence names the step and the reason.
    """
    status = session.status()
    if status.state == "failed":
        raise ValueError(f"overfit: {status.reason}") from session.failure
    return judge(session.rows, expectation, session.trainer.settings.steps)


def _trial_verdict(session: Session, expectation: Expectation | None) -> Verdict:
    """As `verdict_of`, but a trial that diverges counts as not passed, and the others still follow."""
    if isinstance(session.failure, Diverged):
        return diverged(str(session.failure), expectation, session.trainer.settings.steps)
    return verdict_of(session, expectation)


def observed(
    model: PoseModel, samples: Sequence[Sample], plan: Plan, rows: Sequence[dict[str, Any]]
) -> tuple[Evidence, ...]:
    """What is wrong after an attempt, without looking for the switch that removes it.

    Args:
        model: its view for training, with the weights of the attempt.
        samples: of the attempt.
        plan: of the attempt.
        rows: of the attempt.
    """
    batch = model.prepare(samples)
    found = [Evidence(one.text, remark=one.remark, name=one.name) for one in _untrained(model, batch, plan)]
    found += [Evidence(text, remark=True, name="worth checking")] if (text := sign_text(rows)) else []
    found += [Evidence(UNREAD, name=UNREAD_NAME)] if is_unread(model, batch) else []
    found += [Evidence(complaint.text(), name=WRONG_LOG) for complaint in complaints(rows)]
    grows = growth_text(error_gain(model, batch))
    return (*found, Evidence(grows, name=GROWING)) if grows else tuple(found)


def evidence(
    first: ModelState, samples: Sequence[Sample], plan: Plan, rows: Sequence[dict[str, Any]]
) -> tuple[Evidence, ...]:
    """What is wrong after an attempt, each with the switch that removes it; nothing is trained.

    Args:
        first: the model before the attempt; the model itself has the weights of the attempt.
        samples: of the attempt.
        plan: of the attempt.
        rows: of the attempt.
    """
    model = first.model
    batch = model.prepare(samples)
    found = list(_untrained(model, batch, plan))
    if text := sign_text(rows):
        found.append(Evidence(text, remark=True, name="worth checking"))
    trained = ModelState(model)
    try:
        if is_unread(model, batch):
            # With the attempt's weights: initial weights give the anchors alone, whatever is read.
            ends = (s for s in _each_removed(trained, plan) if not is_unread(model, batch))
            found.append(_named(UNREAD, ends, "the output follows the support", UNREAD_NAME))
        for complaint in complaints(rows):
            # With initial weights, whose errors are large enough for a wrong log to show.
            ends = (
                s
                for s in _each_removed(first, plan, of_log=True)
                if not _still_wrong(model, batch, complaint.column)
            )
            found.append(_named(complaint.text(), ends, "it reports what was measured", WRONG_LOG))
        return tuple(found)
    finally:
        trained.restore()


def _untrained(model: PoseModel, batch: Any, plan: Plan) -> Iterator[Evidence]:
    """What is wrong whatever was learned."""
    if text := reach_text(model, batch):
        yield Evidence(text, name="keypoints out of reach")
    if text := leak_text(leak_of(model, batch)):
        yield Evidence(text, name=LEAK_NAME)
    yield from placements(model, batch, plan)
    changes = {"augmentation": plan.augment, "flip": plan.flip}
    for switch in SWITCHES:
        if text := apart_text(changes.get(switch.name), batch.samples, model.skeleton.mirror):
            yield Evidence(text, switch.name, switch.why, "image and annotation match")


def sign_text(rows: Sequence[dict[str, Any]]) -> str:
    """Whether the loss falls without bound below 0; "" where it does not.

    Args:
        rows: of the attempt.
    """
    first, last = (rows[0]["loss"], rows[-1]["loss"]) if rows else (0.0, 0.0)
    if not last < -UNBOUNDED * max(abs(first), 1e-9):
        return ""
    return (
        f"the loss falls from {first:.3g} to {last:.3g} as if it had no bound: a distance is never below 0, "
        "so look at the loss's sign"
    )


def _each_removed(state: ModelState, plan: Plan, *, of_log: bool = False) -> Iterator[Switch]:
    """Every switch in turn, the model restored except for what the switch removed."""
    for switch in switches_of(state.model, plan, of_log=of_log):
        state.restore()
        switch.off(plan, state.model)
        yield switch


def _still_wrong(model: PoseModel, batch: Any, column: str) -> bool:
    outputs = evaluated(model, batch)
    predictions = model.decode(outputs, batch, DecodeOptions())
    row = {"step": 0, **own_log(model, outputs, predictions, batch)}
    return any(complaint.column == column for complaint in complaints([row]))


def _named(text: str, ends: Iterator[Switch], mended: str, name: str) -> Evidence:
    switch = next(ends, None)
    known = ("", "", "") if switch is None else (switch.name, switch.why, mended)
    return Evidence(text, *known, name=name)


def found_cause(
    first: ModelState,
    samples: Sequence[Sample],
    plan: Plan,
    verdict: Verdict,
    rows: Sequence[dict[str, Any]],
    before: Sequence[Evidence] = (),
    **more: Any,
) -> Cause:
    """Why an attempt failed, or what is wrong although it learned.

    A switch without which it passes comes first; else the first that removes something that was seen.

    Args:
        first: the model before the attempt; the model itself has the weights of the attempt.
        samples: of the attempt.
        plan: of the attempt.
        verdict: of the attempt.
        rows: of the attempt.
        before: what was wrong before the first step, see checks.before_training.
        more: expectation, device, on_trial, on_row, stopped; see `bisected`.
    """
    proofs = (*before, *evidence(first, samples, plan, rows))
    grows = growth_text(error_gain(first.model, first.model.prepare(samples)))
    tried, more = Cause(), {**more, "verdict": verdict}
    decided = any(proof.decides for proof in proofs)
    if not verdict.learned and (decided or reach_text(first.model, first.model.prepare(samples))):
        pass  # no switch removes it, nor brings back what lies outside the crop
    elif not verdict.learned:
        tried = bisected(first, samples, plan, **more)
    elif grows:
        tried = bisected(first, samples, plan, passed=_learned_and_steady, mended="errors die away", **more)
    if grows:
        known = (tried.culprit, tried.why, tried.mended) if verdict.learned else ("", "", "")
        proofs = (*proofs, Evidence(grows, *known, name=GROWING))
    named = tried if tried.culprit else next((proof for proof in proofs if proof.culprit), tried)
    helped = "" if named.culprit or verdict.learned else helped_most(verdict, tried.trials)
    return Cause(named.culprit, named.why, named.mended, tried.trials, proofs, helped)


# Share of all keypoints that a trial must gain to be mentioned.
NEARER = 0.15


def helped_most(verdict: Verdict, trials: Sequence[Trial]) -> str:
    """Of trials that all failed, the one that came nearest, as a sentence; "" where none came nearer.

    Args:
        verdict: of the attempt with all pieces.
        trials: of its bisection.
    """
    judged = [(t.verdict.pck, t) for t in trials if t.verdict.pck == t.verdict.pck]
    start = verdict.pck if verdict.pck == verdict.pck else 0.0
    best, trial = max(judged, key=lambda one: one[0], default=(start, None))
    if trial is None or best < start + NEARER:
        return ""
    if trial.without == STEP_LIMIT:
        risen = f"from {start:.2f} to {best:.2f}"
        return f"with twice the steps PCK rises {risen}: the steps are too few, allow more"
    return (
        f"without {trial.without} PCK rises most, from {start:.2f} to {best:.2f}, but the steps are too few "
        f"to reach what is expected: try without {trial.without} and with more steps"
    )


def _learned_and_steady(verdict: Verdict, model: PoseModel, samples: Sequence[Sample]) -> bool:
    return verdict.learned and not growth_text(error_gain(model, model.prepare(samples)))


def _learned(verdict: Verdict, model: PoseModel, samples: Sequence[Sample]) -> bool:
    return verdict.learned


def bisected(
    first: ModelState,
    samples: Sequence[Sample],
    plan: Plan,
    expectation: Expectation | None = None,
    device: str = "cpu",
    on_trial: Callable[[str], None] | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
    stopped: Callable[[], bool] | None = None,
    passed: Callable[[Verdict, PoseModel, Sequence[Sample]], bool] = _learned,
    mended: str = "it learns",
    verdict: Verdict | None = None,
) -> Cause:
    """Remove one piece at a time until an attempt passes.

    Every trial trains from the initial weights; at the end the model has its weights from before the call.

    Args:
        first: the model before the attempt.
        samples: of the attempt.
        plan: of the attempt.
        expectation: what counts as learned.
        device: cpu, cuda, cuda:N.
        on_trial: called with the name of each removed piece.
        on_row: called in the loop's thread after every step of every trial.
        stopped: polled; a trial that it ends is not judged, and no culprit is named.
        passed: whether a trial with this verdict and model passes.
        mended: what holds in a trial that passes, in words.
        verdict: of the attempt; the order of suspicion depends on it.
    """
    trials: list[Trial] = []
    model, trained = first.model, ModelState(first.model)
    first.restore()
    try:
        for switch in suspected(model, plan, verdict):
            if on_trial:
                on_trial(switch.name)
            first.restore()
            without = switch.off(plan, model)
            # One measurement at the start and one at the end suffice.
            without = without.with_settings(measure_every=without.settings.steps, snapshot_every=0)
            session = new_session(model, samples, without, on_row=on_row, device=device)
            if not run_to_end(session, stopped):
                return Cause(trials=tuple(trials))
            result = _trial_verdict(session, expectation)
            trials.append(Trial(switch.name, result, passed(result, model, samples)))
            if trials[-1].passed:
                return Cause(switch.name, why_of(switch, plan, without), mended, tuple(trials))
        return Cause(trials=tuple(trials))
    finally:
        trained.restore()
