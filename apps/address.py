"""A page's state in its address: epochs by number, samples by name, so that links outlive new checkpoints.

All pages write the same names (run, epoch, data, sample, decoder), so the rail can carry them along.
"""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING, Any

from apps.pages.controls import checked, hints_of
from apps.server.folders import Epoch, RunFolder
from workbench.core import nearest

if TYPE_CHECKING:
    from apps.pages.subject import Subject
    from apps.server.context import Context
    from workbench.data import PoseSet

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
