from __future__ import annotations

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
