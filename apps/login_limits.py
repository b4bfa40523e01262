"""How often may somebody guess the password? Back-off per client and for all together, in constant memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FREE = 5
"""Wrong passwords of one client before it has to wait."""

LONGEST_WAIT = 60.0
"""Seconds; the wait doubles from one second with each further wrong password."""

CLIENTS = 1024
"""Clients remembered; the one not heard of for the longest time is forgotten first."""

# All clients together: so many wrong passwords at once, and one more for each second after that.
BURST, PER_SECOND = 30.0, 1.0


@dataclass
class _Client:
    wrong: int = 0
    until: float = 0.0


class LoginLimits:
    """Counts wrong passwords. Whoever must wait is refused unheard, whether the password is right or not."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self._left, self._filled = BURST, clock()
        self._lock = threading.Lock()

    def wait(self, client: str) -> float:
        """Seconds until this client may try again; 0 when it may now."""
        with self._lock:
            now = self._clock()
            self._fill(now)
            known = self._clients.get(client)
            own = max(0.0, known.until - now) if known is not None else 0.0
            return max(own, 0.0 if self._left >= 1 else (1 - self._left) / PER_SECOND)

    def wrong(self, client: str) -> None:
        """Count one wrong password."""
        with self._lock:
            now = self._clock()
            self._fill(now)
            self._left = max(0.0, self._left - 1)
            known = self._clients.setdefault(client, _Client())
            self._clients.move_to_end(client)
            known.wrong += 1
            if known.wrong >= FREE:
                known.until = now + min(LONGEST_WAIT, 2.0 ** min(known.wrong - FREE, 10))
            while len(self._clients) > CLIENTS:
                self._clients.popitem(last=False)

    def right(self, client: str) -> None:
        """Forget a client's wrong passwords: it gave the right one."""
        with self._lock:
            self._clients.pop(client, None)

    def _fill(self, now: float) -> None:
        self._left = min(BURST, self._left + (now - self._filled) * PER_SECOND)
        self._filled = now
