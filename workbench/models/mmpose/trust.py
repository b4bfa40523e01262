"""Restrictions on what a config may build: any config but the user's own builds classes that open no file.

A config inside or beside a checkpoint is untrusted. It is only read, but mmengine's registries import
whatever dotted path stands under `type`, and some registered classes open the files that they are given. So a
config is untrusted unless it is an OwnConfig, and only `run_config` makes one.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from workbench.core import nearest

if TYPE_CHECKING:
    from mmengine.registry import Registry

MODEL = ("MODELS", "KEYPOINT_CODECS", "TASK_UTILS", "WEIGHT_INITIALIZERS")
"""mmpose's registries that a model's config is built from."""
TRAINING = ("OPTIMIZERS", "OPTIM_WRAPPERS", "OPTIM_WRAPPER_CONSTRUCTORS", "PARAM_SCHEDULERS")
"""Registries of optimizers and schedules."""
PIPELINE = ("TRANSFORMS", "KEYPOINT_CODECS")
"""Registries of the steps of a data pipeline."""

# Packages whose classes may be built: a registry also holds what the user's own code registered.
_PACKAGES = (
    "torch.nn.",
    "torch.optim.",
    "mmcv.cnn.",
    "mmcv.ops.",
    "mmcv.transforms.",
    "mmengine.model.",
    "mmengine.optim.",
    "mmengine.utils.dl_utils.",
    "mmpose.models.",
    "mmpose.codecs.",
    "mmpose.datasets.transforms.",
    "mmpose.engine.",
    # Of mmpretrain this one, which the stock ViTPose configs name; the others have not been reviewed.
    "mmpretrain.models.backbones.vision_transformer",
    "workbench.models.",
)
FILE_TAKING: dict[str, str] = {
    "DWPoseDistiller": "it runs the configs that it names and loads their checkpoints",
    "Albumentation": "it calls any function of albumentations by name, some of which open files",
    "LoadTextEmbeddings": "it opens the files that it names",
    "ZeroRedundancyOptimizer": "it calls any function of torch.optim by name",
    "LoadImage": "it opens what a file client of the config's choice finds",
    "LoadImageFromFile": "it opens what a file client of the config's choice finds",
    "LoadAnnotations": "it opens what a file client of the config's choice finds",
}
"""Registered classes that an untrusted config may not name -> why."""
_REGISTRIES = ("mmpose", "mmengine", "mmpretrain")
# `_scope_` may name these: registries fall back to mmpose's where the package is not imported.
_SCOPES = (*_REGISTRIES, "mmcv", "mmdet", "mmcls")
# A few characters can ask for gigabytes of first weights, so a model is bounded by the file that it belongs
# to. A wrong config shall still end in a load report, hence twice as many parameters, and some more.
_TIMES, _MORE = 2, 50_000_000
ALONE = 400_000_000
"""Most parameters of a model from an untrusted config without a checkpoint; ViT-L has 310 million."""
# The largest of mmpose has a few thousand. Parameters count as well: a class may build a list of layers
# first, and register them together.
_MODULES = 20_000
_NUMBER = 10_000_000
# Numbers in one tensor that is made on the way: as many are always allowed.
_FEW = 1_000_000
# Numbers of layers or stages, of which some classes make lists before they make a layer.
_COUNTS = ("depth", "num_layers", "num_stages", "num_stacks", "num_blocks")
_INFO = ("keypoint_info", "skeleton_info")
_HALVES = ("upper", "lower", "")


class OwnConfig(dict[str, Any]):
    """A config that the user named themselves: it was run, and may name their own code.

    A dictionary made from it (``{**config}``) is an ordinary one, and untrusted; see `changed`.
    """


def changed(config: Mapping[str, Any], **parts: Any) -> dict[str, Any]:
    """The config with some top-level entries changed; an OwnConfig stays one.

    Args:
        config: not changed.
        parts: name -> new value.
    """
    kind = OwnConfig if isinstance(config, OwnConfig) else dict
    return kind({**config, **parts})


def allowed(part: Any, where: str, registries: tuple[str, ...] = MODEL) -> Any:
    """A copy of an untrusted config that builds nothing but registered classes and opens no file.

    Weights that it would fetch from elsewhere are left out, and descriptions of data sets that come with
    mmpose take the place of files of that name, as mmpose itself does it.

    Args:
        part: what stands in the config; dictionaries, lists and tuples are looked through at any depth.
        where: its place, for the error: ``model``.
        registries: names of mmpose's registries that its types may come from.

    Raises:
        ValueError: a type that is not allowed, or a file that does not come with mmpose; says where it is.
    """
    if isinstance(part, Mapping):
        if "type" in part:
            _checked_type(part["type"], where, registries)
        if (scope := part.get("_scope_")) is not None and scope not in _SCOPES:
            raise ValueError(f"config: {where}._scope_ = {scope!r}: expected one of {', '.join(_SCOPES)}")
        return {
            key: _entry(key, value, f"{where}.{key}", registries)
            for key, value in part.items()
            if not _is_pretrained(value)
        }
    if isinstance(part, (list, tuple, set, frozenset)):
        parts = [
            allowed(value, f"{where}[{n}]", registries)
            for n, value in enumerate(part)
            if not _is_pretrained(value)
        ]
        return type(part)(parts)
    if isinstance(part, int) and abs(part) > _NUMBER:
        raise ValueError(f"config: {where} = {part}: a number of this size is refused")
    if part is None or isinstance(part, (str, int, float, bytes)):
        return part
    raise ValueError(f"config: {where} is a {type(part).__name__}; expected text, numbers, lists and dicts")


def without_pretrained(value: Any) -> Any:
    """A copy of a config without the weights that it would fetch from elsewhere."""
    if isinstance(value, Mapping):
        return {
            key: None if key == "pretrained" and isinstance(part, str) else without_pretrained(part)
            for key, part in value.items()
            if not _is_pretrained(part)
        }
    if isinstance(value, (list, tuple)):
        return type(value)(without_pretrained(part) for part in value if not _is_pretrained(part))
    return value


def most_parameters(in_file: int) -> int:
    """The number of parameters that a model may have.

    Args:
        in_file: numbers that its checkpoint holds.
    """
    return _TIMES * in_file + _MORE


@contextlib.contextmanager
def bounded(most: int = ALONE) -> Iterator[None]:
    """Refuse, in this thread, to build a model that is too large for its checkpoint.

    Args:
        most: largest number of parameters, and of numbers in buffers.

    Raises:
        ValueError: it grew beyond, or has more modules than any pose network; said before the memory is used.
    """
    from torch.nn.modules import module as torch_module

    mine, modules, numbers = threading.get_ident(), 0, {"parameters": 0, "numbers in buffers": 0}

    def count_one() -> None:
        nonlocal modules
        modules += 1
        if modules > _MODULES:
            raise ValueError(f"config: a model of more than {_MODULES:,} modules is refused")

    def count(kind: str, tensor: Any) -> None:
        if tensor is not None and threading.get_ident() == mine:
            numbers[kind] += tensor.numel()
            if numbers[kind] > most:
                raise ValueError(
                    f"config: a model of more than {most:,} {kind} is refused, as its checkpoint holds far "
                    "fewer or is absent; if you trust it, name it with --config"
                )

    def count_parameters(_module: Any, name: str, parameter: Any) -> None:
        if name == "weight" and threading.get_ident() == mine:
            count_one()
        count("parameters", parameter)

    def count_buffers(_module: Any, _name: str, buffer: Any) -> None:
        count("numbers in buffers", buffer)

    def count_modules(_module: Any, _name: str, _part: Any) -> None:
        if threading.get_ident() == mine:
            count_one()

    hooks = (
        torch_module.register_module_parameter_registration_hook(count_parameters),
        torch_module.register_module_buffer_registration_hook(count_buffers),
        torch_module.register_module_module_registration_hook(count_modules),
    )
    try:
        with _bounded_tensors(most):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _bounded_tensors(most: int) -> contextlib.AbstractContextManager[Any]:
    """Refuse, in this thread, tensors that are made on the way to a parameter or buffer and are too large.

    A Swin transformer adds two vectors to a table of window_size**4 numbers before it registers it, and a
    PVT makes a list of as many numbers as it is to have layers.
    """
    from torch.overrides import TorchFunctionMode

    class Bounded(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = getattr(func, "__name__", "")
            wanted = _numbers_made(name, args, kwargs or {})
            if wanted > max(most, _FEW):
                raise ValueError(
                    f"config: a model that makes {wanted:,} numbers at once is refused, as its checkpoint "
                    "holds far fewer or is absent; if you trust it, name it with --config"
                )
            if name in ("__iter__", "unbind", "tolist") and max(args[0].shape, default=0) > _MODULES:
                raise ValueError(f"config: a model of more than {_MODULES:,} layers is refused")
            return func(*args, **(kwargs or {}))

    return Bounded()


# Not zeros and empty: their memory is taken when it is written to, after they were counted as parameters.
_FILLED = ("ones", "full", "rand", "randn", "normal")


def _numbers_made(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """How many numbers a function of torch will make: of two tensors, or of sizes; 0 if it does not say."""
    import torch

    shapes = [one.shape for one in args if isinstance(one, torch.Tensor)]
    numbers = [one for one in args if isinstance(one, (int, float))]
    if len(shapes) > 1:
        try:
            return math.prod(torch.broadcast_shapes(*shapes))
        except RuntimeError:  # no addition or the like
            return 0
    if name == "linspace":
        return int(kwargs.get("steps", numbers[-1] if len(numbers) > 2 else 0))
    if name == "arange" and numbers:
        begin, end, step = (*((0, *numbers) if len(numbers) == 1 else numbers), 1, 1)[:3]
        return int(abs((end - begin) / step)) if step else 0
    if name in _FILLED:
        size = kwargs.get("size", args[0] if args and isinstance(args[0], (tuple, list)) else numbers)
        return math.prod(int(n) for n in size) if isinstance(size, (tuple, list)) else 0
    return 0


def _entry(key: Any, value: Any, where: str, registries: tuple[str, ...]) -> Any:
    if key == "pretrained" and isinstance(value, str):
        return None
    if key in ("metainfo", "from_file") and isinstance(value, str):
        return _published(value, where)
    if key in _COUNTS and isinstance(value, (int, float)) and value > _MODULES:
        raise ValueError(f"config: {where} = {value}: a model of more than {_MODULES:,} layers is refused")
    if key in _INFO and isinstance(value, Mapping) and "type" not in value:
        return {name: _described(part, f"{where}.{name}", registries) for name, part in value.items()}
    return allowed(value, where, registries)


def _described(part: Any, where: str, registries: tuple[str, ...]) -> Any:
    """A keypoint or limb of a description, whose `type` is a half of the body and no class.

    Any other `type` is checked: a class may build what stands under this key, as CombinedLoss does.
    """
    if isinstance(part, Mapping) and part.get("type") in _HALVES:
        rest = {key: value for key, value in part.items() if key != "type"}
        return {**allowed(rest, where, registries), "type": part["type"]}
    return allowed(part, where, registries)


def _checked_type(kind: Any, where: str, registries: tuple[str, ...]) -> None:
    if not isinstance(kind, str):
        raise ValueError(f"config: {where}.type is a {type(kind).__name__}, expected the name of a class")
    scope, dot, name = kind.partition(".")
    scope, name = (scope, name) if dot else ("", kind)
    known = _registered(registries)
    found = [
        registry.module_dict[name]
        for registry in known
        if name in registry.module_dict and scope in ("", registry.scope)
    ]
    foreign = [one for one in found if not _is_known(one)]
    if found and not foreign and name not in FILE_TAKING:
        return
    if name in FILE_TAKING and found:
        why = FILE_TAKING[name]
    elif foreign:
        why = f"it is a class of {foreign[0].__module__}"
    elif scope not in ("", *_REGISTRIES):
        why = "it is the path of an import, and nothing is imported for it"
    else:
        names = {entry for registry in known for entry in registry.module_dict}
        why = f"no such class of mmpose, mmcv, mmengine or torch.nn (nearest: {nearest(name, names)})"
    raise ValueError(
        f"config: {where}.type = {kind[:200]!r} is refused: {why}. A config that came with a checkpoint may "
        "only name registered classes that touch no file; if you trust it, name it with --config"
    )


def _is_known(found: Any) -> bool:
    module = getattr(found, "__module__", "")
    return isinstance(found, type) and f"{module}.".startswith(_PACKAGES)


@cache
def _registered(names: tuple[str, ...]) -> tuple[Registry, ...]:
    """The registries of those names: mmpose's, mmengine's and those of other packages."""
    from workbench.models.mmpose_compat import install

    install()
    import mmpose.registry

    found: list[Registry] = []
    for name in names:
        own: Registry = getattr(mmpose.registry, name)
        own.import_from_location()
        parent = own.parent
        found += [own] if parent is None else [own, parent, *parent.children.values()]
    return tuple(dict.fromkeys(registry for registry in found if registry.scope in _REGISTRIES))


def _is_pretrained(value: Any) -> bool:
    """Whether it asks for weights of another file; mmengine knows the class by two names."""
    kind = value.get("type") if isinstance(value, Mapping) else None
    return isinstance(kind, str) and kind.rpartition(".")[2] in ("Pretrained", "PretrainedInit")


def _published(name: str, where: str) -> str:
    """The file of that name that comes with mmpose."""
    from workbench.models.mmpose_compat import published_description

    path = published_description(name)
    if path is None:
        raise ValueError(
            f"config: {where} = {name[:200]!r} is refused: mmpose describes no data set in a file of "
            "this name, and other files are read only for a config named with --config"
        )
    return str(path)
