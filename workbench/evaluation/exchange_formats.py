"""Predictions of other tools: FiftyOne data sets (metadata.json, samples.json) and back, and mmpose's dumps.

FiftyOne keeps a pose as a `Keypoint`: `points` as (x, y) in shares of the image's width and height, nan for a
point that is not there, and `confidence`, one number for each point. What it has no place for stands in
attributes of the label: `score` of the pose, `annotation_id`, and `bounding_box` as FiftyOne's detections
have it (left, top, width, height, in shares). Images are not copied: `filepath` says where they lie.

Source: voxel51/fiftyone 1.22.1: core/labels.py Keypoint, utils/data/exporters.py FiftyOneDatasetExporter.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.checkpoints.budget import Budget, Limits
from workbench.checkpoints.pickled_objects import Array
from workbench.checkpoints.torch_files import read_bare_pickle
from workbench.core.files import require_file, write_text
from workbench.core.report import counted
from workbench.data.coco import read_json
from workbench.evaluation.predictions import Predictions, read_predictions
from workbench.evaluation.protocol import DEFAULT, pose_scores

if TYPE_CHECKING:
    from workbench.data.pose_set import ImageRecord, PoseSet

FIELD = "predictions"
"""Name of the field of poses, where nobody gives another."""
# Of the data layout: FiftyOne reads this and every later one, and brings it up to date itself.
VERSION = "1.0.0"
_TIME = {"$date": "2026-01-01T00:00:00Z"}
_NAN = {"$numberDouble": "NaN"}


def is_fiftyone(path: Path) -> bool:
    """Whether a path is a folder that FiftyOne exported."""
    return path.is_dir() and (path / "samples.json").is_file() and (path / "metadata.json").is_file()


def write_fiftyone(folder: Path, predictions: Predictions, pose_set: PoseSet, field: str = FIELD) -> Path:
    """Write predictions as a data set that ``fiftyone.Dataset.from_dir`` reads.

    Args:
        folder: where to; made if it is not there.
        predictions: of the set.
        pose_set: whose images the samples are; all of them, with poses or without.
        field: of the poses in each sample.

    Raises:
        ValueError: the size of an image is not known, or the folder holds something else.
    """
    folder = Path(folder)
    if folder.exists() and not is_fiftyone(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: expected a new folder or an earlier export, found something else")
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[int, list[int]] = {}
    for row, image_id in enumerate(predictions.image_id.tolist()):
        rows.setdefault(image_id, []).append(row)
    samples = [
        _sample(record, [_label(predictions, row, pose_set, record) for row in rows.get(image_id, ())], field)
        for image_id, record in pose_set.images.items()
    ]
    facts = {"samples": samples}
    write_text(folder / "samples.json", json.dumps(facts, allow_nan=False), follow=False)
    metadata = _metadata(pose_set.name, pose_set, field)
    write_text(folder / "metadata.json", json.dumps(metadata, allow_nan=False), follow=False)
    return folder


def _size(record: ImageRecord) -> tuple[int, int]:
    if not record.width or not record.height:
        raise ValueError(f"{record.path.name}: its size is not known, and FiftyOne's points are shares of it")
    return record.width, record.height


def _label(predictions: Predictions, row: int, pose_set: PoseSet, record: ImageRecord) -> dict[str, Any]:
    size = np.array(_size(record), float)
    label: dict[str, Any] = {
        "_id": _identity("pose", record.id, row),
        "_cls": "Keypoint",
        "attributes": {},
        "tags": [],
        "label": pose_set.categories.get(int(predictions.category_id[row])),
        "points": [
            [_json_number(v) for v in point] for point in (predictions.keypoints[row] / size).tolist()
        ],
        "confidence": [_json_number(v) for v in predictions.scores[row].tolist()],
        "score": float(predictions.score[row]),
    }
    box = predictions.box[row]
    if np.isfinite(box).all():
        shares = np.concatenate([box[:2], box[2:] - box[:2]]) / np.tile(size, 2)
        label["bounding_box"] = shares.tolist()
    if predictions.annotation_id is not None:
        label["annotation_id"] = int(predictions.annotation_id[row])
    return label


def _json_number(value: float) -> Any:
    """A number as MongoDB's JSON has it; bare NaN is no JSON."""
    return value if math.isfinite(value) else _NAN


def _sample(record: ImageRecord, labels: list[dict[str, Any]], field: str) -> dict[str, Any]:
    width, height = _size(record)
    return {
        "_id": _identity("sample", record.id),
        "filepath": str(record.path.absolute()),
        "tags": [],
        "metadata": {"_cls": "ImageMetadata", "width": width, "height": height},
        "_media_type": "image",
        "_rand": int(hashlib.sha256(str(record.id).encode()).hexdigest()[:8], 16) / 2**32,
        "created_at": _TIME,
        "last_modified_at": _TIME,
        "image_id": record.id,
        field: {"_cls": "Keypoints", "keypoints": labels},
    }


def _identity(*words: Any) -> dict[str, str]:
    """An id of 24 hexadecimal digits; the same predictions have the same."""
    return {"$oid": hashlib.sha256(repr(words).encode()).hexdigest()[:24]}


def _metadata(name: str, pose_set: PoseSet, field: str) -> dict[str, Any]:
    """The record of the data set: its fields, and the skeleton."""
    core = "fiftyone.core"
    kinds = [
        ("id", f"{core}.fields.ObjectIdField", {"db_field": "_id"}),
        ("filepath", f"{core}.fields.StringField", {}),
        ("tags", f"{core}.fields.ListField", {"subfield": f"{core}.fields.StringField"}),
        ("metadata", _EMBEDDED, {"embedded_doc_type": f"{core}.metadata.ImageMetadata"}),
        ("created_at", f"{core}.fields.DateTimeField", {"read_only": True}),
        ("last_modified_at", f"{core}.fields.DateTimeField", {"read_only": True}),
        ("_media_type", f"{core}.fields.StringField", {}),
        ("_rand", f"{core}.fields.FloatField", {}),
        ("_dataset_id", f"{core}.fields.ObjectIdField", {}),
        ("image_id", f"{core}.fields.IntField", {}),
        (field, _EMBEDDED, {"embedded_doc_type": f"{core}.labels.Keypoints"}),
    ]
    skeleton = pose_set.skeleton
    edges = [list(pair) for pair in skeleton.limbs]
    return {
        "_id": _identity("data set", name),
        "name": name,
        "slug": "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-") or "poses",
        "version": VERSION,
        "created_at": _TIME,
        "last_modified_at": _TIME,
        "media_type": "image",
        "persistent": False,
        "tags": [],
        "info": {},
        "skeletons": {
            field: {"_cls": "KeypointSkeleton", "labels": list(skeleton.keypoints), "edges": edges}
        },
        "sample_fields": [_field(*kind) for kind in kinds],
        "frame_fields": [],
        "group_media_types": {},
        "saved_views": [],
        "workspaces": [],
        "annotation_runs": {},
        "brain_methods": {},
        "evaluations": {},
        "runs": {},
    }


_EMBEDDED = "fiftyone.core.fields.EmbeddedDocumentField"


def _field(name: str, kind: str, more: Mapping[str, Any]) -> dict[str, Any]:
    empty = {"embedded_doc_type": None, "subfield": None, "description": None, "info": None}
    return {
        "name": name, "ftype": kind, "fields": [], "db_field": name, "read_only": False, "created_at": _TIME,
        **empty, **more,
    }  # fmt: skip


# Back: labels of any field of poses.


def read_fiftyone(folder: Path, pose_set: PoseSet, field: str = "") -> Predictions:
    """Read the poses of a data set that FiftyOne exported, or `write_fiftyone`.

    The score of a pose is its attribute ``score``, else the mean of its confidences; a keypoint without a
    confidence has the pose's. The image of a sample is that of its ``image_id``, else of its file name.

    Args:
        folder: with samples.json.
        pose_set: the images and categories.
        field: of the poses; "" where there is only one.

    Raises:
        FileNotFoundError: there is no samples.json.
        ValueError: what is wrong with which sample.
    """
    file = Path(folder) / "samples.json"
    if not file.is_file():
        raise FileNotFoundError(f"{folder}: expected a FiftyOne export with samples.json in it")
    facts = read_json(file)
    samples = facts.get("samples") if isinstance(facts, Mapping) else None
    if not isinstance(samples, list) or not all(isinstance(one, Mapping) for one in samples):
        raise ValueError(f"{file.name}: expected a list of samples under 'samples', as FiftyOne writes it")
    field = _field_of(samples, file.name, field)
    images = _ImageNames(pose_set)
    rows = [
        _pose(label, image, size, pose_set, place)
        for sample in samples
        for image, place in [images.of(sample)]
        for label in _labels(sample.get(field), field, place)
        for size in [_sample_size(sample, pose_set.images[image], place)]
    ]
    return _predictions(rows, len(pose_set.skeleton))


def _predictions(rows: list[dict[str, Any]], K: int) -> Predictions:
    def column(name: str, shape: tuple[int, ...], kind: type = float) -> np.ndarray:
        return np.array([row[name] for row in rows], kind).reshape(len(rows), *shape)

    known = bool(rows) and all(row["annotation_id"] is not None for row in rows)
    return Predictions(
        column("image_id", (), np.int64), column("category_id", (), np.int64), column("box", (4,)),
        column("points", (K, 2)), column("scores", (K,)), column("score", ()),
        column("annotation_id", (), np.int64) if known else None,
    )  # fmt: skip


def _field_of(samples: Iterable[Mapping[str, Any]], file: str, wanted: str) -> str:
    names = {
        name
        for sample in samples
        for name, value in sample.items()
        if isinstance(value, Mapping) and value.get("_cls") in ("Keypoints", "Keypoint")
    }
    if wanted in names:
        return wanted
    if len(names) != 1 or wanted:
        listed = f"the fields {', '.join(sorted(names))}" if names else "no field of keypoints"
        raise ValueError(
            f"{file}: expected {wanted or 'one field of keypoints'}, found {listed}; name one as FOLDER#FIELD"
        )
    return names.pop()


class _ImageNames:
    """Finds the image of a sample."""

    def __init__(self, pose_set: PoseSet) -> None:
        self._set = pose_set
        self._by_name: dict[str, list[int]] = {}
        for image_id, record in pose_set.images.items():
            self._by_name.setdefault(record.path.name, []).append(image_id)

    def of(self, sample: Mapping[str, Any]) -> tuple[int, str]:
        """Image id, and what to call the sample in an error."""
        path = sample.get("filepath")
        # Windows writes the other slash; the file itself is not opened.
        name = path.replace("\\", "/").rpartition("/")[2] if isinstance(path, str) else "a sample"
        stated = _number(sample.get("image_id"))
        if stated is not None and stated in self._set.images:
            return int(stated), name
        found = self._by_name.get(name, [])
        if len(found) != 1:
            what = "is the name of several images" if found else "is no image"
            raise ValueError(f"samples.json: {name} {what} of {self._set.name}")
        return found[0], name


def _labels(value: Any, field: str, place: str) -> list[Mapping[str, Any]]:
    if value is None:
        return []
    labels = value.get("keypoints", [value]) if isinstance(value, Mapping) else None
    if not isinstance(labels, list) or not all(isinstance(one, Mapping) for one in labels):
        raise ValueError(f"samples.json: {place}: expected keypoints under {field!r}")
    return labels


def _sample_size(sample: Mapping[str, Any], record: ImageRecord, place: str) -> np.ndarray:
    stated = sample.get("metadata")
    stated = stated if isinstance(stated, Mapping) else {}
    size = [_number(stated.get("width")) or record.width, _number(stated.get("height")) or record.height]
    if not all(isinstance(v, (int, float)) and v > 0 and math.isfinite(v) for v in size):
        raise ValueError(f"samples.json: {place} has no width and height, and points are shares of them")
    return np.array(size, float)


def _pose(
    label: Mapping[str, Any], image: int, size: np.ndarray, pose_set: PoseSet, place: str
) -> dict[str, Any]:
    K = len(pose_set.skeleton)
    points = label.get("points")
    if (
        not isinstance(points, list)
        or len(points) != K
        or not all(isinstance(point, list) and len(point) == 2 for point in points)
    ):
        count = len(points) if isinstance(points, list) else "no"
        raise ValueError(
            f"samples.json: {place}: expected {K} points (x, y) of {pose_set.skeleton.name}, got {count}"
        )
    shares = np.array([[_float(v, place) for v in point] for point in points])
    shares[~np.isfinite(shares).all(1)] = np.nan
    confidence = label.get("confidence")
    given = [_float(v, place) for v in confidence] if isinstance(confidence, list) else []
    if given and len(given) != K:
        raise ValueError(f"samples.json: {place}: {K} points and {len(given)} confidences")
    scores = np.array(given or [math.nan] * K)
    finite = scores[np.isfinite(scores) & np.isfinite(shares[:, 0])]
    score = _number(label.get("score"))
    score = float(finite.mean()) if score is None and len(finite) else score
    if score is None or not math.isfinite(score):
        raise ValueError(
            f"samples.json: {place}: a pose has neither score nor confidence, and AP needs an order; is the "
            "field one of annotations?"
        )
    scores = np.where(np.isfinite(scores), scores, np.where(np.isfinite(shares[:, 0]), score, 0.0))
    box = label.get("bounding_box")
    corners = np.full(4, np.nan)
    if isinstance(box, list) and len(box) == 4:
        left, top, width, height = (_float(v, place) for v in box)
        corners = np.array([left, top, left + width, top + height]) * np.tile(size, 2)
    stated = _number(label.get("annotation_id"))
    if stated is not None and stated != stated // 1:  # also nan and infinity
        raise ValueError(f"samples.json: {place}: expected annotation_id as a whole number, got {stated:g}")
    return {
        "image_id": image, "category_id": _category(label.get("label"), pose_set, place), "box": corners,
        "points": shares * size, "scores": scores, "score": score,
        "annotation_id": None if stated is None else int(stated),
    }  # fmt: skip


def _category(name: Any, pose_set: PoseSet, place: str) -> int:
    found = [number for number, known in pose_set.categories.items() if known == name]
    if name is None and len(pose_set.categories) == 1:
        found = list(pose_set.categories)
    if len(found) != 1:
        known = ", ".join(pose_set.categories.values())
        raise ValueError(f"samples.json: {place}: label {name!r:.60} is no category of the set ({known})")
    return found[0]


def _number(value: Any) -> float | int | None:
    """A number, also as MongoDB's JSON writes it (``{"$numberDouble": "NaN"}``); None for anything else.

    Raises:
        ValueError: a whole number beyond 64 bits.
    """
    if isinstance(value, Mapping) and len(value) == 1:
        ((kind, text),) = value.items()
        if kind in ("$numberInt", "$numberLong", "$numberDouble", "$numberDecimal"):
            try:
                value = int(text) if kind in ("$numberInt", "$numberLong") else float(text)
            except (TypeError, ValueError, OverflowError):
                return None
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise ValueError("samples.json: a number beyond 64 bits")
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _float(value: Any, place: str) -> float:
    found = _number(value)
    if found is None and value is not None:
        raise ValueError(f"samples.json: {place}: expected a number, got {value!r:.40}")
    if found is not None and math.isinf(found):
        raise ValueError(f"samples.json: {place}: expected a finite number or nan, got {found}")
    return math.nan if found is None else float(found)


# The file of mmpose's ``tools/test.py --dump results.pkl``; nothing in it is executed.
#
# It is a pickle of a list with one dict for each data sample: ``pred_instances`` with keypoints,
# keypoint_scores, bboxes and bbox_scores as numpy arrays, and the sample's ``img_id`` and ``category_id``.
# Poses are scored as mmpose's CocoMetric does: box score times the mean of the keypoint scores above .2.


# A dump of 100,000 detections holds some six million values.
_LIMITS = Limits(opcodes=200_000_000, objects=20_000_000, text=1 << 30)
DUMP_ENDINGS = (".pkl", ".pickle")
_BUDGET = {"steps": 200_000_000, "objects": 20_000_000, "nbytes": 2 << 30}


def is_dump(path: Path) -> bool:
    """Whether a file is one by its name."""
    return path.suffix.lower() in DUMP_ENDINGS


def read_dump(path: Path) -> Predictions:
    """The poses of a dump, in its order.

    Raises:
        ValueError: it is no pickle, no such list, or a sample lacks what is needed.
        FileNotFoundError: there is no such file.
    """
    require_file(path, f"{path}: no such result file")
    samples = read_bare_pickle(path, _LIMITS, Budget(path.name, "result dump", **_BUDGET)).value
    if not isinstance(samples, list) or not samples:
        raise ValueError(
            f"{path.name}: expected a list of data samples as `tools/test.py --dump` writes it, got "
            f"{type(samples).__name__}"
        )
    parts, size, most = [], 0, path.stat().st_size
    for number, sample in enumerate(samples):
        parts.append(_dumped_sample(path, number, sample))
        # Each number of an array takes a byte at least, unless several samples share one.
        size += parts[-1][2].size + len(parts[-1][2])
        if size > most:
            raise ValueError(
                f"{path.name}: its samples hold more numbers than its {most:,} bytes; it is refused as a bomb"
            )
    K = {part[2].shape[1] for part in parts}
    if len(K) > 1:
        raise ValueError(
            f"{path.name}: samples with {' and '.join(map(str, sorted(K)))} keypoints in one file"
        )
    images, categories, points, scores, boxes, box_scores = (
        np.concatenate(c) for c in zip(*parts, strict=True)
    )
    scored = pose_scores(DEFAULT, scores, box_scores)
    return Predictions(images, categories, boxes, points, scores, scored)


def read_poses(path: Path) -> Predictions:
    """The poses of a dump, or of a Parquet file of predictions; raises as the reader of each."""
    return read_dump(path) if is_dump(path) else read_predictions(path)[0]


def _dumped_sample(path: Path, number: int, sample: Any) -> tuple[np.ndarray, ...]:
    """Image, category, keypoints, scores, boxes and box scores of one sample's poses."""
    where = f"{path.name}, sample {number}"
    if not isinstance(sample, Mapping) or not isinstance(sample.get("pred_instances"), Mapping):
        raise ValueError(f"{where}: expected a dict with pred_instances")
    found = sample["pred_instances"]
    points = _array(found, "keypoints", where)
    if points.ndim != 3 or points.shape[2] < 2:
        raise ValueError(f"{where}: expected keypoints of shape [n, K, 2], got {list(points.shape)}")
    n, K = points.shape[:2]
    if n and not K:
        raise ValueError(f"{where}: {counted(n, 'pose')} without keypoints")
    scores = _array(found, "keypoint_scores", where, (n, K))
    boxes = _array(found, "bboxes", where, (n, 4)) if "bboxes" in found else np.full((n, 4), np.nan)
    rated = _array(found, "bbox_scores", where, (n,)) if "bbox_scores" in found else np.ones(n)
    image, category = _whole(sample, "img_id", where), sample.get("category_id", 1)
    category = category[0] if isinstance(category, list) and category else category
    ids = np.full(n, image, np.int64), np.full(n, _whole_number(category, f"{where}: category_id"), np.int64)
    return (*ids, points[..., :2], scores, boxes, rated)


def _array(
    found: Mapping[str, Any], name: str, where: str, shape: tuple[int, ...] | None = None
) -> np.ndarray:
    value = found.get(name)
    if not isinstance(value, Array):
        raise ValueError(f"{where}: expected {name} as a numpy array")
    array = value.array()
    if array.dtype.kind not in "fiu" or (shape is not None and array.size != int(np.prod(shape))):
        raise ValueError(f"{where}: expected numbers in {name}, {shape} of them, got {list(array.shape)}")
    found_numbers = np.asarray(array, float).reshape(shape or array.shape)
    # A keypoint or a box that is not there may be nan; a score that ranks poses may not.
    if np.isinf(found_numbers).any() or (name.endswith("scores") and np.isnan(found_numbers).any()):
        raise ValueError(f"{where}: expected finite numbers in {name}")
    return found_numbers


def _whole(sample: Mapping[str, Any], name: str, where: str) -> int:
    return _whole_number(sample.get(name), f"{where}: {name}")


def _whole_number(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 62:
        raise ValueError(f"{where}: expected a whole number, got {str(value)[:40]}")
    return value
