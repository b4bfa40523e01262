"""How does a sentence become a scale and a shift per channel? The layers between, and where they start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn

from workbench.core import nearest

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

Layers = Literal["linear-relu-dropout", "linear", "linear-relu-linear"]
Start = Literal["identity", "random"]


def checked(value: str, known: object, name: str) -> str:
    """The value, if it is one of a Literal's.

    Raises:
        ValueError: it is not; the message lists those that are.
    """
    names = get_args(known)
    if value not in names:
        raise ValueError(
            f"{name}: expected one of {', '.join(map(repr, names))}, got {value!r} "
            f"(nearest: {nearest(str(value), names)})"
        )
    return value


def text_layers(kind: Layers, text: int, out: int, dropout: float) -> nn.Sequential:
    """From a sentence's vector to `out` numbers.

    Args:
        kind: the published code has ``linear-relu-dropout``: its last step is a ReLU, so nothing that comes
            out is negative, and while it trains a share `dropout` of the numbers is zero.
        text: length of the sentence's vector.
        out: how many numbers.
        dropout: share of numbers set to zero in training.
    """
    checked(kind, Layers, "mlp")
    if kind == "linear":
        return nn.Sequential(nn.Linear(text, out))
    if kind == "linear-relu-dropout":
        return nn.Sequential(nn.Linear(text, out), nn.ReLU(), nn.Dropout(dropout))
    return nn.Sequential(nn.Linear(text, out), nn.ReLU(), nn.Linear(out, out))


def start_at_identity(layers: nn.Sequential, baseline: float) -> None:
    """Fill the layers so that scale + baseline is 1 and shift is 0 whatever the sentence says."""
    last = [layer for layer in layers if isinstance(layer, nn.Linear)][-1]
    with torch.no_grad():
        last.weight.zero_()
        scale, shift = last.bias.chunk(2)
        scale.fill_(1 - baseline)
        shift.zero_()


def scale_and_shift(
    film: Float[Tensor, "N 2C"], baseline: float = 0.0
) -> tuple[Float[Tensor, "N C"], Float[Tensor, "N C"]]:
    """The γ and β that the features meet, from what the layers leave.

    Args:
        film: output of the layers: scales first, then shifts.
        baseline: added to the scale; 1 in the original FiLM, which learns the departure from identity.
            Source: Perez et al. 2018; ethanjperez/film@fe43ddf vr/models/film_gen.py, gamma_baseline.
    """
    scale, shift = film.chunk(2, dim=-1)
    return scale + baseline, shift
