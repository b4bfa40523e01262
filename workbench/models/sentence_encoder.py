"""A sentence encoder from a folder on this machine: sentences in, vectors out; nothing is fetched."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import reason
from workbench.core.files import belongs, read_at_most
from workbench.core.report import counted

if TYPE_CHECKING:
    from jaxtyping import Float

    Encode = Callable[[Sequence[str]], Float[np.ndarray, "S D"]]

# Tokens that CLIP reads where its config is silent.
LONGEST = 77
# Those that name no further class in a config of their own, as Router and WordEmbeddings do.
_MODULES = frozenset((
    "BoW", "CLIPModel", "Dense", "Dropout", "LayerNorm", "Normalize", "Pooling", "StaticEmbedding",
    "Transformer", "WeightedLayerPooling", "WordWeights",
))  # fmt: skip
_ACTIVATION = re.compile(r"torch\.nn\.modules\.(activation|linear)\.[A-Z][A-Za-z0-9]*")
_CONFIG, _INDEX = 1 << 20, 1 << 24
# What a config of sentence-transformers hands on to transformers: a file to read, a folder, code of the hub.
_ARGUMENTS = (
    "model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs",
)  # fmt: skip
_WORDS = frozenset((
    "auto", "eager", "sdpa", "float32", "float16", "bfloat16", "torch.float32", "torch.float16",
    "torch.bfloat16", "left", "right",
))  # fmt: skip
# Files of a folder and layers of a network, beyond any encoder's; numbers that may count rows of a table.
_FILES, _LAYERS, _ROWS = 1000, 200, 1000
# What transformers and sentence-transformers raise for a folder that holds something else.
_NOT_LOADED = (
    OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError, ImportError, MemoryError,
    OverflowError,
)  # fmt: skip


def sentence_encoder(folder: Path, device: str = "cpu") -> Encode:
    """From sentences to one vector each; the network is loaded when first called.

    Args:
        folder: in sentence-transformers layout; or a Hugging Face transformer (BERT and its kin), which is
            then mean-pooled; or CLIP, of which the text half is taken as CLIP itself compares it: projected
            where the folder holds the projection.
        device: as torch names it.

    Returns:
        a function that raises ValueError where the folder holds nothing that can be loaded.
    """

    def encode(sentences: Sequence[str]) -> Float[np.ndarray, "S D"]:
        from workbench.models.mmpose_compat import hide_broken_torchvision

        # transformers expects a torchvision that works, or none at all.
        hide_broken_torchvision()
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            _check_files(folder)
            found = (
                _of_clip(folder, device) if _is_clip(folder) else _of_sentence_transformers(folder, device)
            )
        except _NOT_LOADED as error:
            raise ValueError(f"{folder}: no sentence encoder that can be loaded: {reason(error)}") from error
        return np.asarray(found(list(sentences)), np.float32)

    return encode


def _of_sentence_transformers(folder: Path, device: str) -> Encode:
    _check_classes(folder)
    from sentence_transformers import SentenceTransformer

    model: Any = SentenceTransformer(
        str(folder), device=device, local_files_only=True, trust_remote_code=False
    )
    return lambda sentences: model.encode(list(sentences), show_progress_bar=False)


def _check_files(folder: Path) -> None:
    """Refuse what leads the libraries out of the folder, to the hub, or to more memory than the weights take.

    Raises:
        ValueError: a link out of the folder; a config that names a file, a folder or code; a network larger
            than its files.
    """
    files = sorted(itertools.islice(folder.rglob("*"), _FILES + 1))
    if len(files) > _FILES:
        raise ValueError(f"more than {_FILES} files")
    for path in files:
        name = path.relative_to(folder).as_posix()
        if not belongs(path, folder.resolve()):
            raise ValueError(f"{name} is a link that leads out of the folder")
        if not (path.is_file() or path.is_dir()):
            raise ValueError(f"{name} is no regular file")
        if path.name == "adapter_config.json":
            raise ValueError(f"{name} names another model, which is not looked for")
        if path.name.endswith(".index.json"):
            _check_index(path, folder)
        elif path.suffix == ".json" and "config" in path.name and "tokenizer" not in path.name:
            _check_config(path, name)


def _check_index(path: Path, folder: Path) -> None:
    """An index of the files that hold parts of a network."""
    read = json.loads(read_at_most(path, _INDEX, "an index of weights"))
    parts = read.get("weight_map", {}) if isinstance(read, dict) else {}
    for part in set(map(str, parts.values() if isinstance(parts, dict) else ())):
        if not belongs(path.parent / part, folder.resolve()):
            raise ValueError(f"{path.name} names {part[:100]!r}, which lies outside of the folder")


def _check_config(path: Path, name: str) -> None:
    """A config of the network or of one of the modules behind it."""
    read = json.loads(read_at_most(path, _CONFIG, "a config"))
    if not isinstance(read, dict):
        return
    given = {
        key: value
        for way in _ARGUMENTS
        if isinstance(read.get(way), dict)
        for key, value in read[way].items()
    }
    given |= {key: value for key, value in read.items() if "attn_implementation" in key}
    for key, value in given.items():
        if not (value is None or isinstance(value, (bool, int, float)) or value in _WORDS):
            raise ValueError(f"{name} sets {key[:60]} to {value!r:.100}, which may lead out of the folder")
    held = sum(one.stat().st_size for one in path.parent.iterdir() if one.is_file())
    for numbers in (read, read.get("text_config"), read.get("vision_config")):
        if isinstance(numbers, dict):
            _check_size({k: v for k, v in numbers.items() if type(v) is int}, name, held)


def _check_size(numbers: Mapping[str, int], name: str, held: int) -> None:
    """The numbers of a config against the bytes of the files beside it: a weight takes one at least."""
    width = next((numbers[key] for key in ("hidden_size", "d_model", "dim", "n_embd") if key in numbers), 1)
    rows = {k: v for k, v in numbers.items() if v > _ROWS and not k.endswith("_token_id")}
    wanted = {f"{key} {value}": value * width for key, value in rows.items()}
    wanted[f"a width of {width}"] = width * width
    if "in_features" in numbers and "out_features" in numbers:
        size = numbers["in_features"] * numbers["out_features"]
        wanted[f"{numbers['in_features']} to {numbers['out_features']} features"] = size
    for key in ("num_hidden_layers", "n_layers", "n_layer", "num_layers"):
        if numbers.get(key, 0) > _LAYERS:
            raise ValueError(f"{name} asks for {counted(numbers[key], 'layer')}")
    for what, size in wanted.items():
        if size > held:
            raise ValueError(f"{name} asks for {what[:60]}, and the files beside it hold {held} bytes")


def _check_classes(folder: Path) -> None:
    """Refuse what is none of the library's classes: before version 6 it imports whatever a local file names.

    Raises:
        ValueError: a file of the folder names another class or function, or a place outside of it.
    """
    listed = folder / "modules.json"
    for one in json.loads(read_at_most(listed, _CONFIG, "a list of modules")) if listed.is_file() else ():
        kind, place = str(one["type"]), str(one.get("path", ""))
        name = kind.rpartition(".")[2]
        if not kind.startswith("sentence_transformers.") or name not in _MODULES:
            raise ValueError(
                f"{listed.name} names {kind[:100]}, and only sentence_transformers' own are made: "
                f"{', '.join(sorted(_MODULES))}"
            )
        if not belongs(folder / place, folder.resolve()):
            raise ValueError(f"{listed.name} names {place[:100]!r}, which lies outside of the folder")
        config = folder / place / "config.json"
        if name != "Dense" or not config.is_file():
            continue
        function = str(json.loads(read_at_most(config, _CONFIG, "a config")).get("activation_function", ""))
        # Version 5 imports the function and calls it.
        if function and _ACTIVATION.fullmatch(function) is None:
            raise ValueError(
                f"{config.relative_to(folder)} names {function[:100]}, and only torch's own activations are "
                "made"
            )


def _is_clip(folder: Path) -> bool:
    """Whether a folder holds CLIP as Hugging Face keeps it, whole or its text half."""
    if (folder / "modules.json").is_file() or not (folder / "config.json").is_file():
        return False
    try:
        config_json = _config_of(folder)
    except (ValueError, RecursionError):
        return False
    return isinstance(config_json, dict) and str(config_json.get("model_type", "")) in (
        "clip",
        "clip_text_model",
    )


def _config_of(folder: Path) -> Any:
    return json.loads(read_at_most(folder / "config.json", _CONFIG, "a config"))


def _of_clip(folder: Path, device: str) -> Encode:
    import torch
    from transformers import AutoTokenizer, CLIPModel, CLIPTextModel, CLIPTextModelWithProjection

    config_json = _config_of(folder)
    whole = config_json["model_type"] == "clip"
    # A text half kept alone may come without projection: its last state at the end token is what there is.
    bare = not whole and "CLIPTextModel" in (config_json.get("architectures") or ())
    kind: Any = CLIPModel if whole else CLIPTextModel if bare else CLIPTextModelWithProjection
    model, info = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    # transformers fills what a file lacks at random.
    if absent := sorted(info["missing_keys"]):
        raise ValueError(f"the files lack {len(absent)} of its weights ({absent[0]} ...)")
    model = model.eval().to(device)
    # Without it transformers asks on the terminal whether code that lies in the folder shall run.
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    longest = (config_json.get("text_config") or {} if whole else config_json).get(
        "max_position_embeddings", LONGEST
    )

    def encode(sentences: Sequence[str]) -> Float[np.ndarray, "S D"]:
        tokens = tokenizer(
            list(sentences), padding=True, truncation=True, max_length=longest, return_tensors="pt"
        ).to(device)
        with torch.no_grad():
            if whole:
                vectors = model.text_projection(model.text_model(**tokens).pooler_output)
            else:
                out = model(**tokens)
                vectors = out.pooler_output if bare else out.text_embeds
        return vectors.cpu().numpy()

    return encode
