"""Costly objects by key, made once, the least used forgotten; shared by every session of the server."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

from workbench.core.job import current_checkpoint

Value = TypeVar("Value")

# A job that waits for what another thread makes looks so often whether it was cancelled.
LOOK_SECONDS = 0.1


class Shelf(Generic[Value]):
    """At most `size` values; two threads that ask for the same key wait for one making.

    Args:
        size: most values.
        weight: bytes of a value; all together are kept below `most`.
        most: bytes in all.
    """

    def __init__(self, size: int, weight: Callable[[Value], int] = lambda _: 0, most: int = 0) -> None:
        self._size, self._weight, self._most, self._heavy = size, weight, most, 0
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, made now when it is not there; what `make` raises is not kept.

        Raises:
            Cancelled: the job in whose thread this waits for another thread's making was told to stop.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            making = self._making.setdefault(key, threading.Lock())
        while not making.acquire(timeout=LOOK_SECONDS):
            current_checkpoint()
        try:
            with self._lock:
                if key in self._values:
                    return self._values[key]
            try:
                value = make()
            finally:
                with self._lock:
                    self._making.pop(key, None)
            with self._lock:
                self._values[key] = value
                self._heavy += self._weight(value)
                while len(self._values) > self._size or self._heavy > self._most:
                    _, old = self._values.popitem(last=False)
                    self._heavy -= self._weight(old)
        finally:
            making.release()
        return value

    def forget(self, key: Hashable) -> None:
        """Make it anew next time."""
        with self._lock:
            if key in self._values:
                self._heavy -= self._weight(self._values.pop(key))

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)


def version_of(path: Path) -> tuple[str, int, int]:
    """A file as it is now, as a key: rewritten in place it is another one."""
    told = path.stat()
    return str(path), told.st_mtime_ns, told.st_size
