"""Would other names make this checkpoint fit? Rules are proposed with what each gains, applied only if asked.

A rule renames tensors, and where two conventions store one thing differently it also says how the values
carry over: three projections laid on top of each other, a class-token position added to all others. What
would need a guess (transposing, cropping, interpolating) is no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from workbench.checkpoints.conventions import CONVENTIONS, renamed
from workbench.checkpoints.names import WRAPPING, common_prefix
from workbench.checkpoints.tensors import TensorInfo, read_tensor

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]
_CONVENTION_TEXTS = frozenset(convention.text for convention in CONVENTIONS)
_ROUNDS = 4  # a wrapper, a version, a naming of blocks, a prefix of the backbone


@dataclass(frozen=True)
class Piece:
    """What a tensor of the model would be made of.

    Attributes:
        sources: tensors of the file.
        how: ``copy``; ``stack`` lays the sources on top of each other along the first axis;
            ``join class token`` turns positions (1, 1 + n, C) into (1, n, C) by adding the first to all
            others; ``no class token`` turns (1, n, C) into (1, 1 + n, C) with a first of zeros.
        shape: of the result.
    """

    sources: tuple[TensorInfo, ...]
    how: Literal["copy", "stack", "join class token", "no class token"]
    shape: Shape

    def read(self) -> Tensor:
        """The values, read now."""
        import torch

        parts = [read_tensor(info) for info in self.sources]
        if self.how == "stack":
            return torch.cat(parts)
        if self.how == "join class token":
            # ViTPose 0.x adds both in its forward pass: x + pos_embed[:, 1:] + pos_embed[:, :1].
            return parts[0][:, 1:] + parts[0][:, :1]
        if self.how == "no class token":
            return torch.cat([torch.zeros_like(parts[0][:, :1]), parts[0]], dim=1)
        return parts[0]


@dataclass(frozen=True)
class Rule:
    """One proposed renaming.

    Attributes:
        text: what it does, for people: ``module.x -> x``.
        fixes: tensors of the model that fit by it and did not before.
    """

    text: str
    fixes: int


Pieces = dict[str, Piece]
Change = Callable[[Pieces], Pieces]


def pieces_of(infos: Mapping[str, TensorInfo]) -> Pieces:
    """The file as it is."""
    return {name: Piece((info,), "copy", info.shape) for name, info in infos.items()}


def fitting(pieces: Mapping[str, Piece], model: Mapping[str, Shape]) -> int:
    """How many tensors of the model have a piece of their name and shape."""
    return sum(name in pieces and pieces[name].shape == shape for name, shape in model.items())


def propose(pieces: Pieces, model: Mapping[str, Shape]) -> tuple[tuple[Rule, ...], Pieces, str]:
    """The rules that make most tensors fit, in the order they are applied.

    Returns:
        the rules, the pieces after them, and why a better rule was impossible ("" if none was).
    """
    rules: list[Rule] = []
    clash = ""
    best = fitting(pieces, model)
    for _ in range(_ROUNDS):
        if best == len(model):
            break
        tried, clashes = _tried(pieces, model)
        clash = clash or next(iter(clashes), "")
        top = max(tried, key=lambda t: t[0], default=None)
        if top is None or top[0] <= best:
            # Two steps of which the first alone gains nothing: Hugging Face -> mmpretrain -> ViTPose 0.x.
            tried = [
                (count, f"{first}; {second}", changed)
                for _, first, between in tried
                if first in _CONVENTION_TEXTS
                for count, second, changed in _tried(between, model)[0]
            ]
            top = max(tried, key=lambda t: t[0], default=None)
        if top is None or top[0] <= best:
            break
        rules.append(Rule(top[1], top[0] - best))
        best, pieces = top[0], top[2]
    return tuple(rules), pieces, "" if best == len(model) else clash


def _tried(pieces: Pieces, model: Mapping[str, Shape]) -> tuple[list[tuple[int, str, Pieces]], list[str]]:
    """Every rule once: how many tensors fit after it, its text, the pieces after it. And what collided."""
    found, clashes = [], []
    for text, change in _changes(pieces, model):
        try:
            changed = _positions(change(pieces), model)
        except Collision as error:
            clashes.append(str(error))
        else:
            found.append((fitting(changed, model), text, changed))
    return found, clashes


class Collision(ValueError):  # noqa: N818 - reads as a claim
    """Two tensors of the file would get one name."""


def moved(pieces: Pieces, rename: Callable[[str], str]) -> Pieces:
    """Pieces under new names.

    Raises:
        Collision: two would get one name.
    """
    found: dict[str, tuple[str, Piece]] = {}
    for name, piece in pieces.items():
        new = rename(name)
        if new in found:
            raise Collision(f"{found[new][0]!r} and {name!r} would both become {new!r}")
        found[new] = name, piece
    return {new: piece for new, (_, piece) in found.items()}


def _changes(pieces: Pieces, model: Mapping[str, Shape]) -> Iterable[tuple[str, Change]]:
    """All rules that could do something here."""
    whole = common_prefix(pieces)
    for prefix in dict.fromkeys((*([whole] if whole else ()), *WRAPPING, *_heads(pieces))):
        if any(name.startswith(prefix) for name in pieces):
            yield f"{prefix}x -> x", lambda p, prefix=prefix: moved(p, lambda n: n.removeprefix(prefix))
    for prefix in dict.fromkeys(
        (*_heads(model), *(w for w in WRAPPING if any(n.startswith(w) for n in model)))
    ):
        if not any(name.startswith(prefix) for name in pieces):
            yield f"x -> {prefix}x", lambda p, prefix=prefix: moved(p, prefix.__add__)
    for old, new in (("keypoint_head.", "head."), ("head.", "keypoint_head.")):
        if any(name.startswith(old) for name in pieces):
            yield (
                f"{old}x -> {new}x",
                lambda p, old=old, new=new: moved(
                    p, lambda n: new + n[len(old) :] if n.startswith(old) else n
                ),
            )
    for convention in CONVENTIONS:
        if any(convention.mark in name for name in pieces):
            yield (
                convention.text,
                lambda p, c=convention: _stacked(moved(p, lambda n: renamed(n, c.pairs)), c.stacks),
            )
    yield "positions of patches: the class token's is added to all others, or is zero", lambda p: p


def _heads(names: Iterable[str]) -> list[str]:
    """First parts that most names share, as prefixes."""
    firsts = [name.partition(".")[0] + "." for name in names if "." in name]
    return [first for first in dict.fromkeys(firsts) if firsts.count(first) > len(firsts) // 2]


def _stacked(pieces: Pieces, stacks: Mapping[str, tuple[str, ...]]) -> Pieces:
    """Join query, key and value into the one projection that the other convention has."""
    found = dict(pieces)
    for whole, parts in stacks.items():
        for name in [n for n in pieces if parts[0] in n]:
            names = [name.replace(parts[0], part) for part in parts]
            if not all(n in pieces for n in names):
                continue
            shapes = {pieces[n].shape for n in names}
            target = name.replace(parts[0], whole)
            if len(shapes) == 1 and target not in found:
                shape = next(iter(shapes))
                sources = tuple(info for n in names for info in pieces[n].sources)
                for n in names:
                    del found[n]
                found[target] = Piece(sources, "stack", (shape[0] * len(names), *shape[1:]))
    return found


def _positions(pieces: Pieces, model: Mapping[str, Shape]) -> Pieces:
    """Positions of patches with or without that of a class token, as the model wants them."""
    found = dict(pieces)
    for name, want in model.items():
        piece = found.get(name)
        if not name.endswith("pos_embed") or piece is None or piece.how != "copy":
            continue
        have = piece.shape
        if len(have) == len(want) == 3 and have[0] == want[0] == 1 and have[2] == want[2]:
            if have[1] == want[1] + 1:
                found[name] = replace(piece, how="join class token", shape=want)
            elif have[1] + 1 == want[1]:
                found[name] = replace(piece, how="no class token", shape=want)
    return found
