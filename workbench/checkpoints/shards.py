"""Which files make this model? One, several parts, a shard index, or a folder with one of these."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from workbench.checkpoints.budget import Limits
from workbench.checkpoints.checkpoint_files import INDEX_ENDING
from workbench.checkpoints.opening import foreign_format

_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_PARTS = 10_000
_SINGLE = ("model.safetensors", "pytorch_model.bin")


def files_of(path: Path | str | Sequence[Path | str], limits: Limits) -> list[Path]:
    """The files to read, in order.

    Raises:
        FileNotFoundError: there is no such file, or a part is missing.
        ValueError: a folder that is no model, an index that points out of its folder.
    """
    if not isinstance(path, (str, Path)):
        files = [part for one in path for part in files_of(one, limits)]
        if not files:
            raise ValueError("no checkpoint is named")
        return files
    path = Path(path)
    if path.is_dir():
        return _in_folder(path, limits)
    if path.name.endswith(".json") and path.is_file():
        return _in_index(path, limits)
    return [path]


def index_of(folder: Path) -> Path | None:
    """The index of a folder that holds one model in parts; None of any other folder.

    The names that Hugging Face's libraries write come first; another ``*.index.json`` counts where it is the
    only one.
    """
    for name in _INDICES:
        if (folder / name).is_file():
            return folder / name
    others = sorted(folder.glob(f"*{INDEX_ENDING}"))
    return others[0] if len(others) == 1 and _names_parts(others[0]) else None


def models_in(folder: Path, endings: Sequence[str]) -> list[Path]:
    """The checkpoints of a folder, in no order; an index stands for the parts that it names.

    Args:
        folder: of a run.
        endings: of checkpoints, lower case, with their dots.

    Raises:
        FileNotFoundError: a part that an index names is missing.
        ValueError: an index points out of the folder.
    """
    indices = [path for path in folder.glob(f"*{INDEX_ENDING}") if _names_parts(path)]
    parts = {part.resolve() for index in indices for part in _in_index(index, Limits())}
    files = [path for path in folder.iterdir() if path.suffix.lower() in endings]
    return [*indices, *(path for path in files if path.resolve() not in parts)]


def _names_parts(index: Path) -> bool:
    """Whether a json has the weight_map of an index; others (of TensorFlow.js) have none."""
    if not index.is_file() or index.stat().st_size > Limits().header:
        return False
    try:
        return "weight_map" in json.loads(index.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, RecursionError):
        return False


def _in_folder(folder: Path, limits: Limits) -> list[Path]:
    if (index := index_of(folder)) is not None:
        return _in_index(index, limits)
    for name in _SINGLE:
        if (folder / name).is_file():
            return [folder / name]
    if folder.suffix == ".mlpackage":
        raise ValueError(f"{folder} is a CoreML package, which is not read; export the model to ONNX")
    if (folder / "saved_model.pb").is_file():
        raise ValueError(f"{folder} is a TensorFlow SavedModel, which is not read; export it to ONNX")
    kinds = (".pth", ".pt", ".ckpt", ".safetensors", ".onnx", ".bin", ".tar", ".pt2", ".tflite")
    found = sorted(p.name for p in folder.iterdir() if p.suffix in kinds)
    if len(found) == 1:
        return [folder / found[0]]
    listed = (
        f"it holds {len(found)} checkpoints, name one, or all if they are the parts of one model: "
        f"{', '.join(found[:4])}"
        if found
        else "it holds none"
    )
    raise ValueError(f"{folder} is a folder, not a checkpoint; {listed}")


def _in_index(index: Path, limits: Limits) -> list[Path]:
    if index.stat().st_size > limits.header:
        raise ValueError(f"{index.name}: a shard index of {index.stat().st_size} bytes is refused")
    try:
        weights = json.loads(index.read_bytes()).get("weight_map")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, RecursionError):
        weights = None
    if weights is None and (what := foreign_format(index, _head(index))):
        raise ValueError(f"{index.name} is {what}; export the model to ONNX")
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights.values()):
        raise ValueError(
            f"{index.name} is a JSON file without a weight_map; a checkpoint or shard index is needed"
        )
    folder = index.parent.resolve()
    names = list(dict.fromkeys(weights.values()))
    if len(names) > _PARTS or any(len(name) > 1000 or "\0" in name for name in names):
        raise ValueError(
            f"{index.name} names {len(names)} files, or longer names, than any model has; refused"
        )
    parts = [folder / name for name in names]
    for part in parts:
        if not belongs(part, folder):
            raise ValueError(f"{index.name} points to {part.name} outside its folder; refused")
        if not part.is_file():
            raise FileNotFoundError(f"{index.name} names {part.name}, which is missing beside it")
    if not parts:
        raise ValueError(f"{index.name} names no files")
    return parts


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1024)


def belongs(path: Path, folder: Path) -> bool:
    """A file that a model names lies in the model's folder, also once symbolic links are followed.

    The cache of huggingface_hub keeps ``snapshots/<revision>/<name>`` as links to ``blobs/<hash>`` of the
    same repository: these belong to the folder too.

    Args:
        path: the file, as the model names it below its folder.
        folder: the model's, links followed.
    """
    try:
        target = path.resolve()
    except (OSError, RuntimeError, ValueError):  # links in a circle, a NUL in the name
        return False
    if target.is_relative_to(folder):
        return True
    snapshots = next((parent for parent in folder.parents if parent.name == "snapshots"), None)
    named_inside = Path(os.path.normpath(path)).is_relative_to(folder)
    return snapshots is not None and named_inside and target.parent == snapshots.parent / "blobs"
