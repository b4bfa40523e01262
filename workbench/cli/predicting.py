"""Pictures in, instances out: what `workbench predict` goes through, one picture at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from workbench.cli.places import check_file
from workbench.core import DecodeOptions, PoseModel, Prediction, Sample
from workbench.core.geometry import Box
from workbench.data.boxes import whole_image
from workbench.data.images import IMAGE_ENDINGS, common_bits, images_in, read_image, write_image
from workbench.data.video import VIDEO_ENDINGS, VideoWriter, frames, video_facts
from workbench.evaluation.predict import check_wishes, finds_people, passes_over

if TYPE_CHECKING:
    from jaxtyping import UInt8

    from workbench.models.bottom_up import BottomUp

# Crops in one forward pass: beyond this a CPU gains nothing.
BATCH = 16


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


def pictures(files: Iterable[Path], every: int = 1) -> Iterator[Picture]:
    """All images and every n-th frame of all videos, in order, decoded one by one."""
    files = list(files)
    images = [path for path in files if not is_video(path)]
    bits = common_bits(images) if len(images) > 1 else 0
    for path in files:
        if is_video(path):
            for frame in frames(path, every):
                yield Picture(path, frame.image, frame.index, frame.seconds)
        else:
            yield Picture(path, read_image(path, least_bits=bits))


def whole(picture: Picture) -> list[tuple[Box, float]]:
    """One box around everything."""
    return [(whole_image(picture.image), 1.0)]


def predicted(
    model: PoseModel, shown: Iterable[Picture], boxes: Boxes, flip: bool, options: DecodeOptions
) -> Iterator[tuple[Picture, list[Prediction]]]:
    """Each picture with what the model says in its boxes, scored as mmpose scores instances.

    A bottom-up model is given no boxes: everybody it finds, with its own scores.

    Pictures are gathered until their boxes fill a batch; one without boxes comes out with no prediction.
    """
    if finds_people(model):
        check_wishes(boxes=None, options=options)
        for picture in shown:
            sample = Sample(picture.image, whole_image(picture.image), key=picture.path.stem)
            batch, outputs = passes_over(cast("BottomUp", model), sample, flip)
            yield picture, list(cast("BottomUp", model).group(outputs, batch)[0].predictions())
        return
    waiting: list[tuple[Picture, list[Sample]]] = []
    for picture in shown:
        key = picture.path.stem if picture.frame is None else f"{picture.path.stem}, frame {picture.frame}"
        found = [
            Sample(picture.image, box, key=key, path=str(picture.path), box_score=score)
            for box, score in boxes(picture)
        ]
        waiting.append((picture, found))
        if sum(len(samples) for _, samples in waiting) >= BATCH:
            yield from _answered(model, waiting, flip, options)
            waiting = []
    yield from _answered(model, waiting, flip, options)


def _answered(
    model: PoseModel, waiting: Sequence[tuple[Picture, list[Sample]]], flip: bool, options: DecodeOptions
) -> Iterator[tuple[Picture, list[Prediction]]]:
    from workbench.evaluation.predict import answered
    from workbench.evaluation.protocol import DEFAULT, pose_scores

    samples = [sample for _, found in waiting for sample in found]
    answers: list[Prediction] = []
    for start in range(0, len(samples), BATCH):
        part = samples[start : start + BATCH]
        given = answered(model, part, options, flip)
        scores = np.stack([np.asarray(p.scores, float) for p in given])
        rated = pose_scores(DEFAULT, scores, np.array([s.box_score for s in part]))
        answers += [replace(p, score=float(s)) for p, s in zip(given, rated, strict=True)]
    for picture, found in waiting:
        yield picture, answers[: len(found)]
        answers = answers[len(found) :]


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
            what it was drawn on.
        OSError: the folder is not there or cannot be made.
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
                raise ValueError(f"--out {out.name}: expected one video in, got {len(files)} files")
            fps = video_facts(files[0]).fps / every
            self._video = self._stack.enter_context(VideoWriter(out, fps))
        elif ending in IMAGE_ENDINGS:
            if len(files) != 1 or videos:
                raise ValueError(f"--out {out.name}: expected one image in; name a folder for more")
        elif ending:
            raise ValueError(f"--out {out.name}: expected .json, an image, a video, or a folder")
        else:
            out.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Drawings:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

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
            number = "" if picture.frame is None else f"_{picture.frame:06d}"
            write_image(self.out / f"{self._names[picture.path]}{number}.png", canvas)
