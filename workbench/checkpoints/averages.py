"""Averaged (EMA) and raw weights of a checkpoint, identified: trainers store them under different names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.checkpoints.history import number
from workbench.checkpoints.pickled_objects import Fields
from workbench.checkpoints.state_dicts import Finder
from workbench.checkpoints.tensors import TensorInfo
from workbench.core.report import counted

# Averages of torch that are looked at in one file.
_MOST_AVERAGES = 8
# Keys under which training scripts and timm store an average beside the model.
_BESIDE = (
    "ema_state_dict",
    "state_dict_ema",
    "model_ema",
    "ema",
    "ema_model",
    "ema_model_state_dict",
    "model_ema_state_dict",
)


@dataclass(frozen=True)
class Averages:
    """The two sets of weights of a file.

    Attributes:
        text: where they are, in one sentence; "" when there is no average.
        averaged: the EMA weights by name; empty when there are none.
        raw: the weights that the optimiser updates, by name; empty when there is no average, and then the
            main weights are raw.
        main: which of the two the file's own trainer would load: ``averaged``, ``raw``, "" for both.
    """

    text: str = ""
    averaged: Mapping[str, TensorInfo] = field(default_factory=dict)
    raw: Mapping[str, TensorInfo] = field(default_factory=dict)
    main: str = ""

    def which(self, ema: bool | None) -> str:
        """Which weights `Checkpoint.infos(ema)` gives, in words; "" when the file has no average."""
        if not self.text:
            return ""
        chosen = self.main if ema is None else ("averaged" if ema else "raw")
        return {"averaged": "averaged (EMA) weights", "raw": "raw weights"}.get(
            chosen, "averaged and raw weights"
        )


def averages_of(
    value: Any, finder: Finder, wrapper: str, main: Mapping[str, TensorInfo], mmengine: bool
) -> Averages:
    """The averaged and the raw weights of a file.

    Args:
        value: of the file.
        finder: finds state dicts in it.
        wrapper: key of its main weights.
        main: the main weights by name.
        mmengine: it was written by mmengine's Runner.

    Raises:
        ValueError: it has more tensors, or longer names, than any network.
    """
    if not isinstance(value, Mapping) or isinstance(value, Fields):
        return Averages()
    beside = value.get("ema_state_dict")
    if mmengine and wrapper == "state_dict" and isinstance(beside, Mapping):
        return _swapped(beside, finder, main)
    outer = wrapper.partition(".")[0]
    if outer in _BESIDE:
        return Averages(
            f"the weights lie under {outer!r}, which is where an average (EMA) is kept; raw ones are not in "
            "the file",
            main,
            main="averaged",
        )
    for key in _BESIDE:
        found = finder.state_dict(value.get(key))
        inner = value.get(key)
        if not found and isinstance(inner, Mapping):
            found = next(
                (t for k in ("module", "state_dict", "shadow") if (t := finder.state_dict(inner.get(k)))), {}
            )
        if len(found) > 1 and key != wrapper:
            names = {name.removeprefix("module."): info for name, info in found.items()}
            matching = names if len(names.keys() & main.keys()) > len(found.keys() & main.keys()) else found
            return Averages(
                f"{key!r} holds an average (EMA) of {wrapper or 'the weights'!r}; "
                f"{counted(len(matching), 'tensor')}",
                dict(matching),
                main,
                "raw",
            )
    return _teacher(main) or _averaged_model(main) or _buffers(main) or Averages()


def _swapped(beside: Mapping[Any, Any], finder: Finder, main: Mapping[str, TensorInfo]) -> Averages:
    # mmengine EMAHook._swap_ema_state_dict exchanges the two when it saves: what is called EMA is raw.
    # Source: mmengine@0.10.7 mmengine/hooks/ema_hook.py:before_save_checkpoint.
    raw = {
        name.removeprefix("module."): info
        for name, info in finder.state_dict(beside).items()
        if name.startswith("module.")
    }
    steps = number(beside.get("steps"))
    after = f" after {counted(int(steps), 'step')}" if steps is not None and math.isfinite(steps) else ""
    return Averages(
        f"state_dict holds the averaged weights (EMA{after}), ema_state_dict['module.*'] the raw ones: "
        "mmengine's EMAHook swaps them when it saves",
        main,
        raw,
        "averaged",
    )


def _teacher(main: Mapping[str, TensorInfo]) -> Averages | None:
    teacher = {n.removeprefix("teacher."): i for n, i in main.items() if n.startswith("teacher.")}
    student = {n.removeprefix("student."): i for n, i in main.items() if n.startswith("student.")}
    if not teacher or not teacher.keys() <= student.keys():
        return None
    return Averages(
        "teacher.* has the same tensors as student.*: in mean-teacher training it is their average (EMA)",
        teacher,
        student,
    )


def _averaged_model(main: Mapping[str, TensorInfo]) -> Averages | None:
    # AveragedModel of torch (SWA, EMA) counts in `n_averaged`, its copy lies under `module`; as an attribute
    # of a LightningModule it lies beside the network. Source: torch.optim.swa_utils.AveragedModel.
    counters = [name for name in main if name.endswith(".n_averaged")]
    # A training keeps one or two; of a file with many nothing is said, so that no file takes long.
    if len(counters) > _MOST_AVERAGES:
        return None
    outers = tuple(name.removesuffix("n_averaged") for name in counters)
    # An average is one of the network, not of another average.
    others = [name for name in main if not name.startswith(outers)] if outers else []
    for outer in outers:
        inner = f"{outer}module."
        averaged = {n.removeprefix(inner): i for n, i in main.items() if n.startswith(inner)}
        first = next(iter(averaged), "")
        prefixes = [n.removesuffix(first) for n in others if first and f".{n}".endswith(f".{first}")]
        for prefix in prefixes:
            if all((own := main.get(prefix + n)) and own.shape == i.shape for n, i in averaged.items()):
                return Averages(
                    f"{outer}* is an average (torch's AveragedModel) of {prefix or 'the other tensors'}"
                    f"{'*' * bool(prefix)}; {counted(len(averaged), 'tensor')}",
                    averaged,
                    {n: main[prefix + n] for n in averaged},
                )
    return None


def _buffers(main: Mapping[str, TensorInfo]) -> Averages | None:
    # mmcv 0.x registers a buffer `ema_` + the name with dots as underscores for every parameter and exchanges
    # the two after each epoch, before checkpoints are written. Source: mmcv@1.7 mmcv/runner/hooks/ema.py.
    buffers = {name: info for name, info in main.items() if name.startswith("ema_")}
    plain = {name: info for name, info in main.items() if name not in buffers}
    raw = {n: buffers[key] for n in plain if (key := "ema_" + n.replace(".", "_")) in buffers}
    if not raw or len(raw) < len(buffers) // 2:
        return None
    return Averages(
        f"{len(raw)} ema_* buffers stand beside the weights, as mmcv's EMAHook leaves them: the plain names "
        "hold the averaged weights, the buffers the raw ones",
        plain,
        {**plain, **raw},
        "averaged",
    )
