"""Where a condition enters a network: what a model with the capability `Conditioned` declares.

A condition is whatever modulates the features beside the image: sentence vectors, a class embedding. All
fields name taps of the model and may be left out; what then cannot be measured is stated by the inspector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy import ndarray
    from torch import Tensor, nn

    from workbench.core.model import Outputs
    from workbench.core.sample import Batch

REFERENCE, TRAINED, UNREFINED, UNFUSED = "as it is", "training path", "without refiner", "without neck"
"""Names of switches: the predict pass unchanged, the training pass, and one part taken away."""


@dataclass(frozen=True, eq=False)
class Refiner:
    """A part behind the head that changes the head's outputs.

    Attributes:
        raw: taps of the vectors or maps that enter, [N, K, ...] each.
        refined: taps of those that leave, in the same order.
        layers: tap of the part itself.
        threshold: a keypoint is uncertain if the peak of one of its raw vectors lies below.
        forward: the predict pass with the refiner in use; None where the predict pass uses it already.
    """

    raw: tuple[str, ...]
    refined: tuple[str, ...]
    layers: str
    threshold: float
    forward: Callable[[Batch], Outputs] | None = None


@dataclass(frozen=True, eq=False)
class Switch:
    """One pass of an ablation: the network with one part changed or taken away.

    Attributes:
        name: for people: ``without refiner``.
        forward: the pass. The batch is that of `prepare`.
        against: name of the switch that it is compared with; "" for the reference itself.
        kind: what is changed: ``path``, ``neck``, ``refiner``, ``text`` or ``condition``.
    """

    name: str
    forward: Callable[[Batch], Outputs]
    against: str = REFERENCE
    kind: str = "path"


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What is known about the condition of a network. Every name is one of the model's taps.

    Attributes:
        noun: what the condition is called in sentences: ``condition``, ``text``.
        part: the part that applies the condition to the features.
        condition: where the condition's vectors pass, [N, D] or [N, K, D].
        film: the layer that outputs scales γ and shifts β side by side, [N, 2C].
        before: the features that enter the part, [N, C, h, w].
        after: the features that leave it, [N, C, h, w].
        outputs: taps whose outputs are those of the network; () where that is not known.
        baseline: added to the scales; 1 where the layer outputs the departure from the identity.
        gate: share of the modulated features in what leaves: a number, or the name of a parameter or buffer
            of the network (``block.gate``); nan where none is known.
        vectors: all conditions that there are, [S, D]; None takes those of the samples.
        names: of these conditions: ``horse``.
        refiner: behind the head; None without one.
        switches: what can be changed or taken away, the reference first; () derives them from the two passes
            and the condition.
        parts: modules whose gradients are reported together, the longest prefix first.
        training: the training pass, in words.
        inference: the predict pass, in words.
        assumption: what is assumed about code that is not at hand; "" for nothing.
        fix_skipped: what to change where the predict pass skips the condition.
        edited_at_taps: `with_condition` edits the vectors at the taps of `condition`, not before them.
        unavailable: why there is no condition to measure; "" where there is one.
    """

    noun: str = "condition"
    part: str = ""
    condition: tuple[str, ...] = ()
    film: str = ""
    before: str = ""
    after: str = ""
    outputs: tuple[str, ...] = ()
    baseline: float = 0.0
    gate: float | str = float("nan")
    vectors: Float[ndarray, "S D"] | None = None
    names: tuple[str, ...] = ()
    refiner: Refiner | None = None
    switches: tuple[Switch, ...] = ()
    parts: tuple[str, ...] = ()
    training: str = "the training pass"
    inference: str = "the predict pass"
    assumption: str = ""
    fix_skipped: str = (
        "give the condition to the network in your predict pass as your training pass does (with the flip "
        "test, for both images)"
    )
    edited_at_taps: bool = False
    unavailable: str = ""

    def gate_of(self, module: nn.Module) -> float:
        """The gate's present value; nan where none is known.

        Raises:
            KeyError: the network has no parameter or buffer of that name.
        """
        if not isinstance(self.gate, str):
            return float(self.gate)
        tensors: dict[str, Any] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        if self.gate not in tensors:
            raise KeyError(f"gate: the network has no parameter or buffer {self.gate!r}")
        return float(tensors[self.gate].detach().mean())

    @property
    def taps(self) -> tuple[str, ...]:
        """All taps that are named, those of the refiner aside."""
        named = (self.part, *self.condition, self.film, self.before, self.after, *self.outputs)
        return tuple(dict.fromkeys(filter(None, named)))


def bypassed(before: Sequence[str], after: Sequence[str]) -> dict[str, Callable[[Tensor], Tensor]]:
    """Edits by which what passes at one tap comes out at a later one of the same forward pass.

    They take tensors of any shape and store what passes, so each pass needs edits of its own.

    Args:
        before: taps, in the order of `after`.
        after: taps that are reached later.
    """
    stored: dict[str, Tensor] = {}

    def store(name: str) -> Callable[[Tensor], Tensor]:
        def edit(tensor: Tensor) -> Tensor:
            # clone: an in-place layer behind it would overwrite what is stored.
            stored[name] = tensor.clone()
            return tensor

        return edit

    def restore(name: str) -> Callable[[Tensor], Tensor]:
        return lambda _: stored[name]

    return {a: store(a) for a in before} | {b: restore(a) for a, b in zip(before, after, strict=True)}
