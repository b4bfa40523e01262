"""What Gradio's queue may hold: questions that wait, answers that nobody has read, names of sessions."""

from __future__ import annotations

import re
from collections import OrderedDict
from contextvars import ContextVar
from typing import Any

import gradio as gr
from gradio.queueing import Queue
from gradio.server_messages import EventMessage

from apps.server.control_values import weight

UNREAD_BYTES = 256 << 20
"""Characters of answers that nobody has read yet, of all sessions; beyond that the oldest are dropped."""

WAITING_BYTES = 128 << 20
"""Characters of questions that wait for their turn; beyond that another one is refused."""

MOST_WAITING = 2000
"""Questions that wait for their turn: each holds the head of its request beside its values."""

refused: ContextVar[bool] = ContextVar("refused", default=False)
"""Whether what this request asked for was refused; Gradio answers 500 in any case."""

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What a page or a client calls its session or one of its uploads."""


class SessionNameError(gr.Error):
    """A request's name of a session is none."""


def check_session(name: str) -> None:
    """Whether a name is one that a page or a client gives its session: it is kept as long as the session.

    Raises:
        SessionNameError: it is longer than any, or holds other signs.
    """
    if not NAME.fullmatch(name):
        refused.set(True)
        said = "session_hash: expected 1 to 64 letters, digits, - and _"
        raise SessionNameError(said, print_exception=False)


class Waiting:
    """Questions that wait for their turn, bounded by what they hold.

    Gradio bounds their number, and each may be as large as a request.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._weights: dict[str, int] = {}

    async def push(self, body: Any, *others: Any, **named: Any) -> Any:
        """Queue a question, unless those that wait already hold too much."""
        if body.session_hash is not None:
            check_session(body.session_hash)
        asked = {name: event.data for name, event in list(self._queue.event_ids_to_events.items())}
        known = self._weights  # each is weighed once: a walk over 16 MB of numbers holds up everybody
        self._weights = {
            name: known[name] if name in known else self._weight(data)
            for name, data in asked.items()
            if data is not None
        }
        if sum(self._weights.values()) + self._weight(body) > WAITING_BYTES:
            return False, "Too many questions wait for their turn; ask again later.", "queue_full"
        self._forget_unread()
        return await Queue.push(self._queue, body, *others, **named)

    @staticmethod
    def _weight(body: Any) -> int:
        return weight([body.data, body.event_data, body.oauth_token])

    def _forget_unread(self) -> None:
        """Drop what Gradio notes of sessions whose answers it has dropped: it keeps that for ever."""
        noted, answers = self._queue.pending_event_ids_session, self._queue.pending_messages_per_session
        if len(noted) > 2 * MOST_WAITING:
            for session in [one for one in noted if one not in answers]:
                del noted[session]


class Unread:
    """Answers that the queue holds for sessions which have not fetched them, bounded over all sessions.

    Gradio keeps what nobody fetches, of 2000 sessions: an answer is megabytes.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._weights: OrderedDict[str, int] = OrderedDict()

    def count(self, session: str, message: EventMessage) -> None:
        """Count a message that is about to be sent; drop the oldest answers beyond `UNREAD_BYTES`."""
        pending = self._queue.pending_messages_per_session
        for name in [n for n in self._weights if n not in pending or pending[n].empty()]:
            del self._weights[name]
        self._weights[session] = self._weights.get(session, 0) + weight(message.model_dump())
        while sum(self._weights.values()) > UNREAD_BYTES and len(self._weights) > 1:
            # Who still listens is told that the session is not known, and begins anew.
            oldest = next(iter(self._weights))
            del self._weights[oldest], pending[oldest]
            self._queue.pending_event_ids_session.pop(oldest, None)
