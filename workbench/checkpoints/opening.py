"""What is in this checkpoint? Opened without running anything; tensors stay on disk until asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from workbench.checkpoints.averages import averages_of
from workbench.checkpoints.budget import LIMITS, Budget, Limits, TooExpensive
from workbench.checkpoints.checkpoint import Checkpoint
from workbench.checkpoints.checkpoint_files import files_of, merged
from workbench.checkpoints.contents import Contents
from workbench.checkpoints.history import history_of
from workbench.checkpoints.opening import contents_of
from workbench.checkpoints.pickled_objects import Fields
from workbench.checkpoints.state_dicts import Finder, Found, common_prefix, find_state_dict
from workbench.checkpoints.tensors import Extent, TensorInfo

# Containers of tensors by name, which is all that their format says.
_NO_WRAPPERS = ("TorchScript", "torch.export", "safetensors", "ONNX", "numpy archive", "TensorFlow Lite")


def open_checkpoint(
    path: Path | str | Sequence[Path | str], *, wrapper: str = "", limits: Limits = LIMITS
) -> Checkpoint:
    """Open a checkpoint of any known format; nothing in it is executed, no tensor is read.

    Args:
        path: a file, several files that make one model, a shard index (``*.index.json``), or a folder that
            holds one model.
        wrapper: the key whose weights are meant, for files that hold several (``best_state_dict``).
        limits: what a file may ask for before it is refused.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint, or a damaged or hostile one; one sentence says what it is.
        LookupError: ONNX without the package onnx.
    """
    files = files_of(path, limits)
    opened = [_one(file, wrapper, limits) for file in files]
    return opened[0] if len(opened) == 1 else merged(opened, isinstance(path, (str, Path)))


def _one(path: Path, wrapper: str, limits: Limits) -> Checkpoint:
    budget = Budget(path.name, objects=limits.objects, nbytes=limits.text)
    contents = contents_of(path, limits, budget)
    finder = Finder(budget, limits)
    try:
        found = find_state_dict(contents.value, finder, wrapper)
        named = {name: _named(info, name) for name, info in found.tensors.items()}
        _refuse_multiplied(named, path, limits)
        kind = _format(contents, found)
        history = history_of(contents.value, contents.facts, limits.shown)
        averages = averages_of(contents.value, finder, found.wrapper, named, kind == "mmengine")
    except TooExpensive:
        raise
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    return Checkpoint(
        paths=(path, *_beside(path, named.values())),
        container=contents.container,
        format=kind,
        tensors=named,
        wrapper=found.wrapper,
        prefix=common_prefix(named),
        history=history,
        averages=replace(averages, averaged=_all_named(averages.averaged), raw=_all_named(averages.raw)),
        inert=contents.inert,
        facts=contents.facts,
        unread=found.unread,
        left=found.left,
    )


def _refuse_multiplied(tensors: Mapping[str, TensorInfo], path: Path, limits: Limits) -> None:
    """Tensors may share storages, or repeat one number; a small file must not name terabytes so.

    Raises:
        ValueError: together they name far more bytes than the file holds.
    """
    named = sum(info.nbytes for info in tensors.values() if info.storage.place is not None)
    held = path.stat().st_size
    if named > max(limits.shared * held, limits.text):
        raise ValueError(
            f"its tensors name {named:,} bytes together, which the {held:,} bytes of the file cannot hold; "
            "it is refused as a bomb"
        )


def _beside(path: Path, tensors: Iterable[TensorInfo]) -> list[Path]:
    """Other files that the tensors lie in, as ONNX keeps large weights: part of the size and of the hash."""
    places = (info.storage.place for info in tensors)
    return list(dict.fromkeys(p.path for p in places if isinstance(p, Extent) and p.path != path))


def _named(info: TensorInfo, name: str) -> TensorInfo:
    return replace(info, name=name)


def _all_named(tensors: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    return {name: _named(info, name) for name, info in tensors.items()}


def _format(contents: Contents, found: Found) -> str:
    value = contents.value
    if found.single:
        return "a single tensor, no state dict"
    if found.joined:
        return f"weights under {', '.join(repr(key[:60]) for key in found.joined[:6])}, joined"
    if contents.container in _NO_WRAPPERS:
        return contents.container
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)} values" + (f", weights under {found.wrapper!r}" * bool(found.wrapper))
    if not isinstance(value, Mapping) or isinstance(value, Fields):
        return "pickled module"
    meta = value.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    if "pytorch-lightning_version" in value:
        return "Lightning"
    if "message_hub" in value or "mmengine_version" in meta:
        return "mmengine"
    if "state_dict" in value and ("mmcv_version" in meta or ("meta" in value and "config" in meta)):
        return "mmcv 0.x"
    if "state_dict" in value and "meta" in value:
        return "OpenMMLab, published without training state"
    if found.wrapper:
        return f"training checkpoint, weights under {found.wrapper!r}"
    return "bare state dict"
