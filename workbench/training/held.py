"""A run of another trainer, held from outside: pause, step, resume, stop, by an object or by files.

Files lie in one folder and may come from any process: ``pause`` (empty) holds the run after the step under
way and lets it go when it is removed; ``step``, holding a number, lets it do so many more and pause again;
``stop`` ends it.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

# A held run asks this often whether it may go on; a running one looks for files no more often.
LOOK_SECONDS = 0.2


class Held:
    """What a hook obeys."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._allowed: float = float("inf")
        self._stop = False
        self._turn = threading.Condition()
        self._looked = 0.0
        self._from_file = False

    def pause(self) -> None:
        """Hold after the step under way."""
        with self._turn:
            self._allowed = 0

    def resume(self) -> None:
        """Go on, whoever paused."""
        with self._turn:
            if self._folder:
                (self._folder / "pause").unlink(missing_ok=True)
            self._allowed, self._from_file = float("inf"), False
            self._turn.notify_all()

    def step(self, count: int = 1) -> None:
        """Do `count` steps and hold.

        Raises:
            ValueError: less than one.
        """
        if count < 1:
            raise ValueError(f"step: expected at least one, got {count}")
        with self._turn:
            self._allowed = count
            self._turn.notify_all()

    def stop(self) -> None:
        """End the run after the step under way."""
        with self._turn:
            self._stop = True
            self._turn.notify_all()

    def permitted(self) -> bool:
        """Wait until a step is allowed; false when the run is to end."""
        with self._turn:
            self._look()
            while self._allowed < 1 and not self._stop:
                self._turn.wait(LOOK_SECONDS)
                self._look()
            self._allowed -= 1
            return not self._stop

    def _look(self) -> None:
        """Read the files, and take away those that have been obeyed."""
        if self._folder is None or time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        if (stop := self._folder / "stop").exists():
            stop.unlink(missing_ok=True)
            self._stop = True
        paused = (self._folder / "pause").exists()
        if paused and not self._from_file:
            self._allowed, self._from_file = 0, True
        elif self._from_file and not paused:
            self._allowed, self._from_file = float("inf"), False
        if (asked := self._folder / "step").exists():
            text = asked.read_text(encoding="utf-8").strip()
            asked.unlink(missing_ok=True)
            self._allowed = int(text) if text.isdecimal() else 1
