"""What did the network see, and where do its cells lie? From samples and outputs to input pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.core.geometry import apply, inverse

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

    from workbench.core import Run


def input_size(run: Run) -> tuple[int, int]:
    """(height, width) of the network's input in this run, pixels."""
    height, width = run.batch.pixels.shape[-2:]
    return int(height), int(width)


def crop_of(run: Run, n: int) -> UInt8[np.ndarray, "H W 3"]:
    """The part of sample n's image that the network was given, in its colours before normalising."""
    import cv2

    H, W = input_size(run)
    image = np.ascontiguousarray(run.samples[n].image)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, np.asarray(run.batch.to_image[n], float), (W, H), flags=flags))


def in_input(run: Run, n: int, points: Float[np.ndarray, "K 2"]) -> Float[np.ndarray, "K 2"]:
    """Image pixels of sample n as pixels of its crop; nan stays nan."""
    return apply(inverse(np.asarray(run.batch.to_image[n], float)), points)


def cell_pitch(run: Run, cells: tuple[int, int]) -> tuple[float, float]:
    """Input pixels from one cell's centre to the next, (x, y); cell (0, 0) lies on pixel (0, 0).

    Plain models: input size / cells, as mmpose decodes. UDP models: the outermost centres coincide,
    (input size - 1) / (cells - 1).

    Args:
        run: its codec, if any, says whether the model is a UDP one.
        cells: (h, w) of the maps.
    """
    H, W = input_size(run)
    h, w = cells
    if run.model.codec is not None and run.model.codec.udp:
        return (W - 1) / max(w - 1, 1), (H - 1) / max(h - 1, 1)
    return W / w, H / h


def visible_truth(run: Run, n: int) -> Float[np.ndarray, "K 2"]:
    """Annotated (x, y) of sample n in image pixels, nan where not labelled or not annotated at all."""
    truth = run.samples[n].truth
    points = np.full((len(run.model.skeleton), 2), np.nan)
    if truth is not None and len(truth) == len(points):
        labelled = np.asarray(truth)[:, 2] > 0
        points[labelled] = np.asarray(truth, float)[labelled, :2]
    return points
