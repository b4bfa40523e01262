"""Which rule of a bottom-up model does somebody want otherwise? Words such as ``nms_kernel=3`` as settings.

One list of names for all that may be changed after opening: the input size and scales (which need other
forward passes), which maps count (Aggregation) and how detections become people (GroupingSettings).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from workbench.core import nearest
from workbench.decoding.grouping import RULES, GroupingSettings
from workbench.models.bottom_up.aggregation import Aggregation
from workbench.models.bottom_up.model import BottomUp

_OWN = ("input_size", "scales")
_SWITCHES = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}


def rule_names() -> tuple[str, ...]:
    """Everything that may be wished: ``rules`` first, which takes a whole protocol by name."""
    settings = (Aggregation, GroupingSettings)
    named = [f.name for kind in settings for f in dataclasses.fields(kind) if f.name not in _OWN]
    return ("rules", *_OWN, *named)


def wished(model: BottomUp, words: Sequence[str]) -> BottomUp:
    """The model with some rules changed, the later word winning.

    Args:
        model: stays as it is.
        words: each ``name=value``: numbers, on and off, none, or several numbers with commas between.

    Raises:
        ValueError: no such rule, or a value that it cannot have.
    """
    for word in words:
        name, equals, text = word.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in rule_names():
            raise ValueError(
                f"rule {word!r}: expected NAME=VALUE; nearest names: {nearest(name, rule_names())}"
            )
        model = _changed(model, name, text.strip())
    return model


def _changed(model: BottomUp, name: str, text: str) -> BottomUp:
    if name == "rules":
        if text not in RULES:
            raise ValueError(f"rules: expected {' or '.join(RULES)}, got {text!r}")
        grouping = dataclasses.replace(
            RULES[text], tag_layout=model.grouping.tag_layout, solver=model.grouping.solver
        )
        return dataclasses.replace(model, grouping=grouping)
    if name in _OWN:
        whole = isinstance(model.input_size, tuple) and name == "input_size"
        kept = model.input_size if name == "input_size" else model.scales
        return dataclasses.replace(model, **{name: _read(name, text, (0, 0) if whole else kept)})
    part = "aggregation" if hasattr(model.aggregation, name) else "grouping"
    settings: Any = getattr(model, part)
    value = _read(name, text, getattr(type(settings)(), name))
    return dataclasses.replace(model, **{part: dataclasses.replace(settings, **{name: value})})


def _read(name: str, text: str, default: Any) -> Any:
    """A value as people type it, of the type that the rule's default has."""
    try:
        if isinstance(default, bool):
            return _SWITCHES[text.lower()]
        if text.lower() == "none" and name == "max_people":
            return None
        if name == "tag_layout" and not text[:1].isdigit():
            return text
        if isinstance(default, tuple) or name == "tag_layout":
            of = float if name == "scales" else int
            return tuple(of(part) for part in text.split(",") if part.strip())
        return type(default)(text)
    except (ValueError, KeyError):
        kinds = {bool: "on or off", int: "a whole number", float: "a number", tuple: "numbers with commas"}
        wanted = kinds.get(type(default), "a word")
        raise ValueError(f"rule {name}: expected {wanted}, got {text!r}") from None
