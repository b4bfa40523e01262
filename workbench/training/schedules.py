"""By what factor is the learning rate multiplied at a step? Warm-up, then constant, cosine or multi-step."""

from __future__ import annotations

import math

from workbench.training.settings import Settings

# Epochs 170 and 200 of 210: the multi-step schedule of nearly every top-down recipe.
MILESTONES = (170 / 210, 200 / 210)


def factor(settings: Settings, step: int) -> float:
    """Factor on the learning rate.

    Args:
        settings: schedule, warm_up and steps.
        step: 0 is the first step.

    Returns:
        1 at the end of the warm-up; during it, linear from a thousandth.
    """
    if settings.rates:
        return settings.rates[min(step, len(settings.rates) - 1)]
    if step < settings.warm_up:
        return 1e-3 + (1 - 1e-3) * step / settings.warm_up
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "multistep":
        return 0.1 ** sum(step >= round(m * settings.steps) for m in MILESTONES)
    span = max(settings.steps - settings.warm_up, 1)
    return 0.5 * (1 + math.cos(math.pi * min((step - settings.warm_up) / span, 1)))
