"""Which attempts does the server hold? At most one alive per device, all of them by id."""

from __future__ import annotations

import secrets
import shutil
import threading
from pathlib import Path

from apps.overfit.attempts import Attempt
from apps.overfit.choices import Choices as Wishes
from apps.overfit.choices import setup_of as made
from apps.server.context import Context

# Each keeps two networks in memory and some snapshots on disk.
KEPT = 6


class Attempts:
    """Shared by every page of the server."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._attempts: dict[str, Attempt] = {}
        self._starting: set[str] = set()
        self._lock = threading.Lock()

    def begin(self, wishes: Wishes) -> Attempt:
        """Start an attempt.

        Raises:
            ValueError: the device is taken by another attempt, or the wishes cannot be met.
            LookupError: no such family, set or sample.
            OSError: the config lies outside the served folder, or nothing can be written.
        """
        with self._lock:
            self._free(wishes.device)
            self._starting.add(wishes.device)
        try:
            identity = secrets.token_hex(4)
            folder = self._folder() / identity
            attempt = Attempt(identity, wishes, made(self._context, wishes), folder, self._context.jobs)
            with self._lock:
                self._attempts[identity] = attempt
                for old in [a for a in self._attempts.values() if not a.alive][:-KEPT]:
                    del self._attempts[old.id]
                    shutil.rmtree(old.folder, ignore_errors=True)
            attempt.begin()
        finally:
            with self._lock:
                self._starting.discard(wishes.device)
        return attempt

    def get(self, identity: str) -> Attempt:
        """The attempt of an id.

        Raises:
            KeyError: the server does not hold it (any more).
        """
        if identity not in self._attempts:
            raise KeyError(
                f"no overfit session {identity!r} on this server: it was started before the server was, "
                f"or {KEPT} newer ones have ended; start another one"
            )
        return self._attempts[identity]

    def alive(self) -> list[Attempt]:
        """Those that run, pause, or look for a cause."""
        return [attempt for attempt in list(self._attempts.values()) if attempt.alive]

    def _free(self, device: str) -> None:
        if device in self._starting:
            raise ValueError(f"{device} is taken: another overfit session is just starting on it")
        for attempt in self.alive():
            if attempt.wishes.device == device:
                now = attempt.session.status()
                doing = "bisecting" if attempt.bisecting else f"{now.state} at step {now.step} of {now.steps}"
                raise ValueError(
                    f"{device} is taken by session {attempt.id} ({attempt.made.title}, {doing}): stop it, or "
                    f"look at it at overfit?session={attempt.id}"
                )

    def _folder(self) -> Path:
        from workbench.data import cache_folder

        return (self._context.settings.cache or cache_folder()) / "overfit"
