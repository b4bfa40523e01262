"""What goes wrong with sequence models alone: faults to plant, and the switches that take them away."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from workbench.core import PoseModel
from workbench.core.capabilities import HasDefects
from workbench.training.plan import Plan
from workbench.training.sequences import TaughtSequence, Teaching
from workbench.training.sequences import scheduled_sampling as own_answers
from workbench.training.switches import Switch


def _defect(name: str, title: str, why: str, of_log: bool = False) -> Switch:
    def network(model: PoseModel) -> Any:
        return model.module

    def present(_: Plan, model: PoseModel) -> bool:
        found = network(model)
        return isinstance(found, HasDefects) and bool(vars(found.defects).get(name))

    def off(plan: Plan, model: PoseModel) -> Plan:
        network(model).defects = dataclasses.replace(network(model).defects, **{name: False})
        return plan

    return Switch(title, why, present, off, of_log)


def _only_truth(_: Plan, model: PoseModel) -> bool:
    return isinstance(model, TaughtSequence) and model.teaching.sampling == "teacher"


def _own_answers(plan: Plan, model: PoseModel) -> Plan:
    _sequence(model).teaching = own_answers(plan.settings.steps)
    return plan


def _plant_teacher_forcing(plan: Plan, model: Any) -> Plan:
    _sequence(model).teaching = Teaching()
    return plan


def _plant_defect(name: str) -> Callable[[Plan, Any], Plan]:
    def planted(plan: Plan, model: Any) -> Plan:
        sequence = _sequence(model)
        network: Any = sequence.module
        if not isinstance(network, HasDefects):
            raise ValueError("this fault is a known defect of cape's code; the model has no such switch")
        network.defects = dataclasses.replace(network.defects, **{name: True})
        return plan

    return planted


def _sequence(model: Any) -> TaughtSequence:
    if not isinstance(model, TaughtSequence):
        raise ValueError("this fault belongs to sequence models, such as cape")
    return model


SEQUENCE_PLANTED: dict[str, Callable[[Plan, Any], Plan]] = {
    "teacher forcing": _plant_teacher_forcing,
    "support mask": _plant_defect("support_mask_inverted"),
    "support": _plant_defect("support_discarded"),
    "pck coordinates": _plant_defect("pck_in_input_pixels"),
    "loss scale": _plant_defect("logged_loss_scaled"),
}
"""Name of the switch that must find it -> the plan with the fault; the model is changed in place."""

SEQUENCE_SWITCHES: tuple[Switch, ...] = (
    _defect(
        "support_mask_inverted",
        "support mask",
        "the support encoder ignores what it should read: its features are 0 for an all-visible support",
    ),
    _defect(
        "support_discarded",
        "support",
        "the support is encoded and the result thrown away, so nothing says which keypoint comes next",
    ),
    Switch(
        "teacher forcing",
        "in training every step reads the truth, in use its own answers, which it was never taught about",
        _only_truth,
        _own_answers,
    ),
    _defect(
        "pck_in_input_pixels",
        "pck coordinates",
        "its log measures distances in pixels of the resized input, the threshold in pixels of the image",
        of_log=True,
    ),
    _defect(
        "logged_loss_scaled",
        "loss scale",
        "its log leaves the weight of 5 in the coordinate loss, so no figure of it can be read as a distance",
        of_log=True,
    ),
)
