"""Code of the user's own along either of its passes, with its text edited: what the ablation compares."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core import Answers, Batch, NotAvailable, Outputs, Sample
from workbench.core.wrapping import Wrapper
from workbench.inspectors.conditioning.passes import Way, in_mode, one_pass
from workbench.inspectors.conditioning.variants import REFERENCE, TRAINED, Variant

if TYPE_CHECKING:
    from torch import Tensor

from workbench.inspectors.conditioning.evidence import REMOVED, exchanged, noise, text_effect


def _zero(text: Tensor) -> Tensor:
    return text * 0


_TEXTS: Mapping[str, Callable[[Tensor], Tensor] | None] = {
    "without text": None, "zero text": _zero, "shuffled text": exchanged, "noise for text": noise(0),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class OwnWay(Wrapper):
    """A user's model along one of its passes, with its text edited: a PoseModel like any other.

    Attributes:
        model: the user's.
        way: which pass.
        edit: of the text; see `passed`.
        kept: batches shared by the variants of one network.
    """

    model: Any
    way: Way
    edit: Any
    kept: dict[tuple[Any, ...], Batch]
    withheld = (Answers,)  # goes past `forward`

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """As the model does, once for all variants."""
        key = tuple((s.image_id, s.annotation_id, s.box) for s in samples)
        if key not in self.kept:
            self.kept.clear()
            self.kept[key] = self.model.prepare(samples)
        return self.kept[key]

    def forward(self, batch: Batch) -> Outputs:
        """What the pass gives."""
        from workbench.models.randomness import private_randomness

        if self.edit != "as it is":
            batch = self.model.with_text(batch, self.edit)
        with in_mode(self.model.module, self.way), private_randomness(0):
            return one_pass(self.model, batch, self.way).outputs


def own_ways(model: Any, samples: Sequence[Sample]) -> tuple[tuple[Variant, ...], dict[str, Any]]:
    """What can be taken away from a user's network: variants, and the model of each.

    Args:
        model: of the user's own.
        samples: on which it is tried whether the network can do without text.
    """
    from workbench.core.run import run as forward

    kept: dict[tuple[Any, ...], Batch] = {}
    variants = [Variant(REFERENCE, "predict", against=""), Variant(TRAINED, "training")]
    ways = {v.name: OwnWay(model, v.way, "as it is", kept) for v in variants}
    run = forward(ways[REFERENCE], samples)
    along: Way = "predict"
    try:
        effect = text_effect(dataclasses.replace(run, model=model))
    except NotAvailable:
        texts: dict[str, Any] = {}
    else:
        if effect.changes("training") and not effect.changes("predict"):
            along = "training"
        can_do_without = effect.change == REMOVED
        texts = {name: edit for name, edit in _TEXTS.items() if edit is not None or can_do_without}
    for name, edit in texts.items():
        variants.append(
            Variant(name, along, against=REFERENCE if along == "predict" else TRAINED, kind="text")
        )
        ways[name] = OwnWay(model, along, edit, kept)
    return tuple(variants), ways
