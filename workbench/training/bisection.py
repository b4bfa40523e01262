"""Which piece of the pipeline stands in the way? Each is taken away once, from the same first weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.core import PoseModel, Sample
from workbench.training.bisection import evidence
from workbench.training.checks import reach_text
from workbench.training.model_state import ModelState as Kept
from workbench.training.plan import Plan
from workbench.training.planned import new_session
from workbench.training.sequence_checks import error_gain, growth_text
from workbench.training.session import Session
from workbench.training.switches import STEP_LIMIT, suspected
from workbench.training.trainer import Diverged
from workbench.training.verdict import Evidence, Expectation, Verdict, diverged, judge


@dataclass(frozen=True)
class Trial:
    """One attempt of the bisection.

    Attributes:
        without: what was taken away.
        verdict: what came of it.
        passed: whether what was wrong is gone.
    """

    without: str
    verdict: Verdict
    passed: bool


@dataclass(frozen=True)
class Finding:
    """What was found to be wrong with an attempt.

    Attributes:
        culprit: name of the switch; "" none.
        why: what such a switch does.
        mended: what is so without it: "it learns".
        trials: in the order made.
        evidence: everything that is wrong besides the verdict, each with its own switch.
        helped: of trials that all fail, the one that came nearest, in words; "" where none came nearer.
    """

    culprit: str = ""
    why: str = ""
    mended: str = ""
    trials: tuple[Trial, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    helped: str = ""


def run_out(session: Session, stopped: Callable[[], bool] | None = None) -> bool:
    """Run a session to its end; false when it was stopped before.

    Args:
        session: ready or paused.
        stopped: asked ten times a second whether to end it early.
    """
    session.start()
    try:
        while not session.join(0.1 if stopped else None):
            if stopped and stopped():
                session.stop()
    except BaseException:  # Ctrl-C: the loop must not go on alone, and what it has finished is written
        session.stop()
        raise
    return session.status().state != "stopped"


def verdict_of(session: Session, expectation: Expectation | None = None) -> Verdict:
    """Judge a session that has ended.

    Raises:
        ValueError: it failed; the sentence says at which step and why.
    """
    status = session.status()
    if status.state == "failed":
        raise ValueError(f"overfit: {status.reason}")
    return judge(session.rows, expectation, session.trainer.settings.steps)


def _trial_verdict(session: Session, expectation: Expectation | None) -> Verdict:
    """As `verdict_of`, but a trial that diverges has not passed, and the others are still to be made."""
    if isinstance(session.failure, Diverged):
        return diverged(str(session.failure), expectation, session.trainer.settings.steps)
    return verdict_of(session, expectation)


def found_cause(
    first: Kept,
    samples: Sequence[Sample],
    plan: Plan,
    verdict: Verdict,
    rows: Sequence[dict[str, Any]],
    before: Sequence[Evidence] = (),
    **more: Any,
) -> Finding:
    """Why an attempt failed, or what is wrong although it learned.

    A switch whose absence lets it pass comes first; else the first that ends something that was seen.

    Args:
        first: the model as it stood before the attempt, as `trainable` gave it; now as the attempt left it.
        samples: of the attempt.
        plan: of the attempt.
        verdict: of the attempt.
        rows: of the attempt.
        before: what was wrong before the first step, see before_training.
        more: expectation, device, on_trial, on_row, stopped; see `bisected`.
    """
    proofs = (*before, *evidence(first, samples, plan, rows))
    grows = growth_text(error_gain(first.model, first.model.prepare(samples)))
    tried, more = Finding(), {**more, "verdict": verdict}
    decided = any(proof.decides for proof in proofs)
    if not verdict.learned and (decided or reach_text(first.model, first.model.prepare(samples))):
        pass  # no switch undoes it, nor brings back what lies outside the crop
    elif not verdict.learned:
        tried = bisected(first, samples, plan, **more)
    elif grows:
        tried = bisected(first, samples, plan, passed=_learned_and_steady, mended="errors die away", **more)
    if grows:
        known = (tried.culprit, tried.why, tried.mended) if verdict.learned else ("", "", "")
        proofs = (*proofs, Evidence(grows, *known))
    named = tried if tried.culprit else next((proof for proof in proofs if proof.culprit), tried)
    helped = "" if named.culprit or verdict.learned else helped_most(verdict, tried.trials)
    return Finding(named.culprit, named.why, named.mended, tried.trials, proofs, helped)


# Share of all keypoints that a switch has to win to be worth a word.
NEARER = 0.15


def helped_most(verdict: Verdict, trials: Sequence[Trial]) -> str:
    """Which of the trials that all failed came nearest, in words; "" where none came nearer.

    Args:
        verdict: of the attempt with everything.
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
    first: Kept,
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
) -> Finding:
    """Take one piece away at a time until an attempt passes.

    The model is trained anew each time, and has the weights it came with at the end.

    Args:
        first: the model as it stood before the attempt.
        samples: of the attempt.
        plan: of the attempt.
        expectation: what counts as learned.
        device: where to train.
        on_trial: called with the name of each piece that is taken away.
        on_row: called in the loop's thread after every step of every trial.
        stopped: asked whether to end; a trial so ended is not judged, and no culprit is named.
        passed: whether an attempt that ended so, with this model, is one that passes.
        mended: what is so then, in words.
        verdict: of the attempt; what is suspected first depends on it.
    """
    trials: list[Trial] = []
    model, trained = first.model, Kept(first.model)
    first.put_back()
    try:
        for switch in suspected(model, plan, verdict):
            if on_trial:
                on_trial(switch.name)
            first.put_back()
            without = switch.off(plan, model)
            # one measurement at the start and one at the end will do
            settings = dataclasses.replace(
                without.settings, measure_every=without.settings.steps, snapshot_every=0
            )
            session = new_session(
                model, samples, dataclasses.replace(without, settings=settings), on_row=on_row, device=device
            )
            if not run_out(session, stopped):
                return Finding(trials=tuple(trials))
            came = _trial_verdict(session, expectation)
            trials.append(Trial(switch.name, came, passed(came, model, samples)))
            if trials[-1].passed:
                return Finding(switch.name, switch.why, mended, tuple(trials))
        return Finding(trials=tuple(trials))
    finally:
        trained.put_back()
