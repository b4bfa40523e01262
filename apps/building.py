"""How are thirty pages put together without describing all of them thirty times?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.routes import App


@contextlib.contextmanager
def described_once() -> Iterator[None]:
    """Pages are added in the block; what serves them is made afterwards, by whoever mounts the app.

    At the end of every page Gradio (6.31, Blocks.__exit__) lists all components of all pages and makes a new
    server of them. Both are made again when the app is mounted, and nobody reads those in between: with
    thirty pages that is half a minute at every start.
    """
    create, describe = App.create_app, gr.Blocks.get_config_file

    def nothing(*_: Any, **__: Any) -> Any:
        return {}

    App.create_app = staticmethod(nothing)  # type: ignore[method-assign]
    gr.Blocks.get_config_file = nothing  # type: ignore[method-assign]
    try:
        yield
    finally:
        App.create_app = staticmethod(create)  # type: ignore[method-assign]
        gr.Blocks.get_config_file = describe  # type: ignore[method-assign]
