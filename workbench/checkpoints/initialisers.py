"""Weights that look exactly as an initialiser leaves them, told from their numbers alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

# Numbers of a matrix from which its largest one tells the bound of a uniform distribution: of so many the
# largest lies within MISSED of their number below the bound, but once in 100 000 times. A trained matrix has
# numbers beyond the bound, or none so near to it.
LEAST_NUMBERS, MISSED = 256, 12.0
# The kurtosis of a uniform distribution, and how far that of so many numbers may lie from it.
UNIFORM, NEAR = 1.8, 0.15
# Channels of a norm, and numbers of a bias, which are 1 and 0 in all of them only before the first update.
LEAST_CHANNELS = 8
# Deviations with which mmengine and mmpose start weights, and how near to one of them in standard errors.
DEVIATIONS, ERRORS = (0.001, 0.01, 0.02), 4.0


def new_norm(weight: Float[Tensor, " C"], bias: Float[Tensor, " C"] | None = None) -> bool:
    """Whether a normalisation layer has exactly the ones and zeros that it starts with.

    Args:
        weight: one number for each channel.
        bias: of the same layer; None where it has none.
    """
    return bool((weight == 1).all()) and (bias is None or not bool(bias.any()))


def started(weight: Float[Tensor, "C ..."], bias: Float[Tensor, " C"] | None = None) -> str:
    """How an initialiser made a matrix; "" where its numbers are not exactly those of one.

    Args:
        weight: the first axis of which are output channels.
        bias: of the same layer; None where it has none.
    """
    values = weight.detach().double()
    inputs, outputs = values[0].numel(), values[:, 0].numel()
    flat = values.flatten()
    deviation = float(flat.std())
    if not math.isfinite(deviation) or deviation == 0:
        return ""
    kurtosis = float(((flat - flat.mean()) ** 4).mean() / flat.var() ** 2)
    if abs(kurtosis - UNIFORM) < NEAR:
        largest = float(flat.abs().max())
        bounds = {
            "torch's default": inputs**-0.5,
            "Xavier's": math.sqrt(6 / (inputs + outputs)),
            "Kaiming's": math.sqrt(6 / inputs),
        }
        for name, bound in bounds.items():
            if bound * (1 - MISSED / len(flat)) <= largest <= bound * (1 + 1e-6):
                return f"uniform up to {largest:.4f}, as {name} initialisation"
    # A normal distribution has no bound: it takes a bias without any update as well.
    if bias is not None and len(bias) >= LEAST_CHANNELS and not bool(bias.any()):
        known = (*DEVIATIONS, *(math.sqrt(2 / fan) for fan in (outputs, inputs, inputs + outputs)))
        error = ERRORS / math.sqrt(2 * len(flat))
        if abs(kurtosis - 3) < 5 * math.sqrt(24 / len(flat)) and any(
            abs(deviation / one - 1) < error for one in known
        ):
            return f"normal with deviation {deviation:.4g} and bias 0, as an initialisation"
    return ""


def never_updated(layers: nn.Module) -> str:
    """How the weights of a part of a network show that no update reached them; "" where one may have.

    Normalisation layers decide where there are any: an optimizer moves each of their ones and zeros at its
    first step. Else every matrix that is large enough to tell has to be as an initialiser leaves it.
    """
    norms, matrices = [], []
    for layer in layers.modules():
        own = dict(layer.named_parameters(recurse=False))
        weight, bias = own.get("weight"), own.get("bias")
        if weight is None:
            continue
        if weight.ndim == 1 and weight.numel() >= LEAST_CHANNELS:
            norms.append(new_norm(weight, bias))
        elif weight.ndim > 1 and weight.numel() >= LEAST_NUMBERS:
            matrices.append(started(weight, bias))
    if norms:
        return (
            "its normalisation layers hold exactly the ones and zeros that they start with"
            if all(norms)
            else ""
        )
    if not matrices or not all(matrices):
        return ""
    return f"its weights are as an initialiser leaves them ({matrices[0]})"
