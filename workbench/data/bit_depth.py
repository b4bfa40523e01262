"""How many bits do the values of a picture have, and what are they as 0 to 255?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import UInt8

# Cameras give 10, 12 or 14 bits, which files keep in 16.
BIT_DEPTHS = (10, 12, 14, 16)


def bits_of(most: int) -> int:
    """The depth of a camera whose brightest value this is, at most 65535."""
    return next(bits for bits in BIT_DEPTHS if most < 1 << bits)


def eight_bits(
    values: np.ndarray, name: str, least_bits: int = 0
) -> tuple[UInt8[np.ndarray, "..."], tuple[str, ...]]:
    """Values of any kind as 0 to 255, and what was done; `least_bits` as in `read_image`.

    Raises:
        ValueError: their kind or range says not what is black and what is white.
    """
    if values.dtype == np.uint8:
        return values, ()
    if values.dtype == np.uint16:
        # 256 values become one, as OpenCV and mmpose have it.
        most = int(values.max(initial=0))
        own = bits_of(most)
        bits = max(own, least_bits)
        scaled = np.empty(values.shape, np.uint8)
        for row in range(
            0, len(values), 256
        ):  # in stretches: a second copy of 16 bits would take as much again
            scaled[row : row + 256] = values[row : row + 256] >> (bits - 8)
        if bits == 16 or most == 0:
            return scaled, ()
        beside = ", as the brightest one beside it," if own < bits else ""
        return scaled, (
            f"{name}: a 16-bit picture that reaches only {most} of 65535: read as {bits} bits{beside}"
            f" (divided by {1 << (bits - 8)}); read as 16 bits, as OpenCV and mmpose do, it would be nearly"
            " black",
        )
    kind = f"{8 * values.dtype.itemsize}-bit {'float' if values.dtype.kind == 'f' else 'integer'} values"
    if values.dtype.kind != "f":
        raise ValueError(f"{name}: has {kind}, which do not say what is white; save it with 8 or 16 bits")
    low, high = float(np.min(values, initial=np.inf)), float(np.max(values, initial=-np.inf))
    if not (0 <= low <= high <= 255):
        raise ValueError(
            f"{name}: has {kind} from {low:g} to {high:g}; expected 0 to 1 or 0 to 255, so that black and"
            " white are known; save it with 8 or 16 bits"
        )
    white = 1.0 if high <= 1 else 255.0
    scaled = np.rint(values * (255.0 / white)).astype(np.uint8)
    return scaled, (
        f"{name}: {kind} from {low:g} to {high:g} were read with 0 as black and {white:g} as white",
    )
