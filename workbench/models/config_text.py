"""The text that an mmpose config names: sentence vectors, of the built-in text or of files beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from workbench.core import NotAvailable
from workbench.core.files import resolved
from workbench.models.mmpose.trust import OwnConfig
from workbench.text.vectors import TextVectors, builtin_text, plain_vectors, read_text

_LOADER = "LoadTextEmbeddings"
# What a user puts beside a checkpoint whose config names no text that is here.
BESIDE = "text.npz"
_DATA = ("train_dataloader", "val_dataloader", "test_dataloader")


def text_of_config(config: Mapping[str, Any], folder: Path | None, keypoints: tuple[str, ...]) -> TextVectors:
    """The text that a config names, else text.npz beside the checkpoint.

    Args:
        config: the whole config.
        folder: where files that it names may lie, and text.npz when none of them does; None allows only
            built-in text.
        keypoints: names of the rows of vectors without names.

    Raises:
        NotAvailable: the config names none, or one that is not below these folders.
        FileNotFoundError: no such file.
    """
    folders = () if folder is None else (folder,)
    if folders and isinstance(config, OwnConfig):
        folders += (Path.cwd(),)
    try:
        return _text(config, folders, keypoints)
    except (NotAvailable, FileNotFoundError):
        if folder is not None and (folder / BESIDE).is_file():
            return read_text(folder / BESIDE)
        raise


def _text(config: Mapping[str, Any], folders: tuple[Path, ...], names: tuple[str, ...]) -> TextVectors:
    named = str((config.get("model") or {}).get("text") or "")
    if named.endswith(".npz"):
        return read_text(_beside(folders, named))
    if named:
        name, _, subject = named.partition("/")
        return builtin_text(name).for_all(subject) if subject else builtin_text(name)
    for step in _steps(config):
        if step.get("text"):
            return read_text(_beside(folders, str(step["text"])))
        files = [
            str(step.get(key) or f"embeddings/horse_{key[:-5]}.npy") for key in ("global_path", "local_path")
        ]
        subject, keypoints = (_beside(folders, file) for file in files)
        return plain_vectors(subject.stem, subject, keypoints, names)
    raise NotAvailable("the config names none")


def _steps(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for key in _DATA:
        for step in ((config.get(key) or {}).get("dataset") or {}).get("pipeline") or ():
            if str(step.get("type", "")).rpartition(".")[2] == _LOADER:
                yield step


def _beside(folders: tuple[Path, ...], named: str) -> Path:
    """A file that a config may name: by a relative path, in or below one of the folders, links followed."""
    path = PurePosixPath(named)
    if path.is_absolute() or ".." in path.parts or "\0" in named:
        raise NotAvailable(f"the config names {named}, which is not below the checkpoint's folder")
    if not folders:
        raise NotAvailable(f"the config names {named}, and there is no folder to look for it in")
    for folder in folders:
        found = resolved(folder / path)
        if found.is_file() and found.is_relative_to(folder.resolve()):
            return found
    raise NotAvailable(
        f"the config names {named}, which does not lie beside the checkpoint"
        + (" or below this folder" if len(folders) > 1 else "; with --config one below this folder is read")
    )
