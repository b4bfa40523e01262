"""What is the network asked to do? Losses by name, each as its parts, so that a curve can be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.core import Codec, Outputs, nearest
from workbench.training import objectives

if TYPE_CHECKING:
    import numpy as np
    import torch
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Target:
    """What the outputs should have been.

    Attributes:
        heatmaps: one map per keypoint, or None.
        simcc: labels along x and y, or None.
        weights: 0 where a keypoint is not labelled and must not count.
    """

    weights: Float[Tensor, "N K"]
    heatmaps: Float[Tensor, "N K h w"] | None = None
    objectives: tuple[Float[Tensor, "N K bins_x"], Float[Tensor, "N K bins_y"]] | None = None


Parts = Mapping[str, "Tensor"]
Objective = Callable[[Outputs, Target], Parts]
"""From outputs and target to the loss's parts; what is minimised is their sum."""

OBJECTIVES: dict[str, Objective] = {
    "heatmap_mse": objectives.mse,
    "heatmap_focal": objectives.focal,
    "heatmap_ohkm": objectives.ohkm,
    "simcc_kl": objectives.kl,
}


def objective_for(codec: Codec, name: str = "") -> Objective:
    """The objective of that name, or the one the codec's family is trained with.

    Raises:
        KeyError: no such objective; the message lists near ones.
        ValueError: it reads another kind of output than the codec describes.
    """
    name = name or {"heatmap": "heatmap_mse", "simcc": "simcc_kl"}[codec.kind]
    if name not in OBJECTIVES:
        raise KeyError(f"no objective {name!r}; nearest: {nearest(name, OBJECTIVES)}")
    if not name.startswith(codec.kind):
        raise ValueError(
            f"objective {name}: expected a {name.split('_')[0]} output, this model gives {codec.kind}"
        )
    return OBJECTIVES[name]


def target_of(
    codec: Codec,
    points: Float[np.ndarray, "N K 2"],
    visible: Float[np.ndarray, "N K"],
    device: str | torch.device = "cpu",
) -> Target:
    """The codec's target as tensors.

    Args:
        codec: how coordinates are written.
        points: (x, y) in input pixels.
        visible: 0 where unlabelled.
        device: where the network is.
    """
    import torch

    from workbench.decoding.targets import target

    made = target(codec, points, visible)
    weights = torch.as_tensor(made["weights"], device=device)
    if codec.kind == "heatmap":
        return Target(weights, heatmaps=torch.as_tensor(made["heatmaps"], device=device))
    x, y = (torch.as_tensor(vector, device=device) for vector in made["simcc"])
    return Target(weights, simcc=(x, y))
