"""Which tensors does a value hold, by name? State dicts, pickled and scripted modules, dicts in dicts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from workbench.checkpoints.budget import LIMITS, Budget, Limits
from workbench.checkpoints.pickled_objects import Array, Fields, Inert, Unread
from workbench.checkpoints.tensors import TensorInfo

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


def tensor_of(value: Any) -> TensorInfo | None:
    """The value as a tensor on disk; None if it is none."""
    if isinstance(value, TensorInfo):
        return value
    return value.tensor() if isinstance(value, Array) else None


def unread_text(unread: Iterable[Unread]) -> str:
    """``37 quantised (qint8) and 7 sparse (sparse_coo) tensors, not read``; "" without any."""
    kinds = Counter(tensor.kind for tensor in unread)
    if not kinds:
        return ""
    *others, last = (f"{count} {kind}" for kind, count in kinds.most_common())
    counted = f"{', '.join(others)} and {last}" if others else last
    return f"{counted} tensor{'s' if kinds.total() > 1 else ''}, not read"


class Finder:
    """Looks for tensors in a file's value; each dict is looked at once, however often the file names it.

    Args:
        budget: of the file.
        limits: how many tensors, and how long a name.
    """

    def __init__(self, budget: Budget, limits: Limits = LIMITS) -> None:
        self.budget, self.limits = budget, limits
        # By id: the value that holds them all outlives the search.
        self._seen: dict[int, tuple[Any, Named]] = {}

    def state_dict(self, value: Any) -> dict[str, TensorInfo]:
        """The tensors that a value holds by name: a state dict, a pickled or scripted module."""
        return {name: item for name, item in self.named(value).items() if isinstance(item, TensorInfo)}

    def named(self, value: Any) -> Named:
        """The same, with the tensors whose numbers are not read; {} for all other values."""
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
        """Several state dicts as one, each key before the names of its own."""
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
        """Two parts of a name as one, once that is known to be no longer than a name may be."""
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
    """The tensor that stands at a key of a state dict, or those that are packed together there."""
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
