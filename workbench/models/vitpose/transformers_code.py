"""Family transformers: a ViTPose in the code of Hugging Face's transformers, to compare with."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from workbench.core import NotAvailable, reason
from workbench.models.families import Family
from workbench.models.top_down import TopDown

if TYPE_CHECKING:
    from torch import Tensor, nn

    from workbench.checkpoints.loading import LoadReport
    from workbench.models.opening import Opening


def load(opening: Opening) -> tuple[TopDown, LoadReport]:
    """VitPoseForPoseEstimation with the file's weights, whatever naming they have.

    The model is that of family vitpose around transformers' network: same crops, same codec.

    Raises:
        NotAvailable: no vision transformer with a heatmap head, or transformers is not installed.
        ValueError: transformers' VitPose has no place for a part of the network.
    """
    from workbench.checkpoints.loading import load_state
    from workbench.models.vitpose.conversion import converted, transformers_config, weights_of
    from workbench.models.vitpose.model import load as load_own

    checkpoint, where = opening.required(), opening.required().path.name
    own, _ = load_own(opening)
    network: Any = own.module
    a = network.backbone.architecture
    weights = weights_of(checkpoint, opening.stated.expert)
    pieces = converted(weights, "hf", where, dropped=tuple(weights.unknown))
    config = transformers_config(weights.shapes, a.heads, a.image, a.eps)
    module = build(config).eval()
    report = load_state(module, checkpoint, pieces={**pieces, **weights.unknown})
    experts = config["backbone_config"].get("num_experts", 1)
    call = functools.partial(_called, module, experts > 1)
    module = module.to(opening.device)
    fields = {f.name: getattr(own, f.name) for f in dataclasses.fields(own) if f.name != "attention"}
    return _plain({**fields, "module": module, "call": call, "taps": None}), report


def build(config: dict[str, Any]) -> nn.Module:
    """VitPoseForPoseEstimation of a config.json, with first weights.

    Args:
        config: as `transformers_config` makes it.

    Raises:
        NotAvailable: transformers is not installed, too old, or cannot be imported.
    """
    from workbench.models.mmpose_compat import BROKEN, hide_broken_torchvision

    hide_broken_torchvision()
    try:
        from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation
    except BROKEN as error:
        raise NotAvailable(f"transformers' VitPose: it cannot be imported ({reason(error)})") from None
    skipped = ("model_type", "architectures", "backbone_config")
    backbone = {k: v for k, v in config["backbone_config"].items() if k not in skipped}
    rest = {k: v for k, v in config.items() if k not in (*skipped, "num_labels")}
    labels = {int(k): v for k, v in rest.pop("id2label").items()}
    settings = VitPoseConfig(backbone_config=VitPoseBackboneConfig(**backbone), id2label=labels, **rest)
    return VitPoseForPoseEstimation(settings)


def _plain(fields: dict[str, Any]) -> TopDown:
    return TopDown(**fields)


def _called(module: nn.Module, experts: bool, pixels: Tensor) -> Tensor:
    # Not a closure: a copy of the model must call the copied network. Experts: the first data set is COCO.
    import torch

    index = torch.zeros(len(pixels), dtype=torch.long, device=pixels.device) if experts else None
    return module(pixels, dataset_index=index).heatmaps


FAMILY = Family(
    name="transformers",
    summary="a ViTPose in the code of Hugging Face's transformers, to compare with; only if asked for",
    load=load,
    opens=lambda opening: False,
    leaves_open=("padding", "mean", "std", "channels", "input", "expert", "heads"),
)
