"""Which faults can be planted, and into which networks?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workbench.training.faults import PLANTED, SEQUENCE_PLANTED
from workbench.training.plan import Plan

FAULTS: dict[str, Callable[[Plan, Any], Plan]] = {**PLANTED, **SEQUENCE_PLANTED}
"""Name of the switch that must find it -> the plan with the fault; the model may change in place."""


def planted(fault: str, plan: Plan, model: Any) -> Plan:
    """The plan with a fault.

    Args:
        fault: a key of FAULTS; "" plants nothing.
        plan: without it.
        model: as `trainable` gave it; layers and teaching may change.

    Raises:
        ValueError: no such fault, or this network has no place for it.
    """
    if not fault:
        return plan
    if fault not in FAULTS:
        raise ValueError(f"fault to plant: expected one of {', '.join(FAULTS)}; got {fault!r}")
    return FAULTS[fault](plan, model)
