"""What does one line of results.md say?"""

from __future__ import annotations

from typing import TypedDict


class Row(TypedDict):
    """One measurement, beside its peer's in the same run.

    Every module of benchmarks/ named in benchmarks.run.MODULES has `rows() -> list[Row]`.
    """

    what: str
    """What was measured, and on what."""
    ours: str
    """Value with unit: ``0.12 s``."""
    peer: str
    """The peer's name and value: ``torch.load 2.1 s``; ``-`` where there is none."""
    ratio: str
    """Peer over ours: ``17x``; ``-`` without a peer."""
    target: str
    """What was promised: ``< 0.5 s``."""
    met: bool | None
    """Whether it was kept, in this run; None where it was not measured (no GPU, a peer that is absent)."""


def ratio(peer: float, ours: float) -> str:
    """How many times less than the peer's: ``17x``."""
    return f"{peer / ours:.3g}x" if ours > 0 else "-"
