"""Which ways to take neck, text and refiner away from a network, and against which way each is judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from workbench.core import Batch, NotAvailable, Outputs, Sample
from workbench.core.hooks import replacing
from workbench.inspectors.conditioning.evidence import REMOVED, exchanged, noise, text_effect
from workbench.inspectors.conditioning.passes import Way, fused, in_mode, neck_of, one_pass, refiner_of
from workbench.models.text_fusion import family

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from workbench.core import Batch, Outputs, PoseModel, Sample
    from workbench.models.text_fusion import TextFusion
    from workbench.models.text_fusion.family import Edits


REFERENCE = "as it is"
TRAINED = "the way of training"
UNREFINED = "without refiner"
UNFUSED = "without neck"


@dataclass(frozen=True, eq=False)
class Variant:
    """One way to ask a network.

    Attributes:
        name: for people.
        way: a Path through the network; of code of the user's own the name of its pass.
        edits: makes the interventions of one pass; they may keep what passes, so each pass has its own.
        against: the variant that it is judged against; "" for the reference.
        kind: ``path``, ``neck``, ``refiner`` or ``text``: what is touched.
    """

    name: str
    way: Any
    edits: Callable[[], Edits] = dict
    against: str = REFERENCE
    kind: str = "path"


def variants_of(model: TextFusion) -> list[Variant]:
    """Everything that can be taken away from this network, the reference first.

    Text is spoilt where the neck reads it: along the way of training when inference skips the neck.
    """
    from workbench.models.text_fusion import Path

    used = model.inference
    found = [Variant(REFERENCE, used, against="")]
    if used.refine and refiner_of(model) is not None:
        found.append(Variant(UNREFINED, used, family.without_refiner, kind="refiner"))
    try:
        reads = fused(model)
    except NotAvailable:
        return found
    trained = Path(fuse=True, refine=model.training.refine)
    if trained != used:
        # Step by step, so that the neck is not credited with what leaving out the refiner gives.
        behind = UNREFINED if used.refine and not trained.refine and len(found) > 1 else REFERENCE
        found.append(Variant(TRAINED, trained, against=behind))
    if not used.fuse and Path(fuse=True, refine=used.refine) not in (trained, reads):
        found.append(Variant("with neck", Path(fuse=True, refine=used.refine), kind="neck"))
    if _same_width(model):
        found.append(Variant(UNFUSED, used, family.without_neck, kind="neck"))
    base = used if used.fuse else trained
    against = REFERENCE if used.fuse else TRAINED
    texts: dict[str, Callable[[], Edits]] = {
        "zero text": family.zero_text,
        "shuffled text": family.shuffled_text,
        "noise for text": family.noise_text,
    }
    if (other := _other_species(model)) is not None:
        name, vector = other
        texts[f"everything a {name}"] = lambda: family.other_subject(vector)
    found += [Variant(name, base, edits, against, "text") for name, edits in texts.items()]
    return found


def _same_width(model: TextFusion) -> bool:
    """Whether what enters the neck can stand for what leaves it."""
    neck = neck_of(model)
    projection = getattr(neck, "out_proj", None)
    return getattr(projection, "out_channels", neck.in_channels) == neck.in_channels


def _other_species(model: TextFusion) -> tuple[str, np.ndarray] | None:
    """The subject least like the others; None for a text of one."""
    text = model.text
    if text is None or len(text.subjects) < 2:
        return None
    vectors = text.subject_vectors.astype(float)
    s = int((vectors @ vectors.sum(0)).argmin())
    return text.subjects[s], text.subject_vectors[s]


@dataclass(frozen=True, eq=False)
class Edited:
    """A model with a variant's interventions in every pass: a PoseModel like any other."""

    model: TextFusion
    variant: Variant
    kept: dict[tuple[Any, ...], Batch]

    @classmethod
    def of(cls, model: TextFusion, variant: Variant, kept: dict[tuple[Any, ...], Batch]) -> Edited:
        """The model, gone through the variant's way.

        Args:
            model: reads text.
            variant: what is taken away.
            kept: shared by the variants of one network: the last batch is cropped once for all of them.
        """
        return cls(model.through(variant.way), variant, kept)

    def __getattr__(self, name: str) -> Any:
        # Whatever is not said here (skeleton, codec, taps ...) is the model's own.
        return getattr(object.__getattribute__(self, "model"), name)

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """As the model does, once for all variants."""
        key = tuple((s.image_id, s.annotation_id, s.box) for s in samples)
        if key not in self.kept:
            batch = self.model.prepare(samples)
            self.kept.clear()
            self.kept[key] = batch
        return self.kept[key]

    def forward(self, batch: Batch) -> Outputs:
        """The model's outputs with the interventions in place."""
        with replacing(self.model.module, self.model.taps, self.variant.edits()):
            return self.model.forward(batch)


# Code of the user's own along either of its passes, with its text edited: what the ablation compares.


def _zero(text: Tensor) -> Tensor:
    return text * 0


_TEXTS: Mapping[str, Callable[[Tensor], Tensor] | None] = {
    "without text": None, "zero text": _zero, "shuffled text": exchanged, "noise for text": noise(0),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class OwnWay:
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

    def __getattr__(self, name: str) -> Any:
        # Whatever is not said here (skeleton, codec, taps ...) is the model's own.
        return getattr(object.__getattribute__(self, "model"), name)

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
    run = forward(cast("PoseModel", ways[REFERENCE]), samples)
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
