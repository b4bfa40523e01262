"""The pictures in a comparison's report: AP and AR over the epochs, and what changed in single samples.

A report is read far from the workbench and sent by mail: drawings are SVG of a few kilobytes, samples are
small JPEG cut-outs, and nothing interactive travels along.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from apps.server.encoding import encoded
from workbench.cli.picture import drawn
from workbench.core import Prediction, Skeleton

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

    from workbench.evaluation import Predictions
    from workbench.evaluation.comparison import Comparison

SIDE = 220  # of a cut-out, pixels
MARGIN = 1.35  # of the box: limbs reach beyond it
MOST = 12  # samples; of four epochs that are 48 cut-outs of 10 to 20 KB
EACH = 4  # of the gained and of the lost ones


def chart(found: Comparison) -> str:
    """AP and AR of each epoch as an SVG, with the interval of the change of AP from the first."""
    width, height, left, top, bottom = 640, 240, 46, 16, 34
    count = len(found.titles)
    across = [left + 40 + (width - left - 80) * i / max(1, count - 1) for i in range(count)]

    def up(value: float) -> float:
        return height - bottom - (height - top - bottom) * value

    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        y = up(tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{width}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    base = found.evaluations[0].figures["AP"]
    for x, interval in zip(across[1:], found.intervals, strict=False):
        low, high = (
            up(float(np.clip(base + interval.low, 0, 1))),
            up(float(np.clip(base + interval.high, 0, 1))),
        )
        parts.append(f'<line class="ap" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
    for name, style, lift in (("AP", "ap", -4), ("AR", "ar", 12)):
        values = [e.figures[name] for e in found.evaluations]
        places = [(x, up(v), v) for x, v in zip(across, values, strict=True) if np.isfinite(v)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
        parts.append(f'<polyline class="{style}" points="{line}" fill="none"/>')
        parts += [
            f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{name} {v:.3f}</title></circle>'
            for x, y, v in places
        ]
        if places:
            x, y, v = places[-1]
            parts.append(f'<text class="{style}" x="{x + 9:.1f}" y="{y + lift:.1f}">{name} {v:.3f}</text>')
    for x, title in zip(across, found.titles, strict=True):
        text = html.escape(title)
        parts.append(f'<text x="{x:.1f}" y="{height - 10}" text-anchor="middle">{text}</text>')
    label = "AP and AR of each epoch; bars: 95 % of the change of AP from the first"
    return (
        f'<svg class="chart" viewBox="0 0 {width + 60} {height}" role="img" aria-label="{label}">'
        f'{"".join(parts)}</svg><p class="quiet">{label}.</p>'
    )


def shown_samples(found: Comparison) -> list[int]:
    """Rows of the ground truth to show: what was gained, what was lost, then what else changed most."""
    order = [*found.gained()[:EACH].tolist(), *found.lost()[:EACH].tolist(), *found.most_changed().tolist()]
    return list(dict.fromkeys(order))[:MOST]


def cut_outs(
    image: UInt8[np.ndarray, "H W 3"],
    box: tuple[float, float, float, float],
    truth: Float[np.ndarray, "K 3"],
    rows: Sequence[tuple[Predictions, int]],
    skeleton: Skeleton,
) -> list[str]:
    """The annotation and each epoch's keypoints on the square around a box, as addresses that hold them.

    Args:
        image: RGB.
        box: (x0, y0, x1, y1) in its pixels.
        truth: (x, y, visibility) in its pixels.
        rows: predictions of each epoch, and which row of them is this sample's.
        skeleton: of the set.
    """
    import cv2

    x0, y0, x1, y1 = box
    scale = SIDE / (max(x1 - x0, y1 - y0, 1.0) * MARGIN)
    shift = SIDE / 2 - scale * np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    affine = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = cv2.warpAffine(image, affine, (SIDE, SIDE), flags=way, borderValue=(128, 128, 128))
    annotated = np.where(truth[:, 2:] > 0, truth[:, :2], np.nan)
    drawings = [(annotated, np.ones(len(truth))), *((p.keypoints[row], p.scores[row]) for p, row in rows)]
    nowhere = (np.nan, np.nan, np.nan, np.nan)
    return [
        _address(drawn(canvas, [Prediction(points * scale + shift, scores, nowhere)], skeleton, -np.inf, 2))
        for points, scores in drawings
    ]


def _address(pixels: UInt8[np.ndarray, "H W 3"]) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(encoded(pixels, 82)).decode()}"
