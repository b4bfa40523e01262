"""What does an image file show? Its pixels as RGB uint8, upright, or one sentence why not.

A camera's EXIF rotation is applied, as OpenCV, mmpose and every browser do; `PoseSet.sample` undoes it
where an annotation file states the size of the stored, unrotated picture.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workbench.files import write_bytes

if TYPE_CHECKING:
    from jaxtyping import UInt8

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

# A 30 kB file can claim 50,000 x 50,000 pixels. This is above any camera and below any memory.
MOST_PIXELS = 89_000_000

_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright

# A cut-off file decodes to grey rows without an error, so its end is looked for: (start, last part, end).
_ENDS = {
    b"\xff\xd8": (b"\xff\xda", b"\xff\xd9"),  # JPEG: the end marker follows the last scan
    b"\x89PNG": (b"IDAT", b"IEND"),
}


def read_image(path: Path | str, upright: bool = True) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of one file: grey becomes RGB, transparency is dropped, 16 bits are scaled to 8.

    Args:
        path: any format that OpenCV reads.
        upright: turn the picture as its EXIF orientation says; else as it is stored.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image, is broken or cut off, or claims more than `MOST_PIXELS` pixels.
    """
    import cv2

    path = Path(path)
    height, width = image_size(path)
    if width * height > MOST_PIXELS:
        raise ValueError(f"{path.name}: claims {width} x {height} pixels; at most {MOST_PIXELS:,} are read")
    data = path.read_bytes()
    for start, (part, end) in _ENDS.items():
        if data.startswith(start) and data.rfind(end) < data.rfind(part):
            raise ValueError(f"{path.name}: expected a whole image, but the file is cut off")
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    # OpenCV writes its own lines about a broken file past Python to stderr; the sentence below says it.
    level = cv2.utils.logging.setLogLevel(0)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as reason:
        raise ValueError(f"{path.name}: expected an image, but it is broken ({reason.err})") from None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if pixels is None:
        raise ValueError(f"{path.name}: expected an image, but its pixels cannot be decoded")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def image_size(path: Path | str) -> tuple[int, int]:
    """(height, width) in pixels as stored, from the header alone.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image.
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image file")
    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except UnidentifiedImageError:
        raise ValueError(f"{path.name}: expected an image, got a file that is none") from None
    except Image.DecompressionBombError as reason:
        raise ValueError(f"{path.name}: too many pixels to be read ({reason})") from None
    except PermissionError:  # says nothing about the header
        raise
    except (OSError, SyntaxError) as reason:  # Pillow raises either on a broken header
        raise ValueError(f"{path.name}: expected an image, but its header is broken ({reason})") from None


def upright_size(path: Path | str) -> tuple[int, int]:
    """(height, width) in pixels as `read_image` gives them; only a picture with a rotation is decoded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image, or has a rotation and cannot be decoded.
    """
    from PIL import Image

    stored = image_size(path)
    with Image.open(path) as picture:
        try:
            turned = picture.getexif().get(_ORIENTATION, 1) != 1
        except (SyntaxError, ValueError, TypeError, struct.error):  # a broken tag: OpenCV has the last word
            turned = True
    if not turned:
        return stored
    height, width = read_image(path).shape[:2]
    return height, width


def turned_by_exif(path: Path | str) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """(height, width) as stored and upright of a picture that its EXIF orientation turns; else None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image.
    """
    from PIL import Image

    stored = image_size(path)
    try:
        with Image.open(path) as picture:
            orientation = picture.getexif().get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, TypeError, struct.error):
        return None
    if orientation not in range(2, 9):
        return None
    # 5 to 8 are the quarter turns.
    height, width = stored
    return stored, (width, height) if orientation >= 5 else stored


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


def write_image(path: Path | str, image: UInt8[np.ndarray, "H W 3"]) -> Path:
    """Write RGB pixels; the ending chooses the format. The file appears whole or not at all.

    Raises:
        ValueError: the ending is no image format.
    """
    import cv2

    path = Path(path)
    if path.suffix.lower() not in IMAGE_ENDINGS:
        raise ValueError(f"{path.name}: expected an ending out of {', '.join(IMAGE_ENDINGS)}")
    # 92: artefacts of drawn edges are no longer visible, and 1200 scenes stay near 60 MB.
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if path.suffix.lower() in (".jpg", ".jpeg") else []
    _, data = cv2.imencode(path.suffix, cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR), options)
    return write_bytes(path, data.tobytes())
