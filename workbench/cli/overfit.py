"""workbench overfit: can this network learn one image, and if not, which part of the pipeline prevents it?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from workbench.cli.options import (
    Adapter,
    Category,
    Config,
    Demo,
    Device,
    ImageOptions,
    Images,
    SkeletonName,
    argument,
    opened,
    option,
)
from workbench.cli.output import Answer, in_job, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workbench.core import PoseModel, Sample, Skeleton
    from workbench.core.job import Job
    from workbench.training.overfit import OverfitReport, OverfitSetup

DEMO_STEPS = 100  # the small network learns its animal in about 60

Name = Annotated[str | None, argument("A network to train from initial weights; an unknown name lists them.")]
# Text, not a path: the name of an annotated image will do, wherever its set keeps it.
ImageFile = Annotated[
    str | None, option("--image", "The image to learn; the first annotated one by default.")
]
Annotation = Annotated[
    str | None,
    option("--annotation", "A COCO-format keypoint json, or a built-in set: astronaut, scenes-val."),
]
Count = Annotated[int, option("--count", "How many instances to overfit at once.")]
Number = Annotated[
    int | None, option("--sample", "Number of the instance in the set, as in the app's links.")
]
Steps = Annotated[
    int | None,
    option("--steps", "Training steps; 200 by default, 400 for a sequence model, 100 with --demo."),
]
Rate = Annotated[
    float | None,
    option("--learning-rate", "Learning rate of AdamW; 1e-3 by default, 2e-3 for a sequence model."),
]
Decay = Annotated[float | None, option("--weight-decay", "Weight decay of AdamW; 0, or the config's.")]
Ema = Annotated[
    float | None,
    option("--ema", "Decay of the averaged weights; 0 turns averaging off. Default 0, or the config's."),
]
Schedule = Annotated[
    str | None,
    option(
        "--schedule",
        "Learning rate schedule: constant, cosine, multistep; constant by default, cosine for a "
        "sequence model.",
    ),
]
WarmUp = Annotated[int | None, option("--warm-up", "Steps of linear warm-up; 20 for a sequence model.")]
Clip = Annotated[
    float | None, option("--clip", "Maximum gradient norm, 0 turns clipping off; 1 for a sequence model.")
]
Amp = Annotated[bool, option("--amp", "Mixed precision.")]
Compiled = Annotated[bool, option("--compile", "torch.compile the network.")]
Graphs = Annotated[bool, option("--graphs", "Replay the step as a CUDA graph; needs a GPU.")]
ConfigTraining = Annotated[
    bool,
    option(
        "--config-training/--no-config-training",
        "With --config: use its optimizer, schedule, parameter groups, clipping, averaging and "
        "codec, or this verb's own settings.",
    ),
]
Dropout = Annotated[bool, option("--dropout/--no-dropout", "Dropout as the network defines it, or off.")]
Plant = Annotated[
    str,
    option(
        "--plant",
        "Plant a fault: augmentation, flip, ema, dropout, normalisation, codec, weight decay, uncleared "
        "gradients, clip, learning rate; for a sequence model also teacher forcing, support mask, support, "
        "pck coordinates, loss scale.",
    ),
]
Bisect = Annotated[bool, option("--bisect/--no-bisect", "Find the cause of a failure.")]
Seed = Annotated[int, option("--seed", "Seed of the initial weights and of every step.")]

Folder = Annotated[
    Path | None, option("--out", "Folder for rows and snapshots; the same command resumes from it.")
]


def command(
    name: Name = None,
    image: ImageFile = None,
    annotation: Annotation = None,
    images: Images = None,
    category: Category = None,
    skeleton: SkeletonName = None,
    config: Config = None,
    adapter: Adapter = None,
    sample: Number = None,
    count: Count = 1,
    steps: Steps = None,
    learning_rate: Rate = None,
    weight_decay: Decay = None,
    ema: Ema = None,
    schedule: Schedule = None,
    warm_up: WarmUp = None,
    clip: Clip = None,
    amp: Amp = False,
    compiled: Compiled = False,
    graphs: Graphs = False,
    config_training: ConfigTraining = True,
    dropout: Dropout = True,
    plant: Plant = "",
    bisect: Bisect = True,
    seed: Seed = 0,
    *,
    pictures: ImageOptions,
    device: Device = "cpu",
    out: Folder = None,
    demo: Demo = False,
) -> Answer:
    """Overfit one image, or a handful, and find the cause if that fails."""
    from workbench.training.overfit import overfit_setup
    from workbench.training.settings import default_settings

    picture = Path(image) if image else None
    model, title, samples = _material(
        name, config, adapter, annotation, images, pictures, picture, sample, count, category, skeleton,
        plant, seed, device, demo,
    )  # fmt: skip
    defaults = default_settings(model)
    if steps is None and demo:
        steps = DEMO_STEPS
    most = steps or defaults.steps
    requested = {"steps": steps, "learning_rate": learning_rate, "schedule": schedule}
    requested |= {"warm_up": warm_up, "clip": clip, "weight_decay": weight_decay, "ema": ema}
    source = {"name": name, "demo": demo, "annotation": annotation, "images": images, "category": category}
    source |= {"image": picture, "sample": sample, "config": config, "adapter": adapter, "count": count}
    source |= {"skeleton": skeleton, "no_bisect": not bisect, **vars(pictures)}
    setup = overfit_setup(
        model,
        samples,
        requested,
        defaults=defaults,
        title=title,
        config=_training_config(config if config_training else None),
        plant=plant,
        dropout=dropout,
        device=device,
        source=source,
        config_ignored=config is not None and not config_training,
        amp=amp,
        compile=compiled,
        graphs=graphs,
        seed=seed,
        measure_every=max(1, min(25, most // 4)),
        snapshot_every=max(1, most // 4) if out else 0,
    )
    report = _run(setup, bisect, out)
    return Answer(report.to_json(), as_text(report))


def _run(setup: OverfitSetup, bisect: bool, folder: Path | None) -> OverfitReport:
    """Run the attempt as a job; on Ctrl-C say where the finished steps are."""
    note = f"its finished steps are in {folder}, and the same command continues from there" if folder else ""
    return in_job("overfitting", lambda job: _trained(job, setup, bisect, folder), note)


def _trained(job: Job, setup: OverfitSetup, bisect: bool, folder: Path | None) -> OverfitReport:
    """The attempt and, where it is needed, its bisection."""
    from workbench.training.overfit import OverfitRun

    steps = setup.plan.settings.steps

    def on_row(row: dict[str, Any]) -> None:
        job.progress(row["step"], steps)
        if row.get("pck") is not None:
            say(f"step {row['step']} of {steps}: loss {row['loss']:.3g}, PCK {row['pck']:.2f}")

    def on_trial(switch: str) -> None:
        job.step = f"without {switch}"
        if job.total == steps:
            job.progress(0, run.trial_steps)
        say(f"trying without {switch}")

    run = OverfitRun(setup, bisect=bisect, folder=folder, on_row=on_row)
    for note in run.session.notes:
        say(note)
    for one in run.before:
        say(f"before the first step: {one.text}")
    report = run.run(
        on_trial=on_trial, on_step=lambda: job.progress(job.done + 1, job.total), stopped=job.cancelled
    )
    job.checkpoint()
    return report


def _material(
    name: str | None,
    config: Path | None,
    adapter: Path | None,
    annotation: str | None,
    images: Path | None,
    pictures: ImageOptions,
    image: Path | None,
    sample: int | None,
    count: int,
    category: str | None,
    skeleton_name: str | None,
    plant: str,
    seed: int,
    device: str,
    demo: bool,
) -> tuple[PoseModel, str, list[Sample]]:
    """The model with initial weights, its title, and the samples."""
    from workbench.models.fresh import new_model
    from workbench.training.faults import FAULTS

    if plant and plant not in FAULTS:
        raise ValueError(f"--plant: expected one of {', '.join(FAULTS)}, got {plant!r}")
    if demo:
        if name or config or adapter or image or annotation or sample is not None:
            raise ValueError("--demo brings its own network and image; leave the others out")
        return _demo(seed, device)
    samples, skeleton = _samples(
        annotation or "astronaut", images, pictures, image, sample, count, category, skeleton_name
    )
    model, title = new_model(
        name or "", config=config, adapter=adapter, skeleton=skeleton, seed=seed, device=device
    )
    return model, title, samples


def _training_config(config: Path | None) -> Mapping[str, Any] | None:
    """Content of a config that the user named; None where there is none."""
    if config is None:
        return None
    from workbench.models.fresh import named_config

    return named_config(config)


def _samples(
    annotation: str,
    images: Path | None,
    pictures: ImageOptions,
    image: Path | None,
    number: int | None,
    count: int,
    category: str | None,
    skeleton: str | None,
) -> tuple[list[Sample], Skeleton]:
    from workbench.data import BUILTIN

    if count < 1:
        raise ValueError(f"--count: expected at least 1, got {count}")
    if images is None and image is not None and annotation not in BUILTIN:
        images = image.parent
    chosen = opened(annotation, images, category, None, pictures.reading, skeleton)
    if number is not None:
        if image is not None:
            raise ValueError("give --image or --sample, not both")
        return chosen.samples([number]), chosen.skeleton
    wanted = [
        i
        for i in chosen.labelled
        if image is None or chosen.images[chosen.instances[i].image_id].path.name == image.name
    ]
    if not wanted:
        where = f" of {image.name}" if image else ""
        ours = [n for n, one in chosen.images.items() if image is None or one.path.name == image.name]
        why = chosen.unscored_text(ours) if ours or image is None else "no image of the set is called so"
        advice = (
            "; name the json with its keypoints as --annotation" if image and annotation in BUILTIN else ""
        )
        raise ValueError(f"{annotation}: no instance{where} can be learned: {why}{advice}")
    return chosen.samples(wanted[:count]), chosen.skeleton


def _demo(seed: int, device: str) -> tuple[PoseModel, str, list[Sample]]:
    """The demo's small RTMPose with initial weights, and an animal of the drawn scenes."""
    from workbench.checkpoints.demo import demo_data
    from workbench.data import builtin
    from workbench.models.fresh import demo_model

    drawn = builtin(demo_data())
    return *demo_model(seed, device), drawn.samples(drawn.labelled[:1])


def as_text(report: OverfitReport) -> str:
    """The report as text for a terminal."""
    used = [f"config    used: {one}" for one in report.used]
    used += [f"config    not used: {one}" for one in report.unused]
    lines = [
        report.summary(),
        "",
        *used,
        f"expected  {report.verdict.expected}",
        f"measured  {report.verdict.came}",
        f"speed     {report.steps_per_second:.1f} steps/s",
    ]
    for one in report.evidence:
        ends = f"; with {one.culprit} switched off, {one.mended}" if one.culprit else ""
        lines.append(f"{'remark' if one.remark else 'wrong':<10}{one.text}{ends}")
    for trial in report.trials:
        lines.append(f"without {trial.without:<16} {trial.verdict.outcome:<36} PCK {trial.verdict.pck:.2f}")
    if report.trials and not report.culprit:
        lines += [f"no switch for {one}" for one in report.cannot_switch]
    return "\n".join([*lines, f"repeat    {report.command}"])
