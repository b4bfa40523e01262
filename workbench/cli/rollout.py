"""workbench rollout: what does a sequence model lose when it reads its own answers (free-running)?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.options import (
    Adapter,
    Category,
    Data,
    Demo,
    Device,
    HtmlOut,
    ImageOptions,
    Images,
    Remap,
    argument,
    option,
)
from workbench.cli.output import Answer, check_file, written
from workbench.core import nearest
from workbench.core.capabilities import Reinitialises, TakesSupport
from workbench.core.command_line import command_line

if TYPE_CHECKING:
    from workbench.core import PoseModel, Run, Sample, Skeleton
    from workbench.data.pose_set import PoseSet
    from workbench.inspectors.sequence.lab import Rollout
    from workbench.inspectors.sequence.rollout import PckRule
    from workbench.inspectors.sequence.schedules import Schedules
    from workbench.models import LoadedModel
    from workbench.training.overfit import OverfitReport

Files = Annotated[
    list[Path] | None,
    argument(
        "Checkpoints of one run in the order of their epochs; the last one is examined. An index or a "
        "folder of parts counts as one."
    ),
]
Instance = Annotated[
    str | None, option("--instance", "Key of the instance: image/annotation; the first labelled by default.")
]
Support = Annotated[
    str | None, option("--support", "Key of the support example; by default the instance itself.")
]
Threshold = Annotated[float, option("--threshold", "PCK threshold, share of the normaliser.")]
Normaliser = Annotated[
    str,
    option(
        "--normaliser",
        "What distances are divided by: the box's longer side (MP-100), diagonal, or root of area.",
    ),
]
ScheduleSteps = Annotated[
    int,
    option("--schedules", "Train the first checkpoint for this number of steps with each schedule.", min=0),
]
Bisected = Annotated[
    int,
    option(
        "--bisect",
        "Overfit the sample from initial weights, with the defects of the last checkpoint's code, for this"
        " number of steps (400 is usual), and name the switch that prevents learning.",
        min=0,
    ),
]
DEMO = "cape-demo-defects"


def command(
    files: Files = None,
    data: Data = None,
    images: Images = None,
    category: Category = None,
    instance: Instance = None,
    support: Support = None,
    adapter: Adapter = None,
    remap: Remap = False,
    threshold: Threshold = 0.2,
    normaliser: Normaliser = "longer side",
    schedules: ScheduleSteps = 0,
    bisect: Bisected = 0,
    *,
    pictures: ImageOptions,
    device: Device = "cpu",
    out: HtmlOut = None,
    demo: Demo = False,
) -> Answer:
    """Error of each step, teacher-forced and free-running, and the effect of the support."""
    from workbench.checkpoints.checkpoint_files import as_typed
    from workbench.cli.overfit import as_text
    from workbench.core.run import run
    from workbench.inspectors.sequence import forced_and_free
    from workbench.inspectors.sequence.lab import compute
    from workbench.inspectors.sequence.rollout import PckRule
    from workbench.models import open_model

    if demo:
        files, data = _demo_files(), data or "scenes-val"
    if not files and not adapter:
        raise ValueError("rollout: expected a checkpoint or --adapter; --demo shows the built-in one")
    check_file(out, ".html")
    rule = PckRule(threshold, normaliser)  # type: ignore[arg-type] - PckRule refuses others
    params = forced_and_free.Params(rule.threshold, rule.normaliser)
    how = {"adapter": adapter, "remap": remap, "device": device}
    opened = [open_model(file, **how) for file in as_typed(files or ()) or [None]]
    learned = opened[-1].checkpoint.meta.get("sample") if opened[-1].checkpoint else None
    chosen = _chosen(data or "scenes-val", images, pictures, category, instance, support, learned)
    sample = chosen.sample
    runs = [run(_supported(one.model, chosen), [sample], title=one.title) for one in opened]
    report = compute(runs[-1], rule, chosen.others)
    compared = [(looked.title, forced_and_free.compute(looked, params)) for looked in runs[:-1]]
    epochs = [
        {"title": title, "pck_forced": steps.pck_forced, "pck_free": steps.pck_free, "gap": steps.gap}
        for title, steps in [*compared, (report.title, report.steps)]
    ]
    trained = _trained(runs[0], schedules, rule) if schedules else None
    example = chosen.support[0].key if chosen.support else ""
    facts = {**report.to_json(), "instance": sample.key, "support_instance": example, "epochs": epochs}
    text = f"instance  {sample.key}, support  {example or 'itself'}\n{_text(report, epochs)}"
    if trained is not None:
        facts["schedules"], text = trained.table(), f"{text}\n{trained.summary()}"
    if bisect:
        given = {"data": data, "images": images, "instance": instance, "category": category}
        given |= {"adapter": adapter, "remap": remap, "bits": pictures.bits, "as-stored": pictures.as_stored}
        command = repeat_command([] if demo else files or [], {} if demo else given, bisect)
        bisection = _retrained(opened[-1], sample, bisect, device, command)
        facts["bisection"], text = bisection.to_json(), f"{text}\n\n{as_text(bisection)}"
    return written(Answer(facts, text), out, report)


def _demo_files() -> list[Path]:
    from workbench.checkpoints.demo import demo_checkpoints

    return demo_checkpoints(DEMO)


@dataclass(frozen=True)
class _Chosen:
    """What is examined.

    Attributes:
        sample: the instance.
        support: examples that show its keypoints; () for the instance itself.
        others: an example of another image, used as a wrong support.
        skeleton: keypoints of the instance.
    """

    sample: Sample
    support: tuple[Sample, ...]
    others: tuple[Sample, ...]
    skeleton: Skeleton


def _chosen(
    data: str,
    images: Path | None,
    pictures: ImageOptions,
    category: str | None,
    instance: str | None,
    support: str | None,
    learned: str | None,
) -> _Chosen:
    """The instance and its support.

    A checkpoint of a single-image run names the instance that it learned, which is the default. A file whose
    categories have different keypoints (MP-100) gives an episode: a query and a support of one category.
    """
    from workbench.data import open_data
    from workbench.data.coco import DifferentKeypointsError, read_episodes

    try:
        chosen = open_data(data, images, category, reading=pictures.reading)
    except DifferentKeypointsError:
        if instance or support:
            raise
        episode = read_episodes(Path(data), 1, images)[0]
        return _Chosen(episode.query, episode.support, (), episode.skeleton)
    keys = _keys(chosen)
    if not keys:
        raise ValueError(f"{data}: {chosen.unscored_text()}")
    if instance is not None and instance not in keys:
        raise ValueError(f"--instance: no {instance!r} in {data}; nearest: {nearest(instance, keys)}")
    first = keys.get(instance or learned or "", chosen.labelled[0])
    image = chosen.instances[first].image_id
    others = [i for i in chosen.labelled if chosen.instances[i].image_id != image][:1]
    shown = (support_named(chosen, support),) if support else ()
    return _Chosen(chosen.sample(first), shown, tuple(chosen.samples(others)), chosen.skeleton)


def _keys(pose_set: PoseSet) -> dict[str, int]:
    """The labelled instances by their key, image/annotation."""
    labelled = ((i, pose_set.instances[i]) for i in pose_set.labelled)
    return {f"{pose_set.images[a.image_id].path.stem}/{a.annotation_id}": i for i, a in labelled}


def support_named(pose_set: PoseSet, key: str) -> Sample:
    """The instance that --support names.

    Raises:
        ValueError: no labelled instance of this key.
    """
    keys = _keys(pose_set)
    if key not in keys:
        raise ValueError(f"--support: no {key!r} in {pose_set.name}; nearest: {nearest(key, keys)}")
    return pose_set.sample(keys[key])


NO_SUPPORT = "--support: this model takes no support example, and its keypoints are fixed"


def with_support(loaded: LoadedModel, pose_set: PoseSet, key: str) -> LoadedModel:
    """The model that looks for what one instance of a data set shows, whatever its own keypoints are.

    Args:
        loaded: the model.
        pose_set: the data set.
        key: the instance, as --support names it.

    Raises:
        ValueError: the model takes no support, or the set has no labelled instance of this key.
    """
    if not isinstance(loaded.model, TakesSupport):
        raise ValueError(NO_SUPPORT)
    shown = (support_named(pose_set, key),)
    return dataclasses.replace(loaded, model=loaded.model.supported_by(shown, pose_set.skeleton))


def _supported(model: PoseModel, chosen: _Chosen) -> PoseModel:
    """The model with the chosen support; unchanged where the instance is its own support.

    Raises:
        ValueError: a support is needed, and the model takes none.
    """
    same = chosen.skeleton.keypoints == model.skeleton.keypoints
    if isinstance(model, TakesSupport):
        support = chosen.support or (() if same else (chosen.sample,))
        return model.supported_by(support, None if same else chosen.skeleton) if support else model
    if chosen.support:
        raise ValueError(NO_SUPPORT)
    return model


def _trained(run: Run, steps: int, rule: PckRule) -> Schedules:
    from workbench.inspectors.sequence.schedules import compare
    from workbench.training.settings import Settings

    every = max(1, steps // 12)
    settings = Settings(steps=steps, schedule="cosine", clip=1.0, measure_every=every)
    return compare(run.model, run.samples, settings, rule=rule)


def _retrained(loaded: LoadedModel, sample: Sample, steps: int, device: str, command: str) -> OverfitReport:
    """The sample, learned again from initial weights by a network with the same defects."""
    from workbench.training.overfit import overfit
    from workbench.training.plan import Plan
    from workbench.training.sequences import untrained_copy
    from workbench.training.settings import SEQUENCE

    if not isinstance(loaded.model, Reinitialises):
        raise ValueError(
            "--bisect: this checkpoint does not say how its network was made, so it cannot be trained again "
            "from initial weights; expected a model with the capability Reinitialises, or use "
            "workbench overfit --adapter"
        )
    settings = dataclasses.replace(SEQUENCE, steps=steps, measure_every=max(1, min(25, steps // 4)))
    return overfit(
        untrained_copy(loaded.model),
        [sample],
        Plan(settings),
        title=f"{loaded.title}, retrained",
        command=command,
        device=device,
        on_trial=lambda switch: typer.echo(f"trying without {switch}", err=True),
    )


def repeat_command(files: Sequence[Path], given: Mapping[str, Any], steps: int) -> str:
    """The command that repeats a bisection.

    Args:
        files: checkpoints in training order.
        given: the other options by their names; what is None, 0 or False is left out. Without it and without
            files the demo is meant.
        steps: of the bisection.
    """
    words: list[Any] = ["workbench", "rollout", *(files or ([] if given else ["--demo"]))]
    for flag, value in given.items():
        if value is not None and value is not False and value != 0:
            words += [f"--{flag}"] if value is True else [f"--{flag}", value]
    return command_line([*words, "--bisect", steps])


def _text(report: Rollout, epochs: list[dict[str, Any]]) -> str:
    length = report.steps.rule.partition(" of ")[2].partition(",")[0]
    head = f"{'step':<4} {'keypoint':<20} teacher-forced  free-running   (error / {length})"
    lines = [report.summary(), "", head]
    for row in report.table():
        lines.append(
            f"{row['step']:<4} {row['keypoint']:<20} {_number(row['forced']):>14}  {_number(row['free']):>12}"
        )
    curve = ", ".join(f"{row['k']}: {row['pck']:.2f}" for row in report.prefix.curve)
    lines += ["", f"PCK with the first k tokens given   {curve}"]
    if report.support is not None:
        uses = ", ".join(f"{k} {v:.2f}" for k, v in report.support.by_kind.items())
        lines += [f"PCK by support                      {uses}", report.support.summary()]
    for part in (report.corruption, report.types):
        if part is not None:
            lines.append(part.summary())
    wrong = [claim.text() for claim in report.coordinates.claims if not claim.agrees]
    lines += wrong or [report.coordinates.summary()]
    lines += [f"{question}: {why}" for question, why in report.missing.items()]
    for epoch in epochs:
        lines.append(
            f"{epoch['title']}: PCK {epoch['pck_forced']:.2f} teacher-forced, {epoch['pck_free']:.2f} "
            "free-running"
        )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "      " if value is None else f"{value:6.3f}"
