"""Reports on the command line: a model and samples from options, and what an inspector answers of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from workbench.cli.options import (
    Box,
    Data,
    Decoder,
    Files,
    ImageOptions,
    Images,
    ModelOptions,
    loading_note,
    model_files,
    option,
)
from workbench.cli.output import REPORT_ENDINGS, Answer, as_columns, check_file, written
from workbench.core import DecodeOptions, NotAvailable, Run, Sample
from workbench.core.capabilities import TakesSupport
from workbench.core.inspector import Inspector
from workbench.core.report import Report

if TYPE_CHECKING:
    from workbench.data import PoseSet
    from workbench.models import LoadedModel
    from workbench.models.families import Demo

# What a model without data is run on: it ships with the workbench, and has a person in it.
PHOTOGRAPH = "astronaut"


Image = Annotated[list[Path] | None, option("--image", "An image, or a folder of images; may be repeated.")]
SampleNumber = Annotated[
    list[int] | None,
    option(
        "--sample",
        "Number of the instance in --data, from 0; may be repeated; the first labelled one by default.",
    ),
]


@dataclass(frozen=True)
class Subject:
    """Model and samples named on the command line."""

    file: Files = None
    model: ModelOptions = field(default_factory=ModelOptions)
    data: Data = None
    images: Images = None
    image: Image = None
    pictures: ImageOptions = field(default_factory=ImageOptions)
    box: Box = None
    sample: SampleNumber = None
    decoder: Decoder = ""


def answer(
    inspector: Inspector, params: Any, subject: Subject, out: Path | None = None, demo: bool = False
) -> Answer:
    """Run the model on the samples, inspect, and write what was asked for.

    Raises:
        ValueError: options that contradict each other.
        NotAvailable: the model, or with `--demo` no demo model, can answer.
        NotFilled: the file does not fill the model, and its tensors alone do not answer.
    """
    from workbench.checkpoints.loading import NotFilled

    check_file(out, *REPORT_ENDINGS)
    if demo:
        run, report, notes = _demonstrated(inspector, params, subject)
    else:
        try:
            run, report, notes = _made(inspector, params, subject)
        except (NotAvailable, NotFilled) as no_model:
            if inspector.of_file is None or subject.model.adapter is not None or not subject.file:
                raise
            return _of_file(inspector, params, subject, out, str(no_model))
    return _answered(inspector, report, run.title, [sample.key for sample in run.samples], notes, out)


def _of_file(inspector: Inspector, params: Any, subject: Subject, out: Path | None, no_model: str) -> Answer:
    """The answer of an inspector that can do without a model: of the file's own tensors."""
    from workbench.checkpoints import open_checkpoint

    checkpoint = open_checkpoint(list(subject.file or ()))
    report = inspector.of_file(checkpoint, params) if inspector.of_file else None
    if report is None:
        raise NotAvailable(no_model)
    note = f"the tensors as the file holds them, because no model was built: {no_model}"
    more = [checkpoint.unread_text] if checkpoint.unread else []
    return _answered(inspector, report, checkpoint.path.name, [], [note, *more], out)


def _answered(
    inspector: Inspector,
    report: Report,
    title: str,
    samples: Sequence[str],
    notes: Sequence[str],
    out: Path | None,
) -> Answer:
    table = report.table()
    facts: dict[str, Any] = {
        "inspector": inspector.name,
        "model": title,
        "samples": list(samples),
        "notes": list(notes),
        **report.to_json(),
        "table": table,
    }
    lines = [report.summary(), "", *as_columns(table), "", f"model: {title}"]
    lines += [f"samples: {', '.join(samples)}"] if samples else []
    lines += [f"note: {note}" for note in notes]
    return written(Answer(facts, "\n".join(lines)), out, report)


def _made(inspector: Inspector, params: Any, subject: Subject) -> tuple[Run, Report, list[str]]:
    if not subject.file and subject.model.adapter is None:
        raise ValueError("look: expected a checkpoint, --adapter, or --demo")
    loaded = subject.model.open(model_files(subject.file))
    return _inspected(inspector, params, subject, loaded)


def _demonstrated(inspector: Inspector, params: Any, subject: Subject) -> tuple[Run, Report, list[str]]:
    """The report of the last epoch of the first demo run that can answer."""
    from workbench.checkpoints.demo import demo_checkpoints, demo_data, demo_manifest
    from workbench.models.families import families

    reasons = []
    for name in (run["name"] for run in demo_manifest()):
        own = subject.data or subject.image
        chosen = subject if own else replace(subject, data=demo_data(name))
        try:
            return _inspected(inspector, params, chosen, subject.model.open(demo_checkpoints(name)[-1]))
        except NotAvailable as reason:
            reasons.append(f"{name}: {reason}")
    for network in (family.demo for family in families() if family.demo is not None):
        try:
            return _on_a_random_network(network, inspector, params, subject)
        except NotAvailable as reason:
            reasons.append(f"{network.title}: {reason}")
    raise NotAvailable(f"no demo model can answer ({'; '.join(reasons)}); name a checkpoint of your own")


def _on_a_random_network(
    network: Demo, inspector: Inspector, params: Any, subject: Subject
) -> tuple[Run, Report, list[str]]:
    """The report on a tiny network with random weights, of a kind that no demo run is of."""
    import tempfile

    from workbench.models import open_model

    with tempfile.TemporaryDirectory() as folder:
        loaded = open_model(network.write(Path(folder)))
        run, report, notes = _inspected(inspector, params, subject, loaded)
    return run, report, [network.note, *notes]


def _inspected(
    inspector: Inspector, params: Any, subject: Subject, loaded: LoadedModel
) -> tuple[Run, Report, list[str]]:
    from workbench.core.run import run

    samples, notes, loaded = samples_of(subject, loaded)
    notes += loading_note(loaded)
    if loaded.note:
        notes.append(loaded.note)
    options = DecodeOptions(decoder=subject.decoder)
    inspector.needs.check(loaded.model, truth=all(sample.truth is not None for sample in samples))
    looked = run(
        loaded.model,
        samples,
        inspector.record,
        options=options,
        title=loaded.title,
        flip=inspector.flips(loaded.model),
    )
    return looked, inspector.report(looked, params), notes


def samples_of(subject: Subject, loaded: LoadedModel) -> tuple[list[Sample], list[str], LoadedModel]:
    """The samples asked for, what had to be assumed, and the model.

    A model whose keypoints have numbers for names takes those of --data, as in `evaluate`.

    Raises:
        ValueError: options that contradict each other, or keypoints that are not the model's.
    """
    from workbench.data import open_data
    from workbench.data.coco import DifferentKeypointsError
    from workbench.evaluation.protocol import check_same_keypoints

    if subject.image:
        if subject.data is not None:
            raise ValueError("--data and --image exclude each other; name one")
        return _of_images(subject), [], loaded
    if subject.box is not None:
        raise ValueError("--box belongs to --image; samples of --data bring their boxes")
    notes = []
    if subject.data is None:
        notes.append(f"neither --data nor --image was given: run on the built-in photograph ({PHOTOGRAPH})")
    try:
        pose_set = open_data(subject.data or PHOTOGRAPH, subject.images, reading=subject.pictures.reading)
    except DifferentKeypointsError:
        if subject.sample or not isinstance(loaded.model, TakesSupport):
            raise
        return _episode(subject, loaded)
    chosen = list(subject.sample or _first(pose_set))
    samples = pose_set.samples(chosen)
    if subject.data is not None:
        check_same_keypoints(loaded.model.skeleton, pose_set.skeleton, pose_set.name)
        loaded = loaded.named_as(pose_set)
    elif loaded.model.skeleton.keypoints != pose_set.skeleton.keypoints:
        # The photograph is then only something to look at: its annotation speaks of other keypoints.
        samples = [Sample(s.image, s.box, key=s.key, path=s.path) for s in samples]
    return samples, notes, loaded


def _episode(subject: Subject, loaded: LoadedModel) -> tuple[list[Sample], list[str], LoadedModel]:
    """A query of a file whose categories have different keypoints (MP-100); the model with its support."""
    from workbench.data.coco import read_episodes

    episode = read_episodes(Path(str(subject.data)), 1, subject.images)[0]
    model: Any = loaded.model
    loaded = replace(loaded, model=model.supported_by(episode.support, episode.skeleton))
    shown = ", ".join(sample.key for sample in episode.support)
    notes = [f"an episode of category {episode.category}: the support is {shown}"]
    return [episode.query], notes, loaded


def _first(pose_set: PoseSet) -> tuple[int, ...]:
    if not pose_set.labelled:
        other = "; name one with --sample" if pose_set.instances else ""
        raise ValueError(f"{pose_set.name}: {pose_set.unscored_text()}{other}")
    return pose_set.labelled[:1]


def _of_images(subject: Subject) -> list[Sample]:
    from workbench.cli.pictures import pictures
    from workbench.data.boxes import box_from_text, box_in_image, whole_image
    from workbench.data.images import images_in

    if subject.sample:
        raise ValueError("--sample counts instances of --data; name images one by one instead")
    paths = [p for path in subject.image or () for p in (images_in(path) if path.is_dir() else (path,))]
    samples = []
    for i, picture in enumerate(pictures(paths, reading=subject.pictures.reading)):
        pixels, path = picture.image, picture.path
        chosen = None if subject.box is None else box_from_text(subject.box)
        box = whole_image(pixels) if chosen is None else box_in_image(chosen, pixels)
        samples.append(Sample(pixels, box, key=path.stem, image_id=i, path=str(path)))
    return samples
