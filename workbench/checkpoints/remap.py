"""Renaming of a checkpoint's tensors so that they fit a model: proposed with its gain, applied only if asked.

A rule renames tensors, and where two conventions store one thing differently it also says how the values
carry over: three projections joined along the first axis, a class-token position added to all others. What
would need a guess (transposing, cropping, interpolating) is no rule.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any, NamedTuple, TypeVar

from workbench.checkpoints.pieces import Collision, Piece, Pieces, Shape, fitting, moved, positions, stacked
from workbench.checkpoints.state_dicts import WRAPPING, common_prefix, unwrapped
from workbench.checkpoints.vit_names import BACKBONE, CLASSIC_HEAD, LAST_LAYER, replacements

_ROUNDS = 4  # a wrapper, a version, a naming of blocks, a prefix of the backbone
# Rules in a row of which only the last gains, and how many such beginnings are followed.
_STEPS = 3
_WIDTH = 12
_FEW = 2  # rules that are never too many
_PREFIXES = 3
_DEPTH = 4  # parts of a name in which a part inside is looked for
# Renamings that bring less than this share of the file's and of the model's tensors are chance, unless they
# fill the model: small layers of any two networks have equal shapes somewhere.
_LEAST_SHARE = 0.1
# Between the parts of a name in files that were not written by a torch module.
_SEPARATORS = re.compile(r"[:/]+")
_Key = TypeVar("_Key")


# -- the search for rules


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
        expert: of a ViTPose+ file, which data set's expert is meant; by default that of the model's number of
            keypoints.

    Returns:
        the rules, the pieces after them, and why a better rule was impossible ("" if none was).

    Raises:
        ValueError: the file has no such expert.
    """
    found, clash = _searched(pieces, model)
    if len(found.rules) > _FEW and (whole := _shared(pieces)):
        # A gain of the first step may lead round about: module.x -> backbone.x, then backbone.x -> x.
        bare = moved(pieces, lambda name: name.removeprefix(whole))
        direct, clash_of_direct = _searched(bare, model)
        loses = fitting(bare, model) < fitting(pieces, model)
        if not loses and direct.count >= found.count and len(direct.rules) + 1 < len(found.rules):
            rule = Rule(f"{whole}x -> x", fitting(bare, model) - fitting(pieces, model))
            found, clash = replace(direct, rules=(rule, *direct.rules)), clash_of_direct
    if found.count < len(model) and any(map(_SEPARATORS.search, pieces)):
        # Before all other rules: parts are told by dots, and equal shapes alone pair parts of other names.
        try:
            dotted = moved(pieces, lambda name: _SEPARATORS.sub(".", name))
        except Collision:
            dotted = pieces
        other, clash_of_other = _searched(dotted, model)
        if other.count > found.count:
            rule = Rule("separators ::, /, : -> .", max(0, fitting(dotted, model) - fitting(pieces, model)))
            found, clash = replace(other, rules=(rule, *other.rules)), clash_of_other
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
    gained = found.count - fitting(pieces, model)
    if gained < _LEAST_SHARE * min(len(pieces), len(model)) and not (gained and _is_filled(found, model)):
        return (), pieces, clash
    return found.rules, found.pieces, "" if found.count == len(model) else clash


def _shared(names: Iterable[str]) -> str:
    """The parts that all names begin with: ``lit.net.``; "" if none."""
    places = zip(*(name.split(".")[:-1] for name in names), strict=False)
    return "".join(f"{place[0]}." for place in takewhile(lambda parts: len(set(parts)) == 1, places))


def _is_filled(state: _State, model: Mapping[str, Shape]) -> bool:
    """Whether every tensor of the model has its piece, counters of batches aside: no chance does that."""
    return all(
        name in state.pieces and state.pieces[name].shape == shape
        for name, shape in model.items()
        if not name.endswith("num_batches_tracked")
    )


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
    for text, leads_on, apply in _changes(pieces, model):
        try:
            changed = positions(apply(pieces), model)
        except Collision as error:
            clashes.append(str(error))
        else:
            found.append((fitting(changed, model), text, leads_on, changed))
    return found, clashes


class _Change(NamedTuple):
    """A rule that could be tried.

    Attributes:
        text: what it does, for people.
        leads_on: others may build on it.
        apply: from the pieces to those after it.
    """

    text: str
    leads_on: bool
    apply: Callable[[Pieces], Pieces]


def _renaming(text: str, leads_on: bool, rename: Callable[[str], str]) -> _Change:
    return _Change(text, leads_on, lambda pieces: moved(pieces, rename))


def _changes(pieces: Pieces, model: Mapping[str, Shape]) -> Iterator[_Change]:
    """All rules that could do something here."""
    yield from _wrapper_changes(pieces, model)
    yield from _prefix_changes(pieces, model)
    yield from _part_changes(pieces, model)
    for convention in CONVENTIONS:
        if any(convention.mark in name for name in pieces):
            yield _Change(convention.text, True, convention.apply)
    text = "positions of patches: the class token's is added to all others, or is zero"
    yield _Change(text, False, lambda p: p)


def _wrapper_changes(pieces: Pieces, model: Mapping[str, Shape]) -> Iterator[_Change]:
    """Names that wrappers put inside others."""
    if any(unwrapped(name) != name for name in (*pieces, *model)):
        # Either side may be wrapped, and each at its own modules.
        own = {unwrapped(name): name for name in model}
        yield _renaming(
            "names of wrappers inside (module, _orig_mod, _fsdp_wrapped_module, ...) as the model has them",
            True,
            lambda name: own.get(unwrapped(name), unwrapped(name)),
        )


def _prefix_changes(pieces: Pieces, model: Mapping[str, Shape]) -> Iterator[_Change]:
    """Prefixes that only the file's names have, then those that only the model's have."""
    whole = common_prefix(pieces)
    longer, shorter = _prefixes(pieces, model), _prefixes(model, pieces)
    for prefix in dict.fromkeys((*([whole] if whole else ()), *WRAPPING, *_heads(pieces), *longer)):
        if any(name.startswith(prefix) for name in pieces):
            yield _renaming(f"{prefix}x -> x", True, lambda name, prefix=prefix: name.removeprefix(prefix))
    wrapping = (w for w in WRAPPING if any(name.startswith(w) for name in model))
    for prefix in dict.fromkeys((*_heads(model), *wrapping, *shorter)):
        if not any(name.startswith(prefix) for name in pieces):
            yield _renaming(f"x -> {prefix}x", False, prefix.__add__)


def _part_changes(pieces: Pieces, model: Mapping[str, Shape]) -> Iterator[_Change]:
    """Parts inside names that the model does not have, and first parts that it calls differently."""
    for inner in _inner(pieces, model):
        outer = f"{inner.rpartition('.')[0]}."
        yield _replacing(f"{inner}.", outer, True)
    heads = (("keypoint_head.", "head."), ("head.", "keypoint_head."))
    for old, new in dict.fromkeys((*heads, *_first_parts(pieces, model))):
        if any(name.startswith(old) for name in pieces):
            yield _replacing(old, new, False)


def _replacing(old: str, new: str, leads_on: bool) -> _Change:
    """Another beginning for the names that begin with `old`."""
    return _renaming(f"{old}x -> {new}x", leads_on, lambda n: new + n[len(old) :] if n.startswith(old) else n)


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


# -- naming conventions of the pose and vision-transformer code bases
# Source: HRNet-Human-Pose-Estimation@6f69e46 lib/models; workbench.checkpoints.vit_names.


@dataclass(frozen=True)
class Convention:
    """How the names of one code base become those of another.

    Attributes:
        text: what it does, for people.
        mark: what some names of the first code base contain.
        pairs: patterns and replacements; for each name the first pattern that matches counts.
        stacks: one tensor of the second code base -> the tensors of the first that make it, in order.
    """

    text: str
    mark: str
    pairs: tuple[tuple[str, str], ...]
    stacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def apply(self, pieces: Pieces) -> Pieces:
        """The pieces under the names of the second code base.

        Raises:
            Collision: two would get one name.
        """
        return stacked(moved(pieces, lambda name: renamed(name, self.pairs)), self.stacks)


_HEAD = (*CLASSIC_HEAD, LAST_LAYER)
_BLOCKS = replacements("mmpose-0", "mmpose-1")
_BACK = replacements("mmpose-1", "mmpose-0")
# Heads are those of mmpose 1.x; ViTPose 0.x has the same under keypoint_head.
_HUGGING_FACE = (
    (r"embeddings\.position_embeddings$", "pos_embed"),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.", r"layers.\1.attn."),
    *replacements("hf", "mmpose-1", (*BACKBONE, *_HEAD)),
)
# Official HRNet and SimpleBaseline (pose_hrnet.py, pose_resnet.py), HigherHRNet (pose_higher_hrnet.py) and
# what was made of them: one module holds the backbone and the last layers. mmpose puts them into two.
OFFICIAL = (
    (r"^(final_layers?|deconv_layers)\.", r"head.\1."),
    (r"^(conv1|conv2|bn1|bn2|layer[1-4]|transition[1-3]|stage[2-4])\.", r"backbone.\1."),
)
_TO_OFFICIAL = ((r"^(?:keypoint_)?head\.(final_layers?|deconv_layers)\.", r"\1."), (r"^backbone\.", ""))
CONVENTIONS: tuple[Convention, ...] = (
    Convention(
        "official HRNet / SimpleBaseline names -> mmpose names (conv1 -> backbone.conv1 ..., "
        "final_layer -> head.final_layer, deconv_layers -> head.deconv_layers)",
        "final_layer",
        OFFICIAL,
    ),
    Convention("mmpose names -> official HRNet / SimpleBaseline names", "head.", _TO_OFFICIAL),
    Convention("ViTPose 0.x names of blocks -> mmpretrain names", "blocks.", _BLOCKS),
    Convention("mmpretrain names of blocks -> ViTPose 0.x names", "layers.", _BACK),
    Convention(
        "Hugging Face VitPose names -> mmpose 1.x names, query, key and value joined",
        "encoder.layer.",
        _HUGGING_FACE,
        {
            f".attn.qkv.{end}": tuple(f".attn.{part}.{end}" for part in ("query", "key", "value"))
            for end in ("weight", "bias")
        },
    ),
)


def renamed(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    """The name after the first replacement whose pattern matches.

    Args:
        name: of a tensor.
        pairs: patterns and replacements, as in Convention.
    """
    for old, new in pairs:
        changed, count = re.subn(old, new, name, count=1)
        if count:
            return changed
    return name


# -- ViTPose+: one expert per data set

_EXPERT = re.compile(r"(.*)\.mlp\.experts\.(\d{1,4})\.(?:weight|bias)$")
_LAST = ("final_layer.weight", "head.conv.weight")
# Expert -> data set and its keypoints. Source: ViTPose@c050ed2, configs of ViTPose+.
VITPOSE_PLUS = {
    0: ("COCO", 17), 1: ("AIC", 14), 2: ("MPII", 16), 3: ("AP-10K", 17), 4: ("APT-36K", 17),
    5: ("COCO-WholeBody", 133),
}  # fmt: skip


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
    numbers = {int(mark[2]) for name in pieces if (mark := _EXPERT.match(name))}
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
    """The pieces with the head of that data set alone; in the file the first data set has keypoint_head."""
    wanted = f"associate_keypoint_heads.{expert - 1}."
    mark = re.compile(r"^(.*?)associate_keypoint_heads\.\d+\.")
    heads = {match[0] for name in pieces if (match := mark.match(name))}
    chosen = next((head for head in heads if head.endswith(wanted)), None)
    found = {name: piece for name, piece in pieces.items() if not mark.match(name)}
    if chosen is None:
        return found
    before = chosen.removesuffix(wanted)
    found = {name: piece for name, piece in found.items() if not name.startswith(f"{before}keypoint_head.")}
    own = {name: piece for name, piece in pieces.items() if name.startswith(chosen)}
    return {**found, **{f"{before}keypoint_head.{name[len(chosen) :]}": piece for name, piece in own.items()}}
