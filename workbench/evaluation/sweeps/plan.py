"""Which checkpoints of a run are swept, as which epochs and by which variants; which cannot be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import USER_ERRORS, sentence
from workbench.core.report import counted
from workbench.evaluation.sweeps.blocks import Unit, Worker
from workbench.evaluation.sweeps.rules import SweepRules, SweepSource, identity_of

if TYPE_CHECKING:
    from workbench.checkpoints import Checkpoint
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.ground_truth import AreaRule, GroundTruth
    from workbench.evaluation.sweeps.readings import VariantName

UNIT_ERRORS = (*USER_ERRORS, RuntimeError)
"""What one checkpoint can cause without ending the sweep; RuntimeError is torch's, for instance of memory."""


@dataclass(frozen=True)
class FailedCheckpoint:
    """A checkpoint that was passed over.

    Attributes:
        checkpoint: name of its file.
        reason: one sentence.
    """

    checkpoint: str
    reason: str


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be done.

    Attributes:
        units: checkpoints in the order of training.
        failed: checkpoints that cannot be swept, with the reason.
        variants: of every checkpoint, the reference first.
        truth: the data set, with the sigmas that count.
        rows: instances or images of one checkpoint.
        counted: its annotations of the instances that are predicted, as `evaluate` reads them.
        area_rule: where their areas come from, as in `evaluate`.
        identity: see workbench.evaluation.sweeps.rules.identity_of.
    """

    units: tuple[Unit, ...]
    failed: tuple[FailedCheckpoint, ...]
    variants: tuple[VariantName, ...]
    truth: PoseSet
    rows: int
    counted: GroundTruth
    area_rule: AreaRule
    identity: dict[str, Any]


def checkpoints_in(run: Path) -> list[Path]:
    """The checkpoints of a run's folder in the order of training.

    Raises:
        FileNotFoundError: no such folder, or no checkpoint in it.
        NotADirectoryError: it is a file.
    """
    from workbench.checkpoints.checkpoint_files import CHECKPOINT_ENDINGS, models_in, training_order

    if run.is_file():
        raise NotADirectoryError(f"{run}: expected the folder of a run, got a file; `evaluate` takes one")
    if not run.is_dir():
        raise FileNotFoundError(f"{run}: no such folder of a run")
    paths = training_order(models_in(run))
    if not paths:
        raise FileNotFoundError(
            f"{run}: no checkpoint in this folder (expected {', '.join(CHECKPOINT_ENDINGS)})"
        )
    return paths


def plan_sweep(source: SweepSource, rules: SweepRules, paths: Sequence[Path]) -> Plan:
    """Open every checkpoint without reading its tensors, and the first one as a model.

    Args:
        source: run and data.
        rules: of the sweep.
        paths: of `checkpoints_in`.

    Raises:
        ValueError: no checkpoint opens, data and model do not fit, or nothing is annotated.
        KeyError: no such ablation or data set.
        NotAvailable: ablations for another kind of model.
        FileNotFoundError: images are missing.
    """
    from workbench.data.pose_set import check_images
    from workbench.evaluation.evaluate import check_counting, truth_of
    from workbench.evaluation.protocol import check_same_keypoints, judged_by
    from workbench.evaluation.sweeps.readings import labelled_rows, reader_for

    units, failed = _numbered(paths)
    # The devices may be those of other machines: what a sweep is made of is decided on this one's CPU.
    worker = Worker(source, rules, "cpu")
    for place, unit in enumerate(units):
        try:
            loaded = source.open_model(Path(unit.path), rules, "cpu")
        except UNIT_ERRORS as reason:
            failed.append(FailedCheckpoint(Path(unit.path).name, sentence(reason)))
            continue
        units = units[place:]
        break
    else:
        reasons = "; ".join(f"{one.checkpoint}: {one.reason}" for one in failed[:3])
        raise ValueError(
            f"{source.run}: not one of {counted(len(paths), 'checkpoint')} can be predicted with ({reasons})"
        )
    data = worker.data(len(loaded.model.skeleton))
    loaded = loaded.named_as(data)
    truth = data if rules.sigmas is not None else judged_by(data, loaded.model.skeleton)
    check_same_keypoints(loaded.model.skeleton, truth.skeleton, truth.name)
    if not labelled_rows(truth, rules.limit):
        raise ValueError(f"{truth.name}: no annotated keypoint in these images, so there is no AP")
    check_counting(truth, **rules.counting(len(truth.skeleton)))
    check_images(truth, truth.first_images(rules.limit))
    reader = reader_for(loaded.model, rules.judged(data, loaded.model.skeleton), rules, worker.boxes(data)[0])
    indices = None if rules.limit is None else labelled_rows(truth, rules.limit)
    return Plan(
        tuple(units), tuple(failed), reader.variants, truth, len(reader.rows),
        truth_of(truth, rules.area_rule, indices), rules.area_rule,
        identity_of(source, rules, truth),
    )  # fmt: skip


def _numbered(paths: Sequence[Path]) -> tuple[list[Unit], list[FailedCheckpoint]]:
    """Checkpoints that open, with their epochs, and the others with the reason."""
    from workbench.checkpoints import open_checkpoint
    from workbench.checkpoints.checkpoint_files import epoch_of, name_of

    opened: list[tuple[Path, Checkpoint]] = []
    failed: list[FailedCheckpoint] = []
    for path in paths:
        try:
            opened.append((path, open_checkpoint(path)))
        except USER_ERRORS as reason:
            failed.append(FailedCheckpoint(path.name, sentence(reason)))
    kinds = Counter(_kind(checkpoint) for _, checkpoint in opened)
    usual = max(kinds, key=lambda kind: kinds[kind], default="")
    units: list[Unit] = []
    for path, checkpoint in opened:
        number = checkpoint.epoch if checkpoint.epoch is not None else epoch_of(path)[0]
        twin = next((unit for unit in units if unit.epoch == number), None)
        kind, title = _kind(checkpoint), name_of(path)
        if kind != usual:
            reason = f"another model: {kind}; the run's others are {usual}"
        elif number is None:
            reason = "neither the file nor its name says which epoch it is of"
        elif twin is not None:
            reason = f"epoch {number} is also in {Path(twin.path).name}"
        elif any(unit.title == title for unit in units):
            reason = f"another checkpoint is called {title}, too"
        else:
            units.append(Unit(title, str(path), int(number)))
            continue
        failed.append(FailedCheckpoint(path.name, reason))
    return units, failed


def _kind(checkpoint: Checkpoint) -> str:
    """Which network a checkpoint holds, for people: equal for all epochs of a run."""
    identity = checkpoint.identity
    keypoints = "" if identity.keypoints is None else f" with {counted(identity.keypoints, 'keypoint')}"
    size = "" if identity.input_size is None else f" for {identity.input_size[1]}x{identity.input_size[0]}"
    return f"{identity}{keypoints}{size}"
