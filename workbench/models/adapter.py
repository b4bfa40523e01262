"""Family adapter: a user's own model, through a Python file of their own that is run.

The file defines one function. What it returns has the members of workbench.core.PoseModel;
workbench.models.TopDown makes such a model of any network that sees one crop at a time::

    from workbench.checkpoints.loading import load_state
    from workbench.models import TopDown
    from workbench.core import Codec
    from workbench.skeletons import SKELETONS

    def load(checkpoint, device):
        net = MyNet().eval()
        report = load_state(net, checkpoint)
        codec = Codec("heatmap", input_size=(256, 192), output_size=(64, 48), decoder="quarter")
        return TopDown(net.to(device), SKELETONS["coco-17"], codec, device=device), report

`load` may leave the report out; then nothing is known of how much of the file went into the model. Whatever
the user's code raises is reported as one sentence with the line of their file.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from typing_extensions import get_protocol_members

from workbench.core import (
    Batch,
    Conditioned,
    DecodeOptions,
    Groups,
    Outputs,
    Passed,
    PoseModel,
    Prediction,
    Sample,
)
from workbench.core.capabilities import CAPABILITIES
from workbench.core.errors import errors_of_user_code
from workbench.core.files import require_file
from workbench.core.job import Version, version_of
from workbench.core.report import counted
from workbench.core.wrapping import Wrapper
from workbench.models.bottom_up import BottomUp
from workbench.models.conditioning import checked_conditioning, with_current_names
from workbench.models.families import Family
from workbench.models.opening import Opening

if TYPE_CHECKING:
    from workbench.checkpoints.loading import LoadReport


# The user's model, with errors that name the line.


# Members of capabilities whose results are checked, as those of PoseModel are.
_RETURNED: dict[str, type] = {
    "all_passes": Outputs,
    "training_pass": Passed,
    "predict_pass": Passed,
    "with_condition": Batch,
}


@dataclass(frozen=True, eq=False)
class OwnModel(Wrapper):
    """A user's model, with all of its capabilities; what fails in it is reported with file and line.

    Attributes:
        model: what the user's `load` returned.
        path: the user's file.
        film: of a Conditioned model, the tap whose layer outputs γ and β, where the command line names one.
    """

    model: Any
    path: Path
    film: str = ""

    @classmethod
    def inner_capabilities(cls, model: Any) -> frozenset[type]:
        """The capabilities of the user's model, whose class may make its members in ways of its own."""
        return frozenset(
            kind for kind in CAPABILITIES if all(hasattr(model, name) for name in get_protocol_members(kind))
        )

    def forwarded(self, name: str) -> Any:
        """A member of a capability; calls into the user's code are guarded."""
        value = getattr(self.model, name)
        if name == "conditioning" and self.film:
            return dataclasses.replace(value, film=self.film)
        if not callable(value):
            return value

        def guarded(*arguments: Any, **named: Any) -> Any:
            return self._called(name, _RETURNED.get(name, object), *arguments, **named)

        return guarded

    def with_film(self, tap: str) -> OwnModel:
        """The same model with this tap as its layer of γ and β."""
        return dataclasses.replace(self, film=tap)

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """What the user's model makes of samples."""
        return self._called("prepare", Batch, samples)

    def forward(self, batch: Batch) -> Outputs:
        """The outputs of the user's network."""
        return self._called("forward", Outputs, batch)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """What the user's model reads off its outputs, one prediction for each sample.

        Args:
            outputs: of `forward`.
            batch: that was passed.
            options: decoder and score.

        Raises:
            ValueError: it raised something, or gave no prediction for each sample.
        """
        found = tuple(self._called("decode", (tuple, list), outputs, batch, options))
        wrong = [f for f in found if not isinstance(f, Prediction)]
        if wrong or len(found) != len(batch):
            kind = type(wrong[0]).__name__ if wrong else "Prediction"
            raise ValueError(
                f"{self.path}: decode gave {len(found)} {kind} for {counted(len(batch), 'sample')}"
            )
        return found

    def _called(self, method: str, wanted: Any, *arguments: Any, **named: Any) -> Any:
        # What the workbench says of a model's outputs is of no line of the user's file.
        with errors_of_user_code(self.path, first_line=None):
            given = getattr(self.model, method)(*arguments, **named)
        if not isinstance(given, wanted):
            expected = "a tuple of Prediction" if isinstance(wanted, tuple) else wanted.__name__
            raise ValueError(f"{self.path}: {method} returned {type(given).__name__}, expected {expected}")
        return given


# The family.


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

    Args:
        opening: with the path of the user's file; its checkpoint may be None.

    Returns:
        the model and its load report; None where the user's `load` gave none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it raised something, has no `load`, or returned what is no model; with file and line.

    Example:
        >>> from pathlib import Path
        >>> from workbench.models import open_model
        >>> _ = Path("my_model.py").write_text('''
        ... from torch import nn
        ... from workbench.core import Codec, Skeleton
        ... from workbench.models import TopDown
        ...
        ... def load(checkpoint, device):
        ...     codec = Codec("heatmap", input_size=(64, 48), output_size=(16, 12), decoder="quarter")
        ...     return TopDown(nn.Conv2d(3, 2, 4, 4), Skeleton("two", ("nose", "tail")), codec, device=device)
        ... ''')
        >>> open_model(None, adapter="my_model.py").model.skeleton.keypoints
        ('nose', 'tail')
    """
    from workbench.checkpoints.loading import LoadReport

    path = opening.adapter
    if path is None:
        raise ValueError("family adapter: pass --adapter with your own Python file")
    make = _function(path)
    checkpoint = opening.checkpoint
    if checkpoint is not None and opening.remap:
        checkpoint = dataclasses.replace(checkpoint, remap=True)
    with errors_of_user_code(path.resolve()):
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
    """The model, wrapped so that errors in the user's code name file and line.

    Args:
        model: what the user's `load` returned.
        path: the user's file.

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
    with errors_of_user_code(path.resolve()):
        try:
            own = OwnModel(with_current_names(model), path.resolve())
            if isinstance(own, Conditioned):
                checked_conditioning(own)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    if hasattr(model, "group") and not isinstance(own, Groups):
        absent = [name for name in _OF_GROUPING if not hasattr(model, name)]
        raise ValueError(
            f"{path}: {type(model).__name__} has `group`, as a bottom-up model has, and lacks "
            f"{', '.join(absent)}; see workbench.core.Groups, or return workbench.models.bottom_up.BottomUp"
        )
    return own


def _own_bottom_up(model: BottomUp, path: Path) -> BottomUp:
    """The same, still a BottomUp whose rules can be changed; errors of the user's code name its line."""
    kind = type(model)

    def guarded(name: str) -> Callable[..., Any]:
        method = getattr(kind, name)

        @functools.wraps(method)
        def with_named_errors(*arguments: Any, **named: Any) -> Any:
            with errors_of_user_code(path):
                return method(*arguments, **named)

        return with_named_errors

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
    """The user's file as a module under a unique name, read again at every call because it may be edited.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it raised something while it was imported.
    """
    require_file(path, f"no adapter {path}")
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
    _forget_edited(folder)
    before = set(sys.modules)
    if added:
        sys.path.insert(0, folder)
    try:
        with errors_of_user_code(path):
            spec.loader.exec_module(module)
    finally:
        if added:
            sys.path.remove(folder)
        _remember(folder, set(sys.modules) - before - {name})
    return module


_BESIDE: dict[str, dict[str, tuple[ModuleType, Version]]] = {}
"""Folder of an adapter -> name -> a module in it that the adapter imported, and the version of its file."""


def _remember(folder: str, names: set[str]) -> None:
    """Remember modules that lie in a folder, to import them again when one of them is edited."""
    for name in names:
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if module is not None and file is not None and Path(file).resolve().is_relative_to(folder):
            with contextlib.suppress(OSError):
                _BESIDE.setdefault(folder, {})[name] = module, version_of(Path(file))


def _forget_edited(folder: str) -> None:
    """Drop an adapter's modules where one was edited: the others may hold what they imported from it.

    Modules of another adapter's folder are dropped where this folder has one of the same name.
    """
    known = _BESIDE.get(folder, {})

    def edited(version: Version) -> bool:
        try:
            return version_of(Path(version[0])) != version
        except OSError:
            return True

    dropped = list(known.items()) if any(edited(version) for _, version in known.values()) else []
    for other, modules in _BESIDE.items():
        for name, entry in modules.items() if other != folder else ():
            top = Path(folder, name.partition(".")[0])
            dropped += [(name, entry)] if top.is_dir() or top.with_suffix(".py").is_file() else []
    for name, (module, _) in dropped:
        if sys.modules.get(name) is module:
            del sys.modules[name]
    importlib.invalidate_caches()


FAMILY = Family(
    name="adapter", summary="your own model, through a Python file of yours", load=load, takes_adapter=True
)
