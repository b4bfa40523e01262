"""Which places of a network have a name that a person would use?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

# Deeper parts (a convolution of a block of a stage) are too many to choose from, and still reachable by path.
DEPTH = 3

# Alias -> the paths it stands for, first that exists. ResNets and HRNets call their stages layers.
_ALIASES: dict[str, tuple[str, ...]] = {
    "stem": ("backbone.stem", "backbone.patch_embed", "backbone.conv1"),
    **{
        f"stage{i}": (f"backbone.stage{i}", f"backbone.layer{i}", f"backbone.stages.{i - 1}")
        for i in range(1, 5)
    },
    "head.final": ("head.final_layer", "head.final_layers", "keypoint_head.final_layer"),
    "head.x": ("head.cls_x", "head.mlp_head_x"),
    "head.y": ("head.cls_y", "head.mlp_head_y"),
}

# Parts of a network that no forward pass goes through.
_IDLE = ("data_preprocessor", "loss_module", "loss")


def taps_of(module: nn.Module, depth: int = DEPTH) -> dict[str, str]:
    """Public names for the parts of a network, in the network's own order.

    Args:
        module: any network.
        depth: parts nested deeper than this get no name.

    Returns:
        name -> module path: every part under its own path, then short names (``stem``, ``stage1``,
        ``head.final`` ...) where the network has what they stand for.
    """
    paths = [
        path
        for path, _ in module.named_modules()
        if path and path.count(".") < depth and not set(path.split(".")) & set(_IDLE)
    ]
    known = set(paths)
    short = {
        alias: next(path for path in meant if path in known)
        for alias, meant in _ALIASES.items()
        if alias not in known and known.intersection(meant)
    }
    return {**short, **{path: path for path in paths}}
