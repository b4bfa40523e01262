"""What a Parquet file of predictions states in its footer, checked before a row of it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.parquet_pages import row_groups, unfolded_bytes
from workbench.core.report import counted

if TYPE_CHECKING:
    import pyarrow.parquet as pq
    from jaxtyping import Int

SHAPE_KEY = b"workbench.shape"
DIGEST_KEY = b"workbench.sha256"
# No skeleton has so many; an array of more is refused by numpy in words that help nobody.
MOST_KEYPOINTS = 1 << 20
# Bytes in memory that any file may take, and so many times those of the file.
_SMALL = 256 << 20
_MOST_PACKED = 1000
# Of 120 bytes of a row in memory its places and score take 24 in the file; so many where one keypoint in ten
# was found.
_MOST_EQUAL = 50


def refuse_large(facts: pq.FileMetaData, path: Path, *, is_table: bool = False) -> None:
    """Refuse a file that would unpack to gigabytes, or has other rows than its footer states; reads no row.

    Args:
        facts: of the file's footer.
        path: of the file.
        is_table: made of predictions and read beside them; numbers too.

    Raises:
        OSError: the file cannot be read.
        ValueError: with the reason.
    """
    notes = facts.metadata or {}
    check_footer(notes, path.name)
    if SHAPE_KEY in notes:
        read_shape(notes, path.name, facts.num_rows)
    if SHAPE_KEY in notes or is_table:
        columns = [facts.schema.column(i) for i in range(facts.num_columns)]
        # A dictionary keeps a text of megabytes once, and memory as often as there are rows.
        if texts := [one.path for one in columns if "BYTE_ARRAY" in one.physical_type]:
            raise ValueError(
                f"{path.name}: is damaged, or no file of predictions (expected {texts[0][:60]} as "
                "numbers, got text)"
            )
    groups = row_groups(path)
    # The bytes that the footer states are a claim, and so are those of a page: the larger one counts.
    unpacked = max(sum(group.bytes for group in groups), unfolded_bytes(path, groups))
    # Equal numbers are kept once, by a count of them, which the bytes of the pages do not tell.
    made = 8 * sum(column.values for group in groups for column in group.columns)
    most = max(_MOST_PACKED * path.stat().st_size, _SMALL)
    if unpacked > most or made > max(_MOST_EQUAL * unpacked, _SMALL):
        raise ValueError(
            f"{path.name}: would unfold to {max(unpacked, made):,} bytes; it is refused as a bomb"
        )


def footer_digest(notes: Mapping[bytes, bytes]) -> bytes:
    """SHA-256 of the workbench's texts in a footer: pages of Parquet have a checksum, the footer has none."""
    own = sorted((k, v) for k, v in notes.items() if k.startswith(b"workbench.") and k != DIGEST_KEY)
    return hashlib.sha256(repr(own).encode()).hexdigest().encode()


def check_footer(notes: Mapping[bytes, bytes], name: str) -> None:
    """Check that the texts of a footer are those that were written; older files have no digest.

    Args:
        notes: of the footer.
        name: of the file, for the error.

    Raises:
        ValueError: they are others.
    """
    if DIGEST_KEY in notes and notes[DIGEST_KEY] != footer_digest(notes):
        raise ValueError(f"{name}: is damaged, the texts in its footer are others than were written")


def read_shape(notes: Mapping[bytes, bytes], name: str, rows: int) -> tuple[int, int]:
    """The number of poses N and of keypoints K that a file's footer states.

    Args:
        notes: of the footer, with `SHAPE_KEY`.
        name: of the file, for the error.
        rows: that the file has; one for each keypoint of each pose.

    Raises:
        ValueError: it states no two counts, or others than the rows.
    """
    stated = footer_json(notes, SHAPE_KEY, name)
    counts: list[Any] = stated if isinstance(stated, list) else []
    if len(counts) != 2 or any(type(one) is not int or one < 0 for one in counts):
        raise ValueError(
            f"{name}: is damaged, or no file of predictions (expected {SHAPE_KEY.decode()} as two counts, "
            f"poses and keypoints, got {str(stated)[:40]})"
        )
    N, K = counts
    if rows != N * K or K > MOST_KEYPOINTS:
        raise ValueError(
            f"{name}: is damaged, or no file of predictions ({counted(rows, 'row is', 'rows are')} no "
            f"{str(N)[:20]} poses of {str(K)[:20]} keypoints)"
        )
    return N, K


def footer_json(notes: Mapping[bytes, bytes], key: bytes, name: str = "") -> Any:
    """What the footer holds under a key, read as JSON.

    Args:
        notes: of the footer.
        key: of the wanted one.
        name: of the file, for the error.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(notes[key])
    except RecursionError:
        why = "nested too deeply"
    except ValueError:
        why = "no JSON"
    start = f"{name}: is damaged, or no file of predictions: " if name else ""
    raise ValueError(f"{start}{key.decode()} in its footer is {why}")


def whole_numbers(values: np.ndarray, name: str) -> Int[np.ndarray, " N"]:
    """A column of ids; one with nulls arrives as floats with nan, or as objects.

    Args:
        values: [N] of the column.
        name: of the column, for the error.

    Raises:
        ValueError: one is no whole number.
    """
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    try:
        exact = np.array(values, float)
    except (TypeError, ValueError):
        raise ValueError(f"expected {name} as numbers, got {values.dtype}") from None
    if not np.isfinite(exact).all() or (exact != np.trunc(exact)).any() or (abs(exact) >= 1 << 53).any():
        raise ValueError(f"expected {name} as a whole number in each row, got null, nan or a fraction")
    return exact.astype(np.int64)
