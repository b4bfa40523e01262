from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from workbench.cli import VERBS, answering
from workbench.core import ReadingNote
from workbench.data import builtin, read_coco
from workbench.data.images import (
    ImageReading,
    exif_orientation,
    image_size,
    images_in,
    read_image,
    read_image_with_notes,
    upright_size,
    write_image,
)
from workbench.evaluation.predictions import origin_of
from workbench.evaluation.protocol import Protocol
from workbench.evaluation.sweeps.rules import images_digest


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_pixels_are_rgb_and_survive_a_png(tmp_path, picture):
    path = write_image(tmp_path / "a.png", picture)
    assert (read_image(path) == picture).all()
    assert image_size(path) == (20, 30)


def test_the_path_may_hold_any_letters(tmp_path, picture):
    assert (read_image(write_image(tmp_path / "Pferd ü 马.png", picture)) == picture).all()


def test_grey_transparency_and_16_bits_become_rgb_of_8(tmp_path, picture):
    Image.fromarray(picture[..., 0]).save(tmp_path / "grey.png")
    assert (read_image(tmp_path / "grey.png") == picture[..., :1]).all()
    alpha = np.dstack([picture, np.full((20, 30), 9, np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    assert (read_image(tmp_path / "alpha.png") == picture).all()
    Image.fromarray(picture[..., 0].astype(np.uint16) * 256).save(tmp_path / "deep.png")
    assert (read_image(tmp_path / "deep.png") == picture[..., :1]).all()


def test_a_cameras_rotation_is_applied_unless_pixels_are_wanted_as_stored(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(picture).save(tmp_path / "turned.jpg", exif=exif, quality=100, subsampling=0)
    upright, stored = read_image(tmp_path / "turned.jpg"), read_image(tmp_path / "turned.jpg", upright=False)
    assert upright.shape == (30, 20, 3)
    assert (np.rot90(stored, -1) == upright).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_every_orientation_is_turned_and_left_as_stored(tmp_path, picture, orientation, ending):
    """Pillow turns by the standard's table; 2, 4, 5 and 7 are mirrored."""
    from PIL import ImageOps

    from workbench.data.images import turned_by_exif, upright_size

    exif, path = Image.Exif(), tmp_path / f"turned.{ending}"
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if ending == "jpg" else {}
    Image.fromarray(picture).save(path, exif=exif, **options)
    with Image.open(path) as opened:
        wanted = np.asarray(ImageOps.exif_transpose(opened))
    plain = tmp_path / f"plain.{ending}"
    Image.fromarray(picture).save(plain, **options)
    assert np.abs(read_image(path).astype(int) - wanted).max() <= 3
    assert (read_image(path, upright=False) == read_image(plain)).all()
    assert upright_size(path) == wanted.shape[:2]
    assert turned_by_exif(path) == (None if orientation == 1 else (picture.shape[:2], wanted.shape[:2]))


def test_a_png_is_decoded_in_search_of_a_rotation_only_where_it_may_hold_one(tmp_path, picture, monkeypatch):
    from PIL import PngImagePlugin

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=exif)
    data = (tmp_path / "turned.png").read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    # Behind the pixels, as the format allows: only who reads past them finds it.
    (tmp_path / "late.png").write_bytes(data[:start] + data[end:-12] + data[start:end] + data[-12:])
    assert [exif_orientation(tmp_path / name) for name in ("turned.png", "late.png")] == [6, 6]
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("decoded"))
    assert upright_size(write_image(tmp_path / "plain.png", picture)) == (20, 30)


def test_a_set_annotated_on_the_stored_picture_gets_that_one(tmp_path, picture):
    from workbench.data import ImageRecord, PoseSet
    from workbench.skeletons import SKELETONS

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "turned.jpg", exif=exif)
    for width, height in ((30, 20), (20, 30)):
        record = ImageRecord(1, tmp_path / "turned.jpg", width, height)
        found = PoseSet("set", SKELETONS["coco-17"], (), {1: record}, {1: "person"})
        assert found.image(1).shape == (height, width, 3)


def _png_claiming(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


def test_bad_images_are_refused_in_one_sentence(tmp_path, picture):
    whole = write_image(tmp_path / "whole.jpg", np.kron(picture, np.ones((9, 9, 1), np.uint8))).read_bytes()
    png = write_image(tmp_path / "whole.png", picture).read_bytes()
    bad = {
        "none.png": (b"hello", "a file that is none"),
        "empty.jpg": (b"", "a file that is none"),
        "cut.jpg": (whole[: len(whole) // 2], "cut off"),
        "cut.png": (png[: len(png) // 2], "cut off"),
        "head.png": (png[:20], "expected an image"),
        "bomb.png": (_png_claiming(60_000, 60_000), "pixels"),
        "large.png": (_png_claiming(10_000, 9_000), "at most 75,000,000"),
        "long.png": (_png_claiming(40_000, 9), "40000 x 9 pixels; a side has at most 32,766"),
        "high.png": (_png_claiming(1, 32_767), "a side has at most 32,766"),
        "mixed.png": (_png_claiming(9, 9), "cannot be decoded|broken"),
    }
    for name, (data, message) in bad.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=message) as refused:
            read_image(tmp_path / name)
        assert name in str(refused.value)
    with pytest.raises(FileNotFoundError, match=r"absent.png"):
        read_image(tmp_path / "absent.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_beside_other_images_is_refused_and_not_waited_for(tmp_path, picture):
    from workbench.cli.pictures import pictures

    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(FileNotFoundError, match=r"pipe.png: no such image file"):
        list(pictures([tmp_path / "pipe.png", write_image(tmp_path / "a.png", picture)]))


def test_a_folder_gives_its_images_in_order(tmp_path, picture):
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "a.JPG", "deep/c.png"):
        write_image(tmp_path / name, picture)
    (tmp_path / "notes.txt").write_text("no image")
    assert [p.name for p in images_in(tmp_path)] == ["a.JPG", "b.png", "c.png"]
    with pytest.raises(ValueError, match="no image there"):
        images_in(tmp_path / "deep" / ".." / _empty(tmp_path))
    with pytest.raises(FileNotFoundError):
        images_in(tmp_path / "nowhere")


def _empty(tmp_path):
    (tmp_path / "empty").mkdir()
    return "empty"


def test_an_unknown_ending_is_refused_before_anything_is_written(tmp_path, picture):
    with pytest.raises(ValueError, match="expected an ending"):
        write_image(tmp_path / "a.txt", picture)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["bmp", "tif", "gif"])
def test_a_broken_file_is_told_in_one_sentence_and_by_nobody_else(tmp_path, picture, ending, capfd):
    Image.fromarray(picture).save(tmp_path / f"whole.{ending}")
    data = (tmp_path / f"whole.{ending}").read_bytes()
    (tmp_path / f"cut.{ending}").write_bytes(data[: len(data) - 1200])
    with pytest.raises(ValueError, match="expected an image"):
        read_image(tmp_path / f"cut.{ending}")
    assert capfd.readouterr().err == ""  # OpenCV writes to the descriptor, past sys.stderr


MODES = [("CMYK", "jpg"), ("P", "png"), ("1", "png"), ("LA", "png"), ("RGBA", "webp"), ("I;16", "png")]


@pytest.mark.parametrize(("mode", "ending"), MODES)
def test_every_mode_is_read_as_mmcv_reads_it(tmp_path, picture, mode, ending):
    mmcv = pytest.importorskip("mmcv")
    if mode == "I;16":
        Image.fromarray(picture[..., 0].astype(np.uint16) * 250).save(tmp_path / f"a.{ending}")
    else:
        Image.fromarray(picture).convert(mode).save(tmp_path / f"a.{ending}")
    expected = mmcv.imfrombytes((tmp_path / f"a.{ending}").read_bytes(), flag="color", backend="cv2")
    assert (read_image(tmp_path / f"a.{ending}") == expected[..., ::-1]).all()


@pytest.mark.parametrize(
    ("bits", "ending"), [(8, "png"), (10, "png"), (12, "png"), (14, "tif"), (16, "png"), (16, "tif")]
)
def test_pictures_of_cameras_with_fewer_bits_than_their_file_are_as_bright_as_taken(tmp_path, bits, ending):
    import cv2

    grey = np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint8)
    grey[0, 0] = 255
    path = tmp_path / f"a.{ending}"
    cv2.imwrite(str(path), grey.astype(np.uint16) << (bits - 8))
    pixels, notes = read_image_with_notes(path)
    np.testing.assert_array_equal(pixels, np.dstack([grey] * 3))
    if bits == 16:
        assert notes == ()
        read_image(path)  # and no warning
        return
    assert f"reaches only {255 << (bits - 8)} of 65535: read as {bits} bits" in notes[0]
    assert "assumed from its brightest value alone" in notes[0]
    with pytest.warns(ReadingNote, match=r"a 16-bit picture"):
        read_image(path)


@pytest.mark.parametrize("white", [1.0, 255.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_floats_with_a_known_white_are_read(tmp_path, white, channels):
    import cv2

    values = np.random.default_rng(0).integers(0, 256, (20, 30, channels)).astype(np.uint8)
    values[0, 0] = 255
    path = tmp_path / "a.tif"
    cv2.imwrite(str(path), values.astype(np.float32) / 255 * white)
    pixels, notes = read_image_with_notes(path)
    np.testing.assert_array_equal(pixels, np.broadcast_to(values[..., ::-1], (20, 30, 3)))
    assert f"{white:g} as white" in notes[0]
    assert image_size(path) == upright_size(path) == (20, 30)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((4, 4), 1e6, np.float32), "32-bit float values from 1e+06 to 1e+06; expected 0 to 1"),
        (np.full((4, 4), -1, np.float32), "32-bit float values from -1"),
        (np.full((4, 4), np.nan, np.float32), "32-bit float values of which some are no numbers"),
        (np.full((4, 4, 3), np.inf, np.float32), "32-bit float values from inf"),
        (np.full((4, 4), 70000, np.int32), "32-bit integer values, whose white value is unknown"),
    ],
)
def test_values_without_black_and_white_are_refused_with_the_reason(tmp_path, values, words):
    import cv2

    cv2.imwrite(str(tmp_path / "a.tif"), values)
    with pytest.raises(ValueError, match=r"a\.tif") as refused:
        read_image(tmp_path / "a.tif")
    assert words in str(refused.value)


def test_a_dark_picture_stays_dark_beside_others_of_its_camera(tmp_path):
    """A 12-bit camera by night fills 10 bits; read by themselves both pictures would be equally bright."""
    import cv2

    from workbench.cli.pictures import pictures
    from workbench.data import ImageRecord, PoseSet
    from workbench.data.images import common_bits
    from workbench.skeletons import SKELETONS

    ramp = np.tile(np.linspace(0, 1, 30), (20, 1))
    paths = [tmp_path / name for name in ("night.png", "day.png", "other.png")]
    cv2.imwrite(str(paths[0]), (ramp * 900).astype(np.uint16))
    cv2.imwrite(str(paths[1]), (ramp * 4000).astype(np.uint16))
    cv2.imwrite(str(paths[2]), np.full((20, 30), 9, np.uint8))
    assert common_bits(paths) == 12
    assert common_bits(paths[2:]) == 0
    images = {n: ImageRecord(n, path, 30, 20) for n, path in enumerate(paths)}
    found = PoseSet("set", SKELETONS["coco-17"], (), images, {1: "person"})
    with pytest.warns(ReadingNote, match="night.png: .* read as 12 bits, like the brightest image"):
        night = found.image(0)
    with pytest.warns(ReadingNote, match=r"day.png: .* read as 12 bits \("):
        shown = [(picture.image.max(), found.image(n).max()) for n, picture in enumerate(pictures(paths))]
    assert shown == [(900 >> 4, 900 >> 4), (4000 >> 4, 4000 >> 4), (9, 9)]
    assert night.max() == 900 >> 4


def test_the_bit_depth_of_a_picture_alone_can_be_stated(workbench, tmp_path):
    import cv2

    from workbench.cli.pictures import pictures

    path = tmp_path / "night.png"
    cv2.imwrite(str(path), np.full((20, 30), 260, np.uint16))
    with pytest.warns(ReadingNote, match="read as 10 bits .* assumed from its brightest value alone"):
        assert [p.image.max() for p in pictures([path])] == [260 >> 2]
    assert [p.image.max() for p in pictures([path], reading=ImageReading(12))] == [260 >> 4]
    assert [p.image.max() for p in pictures([path], reading=ImageReading(16))] == [1]
    words = ("predict", "--demo", "--image", path, "--json", "--bits")
    code, out, err = workbench(*words, "16")
    assert code == 0, err
    assert not any("night.png" in note for note in json.loads(out)["notes"])
    code, out, err = workbench(*words, "9")
    assert (code, out) == (2, "")
    assert "--bits: expected one of 8, 10, 12, 14, 16; got 9" in err


@pytest.fixture
def upside_down(tmp_path):
    """Two scenes with the EXIF orientation 3 left behind: a json of the stored pixels, of the same size."""
    from workbench.data.opening import export

    whole = builtin("scenes-val")
    file = export(whole, tmp_path / "set")
    content = json.loads(file.read_text())
    content["images"] = content["images"][:2]
    ids = {entry["id"] for entry in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    file.write_text(json.dumps(content))
    exif = Image.Exif()
    exif[0x0112] = 3
    for number in ids:
        path = file.parent / "images" / whole.images[number].path.name
        Image.fromarray(whole.image(number)).save(path, exif=exif, quality=95)
    return file


def test_a_set_of_stored_pixels_is_read_so_on_request_and_a_verb_names_the_option(workbench, upside_down):
    words = ("data", upside_down, "--json")
    code, out, err = workbench(*words)
    assert code == 0, err
    assert any("2 are mirrored or upside down" in one and "--as-stored" in one for one in
               json.loads(out)["findings"])  # fmt: skip
    code, out, err = workbench(*words, "--as-stored")
    assert code == 0, err
    facts = json.loads(out)
    assert any("read as they are stored, as --as-stored says" in one for one in facts["findings"])
    assert "without their EXIF rotation" in "".join(facts["notes"])
    turned, stored = read_coco(upside_down), read_coco(upside_down, reading=ImageReading(as_stored=True))
    wanted = builtin("scenes-val")
    number = next(iter(turned.images))
    difference = [np.abs(one.image(number) - wanted.image(number).astype(float)).mean() for one in
                  (turned, stored)]  # fmt: skip
    assert difference[0] > 10 > 3 > difference[1]  # JPEG's own loss
    # Results that were stored under the other reading are not taken for those of this one.
    for digest in (images_digest, lambda one: origin_of(Protocol("annotation"), one)):
        assert digest(turned) != digest(stored)


TURNS = [(6, None), (6, (40, 20)), (6, (20, 40)), (8, None), (8, (20, 40)), (3, None), (3, (40, 20))]


@pytest.mark.parametrize(("orientation", "stated"), TURNS)
def test_boxes_are_clipped_to_the_pixels_that_are_read(tmp_path, orientation, stated):
    """A photograph stored 40 wide and 20 high, with a box that reaches beyond both sides."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    names = ["nose", "tail"]
    box, points = [-5, -5, 100, 100], [10, 5, 2, 15, 15, 2]
    content = {
        "images": [
            {"id": 1, "file_name": "a.jpg"}
            | (dict(zip(("width", "height"), stated, strict=True)) if stated else {})
        ],
        "categories": [{"id": 1, "name": "mouse", "keypoints": names}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 100, "keypoints": points}
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    upright = (40, 20) if orientation == 3 else (20, 40)
    for as_stored, size in ((False, stated or upright), (True, (40, 20))):
        found = read_coco(tmp_path / "a.json", tmp_path, reading=ImageReading(as_stored=as_stored))
        assert (found.images[1].width, found.images[1].height) == size
        assert found.instances[0].box == (0, 0, size[0] - 1, size[1] - 1)
        assert found.sample(0).image.shape == (size[1], size[0], 3)


def test_score_and_evaluate_name_images_whose_rotation_is_open(workbench, upside_down, tmp_path):
    content = json.loads(upside_down.read_text())
    results = tmp_path / "results.json"
    results.write_text(json.dumps([{**a, "score": 1.0} for a in content["annotations"]]))
    said = "2 are mirrored or upside down, or square"
    code, out, err = workbench("score", results, "--data", upside_down)
    assert code == 0, err
    assert said in out
    code, out, err = workbench("evaluate", "--demo", "--data", upside_down, "--json")
    assert code == 0, err
    assert said in "".join(json.loads(out)["notes"])
    code, out, err = workbench("evaluate", "--demo", "--data", upside_down, "--json", "--as-stored")
    assert code == 0, err
    assert said not in out
    assert json.loads(out)["AP"] > 0.2


def test_every_verb_that_reads_images_takes_what_is_stated_about_them():
    lacking = []
    for verb in VERBS:
        module = importlib.import_module(f"workbench.cli.{verb.replace('-', '_')}")
        functions = {verb: module.command} if hasattr(module, "command") else {}
        functions |= {f"{verb} {name}": module.subcommand(name) for name in getattr(module, "SUBVERBS", ())}
        for name, function in functions.items():
            options = inspect.signature(answering(function)).parameters.keys()
            if options & {"data", "images", "image"} and not {"bits", "as_stored"} <= options:
                lacking.append(name)
    assert lacking == []


def test_the_size_of_a_turned_tiff_is_the_stored_one(tmp_path, picture):
    from workbench.data.images import turned_by_exif

    Image.fromarray(picture).save(tmp_path / "a.tif", tiffinfo={0x0112: 6})
    assert image_size(tmp_path / "a.tif") == (20, 30)
    assert upright_size(tmp_path / "a.tif") == (30, 20)
    assert turned_by_exif(tmp_path / "a.tif") == ((20, 30), (30, 20))


def test_every_verb_shows_what_is_to_be_said_about_its_files(workbench, tmp_path):
    import cv2

    path = tmp_path / "dark.png"
    cv2.imwrite(str(path), np.full((40, 40), 4000, np.uint16))
    for words in (("predict", "--demo", "--image", path), ("look", "peaks", "--demo", "--image", path)):
        code, out, err = workbench(*words)
        assert code == 0, err
        assert out.count("note: dark.png: a 16-bit picture that reaches only 4000 of 65535") == 1
        code, out, err = workbench(*words, "--json")
        assert sum("reaches only 4000" in note for note in json.loads(out)["notes"]) == 1


def test_a_png_that_claims_more_pixels_than_its_bytes_can_hold_is_refused_before_it_is_decoded(tmp_path):
    path = write_image(tmp_path / "a.png", np.zeros((20, 30, 3), np.uint8))
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 8600, 8600)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"claims 8600 x 8600 pixels, more than its \d+ bytes can hold"):
        read_image(path)
    read_image(write_image(tmp_path / "plain.png", np.zeros((2000, 2000, 3), np.uint8)))  # well compressed


@pytest.mark.filterwarnings("ignore:.*EXIF", "ignore:Truncated")
@pytest.mark.parametrize(
    ("ending", "kind"), [("gif", "frames"), ("webp", "frames"), ("png", "frames"), ("tif", "pages")]
)
def test_a_file_of_several_frames_is_read_as_its_first_and_says_how_many_there_are(tmp_path, ending, kind):
    from workbench.data.images import frame_count

    frames = [Image.fromarray(np.full((20, 30, 3), 80 * i, np.uint8)) for i in range(3)]
    path = tmp_path / f"moving.{ending}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    pixels, notes = read_image_with_notes(path)
    assert (pixels.max(), pixels.shape) == (0, (20, 30, 3))
    assert notes == (f"moving.{ending}: has 3 {kind}, of which the first alone is read",)
    frames[0].save(tmp_path / f"still.{ending}")
    assert read_image_with_notes(tmp_path / f"still.{ending}")[1] == ()
    cut = tmp_path / f"cut.{ending}"
    for length in range(20, path.stat().st_size, 29):  # never more than one sentence, whatever is left of it
        cut.write_bytes(path.read_bytes()[:length])
        with contextlib.suppress(ValueError):  # a PNG that is cut off is refused
            assert 1 <= frame_count(cut) <= 3


def test_frames_of_a_small_file_that_claims_millions_are_counted_to_a_limit(tmp_path):
    frame = b"," + bytes([0, 0, 0, 0, 1, 0, 1, 0, 0]) + b"\x02\x02\x44\x01\x00"
    (tmp_path / "many.gif").write_bytes(
        b"GIF89a" + bytes([1, 0, 1, 0, 128, 0, 0]) + bytes(6) + frame * 30000 + b";"
    )
    assert read_image_with_notes(tmp_path / "many.gif")[1] == (
        "many.gif: has 10,000 or more frames, of which the first alone is read",
    )


def test_a_header_that_pillow_refuses_as_a_value_is_told_with_the_name_of_the_file(tmp_path):
    (tmp_path / "wide.ppm").write_bytes(b"P3\n99999999999999999999 1\n255\n0 0 0")
    with pytest.raises(ValueError, match=r"wide\.ppm: expected an image, but its header is broken"):
        image_size(tmp_path / "wide.ppm")


def tiff_with_two_widths(path, big):
    """40 grey rows of 50 pixels; behind their size stands another one, of 3 x 2."""
    offset = 16 if big else 8
    entries = [(256, 4, 50), (257, 4, 40), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, offset)]
    entries += [(277, 3, 1), (278, 4, 40), (279, 4, 2000), (256, 4, 3), (257, 4, 2)]
    places = struct.pack("<HHQ", 8, 0, offset + 2000) if big else struct.pack("<I", offset + 2000)
    form, count = ("<HHQQ", "<Q") if big else ("<HHII", "<H")
    listed = b"".join(struct.pack(form, tag, kind, 1, value) for tag, kind, value in entries)
    start = (b"II+\0" if big else b"II*\0") + places + bytes(2000)
    path.write_bytes(start + struct.pack(count, len(entries)) + listed + bytes(8))
    return path


@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_that_states_its_size_twice_is_refused(tmp_path, big):
    """Pillow takes the last size, by which it was judged, and OpenCV decoded the first: gigabytes."""
    path = tiff_with_two_widths(tmp_path / "twice.tif", big)
    with Image.open(path) as picture:
        assert picture.size == (3, 2)
    assert cv2.imread(str(path)).shape == (40, 50, 3)
    for reader in (image_size, read_image):
        with pytest.raises(ValueError, match=r"twice\.tif: expected an image, but it states its size twice"):
            reader(path)


def test_a_jpeg_of_hundreds_of_scans_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "scans.jpg"
    Image.new("RGB", (3000, 2000)).save(path, progressive=True)
    assert read_image(path).shape == (2000, 3000, 3)  # ten scans, as encoders write
    data = path.read_bytes()
    last = data[data.rfind(b"\xff\xda") : -2]
    path.write_bytes(data[:-2] + 290 * last + data[-2:])  # 300 scans in 30 kB
    with pytest.raises(ValueError, match=r"scans\.jpg: has 300 scans of 3000 x 2000 pixels"):
        read_image(path)


def test_values_of_16_bits_are_bounded_by_the_header_like_those_of_8(tmp_path, monkeypatch):
    from workbench.data import images
    from workbench.data.image_headers import bytes_per_pixel

    files = {
        "rgba16.png": (np.uint16, 4), "rgb16.png": (np.uint16, 3), "grey16.png": (np.uint16, 1),
        "rgb8.png": (np.uint8, 3), "rgb16.tif": (np.uint16, 3), "float.tif": (np.float32, 3),
        "grey16.tif": (np.uint16, 1), "rgb8.jpg": (np.uint8, 3),
    }  # fmt: skip
    for name, (kind, channels) in files.items():
        pixels, each = np.zeros((40, 50, channels), kind), channels * np.dtype(kind).itemsize
        cv2.imwrite(str(tmp_path / name), pixels)
        assert bytes_per_pixel(tmp_path / name) == each, name
        monkeypatch.setattr(images, "_MOST_BYTES", each * 40 * 50)
        assert read_image(tmp_path / name).shape == (40, 50, 3)
        monkeypatch.setattr(images, "_MOST_BYTES", each * 40 * 50 - 1)
        with pytest.raises(ValueError, match=rf"{name}: claims 50 x 40 pixels of {each} bytes; .* 8 bits"):
            read_image(tmp_path / name)
    # The largest picture of 8 bits is still read; one of 16 bits of as many pixels is not.
    monkeypatch.undo()
    assert 3 * images.MOST_PIXELS <= images._MOST_BYTES < 8 * images.MOST_PIXELS


def test_formats_whose_decoders_take_more_memory_are_charged_for_it(tmp_path):
    from workbench.data.image_headers import bytes_per_pixel

    Image.new("RGB", (32, 32)).save(tmp_path / "plain.jpg", subsampling="4:4:4")
    Image.new("RGB", (32, 32)).save(tmp_path / "half.jpg", progressive=True, subsampling="4:2:0")
    Image.new("RGB", (32, 32)).save(tmp_path / "full.jpg", progressive=True, subsampling="4:4:4")
    Image.new("CMYK", (32, 32)).save(tmp_path / "cmyk.jpg", progressive=True)
    Image.new("P", (32, 32)).save(tmp_path / "a.gif")
    still = Image.new("RGB", (32, 32))
    still.save(tmp_path / "still.webp")
    for ending in ("webp", "png"):  # whole frames are held beside the pixels
        still.save(tmp_path / f"a.{ending}", save_all=True, append_images=[Image.new("RGB", (32, 32), "red")])
    names = ("plain.jpg", "half.jpg", "full.jpg", "cmyk.jpg", "a.gif", "still.webp", "a.webp", "a.png")
    assert [bytes_per_pixel(tmp_path / name) for name in names] == [3, 3, 5, 6, 4, 3, 6, 6]


def test_a_file_much_larger_than_its_pixels_is_not_read_whole(tmp_path, picture):
    path = write_image(tmp_path / "padded.png", picture)
    os.truncate(path, 600 << 20)  # on disk nothing but a hole
    with pytest.raises(
        ValueError, match=r"padded\.png: has 629,145,600 bytes; of an image of 30 x 20 pixels"
    ):
        read_image(path)


def tiff_of(path, entries, behind=b"", after=0):
    """A grey TIFF of 64 x 64 pixels at byte 8, and these entries of its directory, (tag, type, value)."""
    entries = sorted([(256, 4, 64), (257, 4, 64), (258, 3, 8), (259, 3, 1), (262, 3, 1), *entries])
    listed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    start = b"II*\0" + struct.pack("<I", 8 + 4096) + bytes(4096) + struct.pack("<H", len(entries))
    path.write_bytes(start + listed + struct.pack("<I", after) + behind)
    return path


def test_a_tiff_with_tiles_larger_than_any_is_refused_before_room_is_made_for_one(tmp_path):
    tiles = [(322, 4, 16_000), (323, 4, 16_000), (324, 4, 8), (325, 4, 4096)]
    with pytest.raises(ValueError, match=r"tiles\.tif: has tiles of 16000 x 16000 pixels"):
        read_image(tiff_of(tmp_path / "tiles.tif", tiles))


def test_pages_of_a_tiff_that_share_their_entries_are_counted_quickly(tmp_path):
    """Each of 9000 directories has the 20,000 entries of its neighbours: Pillow reads 180 million."""
    import time

    from workbench.data.images import frame_count

    pages, entries, start = 9000, 20_000, 8 + 4096 + 2 + 12 * 8 + 4
    shared = bytearray(12 * (pages + entries) + 16)
    for page in range(pages):
        struct.pack_into("<H", shared, 12 * page, entries)
        struct.pack_into("<I", shared, 12 * (page + entries) + 2, start + 12 * (page + 1))
    path = tiff_of(tmp_path / "a.tif", [(273, 4, 8), (278, 4, 64), (279, 4, 4096)], bytes(shared), start)
    before = time.process_time()
    assert frame_count(path) == 1 + pages + 1  # the last pointer leads to a directory without entries
    assert time.process_time() - before < 2
