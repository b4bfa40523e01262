"""workbench group: people in an image by a bottom-up model, with the reason for every assignment."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.cli.options import (
    Demo,
    Files,
    Flip,
    Image,
    ImageOptions,
    ModelOptions,
    Rule,
    model_files,
    option,
)
from workbench.cli.output import Answer, check_file, written
from workbench.core import FLIP_BY_DEFAULT, Sample

if TYPE_CHECKING:
    from workbench.core.capabilities import GroupingModel
    from workbench.data.images import ImageReading
    from workbench.models.bottom_up import Maps, People

DEMO = "higherhrnet-demo"

Drawn = Annotated[Path | None, option("--out", "Draw the people into an image (.png, .jpg ...).")]


def command(
    files: Files = None,
    image: Image = None,
    *,
    model: ModelOptions,
    rule: Rule = None,
    flip: Flip = FLIP_BY_DEFAULT,
    pictures: ImageOptions,
    out: Drawn = None,
    demo: Demo = False,
) -> Answer:
    """Group the keypoints of one or several images into people, with every step of the assignment.

    Examples: `workbench group w32.pth --image street.jpg`, `... --rule tag_threshold=0.5 --rule refine=off`.
    """
    from workbench.cli.ablate import require_groups
    from workbench.data.images import IMAGE_ENDINGS
    from workbench.evaluation import protocol_of

    file = model_files(files)
    if demo:
        from workbench.checkpoints.demo import demo_checkpoints

        file = demo_checkpoints(DEMO)[-1]
    model.require("group", file)
    check_file(out, *IMAGE_ENDINGS)
    loaded = model.open(file, rule)
    network = require_groups(loaded.model, "group")
    rules = protocol_of(network, flip=flip)
    samples = _samples(image, pictures.reading, demo)
    facts: dict[str, Any] = {
        "model": loaded.title,
        "keypoints": network.skeleton.keypoints,
        "rules": rules.grouping,
        "maps": rules.scales,
        "flip": flip,
        "instances": [],
        "trace": [],
        "notes": [loaded.note] if loaded.note else [],
    }
    lines = [f"{loaded.title}: {rules.flip_text}; {rules.scales}; {rules.grouping}"]
    grouped = _grouped(network, samples, flip, facts, lines)
    if out is not None:
        _draw(out, grouped, network.skeleton)
    return written(Answer(facts, "\n".join(lines)), out)


def _grouped(
    model: GroupingModel, samples: list[Sample], flip: bool, facts: dict[str, Any], lines: list[str]
) -> list[tuple[Sample, People]]:
    """The people of each image; their facts and lines of text are added to the answer."""
    from workbench.decoding.grouping import group
    from workbench.decoding.grouping.left_right import pairs_of
    from workbench.evaluation.predict import passes_over
    from workbench.models.bottom_up import People

    grouped = []
    for sample in samples:
        batch, outputs = passes_over(model, sample, flip)
        maps = model.maps(outputs, batch, 0)
        names = model.skeleton.keypoints
        found = group(maps.heatmaps, maps.tags, model.grouping, trace=True, names=names)
        people = People.of(found, maps.to_image)
        grouped.append((sample, people))
        facts["instances"] += _instances(sample, people)
        steps = _trace(sample, people, maps, model.skeleton.keypoints)
        facts["trace"] += steps
        if people.grouping.note:
            facts["notes"].append(f"{sample.key}: {people.grouping.note}")
        lines += ["", *_described(sample, people, steps)]
    pairs = pairs_of([people.keypoints for _, people in grouped], _truths(samples), model.skeleton.mirror)
    facts["pairs"] = pairs.facts()
    if pairs.collapsed:
        lines += ["", pairs.text()]
        facts["notes"].append(pairs.text())
    return grouped


def _samples(image: list[Path] | None, stated: ImageReading, demo: bool) -> list[Sample]:
    from workbench.data.boxes import whole_image

    if image:
        from workbench.cli.pictures import files_of, pictures

        return [
            Sample(p.image, whole_image(p.image), key=p.path.name, path=str(p.path))
            for p in pictures(files_of(image), reading=stated)
        ]
    if not demo:
        raise ValueError("group: expected at least one --image (an image, a folder or a video); or --demo")
    from workbench.checkpoints.demo import demo_data
    from workbench.data import builtin

    scenes = builtin(demo_data(DEMO))
    image_id = max(scenes.images, key=lambda i: sum(one.image_id == i for one in scenes.instances))
    pixels = scenes.image(image_id)
    key, whole = scenes.images[image_id].path.name, whole_image(pixels)
    first, *others = (
        Sample(pixels, whole, truth=scenes.instances[i].truth, key=key, image_id=image_id)
        for i in scenes.labelled_of_image[image_id]
    )
    return [dataclasses.replace(first, others=tuple(others))]


def _truths(samples: list[Sample]) -> list[np.ndarray] | None:
    """All people annotated in each image; None if an image has no annotation."""
    truths = [[one.truth for one in (s, *s.others) if one.truth is not None] for s in samples]
    return [np.stack([np.asarray(t, float) for t in image]) for image in truths] if all(truths) else None


def _instances(sample: Sample, people: People) -> list[dict[str, Any]]:
    return [
        {
            "image": sample.key,
            "person": p,
            "score": float(people.score[p]),
            "box": people.boxes[p],
            "keypoints": people.keypoints[p],
            "scores": people.scores[p],
            "filled": people.grouping.filled[p],
        }
        for p in range(len(people))
    ]


def _trace(sample: Sample, people: People, maps: Maps, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Every detection in the order of assignment, with its distances and the reason."""
    from workbench.core.geometry import apply

    rows = []
    for step in people.grouping.steps:
        positions = apply(maps.to_image, step.points.astype(float) + 0.5)
        pairs = zip(step.people, step.outcomes, strict=True)
        joined = {person for person, outcome in pairs if outcome == "joined"}
        for m, (person, outcome) in enumerate(zip(step.people, step.outcomes, strict=True)):
            distances = step.distances[m]
            rows.append(
                {
                    "image": sample.key,
                    "keypoint": names[step.joint],
                    "at": positions[m],
                    "value": float(step.values[m]),
                    "tag": step.tags[m],
                    "outcome": outcome,
                    "person": person,
                    "distances": distances,
                    "cost": float(step.costs[m, step.columns[m]]) if len(step.columns) else None,
                    "why": why(outcome, person, distances, joined),
                }
            )
    return rows


def why(outcome: str, person: int | None, distances: Any, joined: Collection[int | None]) -> str:
    """The reason for the outcome of a detection, one clause.

    Args:
        outcome: of the assignment.
        person: that the detection became part of; None where it was dropped.
        distances: tag distance to every person of before, in order.
        joined: people that a detection of this keypoint joined.
    """
    nearest = ""
    if len(distances):
        closest = int(distances.argmin())
        nearest = f"closest is person {closest} at tag distance {distances.min():.2f}"
        # Of several detections one alone can be a person's keypoint, however near the others' tags are.
        nearest += ", whom another detection joined" if closest in joined else ""
    if outcome == "joined":
        return f"joined person {person}: tag distance {distances[person]:.2f}"
    if outcome == "dropped":
        return "dropped: the limit of people is reached"
    if outcome == "overwrote":
        return f"replaced the keypoint of person {person}: its tag equals that person's first tag"
    return f"started person {person}: {nearest or 'no person from an earlier keypoint'}"


def _described(sample: Sample, people: People, steps: list[dict[str, Any]]) -> list[str]:
    lines = [f"{sample.key}: {len(people)} {'person' if len(people) == 1 else 'people'}"]
    if people.grouping.note:
        lines.append(f"  {people.grouping.note}")
    for p in range(len(people)):
        found = int((people.scores[p] > 0).sum() - people.grouping.filled[p].sum())
        box = ", ".join(f"{v:.0f}" for v in people.boxes[p])
        filled = int(people.grouping.filled[p].sum())
        counts = f"keypoints: {found} detected, {filled} filled in"
        lines.append(f"  person {p}  score {people.score[p]:.2f}  box {box}  {counts}")
    for row in steps:
        x, y = row["at"]
        lines.append(f"  {row['keypoint']:16} ({x:5.0f}, {y:5.0f})  {row['value']:.2f}  {row['why']}")
    return lines


def _draw(out: Path, pictures: list[tuple[Sample, People]], skeleton: Any) -> None:
    from workbench.cli.pictures import drawn
    from workbench.data.images import write_image

    if len(pictures) > 1:
        raise ValueError("--out: only one picture is written; name one --image")
    sample, people = pictures[0]
    write_image(out, drawn(sample.image, list(people.predictions()), skeleton, 0.0))
