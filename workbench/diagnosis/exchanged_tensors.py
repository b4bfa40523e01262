"""A model with some of its tensors exchanged while it runs, and blocks in each other's place."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from workbench.core import Answers, Batch, NotAvailable, Outputs, PoseModel
from workbench.core.finding import Effect
from workbench.core.wrapping import Wrapper
from workbench.diagnosis.cause import GIVEN_BACK
from workbench.diagnosis.evidence import Change, gain

if TYPE_CHECKING:
    from workbench.diagnosis.case import Case

# Numbers of a matrix that tell whose it is.
LEAST_NUMBERS = 512
# Correlation with the earlier weights of another block from which a block is that one, where that with its
# own is less than half of it: weights of one block correlate over an epoch, those of two blocks do not.
ITS_OWN = 0.5
# Pairs of blocks that are tried where no earlier epoch tells which; each costs a look at a few instances.
MOST_PAIRS = 15
# Blocks whose numbers sorted as text are in another order.
AS_TEXT = 11


@dataclass(frozen=True, eq=False)
class WithTensors(Wrapper):
    """A model with some of its tensors exchanged while it runs; they are put back afterwards.

    Attributes:
        model: the inner model.
        tensors: by their names in the module's state dict.
    """

    model: PoseModel
    tensors: Mapping[str, Any]
    withheld: ClassVar[tuple[type, ...]] = (Answers,)

    def forward(self, batch: Batch) -> Outputs:
        """The inner model's outputs with the other tensors."""
        with self._exchanged():
            return self.model.forward(batch)

    def forwarded(self, name: str) -> Any:
        """As of the inner model; its other passes are made with the other tensors as well."""
        inner = super().forwarded(name)
        if name not in ("all_passes", "rollout"):
            return inner

        def made(*given: Any, **named: Any) -> Any:
            with self._exchanged():
                return inner(*given, **named)

        return made

    @contextmanager
    def _exchanged(self) -> Iterator[None]:
        import torch

        own = self.model.module.state_dict(keep_vars=True)
        before = {name: own[name].detach().clone() for name in self.tensors}
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                own[name].copy_(tensor.to(own[name]))
            try:
                yield
            finally:
                for name, tensor in before.items():
                    own[name].copy_(tensor)


def siblings(tensors: Mapping[str, Any]) -> list[dict[str, dict[str, str]]]:
    """Groups of parts of one parent that hold tensors of the same names and shapes.

    Returns:
        For each group: part -> name inside it -> name of the tensor.
    """
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    for name in tensors:
        words = name.split(".")
        for depth in range(1, len(words)):
            parts[".".join(words[:depth])][".".join(words[depth:])] = name
    groups: dict[Any, dict[str, dict[str, str]]] = defaultdict(dict)
    for part, inside in parts.items():
        build = frozenset((suffix, tuple(tensors[name].shape)) for suffix, name in inside.items())
        groups[part.rpartition(".")[0], build][part] = inside
    return [group for group in groups.values() if len(group) > 1]


def places_of_earlier(own: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, str]:
    """Part -> the other one whose weights it holds, by comparison with those of an earlier epoch.

    Args:
        own: tensors by name.
        before: the same of the earlier epoch.
    """
    both = {n: t for n, t in own.items() if n in before and before[n].shape == t.shape}
    found: dict[str, str] = {}
    for group in siblings(both):
        matrices = {s: n for s, n in next(iter(group.values())).items()
                    if both[n].ndim > 1 and both[n].numel() >= LEAST_NUMBERS}  # fmt: skip
        if not matrices or any(part.startswith(tuple(f"{one}." for one in found)) for part in group):
            continue
        suffix = max(matrices, key=lambda s: both[matrices[s]].numel())
        names = [inside[suffix] for inside in group.values()]
        mine, theirs = (_directions([of[name] for name in names]) for of in (both, before))
        alike = (mine @ theirs.T).numpy()
        parts = list(group)
        moved = {parts[i]: parts[int(row.argmax())] for i, row in enumerate(alike)
                 if row.max() > ITS_OWN and row[i] < row.max() / 2}  # fmt: skip
        if moved and set(moved) == set(moved.values()):
            found |= moved
    return found


def _directions(tensors: Sequence[Any]) -> Any:
    """Each tensor less its mean, as a row of length 1."""
    import torch

    rows = torch.stack([t.detach().float().cpu().flatten() for t in tensors])
    return torch.nn.functional.normalize(rows - rows.mean(1, keepdim=True), dim=1)


def moved_tensors(own: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    """Tensors by the names at which they belong.

    Args:
        own: tensors by name.
        places: part -> the part to which its tensors belong.
    """
    return {
        f"{there}{name.removeprefix(part)}": tensor.clone()
        for part, there in places.items()
        for name, tensor in own.items()
        if name.startswith(f"{part}.")
    }


def orders_of_blocks(own: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Other orders of the blocks that hold most of a network: some in each other's place, sorted as text."""
    every = sum(tensor.numel() for tensor in own.values())
    for group in siblings(own):
        blocks = list(group)
        held = sum(own[name].numel() for inside in group.values() for name in inside.values())
        if 2 * held < every or not all(part.rpartition(".")[2].isdigit() for part in blocks):
            continue
        blocks.sort(key=lambda part: int(part.rpartition(".")[2]))
        pairs = list(itertools.combinations(blocks, 2))
        if len(pairs) > MOST_PAIRS:
            pairs = list(itertools.pairwise(blocks))[:MOST_PAIRS]
        yield from ({a: b, b: a} for a, b in pairs)
        if len(blocks) >= AS_TEXT:
            as_text = sorted(blocks)
            yield dict(zip(blocks, as_text, strict=True))
            yield dict(zip(as_text, blocks, strict=True))


def given_back(case: Case, cause: str, tensors: Mapping[str, Any]) -> Effect | None:
    """What comes back with some tensors in place of the model's own; None where it cannot be measured.

    Args:
        case: of a model and a data set; it remembers the change where AP rises.
        cause: that this undoes.
        tensors: by their names in the module's state dict.
    """
    if not case.reaches("forward"):
        return None
    try:
        evidence = case.tried_on()
    except NotAvailable:
        return None
    if evidence.model is None:
        return None
    own = case.model().module.state_dict()
    fitting = {n: t for n, t in tensors.items() if n in own and own[n].shape == t.shape}
    if not fitting:
        return None
    case.step()
    change = Change(cause, "", "weights", lambda model: WithTensors(model, fitting))
    found = gain(evidence.measure(), evidence.measure([change]), with_ap=True)
    if found.AP_low > 0:
        case.once(GIVEN_BACK, list).append(change)
    return Effect("AP", found.AP, found.AP_low, found.AP_high, evidence.protocol())
