"""From a checkpoint of this workbench to a Cape; and back to a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.models.cape.family import Cape
from workbench.models.cape.network import CapeNetwork, Size
from workbench.models.opening import Opening
from workbench.records import NotAvailable, Skeleton

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
    model = Cape(CapeNetwork(Size.of(told["size"])).eval(), _skeleton(told["skeleton"]))
    report = load_state(model.module, checkpoint, remap=opening.remap)
    model.module.to(opening.device)
    return model, report


def write(model: Cape, path: Path, epoch: int, **facts: Any) -> None:
    """The weights and all that is needed to open them, in mmengine's layout: meta and state_dict."""
    import torch

    skeleton = dataclasses.asdict(model.skeleton)
    size = dataclasses.asdict(model.module.size)
    meta = {"epoch": epoch, "cape": {"size": size, "skeleton": skeleton}}
    torch.save({"meta": {**meta, **facts}, "state_dict": model.module.state_dict()}, path)


def _skeleton(told: Any) -> Skeleton:
    try:
        names = tuple(str(name) for name in told["keypoints"])
        pairs = tuple((int(a), int(b)) for a, b in told.get("limbs", ()))
        mirror = tuple(int(k) for k in told.get("mirror", ()))
        sigmas = tuple(float(s) for s in told.get("sigmas", ()))
        return Skeleton(str(told["name"]), names, pairs, mirror, sigmas, str(told.get("source", "")))
    except (TypeError, KeyError, AttributeError) as wrong:
        raise ValueError(f"cape: the checkpoint's skeleton cannot be read ({wrong})") from wrong
