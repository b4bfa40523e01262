"""Imports mmpose 1.3.2 on today's Python; call `install` before mmpose or transformers is imported.

mmpose asks for things it hardly uses: a compiled mmcv, mmdet, torchvision, and a coco package whose wheel
breaks on numpy 2. Stand-ins are there while mmpose is imported and gone afterwards: a fake module left in
sys.modules misleads mmengine's environment report and every find_spec. Only a torchvision that cannot be
imported stays marked absent, because transformers expects ImportError and not the RuntimeError it raises.

While an untrusted config is built (`registered_only`), mmengine imports nothing and runs or loads no file
that the config names. workbench.models.mmpose.trust has checked the config before; this is the second
barrier, within mmengine itself, for what a class makes of its arguments or defaults.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import pickle
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_only: ContextVar[bool] = ContextVar("registered_only", default=False)


def published_description(name: str) -> Path | None:
    """The file in which mmpose describes a data set, by its name wherever it is said to lie; None without."""
    import mmpose

    path = Path(mmpose.__file__).parent / ".mim/configs/_base_/datasets" / Path(name).name
    return path if Path(name).name and path.is_file() else None


@contextlib.contextmanager
def registered_only(wanted: bool = True) -> Iterator[None]:
    """While the block runs, registries import nothing in this thread, and no file is run or loaded.

    Args:
        wanted: False changes nothing.
    """
    token = _only.set(wanted)
    try:
        yield
    finally:
        _only.reset(token)


def guard_mmengine() -> None:
    """Within `registered_only`, keep mmengine from importing, running or loading what a config names.

    mmengine 0.10.7: Registry.get falls back to get_object_from_string, and imports `SCOPE.registry` of any
    scope. Some of mmpose's classes run a file of a data set that lies below the present folder by default,
    `configs/_base_/datasets/coco.py`; they get the one that comes with mmpose.
    """
    registry: Any = importlib.import_module("mmengine.registry.registry")
    by_path, import_module = registry.get_object_from_string, registry.import_module

    def refusing(name: str) -> Any:
        if _only.get():
            raise KeyError(f"{name} is not registered")
        return by_path(name)

    def importing(name: str, package: str | None = None) -> Any:
        if _only.get() and name not in sys.modules:
            raise ImportError(f"{name} is not imported")
        return import_module(name, package)

    registry.get_object_from_string, registry.import_module = refusing, importing

    from mmengine.config import Config
    from mmengine.runner.checkpoint import CheckpointLoader

    run_file, load_file = Config.fromfile, CheckpointLoader.load_checkpoint

    @functools.wraps(run_file)
    def running(filename: Any, *args: Any, **named: Any) -> Any:
        if not _only.get():
            return run_file(filename, *args, **named)
        path = published_description(str(filename))
        if path is None:
            raise ValueError(f"config: the file {filename} is refused: a config that is only read runs none")
        return run_file(path, *args, **named)

    @functools.wraps(load_file)
    def loading(filename: Any, *args: Any, **named: Any) -> Any:
        if _only.get():
            raise ValueError(f"config: the file {filename} is refused: a config that is only read loads none")
        return load_file(filename, *args, **named)

    Config.fromfile = staticmethod(running)  # type: ignore[method-assign]
    CheckpointLoader.load_checkpoint = staticmethod(loading)  # type: ignore[method-assign]


# Stand-ins.


# What a broken package was seen to raise: absence, operators not registered (torchvision beside a CPU torch),
# numpy's binary interface (xtcocotools), a version assertion (mmdet), a missing shared library.
BROKEN = (ImportError, RuntimeError, ValueError, AttributeError, AssertionError, OSError)

_lock = threading.RLock()
_found: list[Compatibility] = []


@dataclass(frozen=True)
class Compatibility:
    """What was found and what stands in for it.

    Attributes:
        torchvision: ``works``, ``absent``, or ``hidden`` (installed, cannot be imported).
        xtcocotools: ``works``, or ``pycocotools`` in its place.
        mmcv_ops: ``compiled``, or ``refused``: importable, each op but nms raises NotImplementedError.
        mmdet: ``works``, or ``absent``: only the two names mmpose imports stand in while it does.
        mmpretrain: ``works``, or ``own``: workbench.models.mmpose.stand_ins under mmpretrain's name.
    """

    torchvision: str
    xtcocotools: str
    mmcv_ops: str
    mmdet: str
    mmpretrain: str


def install() -> Compatibility:
    """Import mmpose whatever of its odd requirements is missing or broken; the second call does nothing.

    Raises:
        ImportError: mmpose, mmengine or mmcv itself is missing or broken.
    """
    with _lock:
        if not _found:
            _found.append(_install())
        return _found[0]


def hide_broken_torchvision() -> str:
    """Mark a torchvision that cannot be imported as absent: ``works``, ``absent`` or ``hidden``."""
    with _lock:
        if sys.modules.get("torchvision", ...) is None:
            return "hidden"
        if not _installed("torchvision"):
            return "absent"
        if _works("torchvision.transforms"):
            return "works"
        _forget("torchvision")
        sys.modules["torchvision"] = None  # type: ignore[assignment]
        # Where transformers came first it remembers a torchvision that is installed.
        asked = sys.modules.get("transformers.utils.import_utils")
        for name in ("_is_package_available", "is_torchvision_available", "is_torchvision_v2_available"):
            getattr(getattr(asked, name, None), "cache_clear", lambda: None)()
        return "hidden"


def _install() -> Compatibility:
    # mmengine 0.10.7 asks pkg_resources at every turn; it is there, the pin on setuptools sees to that.
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
    stand_ins: dict[str, types.ModuleType] = {}
    torchvision = hide_broken_torchvision()
    if torchvision != "works":
        stand_ins |= _torchvision()
    xtcocotools = "works" if _works("xtcocotools._mask") else "pycocotools"
    if xtcocotools != "works":
        _forget("xtcocotools")
        stand_ins |= _xtcocotools()
    mmcv_ops = _import_mmcv_ops()
    mmdet = "works" if _installed("mmdet") and _works("mmdet.utils") else "absent"
    if mmdet != "works":
        _forget("mmdet")
        stand_ins |= _mmdet()
    with _standing(stand_ins):
        # All that import a stand-in, now: later imports would meet the real thing, or nothing.
        for part in ("apis", "codecs", "datasets", "engine", "evaluation", "models", "visualization"):
            importlib.import_module(f"mmpose.{part}")
    mmpretrain = "works" if _installed("mmpretrain") and _works("mmpretrain.models") else "own"
    if mmpretrain == "own":
        _forget("mmpretrain")
        _register_vit()
    guard_mmengine()
    _let_torch_read_runner_checkpoints()
    return Compatibility(torchvision, xtcocotools, mmcv_ops, mmdet, mmpretrain)


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # a parent is missing; a module without a spec
        return False


def _works(name: str) -> bool:
    try:
        importlib.import_module(name)
    except BROKEN:
        return False
    return True


def _forget(root: str) -> None:
    """Drop the halves that a failed import leaves behind."""
    # A copy: another thread may be importing.
    for name in [n for n in list(sys.modules) if n == root or n.startswith(f"{root}.")]:
        sys.modules.pop(name, None)


@contextlib.contextmanager
def _standing(stand_ins: Mapping[str, types.ModuleType]) -> Iterator[None]:
    """Stand-ins in sys.modules while the block runs; before and after, what was there."""
    before = {name: sys.modules[name] for name in stand_ins if name in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            sys.modules.pop(name, None)
        sys.modules.update(before)


def _package(name: str, **modules: Mapping[str, Any]) -> dict[str, types.ModuleType]:
    """A package of modules that hold the given names, as sys.modules wants it."""
    package = types.ModuleType(name)
    package.__path__ = []
    made = {name: package}
    for part, names in modules.items():
        module = types.ModuleType(f"{name}.{part}")
        vars(module).update(names)
        setattr(package, part, module)
        made[f"{name}.{part}"] = module
    return made


def _torchvision() -> dict[str, types.ModuleType]:
    class ToPILImage:
        """What mmpose's SimCC visualiser calls: a [C, H, W] tensor in 0..1 as a PIL image."""

        def __call__(self, picture: Any) -> Any:
            from PIL import Image

            pixels = picture.detach().cpu().mul(255).byte().permute(1, 2, 0).numpy()
            return Image.fromarray(pixels.squeeze())

    return _package("torchvision", transforms={"ToPILImage": ToPILImage})


def _xtcocotools() -> dict[str, types.ModuleType]:
    import pycocotools.mask

    from workbench.models.mmpose import stand_ins as own

    return _package(
        "xtcocotools",
        coco={"COCO": own.COCO},
        cocoeval={"COCOeval": own.COCOeval, "Params": own.Params},
        mask=vars(pycocotools.mask),
    )


def _mmdet() -> dict[str, types.ModuleType]:
    from mmengine.config import ConfigDict

    def reduce_mean(tensor: Any) -> Any:
        from mmpose.utils.dist_utils import reduce_mean as own

        return own(tensor)

    return _package("mmdet", utils={"ConfigType": ConfigDict | dict, "reduce_mean": reduce_mean})


def _import_mmcv_ops() -> str:
    """Import mmcv.ops; with mmcv-lite all but nms raise when called, not when imported."""
    if _installed("mmcv._ext"):
        importlib.import_module("mmcv.ops")
        return "compiled"

    def refuse(name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def operation(*_: Any, **__: Any) -> Any:
            raise NotImplementedError(f"mmcv op {name!r}: mmcv-lite has none; install the full mmcv")

        return operation

    from workbench.models.mmpose.stand_ins import nms

    extension = types.ModuleType("mmcv._ext")
    vars(extension)["nms"] = nms  # what mmdet's RTMDet and YOLOX need to run at all
    extension.__getattr__ = refuse  # type: ignore[method-assign]
    # Gone right after: mmengine asks pkgutil whether `mmcv._ext` is there, and trips over one without a spec.
    with _standing({"mmcv._ext": extension}):
        importlib.import_module("mmcv.ops")
    vars(sys.modules["mmcv"]).pop("_ext", None)
    return "refused"


def _register_vit() -> None:
    """Make ``type='mmpretrain.VisionTransformer'`` of ViTPose configs build, and the heads of Sapiens'."""
    from mmengine.registry import MODELS, Registry

    from workbench.models.mmpose.stand_ins import VisionTransformer
    from workbench.models.vitpose.mmpose_head import register_sapiens_head

    child = MODELS.children.get("mmpretrain") or Registry("model", parent=MODELS, scope="mmpretrain")
    child.register_module(name="VisionTransformer", module=VisionTransformer, force=True)
    register_sapiens_head()


def _let_torch_read_runner_checkpoints() -> None:
    """Let torch.load's safe mode read what mmengine's Runner writes, so that training can resume.

    The pickles call `getattr` on HistoryBuffer; it is given a getattr that knows that class alone, since the
    real one would open every door. Opening unknown files is workbench.checkpoints' task, not torch.load's.
    """
    import torch
    from mmengine.logging import HistoryBuffer

    core = importlib.import_module(
        "numpy._core.multiarray" if _installed("numpy._core") else "numpy.core.multiarray"
    )
    safe: list[Any] = [HistoryBuffer, np.ndarray, np.dtype, (_getattr_of_history, "builtins.getattr")]
    for written_by in ("numpy.core.multiarray", "numpy._core.multiarray"):  # numpy 1 and numpy 2
        safe += [(getattr(core, name), f"{written_by}.{name}") for name in ("_reconstruct", "scalar")]
    dtypes = importlib.import_module("numpy.dtypes")
    safe += [getattr(dtypes, name) for name in dir(dtypes) if name.endswith("DType")]
    torch.serialization.add_safe_globals(safe)


def _getattr_of_history(owner: Any, name: str) -> Any:
    from mmengine.logging import HistoryBuffer

    if owner is HistoryBuffer and name in ("current", "max", "mean", "min"):
        return getattr(owner, name)
    raise pickle.UnpicklingError(f"a checkpoint asked for attribute {name!r} of {owner!r}; refused")
