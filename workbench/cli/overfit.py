"""workbench overfit: can this network learn one image, and if not, which switch stands in its way?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from workbench.cli.answer import Answer
from workbench.cli.options import Adapter, Config, Demo, Device, Images, Out
from workbench.cli.overfit_text import again, as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workbench.core import PoseModel, Sample, Skeleton
    from workbench.training.overfit import OverfitReport

DEMO_STEPS = 100  # the small network has learned its animal after some 60

Name = Annotated[
    Optional[str],  # noqa: UP045
    typer.Argument(help="A family to start afresh: rtmpose, hrnet, resnet, cape, higherhrnet."),
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
Category = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--category", help="The category to read, where the json has several (MP-100)."),
]
Count = Annotated[int, typer.Option("--count", help="How many instances to learn at once.")]
Number = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--sample", help="Number of the instance in the set, as the app's links have it."),
]
Steps = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        "--steps", help="How many steps it may take; 200 by default, 400 for cape, 100 with --demo."
    ),
]
Rate = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--learning-rate", help="Of AdamW; 1e-3 by default, 2e-3 for cape."),
]
Decay = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--weight-decay", help="Of AdamW; 0, or the config's."),
]
Ema = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--ema", help="Decay of averaged weights; 0 is off, or the config's."),
]
Schedule = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--schedule", help="Of the learning rate: constant, cosine, multistep; cape's is cosine."),
]
WarmUp = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--warm-up", help="Steps of linear warm-up; 20 for cape."),
]
Clip = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--clip", help="Largest gradient norm, 0 is off; 1 for cape."),
]
Amp = Annotated[bool, typer.Option("--amp", help="Mixed precision.")]
Compiled = Annotated[bool, typer.Option("--compile", help="torch.compile the network.")]
Graphs = Annotated[bool, typer.Option("--graphs", help="Replay the step as a CUDA graph; needs a GPU.")]
ConfigTraining = Annotated[
    bool,
    typer.Option(
        "--config-training/--no-config-training",
        help="With --config: its optimizer, schedule, parameter groups, clipping, averaging and codec; else "
        "those of a bare attempt.",
    ),
]
Dropout = Annotated[bool, typer.Option("--dropout/--no-dropout", help="Layers drop as the network has them.")]
Plant = Annotated[
    str,
    typer.Option(
        "--plant",
        help="Plant a fault: augmentation, flip, ema, dropout, normalisation, codec, weight decay; for cape "
        "also teacher forcing, support mask, support, pck coordinates, loss scale.",
    ),
]
Bisect = Annotated[bool, typer.Option("--bisect/--no-bisect", help="Look for the cause of a failure.")]
Seed = Annotated[int, typer.Option("--seed", help="Of the first weights and of every step.")]


def command(
    name: Name = None,
    image: ImageFile = None,
    annotation: Annotation = None,
    images: Images = None,
    category: Category = None,
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
    device: Device = "cpu",
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Learn one image, or a handful, by heart, and say what became of it."""
    from workbench.models.fresh import new_model
    from workbench.training.attempt_plan import attempt_plan
    from workbench.training.faults import FAULTS
    from workbench.training.overfit import overfit
    from workbench.training.people import TaughtPeople, with_everybody
    from workbench.training.usual import usual

    if plant and plant not in FAULTS:
        raise ValueError(f"--plant: expected one of {', '.join(FAULTS)}, got {plant!r}")
    if demo:
        if name or config or adapter or image or annotation or sample is not None:
            raise ValueError("--demo brings its own network and image; leave the others out")
        model, title, samples = _demonstrated(seed, device)
    else:
        samples, skeleton = _samples(annotation or "astronaut", images, image, sample, count, category)
        model, title = new_model(
            name or "", config=config, adapter=adapter, skeleton=skeleton, seed=seed, device=device
        )
    proposed = usual(model)
    if steps is None and demo:
        steps = DEMO_STEPS
    asked = {"steps": steps, "learning_rate": learning_rate, "schedule": schedule}
    asked |= {"warm_up": warm_up, "clip": clip, "weight_decay": weight_decay, "ema": ema}
    steps = steps or proposed.steps
    attempt = attempt_plan(
        model,
        proposed,
        asked,
        config=_own_config(config if config_training else None),
        plant=plant,
        dropout=dropout,
        amp=amp,
        compile=compiled,
        graphs=graphs,
        seed=seed,
        measure_every=max(1, min(25, steps // 4)),
        snapshot_every=max(1, steps // 4) if out else 0,
    )
    model = attempt.model
    if isinstance(model, TaughtPeople):
        samples = with_everybody(samples)
    report = _kept_when_stopped(
        overfit,
        model,
        samples,
        attempt.plan,
        bisect=bisect,
        folder=out,
        title=title,
        command=again(
            attempt.plan.settings,
            attempt.unsaid,
            name=name,
            annotation=annotation,
            images=images,
            category=category,
            image=image,
            sample=sample,
            config=config,
            adapter=adapter,
            count=count,
            plant=plant,
            device=device,
            demo=demo,
            no_config_training=config is not None and not config_training,
            no_dropout=not dropout,
        ),
        device=device,
        recipe=attempt.recipe,
        on_row=_progress(steps),
        on_trial=lambda switch: typer.echo(f"trying without {switch}", err=True),
        on_note=lambda note: typer.echo(note, err=True),
    )
    return Answer(report.to_json(), as_text(report))


def _own_config(config: Path | None) -> Mapping[str, Any] | None:
    """The content of a config that the user named; None where there is none."""
    if config is None:
        return None
    from workbench.models.mmpose.model import run_config

    return run_config(config)


def _kept_when_stopped(attempt: Callable[..., OverfitReport], *args: Any, **options: Any) -> OverfitReport:
    """An attempt; on Ctrl-C its user is told where the finished steps are."""
    try:
        return attempt(*args, **options)
    except KeyboardInterrupt as pressed:
        folder = options.get("folder")
        if folder is None:
            raise
        raise KeyboardInterrupt(
            f"its finished steps are kept in {folder}, and the same command goes on from there"
        ) from pressed


def _samples(
    annotation: str,
    images: Path | None,
    image: Path | None,
    number: int | None,
    count: int,
    category: str | None,
) -> tuple[list[Sample], Skeleton]:
    from workbench.data import BUILTIN, open_data

    if count < 1:
        raise ValueError(f"--count: expected at least 1, got {count}")
    if images is None and image is not None and annotation not in BUILTIN:
        images = image.parent
    chosen = open_data(annotation, images, category)
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
        where = f"of {image.name} " if image else ""
        advice = (
            "; name the json with its keypoints as --annotation" if image and annotation in BUILTIN else ""
        )
        raise ValueError(f"{annotation}: no instance {where}has a visible keypoint to learn{advice}")
    return chosen.samples(wanted[:count]), chosen.skeleton


def _demonstrated(seed: int, device: str) -> tuple[PoseModel, str, list[Sample]]:
    """The demo's small RTMPose with first weights, and an animal of the drawn scenes."""
    from workbench.checkpoints.demo import demo_data
    from workbench.data import builtin
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
