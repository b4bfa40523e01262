"""What is kept of an experiment under way, so that the same call goes on after a kill? Arms and snapshots.

Each arm has a folder: snapshots while it trains; then the predictions that it is judged by and its curve. All
lies below a folder named after a digest of everything that decides the figures, so other weights, data or
settings never meet what was kept for these.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import __version__
from workbench.core.files import write_text
from workbench.evaluation.predictions import finished_predictions, state_of_file
from workbench.training.snapshots import newest_snapshot, only_session, snapshots, write_snapshot

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.data import PoseSet
    from workbench.evaluation import Predictions
    from workbench.text import TextVectors
    from workbench.training.experiments.arms import Experiment
    from workbench.training.experiments.building import Origin
    from workbench.training.experiments.comparing import Material
    from workbench.training.experiments.learning import Course
    from workbench.training.trainer import Trainer

# A snapshot holds weights and optimizer, some ten MB: little is lost, and writing costs next to nothing.
SNAPSHOT_SECONDS = 5.0
COURSE = ("steps", "loss", "measured", "APs")


class KeptArm:
    """What is kept of one arm.

    Attributes:
        folder: its own.
    """

    def __init__(self, folder: Path, origin: str) -> None:
        """Remove what a kill left half-written."""
        self.folder, self._origin = folder, origin
        self._saved = time.monotonic()
        if folder.is_dir():
            for half in folder.glob("*.half"):
                half.unlink()

    def course(self, ways: Sequence[object]) -> dict[str, list[Any]] | None:
        """The curve of an arm that is finished: trained, and judged in all these ways; else None."""
        try:
            found = json.loads((self.folder / "course.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):  # absent or damaged: the arm is done anew
            return None
        if not isinstance(found, dict) or set(found) != set(COURSE):
            return None
        return found if all(self.predictions(way) is not None for way in ways) else None

    def predictions(self, way: object) -> Predictions | None:
        """What the finished network predicted in this way; None where it is absent or damaged."""
        return finished_predictions(self._file(way), self._origin)

    def keep_predictions(self, way: object, found: Predictions) -> None:
        """Write what the finished network predicted."""
        found.to_parquet(self._file(way), origin=self._origin)

    def restore(self, trainer: Trainer) -> dict[str, list[Any]] | None:
        """Put a trainer to the newest snapshot and give the curve up to there; None where there is none."""
        state, _ = newest_snapshot(self.folder)
        if state is None:
            return None
        trainer.restore(state)
        return {name: list(state["course"][name]) for name in COURSE}

    def after_step(self, trainer: Trainer, course: Mapping[str, Sequence[Any]]) -> None:
        """Write a snapshot, where the last one is old or the training has ended."""
        last = trainer.step_number == trainer.settings.steps
        if not last and time.monotonic() - self._saved < SNAPSHOT_SECONDS:
            return
        kept = {name: list(course[name]) for name in COURSE}
        write_snapshot(self.folder, {**trainer.state(), "course": kept})
        # One before the newest stays: a disk may damage the newest.
        for older in snapshots(self.folder)[:-2]:
            older.unlink()
        self._saved = time.monotonic()

    def finish(self, course: Mapping[str, Sequence[Any]]) -> None:
        """Write the curve; snapshots are of no more use."""
        text = json.dumps({name: list(course[name]) for name in COURSE})
        write_text(self.folder / "course.json", text)
        for path in snapshots(self.folder):
            path.unlink()

    def _file(self, way: object) -> Path:
        return self.folder / f"{_slug(str(way))}.parquet"


class KeptExperiment:
    """The folder of one experiment.

    Attributes:
        folder: named after the experiment and the digest.
        resumed: what was taken from an earlier call.
    """

    def __init__(self, folder: Path, name: str, origin: str) -> None:
        self.folder, self._origin = folder / f"{_slug(name)}-{origin[:12]}", origin
        self.resumed: list[str] = []

    def arm(self, number: int, name: str) -> KeptArm:
        """What is kept of an arm."""
        return KeptArm(self.folder / f"{number}-{_slug(name)}", self._origin)


@contextmanager
def kept_in(
    folder: Path, experiment: Experiment, origin: Origin, material: Material, course: Course
) -> Iterator[KeptExperiment]:
    """Keep an experiment in a folder, which no other process may use meanwhile.

    Args:
        folder: of any number of experiments.
        experiment: as `run_experiment` takes it.
        origin: likewise.
        material: likewise.
        course: likewise.

    Raises:
        ValueError: another process works there.
        OSError: the folder cannot be written.
    """
    kept = KeptExperiment(folder, experiment.name, digest_of(experiment, origin, material, course))
    with only_session(kept.folder):
        yield kept


def digest_of(experiment: Experiment, origin: Origin, material: Material, course: Course) -> str:
    """A digest of everything that decides the figures: arms, weights, text, annotations, images, settings."""
    given = origin.given
    told = [
        __version__,
        dataclasses.asdict(experiment),
        dataclasses.asdict(course),
        origin.config,
        [str(given.top_down.device or "cpu"), repr(given.inference), repr(given.training)],
        [repr(given.top_down.codec), given.top_down.padding, repr(given.skeleton)],
        [_told_text(text) for text in (given.text, origin.species)],
        [[_told_set(pose_set), list(indices)] for pose_set, indices in (material.train, material.judge)],
    ]
    digest = hashlib.sha256(json.dumps(told, default=repr).encode())
    for tensors in (origin.start, given.module.state_dict()):
        for name, tensor in tensors.items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes_of(tensor))
    return digest.hexdigest()


def _bytes_of(tensor: Tensor) -> bytes:
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _told_text(text: TextVectors | None) -> list[Any] | None:
    if text is None:
        return None
    vectors = [hashlib.sha256(v.tobytes()).hexdigest() for v in (text.keypoint_vectors, text.subject_vectors)]
    return [text.name, text.keypoints, text.subjects, text.categories, *vectors]


def _told_set(pose_set: PoseSet) -> list[Any]:
    images = [[image.id, str(image.path), *state_of_file(image.path)] for image in pose_set.images.values()]
    truths = [[*map(repr, (i.annotation_id, i.area, i.box)), i.truth.tolist()] for i in pose_set.instances]
    return [pose_set.name, repr(pose_set.skeleton), images, truths, pose_set.raw.get("annotations")]


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
