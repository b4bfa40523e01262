"""Which piece of the pipeline stands in the way? Each is taken away once, from the same first weights."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.records import PoseModel, Sample
from workbench.training.plan import SWITCHES, Plan
from workbench.training.planned import new_session
from workbench.training.sequences import trainable
from workbench.training.session import Session
from workbench.training.verdict import Expectation, Verdict, judge


@dataclass(frozen=True)
class Trial:
    """One attempt of the bisection: what was taken away, and what came of it."""

    without: str
    verdict: Verdict


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


def bisected(
    model: PoseModel,
    samples: Sequence[Sample],
    plan: Plan,
    expectation: Expectation | None,
    device: str,
    on_trial: Callable[[str], None] | None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> tuple[tuple[Trial, ...], str, str]:
    """Take one piece away at a time until an attempt passes: the trials, the culprit and why.

    `on_row` is called in the loop's thread after every step of every trial. A trial that `stopped` ends
    is not judged, and no culprit is named.
    """
    trials: list[Trial] = []
    model = trainable(model, plan.settings.steps)
    for switch in (*getattr(model, "switches", ()), *SWITCHES):
        if not switch.present(plan, model):
            continue
        if on_trial:
            on_trial(switch.name)
        again = copy.deepcopy(model)
        without = switch.off(plan, again)
        # one measurement at the start and one at the end will do
        settings = dataclasses.replace(
            without.settings, measure_every=without.settings.steps, snapshot_every=0
        )
        session = new_session(
            again, samples, dataclasses.replace(without, settings=settings), on_row=on_row, device=device
        )
        if not run_out(session, stopped):
            return tuple(trials), "", ""
        trials.append(Trial(switch.name, verdict_of(session, expectation)))
        if trials[-1].verdict.learned:
            return tuple(trials), switch.name, switch.why
    return tuple(trials), "", ""
