"""How the user's code applies γ and β, measured at the features: their order, an activation, the gate.

A layer is declared as outputting γ and β side by side. Whether the code takes them in that order, sends γ
through an activation, or lets only a share through, is seen from the features that enter and leave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

# Rounding of float32 sums, as a share of the leaving features; and of the change that is to be explained.
ROUNDING, EXPLAINED = 1e-6, 1e-2
# An activation that lets less than this share of the variation through is saturated; less than the second is
# no variation.
SATURATED, VARIES = 1e-3, 1e-3

Scales = Callable[[np.ndarray], np.ndarray]


def _sigmoid(scale: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(scale, -80, 80)))


ACTIVATIONS: dict[str, Scales] = {
    "": lambda scale: scale,
    "1 + γ": lambda scale: 1 + scale,
    "sigmoid(γ)": _sigmoid,
    "2 sigmoid(γ)": lambda scale: 2 * _sigmoid(scale),
    "tanh(γ)": np.tanh,
    "1 + tanh(γ)": lambda scale: 1 + np.tanh(scale),
    "exp(γ)": lambda scale: np.exp(np.clip(scale, -80, 80)),
    "softplus(γ)": lambda scale: np.logaddexp(0, scale),
    "relu(γ)": lambda scale: np.maximum(scale, 0),
}
"""What code multiplies by, in words, as a function of the declared scale."""


@dataclass(frozen=True, eq=False)
class Applied:
    """What multiplies the features, what is added, and which share of it leaves.

    Attributes:
        gamma: scales.
        beta: shifts.
        gate: share of the modulated features in what leaves; nan where none was declared and all leaves.
        exchanged: the second half of the layer's output multiplies, the first is added.
        activation: what is done with the scale first, in words; "" for nothing.
        saturated: how little of the variation over images the activation lets through; "" where it is not.
    """

    gamma: Float[np.ndarray, "N C"]
    beta: Float[np.ndarray, "N C"]
    gate: float
    exchanged: bool = False
    activation: str = ""
    saturated: str = ""

    @property
    def text(self) -> str:
        """How the code departs from what was declared; "" where it does not."""
        parts = ["its second half multiplies and its first is added"] * self.exchanged
        parts += [f"the features are multiplied by {self.activation}"] * bool(self.activation)
        return " and ".join(parts)


def applied(
    declared: Applied, before: Float[np.ndarray, "N C h w"], after: Float[np.ndarray, "N C h w"]
) -> Applied:
    """The way of applying γ and β that gives the features that leave; as declared where none is found.

    Args:
        declared: as the layer's output and the record have it.
        before: features that enter.
        after: features that leave.
    """
    if before.shape != after.shape or before.ndim != 4 or declared.gamma.shape != before.shape[:2]:
        return declared
    entering, change = before.astype(float), after.astype(float) - before
    allowed = EXPLAINED * np.linalg.norm(change) + ROUNDING * np.linalg.norm(after)
    given = 1.0 if np.isnan(declared.gate) else declared.gate
    for exchanged in (False, True):
        halves = (declared.beta, declared.gamma) if exchanged else (declared.gamma, declared.beta)
        for name, activation in ACTIVATIONS.items():
            scale, shift = activation(halves[0].astype(float)), halves[1]
            full = (scale - 1)[..., None, None] * entering + shift.astype(float)[..., None, None]
            if np.linalg.norm(given * full - change) <= allowed:
                gate = declared.gate
            elif (gate := _share(full, change)) is None or np.linalg.norm(gate * full - change) > allowed:
                continue
            # Behind an activation the declared scale says nothing: what was measured is the whole.
            gate = 1.0 if name and np.isnan(gate) else gate
            saturated = _saturated(halves[0], scale) if name else ""
            return Applied(scale.astype(np.float32), shift, gate, exchanged, name, saturated)
    return declared


def _share(full: np.ndarray, change: np.ndarray) -> float | None:
    """The share of the whole change that is nearest to the one measured; None where the whole is none."""
    length = float((full**2).sum())
    return float((full * change).sum()) / length if length > 0 else None


def _saturated(given: np.ndarray, scale: np.ndarray) -> str:
    """How little of the variation over images is left behind an activation; "" where enough is."""
    entering, leaving = (float(values.astype(float).std(0).mean()) for values in (given, scale))
    if entering < VARIES or leaving > SATURATED * entering:
        return ""
    return f"it varies by {leaving:.2g} over images where {entering:.2g} enters it"
