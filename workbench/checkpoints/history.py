"""Training history in a checkpoint as plain data: epoch, metrics, versions, data set, config, optimiser."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.checkpoints.pickled_objects import (
    Array,
    Fields,
    Inert,
    LongBytes,
    NumpyType,
    Symbol,
    tensor_of,
)
from workbench.checkpoints.tensors import Storage, TensorInfo, read_bytes
from workbench.core.report import counted

_DEPTH = 30
_CUT = "... (cut off)"
_FORMATS = {"float64": "f8", "float32": "f4", "float16": "f2", "int64": "i8", "int32": "i4", "int16": "i2",
            "uint8": "u1", "int8": "i1", "bool": "?"}  # fmt: skip


class Reader:
    """Turns values into dicts, lists, numbers and text, cut off at a depth and at a number of values.

    Args:
        shown: number of values at most.
        text: number of characters at most, as one text may be named many times.
    """

    def __init__(self, shown: int, text: int = 16 << 20) -> None:
        self.left, self.text = shown, text

    def plain(self, value: Any, depth: int = 0) -> Any:
        """The value as data: tensors as a text of type and shape, inert objects as what is known of them.

        Args:
            value: of the file.
            depth: how deep it is nested.
        """
        self.left -= 1
        if self.left < 0 or depth > _DEPTH:
            return _CUT
        if isinstance(value, str):
            return self._counted(value)
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, Mapping):
            return {
                self._counted(_text(k)): self.plain(v, depth + 1) for k, v in value.items() if self.left > 0
            }
        if isinstance(value, (list, tuple)):
            return [self.plain(v, depth + 1) for v in value if self.left > 0]
        if isinstance(value, TensorInfo):
            one = number(value)
            return f"tensor {value.dtype} {list(value.shape)}" if one is None else one
        if isinstance(value, Array):
            return self._array(value, depth)
        if isinstance(value, Inert):
            return self._inert(value, depth)
        if isinstance(value, bytes):
            return f"{len(value)} bytes"
        return self._counted(_text(value))

    def _counted(self, text: str) -> str:
        self.text -= len(text)
        return text if self.text >= 0 else text[:20] + _CUT

    def _array(self, value: Array, depth: int) -> Any:
        if value.objects is not None:
            return self.plain(value.objects, depth + 1)
        size = math.prod(value.shape)
        if value.type is None or not value.type.is_plain or size > min(self.left, 10_000):
            return f"array {value.type.code if value.type else '?'} {list(value.shape)}"
        self.left -= size
        self.text -= size * value.type.dtype.itemsize
        if self.text < 0:
            return _CUT
        found = value.array()
        if found.dtype.kind == "S":  # bytes are no text, and no JSON
            found = np.char.decode(found, "latin1")
        if found.dtype.kind == "c":
            return [str(item) for item in found.reshape(-1).tolist()]
        return found.item() if found.ndim == 0 else found.tolist()

    def _inert(self, value: Inert, depth: int) -> Any:
        for content in (value.mapping, value.state, value.items):
            if content:
                return self.plain(content, depth + 1)
        if len(value.args) == 1 and isinstance(value.args[0], (str, int, float, Mapping)):
            return self.plain(value.args[0], depth + 1)
        return self._counted(f"<{value.name}>")


def _text(value: Any) -> str:
    if isinstance(value, (str, int, float)):
        return str(value)
    if isinstance(value, Symbol):
        return value.name
    if isinstance(value, NumpyType):
        return value.code
    if isinstance(value, (Storage, LongBytes)):
        return "data"
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value if isinstance(part, (str, int, float)))
    return type(value).__name__


def number(value: Any) -> float | int | None:
    """A number, also if it was saved as a tensor or array of one element; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return value if abs(value) < 1 << 63 or isinstance(value, float) else None
    if isinstance(value, TensorInfo) and value.numel == 1 and value.dtype in _FORMATS:
        if value.storage.source is None:
            return None
        return np.frombuffer(read_bytes(value), _FORMATS[value.dtype])[0].item()
    if isinstance(value, Array) and math.prod(value.shape) == 1 and value.type and value.type.is_plain:
        item = value.array().reshape(-1)[0].item()
        return item if isinstance(item, (int, float)) else None
    return None


def series(value: Any, newest: int) -> list[float]:
    """The numbers of an array, a list, or mmengine's HistoryBuffer; [] for anything else.

    Args:
        value: of the file.
        newest: how many of the last ones to take.
    """
    if isinstance(value, Fields):
        value = value.get("_log_history")
    if isinstance(value, Array) and value.type is not None and value.type.is_plain and value.objects is None:
        if value.type.dtype.kind not in "biuf":
            return []
        return value.newest(newest).astype(float).reshape(-1)[-newest:].tolist()
    if isinstance(value, (list, tuple)):
        found = (number(item) for item in value[-newest:])
        return [float(item) for item in found if item is not None]
    return []


# Bookkeeping, or too large to be read: not shown as meta of files without a `meta` of their own.
_HEAVY = re.compile(
    r"state_dict|optim|sched|scaler|rng|message_hub|callbacks|loops|^model$|^ema|_ema$|^net$|^network$|^params$|"
    r"^weights$|^module$|^student$|^teacher$|random_state"
)
_METRIC = re.compile(
    r"(^|[_/. ])(ap|ar|map|pck|pckh|auc|epe|nme|acc|accuracy|loss|best|perf|score|metric|oks|val|train)",
    re.IGNORECASE,
)
# Blanks, not \s: that takes in newlines, and a text of nothing else would be searched in quadratic time.
_VERSION_LINE = re.compile(
    r"^[ \t]*(PyTorch|TorchVision|OpenCV|MMCV|MMEngine|MMPose|Python|CUDA_HOME|numpy)[ \t]*:[ \t]*(\S.*)$",
    re.M | re.I,
)


# Values of the log history that are read, in all and of one series: the newest.
_LOGGED, _LOGGED_OF_ONE = 2_000_000, 200_000
# Characters of a metric's name: such names are joined from several texts of the file.
_NAME = 200
# Metrics of one group.
_METRICS = 1000


@dataclass(frozen=True)
class History:
    """What a file says of its training, as plain data.

    Attributes:
        meta: everything small that is no tensor.
        epoch: finished epochs, as the file counts them; None when it does not say.
        iteration: optimiser steps; None when it does not say.
        metrics: name -> latest number.
        series: name -> all logged numbers, oldest first.
        dataset_meta: mmengine's description of the data set: keypoint names, flip pairs, sigmas, classes.
        versions: package -> version, as the file says.
        config_text: the training config as text; never run.
        optimizer: kind, learning rate and size of its state, in words; None without one.
        after_validation: whether mmengine wrote the file while it validated these weights, as it does for the
            best epoch's file and once more for that epoch's own; None when the file does not say.
    """

    meta: dict[str, Any] = field(default_factory=dict)
    epoch: int | None = None
    iteration: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    series: dict[str, list[float]] = field(default_factory=dict)
    dataset_meta: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    config_text: str | None = None
    optimizer: str | None = None
    after_validation: bool | None = None


def history_of(value: Any, facts: Mapping[str, Any], shown: int) -> History:
    """The training history in a file's value; empty for files that hold only tensors.

    Args:
        value: of the file.
        facts: what its container says.
        shown: number of values at most that become plain data.

    Raises:
        ValueError: a number that was saved as a tensor cannot be read.
    """
    reader = Reader(shown)
    if not isinstance(value, Mapping) or isinstance(value, Fields):
        value = {}
    own = value.get("meta")
    meta = own if isinstance(own, Mapping) else {
        key: item for key, item in value.items() if isinstance(key, str) and not _HEAVY.search(key.lower())
    }  # fmt: skip
    meta = reader.plain({k: v for k, v in meta.items() if not _is_tensor_like(v)})
    rows = _rows(value)
    config = next((meta[k] for k in ("cfg", "config") if isinstance(meta.get(k), str)), None)
    return History(
        meta={k: v for k, v in meta.items() if k not in ("cfg", "config") or not isinstance(v, str)},
        epoch=_count(meta, value, "epoch", "epochs", "current_epoch"),
        iteration=_count(meta, value, "iter", "iteration", "global_step", "step", "steps"),
        metrics=_metrics(value, rows),
        series=rows,
        dataset_meta=_dataset(meta),
        versions=_versions(meta, facts),
        config_text=config,
        optimizer=_optimizer(value),
        after_validation=_after_validation(value),
    )


def _is_tensor_like(value: Any) -> bool:
    tensor = tensor_of(value)
    return tensor is not None and tensor.numel > 1


def _count(meta: Mapping[str, Any], value: Mapping[str, Any], *names: str) -> int | None:
    for source in (meta, value):
        for name in names:
            found = number(source.get(name))
            # Below 0: YOLO's mark for "training is over", which counts nothing.
            if found is not None and found >= 0 and float(found).is_integer():
                return int(found)
    return None


def _rows(value: Mapping[str, Any]) -> dict[str, list[float]]:
    """Mmengine's message_hub: one HistoryBuffer per logged scalar."""
    hub = value.get("message_hub")
    scalars = hub.get("log_scalars") if isinstance(hub, Mapping) else None
    if not isinstance(scalars, Mapping):
        return {}
    found: dict[str, list[float]] = {}
    left = _LOGGED
    for name, buffer in itertools.islice(scalars.items(), 2000):
        # The latest value is always read; one buffer may stand under many names, and must not multiply.
        numbers = series(buffer, max(1, min(left, _LOGGED_OF_ONE)))
        left -= len(numbers)
        if numbers and isinstance(name, str):
            found[name[:_NAME]] = numbers
    return found


def _after_validation(value: Mapping[str, Any]) -> bool | None:
    """Whether the file was written in mmengine's validation stage; None when it does not say.

    Source: mmengine 0.10.7 hooks/runtime_info_hook.py (``loop_stage``) and hooks/checkpoint_hook.py, which
    saves the epoch's file again once it is the best.
    """
    hub = value.get("message_hub")
    info = hub.get("runtime_info") if isinstance(hub, Mapping) else None
    stage = info.get("loop_stage") if isinstance(info, Mapping) else None
    return {"val": True, "train": False}.get(stage) if isinstance(stage, str) else None


def _metrics(value: Mapping[str, Any], rows: Mapping[str, list[float]]) -> dict[str, float]:
    found = {name: numbers[-1] for name, numbers in rows.items() if not name.endswith(("time", "_time"))}
    hub = value.get("message_hub")
    info = hub.get("runtime_info") if isinstance(hub, Mapping) else None
    meta = value.get("meta")
    hooks = meta.get("hook_msgs") if isinstance(meta, Mapping) else None
    for source in (info, hooks):
        best = number(source.get("best_score")) if isinstance(source, Mapping) else None
        if best is not None:
            found["best_score"] = best
    callbacks = value.get("callbacks")
    for name, state in callbacks.items() if isinstance(callbacks, Mapping) else ():
        for key in ("best_model_score", "current_score", "best_score"):
            score = number(state.get(key)) if isinstance(state, Mapping) else None
            if score is not None:
                found[f"{name[:_NAME].partition('{')[0] if isinstance(name, str) else '?'}.{key}"] = score
    for key, item in value.items():
        if not isinstance(key, str) or len(key) > _NAME or key in ("epoch", "global_step"):
            continue
        if len(found) > 10 * _METRICS:
            break
        if isinstance(item, Mapping) and re.search(r"stats|metrics|results|scores", key):
            for k, v in itertools.islice(item.items(), _METRICS):
                if isinstance(k, (str, int)) and (n := number(v)) is not None:
                    found[f"{key}.{str(k)[:_NAME]}"] = n
        elif _METRIC.search(key) and (score := number(item)) is not None:
            found[key] = score
    return found


def _dataset(meta: Mapping[str, Any]) -> dict[str, Any]:
    found = meta.get("dataset_meta")
    if isinstance(found, dict):
        return found
    return {k: meta[k] for k in ("CLASSES", "PALETTE", "classes", "palette", "dataset_info") if meta.get(k)}


def _versions(meta: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, str]:
    found = {k.removesuffix("_version"): str(v) for k, v in meta.items() if k.endswith("_version") and v}
    if "pytorch-lightning" in found:
        found["lightning"] = found.pop("pytorch-lightning")
    environment = meta.get("env_info")
    if isinstance(environment, str):
        found |= {name.lower(): text.strip() for name, text in _VERSION_LINE.findall(environment[:20_000])}
    found |= {k: str(facts[k]) for k in ("torch file version", "producer") if facts.get(k)}
    found.pop("file", None)
    return found


# State entries -> the optimisers that keep them.
_KINDS = (
    ({"exp_avg", "max_exp_avg_sq"}, "Adam with amsgrad"),
    ({"exp_avg", "exp_avg_sq"}, "Adam or AdamW"),
    ({"exp_avg"}, "Lion or similar"),
    ({"momentum_buffer"}, "SGD with momentum"),
    ({"square_avg"}, "RMSprop"),
)


def _optimizer(value: Mapping[str, Any]) -> str | None:
    found = next(
        (
            value[k]
            for k in ("optimizer", "optimizer_states", "optimizer_state_dict", "optim")
            if value.get(k)
        ),
        None,
    )
    if isinstance(found, list):
        found = found[0] if found else None
    if isinstance(found, Mapping) and "param_groups" not in found:  # several optimisers by name
        found = next((v for v in found.values() if isinstance(v, Mapping) and "param_groups" in v), found)
    if not isinstance(found, Mapping):
        return None
    state = found.get("state")
    state = state if isinstance(state, Mapping) else {}
    first = next((s for s in state.values() if isinstance(s, Mapping)), {})
    names = {key for key in first if isinstance(key, str)}
    kind = next((name for keys, name in _KINDS if keys <= names), "kind not told by its state")
    groups = found.get("param_groups")
    rates = (
        {number(g.get("lr")) for g in groups if isinstance(g, Mapping)} if isinstance(groups, list) else set()
    )
    known = sorted(rate for rate in rates if rate is not None)
    rate = f", lr {known[0]:.3g}" + (f" to {known[-1]:.3g}" if len(known) > 1 else "") if known else ""
    return f"{kind}{rate}, state of {counted(len(state), 'parameter')}"
