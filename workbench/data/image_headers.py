"""Headers of image files: sizes, pages and the memory that their pixels will take; nothing is decoded."""

from __future__ import annotations

import contextlib
import io
import math
import mmap
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

# What OpenCV reads and Pillow knows. Pillow knows more and looks at contents, not at names: for EPS it starts
# Ghostscript. AVIF is not read: its pixels may be of any size, whatever its header says.
FORMATS = ("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "SUN", "TIFF", "WEBP")

# How a file begins -> the only one of these formats that it can be.
_COMMON = {b"\xff\xd8": ("JPEG",), b"\x89PNG\r\n\x1a\n": ("PNG",)}

# Bits per channel that a PNG of each colour type may have; type 3 needs a palette.
_PNG_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 4: (8, 16), 6: (8, 16)}

# From here on Pillow warns of a decompression bomb.
_PILLOW_WARNS = 1024 * 1024 * 1024 // 4 // 3

# So many frames are counted in a file: a small file can hold millions of empty ones. Blocks of a GIF have 255
# bytes; those of so many have a gigabyte.
MOST_FRAMES = 10_000
_MOST_STEPS = 4_000_000

# Decoders make room for a whole tile, which may be larger than the image: a usual one has 256 x 256 pixels.
_MOST_OF_A_TILE = 4096 * 4096

# Tags of a TIFF for width and height; types of whole numbers: 16, 32 and 64 bits (BigTIFF).
_TIFF_SIZES = {256, 257}
_TIFF_NUMBERS = {3: "H", 4: "I", 16: "Q"}
# Those that libtiff takes for any whole number, signed and single bytes too.
_TIFF_WHOLE = _TIFF_NUMBERS | {1: "B", 6: "b", 8: "h", 9: "i", 17: "q"}
_MOST_TAGS = 1 << 16

# Parts of a PNG: encoders write pixels in parts of 8 kB or more. Of compressed texts each costs the decoder
# up to 30 ms; programs write a few.
_MOST_PARTS, _MOST_TEXTS = 100_000, 64

# Of a JPEG 2000: its decoder makes 12 kB for each before it reads any.
_MOST_TILES = 4096
_CODESTREAM = b"\xff\x4f\xff\x51"

# Reads and bytes that the header of a JPEG, and of any other file, may take: Pillow joins the parts of an
# EXIF block one by one and skips stray bytes singly, so that 3 MB took it seconds. Layers that programs add
# to a TIFF lie in its header.
_OF_A_JPEG, _OF_OTHERS = (2048, 8 << 20), (1 << 16, 128 << 20)

# How a file begins -> bytes that its decoder takes for each pixel, halved: OpenCV copies 8-bit pixels once.
# Measured with OpenCV 4.14: 32-bit planes of JPEG 2000, canvases of GIF.
_TAKEN = ((b"\0\0\0\x0cjP", 8), (_CODESTREAM, 8), (b"GIF8", 4))


class _Header(io.BufferedReader):
    """A file of which a header can read only so much."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.open("rb", buffering=0))
        is_jpeg = self.peek(2)[:2] == b"\xff\xd8"
        self._reads, self._room = _OF_A_JPEG if is_jpeg else _OF_OTHERS

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(self._room + 1 if size is None or size < 0 else min(size, self._room + 1))
        self._reads -= 1
        self._room -= len(data)
        if self._reads < 0 or self._room < 0:
            raise OSError("it has more parts or bytes than any program writes")
        return data


@contextlib.contextmanager
def opened_header(path: Path) -> Iterator[Image.Image]:
    """What Pillow reads of a file before its pixels, of formats that OpenCV reads, and of bounded length.

    Every picture of a stranger that Pillow opens is opened here; pixels are decoded by OpenCV.

    Raises:
        OSError, SyntaxError, ValueError: as Pillow does, or the header is longer than any.
    """
    from PIL import Image

    with _Header(path) as file:
        start = file.peek(8)[:8]
        # Pillow imports all of its sixty plugins for a name that its common ones do not know.
        formats = next((names for magic, names in _COMMON.items() if start.startswith(magic)), FORMATS)
        with Image.open(file, formats=formats) as picture:
            yield picture


def bytes_per_pixel(path: Path) -> int:
    """Bytes of one pixel's values by the header; of formats whose decoders take more memory, half of that."""
    with path.open("rb") as stream:
        start = stream.read(26)
    if start.startswith(b"\x89PNG") and len(start) == 26:
        bits, kind = start[24], start[25]
        channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(kind, 4)
        # Of an animation OpenCV holds whole frames beside the pixels.
        return channels * max(bits // 8, 1) * (2 if b"acTL" in png_chunks(path) else 1)
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff_bytes(path)
    if start.startswith(b"\xff\xd8"):
        return _jpeg_bytes(path)
    if is_animated_webp(start):
        return 6
    return next((taken for magic, taken in _TAKEN if start.startswith(magic)), 3)


def is_animated_webp(start: bytes) -> bool:
    """By the first 21 bytes."""
    return start[8:16] == b"WEBPVP8X" and len(start) > 20 and bool(start[20] & 2)


def _jpeg_bytes(path: Path) -> int:
    """Half of the bytes for each pixel: a JPEG of several scans is held as 16-bit coefficients, too."""
    with opened_header(path) as picture:
        layers = getattr(picture, "layer", ())
        # Pillow stops behind the head of the first scan: of one that holds all components.
        whole = b"\xff\xda" + struct.pack(">HB", 6 + 2 * len(layers), len(layers))
        stream = getattr(picture, "fp", None)
        if stream is not None:
            stream.seek(max(stream.tell() - len(whole) - 3 - 2 * len(layers), 0))
        in_one = stream is not None and stream.read(len(whole)) == whole
        if in_one and not picture.info.get("progressive"):
            return 3
        sides = [(wide, high) for _, wide, high, _ in layers]
    across, down = (max((side[axis] for side in sides), default=1) or 1 for axis in (0, 1))
    values = sum(wide * high for wide, high in sides) / (across * down)
    return math.ceil((3 + 2 * values) / 2)


def png_chunks(path: Path) -> dict[bytes, tuple[int, int]]:
    """The kinds of parts that a PNG has, with place and length of the last of each; none of any other file.

    Raises:
        ValueError: a part is longer than the file: readers make room for all it claims. Or it has more parts,
            or more compressed texts, than any program writes.
    """
    size, texts = path.stat().st_size, 0
    found: dict[bytes, tuple[int, int]] = {}
    with path.open("rb") as stream:
        if stream.read(8) != b"\x89PNG\r\n\x1a\n":
            return found
        for count in range(_MOST_PARTS + 1):
            start = stream.read(8)
            if len(start) < 8 or start[4:] == b"IEND":
                break
            length, kind, place = *struct.unpack(">I4s", start), stream.tell()
            found[kind] = place, length
            texts += kind in (b"zTXt", b"iTXt", b"iCCP")
            if place + length + 4 > size:
                raise ValueError(f"{path.name}: expected an image, but the file is cut off")
            if count == _MOST_PARTS or texts > _MOST_TEXTS:
                raise ValueError(
                    f"{path.name}: expected an image, but it has more than "
                    + (f"{_MOST_TEXTS} compressed texts" if texts > _MOST_TEXTS else f"{_MOST_PARTS:,} parts")
                )
            stream.seek(length + 4, 1)
    return found


def plain_png_size(path: Path, chunks: Mapping[bytes, tuple[int, int]]) -> tuple[int, int] | None:
    """(height, width) of a PNG with a valid header and nothing but pixels; None of all that Pillow must read.

    Args:
        path: of the file.
        chunks: its `png_chunks`.
    """
    if set(chunks) != {b"IHDR", b"IDAT"}:
        return None
    with path.open("rb") as stream:
        start = stream.read(33)
    # A second header would be behind the first, and the last one counts for Pillow.
    if start[8:16] != b"\0\0\0\x0dIHDR" or chunks[b"IHDR"][0] != 16:
        return None
    wide, high, bits, kind, packed, filtered, laced, check = struct.unpack(">2I5BI", start[16:])
    if (
        zlib.crc32(start[12:29]) != check
        or bits not in _PNG_BITS.get(kind, ())
        or (packed, filtered) != (0, 0)
        or laced > 1
        or not 0 < wide * high <= _PILLOW_WARNS
    ):
        return None
    return high, wide


def png_exif(path: Path) -> bytes | None:
    """The EXIF block of a PNG, wherever it stands; None where it has none."""
    place, length = png_chunks(path).get(b"eXIf", (0, 0))
    if not 0 < length <= 1 << 20:
        return None
    with path.open("rb") as stream:
        stream.seek(place)
        return stream.read(length)


def jpeg2000_size(path: Path) -> tuple[int, int] | None:
    """(height, width) by the codestream of a JPEG 2000, which may contradict the boxes around it; else None.

    Raises:
        ValueError: it has no codestream, or more tiles than any program writes.
    """
    with path.open("rb") as stream:
        start, place = stream.read(12), 0
        if start[:4] != _CODESTREAM:
            if start[:8] != b"\0\0\0\x0cjP  ":
                return None
            place = _codestream(stream)
        stream.seek(place)
        head = stream.read(40)
    if head[:4] != _CODESTREAM or len(head) < 40:
        raise ValueError(f"{path.name}: expected an image, but it is a JPEG 2000 without a codestream")
    right, low, left, top, wide, high, tile_left, tile_top = struct.unpack(">8I", head[8:])
    if not (wide and high) or (-(-(right - tile_left) // wide) * -(-(low - tile_top) // high) > _MOST_TILES):
        raise ValueError(f"{path.name}: has more than {_MOST_TILES} tiles; refused")
    return low - top, right - left


def _codestream(stream: Any) -> int:
    """Where the codestream begins in the boxes of a JPEG 2000; 0 where there is none."""
    place = 0
    for _ in range(1000):
        stream.seek(place)
        box = stream.read(16)
        if len(box) < 8:
            break
        length, kind = struct.unpack(">I4s", box[:8])
        behind = 8
        if length == 1 and len(box) == 16:
            behind, length = 16, struct.unpack(">Q", box[8:])[0]
        if kind == b"jp2c":
            return place + behind
        if length < behind or length > 1 << 40:
            break
        place += length
    return 0


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


def gif_frames(path: Path) -> int:
    """Image descriptors of a GIF, without decoding any."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _descriptors(data)


def _descriptors(data: mmap.mmap) -> int:
    def table(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    place, found, steps = 13, 0, 0
    try:
        place += table(data[10])
        while data[place] in b"!," and found < MOST_FRAMES and steps < _MOST_STEPS:
            is_image = data[place] == ord(",")
            found += is_image
            place += 11 + table(data[place + 9]) if is_image else 2
            while (size := data[place]) and steps < _MOST_STEPS:
                place += size + 1
                steps += 1
            place += 1
            steps += 1
    except IndexError:
        pass  # cut off: what there is counts
    return max(found, 1)


def tiff_size(path: Path) -> tuple[int, int] | None:
    """(height, width) by the first directory of a TIFF or BigTIFF; None where there is none.

    Raises:
        ValueError: it states its size twice, or as other than one whole number: of two widths Pillow takes
            the last and OpenCV the first. Or its tiles are larger than any program writes.
    """
    entries = _tiff_entries(path)
    if entries is None:
        return None
    found: dict[int, int] = {}
    tile = {322: 1, 323: 1}
    for tag, kind, values, value in entries:
        if tag in tile:
            tile[tag] = max(value, tile[tag])
        if tag not in _TIFF_SIZES:
            continue
        if tag in found or kind not in _TIFF_NUMBERS or values != 1:
            raise ValueError(
                f"{path.name}: expected an image, but it states its size twice or not as a number"
            )
        found[tag] = value
    if tile[322] * tile[323] > _MOST_OF_A_TILE:
        raise ValueError(
            f"{path.name}: has tiles of {tile[322]} x {tile[323]} pixels; at most {_MOST_OF_A_TILE:,} are "
            "read"
        )
    return (found[257], found[256]) if found.keys() >= _TIFF_SIZES else None


def _tiff_bytes(path: Path) -> int:
    """Bytes of one pixel's values by the first directory of a TIFF or BigTIFF; 3 where it does not say."""
    found = {258: 8, 277: 1}  # bits of a value, values of a pixel
    for tag, _, _, value in _tiff_entries(path) or ():
        if tag in found:
            found[tag] = max(value, found[tag])
    return max(found[277], 1) * max(found[258] // 8, 1)


def _tiff_entries(path: Path) -> list[tuple[int, int, int, int]] | None:
    """Tag, type, number of values and the first of them, for the sizes in the first directory of a TIFF.

    Of two values OpenCV takes the first, others the last. The value is 0 where it is no whole number. None
    where the file is no TIFF or its directory is cut off.
    """
    made = []
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
            for _ in range(min(entries, _MOST_TAGS)):
                data = stream.read(struct.calcsize(order + entry))
                tag, kind, values, value = struct.unpack(order + entry, data)
                if tag not in _TIFF_SIZES | {258, 277, 322, 323}:
                    continue
                made.append((tag, kind, values, _first_value(stream, order, kind, values, value)))
        except (struct.error, OverflowError, OSError):
            return None
    return made


def _first_value(stream: Any, order: str, kind: int, values: int, value: bytes) -> int:
    if kind not in _TIFF_WHOLE:
        return 0
    number = order + _TIFF_WHOLE[kind]
    if struct.calcsize(number) * values > len(value):  # they lie elsewhere
        here = stream.tell()
        stream.seek(*struct.unpack(order + ("Q" if len(value) == 8 else "I"), value))
        value = stream.read(8)
        stream.seek(here)
    return struct.unpack_from(number, value)[0]
