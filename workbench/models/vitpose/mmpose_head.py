"""Sapiens' head for mmpose configs: InstanceNorm without parameters and SiLU between the layers.

Sapiens' fork of mmpose changed HeatmapHead itself, so its configs name the same class and mean another. What
tells them apart is the backbone's name, ``sapiens_1b``, which only the fork knows, or the key ``use_silu``.

Source: sapiens@3e829ac pose/mmpose/models/heads/heatmap_heads/heatmap_head.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAME = "SapiensHeatmapHead"


def with_sapiens_head(model: Mapping[str, Any]) -> dict[str, Any]:
    """A config's model with Sapiens' head in place of mmpose's, where it is one of Sapiens.

    Args:
        model: the config's `model`, plain; not changed.
    """
    backbone, head = model.get("backbone"), model.get("head")
    if not isinstance(backbone, Mapping) or not isinstance(head, Mapping):
        return dict(model)
    arch = backbone.get("arch")
    of_sapiens = isinstance(arch, str) and arch.lower().startswith("sapiens")
    if str(head.get("type")).rpartition(".")[2] != "HeatmapHead" or not (of_sapiens or "use_silu" in head):
        return dict(model)
    plain = {key: part for key, part in head.items() if key != "use_silu"}
    kind = _NAME if head.get("use_silu", of_sapiens) else head["type"]
    return {**model, "head": {**plain, "type": kind}}


def register_sapiens_head() -> None:
    """Make mmpose build a head of this kind; mmpose must have been imported."""
    from mmpose.models.heads import HeatmapHead
    from mmpose.registry import MODELS
    from torch import nn

    def instead(layers: nn.Module) -> nn.Module:
        if not isinstance(layers, nn.Sequential):
            return layers
        kinds = {
            nn.BatchNorm2d: lambda layer: nn.InstanceNorm2d(layer.num_features),
            nn.ReLU: lambda _: nn.SiLU(),
        }
        return nn.Sequential(*(kinds.get(type(layer), lambda same: same)(layer) for layer in layers))

    class SapiensHeatmapHead(HeatmapHead):
        """HeatmapHead with InstanceNorm without parameters and SiLU."""

        __module__ = __name__

        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            self.deconv_layers, self.conv_layers = instead(self.deconv_layers), instead(self.conv_layers)

    MODELS.register_module(name=_NAME, module=SapiensHeatmapHead, force=True)
