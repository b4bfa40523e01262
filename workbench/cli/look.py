"""workbench look NAME: one inspector on one model; every knob of its contract is an option.

Adding an inspector adds its verb: names come from workbench.inspectors.ALL, help from the first line of its
file, options from the fields of its Params.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.options import Demo, option
from workbench.cli.output import Answer
from workbench.cli.report_output import Subject, answer
from workbench.core.inspector import Choice, Inspector, Range, field_descriptions
from workbench.inspectors import ALL, file_of, get

Out = Annotated[
    Path | None, option("--out", "Write the figure as .html, the facts as .json or the table as .csv.")
]


def question(name: str) -> str:
    """The question an inspector answers: the first line of its file, read without importing it."""
    with file_of(name).open(encoding="utf-8") as file:
        return file.readline().strip().strip('"')


SUBVERBS: dict[str, str] = {name: question(name) for name in ALL}


DEMO_PART = "overlay"
"""Shown by `look --demo`."""


def subcommand(name: str) -> Callable[..., Answer]:
    """The verb of one inspector: the shared options and one for each of its knobs."""
    inspector = get(name)
    knobs = knob_options(inspector)

    def command(*, subject: Subject, out: Out = None, demo: Demo = False, **values: Any) -> Answer:
        chosen = {key: values[f"knob_{key}"] for key in knobs}
        params = inspector.params(
            **{k: v.value if isinstance(v, enum.Enum) else v for k, v in chosen.items()}
        )
        return answer(inspector, params, subject, out, demo)

    shared = inspect.signature(command, eval_str=True)
    own = [
        inspect.Parameter(f"knob_{key}", inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
        for key, (hint, default) in knobs.items()
    ]
    parameters = [*list(shared.parameters.values())[:-1], *own]
    command.__doc__ = SUBVERBS[name]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    command.__signature__ = shared.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


def knob_options(inspector: Inspector) -> dict[str, tuple[Any, Any]]:
    """Knob -> its option as typer reads it, and its default.

    Raises:
        TypeError: a knob has a type that no option stands for; a mistake of the inspector's author.
    """
    notes = field_descriptions(inspector.params)
    hints = typing.get_type_hints(inspector.params, include_extras=True)
    options = {}
    for field in dataclasses.fields(inspector.params):
        hint, default = hints[field.name], field.default
        kind, *marks = typing.get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
        text, flag = (
            notes[field.name][:1].upper() + notes[field.name][1:],
            f"--{field.name.replace('_', '-')}",
        )
        bounds = next((m for m in marks if isinstance(m, Range)), None)
        if typing.get_origin(hint) is typing.Literal:
            names = typing.get_args(hint)
            # typer takes an Enum for a closed set of words in all its versions, a Literal only in late ones.
            values: Any = enum.Enum(field.name, {str(v): v for v in names})
            options[field.name] = Annotated[values, typer.Option(flag, help=text)], values(default)
        elif bounds is not None:
            low, high = kind(bounds.low), kind(bounds.high)
            options[field.name] = Annotated[kind, typer.Option(flag, help=text, min=low, max=high)], default
        elif kind is bool:
            both = f"{flag}/--no-{flag[2:]}"
            options[field.name] = Annotated[bool, typer.Option(both, help=text)], default
        elif kind is str and any(isinstance(m, Choice) for m in marks):
            options[field.name] = Annotated[str, typer.Option(flag, help=text)], default
        else:
            raise TypeError(f"{inspector.name}: no option for knob {field.name!r} of type {hint}")
    return options
