"""One question that a page asks again and again, never twice at once, the last time with what is newest.

Two answers under way may come in the wrong order, or mixed: the older one then stands beside a newer one, and
a button stays as it was. So whoever has something new to look at does not ask, but has the question asked.
What is chosen while an answer is on its way must not be lost either: Gradio drops it by default, and drops it
in any case when that answer is a refusal.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

_NUMBERS = itertools.count(1)


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
            ask: the handler. It must not send back the inputs as they were asked with: what was chosen
                meanwhile would be overwritten.
            **settings: inputs, outputs, api_name ... of `gr.on`.
        """
        number = next(_NUMBERS)
        keep = f"(...now) => window.wb.asking({number}, now)"
        asked = gr.on([*triggers, self.again], ask, trigger_mode="always_last", js=keep, **settings)
        inputs = settings.get("inputs") or []
        inputs = inputs if isinstance(inputs, list) else [inputs]
        # Refused, and something else was chosen since: that is asked, the refusal was not its own.
        asked.failure(
            None, [self._token, *inputs], self._token,
            js=f"(token, ...now) => window.wb.asked({number}, now) ? token : `${{Date.now()}} again`",
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
