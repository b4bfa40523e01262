"""One way to read stored outputs: which maps count, what becomes of the tags, how people are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.ablation.tag_maps import TagMaps
from workbench.grouping import GroupingSettings
from workbench.models.bottom_up import Aggregation

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from workbench.models.bottom_up import BottomUp

REFERENCE = "reference"
TagChange = Callable[[TagMaps], "Float[np.ndarray, 'T H W L']"]


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
    """

    name: str
    about: str
    aggregation: Aggregation
    grouping: GroupingSettings
    tags: TagChange | None = None
    several: bool = False

    def but(
        self, name: str, about: str, tags: TagChange | None = None, several: bool = False, **rules: Any
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
        )


def reference(model: BottomUp, flip: bool = True) -> Variant:
    """The model's own rules.

    Args:
        model: whose.
        flip: off, a mirrored pass does not count even where the model's rules would count it.
    """
    maps = dataclasses.replace(model.aggregation, flip=model.aggregation.flip and flip)
    return Variant(REFERENCE, "the model's own rules", maps, model.grouping)
