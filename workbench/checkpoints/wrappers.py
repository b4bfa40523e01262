"""Where in a file's value is the state dict? Training scripts wrap it in their own ways."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.checkpoints.pickled_objects import Fields, Inert, Unread
from workbench.checkpoints.state_dicts import NOT_THE_MODEL, Finder, Named, tensor_of
from workbench.checkpoints.tensors import TensorInfo

# Keys that scripts use, the most telling first.
WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "best_state_dict", "network_state_dict", "net",
    "network", "params", "weights", "module", "student", "teacher", "ema", "model_ema", "state_dict_ema",
)  # fmt: skip
# Averages that are taken for the model only where the file holds nothing else.
LAST_RESORT = ("ema_state_dict", "ema_model", "model_ema_state_dict", "ema_model_state_dict")
# Keys that name a part of a network, where several such keys stand beside each other.
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
        joined: keys whose state dicts are parts of one model, and stand before their names.
        left: what else in the file holds weights, as words: ``'head' (2 tensors)``.
        single: the file holds one tensor and no names.
    """

    wrapper: str
    tensors: dict[str, TensorInfo]
    unread: dict[str, Unread]
    joined: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    single: bool = False


def find_state_dict(value: Any, finder: Finder, wanted: str = "") -> Found:
    """The weights in a file's value: under the usual keys, as parts under several, or bare.

    Args:
        value: a file's value.
        finder: looks into it.
        wanted: take this wrapper and no other.

    Raises:
        ValueError: the wanted one is not there, or no tensors are anywhere.
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
    kept = value if isinstance(value, Mapping) else {}
    for key in LAST_RESORT:
        inner = finder.named(kept.get(key))
        if inner:
            return _found(key, inner, _left(kept, finder, {key}))
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
        wrapper: the key, or with a usual wrapper below it.
        names: the tensors.
    """

    key: str
    wrapper: str
    names: Named

    @property
    def is_layer(self) -> bool:
        """One layer's few tensors, as jax and Haiku nest them: their names have no parts."""
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
    """Parts of one network joined; else the largest state dict, and the others are left."""
    joined = parts if all(p.is_layer for p in parts) or listed is not value else [
        p for p in parts if _A_PART.search(p.key)
    ]  # fmt: skip
    copies = len({frozenset(p.names) for p in joined if not p.is_layer}) < sum(not p.is_layer for p in joined)
    if listed is not value and copies:
        raise ValueError(
            f"it is a list of {len(listed)} values, {len(parts)} of them state dicts with the same names; "
            "save the one that is meant as a file of its own"
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
    """What else holds weights, besides the keys that were taken, averages and states of the training."""
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
        return f"a list of {len(value)} values"
    return f"a value of type {type(value).__name__}"


def _key(key: Any) -> str:
    """A dict's key for people; keys may be long, or tuples of long texts."""
    if isinstance(key, str):
        return repr(key[:40])
    if isinstance(key, tuple):
        return f"({', '.join(_key(part) for part in key[:4])})"[:80]
    return repr(key)[:40] if isinstance(key, (int, float, bool)) or key is None else f"a {type(key).__name__}"
