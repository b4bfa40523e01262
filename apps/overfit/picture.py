"""Where does it put the keypoints now, and what does the network answer for one of them?

Drawn as SVG on the crop that the network is given: an image and a few marks travel in some ten kB, so
that the picture can follow the training.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import Run, Skeleton
from workbench.figures import SEQUENTIAL, TRUTH_COLOUR, image_data_uri, keypoint_colours, sprite
from workbench.figures.panels import cell_pitch, crop_of, in_input, visible_truth

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.training.session import Session

FURTHEST = "furthest off"


def seen(session: Session) -> Run | None:
    """The last measurement as a run; None before the first."""
    trainer = session.trainer
    if trainer.seen is None:
        return None
    outputs, predictions = trainer.seen
    return Run(trainer.model, trainer.samples, trainer.batch, outputs, predictions)


def keypoints_of(skeleton: Skeleton) -> list[str]:
    """What the keypoint's choice offers."""
    return [FURTHEST, *skeleton.keypoints]


def pictures(run: Run, keypoint: str) -> str:
    """The overlay, and the chosen keypoint's heatmap or SimCC vectors beside it, as HTML.

    Raises:
        KeyError: no such keypoint.
    """
    points = in_input(run, 0, np.asarray(run.predictions[0].keypoints, float))
    truth = in_input(run, 0, visible_truth(run, 0))
    errors = np.linalg.norm(points - truth, axis=1)
    skeleton = run.model.skeleton
    chosen = keypoint not in ("", FURTHEST)
    k = skeleton.index(keypoint) if chosen else int(np.nan_to_num(errors, nan=-1).argmax())
    told = f"{errors[k]:.1f} px off" if np.isfinite(errors[k]) else "not annotated"
    photo = image_data_uri(crop_of(run, 0))
    mean = f"{np.nanmean(errors):.1f}" if np.isfinite(errors).any() else "?"
    return (
        '<div class="ovf-pictures"><figure>'
        f"{_overlay(run, photo, points, truth, errors, k)}<figcaption>prediction "
        f"(filled) and annotation (rings) on the network's input; mean error {mean} input "
        "px</figcaption></figure>"
        f"<figure>{_answer(run, photo, k, points[k], truth[k])}<figcaption><b>"
        f"{html.escape(skeleton.keypoints[k])}</b>, "
        f"{told}: {_kind(run)}, evaluation mode</figcaption></figure></div>"
    )


def _overlay(
    run: Run,
    photo: str,
    points: Float[np.ndarray, "K 2"],
    truth: Float[np.ndarray, "K 2"],
    errors: Float[np.ndarray, " K"],
    k: int,
) -> str:
    skeleton = run.model.skeleton
    H, W = run.batch.pixels.shape[-2:]
    r = max(H, W) / 80
    marks = []
    for i, (name, ink) in enumerate(zip(skeleton.keypoints, keypoint_colours(skeleton), strict=True)):
        (x, y), (u, v) = points[i], truth[i]
        wide = 1.7 if i == k else 1.0
        if np.isfinite([x, y, u, v]).all():
            marks.append(
                f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{u:.1f}" y2="{v:.1f}" stroke="{ink}" '
                f'stroke-width="{r / 4:.2f}"/>'
            )
        if np.isfinite([u, v]).all():
            marks.append(
                f'<circle cx="{u:.1f}" cy="{v:.1f}" r="{r * 1.4 * wide:.2f}" fill="none" stroke="{ink}" '
                f'stroke-width="{r / 2.5:.2f}"/>'
            )
        if np.isfinite([x, y]).all():
            far = f", {errors[i]:.1f} px off" if np.isfinite(errors[i]) else ", not annotated"
            marks.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r * wide:.2f}" fill="{ink}" stroke="#14161c" '
                f'stroke-width="{r / 5:.2f}"><title>{html.escape(name + far)}</title></circle>'
            )
    return (
        f'<svg viewBox="-0.5 -0.5 {W} {H}" role="img" aria-label="overlay" data-testid="overfit-overlay">'
        f"{_image(photo, W, H)}{''.join(marks)}</svg>"
    )


def _answer(
    run: Run, photo: str, k: int, point: Float[np.ndarray, " 2"], truth: Float[np.ndarray, " 2"]
) -> str:
    H, W = (int(v) for v in run.batch.pixels.shape[-2:])
    margin = 0.0
    if run.outputs.heatmaps is not None:
        drawn = _heatmap(run, k)
    elif run.outputs.simcc is not None:
        margin = 0.28 * min(H, W)
        drawn = _simcc(run, k, W, H, margin)
    else:
        return "<p>this family has neither heatmaps nor SimCC vectors</p>"
    r = max(H, W) / 50
    marks = ""
    for (x, y), ink in ((truth, TRUTH_COLOUR), (point, "#ffffff")):
        if np.isfinite([x, y]).all():
            marks += (
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.2f}" fill="none" stroke="{ink}" '
                f'stroke-width="{r / 4:.2f}"/>'
            )
    return (
        f'<svg viewBox="-0.5 -0.5 {W + margin:.1f} {H + margin:.1f}" role="img" aria-label="answer" '
        f'data-testid="overfit-answer">{_image(photo, W, H, 0.45)}{drawn}{marks}</svg>'
    )


def _heatmap(run: Run, k: int) -> str:
    values = run.heatmaps[0, k]
    h, w = values.shape
    dx, dy = cell_pitch(run, (h, w))
    png, *_ = sprite(values[None], colours=SEQUENTIAL, transparent=True)
    return (
        f'<image href="{image_data_uri(png)}" x="{-dx / 2:.2f}" y="{-dy / 2:.2f}" width="{w * dx:.2f}" '
        f'height="{h * dy:.2f}" preserveAspectRatio="none" style="image-rendering:pixelated"/>'
    )


def _simcc(run: Run, k: int, W: int, H: int, margin: float) -> str:
    """The vector along x below the crop, the one along y to its right, each filling its margin."""
    x, y = (v[0, k] for v in run.simcc)
    lines = ""
    for curve, length, along_x in ((x, W, True), (y, H, False)):
        low, high = float(min(curve.min(), 0)), float(max(curve.max(), 1e-9))
        place = np.arange(len(curve)) / len(curve) * length
        height = (curve - low) / (high - low) * 0.9 * margin
        pairs = (
            zip(place, H + margin - height, strict=True) if along_x else zip(W + height, place, strict=True)
        )
        at = " ".join(f"{a:.1f},{b:.1f}" for a, b in pairs)
        width = f"{margin / 45:.2f}"
        lines += f'<polyline points="{at}" fill="none" stroke="var(--wb-accent)" stroke-width="{width}"/>'
    return lines


def _kind(run: Run) -> str:
    return "heatmap" if run.outputs.heatmaps is not None else "SimCC vectors along x (below) and y (right)"


def _image(source: str, W: int, H: int, opacity: float = 1.0) -> str:
    return (
        f'<image href="{source}" x="-0.5" y="-0.5" width="{W}" height="{H}" opacity="{opacity}" '
        'preserveAspectRatio="none"/>'
    )
