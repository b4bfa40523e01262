"""workbench overfit: can this network learn one image, and if not, which switch stands in its way?"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from workbench.cli.answer import Answer
from workbench.cli.options import Adapter, Config, Demo, Device, Images, Out

if TYPE_CHECKING:
    from workbench.records import PoseModel, Sample
    from workbench.training.overfit import OverfitReport
    from workbench.training.settings import Settings

STEPS = 200
DEMO_STEPS = 100  # the small network has learned its animal after some 60

Name = Annotated[
    Optional[str],  # noqa: UP045
    typer.Argument(help="A family to start afresh: rtmpose, hrnet, resnet, cape."),
]
ImageFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--image", help="The image to learn; the first annotated one by default."),
]
Annotation = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--annotation", help="A COCO-format keypoint json, or a built-in set: astronaut, scenes-val."
    ),
]
Count = Annotated[int, typer.Option("--count", help="How many instances to learn at once.")]
Number = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--sample", help="Number of the instance in the set, as the app's links have it."),
]
Steps = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--steps", help="How many steps it may take; 200 by default, 100 with --demo."),
]
Rate = Annotated[float, typer.Option("--learning-rate", help="Of AdamW.")]
Decay = Annotated[float, typer.Option("--weight-decay", help="Of AdamW.")]
Ema = Annotated[float, typer.Option("--ema", help="Decay of averaged weights; 0 is off.")]
Schedule = Annotated[
    str, typer.Option("--schedule", help="Of the learning rate: constant, cosine, multistep.")
]
Plant = Annotated[
    str,
    typer.Option("--plant", help="Plant a fault: augmentation, flip, ema, dropout, normalisation, codec."),
]
Bisect = Annotated[bool, typer.Option("--bisect/--no-bisect", help="Look for the cause of a failure.")]
Seed = Annotated[int, typer.Option("--seed", help="Of the first weights and of every step.")]


def command(
    name: Name = None,
    image: ImageFile = None,
    annotation: Annotation = None,
    images: Images = None,
    config: Config = None,
    adapter: Adapter = None,
    sample: Number = None,
    count: Count = 1,
    steps: Steps = None,
    learning_rate: Rate = 1e-3,
    weight_decay: Decay = 0.0,
    ema: Ema = 0.0,
    schedule: Schedule = "constant",
    plant: Plant = "",
    bisect: Bisect = True,
    seed: Seed = 0,
    device: Device = "cpu",
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Learn one image, or a handful, by heart, and say what became of it."""
    from workbench.models.fresh import new_model
    from workbench.training.overfit import overfit
    from workbench.training.plan import Plan
    from workbench.training.planted import PLANTED
    from workbench.training.sequences import SEQUENCE_PLANTED, trainable
    from workbench.training.settings import Settings

    if steps is None:
        steps = DEMO_STEPS if demo else STEPS
    faults = {**PLANTED, **SEQUENCE_PLANTED}
    if plant and plant not in faults:
        raise ValueError(f"--plant: expected one of {', '.join(faults)}, got {plant!r}")
    if demo:
        if name or config or adapter or image or annotation or sample is not None:
            raise ValueError("--demo brings its own network and image; leave the others out")
        model, title, samples = _demonstrated(seed, device)
    else:
        samples, skeleton = _samples(annotation or "astronaut", images, image, sample, count)
        model, title = new_model(
            name or "", config=config, adapter=adapter, skeleton=skeleton, seed=seed, device=device
        )
    settings = Settings(
        steps=steps,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        ema=ema,
        schedule=schedule,  # type: ignore[arg-type] - Settings refuses others
        seed=seed,
        measure_every=max(1, min(25, steps // 4)),
        snapshot_every=max(1, steps // 4) if out else 0,
    )
    plan = Plan(settings)
    model = trainable(model, steps)
    if plant:
        plan = faults[plant](plan, model)
    report = overfit(
        model,
        samples,
        plan,
        bisect=bisect,
        folder=out,
        title=title,
        command=again(
            settings,
            name=name,
            annotation=annotation,
            images=images,
            image=image,
            sample=sample,
            config=config,
            adapter=adapter,
            count=count,
            plant=plant,
            device=device,
            demo=demo,
        ),
        device=device,
        on_row=_progress(steps),
        on_trial=lambda switch: typer.echo(f"trying without {switch}", err=True),
    )
    return Answer(report.to_json(), _text(report))


def _samples(
    annotation: str, images: Path | None, image: Path | None, number: int | None, count: int
) -> tuple[list[Sample], str]:
    from workbench.data import BUILTIN, open_data

    if count < 1:
        raise ValueError(f"--count: expected at least 1, got {count}")
    if images is None and image is not None and annotation not in BUILTIN:
        images = image.parent
    chosen = open_data(annotation, images)
    if number is not None:
        if image is not None:
            raise ValueError("give --image or --sample, not both")
        return chosen.samples([number]), chosen.skeleton.name
    wanted = [
        i
        for i in chosen.labelled
        if image is None or chosen.images[chosen.instances[i].image_id].path.name == image.name
    ]
    if not wanted:
        where = f"of {image.name} " if image else ""
        raise ValueError(f"{annotation}: no instance {where}has a visible keypoint to learn")
    return chosen.samples(wanted[:count]), chosen.skeleton.name


def _demonstrated(seed: int, device: str) -> tuple[PoseModel, str, list[Sample]]:
    """The demo's small RTMPose with first weights, and an animal of the drawn scenes."""
    from workbench.data import builtin
    from workbench.demo import demo_data
    from workbench.models.fresh import demo_model

    drawn = builtin(demo_data())
    return *demo_model(seed, device), drawn.samples(drawn.labelled[:1])


def _progress(steps: int) -> Any:
    def told(row: dict[str, Any]) -> None:
        if row.get("pck") is not None:
            typer.echo(
                f"step {row['step']} of {steps}: loss {row['loss']:.3g}, PCK {row['pck']:.2f}", err=True
            )

    return told


def again(settings: Settings, *, name: str | None = None, demo: bool = False, **given: Any) -> str:
    """The command that repeats an attempt.

    Args:
        settings: of the attempt.
        name: of the family, where one was named.
        demo: with the built-in network and image.
        given: the other options by their names, as the user gave them; what is at its default is left out.
    """
    words = ["workbench", "overfit", *([name] if name else []), *(["--demo"] if demo else [])]
    given |= {"steps": settings.steps, "learning_rate": settings.learning_rate, "seed": settings.seed}
    given |= {"weight_decay": settings.weight_decay, "ema": settings.ema, "schedule": settings.schedule}
    unsaid = {"count": 1, "device": "cpu", "weight_decay": 0.0, "ema": 0.0, "schedule": "constant"}
    for option, value in given.items():
        if value not in (None, "") and value != unsaid.get(option):
            words += [f"--{option.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _text(report: OverfitReport) -> str:
    lines = [
        report.summary(),
        "",
        f"expected  {report.verdict.expected}",
        f"came      {report.verdict.came}",
        f"speed     {report.steps_per_second:.1f} steps/s",
    ]
    for trial in report.trials:
        lines.append(f"without {trial.without:<14} {trial.verdict.outcome:<36} PCK {trial.verdict.pck:.2f}")
    return "\n".join([*lines, f"again     {report.command}"])
