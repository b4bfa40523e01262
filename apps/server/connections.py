"""How long a client may take: for the head and the body of a request, and for reading the answer.

uvicorn bounds none of these: a connection whose client says nothing more stays open for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

HEAD_SECONDS = 20.0
"""A connection without a whole head of a request is closed after this time."""

PART_SECONDS = 30.0
"""Longest pause within the body of a request."""

SLOWEST = 5_000.0
"""Bytes a second that a body needs on average, beyond its first `PART_SECONDS`."""

UNREAD_LOOKS = 4
"""So many looks in a row at which a client had read nothing of its answer end the connection."""

LOOK_SECONDS = 10.0
"""Between two looks at a connection."""

MOST_CONNECTIONS = 500
"""Beyond that the one that waits longest for a request is closed; a process may open 1024 files on Linux."""


class Connection(H11Protocol):
    """A connection that ends when its client neither asks nor reads; for ``uvicorn.Config(http=...)``."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._look: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._last_cycle: object = None
        self._unread = self._unread_looks = 0

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look after the client."""
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._look_later()
        if len(self.connections) > MOST_CONNECTIONS:
            others = [one for one in self.connections if isinstance(one, Connection) and one is not self]
            idle = [one for one in others if one.idle]
            # Where all are busy the new one is closed.
            min(idle, key=lambda one: one._idle_since, default=self).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def _look_later(self) -> None:
        self._look = self.loop.call_later(LOOK_SECONDS, self._look_after)

    def _look_after(self) -> None:
        now, unread = self.loop.time(), self.transport.get_write_buffer_size()
        self._unread_looks = self._unread_looks + 1 if unread and unread >= self._unread > 0 else 0
        self._unread = unread
        if not self.idle or self.cycle is not self._last_cycle:
            self._last_cycle, self._idle_since = self.cycle, now
        if self._unread_looks >= UNREAD_LOOKS:
            self.transport.abort()
        elif now - self._idle_since > HEAD_SECONDS and not self.transport.is_closing():
            self.transport.close()  # what is left of an answer is still sent
        self._look_later()


def paced(receive: Receive) -> Receive:
    """The parts of a request's body, as long as they come in time; then the client counts as gone.

    Args:
        receive: of an ASGI request.

    Returns:
        the same; its messages end in a disconnect after `PART_SECONDS` without a part, or when the body comes
        more slowly than `SLOWEST`.
    """
    waited, taken, complete = 0.0, 0, False  # time in which this server did something else does not count

    async def receiving() -> MutableMapping[str, Any]:
        nonlocal waited, taken, complete
        if complete:  # what follows is the end of the connection
            return await receive()
        begun, left = time.monotonic(), PART_SECONDS + taken / SLOWEST - waited
        try:
            message = await asyncio.wait_for(receive(), min(PART_SECONDS, left))
        except asyncio.TimeoutError:
            return {"type": "http.disconnect"}
        waited += time.monotonic() - begun
        taken += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        return message

    return receiving
