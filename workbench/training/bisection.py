"""Which piece of the pipeline stands in the way? Each is taken away once, from the same first weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.records import DecodeOptions, PoseModel, Sample
from workbench.training.evaluated import evaluated
from workbench.training.kept import Kept
from workbench.training.own_log import complaints, own_log
from workbench.training.plan import SWITCHES, Plan, Switch
from workbench.training.planned import new_session
from workbench.training.session import Session
from workbench.training.verdict import Expectation, Verdict, judge


@dataclass(frozen=True)
class Trial:
    """One attempt of the bisection: what was taken away, and what came of it."""

    without: str
    verdict: Verdict


@dataclass(frozen=True)
class Finding:
    """What a bisection found.

    Attributes:
        culprit: name of the switch; "" none.
        why: what such a switch does.
        trials: in the order made.
    """

    culprit: str = ""
    why: str = ""
    trials: tuple[Trial, ...] = ()


def conclude(session: Session, expectation: Expectation | None = None) -> Verdict:
    """Run a session to its end and judge it.

    Raises:
        ValueError: it failed; the sentence says at which step and why.
    """
    run_out(session)
    return verdict_of(session, expectation)


def run_out(session: Session, stopped: Callable[[], bool] | None = None) -> bool:
    """Run a session to its end; false when it was stopped before.

    Args:
        session: ready or paused.
        stopped: asked ten times a second whether to end it early.
    """
    session.start()
    while not session.join(0.1 if stopped else None):
        if stopped and stopped():
            session.stop()
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


def switches_of(model: PoseModel, plan: Plan, *, of_log: bool = False) -> list[Switch]:
    """What can be taken away, in the order in which it is suspected.

    Args:
        model: as `trainable` gave it.
        plan: around it.
        of_log: those that change only what the model's own log says.
    """
    known = (*getattr(model, "switches", ()), *SWITCHES)
    return [switch for switch in known if switch.of_log == of_log and switch.present(plan, model)]


def found_cause(
    first: Kept,
    samples: Sequence[Sample],
    plan: Plan,
    verdict: Verdict,
    rows: Sequence[dict[str, Any]],
    **more: Any,
) -> Finding:
    """Why an attempt failed, or why its own log is wrong; an empty finding when neither is so.

    Args:
        first: the model as it stood before the attempt, as `trainable` gave it.
        samples: of the attempt.
        plan: of the attempt.
        verdict: of the attempt.
        rows: of the attempt.
        more: expectation, device, on_trial, on_row, stopped; see `bisected`.
    """
    found = Finding() if verdict.learned else bisected(first, samples, plan, **more)
    if found.culprit:
        return found
    return dataclasses.replace(log_cause(first, samples, plan, rows), trials=found.trials)


def bisected(
    first: Kept,
    samples: Sequence[Sample],
    plan: Plan,
    expectation: Expectation | None = None,
    device: str = "cpu",
    on_trial: Callable[[str], None] | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
    stopped: Callable[[], bool] | None = None,
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
    """
    trials: list[Trial] = []
    model, trained = first.model, Kept(first.model)
    first.put_back()
    try:
        for switch in switches_of(model, plan):
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
            trials.append(Trial(switch.name, verdict_of(session, expectation)))
            if trials[-1].verdict.learned:
                return Finding(switch.name, switch.why, tuple(trials))
        return Finding(trials=tuple(trials))
    finally:
        trained.put_back()


def log_cause(first: Kept, samples: Sequence[Sample], plan: Plan, rows: Sequence[dict[str, Any]]) -> Finding:
    """The switch without which the model's own log says what is measured; empty when the log is right.

    Nothing is trained: first weights err enough for a wrong log to show.
    """
    if not complaints(rows):
        return Finding()
    model, trained = first.model, Kept(first.model)
    first.put_back()
    try:
        for switch in switches_of(model, plan, of_log=True):
            first.put_back()
            switch.off(plan, model)
            batch = model.prepare(samples)
            outputs = evaluated(model, batch)
            predictions = model.decode(outputs, batch, DecodeOptions())
            if not complaints([{"step": 0, **own_log(model, outputs, predictions, batch)}]):
                return Finding(switch.name, switch.why)
        return Finding()
    finally:
        trained.put_back()
