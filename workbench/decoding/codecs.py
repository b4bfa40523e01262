"""Codecs by name at any size: how a keypoint is written into an output, and how it is read back.

codec = codec_for("udp", input_size=(1024, 768), output_size=(256, 192), sigma=6.0)
decoded = encode_decode(codec, points)  # what a perfect network would give
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from workbench.core import Codec, nearest
from workbench.core.report import counted
from workbench.decoding.decoders import decode
from workbench.decoding.targets import as_outputs, target

if TYPE_CHECKING:
    from jaxtyping import Float

    Points = Float[np.ndarray, "P 2"]


@dataclass(frozen=True)
class NamedCodec:
    """One pair of encoding and decoding.

    Attributes:
        kind: of output.
        about: one line for user interfaces.
        udp: cells are placed as UDP does.
        reference: the codec of mmpose with equal results; "" where it has none.
    """

    kind: Literal["heatmap", "simcc"]
    about: str
    udp: bool = False
    reference: str = ""


CODECS: dict[str, NamedCodec] = {
    "argmax": NamedCodec("heatmap", "Gaussian around the nearest cell, read by its highest cell"),
    "quarter": NamedCodec(
        "heatmap", "Gaussian around the nearest cell, read with a quarter offset", reference="MSRAHeatmap"
    ),
    "dark": NamedCodec(
        "heatmap", "Gaussian at the exact position, read by DARK", reference="MSRAHeatmap(unbiased=True)"
    ),
    "udp": NamedCodec(
        "heatmap", "Gaussian at the exact position in UDP's cells, read by DARK", True, "UDPHeatmap"
    ),
    "udp-combined": NamedCodec(
        "heatmap",
        "disc around the position in UDP's cells, and from each cell the offset to it",
        True,
        "UDPHeatmap(heatmap_type='combined')",
    ),
    "soft-argmax": NamedCodec("heatmap", "Gaussian at the exact position, read by soft-argmax"),
    "megvii": NamedCodec(
        "heatmap", "blurred cell, rounded down, read with a quarter and a half", reference="MegviiHeatmap"
    ),
    "simcc": NamedCodec("simcc", "vectors along x and y, read by their highest bin", reference="SimCCLabel"),
    "simcc-dark": NamedCodec(
        "simcc", "vectors along x and y, read by DARK", reference="SimCCLabel(use_dark=True)"
    ),
    "simcc-soft": NamedCodec("simcc", "vectors along x and y, read by soft-argmax"),
}
"""Codec -> what it is. Its name is that of its decoder in DECODERS."""

RADIUS_FACTOR = 0.0546875
"""Radius of the disc of UDP's combined form over the heatmap's longer side: 3.5 of 64 cells.

Source: mmpose 1.3.2 codecs/udp_heatmap.py radius_factor.
"""

# Cells of targets in one block: 32 MB of float32, and a few arrays of that size at a time.
BLOCK = 8_000_000


def codec_for(
    name: str,
    input_size: tuple[int, int],
    output_size: tuple[int, int] | None = None,
    sigma: float | None = None,
    split_ratio: float = 2.0,
    bin_sigma: tuple[float, float] | None = None,
    blur_kernel: int = 11,
) -> Codec:
    """A codec of CODECS at some size.

    Args:
        name: of CODECS.
        input_size: (height, width) of the network's input, pixels.
        output_size: heatmap (h, w) in cells, not used for SimCC; a quarter of the input by default.
        sigma: of the Gaussian in cells; by default 2 for 64 rows and in proportion to the rows, as mmpose's
            configs have it up to 96 rows; at least 1. Of ``udp-combined`` the radius of the disc, by default
            the share of the longer side that mmpose has.
        split_ratio: SimCC bins per input pixel.
        bin_sigma: of SimCC in bins along x and y; by default sqrt(side / 8), which gives the 4.9, 5.66, 6 and
            6.93 of RTMPose's configs.
        blur_kernel: of DARK, UDP and Megvii, cells.

    Raises:
        KeyError: no such codec.
        ValueError: a size is no size, or the output does not fit the input.

    Example:
        >>> codec_for("udp", (256, 192)).output_size
        (64, 48)
        >>> codec_for("simcc", (256, 192)).output_size
        (512, 384)
    """
    if name not in CODECS:
        raise KeyError(f"no codec {name!r}; nearest: {nearest(name, CODECS)}")
    H, W = _checked_side("input", input_size, least=8)
    if CODECS[name].kind == "simcc":
        x, y = bin_sigma or (math.sqrt(W / 8), math.sqrt(H / 8))
        _check_positive("sigma", x, y)
        return Codec(
            "simcc",
            (H, W),
            _bins((H, W), split_ratio),
            (float(x), float(y)),
            float(split_ratio),
            decoder=name,
        )
    h, w = checked_heatmap((H, W), output_size or (H // 4, W // 4))
    usual = RADIUS_FACTOR * max(h, w) if name == "udp-combined" else max(h / 32, 1.0)
    cells = usual if sigma is None else float(sigma)
    _check_positive("sigma", cells)
    if blur_kernel < 1 or blur_kernel % 2 == 0:
        raise ValueError(f"blur kernel: expected an odd number of cells, got {blur_kernel}")
    return Codec(
        "heatmap",
        (H, W),
        (h, w),
        (cells, cells),
        udp=CODECS[name].udp,
        decoder=name,
        blur_kernel=blur_kernel,
        mmpose_cut=True,
    )


def size_of(text: str) -> tuple[int, int]:
    """(height, width) of ``WIDTHxHEIGHT``.

    Raises:
        ValueError: it is no such text.
    """
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and 0 < int(side) < 1 << 16 for side in sides):
        raise ValueError(f"expected WIDTHxHEIGHT in pixels, such as 192x256, got {text!r}")
    return int(sides[1]), int(sides[0])


def checked_heatmap(input_size: tuple[int, int], output_size: tuple[int, int]) -> tuple[int, int]:
    """The (h, w) of a heatmap, where it fits the input.

    Args:
        input_size: (height, width), pixels.
        output_size: (h, w), cells.

    Raises:
        ValueError: larger than the input, smaller than 4 cells, or pixels per cell differ by more than 2 %
            between x and y.
    """
    (H, W), (h, w) = input_size, _checked_side("heatmap", output_size, least=4)
    x, y = W / w, H / h
    if min(x, y) < 1:
        raise ValueError(
            f"heatmap {w}x{h} is larger than the input {W}x{H} (width x height); expected at most one "
            "cell per pixel"
        )
    # Odd sizes are rounded by the strides of a network; 2 % is one cell of 48.
    if abs(x / y - 1) > 0.02:
        swapped = abs(W / h / (H / w) - 1) <= 0.02
        raise ValueError(
            f"heatmap {w}x{h} does not fit input {W}x{H} (width x height): a cell would be {x:.3g} pixels "
            f"wide and {y:.3g} high; "
            + ("width and height are exchanged" if swapped else f"expected {W}x{H} over one stride")
            + f", such as {round(W / 4)}x{round(H / 4)}"
        )
    return h, w


def encode_decode(codec: Codec, points: Points) -> Points:
    """Positions that the decoder reads off the targets of the encoder: what a perfect network would give.

    Args:
        codec: of a network, or from `codec_for`.
        points: (x, y) in input pixels.

    Returns:
        (x, y) in input pixels; nan where the point has no target: outside the input.

    Example:
        >>> codec = codec_for("argmax", (64, 48))  # cells of 4 pixels
        >>> encode_decode(codec, np.array([[21.0, 30.0]])).tolist()
        [[20.0, 32.0]]
    """
    points = np.asarray(points, float)
    H, W = codec.input_size
    inside = ((points >= -0.5) & (points <= (W - 0.5, H - 0.5))).all(-1)
    decoded = np.full(points.shape, np.nan)
    rows = np.flatnonzero(inside)
    area = sum(codec.output_size) if codec.kind == "simcc" else math.prod(codec.output_size)
    step = max(1, BLOCK // area)
    for start in range(0, len(rows), step):
        here = rows[start : start + step]
        made = target(codec, points[None, here], np.ones((1, len(here))))
        read = decode(as_outputs(made), codec)[0][0]
        decoded[here] = np.where(made["weights"][0, :, None] > 0, read, np.nan)
    return decoded


def _bins(input_size: tuple[int, int], split_ratio: float) -> tuple[int, int]:
    """SimCC bins (along y, along x).

    Raises:
        ValueError: the ratio gives no whole number of bins.
    """
    _check_positive("split ratio", split_ratio)
    bins = [side * split_ratio for side in input_size]
    if any(abs(b - round(b)) > 1e-6 or b < 4 for b in bins):
        H, W = input_size
        raise ValueError(
            f"split ratio {split_ratio:g} does not fit input {W}x{H}: it gives {bins[1]:g} and "
            f"{counted(bins[0], 'bin', spec='g')}; expected whole numbers of at least 4, as with 2"
        )
    return round(bins[0]), round(bins[1])


def _checked_side(what: str, size: tuple[int, int], least: int) -> tuple[int, int]:
    height, width = (int(v) for v in size)
    if min(height, width) < least:
        raise ValueError(f"{what}: expected at least {least} along each side, got {width}x{height}")
    return height, width


def _check_positive(what: str, *values: float) -> None:
    if not all(0 < v < math.inf for v in values):
        raise ValueError(f"{what}: expected a number above 0, got {', '.join(f'{v:g}' for v in values)}")
