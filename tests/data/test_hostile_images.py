"""Image files of strangers: nothing in them runs, and none takes seconds or hundreds of MB."""

from __future__ import annotations

import json
import os
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from workbench.data.image_headers import bytes_per_pixel, jpeg2000_size, plain_png_size, png_chunks
from workbench.data.images import (
    exif_orientation,
    frame_count,
    grey_thumbnail,
    image_size,
    read_image,
    turned_by_exif,
    write_image,
)


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8)


def chunk(kind, content=b""):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def refused(path, words):
    """Every reader says the same sentence, within a second of processor time."""
    before = time.process_time()
    for reader in (image_size, read_image, lambda p: grey_thumbnail(p, 24)):
        with pytest.raises(ValueError, match=words):
            reader(path)
    assert time.process_time() - before < 1.5


@pytest.mark.parametrize("verb", [("data",), ("data", "lint")])
def test_postscript_that_is_called_a_picture_starts_no_program(workbench, tmp_path, monkeypatch, verb):
    """Pillow looked at the content and ran Ghostscript on a file of the data set."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\necho 10.0\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "1.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    )
    person = {
        "id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 8, 8], "area": 64, "iscrowd": 0,
        "keypoints": [2, 2, 2], "num_keypoints": 1,
    }  # fmt: skip
    category = {"id": 1, "name": "p", "keypoints": ["nose"], "skeleton": []}
    image = {"id": 1, "file_name": "1.png", "width": 9, "height": 9}
    listed = {"images": [image], "annotations": [person], "categories": [category]}
    (tmp_path / "a.json").write_text(json.dumps(listed))
    code, out, err = workbench(*verb, tmp_path / "a.json")
    assert (code, "1 image file cannot be read, the first is 1.png" in out) == (0, True), err
    assert not (tmp_path / "ran").exists()
    refused(tmp_path / "1.png", r"1\.png: expected an image, got a file that is none")


def test_formats_whose_pixels_may_be_of_any_size_are_refused_by_name(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\0\0\0\x20ftypavif" + bytes(200))
    refused(tmp_path / "a.png", r"a\.png: expected an image, got an AVIF, HEIF or video file; save it as PNG")


def test_a_png_of_millions_of_parts_or_of_packed_texts_is_refused_at_once(tmp_path, picture):
    data = write_image(tmp_path / "a.png", picture).read_bytes()
    start = data.index(b"IDAT") - 4
    (tmp_path / "hole.png").write_bytes(data[:start])
    os.truncate(tmp_path / "hole.png", 1 << 30)  # on disk nothing but a hole
    refused(tmp_path / "hole.png", r"hole\.png: expected an image, but it has more than 100,000 parts")
    text = chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(10_000)))
    for name, content in {
        "before.png": data[:start] + 65 * text + data[start:],
        "behind.png": data[:-12] + 65 * text + data[-12:],
    }.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, rf"{name}: expected an image, but it has more than 64 compressed texts")
    (tmp_path / "some.png").write_bytes(data[:start] + 64 * text + data[start:])
    assert (read_image(tmp_path / "some.png") == picture).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "1", "I;16"])
def test_the_size_of_a_plain_png_is_read_as_pillow_reads_it(tmp_path, mode):
    Image.new(mode, (30, 20)).save(tmp_path / "a.png")
    chunks = png_chunks(tmp_path / "a.png")
    assert plain_png_size(tmp_path / "a.png", chunks) == image_size(tmp_path / "a.png") == (20, 30)


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        ((30, 20, 8, 2, 0, 0, 0), chunk(b"IHDR", struct.pack(">2I5B", 60, 20, 8, 2, 0, 0, 0))),
        ((30, 20, 8, 2, 0, 0, 0), chunk(b"tEXt", b"a\0b")),
        ((30, 20, 8, 3, 0, 0, 0), b""),  # without its palette
        ((30, 20, 4, 2, 0, 0, 0), b""),
        ((30, 20, 8, 2, 1, 0, 0), b""),
        ((30, 20, 8, 2, 0, 1, 0), b""),
        ((30, 20, 8, 2, 0, 0, 2), b""),
        ((0, 20, 8, 2, 0, 0, 0), b""),
        ((10_000, 10_000, 8, 2, 0, 0, 0), b""),  # Pillow's own limits judge it
    ],
)
def test_the_size_of_any_other_png_is_left_to_pillow(tmp_path, fields, more):
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", *fields))
    content = head + more + chunk(b"IDAT", zlib.compress(bytes(1830))) + chunk(b"IEND")
    (tmp_path / "a.png").write_bytes(content)
    assert plain_png_size(tmp_path / "a.png", png_chunks(tmp_path / "a.png")) is None


def test_the_size_of_a_png_with_a_wrong_checksum_is_left_to_pillow(tmp_path, picture):
    data = bytearray(write_image(tmp_path / "a.png", picture).read_bytes())
    data[29] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    refused(tmp_path / "a.png", r"a\.png: expected an image, ")


def test_a_jpeg_of_which_the_header_never_ends_is_refused_at_once(tmp_path, picture):
    """Pillow joined parts of EXIF blocks one by one, 8 s for 3 MB, and skipped fill bytes singly."""
    data = write_image(tmp_path / "a.jpg", picture).read_bytes()
    part = b"\xff\xe1" + struct.pack(">H", 9) + b"Exif\0\0x"
    for between in (100_000 * part, b"\xff" * 5_000_000):
        (tmp_path / "long.jpg").write_bytes(data[:2] + between + data[2:])
        refused(
            tmp_path / "long.jpg", r"long\.jpg: expected an image, but its header is broken \(it has more"
        )
    # ... and one with a profile and maps of depth in its header is read.
    part = b"\xff\xe1" + struct.pack(">H", 65_000) + bytes(64_998)
    (tmp_path / "phone.jpg").write_bytes(data[:2] + 100 * part + data[2:])
    assert read_image(tmp_path / "phone.jpg").shape == picture.shape


def baseline(width, height, scans):
    """A grey JPEG of three components, not progressive, in one scan or in three."""
    parts = [b"\xff\xd8\xff\xdb" + struct.pack(">HB", 67, 0) + bytes([1]) * 64]
    parts.append(
        b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes([1, 17, 0, 2, 17, 0, 3, 17, 0])
    )
    parts += [b"\xff\xc4" + struct.pack(">HB", 20, table) + bytes([1, *15 * [0], 0]) for table in (0, 16)]
    blocks = -(-width // 8) * -(-height // 8)
    for scan in range(scans):
        layers = [scan + 1] if scans > 1 else [1, 2, 3]
        head = bytes([len(layers), *(v for one in layers for v in (one, 0)), 0, 63, 0])
        parts.append(b"\xff\xda" + struct.pack(">H", 2 + len(head)) + head)
        parts.append(bytes(-(-2 * blocks * len(layers) // 8)))
    return b"".join(parts) + b"\xff\xd9"


def test_a_jpeg_of_a_scan_for_each_component_is_charged_as_a_progressive_one(tmp_path):
    for scans, each in ((1, 3), (3, 5)):
        (tmp_path / "a.jpg").write_bytes(baseline(64, 48, scans))
        assert read_image(tmp_path / "a.jpg").shape == (48, 64, 3)
        assert bytes_per_pixel(tmp_path / "a.jpg") == each


@pytest.mark.parametrize(("number", "code"), [(1, "B"), (3, "H"), (4, "I"), (6, "b"), (9, "i")])
def test_bits_and_layers_of_a_tiff_count_in_whatever_type_they_are_stated(tmp_path, number, code):
    """Bits as a 32-bit number were overlooked: eight times the memory that was meant."""

    def entry(tag, value, kind=4):
        stored = struct.pack("<" + code, value) if kind == number else struct.pack("<I", value)
        return struct.pack("<HHI", tag, kind, 1) + stored.ljust(4, b"\0")

    entries = [
        entry(256, 8), entry(257, 8), entry(258, 64, number), entry(259, 1), entry(262, 1), entry(273, 8),
        entry(277, 3, number), entry(278, 8), entry(279, 512),
    ]  # fmt: skip
    head = b"II*\0" + struct.pack("<I", 8 + 512) + bytes(512) + struct.pack("<H", len(entries))
    (tmp_path / "a.tif").write_bytes(head + b"".join(entries) + bytes(4))
    assert bytes_per_pixel(tmp_path / "a.tif") == 24


@pytest.mark.filterwarnings("ignore:it has more parts")
def test_a_tiff_and_a_gif_with_holes_of_gigabytes_take_no_room(tmp_path):
    entries = b"".join(struct.pack("<HHII", *one) for one in (
        (256, 4, 1, 8), (257, 4, 1, 8), (700, 1, 0xFFFFFF00, 100), (34665, 4, 1, 8),
    ))  # fmt: skip
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<IH", 8, 4) + entries)
    os.truncate(tmp_path / "a.tif", 1 << 32)
    with pytest.raises(ValueError, match=r"a\.tif: has 4,294,967,296 bytes; of an image of 8 x 8 pixels"):
        read_image(tmp_path / "a.tif")
    (tmp_path / "a.gif").write_bytes(b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0) + b",")
    os.truncate(tmp_path / "a.gif", 1 << 31)
    before = time.process_time()
    assert frame_count(tmp_path / "a.gif") == 1
    assert time.process_time() - before < 0.5
    (tmp_path / "b.gif").write_bytes(
        b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0) + b"!\xfe" + b"\x01a" * 10_000_000
    )
    assert frame_count(tmp_path / "b.gif") == 1
    assert time.process_time() - before < 3


def codestream(width, height, tile):
    size = struct.pack(">H8IH", 0, width, height, 0, 0, tile, tile, 0, 0, 1) + bytes([7, 1, 1])
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(size) + 2) + size


def test_a_jpeg_2000_is_judged_by_its_codestream_and_its_tiles(tmp_path):
    """65,025 tiles in 150 bytes took 750 MB."""
    (tmp_path / "a.jp2").write_bytes(codestream(255, 255, 1))
    with pytest.raises(ValueError, match=r"a\.jp2: has more than 4096 tiles; refused"):
        jpeg2000_size(tmp_path / "a.jp2")
    data = bytearray(cv2.imencode(".jp2", np.full((64, 80, 3), 90, np.uint8))[1].tobytes())
    (tmp_path / "a.jp2").write_bytes(data)
    assert (jpeg2000_size(tmp_path / "a.jp2"), read_image(tmp_path / "a.jp2").shape) == (
        (64, 80),
        (64, 80, 3),
    )
    place = data.index(b"ihdr") + 4
    data[place : place + 8] = struct.pack(">II", 3, 4)  # the box around it says 4 x 3
    (tmp_path / "a.jp2").write_bytes(data)
    assert image_size(tmp_path / "a.jp2") == (64, 80)


def test_pixels_of_another_size_than_the_header_states_are_refused(tmp_path, picture, monkeypatch):
    from workbench.data import images

    path = write_image(tmp_path / "a.png", picture)
    monkeypatch.setattr(images, "image_size", lambda _: (40, 55))
    with pytest.raises(ValueError, match=r"a\.png: expected an image of 55 x 40 pixels, .* it has 56 x 40"):
        read_image(path)


@pytest.mark.parametrize("ending", ["jpg", "png", "bmp", "tif", "webp", "jp2", "ppm"])
def test_thumbnails_are_those_of_the_whole_picture(tmp_path, ending):
    rows, columns = np.mgrid[:960, :720]
    picture = np.stack([rows / 4, columns / 3, (rows + columns) / 7], 2).astype(np.uint8)
    cv2.imwrite(str(tmp_path / f"a.{ending}"), picture[..., ::-1])
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    wanted = cv2.resize(grey, (24, 24), interpolation=cv2.INTER_AREA)
    assert np.abs(grey_thumbnail(tmp_path / f"a.{ending}", 24) - wanted).max() < 3


def test_a_late_or_a_broken_orientation_in_a_png_needs_no_pixels(tmp_path, picture, monkeypatch):
    from PIL import PngImagePlugin

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(data.replace(b"MM\0*", b"MM\0+", 1))
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("decoded"))
    assert [exif_orientation(tmp_path / name) for name in ("a.png", "b.png")] == [6, 1]


def test_a_rotation_that_opencv_does_not_apply_is_none(tmp_path):
    """Lint said of pictures with a rotation in their XMP alone that OpenCV and mmpose turn them."""
    from PIL.PngImagePlugin import PngInfo

    xmp = '<x:xmpmeta xmlns:tiff="x" tiff:Orientation="6"/>'
    exif = Image.Exif()
    exif[0x0112] = 6
    packed, profile = PngInfo(), PngInfo()
    packed.add_itxt("XML:com.adobe.xmp", xmp)
    profile.add_text("Raw profile type exif", f"\nexif\n  99\n{exif.tobytes().hex()}\n")
    picture = Image.new("RGB", (30, 20))
    for name, more in {
        "a.jpg": {"xmp": xmp.encode()}, "a.webp": {"xmp": xmp.encode()}, "b.png": {"pnginfo": packed},
        "c.png": {"pnginfo": profile}, "a.tif": {"tiffinfo": {700: xmp.encode()}},
    }.items():  # fmt: skip
        picture.save(tmp_path / name, **more)
        assert read_image(tmp_path / name).shape == (20, 30, 3)
        assert (exif_orientation(tmp_path / name), turned_by_exif(tmp_path / name)) == (1, None), name
