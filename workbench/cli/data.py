"""workbench data: contents and problems of a keypoint data set; the built-in sets as folders of images.

`data lint` checks annotations and images; `data augment` draws what the training pipeline of a config makes
of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from workbench.cli.options import (
    Category,
    Demo,
    ImageOptions,
    Images,
    ModelOptions,
    Out,
    SkeletonName,
    argument,
    check_limit,
    opened,
    option,
)
from workbench.cli.output import REPORT_ENDINGS, Answer, check_file, check_room, in_job, written

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.probes.labels import LabelCheck

SUBVERBS: dict[str, str] = {
    "lint": "Check a data set, and name the annotations behind each finding.",
    "augment": "Draw what the training pipeline of a config feeds the network.",
}

DataName = Annotated[
    str | None,
    argument("A COCO-format keypoint json, or a built-in set; without it the built-in sets are listed."),
]
Folder = Annotated[Path | None, option("--out", "A new folder, for the set as images and one COCO json.")]
SetName = Annotated[str | None, argument("A COCO-format keypoint json, or a built-in set.")]
NoImages = Annotated[bool, option("--no-images", "Check the annotations alone.")]
Checkpoint = Annotated[
    Path | None,
    option("--model", "A checkpoint whose predictions show the keypoint order and exchanged sides."),
]
Limit = Annotated[
    int | None, option("--limit", "With --model: number of annotated images to predict; 60 by default.")
]
PREDICTED = 60
# Checks that a model's predictions answer.
BY_MODEL = ("keypoint order", "left/right swaps")


def command(
    name: DataName = None,
    images: Images = None,
    category: Category = None,
    skeleton: SkeletonName = None,
    *,
    pictures: ImageOptions,
    out: Folder = None,
    demo: Demo = False,
) -> Answer:
    """Count the contents of a data set and list its problems; without a name, list the built-in sets.

    `data lint NAME` checks every annotation and image, `data augment CONFIG` shows what training sees.
    """
    if name is None and not demo:
        return _listed()
    from workbench.data.facts import data_facts
    from workbench.data.opening import export

    if out is not None:
        check_room(out / "annotations.json")
    how = pictures.reading, skeleton
    pose_set = opened(name or "scenes-val", images, category, None, *how)
    report = data_facts(pose_set, images=True)
    facts: dict[str, Any] = dict(report.to_json())
    lines = [report.summary(), f"source: {report.source}", ""]
    width = max(map(len, report.keypoints))
    lines += [f"{'keypoint':{width}}  visible  hidden  unlabelled"]
    for row in report.table():
        widths = {"visible": 7, "hidden": 6, "unlabelled": 10}
        texts = {name: "-" if math.isnan(row[name]) else f"{row[name]:.1%}" for name in widths}
        shares = "  ".join(f"{texts[name]:>{room}}" for name, room in widths.items())
        lines.append(f"{row['keypoint']:{width}}  {shares}")
    if len(report.categories) > 1:
        lines += ["", "categories: " + ", ".join(f"{k} {n}" for k, n in report.categories.items())]
    lines += ["", *(f"finding: {finding}" for finding in report.findings)]
    if out is not None:
        facts["written"] = str(export(pose_set, out))
        lines.append(f"written: {facts['written']}")
    return Answer(facts, "\n".join(lines))


def subcommand(name: str) -> Callable[..., Answer]:
    """The function of one part of the verb."""
    return {"lint": lint, "augment": augment}[name]


def lint(
    name: SetName = None,
    images: Images = None,
    category: Category = None,
    no_images: NoImages = False,
    model: Checkpoint = None,
    *,
    options: ModelOptions,
    pictures: ImageOptions,
    limit: Limit = None,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Check annotations and images; name the annotations behind each finding."""
    if name is None and not demo:
        raise ValueError("data lint: expected a COCO-format json or a built-in set; or --demo")
    check_limit(limit)
    check_file(out, *REPORT_ENDINGS)
    from workbench.data.set_lint import WITH_MODEL
    from workbench.data.set_lint import lint as lint_set

    how = pictures.reading, options.skeleton
    pose_set = opened(name or "scenes-val", images, category, None, *how)
    if not pose_set.images:
        raise ValueError(f"{pose_set.name}: expected images, the file lists none")
    by_model = (
        None if model is None else _by_model(pose_set, model, options, PREDICTED if limit is None else limit)
    )
    beside = {} if by_model is None else {
        "beside": by_model.findings, "checked": () if by_model.not_checked else BY_MODEL,
        "not_checked": by_model.not_checked,
    }  # fmt: skip
    how_to = f"{WITH_MODEL}: name a checkpoint with --model"
    report = lint_set(pose_set, images=not no_images, with_model=how_to, **beside)
    facts: dict[str, Any] = {"source": pose_set.source, **report.to_json()}
    return written(Answer(facts, report.text()), out, report)


Config = Annotated[
    Path | None, argument("A config (mmpose 1.x), or a checkpoint that holds one; it is read and not run.")
]
Data = Annotated[
    str | None, option("--data", "The images and annotations: a COCO-format json or a built-in set.")
]
Samples = Annotated[int, option("--samples", "Instances to draw, the first labelled ones.")]
Draws = Annotated[int, option("--draws", "Draws of each instance.")]
Seed = Annotated[int, option("--seed", "Random seed of the draws.")]
Pictures = Annotated[
    Path | None, option("--out", "The picture (.png or .jpg), the figure (.html) or the facts (.json).")
]


def augment(
    config: Config = None,
    data: Data = None,
    images: Images = None,
    category: Category = None,
    skeleton: SkeletonName = None,
    *,
    pictures: ImageOptions,
    samples: Samples = 4,
    draws: Draws = 6,
    seed: Seed = 0,
    out: Pictures = None,
    demo: Demo = False,
) -> Answer:
    """Draw what the training pipeline of a config feeds the network, with keypoints."""
    if demo:
        from workbench.checkpoints.demo import demo_config, demo_data

        config, data = demo_config(), data or demo_data()
    if config is None or data is None:
        raise ValueError(
            "data augment: expected a config and --data with a json or a built-in set; or --demo"
        )
    if samples < 1:
        raise ValueError(f"--samples: expected at least 1, got {samples}")
    check_file(out, ".png", ".jpg", *REPORT_ENDINGS)
    from workbench.data.pose_set import check_images
    from workbench.recipes.reading import read
    from workbench.training.augmentation_view import contact_sheet, training_views

    values = read(config).values
    pose_set = opened(data, images, category, reading=pictures.reading, skeleton=skeleton)
    chosen = list(pose_set.labelled)[:samples]
    if not chosen:
        raise ValueError(f"{pose_set.name}: data augment needs labelled instances with boxes, there are none")
    check_images(pose_set, {pose_set.instances[i].image_id for i in chosen})
    report = training_views(
        values, pose_set.samples(chosen), pose_set.skeleton, draws=draws, seed=seed, title=config.name
    )
    facts: dict[str, Any] = {"data": pose_set.name, **report.to_json(), "table": report.table()}
    answer = Answer(facts, report.text())
    if out is None or out.suffix.lower() not in (".png", ".jpg"):
        return written(answer, out, report)
    from workbench.data.images import write_image

    write_image(out, contact_sheet(report.views, report.skeleton, draws))
    return written(answer, out)


def _by_model(pose_set: PoseSet, file: Path, options: ModelOptions, limit: int) -> LabelCheck:
    """What a model's predictions say about the labels."""
    from workbench.data.pose_set import check_images
    from workbench.evaluation.probes.labels import check_labels

    loaded = options.open(file)
    chosen = pose_set.first_images(limit)
    check_images(pose_set, chosen)
    indices = [i for image in chosen for i in pose_set.labelled_of_image[image]]
    return in_job(
        f"predicting with {loaded.title}",
        lambda job: check_labels(loaded.model, pose_set.samples(indices), progress=job.advance),
    )


def _listed() -> Answer:
    from workbench.data import DESCRIPTIONS

    width = max(map(len, DESCRIPTIONS))
    text = "\n".join(f"{name:{width}}  {line}" for name, line in DESCRIPTIONS.items())
    return Answer({"builtin": dict(DESCRIPTIONS)}, text)
