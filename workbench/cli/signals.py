"""How a verb ends when somebody presses Ctrl-C or a scheduler sends SIGTERM: one sentence, 130 or 143."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType

_caught: list[int] = []
_reported: list[bool] = []


def listen() -> None:
    """Make SIGINT and SIGTERM unwind the verb as KeyboardInterrupt does; a second one ends it at once.

    Unwinding lets a training loop finish its step and write it, and `with` blocks remove what they made.
    To be called from the main thread.
    """
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), _raise)
    if hasattr(os, "register_at_fork"):
        _end_at_the_second()


# Seconds that the main thread has to see the second signal itself.
_SEEN_WITHIN = 0.5


def _end_at_the_second() -> None:
    """Let a thread end the process at the second signal where the main thread cannot.

    Python calls the handlers between two of its own instructions. A program of somebody else that loops
    within one call of torch never comes back to them: only SIGKILL would end the verb.
    """
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    # What a process that is forked from this one hears is not meant for this one.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))

    def wait() -> None:
        first = 0
        while number := int.from_bytes(os.read(heard, 1), "big"):
            if number not in (signal.SIGINT, signal.SIGTERM):
                continue
            if first:
                time.sleep(_SEEN_WITHIN)
                leave(exit_code() or 128 + first)
            first = number

    threading.Thread(target=wait, name="second signal", daemon=True).start()


def renew() -> None:
    """Take both signals back from a library that has set handlers past Python's, as Ray does when it starts.

    Ray's ends the process with an abort. Does nothing outside of the main thread.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.getsignal(number))


def ignore() -> None:
    """Ignore SIGINT and SIGTERM from now on: the answer has been given, and only Python's own end follows.

    The interpreter restores the default action of handled signals when it ends, so a signal that arrives then
    would end the process without a sentence (exit code -15). Ignored signals stay ignored.
    """
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)


def exit_code() -> int:
    """128 and the number of the signal that ended this process, as shells have it; 0 where none came."""
    return 128 + _caught[0] if _caught else 0


def reason() -> str:
    """Which signal came, for people."""
    return "Ctrl-C" if not _caught or _caught[0] == signal.SIGINT else signal.Signals(_caught[0]).name


def mark_reported() -> None:
    """Note that the user has been told of the signal."""
    _reported.append(True)


def is_reported() -> bool:
    """Whether the user has been told of the signal."""
    return bool(_reported)


def leave(code: int) -> None:
    """End the process at once, without the interpreter's own end.

    The interpreter ends other threads wherever they are. One that is inside torch or onnxruntime then takes
    the process down with "terminate called without an active exception", or never returns.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # nobody reads it any more, or it is closed
            continue
    os._exit(code)


def _raise(number: int, frame: FrameType | None) -> None:
    if _caught:
        leave(exit_code())
    _caught.append(number)
    raise KeyboardInterrupt
