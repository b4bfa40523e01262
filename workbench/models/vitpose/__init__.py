"""Family vitpose: ViTPose, ViTPose+ and Sapiens under any of their namings, opened without a config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.checkpoints.vit_names import NAMINGS
from workbench.models.families import CommonNames, Conversions, Demo, Family, Fresh, FreshOptions, deferred

if TYPE_CHECKING:
    from workbench.core import PoseModel
    from workbench.models.opening import Opening


def _opens(opening: Opening) -> bool:
    """Without a config; and whatever config lies in a file whose names are not those that mmpose 1.x builds.

    A config of mmpose 0.x is such a one, and mmpose 1.x cannot build it.
    """
    identity = opening.required().identity
    if identity.record != FAMILY.name or opening.config is not None:
        return False
    return identity.naming != "mmpose-1" or not opening.has_config


def _small(options: FreshOptions) -> tuple[PoseModel, str]:
    from workbench.models.vitpose.model import fresh

    return fresh(options), "vitpose from first weights"


FAMILY = Family(
    name="vitpose",
    summary="ViTPose, ViTPose+ and Sapiens under the names of mmpose 1.x, ViTPose 0.x or Hugging Face",
    load=deferred("workbench.models.vitpose.model", "load"),
    identify=deferred("workbench.models.vitpose.identity", "identify"),
    opens=_opens,
    deny=deferred("workbench.models.vitpose.identity", "deny"),
    explain=deferred("workbench.models.vitpose.identity", "explain"),
    fresh=(Fresh("vitpose", _small),),
    save=deferred("workbench.models.vitpose.model", "write"),
    leaves_open=("padding", "mean", "std", "channels", "input", "expert", "heads", "pos_embed"),
    conversions=Conversions(
        NAMINGS,
        deferred("workbench.models.vitpose.export", "convert"),
        facts=("expert", "heads", "input"),
        demo=deferred("workbench.models.vitpose.export", "demo_to_convert"),
        demo_naming="hf",
    ),
    common_names=CommonNames(
        deferred("workbench.models.vitpose.conversion", "state_as_mmpose"),
        deferred("workbench.models.vitpose.conversion", "tap_as_mmpose"),
        deferred("workbench.models.vitpose.export", "demo_port"),
    ),
    demo=Demo(
        "a random ViTPose",
        "no demo run is a transformer: a tiny ViTPose with random weights",
        deferred("workbench.models.vitpose.export", "write_demo"),
    ),
)
