"""Family vitpose: ViTPose, ViTPose+ and Sapiens under any of their namings, opened without a config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from workbench.models.families import Family, Fresh, FreshOptions

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.checkpoints.identity import Identity, Shapes
    from workbench.checkpoints.loading import LoadReport
    from workbench.core import PoseModel
    from workbench.models.opening import Opening


def _load(opening: Opening) -> tuple[PoseModel, LoadReport]:
    from workbench.models.vitpose.model import load

    return load(opening)


def _identify(view: Shapes) -> Identity | None:
    from workbench.models.vitpose.identity import identify

    return identify(view)


def _deny(name: str, found: Identity) -> Iterator[str]:
    from workbench.models.vitpose.identity import deny

    return deny(name, found)


def _explain(found: Identity, report: LoadReport) -> str:
    from workbench.models.vitpose.identity import explain

    return explain(found, report)


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


def _save(model: Any, path: Path, epoch: int) -> None:
    from workbench.models.vitpose.model import write

    write(model, path, epoch)


FAMILY = Family(
    name="vitpose",
    summary="ViTPose, ViTPose+ and Sapiens under the names of mmpose 1.x, ViTPose 0.x or Hugging Face",
    load=_load,
    identify=_identify,
    opens=_opens,
    deny=_deny,
    explain=_explain,
    fresh=(Fresh("vitpose", _small),),
    save=_save,
    leaves_open=("padding", "mean", "std", "channels", "input", "expert", "heads", "pos_embed"),
)
