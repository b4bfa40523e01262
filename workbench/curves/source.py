"""A log file while it is read: its lines within limits, its budget, and what is to be told of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.checkpoints.budget import ASKED_EVERY, Budget
from workbench.core.job import current_checkpoint

# A run of 10,000 epochs that logs every iteration leaves less.
MOST_BYTES = 256 << 20
# A first line with the description of the machine and the config has some ten thousand characters.
MOST_LINE = 4 << 20
# Broken lines that are left out, with a note; a file with more of them is no log.
MOST_BROKEN = 20


@dataclass
class Source:
    """One file.

    Attributes:
        path: of the file; of a text that was pasted only its name counts.
        text: what was pasted; None for a file.
        piped: the text came through a pipe: its last line may be cut off, as that of a file.
        notes: what was left out or assumed, one sentence each.
        good: rows that were read.
        budget: charged for every value.
    """

    path: Path
    text: str | None = None
    piped: bool = False
    notes: list[str] = field(default_factory=list)
    good: int = 0
    broken: list[tuple[int, str]] = field(default_factory=list)
    budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        self.budget = Budget(self.path.name, "log", steps=20_000_000, objects=20_000_000, nbytes=MOST_BYTES)

    @property
    def name(self) -> str:
        """Of the file."""
        return self.path.name

    def note(self, text: str) -> None:
        """Keep one sentence that the user should know; each once."""
        if text not in self.notes:
            self.notes.append(text)

    def lines(self) -> Iterator[tuple[int, str, bool]]:
        """Number from 1, line without its end, and whether it had one: a last line without may be cut off.

        Raises:
            ValueError: the file or a line is larger than any log's.
        """
        if self.text is not None:
            self.budget.hold(len(self.text))
            ended = not self.piped or self.text.endswith("\n")
            lines = self.text.splitlines()
            for number, line in enumerate(lines, 1):
                yield number, line, ended or number < len(lines)
        else:
            yield from self._lines_of_file()
        self.finish()

    def _lines_of_file(self) -> Iterator[tuple[int, str, bool]]:
        check_size(self.path)
        with self.path.open("rb") as file:
            for number in range(1, 1 << 40):
                if number % ASKED_EVERY == 0:  # lines without a figure charge nothing
                    current_checkpoint()
                raw = file.readline(MOST_LINE + 1)
                if not raw:
                    return
                if len(raw) > MOST_LINE:
                    raise ValueError(
                        f"{self.name}, line {number}: longer than {MOST_LINE >> 20} MB, as no log has lines"
                    )
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8", errors="replace")
                yield number, line.rstrip("\r\n"), line.endswith("\n")

    def cut_number(self, number: int, name: str = "") -> None:
        """Tell that the last number of a last line without its end is left out: it may have lost digits.

        Args:
            number: of the line, from 1.
            name: of the quantity, where it has one.
        """
        self.note(
            f"line {number}, the last one, has no line break: its last number{f' ({name})' if name else ''} "
            "may be cut off and is left out"
        )

    def broken_line(self, number: int, expected: str, whole: bool = True) -> None:
        """Leave a line out; a last one without its end is noted as cut off.

        Args:
            number: of the line, from 1.
            expected: for the sentence.
            whole: it ends in a line break.

        Raises:
            ValueError: there are too many of them.
        """
        if not whole:
            self.note(f"line {number}, the last one, is cut off and left out")
            return
        self.broken.append((number, expected))
        if len(self.broken) > MOST_BROKEN + self.good // 50:
            self._refuse()

    def finish(self) -> None:
        """Tell the broken lines.

        Raises:
            ValueError: nothing but broken lines.
        """
        if self.broken and not self.good:
            self._refuse()
        if self.broken:
            shown = ", ".join(str(number) for number, _ in self.broken[:5])
            more = f" and {len(self.broken) - 5} more" if len(self.broken) > 5 else ""
            word = "line" if len(self.broken) == 1 else "lines"
            self.note(f"{word} {shown}{more} left out: {self.broken[0][1]}")

    def _refuse(self) -> None:
        number, expected = self.broken[0]
        raise ValueError(f"{self.name}, line {number}: {expected}")


# Characters of a name. A long one before many others would be made again for each of them.
MOST_NAME = 200
_DIGITS = 12


def short_name(name: str) -> str:
    """The name of a series; of one of more than `MOST_NAME` characters the start and a digest of the whole.

    The start alone would be the same for several series, and their figures would stand in one curve.
    """
    if len(name) <= MOST_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{name[: MOST_NAME - _DIGITS - 1]}~{digest}"


def check_size(path: Path) -> None:
    """Refuse a log that is larger than any.

    Raises:
        ValueError: so.
        FileNotFoundError: no such file.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(
            f"{path.name}: a log of {size >> 20} MB is refused; expected at most {MOST_BYTES >> 20}"
        )


def as_number(value: Any) -> float | None:
    """A number of a log as a float; None for anything else, and for text that is no number."""
    if type(value) is float:  # nearly all
        return value
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        if len(value) > 40:
            return None
        try:
            return float(value)
        except ValueError:
            return None
    if not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number that no float holds
        return math.inf
