"""Which ways to take neck, text and refiner away from a network, and against which way each is judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Answers, NotAvailable
from workbench.core.hooks import replacing
from workbench.core.wrapping import Wrapper
from workbench.inspectors.conditioning.passes import fused, neck_of, refiner_of
from workbench.models.text_fusion import family

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.core import Batch, Outputs, Sample
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
class Edited(Wrapper):
    """A model with a variant's interventions in every pass: a PoseModel like any other."""

    model: TextFusion
    variant: Variant
    kept: dict[tuple[Any, ...], Batch]
    withheld = (Answers,)  # goes past `forward`

    @classmethod
    def of(cls, model: TextFusion, variant: Variant, kept: dict[tuple[Any, ...], Batch]) -> Edited:
        """The model, gone through the variant's way.

        Args:
            model: reads text.
            variant: what is taken away.
            kept: shared by the variants of one network: the last batch is cropped once for all of them.
        """
        return cls(model.through(variant.way), variant, kept)

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
