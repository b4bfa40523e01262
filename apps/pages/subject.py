"""What is looked at: a run, an epoch, a sample of a data set or an image of one's own, a decoder.

Pages hold these as ids and numbers; here they become samples and a forward pass.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.pages.controls import checked, hints_of
from apps.server.context import Context
from apps.server.folders import Epoch, RunFolder
from workbench.core import DecodeOptions, Run, Sample, nearest
from workbench.core.geometry import checked_box
from workbench.core.inspector import Inspector

if TYPE_CHECKING:
    from apps.server.context import Context
    from workbench.data import PoseSet


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
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected a whole number, got {value!r}") from None


def sample_of(context: Context, subject: Subject) -> tuple[Sample, tuple[Any, ...]]:
    """The sample looked at, and what stands for it in a cache."""
    if subject.image is None:
        return context.registry.sets.sample(subject.data, subject.sample), (subject.data, subject.sample)
    from workbench.data.boxes import box_in_image, whole_image
    from workbench.data.images import read_image

    pixels = read_image(Path(subject.image))
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
    flip = inspector.flips(model)
    return context.registry.passed(
        subject.run, subject.epoch, [sample], key, record=inspector.record, options=options, flip=flip
    )


def neighbour(context: Context, data: str, sample: int, step: int) -> int:
    """The next sample that has an annotation, going round."""
    labelled = context.registry.sets.get(data).labelled
    if not labelled:
        return sample
    later = [i for i in labelled if (i > sample if step > 0 else i < sample)]
    if later:
        return later[0] if step > 0 else later[-1]
    return labelled[0] if step > 0 else labelled[-1]


def without_image(subject: Subject) -> Subject:
    """The same subject, its image of one's own put away."""
    return dataclasses.replace(subject, image=None, box=(None,) * 4)


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
        KeyError: the set has none of that name.
    """
    if re.fullmatch(r"\d+", name):
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
    if sample and data:
        sample = sample_named(context.registry.sets.get(data), sample)
    else:
        sample = None
    return [folder.id, index, data, sample, decoder]


def address_of(context: Context, subject: Subject, params: Any) -> str:
    """The state as JSON, name -> word; null leaves the name out. Knobs at their default are left out."""
    registry = context.registry
    told: dict[str, Any] = {
        "run": subject.run,
        "epoch": epoch_name(registry.epoch(subject.run, subject.epoch)),
        "data": subject.data,
        "sample": sample_name(registry.sets.get(subject.data), subject.sample) if subject.data else None,
        "decoder": subject.decoder or None,
        "epochs": None,
    }
    for field in dataclasses.fields(params):
        value = getattr(params, field.name)
        told[f"k.{field.name}"] = None if value == field.default or field.name == "instance" else value
    return json.dumps(told)


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
