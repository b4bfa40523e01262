"""Thread-safe LRU cache."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

Value = TypeVar("Value")

# A job that waits for a value computed by another thread checks this often whether it was cancelled.
POLL_SECONDS = 0.1


class LruCache(Generic[Value]):
    """At most `size` values; two threads that ask for the same key wait for one computation.

    Args:
        size: most values; the least recently used is dropped.
        weight: bytes of a value; the sum is kept at or below `most`.
        most: bytes in all.
    """

    def __init__(self, size: int, weight: Callable[[Value], int] = lambda _: 0, most: int = 0) -> None:
        self._size, self._weight, self._most, self._heavy = size, weight, most, 0
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, computed now if it is not there; what `make` raises is not cached.

        Args:
            key: of the value.
            make: computes the value.

        Raises:
            Cancelled: the job in whose thread this waits for another thread was cancelled.
        """
        from workbench.core.job import current_checkpoint

        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            making = self._making.setdefault(key, threading.Lock())
        while not making.acquire(timeout=POLL_SECONDS):
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

    def peek(self, key: Hashable) -> Value | None:
        """The value of a key; None if it is not there."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def forget(self, key: Hashable) -> None:
        """Drop a key: its value is computed again next time."""
        with self._lock:
            if key in self._values:
                self._heavy -= self._weight(self._values.pop(key))

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)


def version_of(path: Path) -> tuple[str, int, int]:
    """Name, time of change and size of a file, as a cache key: a file rewritten in place is another one."""
    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_size
