"""Which instances of a data set was a model asked for? AP is of those, as the files of predictions state it.

A pose from an annotation's own box names its annotation, and each box that was asked for has one row: the
rows state the choice. A detector's rows do not, because an image may have none; there the record of the sweep
beside the file counts. Where nothing states a choice, COCO's rule holds: what has no prediction is missed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.report import counted
from workbench.evaluation.sweeps.folder import RECORD, read_record
from workbench.evaluation.sweeps.readings import labelled_rows

if TYPE_CHECKING:
    from jaxtyping import Int

    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.history import History
    from workbench.evaluation.predictions import Predictions
    from workbench.evaluation.protocol import Protocol


@dataclass(frozen=True)
class PredictedPart:
    """The part of a set that files of predictions are of.

    Attributes:
        indices: of the instances to judge, as `evaluate` takes them; None for all.
        sentence: what a reader of the figures has to know; "" where everything was predicted.
    """

    indices: tuple[int, ...] | None = None
    sentence: str = ""


def part_of_predictions(
    pose_set: PoseSet,
    predictions: Sequence[Predictions],
    protocols: Sequence[Protocol | None],
    paths: Iterable[Path] = (),
) -> PredictedPart:
    """The instances that at least one of some predictions was made for.

    Args:
        pose_set: the annotations.
        predictions: of this set.
        protocols: of each, where known.
        paths: of their files; a sweep's record lies beside them.
    """
    stated = [one.annotation_id for one in predictions if one.annotation_id is not None]
    ids = np.concatenate([*stated, np.zeros(0, int)]) if len(stated) == len(predictions) else None
    images = np.concatenate([*(one.image_id for one in predictions), np.zeros(0, int)])
    return _part(pose_set, ids, images, protocols, list(paths))


def part_of_history(pose_set: PoseSet, history: History) -> PredictedPart:
    """As `part_of_predictions`, of all epochs of a folder.

    Args:
        pose_set: annotations.
        history: the folder of predictions.

    Raises:
        ValueError: a file cannot be read.
    """
    ids, images = history.predicted_ids()
    return _part(pose_set, ids, images, list(history.protocols.values()), list(history.files.values()))


def _part(
    pose_set: PoseSet,
    annotation_ids: Int[np.ndarray, " N"] | None,
    image_ids: Int[np.ndarray, " N"],
    protocols: Sequence[Protocol | None],
    paths: Sequence[Path],
) -> PredictedPart:
    limit = _limit_of_sweep(paths)
    # After NMS a box that was asked for may have no row.
    filtered = any(one is not None and not math.isnan(one.nms) for one in protocols)
    if annotation_ids is not None and not filtered:
        asked = set(annotation_ids.tolist())
        chosen = tuple(i for i in pose_set.labelled if pose_set.instances[i].annotation_id in asked)
    elif limit is not None:
        chosen = labelled_rows(pose_set, limit)
    else:
        return PredictedPart(None, _images_without(pose_set, image_ids, protocols))
    # Ids of another set: the evaluation says so.
    if not chosen or len(chosen) == len(pose_set.labelled):
        return PredictedPart()
    option = "" if limit is None else f" (--limit {limit})"
    return PredictedPart(
        chosen,
        (
            f"{len(chosen)} of {counted(len(pose_set.labelled), 'instance was', 'instances were')} "
            f"predicted{option}; only they count"
        ),
    )


def _limit_of_sweep(paths: Sequence[Path]) -> int | None:
    """The limit of the sweep that all files are of; None without one."""
    limits = set()
    # The files of a variant lie one folder deeper than the record.
    for folders in {(path.parent, path.parent.parent) for path in paths}:
        record = next((folder / RECORD for folder in folders if (folder / RECORD).is_file()), None)
        try:
            limit = None if record is None else read_record(record)["identity"].get("limit")
        except (ValueError, OSError):
            limit = None
        limits.add(limit if type(limit) is int and limit > 0 else None)
    return limits.pop() if len(limits) == 1 else None


def _images_without(
    pose_set: PoseSet, image_ids: Int[np.ndarray, " N"], protocols: Sequence[Protocol | None]
) -> str:
    """How many images have no prediction, where no protocol states that all were looked at; "" for none."""
    total = len(pose_set.images)
    if protocols and all(one is not None and one.images >= total for one in protocols):
        return ""
    missing = pose_set.images.keys() - set(image_ids.tolist())
    if not missing & pose_set.labelled_of_image.keys():
        return ""
    return (
        f"{len(missing)} of {counted(total, 'image has', 'images have')} no prediction; nothing in the "
        "file says that they were left out, so their instances count as missed (COCO's rule)"
    )
