"""Training targets: the heatmaps or SimCC vectors that a network should give for known keypoints.

Equal to mmpose 1.3.2's encodings (codecs/utils/gaussian_heatmap.py, codecs/megvii_heatmap.py,
codecs/simcc_label.py), including the cut at three sigma and the rounding of the centre, so that an output is
compared with the target of its training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Codec, Outputs

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    Points = Float[np.ndarray, "N K 2"]
    Flags = Bool[np.ndarray, "N K"]


def target(codec: Codec, points: Points, visible: Float[np.ndarray, "N K"]) -> dict[str, Any]:
    """The target of a codec, one instance per sample.

    Args:
        codec: `udp` gives UDP's Gaussian at the exact position, decoders ``dark`` and ``soft-argmax`` DARK's
            Gaussian without a cut, ``megvii`` a blurred cell of height 255, ``udp-combined`` a disc of the
            radius `sigma` in cells and offsets, others MSRA's Gaussian around the nearest cell.
        points: (x, y) in input pixels; nan counts as unlabelled.
        visible: below .5 means unlabelled: the target is zero.

    Returns:
        ``heatmaps`` [N, K, h, w], or ``simcc`` (x [N, K, bins], y [N, K, bins]); float32. Of UDP's combined
        form also ``offsets`` [N, K, 2, h, w], from each cell to the keypoint, cells. And ``weights``
        [N, K]: zero where unlabelled or so far outside that no part of the peak is inside.

    Raises:
        ValueError: shapes of points and visibility do not fit.

    Example:
        >>> import numpy as np
        >>> from workbench.core import Codec
        >>> codec = Codec("heatmap", input_size=(64, 48), output_size=(16, 12), sigma=(2.0, 2.0))
        >>> made = target(codec, np.array([[[12.0, 20.0]]]), np.ones((1, 1)))
        >>> made["heatmaps"].shape, divmod(int(made["heatmaps"].argmax()), 12)
        ((1, 1, 16, 12), (5, 3))
    """
    points, visible = np.asarray(points, float), np.asarray(visible, float)
    if points.ndim != 3 or points.shape[-1] != 2 or points.shape[:2] != visible.shape:
        raise ValueError(
            f"target: expected points [N, K, 2] and visibility [N, K], got {points.shape} and {visible.shape}"
        )
    labelled = (visible >= 0.5) & np.isfinite(points).all(-1)
    points = np.where(labelled[..., None], points, 0)
    if codec.kind == "simcc":
        return _simcc(codec, points, labelled)
    if codec.decoder == "udp-combined":
        return _combined(codec, points, labelled)
    made = _megvii if codec.decoder == "megvii" and not codec.udp else _heatmaps
    return made(codec, points, labelled)


def as_outputs(made: dict[str, Any], wrapped: Callable[[Any], Any] = lambda array: array) -> Outputs:
    """What a network leaves that gives exactly this target.

    Args:
        made: by `target`.
        wrapped: applied to every array, such as ``torch.from_numpy``; decoders of ours read arrays too.
    """
    if "simcc" in made:
        x, y = made["simcc"]
        return Outputs(simcc=(wrapped(x), wrapped(y)))
    fields = {"offsets": wrapped(made["offsets"])} if "offsets" in made else {}
    return Outputs(heatmaps=wrapped(made["heatmaps"]), fields=fields)


def _megvii(codec: Codec, points: Points, labelled: Flags) -> dict[str, Any]:
    """One cell of 255, blurred; the cell is the position rounded towards zero."""
    import cv2

    (H, W), (h, w) = codec.input_size, codec.output_size
    scale = np.array([W / w, H / h]).astype(np.float32)
    cells = np.trunc(points / scale).astype(np.int64)
    inside = labelled & (cells >= 0).all(-1) & (cells < (w, h)).all(-1)
    kernel = codec.blur_kernel
    maps = np.zeros((*inside.shape, h, w), np.float32)
    # One by one, by OpenCV's own blur: the decoder reads signs of differences that are zero but for rounding.
    for n, k in np.argwhere(inside):
        x, y = cells[n, k]
        maps[n, k, y, x] = 1
        maps[n, k] = cv2.GaussianBlur(maps[n, k], (kernel, kernel), 0)
        maps[n, k] = maps[n, k] / maps[n, k, y, x] * 255
    return {"heatmaps": maps, "weights": inside.astype(np.float32)}


def _combined(codec: Codec, points: Points, labelled: Flags) -> dict[str, Any]:
    """UDP's combined form: a disc around the keypoint, and from every cell the way to it.

    mmpose divides the offsets by the radius; here they are in cells, as the field of the outputs is.
    """
    (H, W), (h, w) = codec.input_size, codec.output_size
    cells = points / np.array([(W - 1) / (w - 1), (H - 1) / (h - 1)], np.float32)
    x = cells[..., 0, None, None] - np.arange(w)
    y = cells[..., 1, None, None] - np.arange(h)[:, None]
    x, y = np.broadcast_arrays(x, y)
    shown = labelled[..., None, None]
    disc = shown & ((x / codec.sigma[0]) ** 2 + (y / codec.sigma[0]) ** 2 <= 1)
    offsets = np.stack([x, y], 2) * shown[:, :, None]
    return {
        "heatmaps": disc.astype(np.float32),
        "offsets": offsets.astype(np.float32),
        "weights": labelled.astype(np.float32),
    }


def _heatmaps(codec: Codec, points: Points, labelled: Flags) -> dict[str, Any]:
    less = 1 if codec.udp else 0
    (H, W), (h, w) = codec.input_size, codec.output_size
    # float32, as in mmpose: rounding to the nearest cell depends on it where two are equally near.
    scale = np.array([(W - less) / (w - less), (H - less) / (h - less)], np.float32)
    cells = points / scale
    radius = codec.sigma[0] * 3
    if codec.decoder in ("dark", "soft-argmax") and not codec.udp:
        low, high = cells - radius, cells + radius + 1
        squares = [
            (np.arange(side, dtype=np.float32) - cells[..., i, None]) ** 2 for i, side in enumerate((w, h))
        ]
    else:
        near = (cells + 0.5).astype(np.int64)
        # mmpose rounds towards zero: left of cell 0 the patch, and with it the peak, moves one cell inwards.
        whole = np.trunc if codec.mmpose_cut else np.floor
        low, high = whole(near - radius).astype(np.int64), whole(near + radius + 1).astype(np.int64)
        centre = (2 * radius + 1) // 2 + (cells - near if codec.udp else 0 * cells)
        squares = [_cut(side, low[..., i], high[..., i], centre[..., i]) for i, side in enumerate((w, h))]
    inside = labelled & (low < (w, h)).all(-1) & (high >= 0).all(-1)
    along_x, along_y = squares
    maps = np.exp(-(along_x[..., None, :] + along_y[..., :, None]) / (2 * codec.sigma[0] ** 2))
    return {
        "heatmaps": (maps * inside[..., None, None]).astype(np.float32),
        "weights": inside.astype(np.float32),
    }


def _cut(side: int, low: np.ndarray, high: np.ndarray, centre: np.ndarray) -> Float[np.ndarray, "N K side"]:
    """Squared distances to the centre along one axis, infinite outside the patch low <= cell < high."""
    cell = np.arange(side)
    inside = (cell >= low[..., None]) & (cell < high[..., None])
    return np.where(inside, (cell - low[..., None] - centre[..., None]) ** 2, np.inf)


def _simcc(codec: Codec, points: Points, labelled: Flags) -> dict[str, Any]:
    near = np.around(points * codec.split_ratio).astype(np.int64)
    bins = codec.output_size[::-1]  # along x, along y
    radius = np.array(codec.sigma) * 3
    inside = labelled & (near - radius < bins).all(-1) & (near + radius + 1 >= 0).all(-1)
    vectors = []
    for axis, (side, sigma) in enumerate(zip(bins, codec.sigma, strict=True)):
        bin_ = np.arange(side, dtype=np.float32)
        vector = np.exp(-((bin_ - near[..., axis, None]) ** 2) / (2 * sigma**2)) * inside[..., None]
        vectors.append((vector / (sigma * np.sqrt(2 * np.pi) if codec.normalized else 1)).astype(np.float32))
    return {"simcc": (vectors[0], vectors[1]), "weights": inside.astype(np.float32)}
