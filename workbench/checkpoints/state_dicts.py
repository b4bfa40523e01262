"""State dicts: what wrappers add to the names of tensors, and where in a file's value the weights are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workbench.checkpoints.budget import LIMITS, Budget, Limits
from workbench.checkpoints.pickled_objects import Array, Fields, Inert, tensor_of
from workbench.checkpoints.tensors import TensorInfo, Unread
from workbench.core.report import counted

# Prefixes that wrappers add to every name: DataParallel, torch.compile, FSDP, Fabric, Lightning,
# Sequential(tofp16, net).
WRAPPING = (
    "module.", "_orig_mod.", "_forward_module.", "_fsdp_wrapped_module.", "_fpw_module.", "_model.", "model.",
    "1.", "net.", "network.", "student.", "teacher.", "online_model.", "ema_model.",
)  # fmt: skip
# Parts inside a name that only wrappers add: torch.compile of one part, activation
# checkpointing, FSDP (today's and 1.11's), Lightning Fabric, DataParallel of one part.
_INNER = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module|_fpw_module|_forward_module)\."
    r"|(?<=\.)module\."
)
# Counters that averaging wrappers store beside the weights: torch's AveragedModel, mmengine's EMA and others.
_COUNTERS = frozenset(("n_averaged", "steps", "step", "initted", "num_updates", "decay"))
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def is_statistic(name: str) -> bool:
    """Whether it is a buffer of batch normalisation, which is not counted as a weight."""
    return name.endswith(STATISTICS)


def is_counter(name: str) -> bool:
    """Whether it is a counter of an averaging wrapper, which is part of no network."""
    return name in _COUNTERS


def unwrapped(name: str) -> str:
    """The name without the parts that wrappers add: ``backbone._orig_mod.x`` becomes ``backbone.x``."""
    return _INNER.sub("", name)


def module_of(name: str) -> str:
    """The module two levels down: ``backbone.stage1``; one level for short names."""
    parts = name.split(".")
    return ".".join(parts[: max(1, min(2, len(parts) - 1))])


def common_prefix(names: Iterable[str]) -> str:
    """The prefix of wrappers that all names share, outermost first: ``module._orig_mod.``; "" if none."""
    names = [name for name in names if not is_counter(name)]
    found = ""
    while names:
        head = next((p for p in WRAPPING if all(n.startswith(p) for n in names)), None)
        if head is None:
            break
        # "1." alone is the second child of any Sequential; as a wrapper it has several parts behind it.
        if head == "1." and len({n.removeprefix(head).partition(".")[0] for n in names}) < 2:
            break
        found += head
        names = [n.removeprefix(head) for n in names]
    return found


# -- tensors by name in a value: state dicts, pickled and scripted modules, nested dicts


# Never the model, however many tensors they hold.
NOT_THE_MODEL = re.compile(
    r"optim|sched|scaler|^rng|_rng|callback|loops|message_hub|(^|_)ema($|_)", re.IGNORECASE
)
_DEPTH = 40
# Tensors inside one value of a state dict, as quantised layers pack weight and bias.
_PACKED = 8
# What may be a tensor, or hold some.
_HOLDERS = (Mapping, list, tuple, TensorInfo, Array, Unread, Inert)

Named = dict[str, "TensorInfo | Unread"]


def unread_text(unread: Iterable[Unread]) -> str:
    """``37 quantised (qint8) and 7 sparse (sparse_coo) tensors, not read``; "" without any."""
    kinds = Counter(tensor.kind for tensor in unread)
    if not kinds:
        return ""
    *others, last = (f"{count} {kind}" for kind, count in kinds.most_common())
    kinds_text = f"{', '.join(others)} and {last}" if others else last
    return f"{kinds_text} tensor{'s' if kinds.total() > 1 else ''}, not read"


class Finder:
    """Finds tensors by name in a file's value; each dict is searched once, however often the file names it.

    Args:
        budget: work and memory that are left for the file.
        limits: bounds on the number of tensors and the length of their names.
    """

    def __init__(self, budget: Budget, limits: Limits = LIMITS) -> None:
        self.budget, self.limits = budget, limits
        # By id: the value that holds them all outlives the search.
        self._seen: dict[int, tuple[Any, Named]] = {}

    def state_dict(self, value: Any) -> dict[str, TensorInfo]:
        """The tensors of a state dict, or of a pickled or scripted module, by name; {} for other values.

        Raises:
            ValueError: it has more tensors, or longer names, than any network.
        """
        return {name: item for name, item in self.named(value).items() if isinstance(item, TensorInfo)}

    def named(self, value: Any) -> Named:
        """As `state_dict`, with the tensors whose numbers are not read."""
        if not isinstance(value, (Mapping, Inert, Fields)):
            return {}
        if id(value) not in self._seen:
            self._seen[id(value)] = value, self._named(value)
        return self._seen[id(value)][1]

    def _named(self, value: Any) -> Named:
        if isinstance(value, Fields) and value.of.startswith("__torch__"):
            return self._collected(self._walked(value, scripted=True))
        if isinstance(value, (Inert, Fields)) and isinstance(_state(value), dict):
            return self._collected(self._walked(value, scripted=False))
        if not isinstance(value, Mapping):
            return {}
        self.budget.step(len(value))
        return self._collected(
            pair for key, item in value.items() if isinstance(key, str) for pair in _tensors_at(key, item)
        )

    def _collected(self, pairs: Iterable[tuple[str, TensorInfo | Unread]]) -> Named:
        found: Named = {}
        for name, item in pairs:
            if len(name) > self.limits.name or len(found) >= self.limits.tensors:
                raise ValueError("it has more tensors, or longer names, than any network; it is refused")
            self.budget.make()
            self.budget.hold(len(name))
            found[name] = item
        return found

    def joined(self, parts: Mapping[str, Named]) -> Named:
        """Several state dicts as one, each key as a prefix of its names."""
        return self._collected(
            (f"{key}.{name}" if name else key, item)
            for key, names in parts.items()
            for name, item in names.items()
        )

    def nested(self, value: Any) -> Named:
        """Tensors in dicts of dicts, as jax writes them, by names joined with dots."""
        return self._collected(self._nested(value))

    def _nested(self, value: Any) -> Iterator[tuple[str, TensorInfo | Unread]]:
        waiting: list[tuple[str, Any, int]] = [("", value, 0)]
        seen: set[int] = set()
        while waiting:
            name, item, depth = waiting.pop()
            tensors = _tensors_at(name, item)
            if tensors:
                yield from tensors
            elif isinstance(item, (Mapping, list, tuple)) and depth < _DEPTH and id(item) not in seen:
                seen.add(id(item))  # a dict that holds itself, or one dict twice, must not multiply
                self.budget.step(1 + len(item) // 16)
                inside = item.items() if isinstance(item, Mapping) else enumerate(item)
                for key, inner in reversed([pair for pair in inside if isinstance(pair[1], _HOLDERS)]):
                    self.budget.step()
                    if isinstance(key, (str, int)) and not NOT_THE_MODEL.search(str(key)):
                        waiting.append((self._name(f"{name}." if name else "", str(key)), inner, depth + 1))

    def _name(self, prefix: str, key: str) -> str:
        """Two parts of a name as one, after a check of its length."""
        if len(prefix) + len(key) > self.limits.name:
            raise ValueError("it has more tensors, or longer names, than any network; it is refused")
        self.budget.hold(len(prefix) + len(key))
        return prefix + key

    def _walked(self, value: Any, scripted: bool) -> Iterator[tuple[str, TensorInfo | Unread]]:
        """The names that `state_dict()` of a module would give: its tensors, then those of its submodules."""
        waiting: list[tuple[str, Any, int]] = [("", value, 0)]
        while waiting:
            prefix, item, depth = waiting.pop()
            tensors, modules = (_scripted if scripted else _pickled)(item)
            # Pickled modules may share submodules, and a hostile file may share them without end.
            self.budget.step(1 + len(tensors) + len(modules))
            for name, tensor in tensors:
                yield self._name(prefix, name), tensor
            if depth < _DEPTH:
                self.budget.make(len(modules))
                waiting += [(self._name(prefix, f"{n}."), inner, depth + 1) for n, inner in reversed(modules)]


def _tensors_at(key: str, item: Any) -> list[tuple[str, TensorInfo | Unread]]:
    """The tensor at a key of a state dict, or those that are packed together there."""
    if isinstance(item, Unread):
        return [(key, item)]
    tensor = tensor_of(item)
    if tensor is not None:
        return [(key, tensor)]
    if isinstance(item, Inert) and "tensor" in item.name.rpartition(".")[2].lower():
        return [(key, Unread(f"of class {item.name[:200]}"))]
    if isinstance(item, tuple):
        packed = [part for part in item[:_PACKED] if isinstance(part, (TensorInfo, Unread))]
        if any(isinstance(part, Unread) for part in packed):
            return [(f"{key}.{i}", part) for i, part in enumerate(packed)]
    return []


def _state(value: Any) -> Any:
    return value.state if isinstance(value, Inert) else value


def _pickled(value: Any) -> tuple[list[tuple[str, TensorInfo | Unread]], list[tuple[str, Any]]]:
    """Parameters and buffers of a pickled nn.Module, and its submodules."""
    state = _state(value)
    if not isinstance(state, dict):
        return [], []
    loose = state.get("_non_persistent_buffers_set")  # pickled with the module, but no part of its state dict
    left_out = {name for name in loose if isinstance(name, str)} if isinstance(loose, list) else set()
    tensors = [
        pair
        for group in ("_parameters", "_buffers")
        for name, item in _items(state.get(group))
        if not (group == "_buffers" and name in left_out)
        for pair in _tensors_at(name, item)
    ]
    return tensors, _items(state.get("_modules"))


def _scripted(value: Any) -> tuple[list[tuple[str, TensorInfo | Unread]], list[tuple[str, Any]]]:
    """Attributes of a scripted module that are tensors, and its submodules."""
    items = _items(value)
    tensors = [pair for name, item in items for pair in _tensors_at(name, item)]
    return tensors, [(n, v) for n, v in items if isinstance(v, Fields) and v.of.startswith("__torch__")]


def _items(value: Any) -> list[tuple[str, Any]]:
    return [(k, v) for k, v in value.items() if isinstance(k, str)] if isinstance(value, Mapping) else []


# -- the state dict in a file's value: training scripts wrap it in their own ways


# Keys that training scripts use for the weights, the most certain first.
WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "best_state_dict", "network_state_dict", "net",
    "network", "params", "weights", "module", "student", "teacher", "ema", "model_ema", "state_dict_ema",
)  # fmt: skip
# Keys of averages, which are taken for the model only where the file holds nothing else.
LAST_RESORT = ("ema_state_dict", "ema_model", "model_ema_state_dict", "ema_model_state_dict")
# Keys of parts of a network, where a file has several of them.
_A_PART = re.compile(
    r"backbone|neck|head|stem|body|trunk|(en|de)coder|embed|transformer|generator|discriminator|att(ention|n)"
    r"|regress|classif|fpn|pyramid|hourglass|stage|block|layer",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Found:
    """The weights in a file's value.

    Attributes:
        wrapper: the key that holds them, "a.b" for nested ones; "" when the value is the state dict.
        tensors: by name.
        unread: tensors of the state dict whose numbers are not read, by name.
        joined: keys whose state dicts are parts of one model; each is a prefix of its names.
        left: further weights in the file that are not taken, in words: ``'head' (2 tensors)``.
        single: the file is one tensor, without a name.
    """

    wrapper: str
    tensors: dict[str, TensorInfo]
    unread: dict[str, Unread]
    joined: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    single: bool = False


def find_state_dict(value: Any, finder: Finder, wanted: str = "") -> Found:
    """The weights in a file's value: under one of the usual keys, as parts under several keys, or bare.

    Args:
        value: of the file.
        finder: finds tensors in it.
        wanted: key to take, "a.b" for nested ones; "" for the usual keys.

    Raises:
        ValueError: there are no tensors under the wanted key, or none at all.
    """
    listed: Any = value
    if isinstance(value, (list, tuple)):
        listed = {str(i): item for i, item in enumerate(value)}
    if wanted:
        return _wanted(value, listed, finder, wanted)
    if isinstance(value, Mapping) and value.keys() == {"state", "param_groups"}:
        raise ValueError(
            "it holds the state of an optimiser (state, param_groups) and no weights; open the model's file"
        )
    if (tensor := tensor_of(value)) is not None:
        return Found("", {"tensor": tensor}, {}, single=True)
    bare = finder.named(listed)
    if isinstance(listed, Mapping) and not isinstance(listed, Fields):
        for key in WRAPPERS:
            inner = finder.named(listed.get(key))
            if len(inner) > len(bare):
                return _found(key, inner, _left(listed, finder, {key}))
        parts = _parts(listed, finder)
        if sum(len(part.names) for part in parts) > len(bare):
            return _of_parts(value, listed, finder, parts)
    if bare:
        return _found("", bare, _left(listed, finder, set(bare)))
    deep = finder.nested(listed)
    if deep:
        return _found("", deep)
    entries = value if isinstance(value, Mapping) else {}
    for key in LAST_RESORT:
        inner = finder.named(entries.get(key))
        if inner:
            return _found(key, inner, _left(entries, finder, {key}))
    raise ValueError(f"it holds no tensors, only {_listed(value)}: no checkpoint of a network")


def _wanted(value: Any, listed: Any, finder: Finder, wanted: str) -> Found:
    inner: Any = listed.get(wanted) if isinstance(listed, Mapping) else None
    top = wanted
    if inner is None:
        inner, top = listed, wanted.partition(".")[0]
        for key in wanted.split("."):
            inner = inner.get(key) if isinstance(inner, Mapping) else None
    named = finder.named(inner) or finder.nested(inner)
    if not named:
        raise ValueError(f"no tensors under {wanted!r}; the file has {_listed(value)}")
    return _found(wanted, named, _left(listed, finder, {top}))


@dataclass(frozen=True)
class _Part:
    """A state dict below a key of the file's value.

    Attributes:
        key: the key.
        wrapper: the key, with one of the usual wrappers below it if there is one.
        names: the tensors by name.
    """

    key: str
    wrapper: str
    names: Named

    @property
    def is_layer(self) -> bool:
        """Whether it is one layer's few tensors, as jax and Haiku nest them: their names have no dots."""
        return not any("." in name for name in self.names)


def _parts(value: Mapping[Any, Any], finder: Finder) -> list[_Part]:
    found: list[_Part] = []
    for key, item in value.items():
        if not isinstance(key, str) or not isinstance(item, (Mapping, Inert)) or NOT_THE_MODEL.search(key):
            continue
        best, names = key, finder.named(item)
        inside = item if isinstance(item, Mapping) else {}
        for wrapper in WRAPPERS:
            deeper = finder.named(inside.get(wrapper))
            if len(deeper) > len(names):
                best, names = f"{key}.{wrapper}", deeper
        if names:
            found.append(_Part(key, best, names))
    return found


def _of_parts(value: Any, listed: Mapping[Any, Any], finder: Finder, parts: list[_Part]) -> Found:
    """The parts of one network joined; else the largest state dict."""
    joined = parts if all(p.is_layer for p in parts) or listed is not value else [
        p for p in parts if _A_PART.search(p.key)
    ]  # fmt: skip
    copies = len({frozenset(p.names) for p in joined if not p.is_layer}) < sum(not p.is_layer for p in joined)
    if listed is not value and copies:
        raise ValueError(
            f"it is a list of {counted(len(listed), 'value')}, {len(parts)} of them state dicts with the "
            "same names; save the one that is meant as a file of its own"
        )
    if len(joined) > 1 and not copies:
        named = finder.joined({part.key: part.names for part in joined})
        keys = tuple(part.key for part in joined)
        return _found("", named, _left(listed, finder, set(keys)), keys)
    best = max(parts, key=lambda part: len(part.names))
    return _found(best.wrapper, best.names, _left(listed, finder, {best.key}))


def _found(wrapper: str, named: Named, left: tuple[str, ...] = (), joined: tuple[str, ...] = ()) -> Found:
    tensors = {name: item for name, item in named.items() if isinstance(item, TensorInfo)}
    unread = {name: item for name, item in named.items() if isinstance(item, Unread)}
    return Found(wrapper, tensors, unread, joined, left)


def _left(value: Any, finder: Finder, taken: set[str]) -> tuple[str, ...]:
    """Further weights, in words: without the taken keys, averages and states of the training."""
    if not isinstance(value, Mapping):
        return ()
    counts = {part.key: len(part.names) for part in _parts(value, finder)}
    for key, item in value.items():
        if isinstance(key, str) and isinstance(item, (list, tuple)) and not NOT_THE_MODEL.search(key):
            counts[key] = len(finder.nested(item))
    found = [f"{key[:60]!r} ({_tensors(n)})" for key, n in counts.items() if n and key not in taken]
    loose = [
        name
        for name, item in finder.named(value).items()
        if name not in taken
        and (isinstance(item, Unread) or item.numel > 1)
        and not NOT_THE_MODEL.search(name)
    ]
    if loose:
        shown = ", ".join(repr(name[:60]) for name in loose[:4])
        found.append(f"{shown}{' ...' if len(loose) > 4 else ''} ({_tensors(len(loose))} beside them)")
    return tuple(found)


def _tensors(count: int) -> str:
    return f"{count} tensor{'s' if count > 1 else ''}"


def _listed(value: Any) -> str:
    if isinstance(value, Mapping):
        keys = [_key(key) for key in list(value)[:6]]
        return f"the keys {', '.join(keys)}" if keys else "an empty dict"
    if isinstance(value, Inert):
        return f"an object of class {value.name}"
    if isinstance(value, (list, tuple)):
        return f"a list of {counted(len(value), 'value')}"
    return f"a value of type {type(value).__name__}"


def _key(key: Any) -> str:
    """A short text for a dict's key, which may be long, or a tuple of long texts."""
    if isinstance(key, str):
        return repr(key[:40])
    if isinstance(key, tuple):
        return f"({', '.join(_key(part) for part in key[:4])})"[:80]
    return repr(key)[:40] if isinstance(key, (int, float, bool)) or key is None else f"a {type(key).__name__}"
