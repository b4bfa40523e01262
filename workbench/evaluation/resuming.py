"""Does a file hold the predictions that would be made now? Then a stopped comparison goes on from it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import __version__

if TYPE_CHECKING:
    from workbench.data import PoseSet
    from workbench.evaluation.predictions import Predictions
    from workbench.evaluation.protocol import Protocol


def origin_of(protocol: Protocol, pose_set: PoseSet, **options: Any) -> str:
    """A digest of all that decides predictions: checkpoint, rules, annotations and image files.

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
    told = [__version__, protocol.to_json(), options, images, instances]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def finished_predictions(path: Path, origin: str) -> Predictions | None:
    """The predictions of a file that has this origin; None when it is absent, damaged or another's.

    Args:
        path: as `write_predictions` wrote it.
        origin: of `origin_of`.
    """
    from workbench.evaluation.predictions import read_origin, read_predictions

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
