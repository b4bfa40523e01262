"""workbench predict: keypoints on images, folders and videos."""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.cli import options
from workbench.cli.options import (
    Category,
    Data,
    Demo,
    Files,
    Image,
    ImageOptions,
    Images,
    ModelOptions,
    ReadingOptions,
    Rule,
    loading_note,
    model_files,
    opened,
    option,
)
from workbench.cli.output import Answer, check_file
from workbench.core.files import write_text
from workbench.core.report import counted

if TYPE_CHECKING:
    from workbench.cli.pictures import Boxes, Picture
    from workbench.core import Skeleton
    from workbench.core.geometry import Box
    from workbench.data import PoseSet
    from workbench.data.images import ImageReading
    from workbench.models import LoadedModel

DetectedBoxes = Annotated[
    Path | None, option("--boxes", "A COCO detection json; its image_id is the number in an image's name.")
]
SupportKey = Annotated[
    str | None,
    option(
        "--support",
        "Category-agnostic model: key of the example that shows the keypoints, image/annotation, in the data "
        "set of --data.",
    ),
]
BoxScore = Annotated[float, option("--box-score", "Minimum score of a detected box.")]
Every = Annotated[int, option("--every", "Videos: use every n-th frame.", min=1)]
Threshold = Annotated[float, option("--threshold", "Draw keypoints with at least this score.")]
Drawn = Annotated[
    Path | None,
    option(
        "--out", "Draw into an image, a video or a folder (several files); or write the keypoints (.json)."
    ),
]


def command(
    files: Files = None,
    image: Image = None,
    box: options.Box = None,
    boxes: DetectedBoxes = None,
    detector: options.Detector = None,
    box_score: BoxScore = 0.3,
    *,
    model: ModelOptions,
    reading: ReadingOptions,
    pictures: ImageOptions,
    every: Every = 1,
    threshold: Threshold = 0.2,
    rule: Rule = None,
    support: SupportKey = None,
    data: Data = None,
    images: Images = None,
    category: Category = None,
    out: Drawn = None,
    demo: Demo = False,
) -> Answer:
    """Find keypoints in images, folders of images and videos.

    Examples: `workbench predict epoch_20.pth --image horse.jpg --box 10,20,300,280 --out horse.png`,
    `workbench predict epoch_20.pth --image ride.mp4 --detector rtmdet.onnx --out ride_pose.mp4`.
    With --support, --data, --images and --category say where the example lies; to predict a data set, use
    `workbench evaluate`.
    """
    from workbench.evaluation.predict import finds_people

    stated = pictures.reading
    _check_support(support, data, images, category)
    file = model_files(files)
    named = any(source is not None for source in (box, boxes, detector))
    if demo:
        loaded, image, boxes_of, note = _demo(model, rule, image)
        loaded = _supported(loaded, support, data, images, category, stated)
        if named:
            boxes_of, note = _boxes(box, boxes, detector, box_score, loaded.model.skeleton)
        return _answer(loaded, image, boxes_of, note, reading, every, stated, threshold, out)
    if file is None and model.adapter is None:
        raise ValueError("predict: expected a checkpoint, --adapter, or --demo")
    loaded = model.open(file, rule)
    if not image:
        raise ValueError("predict: expected at least one --image (an image, a folder or a video)")
    if finds_people(loaded.model) and named:
        raise ValueError("a bottom-up model finds people by itself: leave --box, --boxes and --detector out")
    boxes_of, note = _boxes(box, boxes, detector, box_score, loaded.model.skeleton)
    if finds_people(loaded.model):
        note = "none, the model finds people by itself"
    loaded = _supported(loaded, support, data, images, category, stated)
    return _answer(loaded, image, boxes_of, note, reading, every, stated, threshold, out)


def _check_support(support: str | None, data: str | None, images: Path | None, category: str | None) -> None:
    """Raise ValueError where an example and its data set are not named together."""
    if support is not None and data is None:
        raise ValueError("--support: expected --data with the data set that holds the example")
    given = {"--data": data, "--images": images, "--category": category}
    named = next((name for name, value in given.items() if value is not None), None)
    if named is not None and support is None:
        raise ValueError(
            f"predict: {named} belongs to --support, which names an example in a data set; to predict a data "
            "set use workbench evaluate --data ... --out FILE"
        )


def _supported(
    loaded: LoadedModel,
    support: str | None,
    data: str | None,
    images: Path | None,
    category: str | None,
    stated: ImageReading,
) -> LoadedModel:
    """The model with the example that was named.

    Raises:
        ValueError: the model takes none, or the set has no such instance.
    """
    from workbench.cli.rollout import NO_SUPPORT, with_support
    from workbench.core.capabilities import TakesSupport

    if support is not None and data is not None:
        if not isinstance(loaded.model, TakesSupport):  # said before a data set is opened
            raise ValueError(NO_SUPPORT)
        return with_support(loaded, opened(data, images, category, reading=stated), support)
    return loaded


def _boxes(
    box: str | None, boxes: Path | None, detector: Path | None, least: float, skeleton: Skeleton
) -> tuple[Boxes, str]:
    """Where boxes come from, and what to call that."""
    from workbench.cli.pictures import whole

    if sum(source is not None for source in (box, boxes, detector)) > 1:
        raise ValueError("--box, --boxes and --detector exclude each other; name one")
    if box is not None:
        from workbench.data.boxes import box_from_text, box_in_image

        chosen = box_from_text(box)
        return lambda picture: [(box_in_image(chosen, picture.image), 1.0)], "drawn"
    if detector is not None:
        from workbench.data.detectors import labels_for, open_detector

        found = open_detector(detector, labels_for(skeleton), least)
        return lambda picture: found(picture.image), found.title
    if boxes is not None:
        return boxes_by_number(boxes, least), f"{boxes.name} from score {least:g}"
    return whole, "whole image"


def boxes_by_number(path: Path, least: float = 0.0) -> Callable[[Picture], list[tuple[Box, float]]]:
    """Boxes of the picture whose file name ends in the detection's image_id: ``000000000785.jpg`` is 785.

    Args:
        path: json list of detections, as COCO's person detectors are published.
        least: score below which a box is left out: such files hold boxes down to nearly 0.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no detection file; from the function, a picture whose name holds no number.
    """
    from workbench.data.coco import read_json

    entries = read_json(path)
    if not isinstance(entries, list):
        raise ValueError(f"{path.name}: expected a list of detections, got an object")
    by_image: dict[int, list[tuple[Box, float]]] = defaultdict(list)
    for position, entry in enumerate(entries):
        image_id, found = _entry(entry, f"{path.name}, detection {position}")
        if found[1] >= least:
            by_image[image_id].append(found)

    def boxes(picture: Picture) -> list[tuple[Box, float]]:
        digits = re.search(r"(\d+)$", picture.path.stem)
        if digits is None:
            raise ValueError(
                f"{picture.path.name}: its name ends in no number, so {path.name} cannot know it"
            )
        return by_image.get(int(digits[1]), [])

    return boxes


def _entry(entry: Any, where: str) -> tuple[int, tuple[Box, float]]:
    from workbench.core.geometry import checked_box

    try:
        x, y, width, height = (float(v) for v in entry["bbox"])
        image_id, score = int(entry["image_id"]), float(entry["score"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError(f"{where}: expected image_id, bbox of 4 numbers and score") from None
    return image_id, (checked_box((x, y, x + width, y + height), f"{where}: bbox"), score)


def _answer(
    loaded: LoadedModel,
    image: list[Path],
    boxes_of: Boxes,
    boxes_note: str,
    reading: ReadingOptions,
    every: int,
    stated: ImageReading,
    threshold: float,
    out: Path | None,
) -> Answer:
    from workbench.cli.pictures import Drawings, as_facts, drawn, files_of, pictures, samples_of
    from workbench.evaluation.predict import predict_pictures
    from workbench.evaluation.protocol import protocol_of_loaded

    model, files, decoding = loaded.model, files_of(image), reading.decoding
    as_json = out is not None and out.suffix.lower() == ".json"
    if as_json:
        check_file(out)
    instances: list[dict[str, Any]] = []
    seen = 0
    shown = ((picture, samples_of(picture, boxes_of)) for picture in pictures(files, every, stated))
    with Drawings(None if as_json else out, files, every) as drawings:
        for picture, found in predict_pictures(model, shown, flip=reading.flip, options=decoding):
            seen += 1
            instances += [as_facts(picture, one) for one in found]
            if drawings.out is not None:
                drawings.add(picture, drawn(picture.image, found, model.skeleton, threshold))
    protocol = protocol_of_loaded(loaded, boxes=boxes_note, flip=reading.flip, options=decoding)
    facts: dict[str, Any] = {
        "model": loaded.title,
        "support": protocol.support,
        "skeleton": {"name": model.skeleton.name, "keypoints": model.skeleton.keypoints},
        "pictures": seen,
        "boxes": boxes_note,
        "decoder": decoding.decoder or protocol.decoder,
        "flip": reading.flip,
        "loaded_fraction": loaded.loaded_fraction,
        "notes": _notes(loaded, instances),
        "instances": instances,
    }
    if out is not None:
        if as_json:
            from workbench.cli import as_text

            write_text(out, as_text(facts) + "\n")
        facts["written"] = str(out)
    return Answer(facts, _text(facts))


def _notes(loaded: LoadedModel, instances: list[dict[str, Any]]) -> list[str]:
    from workbench.core import Groups
    from workbench.core.capabilities import StatesSupport
    from workbench.evaluation.predictions import without_peak

    notes = [*([loaded.note] if loaded.note else []), *loading_note(loaded)]
    if isinstance(loaded.model, StatesSupport) and not loaded.model.support:
        notes.append(
            "no support example says which keypoints to find, and pictures have no annotation: name one with "
            "--support IMAGE/ANNOTATION --data JSON"
        )
    codec = loaded.model.codec
    highest = max((float(one["scores"].max()) for one in instances), default=0.0)
    if codec is not None and codec.kind == "simcc" and highest > 1:
        notes.append(
            f"scores up to {highest:.2f} are normal here: they are raw SimCC logits, not probabilities"
        )
    if instances and not isinstance(loaded.model, Groups):
        missing = without_peak(
            *(np.stack([one[name] for one in instances]) for name in ("keypoints", "scores"))
        )
        notes += [missing] if missing else []
    return notes


def _text(facts: dict[str, Any]) -> str:
    """One line for each instance, up to twenty, then what was assumed."""
    names = facts["skeleton"]["keypoints"]
    count = len(facts["instances"])
    found = f"{counted(count, 'instance')} in {counted(facts['pictures'], 'image')}"
    by = f"; {facts['support']}" if facts["support"] else ""
    lines = [f"{facts['model']}: {found}; boxes: {facts['boxes']}{by}"]
    for one in facts["instances"][:20]:
        frame = f" frame {one['frame']}" if "frame" in one else ""
        box = ", ".join(f"{v:.0f}" for v in one["box"])
        given = int(np.isfinite(one["keypoints"]).all(1).sum())
        least = int(np.argmin(one["scores"]))
        lines.append(
            f"{Path(one['image']).name}{frame}  box {box}  score {one['score']:.2f}  {given} of "
            f"{counted(len(names), 'keypoint')}, lowest score {one['scores'][least]:.2f} ({names[least]})"
        )
    if count > 20:
        lines.append(f"... {count - 20} more; --json or --out FILE.json gives all")
    lines += [f"note: {note}" for note in facts["notes"]]
    if "written" in facts:
        lines.append(f"written: {facts['written']}")
    return "\n".join(lines)


def _demo(
    model: ModelOptions, rule: list[str] | None, images: list[Path] | None
) -> tuple[LoadedModel, list[Path], Boxes, str]:
    """The last epoch of the demo run, pictures, their boxes and what to call those.

    Args:
        model: how the demo's checkpoint is opened.
        rule: as --rule has them.
        images: the user's own, each one box; by default the first scene of the run's own data.

    Raises:
        NotAvailable: the demo checkpoints are not here.
    """
    from workbench.checkpoints.demo import demo_checkpoints, demo_data
    from workbench.cli.pictures import whole
    from workbench.data import builtin

    loaded = model.open(demo_checkpoints()[-1], rule)
    if images:
        return loaded, images, whole, "whole image"
    shown = builtin(demo_data())
    return loaded, [_file(shown)], _annotated(shown), f"annotation ({shown.name})"


def _first(pose_set: PoseSet) -> int:
    return pose_set.instances[pose_set.labelled[0]].image_id


def _file(pose_set: PoseSet) -> Path:
    """The first labelled image as a file: its own, or a copy of pixels that have none."""
    from workbench.data.images import write_image

    image_id = _first(pose_set)
    path = pose_set.images[image_id].path
    if path.is_file():
        return path
    folder = Path(tempfile.mkdtemp(prefix="workbench-"))
    return write_image(folder / f"{pose_set.name}_{image_id}.png", pose_set.image(image_id))


def _annotated(pose_set: PoseSet) -> Boxes:
    image_id = _first(pose_set)
    found: list[tuple[Box, float]] = [
        (pose_set.instances[i].box, 1.0)
        for i in pose_set.labelled
        if pose_set.instances[i].image_id == image_id
    ]

    def boxes(_: Picture) -> list[tuple[Box, float]]:
        return found

    return boxes
