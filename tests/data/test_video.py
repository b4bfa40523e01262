from __future__ import annotations

import struct
import warnings

import cv2
import numpy as np
import pytest

from workbench.data.video import VideoWriter, frames, video_facts


def pictures(count=6):
    for i in range(count):
        image = np.zeros((48, 64, 3), np.uint8)
        image[..., 0] = 30 * i  # the red channel tells the frame
        yield image


@pytest.mark.parametrize("name", ["out.mp4", "out.avi"])
def test_frames_come_back_in_order_with_their_times_and_colours(tmp_path, name):
    with VideoWriter(tmp_path / name, 12.5) as video:
        for image in pictures():
            video.write(image)
    assert video.count == 6
    facts = video_facts(tmp_path / name)
    assert (facts.width, facts.height, facts.fps, facts.count) == (64, 48, 12.5, 6)
    found = list(frames(tmp_path / name))
    assert [f.index for f in found] == list(range(6))
    assert found[5].seconds == pytest.approx(5 / 12.5)
    for f in found:
        red, green, blue = f.image.reshape(-1, 3).mean(0)
        assert red == pytest.approx(30 * f.index, abs=8)
        assert max(green, blue) < 12


def test_every_second_frame(tmp_path):
    with VideoWriter(tmp_path / "out.avi", 10) as video:
        for image in pictures():
            video.write(image)
    assert [f.index for f in frames(tmp_path / "out.avi", every=2)] == [0, 2, 4]


def test_a_list_of_other_files_is_no_video(tmp_path):
    with VideoWriter(tmp_path / "other_001.avi", 10) as video:
        for image in pictures():
            video.write(image)
    (tmp_path / "list.avi").write_text("ffconcat version 1.0\nfile other_001.avi\n")
    (tmp_path / "list.mp4").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother_001.avi\n#EXT-X-ENDLIST\n"
    )
    for number in (1, 2):
        cv2.imwrite(str(tmp_path / "picture.png"), np.zeros((48, 64, 3), np.uint8))
        (tmp_path / "picture.png").rename(tmp_path / f"frame_{number}.mp4")
    for name in ("list.avi", "list.mp4", "frame_1.mp4"):
        with pytest.raises(ValueError, match=f"{name}: expected a video"):
            frames(tmp_path / name)
    assert len(list(frames(tmp_path / "other_001.avi"))) == 6


def test_bad_input_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "none.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(ValueError, match=r"none.mp4: expected a video"):
        frames(tmp_path / "none.mp4")  # at once, not at the first frame
    with pytest.raises(FileNotFoundError, match=r"absent.mp4"):
        frames(tmp_path / "absent.mp4")
    with pytest.raises(ValueError, match="every"):
        frames(tmp_path / "none.mp4", every=0)
    with pytest.raises(ValueError, match="expected a video ending"):
        VideoWriter(tmp_path / "out.gif", 10)
    with pytest.raises(ValueError, match="frames per second above 0"):
        VideoWriter(tmp_path / "out.mp4", float("nan"))
    with pytest.raises(FileNotFoundError, match="no such folder"):
        VideoWriter(tmp_path / "nowhere" / "out.mp4", 10)
    with VideoWriter(tmp_path / "out.mp4", 10) as video:
        video.write(np.zeros((48, 64, 3), np.uint8))
        with pytest.raises(ValueError, match="frames are"):
            video.write(np.zeros((20, 20, 3), np.uint8))


def test_a_cut_off_video_is_refused(tmp_path):
    with VideoWriter(tmp_path / "whole.mp4", 10) as video:
        for image in pictures():
            video.write(image)
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[:300])
    with pytest.raises(ValueError, match=r"cut.mp4"):
        list(frames(tmp_path / "cut.mp4"))


def variable(path, milliseconds):
    """A Matroska file whose frames are shown at these times: OpenCV's, its block times and length changed."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no Matroska files")
    for image in pictures(len(milliseconds)):
        writer.write(image[..., ::-1])
    writer.release()
    data, at = bytearray(path.read_bytes()), 0
    for i, time in enumerate(milliseconds):
        block = b"\x81" + struct.pack(">h", 40 * i)  # track 1, time since the cluster's
        at = next(p for f in (b"\x80", b"\x00") if (p := data.find(block + f, at)) >= 0)
        data[at + 1 : at + 3] = struct.pack(">h", time)
    at = data.index(b"\x44\x89\x88") + 3  # Duration, a double
    data[at : at + 8] = struct.pack(">d", float(milliseconds[-1] + 40))
    path.write_bytes(data)
    return path


TIMES = [0, 120, 1120, 1200, 3200, 3320]


def test_times_are_those_at_which_the_container_shows_the_frames(tmp_path):
    found = list(frames(variable(tmp_path / "v.mkv", TIMES)))
    assert [round(f.seconds * 1000) for f in found] == TIMES
    assert [round(f.seconds * 1000) for f in frames(tmp_path / "v.mkv", every=2)] == TIMES[::2]


def test_a_written_video_lasts_as_long_as_the_one_it_was_made_of_and_shows_each_frame_in_its_time(tmp_path):
    path = variable(tmp_path / "v.mkv", TIMES)
    with VideoWriter(tmp_path / "out.avi", video_facts(path).fps) as video:
        for frame in frames(path):
            video.write(frame.image, frame.seconds)
    written = list(frames(tmp_path / "out.avi"))
    assert len(written) / 25 == pytest.approx(3.36)
    reds = [round(f.image[..., 0].mean() / 30) for f in written]
    for frame, (start, end) in enumerate(zip(TIMES, [*TIMES[1:], 3360], strict=True)):
        assert set(reds[start // 40 : end // 40]) == {frame}
    with VideoWriter(tmp_path / "long.avi", 10) as video:
        video.write(frame_of(0))
        with pytest.raises(ValueError, match=r"one frame is shown for 1000 s, more than 600 s"):
            video.write(frame_of(1), 1000.1)


def frame_of(shade):
    return np.full((48, 64, 3), shade, np.uint8)


@pytest.mark.parametrize("name", ["cut.avi", "cut.mkv"])
def test_a_video_of_which_only_a_part_can_be_read_says_so(tmp_path, name):
    import cv2

    from workbench.core import ReadingNote

    path = tmp_path / name
    code = "MJPG" if name.endswith("avi") else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV writes no {path.suffix} files")
    rng = np.random.default_rng(0)
    for _ in range(40):
        writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ReadingNote)
        assert len(list(frames(path))) == 40  # a whole one says nothing
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 5])
    with pytest.warns(ReadingNote, match=r"cut\.\w+: \d+ of 40 frames could be read, .* of 4.00 s") as said:
        found = list(frames(path))
    assert 3 <= len(found) <= 18
    assert f"{len(found)} of 40" in str(said[0].message)


def test_frames_of_more_pixels_than_any_image_are_refused_before_one_is_decoded(tmp_path, monkeypatch):
    with VideoWriter(tmp_path / "large.avi", 25) as video:
        for image in pictures(2):
            video.write(image)
    facts = video_facts(tmp_path / "large.avi")
    monkeypatch.setattr("workbench.data.video.MOST_PIXELS", facts.width * facts.height - 1)
    for reader in (video_facts, lambda path: list(frames(path))):
        with pytest.raises(
            ValueError, match=rf"large\.avi: has frames of {facts.width} x {facts.height} pixels"
        ):
            reader(tmp_path / "large.avi")
