"""What is said about each keypoint and each species? A file that people write, checked against a skeleton.

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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.core import NotAvailable, nearest, reason
from workbench.skeletons import SKELETONS

# Sentences of 133 keypoints in five languages take less.
_SIZE = 1 << 20


@dataclass(frozen=True)
class Descriptions:
    """Sentences of keypoints and subjects.

    Attributes:
        name: what to call them.
        keypoints: name -> sentence, in the order of the skeleton.
        subjects: name -> sentence.
        categories: name of a subject -> category id; empty where none is told.
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
    if not path.is_file():
        raise FileNotFoundError(f"descriptions: no file {path}")
    told = _parsed(path)
    keypoints, subjects = told.get("keypoints"), told.get("subjects")
    if not isinstance(keypoints, dict) or not isinstance(subjects, dict) or not keypoints or not subjects:
        raise ValueError(f"{path.name}: expected tables `keypoints` and `subjects` with a sentence each")
    for name, sentence in keypoints.items():
        _sentence(sentence, f"{path.name}: keypoint {name!r}")
    named = str(told.get("skeleton") or "")
    if named:
        keypoints = _in_order(keypoints, _names(named, path), path.name)
    sentences, categories = {}, {}
    for name, entry in subjects.items():
        table = entry if isinstance(entry, dict) else {"sentence": entry}
        sentences[name] = _sentence(table.get("sentence"), f"{path.name}: subject {name!r}")
        if "category" in table:
            categories[name] = _category(table["category"], f"{path.name}: subject {name!r}")
    return Descriptions(str(told.get("name") or path.stem), keypoints, sentences, categories)


def _parsed(path: Path) -> dict[str, Any]:
    from workbench.checkpoints.budget import Budget
    from workbench.checkpoints.config_values import plain_values

    with path.open("rb") as file:
        data = file.read(_SIZE + 1)
    if len(data) > _SIZE:
        raise ValueError(f"{path.name}: descriptions of more than {_SIZE} bytes are refused")
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
