"""Damaged Parquet files of predictions are refused in one sentence, before their rows are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.core.parquet_pages import row_groups, unfolded_bytes
from workbench.evaluation import Predictions, image_index, query_epochs
from workbench.evaluation.image_index import open_index
from workbench.evaluation.prediction_footer import DIGEST_KEY
from workbench.evaluation.predictions import finished_predictions, read_note

N, K = 5, 17
DEEP = b"[" * 100_000


def write(path: Path, notes: dict[bytes, bytes] | None = None, **columns: Any) -> Path:
    """A file of N poses, with other footer entries or columns."""
    found = Predictions(
        np.arange(N), np.ones(N, int), np.ones((N, 4)), np.ones((N, K, 2)), np.ones((N, K)), np.ones(N),
        np.arange(N),
    )  # fmt: skip
    found.to_parquet(path, epoch=1)
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.set_column(table.schema.names.index(name), name, pa.array(values))
    written = {k: v for k, v in (table.schema.metadata or {}).items() if k != DIGEST_KEY}
    pq.write_table(table.replace_schema_metadata({**written, **(notes or {})}), path)
    return path


def refused_by(path: Path) -> list[str]:
    """The sentences of the reader of one file and of the folder."""
    sentences = []
    for open_it in (lambda: Predictions.from_parquet(path), lambda: query_epochs(path.parent)):
        with pytest.raises(ValueError) as refusal:
            open_it()
        sentences.append(str(refusal.value))
    assert all(one.startswith(path.name) and len(one) < 250 and "\n" not in one for one in sentences)
    return sentences


def test_a_changed_digit_in_the_footer_is_seen(tmp_path: Path) -> None:
    """A sweep reads AP from a note; pages have a checksum, the footer of Parquet has none."""
    found = Predictions(
        np.arange(N), np.ones(N, int), np.ones((N, 4)), np.ones((N, K, 2)), np.ones((N, K)), np.ones(N),
        np.arange(N),
    )  # fmt: skip
    path = tmp_path / "epoch_1.parquet"
    found.to_parquet(path, epoch=1, origin="o", notes={"figures": '{"AP": 0.512}'})
    assert read_note(path, "figures") == '{"AP": 0.512}'
    assert finished_predictions(path, "o") is not None
    # The texts stand in the footer and, in base 64, in Arrow's copy of the schema.
    assert path.read_bytes().count(b"0.512") == 1
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"0.512", b"0.712"))
    assert all("texts in its footer are others than were written" in one for one in refused_by(path))
    path.write_bytes(whole)
    table = pq.read_table(path)
    notes = {k: v.replace(b"0.512", b"0.712") for k, v in (table.schema.metadata or {}).items()}
    pq.write_table(table.replace_schema_metadata(notes), path)
    assert all("texts in its footer are others than were written" in one for one in refused_by(path))
    with pytest.raises(ValueError, match="texts in its footer"):
        read_note(path, "figures")
    assert finished_predictions(path, "o") is None


@pytest.mark.parametrize("key", [b"workbench.shape", b"workbench.protocol"])
def test_deeply_nested_json_in_the_footer(tmp_path: Path, key: bytes) -> None:
    errors = refused_by(write(tmp_path / "epoch_1.parquet", {key: DEEP}))
    assert all("nested too deeply" in one for one in errors)


@pytest.mark.parametrize("shape", [[5], [5.0, 17], ["5", 17], [-5, -17], {"a": 1}, [True, 85]])
def test_a_shape_that_is_no_two_counts(tmp_path: Path, shape: Any) -> None:
    errors = refused_by(write(tmp_path / "epoch_1.parquet", {b"workbench.shape": json.dumps(shape).encode()}))
    assert all("expected workbench.shape as two counts" in one for one in errors)


@pytest.mark.parametrize("shape", [[5, 10**12], [10**12, 17], [6, 17], [85, 0]])
def test_a_shape_that_the_rows_are_not_of(tmp_path: Path, shape: list[int]) -> None:
    errors = refused_by(write(tmp_path / "epoch_1.parquet", {b"workbench.shape": json.dumps(shape).encode()}))
    assert all("85 rows are no" in one for one in errors)


def test_more_rows_than_stated_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "epoch_1.parquet", {b"workbench.shape": b"[4, 17]"})

    def read(*_: Any, **__: Any) -> None:
        raise AssertionError("the rows were read")

    monkeypatch.setattr(pq.ParquetFile, "read", read)
    with pytest.raises(ValueError, match="85 rows are no 4 poses of 17 keypoints"):
        Predictions.from_parquet(path)


@pytest.mark.parametrize(
    "ids", [[None] * (N * K), [float("nan")] * (N * K), [1.5] * (N * K), ["one"] * (N * K)]
)
@pytest.mark.filterwarnings("error")
def test_image_ids_that_are_no_whole_numbers(tmp_path: Path, ids: list[Any]) -> None:
    path = write(tmp_path / "epoch_1.parquet", image_id=ids)
    with pytest.raises(ValueError, match=r"^epoch_1\.parquet: .*expected image_id as "):
        Predictions.from_parquet(path)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("pose_score", np.nan), ("pose_score", np.inf), ("x", np.inf), ("y", -np.inf), ("score", np.inf),
        ("x0", np.inf), ("oks", 1.5), ("oks", -np.inf), ("term", -0.1),
    ],
)  # fmt: skip
def test_numbers_that_no_prediction_has_are_refused_as_in_a_result_file(
    tmp_path: Path, column: str, value: float
) -> None:
    path = write(tmp_path / "e.parquet", None, **{column: np.full(N * K, value)})
    with pytest.raises(ValueError, match=rf"^e.parquet: .*{column} of {value:g}"):
        Predictions.from_parquet(path)
    if column != "x0":  # the index of a folder has no boxes
        with pytest.raises(ValueError, match=rf"^e.parquet: .*{column} of {value:g}"):
            image_index._poses_between(path, 0, N, K)


@pytest.mark.parametrize("column", ["x", "y", "score", "x0", "oks", "term"])
def test_numbers_that_are_not_there_are_read_as_nan(tmp_path: Path, column: str) -> None:
    path = write(tmp_path / "e.parquet", None, **{column: np.full(N * K, np.nan)})
    found, _ = Predictions.from_parquet(path)
    assert len(found) == N
    assert np.isnan(found.keypoints).any() == (column in ("x", "y"))


@pytest.mark.parametrize("column", ["pose", "keypoint"])
def test_rows_in_another_order_are_refused(tmp_path: Path, column: str) -> None:
    stated = pq.read_table(write(tmp_path / "a.parquet"))[column].to_numpy()
    with pytest.raises(ValueError, match=r"e.parquet: .*its rows are in another order than"):
        Predictions.from_parquet(write(tmp_path / "e.parquet", **{column: stated[::-1].copy()}))


def test_millions_of_equal_rows_in_a_small_file_are_not_unfolded(tmp_path: Path) -> None:
    """A run of equal numbers is one number and a count: 20 kB would take 340 MB."""
    rows, path = 170_000 * K, write(tmp_path / "epoch_1.parquet")
    names = pq.read_schema(path).names
    table = pa.table({name: pa.array(np.zeros(rows, np.int64)) for name in names})
    pq.write_table(
        table.replace_schema_metadata({b"workbench.shape": json.dumps([170_000, K]).encode()}),
        path,
        row_group_size=rows,
    )
    assert path.stat().st_size < 1 << 18
    unfolded = f"{8 * rows * len(names):,}"
    assert all(f"would unfold to {unfolded} bytes" in one for one in refused_by(path))


def test_real_poses_of_which_one_keypoint_in_ten_was_found_are_no_bomb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.evaluation.prediction_footer._SMALL", 0)
    rng, count = np.random.default_rng(0), 4000
    points = np.where(rng.random((count, K, 1)) < 0.1, rng.normal(200, 50, (count, K, 2)), np.nan)
    scores = np.where(np.isnan(points[..., 0]), np.nan, rng.random((count, K)))
    found = Predictions(
        np.arange(count), np.ones(count, int), np.full((count, 4), np.nan), points, scores,
        rng.random(count), None,
    )  # fmt: skip
    path = found.to_parquet(tmp_path / "epoch_1.parquet", epoch=1)
    np.testing.assert_array_equal(Predictions.from_parquet(path)[0].keypoints, points)


def test_a_column_of_text_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dictionary keeps a text once; each row of it is made in memory."""
    path = write(tmp_path / "epoch_1.parquet", term=["x" * 1000] * (N * K))
    monkeypatch.setattr(pq.ParquetFile, "read", None)
    assert all("expected term as numbers, got text" in one for one in refused_by(path))


def varint(value: int, length: int = 1) -> bytes:
    """A size as the footer has it, of at least so many bytes."""
    value, found = value << 1, b""
    while value > 127 or len(found) + 1 < length:
        value, found = value >> 7, found + bytes([value & 127 | 128])
    return found + bytes([value])


def claim(path: Path, wanted: int) -> None:
    """Let the footer of a file of large columns state that each, and all, unpack to `wanted` bytes."""
    content, group = path.read_bytes(), pq.read_metadata(path).row_group(0)
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    footer = content[start:]
    sizes = {group.column(i).total_uncompressed_size for i in range(group.num_columns)}
    for size in map(varint, {*sizes, group.total_byte_size}):
        footer = footer.replace(size, varint(wanted, len(size)))
    path.write_bytes(content[:start] + footer)


@pytest.mark.parametrize("dictionary", [True, False])
def test_pages_that_unfold_to_more_than_the_footer_states_are_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dictionary: bool
) -> None:
    """49 kB in which the footer states 708 bytes took 1.5 GB, 3 GB in DuckDB."""
    rows, path = 2000 * K, write(tmp_path / "epoch_1.parquet")
    names = pq.read_schema(path).names
    table = pa.table({name: pa.array(np.arange(rows)) for name in names})
    notes = {b"workbench.shape": json.dumps([2000, K]).encode(), b"workbench.epochs": b"{}"}
    pq.write_table(table.replace_schema_metadata(notes), path, use_dictionary=dictionary)
    group = pq.read_metadata(path).row_group(0)
    pages = unfolded_bytes(path, row_groups(path))
    assert 0 < sum(group.column(i).total_uncompressed_size for i in range(len(names))) - pages < 6000
    claim(path, 100)
    assert pq.read_metadata(path).row_group(0).total_byte_size == 100
    assert unfolded_bytes(path, row_groups(path)) == pages
    monkeypatch.setattr("workbench.evaluation.prediction_footer._SMALL", 0)
    monkeypatch.setattr("workbench.evaluation.prediction_footer._MOST_PACKED", 1)
    monkeypatch.setattr(pq.ParquetFile, "read", None)
    most = max(pages, 8 * rows * len(names))
    assert all(f"would unfold to {most:,} bytes" in one for one in refused_by(path))
    assert open_index(path, {}, lambda *_: "opened") is None
    monkeypatch.undo()
    assert open_index(path, {}, lambda *_: "opened") == "opened"


def test_a_page_that_is_none_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "epoch_1.parquet")
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 40 + content[44:])
    assert all("no page of a column at byte 4" in one for one in refused_by(path))


def test_the_footer_is_read_as_pyarrow_reads_it(tmp_path: Path) -> None:
    path, rows = tmp_path / "numbers.parquet", 5000
    numbers = np.random.default_rng(0).integers(-(2**40), 2**40, rows)
    table = pa.table(
        {"long": numbers, "short": numbers.astype(np.int32), "real": numbers / 3, "list": [[1, 2]] * rows,
         "text": [str(one) for one in numbers], "none": pa.nulls(rows, pa.int64()), "flag": numbers > 0}
    )  # fmt: skip
    pq.write_table(table, path, row_group_size=2000)
    facts = pq.read_metadata(path)
    found = row_groups(path)
    assert len(found) == facts.num_row_groups == 3
    for g, group in enumerate(found):
        stated = facts.row_group(g)
        assert (group.rows, group.bytes) == (stated.num_rows, stated.total_byte_size)
        assert len(group.columns) == stated.num_columns == 7
        for i, column in enumerate(group.columns):
            one = stated.column(i)
            assert (column.values, column.unfolded, column.packed) == (
                one.num_values, one.total_uncompressed_size, one.total_compressed_size
            )  # fmt: skip
            starts = (one.dictionary_page_offset, one.data_page_offset)
            assert column.start == min(start for start in starts if start)
            assert column.is_text == (one.physical_type == "BYTE_ARRAY")
            known = one.statistics.has_min_max and "INT" in one.physical_type
            assert (column.least, column.most) == (
                (one.statistics.min, one.statistics.max) if known else (None, None)
            )


def test_a_column_that_ends_pyarrows_process_is_not_looked_at_there(tmp_path: Path) -> None:
    """A column that may be repeated in no known way: pyarrow throws in C++ where nobody catches."""
    path = write(tmp_path / "epoch_1.parquet")
    content = path.read_bytes()
    optional, unknown = b"%\x02\x18\x01y", b"%\x12\x18\x01y"
    assert content.count(optional) == 1
    path.write_bytes(content.replace(optional, unknown))
    assert list(query_epochs(path.parent).files) == [1]
    for ask in (lambda: Predictions.from_parquet(path), query_epochs(path.parent).epochs):
        with pytest.raises(ValueError, match=r"epoch_1\.parquet: expected|cannot be asked"):
            ask()


def test_a_footer_of_more_fields_than_any_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "epoch_1.parquet")
    monkeypatch.setattr("workbench.core.parquet_pages._MOST_FIELDS", 100)
    assert all("its footer cannot be read" in one for one in refused_by(path))
