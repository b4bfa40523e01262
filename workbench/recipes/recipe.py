"""Fields that a training config decides, and reference recipes: what upstream decides, and where."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from workbench.core import nearest
from workbench.core.finding import Severity

Dialect = Literal["mmengine", "mmpose0", "yacs", "plain"]
"""Layout of a config: mmpose 1.x, mmpose 0.x, HRNet's YAML files, YAML of any other layout."""

DIALECTS: Mapping[Dialect, str] = {
    "mmengine": "an mmpose 1.x config",
    "mmpose0": "an mmpose 0.x config",
    "yacs": "a YAML config of the HRNet family",
    "plain": "a config of a layout of its own, read by the names of its keys",
}


@dataclass(frozen=True)
class Field:
    """One thing that a training config decides.

    Attributes:
        name: ``optimizer.lr``; the same for every kind of config.
        severity: of a difference; "fact" is known and never compared.
        compare: ``exact``, ``size`` (two numbers whose order counts) or ``file`` (name without folders).
        paths: dialect -> dotted places in the config, the first that is there counts.
        words: what a config of another layout calls it.
        absent: what the framework uses where the section is there and the key is not; None for nothing.
        why: why a difference matters.
        source: of `why`.
    """

    name: str
    severity: Severity | Literal["fact"]
    compare: str
    paths: Mapping[str, tuple[str, ...]]
    words: tuple[str, ...]
    absent: Any
    why: str
    source: str


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file of this package."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # pyright: ignore[reportMissingImports]
    return tomllib.loads(path.read_text(encoding="utf-8"))


@functools.cache
def fields() -> Mapping[str, Field]:
    """Name -> field, in the order of a report.

    Example:
        >>> fields()["optimizer.lr"].paths["mmengine"]
        ('optim_wrapper.optimizer.lr',)
    """
    found: dict[str, Field] = {}
    for section, content in read_toml(Path(__file__).with_name("fields.toml")).items():
        entries = {section: content} if "severity" in content else content
        for name, entry in entries.items():
            full = name if entries is not content else f"{section}.{name}"
            found[full] = Field(
                full,
                cast("Severity", entry["severity"]),
                entry.get("compare", "exact"),
                {dialect: tuple(entry.get(dialect, ())) for dialect in ("mmengine", "mmpose0", "yacs")},
                tuple(entry.get("words", ())),
                entry.get("absent"),
                entry["why"],
                entry["source"],
            )
    return found


FOLDER = Path(__file__).with_name("reference")


@dataclass(frozen=True)
class Source:
    """A file of an upstream repository.

    Attributes:
        repository: ``open-mmlab/mmpose``.
        commit: 40 hex digits.
        path: inside of the repository.
        sha256: of the file's bytes.
        holds: which values come from it, in words; "" for all.
    """

    repository: str
    commit: str
    path: str
    sha256: str
    holds: str = ""

    @property
    def url(self) -> str:
        """Where a browser shows the file at this commit."""
        return f"https://github.com/{self.repository}/blob/{self.commit}/{self.path}"

    def text(self) -> str:
        """``open-mmlab/mmpose@759b39c:configs/...``."""
        return f"{self.repository}@{self.commit[:7]}:{self.path}"


@dataclass(frozen=True)
class Recipe:
    """What an upstream config decides.

    Attributes:
        name: ``sapiens-1b-coco``.
        title: for people.
        values: name of a field -> value, as the file writes it.
        defaults: name of a field -> value that the file leaves to its framework.
        sources: the config first, then files that values were taken from in addition.
        devices: number of devices that the recipe was written for.
        samples: training samples per epoch, 0 where it is not known.
        published: measure -> value that upstream published for this recipe, with `published_source`.
        published_source: where.
        notes: what is odd in the upstream file itself.
    """

    name: str
    title: str
    values: Mapping[str, Any]
    defaults: Mapping[str, Any]
    sources: tuple[Source, ...]
    devices: int = 8
    samples: int = 0
    published: Mapping[str, float] | None = None
    published_source: str = ""
    notes: tuple[str, ...] = ()

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a field, written or left to the framework."""
        return self.values.get(name, self.defaults.get(name, default))

    def source_of(self, name: str) -> str:
        """The file that a value comes from, in words."""
        extra = [source for source in self.sources[1:] if name in source.holds.split(", ")]
        return (extra or self.sources)[0].text()


@functools.cache
def recipe_names() -> tuple[str, ...]:
    """Names of all reference recipes."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


@functools.cache
def recipe(name: str) -> Recipe:
    """A reference recipe.

    Raises:
        KeyError: no such recipe; the message names the nearest.

    Example:
        >>> recipe("sapiens-1b-coco").get("train.batch_size")
        64
    """
    if name not in recipe_names():
        raise KeyError(f"no recipe {name!r}; nearest: {nearest(name, recipe_names())}")
    content = read_toml(FOLDER / f"{name}.toml")
    return Recipe(
        name=name,
        title=content["title"],
        values=content["values"],
        defaults=content.get("defaults", {}),
        sources=tuple(Source(**source) for source in content["source"]),
        devices=content.get("devices", 8),
        samples=content.get("samples", 0),
        published=content.get("published"),
        published_source=content.get("published_source", ""),
        notes=tuple(content.get("notes", ())),
    )
