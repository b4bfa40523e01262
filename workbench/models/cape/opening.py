"""From a checkpoint of this workbench to a Cape; and back to a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core import NotAvailable
from workbench.models.cape.model import Cape
from workbench.models.cape.network import CapeNetwork, Defects, Size
from workbench.models.opening import Opening, skeleton_from_plain

if TYPE_CHECKING:
    from workbench.checkpoints.loading import LoadReport


def load(opening: Opening) -> tuple[Cape, LoadReport]:
    """The model a checkpoint holds.

    Raises:
        NotAvailable: it does not say how large the network is.
        ValueError: what it says cannot be.
    """
    from workbench.checkpoints.loading import load_state

    checkpoint = opening.required()
    told = checkpoint.meta.get("cape")
    if not isinstance(told, dict) or not {"size", "skeleton"} <= set(told):
        raise NotAvailable(
            f"{checkpoint.path.name}: a CAPE checkpoint of another project; its weights fit its own code, "
            "so pass --adapter with a Python file that builds it"
        )
    network = CapeNetwork(Size.of(told["size"]), _defects(told.get("defects", ())))
    model = Cape(network.eval(), skeleton_from_plain(told["skeleton"], "cape"))
    report = load_state(model.module, checkpoint, remap=opening.remap)
    model.module.to(opening.device)
    return model, report


def write(model: Cape, path: Path, epoch: int, **facts: Any) -> None:
    """The weights and all that is needed to open them, in mmengine's layout: meta and state_dict.

    The defects of the code that trained it are told as well: without them the weights mean something else.
    """
    import torch

    skeleton = dataclasses.asdict(model.skeleton)
    size = dataclasses.asdict(model.module.size)
    told = {"size": size, "skeleton": skeleton, "defects": list(model.module.defects.names())}
    meta = {"epoch": epoch, "cape": told}
    torch.save({"meta": {**meta, **facts}, "state_dict": model.module.state_dict()}, path)


def _defects(told: Any) -> Defects:
    known = [f.name for f in dataclasses.fields(Defects)]
    if not isinstance(told, (list, tuple)) or (odd := [name for name in told if name not in known]):
        found = repr(odd[0]) if isinstance(told, (list, tuple)) else type(told).__name__
        raise ValueError(f"cape: expected defects among {', '.join(known)}; the checkpoint has {found}")
    return Defects(**dict.fromkeys(told, True))
