"""Read a config to be audited: a Python, JSON, TOML or YAML file, text, or the config in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core import NotAvailable
from workbench.core.files import require_file

if TYPE_CHECKING:
    from workbench.checkpoints import Checkpoint

TEXTS = (".py", ".json", ".toml", ".yaml", ".yml")
"""Endings of configs that are files of their own."""

# Folders above a config in which `_base_` is looked for; mmpose's own lie three above.
_UP = 6


@dataclass(frozen=True, eq=False)
class ConfigFile:
    """A config that was read and not run.

    Attributes:
        title: its name, for reports.
        values: its content.
        notes: what the reader should know: base files that are absent, numbers written as text.
        checkpoint: the checkpoint that it came out of; None for a file of its own.
    """

    title: str
    values: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    checkpoint: Checkpoint | None = None


def read(path: Path, without_config: bool = False) -> ConfigFile:
    """The config in a file, or the one inside a checkpoint.

    Args:
        path: .py, .json, .toml, .yaml, .yml, or a checkpoint. Base files are read where they lie in the
            config's folder, or in the nearest folder above that has a `_base_`.
        without_config: take a checkpoint that holds no config too: its tensors alone are then compared.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it would need to run code, or is none of these.
        NotAvailable: the checkpoint holds no config.
    """
    from workbench.checkpoints.config_reader import read_available

    require_file(path, f"no file {path}")
    if path.suffix.lower() not in TEXTS:
        return _of_checkpoint(path, without_config)
    found = read_available(path, _root(path))
    return ConfigFile(path.name, found.values, (*_absent(found.missing), *_texts(found.values)))


def read_text(text: str, title: str = "the pasted config") -> ConfigFile:
    """A config as text: JSON, YAML or TOML where it looks so, Python otherwise; base files are not read.

    Args:
        text: content.
        title: for reports; its ending, where it has one, says the language.

    Raises:
        ValueError: it would need to run code, or is no config.
    """
    from workbench.checkpoints.config_reader import config_budget, read_available
    from workbench.checkpoints.config_values import plain_values

    suffix = Path(title).suffix.lower()
    kind = {".json": "json", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".py": "py"}.get(suffix, "")
    kind = kind or _language(text)
    if not text.strip():
        raise ValueError(f"{title} is empty; expected the text of a config")
    if kind == "py":
        found = read_available(text, name=title)
        return ConfigFile(title, found.values, (*_absent(found.missing), *_texts(found.values)))
    try:
        values = plain_values(text, kind, config_budget(title))
    except ValueError as error:
        raise ValueError(f"{title} {error}") from error
    if not isinstance(values, Mapping):
        raise ValueError(f"{title} holds no names with values; expected a Python, JSON, TOML or YAML config")
    return ConfigFile(title, values, tuple(_texts(values)))


def of_checkpoint(checkpoint: Checkpoint) -> ConfigFile:
    """The config inside an opened checkpoint.

    Raises:
        NotAvailable: it holds none.
        ValueError: it would need to run code.
    """
    from workbench.checkpoints.config_reader import read_available

    text = checkpoint.config_text
    if not text:
        raise NotAvailable(
            f"config: {checkpoint.path.name} holds none; expected a checkpoint of mmengine or mmcv with its "
            "config inside, or a config file, or --against a recipe to compare the tensors with"
        )
    title = f"{checkpoint.path.name} (config inside)"
    found = read_available(text, name=title)
    notes = (*_absent(found.missing), *_texts(found.values))
    return ConfigFile(title, found.values, notes, checkpoint)


def _of_checkpoint(path: Path, without_config: bool) -> ConfigFile:
    from workbench.checkpoints import open_checkpoint

    try:
        checkpoint = open_checkpoint(path)
    except ValueError as error:
        raise ValueError(
            f"{path.name}: expected a config ({', '.join(TEXTS)}), or a checkpoint that holds one; {error}"
        ) from error
    if without_config and not checkpoint.config_text:
        note = "the file holds no config: only its tensors are compared with the recipe"
        return ConfigFile(path.name, {}, (note,), checkpoint)
    return of_checkpoint(checkpoint)


def _root(path: Path) -> Path | None:
    """The folder that base files may lie in: the nearest with a `_base_`, else the config's own."""
    for folder in list(path.resolve().parents)[:_UP]:
        if (folder / "_base_").is_dir():
            return folder
    return None


def _language(text: str) -> str:
    stripped = text.lstrip()
    if stripped.startswith("{"):
        return "json"
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    first = lines[0] if lines else ""
    if first.strip().startswith("[") and first.strip().endswith("]") and "," not in first:
        return "toml"
    key = first.partition(":")[0]
    if (
        ":" in first
        and "=" not in key
        and "(" not in key
        and not key.startswith(("from ", "with ", "import "))
    ):
        return "yaml"
    return "py"


def _absent(missing: tuple[str, ...]) -> list[str]:
    return [f"base file {name} is not there: its values were not checked" for name in missing]


def _texts(values: Mapping[str, Any]) -> list[str]:
    """Numbers that the file writes as text: YAML 1.1 reads 5e-4 so."""
    from workbench.recipes.values import as_number, leaves

    found = [
        path
        for path, value in leaves(values)
        if isinstance(value, str) and "e" in value.lower() and isinstance(as_number(value), float)
        and value.strip()[:1] in "+-.0123456789"
    ]  # fmt: skip
    if not found:
        return []
    return [
        f"{', '.join(found[:4])}: written as text, not as a number (YAML 1.1 wants 5.0e-4 for 5e-4); read "
        "as a number here, but a program that does not convert it fails or compares texts"
    ]
