"""workbench predict: keypoints on images, folders and videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from workbench.cli.answer import Answer
from workbench.cli.options import (
    Adapter,
    Assume,
    Box,
    Config,
    Decoder,
    Demo,
    Detector,
    Device,
    Family,
    Files,
    Flip,
    Image,
    Out,
    Output,
    Partial,
    Remap,
    Rule,
    ScoreRule,
    SkeletonName,
    model_files,
)
from workbench.core import FLIP_BY_DEFAULT
from workbench.core.files import write_text

if TYPE_CHECKING:
    from workbench.cli.predicting import Boxes as BoxesOf
    from workbench.core import Skeleton
    from workbench.models import LoadedModel

DetectedBoxes = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--boxes", help="A COCO detection json; its image_id is the number in an image's name."),
]
BoxScore = Annotated[
    float,
    typer.Option("--box-score", help="Boxes of a detection json or a detector below this are left out."),
]
Every = Annotated[int, typer.Option("--every", help="Of videos, use each n-th frame.", min=1)]
Threshold = Annotated[float, typer.Option("--threshold", help="Draw keypoints with at least this score.")]


def command(
    files: Files = None,
    image: Image = None,
    box: Box = None,
    boxes: DetectedBoxes = None,
    detector: Detector = None,
    box_score: BoxScore = 0.3,
    config: Config = None,
    family: Family = None,
    adapter: Adapter = None,
    remap: Remap = False,
    allow_partial: Partial = False,
    output: Output = None,
    assume: Assume = None,
    skeleton: SkeletonName = None,
    device: Device = "cpu",
    decoder: Decoder = "",
    score: ScoreRule = "",
    flip: Flip = FLIP_BY_DEFAULT,
    every: Every = 1,
    threshold: Threshold = 0.2,
    rule: Rule = None,
    out: Out = None,
    demo: Demo = False,
) -> Answer:
    """Find keypoints in images, folders of images and videos.

    Examples: `workbench predict epoch_20.pth --image horse.jpg --box 10,20,300,280 --out horse.png`,
    `workbench predict epoch_20.pth --image ride.mp4 --detector rtmdet.onnx --out ride_pose.mp4`.
    """
    from workbench.evaluation.predict import finds_people
    from workbench.models import open_model

    file = model_files(files)
    if demo:
        from workbench.cli.predict_demo import demonstrated

        if file is not None or adapter is not None:
            raise ValueError("--demo brings its own checkpoint; leave the file out")
        loaded, image, boxes_of, note = demonstrated(image)
        if any(source is not None for source in (box, boxes, detector)):
            boxes_of, note = _boxes(box, boxes, detector, box_score, loaded.model.skeleton)
        return _answer(loaded, image, boxes_of, flip, decoder, score, every, threshold, out, note)
    if file is None and adapter is None:
        raise ValueError("predict: expected a checkpoint, --adapter, or --demo")
    loaded = open_model(
        file,
        config=config,
        family=family,
        adapter=adapter,
        remap=remap,
        output=output or (),
        assume=assume or (),
        skeleton=skeleton,
        allow_partial=allow_partial,
        device=device,
    ).with_rules(rule or ())
    if not image:
        raise ValueError("predict: expected at least one --image (an image, a folder or a video)")
    if finds_people(loaded.model) and any(source is not None for source in (box, boxes, detector)):
        raise ValueError("a bottom-up model finds people by itself: leave --box, --boxes and --detector out")
    boxes_of, note = _boxes(box, boxes, detector, box_score, loaded.model.skeleton)
    if finds_people(loaded.model):
        note = "none, the model finds people by itself"
    return _answer(loaded, image, boxes_of, flip, decoder, score, every, threshold, out, note)


def _boxes(
    box: str | None, boxes: Path | None, detector: Path | None, least: float, skeleton: Skeleton
) -> tuple[BoxesOf, str]:
    """Where boxes come from, and what to call that."""
    from workbench.cli.predicting import whole

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
        from workbench.cli.detection_file import boxes_by_number

        return boxes_by_number(boxes, least), f"{boxes.name} from score {least:g}"
    return whole, "whole image"


def _answer(
    loaded: LoadedModel,
    image: list[Path],
    boxes_of: BoxesOf,
    flip: bool,
    decoder: str,
    score: str,
    every: int,
    threshold: float,
    out: Path | None,
    boxes_note: str,
) -> Answer:
    from workbench.cli.picture import drawn
    from workbench.cli.places import check_file
    from workbench.cli.predicting import Drawings, as_facts, files_of, pictures, predicted
    from workbench.core import DecodeOptions
    from workbench.evaluation.protocol import protocol_of_loaded

    options = DecodeOptions(decoder, score)  # type: ignore[arg-type] - decode checks the score rule
    model, files = loaded.model, files_of(image)
    as_json = out is not None and out.suffix.lower() == ".json"
    if as_json:
        check_file(out)
    instances: list[dict[str, Any]] = []
    seen = 0
    with Drawings(None if as_json else out, files, every) as drawings:
        for picture, found in predicted(model, pictures(files, every), boxes_of, flip, options):
            seen += 1
            instances += [as_facts(picture, one) for one in found]
            if drawings.out is not None:
                drawings.add(picture, drawn(picture.image, found, model.skeleton, threshold))
    protocol = protocol_of_loaded(loaded, boxes=boxes_note, flip=flip, options=options)
    facts: dict[str, Any] = {
        "model": loaded.title,
        "skeleton": {"name": model.skeleton.name, "keypoints": model.skeleton.keypoints},
        "pictures": seen,
        "boxes": boxes_note,
        "decoder": options.decoder or protocol.decoder,
        "flip": flip,
        "loaded_fraction": loaded.loaded_fraction,
        "notes": _notes(loaded, instances),
        "instances": instances,
    }
    if out is not None:
        if as_json:
            _write(out, facts)
        facts["written"] = str(out)
    return Answer(facts, _told(facts))


def _notes(loaded: LoadedModel, instances: list[dict[str, Any]]) -> list[str]:
    notes = [loaded.note] if loaded.note else []
    if loaded.loaded_fraction < 1:
        share = 100 * loaded.loaded_fraction
        notes.append(f"only {share:.1f} % of the model's parameters came from the file")
    codec = loaded.model.codec
    highest = max((float(one["scores"].max()) for one in instances), default=0.0)
    if codec is not None and codec.kind == "simcc" and highest > 1:
        notes.append(
            f"scores up to {highest:.2f} are normal here: they are raw SimCC logits, not probabilities"
        )
    return notes


def _write(out: Path, facts: dict[str, Any]) -> None:
    from workbench.cli import as_text

    write_text(out, as_text(facts) + "\n")


def _told(facts: dict[str, Any]) -> str:
    """One line for each instance, up to twenty, then what was assumed."""
    import numpy as np

    names = facts["skeleton"]["keypoints"]
    count = len(facts["instances"])
    lines = [f"{facts['model']}: {count} instances in {facts['pictures']} pictures; boxes: {facts['boxes']}"]
    for one in facts["instances"][:20]:
        frame = f" frame {one['frame']}" if "frame" in one else ""
        box = ", ".join(f"{v:.0f}" for v in one["box"])
        given = int(np.isfinite(one["keypoints"]).all(1).sum())
        least = int(np.argmin(one["scores"]))
        lines.append(
            f"{Path(one['image']).name}{frame}  box {box}  score {one['score']:.2f}  "
            f"{given} of {len(names)} keypoints, least sure of {names[least]} ({one['scores'][least]:.2f})"
        )
    if count > 20:
        lines.append(f"... {count - 20} more; --json or --out FILE.json gives all")
    lines += [f"note: {note}" for note in facts["notes"]]
    if "written" in facts:
        lines.append(f"written: {facts['written']}")
    return "\n".join(lines)
