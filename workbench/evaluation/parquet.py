"""How are an epoch's predictions kept? One Parquet file, one row for each keypoint of each pose.

The long layout lets DuckDB answer questions across hundreds of epochs by reading the two or three columns
they need. Numbers keep all their bits: what is read back gives the same figures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.files import replacing
from workbench.evaluation.predictions import Predictions
from workbench.evaluation.protocol import Protocol

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from jaxtyping import Float

PROTOCOL_KEY = b"workbench.protocol"
SHAPE_KEY = b"workbench.shape"
ORIGIN_KEY = b"workbench.origin"
CORNERS = ("x0", "y0", "x1", "y1")


def write_predictions(
    path: Path,
    predictions: Predictions,
    *,
    epoch: int | None = None,
    protocol: Protocol | None = None,
    oks: Float[np.ndarray, " N"] | None = None,
    terms: Float[np.ndarray, "N K"] | None = None,
    origin: str = "",
) -> Path:
    """Write one file, whole or not at all.

    Args:
        path: where to; its folder is made.
        predictions: one epoch's.
        epoch: its number, for questions across files.
        protocol: kept in the file's footer.
        oks: of each pose against its annotation; nan where there is none.
        terms: each keypoint's part of it; nan where it is not labelled.
        origin: a digest of all that decided them, see workbench.evaluation.predictions; "" for none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    N, K = predictions.scores.shape

    def per_pose(values: np.ndarray | None, kind: Any) -> pa.Array:
        if values is None:
            return pa.nulls(N * K, kind)
        # from_pandas: nan becomes null, which every reader of Parquet understands.
        return pa.array(np.repeat(values, K), kind, from_pandas=True)

    columns: dict[str, pa.Array] = {
        "epoch": per_pose(None if epoch is None else np.full(N, epoch), pa.int32()),
        "pose": per_pose(np.arange(N), pa.int32()),
        "image_id": per_pose(predictions.image_id, pa.int64()),
        "annotation_id": per_pose(predictions.annotation_id, pa.int64()),
        "category_id": per_pose(predictions.category_id, pa.int64()),
        "pose_score": per_pose(predictions.score, pa.float64()),
        "oks": per_pose(oks, pa.float64()),
        **{c: per_pose(predictions.box[:, i], pa.float64()) for i, c in enumerate(CORNERS)},
        "keypoint": pa.array(np.tile(np.arange(K), N), pa.int16()),
        "x": pa.array(predictions.keypoints[..., 0].ravel(), pa.float64(), from_pandas=True),
        "y": pa.array(predictions.keypoints[..., 1].ravel(), pa.float64(), from_pandas=True),
        "score": pa.array(predictions.scores.ravel(), pa.float64(), from_pandas=True),
        "term": pa.array(np.full(N * K, np.nan) if terms is None else terms.ravel(), from_pandas=True),
    }
    notes = {SHAPE_KEY: json.dumps([N, K]).encode()}
    if origin:
        notes[ORIGIN_KEY] = origin.encode()
    if protocol is not None:
        notes[PROTOCOL_KEY] = json.dumps(protocol.to_json()).encode()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        pq.write_table(pa.table(columns).replace_schema_metadata(notes), part, compression="zstd")
    return path


def read_predictions(path: Path) -> tuple[Predictions, Protocol | None]:
    """Read one file: the predictions, and their protocol where one was kept.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no Parquet file, or not one of predictions.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of predictions")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _refuse_large(file.metadata, path)
            table = file.read()
    except (pa.ArrowException, OSError) as reason:
        raise ValueError(f"{path.name}: expected a Parquet file of predictions ({reason})") from None
    notes = table.schema.metadata or {}
    if SHAPE_KEY not in notes:
        raise ValueError(f"{path.name}: expected predictions written by `workbench evaluate --out`")
    try:
        return _predictions(table, notes), read_protocol(notes)
    except (pa.ArrowException, TypeError, KeyError, IndexError, ValueError, OverflowError) as reason:
        raise ValueError(f"{path.name}: is damaged, or no file of predictions ({reason})") from None


def _refuse_large(facts: pq.FileMetaData, path: Path) -> None:
    """A few bytes of a damaged or hostile file can ask for gigabytes once unpacked."""
    groups = [facts.row_group(i) for i in range(facts.num_row_groups)]
    unpacked = sum(group.total_byte_size for group in groups)
    if unpacked > max(1000 * path.stat().st_size, 256 << 20) or facts.num_rows > 1 << 28:
        raise ValueError(f"{path.name}: would unfold to {unpacked} bytes; it is refused as a bomb")


def _predictions(table: pa.Table, notes: dict[bytes, bytes]) -> Predictions:
    N, K = json.loads(notes[SHAPE_KEY])
    if type(N) is not int or type(K) is not int or N < 0 or K < 0 or len(table) != N * K:
        raise ValueError(f"{len(table)} rows are no {str(N)[:20]} poses of {str(K)[:20]} keypoints")

    def column(name: str) -> np.ndarray:
        return table[name].to_numpy(zero_copy_only=False)

    def per_pose(name: str, kind: type) -> np.ndarray:
        return column(name)[:: max(K, 1)].astype(kind)

    annotated = table["annotation_id"].null_count == 0
    return Predictions(
        per_pose("image_id", np.int64),
        per_pose("category_id", np.int64),
        np.stack([per_pose(c, float) for c in CORNERS], axis=1),
        np.stack([column("x"), column("y")], axis=1).reshape(N, K, 2),
        column("score").reshape(N, K),
        per_pose("pose_score", float),
        per_pose("annotation_id", np.int64) if annotated else None,
    )


def read_origin(path: Path) -> str:
    """The digest that `write_predictions` was given; "" where there is none.

    Raises:
        ValueError: it is no Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        notes = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError) as reason:
        raise ValueError(f"{path.name}: expected a Parquet file of predictions ({reason})") from None
    return notes.get(ORIGIN_KEY, b"").decode(errors="replace")


def read_protocol(notes: dict[bytes, bytes]) -> Protocol | None:
    """The protocol in a file's footer; None without one.

    Raises:
        ValueError: what is there is no protocol.
    """
    if PROTOCOL_KEY not in notes:
        return None
    found = json.loads(notes[PROTOCOL_KEY])
    if not isinstance(found, dict):
        raise ValueError(f"the protocol is a {type(found).__name__}, not a table of settings")
    return Protocol.from_json(found)
