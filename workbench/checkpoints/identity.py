"""Which network is this? Told from names and shapes of its tensors, with evidence and contradictions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workbench.checkpoints.names import common_prefix, is_counter, unwrapped

if TYPE_CHECKING:
    from workbench.checkpoints.checkpoint import Checkpoint

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Identity:
    """What a checkpoint's tensors tell.

    Attributes:
        family: e.g. ``RTMPose``, ``HigherHRNet (official names)``; ``unknown`` when nothing fits.
        variant: its size, e.g. ``m``, ``w32``; "" when the family has none.
        evidence: sentences, each naming the tensors it rests on.
        expected: published figure and its protocol, for the weights this seems to be; "" when none is known.
        contradictions: what the file name or the config inside says and the tensors deny.
        keypoints: K, where a head tells it.
        input_size: (height, width) in pixels, where tensors tell it.
        facts: further numbers by name (width, depth, channels ...).
    """

    family: str
    variant: str = ""
    evidence: tuple[str, ...] = ()
    expected: str = ""
    contradictions: tuple[str, ...] = ()
    keypoints: int | None = None
    input_size: tuple[int, int] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.family} {self.variant}".strip()


class Shapes(dict[str, Shape]):
    """Tensor names and shapes, asked by pattern."""

    def any(self, pattern: str) -> str:
        """The first name that the pattern finds, or ""."""
        search = re.compile(pattern).search
        return next((name for name in self if search(name)), "")

    def first(self, *names: str) -> tuple[str, Shape] | None:
        """The first of these that is there, with its shape."""
        return next(((name, self[name]) for name in names if name in self), None)

    def count(self, pattern: str) -> int:
        """How many different numbers stand at the pattern's group: layers, blocks, experts."""
        search = re.compile(pattern).search
        return len({found[1] for name in self if (found := search(name))})

    def under(self, *prefixes: str) -> Shapes:
        """Those that begin with one of the prefixes, without it; the first prefix that occurs wins."""
        for prefix in prefixes:
            found = {n[len(prefix) :]: s for n, s in self.items() if n.startswith(prefix)}
            if found:
                return Shapes(found)
        return Shapes()


def identify(checkpoint: Checkpoint) -> Identity:
    """The family of a checkpoint; unknown, with what was seen, when no family fits."""
    from dataclasses import replace

    from workbench.checkpoints.identity import contradictions

    named = {unwrapped(name): i.shape for name, i in checkpoint.tensors.items() if not is_counter(name)}
    prefix = common_prefix(named)
    found = identify_shapes({name.removeprefix(prefix): shape for name, shape in named.items()})
    if found.family.startswith("HigherHRNet") and found.keypoints == 17:
        from workbench.checkpoints.families.heatmaps import higherhrnet_by_name

        told = higherhrnet_by_name(checkpoint.path.name, found.facts["width"], found.family)
        found = replace(found, evidence=(*found.evidence, *([told] if told else ())))
    return replace(found, contradictions=(*found.contradictions, *contradictions(checkpoint, found)))


def identify_shapes(shapes: Mapping[str, Shape]) -> Identity:
    """The family that names and shapes tell."""
    from workbench.checkpoints.families import FAMILIES

    view = Shapes(shapes)
    # Mean-teacher files hold the same network twice: one of them is enough.
    if view.any(r"^teacher\.") and view.any(r"^student\."):
        view = view.under("student.")
    for tell in FAMILIES:
        found = tell(view)
        if found is not None:
            return found
    return Identity("unknown", evidence=(f"no known family has such tensors: {_seen(view)}",))


def _seen(view: Shapes) -> str:
    parts = list(dict.fromkeys(name.partition(".")[0] for name in view))
    last = list(view.items())[-1:]
    shown = "".join(f"; the last is {name} {times(shape)}" for name, shape in last)
    return f"{len(view)} tensors under {', '.join(parts[:6])}{' ...' if len(parts) > 6 else ''}{shown}"


def times(shape: Iterable[int]) -> str:
    """A shape for people: ``17x768x7x7``."""
    return "x".join(str(n) for n in shape) or "scalar"
