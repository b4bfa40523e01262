"""Image files as RGB uint8 pixels, upright; or an error that says what is wrong with the file.

The EXIF rotation of a camera is applied, as OpenCV, mmpose and every browser do; `PoseSet.sample` undoes it
where an annotation file states the size of the stored, unrotated picture. 16-bit and float files become
8 bits.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import ReadingNote
from workbench.core.files import read_at_most, write_bytes
from workbench.data.image_headers import (
    MOST_FRAMES,
    bytes_per_pixel,
    gif_frames,
    is_animated_webp,
    jpeg2000_size,
    opened_header,
    plain_png_size,
    png_chunks,
    png_exif,
    tiff_pages,
    tiff_size,
)

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

# Cameras give 10, 12 or 14 bits, stored in files of 16 bits; programs store values of 8 bits there unscaled.
BIT_DEPTHS = (8, 10, 12, 14, 16)


@dataclass(frozen=True)
class ImageReading:
    """What somebody states about image files that the files leave open.

    Attributes:
        bits: smallest bit depth assumed of 16-bit images, one of `BIT_DEPTHS`; 0 takes that of the brightest
            of the set or folder.
        as_stored: pixels as they are stored, without the EXIF rotation.
    """

    bits: int = 0
    as_stored: bool = False

    def __post_init__(self) -> None:
        if self.bits not in (0, *BIT_DEPTHS):
            raise ValueError(f"--bits: expected one of {', '.join(map(str, BIT_DEPTHS))}; got {self.bits}")

    def notes(self) -> tuple[str, ...]:
        """What is assumed of every file, one sentence each."""
        said = {
            f"16-bit images are read as {self.bits} bits, as --bits says": self.bits,
            "images are read as they are stored, without their EXIF rotation, as --as-stored says":
                self.as_stored,
        }  # fmt: skip
        return tuple(text for text, wanted in said.items() if wanted)

    def pixels(self, path: Path | str) -> UInt8[np.ndarray, "H W 3"]:
        """The pixels of one file, read as stated; errors as of `read_image`."""
        return read_image(path, not self.as_stored, self.bits)

    def size(self, path: Path | str) -> tuple[int, int]:
        """(height, width) of `pixels`; errors as of `upright_size`."""
        return image_size(path) if self.as_stored else upright_size(path)


def bits_of(most: int) -> int:
    """The smallest bit depth that holds this brightest value, which is at most 65535."""
    return next(bits for bits in BIT_DEPTHS if most < 1 << bits)


def eight_bits(
    values: np.ndarray, name: str, least_bits: int = 0
) -> tuple[UInt8[np.ndarray, "..."], tuple[str, ...]]:
    """Pixel values of any type as 0 to 255, and one sentence for each conversion worth a note.

    Args:
        values: of any type and shape.
        name: of the file, for messages.
        least_bits: smallest bit depth assumed of 16-bit values, as in `read_image`.

    Raises:
        ValueError: type or range do not tell which values are black and white.
    """
    if values.dtype == np.uint8:
        return values, ()
    if values.dtype == np.uint16:
        # The lowest 8 bits are dropped, as OpenCV and mmpose do.
        most = int(values.max(initial=0))
        own = bits_of(most)
        bits = max(own, least_bits)
        scaled = np.empty(values.shape, np.uint8)
        # 256 rows at a time: a whole second 16-bit copy would double the memory.
        for row in range(0, len(values), 256):
            scaled[row : row + 256] = values[row : row + 256] >> (bits - 8)
        if bits == 16 or most == 0:
            return scaled, ()
        beside = ", like the brightest image of its set or as stated," if own < bits else ""
        divided = f"divided by {1 << (bits - 8)}" if bits > 8 else "unchanged"
        text = (
            f"{name}: a 16-bit picture that reaches only {most} of 65535: read as {bits} bits{beside}"
            f" ({divided}); as 16 bits, which OpenCV and mmpose assume, it would be nearly"
            " black"
        )
        if not least_bits:
            # A file does not say how many of its bits the camera used.
            text += (
                ". This is assumed from its brightest value alone: a dark scene needs brighter images of its"
                " camera beside it, or --bits 16"
            )
        return scaled, (text,)
    kind = f"{8 * values.dtype.itemsize}-bit {'float' if values.dtype.kind == 'f' else 'integer'} values"
    if values.dtype.kind != "f":
        raise ValueError(f"{name}: has {kind}, whose white value is unknown; save it with 8 or 16 bits")
    low, high = float(np.min(values, initial=np.inf)), float(np.max(values, initial=-np.inf))
    if not (0 <= low <= high <= 255):
        which = f"from {low:g} to {high:g}" if low <= high else "of which some are no numbers (nan)"
        raise ValueError(
            f"{name}: has {kind} {which}; expected 0 to 1 or 0 to 255, so that black and"
            " white are known; save it with 8 or 16 bits"
        )
    white = 1.0 if high <= 1 else 255.0
    scaled = np.rint(values * (255.0 / white)).astype(np.uint8)
    return scaled, (
        f"{name}: {kind} from {low:g} to {high:g} were read with 0 as black and {white:g} as white",
    )


IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

# A 30 kB file can claim 50,000 x 50,000 pixels. OpenCV holds the pixels twice while it decodes: these take
# 450 MB.
MOST_PIXELS = 75_000_000

# OpenCV cuts no crop out of an image with a longer side.
MOST_SIDE = 32_766

# A progressive JPEG has some ten scans, and each passes over all pixels; any number of empty ones fit into a
# few kB. So many pixels take three seconds.
MOST_SCANNED = 20 * MOST_PIXELS

# Of the decoded values, so that 16 bits and floats take no more memory than the largest picture of 8 bits.
_MOST_BYTES = 3 * MOST_PIXELS

# Of the file beside these pixels; more where it has fewer of them.
_MOST_OF_A_FILE = 48 << 20

# Deflate makes at most 1,032 bytes of one, and a byte holds at most 8 pixels.
_PNG_PIXELS = 1032 * 8

# How many images are decoded to find the bit depth of a set.
_MOST_LOOKED = 200

_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
QUARTER_TURNS = (5, 6, 7, 8)  # its values that exchange width and height

# A truncated file decodes to grey rows without an error, so its end is checked: (start, last part, end).
_ENDS = {
    b"\xff\xd8": (b"\xff\xda", b"\xff\xd9"),  # JPEG: the end marker follows the last scan
    b"\x89PNG": (b"IDAT", b"IEND"),
}


def read_image(path: Path | str, upright: bool = True, least_bits: int = 0) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of one file: grey becomes RGB, transparency is dropped, 16 bits and floats become 8 bits.

    A 16-bit file whose values fit into 8, 10, 12 or 14 bits is read as of so many and scaled from there;
    a file of floats from 0 to 1 (or 0 to 255) likewise. A `ReadingNote` states both.

    Args:
        path: any format that OpenCV reads.
        upright: apply the EXIF rotation; otherwise the stored orientation.
        least_bits: of 16-bit files, the smallest bit depth assumed: that of the other images of the set
            (`common_bits`), so that a dark image stays dark relative to them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image, is broken or cut off, claims more than `MOST_PIXELS` pixels or a side of
            more than `MOST_SIDE`, or its values are of a kind or a range that has no black and white.
    """
    pixels, notes = read_image_with_notes(path, upright, least_bits)
    for note in notes:
        warnings.warn(note, ReadingNote, stacklevel=2)
    return pixels


def read_image_with_notes(
    path: Path | str, upright: bool = True, least_bits: int = 0
) -> tuple[UInt8[np.ndarray, "H W 3"], tuple[str, ...]]:
    """As `read_image`, but notes on the values are returned instead of issued as warnings."""
    import cv2

    path = _path(path)
    shown, notes = eight_bits(_decoded(path, upright), path.name, least_bits)
    if (count := frame_count(path)) > 1:
        kind = "pages" if path.suffix.lower() in (".tif", ".tiff") else "frames"
        counted = f"{count:,}{' or more' if count == MOST_FRAMES else ''} {kind}"
        notes += (f"{path.name}: has {counted}, of which the first alone is read",)
    if shown.ndim == 2:
        return cv2.cvtColor(shown, cv2.COLOR_GRAY2RGB), notes
    return _red_first(np.ascontiguousarray(shown[..., :3])), notes


def _path(path: Path | str) -> Path:
    """A path as it is given, a text as one: that to an open file has its name (`opened_within`)."""
    return path if isinstance(path, Path) else Path(path)


def _red_first(pixels: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """BGR pixels as RGB, in the same array: a second one of the largest picture would take 267 MB."""
    import cv2

    for row in range(0, len(pixels), 256):
        rows = pixels[row : row + 256]
        rows[...] = cv2.cvtColor(rows, cv2.COLOR_BGR2RGB)
    return pixels


def common_bits(paths: Iterable[Path]) -> int:
    """How many bits the 16-bit pictures among these files use, the brightest of them; 0 where there is none.

    At most `_MOST_LOOKED` of them are decoded. What cannot be read is left for `read_image` to say.
    """
    found = looked = 0
    for path in paths:
        if looked == _MOST_LOOKED or found == BIT_DEPTHS[-1]:
            break
        try:
            if not may_have_16_bits(path):
                continue
            looked += 1
            values = _decoded(path, upright=False)
        except (OSError, ValueError):
            continue
        if values.dtype == np.uint16:
            found = max(found, bits_of(int(values.max(initial=0))))
    return found


def may_have_16_bits(path: Path) -> bool:
    """By its ending, and a PNG by its header.

    Raises:
        OSError: it cannot be opened.
    """
    ending = path.suffix.lower()
    if ending != ".png":
        return ending in (".tif", ".tiff")
    if not path.is_file():  # opening a named pipe would wait for its writer
        return False
    with path.open("rb") as stream:
        return stream.read(25)[24:] == b"\x10"  # bits per channel in the header


def _decoded(path: Path, upright: bool) -> np.ndarray:
    """The values of a file as they are stored, blue first; errors as `read_image`."""
    import cv2

    data, size = _admitted(path)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    pixels = _pixels(data, flags | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION), path)
    if sorted(pixels.shape[:2]) != sorted(size):
        raise ValueError(
            f"{path.name}: expected an image of {size[1]} x {size[0]} pixels, as its header says, but it has "
            f"{pixels.shape[1]} x {pixels.shape[0]}"
        )
    if not upright and data[:4] in (b"II*\0", b"MM\0*"):
        return _as_stored(pixels, path)  # OpenCV turns every TIFF
    return pixels


def grey_thumbnail(path: Path, side: int) -> Float[np.ndarray, "side side"]:
    """Grey levels, 0 to 255, of a small square picture, as stored; of a JPEG not all pixels are decoded.

    Raises:
        FileNotFoundError, ValueError: see `read_image`.
    """
    import cv2

    data, size = _admitted(path)
    if data.startswith(b"\xff\xd8"):
        reduced = {
            8: cv2.IMREAD_REDUCED_GRAYSCALE_8, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
            2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 1: cv2.IMREAD_GRAYSCALE,
        }  # fmt: skip
        flags = next(flag for scale, flag in reduced.items() if scale == 1 or min(size) >= 4 * scale * side)
        grey = _pixels(data, flags | cv2.IMREAD_IGNORE_ORIENTATION, path)
    else:
        shown, _ = eight_bits(_decoded(path, upright=False), path.name)
        grey = shown if shown.ndim == 2 else cv2.cvtColor(shown[..., :3], cv2.COLOR_BGR2GRAY)
    return cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)


def _admitted(path: Path) -> tuple[bytes, tuple[int, int]]:
    """The bytes of a file that is safe to decode, and its stored (height, width); errors as `read_image`."""
    height, width = image_size(path)
    if width * height > MOST_PIXELS:
        raise ValueError(f"{path.name}: claims {width} x {height} pixels; at most {MOST_PIXELS:,} are read")
    if max(width, height) > MOST_SIDE:
        raise ValueError(f"{path.name}: claims {width} x {height} pixels; a side has at most {MOST_SIDE:,}")
    if (each := bytes_per_pixel(path)) * width * height > _MOST_BYTES:
        raise ValueError(
            f"{path.name}: claims {width} x {height} pixels of {each} bytes; of such at most "
            f"{_MOST_BYTES // each:,} are read; save it as a plain PNG or JPEG of 8 bits, or make it smaller"
        )
    room = 2 * (_MOST_BYTES - each * width * height) + _MOST_OF_A_FILE
    if (size := path.stat().st_size) > room:
        raise ValueError(
            f"{path.name}: has {size:,} bytes; of an image of {width} x {height} pixels at most {room:,} are "
            "read; save it as PNG or JPEG, or make it smaller"
        )
    data = read_at_most(path, room, "an image")
    for start, (part, end) in _ENDS.items():
        if data.startswith(start) and data.rfind(end) < data.rfind(part):
            raise ValueError(f"{path.name}: expected a whole image, but the file is cut off")
    if data.startswith(b"\x89PNG") and width * height > _PNG_PIXELS * len(data):
        raise ValueError(
            f"{path.name}: claims {width} x {height} pixels, more than its {len(data):,} bytes can hold"
        )
    # Every scan begins with this marker, which compressed pixels cannot contain.
    if data.startswith(b"\xff\xd8") and (scans := data.count(b"\xff\xda")) * width * height > MOST_SCANNED:
        raise ValueError(
            f"{path.name}: has {scans} scans of {width} x {height} pixels; a JPEG has some ten, and at most "
            f"{MOST_SCANNED:,} pixels in all of them are read"
        )
    return data, (height, width)


def _pixels(data: bytes, flags: int, path: Path) -> np.ndarray:
    import cv2

    # OpenCV writes its own lines about a broken file past Python to stderr; the sentence below says it.
    level = cv2.utils.logging.setLogLevel(0)
    try:
        coded = np.frombuffer(data, np.uint8)
        pixels = cv2.imdecode(coded, flags)
        if pixels is None:  # OpenCV makes no colour of grey floats and of 32-bit integers
            pixels = cv2.imdecode(coded, cv2.IMREAD_UNCHANGED)
    except cv2.error as reason:
        raise ValueError(f"{path.name}: expected an image, but it is broken ({reason.err})") from None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if pixels is None:
        raise ValueError(f"{path.name}: expected an image, but its pixels cannot be decoded")
    return pixels


def _as_stored(upright: np.ndarray, path: Path) -> np.ndarray:
    """Undo the turn that the orientation tag of a file asks for."""
    orientation = exif_orientation(path)
    if orientation in (5, 7):  # mirrored about a diagonal
        turned = upright.swapaxes(0, 1)
        return np.ascontiguousarray(turned if orientation == 5 else turned[::-1, ::-1])
    if orientation in (6, 8):
        return np.ascontiguousarray(np.rot90(upright, 1 if orientation == 6 else -1))
    rows, columns = -1 if orientation in (3, 4) else 1, -1 if orientation in (2, 3) else 1
    return np.ascontiguousarray(upright[::rows, ::columns])


def image_size(path: Path | str) -> tuple[int, int]:
    """(height, width) in pixels as stored, from the header alone.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image.
    """
    path = _path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image file")
    if size := plain_png_size(path, png_chunks(path)):
        return size
    from PIL import Image, UnidentifiedImageError

    of_tiff = tiff_size(path)
    try:
        with opened_header(path) as picture:
            # Pillow gives the upright size of a TIFF, and of all others the stored one.
            return of_tiff or jpeg2000_size(path) or (picture.height, picture.width)
    except UnidentifiedImageError:
        if of_tiff is not None:  # Pillow opens no TIFF of several float channels, OpenCV does
            return of_tiff
        with path.open("rb") as stream:
            is_heif = stream.read(8)[4:] == b"ftyp"
        what = "an AVIF, HEIF or video file; save it as PNG or JPEG" if is_heif else "a file that is none"
        raise ValueError(f"{path.name}: expected an image, got {what}") from None
    except Image.DecompressionBombError as reason:
        raise ValueError(f"{path.name}: too many pixels to be read ({reason})") from None
    except PermissionError:  # says nothing about the header
        raise
    except (OSError, SyntaxError, ValueError) as reason:  # Pillow raises any on a broken header
        raise ValueError(f"{path.name}: expected an image, but its header is broken ({reason})") from None


def frame_count(path: Path) -> int:
    """Frames of a GIF, WebP or PNG, or pages of a TIFF, up to `MOST_FRAMES`; `read_image` gives the first.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        start = stream.read(21)
    if start[:4] == b"GIF8":
        return gif_frames(path)
    if start[:4] in (b"II*\0", b"MM\0*"):
        return tiff_pages(path)
    if not (is_animated_webp(start) or b"acTL" in png_chunks(path)):
        return 1
    from PIL import Image

    try:
        with opened_header(path) as picture:
            return min(getattr(picture, "n_frames", 1), MOST_FRAMES)
    except (OSError, SyntaxError, ValueError, TypeError, struct.error, Image.DecompressionBombError):
        return 1  # Pillow opens it not


def upright_size(path: Path | str) -> tuple[int, int]:
    """(height, width) in pixels as `read_image` gives them; only a picture with a rotation is decoded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image, or has a rotation and cannot be decoded.
    """
    stored = image_size(path)
    if _orientation_tag(path) == 1:
        return stored
    # Turned, or a broken tag, or a kind that Pillow does not open: OpenCV has the last word.
    height, width = read_image(path).shape[:2]
    return height, width


def turned_by_exif(path: Path | str) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """(height, width) as stored and upright of a picture that its EXIF orientation turns; else None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image.
    """
    tag = _orientation_tag(path)
    if tag == 1:  # of most files: their headers are read once, and those of plain PNG without Pillow
        return None
    stored, orientation = image_size(path), _turn(tag)
    if orientation == 1:
        return None
    height, width = stored
    return stored, (width, height) if orientation in QUARTER_TURNS else stored


def exif_orientation(path: Path | str) -> int:
    """EXIF's number of how a picture is turned, 2 to 8; 1 where it is upright or does not say."""
    return _turn(_orientation_tag(path))


def _turn(tag: Any) -> int:
    return tag if tag in range(2, 9) else 1


def _orientation_tag(path: Path | str) -> Any:
    """What a file states as its orientation; 1 where it does not say, None where that cannot be read."""
    try:
        chunks = png_chunks(_path(path))
    except (OSError, ValueError):
        return None
    if chunks and b"eXIf" not in chunks:  # most sets are of such: Pillow is not imported for them
        return 1
    from PIL import Image

    try:
        with opened_header(_path(path)) as picture:
            if exif := png_exif(_path(path)):
                picture.info["exif"] = exif
            # Pillow takes a rotation from these too, OpenCV and mmpose do not.
            for key in ("xmp", "XML:com.adobe.xmp", "Raw profile type exif"):
                picture.info.pop(key, None)
            # Pillow's own getexif of a PNG decodes all of its pixels in search of the tag.
            return Image.Image.getexif(picture).get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, TypeError, struct.error, Image.DecompressionBombError):
        return None


def images_in(folder: Path | str) -> tuple[Path, ...]:
    """The image files of a folder and its subfolders, sorted by name.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of images")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_ENDINGS and p.is_file())
    if not found:
        raise ValueError(f"{folder}: no image there ({', '.join(IMAGE_ENDINGS)})")
    return tuple(found)


def write_image(path: Path | str, image: UInt8[np.ndarray, "H W 3"], follow: bool = True) -> Path:
    """Write RGB pixels; the ending chooses the format. The file appears whole or not at all.

    Args:
        path: the target.
        image: its pixels.
        follow: see `workbench.core.files.replacing`.

    Raises:
        ValueError: the ending is no image format.
    """
    import cv2

    path = _path(path)
    if path.suffix.lower() not in IMAGE_ENDINGS:
        raise ValueError(f"{path.name}: expected an ending out of {', '.join(IMAGE_ENDINGS)}")
    # 92: artefacts of drawn edges are no longer visible, and 1200 scenes stay near 60 MB.
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if path.suffix.lower() in (".jpg", ".jpeg") else []
    _, data = cv2.imencode(path.suffix, cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR), options)
    return write_bytes(path, data.tobytes(), follow)
