"""The result of an experiment: the report, and the files by which an interrupted call continues.

Each arm has a folder: snapshots while it trains, then its predictions and its curve. All lies below a folder
named after a digest of everything that decides the figures, so that other weights, data or settings never use
files of these.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import __version__
from workbench.core.files import RECORD_SIZE, files_in, inner_folder, read_at_most, write_text
from workbench.core.report import Report, plain, signed_text
from workbench.evaluation.predictions import finished_predictions, state_of_file
from workbench.figures import QUIET_COLOUR, RUN_COLOURS, new_figure
from workbench.training.run_folder import newest_snapshot, only_session, snapshots, write_snapshot

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from plotly.graph_objects import Figure
    from torch import Tensor

    from workbench.data import PoseSet
    from workbench.evaluation import Predictions
    from workbench.text import TextVectors
    from workbench.training.experiments.arms import Experiment, Origin
    from workbench.training.experiments.running import Course, Material
    from workbench.training.trainer import Trainer


@dataclass(frozen=True, eq=False)
class ArmResult:
    """One arm.

    Attributes:
        name: what is different in it.
        AP: on the path on which the arm is evaluated.
        low: lower end of the 95 % interval of AP over resampled images.
        high: upper end.
        AR: as AP.
        delta: AP less that of the first arm; 0 for the first.
        delta_low: lower end of the paired interval.
        delta_high: upper end.
        AP_taught: of the same weights on the path of training.
        delta_taught: AP_taught less that of the first arm.
        taught_low: lower end of its paired interval.
        taught_high: upper end.
        steps: of the loss.
        loss: of each step; empty where nothing was trained.
        measured: steps after which AP was measured; 0 where nothing was trained.
        APs: measured there; the last one is AP.
    """

    name: str
    AP: float
    low: float
    high: float
    AR: float
    delta: float
    delta_low: float
    delta_high: float
    AP_taught: float
    delta_taught: float
    taught_low: float
    taught_high: float
    steps: Int[np.ndarray, " S"]
    loss: Float[np.ndarray, " S"]
    measured: Int[np.ndarray, " M"]
    APs: Float[np.ndarray, " M"]

    @property
    def certain(self) -> bool:
        """The difference from the first arm has an interval on one side of 0."""
        return self.delta_low > 0 or self.delta_high < 0

    def doubt(self) -> str:
        """Why the difference from the first arm shows nothing; "" where it is certain."""
        if not np.isfinite(self.delta_low):
            return ", too few images for an interval"
        return "" if self.certain else ", not significant"


@dataclass(frozen=True, eq=False)
class ExperimentReport(Report):
    """The arms of an experiment; the others are compared with the first.

    Attributes:
        name: of the experiment.
        question: that it asks.
        arms: in its order.
        steps: each arm was trained for; 0 when none was.
        seed: of all arms.
        judged_on: which instances.
        notes: limits of the comparison, one sentence each.
    """

    name: str
    question: str
    arms: tuple[ArmResult, ...]
    steps: int
    seed: int
    judged_on: str
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        first, *others = self.arms
        others_text = "; ".join(
            f"{arm.name} {_change(arm.delta, arm.delta_low, arm.delta_high)}{arm.doubt()}" for arm in others
        )
        return f"{self.question} AP {first.AP:.3f} {first.name}; {others_text} ({self.judged_on})."

    def table(self) -> list[dict[str, Any]]:
        return [
            {
                "arm": arm.name,
                "AP": arm.AP,
                "low": plain(arm.low),
                "high": plain(arm.high),
                "AR": arm.AR,
                "delta": arm.delta,
                "delta low": plain(arm.delta_low),
                "delta high": plain(arm.delta_high),
                "AP, the way of training": plain(arm.AP_taught),
                "its delta": arm.delta_taught,
                "its low": plain(arm.taught_low),
                "its high": plain(arm.taught_high),
                "last loss": plain(float(arm.loss[-1])) if len(arm.loss) else None,
            }
            for arm in self.arms
        ]

    def plot(self) -> Figure:
        """AP of the arms with intervals; beside it loss and AP over the steps, where arms were trained."""
        trained = self.steps > 0
        figure = new_figure(self._title(), height=170 + 60 * len(self.arms))
        rows = np.arange(len(self.arms), dtype=np.float32)
        for title, values, symbol, offset in (
            ("as judged", [a.AP for a in self.arms], "circle", 0.0),
            ("the same weights, training path", [a.AP_taught for a in self.arms], "diamond-open", 0.22),
        ):
            spread = {}
            if not offset:
                up, down = ([a.high - a.AP for a in self.arms], [a.AP - a.low for a in self.arms])
                spread["error_x"] = {
                    "array": np.array(up, np.float32),
                    "arrayminus": np.array(down, np.float32),
                    "color": QUIET_COLOUR,
                }
            colours = [RUN_COLOURS[i % len(RUN_COLOURS)] for i in range(len(self.arms))]
            figure.add_scatter(
                x=np.array(values, np.float32), y=rows + np.float32(offset), mode="markers", name=title,
                marker={"size": 11, "symbol": symbol, "color": colours, "line": {"width": 1.5}}, **spread,
                hovertemplate=f"{title}: AP %{{x:.3f}}<extra></extra>",
            )  # fmt: skip
        figure.update_layout(
            xaxis={
                "title": {"text": "AP (95 % interval over images)"},
                "domain": [0, 0.42 if trained else 1],
            },
            yaxis={
                "tickvals": rows,
                "ticktext": [arm.name for arm in self.arms],
                "range": [len(self.arms) - 0.4, -0.6],
            },
        )
        return self._with_curves(figure) if trained else figure

    def _with_curves(self, figure: Figure) -> Figure:
        for i, arm in enumerate(self.arms):
            ink = RUN_COLOURS[i % len(RUN_COLOURS)]
            for number, mode, x, y, name in (
                (2, "lines", arm.steps, arm.loss, "loss"),
                (3, "lines+markers", arm.measured, arm.APs, "AP"),
            ):
                figure.add_scatter(
                    x=x.astype(np.float32), y=y.astype(np.float32), mode=mode,
                    line={"color": ink, "width": 1.5}, name=arm.name, showlegend=False,
                    xaxis=f"x{number}", yaxis=f"y{number}",
                    hovertemplate=f"{arm.name}, step %{{x}}: {name} %{{y:.4f}}<extra></extra>",
                )  # fmt: skip
        return figure.update_layout(
            xaxis2={"title": {"text": "step"}, "domain": [0.51, 0.73], "anchor": "y2"},
            yaxis2={"title": {"text": "loss"}, "anchor": "x2"},
            xaxis3={"title": {"text": "step"}, "domain": [0.8, 1], "anchor": "y3", "rangemode": "tozero"},
            yaxis3={"title": {"text": "AP"}, "anchor": "x3"},
        )

    def _title(self) -> str:
        """The question, and the arm that differs most from the first."""
        arm = max(self.arms[1:], key=lambda a: abs(a.delta))
        return f"{self.question} {arm.name}: {signed_text(arm.delta)} AP to {self.arms[0].name}{arm.doubt()}"

    def text(self) -> str:
        """For the command line."""
        width = max(len(arm.name) for arm in self.arms)
        head = f"{'arm':{width}}     AP  [interval]        AR     change [paired interval]"
        lines = [self.summary(), "", f"{head}    AP on the training path"]
        for arm in self.arms:
            first = arm is self.arms[0]
            change = "" if first else _change(arm.delta, arm.delta_low, arm.delta_high)
            taught = "" if first else _change(arm.delta_taught, arm.taught_low, arm.taught_high)
            ends = f"[{arm.low:.3f}, {arm.high:.3f}]" if np.isfinite(arm.low) else "(no interval) "
            lines.append(
                f"{arm.name:{width}}  {arm.AP:.3f}  {ends}  {arm.AR:.3f}  "
                f"{change:24}    {arm.AP_taught:.3f}  {taught}"
            )
        return "\n".join([*lines, "", *(f"note: {note}" for note in self.notes)])


def _change(delta: float, low: float, high: float) -> str:
    ends = f"[{signed_text(low)}, {signed_text(high)}]" if np.isfinite(low) else "(no interval)"
    return f"{signed_text(delta)} {ends}"


# Files by which an interrupted call continues.

# A snapshot holds weights and optimizer, some ten MB: little is lost, and writing costs next to nothing.
SNAPSHOT_SECONDS = 5.0
COURSE = ("steps", "loss", "measured", "APs")


def _is_course(found: Any) -> bool:
    """Whether it is a curve as `StoredArm` writes it: a folder may come from somebody else."""
    if not isinstance(found, dict) or set(found) != set(COURSE):
        return False
    columns = list(found.values())
    return all(isinstance(one, list) for one in columns) and all(
        isinstance(value, (int, float)) for one in columns for value in one
    )


def _is_course_to(found: Any, step: int) -> bool:
    """Whether it is a curve whose last step is this one, as a snapshot of that step holds it."""
    if not _is_course(found) or found["steps"] != list(range(1, step + 1)):
        return False
    measured = found["measured"]
    return (
        len(found["loss"]) == step
        and len(found["APs"]) == len(measured)
        and set(measured) <= set(found["steps"])
    )


def _digest_of_course(found: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


class StoredArm:
    """Files of one arm.

    Attributes:
        folder: its own.
    """

    def __init__(self, folder: Path, origin: str) -> None:
        """Remove what a kill left half-written."""
        self.folder, self._origin = folder, origin
        self._saved = time.monotonic()
        for half in files_in(folder, "*.half"):
            half.unlink()

    def course(self, ways: Sequence[object]) -> dict[str, list[Any]] | None:
        """The curve of an arm that is finished: trained, and evaluated on all these paths; else None."""
        try:
            found = json.loads(read_at_most(self.folder / "course.json", RECORD_SIZE, "a curve"))
        except (OSError, ValueError, RecursionError):  # absent or damaged: the arm is trained again
            return None
        # A changed digit is valid JSON too.
        if not isinstance(found, dict) or found.pop("sha256", None) != _digest_of_course(found):
            return None
        if not _is_course(found):
            return None
        return found if all(self.predictions(way) is not None for way in ways) else None

    def predictions(self, way: object) -> Predictions | None:
        """Predictions of the finished network on this path; None where the file is absent or damaged."""
        return finished_predictions(self._file(way), self._origin)

    def keep_predictions(self, way: object, found: Predictions) -> None:
        """Write the predictions of the finished network on a path.

        Args:
            way: the path, as part of the name.
            found: predictions on it.
        """
        found.to_parquet(self._file(way), origin=self._origin)

    def restore(self, trainer: Trainer) -> dict[str, list[Any]] | None:
        """Restore a trainer from the newest snapshot; its curve, or None without one of such a training."""
        state, _ = newest_snapshot(self.folder)
        if state is None or state["step"] > trainer.settings.steps:
            return None
        if not _is_course_to(state.get("course"), state["step"]):
            return None
        trainer.restore(state)
        return {name: list(state["course"][name]) for name in COURSE}

    def after_step(self, trainer: Trainer, course: Mapping[str, Sequence[Any]]) -> None:
        """Write a snapshot if the last one is old or the training has ended.

        Args:
            trainer: of the arm.
            course: what was measured so far, by column.
        """
        last = trainer.step_number == trainer.settings.steps
        if not last and time.monotonic() - self._saved < SNAPSHOT_SECONDS:
            return
        copied = {name: list(course[name]) for name in COURSE}
        write_snapshot(self.folder, {**trainer.state(), "course": copied})
        # One before the newest stays: a disk may damage the newest.
        for older in snapshots(self.folder)[:-2]:
            older.unlink()
        self._saved = time.monotonic()

    def finish(self, course: Mapping[str, Sequence[Any]]) -> None:
        """Write the curve and remove the snapshots."""
        copied = {name: list(course[name]) for name in COURSE}
        text = json.dumps({**copied, "sha256": _digest_of_course(copied)})
        write_text(self.folder / "course.json", text, follow=False)
        for path in snapshots(self.folder):
            path.unlink()

    def _file(self, way: object) -> Path:
        return self.folder / f"{_slug(str(way))}.parquet"


class StoredExperiment:
    """Files of one experiment.

    Attributes:
        folder: named after the experiment and the digest.
        resumed: what was read from an earlier call.
    """

    def __init__(self, folder: Path, name: str, origin: str) -> None:
        self.folder, self._origin = inner_folder(folder, f"{_slug(name)}-{origin[:12]}"), origin
        self.resumed: list[str] = []

    def arm(self, number: int, name: str) -> StoredArm:
        """Files of an arm.

        Args:
            number: of the arm.
            name: of the arm.
        """
        return StoredArm(inner_folder(self.folder, f"{number}-{_slug(name)}"), self._origin)


@contextmanager
def stored_in(
    folder: Path, experiment: Experiment, origin: Origin, material: Material, course: Course
) -> Iterator[StoredExperiment]:
    """Store an experiment in a folder that no other process may use meanwhile.

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
    stored = StoredExperiment(folder, experiment.name, digest_of(experiment, origin, material, course))
    with only_session(stored.folder):
        yield stored


def digest_of(experiment: Experiment, origin: Origin, material: Material, course: Course) -> str:
    """A digest of everything that decides the figures: arms, weights, text, annotations, images, settings.

    Args:
        experiment: its arms.
        origin: the shared weights.
        material: text, annotations and images.
        course: settings of the training.
    """
    given = origin.given
    facts = [
        __version__,
        dataclasses.asdict(experiment),
        dataclasses.asdict(course),
        origin.config,
        [str(given.device or "cpu"), repr(given.inference), repr(given.training)],
        [repr(given.codec), given.padding, repr(given.skeleton)],
        [_text_facts(text) for text in (given.text, origin.species)],
        [[_set_facts(pose_set), list(indices)] for pose_set, indices in (material.train, material.judge)],
    ]
    digest = hashlib.sha256(json.dumps(facts, default=repr).encode())
    for tensors in (origin.start, given.module.state_dict()):
        for name, tensor in tensors.items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes_of(tensor))
    return digest.hexdigest()


def _bytes_of(tensor: Tensor) -> bytes:
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _text_facts(text: TextVectors | None) -> list[Any] | None:
    if text is None:
        return None
    vectors = [hashlib.sha256(v.tobytes()).hexdigest() for v in (text.keypoint_vectors, text.subject_vectors)]
    return [text.name, text.keypoints, text.subjects, text.categories, *vectors]


def _set_facts(pose_set: PoseSet) -> list[Any]:
    images = [[image.id, str(image.path), *state_of_file(image.path)] for image in pose_set.images.values()]
    truths = [[*map(repr, (i.annotation_id, i.area, i.box)), i.truth.tolist()] for i in pose_set.instances]
    return [pose_set.name, repr(pose_set.skeleton), images, truths, pose_set.raw.get("annotations"),
            *pose_set.reading.notes()]  # fmt: skip


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
