"""Can the layers between text and γ do their work? What they clip, what they drop, where they started."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.inspectors.conditioning.passes import neck_of

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.models.text_fusion import TextFusion

# Enough draws that a share of 10 % is read within a few tenths of a percent.
DRAWS = 1 << 16
# Of a uniformly random matrix more than half of the singular directions count; of one that was learned from
# zero by a few sentences, a handful.
RANDOM_RANK = 0.4
# How near to the standard deviation that torch starts with counts as "not moved".
RANDOM_STD = 0.25


@dataclass(frozen=True)
class TextLayers:
    """What can be said of the layers without looking at an image.

    Attributes:
        clips: nothing negative leaves them.
        dropped: share of what leaves that is zero at random in training, 0 to 1.
        scales_at_zero: share of the scales (γ) that are exactly 0 on the text at hand.
        shifts_at_zero: the same of the shifts (β).
        weight_std: of the last linear layer's weights.
        default_std: that torch would start this layer with.
        rank: effective rank of these weights, share of what is possible.
        scale: mean scale on the text at hand, baseline included.
    """

    clips: bool
    dropped: float
    scales_at_zero: float
    shifts_at_zero: float
    weight_std: float
    default_std: float
    rank: float
    scale: float

    @property
    def at_random(self) -> bool:
        """The weights look as torch starts them: uniform in size and in all directions."""
        near = abs(self.weight_std / self.default_std - 1) < RANDOM_STD
        return near and self.rank > RANDOM_RANK

    @property
    def starts_by_deleting(self) -> bool:
        """Random weights put the scale near 0 instead of 1: nothing of the features is left to learn on."""
        return self.at_random and abs(self.scale) < 0.5


def text_layers_of(model: TextFusion) -> TextLayers | None:
    """The facts of a FiLM neck's layers; None for a neck without FiLM or a model without text."""
    import torch
    from torch import nn

    from workbench.models.randomness import private_randomness
    from workbench.models.text_fusion.neck import scale_and_shift

    neck = neck_of(model)
    if model.text is None or "film" not in getattr(neck, "fusion_type", ""):
        return None
    # A copy: modes are changed below, and the network may be in use.
    layers: Any = copy.deepcopy(neck.global_mlp).cpu()
    last = max(i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear))
    tail = layers[last + 1 :]
    with torch.no_grad(), private_randomness(0):
        clips = float(tail.eval()(torch.tensor([-1.0]))) == 0
        dropped = float((tail.train()(torch.ones(DRAWS)) == 0).float().mean())
        left = layers.eval()(torch.from_numpy(model.text.subject_vectors))
    raw_scale, shift = (part.numpy() for part in left.chunk(2, -1))
    scale = scale_and_shift(left, neck.gamma_baseline)[0].numpy()
    weights = layers[last].weight.detach().numpy().astype(float)
    return TextLayers(
        clips=clips,
        dropped=dropped,
        scales_at_zero=float((raw_scale == 0).mean()),
        shifts_at_zero=float((shift == 0).mean()),
        weight_std=float(weights.std()),
        # nn.Linear draws uniformly from ±1/sqrt(inputs).
        default_std=float((3 * weights.shape[1]) ** -0.5),
        rank=effective_rank(weights) / min(weights.shape),
        scale=float(scale.mean()),
    )


def effective_rank(matrix: Float[np.ndarray, "M D"]) -> float:
    """How many directions a matrix uses: the exponential of the entropy of its squared singular values.

    Source: Roy and Vetterli 2007, "The effective rank", with energies for singular values. 0 for zeros.
    """
    energies = np.linalg.svd(np.asarray(matrix, float), compute_uv=False) ** 2
    total = energies.sum()
    if not total > 0:
        return 0.0
    shares = energies[energies > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))
