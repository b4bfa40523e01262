"""Which of the served runs can answer a page's question, for its first visit and for its refusal."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from apps.pages.controls import checked, hints_of
from apps.pages.frame import sentence_html
from apps.pages.sections import sample_stepper
from apps.server.context import Context
from apps.server.folders import Epoch, Refused, RunFolder
from workbench.checkpoints.checkpoint_files import CHECKPOINT_ENDINGS
from workbench.cli import MISTAKES, sentence
from workbench.core import DecodeOptions, Run, Sample, nearest
from workbench.core.geometry import checked_box
from workbench.core.inspector import Inspector

if TYPE_CHECKING:
    import numpy as np

    from apps.server.context import Context
    from apps.server.folders import RunFolder
    from workbench.core.inspector import Inspector
    from workbench.data import PoseSet
    from workbench.data.images import ImageReading


TAGS, SEQUENCE, TEXT = "Groups", "RollsOut", "Conditioned"
"""Capabilities (workbench.core) of models that have tags, are sequence models, or read text."""


def runs_of(context: Context, capability: str) -> list[RunFolder]:
    """The served runs whose models have a capability, in the order of the list.

    Empty with an adapter: it opens every file, and what a file looks like says nothing then.

    Args:
        context: of the server.
        capability: its name.
    """
    return _runs(context, lambda capabilities: capability in capabilities)


def able_runs(context: Context, inspector: Inspector) -> list[RunFolder]:
    """The served runs that an inspector of one kind of model can be asked about; empty where it takes any."""
    needs = inspector.needs
    if needs.capabilities:
        return _runs(context, needs.met_by_names)
    if not needs.outputs or context.settings.adapter is not None:
        return []
    registry = context.registry
    return [run for run in registry.runs() if registry.maps(run) in needs.outputs]


def first_able(context: Context, inspector: Inspector) -> str:
    """Id of the run on which an inspector's first visit opens; "" for the default run."""
    able = able_runs(context, inspector)
    if inspector.needs.capabilities or not able:
        return able[0].id if able else ""
    default = context.registry.default_run()
    # While the default run is still being read it may be able as well.
    return able[0].id if default not in able and context.registry.maps(default) else ""


def _runs(context: Context, able: Callable[[Collection[str]], bool]) -> list[RunFolder]:
    if context.settings.adapter is not None:
        return []
    registry = context.registry
    return [run for run in registry.runs() if able(registry.capabilities(run))]


# What is looked at: a run, an epoch, a sample of a data set or an image of one's own, a decoder.


Corners = tuple["float | None", "float | None", "float | None", "float | None"]
NO_BOX: Corners = (None, None, None, None)


@dataclass(frozen=True)
class Subject:
    """The bar's values, as the browser holds them."""

    run: str
    epoch: int
    data: str
    sample: int
    decoder: str = ""
    image: str | None = None
    box: Corners = NO_BOX

    @property
    def of_set(self) -> str:
        """The data set that is looked at; "" for an image of the user's."""
        return self.data if self.image is None else ""

    @property
    def own_box(self) -> tuple[float, float, float, float] | None:
        """The box drawn or entered; None while a side is missing."""
        if any(v is None for v in self.box):
            return None
        return checked_box(tuple(float(v) for v in self.box))  # type: ignore[arg-type]


def subject_of(context: Context, *values: Any) -> Subject:
    """The subject of widget values; what is missing takes its default.

    Raises:
        KeyError: no such run, epoch or data set.
        NotAvailable: no run is served.
    """
    run, epoch, data, sample, decoder, image, *box = values
    folder = context.registry.run(run) if run else context.registry.default_run()
    index = _whole(epoch, "epoch") if epoch not in (None, "") else folder.epochs[-1].index
    context.registry.epoch(folder.id, index)
    if not data:
        data = context.registry.default_data(folder.id, index)
    if sample in (None, ""):
        sample = context.registry.default_sample(folder.id, index, data) if data else 0
    return Subject(folder.id, index, data, _whole(sample, "sample"), decoder or "", image or None, tuple(box))  # type: ignore[arg-type]


def _whole(value: Any, name: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name}: expected a whole number, got {value!r}") from None


def sample_of(context: Context, subject: Subject) -> tuple[Sample, tuple[Any, ...]]:
    """The sample looked at, and what stands for it in a cache."""
    if subject.image is None:
        sets = context.registry.sets
        key = sets.sample_key(subject.data, subject.sample)
        return sets.sample(subject.data, subject.sample), key
    from workbench.data.boxes import box_in_image, whole_image

    pixels = context.settings.reading.pixels(subject.image)
    box = box_in_image(subject.own_box or whole_image(pixels), pixels)
    return Sample(pixels, box, key=Path(subject.image).name, path=subject.image), (subject.image, box)


def run_of(context: Context, subject: Subject, inspector: Inspector) -> Run:
    """The forward pass that an inspector reads; kept, so that another knob costs none.

    Raises:
        ValueError: the set's annotations are not of the model's keypoints, or not in its order.
    """
    from workbench.evaluation.protocol import check_same_keypoints

    model = context.registry.model(subject.run, subject.epoch).model
    if subject.image is None:
        check_same_keypoints(model.skeleton, context.registry.sets.skeleton(subject.data), subject.data)
    sample, key = sample_of(context, subject)
    options = DecodeOptions(decoder=subject.decoder)
    # Named as the set, as for the verb: pairs that the set alone states are exchanged in the flip test.
    flip = inspector.flips(context.registry.model(subject.run, subject.epoch, subject.of_set).model)
    return context.registry.passed(
        subject.run, subject.epoch, [sample], key,
        record=inspector.record, options=options, flip=flip, data=subject.of_set,
    )  # fmt: skip


def neighbour(context: Context, data: str, sample: int, step: int) -> int:
    """The next sample that has an annotation, going round."""
    labelled = context.registry.sets.get(data).labelled
    if not labelled:
        return sample
    later = [i for i in labelled if (i > sample if step > 0 else i < sample)]
    if later:
        return later[0] if step > 0 else later[-1]
    return labelled[0] if step > 0 else labelled[-1]


# A page's state in its address: epochs by number, samples by name, so that links outlive new checkpoints.


SUBJECT = ("run", "epoch", "data", "sample", "decoder", "epochs")
"""Names read from the address; ``epochs`` is the Compare page's list, whose last is the one to look at."""


def epoch_name(epoch: Epoch) -> str:
    """How an epoch is called in a link: by its number, else by its place."""
    return f"i{epoch.index}" if epoch.epoch is None else str(epoch.epoch)


def epoch_named(run: RunFolder, name: str) -> int:
    """Index of the epoch that a link names.

    Raises:
        KeyError: the run has none of that name.
    """
    for epoch in run.epochs:
        if name in (epoch_name(epoch), f"i{epoch.index}"):
            return epoch.index
    known = [epoch_name(epoch) for epoch in run.epochs]
    raise KeyError(f"{run.title} has no epoch {name!r}; nearest: {nearest(name, known)}")


def sample_name(pose_set: PoseSet, index: int) -> str:
    """How a sample is called in a link: image and annotation, as Sample.key has it."""
    instance = pose_set.instances[index]
    return f"{pose_set.images[instance.image_id].path.stem}/{instance.annotation_id}"


def sample_named(pose_set: PoseSet, name: str) -> int:
    """Index of the sample that a link names; a whole number is the index itself.

    Raises:
        KeyError: the set has none of that name or number.
    """
    if re.fullmatch(r"\d{1,15}", name):
        if int(name) >= len(pose_set):
            raise KeyError(f"sample: {pose_set.name} has {len(pose_set)}, counted from 0; got {name}")
        return int(name)
    stem, _, number = name.rpartition("/")
    for index, instance in enumerate(pose_set.instances):
        if str(instance.annotation_id) == number and pose_set.images[instance.image_id].path.stem == stem:
            return index
    raise KeyError(f"{pose_set.name} has no sample {name!r}")


def subject_values(context: Context, query: list[Any]) -> list[Any]:
    """Values for `subject_of` (run, epoch index, data, sample index, decoder) from the address's words."""
    run, epoch, data, sample, decoder, epochs = query
    epoch = epoch or (epochs or "").rpartition(",")[2]
    folder = context.registry.run(run) if run else context.registry.default_run()
    index = epoch_named(folder, epoch) if epoch else None
    if sample and not data:  # of the set that the page would open
        last = folder.epochs[-1].index
        data = context.registry.default_data(folder.id, last if index is None else index)
    if sample and data:
        sample = sample_named(context.registry.sets.get(data), sample)
    else:
        sample = None
    return [folder.id, index, data, sample, decoder]


def address_of(context: Context, subject: Subject, params: Any) -> str:
    """The state as JSON, name -> word; null leaves the name out. Knobs at their default are left out."""
    registry = context.registry
    words: dict[str, Any] = {
        "run": subject.run,
        "epoch": epoch_name(registry.epoch(subject.run, subject.epoch)),
        "data": subject.data,
        "sample": sample_name(registry.sets.get(subject.data), subject.sample) if subject.data else None,
        "decoder": subject.decoder or None,
        "epochs": None,
    }
    for field in dataclasses.fields(params):
        value = getattr(params, field.name)
        words[f"k.{field.name}"] = None if value == field.default or field.name == "instance" else value
    return json.dumps(words)


def knob_values(params: type, words: list[Any]) -> dict[str, Any]:
    """Field name -> value for the knobs that the address names.

    Raises:
        ValueError: a word does not fit its knob.
    """
    hints = hints_of(params)
    return {
        field.name: checked(field.name, hints[field.name], word)
        for field, word in zip(dataclasses.fields(params), words, strict=True)
        if word is not None
    }


# The bar that chooses what is looked at; the same on all inspectors' pages, its state in their address.


OWN = "the model's own"


@dataclass(frozen=True)
class SubjectBar:
    """The bar's widgets."""

    run: gr.Dropdown
    epoch: gr.Dropdown
    data: gr.Dropdown
    sample: gr.Number
    decoder: gr.Dropdown
    image: gr.Image
    box: tuple[gr.Number, gr.Number, gr.Number, gr.Number]
    back: gr.Button
    forth: gr.Button
    drawn: gr.Image
    clear: gr.Button

    @property
    def inputs(self) -> list[Component]:
        """The widgets in the order of `subject_of`."""
        return [self.run, self.epoch, self.data, self.sample, self.decoder, self.image, *self.box]

    @property
    def asking(self) -> list[Component]:
        """Those whose change alone is a new question; run and data change others of the bar first."""
        return [self.epoch, self.decoder, self.sample, *self.box]

    @property
    def linked(self) -> list[Component]:
        """Those whose values stand in the address."""
        return [self.run, self.epoch, self.data, self.sample, self.decoder]


def subject_bar(context: Context) -> SubjectBar:
    """Add the bar to a page."""
    runs = [(r.title, r.id) for r in context.registry.runs()]
    with gr.Row(elem_classes="wb-bar"):
        run = gr.Dropdown(runs, value=None, label="run", allow_custom_value=True, min_width=150, scale=2)
        epoch = gr.Dropdown([], value=None, label="epoch", allow_custom_value=True, min_width=135)
        data = gr.Dropdown([], value=None, label="data", allow_custom_value=True, min_width=150, scale=2)
        back, sample, forth = sample_stepper("wb")
        decoder = gr.Dropdown([(OWN, "")], value="", label="decoder", allow_custom_value=True, min_width=180)
    with gr.Accordion("An image of your own", open=False), gr.Row(elem_classes="wb-own"):
        image = gr.Image(
            type="filepath", image_mode=None, show_label=False, sources=["upload", "clipboard"], height=240,
            buttons=[],
        )  # fmt: skip
        drawn = gr.Image(
            elem_id="wb-drawn", show_label=False, interactive=False, height=240, buttons=[], visible=False
        )
        with gr.Column(min_width=230):
            gr.Markdown(
                "Draw the box around one person or animal: click two opposite corners in the second picture, "
                "or enter image pixels. Empty: the whole image."
            )
            corners = []
            for pair in (("x0", "y0"), ("x1", "y1")):
                with gr.Row():
                    corners += [gr.Number(None, label=f"{name}, px", min_width=90) for name in pair]
            box = tuple(corners)
            clear = gr.Button("Back to the data set", size="sm")
    return SubjectBar(run, epoch, data, sample, decoder, image, box, back, forth, drawn, clear)  # type: ignore[arg-type]


def offered(context: Context, subject: Subject) -> list[Any]:
    """Updates for the linked widgets: what can be chosen, and what is."""
    registry = context.registry
    folder = registry.run(subject.run)
    try:
        decoders = registry.decoders(subject.run, subject.epoch)
        sets = registry.sets.fitting(registry.skeleton(subject.run, subject.epoch))
    except MISTAKES as mistake:
        # The page still stands: run and epoch can be changed, and the reason is said.
        gr.Warning(sentence(mistake))
        decoders, sets = [], []
    count = len(registry.sets.get(subject.data)) if subject.data else 0
    return [
        gr.update(choices=[(r.title, r.id) for r in registry.runs()], value=folder.id),
        gr.update(choices=[(e.label, e.index) for e in folder.epochs], value=subject.epoch),
        gr.update(choices=sets, value=subject.data),
        gr.update(value=subject.sample, maximum=max(0, count - 1), label=f"sample of {count}"),
        gr.update(choices=[(OWN, ""), *[(d, d) for d in decoders]], value=subject.decoder),
    ]


# A box around one person or animal in an image of one's own: as numbers, or by clicking two corners.


def next_corners(box: Corners, x: float, y: float) -> Corners:
    """The box after a click: the first sets a corner, the second the opposite one, a third begins anew."""
    x0, y0, x1, _ = box
    if x0 is None or y0 is None or x1 is not None:
        return x, y, None, None
    return min(x0, x), min(y0, y), max(x0, x), max(y0, y)


def say_notes(path: str, reading: ImageReading) -> None:
    """Show what is to be said about how an image was read."""
    from workbench.data.images import read_image_with_notes

    notes = read_image_with_notes(Path(path), not reading.as_stored, reading.bits)[1]
    for note in (*notes, *reading.notes()):
        gr.Info(note)  # escaped where it is sent to a page, as every toast


def drawn_place(value: float) -> int:
    """A coordinate as OpenCV draws it; one far outside stays outside, and within what OpenCV takes."""
    return round(min(max(value, -1e4), 1e4))


def with_box(path: Path, box: Corners, reading: ImageReading) -> tuple[np.ndarray, float]:
    """The image, no larger than it is shown, with the box, or its first corner, drawn on it.

    Args:
        path: the file.
        box: in its pixels.
        reading: what is stated about it.

    Returns:
        RGB, and shown pixels per pixel of the file: encoding a photo of 75 million pixels takes a minute.

    Raises:
        ValueError: the file is no image.
    """
    import cv2

    from apps.server.encoding import shown_pixels

    pixels, scale = shown_pixels(reading.pixels(path))
    thick = max(2, round(max(pixels.shape[:2]) / 300))
    x0, y0, x1, y1 = (None if side is None else drawn_place(side * scale) for side in box)
    if x0 is None or y0 is None:
        return pixels, scale
    if x1 is None or y1 is None:
        cv2.drawMarker(pixels, (x0, y0), (229, 72, 77), cv2.MARKER_CROSS, thick * 8, thick)
    else:
        cv2.rectangle(pixels, (x0, y0), (x1, y1), (229, 72, 77), thick)
    return pixels, scale


def box_events(context: Context, bar: SubjectBar, name: str) -> list[Any]:
    """Handlers of the bar's own image; those returned change what is looked at."""
    reading = context.settings.reading

    def shown(path: str | None) -> list[Any]:
        if not path:
            return [gr.update(value=None, visible=False), *NO_BOX]
        try:
            say_notes(path, reading)
            return [gr.update(value=with_box(Path(path), NO_BOX, reading)[0], visible=True), *NO_BOX]
        except MISTAKES as mistake:
            raise gr.Error(sentence(mistake), duration=None, print_exception=False) from mistake

    def clicked(event: gr.SelectData, path: str | None, *box: float | None) -> list[Any]:
        if not path:
            raise gr.Error("give an image first", print_exception=False)
        x0, y0, x1, y1 = box
        corners = next_corners((x0, y0, x1, y1), *clicked_place(event, Path(path), reading))
        return [gr.update(value=with_box(Path(path), corners, reading)[0], visible=True), *corners]

    def cleared() -> list[Any]:
        return [None, gr.update(value=None, visible=False), *NO_BOX]

    drawn = [bar.drawn, *bar.box]
    return [
        bar.image.upload(shown, bar.image, drawn, api_name=f"{name}_image", show_progress="hidden"),
        bar.drawn.select(
            clicked, [bar.image, *bar.box], drawn, api_name=f"{name}_corner", show_progress="hidden"
        ),
        gr.on(
            [bar.clear.click, bar.image.clear], cleared, None, [bar.image, *drawn],
            api_name=f"{name}_no_image", show_progress="hidden",
        ),
    ]  # fmt: skip


# Files offered in the list; a path can be typed for others below the root.
OFFERED = 2000


def files(context: Context) -> list[tuple[str, str]]:
    """(title, id) of every checkpoint of every run."""
    served = context.registry.served
    return [
        (f"{run.title} / {epoch.path.name}", served.identity(epoch.path))
        for run in context.registry.runs()
        for epoch in run.epochs
    ][:OFFERED]


def clicked_place(event: gr.SelectData, path: Path, reading: ImageReading) -> tuple[float, float]:
    """(x, y) of a click in the picture of `with_box`, in pixels of its file, to a tenth.

    Raises:
        ValueError: a request without a click, which no page sends, or the file is no image.
    """
    from apps.server.encoding import shown_scale

    height, width = reading.size(path)
    scale = shown_scale(width, height)
    try:
        # Centres of pixels lie at whole numbers, in both pictures.
        x, y = (round((float(v) + 0.5) / scale - 0.5, 1) for v in event.index)  # type: ignore[union-attr]
    except (AttributeError, TypeError):
        raise ValueError("expected a click in the picture") from None
    return x, y


def file_of(context: Context, identity: str) -> Path:
    """The checkpoint file of an id.

    Raises:
        Refused: it lies outside the served folders.
        FileNotFoundError: there is nothing.
        ValueError: it is a folder, or its ending is no checkpoint's.
    """
    path = context.registry.served.path(identity.strip())
    if path.is_dir():
        raise ValueError(f"{identity} is a folder; choose a file in it")
    if path.suffix.lower() not in CHECKPOINT_ENDINGS:
        raise ValueError(f"{path.name}: expected a checkpoint ({', '.join(CHECKPOINT_ENDINGS)})")
    return path


def reason(mistake: BaseException) -> str:
    """Why there is no answer, as the sentence on the page."""
    kind = "error" if isinstance(mistake, Refused) else "why"
    return sentence_html(sentence(mistake), kind)
