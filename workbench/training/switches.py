"""What can be taken away from an attempt, in the order in which it is suspected?"""

from __future__ import annotations

from workbench.core import PoseModel
from workbench.core.capabilities import HasDefects, HasObjective, HasSwitches
from workbench.training.people import TaughtPeople
from workbench.training.plan import Plan
from workbench.training.sequences import TaughtSequence
from workbench.training.switches import STEP_LIMIT, SWITCHES, Switch
from workbench.training.verdict import Verdict


def switches_of(model: PoseModel, plan: Plan, *, of_log: bool = False) -> list[Switch]:
    """The switches that a model and a plan have.

    Args:
        model: as `trainable` gave it.
        plan: around it.
        of_log: those that change only what the model's own log says.
    """
    known = (*(model.switches if isinstance(model, HasSwitches) else ()), *SWITCHES)
    return [switch for switch in known if switch.of_log == of_log and switch.present(plan, model)]


def suspected(model: PoseModel, plan: Plan, verdict: Verdict | None = None) -> list[Switch]:
    """The switches in the order in which they are suspected of a verdict.

    A network that has learned in training mode has had steps enough: more of them might cover up what parts
    the two modes, so they are suspected last.

    Args:
        model: as `trainable` gave it.
        plan: around it.
        verdict: of the attempt with all of them.
    """
    switches = switches_of(model, plan)
    if verdict is None or verdict.outcome not in ("learned", "train and inference paths disagree"):
        return switches
    return sorted(switches, key=lambda switch: switch.name == STEP_LIMIT)


def trial_steps(model: PoseModel, plan: Plan) -> int:
    """Steps of a bisection in which no trial passes: all of them together.

    Args:
        model: as `trainable` gave it.
        plan: around it.
    """
    return plan.settings.steps * sum(switch.times for switch in switches_of(model, plan))


def cannot_switch(model: PoseModel) -> tuple[str, ...]:
    """What a failure of this model may come from that no switch takes away, in words.

    Args:
        model: as `trainable` gave it.
    """
    found = []
    if isinstance(model, TaughtSequence):
        if not isinstance(model.module, HasDefects):
            found.append("how its code masks and reads the support, and what its own log says")
    elif isinstance(model, HasObjective) and not isinstance(model, TaughtPeople):
        found.append("the loss, which is the model's own")
    return tuple(found)
