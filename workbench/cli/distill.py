"""workbench distill: does a student learn its teacher's maps, or only their mean?"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.options import (
    DataOptions,
    Demo,
    Files,
    HtmlOut,
    ModelOptions,
    model_files,
    option,
    same_keypoints,
)
from workbench.cli.output import Answer, check_file, written
from workbench.core.report import signed_text

if TYPE_CHECKING:
    from workbench.core import PoseModel
    from workbench.data import PoseSet
    from workbench.models import LoadedModel
    from workbench.training.distillation import Distillation

DEMO = "higherhrnet-demo"
DEMO_STEPS = 24
DATA = "scenes-people-val"
"""Drawn people, learned from where no data set is named."""

Student = Annotated[str, option("--student", "Name of the student network, trained from initial weights.")]
StudentConfig = Annotated[
    Path | None,
    option("--student-config", "An mmpose config of the student; it is your own code and is run."),
]
StudentAdapter = Annotated[Path | None, option("--student-adapter", "The student as a Python file of yours.")]
StudentFile = Annotated[
    Path | None,
    option(
        "--student-checkpoint",
        "A trained student, with --student-config or --student-adapter if it needs one: "
        "training continues from it; --steps 0 only examines it.",
    ),
]
Count = Annotated[int, option("--count", "How many instances to learn from.")]
Steps = Annotated[int, option("--steps", "Training steps; 0 only examines a trained student.")]
Epochs = Annotated[int, option("--epochs", "How often the student is examined.")]
Rate = Annotated[float, option("--learning-rate", "Learning rate of AdamW.")]
Foreground = Annotated[
    float, option("--foreground", "Weight of the foreground: a cell counts 1 + this x the teacher's value.")
]
Seed = Annotated[int, option("--seed", "Random seed of the student's initial weights and of every step.")]


def command(
    files: Files = None,
    student: Student = "",
    student_config: StudentConfig = None,
    student_adapter: StudentAdapter = None,
    student_checkpoint: StudentFile = None,
    count: Count = 1,
    steps: Steps = 200,
    epochs: Epochs = 4,
    learning_rate: Rate = 5e-3,
    foreground: Foreground = 0.0,
    seed: Seed = 0,
    *,
    data: DataOptions,
    model: ModelOptions,
    out: HtmlOut = None,
    demo: Demo = False,
) -> Answer:
    """Train a student on a teacher's heatmaps, and say after every epoch what its maps are worth.

    --config, --adapter, --family and the like are about the teacher. Without --data drawn people are learned.
    With --out: heatmap and weight histograms over the epochs, and what the student's stem shows.
    """
    from workbench.training.distillation import distil
    from workbench.training.settings import Settings

    file = model_files(files)
    if demo:
        if file or student or student_config or student_adapter or student_checkpoint or data.data:
            raise ValueError("--demo brings its own teacher, student and image; leave the others out")
        file, student, name = _demo()
        steps, data = DEMO_STEPS, replace(data, data=name)
    check_file(out, ".html")
    if file is None and model.adapter is None:
        raise ValueError("distill: expected the teacher's checkpoint, or --demo")
    if steps == 0 and student_checkpoint is None and student_adapter is None:
        raise ValueError("--steps 0 looks at a trained student: --student-checkpoint or --student-adapter")
    teacher = model.open(file)
    teacher, pose_set = _with_data(teacher, data, model.skeleton, count)
    learner, title, notes = _student(
        student,
        student_checkpoint,
        {"config": student_config, "adapter": student_adapter, "device": model.device},
        teacher.model.skeleton.name,
        seed,
        model.remap,
        pose_set,
    )
    if data.data is None:
        notes.append(f"no --data was named: learned from the drawn people of {pose_set.name}")
    settings = Settings(
        steps=max(1, steps), learning_rate=learning_rate, clip=1.0, seed=seed, measure_every=max(1, steps)
    )
    report = distil(
        learner,
        teacher.model,
        pose_set.samples(pose_set.labelled[:count]),
        settings,
        epochs=epochs if steps else 0,
        foreground=foreground,
        device=model.device,
        on_epoch=lambda row: typer.echo(_line(row), err=True),
    )
    facts = {
        "teacher": teacher.title,
        "student": title,
        "data": pose_set.name,
        "student_checkpoint": None if student_checkpoint is None else str(student_checkpoint),
        "notes": notes,
        **_facts(report),
    }
    text = "\n".join([_text(teacher.title, title, report, trained=steps > 0), *notes])
    return written(Answer(facts, text), out, report)


def _demo() -> tuple[Path, str, str]:
    """The demo's teacher, a network of its own family as the student, and the data."""
    from workbench.checkpoints import open_checkpoint
    from workbench.checkpoints.demo import demo_checkpoints, demo_data

    file = demo_checkpoints(DEMO)[-1]
    return file, open_checkpoint(file).identity.record, demo_data(DEMO)


def _facts(report: Distillation) -> dict[str, Any]:
    return {
        "outcome": report.outcome,
        "summary": report.summary(),
        "epochs": report.table(),
        "teacher_correlation": report.teacher_correlation,
        "teacher_rank": report.teacher_rank,
        "heatmap_histogram": {"edges": report.map_edges, "shares": report.map_counts},
        "weight_histogram": {"edges": report.weight_edges, "shares": report.weight_counts},
    }


def _student(
    family: str,
    checkpoint: Path | None,
    opening: dict[str, Any],
    skeleton: str,
    seed: int,
    remap: bool,
    pose_set: PoseSet,
) -> tuple[PoseModel, str, list[str]]:
    """The student, what to call it, and what was not as it should be: from a file, or with first weights."""
    if checkpoint is None:
        from workbench.models.fresh import new_model

        return *new_model(family, skeleton=skeleton, seed=seed, **opening), []
    from workbench.models import open_model

    loaded = open_model(checkpoint, family=family or None, **opening, remap=remap).named_as(pose_set)
    notes = [f"student: {loaded.note}"] if loaded.note else []
    if loaded.loaded_fraction < 1:
        notes.append(f"student: only {loaded.loaded_fraction:.1%} of its parameters came from the file")
    return loaded.model, loaded.title, notes


def _with_data(
    teacher: LoadedModel, data: DataOptions, skeleton: str | None, count: int
) -> tuple[LoadedModel, PoseSet]:
    """The teacher with the keypoint names of the data set, and that set; drawn people where none is named.

    Raises:
        ValueError: no instance to learn from, or the data set has other keypoints than the teacher.
    """
    if count < 1:
        raise ValueError(f"--count: expected at least 1, got {count}")
    chosen = replace(data, data=data.data or DATA)
    pose_set = chosen.open("distill", len(teacher.model.skeleton), skeleton)
    teacher, pose_set = same_keypoints(teacher, pose_set)
    if not pose_set.labelled:
        raise ValueError(f"{pose_set.name}: no instance can be learned: {pose_set.unscored_text()}")
    return teacher, pose_set


def _line(row: dict[str, Any]) -> str:
    def figure(name: str, spec: str) -> str:
        """``-`` where there is none: the loss before the first step, the likeness of one map alone."""
        none = row[name] is None or math.isnan(row[name])
        return "-" if none else signed_text(row[name], spec)

    return (
        f"epoch {row['epoch']}: loss {figure('loss', '.3g')}, maps correlate by "
        f"{figure('correlation', '.2f')} and are worth {figure('rank', '.1f')}, the foreground reaches "
        f"{figure('reach', '.0%')} of the teacher's mean, {figure('leak', '.0%')} of the energy lies in the "
        "background"
    )


def _text(teacher: str, student: str, report: Distillation, trained: bool) -> str:
    how = "taught by" if trained else "as it is, beside its teacher"
    lines = [f"{student}, {how} {teacher}", report.summary(), ""]
    return "\n".join([*lines, *(_line(row) for row in report.table())])
