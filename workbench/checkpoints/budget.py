"""Limits on what a file may ask for before it is refused as a bomb, and the budget that is charged for it.

A pickle of a few hundred bytes can ask for terabytes. Every limit is far above what real checkpoints hold
(an mmengine checkpoint of RTMPose with optimiser and log history: 60,000 opcodes, 3 MB of text) and far below
what a laptop can stand.

Limits on what is read do not bound what is derived: a small file can name one list a thousand times, share a
submodule without end, or unfold a thousandfold. Every reader of a file therefore charges one Budget first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from workbench.core.job import current_checkpoint


@dataclass(frozen=True)
class Limits:
    """Bounds on what is read into memory when a checkpoint is opened; tensors stay on disk and do not count.

    Attributes:
        opcodes: pickle instructions.
        objects: lists, dicts, sets, tuples and other containers; also values on the stack and in the memo.
        text: bytes of strings and byte strings, together, and of compressed pickles.
        digits: bytes of one integer.
        key_parts: values inside one dict key; nested tuples hash in exponential time.
        tensors: in one file.
        name: characters of a tensor's name.
        header: bytes of a safetensors header, a shard index or other JSON, whose values take up to 26 times
            as many.
        ratio: how many times larger a compressed member may get; torch itself never compresses.
        packed: bytes that one compressed member may unfold to.
        shared: bytes of all tensors of a file, as a multiple of the bytes of the file.
        shown: values that are turned into plain data from meta, arguments, states.
    """

    opcodes: int = 10_000_000
    objects: int = 2_000_000
    text: int = 256 << 20
    digits: int = 4096
    key_parts: int = 64
    tensors: int = 30_000
    name: int = 1000
    header: int = 16 << 20
    ratio: int = 200
    packed: int = 1 << 30
    shared: int = 64
    shown: int = 100_000


LIMITS = Limits()

ASKED_EVERY = 4096
"""A reader that works for a job asks whether it was cancelled each time so much more is charged."""


class TooExpensive(ValueError):  # noqa: N818 - reads as a claim
    """A file asks for more work or memory than any real file of its kind."""


@dataclass
class Budget:
    """Work and memory that reading one file may cost.

    Attributes:
        file: its name, for the error.
        kind: of the file, for the error: ``checkpoint``, ``config``.
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
        if spent // ASKED_EVERY > self._spent.get(account, 0) // ASKED_EVERY:
            current_checkpoint()
        self._spent[account] = spent
