"""One way to read stored outputs: which maps count, what becomes of the tags, how people are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.decoding.grouping import GroupingSettings
from workbench.evaluation.ablation.variants import TagMaps
from workbench.models.bottom_up import Aggregation

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from workbench.models.bottom_up import BottomUp, People

REFERENCE = "reference"
CHANNELS_EXCHANGED = "blue and red exchanged"
TagChange = Callable[[TagMaps], "Float[np.ndarray, 'T H W L']"]
# From people, input pixels per cell of the finest heatmap, and the affine from input pixels to the image's.
PeopleChange = Callable[["People", float, "Float[np.ndarray, '2 3']"], "People"]


@dataclass(frozen=True)
class Variant:
    """One variant of a protocol.

    Attributes:
        name: unique among the variants of one sweep.
        about: what it changes and why one would, one line.
        aggregation: which maps count, and how.
        grouping: how detections become people.
        tags: from the tag maps of an image to those that are grouped; None leaves them alone.
        several: it changes more than one thing on top of another variant.
        people: what becomes of the people found; None leaves them alone.
        look: the network is asked anew: ``blue and red exchanged``; "" for the image as it is.
        undoes: the mistake that this variant undoes; "" for none.
        beside: name of the variant that differs by nothing else, with which it is compared.
    """

    name: str
    about: str
    aggregation: Aggregation
    grouping: GroupingSettings
    tags: TagChange | None = None
    several: bool = False
    people: PeopleChange | None = None
    look: str = ""
    undoes: str = ""
    beside: str = REFERENCE

    def undoing(self, fault: str, beside: str = REFERENCE) -> Variant:
        """The same, as what undoes a mistake."""
        return dataclasses.replace(self, undoes=fault, beside=beside)

    def but(
        self,
        name: str,
        about: str,
        tags: TagChange | None = None,
        several: bool = False,
        people: PeopleChange | None = None,
        look: str = "",
        **rules: Any,
    ) -> Variant:
        """The same with other rules: fields of Aggregation and of GroupingSettings, by name."""
        own = {f.name for f in dataclasses.fields(Aggregation)}
        maps = {rule: value for rule, value in rules.items() if rule in own}
        groups = {rule: value for rule, value in rules.items() if rule not in own}
        return Variant(
            name,
            about,
            dataclasses.replace(self.aggregation, **maps),
            dataclasses.replace(self.grouping, **groups),
            tags or self.tags,
            several,
            people or self.people,
            look or self.look,
        )


def reference(model: BottomUp, flip: bool = True) -> Variant:
    """The model's own rules.

    Args:
        model: whose.
        flip: off, a mirrored pass does not count even where the model's rules would count it.
    """
    maps = dataclasses.replace(model.aggregation, flip=model.aggregation.flip and flip)
    return Variant(REFERENCE, "the model's own rules", maps, model.grouping)
