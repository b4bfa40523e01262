"""Headers of image files: sizes, pages and the memory that their pixels will take; nothing is decoded."""

from __future__ import annotations

import math
import struct
from pathlib import Path

# So many frames are counted in a file: a small file can hold millions of empty ones.
MOST_FRAMES = 10_000

# Decoders make room for a whole tile, which may be larger than the image: a usual one has 256 x 256 pixels.
_MOST_OF_A_TILE = 4096 * 4096

# Tags of a TIFF for width and height; types of whole numbers: 16, 32 and 64 bits (BigTIFF).
_TIFF_SIZES = {256, 257}
_TIFF_NUMBERS = {3: "H", 4: "I", 16: "Q"}
_MOST_TAGS = 1 << 16


# How a file begins -> bytes that its decoder takes for each pixel, halved: OpenCV copies 8-bit pixels once.
# Measured with OpenCV 4.14: 32-bit planes of JPEG 2000, planes of AVIF, canvases of GIF.
_TAKEN = ((b"\0\0\0\x0cjP", 8), (b"\xff\x4f\xff\x51", 8), (b"GIF8", 4))


def bytes_per_pixel(path: Path) -> int:
    """Bytes of one pixel's values by the header; of formats whose decoders take more memory, half of that."""
    with path.open("rb") as stream:
        start = stream.read(26)
    if start.startswith(b"\x89PNG") and len(start) == 26:
        bits, kind = start[24], start[25]
        channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(kind, 4)
        return channels * max(bits // 8, 1)
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff_bytes(path)
    if start.startswith(b"\xff\xd8"):
        return _jpeg_bytes(path)
    if start[4:8] == b"ftyp":
        return 8
    return next((taken for magic, taken in _TAKEN if start.startswith(magic)), 3)


def _jpeg_bytes(path: Path) -> int:
    """Half of the bytes for each pixel: a progressive JPEG is held whole, as 16-bit coefficients, too."""
    from PIL import Image

    with Image.open(path) as picture:
        if not picture.info.get("progressive"):
            return 3
        sides = [(wide, high) for _, wide, high, _ in getattr(picture, "layer", ())]
    across, down = (max((side[axis] for side in sides), default=1) or 1 for axis in (0, 1))
    values = sum(wide * high for wide, high in sides) / (across * down)
    return math.ceil((3 + 2 * values) / 2)


def png_chunks(path: Path) -> set[bytes]:
    """The kinds of parts that a PNG has; none of any other file.

    Raises:
        ValueError: a part is longer than the file: readers make room for all it claims.
    """
    size, found = path.stat().st_size, set()
    with path.open("rb") as stream:
        if stream.read(8) != b"\x89PNG\r\n\x1a\n":
            return found
        while len(start := stream.read(8)) == 8 and start[4:] != b"IEND":
            found.add(start[4:])
            stream.seek(struct.unpack(">I", start[:4])[0] + 4, 1)
            if stream.tell() > size:
                raise ValueError(f"{path.name}: expected an image, but the file is cut off")
    return found


def tiff_pages(path: Path) -> int:
    """Directories of a TIFF, of which no entry is read: Pillow reads all, and thousands can share theirs."""
    size, seen = path.stat().st_size, set()
    with path.open("rb") as stream:
        order = "<" if stream.read(2) == b"II" else ">"
        at: int
        (at,) = struct.unpack(f"{order}2xI", stream.read(6))
        while 0 < at < size - 6 and at not in seen and len(seen) < MOST_FRAMES:
            stream.seek(at)
            behind = at + 2 + 12 * struct.unpack(f"{order}H", stream.read(2))[0]
            if behind + 4 > size:
                break
            seen.add(at)
            stream.seek(behind)
            (at,) = struct.unpack(f"{order}I", stream.read(4))
    return max(len(seen), 1)


def gif_frames(data: bytes) -> int:
    """Image descriptors of a GIF, without decoding any."""

    def table(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    place, found = 13, 0
    try:
        place += table(data[10])
        while data[place] in b"!," and found < MOST_FRAMES:
            is_image = data[place] == ord(",")
            found += is_image
            place += 11 + table(data[place + 9]) if is_image else 2
            while size := data[place]:
                place += size + 1
            place += 1
    except IndexError:
        pass  # cut off: what there is counts
    return max(found, 1)


def tiff_size(path: Path) -> tuple[int, int] | None:
    """(height, width) by the first directory of a TIFF or BigTIFF; None where there is none.

    Raises:
        ValueError: it states its size twice, or as other than one whole number: of two widths Pillow takes
            the last and OpenCV the first. Or its tiles are larger than any program writes.
    """
    with path.open("rb") as stream:
        start = stream.read(16)
        order = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}.get(start[:4])
        if order is None:
            return None
        # Offset of the directory, its count, an entry: tag, type, number of values, the first of them.
        first, count, entry = ("8xQ", "Q", "HHQ8s") if b"+" in start[:4] else ("4xI", "H", "HHI4s")
        try:
            stream.seek(*struct.unpack_from(order + first, start))
            (entries,) = struct.unpack(order + count, stream.read(struct.calcsize(order + count)))
            found: dict[int, int] = {}
            tile = {322: 1, 323: 1}
            for _ in range(min(entries, _MOST_TAGS)):
                data = stream.read(struct.calcsize(order + entry))
                tag, kind, values, value = struct.unpack(order + entry, data)
                if tag in tile and kind in _TIFF_NUMBERS:
                    tile[tag] = max(*struct.unpack_from(order + _TIFF_NUMBERS[kind], value), tile[tag])
                if tag not in _TIFF_SIZES:
                    continue
                if tag in found or kind not in _TIFF_NUMBERS or values != 1:
                    raise ValueError(
                        f"{path.name}: expected an image, but it states its size twice or not as a number"
                    )
                (found[tag],) = struct.unpack_from(order + _TIFF_NUMBERS[kind], value)
        except (struct.error, OverflowError):
            return None
    if tile[322] * tile[323] > _MOST_OF_A_TILE:
        raise ValueError(
            f"{path.name}: has tiles of {tile[322]} x {tile[323]} pixels; at most {_MOST_OF_A_TILE:,} are "
            "read"
        )
    return (found[257], found[256]) if found.keys() >= _TIFF_SIZES else None


def _tiff_bytes(path: Path) -> int:
    """Bytes of one pixel's values by the first directory of a TIFF or BigTIFF; 3 where it does not say."""
    with path.open("rb") as stream:
        start = stream.read(16)
        order = "<" if start.startswith(b"II") else ">"
        first, count, entry = ("8xQ", "Q", "HHQ8s") if b"+" in start[:4] else ("4xI", "H", "HHI4s")
        place, found = (
            "Q" if b"+" in start[:4] else "I",
            {258: 8, 277: 1},
        )  # bits of a value, values of a pixel
        try:
            stream.seek(*struct.unpack_from(order + first, start))
            (entries,) = struct.unpack(order + count, stream.read(struct.calcsize(order + count)))
            for _ in range(min(entries, _MOST_TAGS)):
                data = stream.read(struct.calcsize(order + entry))
                tag, kind, values, value = struct.unpack(order + entry, data)
                if tag not in found or kind != 3:
                    continue
                if 2 * values > len(value):  # they lie elsewhere
                    here = stream.tell()
                    stream.seek(*struct.unpack(order + place, value))
                    value = stream.read(2)
                    stream.seek(here)
                # Of two values OpenCV takes the first, others the last.
                found[tag] = max(*struct.unpack_from(f"{order}H", value), found[tag])
        except (struct.error, OverflowError, OSError):
            return 3
    return max(found[277], 1) * max(found[258] // 8, 1)
