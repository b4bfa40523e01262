"""Values of controls, as a browser sends them and as handlers answer."""

from __future__ import annotations

from typing import Any

import gradio as gr

from apps.server.folders import well_formed

MOST_NUMBER = 1e15
"""Largest size of a number that a control takes: whole numbers up to it are exact as floats."""


def check_value(component: Any, value: Any) -> None:
    """What a number or a list may hold: Gradio passes on whatever was sent to a handler.

    Raises:
        ValueError: no number; in a list no text or number, a number where all choices are texts, or one value
            where several are chosen.
    """
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
    """Whether a number lies between the bounds of its control; Gradio's own sentence names no control.

    Args:
        component: as the session has it, whose bounds a handler may have changed.
        value: as it was sent.

    Raises:
        ValueError: it does not.
    """
    if not isinstance(component, (gr.Number, gr.Slider)) or not _is_number(value):
        return
    low, high = component.minimum, component.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        wanted = f"at least {low:g}" if high is None else f"at most {high:g}" if low is None else ""
        raise ValueError(f"{component.label}: expected {wanted or f'{low:g} to {high:g}'}, got {value:.10g}")


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


def well_formed_values(value: Any) -> Any:
    """A JSON value whose every text can be sent."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, dict):
        return {well_formed_values(key): well_formed_values(one) for key, one in value.items()}
    return [well_formed_values(one) for one in value] if isinstance(value, (list, tuple)) else value
