"""Blocks of rows: what a worker predicts between two moments at which it can be stopped."""

from __future__ import annotations

import dataclasses
import io
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workbench.evaluation.predictions import Predictions
from workbench.evaluation.protocol import protocol_of_loaded

if TYPE_CHECKING:
    from workbench.data.boxes import FoundBox
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.protocol import Protocol
    from workbench.evaluation.sweeps.readings import Reader
    from workbench.evaluation.sweeps.rules import SweepRules, SweepSource
    from workbench.models import LoadedModel

# What numpy and the zip library raise for damaged or hostile archives: an encrypted entry, a header that no
# parser reads or that asks for more memory than there is, an infinite number of rows.
_DAMAGE = (
    ValueError, LookupError, OSError, EOFError, zipfile.BadZipFile, TypeError, RuntimeError, SyntaxError,
    MemoryError, ArithmeticError, tokenize.TokenError, zlib.error,
)  # fmt: skip
# Batches of one block: the more, the less is spent beside inference, and the longer the wait for a stop.
BATCHES = 4


@dataclass(frozen=True)
class Unit:
    """One checkpoint of a sweep.

    Attributes:
        title: of its files, unique in the sweep.
        path: of the checkpoint.
        epoch: its number in the history.
    """

    title: str
    path: str
    epoch: int


@dataclass(frozen=True)
class Opened:
    """A worker has opened a checkpoint.

    Attributes:
        protocols: of all variants.
        rows: rows to predict in all.
    """

    protocols: tuple[Protocol, ...]
    rows: int


@dataclass(frozen=True, eq=False)
class Block:
    """Predictions of some rows.

    Attributes:
        first: number of the first row.
        last: number behind the last one.
        predictions: of each variant.
    """

    first: int
    last: int
    predictions: tuple[Predictions, ...]


@dataclass(frozen=True)
class Failed:
    """A checkpoint cannot be predicted with.

    Attributes:
        reason: one sentence.
    """

    reason: str


Event = Opened | Block | Failed


class Worker:
    """Predicts the checkpoints of a run, one after the other; opens the data set once.

    Args:
        source: where everything is.
        rules: of the sweep.
        device: instead of that of the rules.
    """

    def __init__(self, source: SweepSource, rules: SweepRules, device: str | None = None) -> None:
        self._source, self._rules, self._device = source, rules, device
        self._data: PoseSet | None = None
        self._boxes: tuple[list[FoundBox] | None, str] | None = None

    def data(self, keypoints: int) -> PoseSet:
        """The data set; opened at the first call.

        Args:
            keypoints: of the model, where the data set has several skeletons.
        """
        if self._data is None:
            self._data = self._source.open_data(self._rules, keypoints)
        return self._data

    def boxes(self, pose_set: PoseSet) -> tuple[list[FoundBox] | None, str]:
        """The boxes that are cropped, and their name; read at the first call.

        Raises:
            FileNotFoundError, ValueError: see workbench.data.boxes.boxes_from.
        """
        from workbench.data.boxes import boxes_from

        if self._boxes is None:
            self._boxes = boxes_from(self._rules.boxes, pose_set)
        return self._boxes

    def opened(self, path: Path) -> tuple[LoadedModel, Reader]:
        """A checkpoint as a model with the keypoint names of the data set, and its reader.

        Raises:
            NotAvailable, ValueError, OSError, KeyError: it does not open, or does not fit data and ablations.
        """
        from workbench.evaluation.sweeps.readings import reader_for

        loaded = self._source.open_model(path, self._rules, self._device)
        pose_set = self.data(len(loaded.model.skeleton))
        loaded = loaded.named_as(pose_set)
        judged = self._rules.judged(pose_set, loaded.model.skeleton)
        return loaded, reader_for(loaded.model, judged, self._rules, self.boxes(pose_set)[0])

    def events(
        self,
        path: Path,
        sha256: str,
        start: int = 0,
        variants: Sequence[str] = (),
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[Opened | Block]:
        """Predict one checkpoint.

        Batches are cut at the same rows whatever `start` is, so a resumed epoch has the same predictions.

        Args:
            path: of the checkpoint.
            sha256: of its bytes, see workbench.evaluation.sweeps.rules.checkpoint_sha256.
            start: rows that an earlier call has predicted; a number that a block ended with.
            variants: names of the variants that the sweep expects; () for any.
            cancelled: asked before each batch.

        Yields:
            Opened, then blocks.

        Raises:
            Cancelled: as asked for.
            ValueError: the variants of this model are others; see also `opened`.
        """
        loaded, reader = self.opened(path)
        rules = self._rules
        names = [variant.name for variant in reader.variants]
        if variants and names != list(variants):
            odd = [name for name in names if name not in variants] + [n for n in variants if n not in names]
            raise ValueError(f"its outputs allow other variants than the run's others: {', '.join(odd[:4])}")
        own = protocol_of_loaded(
            loaded, sha256=sha256,
            boxes=self.boxes(self.data(len(loaded.model.skeleton)))[1], flip=rules.flip,
            options=rules.decoding, score_rule=rules.score_rule, nms=rules.nms, batch_size=rules.batch_size,
        )  # fmt: skip
        yield Opened(tuple(reader.protocol(n, own) for n in range(len(names))), len(reader.rows))
        step = rules.batch_size * BATCHES
        for first in range(start, len(reader.rows), step):
            rows = reader.rows[first : first + step]
            yield Block(first, first + len(rows), tuple(reader.read(rows, cancelled)))


# Blocks as bytes: plain arrays that are read without unpickling anything.


def to_bytes(block: Block) -> bytes:
    """A block as the bytes of an .npz archive."""
    arrays: dict[str, np.ndarray] = {"rows": np.array([block.first, block.last])}
    for number, one in enumerate(block.predictions):
        fields = {f.name: getattr(one, f.name) for f in dataclasses.fields(one)}
        arrays |= {f"{number}.{name}": value for name, value in fields.items() if value is not None}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def from_bytes(data: bytes) -> Block:
    """The block that `to_bytes` was given.

    Raises:
        ValueError: it is damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as parts:  # np.savez compresses nothing
            inside = parts.infolist()
        if any(part.compress_type for part in inside) or sum(part.file_size for part in inside) > len(data):
            raise ValueError("a compressed archive")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        first, last = map(int, arrays.pop("rows"))
        numbers = sorted({int(name.partition(".")[0]) for name in arrays})
        made = [
            Predictions(
                **{
                    f.name: arrays[f"{number}.{f.name}"]
                    for f in dataclasses.fields(Predictions)
                    if f.default is not None or f"{number}.{f.name}" in arrays
                }
            )
            for number in numbers
        ]
    except _DAMAGE as reason:
        raise ValueError(f"a damaged block of predictions ({reason})") from None
    return Block(first, last, tuple(made))


def joined(blocks: Sequence[Block]) -> Block:
    """Blocks that follow one another as one."""
    columns = zip(*(block.predictions for block in blocks), strict=True)
    return Block(blocks[0].first, blocks[-1].last, tuple(Predictions.joined(c) for c in columns))
