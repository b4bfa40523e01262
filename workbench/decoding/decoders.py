"""Decoders: keypoints from heatmaps or SimCC vectors. All read the stored output and never modify it.

Equal to mmpose 1.3.2 (codecs/msra_heatmap.py, udp_heatmap.py, simcc_label.py) but for two points: where the
peak is zero or less the keypoint is nan and not cell -1, and mmpose's blur overwrites the maps it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from workbench.core import Codec, DecodeOptions, NotAvailable, Outputs, nearest

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    Maps = Float[np.ndarray, "N K h w"]
    Cells = Float[np.ndarray, "N K 2"]
    Vectors = Float[np.ndarray, "N K bins"]
    Bins = Float[np.ndarray, "N K 2"]


@dataclass(frozen=True)
class Decoder:
    """One way to read keypoints off an output.

    Attributes:
        kind: what it reads, as Codec.kind.
        about: one line for user interfaces.
        read: from finite maps [N, K, h, w] to cells [N, K, 2], or from both SimCC vectors to bins; with
            the codec, for its blur and sigma.
    """

    kind: Literal["heatmap", "simcc"]
    about: str
    read: Callable[..., Float[np.ndarray, "N K 2"]]


# Readers of heatmaps [N, K, h, w]: positions (x, y) in cells; integers are cell centres.


def argmax(maps: Maps, codec: Codec) -> Cells:
    """The highest cell; of equals the first, row by row."""
    return np.stack(_peaks(maps), -1).astype(float)


def quarter(maps: Maps, codec: Codec) -> Cells:
    """The highest cell, moved a quarter cell towards its higher neighbour, per axis.

    The bounds are mmpose's: x moves only for 1 < x < w - 1, so a peak in column 1 stays.

    Source: mmpose 1.3.2 codecs/utils/refinement.py refine_keypoints.
    """
    h, w = maps.shape[-2:]
    x, y = _peaks(maps)
    at = _reader(maps, x, y, margin=1)
    right, below = at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)
    moves_x = (x > 1) & (x < w - 1) & (y > 0)
    moves_y = (y > 1) & (y < h - 1) & (x > 0)
    step = np.stack([np.sign(right) * moves_x, np.sign(below) * moves_y], -1)
    return np.stack([x, y], -1) + 0.25 * step


def dark(maps: Maps, codec: Codec) -> Cells:
    """The highest cell and one Newton step on the logarithm of the blurred map, differences over two cells.

    Source: Zhang et al., Distribution-aware coordinate representation, eq. 6-9; mmpose 1.3.2
    codecs/utils/refinement.py refine_keypoints_dark.
    """
    h, w = maps.shape[-2:]
    x, y = _peaks(maps)
    # 1e-10: blurred maps reach zero, logarithms must not.
    at = _reader(np.log(np.maximum(blurred(maps, codec.blur_kernel), np.float32(1e-10))), x, y, margin=2)
    half, quart = np.float32(0.5), np.float32(0.25)
    dx, dy = half * (at(1, 0) - at(-1, 0)), half * (at(0, 1) - at(0, -1))
    dxx = quart * (at(2, 0) - 2 * at(0, 0) + at(-2, 0))
    dyy = quart * (at(0, 2) - 2 * at(0, 0) + at(0, -2))
    dxy = quart * (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1))
    step = _newton_step(dx, dy, dxx, dxy, dyy)
    inside = (x > 1) & (x < w - 2) & (y > 1) & (y < h - 2) & (dxx * dyy - dxy**2 != 0)
    return np.stack([x, y], -1) + np.where(inside[..., None], step, 0)


def udp(maps: Maps, codec: Codec) -> Cells:
    """The highest cell and one Newton step on the logarithm of the blurred map, differences over one cell.

    Source: Huang et al., The devil is in the details; mmpose 1.3.2 codecs/utils/refinement.py
    refine_keypoints_dark_udp.
    """
    x, y = _peaks(maps)
    return np.stack([x, y], -1) + udp_step(udp_logs(maps, codec.blur_kernel), x, y)


def udp_logs(maps: Maps, blur_kernel: int) -> Maps:
    """Logarithms of the blurred maps, as UDP's Newton step reads them."""
    # The clip is UDP's: below 1e-3 the logarithm of noise would outweigh the peak.
    return np.log(np.clip(blurred(maps, blur_kernel), np.float32(1e-3), np.float32(50)))


def udp_step(logs: Maps, x: Int[np.ndarray, "P K"], y: Int[np.ndarray, "P K"]) -> Float[np.ndarray, "P K 2"]:
    """One Newton step from cells of each map, differences over one cell.

    Args:
        logs: from `udp_logs`; of one image, or of as many as there are rows of cells.
        x: column of each cell.
        y: row of each cell.
    """
    at = _reader(logs, x, y, margin=1)
    half, here = np.float32(0.5), at(0, 0)
    dx, dy = half * (at(1, 0) - at(-1, 0)), half * (at(0, 1) - at(0, -1))
    dxx, dyy = at(1, 0) - 2 * here + at(-1, 0), at(0, 1) - 2 * here + at(0, -1)
    dxy = half * (at(1, 1) - at(1, 0) - at(0, 1) + here + here - at(-1, 0) - at(0, -1) + at(-1, -1))
    # On the diagonal, so that a flat map has an inverse at all.
    ridge = float(np.finfo(np.float32).eps)
    return _newton_step(dx, dy, dxx, dxy, dyy, ridge)


def blurred(maps: Maps, kernel: int) -> Maps:
    """Maps after a Gaussian blur that is zero outside them, scaled back to their old maximum.

    Args:
        maps: any scale.
        kernel: side of the blur in cells, odd; OpenCV's rule gives its sigma, .3 (kernel / 2 - 1.5) + .8.

    Raises:
        ValueError: the kernel is even or not positive.
    """
    import cv2

    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"blur kernel: expected an odd number of cells, got {kernel}")
    N, K, h, w = maps.shape
    border = kernel // 2
    # One tall picture with a zero border around every map: one call instead of N K, the same sums.
    tall = np.pad(maps.astype(np.float32, copy=False), ((0, 0), (0, 0), (border, border), (border, border)))
    side = h + 2 * border, w + 2 * border
    soft = cv2.GaussianBlur(tall.reshape(N * K * side[0], side[1]), (kernel, kernel), 0)
    soft = soft.reshape(N, K, *side)[:, :, border : border + h, border : border + w]
    before, after = (m.max((2, 3), keepdims=True) for m in (maps, soft))
    # A map that the blur leaves empty has no scale to keep. A negative one turns the map over, as in mmpose.
    scale = np.divide(before, after, out=np.ones_like(before, np.float32), where=after != 0)
    return soft * scale


def _peaks(maps: Maps) -> tuple[Int[np.ndarray, "N K"], Int[np.ndarray, "N K"]]:
    y, x = np.divmod(maps.reshape(*maps.shape[:2], -1).argmax(-1), maps.shape[-1])
    return x, y


def _reader(maps: Maps, x: Int[np.ndarray, "N K"], y: Int[np.ndarray, "N K"], margin: int):
    """Read maps at (x + dx, y + dy) of every keypoint, the edge repeated `margin` cells outwards."""
    padded = np.pad(maps, ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode="edge")
    n, k = np.ogrid[: maps.shape[0], : maps.shape[1]]
    return lambda dx, dy: padded[n, k, y + dy + margin, x + dx + margin]


def _newton_step(
    dx: np.ndarray, dy: np.ndarray, dxx: np.ndarray, dxy: np.ndarray, dyy: np.ndarray, ridge: float = 0.0
) -> Cells:
    """Minus inverse Hessian times gradient, in float64; zero where the Hessian has no inverse."""
    dx, dy, dxx, dxy, dyy = (a.astype(float) for a in (dx, dy, dxx, dxy, dyy))
    dxx, dyy = dxx + ridge, dyy + ridge
    determinant = dxx * dyy - dxy**2
    invertible = determinant != 0
    safe = np.where(invertible, determinant, 1)
    step = np.stack([dyy * dx - dxy * dy, dxx * dy - dxy * dx], -1) / -safe[..., None]
    return np.where(invertible[..., None], step, 0)


# Readers of SimCC vectors [N, K, bins], raw logits: positions (x, y) in bins. Source: mmpose 1.3.2
# codecs/simcc_label.py, codecs/utils/post_processing.py get_simcc_maximum.


def simcc_argmax(x: Vectors, y: Vectors, codec: Codec) -> Bins:
    """The highest bin of each vector; of equals the first."""
    return np.stack([x.argmax(-1), y.argmax(-1)], -1).astype(float)


def simcc_dark(x: Vectors, y: Vectors, codec: Codec) -> Bins:
    """The highest bin and one Newton step on the logarithm of the blurred vector, per axis."""
    return np.stack([_refined(v, _kernel(s)) for v, s in zip((x, y), codec.sigma, strict=True)], -1)


def _kernel(sigma: float) -> int:
    """Side of the blur in bins, odd: the inverse of OpenCV's rule for sigma, as mmpose rounds it."""
    side = int((sigma * 20 - 7) // 3)
    return max(side - (side % 2 == 0), 1)


def _refined(vectors: Vectors, kernel: int) -> Float[np.ndarray, "N K"]:
    peak = vectors.argmax(-1)
    # A vector is a map of one row; the blur's rows above and below it are zero, which only scales the sum,
    # and the scale is undone.
    soft = blurred(vectors[:, :, None, :], kernel)[:, :, 0]
    logs = np.log(np.clip(soft, np.float32(1e-3), np.float32(50)))
    padded = np.pad(logs, ((0, 0), (0, 0), (2, 2)), mode="edge")
    n, k = np.ogrid[: vectors.shape[0], : vectors.shape[1]]
    at = {d: padded[n, k, peak + 2 + d].astype(float) for d in range(-2, 3)}
    slope = 0.5 * (at[1] - at[-1])
    # 1e-9: mmpose's guard against a flat vector.
    curvature = 1e-9 + 0.25 * (at[2] - 2 * at[0] + at[-2])
    return peak - slope / curvature


DECODERS: dict[str, Decoder] = {
    "argmax": Decoder("heatmap", "the highest cell", argmax),
    "quarter": Decoder("heatmap", "a quarter cell towards the higher neighbour", quarter),
    "dark": Decoder("heatmap", "DARK: one Newton step on the blurred log-map", dark),
    "udp": Decoder("heatmap", "DARK as UDP has it: unit differences, clipped map", udp),
    "simcc": Decoder("simcc", "the highest bin along x and y", simcc_argmax),
    "simcc-dark": Decoder("simcc", "the highest bin, one Newton step on the blurred log-vector", simcc_dark),
}


def decoders_for(given: Outputs | Codec) -> list[str]:
    """Names of the decoders that can read these outputs, or what this codec describes."""
    if isinstance(given, Codec):
        kinds = {given.kind}
    else:
        present = {"heatmap": given.heatmaps, "simcc": given.simcc}
        kinds = {kind for kind, tensor in present.items() if tensor is not None}
    return [name for name, decoder in DECODERS.items() if decoder.kind in kinds]


def decode(
    outputs: Outputs, codec: Codec, options: DecodeOptions | None = None
) -> tuple[Float[np.ndarray, "N K 2"], Float[np.ndarray, "N K"]]:
    """Keypoints (x, y) in input pixels and their scores; nan coordinates where the peak is zero or less.

    A heatmap's score is its peak. SimCC has two peaks, raw logits: `options.score` min is mmpose's, mean
    is rtmlib's; the rule has no effect on heatmaps.

    Raises:
        KeyError: no such decoder; the message lists near ones.
        NotAvailable: the decoder reads something these outputs do not hold.
        ValueError: a map or vector holds a number that is not finite, or has no cells.
    """
    options = options or DecodeOptions()
    name = options.decoder or codec.decoder
    if name not in DECODERS:
        raise KeyError(f"no decoder {name!r}; nearest: {nearest(name, DECODERS)}")
    if options.score not in ("", "min", "mean"):
        raise ValueError(f"score rule: expected min or mean, got {options.score!r}")
    if name not in decoders_for(outputs):
        raise NotAvailable(
            f"decoder {name!r} reads {DECODERS[name].kind}; these outputs can be read by "
            f"{', '.join(decoders_for(outputs)) or 'none'}"
        )
    read = DECODERS[name].read
    if outputs.heatmaps is not None and DECODERS[name].kind == "heatmap":
        maps = _finite("heatmap", outputs.heatmaps)
        points = read(maps, codec) * _pixels_per_cell(codec, maps.shape[-2:])
        scores = maps.max((2, 3))
    else:
        assert outputs.simcc is not None  # decoders_for has seen it
        x, y = (_finite(f"SimCC {axis}", tensor) for axis, tensor in zip("xy", outputs.simcc, strict=True))
        points = read(x, y, codec) / codec.split_ratio
        peaks = x.max(-1), y.max(-1)
        found = np.minimum(*peaks) > 0
        scores = np.minimum(*peaks) if options.score != "mean" else (peaks[0] + peaks[1]) / 2
        return np.where(found[..., None], points, np.nan), scores
    return np.where((scores > 0)[..., None], points, np.nan), scores


def _finite(what: str, tensor: object) -> Float[np.ndarray, "N K *size"]:
    """The tensor as float32 numpy, without a copy where it is one already."""
    if isinstance(tensor, np.ndarray):
        array = tensor.astype(np.float32, copy=False)
    else:
        array = tensor.detach().float().cpu().numpy()  # type: ignore[attr-defined]
    if array.ndim < 3 or array.size == 0:
        raise ValueError(f"{what}: expected samples x keypoints x cells, got shape {array.shape}")
    broken = ~np.isfinite(array).all(tuple(range(2, array.ndim)))
    if broken.any():
        n, k = np.argwhere(broken)[0]
        raise ValueError(
            f"{what} of sample {n}, keypoint {k} holds a number that is not finite ({broken.sum()} in all): "
            "the weights diverged or the input did; nothing can be read off it"
        )
    return array


def _pixels_per_cell(codec: Codec, size: tuple[int, ...]) -> Float[np.ndarray, " 2"]:
    """Input pixels per heatmap cell along x and y; UDP spans from the outermost centres."""
    less = 1 if codec.udp else 0
    (H, W), (h, w) = codec.input_size, size
    return np.array([(W - less) / max(w - less, 1), (H - less) / max(h - less, 1)])
