"""The folder of a sweep: a history for each variant, parts of the unfinished epochs, what it was made by.

The reference's epochs lie in the folder itself, so that it is a history (workbench.evaluation.history) like
any other; those of each other variant in a folder below it::

    sweep.json                      what was swept, by which rules; names of the variants' folders
    table.csv                       AP of each epoch and variant
    epoch_10.parquet, manifest.json the reference
    dark-no-flip/epoch_10.parquet   another variant
    .unfinished/epoch_20/*.npz      rows of an epoch that is not finished yet
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.files import RECORD_SIZE, files_in, inner_folder, read_at_most, replacing, write_text
from workbench.core.plain_text import json_text
from workbench.core.report import plain
from workbench.evaluation.epoch_scores import is_figure
from workbench.evaluation.evaluate import judged, pose_oks
from workbench.evaluation.predictions import read_note, read_origin, write_predictions
from workbench.evaluation.sweeps.blocks import Block, Opened, Unit, from_bytes, joined, to_bytes

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.ground_truth import GroundTruth
    from workbench.evaluation.sweeps.readings import VariantName

RECORD = "sweep.json"
TABLE = "table.csv"
UNFINISHED = ".unfinished"
FIGURES = "figures"
# Seconds of work that a kill may cost within an epoch.
FLUSH_EVERY = 10.0
# Bytes of the rows of so many seconds: a person of 133 keypoints has 3 kB.
_MOST_OF_A_PART = 1 << 27


@dataclass(frozen=True)
class SweepFolder:
    """Where the files of a sweep are.

    Attributes:
        root: the folder.
        variants: of the sweep, the reference first.
    """

    root: Path
    variants: tuple[VariantName, ...]

    @cached_property
    def folders(self) -> list[Path]:
        """The folder of each variant."""
        return [self.root, *(self.root / name for name in folder_names([v.name for v in self.variants[1:]]))]

    def file(self, number: int, unit: Unit) -> Path:
        """The predictions of one variant and checkpoint.

        Args:
            number: of the variant.
            unit: the checkpoint.
        """
        return self.folders[number] / f"{unit.title}.parquet"

    def check(self, identity: Mapping[str, Any]) -> None:
        """Refuse a folder that holds something else, and write what this sweep is.

        Args:
            identity: of workbench.evaluation.sweeps.rules.identity_of.

        Raises:
            ValueError: it holds another sweep, or predictions that no sweep wrote.
        """
        path = self.root / RECORD
        folders = [folder.relative_to(self.root).as_posix() for folder in self.folders]
        named = [
            {"name": v.name, "about": v.about, "folder": folder}
            for v, folder in zip(self.variants, folders, strict=True)
        ]
        record = plain({"format": 1, "identity": identity, "variants": named})
        if path.is_file():
            found = read_record(path)
            if found["identity"] != record["identity"]:
                why = _differences(found["identity"], record["identity"])
                raise ValueError(f"{self.root}: holds another sweep ({why}); name another --out")
        elif any(self.root.glob("*.parquet")):
            raise ValueError(f"{self.root}: holds predictions that no sweep wrote; name another --out")
        write_text(path, json_text(record, indent=1) + "\n", follow=False)

    def finished(self, unit: Unit, origins: Sequence[str]) -> list[dict[str, Any]] | None:
        """The rows of the table of a checkpoint whose files are all there; None where one is missing.

        Args:
            unit: the checkpoint.
            origins: what each variant's file must have been made of.
        """
        rows = []
        for number, origin in enumerate(origins):
            file = self.file(number, unit)
            try:
                if not file.is_file() or read_origin(file) != origin:
                    return None
                figures = json.loads(read_note(file, FIGURES))
                if not isinstance(figures, dict) or not all(map(is_figure, figures.values())):
                    return None
                rows.append(_row(unit, self.variants[number].name, figures))
            except (ValueError, RecursionError):  # damaged: made anew
                return None
        return rows


def read_record(path: Path) -> dict[str, Any]:
    """What `sweep.json` says.

    Raises:
        ValueError: it is damaged, or no record of a sweep.
    """
    try:
        found = json.loads(read_at_most(path, RECORD_SIZE, "a record"))
        if not isinstance(found["identity"], dict) or not isinstance(found["variants"], list):
            raise TypeError("identity or variants are of another kind")
    except (ValueError, KeyError, TypeError, RecursionError) as reason:
        raise ValueError(
            f"{path}: is damaged, expected the record of a sweep ({reason}); delete it, and what lies beside "
            "it, or name another --out"
        ) from None
    return found


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    names = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
    shown = [
        f"made with other {name}"
        if name in ("annotations", "images", "detections", "code")
        else f"{name}: {_short(found.get(name))} in the folder, {_short(wanted.get(name))} asked for"
        for name in names
    ]
    return "; ".join(shown[:4]) + (f"; and {len(shown) - 4} more" if len(shown) > 4 else "")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:100]}…"


def folder_names(names: Sequence[str]) -> list[str]:
    """A folder's name for each variant: lower case letters, digits and hyphens, each once."""
    made: list[str] = []
    for name in names:
        base = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:80] or "variant"
        count = sum(one == base or re.fullmatch(re.escape(base) + r"-\d+", one) is not None for one in made)
        made.append(base if base not in made else f"{base}-{count + 1}")
    return made


def _row(unit: Unit, variant: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    return {"epoch": unit.epoch, "checkpoint": unit.title, "variant": variant, **figures}


class UnitWriter:
    """Gathers the blocks of one checkpoint, keeps them on disk as they come, and writes the finished files.

    Args:
        folder: of the sweep.
        unit: the checkpoint.
        origin: of all variants together, by which the parts of an earlier call are recognised.
        origins: of each variant's file.
    """

    def __init__(self, folder: SweepFolder, unit: Unit, origin: str, origins: Sequence[str]) -> None:
        self.folder, self.unit, self.origins = folder, unit, origins
        # The origin is part of the name: parts of another checkpoint under this title are not read.
        self._parts = folder.root / UNFINISHED / f"{unit.title}-{origin[:16]}"
        self.opened: Opened | None = None
        self._blocks: list[Block] = []
        self._written = 0
        self._flushed = time.monotonic()
        self._resume()

    @property
    def rows(self) -> int:
        """Rows that have been predicted."""
        return self._blocks[-1].last if self._blocks else 0

    def _resume(self) -> None:
        """Read the parts of an earlier call as far as they follow one another."""
        parts = files_in(self._parts, "*.npz")
        for path in parts:
            try:
                block = from_bytes(read_at_most(path, _MOST_OF_A_PART, "a block of predictions"))
            except ValueError:  # damaged: what it held is predicted again
                break
            if block.first != self.rows or len(block.predictions) != len(self.origins):
                break
            self._blocks.append(block)
        self._written = len(self._blocks)
        for path in parts[self._written :]:  # they would stand between those that come now
            path.unlink(missing_ok=True)

    def add(self, block: Block) -> None:
        """Take the next block; after some seconds' work all that came is written."""
        self._blocks.append(block)
        if time.monotonic() - self._flushed >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Write what has not been written yet, as one part."""
        fresh = self._blocks[self._written :]
        if fresh:
            part = joined(fresh)
            inner_folder(self._parts.parent.parent, self._parts.parent.name, self._parts.name)
            with replacing(self._parts / f"{part.first:09d}.npz", follow=False) as file:
                file.write_bytes(to_bytes(part))
            self._blocks[self._written :] = [part]
            self._written = len(self._blocks)
        self._flushed = time.monotonic()

    def finish(
        self, pose_set: PoseSet, truth: GroundTruth, sigmas: Sequence[float] | None = None, max_dets: int = 20
    ) -> list[dict[str, Any]]:
        """Judge every variant, write its file, and remove the parts.

        Args:
            pose_set: what was predicted.
            truth: its annotations that count.
            sigmas: as in `evaluate`, as is the next.
            max_dets: likewise.

        Returns:
            the rows of the table.
        """
        assert self.opened is not None
        whole, rows = joined(self._blocks), []
        for number, found in enumerate(whole.predictions):
            name = self.folder.variants[number].name
            result, protocol = judged(
                pose_set, found, self.opened.protocols[number], truth, sigmas=sigmas, max_dets=max_dets
            )
            figures = plain(result.figures)
            oks, terms = pose_oks(found, result)
            if number:
                inner_folder(self.folder.root, self.folder.folders[number].name)
            write_predictions(
                self.folder.file(number, self.unit), found, epoch=self.unit.epoch, protocol=protocol,
                oks=oks, terms=terms, origin=self.origins[number], notes={FIGURES: json.dumps(figures)},
            )  # fmt: skip
            rows.append(_row(self.unit, name, figures))
        shutil.rmtree(self._parts, ignore_errors=True)
        return rows
