"""A sentence encoder from a folder on this machine: sentences in, vectors out; nothing is fetched."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import reason
from workbench.core.files import belongs, read_at_most

if TYPE_CHECKING:
    from jaxtyping import Float

    Encode = Callable[[Sequence[str]], Float[np.ndarray, "S D"]]

# Tokens that CLIP reads where its config is silent.
LONGEST = 77
# Those that name no further class in a config of their own, as Router and WordEmbeddings do.
_MODULES = frozenset((
    "BoW", "CLIPModel", "CNN", "Dense", "Dropout", "LSTM", "LayerNorm", "Normalize", "Pooling",
    "StaticEmbedding", "Transformer", "WeightedLayerPooling", "WordWeights",
))  # fmt: skip
_ACTIVATION = re.compile(r"torch\.nn\.modules\.(activation|linear)\.[A-Z][A-Za-z0-9]*")
_CONFIG = 1 << 20
# What transformers and sentence-transformers raise for a folder that holds something else.
_NOT_LOADED = (OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError)


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


def _check_classes(folder: Path) -> None:
    """Refuse what is none of the library's classes: before version 6 it imports whatever a local file names.

    Raises:
        ValueError: a file of the folder names another class or function, or a place outside of it.
    """
    listed = folder / "modules.json"
    for one in json.loads(listed.read_text("utf-8")) if listed.is_file() else ():
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
    config = folder / "config.json"
    if (folder / "modules.json").is_file() or not config.is_file():
        return False
    try:
        config_json = json.loads(config.read_text("utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(config_json, dict) and str(config_json.get("model_type", "")) in (
        "clip",
        "clip_text_model",
    )


def _of_clip(folder: Path, device: str) -> Encode:
    import torch
    from transformers import AutoTokenizer, CLIPModel, CLIPTextModel, CLIPTextModelWithProjection

    config_json = json.loads((folder / "config.json").read_text("utf-8"))
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
