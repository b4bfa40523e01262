"""What can be taken away from an attempt, in the order in which it is suspected?"""

from __future__ import annotations

from workbench.records import PoseModel
from workbench.training.plan import SWITCHES, Plan, Switch


def switches_of(model: PoseModel, plan: Plan, *, of_log: bool = False) -> list[Switch]:
    """The switches that a model and a plan have.

    Args:
        model: as `trainable` gave it.
        plan: around it.
        of_log: those that change only what the model's own log says.
    """
    known = (*getattr(model, "switches", ()), *SWITCHES)
    return [switch for switch in known if switch.of_log == of_log and switch.present(plan, model)]


def trial_steps(model: PoseModel, plan: Plan) -> int:
    """Steps of a bisection in which no trial passes: all of them together.

    Args:
        model: as `trainable` gave it.
        plan: around it.
    """
    return plan.settings.steps * sum(switch.times for switch in switches_of(model, plan))
