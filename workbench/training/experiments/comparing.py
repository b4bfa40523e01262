"""Run one experiment: every arm from the same start, judged on the same images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.evaluation import Cancelled, Evaluation, Predictions, evaluate, paired_bootstrap, predict
from workbench.evaluation.compare import resampled_ap
from workbench.models.text_fusion import Path, TextFusion
from workbench.training.experiments.arms import Arm, Experiment
from workbench.training.experiments.building import Origin, arm_model, way_through
from workbench.training.experiments.learning import Course, learned
from workbench.training.experiments.report import ArmResult, ExperimentReport
from workbench.training.experiments.resuming import COURSE, KeptArm, KeptExperiment

if TYPE_CHECKING:
    from workbench.data import PoseSet
    from workbench.training.trainer import Trainer

RESAMPLES = 400


@dataclass(frozen=True, eq=False)
class Material:
    """What is learned from, and what is judged on.

    Attributes:
        train: a set, and which of its instances.
        judge: a set, and which of its instances.
        note: how the two were told apart.
    """

    train: tuple[PoseSet, tuple[int, ...]]
    judge: tuple[PoseSet, tuple[int, ...]]
    note: str


@dataclass(frozen=True, eq=False)
class Watch:
    """Who looks on, and may end it.

    Attributes:
        progress: called with what is done, how far it is (0 to 1).
        cancelled: asked after each step and before each batch.
    """

    progress: Callable[[str, float], None] = field(default=lambda _what, _share: None)
    cancelled: Callable[[], bool] = field(default=lambda: False)


def halves(pose_set: PoseSet, most: int = 0) -> Material:
    """One set as material: even images to learn from, odd ones to judge on.

    Args:
        pose_set: with labelled instances in two images at least.
        most: instances of each half; 0 takes all.

    Raises:
        ValueError: fewer than two images are labelled.
    """
    images = list(pose_set.labelled_of_image)
    if len(images) < 2:
        raise ValueError(f"experiment: {pose_set.name} has {len(images)} labelled images, two are needed")
    parts = [
        tuple(i for image in images[start::2] for i in pose_set.labelled_of_image[image])[: most or None]
        for start in (0, 1)
    ]
    return Material(
        (pose_set, parts[0]),
        (pose_set, parts[1]),
        f"half of the images of {pose_set.name} to learn from ({len(parts[0])} instances), half to judge on",
    )


def run_experiment(
    experiment: Experiment,
    origin: Origin,
    material: Material,
    course: Course,
    watch: Watch | None = None,
    kept: KeptExperiment | None = None,
) -> ExperimentReport:
    """All arms of an experiment, one after the other.

    Args:
        experiment: which.
        origin: the model in question and the weights that arms start from.
        material: what to learn from and to judge on.
        course: how to train; not read by experiments that train nothing.
        watch: progress and cancelling.
        kept: where finished arms and snapshots are written, and taken up again; None keeps nothing.

    Raises:
        ValueError: the material does not fit the model.
        NotAvailable: an arm needs text that is not here.
        Cancelled: as asked for.
        Diverged: an arm's loss is not finite.
    """
    watch = watch or Watch()
    judged: list[tuple[Arm, Evaluation, Evaluation, dict[str, list[Any]]]] = []
    seen: dict[Path, Evaluation] = {}
    for number, arm in enumerate(experiment.arms):
        told = _Told(watch, number, len(experiment.arms), arm.name)
        model = arm_model(origin, arm, course.seed) if experiment.trains else origin.given
        way = way_through(model, arm.way).inference
        trained_way = model.training if model.text else way
        course_of: dict[str, list[Any]] = {}
        # Without training all arms are judged by the same predictions.
        held = kept.arm(number, arm.name) if kept and experiment.trains else kept and kept.arm(0, "judged")
        if experiment.trains:
            course_of, taken_up = _course_of(model, arm, material, course, told, held, (way, trained_way))
            if kept and taken_up:
                kept.resumed.append(f"{arm.name}, {taken_up}")
            seen = {}  # other weights, other figures
        told("judging", 0.9)
        for path in (way, trained_way):
            if path in seen:
                continue
            found = held.predictions(path) if held else None
            if kept and found is not None and not experiment.trains:
                kept.resumed.append(str(path))
            if found is None:
                found = _predicted(model.through(path), material, watch)
                if held:
                    held.keep_predictions(path, found)
            seen[path] = evaluate(material.judge[0], found, indices=material.judge[1])
        if held and experiment.trains:
            held.finish(course_of)
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
        judged_on=f"{len(material.judge[1])} instances of {material.judge[0].name}",
        notes=_notes(experiment, origin, material, course),
    )


@dataclass(frozen=True)
class _Told:
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
    model: TextFusion,
    arm: Arm,
    material: Material,
    course: Course,
    told: _Told,
    held: KeptArm | None,
    ways: Sequence[Path],
) -> tuple[dict[str, list[Any]], str]:
    """The curve of an arm, and what of it was taken from an earlier call; "" for nothing.

    The model is trained in place, unless the arm is finished and its predictions are kept.
    """
    if held and (finished := held.course(ways)) is not None:
        return finished, "finished"
    return _trained(model, arm, material, course, told, held)


def _trained(
    model: TextFusion, arm: Arm, material: Material, course: Course, told: _Told, held: KeptArm | None
) -> tuple[dict[str, list[Any]], str]:
    curve: dict[str, list[Any]] = {name: [] for name in COURSE}
    taken_up = ""
    # The last step is judged anyway.
    stops = course.measured_at()[:-1]

    def begun(trainer: Trainer) -> None:
        nonlocal taken_up
        if held and (so_far := held.restore(trainer)) is not None:
            curve.update(so_far)
            taken_up = f"from step {trainer.step_number}"

    def on_step(step: int, row: dict[str, Any]) -> None:
        curve["steps"].append(step)
        curve["loss"].append(row["loss"])
        told(f"step {step} of {course.steps}", 0.9 * step / course.steps)
        if step in stops:
            curve["measured"].append(step)
            found = evaluate(
                material.judge[0], _predicted(model, material, told.watch), indices=material.judge[1]
            )
            curve["APs"].append(float(found.figures["AP"]))

    def after_step(trainer: Trainer) -> None:
        if held:
            held.after_step(trainer, curve)

    learned(model, arm, *material.train, course, on_step, begun, after_step)
    model.module.eval()
    return {**curve, "measured": [*curve["measured"], course.steps]}, taken_up


def _predicted(model: TextFusion, material: Material, watch: Watch) -> Predictions:
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
    """Where AP lies when other images of the same kind are drawn: percentiles over resampled images."""
    images = len(evaluation.ap.truth.image_ids)
    draws = np.random.default_rng(seed).integers(0, images, (RESAMPLES, images))
    weights = np.stack([np.bincount(draw, minlength=images) for draw in draws])
    held = resampled_ap(evaluation.ap, weights)
    low, high = np.nanquantile(held, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


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
        f"{course.steps} steps of {course.batch} crops show how an arm begins, not where it would end",
        "one seed: the intervals are over images, not over trainings",
        *ways,
    )
