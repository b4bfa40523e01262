from __future__ import annotations

import struct
import sys
import warnings

import cv2
import numpy as np
import pytest

from workbench.data.video import VideoWriter, constant_rate, frames, video_facts


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


def test_a_picture_that_is_called_a_video_leads_to_no_other_file(tmp_path, monkeypatch):
    """OpenCV's reader of series opens frame_2 to see whether there is one; only FFmpeg is asked."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((48, 64, 3), np.uint8))
    path = (tmp_path / "a.png").rename(tmp_path / "frame_1.mp4")
    asked = []
    opened = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda *given: asked.append(given) or opened(*given))
    with pytest.raises(ValueError, match=r"frame_1\.mp4: expected a video"):
        video_facts(path)
    assert asked == [(str(path), cv2.CAP_FFMPEG)]


def test_frames_that_are_packed_pictures_are_not_unpacked(tmp_path):
    path = tmp_path / "packed.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MPNG"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no PNG into .avi files")
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    with pytest.raises(ValueError, match=r"packed\.avi: its frames are coded as b'MPNG', which is not read"):
        video_facts(path)


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


def atom(data, path):
    """Offset and size of each atom on a path through an mp4 file."""
    found, low, high = [], 0, len(data)
    for name in path:
        while data[low + 4 : low + 8] != name:
            low += struct.unpack(">I", data[low : low + 4])[0]
        size = struct.unpack(">I", data[low : low + 4])[0]
        found.append((low, size))
        low, high = low + 8, low + size
    assert low <= high
    return found


def variable_mp4(path, milliseconds, last):
    """An mp4 of a variable rate, whose header states the mean rate, as telephones write it."""
    with VideoWriter(path, 10) as video:
        for image in pictures(len(milliseconds)):
            video.write(image)
    data = bytearray(path.read_bytes())
    media = [b"moov", b"trak", b"mdia"]
    header = atom(data, [*media, b"mdhd"])[-1][0]
    scale = struct.unpack(">I", data[header + 20 : header + 24])[0]
    gaps = [g * scale // 1000 for g in np.diff([*milliseconds, last]).tolist()]
    *outer, (at, size) = atom(data, [*media, b"minf", b"stbl", b"stts"])
    table = struct.pack(">I4sII", 16 + 8 * len(gaps), b"stts", 0, len(gaps))
    table += b"".join(struct.pack(">II", 1, gap) for gap in gaps)
    data[at : at + size] = table
    for start, old in outer:
        data[start : start + 4] = struct.pack(">I", old + len(table) - size)
    data[header + 24 : header + 28] = struct.pack(">I", sum(gaps))
    for names, inside in (([b"moov", b"trak", b"tkhd"], 28), ([b"moov", b"trak", b"edts", b"elst"], 16)):
        start = atom(data, names)[-1][0] + inside
        data[start : start + 4] = struct.pack(">I", last)
    start = atom(data, [b"moov", b"mvhd"])[-1][0] + 24
    data[start : start + 4] = struct.pack(">I", last)
    path.write_bytes(data)
    return path


def test_frames_of_a_variable_rate_are_written_in_their_time_though_the_header_states_the_mean(tmp_path):
    from workbench.cli.pictures import Drawings, Picture

    times = [0, 100, 400, 450, 950, 1150]
    path = variable_mp4(tmp_path / "phone.mp4", times, 1250)
    assert [round(f.seconds * 1000) for f in frames(path)] == times
    assert video_facts(path).fps == pytest.approx(4.8)
    assert constant_rate(path) == pytest.approx(20)
    with Drawings(tmp_path / "out.avi", [path]) as drawings:
        for frame in frames(path):
            drawings.add(Picture(path, frame.image, frame.index, frame.seconds), frame.image)
    shown = {}
    for frame in frames(tmp_path / "out.avi"):
        shown.setdefault(round(frame.image[..., 0].mean() / 30), round(frame.seconds * 1000))
    assert shown == dict(enumerate(times))


def test_a_steady_rate_is_kept_and_rounded_times_of_a_container_do_not_raise_it(tmp_path):
    with VideoWriter(tmp_path / "v.mp4", 30) as video:
        for image in pictures(9):
            video.write(image)
    assert constant_rate(tmp_path / "v.mp4") == pytest.approx(30)
    assert constant_rate(tmp_path / "v.mp4", every=2) == pytest.approx(15)
    rounded = [0, 33, 67, 100, 133, 167]
    assert constant_rate(variable(tmp_path / "v.mkv", rounded)) == video_facts(tmp_path / "v.mkv").fps
    assert constant_rate(variable_mp4(tmp_path / "burst.mp4", [0, 1, 500], 1000)) == 120


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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="FFmpeg is bounded on Linux alone")
def test_a_later_frame_of_many_pixels_ends_the_video_before_it_is_decoded(tmp_path):
    """Gigabytes were taken for it, and it was shown in the size of the first one."""
    small, large = (
        cv2.imencode(".jpg", np.zeros(shape, np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 10])[1].tobytes()
        for shape in ((48, 64, 3), (12_100, 12_100))
    )
    (tmp_path / "grows.avi").write_bytes(30 * small + large)
    assert sum(1 for _ in frames(tmp_path / "grows.avi")) == 30


def test_frames_of_more_pixels_than_any_video_are_refused_before_one_is_decoded(tmp_path, monkeypatch):
    with VideoWriter(tmp_path / "large.avi", 25) as video:
        for image in pictures(2):
            video.write(image)
    facts = video_facts(tmp_path / "large.avi")
    monkeypatch.setattr("workbench.data.video.MOST_SIDE", facts.width - 1)
    with pytest.raises(ValueError, match=f"a side has at most {facts.width - 1}"):
        video_facts(tmp_path / "large.avi")
    monkeypatch.setattr("workbench.data.video.MOST_FRAME_PIXELS", facts.width * facts.height - 1)
    for reader in (video_facts, lambda path: list(frames(path))):
        with pytest.raises(
            ValueError, match=rf"large\.avi: has frames of {facts.width} x {facts.height} pixels"
        ):
            reader(tmp_path / "large.avi")


def with_tables(path, edits=None, **tables):
    """An mp4 of six frames, some of its tables of samples replaced."""
    with VideoWriter(path, 10) as video:
        for image in pictures():
            video.write(image)
    data = bytearray(path.read_bytes())
    outer = [b"moov", b"trak", b"mdia", b"minf", b"stbl"]
    for name, values in tables.items():
        *holders, (at, size) = atom(data, [*outer, name.encode()])
        table = struct.pack(">I", 0) + struct.pack(f">{len(values)}I", *values)
        data[at : at + size] = struct.pack(">I4s", 8 + len(table), name.encode()) + table
        for start, old in holders:
            data[start : start + 4] = struct.pack(">I", old + 8 + len(table) - size)
    if edits is not None:
        *holders, (at, size) = atom(data, [b"moov", b"trak", b"edts", b"elst"])
        table = struct.pack(">II", 0, edits) + edits * struct.pack(">IiI", 600, 0, 65536)
        data[at : at + size] = struct.pack(">I4s", 8 + len(table), b"elst") + table
        for start, old in holders:
            data[start : start + 4] = struct.pack(">I", old + 8 + len(table) - size)
    path.write_bytes(data)
    return path


def test_tables_of_more_samples_than_a_file_has_bytes_are_refused(tmp_path):
    """20 such tracks in 12 kB took 4.7 s to open."""
    samples = 5_900_000
    path = with_tables(tmp_path / "many.mp4", stsz=(100, samples), stts=(1, samples, 1000))
    with pytest.raises(
        ValueError, match=r"many\.mp4: expected a video, but it claims 5,900,000 samples in its"
    ):
        frames(path)
    run = struct.pack(">I4sIII", 20, b"trun", 0, samples, 0)
    fragment = struct.pack(">I4sI4s", 16 + len(run), b"moof", 8 + len(run), b"traf") + run
    whole = with_tables(tmp_path / "whole.mp4")
    (tmp_path / "parts.mp4").write_bytes(whole.read_bytes() + fragment)
    with pytest.raises(ValueError, match=r"parts\.mp4: .* claims 5,900,006 samples"):
        video_facts(tmp_path / "parts.mp4")
    (tmp_path / "deep.mp4").write_bytes(
        b"".join(struct.pack(">I4s", 8 * (99 - i), b"trak") for i in range(99))
    )
    with pytest.raises(ValueError, match=r"deep\.mp4: expected a video, but its boxes are nested too deeply"):
        video_facts(tmp_path / "deep.mp4")
    assert (
        len(list(frames(with_tables(tmp_path / "twice.mp4", edits=2)))) == 12
    )  # shown twice, as it asks for


def test_a_list_of_edits_that_repeats_a_few_frames_without_end_is_refused(tmp_path):
    path = with_tables(tmp_path / "loop.mp4", edits=400)
    for reader in (constant_rate, lambda path: list(frames(path))):
        with pytest.raises(ValueError, match=r"loop\.mp4: states 6 frames, and 1013 have been read"):
            reader(path)


def test_a_video_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "out.mp4"
    with VideoWriter(path, 10) as video:
        for image in pictures():
            video.write(image)
    before = path.read_bytes()

    def stopped():
        with VideoWriter(path, 10) as video:
            for image in pictures():
                video.write(image)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file sizes")
@pytest.mark.parametrize("name", ["out.mp4", "out.avi"])
def test_a_full_disk_leaves_no_part_of_a_video(tmp_path, name):
    """OpenCV does not say that it could not write."""
    import resource
    import signal

    rng = np.random.default_rng(0)

    def written():
        with VideoWriter(tmp_path / name, 10) as video:
            for _ in range(40):
                video.write(rng.integers(0, 255, (48, 64, 3), np.uint8))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(OSError, match="could not be written whole"):
            written()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_pauses_of_a_video_fill_no_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.data.video._MOST_REPEATED", 50)

    def written():
        with VideoWriter(tmp_path / "out.mp4", 10) as video:
            for number in range(9):
                video.write(frame_of(number), 2.0 * number)

    with pytest.raises(ValueError, match=r"out\.mp4: more than 50 frames would be repeated"):
        written()


def test_the_rate_of_a_header_that_its_times_contradict_is_not_taken(tmp_path):
    """Matroska with a frame length of some nanoseconds: 30,000 frames a second were written."""
    path = variable(tmp_path / "v.mkv", [0, 40, 80, 120, 160])
    data = bytearray(path.read_bytes())
    at = data.index(b"\x23\xe3\x83") + 4  # DefaultDuration
    data[at : at + 4] = struct.pack(">I", 33_000)
    path.write_bytes(data)
    assert video_facts(path).fps > 1000
    assert constant_rate(path) == pytest.approx(25)


def test_what_ffmpeg_says_of_a_damaged_video_is_not_written_to_the_terminal(tmp_path, capfd):
    (tmp_path / "cut.mp4").write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(400))
    with pytest.raises(ValueError, match="got a file that is none"):
        video_facts(tmp_path / "cut.mp4")
    assert capfd.readouterr().err == ""
