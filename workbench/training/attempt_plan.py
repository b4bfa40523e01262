"""The plan of an overfit attempt: what was asked for, over a config's training or the usual settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.core import PoseModel
from workbench.training.config_recipe import Recipe, recipe_of, written_codec
from workbench.training.faults import planted
from workbench.training.plan import Plan
from workbench.training.sequences import trainable
from workbench.training.settings import Settings


@dataclass(frozen=True, eq=False)
class AttemptPlan:
    """What the command line and the Overfit page train with.

    Attributes:
        model: as it is trained.
        plan: of the attempt, with the fault that was planted.
        unsaid: the settings that it would have had if nothing had been asked for.
        recipe: the config's own training; None where it is not used.
    """

    model: PoseModel
    plan: Plan
    unsaid: Settings
    recipe: Recipe | None


def attempt_plan(
    model: PoseModel,
    usual: Settings,
    asked: Mapping[str, Any],
    *,
    config: Mapping[str, Any] | None = None,
    plant: str = "",
    dropout: bool = True,
    **always: Any,
) -> AttemptPlan:
    """The plan of an attempt.

    Args:
        model: with first weights.
        usual: what models of this kind learn an image with.
        asked: fields of Settings by name; None where nothing was asked for.
        config: read, whole; its own training is used for everything that was not asked for. None uses
            `usual` for it.
        plant: name of a fault to plant; "" none.
        dropout: layers drop as the network has them; False turns them off.
        always: further fields of Settings that neither a config nor what is usual decides.

    Raises:
        ValueError: the config cannot be understood, or a value is out of its range.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    unsaid, recipe = usual, None
    if config is not None:
        steps = given.get("steps") or usual.steps
        recipe = recipe_of(config, model.module, model.codec, dataclasses.replace(usual, steps=steps))
        unsaid = recipe.settings
    if "schedule" in given or "warm_up" in given:
        given["rates"] = ()  # what was asked for replaces the config's schedule
    settings = dataclasses.replace(unsaid, **given, **always)
    model = trainable(model, settings.steps)
    plan = Plan(settings, codec=written_codec(recipe, model), dropout=dropout)
    return AttemptPlan(model, planted(plant, plan, model), unsaid, recipe)
