"""Wait for what another thread, process or server does; fail with what was seen last."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

Seen = TypeVar("Seen")


def until(claim: Callable[[], Any], seconds: float = 60.0, every: float = 0.02, seen: Any = None) -> None:
    """Return once `claim()` is true.

    Args:
        claim: asked again and again.
        seconds: after which it is a failure.
        every: seconds between two questions.
        seen: what the failure shows; a callable is called then.
    """
    when(claim, bool, seconds, every, seen)


def when(
    ask: Callable[[], Seen],
    claim: Callable[[Seen], Any],
    seconds: float = 60.0,
    every: float = 0.05,
    seen: Any = None,
) -> Seen:
    """The first answer of `ask` for which the claim is true; the last answer stands in the failure.

    Args:
        ask: asked again and again.
        claim: about an answer.
        seconds: after which it is a failure.
        every: seconds between two questions.
        seen: what the failure shows instead of the last answer; a callable is called then.
    """
    end = time.monotonic() + seconds
    while not claim(answer := ask()):
        if time.monotonic() > end:
            shown = seen() if callable(seen) else seen
            raise AssertionError(f"waited {seconds:g} s in vain; last: {answer if shown is None else shown}")
        time.sleep(every)
    return answer


def remains(claim: Callable[[], Any], seconds: float = 0.3, every: float = 0.02) -> None:
    """Fail as soon as a claim is not true within so many seconds; for what must not happen."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert claim()
        time.sleep(every)
