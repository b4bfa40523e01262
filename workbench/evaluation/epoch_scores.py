"""AP of every epoch of a folder, and the OKS of every annotated instance in each: computed once, then read.

The annotations are prepared once and the epochs are shared out to processes; each figure is that of
`keypoint_ap`, bit for bit. One row group of the table is one epoch, so that the worst instances of an epoch
need no other. Instances are named by their annotation, also where the poses come from a detector.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import ReadingNote
from workbench.core.files import replacing
from workbench.core.job import Cancelled
from workbench.evaluation.evaluate import own_annotations, truth_of
from workbench.evaluation.ground_truth import AreaRule, GroundTruth
from workbench.evaluation.image_index import FOLDER, STATES_KEY, file_state, index_folder, open_index
from workbench.evaluation.keypoint_ap import FIGURES, KeypointAP, keypoint_ap
from workbench.evaluation.oks import FOUND, paired_oks
from workbench.evaluation.predictions import Predictions, read_predictions

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from jaxtyping import Float

    from workbench.data.pose_set import PoseSet

NAME = "scores.parquet"
RULES_KEY, FIGURES_KEY, SCORING_KEY = "workbench.rules", "workbench.figures", "workbench.scoring"
# Raise it with every change of what a figure, or an instance's OKS, is: tables of other rules are not shown.
SCORING = "2"
# Below so many epochs the start of processes costs more than they save.
_FEW = 24


@dataclass(frozen=True, eq=False)
class EpochScore:
    """One epoch against the annotations.

    Attributes:
        stats: the ten figures in the order of `keypoint_ap.FIGURES`; -1 where there is no such annotation.
        poses: number of predicted poses.
        oks: of every annotated instance, in the order of the annotations; nan where it is not scored.
        score: of the pose that this OKS is of; nan without one.
    """

    stats: Float[np.ndarray, " 10"]
    poses: int
    oks: Float[np.ndarray, " G"]
    score: Float[np.ndarray, " G"]


@dataclass(frozen=True, eq=False)
class EpochScores:
    """The table of a folder.

    Attributes:
        path: of the file.
        rules: `truth_digest` of the annotations that it was computed with, OKS constants, max_dets.
        figures: the ten figures of each epoch that is as it was then, and ``poses``; None where there is no
            such ground truth.
        groups: row group of each such epoch.
        _file: open as long as the record lives: its footer is read once, and a newer table does not disturb.
    """

    path: Path
    rules: str
    figures: dict[int, dict[str, float | int | None]]
    groups: dict[int, int]
    _file: pq.ParquetFile
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def table(self, epochs: Iterable[int]) -> pa.Table:
        """Epoch, image_id, annotation_id, oks and pose_score of every scored instance of some epochs.

        Raises:
            ValueError: the table cannot be read.
        """
        import pyarrow as pa

        try:
            with self._lock:
                groups = [self.groups[epoch] for epoch in epochs]
                return self._file.read_row_groups(groups, use_threads=False)
        except (pa.ArrowException, OSError) as reason:
            raise ValueError(
                f"{FOLDER}/{self.path.name}: is damaged; remove it, it is made again ({reason})"
            ) from None


def truth_digest(truth: GroundTruth) -> str:
    """SHA-256 of everything about the annotations that decides a figure; another data set has another."""
    digest = hashlib.sha256()
    names = ("image_ids", "category_ids", "ids", "image", "category", "keypoints", "boxes", "area", "crowd")
    for name in (*names, "ignored"):
        values = np.ascontiguousarray(getattr(truth, name))
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def score_epoch(
    predictions: Predictions, truth: GroundTruth, sigmas: Sequence[float] | np.ndarray, max_dets: int = 20
) -> EpochScore:
    """The figures of one epoch, and the OKS of each annotated instance that counts.

    A pose from an annotation's own box is compared with that annotation; an instance without one is nan.
    Other poses: the best of all detections within max_dets in the image and category, 0 without any.

    Args:
        predictions: of the epoch.
        truth: annotations.
        sigmas: [K] of OKS, one for each keypoint.
        max_dets: detections per image and category that count.

    Raises:
        ValueError: predictions and annotations do not fit.
    """
    result = keypoint_ap(truth, predictions.detections(), list(sigmas), max_dets)
    oks, score = np.full(len(truth), np.nan), np.full(len(truth), np.nan)
    if predictions.annotation_id is not None:
        rows, target = own_annotations(predictions, truth)
        pairs = (predictions.keypoints[rows], truth.keypoints[target], truth.area[target], result.sigmas)
        oks[target], score[target] = paired_oks(*pairs), predictions.score[rows]
    else:
        oks[:] = 0.0
        _best_detections(result, oks, score)
    labelled = (truth.keypoints[..., 2] > 0).any(1) & ~truth.ignored
    return EpochScore(result.stats, len(predictions), np.where(labelled, oks, np.nan), score)


def _best_detections(
    result: KeypointAP, oks: Float[np.ndarray, " G"], score: Float[np.ndarray, " G"]
) -> None:
    """Fill in the highest OKS of each annotation, and the score of that detection."""
    pairs = result.matches
    # The last write wins: pairs in order of OKS, so that the best is written last.
    order = np.argsort(pairs.pair_oks, kind="stable")
    target = pairs.pair_truth[order]
    oks[target] = pairs.pair_oks[order]
    score[target] = pairs.score[pairs.pair_detection[order]]


def score_epochs(
    folder: Path,
    files: Mapping[int, Path],
    pose_set: PoseSet,
    *,
    area_rule: AreaRule = "annotated",
    sigmas: Sequence[float] | None = None,
    max_dets: int = 20,
    indices: Iterable[int] | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> EpochScores:
    """Score every epoch that is new or changed, and keep the table beside the files.

    Args:
        folder: of predictions; the table lies in its folder ``index``.
        files: by epoch, rising.
        pose_set: the annotations.
        area_rule: where the annotations' areas come from.
        sigmas: OKS constants, when not the skeleton's own.
        max_dets: detections that count per image and category.
        indices: instances that were predicted, when not all; see `evaluate`.
        workers: processes; they import the main module again, which a script must allow for
            (``if __name__ == "__main__"``).
        progress: called with (done, total) epochs.
        cancelled: asked between two epochs.

    Raises:
        ValueError: a file cannot be read, or predictions and annotations do not fit.
        Cancelled: asked to stop; what an earlier call made stays.
    """
    truth = truth_of(pose_set, area_rule, indices)
    constants = np.array(pose_set.skeleton.sigmas if sigmas is None else tuple(sigmas), float)
    rules = f"{truth_digest(truth)} {constants.tolist()} {max_dets}"
    earlier = _opened(Path(folder) / FOLDER / NAME, files, noted=False)
    if earlier is not None and earlier.rules != rules:
        earlier = None
    if earlier is not None and earlier.figures.keys() == files.keys():
        return earlier
    states = {epoch: file_state(path) for epoch, path in files.items()}
    missing = [epoch for epoch in files if earlier is None or epoch not in earlier.figures]
    found = _scored([files[epoch] for epoch in missing], (truth, constants, max_dets), workers)
    with contextlib.ExitStack() as stack:
        # Where the folder cannot be written, the table is open and without a name.
        elsewhere = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        target = (index_folder(folder) or Path(stack.enter_context(elsewhere))) / NAME
        with replacing(target, follow=False) as part:
            _write(part, rules, states, truth, earlier, found, set(missing), progress, cancelled)
        scores = _opened(target, files)
    if scores is None:
        raise ValueError(f"{target}: could not be read after it was written; is the disk full?")
    return scores


def open_scores(folder: Path, files: Mapping[int, Path]) -> EpochScores | None:
    """The table of a folder; None where there is none. Epochs whose file has changed are left out of it.

    A table of other `SCORING` rules is none; a note says how to have its figures again.

    Args:
        folder: of predictions.
        files: by epoch.
    """
    return _opened(Path(folder) / FOLDER / NAME, files)


def _opened(path: Path, files: Mapping[int, Path], noted: bool = True) -> EpochScores | None:
    def read(
        path: Path, file: pq.ParquetFile, notes: dict[str, str], current: list[int]
    ) -> EpochScores | None:
        if notes.get(SCORING_KEY) != SCORING:
            if not noted:
                return None
            warnings.warn(
                f"{path.parent.parent.name}/{FOLDER}/{path.name} was computed by the rules of another "
                "version of the workbench and is not used; with the data set (--data) it is computed again",
                ReadingNote,
                stacklevel=2,
            )
            return None
        if not file.schema_arrow.equals(_schema()):  # it came with the folder: it may be somebody else's
            return None
        figures = json.loads(notes[FIGURES_KEY])
        names = {*FIGURES, "poses", "oks", "found", "score"}
        if any(figures[str(e)].keys() != names for e in current):
            return None
        if not all(map(is_figure, (v for e in current for v in figures[str(e)].values()))):
            return None
        order = {int(epoch): place for place, epoch in enumerate(json.loads(notes[STATES_KEY]))}
        return EpochScores(
            path, notes[RULES_KEY], {e: dict(figures[str(e)]) for e in current},
            {e: order[e] for e in current}, file,
        )  # fmt: skip

    return open_index(path, files, read)


def is_figure(value: Any) -> bool:
    """Whether a value from a footer is a number that can be shown, or None for no such ground truth."""
    return value is None or type(value) is float or (type(value) is int and abs(value) < 1 << 62)


# Processes: each gets the annotations once, and then one file after the other.

Judge = tuple[GroundTruth, np.ndarray, int]
"""Annotations, OKS constants, detections that count per image and category."""

_judge: list[Judge] = []


def _begin(judge: Judge) -> None:
    _judge[:] = [judge]


def _score_file(path: Path, judge: Judge | None = None) -> EpochScore:
    truth, sigmas, max_dets = judge or _judge[0]
    try:
        return score_epoch(read_predictions(path)[0], truth, sigmas, max_dets)
    except ValueError as reason:
        message = str(reason)
        raise ValueError(message if message.startswith(path.name) else f"{path.name}: {message}") from None


def _scored(paths: Sequence[Path], judge: Judge, workers: int) -> Iterator[EpochScore]:
    """The score of each file, in order."""
    if workers < 2 or len(paths) < _FEW:
        yield from (_score_file(path, judge) for path in paths)
        return
    import multiprocessing

    # Not forked: the threads of DuckDB and Arrow in this process would be copied in whatever they do.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(paths)), context, initializer=_begin, initargs=(judge,))
    try:
        yield from pool.map(_score_file, paths)
    finally:
        pool.shutdown(cancel_futures=True)


def _write(
    part: Path,
    rules: str,
    states: dict[int, list[Any]],
    truth: GroundTruth,
    earlier: EpochScores | None,
    found: Iterator[EpochScore],
    missing: set[int],
    progress: Callable[[int, int], None] | None,
    cancelled: Callable[[], bool] | None,
) -> None:
    import pyarrow.parquet as pq

    figures: dict[int, dict[str, Any]] = {}
    schema = _schema()
    done = 0
    options = {"compression": "zstd", "write_statistics": False, "write_page_checksum": True}
    with pq.ParquetWriter(part, schema, **options) as writer:
        for epoch in states:
            if cancelled is not None and cancelled():
                raise Cancelled
            if epoch in missing:
                score = next(found)
                table = _table(epoch, score, truth)
                figures[epoch] = _figures(score)
                done += 1
                if progress is not None:
                    progress(done, len(missing))
            else:
                assert earlier is not None
                table, figures[epoch] = earlier.table([epoch]), earlier.figures[epoch]
            # An epoch without a scored instance is a row group too: their number is that of the epochs.
            writer.write_table(table, row_group_size=max(len(table), 1))
        notes = {STATES_KEY: json.dumps(states), FIGURES_KEY: json.dumps(figures)}
        writer.add_key_value_metadata({RULES_KEY: rules, SCORING_KEY: SCORING, **notes})


def _schema() -> pa.Schema:
    import pyarrow as pa

    whole, real = pa.int64(), pa.float64()
    return pa.schema(
        {"epoch": pa.int32(), "image_id": whole, "annotation_id": whole, "oks": real, "pose_score": real}
    )


def _table(epoch: int, score: EpochScore, truth: GroundTruth) -> pa.Table:
    import pyarrow as pa

    own = np.flatnonzero(np.isfinite(score.oks))
    columns = [
        pa.array(np.full(len(own), epoch), pa.int32()),
        truth.image_ids[truth.image[own]],
        truth.ids[own],
        score.oks[own],
        pa.array(score.score[own], pa.float64(), from_pandas=True),
    ]
    return pa.table([pa.array(column) for column in columns], schema=_schema())


def _figures(score: EpochScore) -> dict[str, Any]:
    own = score.oks[np.isfinite(score.oks)]
    given = score.score[np.isfinite(score.score)]
    shown = {
        name: None if value < 0 else value for name, value in zip(FIGURES, score.stats.tolist(), strict=True)
    }
    return {
        **shown,
        "poses": score.poses,
        "oks": float(own.mean()) if len(own) else None,
        "found": float((own >= FOUND).mean()) if len(own) else None,
        "score": float(given.mean()) if len(given) else None,
    }
