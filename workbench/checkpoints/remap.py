"""Would other names make this checkpoint fit? Rules are proposed with what each gains, applied only if asked.

A rule renames tensors, and where two conventions store one thing differently it also says how the values
carry over: three projections laid on top of each other, a class-token position added to all others. What
would need a guess (transposing, cropping, interpolating) is no rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from workbench.checkpoints.remap import (
    CONVENTIONS,
    Collision,
    Pieces,
    Shape,
    fitting,
    joined_experts,
    moved,
    positions,
    renamed,
    stacked,
)
from workbench.checkpoints.state_dicts import WRAPPING, common_prefix, unwrapped

_ROUNDS = 4  # a wrapper, a version, a naming of blocks, a prefix of the backbone
# Rules in a row of which only the last gains, and how many such beginnings are followed.
_STEPS = 3
_WIDTH = 12
_PREFIXES = 3
_DEPTH = 4  # parts of a name in which a part inside is looked for
# Renamings that bring less than this share of the file's and of the model's tensors are chance: small layers
# of any two networks have equal shapes somewhere.
_LEAST_SHARE = 0.1


@dataclass(frozen=True)
class Rule:
    """One proposed renaming.

    Attributes:
        text: what it does, for people: ``module.x -> x``.
        fixes: tensors of the model that fit by it and did not before.
    """

    text: str
    fixes: int


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
    if found.count - fitting(pieces, model) < _LEAST_SHARE * min(len(pieces), len(model)):
        return (), pieces, clash
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
            changed = positions(change(pieces), model)
        except Collision as error:
            clashes.append(str(error))
        else:
            found.append((fitting(changed, model), text, leads_on, changed))
    return found, clashes


Change = Callable[[Pieces], Pieces]
_Key = TypeVar("_Key")


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
    for inner in _inner(pieces, model):
        outer = f"{inner.rpartition('.')[0]}."
        yield (
            f"{inner}.x -> {outer}x",
            True,
            lambda p, old=f"{inner}.", new=outer: moved(p, lambda n: _replaced(n, old, new)),
        )
    for old, new in dict.fromkeys(
        (("keypoint_head.", "head."), ("head.", "keypoint_head."), *_first_parts(pieces, model))
    ):
        if any(name.startswith(old) for name in pieces):
            yield (
                f"{old}x -> {new}x",
                False,
                lambda p, old=old, new=new: moved(p, lambda n: _replaced(n, old, new)),
            )
    for convention in CONVENTIONS:
        if any(convention.mark in name for name in pieces):
            yield (
                convention.text,
                True,
                lambda p, c=convention: stacked(moved(p, lambda n: renamed(n, c.pairs)), c.stacks),
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


def _replaced(name: str, old: str, new: str) -> str:
    return new + name[len(old) :] if name.startswith(old) else name


def _inner(pieces: Pieces, model: Mapping[str, Shape]) -> list[str]:
    """Parts inside names without which most of them fit, with what stands before: ``backbone.model``."""
    fit: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for name, piece in pieces.items():
        parts = name.split(".")
        for i in range(1, min(len(parts) - 1, _DEPTH)):
            inner = ".".join(parts[: i + 1])
            total[inner] += 1
            fit[inner] += model.get(".".join((*parts[:i], *parts[i + 1 :]))) == piece.shape
    return _mostly(fit, total)


def _first_parts(pieces: Pieces, model: Mapping[str, Shape]) -> list[tuple[str, str]]:
    """First parts of names and the model's own behind which most of them fit: ``encoder.``, ``backbone.``."""
    firsts: dict[tuple[str, Shape], list[str]] = {}
    for name, shape in model.items():
        first, _, rest = name.partition(".")
        firsts.setdefault((rest, shape), []).append(first)
    fit: Counter[tuple[str, str]] = Counter()
    total: Counter[str] = Counter()
    for name, piece in pieces.items():
        first, _, rest = name.partition(".")
        total[first] += 1
        for own in firsts.get((rest, piece.shape), ()) if rest else ():
            fit[first, own] += own != first
    all_of = Counter({pair: total[pair[0]] for pair in fit})
    return [(f"{old}.", f"{new}.") for old, new in _mostly(fit, all_of)]


def _mostly(fit: Counter[_Key], total: Counter[_Key]) -> list[_Key]:
    """The most frequent of those that fit at least half of the time."""
    return [key for key, count in fit.most_common(_PREFIXES) if count and 2 * count >= total[key]]


def _heads(names: Iterable[str]) -> list[str]:
    """First parts that most names share, as prefixes."""
    firsts = [name.partition(".")[0] + "." for name in names if "." in name]
    return [first for first in dict.fromkeys(firsts) if firsts.count(first) > len(firsts) // 2]
