"""The input widget of each field of an inspector's Params, and the Params that widgets' values make."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from workbench.core import Run
from workbench.core.inspector import Choice, Range


def hints_of(params: type) -> dict[str, Any]:
    """Field name -> annotation, with its Range or Choice."""
    return typing.get_type_hints(params, include_extras=True)


def explained(params: type) -> dict[str, str]:
    """Field name -> what its class docstring says of it, under ``Attributes:`` or ``Args:``."""
    text = inspect.cleandoc(params.__doc__ or "")
    _, _, listed = text.partition("Attributes:")
    notes: dict[str, str] = {}
    current = ""
    for line in listed.splitlines():
        entry = re.match(r"\s{4}(\w+)(?: \([^)]*\))?: (.+)", line)
        if entry:
            current = entry[1]
            notes[current] = entry[2].strip()
        elif current and line.startswith(" " * 8):
            notes[current] += " " + line.strip()
        elif line.strip():
            current = ""
    return notes


def knob(name: str, hint: object, default: Any, note: str = "") -> Component:
    """The widget for one field.

    Raises:
        TypeError: the field's type has no widget; a mistake of the inspector's author.
    """
    kind, *marks = typing.get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
    label, info = name.replace("_", " "), note or None
    for mark in marks:
        if isinstance(mark, Range):
            whole = kind is int
            return gr.Slider(
                mark.low,
                mark.high,
                default,
                step=mark.step,
                precision=0 if whole else None,
                label=label,
                info=info,
                min_width=220,
            )
        if isinstance(mark, Choice):
            # Its values come with the run; until then, and for calls without a page, any text may stand.
            return gr.Dropdown([default] if default else [], value=default or None, allow_custom_value=True,
                               label=label, info=info, min_width=180)  # fmt: skip
    if kind is bool:
        return gr.Checkbox(bool(default), label=label, info=info, min_width=140)
    if typing.get_origin(kind) is typing.Literal:
        values = list(typing.get_args(kind))
        return gr.Dropdown([(str(v) or "the model's own", v) for v in values], value=default, label=label,
                           info=info, min_width=160)  # fmt: skip
    if kind in (int, float):
        return gr.Number(default, precision=0 if kind is int else None, label=label, info=info, min_width=140)
    if kind is str:
        return gr.Textbox(default, label=label, info=info, min_width=160)
    raise TypeError(f"no widget for knob {name!r} of type {kind}")


def knobs_for(params: type) -> list[Component]:
    """The widgets of all fields, in their order."""
    hints, notes = hints_of(params), explained(params)
    return [knob(f.name, hints[f.name], f.default, notes.get(f.name, "")) for f in dataclasses.fields(params)]


def choices_of(params: type, run: Run) -> dict[str, list[str]]:
    """Field name -> values on offer for this run, of the fields that are a Choice."""
    offered = {}
    for name, hint in hints_of(params).items():
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, Choice):
                offered[name] = [str(value) for value in mark.of(run)]
    return offered


def params_from(params: type, values: Sequence[Any], run: Run | None = None) -> Any:
    """Params from widget values, in the order of the fields.

    An empty value stands for the default. A Choice that this run does not offer (it was chosen for
    another one) falls back to the first on offer.

    Raises:
        ValueError: a value is outside its range or none of its choices.
    """
    hints = hints_of(params)
    offered = choices_of(params, run) if run is not None else {}
    given: dict[str, Any] = {}
    for field, value in zip(dataclasses.fields(params), values, strict=True):
        if field.name in offered:
            options = offered[field.name]
            given[field.name] = value if value in options else (options[0] if options else field.default)
        elif value is not None and value != "":
            given[field.name] = checked(field.name, hints[field.name], value)
    return params(**given)


def checked(name: str, hint: object, value: Any) -> Any:
    """A value as its field wants it.

    Raises:
        ValueError: it does not fit; the message says what would.
    """
    kind, *marks = typing.get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
    if typing.get_origin(kind) is typing.Literal:
        options = typing.get_args(kind)
        found = next((o for o in options if str(o) == str(value)), None)
        if found is None:
            raise ValueError(f"{name}: expected one of {', '.join(map(str, options))}, got {value!r}")
        return found
    if kind is bool:
        return value if isinstance(value, bool) else str(value).lower() in ("true", "1", "yes", "on")
    if kind in (int, float):
        try:
            number = kind(float(value))
        except (TypeError, ValueError):
            raise ValueError(f"{name}: expected a number, got {value!r}") from None
        for mark in marks:
            if isinstance(mark, Range) and not mark.low <= number <= mark.high:
                raise ValueError(f"{name}: expected {mark.low:g} to {mark.high:g}, got {number:g}")
        return number
    return str(value)


def offer(choices: list[str], value: Any, given: Any) -> Any:
    """The update of a Choice's widget: what this run offers.

    Its value is sent only where it is not what was asked with: another may have been chosen meanwhile.
    """
    own = {} if value == given else {"value": value}
    return gr.update(choices=choices, visible=len(choices) > 1, **own)


def choice_names(params: type) -> list[str]:
    """Names of the fields that are a Choice."""
    return [
        name
        for name, hint in hints_of(params).items()
        if any(isinstance(mark, Choice) for mark in getattr(hint, "__metadata__", ()))
    ]


# Handlers with the names of what they take, for whoever calls them over HTTP.


BAR = ("run", "epoch", "data", "sample", "decoder", "image", "x0", "y0", "x1", "y1")
"""What every handler of an inspector's page takes before the knobs: the subject bar's values."""


def with_names(handler: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    """A handler whose arguments have these names and all default to None, for HTTP clients.

    A client names those that it wants to differ; Gradio lets it leave out only what defaults to None.
    """

    @functools.wraps(handler)
    def named_handler(*values: Any) -> Any:
        return handler(*values)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind, default=None) for name in names]
    named_handler.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    del named_handler.__wrapped__  # type: ignore[attr-defined]
    named_handler.__annotations__ = {}
    return named_handler


def named(function: Callable[..., Any], *given: Any, params: type) -> Callable[..., Any]:
    """`function` with its first arguments given, the others named as the subject bar and the Params are.

    Args:
        function: takes the given arguments, then the values of the bar and of the controls.
        given: its first arguments.
        params: the inspector's Params.
    """
    names = [*BAR, *(f.name for f in dataclasses.fields(params))]
    handler = functools.wraps(function)(lambda *values: function(*given, *values))
    return with_names(handler, names)
