"""How does a config lie over its base files? As in mmengine: dicts key by key, all else replaced.

Source: mmengine@0.10.7 mmengine/config/config.py, _merge_a_into_b and _substitute_base_vars.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from workbench.checkpoints.budget import Budget
from workbench.checkpoints.config_values import copied

# What stands in the text for {{_base_.x}} until the base files are known.
PLACEHOLDER = "_base_value_{}_"
_MARK = re.compile(PLACEHOLDER.format(r"(\d{1,9})"))


def with_base_values(
    value: Any, wanted: Sequence[str], base: dict[str, Any], name: str, budget: Budget
) -> Any:
    """The value with those of base files where {{_base_.x}} stood.

    Args:
        value: with placeholders.
        wanted: the x, by the number in the placeholder.
        base: values of all base files.
        name: the config's, for errors.
        budget: what the copies are taken from: each use of a base value is a copy of its own.

    Raises:
        ValueError: no such base value, one inside a text, a list as key, or the budget is spent.
    """
    if not wanted:
        return value

    def key(item: Any) -> Any:
        found = put(item)
        try:
            hash(found)
        except TypeError:
            raise ValueError(f"{name} uses a {type(found).__name__} of a base file as a key") from None
        return found

    def put(item: Any) -> Any:
        budget.step()
        if isinstance(item, dict):
            return {key(k): put(v) for k, v in item.items()}
        if isinstance(item, (list, tuple)):
            return type(item)(put(v) for v in item)
        mark = _MARK.search(item) if isinstance(item, str) else None
        if mark is None or int(mark[1]) >= len(wanted):
            return item
        if mark[0] != item:
            # mmengine leaves a broken text behind in this case.
            raise ValueError(f"{name} uses {{{{_base_...}}}} inside a text; it must stand alone")
        return copied(_base_value(base, wanted[int(mark[1])], name), budget)

    return put(value)


def _base_value(base: dict[str, Any], dotted: str, name: str) -> Any:
    inner: Any = base
    for key in dotted.split("."):
        if not isinstance(inner, dict) or key not in inner:
            raise ValueError(f"{name} uses {{{{_base_.{dotted}}}}}, which no base file sets")
        inner = inner[key]
    return inner


def merged(own: dict[str, Any], base: dict[str, Any], budget: Budget) -> dict[str, Any]:
    """A config over its base, as mmengine merges: dicts key by key unless `_delete_`, all else replaced.

    Raises:
        ValueError: a dict would be merged into something that is none, or the budget is spent.
    """
    budget.step(1 + len(own) + len(base))
    found = dict(base)
    for key, value in own.items():
        if not isinstance(value, dict):
            found[key] = value
        elif key not in found or value.get("_delete_", False):
            found[key] = {k: v for k, v in value.items() if k != "_delete_"} if key in found else value
        elif isinstance(found[key], dict):
            found[key] = merged({k: v for k, v in value.items() if k != "_delete_"}, found[key], budget)
        else:
            raise ValueError(
                f"{key!r} is a dict over a {type(found[key]).__name__} of the base file; "
                "`_delete_=True` replaces it"
            )
    return found
