"""Predictions as arrays: read from and written to COCO result files and Parquet files, checked once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import __version__
from workbench.core.files import replacing, require_file
from workbench.core.report import counted
from workbench.evaluation.ground_truth import check_finite, floats, integers, quadruples, triplets
from workbench.evaluation.prediction_footer import (
    DIGEST_KEY,
    SHAPE_KEY,
    check_footer,
    footer_digest,
    footer_json,
    read_shape,
    refuse_large,
    whole_numbers,
)
from workbench.evaluation.protocol import Protocol

if TYPE_CHECKING:
    import pyarrow as pa
    from jaxtyping import Float, Int

    from workbench.data.pose_set import PoseSet


@dataclass(frozen=True, eq=False)
class Detections:
    """Detected poses, in the order given; the order breaks ties of score.

    Attributes:
        image_id: as in the annotation file.
        category_id: as in the annotation file.
        keypoints: (x, y) in image pixels; nan, where the model gave none, counts as (0, 0): `as_written`.
        score: of the whole pose; only its order matters.
        area: square pixels, of the given box or of the keypoints' extent; decides only whether an
            unmatched detection counts as a mistake in APM, APL, ARM and ARL.
        area_rule: ``box`` or ``extent``.
    """

    image_id: Int[np.ndarray, " D"]
    category_id: Int[np.ndarray, " D"]
    keypoints: Float[np.ndarray, "D K 2"]
    score: Float[np.ndarray, " D"]
    area: Float[np.ndarray, " D"]
    area_rule: str = "extent"

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def from_coco(cls, results: Sequence[Mapping[str, Any]], name: str = "results") -> Detections:
        """Read the list of a COCO result json.

        As pycocotools does, the first detection decides for all whether the area is that of ``bbox`` or the
        extent of the keypoints, undetected ones included.

        Args:
            results: the list.
            name: of the file, for errors.

        Raises:
            ValueError: it is no list of results, a key is missing, or a number is not finite.
        """
        if not isinstance(results, (list, tuple)):
            raise ValueError(f"{name}: expected a list of detections, got {_described(results)}")
        columns = {k: _column(results, k, name) for k in ("image_id", "category_id", "keypoints", "score")}
        keypoints = triplets(columns["keypoints"], name)[..., :2]
        score = floats(columns["score"], f"{name}: score of each detection")
        position = range(len(results))
        check_finite(keypoints, position, f"{name}: keypoints of detection")
        check_finite(score, position, f"{name}: score of detection")
        image_id = integers(columns["image_id"], f"{name}: image_id")
        category_id = integers(columns["category_id"], f"{name}: category_id")
        if len(results) and results[0].get("bbox"):
            boxes = quadruples(_column(results, "bbox", name), name)
            check_finite(boxes, position, f"{name}: bbox of detection")
            return cls(image_id, category_id, keypoints, score, boxes[:, 2] * boxes[:, 3], "box")
        return cls(image_id, category_id, keypoints, score, extent(keypoints), "extent")


def as_written(keypoints: Float[np.ndarray, "D K 2"]) -> Float[np.ndarray, "D K 2"]:
    """A copy with (0, 0) for keypoints that the model did not give.

    A COCO result file has no other way to state a missing keypoint, and pycocotools takes the numbers as they
    are. The evaluator does the same with predictions in memory, so that they and their file give one figure.
    """
    points = np.array(keypoints, float)
    points[~np.isfinite(points).all(-1)] = 0.0
    return points


def without_peak(keypoints: Float[np.ndarray, "N K 2"], scores: Float[np.ndarray, "N K"]) -> str:
    """A sentence where most keypoints of a top-down model are missing for want of a peak; "" elsewhere.

    Args:
        keypoints: nan where the peak of the output is 0 or less, as in mmpose.
        scores: the peaks.
    """
    gone = np.isnan(keypoints).any(-1) & (scores <= 0)
    if 2 * gone.sum() <= gone.size or not gone.size:
        return ""
    return (
        f"{gone.sum()} of {counted(gone.size, 'keypoint is', 'keypoints are')} missing: the highest value of "
        f"each output lies at 0 or below ({scores[gone].min():.3g} to {scores[gone].max():.3g}), and such a "
        "peak is no keypoint, as in mmpose; outputs that are logits need a sigmoid or an offset first"
    )


def extent(keypoints: Float[np.ndarray, "D K 2"]) -> Float[np.ndarray, " D"]:
    """Area of the smallest upright box around each pose, square pixels; nan keypoints are left out."""
    if not keypoints.size:
        return np.zeros(len(keypoints))
    # Keypoints first: numpy then compares long rows, five times faster than 17 numbers at a time.
    columns = np.ascontiguousarray(np.moveaxis(keypoints, 0, -1))
    # fmax and fmin pass over nan; a pose without any keypoint stays nan, and covers nothing.
    side = np.fmax.reduce(columns) - np.fmin.reduce(columns)
    return np.nan_to_num(side[0] * side[1], nan=0.0)


def _described(other: Any) -> str:
    """Description of a value that is not a list, for the error."""
    if not isinstance(other, Mapping):
        return type(other).__name__
    hint = "; with annotations it is ground truth, not results" if "annotations" in other else ""
    return f"an object with {', '.join(map(str, other)) or 'nothing in it'}{hint}"


def _column(results: Sequence[Mapping[str, Any]], key: str, name: str) -> list[Any]:
    """One value of every detection."""
    try:
        return list(map(itemgetter(key), results))
    except (KeyError, TypeError):
        wrong = next(i for i, r in enumerate(results) if not isinstance(r, Mapping) or key not in r)
        expected = "image_id, category_id, keypoints and score in each"
        if key == "bbox":
            expected = "a bbox in each, because the first detection has one, or in none"
        raise ValueError(
            f"{name}: detection {wrong} of {len(results)} has no {key!r}; expected {expected}"
        ) from None


# What did a model say about a data set? Arrays, one row for each pose, and the formats they travel in.


@dataclass(frozen=True, eq=False)
class Predictions:
    """Poses in the order in which they were predicted.

    Attributes:
        image_id: as in the annotation file.
        category_id: as in the annotation file.
        box: (x0, y0, x1, y1) in image pixels that the crop was made from, without padding; nan if unknown.
        keypoints: (x, y) in image pixels; nan where the model gave none.
        scores: of keypoints, as the model gives them.
        score: of the pose, by the protocol's score rule.
        annotation_id: the annotation whose box was used; None when the boxes are no annotations'.
        size: (width, height) of the boxes as a result file states them; None for the difference of the
            corners, which a float64 rounds: (10.1 + 32) - 10.1 is not 32, and 32 x 32 decides a size class.
    """

    image_id: Int[np.ndarray, " N"]
    category_id: Int[np.ndarray, " N"]
    box: Float[np.ndarray, "N 4"]
    keypoints: Float[np.ndarray, "N K 2"]
    scores: Float[np.ndarray, "N K"]
    score: Float[np.ndarray, " N"]
    annotation_id: Int[np.ndarray, " N"] | None = None
    size: Float[np.ndarray, "N 2"] | None = None

    def __post_init__(self) -> None:
        N, K = self.keypoints.shape[:2]
        wanted = {
            "image_id": (N,),
            "category_id": (N,),
            "box": (N, 4),
            "keypoints": (N, K, 2),
            "scores": (N, K),
            "score": (N,),
            "annotation_id": (N,),
            "size": (N, 2),
        }
        for name, shape in wanted.items():
            column = getattr(self, name)
            if column is not None and column.shape != shape:
                raise ValueError(f"predictions: expected {name} of shape {shape}, got {column.shape}")

    def __len__(self) -> int:
        return len(self.score)

    def take(self, rows: Int[np.ndarray, " M"] | Sequence[int]) -> Predictions:
        """Some of the poses, in the order asked for."""
        chosen = np.asarray(rows, int)
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: v[chosen] for name, v in columns.items() if v is not None})

    @classmethod
    def joined(cls, parts: Sequence[Predictions]) -> Predictions:
        """Several batches as one, in order; annotation_id and size are None unless all have them."""
        columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(cls)}
        known = {name: values for name, values in columns.items() if all(v is not None for v in values)}
        return cls(**{name: np.concatenate(values) for name, values in known.items()})

    def detections(self) -> Detections:
        """Exactly what `Detections.from_coco` reads from `to_coco`: missing keypoints, areas and all."""
        points, box = as_written(self.keypoints), self._written_box()
        area = extent(points) if box is None else box[:, 2] * box[:, 3]
        rule = "extent" if box is None else "box"
        return Detections(self.image_id, self.category_id, points, self.score, area, rule)

    def _written_box(self) -> Float[np.ndarray, "N 4"] | None:
        """(x, y, width, height) for a result file: all rows have a box or none; None where none is known.

        A row without a box (a pose without any keypoint) covers nothing.
        """
        known = np.isfinite(self.box).all(axis=1, keepdims=True)
        if not known.any():
            return None
        size = self.box[:, 2:] - self.box[:, :2] if self.size is None else self.size
        return np.where(known, np.concatenate([self.box[:, :2], size], axis=1), 0.0)

    def to_coco(self) -> list[dict[str, Any]]:
        """A COCO result list, as pycocotools and CocoMetric read it.

        A keypoint that the model did not give is written 0, 0, 0, which is how COCO spells "not there".
        """
        given = np.isfinite(self.keypoints).all(axis=2, keepdims=True)
        triplets = np.where(given, np.concatenate([self.keypoints, self.scores[..., None]], axis=2), 0.0)
        results = [
            {"image_id": image, "category_id": category, "keypoints": row, "score": score}
            for image, category, row, score in zip(
                self.image_id.tolist(),
                self.category_id.tolist(),
                triplets.reshape(len(self), -1).tolist(),
                self.score.tolist(),
                strict=True,
            )
        ]
        boxes = self._written_box()
        if boxes is not None:
            for result, box in zip(results, boxes.tolist(), strict=True):
                result["bbox"] = box
        return results

    @classmethod
    def from_coco(
        cls, results: Sequence[Mapping[str, Any]], name: str = "results", keypoints: int = 0
    ) -> Predictions:
        """Read a COCO result list; the third number of each keypoint is its score.

        A keypoint 0, 0, 0 is one that the model did not give: nan, as in every prediction in memory.

        Args:
            results: the list.
            name: of the file, for errors.
            keypoints: how many a pose has, which an empty list does not tell.

        Raises:
            ValueError: as Detections.from_coco.
        """
        found = Detections.from_coco(results, name)
        N, K = len(results), found.keypoints.shape[1] if len(results) else keypoints
        scores = np.array([r["keypoints"] for r in results], float).reshape(N, K, 3)[..., 2]
        check_finite(scores, range(N), f"{name}: scores of the keypoints of detection")
        box, size = np.full((N, 4), np.nan), None
        if found.area_rule == "box":
            box = np.array([r["bbox"] for r in results], float)
            size = box[:, 2:].copy()
            box[:, 2:] += box[:, :2]
        given = found.keypoints.reshape(N, K, 2)
        absent = (given == 0).all(2) & (scores == 0)
        points = np.where(absent[..., None], np.nan, given)
        return cls(found.image_id, found.category_id, box, points, scores, found.score, None, size)

    def to_parquet(self, path: Path, *, epoch: int | None = None, **more: Any) -> Path:
        """Write one Parquet file; see workbench.evaluation.predictions.write_predictions.

        Args:
            path: of the new file.
            epoch: number of the epoch.
            more: further arguments of `write_predictions`.
        """
        return write_predictions(path, self, epoch=epoch, **more)

    @classmethod
    def from_parquet(cls, path: Path) -> tuple[Predictions, Protocol | None]:
        """Read what to_parquet wrote: the predictions, and their protocol where one was given."""
        return read_predictions(path)


# How are an epoch's predictions kept? One Parquet file, one row for each keypoint of each pose.


PROTOCOL_KEY = b"workbench.protocol"
ORIGIN_KEY = b"workbench.origin"
CORNERS = ("x0", "y0", "x1", "y1")
# Only in files of poses that were read from a result file, which states them.
SIZE = ("box_width", "box_height")
# Rows of one row group, rounded to whole poses: a reader of some images unpacks a part of the file.
GROUP_ROWS = 1 << 15
# Of each keypoint, nearly all different: as streams of bytes they take a quarter less and are read faster
# than through a dictionary, which suits the columns that repeat a pose's value for each of its keypoints.
KEYPOINT_VALUES = ("x", "y", "score", "term")


def write_predictions(
    path: Path,
    predictions: Predictions,
    *,
    epoch: int | None = None,
    protocol: Protocol | None = None,
    oks: Float[np.ndarray, " N"] | None = None,
    terms: Float[np.ndarray, "N K"] | None = None,
    origin: str = "",
    notes: Mapping[str, str] | None = None,
    follow: bool = False,
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
        notes: further texts for the footer by name; `read_note` gives them back.
        follow: write through a link or into a pipe of that name, as for a file that a user named; by default
            it is replaced.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    (N, K), size = predictions.scores.shape, predictions.size

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
        **({} if size is None else {c: per_pose(size[:, i], pa.float64()) for i, c in enumerate(SIZE)}),
        "keypoint": pa.array(np.tile(np.arange(K), N), pa.int16()),
        "x": pa.array(predictions.keypoints[..., 0].ravel(), pa.float64(), from_pandas=True),
        "y": pa.array(predictions.keypoints[..., 1].ravel(), pa.float64(), from_pandas=True),
        "score": pa.array(predictions.scores.ravel(), pa.float64(), from_pandas=True),
        "term": pa.nulls(N * K, pa.float64())
        if terms is None
        else pa.array(terms.ravel(), pa.float64(), from_pandas=True),
    }
    footer = {SHAPE_KEY: json.dumps([N, K]).encode()}
    if origin:
        footer[ORIGIN_KEY] = origin.encode()
    if protocol is not None:
        footer[PROTOCOL_KEY] = json.dumps(protocol.to_json()).encode()
    footer |= {_note_key(name): text.encode() for name, text in (notes or {}).items()}
    footer[DIGEST_KEY] = footer_digest(footer)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, follow) as part:
        pq.write_table(
            pa.table(columns).replace_schema_metadata(footer),
            part.absolute(),  # Arrow takes a folder called `~` for the user's own
            compression="zstd",
            row_group_size=max(GROUP_ROWS // max(K, 1), 1) * max(K, 1),
            use_dictionary=[name for name in columns if name not in KEYPOINT_VALUES],  # type: ignore[arg-type]
            use_byte_stream_split=list(KEYPOINT_VALUES),  # type: ignore[arg-type]
            write_page_checksum=True,
        )
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
    require_file(path, f"{path}: no such file of predictions")
    try:
        with pq.ParquetFile(path.absolute(), page_checksum_verification=True) as file:
            refuse_large(file.metadata, path)
            if SHAPE_KEY not in (file.metadata.metadata or {}):
                raise ValueError(f"{path.name}: expected predictions written by `workbench evaluate --out`")
            table = file.read()
    except (pa.ArrowException, OSError) as reason:
        raise ValueError(f"{path.name}: expected a Parquet file of predictions ({reason})") from None
    notes = table.schema.metadata or {}  # Arrow's own copy, where there is one
    check_footer(notes, path.name)
    try:
        return _predictions(table, notes, path.name), read_protocol(notes)
    except (pa.ArrowException, TypeError, KeyError, IndexError, ValueError, OverflowError) as reason:
        reason_text = " ".join(str(reason).split())[:300]
        if reason_text.startswith(path.name):
            raise ValueError(reason_text) from None
        raise ValueError(f"{path.name}: is damaged, or no file of predictions ({reason_text})") from None


def _predictions(table: pa.Table, notes: dict[bytes, bytes], name: str) -> Predictions:
    N, K = read_shape(notes, name, len(table))

    def column(name: str) -> np.ndarray:
        return table[name].to_numpy(zero_copy_only=False)

    def per_pose(name: str, kind: type) -> np.ndarray:
        values = column(name)[:: max(K, 1)]
        return whole_numbers(values, name) if kind is np.int64 else values.astype(kind)

    annotated = table["annotation_id"].null_count == 0
    check_values({name: column(name) for name in (*CORNERS, *KEYPOINT_VALUES, "pose_score", "oks")})
    rows = np.arange(N * K)
    if (column("pose") != rows // max(K, 1)).any() or (column("keypoint") != rows % max(K, 1)).any():
        raise ValueError("its rows are in another order than they were written in")
    return Predictions(
        per_pose("image_id", np.int64),
        per_pose("category_id", np.int64),
        np.stack([per_pose(c, float) for c in CORNERS], axis=1),
        np.stack([column("x"), column("y")], axis=1).reshape(N, K, 2),
        column("score").reshape(N, K),
        per_pose("pose_score", float),
        per_pose("annotation_id", np.int64) if annotated else None,
        np.stack([per_pose(c, float) for c in SIZE], axis=1) if SIZE[0] in table.column_names else None,
    )


def check_values(columns: Mapping[str, Float[np.ndarray, " r"]]) -> None:
    """Refuse numbers that no prediction has, as they are refused in a result file; nan is "not there".

    Args:
        columns: values by name of the column.

    Raises:
        ValueError: a pose without a score, an infinite number, or a similarity outside of 0 to 1.
    """
    for name, values in columns.items():
        wrong = np.isinf(values)
        if name == "pose_score":
            wrong |= np.isnan(values)
        elif name in ("oks", "term"):
            wrong |= (values < 0) | (values > 1)
        if wrong.any():
            raise ValueError(f"{name} of {values[wrong][0]:g}")


def read_origin(path: Path) -> str:
    """The digest that `write_predictions` was given; "" where there is none.

    Raises:
        ValueError: it is no Parquet file.
    """
    return _footer_text(path, ORIGIN_KEY)


def read_note(path: Path, name: str) -> str:
    """A text that `write_predictions` was given under this name; "" where there is none.

    Args:
        path: of a Parquet file.
        name: of the text.

    Raises:
        ValueError: it is no Parquet file.
    """
    return _footer_text(path, _note_key(name))


def _note_key(name: str) -> bytes:
    return f"workbench.note.{name}".encode()


def _footer_text(path: Path, key: bytes) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        notes = pq.read_schema(path.absolute()).metadata or {}
    except (pa.ArrowException, OSError) as reason:
        raise ValueError(f"{path.name}: expected a Parquet file of predictions ({reason})") from None
    check_footer(notes, path.name)
    return notes.get(key, b"").decode(errors="replace")


def read_protocol(notes: dict[bytes, bytes]) -> Protocol | None:
    """The protocol in a file's footer; None without one.

    Raises:
        ValueError: what is there is no protocol.
    """
    if PROTOCOL_KEY not in notes:
        return None
    found = footer_json(notes, PROTOCOL_KEY)
    if not isinstance(found, dict):
        raise ValueError(f"the protocol is a {type(found).__name__}, not a table of settings")
    return Protocol.from_json(found)


# Does a file hold the predictions that would be made now? Then a stopped comparison goes on from it.


def origin_of(protocol: Protocol, pose_set: PoseSet, **options: Any) -> str:
    """Digest of everything that predictions depend on: checkpoint, rules, annotations and image files.

    Args:
        protocol: of the loaded checkpoint; holds its hash and every rule.
        pose_set: what is predicted; an image counts as changed when its size or time of change is another.
        options: whatever else decides the result, as plain data.
    """
    records = pose_set.images.values()
    images = [[record.id, str(record.path), *state_of_file(record.path)] for record in records]
    instances = [
        [one.annotation_id, one.image_id, one.category_id, list(map(float, one.box)), one.num_keypoints]
        for one in pose_set.instances
    ]
    facts = [__version__, protocol.to_json(), options, images, instances, *pose_set.reading.notes()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def finished_predictions(path: Path, origin: str) -> Predictions | None:
    """The predictions of a file that has this origin; None when it is absent, damaged or another's.

    Args:
        path: as `write_predictions` wrote it.
        origin: of `origin_of`.
    """
    if not path.is_file():
        return None
    try:
        return read_predictions(path)[0] if read_origin(path) == origin else None
    except ValueError:  # damaged: made anew
        return None


def state_of_file(path: Path) -> tuple[int, int]:
    """Size and time of the last change, by which a file counts as changed; -1, -1 where it is absent."""
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns
