"""What a checkpoint of this family needs besides its config: the text it names, and whether it has a gate.

The published neck got its gate late, so a config alone does not say whether there is one: the file's tensors
do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from workbench.core import NotAvailable
from workbench.core.files import resolved
from workbench.models.mmpose.trust import OwnConfig, changed
from workbench.models.text_fusion.family import TextFusion
from workbench.models.top_down import TopDown
from workbench.text.vectors import TextVectors, builtin_text, plain_vectors, read_text

TYPES = (
    "TopdownPoseEstimatorWithNeck", "TextFusionNeck", "RTMCCHeadWithRefinement", "SimCCDiffusionRefiner"
)  # fmt: skip
_LOADER = "LoadTextEmbeddings"
# What a user puts beside a checkpoint whose config names no text that is here.
BESIDE = "text.npz"
_DATA = ("train_dataloader", "val_dataloader", "test_dataloader")


def names_the_family(model: Any) -> bool:
    """Whether a model's config uses a module of this family."""
    if isinstance(model, Mapping):
        kind = str(model.get("type", "")).rpartition(".")[2]
        return kind in TYPES or any(map(names_the_family, model.values()))
    return isinstance(model, (list, tuple)) and any(map(names_the_family, model))


def fitted(config: Mapping[str, Any], tensors: Collection[str]) -> Mapping[str, Any]:
    """The config, with what it leaves open filled in from the file's tensors.

    Args:
        config: the whole config.
        tensors: names of the file's tensors.

    Returns:
        the same, or a copy whose neck has no gate where the file has none.

    Raises:
        ValueError: the config has a text neck and the file nothing of it.
    """
    model = config.get("model")
    neck = model.get("neck") if isinstance(model, Mapping) else None
    if not isinstance(model, Mapping) or not isinstance(neck, Mapping):
        return config
    if str(neck.get("type", "")).rpartition(".")[2] != "TextFusionNeck" or not tensors:
        return config
    if isinstance(config, OwnConfig) and not _ours():
        return config
    if not any("neck.global_mlp." in name for name in tensors):
        raise ValueError(
            "the config has a text neck and the checkpoint no neck.global_mlp: it belongs to a model without "
            "text; open it with the config of that model (--config)"
        )
    if "gate" in neck or any(name.endswith("neck.film_gate") for name in tensors):
        return config
    return changed(config, model={**model, "neck": {**neck, "gate": "none"}})


def _ours() -> bool:
    """Whether TextFusionNeck is the workbench's own, and not one that the user's config registered."""
    from workbench.models.text_fusion.register import register

    register()
    from mmpose.registry import MODELS

    from workbench.models.text_fusion.neck import TextFusionNeck

    return MODELS.module_dict.get("TextFusionNeck") is TextFusionNeck


def conditioned(model: TopDown, config: Mapping[str, Any], folder: Path | None = None) -> TextFusion:
    """The model with the text that its config names.

    Args:
        model: the network, cropped and decoded as its config says.
        config: the whole config.
        folder: where files that it names may lie, and text.npz when none of them does; None allows only
            built-in text. A config that the user named may name files below the present folder, too: its
            paths count from where its training was started.
    """
    try:
        return TextFusion(model, text_of_config(config, folder, model.skeleton.keypoints))
    except (NotAvailable, FileNotFoundError) as absent:
        # Inference of the published code needs none; a path that needs one raises with this reason.
        return TextFusion(model, None, no_text=str(absent))


def text_of_config(config: Mapping[str, Any], folder: Path | None, keypoints: tuple[str, ...]) -> TextVectors:
    """The text that a config names, else text.npz beside the checkpoint.

    Args:
        config: the whole config.
        folder: see `conditioned`.
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
