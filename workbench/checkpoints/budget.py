"""What may one opened file cost? One account of work and memory for everything that is derived from it.

Limits on what is read do not bound what is derived: a small file can name one list a thousand times, share a
submodule without end, or unfold a thousandfold. Every reader of a file charges the same Budget first: steps
(values looked at), objects (values, names and tensors made), bytes (unpacked, copied, joined).
"""

from __future__ import annotations

from dataclasses import dataclass, field


class TooExpensive(ValueError):  # noqa: N818 - reads as a claim
    """A file asks for more work or memory than any honest file of its kind."""


@dataclass
class Budget:
    """What is left to spend on one file.

    Attributes:
        file: its name, for the error.
        kind: what it should be, for the error: ``checkpoint``, ``config``.
        steps: values that may be looked at; 2 million take some seconds.
        objects: containers, values, names and tensors that may be made; each takes about 100 bytes.
        nbytes: bytes that may be unpacked, copied or joined.

    Examples:
        >>> budget = Budget("a.py", "config", steps=10)
        >>> budget.step(8)
        >>> budget.step(8)
        Traceback (most recent call last):
        ...
        workbench.checkpoints.budget.TooExpensive: a.py asks for more than 10 steps of work, \
which no config needs; it is refused as a bomb
    """

    file: str
    kind: str = "checkpoint"
    steps: int = 2_000_000
    objects: int = 2_000_000
    nbytes: int = 256 << 20
    _spent: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    def step(self, count: int = 1) -> None:
        """Charge values that are looked at.

        Raises:
            TooExpensive: more than is left.
        """
        self._charge("steps", count, self.steps, "steps of work")

    def make(self, count: int = 1) -> None:
        """Charge values that are made.

        Raises:
            TooExpensive: more than is left.
        """
        self._charge("objects", count, self.objects, "objects")

    def hold(self, nbytes: int) -> None:
        """Charge bytes of text or data that are made.

        Raises:
            TooExpensive: more than is left.
        """
        self._charge("nbytes", nbytes, self.nbytes, "bytes of text and data")

    def _charge(self, account: str, count: int, limit: int, what: str) -> None:
        spent = self._spent.get(account, 0) + count
        if spent > limit:
            raise TooExpensive(
                f"{self.file} asks for more than {limit:,} {what}, which no {self.kind} needs; "
                "it is refused as a bomb"
            )
        self._spent[account] = spent
