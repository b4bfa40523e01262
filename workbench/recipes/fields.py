"""What a training config decides: one record per field, with its place in each kind of config."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

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
