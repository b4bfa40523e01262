"""Decoders: keypoints from heatmaps or SimCC vectors. All read the stored output and never modify it.

Equal to mmpose 1.3.2 (codecs/msra_heatmap.py, udp_heatmap.py, megvii_heatmap.py, simcc_label.py) but for
three points: where the peak is zero or less the keypoint is nan and not cell -1; mmpose's blur overwrites the
maps it is given; and Megvii's score is the peak as it is, where mmpose makes peak / 255 + .5 of it. mmpose
has no soft-argmax for these outputs; its sources stand at `soft_argmax`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from workbench.core import Codec, DecodeOptions, NotAvailable, Outputs, nearest

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    Maps = Float[np.ndarray, "N K h w"]
    Cells = Float[np.ndarray, "N K 2"]
    Vectors = Float[np.ndarray, "N K bins"]
    Bins = Float[np.ndarray, "N K 2"]
    At = Callable[[int, int], np.ndarray]  # (dx, dy) -> values at so many cells from one cell of each map


@dataclass(frozen=True)
class Decoder:
    """One method to read keypoints from an output.

    Attributes:
        kind: of output that it reads, as Codec.kind.
        about: one line for user interfaces.
        read: from finite maps [N, K, h, w] to positions (x, y) in cells [N, K, 2], or from both SimCC
            vectors to positions in bins; takes the codec as well, for its blur and sigma.
    """

    kind: Literal["heatmap", "simcc"]
    about: str
    read: Callable[..., Float[np.ndarray, "N K 2"]]


# Readers of heatmaps [N, K, h, w]: positions (x, y) in cells; integers are cell centres.


def argmax(maps: Maps, codec: Codec) -> Cells:
    """The highest cell; the first in row order where several are equal.

    Args:
        maps: finite.
        codec: not used.

    Returns:
        (x, y) in cells; integers are cell centres.
    """
    return np.stack(_peaks(maps), -1).astype(float)


def quarter(maps: Maps, codec: Codec) -> Cells:
    """The highest cell, moved a quarter cell towards its higher neighbour, per axis.

    The bounds are mmpose's: x moves only for 1 < x < w - 1, so a peak in column 1 stays.

    Args:
        maps: finite.
        codec: not used.

    Returns:
        (x, y) in cells.

    Source: mmpose 1.3.2 codecs/utils/refinement.py refine_keypoints.
    """
    h, w = maps.shape[-2:]
    x, y = _peaks(maps)
    at = _reader(maps, x, y)
    right, below = at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)
    moves_x = (x > 1) & (x < w - 1) & (y > 0)
    moves_y = (y > 1) & (y < h - 1) & (x > 0)
    step = np.stack([np.sign(right) * moves_x, np.sign(below) * moves_y], -1)
    return np.stack([x, y], -1) + 0.25 * step


def dark(maps: Maps, codec: Codec) -> Cells:
    """DARK: the highest cell, then one Newton step on the logarithm of the blurred map.

    Second derivatives are differences over two cells. A peak within two cells of the border is not moved.

    Args:
        maps: finite.
        codec: its blur_kernel, cells.

    Returns:
        (x, y) in cells.

    Source: Zhang et al., Distribution-aware coordinate representation, eq. 6-9; mmpose 1.3.2
    codecs/utils/refinement.py refine_keypoints_dark.
    """
    h, w = maps.shape[-2:]
    x, y = _peaks(maps)
    # 1e-10: blurred maps contain zeros, whose logarithm is not finite.
    at = _logs_near(maps, x, y, codec.blur_kernel, reach=2, low=1e-10, high=math.inf)
    half, quart = np.float32(0.5), np.float32(0.25)
    dx, dy = half * (at(1, 0) - at(-1, 0)), half * (at(0, 1) - at(0, -1))
    dxx = quart * (at(2, 0) - 2 * at(0, 0) + at(-2, 0))
    dyy = quart * (at(0, 2) - 2 * at(0, 0) + at(0, -2))
    dxy = quart * (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1))
    step = _newton_step(dx, dy, dxx, dxy, dyy)
    inside = (x > 1) & (x < w - 2) & (y > 1) & (y < h - 2) & (dxx * dyy - dxy**2 != 0)
    return np.stack([x, y], -1) + np.where(inside[..., None], step, 0)


def udp(maps: Maps, codec: Codec) -> Cells:
    """DARK as UDP uses it: second derivatives are differences over one cell, and the map is clipped.

    Args:
        maps: finite.
        codec: its blur_kernel, cells.

    Returns:
        (x, y) in cells.

    Source: Huang et al., The devil is in the details; mmpose 1.3.2 codecs/utils/refinement.py
    refine_keypoints_dark_udp.
    """
    x, y = _peaks(maps)
    return np.stack([x, y], -1) + _udp_step(_logs_near(maps, x, y, codec.blur_kernel, 1, *UDP_CLIP))


def megvii(maps: Maps, codec: Codec) -> Cells:
    """The highest cell of the blurred map, a quarter cell towards the higher neighbours, and half a cell.

    The half cell is the mean of what Megvii's encoding drops: it rounds down. A peak within one cell of the
    border is read as the cell alone, without the half, as in mmpose.

    Args:
        maps: finite.
        codec: its blur_kernel, cells.

    Returns:
        (x, y) in cells.

    Source: Chen et al., Cascaded pyramid network; mmpose 1.3.2 codecs/megvii_heatmap.py decode.
    """
    h, w = maps.shape[-2:]
    soft = blurred(maps, codec.blur_kernel)
    x, y = _peaks(soft)
    at = _reader(soft, x, y)
    step = np.stack([np.sign(at(1, 0) - at(-1, 0)), np.sign(at(0, 1) - at(0, -1))], -1)
    inside = (x > 1) & (x < w - 1) & (y > 1) & (y < h - 1)
    return np.stack([x, y], -1) + np.where(inside[..., None], 0.25 * step + 0.5, 0)


def soft_argmax(maps: Maps, codec: Codec) -> Cells:
    """Expectation of the position under the softmax of the whole map.

    The map is divided by its peak first, so that its height does not matter, and multiplied by
    `sharpness` of the codec's sigma. It reads all cells: a second person in the crop pulls the keypoint over.

    Args:
        maps: finite.
        codec: its sigma, cells.

    Returns:
        (x, y) in cells.

    Source: Sun et al., Integral human pose regression (arXiv 1711.08229), eq. 2; Luvizon et al.
    (arXiv 1710.02322), eq. 1. Division by the peak and the sharpness are this library's choice.
    """
    h, w = maps.shape[-2:]
    peak = maps.max((2, 3), keepdims=True)
    # No division by zero: decode sets nan where no peak is.
    mass = np.exp(np.float32(sharpness(codec.sigma[0])) * (maps / np.where(peak > 0, peak, 1) - 1))
    columns, rows = mass.sum(2, dtype=float), mass.sum(3, dtype=float)
    total = np.maximum(columns.sum(-1), np.finfo(float).tiny)
    return np.stack([columns @ np.arange(w) / total, rows @ np.arange(h) / total], -1)


def sharpness(sigma: float) -> float:
    """Factor before the softmax of soft-argmax, for a peak of height 1.

    4 sigma^2 makes a Gaussian of half a cell of it: a narrower one would be read as the highest cell alone.
    Not below 16: there the empty cells of a 64 x 48 map would outweigh the peak.

    Args:
        sigma: of the training's Gaussian, cells or bins.
    """
    return max(4 * sigma**2, 16.0)


UDP_CLIP = (1e-3, 50.0)
"""Bounds of UDP before the logarithm: below the first, noise would outweigh the peak."""


def udp_logs(maps: Maps, blur_kernel: int) -> Maps:
    """Logarithms of the blurred and clipped maps, the input of UDP's Newton step.

    Args:
        maps: finite.
        blur_kernel: side of the blur in cells, odd.
    """
    return np.log(np.clip(blurred(maps, blur_kernel), *map(np.float32, UDP_CLIP)))


def udp_step(logs: Maps, x: Int[np.ndarray, "P K"], y: Int[np.ndarray, "P K"]) -> Float[np.ndarray, "P K 2"]:
    """One Newton step from a cell of each map, with differences over one cell.

    Args:
        logs: from `udp_logs`; of one image, or one image per row of cells.
        x: column of each cell.
        y: row of each cell.

    Returns:
        (dx, dy) in cells.
    """
    return _udp_step(_reader(logs, x, y))


def _udp_step(at: At) -> Float[np.ndarray, "P K 2"]:
    """The step from a reader of logarithms around each cell."""
    half, here = np.float32(0.5), at(0, 0)
    dx, dy = half * (at(1, 0) - at(-1, 0)), half * (at(0, 1) - at(0, -1))
    dxx, dyy = at(1, 0) - 2 * here + at(-1, 0), at(0, 1) - 2 * here + at(0, -1)
    dxy = half * (at(1, 1) - at(1, 0) - at(0, 1) + here + here - at(-1, 0) - at(0, -1) + at(-1, -1))
    # Added to the diagonal, so that the Hessian of a flat map is invertible.
    ridge = float(np.finfo(np.float32).eps)
    return _newton_step(dx, dy, dxx, dxy, dyy, ridge)


def blurred(maps: Maps, kernel: int) -> Maps:
    """Maps after a Gaussian blur with zeros outside, scaled to their maximum before the blur.

    Args:
        maps: any scale.
        kernel: side of the blur in cells, odd; OpenCV derives sigma = .3 (kernel / 2 - 1.5) + .8.

    Raises:
        ValueError: the kernel is even or not positive.
    """
    import cv2

    _check_kernel(kernel)
    N, K, h, w = maps.shape
    border = kernel // 2
    # One tall image with a zero border around every map: one call of OpenCV instead of N K.
    tall = np.pad(maps.astype(np.float32, copy=False), ((0, 0), (0, 0), (border, border), (border, border)))
    side = h + 2 * border, w + 2 * border
    soft = cv2.GaussianBlur(tall.reshape(N * K * side[0], side[1]), (kernel, kernel), 0)
    soft = soft.reshape(N, K, *side)[:, :, border : border + h, border : border + w]
    before, after = (m.max((2, 3), keepdims=True) for m in (maps, soft))
    # A map that is zero after the blur keeps its scale. A negative scale inverts the map, as in mmpose.
    scale = np.divide(before, after, out=np.ones_like(before, np.float32), where=after != 0)
    return soft * scale


def _peaks(maps: Maps) -> tuple[Int[np.ndarray, "N K"], Int[np.ndarray, "N K"]]:
    y, x = np.divmod(maps.reshape(*maps.shape[:2], -1).argmax(-1), maps.shape[-1])
    return x, y


def _reader(maps: Maps, x: Int[np.ndarray, "N K"], y: Int[np.ndarray, "N K"]) -> At:
    """A function (dx, dy) -> values at (x + dx, y + dy); the edge is repeated outwards."""
    h, w = maps.shape[-2:]
    n, k = np.ogrid[: maps.shape[0], : maps.shape[1]]
    return lambda dx, dy: maps[n, k, (y + dy).clip(0, h - 1), (x + dx).clip(0, w - 1)]


def _logs_near(
    maps: Maps,
    x: Int[np.ndarray, "N K"],
    y: Int[np.ndarray, "N K"],
    kernel: int,
    reach: int,
    low: float,
    high: float,
) -> At:
    """A reader of the logarithms of `blurred` maps, clipped, around one cell of each; but for a constant.

    Only the cells around (x, y) are blurred. The scale that `blurred` restores is then unknown. It is at
    least 1 and a constant of the logarithm, which differences do not see, unless it decides what is clipped:
    maps where it may are blurred as a whole.

    Args:
        maps: finite.
        x: column of the cell of each map.
        y: its row.
        kernel: side of the blur in cells, odd.
        reach: cells in each direction that are read, the edge repeated outwards.
        low: lower bound of the clip.
        high: upper bound of the clip.
    """
    window = _blurred_near(maps, x, y, kernel, reach)
    h, w = maps.shape[-2:]
    peaks = np.take_along_axis(maps.reshape(*maps.shape[:2], -1), (y * w + x)[..., None], -1)[..., 0]
    # No cell that is read lies below `low` before it is scaled up, and none above the peak after it.
    read = np.where(_inside(maps, x, y, reach), window, np.float32(math.inf))
    unsure = (read.min((2, 3)) < low) | (peaks > high) | (peaks <= 0)
    if unsure.any():
        exact = blurred(maps[unsure][None], kernel)
        window[unsure] = _window(exact, x[unsure][None], y[unsure][None], reach)[0]
    logs = np.log(np.clip(window, np.float32(low), np.float32(high)))
    n, k = np.ogrid[: maps.shape[0], : maps.shape[1]]

    def at(dx: int, dy: int) -> Float[np.ndarray, "N K"]:
        return logs[n, k, (y + dy).clip(0, h - 1) - y + reach, (x + dx).clip(0, w - 1) - x + reach]

    return at


def _blurred_near(
    maps: Maps, x: Int[np.ndarray, "N K"], y: Int[np.ndarray, "N K"], kernel: int, reach: int
) -> Float[np.ndarray, "N K r r"]:
    """The blurred values up to `reach` cells around one cell of each map; zeros lie outside of the map."""
    import cv2

    _check_kernel(kernel)
    side = 2 * reach + 1
    # Row i: the weights of the patch's cells in value i of the window.
    weights = np.zeros((side, side + kernel - 1), np.float32)
    for i in range(side):
        weights[i, i : i + kernel] = cv2.getGaussianKernel(kernel, 0, cv2.CV_32F)[:, 0]
    patch = _window(maps, x, y, reach + kernel // 2)
    return weights @ patch @ weights.T


def _window(
    maps: Maps, x: Int[np.ndarray, "N K"], y: Int[np.ndarray, "N K"], reach: int
) -> Float[np.ndarray, "N K r r"]:
    """Values up to `reach` cells around one cell of each map; zero outside of the map."""
    h, w = maps.shape[-2:]
    steps = np.arange(-reach, reach + 1)
    columns, rows = x[..., None] + steps, y[..., None] + steps
    n, k = np.ogrid[: maps.shape[0], : maps.shape[1]]
    values = maps[
        n[..., None, None], k[..., None, None],
        rows.clip(0, h - 1)[..., :, None], columns.clip(0, w - 1)[..., None, :],
    ]  # fmt: skip
    return np.where(_inside(maps, x, y, reach), values, np.float32(0))


def _inside(
    maps: Maps, x: Int[np.ndarray, "N K"], y: Int[np.ndarray, "N K"], reach: int
) -> Bool[np.ndarray, "N K r r"]:
    """Which cells of `_window` are cells of the map."""
    h, w = maps.shape[-2:]
    steps = np.arange(-reach, reach + 1)
    columns, rows = x[..., None] + steps, y[..., None] + steps
    return ((rows >= 0) & (rows < h))[..., :, None] & ((columns >= 0) & (columns < w))[..., None, :]


def _check_kernel(kernel: int) -> None:
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"blur kernel: expected an odd number of cells, got {kernel}")


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
    """The highest bin of each vector; the first where several are equal.

    Args:
        x: logits along x.
        y: logits along y.
        codec: not used.

    Returns:
        (x, y) in bins.
    """
    return np.stack([x.argmax(-1), y.argmax(-1)], -1).astype(float)


def simcc_dark(x: Vectors, y: Vectors, codec: Codec) -> Bins:
    """The highest bin, then one Newton step on the logarithm of the blurred vector, per axis.

    Args:
        x: logits along x.
        y: logits along y.
        codec: its sigma, bins along x and y, gives the blur.

    Returns:
        (x, y) in bins.
    """
    return np.stack([_refined(v, _kernel(s)) for v, s in zip((x, y), codec.sigma, strict=True)], -1)


def simcc_soft(x: Vectors, y: Vectors, codec: Codec) -> Bins:
    """Expectation of the bin under the softmax of each vector; see `soft_argmax`.

    Args:
        x: logits along x.
        y: logits along y.
        codec: its sigma, bins along x and y, gives the sharpness.

    Returns:
        (x, y) in bins.
    """
    found = []
    for vectors, sigma in zip((x, y), codec.sigma, strict=True):
        peak = vectors.max(-1, keepdims=True)
        mass = np.exp(sharpness(sigma) * (vectors / np.where(peak > 0, peak, 1) - 1.0))
        found.append(mass @ np.arange(vectors.shape[-1]) / mass.sum(-1))
    return np.stack(found, -1)


def _kernel(sigma: float) -> int:
    """Side of the blur in bins, odd: the inverse of OpenCV's rule for sigma, rounded as in mmpose."""
    side = int((sigma * 20 - 7) // 3)
    return max(side - (side % 2 == 0), 1)


def _refined(vectors: Vectors, kernel: int) -> Float[np.ndarray, "N K"]:
    peak = vectors.argmax(-1)
    # A vector is a map of one row. The zero rows above and below it only scale the blurred values.
    near = _logs_near(vectors[:, :, None], peak, np.zeros_like(peak), kernel, 2, *UDP_CLIP)
    at = {d: near(d, 0).astype(float) for d in range(-2, 3)}
    slope = 0.5 * (at[1] - at[-1])
    # 1e-9: mmpose's guard against division by zero at a flat vector.
    curvature = 1e-9 + 0.25 * (at[2] - 2 * at[0] + at[-2])
    return peak - slope / curvature


DECODERS: dict[str, Decoder] = {
    "argmax": Decoder("heatmap", "the highest cell", argmax),
    "quarter": Decoder("heatmap", "a quarter cell towards the higher neighbour", quarter),
    "dark": Decoder("heatmap", "DARK: one Newton step on the blurred log-map", dark),
    "udp": Decoder("heatmap", "DARK as UDP has it: unit differences, clipped map", udp),
    "soft-argmax": Decoder("heatmap", "the mean position under a softmax of the whole map", soft_argmax),
    "megvii": Decoder("heatmap", "Megvii: quarter offset on the blurred map, and half a cell", megvii),
    "simcc": Decoder("simcc", "the highest bin along x and y", simcc_argmax),
    "simcc-dark": Decoder("simcc", "the highest bin, one Newton step on the blurred log-vector", simcc_dark),
    "simcc-soft": Decoder("simcc", "the mean bin under a softmax of the vector", simcc_soft),
}

KEYPOINT_SCORES: dict[str, str] = {
    "min": "the lower of the two peaks (mmpose)",
    "mean": "the mean of the two peaks (rtmlib)",
    "max": "the higher of the two peaks",
}
"""Ways to make one score of SimCC's two peaks."""


def decoders_for(given: Outputs | Codec) -> list[str]:
    """Names of the decoders that can read these outputs, or the outputs that this codec describes."""
    if isinstance(given, Codec):
        kinds = {given.kind}
    else:
        present = {"heatmap": given.heatmaps, "simcc": given.simcc}
        kinds = {kind for kind, tensor in present.items() if tensor is not None}
    return [name for name, decoder in DECODERS.items() if decoder.kind in kinds]


def decode(
    outputs: Outputs, codec: Codec, options: DecodeOptions | None = None
) -> tuple[Float[np.ndarray, "N K 2"], Float[np.ndarray, "N K"]]:
    """Keypoints (x, y) in input pixels and their scores.

    Args:
        outputs: of the network, with heatmaps [N, K, h, w] or SimCC vectors; not modified.
        codec: geometry of the output, and the default decoder.
        options: another decoder, or the score of SimCC, a name of KEYPOINT_SCORES. Heatmaps have one peak, so
            that the rule has no effect on them.

    Returns:
        Keypoints, nan where the peak is zero or less, and scores: the value of the peak, raw logits for
        SimCC.

    Raises:
        KeyError: no such decoder; the message lists near ones.
        NotAvailable: these outputs do not contain what the decoder reads.
        ValueError: the score rule is unknown, or a map or vector is empty or holds a number that is not
            finite.

    Example:
        >>> import numpy as np
        >>> from workbench.core import Codec, Outputs
        >>> maps = np.zeros((1, 1, 16, 12), np.float32)  # N, K, h, w
        >>> maps[0, 0, 5, 3] = 0.9
        >>> codec = Codec("heatmap", input_size=(64, 48), output_size=(16, 12), sigma=(2.0, 2.0))
        >>> keypoints, scores = decode(Outputs(heatmaps=maps), codec)
        >>> keypoints[0, 0].tolist(), round(float(scores[0, 0]), 2)
        ([12.0, 20.0], 0.9)
    """
    options = options or DecodeOptions()
    name = options.decoder or codec.decoder
    if name not in DECODERS:
        raise KeyError(f"no decoder {name!r}; nearest: {nearest(name, DECODERS)}")
    if options.score and options.score not in KEYPOINT_SCORES:
        raise ValueError(f"score rule: expected {', '.join(KEYPOINT_SCORES)}, got {options.score!r}")
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
        assert outputs.simcc is not None  # checked by decoders_for
        x, y = (_finite(f"SimCC {axis}", tensor) for axis, tensor in zip("xy", outputs.simcc, strict=True))
        points = read(x, y, codec) / codec.split_ratio
        peaks = x.max(-1), y.max(-1)
        found = np.minimum(*peaks) > 0
        scores = _keypoint_score(options.score or "min", *peaks)
        return np.where(found[..., None], points, np.nan), scores
    return np.where((scores > 0)[..., None], points, np.nan), scores


def _keypoint_score(
    rule: str, x: Float[np.ndarray, "N K"], y: Float[np.ndarray, "N K"]
) -> Float[np.ndarray, "N K"]:
    """One score of SimCC's two peaks, by a rule of KEYPOINT_SCORES."""
    if rule == "mean":
        return (x + y) / 2
    return np.maximum(x, y) if rule == "max" else np.minimum(x, y)


def _finite(what: str, tensor: object) -> Float[np.ndarray, "N K *size"]:
    """The tensor as a float32 array, without a copy where it is one already."""
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
            "the weights diverged, or the input holds such numbers"
        )
    return array


def _pixels_per_cell(codec: Codec, size: tuple[int, ...]) -> Float[np.ndarray, " 2"]:
    """Input pixels per heatmap cell along x and y."""
    # Plain codecs divide the input's size by the cells. UDP maps outermost cell centres onto outermost pixel
    # centres, which are one pixel (cell) less apart than the size.
    less = 1 if codec.udp else 0
    (H, W), (h, w) = codec.input_size, size
    return np.array([(W - less) / max(w - less, 1), (H - less) / max(h - less, 1)])
