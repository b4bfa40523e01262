"""Whether a folder of the output cache is what one forward pass leaves; others may write into a cache."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Skeleton
from workbench.core.files import files_in

if TYPE_CHECKING:
    from workbench.evaluation import Predictions

HEATMAPS, SIMCC_X, SIMCC_Y, TO_IMAGE = "heatmaps", "simcc_x", "simcc_y", "to_image"

# One row for each instance, by the model's own rules; everybody found, of a bottom-up model.
PREDICTIONS, PEOPLE = "predictions.parquet", "people.parquet"

# What is kept of a forward pass by its kind: name of the array -> number of its axes.
_ARRAYS = {"heatmap": {HEATMAPS: 4}, "simcc": {SIMCC_X: 3, SIMCC_Y: 3}, None: {}}

# SimCC has 2 or 3 bins per pixel.
_MOST_BINS = 1000

# numpy's letter of floating-point numbers.
_FLOAT = "f"


def judge_of(facts: Mapping[str, Any]) -> Skeleton:
    """Names and sigmas of the model's keypoints.

    Raises:
        KeyError, TypeError, ValueError: they are not described.
    """
    judge = facts["judge"]
    texts = (judge["name"], judge["source"], *judge["keypoints"])
    found = Skeleton(
        judge["name"],
        tuple(judge["keypoints"]),
        sigmas=tuple(judge["sigmas"]),
        mirror=tuple(judge["mirror"]),
        source=judge["source"],
    )
    if not all(isinstance(one, str) for one in texts):
        raise TypeError("a name that is no text")
    if not all(math.isfinite(sigma) for sigma in found.sigmas):
        raise ValueError("a sigma that is not finite")
    return found


def check_facts(facts: Mapping[str, Any], indices: Sequence[Any]) -> None:
    """Refuse a description that no forward pass leaves.

    Args:
        facts: as `StoredOutputs` has them.
        indices: as they were read.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: it is another one.
    """
    from workbench.decoding import DECODERS

    judge_of(facts)
    height, width = facts["input_size"]
    sizes = (height, width, *indices)
    if any(type(one) is not int or one < 0 for one in sizes) or len(set(indices)) < len(indices):
        raise ValueError("expected whole numbers from 0")
    if facts["kind"] not in tuple(_ARRAYS) or {type(facts["whole"]), type(facts["udp"])} != {bool}:
        raise ValueError("expected a known kind of output")
    if not isinstance(facts["decoder"], str) or not set(facts["decoders"]) <= set(DECODERS):
        raise ValueError("expected known decoders")
    if type(facts["decoders"]) is not list or not 0 < float(facts["split_ratio"]) <= _MOST_BINS:
        raise ValueError("expected a list of decoders and bins per pixel")


def check_files(folder: Path, facts: Mapping[str, Any], count: int) -> None:
    """Read through what was kept: every page of predictions, size and kind of every array.

    Args:
        folder: of a computation whose facts are checked.
        facts: of it.
        count: of the samples.

    Raises:
        ValueError: a file is damaged or of something else; names it.
    """
    keypoints, wanted = len(judge_of(facts)), {PREDICTIONS, *([PEOPLE] if facts["whole"] else [])}
    for path in sorted({*files_in(folder, "*.parquet"), *(folder / name for name in wanted)}):
        try:
            rows = read_rows(path, None if path.name == PEOPLE else count)
            if rows.keypoints.shape[1] != keypoints:
                raise ValueError("another number of keypoints")
        except (ValueError, OSError) as reason:
            raise ValueError(f"{path} is damaged ({type(reason).__name__})") from reason
    if not (folder / f"{TO_IMAGE}.npy").is_file():
        return  # the raw outputs made room
    names = {} if facts["whole"] else {**_ARRAYS[facts["kind"]], TO_IMAGE: 3}
    for name, axes in names.items():
        path = folder / f"{name}.npy"
        try:
            array = open_array(path)
            shape = (count, 2, 3) if name == TO_IMAGE else (count, *array.shape[1:])
            if array.dtype.kind != _FLOAT or array.ndim != axes or array.shape != shape:
                raise ValueError("another array")
            if name == TO_IMAGE and not np.isfinite(array).all():
                raise ValueError("numbers that are not finite")
        except (ValueError, EOFError, OSError) as reason:
            raise ValueError(f"{path} is damaged ({type(reason).__name__})") from reason


def read_rows(path: Path, count: int | None) -> Predictions:
    """Predictions of a file, as many as there are samples; any number for None.

    Raises:
        ValueError, OSError: there are others, or the file is damaged.
    """
    from workbench.evaluation import Predictions

    rows, _ = Predictions.from_parquet(path)
    if count is not None and len(rows.keypoints) != count:
        raise ValueError("another number of rows")
    return rows


def open_array(path: Path) -> np.ndarray:
    """An .npy file, read from disk where it is touched; never one of objects.

    Raises:
        ValueError, OSError: it is none, or is cut off.
    """
    return np.lib.format.open_memmap(path, mode="r")
