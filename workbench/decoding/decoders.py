"""Decoders: keypoints from heatmaps or SimCC vectors. All read the stored output and never modify it.

Equal to mmpose 1.3.2 (codecs/msra_heatmap.py, udp_heatmap.py, megvii_heatmap.py, simcc_label.py) but for
two points: where the peak is zero or less the keypoint is nan and not cell -1; and mmpose's blur overwrites
the maps it is given. mmpose has no soft-argmax for these outputs; its sources stand at `soft_argmax`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from workbench.core import Codec, DecodeOptions, NotAvailable, Outputs, nearest
from workbench.decoding.newton import UDP_CLIP, axis_step, blurred, dark_step, reader, stepped, udp_newton

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    Maps = Float[np.ndarray, "N K h w"]
    Cells = Float[np.ndarray, "N K 2"]
    Vectors = Float[np.ndarray, "N K bins"]
    Bins = Float[np.ndarray, "N K 2"]
    Peaks = tuple[Int[np.ndarray, "N K"], Int[np.ndarray, "N K"]]  # column, row


@dataclass(frozen=True)
class Decoder:
    """One method to read keypoints from an output.

    Attributes:
        kind: of output that it reads, as Codec.kind.
        about: one line for user interfaces.
        read: from finite maps [N, K, h, w] to positions (x, y) in cells [N, K, 2], or from both SimCC
            vectors to positions in bins; takes the codec as well, for its blur and sigma.
        at_peak: `read` also takes (column, row) of the highest cell of each map, or the highest bin of each
            vector, which `decode` has found already.
        block: cells of maps that are read in one go, so that what lies around their peaks is still in the
            cache; 0 for all.
        offsets: the maps are class maps, blurred before they are read, and `read` also takes the field
            `offsets` [N, K, 2, h, w] of the outputs.
        local: the highest cell and its neighbours alone are read; a cell of -inf elsewhere, as a mask or the
            logarithm of 0 has it, changes nothing.
    """

    kind: Literal["heatmap", "simcc"]
    about: str
    read: Callable[..., Float[np.ndarray, "N K 2"]]
    at_peak: bool = False
    block: int = 0
    offsets: bool = False
    local: bool = False


# Readers of heatmaps [N, K, h, w]: positions (x, y) in cells; integers are cell centres.


def argmax(maps: Maps, codec: Codec, peaks: Peaks) -> Cells:
    """The highest cell; the first in row order where several are equal.

    Args:
        maps: finite.
        codec: not used.
        peaks: the highest cell of each map.

    Returns:
        (x, y) in cells; integers are cell centres.
    """
    return np.stack(peaks, -1).astype(float)


def quarter(maps: Maps, codec: Codec, peaks: Peaks) -> Cells:
    """The highest cell, moved a quarter cell towards its higher neighbour, per axis.

    The bounds are mmpose's: x moves only for 1 < x < w - 1, so a peak in column 1 stays.

    Args:
        maps: finite.
        codec: not used.
        peaks: the highest cell of each map.

    Returns:
        (x, y) in cells.

    Source: mmpose 1.3.2 codecs/utils/refinement.py refine_keypoints.
    """
    (h, w), (x, y) = maps.shape[-2:], peaks
    here = np.arange(0, maps.size, h * w).reshape(x.shape) + y * w + x
    # Of a cell at the border this reads another row or map, which the bounds do not use.
    right, left, below, above = maps.reshape(-1).take([here + 1, here - 1, here + w, here - w], mode="clip")
    found = np.empty((*x.shape, 2))
    for axis, (higher, lower, own, side, other) in enumerate(
        ((right, left, x, w, y), (below, above, y, h, x))
    ):
        step = np.zeros_like(higher)
        with np.errstate(invalid="ignore"):  # both -inf: `decode` refuses the nan
            np.subtract(higher, lower, out=step, where=(own > 1) & (own < side - 1) & (other > 0))
        np.add(own, np.sign(step, out=step) * np.float32(0.25), out=found[..., axis])
    return found


def dark(maps: Maps, codec: Codec, peaks: Peaks) -> Cells:
    """DARK: the highest cell, then one Newton step on the logarithm of the blurred map.

    Second derivatives are differences over two cells. A peak within two cells of the border is not moved.

    Args:
        maps: finite.
        codec: its blur_kernel, cells.
        peaks: the highest cell of each map.

    Returns:
        (x, y) in cells.

    Source: Zhang et al., Distribution-aware coordinate representation, eq. 6-9; mmpose 1.3.2
    codecs/utils/refinement.py refine_keypoints_dark.
    """
    (h, w), (x, y) = maps.shape[-2:], peaks
    inside = (x > 1) & (x < w - 2) & (y > 1) & (y < h - 2)
    # 1e-10: blurred maps contain zeros, whose logarithm is not finite.
    step = stepped(maps, x, y, codec.blur_kernel, 2, (1e-10, math.inf), dark_step, inside)
    return np.stack([x, y], -1) + np.where(inside[..., None], step, 0)


def udp(maps: Maps, codec: Codec, peaks: Peaks) -> Cells:
    """DARK as UDP uses it: second derivatives are differences over one cell, and the map is clipped.

    Args:
        maps: finite.
        codec: its blur_kernel, cells.
        peaks: the highest cell of each map.

    Returns:
        (x, y) in cells.

    Source: Huang et al., The devil is in the details; mmpose 1.3.2 codecs/utils/refinement.py
    refine_keypoints_dark_udp.
    """
    x, y = peaks
    return np.stack([x, y], -1) + stepped(maps, x, y, codec.blur_kernel, 1, UDP_CLIP, udp_newton)


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
    x, y = _cells_of(soft.reshape(*soft.shape[:2], -1).argmax(-1), w)
    at = reader(soft, x, y)
    step = np.stack([np.sign(at(1, 0) - at(-1, 0)), np.sign(at(0, 1) - at(0, -1))], -1)
    inside = (x > 1) & (x < w - 1) & (y > 1) & (y < h - 1)
    return np.stack([x, y], -1) + np.where(inside[..., None], 0.25 * step + 0.5, 0)


def udp_combined(maps: Maps, codec: Codec, peaks: Peaks, offsets: Float[np.ndarray, "N K 2 h w"]) -> Cells:
    """UDP's combined form: the highest cell of the blurred class map, moved by the offset that it holds.

    Args:
        maps: class maps, blurred.
        codec: not used.
        peaks: the highest cell of each map.
        offsets: from each cell to the keypoint (x, y), cells.

    Returns:
        (x, y) in cells.

    Source: Huang et al., The devil is in the details; mmpose 1.3.2 codecs/udp_heatmap.py decode, heatmap_type
    'combined'.
    """
    x, y = peaks
    n, k = np.ogrid[: maps.shape[0], : maps.shape[1]]
    return np.stack([x, y], -1) + offsets[n, k, :, y, x]


def class_maps_blurred(maps: Maps, blur_kernel: int) -> Maps:
    """Class maps after mmpose's blur of twice the kernel and one, mirrored at the border and not rescaled.

    Args:
        maps: finite.
        blur_kernel: of the codec, cells.
    """
    import cv2

    side = 2 * blur_kernel + 1
    flat = np.ascontiguousarray(maps).reshape(-1, *maps.shape[2:])
    return np.stack([cv2.GaussianBlur(one, (side, side), 0) for one in flat]).reshape(maps.shape)


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


# Readers of SimCC vectors [N, K, bins], raw logits: positions (x, y) in bins. Source: mmpose 1.3.2
# codecs/simcc_label.py, codecs/utils/post_processing.py get_simcc_maximum.


def simcc_argmax(x: Vectors, y: Vectors, codec: Codec, peaks: Peaks) -> Bins:
    """The highest bin of each vector; the first where several are equal.

    Args:
        x: logits along x.
        y: logits along y.
        codec: not used.
        peaks: the highest bin of each vector.

    Returns:
        (x, y) in bins.
    """
    return np.stack(peaks, -1).astype(float)


def simcc_dark(x: Vectors, y: Vectors, codec: Codec, peaks: Peaks) -> Bins:
    """The highest bin, then one Newton step on the logarithm of the blurred vector, per axis.

    Args:
        x: logits along x.
        y: logits along y.
        codec: its sigma, bins along x and y, gives the blur.
        peaks: the highest bin of each vector.

    Returns:
        (x, y) in bins.
    """
    found = []
    for vectors, peak, sigma in zip((x, y), peaks, codec.sigma, strict=True):
        # A vector is a map of one row.
        maps, row = vectors[:, :, None], np.zeros_like(peak)
        found.append(peak + stepped(maps, peak, row, _kernel(sigma), 2, UDP_CLIP, axis_step))
    return np.stack(found, -1)


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


# Cells in 4 MB.
_AROUND = 1 << 20

DECODERS: dict[str, Decoder] = {
    "argmax": Decoder("heatmap", "the highest cell", argmax, at_peak=True, local=True),
    "quarter": Decoder(
        "heatmap", "a quarter cell towards the higher neighbour", quarter, at_peak=True, local=True
    ),
    "dark": Decoder(
        "heatmap", "DARK: one Newton step on the blurred log-map", dark, at_peak=True, block=_AROUND
    ),
    "udp": Decoder(
        "heatmap", "DARK as UDP has it: unit differences, clipped map", udp, at_peak=True, block=_AROUND
    ),
    "soft-argmax": Decoder("heatmap", "the mean position under a softmax of the whole map", soft_argmax),
    "udp-combined": Decoder(
        "heatmap",
        "UDP combined: the highest cell of the blurred class map, and the offset there",
        udp_combined,
        at_peak=True,
        offsets=True,
    ),
    "megvii": Decoder("heatmap", "Megvii: quarter offset on the blurred map, and half a cell", megvii),
    "simcc": Decoder("simcc", "the highest bin along x and y", simcc_argmax, at_peak=True, local=True),
    "simcc-dark": Decoder(
        "simcc", "the highest bin, one Newton step on the blurred log-vector", simcc_dark, at_peak=True
    ),
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
        kinds, offsets = {given.kind}, given.decoder in DECODERS and DECODERS[given.decoder].offsets
    else:
        present = {"heatmap": given.heatmaps, "simcc": given.simcc}
        kinds = {kind for kind, tensor in present.items() if tensor is not None}
        offsets = "offsets" in given.fields
    return [
        name
        for name, decoder in DECODERS.items()
        if decoder.kind in kinds and (offsets or not decoder.offsets)
    ]


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
        SimCC. Of a network whose codec is Megvii's, mmpose's peak / 255 + .5, by every decoder.

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
            f"decoder {name!r} reads {DECODERS[name].kind}{' and offsets' * DECODERS[name].offsets}; these "
            f"outputs can be read by {', '.join(decoders_for(outputs)) or 'none'}"
        )
    chosen = DECODERS[name]
    if chosen.kind == "heatmap":
        maps = _array("heatmap", outputs.heatmaps)
        step = max(1, chosen.block // maps[0].size) if chosen.block else len(maps)
        fields = _offsets(outputs, maps) if chosen.offsets else None
        try:
            parts = [
                _read_maps(
                    chosen, maps[n : n + step], codec, None if fields is None else fields[n : n + step]
                )
                for n in range(0, len(maps), step)
            ]
        except ValueError:
            _check_finite("heatmap", maps)  # counts samples over all blocks
            raise
        cells, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
        if not np.isfinite(cells).all():
            _check_finite("heatmap", maps)
        for axis, scale in enumerate(_pixels_per_cell(codec, maps.shape[-2:])):
            cells[..., axis] *= scale  # by column: rows of two numbers take four times as long
        found = scores > 0
        if codec.decoder == "megvii":  # its targets are 255 high
            scores = np.where(found, scores / 255 + np.float32(0.5), scores)
        return _found(cells, found), scores
    assert outputs.simcc is not None  # checked by decoders_for
    x, y = (_array(f"SimCC {axis}", tensor) for axis, tensor in zip("xy", outputs.simcc, strict=True))
    (best_x, peak_x), (best_y, peak_y) = (
        _highest(f"SimCC {axis}", vectors, chosen.local) for axis, vectors in (("x", x), ("y", y))
    )
    points = chosen.read(x, y, codec, *([(best_x, best_y)] if chosen.at_peak else [])) / codec.split_ratio
    scores = _keypoint_score(options.score or "min", peak_x, peak_y)
    return _found(points, np.minimum(peak_x, peak_y) > 0), scores


def _found(points: Float[np.ndarray, "N K 2"], found: Bool[np.ndarray, "N K"]) -> Float[np.ndarray, "N K 2"]:
    """The points, nan where nothing was found; as a rule all are, and this costs nothing."""
    return points if found.all() else np.where(found[..., None], points, np.nan)


def _read_maps(
    decoder: Decoder, maps: Maps, codec: Codec, offsets: Float[np.ndarray, "N K 2 h w"] | None
) -> tuple[Cells, Float[np.ndarray, "N K"]]:
    """Positions in cells, and the peaks."""
    if offsets is not None:
        _check_finite("heatmap", maps)  # a blur would spread the number over its map
        maps = class_maps_blurred(maps, codec.blur_kernel)
    best, peaks = _highest("heatmap", maps, decoder.local)
    more = [_cells_of(best, maps.shape[-1])] if decoder.at_peak else []
    return decoder.read(maps, codec, *more, *([] if offsets is None else [offsets])), peaks


def _offsets(outputs: Outputs, maps: Maps) -> Float[np.ndarray, "N K 2 h w"]:
    """The field of offsets that belongs to class maps.

    Raises:
        ValueError: it has another size, or holds a number that is not finite.
    """
    offsets = _array("offsets", outputs.fields["offsets"])
    if offsets.shape != (*maps.shape[:2], 2, *maps.shape[2:]):
        raise ValueError(
            f"offsets: expected one (x, y) for each cell of the class maps {maps.shape}, got {offsets.shape}"
        )
    _check_finite("offsets", offsets)
    return offsets


def _keypoint_score(
    rule: str, x: Float[np.ndarray, "N K"], y: Float[np.ndarray, "N K"]
) -> Float[np.ndarray, "N K"]:
    """One score of SimCC's two peaks, by a rule of KEYPOINT_SCORES."""
    if rule == "mean":
        return (x + y) / 2
    return np.maximum(x, y) if rule == "max" else np.minimum(x, y)


def _array(what: str, tensor: object) -> Float[np.ndarray, "N K *size"]:
    """The tensor as a float32 array, without a copy where it is one already."""
    if isinstance(tensor, np.ndarray):
        array = tensor.astype(np.float32, copy=False)
    else:
        array = tensor.detach().float().cpu().numpy()  # type: ignore[attr-defined]
    if array.ndim < 3 or array.size == 0:
        raise ValueError(f"{what}: expected samples x keypoints x cells, got shape {array.shape}")
    return array


# Numbers looked at in one go, 4 MB: a second look finds them in the cache.
_BLOCK = 1 << 20
# Numbers in a page of memory; processors do not read ahead across pages of 4 KB.
_PAGE = 1 << 10


def _highest(
    what: str, array: Float[np.ndarray, "N K *size"], local: bool = False
) -> tuple[Int[np.ndarray, "N K"], Float[np.ndarray, "N K"]]:
    """Index of the highest cell of each map, the first of several, and its value.

    Args:
        what: the array is, for the error.
        array: maps or vectors.
        local: a cell of -inf that is not the highest one is let pass, which saves a second look.

    Raises:
        ValueError: a number is not finite.
    """
    maps = array.reshape(-1, math.prod(array.shape[2:]))
    best, lowest = np.empty(len(maps), np.int64), 0.0
    step = max(1, _BLOCK // maps.shape[1])
    for start in range(0, len(maps), step):
        block = maps[start : start + step]
        # Pages are waited for together and not one after the other: a tenth of the time where memory is slow.
        block.view(np.uint32).reshape(-1)[::_PAGE].max()
        block.argmax(-1, out=best[start : start + step])  # of nan where there is one
        if not local:
            lowest = min(lowest, block.min())
    peaks = maps.reshape(-1).take(np.arange(0, maps.size, maps.shape[1]) + best)
    if lowest == -math.inf or not np.isfinite(peaks).all():
        _check_finite(what, array)
    return best.reshape(array.shape[:2]), peaks.reshape(array.shape[:2])


def _check_finite(what: str, array: Float[np.ndarray, "N K *size"]) -> None:
    broken = ~np.isfinite(array).all(tuple(range(2, array.ndim)))
    if broken.any():
        n, k = np.argwhere(broken)[0]
        raise ValueError(
            f"{what} of sample {n}, keypoint {k} holds a number that is not finite ({broken.sum()} in all): "
            "the weights diverged, or the input holds such numbers"
        )


def _cells_of(index: Int[np.ndarray, "N K"], width: int) -> Peaks:
    """Columns and rows of cells counted row by row."""
    y = index // width
    return index - y * width, y  # a third of divmod's time


def _pixels_per_cell(codec: Codec, size: tuple[int, ...]) -> Float[np.ndarray, " 2"]:
    """Input pixels per heatmap cell along x and y."""
    # Plain codecs divide the input's size by the cells. UDP maps outermost cell centres onto outermost pixel
    # centres, which are one pixel (cell) less apart than the size.
    less = 1 if codec.udp else 0
    (H, W), (h, w) = codec.input_size, size
    return np.array([(W - less) / max(w - less, 1), (H - less) / max(h - less, 1)])
