"""workbench experiment: what does each option of a text fusion model give, from the same start?"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from workbench.cli.options import (
    Config,
    Data,
    Demo,
    Device,
    ImageOptions,
    Images,
    Out,
    Remap,
    argument,
    option,
)
from workbench.cli.output import REPORT_ENDINGS, Answer, check_file, check_room, in_job, written

if TYPE_CHECKING:
    from workbench.core.job import Job
    from workbench.training.experiments.results import ExperimentReport
    from workbench.training.experiments.running import Material

Name = Annotated[str | None, argument("An experiment; a list of them when left out.", metavar="[NAME]")]
Files = Annotated[
    list[Path] | None,
    argument("A text fusion checkpoint: a file, a run's folder, or all files of a model in parts."),
]
Start = Annotated[
    Path | None, option("--start", "Base checkpoint whose backbone and head every arm begins with.")
]
Train = Annotated[
    str | None, option("--train", "A set to learn from; by default half of the images of --data.")
]
TrainImages = Annotated[Path | None, option("--train-images", "The folder of the images of --train.")]
Text = Annotated[
    Path | None,
    option("--text", "Vectors (.npz) of the species' sentences, written by `workbench text --out`."),
]
Steps = Annotated[int, option("--steps", "Training steps of every arm.", min=1)]
BatchSize = Annotated[int, option("--batch", "Crops per training step.", min=2)]
Rate = Annotated[float, option("--learning-rate", "Peak learning rate.")]
Seed = Annotated[int, option("--seed", "Random seed of initial weights, crops and every step.")]
Most = Annotated[int, option("--most", "Instances for training and for evaluation; 0 for all.", min=0)]
Folder = Annotated[
    Path | None,
    option(
        "--folder",
        "Folder for finished arms and snapshots; repeat the command to continue after an interruption.",
    ),
]
FUSION, BASE, DATA = "rtmpose-text-fusion", "rtmpose-text-base", "scenes-val"
# What a CPU does in a minute or two.
DEMO_STEPS, DEMO_MOST = 40, 80


def command(
    experiment: Name = None,
    files: Files = None,
    config: Config = None,
    remap: Remap = False,
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
    *,
    pictures: ImageOptions,
    most: Most = 0,
    device: Device = "cpu",
    folder: Folder = None,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Train the arms of one experiment for a short while and compare them with paired intervals.

    With --folder an interrupted call continues: finished arms are read, the one under way starts at its last
    snapshot; the figures are those of an uninterrupted call.
    """
    from workbench.training.experiments import EXPERIMENTS, experiment_named

    if experiment is None and not demo:
        width = max(map(len, EXPERIMENTS))
        facts = {"experiments": {e.name: e.question for e in EXPERIMENTS.values()}}
        return Answer(facts, "\n".join(f"{e.name:{width}}  {e.question}" for e in EXPERIMENTS.values()))
    chosen = experiment_named(experiment or "both-ways")
    check_file(out, *REPORT_ENDINGS)
    if folder is not None:
        check_room(folder / "arms", "--folder")
    if demo:
        from workbench.checkpoints.demo import demo_checkpoints

        files, start = [demo_checkpoints(FUSION)[-1]], start or demo_checkpoints(BASE)[-1]
        data, most = data or DATA, most or DEMO_MOST
        steps = min(steps, DEMO_STEPS)
    if not files or data is None:
        raise ValueError("experiment: expected a text fusion checkpoint and --data; --demo has both")
    from workbench.cli.conditioned import newest
    from workbench.models import open_model
    from workbench.text.vectors import read_text
    from workbench.training.experiments.arms import origin_of
    from workbench.training.experiments.results import stored_in
    from workbench.training.experiments.running import Course

    loaded = open_model(newest(files), config=config, remap=remap, device=device)
    begun = newest([start]) if start is not None else None
    origin = origin_of(loaded, begun, read_text(text) if text else None, config)
    if folder is not None and config is not None and origin.config.get("custom_imports"):
        raise ValueError(
            f"--folder: {config.name} imports code of its own (custom_imports), and nothing tells whether "
            "that has changed since an arm was finished; leave --folder out"
        )
    material = _material(data, images, train, train_images, pictures, most)
    course = Course(steps, batch, learning_rate, seed)
    keeping = stored_in(folder, chosen, origin, material, course) if folder else nullcontext()
    resuming = f"finished arms are in {folder}; the same command goes on with them" if folder else ""
    with keeping as kept:
        report = in_job(chosen.name, lambda job: _run(job, chosen, origin, material, course, kept), resuming)
    resumed = kept.resumed if kept else []
    facts: dict[str, Any] = {"title": loaded.title, **report.to_json(), "resumed": resumed}
    note = [f"read from {folder}, done by an earlier call: {'; '.join(resumed)}"] if resumed else []
    return written(Answer(facts, "\n".join([report.text(), *note])), out, report)


def _run(job: Job, *asked: Any) -> ExperimentReport:
    """The experiment; `asked` are the arguments of run_experiment without the job's watch."""
    from workbench.core.job import shares_of
    from workbench.training.experiments.running import Watch, run_experiment

    experiment, origin, material, course, stored = asked
    watch = Watch(shares_of(job), job.cancelled)
    return run_experiment(experiment, origin, material, course, watch, stored)


def _material(
    data: str,
    images: Path | None,
    train: str | None,
    train_images: Path | None,
    pictures: ImageOptions,
    most: int,
) -> Material:
    from workbench.data.opening import open_data
    from workbench.training.experiments.running import Material, halves

    judge = open_data(data, images, reading=pictures.reading)
    if train is None:
        return halves(judge, most)
    learn = open_data(train, train_images, reading=pictures.reading)
    return Material(
        (learn, learn.labelled[: most or None]),
        (judge, judge.labelled[: most or None]),
        f"learns from {learn.name}, is judged on {judge.name}",
    )
