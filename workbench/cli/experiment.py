"""workbench experiment: what each switch of a text fusion model gives back, from the same start."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from workbench.cli.answer import Answer
from workbench.cli.options import Data, Demo, Device, Images, Out

if TYPE_CHECKING:
    from workbench.experiments.comparing import Material

Name = Annotated[
    Optional[str],  # noqa: UP045
    typer.Argument(help="An experiment; a list of them when left out."),
]
File = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Argument(help="A text fusion checkpoint."),
]
Start = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--start", help="Base checkpoint whose backbone and head every arm begins with."),
]
Train = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--train", help="A set to learn from; by default half of the images of --data."),
]
TrainImages = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--train-images", help="The folder of the images of --train."),
]
Text = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--text", help="Vectors (.npz) of the species' sentences, written by `workbench text --out`."
    ),
]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Of the optimizer, in every arm.")]
BatchSize = Annotated[int, typer.Option("--batch", min=2, help="Crops in one step.")]
Rate = Annotated[float, typer.Option("--learning-rate", help="The peak.")]
Seed = Annotated[int, typer.Option("--seed", help="Of first weights, crops and everything random in a step.")]
Most = Annotated[
    int, typer.Option("--most", min=0, help="Instances to learn from and to judge on; 0 for all.")
]
FUSION, BASE, DATA = "rtmpose-text-fusion", "rtmpose-text-base", "scenes-val"
# What a CPU does in a minute or two.
DEMO_STEPS, DEMO_MOST = 40, 80


def command(
    name: Name = None,
    file: File = None,
    start: Start = None,
    data: Data = None,
    images: Images = None,
    train: Train = None,
    train_images: TrainImages = None,
    text: Text = None,
    steps: Steps = 300,
    batch: BatchSize = 16,
    learning_rate: Rate = 1e-3,
    seed: Seed = 0,
    most: Most = 0,
    device: Device = "cpu",
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Train the arms of one experiment for a short while and compare them with paired intervals."""
    from workbench.experiments import EXPERIMENTS, experiment_named

    if name is None and not demo:
        width = max(map(len, EXPERIMENTS))
        facts = {"experiments": {e.name: e.question for e in EXPERIMENTS.values()}}
        return Answer(facts, "\n".join(f"{e.name:{width}}  {e.question}" for e in EXPERIMENTS.values()))
    experiment = experiment_named(name or "both-ways")
    if demo:
        from workbench.demo import demo_checkpoints

        file, start = file or demo_checkpoints(FUSION)[-1], start or demo_checkpoints(BASE)[-1]
        data, most = data or DATA, most or DEMO_MOST
        steps = min(steps, DEMO_STEPS)
    if file is None or data is None:
        raise ValueError("experiment: expected a text fusion checkpoint and --data; --demo has both")
    from workbench.experiments.building import origin_of
    from workbench.experiments.comparing import Watch, run_experiment
    from workbench.experiments.learning import Course
    from workbench.models import open_model
    from workbench.text.vectors import read_text

    origin = origin_of(open_model(file, device=device), start, read_text(text) if text else None)
    report = run_experiment(
        experiment,
        origin,
        _material(data, images, train, train_images, most),
        Course(steps, batch, learning_rate, seed, measures=1 if demo else 3),
        Watch(progress=_progress),
    )
    facts: dict[str, Any] = report.to_json()
    lines = [report.text()]
    if out is not None:
        facts["written"] = str(out)
        out.write_text(report.plot().to_html(include_plotlyjs=True), encoding="utf-8")
        lines.append(f"written: {out}")
    return Answer(facts, "\n".join(lines))


def _material(
    data: str, images: Path | None, train: str | None, train_images: Path | None, most: int
) -> Material:
    from workbench.data.opening import open_data
    from workbench.experiments.comparing import Material, halves

    judge = open_data(data, images, None, None)
    if train is None:
        return halves(judge, most)
    learn = open_data(train, train_images, None, None)
    return Material(
        (learn, learn.labelled[: most or None]),
        (judge, judge.labelled[: most or None]),
        f"learns from {learn.name}, is judged on {judge.name}",
    )


def _progress(what: str, share: float) -> None:
    typer.echo(f"\r{share:4.0%}  {what:60}", err=True, nl=False)
