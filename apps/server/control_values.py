"""Values of controls, as a browser sends them and as handlers answer."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr

from apps.server.folders import well_formed
from workbench.core.plain_text import printable

MOST_NUMBER = 1e15
"""Largest size of a number that a control takes: whole numbers up to it are exact as floats."""


def check_value(component: Any, value: Any) -> None:
    """What a number or a list may hold: Gradio passes on whatever was sent to a handler.

    Raises:
        ValueError: no number; in a list no text or number, a number where all choices are texts, or one value
            where several are chosen; no uploaded file, or several where one is wanted.
    """
    if isinstance(component, (gr.File, gr.Image)) and value is not None:
        several = getattr(component, "file_count", "single") != "single" and isinstance(value, list)
        if not all(isinstance(one, dict) and one.get("path") for one in (value if several else [value])):
            raise ValueError(f"{component.label}: expected an uploaded file, got {value!r:.60}")
    if isinstance(component, gr.Dropdown) and value is not None:
        if component.multiselect and not isinstance(value, list):
            raise ValueError(f"{component.label}: expected a list of choices, got {value!r:.60}")
        texts = all(isinstance(choice, str) for _, choice in component.choices or ((None, 0),))
        for one in value if component.multiselect else [value]:
            fits = isinstance(one, str) or (not texts and _is_number(one))
            if one is not None and not fits:
                raise ValueError(f"{component.label}: expected one of the choices, got {one!r:.60}")
    elif isinstance(component, (gr.Number, gr.Slider)) and value is not None and not _is_number(value):
        raise ValueError(f"{component.label}: expected a number, got {value!r:.60}")


def check_bounds(component: Any, value: Any) -> None:
    """Whether a control offers a value: Gradio's own sentences name no control, and repeat all choices.

    Args:
        component: as the session has it, whose bounds and choices a handler may have changed.
        value: as it was sent.

    Raises:
        ValueError: a number outside the bounds; none of the choices where no other is taken.
    """
    _check_choices(component, value)
    if not isinstance(component, (gr.Number, gr.Slider)) or not _is_number(value):
        return
    low, high = component.minimum, component.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        wanted = f"at least {low:g}" if high is None else f"at most {high:g}" if low is None else ""
        raise ValueError(f"{component.label}: expected {wanted or f'{low:g} to {high:g}'}, got {value:.10g}")


def _check_choices(component: Any, value: Any) -> None:
    listed = isinstance(component, (gr.Radio, gr.CheckboxGroup)) or (
        isinstance(component, gr.Dropdown) and not component.allow_custom_value
    )
    if listed and value is not None:
        known = [choice for _, choice in component.choices]
        for one in value if isinstance(value, list) else [value]:
            if one not in known:
                raise ValueError(f"{component.label}: {one!r:.60} is none of its choices")


def _is_number(value: Any) -> bool:
    """Whether a value is a number that a control can have; one of 400 digits is finite, and no float."""
    return isinstance(value, (int, float)) and -MOST_NUMBER <= value <= MOST_NUMBER


def weight(value: Any) -> int:
    """Characters of all texts in a value as JSON has it; a number counts as one of eight."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(weight(key) + weight(one) for key, one in value.items())
    return sum(map(weight, value)) if isinstance(value, (list, tuple)) else 8


# Signs of Unicode that change the direction of text, or hide.
_OBEYED = "[\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
_MARKUP_OR_OBEYED = re.compile(rf"<pre.*?</pre>|<[^>]*>|{_OBEYED}", re.DOTALL)


def shown_html(value: Any) -> Any:
    """What a handler answers for an HTML block, its text without signs that a browser obeys.

    A name may hold a bidi override, which would reverse the rest of the sentence that names it. Tags keep
    what scripts read, and commands what is copied.

    Args:
        value: HTML, or an update that holds it; anything else is returned as it is.
    """
    if isinstance(value, dict) and isinstance(value.get("value"), str):
        return {**value, "value": shown_html(value["value"])}
    if not isinstance(value, str) or value.isascii() or not re.search(_OBEYED, value):
        return value
    return _MARKUP_OR_OBEYED.sub(lambda part: part[0] if part[0][0] == "<" else printable(part[0]), value)


def shown_cells(value: Any) -> Any:
    """What a handler answers for a table, its cells and heads without signs that a browser obeys."""
    if isinstance(value, str):
        return value if value.isascii() else re.sub(_OBEYED, lambda sign: printable(sign[0]), value)
    if isinstance(value, dict):
        return {key: shown_cells(one) for key, one in value.items()}
    return [shown_cells(one) for one in value] if isinstance(value, (list, tuple)) else value


def shown_choices(value: Any) -> Any:
    """What a handler answers for a list of choices, its labels without signs that a browser obeys.

    The values stay, as they are sent back.

    Args:
        value: an update that holds pairs of label and value; anything else is returned as it is.
    """
    if not isinstance(value, dict) or not isinstance(value.get("choices"), list):
        return value
    return {**value, "choices": [(shown_cells(label), chosen) for label, chosen in value["choices"]]}


def well_formed_values(value: Any) -> Any:
    """A JSON value whose every text can be sent."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, dict):
        return {well_formed_values(key): well_formed_values(one) for key, one in value.items()}
    return [well_formed_values(one) for one in value] if isinstance(value, (list, tuple)) else value
