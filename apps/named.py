"""Handlers with the names of what they take, for whoever calls them over HTTP."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

BAR = ("run", "epoch", "data", "sample", "decoder", "image", "x0", "y0", "x1", "y1")
"""What every handler of an inspector's page takes before the knobs: the subject bar's values."""


def named(function: Callable[..., Any], *given: Any, params: type) -> Callable[..., Any]:
    """`function` with its first arguments given, its others named as the bar and the knobs are.

    Args:
        function: takes the given arguments, then the values of the bar and of the knobs.
        given: its first arguments.
        params: the inspector's Params.

    Returns:
        A function whose arguments all have defaults: a client names those that it wants otherwise.
    """

    @functools.wraps(function)
    def handler(*values: Any) -> Any:
        return function(*given, *values)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    # None stands for each one's default; Gradio lets clients leave out only what defaults to None.
    names = [*BAR, *(f.name for f in dataclasses.fields(params))]
    handler.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind, default=None) for name in names]
    )
    del handler.__wrapped__  # type: ignore[attr-defined]
    handler.__annotations__ = {}
    return handler
