"""What does a video show? Its frames one by one with their times, and a writer that makes one.

Written videos are MPEG-4 part 2 in .mp4 (``mp4v``), the one codec that every build of OpenCV brings along;
browsers do not play it, players do. Give a name ending in .avi for Motion JPEG.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import UInt8

VIDEO_ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
_CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".avi": "MJPG"}


@dataclass(frozen=True)
class VideoFacts:
    """What the file says about itself.

    Attributes:
        width: pixels.
        height: pixels.
        fps: frames per second.
        count: frames as the container states; nan when it does not, and it may be off by a few.
    """

    width: int
    height: int
    fps: float
    count: float


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video.

    Attributes:
        index: from 0.
        seconds: since the start, index / fps.
        image: RGB.
    """

    index: int
    seconds: float
    image: UInt8[np.ndarray, "H W 3"]


def video_facts(path: Path | str) -> VideoFacts:
    """Size and rate of a video, from its header.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no video that OpenCV can read.
    """
    capture = _opened(Path(path))
    try:
        return _facts(capture, Path(path))
    finally:
        capture.release()


def frames(path: Path | str, every: int = 1) -> Iterator[Frame]:
    """Frames in order, decoded one by one, so that a long video needs no memory.

    Args:
        path: the video.
        every: give each n-th frame only.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no video, holds no frame, or `every` is below 1.
    """
    if every < 1:
        raise ValueError(f"frames: expected every 1st, 2nd, ... frame, got {every}")
    path = Path(path)
    capture = _opened(path)  # before the first frame is asked for: errors come at once
    return _frames(capture, _facts(capture, path), path, every)


class VideoWriter:
    """Writes RGB frames of one size: ``with VideoWriter("out.mp4", fps) as video: video.write(image)``.

    Raises:
        ValueError: an unknown ending, no rate, or frames that differ in size.
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path | str, fps: float) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in _CODECS:
            raise ValueError(f"{self.path.name}: expected a video ending out of {', '.join(_CODECS)}")
        if not (np.isfinite(fps) and fps > 0):
            raise ValueError(f"{self.path.name}: expected frames per second above 0, got {fps:g}")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"{self.path.parent}: no such folder to write the video to")
        self.fps = float(fps)
        self.count = 0
        self._size: tuple[int, int] | None = None
        self._writer = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """Add one frame; the first decides the size."""
        import cv2

        height, width = image.shape[:2]
        if self._writer is None:
            code = cv2.VideoWriter_fourcc(*_CODECS[self.path.suffix.lower()])  # type: ignore[attr-defined]
            self._writer = cv2.VideoWriter(str(self.path), code, self.fps, (width, height))
            self._size = (height, width)
            if not self._writer.isOpened():
                raise OSError(f"{self.path}: this OpenCV cannot write it ({width} x {height} pixels)")
        if (height, width) != self._size:
            raise ValueError(f"{self.path.name}: frames are {self._size}, got one of {(height, width)}")
        self._writer.write(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR))
        self.count += 1

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None


def _opened(path: Path):
    import cv2

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such video file")
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        capture.release()
        raise ValueError(f"{path.name}: expected a video that OpenCV can read, got a file that is none")
    return capture


def _facts(capture, path: Path) -> VideoFacts:
    import cv2

    width, height = (int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    fps, count = float(capture.get(cv2.CAP_PROP_FPS)), float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    if width <= 0 or height <= 0 or not np.isfinite(fps) or fps <= 0:
        raise ValueError(f"{path.name}: expected a video, but it states no size or no frame rate")
    return VideoFacts(width, height, fps, count if count > 0 else float("nan"))


def _frames(capture, facts: VideoFacts, path: Path, every: int) -> Iterator[Frame]:
    import cv2

    index = 0
    try:
        while capture.grab():  # skipped frames are not converted
            if index % every == 0:
                good, pixels = capture.retrieve()
                if not good:
                    raise ValueError(f"{path.name}: frame {index} cannot be decoded")
                yield Frame(index, index / facts.fps, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
            index += 1
    finally:
        capture.release()
    if index == 0:
        raise ValueError(f"{path.name}: a video without a single frame that can be decoded")
