"""Run an experiment: train every arm from one start on the same crops, evaluate it on the same images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Sample
from workbench.core.report import counted
from workbench.evaluation import Cancelled, Evaluation, Predictions, evaluate, paired_bootstrap, predict
from workbench.evaluation.bootstrap import counting_images, drawn_counts, percentile_interval, resampled_ap
from workbench.training.experiments.arms import Arm, Experiment, Origin, arm_model, way_through
from workbench.training.experiments.results import (
    COURSE,
    ArmResult,
    ExperimentReport,
    StoredArm,
    StoredExperiment,
)
from workbench.training.settings import Settings
from workbench.training.trainer import Trainer

if TYPE_CHECKING:
    from workbench.core.capabilities import TextNeckModel
    from workbench.data import PoseSet


# Shift in shares of the box and scale, as make_demo's recipe has them.
SHIFT, SCALE = 0.08, (0.8, 1.25)
# Samples that the trainer measures itself on; the experiment judges on others.
WATCHED = 4


@dataclass(frozen=True)
class Course:
    """How long and how fast every arm of an experiment learns.

    Attributes:
        steps: of the optimizer.
        batch: crops in one step.
        learning_rate: the peak, with warm-up over a tenth of the steps and a cosine to zero.
        seed: of the necks' first weights, of the crops and of everything random in a step.
        measures: how often AP is measured during training.
    """

    steps: int = 300
    batch: int = 16
    learning_rate: float = 1e-3
    seed: int = 0
    measures: int = 3

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch", 2), ("measures", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"experiment: {name} must be at least {least}, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"experiment: learning rate must be above 0, got {self.learning_rate}")

    def settings(self, arm: Arm) -> Settings:
        """The trainer's settings."""
        return Settings(
            steps=self.steps,
            learning_rate=self.learning_rate,
            weight_decay=0.05,
            schedule="cosine",
            warm_up=self.steps // 10,
            factors=dict(arm.factors),
            clip=35.0,
            seed=self.seed,
            measure_every=self.steps,
        )

    def measured_at(self) -> tuple[int, ...]:
        """Steps after which AP is measured; the last one is among them."""
        return tuple(
            sorted({max(1, round(self.steps * m / self.measures)) for m in range(1, self.measures + 1)})
        )


def learned(
    model: TextNeckModel,
    arm: Arm,
    pose_set: PoseSet,
    indices: Sequence[int],
    course: Course,
    on_step: Callable[[int, dict[str, Any]], None],
    begun: Callable[[Trainer], None] = lambda _: None,
    after_step: Callable[[Trainer], None] = lambda _: None,
) -> None:
    """Train a model in place.

    Args:
        model: of the arm.
        arm: its learning rates.
        pose_set: where the crops come from.
        indices: of the instances that may be learned from.
        course: how.
        on_step: called after each step with its number and its row; may raise to end the training.
        begun: called with the trainer before the first step; may restore a snapshot.
        after_step: called with the trainer after each step, when on_step has returned.

    Raises:
        ValueError: nothing to learn from.
        Diverged: the loss is not finite.
    """
    pool = list(indices)
    if not pool:
        why = pose_set.unscored_text() or "no instance was chosen"
        raise ValueError(f"experiment: no instance of {pose_set.name} can be learned: {why}")

    def batch(_: Sequence[Sample], generator: np.random.Generator) -> list[Sample]:
        chosen = generator.choice(len(pool), course.batch, replace=len(pool) < course.batch)
        return [jittered(pose_set.sample(pool[i]), generator) for i in chosen]

    watched = [pose_set.sample(i) for i in pool[:WATCHED]]
    device = model.device or "cpu"
    trainer = Trainer(model, watched, course.settings(arm), augment=batch, device=device)
    begun(trainer)
    for step in range(trainer.step_number + 1, course.steps + 1):
        on_step(step, trainer.step())
        after_step(trainer)


def jittered(sample: Sample, generator: np.random.Generator) -> Sample:
    """The same instance in a box that is moved and scaled; image and annotation stay unchanged.

    Args:
        sample: of the set.
        generator: of the shift and the scale.
    """
    x0, y0, x1, y1 = sample.box
    half = np.array([x1 - x0, y1 - y0]) / 2 * generator.uniform(*SCALE)
    centre = np.array([x0 + x1, y0 + y1]) / 2 + generator.uniform(-SHIFT, SHIFT, 2) * 2 * half
    low, high = centre - half, centre + half
    return dataclasses.replace(sample, box=(float(low[0]), float(low[1]), float(high[0]), float(high[1])))


# The experiment.

RESAMPLES = 400


@dataclass(frozen=True, eq=False)
class Material:
    """What an experiment trains on, and what it evaluates on.

    Attributes:
        train: a set, and which of its instances.
        judge: a set, and which of its instances.
        note: how the two were separated.
    """

    train: tuple[PoseSet, tuple[int, ...]]
    judge: tuple[PoseSet, tuple[int, ...]]
    note: str


@dataclass(frozen=True, eq=False)
class Watch:
    """Progress and cancelling.

    Attributes:
        progress: called with what is done, how far it is (0 to 1).
        cancelled: asked after each step and before each batch.
    """

    progress: Callable[[str, float], None] = field(default=lambda _what, _share: None)
    cancelled: Callable[[], bool] = field(default=lambda: False)


def halves(pose_set: PoseSet, most: int = 0) -> Material:
    """One set as material: even images to train on, odd ones to evaluate on.

    Args:
        pose_set: with labelled instances in two images at least.
        most: instances of each half; 0 takes all.

    Raises:
        ValueError: fewer than two images are labelled.
    """
    images = list(pose_set.labelled_of_image)
    if len(images) < 2:
        raise ValueError(
            f"experiment: {pose_set.name} has {counted(len(images), 'labelled image')}, two are needed"
        )
    parts = [
        tuple(i for image in images[start::2] for i in pose_set.labelled_of_image[image])[: most or None]
        for start in (0, 1)
    ]
    return Material(
        (pose_set, parts[0]),
        (pose_set, parts[1]),
        f"half of the images of {pose_set.name} to learn from ({counted(len(parts[0]), 'instance')}), half "
        "to judge on",
    )


def run_experiment(
    experiment: Experiment,
    origin: Origin,
    material: Material,
    course: Course,
    watch: Watch | None = None,
    store: StoredExperiment | None = None,
) -> ExperimentReport:
    """Run all arms of an experiment, one after the other.

    Args:
        experiment: which.
        origin: the model in question and the weights that arms start from.
        material: what to learn from and to judge on.
        course: how to train; not read by experiments that train nothing.
        watch: progress and cancelling.
        store: where finished arms and snapshots are stored and read again; None stores nothing.

    Raises:
        ValueError: the material does not fit the model.
        NotAvailable: an arm needs text that is not here.
        Cancelled: as asked for.
        Diverged: an arm's loss is not finite.
    """
    watch = watch or Watch()
    judged: list[tuple[Arm, Evaluation, Evaluation, dict[str, list[Any]]]] = []
    seen: dict[Hashable, Evaluation] = {}
    for number, arm in enumerate(experiment.arms):
        progress = _ArmProgress(watch, number, len(experiment.arms), arm.name)
        model = arm_model(origin, arm, course.seed) if experiment.trains else origin.given
        way = way_through(model, arm.way).inference
        trained_way = model.training if model.text else way
        course_of: dict[str, list[Any]] = {}
        # Without training all arms are judged by the same predictions.
        stored = (
            store.arm(number, arm.name) if store and experiment.trains else store and store.arm(0, "judged")
        )
        if experiment.trains:
            course_of, resumed = _course_of(
                model, arm, material, course, progress, stored, (way, trained_way)
            )
            if store and resumed:
                store.resumed.append(f"{arm.name}, {resumed}")
            seen = {}  # other weights, other figures
        progress("judging", 0.9)
        for path in (way, trained_way):
            if path in seen:
                continue
            found = stored.predictions(path) if stored else None
            if store and found is not None and not experiment.trains:
                store.resumed.append(str(path))
            if found is None:
                found = _predicted(model.through(path), material, watch)
                if stored:
                    stored.keep_predictions(path, found)
            seen[path] = evaluate(material.judge[0], found, indices=material.judge[1])
        if stored and experiment.trains:
            stored.finish(course_of)
        judged.append((arm, seen[way], seen[trained_way], course_of))
    _, first, first_taught, _ = judged[0]
    arms = tuple(
        _result(arm, (first, used), (first_taught, taught), course_of, course.seed)
        for arm, used, taught, course_of in judged
    )
    return ExperimentReport(
        name=experiment.name,
        question=experiment.question,
        arms=arms,
        steps=course.steps if experiment.trains else 0,
        seed=course.seed,
        judged_on=f"{counted(len(material.judge[1]), 'instance')} of {material.judge[0].name}",
        notes=_notes(experiment, origin, material, course),
    )


@dataclass(frozen=True)
class _ArmProgress:
    """Progress of one arm as progress of all."""

    watch: Watch
    number: int
    arms: int
    name: str

    def __call__(self, what: str, share: float) -> None:
        if self.watch.cancelled():
            raise Cancelled(f"stopped in arm {self.name!r}")
        self.watch.progress(f"{self.name}: {what}", (self.number + share) / self.arms)


def _course_of(
    model: TextNeckModel,
    arm: Arm,
    material: Material,
    course: Course,
    progress: _ArmProgress,
    stored: StoredArm | None,
    ways: Sequence[Hashable],
) -> tuple[dict[str, list[Any]], str]:
    """The curve of an arm, and what of it was taken from an earlier call; "" for nothing.

    The model is trained in place, unless the arm is finished and its predictions are stored.
    """
    if stored and (finished := stored.course(ways)) is not None:
        return finished, "finished"
    return _trained(model, arm, material, course, progress, stored)


def _trained(
    model: TextNeckModel,
    arm: Arm,
    material: Material,
    course: Course,
    progress: _ArmProgress,
    stored: StoredArm | None,
) -> tuple[dict[str, list[Any]], str]:
    curve: dict[str, list[Any]] = {name: [] for name in COURSE}
    resumed = ""
    # The last step is judged anyway.
    stops = course.measured_at()[:-1]

    def begun(trainer: Trainer) -> None:
        nonlocal resumed
        if stored and (so_far := stored.restore(trainer)) is not None:
            curve.update(so_far)
            resumed = f"from step {trainer.step_number}"

    def on_step(step: int, row: dict[str, Any]) -> None:
        curve["steps"].append(step)
        curve["loss"].append(row["loss"])
        progress(f"step {step} of {course.steps}", 0.9 * step / course.steps)
        if step in stops:
            curve["measured"].append(step)
            found = evaluate(
                material.judge[0], _predicted(model, material, progress.watch), indices=material.judge[1]
            )
            curve["APs"].append(float(found.figures["AP"]))

    def after_step(trainer: Trainer) -> None:
        if stored:
            stored.after_step(trainer, curve)

    learned(model, arm, *material.train, course, on_step, begun, after_step)
    model.module.eval()
    return {**curve, "measured": [*curve["measured"], course.steps]}, resumed


def _predicted(model: TextNeckModel, material: Material, watch: Watch) -> Predictions:
    pose_set, indices = material.judge
    return predict(model, pose_set, indices=indices, cancelled=watch.cancelled)


def _result(
    arm: Arm,
    judged: tuple[Evaluation, Evaluation],
    taught: tuple[Evaluation, Evaluation],
    course_of: dict[str, list[Any]],
    seed: int,
) -> ArmResult:
    """An arm beside the first one: pairs of (first arm, this arm)."""
    first, used = judged
    apart = paired_bootstrap(first.ap, used.ap, resamples=RESAMPLES, seed=seed)
    by_training = paired_bootstrap(taught[0].ap, taught[1].ap, resamples=RESAMPLES, seed=seed)
    low, high = interval(used, seed)
    curve = course_of or {"steps": [], "loss": [], "measured": [0.0], "APs": []}
    curve = {**curve, "APs": [*curve["APs"], used.figures["AP"]]}
    return ArmResult(
        name=arm.name,
        AP=float(used.figures["AP"]),
        low=low,
        high=high,
        AR=float(used.figures["AR"]),
        delta=apart.delta,
        delta_low=apart.low,
        delta_high=apart.high,
        AP_taught=float(taught[1].figures["AP"]),
        delta_taught=by_training.delta,
        taught_low=by_training.low,
        taught_high=by_training.high,
        **{name: np.array(values) for name, values in curve.items()},
    )


def interval(evaluation: Evaluation, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Where AP lies when other images of the same kind are drawn: percentiles over resampled images.

    Args:
        evaluation: of one model.
        seed: of the drawing.
        level: share of the resamples that the interval holds, 0 to 1.
    """
    weights = drawn_counts(len(evaluation.ap.truth.image_ids), RESAMPLES, seed)
    stored = resampled_ap(evaluation.ap, weights)
    return percentile_interval(stored, level, counting_images(evaluation.ap))


def _notes(experiment: Experiment, origin: Origin, material: Material, course: Course) -> tuple[str, ...]:
    if not experiment.trains:
        return ("the same weights in every arm, nothing was trained",)
    ways: Sequence[str] = ()
    inference, training = origin.given.inference, origin.given.training
    if inference != training:
        ways = (
            f"this model predicts {inference} and trains {training}: a change of the neck shows in "
            "prediction only through what backbone and head learned beside it",
        )
    return (
        material.note,
        origin.note,
        f"{counted(course.steps, 'step')} of {counted(course.batch, 'crop')} show how an arm begins, not "
        "where it would end",
        "one seed: the intervals are over images, not over trainings",
        *ways,
    )
