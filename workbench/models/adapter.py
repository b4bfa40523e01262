"""Family adapter: a user's own model, through a Python file of their own that is run.

The file defines one function. What it returns speaks workbench.core.PoseModel; workbench.models.TopDown
makes such a model of any network that sees one crop at a time::

    from workbench.checkpoints.loading import load_state
    from workbench.models import TopDown
    from workbench.core import Codec
    from workbench.skeletons import SKELETONS

    def load(checkpoint, device):
        net = MyNet().eval()
        report = load_state(net, checkpoint)
        codec = Codec("heatmap", input_size=(256, 192), output_size=(64, 48), decoder="quarter")
        return TopDown(net.to(device), SKELETONS["coco-17"], codec, device=device), report

`load` may leave the report out; then nobody has counted what of the file went into the model.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from workbench.core import Conditioned, Groups, PoseModel, nearest
from workbench.models.bottom_up import BottomUp
from workbench.models.opening import Opening
from workbench.models.own_code import own_code
from workbench.models.own_model import OwnModel

if TYPE_CHECKING:
    from workbench.checkpoints.loading import LoadReport

_NEEDED = {
    "module": "the network, a torch.nn.Module",
    "skeleton": "a workbench.core.Skeleton",
    "taps": "a dict, public name -> module path; {} will do",
    "codec": "a workbench.core.Codec, or None",
    "prepare": "prepare(samples) -> Batch",
    "forward": "forward(batch) -> Outputs",
    "decode": "decode(outputs, batch, options) -> predictions",
}

_OF_GROUPING = ("aggregation", "grouping", "all_passes", "maps", "group")


def load(opening: Opening) -> tuple[PoseModel, LoadReport | None]:
    """The model that the user's file makes of the checkpoint.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it raised something, has no `load`, or returned what is no model; with file and line.
    """
    from workbench.checkpoints.loading import LoadReport

    path = opening.adapter
    if path is None:
        raise ValueError("family adapter: pass --adapter with your own Python file")
    make = _function(path)
    checkpoint = opening.checkpoint
    if checkpoint is not None and opening.remap:
        checkpoint = dataclasses.replace(checkpoint, remap=True)
    with own_code(path.resolve()):
        made = make(checkpoint, opening.device)
    model, report = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if report is not None and not isinstance(report, LoadReport):
        raise ValueError(
            f"{path}: load returned {type(report).__name__} beside the model; expected the LoadReport of "
            "workbench.checkpoints.loading.load_state"
        )
    if report is None and checkpoint is not None and checkpoint.remap:
        raise ValueError(
            f"{path}: --remap reaches an adapter through load_state, and its load returned no report; fill "
            "the network with workbench.checkpoints.loading.load_state(net, checkpoint) and return the report"
        )
    return checked(model, path), report


def checked(model: Any, path: Path) -> PoseModel:
    """The model, its own errors told with file and line.

    Raises:
        ValueError: it lacks something of the protocol; the message lists what.
    """
    lacking = [f"{name} ({what})" for name, what in _NEEDED.items() if not hasattr(model, name)]
    if lacking:
        raise ValueError(
            f"{path}: load returned {type(model).__name__}, which lacks {', '.join(lacking)}; "
            "see workbench.core.PoseModel, or return workbench.models.TopDown(...)"
        )
    if not hasattr(model.module, "named_modules"):
        raise ValueError(f"{path}: module is {type(model.module).__name__}, expected a torch.nn.Module")
    parts = {name for name, _ in model.module.named_modules()}
    if wrong := [f"{tap!r} -> {place!r}" for tap, place in model.taps.items() if place not in parts]:
        raise ValueError(f"{path}: taps that lead nowhere: {', '.join(wrong)}")
    if isinstance(model, BottomUp):
        return _own_bottom_up(model, path.resolve())
    with own_code(path.resolve()):
        own = OwnModel(model, path.resolve())
    if isinstance(own, Conditioned):
        _check_text_taps(model, path)
    if hasattr(model, "group") and not isinstance(own, Groups):
        absent = [name for name in _OF_GROUPING if not hasattr(model, name)]
        raise ValueError(
            f"{path}: {type(model).__name__} has `group`, as a bottom-up model has, and lacks "
            f"{', '.join(absent)}; see workbench.core.Groups, or return "
            "workbench.models.bottom_up.BottomUp"
        )
    return own


def _check_text_taps(model: Any, path: Path) -> None:
    taps = model.text_taps
    if not isinstance(taps, Mapping):
        raise ValueError(f"{path}: text_taps is {type(taps).__name__}, expected a dict, role -> tap")
    for role, tap in taps.items():
        if role not in ("neck", "film") or tap not in model.taps:
            raise ValueError(
                f"{path}: text_taps: expected neck and film, each with the name of a tap, got {role!r}: "
                f"{tap!r}; nearest: {nearest(str(tap), model.taps)}"
            )


def _own_bottom_up(model: BottomUp, path: Path) -> BottomUp:
    """The same, still a BottomUp whose rules can be changed; errors of the user's code name its line."""
    kind = type(model)

    def guarded(name: str) -> Callable[..., Any]:
        method = getattr(kind, name)

        @functools.wraps(method)
        def told(*arguments: Any, **named: Any) -> Any:
            with own_code(path):
                return method(*arguments, **named)

        return told

    # `forward` and `all_passes` call the user's network; the others are theirs where their class has its own.
    names = [
        name
        for name in (*_OF_GROUPING, "prepare", "forward", "decode")
        if name in ("forward", "all_passes")
        or (callable(getattr(kind, name, None)) and getattr(kind, name) is not getattr(BottomUp, name))
    ]
    twin = copy.copy(model)
    own = type(
        kind.__name__, (kind,), {name: guarded(name) for name in names} | {"__module__": kind.__module__}
    )
    object.__setattr__(twin, "__class__", own)
    return twin


def _function(path: Path) -> Callable[..., Any]:
    module = imported(path)
    if not callable(getattr(module, "load", None)):
        raise ValueError(f"{path}: expected a function load(checkpoint, device), found none")
    return module.load


def imported(path: Path) -> ModuleType:
    """The user's file as a module of its own name, read anew every time: they are about to edit it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it raised something while it was imported.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no adapter {path}")
    path = path.resolve()
    # Two adapters called model.py must not meet in sys.modules.
    name = f"workbench_adapter_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path}: expected a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    # Classes look their module up by name, for pickling and for dataclasses.
    sys.modules[name] = module
    folder = str(path.parent)
    # Their imports of what lies beside the file work, as they do when Python runs it.
    added = folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        with own_code(path):
            spec.loader.exec_module(module)
    finally:
        if added:
            sys.path.remove(folder)
    return module
