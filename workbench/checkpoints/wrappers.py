"""Where in a file's value is the state dict? Training scripts wrap it in their own ways."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from workbench.checkpoints.stubs import Array, Fields, Inert
from workbench.checkpoints.tensors import TensorInfo

# Keys that scripts use, the most telling first.
WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "best_state_dict", "network_state_dict", "net",
    "network", "params", "weights", "module", "student", "teacher", "ema", "model_ema", "state_dict_ema",
)  # fmt: skip
# Averages that are taken for the model only where the file holds nothing else.
LAST_RESORT = ("ema_state_dict", "ema_model", "model_ema_state_dict", "ema_model_state_dict")
# Never the model, however many tensors they hold.
_NOT_THE_MODEL = re.compile(
    r"optim|sched|scaler|^rng|_rng|callback|loops|message_hub|(^|_)ema($|_)", re.IGNORECASE
)
_DEPTH = 40
# Pickled modules may share submodules, and a file may share them without end.
_STEPS = 500_000


def tensor_of(value: Any) -> TensorInfo | None:
    """The value as a tensor on disk; None if it is none."""
    if isinstance(value, TensorInfo):
        return value
    return value.tensor() if isinstance(value, Array) else None


def state_dict_in(value: Any) -> dict[str, TensorInfo]:
    """The tensors that a value holds by name: a state dict, a pickled or scripted module; {} if neither."""
    if isinstance(value, Fields) and value.of.startswith("__torch__"):
        return dict(_walked(value, scripted=True))
    if isinstance(value, (Inert, Fields)) and isinstance(_state(value), dict):
        return dict(_walked(value, scripted=False))
    if not isinstance(value, Mapping):
        return {}
    found = {key: tensor_of(item) for key, item in value.items() if isinstance(key, str)}
    return {key: tensor for key, tensor in found.items() if tensor is not None}


def find_state_dict(value: Any, wanted: str = "") -> tuple[str, dict[str, TensorInfo]]:
    """The wrapper's key ("" without one, "a.b" for nested ones) and the tensors in it.

    Args:
        value: a file's value.
        wanted: take this wrapper and no other.

    Raises:
        ValueError: the wanted one is not there, or no tensors are anywhere.
    """
    if wanted:
        inner: Any = value
        for key in wanted.split("."):
            inner = inner.get(key) if isinstance(inner, Mapping) else None
        tensors = state_dict_in(inner) or nested_tensors(inner)
        if not tensors:
            raise ValueError(f"no tensors under {wanted!r}; the file has {_listed(value)}")
        return wanted, tensors
    if isinstance(value, Mapping) and value.keys() == {"state", "param_groups"}:
        raise ValueError(
            "it holds the state of an optimiser (state, param_groups) and no weights; open the model's file"
        )
    bare = state_dict_in(value)
    if isinstance(value, Mapping) and not isinstance(value, Fields):
        best: tuple[str, dict[str, TensorInfo]] = ("", {})
        for key in WRAPPERS:
            inner = state_dict_in(value.get(key))
            if inner and (len(inner) > len(bare)):
                return key, inner
        for key, item in value.items():
            if isinstance(key, str) and not _NOT_THE_MODEL.search(key):
                inner = state_dict_in(item)
                if len(inner) > len(best[1]):
                    best = key, inner
                for wrapper in WRAPPERS if isinstance(item, Mapping) else ():
                    deeper = state_dict_in(item.get(wrapper))
                    if len(deeper) > len(best[1]):
                        best = f"{key}.{wrapper}", deeper
        if len(best[1]) > len(bare):
            return best
    if bare:
        return "", bare
    deep = nested_tensors(value)
    if deep:
        return "", deep
    for key in LAST_RESORT if isinstance(value, Mapping) else ():
        inner = state_dict_in(value.get(key))
        if inner:
            return key, inner
    raise ValueError(f"it holds no tensors, only {_listed(value)}: no checkpoint of a network")


def nested_tensors(value: Any) -> dict[str, TensorInfo]:
    """Tensors in dicts of dicts, as jax writes them, by names joined with dots."""
    found: dict[str, TensorInfo] = {}
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    seen: set[int] = set()
    while waiting:
        name, item, depth = waiting.pop()
        tensor = tensor_of(item)
        if tensor is not None:
            found[name] = tensor
        elif isinstance(item, Mapping) and depth < _DEPTH and id(item) not in seen:
            seen.add(id(item))  # a dict that holds itself, or one dict twice, must not multiply
            for key, inner in reversed(list(item.items())):
                if isinstance(key, (str, int)) and not _NOT_THE_MODEL.search(str(key)):
                    waiting.append((f"{name}.{key}" if name else str(key), inner, depth + 1))
    return found


def _state(value: Any) -> Any:
    return value.state if isinstance(value, Inert) else value


def _walked(value: Any, scripted: bool) -> Iterator[tuple[str, TensorInfo]]:
    """The names that `state_dict()` of a module would give: its tensors, then those of its submodules."""
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    for _ in range(_STEPS):
        if not waiting:
            return
        prefix, item, depth = waiting.pop()
        tensors, modules = (_scripted if scripted else _pickled)(item)
        for name, tensor in tensors:
            yield prefix + name, tensor
        if depth < _DEPTH:
            waiting += [(f"{prefix}{name}.", inner, depth + 1) for name, inner in reversed(modules)]
    raise ValueError("it holds a module with more parts than any network; refused")


def _pickled(value: Any) -> tuple[list[tuple[str, TensorInfo]], list[tuple[str, Any]]]:
    """Parameters and buffers of a pickled nn.Module, and its submodules."""
    state = _state(value)
    if not isinstance(state, dict):
        return [], []
    loose = state.get("_non_persistent_buffers_set")  # pickled with the module, but no part of its state dict
    tensors = [
        (name, tensor)
        for group in ("_parameters", "_buffers")
        for name, item in _items(state.get(group))
        if (tensor := tensor_of(item)) is not None
        and not (group == "_buffers" and isinstance(loose, list) and name in loose)
    ]
    return tensors, _items(state.get("_modules"))


def _scripted(value: Any) -> tuple[list[tuple[str, TensorInfo]], list[tuple[str, Any]]]:
    """Attributes of a scripted module that are tensors, and its submodules."""
    items = _items(value)
    tensors = [(name, tensor) for name, item in items if (tensor := tensor_of(item)) is not None]
    return tensors, [(n, v) for n, v in items if isinstance(v, Fields) and v.of.startswith("__torch__")]


def _items(value: Any) -> list[tuple[str, Any]]:
    return [(k, v) for k, v in value.items() if isinstance(k, str)] if isinstance(value, Mapping) else []


def _listed(value: Any) -> str:
    if isinstance(value, Mapping):
        keys = [repr(k)[:40] for k in list(value)[:6] if isinstance(k, (str, int))]
        return f"the keys {', '.join(keys)}" if keys else "an empty dict"
    if isinstance(value, Inert):
        return f"an object of class {value.name}"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)} values"
    return f"a value of type {type(value).__name__}"
