"""The input widget of each field of an inspector's Params, and the Params that widgets' values make."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import typing
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from workbench.core import Run
from workbench.core.inspector import Choice, Range, field_descriptions


def hints_of(params: type) -> dict[str, Any]:
    """Field name -> annotation, with its Range or Choice."""
    return typing.get_type_hints(params, include_extras=True)


def widget_of(
    name: str, hint: object, default: Any, note: str = ""
) -> tuple[type[Component], dict[str, Any]]:
    """The class of the widget for one field, and the arguments that make it.

    Raises:
        TypeError: the field's type has no widget; a mistake of the inspector's author.
    """
    kind, *marks = typing.get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
    text: dict[str, Any] = {"label": name.replace("_", " "), "info": note or None, "value": default}
    for mark in marks:
        if isinstance(mark, Range):
            bounds = {"minimum": mark.low, "maximum": mark.high, "step": mark.step}
            return gr.Slider, {**text, **bounds, "precision": 0 if kind is int else None, "min_width": 220}
        if isinstance(mark, Choice):
            # Its values come with the run; until then, and for calls without a page, any text may stand.
            choices = {"choices": [default] if default else [], "allow_custom_value": True}
            return gr.Dropdown, {**text, **choices, "value": default or None, "min_width": 180}
    if kind is bool:
        return gr.Checkbox, {**text, "value": bool(default), "min_width": 140}
    if typing.get_origin(kind) is typing.Literal:
        values = [(str(v) or "the model's own", v) for v in typing.get_args(kind)]
        return gr.Dropdown, {**text, "choices": values, "allow_custom_value": False, "min_width": 160}
    if kind in (int, float):
        return gr.Number, {**text, "precision": 0 if kind is int else None, "min_width": 140}
    if kind is str:
        return gr.Textbox, {**text, "min_width": 160}
    raise TypeError(f"no widget for control {name!r} of type {kind}")


def knob(name: str, hint: object, default: Any) -> Component:
    """The widget for one field.

    Raises:
        TypeError: the field's type has no widget; a mistake of the inspector's author.
    """
    widget, arguments = widget_of(name, hint, default)
    return widget(**arguments)


def widgets_of(params: type) -> list[tuple[type[Component], dict[str, Any]]]:
    """Class and arguments of the widgets of all fields, in their order."""
    hints, notes = hints_of(params), field_descriptions(params)
    fields = dataclasses.fields(params)
    return [widget_of(f.name, hints[f.name], f.default, notes.get(f.name, "")) for f in fields]


def knobs_for(params: type) -> list[Component]:
    """The widgets of all fields, in their order."""
    return [widget(**arguments) for widget, arguments in widgets_of(params)]


# What a slot of `Slots` takes until a page is opened; `checked` judges the value.
_ANY_VALUE: dict[type[Component], dict[str, Any]] = {
    gr.Slider: {"minimum": -1e9, "maximum": 1e9},
    gr.Dropdown: {"choices": [], "allow_custom_value": True},
}


class Slots:
    """One set of hidden widgets for the fields of several Params, of which one is shown at a time.

    The n-th field of a Params uses the widget of its kind at place n. Must be made while a page is built.

    Attributes:
        components: all widgets, in the order in which they stand on the page.
    """

    def __init__(self, several: Sequence[type]) -> None:
        needed = {
            (place, widget) for params in several for place, (widget, _) in enumerate(widgets_of(params))
        }
        ordered = sorted(needed, key=lambda one: (one[0], one[1].__name__))
        self._places = {one: number for number, one in enumerate(ordered)}
        self.components = [widget(visible=False, **_ANY_VALUE.get(widget, {})) for _, widget in ordered]

    def numbers(self, params: type) -> list[int]:
        """For each field its widget's position in `components`."""
        return [self._places[place, widget] for place, (widget, _) in enumerate(widgets_of(params))]

    def shown_for(self, params: type) -> list[Any]:
        """Updates of all components that show the fields of a Params at their defaults, and nothing else."""
        updates = [gr.update(visible=False)] * len(self.components)
        for number, (_, arguments) in zip(self.numbers(params), widgets_of(params), strict=True):
            updates[number] = gr.update(visible=True, **arguments)
        return updates

    def spread(self, params: type, updates: Sequence[Any]) -> list[Any]:
        """Updates of all components for those of the fields of a Params; the others are left as they are."""
        spread = [gr.skip()] * len(self.components)
        for number, update in zip(self.numbers(params), updates, strict=True):
            spread[number] = update
        return spread


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


YES, NO = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "none")
"""Words of an address for a switch."""


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
            raise ValueError(f"{name}: expected one of {', '.join(map(str, options))}, got {value!r:.60}")
        return found
    if kind is bool:
        word = str(value).lower()
        if word not in YES + NO:
            raise ValueError(f"{name}: expected true or false, got {value!r:.60}")
        return word in YES
    if kind in (int, float):
        try:
            number = kind(float(value))
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"{name}: expected a number, got {value!r:.60}") from None
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


# One question that a page asks again and again, never twice at once, the last time with what is newest.


_NUMBERS = itertools.count(1)


class LatestQuestion:
    """A question of a page of which at most one runs at a time, and the last with the newest values.

    It is to be made while a page is built.

    Attributes:
        again: what makes the question be asked when it changes; for `gr.on`.
    """

    def __init__(self) -> None:
        self._token = gr.Textbox("", visible="hidden", show_label=False)
        self.again = self._token.change

    def after(self, event: Any) -> Any:
        """Have it asked once `event` has succeeded; the event that did so."""
        return event.success(None, None, self._token, js="() => `${Date.now()} ${Math.random()}`")

    def on(self, triggers: Sequence[Any], ask: Callable[..., Any], **settings: Any) -> Any:
        """The question itself: asked by triggers and by `after`, the last time with what is newest.

        Args:
            triggers: events of the page, a timer's tick among them.
            ask: the handler. It must not send back the inputs as they were asked with: what was chosen
                meanwhile would be overwritten.
            **settings: inputs, outputs, api_name ... of `gr.on`.
        """
        number = next(_NUMBERS)
        outputs = settings.get("outputs") or []
        shown = outputs if isinstance(outputs, list) else [outputs]
        marked = next((one.elem_id for one in shown if isinstance(one, gr.HTML) and one.elem_id), "wb-answer")
        keep = f"(...now) => window.wb.asking({number}, now)"
        asked = gr.on([*triggers, self.again], ask, trigger_mode="always_last", js=keep, **settings)
        inputs = settings.get("inputs") or []
        inputs = inputs if isinstance(inputs, list) else [inputs]
        # Refused, and something else was chosen since: that is asked, the refusal was not its own.
        asked.failure(
            None, [self._token, *inputs], self._token,
            js=f"(token, ...now) => window.wb.refused({number}, now, '{marked}') ? token "
            ": `${Date.now()} again`",
        )  # fmt: skip
        return asked


def without_echo(updates: Sequence[Any], given: Sequence[Any]) -> list[Any]:
    """Updates of the widgets that a question was asked with, less the values that it was asked with.

    Args:
        updates: as `gr.update` makes them.
        given: the widgets' values, in the same order.
    """
    return [
        {k: v for k, v in update.items() if k != "value"} if update.get("value", value) == value else update
        for update, value in zip(updates, given, strict=True)
    ]
