"""Would other names make this checkpoint fit? Rules are proposed with what each gains, applied only if asked.

A rule renames tensors, and where two conventions store one thing differently it also says how the values
carry over: three projections laid on top of each other, a class-token position added to all others. What
would need a guess (transposing, cropping, interpolating) is no rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from workbench.checkpoints.conventions import CONVENTIONS, renamed
from workbench.checkpoints.names import WRAPPING, common_prefix, unwrapped
from workbench.checkpoints.tensors import TensorInfo, read_tensor

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]
_ROUNDS = 4  # a wrapper, a version, a naming of blocks, a prefix of the backbone
# Rules in a row of which only the last gains, and how many such beginnings are followed.
_STEPS = 3
_WIDTH = 12
_PREFIXES = 3
_EXPERT = re.compile(r"(.*)\.mlp\.experts\.(\d+)\.(?:weight|bias)$")
_LAST = ("final_layer.weight", "head.conv.weight")
# Expert -> data set and its keypoints. Source: ViTPose@c050ed2, configs of ViTPose+.
VITPOSE_PLUS = {
    0: ("COCO", 17), 1: ("AIC", 14), 2: ("MPII", 16), 3: ("AP-10K", 17), 4: ("APT-36K", 17),
    5: ("COCO-WholeBody", 133),
}  # fmt: skip


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


@dataclass(frozen=True)
class _State:
    """Where a search for renamings stands.

    Attributes:
        count: tensors of the model that fit.
        rules: applied so far; a rule's `fixes` is what it and those before it without gain brought.
        pieces: after the rules.
    """

    count: int
    rules: tuple[Rule, ...]
    pieces: Pieces


def propose(
    pieces: Pieces, model: Mapping[str, Shape], expert: int | None = None
) -> tuple[tuple[Rule, ...], Pieces, str]:
    """The rules that make most tensors fit, in the order they are applied.

    Args:
        pieces: the file as it is.
        model: names and shapes of the model's tensors.
        expert: of a ViTPose+ file, which data set's expert is meant; told from the keypoints by default.

    Returns:
        the rules, the pieces after them, and why a better rule was impossible ("" if none was).
    """
    found, clash = _searched(pieces, model)
    joined = joined_experts(pieces, model, expert)
    if found.count < len(model) and joined is not None:
        text, changed = joined
        start = fitting(changed, model) - fitting(pieces, model)
        other, clash_of_other = _searched(changed, model)
        if other.count > found.count:
            # What the join itself brings: what fits with it and would not without.
            gain = max(start, other.count - found.count)
            rules, left = [], gain - start
            for rule in other.rules:
                taken = min(left, rule.fixes)
                left -= taken
                rules.append(replace(rule, fixes=rule.fixes - taken))
            found, clash = _State(other.count, (Rule(text, gain), *rules), other.pieces), clash_of_other
    return found.rules, found.pieces, "" if found.count == len(model) else clash


def _searched(pieces: Pieces, model: Mapping[str, Shape]) -> tuple[_State, str]:
    """The best state that rules lead to, and the first collision on the way."""
    state, clash = _State(fitting(pieces, model), (), pieces), ""
    for _ in range(_ROUNDS):
        if state.count == len(model):
            break
        better, clashes = _better(state, model)
        clash = clash or next(iter(clashes), "")
        if better is None:
            break
        state = better
    return state, clash


def _better(state: _State, model: Mapping[str, Shape]) -> tuple[_State | None, list[str]]:
    """A state in which more fits, by one rule or by several of which the first alone gain nothing.

    Such are: a wrapper around other names, Hugging Face -> mmpretrain -> ViTPose 0.x.
    """
    frontier: list[tuple[tuple[str, ...], Pieces]] = [((), state.pieces)]
    seen = {frozenset(state.pieces)}
    clashes: list[str] = []
    for _ in range(_STEPS):
        tried: list[tuple[int, tuple[str, ...], Pieces]] = []
        following = []
        for before, between in frontier:
            more, collided = _tried(between, model)
            clashes += collided
            for count, text, leads_on, changed in more:
                names = frozenset(changed)
                tried.append((count, (*before, text), changed))
                if leads_on and names not in seen:
                    seen.add(names)
                    following.append(((*before, text), changed))
        top = max(tried, key=lambda t: t[0], default=None)
        if top is not None and top[0] > state.count:
            rules = [Rule(text, 0) for text in top[1][:-1]] + [Rule(top[1][-1], top[0] - state.count)]
            return _State(top[0], (*state.rules, *rules), top[2]), clashes
        frontier = following[:_WIDTH]
    return None, clashes


def _tried(
    pieces: Pieces, model: Mapping[str, Shape]
) -> tuple[list[tuple[int, str, bool, Pieces]], list[str]]:
    """Every rule once, and what collided.

    Returns:
        how many tensors fit after a rule, its text, whether others may build on it, the pieces after it.
    """
    found, clashes = [], []
    for text, leads_on, change in _changes(pieces, model):
        try:
            changed = _positions(change(pieces), model)
        except Collision as error:
            clashes.append(str(error))
        else:
            found.append((fitting(changed, model), text, leads_on, changed))
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


def _changes(pieces: Pieces, model: Mapping[str, Shape]) -> Iterable[tuple[str, bool, Change]]:
    """All rules that could do something here: text, whether others may build on it, what it does."""
    if any(unwrapped(name) != name for name in (*pieces, *model)):
        # Either side may be wrapped, and each in its own places.
        own = {unwrapped(name): name for name in model}
        yield (
            "names of wrappers inside (_orig_mod, _checkpoint_wrapped_module, ...) as the model has them",
            True,
            lambda p: moved(p, lambda n: own.get(unwrapped(n), unwrapped(n))),
        )
    if any(".module." in name for name in pieces):
        yield (
            "x.module.y -> x.y",
            True,
            lambda p: moved(p, lambda n: n.replace(".module.", ".")),
        )
    whole = common_prefix(pieces)
    longer, shorter = _prefixes(pieces, model), _prefixes(model, pieces)
    for prefix in dict.fromkeys((*([whole] if whole else ()), *WRAPPING, *_heads(pieces), *longer)):
        if any(name.startswith(prefix) for name in pieces):
            yield (
                f"{prefix}x -> x",
                True,
                lambda p, prefix=prefix: moved(p, lambda n: n.removeprefix(prefix)),
            )
    for prefix in dict.fromkeys(
        (*_heads(model), *(w for w in WRAPPING if any(n.startswith(w) for n in model)), *shorter)
    ):
        if not any(name.startswith(prefix) for name in pieces):
            yield f"x -> {prefix}x", False, lambda p, prefix=prefix: moved(p, prefix.__add__)
    for old, new in (("keypoint_head.", "head."), ("head.", "keypoint_head.")):
        if any(name.startswith(old) for name in pieces):
            yield (
                f"{old}x -> {new}x",
                False,
                lambda p, old=old, new=new: moved(
                    p, lambda n: new + n[len(old) :] if n.startswith(old) else n
                ),
            )
    for convention in CONVENTIONS:
        if any(convention.mark in name for name in pieces):
            yield (
                convention.text,
                True,
                lambda p, c=convention: _stacked(moved(p, lambda n: renamed(n, c.pairs)), c.stacks),
            )
    yield "positions of patches: the class token's is added to all others, or is zero", False, lambda p: p


def _prefixes(names: Iterable[str], others: Mapping[str, Any]) -> list[str]:
    """What stands before names of the others, most frequent first: ``lit.pose.`` of ``lit.pose.conv1``."""
    found: dict[str, int] = {}
    for name in names:
        rest, before = name, ""
        while "." in rest:
            head, _, rest = rest.partition(".")
            before += f"{head}."
            if rest in others:
                found[before] = found.get(before, 0) + 1
    return sorted(found, key=lambda prefix: -found[prefix])[:_PREFIXES]


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


def joined_experts(
    pieces: Pieces, model: Mapping[str, Shape], expert: int | None = None
) -> tuple[str, Pieces] | None:
    """ViTPose+ as a plain ViTPose: in each block the rows of one data set's expert behind those of fc2.

    Source: ViTPose@c050ed2 mmpose/models/backbones/vit_moe.py, cat(fc2(x), experts[i](x)); the heads of the
    other data sets are associate_keypoint_heads.

    Args:
        pieces: the file as it is.
        model: names and shapes of the model's tensors; its number of keypoints tells the data set.
        expert: of the data set that is meant.

    Returns:
        the rule's text and the pieces after it; None where there are no experts, or none that fit.

    Raises:
        ValueError: no such expert.
    """
    numbers = {int(found[2]) for name in pieces if (found := _EXPERT.match(name))}
    if not numbers and expert is not None:
        raise ValueError(f"expert {expert}: the file has no experts, so it is no ViTPose+")
    if not numbers:
        return None
    alike: list[int] = []
    if expert is None:
        heads = [shape[0] for name, shape in model.items() if name.endswith(_LAST) and len(shape) == 4]
        alike = [n for n in sorted(numbers) if VITPOSE_PLUS.get(n, ("", 0))[1] in heads]
        if not alike:
            return None
        expert = alike[0]
    if expert not in numbers:
        raise ValueError(f"expert {expert}: the file has the experts {', '.join(map(str, sorted(numbers)))}")
    found: Pieces = {}
    for name, piece in pieces.items():
        part = re.match(r"(.*\.mlp\.)fc2\.(weight|bias)$", name)
        other = pieces.get(f"{part[1]}experts.{expert}.{part[2]}") if part else None
        if other is not None:
            shape = (piece.shape[0] + other.shape[0], *piece.shape[1:])
            found[name] = Piece((*piece.sources, *other.sources), "stack", shape)
        elif not _EXPERT.match(name):
            found[name] = piece
    found = _head_of(found, expert)
    others = [f"{VITPOSE_PLUS[n][0]} (expert={n})" for n in alike[1:]]
    text = f"ViTPose+: rows of experts.{expert} ({VITPOSE_PLUS[expert][0]}) behind those of fc2 in each block"
    return text + (f"; as many keypoints have {' and '.join(others)}" if others else ""), found


def _head_of(pieces: Pieces, expert: int) -> Pieces:
    """With the head of that data set as the only one: the first is keypoint_head, the others associated."""
    wanted = f"associate_keypoint_heads.{expert - 1}."
    mark = re.compile(r"^(.*?)associate_keypoint_heads\.\d+\.")
    heads = {found[0] for name in pieces if (found := mark.match(name))}
    chosen = next((head for head in heads if head.endswith(wanted)), None)
    found = {name: piece for name, piece in pieces.items() if not mark.match(name)}
    if chosen is None:
        return found
    before = chosen.removesuffix(wanted)
    found = {name: piece for name, piece in found.items() if not name.startswith(f"{before}keypoint_head.")}
    own = {name: piece for name, piece in pieces.items() if name.startswith(chosen)}
    return {**found, **{f"{before}keypoint_head.{name[len(chosen) :]}": piece for name, piece in own.items()}}


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
