"""Reading and writing of videos: frames one by one with their times.

Written videos are MPEG-4 part 2 in .mp4 (``mp4v``), the one codec that every build of OpenCV contains;
players show it, browsers do not. A name that ends in .avi gives Motion JPEG.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.errors import ReadingNote
from workbench.core.files import replacing
from workbench.core.report import counted
from workbench.data.images import MOST_SIDE
from workbench.data.video_tables import check_tables

if TYPE_CHECKING:
    from jaxtyping import UInt8

VIDEO_ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
MOST_FRAME_PIXELS = 36_000_000
"""Of a video: 8K has 35 million. A frame is held four times while it is decoded and converted."""

# What FFmpeg may take at once, bytes: a frame of `MOST_FRAME_PIXELS` with 32 bits each. Colours mostly lie in
# blocks of their own, three to a frame.
_MOST_OF_FFMPEG = 4 * MOST_FRAME_PIXELS

# Longest time that one frame may be repeated, seconds: times in a damaged or hostile file can be huge.
LONGEST_PAUSE = 600
# Share of a video that may be missing at its end without a note: containers round their lengths.
_MISSING_SHARE = 0.03
# Containers that hold their frames themselves. FFmpeg tells a file by its content and knows lists of other
# files too (ffconcat, playlists), which it would go on to read.
_CONTAINERS = (
    "format_whitelist;mov,avi,matroska,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,h264,hevc,m4v,ivf,mjpeg,dv,nut"
)
# Decoders of cameras, players and screen recorders, by FFmpeg's names. Those that unpack a picture, as PNG,
# make gigabytes of a small file while it is opened, before its size can be looked at.
_DECODERS = (
    "codec_whitelist;h264,hevc,mpeg4,mpeg2video,mpeg1video,msmpeg4,msmpeg4v1,msmpeg4v2,h263,h263p,h261,flv,"
    "wmv1,wmv2,wmv3,vc1,vp6,vp6f,vp8,vp9,libvpx,libvpx-vp9,av1,libdav1d,libaom-av1,theora,mjpeg,mjpegb,"
    "prores,dnxhd,dvvideo,gif,rawvideo,ffv1,huffyuv,ffvhuff,utvideo,v210,cinepak,svq1,svq3,rpza,indeo3"
)
# Frame times of one rate differ by the rounding of containers (Matroska: milliseconds), not by this factor.
_STEADY = 1.25
# Frames per second of a written video at most, so that two frames in one millisecond do not fill a disk.
_FASTEST = 120.0
# Frames that are written again to fill pauses, in all: an hour of the fastest rate.
_MOST_REPEATED = round(3600 * _FASTEST)
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# FFmpeg's AV_LOG_QUIET: it would write a line to the terminal for every damaged block of a frame.
_LOG, _QUIET = "OPENCV_FFMPEG_LOGLEVEL", "-8"
_CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".avi": "MJPG"}


@dataclass(frozen=True)
class VideoFacts:
    """Facts from the header of a video.

    Attributes:
        width: pixels.
        height: pixels.
        fps: frames per second, the mean where the rate varies.
        count: frames as the container states; nan when it does not, and it may be off by a few.
    """

    width: int
    height: int
    fps: float
    count: float


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video.

    Attributes:
        index: from 0.
        seconds: presentation time since the start, from the container, because frame rates may vary.
            index / fps where the container has no times.
        image: RGB.
    """

    index: int
    seconds: float
    image: UInt8[np.ndarray, "H W 3"]


def video_facts(path: Path | str) -> VideoFacts:
    """Size and rate of a video, from its header.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no video that OpenCV can read, or its frames have more than `MOST_FRAME_PIXELS`.
    """
    capture = _opened(Path(path))
    try:
        return _facts(capture, Path(path))
    finally:
        capture.release()


def constant_rate(path: Path | str, every: int = 1) -> float:
    """The constant rate at which a video can be written again with each frame shown in its time.

    That of the video where its frames come regularly, by their times where its header contradicts them; where
    the rate varies, that of its shortest gap (120 at most), because at the mean rate frames would be shown
    late. Every frame is grabbed once for its time.

    Args:
        path: the video.
        every: each n-th frame is written.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no video that OpenCV can read.
    """
    import cv2

    capture = _opened(Path(path))
    try:
        facts = _facts(capture, Path(path))
        mean, times = facts.fps / every, []
        while capture.grab():
            _check_count(len(times), facts, Path(path))
            times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    finally:
        capture.release()
    gaps = np.diff(np.array(times[::every], np.float64))
    gaps = gaps[np.isfinite(gaps) & (gaps > 0)]
    if not len(gaps):
        return mean
    own = float(1 / gaps.mean())
    if gaps.max() <= _STEADY * gaps.min():
        return mean if own / _STEADY <= mean <= own * _STEADY else own
    return float(np.clip(1 / gaps.min(), own, max(own, _FASTEST)))


def frames(path: Path | str, every: int = 1) -> Iterator[Frame]:
    """Frames in order, decoded one by one: memory does not grow with the length.

    Where fewer frames can be read than the file states, a `ReadingNote` is issued after the last one.

    Args:
        path: the video.
        every: give each n-th frame only.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no video, has no frame or one of more than `MOST_FRAME_PIXELS`, or `every` is
            below 1.
    """
    if every < 1:
        raise ValueError(f"frames: expected every 1st, 2nd, ... frame, got {every}")
    path = Path(path)
    capture = _opened(path)  # here and not in the generator, so that errors are raised at once
    return _frames(capture, _facts(capture, path), path, every)


class VideoWriter:
    """Writes RGB frames of one size: ``with VideoWriter("out.mp4", fps) as video: video.write(image)``.

    The file has a constant rate. Frames with times are repeated until the time of the next one, so that a
    video of variable rate keeps its duration. It appears whole or not at all.

    Raises:
        ValueError: an unknown ending, no rate, or frames that differ in size.
        OSError: the file cannot be written, or not whole.
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
        self._target, self._part, self._repeated = ExitStack(), self.path, 0
        self._last: np.ndarray | None = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._finish(whole=error is None)
        except BaseException as failure:
            self._target.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._target.__exit__(kind, error, trace)

    def write(self, image: UInt8[np.ndarray, "H W 3"], seconds: float | None = None) -> None:
        """Add one frame; the first decides the size.

        Args:
            image: RGB.
            seconds: when it is shown, since the start; one frame after the last one by default.

        Raises:
            ValueError: of another size, or so late that the one before would be shown for `LONGEST_PAUSE`, or
                an hour of repeated frames would be written in all.
        """
        import cv2

        height, width = image.shape[:2]
        if self._writer is None:
            self._part = self._target.enter_context(replacing(self.path))
            code = cv2.VideoWriter_fourcc(*_CODECS[self.path.suffix.lower()])  # type: ignore[attr-defined]
            self._writer = cv2.VideoWriter(str(self._part), code, self.fps, (width, height))
            self._size = (height, width)
            if not self._writer.isOpened():
                raise OSError(f"{self.path}: this OpenCV cannot write it ({width} x {height} pixels)")
        if (height, width) != self._size:
            raise ValueError(f"{self.path.name}: frames are {self._size}, got one of {(height, width)}")
        late = 0 if seconds is None else round(seconds * self.fps) - self.count
        if late > LONGEST_PAUSE * self.fps:
            raise ValueError(
                f"{self.path.name}: one frame is shown for {late / self.fps:.0f} s, more than"
                f" {LONGEST_PAUSE} s; write single images (--out a folder) instead"
            )
        if self._last is not None:
            self._repeated += max(late, 0)
            if self._repeated > _MOST_REPEATED:
                raise ValueError(
                    f"{self.path.name}: more than {_MOST_REPEATED:,} frames would be repeated to fill its"
                    " pauses; write single images (--out a folder) instead"
                )
            for _ in range(late):
                self._writer.write(self._last)
                self.count += 1
        self._last = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
        self._writer.write(self._last)
        self.count += 1

    def _finish(self, whole: bool) -> None:
        """Close the file; raise OSError where less is in it than was written: OpenCV does not say so."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        if not whole or not self._part.is_file():
            return
        with self._part.open("rb") as stream:
            kind, size = struct.unpack("<4sI", stream.read(8).ljust(8))
        try:  # an AVI states its frames also where they are missing
            found = video_facts(self._part).count
        except ValueError:
            found = 0
        if found < self.count or (kind == b"RIFF" and size + 8 > self._part.stat().st_size):
            raise OSError(f"{self.path}: the video could not be written whole; is the disk full?")


def _opened(path: Path):
    import cv2

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such video file")
    check_tables(path)
    given = os.environ.get(_OPTIONS, "")
    if _CONTAINERS not in given:
        os.environ[_OPTIONS] = "|".join(filter(None, (given, _CONTAINERS, _DECODERS)))
    os.environ.setdefault(_LOG, _QUIET)
    _bound_ffmpeg()
    # Others read series of pictures and lists of files too, and are tried for what FFmpeg refuses.
    has_ffmpeg = cv2.CAP_FFMPEG in cv2.videoio_registry.getStreamBackends()
    # An absolute path: FFmpeg takes `http:/host/x.mp4`, a file in a folder named "http:", for an address.
    level = cv2.utils.logging.setLogLevel(0)  # the sentence below says what OpenCV would warn of
    try:
        capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG if has_ffmpeg else cv2.CAP_ANY)
    finally:
        cv2.utils.logging.setLogLevel(level)
    # Without FFmpeg a numbered picture, whatever its ending, would be the first of a series of files.
    if not capture.isOpened() or capture.getBackendName() == "CV_IMAGES":
        capture.release()
        raise ValueError(f"{path.name}: expected a video that OpenCV can read, got a file that is none")
    # FFmpeg knows no kind of pixels where the decoder is none of the list above.
    if has_ffmpeg and capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT) == -1:
        code = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
        capture.release()
        raise ValueError(
            f"{path.name}: its frames are coded as {code.to_bytes(4, 'little')!r}, which is not read here; "
            "convert it to H.264 (ffmpeg -c:v libx264)"
        )
    return capture


@functools.cache
def _bound_ffmpeg() -> None:
    """Let FFmpeg decode no frame that is much larger than `MOST_FRAME_PIXELS`: the video then ends before it.

    Frames of a video may differ in size, and OpenCV shows the size after the frame is decoded, of some codecs
    never. Of the public function alone: OpenCV passes no option to the decoders. Where the library cannot be
    found (outside Linux, or linked into OpenCV) only FFmpeg's own limit holds, 268 million pixels.
    """
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return
    for library in {line.split(maxsplit=5)[-1] for line in lines if "/libavutil" in line}:
        # The variable counts at FFmpeg's first use alone, which writing a video may have been.
        ctypes.CDLL(library).av_log_set_level(int(_QUIET))
        bound = ctypes.CDLL(library).av_max_alloc
        bound.argtypes, bound.restype = [ctypes.c_size_t], None
        bound(_MOST_OF_FFMPEG)


def _facts(capture, path: Path) -> VideoFacts:
    import cv2

    width, height = _sides(capture)
    fps, count = float(capture.get(cv2.CAP_PROP_FPS)), float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    if width <= 0 or height <= 0 or not np.isfinite(fps) or fps <= 0:
        raise ValueError(f"{path.name}: expected a video, but it states no size or no frame rate")
    _check_size(width, height, path)
    return VideoFacts(width, height, fps, count if count > 0 else float("nan"))


def _sides(capture) -> tuple[int, int]:
    """Width and height of the frames, as they are now."""
    import cv2

    return int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))


def _check_size(width: int, height: int, path: Path) -> None:
    """Raise ValueError for frames that are larger than any image that is read."""
    if width * height > MOST_FRAME_PIXELS:
        raise ValueError(
            f"{path.name}: has frames of {width} x {height} pixels; at most {MOST_FRAME_PIXELS:,} are read"
        )
    if max(width, height) > MOST_SIDE:
        raise ValueError(
            f"{path.name}: has frames of {width} x {height} pixels; a side has at most {MOST_SIDE:,}"
        )


def _check_count(index: int, facts: VideoFacts, path: Path) -> None:
    """Raise ValueError where far more frames come than the file states: a list of edits can repeat them."""
    if index > 2 * facts.count + 1000:  # a variable rate makes the number an estimate; of nan there is none
        raise ValueError(
            f"{path.name}: states {counted(facts.count, 'frame', spec='.0f')}, and {index} have been read; "
            "convert it to a plain video first (ffmpeg -i IN OUT.mp4)"
        )


def _frames(capture, facts: VideoFacts, path: Path, every: int) -> Iterator[Frame]:
    import cv2

    index, seconds = 0, 0.0
    try:
        while capture.grab():  # skipped frames are not converted
            stated = round(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, 6)
            # Some containers give no times, or the same for all; times never go back.
            if index and not (np.isfinite(stated) and stated > seconds):
                stated = seconds + 1 / facts.fps
            seconds = stated if np.isfinite(stated) and stated >= 0 else 0.0
            _check_count(index, facts, path)
            # A frame may be of another size than the container says.
            _check_size(*_sides(capture), path)
            if index % every == 0:
                good, pixels = capture.retrieve()
                if not good:
                    raise ValueError(f"{path.name}: frame {index} cannot be decoded")
                yield Frame(index, seconds, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
            index += 1
    finally:
        capture.release()
    if index == 0:
        raise ValueError(f"{path.name}: a video without a single frame that can be decoded")
    lasts, read = facts.count / facts.fps, seconds + 1 / facts.fps
    # By time: of a variable rate the number of frames is only an estimate. nan compares as nothing missing.
    if lasts - read > max(2 / facts.fps, _MISSING_SHARE * lasts):
        warnings.warn(
            f"{path.name}: {index} of {counted(facts.count, 'frame', spec='.0f')} could be read, {read:.2f} "
            f"of {lasts:.2f} s: the file is truncated or damaged there, and later frames are missing in the "
            "result",
            ReadingNote,
            stacklevel=2,
        )
