"""How does a config lie over its base files? As in mmengine: dicts key by key, all else replaced.

Source: mmengine@0.10.7 mmengine/config/config.py, _merge_a_into_b and _substitute_base_vars.
"""

from __future__ import annotations

from typing import Any

# What stands in the text for {{_base_.x}} until the base files are known.
PLACEHOLDER = "_base_value_{}_"


def with_base_values(value: Any, wanted: list[str], base: dict[str, Any], name: str) -> Any:
    """The value with those of base files where {{_base_.x}} stood; `wanted` lists the x by placeholder."""
    if not wanted:
        return value
    marks = {PLACEHOLDER.format(i): dotted for i, dotted in enumerate(wanted)}

    def put(item: Any) -> Any:
        if isinstance(item, dict):
            return {put(k): put(v) for k, v in item.items()}
        if isinstance(item, (list, tuple)):
            return type(item)(put(v) for v in item)
        if isinstance(item, str) and item in marks:
            return _base_value(base, marks[item], name)
        if isinstance(item, str) and any(mark in item for mark in marks):
            # mmengine leaves a broken text behind in this case.
            raise ValueError(f"{name} uses {{{{_base_...}}}} inside a text; it must stand alone")
        return item

    return put(value)


def _base_value(base: dict[str, Any], dotted: str, name: str) -> Any:
    inner: Any = base
    for key in dotted.split("."):
        if not isinstance(inner, dict) or key not in inner:
            raise ValueError(f"{name} uses {{{{_base_.{dotted}}}}}, which no base file sets")
        inner = inner[key]
    return inner


def merged(own: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """A config over its base, as mmengine merges: dicts key by key unless `_delete_`, all else replaced.

    Raises:
        ValueError: a dict would be merged into something that is none.
    """
    found = dict(base)
    for key, value in own.items():
        if not isinstance(value, dict):
            found[key] = value
        elif key not in found or value.get("_delete_", False):
            found[key] = {k: v for k, v in value.items() if k != "_delete_"} if key in found else value
        elif isinstance(found[key], dict):
            found[key] = merged({k: v for k, v in value.items() if k != "_delete_"}, found[key])
        else:
            raise ValueError(
                f"{key!r} is a dict over a {type(found[key]).__name__} of the base file; "
                "`_delete_=True` replaces it"
            )
    return found
