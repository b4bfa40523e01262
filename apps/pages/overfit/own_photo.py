"""A user's photo on the Overfit page: uploaded with a COCO json, or with keypoints clicked on it.

Clicked keypoints are converted to COCO's format, in which they can be saved, so both are read in the same
way. No file that a json names is opened: its image is the uploaded one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from apps.pages.job_sections import QUIET
from apps.pages.sections import hidden_text, one_sentence_errors
from apps.pages.subject import clicked_place, next_corners, say_notes
from apps.server.context import Context
from workbench.cli import MISTAKES
from workbench.core import Sample, Skeleton
from workbench.core.report import counted

if TYPE_CHECKING:
    import numpy as np

    from workbench.data import PoseSet
    from workbench.data.images import ImageReading


BOX = "box (two corners)"
"""What the choice of keypoints offers beside their names."""

# A box around clicked keypoints is wider than they are: heads and feet end beyond eyes and ankles.
MARGIN = 0.15

# File name of the images of a json that were not uploaded: no such file exists.
NOT_UPLOADED = "not uploaded"


@dataclass(frozen=True)
class Clicks:
    """What was clicked on a photo, in image pixels.

    Attributes:
        keypoints: (x, y) by name.
        box: (x0, y0, x1, y1); its first corner alone is (x0, y0, None, None).
    """

    keypoints: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    box: tuple[float | None, float | None, float | None, float | None] = (None, None, None, None)

    @classmethod
    def of_text(cls, text: str) -> Clicks:
        """Back from `text`.

        Raises:
            ValueError: it is no such text.
        """
        if not text:
            return cls()
        try:
            content = json.loads(text)
            points = {str(k): (float(x), float(y)) for k, (x, y) in content["keypoints"].items()}
            x0, y0, x1, y1 = (None if v is None else float(v) for v in content["box"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as reason:
            raise ValueError("clicked keypoints: expected the text that this page made of them") from reason
        numbers = [v for v in (*(v for p in points.values() for v in p), x0, y0, x1, y1) if v is not None]
        if not all(map(math.isfinite, numbers)):
            raise ValueError("clicked keypoints: expected finite numbers")
        return cls(points, (x0, y0, x1, y1))

    def text(self) -> str:
        """As JSON, to lie in the page; "" for no click at all."""
        if self == Clicks():
            return ""
        return json.dumps({"keypoints": self.keypoints, "box": self.box})

    def clicked(self, what: str, x: float, y: float) -> Clicks:
        """With one more click: a keypoint's place, new or moved, or a corner of the box."""
        if what == BOX:
            return replace(self, box=next_corners(self.box, x, y))
        return replace(self, keypoints={**self.keypoints, what: (x, y)})

    def without(self, what: str) -> Clicks:
        """Without a keypoint, or without the box."""
        if what == BOX:
            return replace(self, box=(None, None, None, None))
        return replace(self, keypoints={k: p for k, p in self.keypoints.items() if k != what})

    def around(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The box, or one around the keypoints, within the image.

        Raises:
            ValueError: there is no box, and the keypoints have no extent.
        """
        x0, y0, x1, y1 = self.box
        if x0 is None or y0 is None or x1 is None or y1 is None:
            xs, ys = ([p[i] for p in self.keypoints.values()] for i in (0, 1))
            if not xs or max(max(xs) - min(xs), max(ys) - min(ys)) < 2:
                raise ValueError(
                    f"the photo: no box can be put around the clicked keypoints; choose {BOX!r} and click "
                    "two opposite corners"
                )
            margin = MARGIN * max(max(xs) - min(xs), max(ys) - min(ys))
            x0, y0, x1, y1 = min(xs) - margin, min(ys) - margin, max(xs) + margin, max(ys) + margin
        return max(0.0, x0), max(0.0, y0), min(float(width), x1), min(float(height), y1)


@dataclass(frozen=True)
class OwnPhoto:
    """What a request gave.

    Attributes:
        image: the uploaded photo.
        annotation: the uploaded json; None where keypoints were clicked.
        clicks: on the photo.
    """

    image: Path
    annotation: Path | None = None
    clicks: Clicks = field(default_factory=Clicks)

    @property
    def name(self) -> str:
        """Of the photo, as its owner has it."""
        return self.image.name

    @property
    def annotation_name(self) -> str:
        """Of the json; what clicked keypoints are saved as."""
        return self.annotation.name if self.annotation else f"{self.image.stem}.json"


def own_photo(image: str | None, annotation: str | None, clicks: str | None) -> OwnPhoto | None:
    """The photo of a request; None where none was uploaded.

    Raises:
        ValueError: there is a json without a photo, a json beside clicks, or neither of them.
    """
    if not image:
        if annotation:
            raise ValueError(f"{Path(annotation).name}: upload the photo that it annotates as well")
        return None
    made = Clicks.of_text(clicks or "")
    if annotation and made.keypoints:
        raise ValueError("the photo: expected a json or clicked keypoints, got both; clear one of them")
    if not annotation and not made.keypoints:
        raise ValueError(
            f"{Path(image).name}: upload its annotation as a COCO json, or choose a keypoint and click its "
            "place on the picture"
        )
    return OwnPhoto(Path(image), Path(annotation) if annotation else None, made)


def own_sample(
    own: OwnPhoto, skeleton: Skeleton, number: int | None, reading: ImageReading | None = None
) -> tuple[Sample, Skeleton]:
    """The instance to learn, and its keypoints.

    Args:
        own: what was uploaded.
        skeleton: of clicked keypoints; a json brings its own.
        number: of the instance in the json, which clicked keypoints have no use for; None takes the first
            labelled one of the photo.
        reading: what is stated about the photo.

    Raises:
        ValueError: the json or the photo cannot be read, they do not fit, or nothing is labelled.
        KeyError: no such instance.
    """
    from workbench.data.coco import pose_set_of, read_json

    if own.annotation is None:
        content: Any = json.loads(as_coco(own, skeleton, reading))
        file, number = own.image.with_suffix(".json"), None
        pose_set = pose_set_of(content, file, own.image.parent, reading=reading)
    else:
        content = _of_one_image(read_json(own.annotation), own)
        within = [own.image.parent]
        pose_set = pose_set_of(content, own.annotation, own.image.parent, within=within, reading=reading)
    return pose_set.sample(_index(pose_set, own, number)), pose_set.skeleton


def _index(pose_set: PoseSet, own: OwnPhoto, number: int | None) -> int:
    ours = {n for n, record in pose_set.images.items() if record.path == own.image}
    labelled = [i for i in pose_set.labelled if pose_set.instances[i].image_id in ours]
    if not labelled:
        why = pose_set.unscored_text(ours)
        raise ValueError(f"{own.annotation_name}: no instance of {own.name} can be learned: {why}")
    if number is None:
        return labelled[0]
    if number not in labelled:
        known = ", ".join(map(str, labelled[:10])) + (", ..." if len(labelled) > 10 else "")
        raise KeyError(f"{own.annotation_name}: the labelled samples of {own.name} are {known}, not {number}")
    return number


def _of_one_image(content: Any, own: OwnPhoto) -> Any:
    """The json with the uploaded photo as the only image that is there.

    Raises:
        ValueError: none of its images, or several, can be the photo.
    """
    from workbench.data.coco_dialects import from_aic, is_aic

    content = from_aic(content, own.annotation_name) if is_aic(content) else content
    images = content.get("images") if isinstance(content, Mapping) else None
    if not isinstance(images, list):
        return content  # refused by whoever reads it, in its own words
    names = [_base_name(entry) for entry in images]
    ours = [i for i, name in enumerate(names) if name == _plain(own.name)]
    if not ours and len(images) == 1:
        ours = [0]  # a photo may have been renamed, but there is only one
    if len(ours) != 1:
        what = "none" if not ours else f"{len(ours)}"
        raise ValueError(
            f"{own.annotation_name}: {what} of its {counted(len(images), 'image')} is called {own.name}; "
            "upload the photo under the name that it has there"
        )
    entries: list[Any] = []
    for i, entry in enumerate(images):
        name = own.name if i == ours[0] else NOT_UPLOADED
        entries.append({**entry, "file_name": name} if isinstance(entry, Mapping) else entry)
    return {**content, "images": entries}


def _base_name(entry: Any) -> str:
    name = entry.get("file_name") if isinstance(entry, Mapping) else None
    return _plain(PureWindowsPath(name[:3000]).name) if isinstance(name, str) else ""


def _plain(name: str) -> str:
    """A file's name by the letters that every upload keeps."""
    return "".join(c for c in name.lower() if c.isalnum() or c == ".")


def as_coco(own: OwnPhoto, skeleton: Skeleton, reading: ImageReading | None = None) -> str:
    """Clicked keypoints as the text of a COCO json.

    Args:
        own: the photo and the clicks on it.
        skeleton: whose keypoints were clicked.
        reading: what is stated about the photo.

    Raises:
        ValueError: a name is none of the skeleton's, a place lies outside of the photo, or there is no box.
    """
    from workbench.data.images import ImageReading

    height, width = (reading or ImageReading()).size(own.image)
    points = own.clicks.keypoints
    if unknown := [name for name in points if name not in skeleton.keypoints]:
        raise ValueError(
            f"clicked keypoints: {unknown[0]!r:.80} is none of {skeleton.name}; clear them, or choose data "
            "with the keypoints that they were clicked for"
        )
    for name, (x, y) in points.items():
        if not (0 <= x <= width and 0 <= y <= height):
            raise ValueError(
                f"clicked keypoints: {name} lies outside of {own.name} ({width} x {height} pixels)"
            )
    x0, y0, x1, y1 = own.clicks.around(width, height)
    if x1 <= x0 or y1 <= y0:
        raise ValueError("the photo: the box has no size; click two opposite corners")
    triples = [(*points[name], 2) if name in points else (0, 0, 0) for name in skeleton.keypoints]
    annotation = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "keypoints": [v for triple in triples for v in triple],
        "num_keypoints": len(points),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": (x1 - x0) * (y1 - y0),
        "iscrowd": 0,
    }
    category = {
        "id": 1,
        "name": "clicked",
        "keypoints": list(skeleton.keypoints),
        "skeleton": [[a + 1, b + 1] for a, b in skeleton.limbs],
    }
    image = {"id": 1, "file_name": own.name, "width": width, "height": height}
    return json.dumps({"images": [image], "annotations": [annotation], "categories": [category]})


def marked(
    image: Path, clicks: Clicks, skeleton: Skeleton, reading: ImageReading | None = None
) -> np.ndarray:
    """The photo, no larger than it is shown, with everything that was clicked drawn on it; RGB.

    Args:
        image: the photo.
        clicks: on it.
        skeleton: whose keypoints were clicked.
        reading: what is stated about the photo.

    Raises:
        ValueError: the file is no image.
    """
    import cv2

    from apps.pages.subject import drawn_place, with_box
    from workbench.data.images import ImageReading
    from workbench.figures import keypoint_colours

    pixels, scale = with_box(image, clicks.box, reading or ImageReading())
    size = max(3, round(max(pixels.shape[:2]) / 80))
    for name, ink in zip(skeleton.keypoints, keypoint_colours(skeleton), strict=True):
        if name in clicks.keypoints:
            x, y = clicks.keypoints[name]
            colour = tuple(int(ink[i : i + 2], 16) for i in (1, 3, 5))
            centre = (drawn_place(x * scale), drawn_place(y * scale))
            cv2.circle(pixels, centre, size + 1, (255, 255, 255), -1, cv2.LINE_AA)
            cv2.circle(pixels, centre, size, colour, -1, cv2.LINE_AA)
    return pixels


HELP = (
    "Upload a photo and its annotation as a COCO json. Without a json: choose a keypoint of the chosen data "
    "and click its position in the second picture, one keypoint after the other. The box is given by two "
    "clicked corners, or encloses the keypoints. Of the files that a json names only the photo is read."
)

# File name that the command for repeating an attempt expects: that of the photo.
_FILE_NAME = "(text) => JSON.parse(text).images[0].file_name.replace(/\\.[^.]*$/, '') + '.json'"


class PhotoSection:
    """The section: upload, annotation, the second picture, which is clicked, and what is clicked.

    Attributes:
        clicks: what was clicked, as text.
        inputs: photo, json and clicks: inputs of Start after the other values.
        events: those after which something else is to be learned.
    """

    def __init__(self, context: Context, data: gr.Dropdown) -> None:
        """Add the section to the page.

        Args:
            context: of this serving.
            data: the set whose keypoints are clicked.
        """
        self._sets = context.registry.sets
        with (
            gr.Accordion("A photo of your own", open=False, elem_id="ovf-own"),
            gr.Row(elem_classes="wb-own"),
        ):
            with gr.Column(min_width=230):
                # As it was uploaded: in other modes Gradio rewrites the file and rotates it by its EXIF.
                image = gr.Image(
                    type="filepath", image_mode=None, sources=["upload", "clipboard"], height=170, buttons=[],
                    show_label=False,
                )  # fmt: skip
                annotation = gr.File(
                    type="filepath", file_types=[".json"], label="COCO json (or click keypoints)", height=150
                )
            drawn = gr.Image(
                elem_id="ovf-drawn",
                show_label=False,
                interactive=False,
                height=300,
                buttons=[],
                visible=False,
            )
            with gr.Column(min_width=230):
                gr.Markdown(HELP)
                keypoint = gr.Dropdown([BOX], value=BOX, label="click places", allow_custom_value=True)
                with gr.Row():
                    remove = gr.Button("Remove this one", size="sm", min_width=90)
                    save = gr.Button("Save annotation", size="sm", min_width=90)
                clear = gr.Button("Back to the data set", size="sm")
        self.clicks = clicks = hidden_text()
        self.inputs: list[Component] = [image, annotation, clicks]
        results, place = [drawn, clicks, keypoint], [image, clicks, keypoint, data]
        drawn.select(self.clicked, place, results, api_name="overfit_place", **QUIET)
        remove.click(self.removed, place, results, api_name="overfit_unplace", **QUIET)
        data.change(self.offered, [data, clicks], keypoint, api_name="overfit_places", **QUIET)
        payload = hidden_text()
        save.click(
            self.saved, [image, clicks, data], payload, api_name="overfit_annotation", **QUIET
        ).success(None, payload, None, js=f"(text) => window.wb.save(text, ({_FILE_NAME})(text))")
        self.events = (
            image.upload(self.shown, [image, data], results, api_name="overfit_photo", **QUIET),
            annotation.upload(lambda: "", None, clicks, api_visibility="private", **QUIET),
            annotation.clear(lambda: "", None, clicks, api_visibility="private", **QUIET),
            gr.on(
                [clear.click, image.clear], lambda: [None, None, gr.update(value=None, visible=False), ""],
                None, [image, annotation, drawn, clicks], api_name="overfit_no_photo", **QUIET,
            ),
        )  # fmt: skip

    # Handlers; `chosen` is the set whose keypoints are clicked, `text` the clicks.

    def _skeleton(self, chosen: str | None) -> Skeleton:
        return self._sets.skeleton(chosen or "astronaut")

    @one_sentence_errors
    def shown(self, path: str | None, chosen: str | None) -> list[Any]:
        """A new photo: its picture, no clicks, the keypoints on offer."""
        if not path:
            return [gr.update(value=None, visible=False), "", gr.skip()]
        say_notes(path, self._sets.reading)
        own = self._skeleton(chosen)
        picture = marked(Path(path), Clicks(), own, self._sets.reading)
        return [gr.update(value=picture, visible=True), "", _choice(own.keypoints, Clicks())]

    def clicked(
        self, event: gr.SelectData, path: str | None, text: str, what: str, chosen: str | None
    ) -> list[Any]:
        """A click on the second picture: places `what` there."""
        return self._clicked(event, path, text, what, chosen)

    @one_sentence_errors
    def _clicked(
        self, event: gr.SelectData, path: str | None, text: str, what: str, chosen: str | None
    ) -> list[Any]:
        photo, own = _uploaded(path), self._skeleton(chosen)
        x, y = clicked_place(event, photo, self._sets.reading)
        if what not in (*own.keypoints, BOX):
            raise ValueError(f"{what!r:.80}: expected one of the keypoints of {own.name}, or {BOX!r}")
        made = Clicks.of_text(text).clicked(what, x, y)
        picture = marked(photo, made, own, self._sets.reading)
        following = gr.skip() if what == BOX else _choice(own.keypoints, made)
        return [gr.update(value=picture, visible=True), made.text(), following]

    @one_sentence_errors
    def removed(self, path: str | None, text: str, what: str, chosen: str | None) -> list[Any]:
        """The place of `what` removed."""
        photo, made = _uploaded(path), Clicks.of_text(text).without(what)
        picture = marked(photo, made, self._skeleton(chosen), self._sets.reading)
        return [gr.update(value=picture, visible=True), made.text(), gr.skip()]

    @one_sentence_errors
    def saved(self, path: str | None, text: str, chosen: str | None) -> str:
        """The clicks as the text of a COCO json."""
        own = OwnPhoto(_uploaded(path), clicks=Clicks.of_text(text))
        return as_coco(own, self._skeleton(chosen), self._sets.reading)

    def offered(self, chosen: str | None, text: str) -> Any:
        """The keypoints of another set."""
        try:
            return _choice(self._skeleton(chosen).keypoints, Clicks.of_text(text))
        except MISTAKES:
            return gr.skip()  # the preview of Start shows what is wrong with the data


def _choice(names: tuple[str, ...], made: Clicks) -> Any:
    """The choice of keypoints, the first that has no place yet chosen."""
    open_ = [name for name in names if name not in made.keypoints]
    return gr.update(choices=[*names, BOX], value=open_[0] if open_ else BOX)


def _uploaded(path: str | None) -> Path:
    if not path:
        raise ValueError("upload a photo first")
    return Path(path)
