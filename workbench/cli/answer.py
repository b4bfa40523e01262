"""What every verb of the command line returns: facts for programs and text for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """The outcome of one verb.

    Attributes:
        facts: what `--json` prints, as plain data (see workbench.report.plain).
        text: what a person reads otherwise.
        exit_code: 0, or 1 for a finding that a script should stop at (a refused load, a failed check).
    """

    facts: Mapping[str, Any]
    text: str
    exit_code: int = 0
