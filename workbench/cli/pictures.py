"""Pictures in, drawn pictures out: images, folders and videos, one picture at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.cli.output import check_file, check_room
from workbench.core import Prediction, Sample, Skeleton
from workbench.core.geometry import Box
from workbench.core.report import counted
from workbench.data.boxes import whole_image
from workbench.data.images import IMAGE_ENDINGS, ImageReading, common_bits, images_in, write_image
from workbench.data.video import VIDEO_ENDINGS, VideoWriter, constant_rate, frames
from workbench.figures import SIDE_COLOURS, keypoint_colours, side_of

if TYPE_CHECKING:
    from jaxtyping import UInt8


@dataclass(frozen=True, eq=False)
class Picture:
    """One image, or one frame of a video.

    Attributes:
        path: the file.
        image: RGB.
        frame: number in its video; None for an image.
        seconds: since the start of its video; nan for an image.
    """

    path: Path
    image: UInt8[np.ndarray, "H W 3"]
    frame: int | None = None
    seconds: float = float("nan")


Boxes = Callable[[Picture], Sequence[tuple[Box, float]]]
"""From a picture to boxes (x0, y0, x1, y1) in its pixels, each with a score."""


def files_of(paths: Iterable[Path]) -> list[Path]:
    """Images and videos, folders replaced by the images in them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a folder without images.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"no image, folder or video {path}")
        found += images_in(path) if path.is_dir() else [path]
    return found


def is_video(path: Path) -> bool:
    """Whether the name says so."""
    return path.suffix.lower() in VIDEO_ENDINGS


def pictures(files: Iterable[Path], every: int = 1, reading: ImageReading | None = None) -> Iterator[Picture]:
    """All images and every n-th frame of all videos, in order, decoded one by one.

    Args:
        files: images and videos.
        every: of videos, use each n-th frame.
        reading: what is stated about the images; without a bit depth that of the brightest of several.
    """
    files, reading = list(files), reading or ImageReading()
    images = [path for path in files if not is_video(path)]
    reading = replace(reading, bits=reading.bits or (common_bits(images) if len(images) > 1 else 0))
    for path in files:
        if is_video(path):
            for frame in frames(path, every):
                yield Picture(path, frame.image, frame.index, frame.seconds)
        else:
            yield Picture(path, reading.pixels(path))


def whole(picture: Picture) -> list[tuple[Box, float]]:
    """One box around everything."""
    return [(whole_image(picture.image), 1.0)]


def samples_of(picture: Picture, boxes: Boxes) -> list[Sample]:
    """One sample for each box of a picture."""
    key = picture.path.stem if picture.frame is None else f"{picture.path.stem}, frame {picture.frame}"
    return [
        Sample(picture.image, box, key=key, path=str(picture.path), box_score=score)
        for box, score in boxes(picture)
    ]


def as_facts(picture: Picture, prediction: Prediction) -> dict[str, Any]:
    """One instance as plain data; a keypoint the model did not give is [null, null]."""
    place = {"image": str(picture.path)}
    if picture.frame is not None:
        place |= {"frame": picture.frame, "seconds": picture.seconds}
    return {
        **place,
        "box": prediction.box,
        "keypoints": prediction.keypoints,
        "scores": prediction.scores,
        "score": prediction.score,
    }


def names_of(files: Iterable[Path]) -> dict[Path, str]:
    """What each file's picture is called in one folder: its stem, and no two the same.

    Where stems repeat (``horse/0001.jpg`` and ``zebra/0001.jpg``) the folder's name goes before, and a number
    behind where that is not enough.
    """
    files = list(dict.fromkeys(files))
    stems = Counter(path.stem for path in files)
    names: dict[Path, str] = {path: path.stem for path in files if stems[path.stem] == 1}
    taken = set(names.values())
    for path in files:
        if path in names:
            continue
        name = wanted = f"{path.absolute().parent.name}_{path.stem}"
        number = 2
        while name in taken:
            name, number = f"{wanted}_{number}", number + 1
        names[path] = name
        taken.add(name)
    return names


class Drawings:
    """Where pictures with keypoints on them go: one image, one video, or a folder of images.

    Args:
        out: ends like an image or a video, or has no ending: a folder. None draws nothing.
        files: what is going to be drawn.
        every: of a video, which share of the frames is kept.

    Raises:
        ValueError: one file is to hold several, a video is to become an image, or a drawing would replace
            what it was drawn on; the folder cannot be made.
        OSError: the folder of a file is not there.
    """

    def __init__(self, out: Path | None, files: Sequence[Path], every: int = 1) -> None:
        self.out, self.written = out, 0
        self._stack, self._video = ExitStack(), None
        if out is None:
            return
        if out.suffix:
            check_file(out)
        elif out.is_file():
            raise FileExistsError(f"--out: expected a folder, but {out} is a file")
        self._names = names_of(files)
        own = {path.resolve() for path in files}
        drawn = [out] if out.suffix else [out / f"{name}.png" for name in self._names.values()]
        lost = next((path for path in drawn if path.resolve() in own), None)
        if lost is not None:
            raise ValueError(f"--out: {lost} is among what was given and would be drawn over; name another")
        ending, videos = out.suffix.lower(), [path for path in files if is_video(path)]
        if ending in VIDEO_ENDINGS:
            if len(files) != 1 or not videos:
                raise ValueError(
                    f"--out {out.name}: expected one video in, got {counted(len(files), 'file')}"
                )
            rate = constant_rate(files[0], every)
            self._video = self._stack.enter_context(VideoWriter(out, rate))
        elif ending in IMAGE_ENDINGS:
            if len(files) != 1 or videos:
                raise ValueError(f"--out {out.name}: expected one image in; name a folder for more")
        elif ending:
            raise ValueError(f"--out {out.name}: expected .json, an image, a video, or a folder")
        else:
            check_room(out / "picture.png")

    def __enter__(self) -> Drawings:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)  # after an error no half of a video is left

    def add(self, picture: Picture, canvas: UInt8[np.ndarray, "H W 3"]) -> None:
        """Write one picture."""
        if self.out is None:
            return
        self.written += 1
        if self._video is not None:
            self._video.write(canvas, picture.seconds)
        elif self.out.suffix:
            write_image(self.out, canvas)
        else:
            self.out.mkdir(parents=True, exist_ok=True)
            number = "" if picture.frame is None else f"_{picture.frame:06d}"
            write_image(self.out / f"{self._names[picture.path]}{number}.png", canvas, follow=False)


# Keypoints drawn into the pixels of a picture, for files that other programs show.


# Sub-pixel positions as OpenCV takes them: fixed point with this many binary digits.
_SHIFT = 4


def drawn(
    image: UInt8[np.ndarray, "H W 3"],
    predictions: Sequence[Prediction],
    skeleton: Skeleton,
    threshold: float,
    thickness: int | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """A copy of the image with boxes, limbs and keypoints on it.

    Args:
        image: RGB.
        predictions: in pixels of this image.
        skeleton: colours by side and keypoint as in every figure.
        threshold: keypoints with a lower score are left out, and limbs that end at one.
        thickness: of lines, pixels; by the image's size when not given.
    """
    import cv2

    canvas = np.ascontiguousarray(image.copy())
    # One pixel in two hundred of the shorter side is seen at any size and hides little.
    thickness = thickness or max(1, round(min(canvas.shape[:2]) / 200))
    colours = [_rgb(colour) for colour in keypoint_colours(skeleton)]
    line = {"thickness": thickness, "lineType": cv2.LINE_AA, "shift": _SHIFT}
    for found in predictions:
        shown = np.isfinite(found.keypoints).all(1) & (found.scores >= threshold)
        if np.isfinite(found.box).all():
            corners = np.array(found.box).reshape(2, 2)
            cv2.rectangle(
                canvas, _fixed(corners[0]), _fixed(corners[1]), _rgb(SIDE_COLOURS["middle"]), **line
            )
        for a, b in skeleton.limbs:
            if shown[a] and shown[b]:
                sides = {side_of(skeleton.keypoints[k]) for k in (a, b)}
                side = next(iter(sides)) if len(sides) == 1 else "middle"
                ends = _fixed(found.keypoints[a]), _fixed(found.keypoints[b])
                cv2.line(canvas, *ends, _rgb(SIDE_COLOURS[side]), **line)
        for k in np.flatnonzero(shown):
            radius = (2 * thickness) << _SHIFT
            cv2.circle(canvas, _fixed(found.keypoints[k]), radius, colours[k], -1, cv2.LINE_AA, _SHIFT)
    return canvas


def _fixed(point: np.ndarray) -> tuple[int, int]:
    # Far outside the picture nothing is seen, and OpenCV's fixed point overflows.
    x, y = np.clip(point, -(1 << 14), 1 << 14) * (1 << _SHIFT)
    return round(float(x)), round(float(y))


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue
