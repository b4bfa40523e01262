"""What the HTTP API sends to the browser: images, cut-outs, skeletons, float arrays and network outputs."""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from apps.server.output_cache import HEATMAPS, SIMCC_X, SIMCC_Y, TO_IMAGE, StoredOutputs
from workbench.core import NotAvailable, Run, Skeleton
from workbench.core.report import counted, plain
from workbench.figures import keypoint_colours, sprite

if TYPE_CHECKING:
    from jaxtyping import UInt8

Json = TypeVar("Json", list[Any], dict[str, Any])
Record = TypeVar("Record")


LONGEST = 1024
"""Longest side of a shown image, pixels."""

THUMB = 96
"""Side of a cut-out, pixels."""

# Context around the box in a cut-out: what an animal stands on helps to recognise the picture.
MARGIN = 1.2


def shown_scale(width: int, height: int) -> float:
    """Shown pixels per original pixel."""
    return min(1.0, LONGEST / max(width, height, 1))


def jpeg(pixels: UInt8[np.ndarray, "H W 3"]) -> tuple[bytes, float]:
    """The image as JPEG no larger than LONGEST, and its scale."""
    pixels, scale = shown_pixels(pixels)
    return encoded(pixels, 88), scale


def shown_pixels(pixels: UInt8[np.ndarray, "H W 3"]) -> tuple[UInt8[np.ndarray, "h w 3"], float]:
    """The image no larger than LONGEST, and its scale."""
    import cv2

    height, width = pixels.shape[:2]
    scale = shown_scale(width, height)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return pixels, scale


def cut_out(pixels: UInt8[np.ndarray, "H W 3"], box: tuple[float, float, float, float]) -> bytes:
    """The square around a box as a THUMB x THUMB JPEG; what lies outside the image is grey."""
    import cv2

    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = box
    side = max(x1 - x0, y1 - y0, 1.0) * MARGIN
    scale = THUMB / side
    left, top = (x0 + x1 - side) / 2, (y0 + y1 - side) / 2
    # Cut before resizing: the cost is the box's size and not the photograph's.
    u0, v0 = max(0, int(left)), max(0, int(top))
    u1, v1 = min(width, int(left + side) + 1), min(height, int(top + side) + 1)
    canvas = np.full((THUMB, THUMB, 3), 128, np.uint8)
    if u1 > u0 and v1 > v0:
        size = (max(1, round((u1 - u0) * scale)), max(1, round((v1 - v0) * scale)))
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        part = cv2.resize(np.ascontiguousarray(pixels[v0:v1, u0:u1]), size, interpolation=way)
        column, row = max(0, round((u0 - left) * scale)), max(0, round((v0 - top) * scale))
        part = part[: THUMB - row, : THUMB - column]
        canvas[row : row + part.shape[0], column : column + part.shape[1]] = part
    return encoded(canvas, 80)


def encoded(pixels: np.ndarray, quality: int) -> bytes:
    """The pixels as a JPEG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=quality)
    return file.getvalue()


# Float arrays with a JSON head in one body: what the API calls a PACK.


def packed(head: Mapping[str, Any], blocks: Mapping[str, np.ndarray]) -> bytes:
    """The head, told where the blocks are, and the blocks as float32 little endian in C order."""
    header = {**head, "blocks": [{"name": n, "shape": list(a.shape)} for n, a in blocks.items()]}
    text = json.dumps(plain(header), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    # Padded so that the floats start at a multiple of 8: a browser then reads them without a copy.
    text += b" " * (-(4 + len(text)) % 8)
    floats = [np.ascontiguousarray(a, dtype="<f4").tobytes() for a in blocks.values()]
    return b"".join([struct.pack("<I", len(text)), text, *floats])


def sent_json(text: str, kind: type[Json]) -> Json:
    """What a page of this app wrote as JSON and sends back; an empty text is an empty list or dict.

    Args:
        text: of a request, which anybody may have written.
        kind: list or dict.

    Raises:
        ValueError: it is no such JSON.
    """
    try:
        found = json.loads(text) if text else kind()
    except (ValueError, TypeError, RecursionError):
        found = None
    if not isinstance(found, kind):
        raise ValueError(f"expected a JSON {kind.__name__} that a page of this app wrote, got {text!r:.60}")
    return found


def sent_words(text: str, count: int) -> list[str | None]:
    """The words of an address as a page sends them; all None of an empty text.

    Raises:
        ValueError: they are no texts, or of another number.
    """
    words = sent_json(text, list) or [None] * count
    if len(words) != count or not all(isinstance(word, (str, type(None))) for word in words):
        raise ValueError(f"expected the {counted(count, 'word')} of an address, got {text!r:.60}")
    return words


def record_of(kind: type[Record], text: str) -> Record:
    """A page's state, a dataclass of numbers and texts, from the JSON that came back from a browser.

    Raises:
        ValueError: it is no such JSON, or a field is missing, unknown or of another type.
    """
    values, hints = sent_json(text, dict), get_type_hints(kind)
    for name, value in values.items():
        if name not in hints or not _fits(value, hints[name]):
            raise ValueError(f"expected a state of this page, got {name} = {value!r:.60}")
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except TypeError:  # a field is missing
        raise ValueError(f"expected a state of this page, got {text!r:.60}") from None


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value is of an annotated type: int, float, str, bool, tuples and unions of these."""
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(_fits(one, get_args(hint)[0]) for one in value)
    if options := get_args(hint):
        return any(_fits(value, one) for one in options)
    if hint is float:
        return isinstance(value, (int, float)) and math.isfinite(value)
    return isinstance(value, hint)


def unpacked(body: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Head and blocks of a PACK."""
    (length,) = struct.unpack_from("<I", body)
    head = json.loads(body[4 : 4 + length])
    blocks, offset = {}, 4 + length
    for block in head["blocks"]:
        count = int(np.prod(block["shape"], dtype=int))
        blocks[block["name"]] = np.frombuffer(body, "<f4", count, offset).reshape(block["shape"])
        offset += 4 * count
    return head, blocks


# What the network left for one sample, small enough to travel while somebody drags a slider.


@dataclass(frozen=True, eq=False)
class Left:
    """One sample's output.

    Attributes:
        maps: heatmaps [K, h, w], or None.
        simcc: logits [K, bins] along x and y, or None.
        affine: input pixels to image pixels [2, 3].
        facts: ``input_size`` (height, width), ``udp``, ``split_ratio``.
    """

    maps: np.ndarray | None
    simcc: tuple[np.ndarray, np.ndarray] | None
    affine: np.ndarray
    facts: Mapping[str, Any]

    @classmethod
    def of_stored(cls, stored: StoredOutputs, sample: int) -> Left:
        """From the store.

        Raises:
            KeyError: the sample was not computed.
        """
        row = stored.row(sample)

        def one(name: str) -> np.ndarray:
            return np.array(stored.array(name)[row])

        if stored.kind == "heatmap":
            return cls(one(HEATMAPS), None, one(TO_IMAGE), stored.facts)
        if stored.kind == "simcc":
            return cls(None, (one(SIMCC_X), one(SIMCC_Y)), one(TO_IMAGE), stored.facts)
        raise NotAvailable("maps: this family leaves neither heatmaps nor SimCC vectors")

    @classmethod
    def of_run(cls, run: Run) -> Left:
        """From a forward pass over this sample alone."""
        codec = run.model.codec
        facts = {
            "input_size": tuple(run.batch.pixels.shape[-2:]),
            "udp": bool(codec and codec.udp),
            "split_ratio": codec.split_ratio if codec else 1.0,
        }
        affine = np.asarray(run.batch.to_image[0], float)
        if run.outputs.heatmaps is not None:
            return cls(run.heatmaps[0], None, affine, facts)
        x, y = run.simcc
        return cls(None, (x[0], y[0]), affine, facts)

    def to_image(self) -> np.ndarray:
        """Affine map from (column, row) of a heatmap cell, or from (bin x, bin y), to image pixels [2, 3]."""
        height, width = self.facts["input_size"]
        if self.maps is None:
            pitch = np.full(2, 1 / self.facts["split_ratio"])
        else:
            h, w = self.maps.shape[1:]
            # UDP: the outermost cells lie on the outermost pixels; plain: a cell is a whole stride.
            pitch = (
                np.array([(width - 1) / (w - 1), (height - 1) / (h - 1)])
                if self.facts["udp"]
                else np.array([width / w, height / h])
            )
        return np.concatenate([self.affine[:, :2] * pitch, self.affine[:, 2:]], 1)


def sent_maps(left: Left) -> tuple[bytes, str, dict[str, str]]:
    """Body, media type and headers: all heatmaps as one grey PNG, or SimCC logits as a PACK."""
    to_image = left.to_image().tolist()
    if left.maps is not None:
        K, h, w = left.maps.shape
        columns = math.ceil(math.sqrt(K))
        png, low, high = sprite(left.maps, columns=columns)
        head = {
            "kind": "heatmap", "K": K, "h": h, "w": w, "columns": columns, "low": low, "high": high,
            "to_image": to_image,
        }  # fmt: skip
        return png, "image/png", {"X-Sprite": json.dumps(head)}
    if left.simcc is None:
        raise NotAvailable("maps: this family leaves neither heatmaps nor SimCC vectors")
    x, y = left.simcc
    head = {"kind": "simcc", "K": len(x), "bins_x": x.shape[1], "bins_y": y.shape[1], "to_image": to_image}
    return packed(head, {"x": x, "y": y}), "application/octet-stream", {}


def skeleton_facts(skeleton: Skeleton) -> dict[str, Any]:
    """Names, limbs, pairs, colours and OKS constants of a skeleton."""
    return {
        "name": skeleton.name,
        "keypoints": skeleton.keypoints,
        "limbs": skeleton.limbs,
        "mirror": skeleton.mirror,
        "colours": keypoint_colours(skeleton),
        "sigmas": skeleton.sigmas,
    }
