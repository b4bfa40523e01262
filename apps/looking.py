"""One question that a page asks again and again, never twice at once.

Two answers under way may come in the wrong order, or mixed: the older one then stands beside a newer one, and
a button stays as it was. So whoever has something new to look at does not ask, but has the question asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr


class Looking:
    """To be made while a page is built.

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
            ask: the handler.
            **settings: inputs, outputs, api_name ... of `gr.on`.
        """
        return gr.on([*triggers, self.again], ask, trigger_mode="always_last", **settings)
