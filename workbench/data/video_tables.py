"""Tables of samples in MP4 and QuickTime files, before FFmpeg makes room for all that they claim."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from workbench.core.report import counted

# Boxes that hold the boxes that are looked at.
_OUTER = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf")
# Fragments of a day's video have fewer.
_MOST_BOXES = 1_000_000
_DEEPEST = 10


def check_tables(path: Path) -> None:
    """Refuse an MP4 or QuickTime file whose tables claim more samples than the file has bytes.

    A table of one size for all samples takes 20 bytes for any number of them, and a list of edits repeats
    them: files of some kB took FFmpeg seconds and gigabytes.

    Args:
        path: a video of any kind; in others no such box is found.

    Raises:
        ValueError: it claims more, or its header is compressed, or it has more boxes than any program writes.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    tables = _Tables(path.name)
    with path.open("rb") as stream:
        tables.walk(stream, 0, size)
    if (claimed := tables.claimed()) > size:
        raise ValueError(
            f"{path.name}: expected a video, but it claims {counted(claimed, 'sample', spec=',')} in its "
            f"{size:,} bytes"
        )


class _Tables:
    """Counts of the boxes of one file.

    Args:
        name: of the file, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name, self.boxes = name, 0
        self.tracks: list[list[int]] = []  # samples and edits of each
        self.fragments = 0

    def claimed(self) -> int:
        """Samples of all tracks, each as often as edits may repeat it, and those of fragments."""
        return self.fragments + sum(samples * max(edits, 1) for samples, edits in self.tracks)

    def walk(self, stream: BinaryIO, place: int, end: int, depth: int = 0) -> None:
        """Count what lies between two places of the file, in boxes of this depth."""
        if depth > _DEEPEST:
            raise ValueError(f"{self.name}: expected a video, but its boxes are nested too deeply")
        while place + 8 <= end:
            self.boxes += 1
            if self.boxes > _MOST_BOXES:
                raise ValueError(f"{self.name}: expected a video, but it has more than {_MOST_BOXES:,} boxes")
            stream.seek(place)
            head = stream.read(28)
            length, kind = struct.unpack_from(">I4s", head)
            begin = 8
            if length == 1 and len(head) >= 16:
                begin, length = 16, struct.unpack_from(">Q", head, 8)[0]
            behind = place + length if length >= begin else end  # 0: up to the end
            if kind == b"trak":
                self.tracks.append([0, 1])
            if kind == b"cmov":
                raise ValueError(f"{self.name}: its header is compressed, which is not read; convert it")
            if kind in _OUTER:
                self.walk(stream, place + begin, min(behind, end), depth + 1)
            else:
                self._count(kind, head[begin:])
            place = behind

    def _count(self, kind: bytes, content: bytes) -> None:
        last = self.tracks[-1] if self.tracks else [0, 1]
        if kind in (b"stsz", b"stz2") and len(content) >= 12:
            last[0] = max(struct.unpack_from(">I", content, 8)[0], last[0])
        elif kind == b"elst" and len(content) >= 8:
            last[1] = max(struct.unpack_from(">I", content, 4)[0], last[1])
        elif kind == b"trun" and len(content) >= 8:
            self.fragments += struct.unpack_from(">I", content, 4)[0]
