"""What is going to be learned? The chosen image with its annotation, before anything has been started."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np

from apps.overfit.choices import Choices as Wishes
from apps.overfit.choices import checked_choices as checked
from apps.overfit.choices import families
from apps.server.context import Context
from workbench.figures import image_data_uri, keypoint_colours

if TYPE_CHECKING:
    from workbench.core import Sample, Skeleton

# Of the box, on each side: what the animal stands on helps to recognise it.
MARGIN = 0.125


def awaited(context: Context, wishes: Wishes) -> tuple[str, str]:
    """A sentence on what Start would do, and the picture as HTML.

    Raises:
        KeyError: no such set or sample.
        ValueError: Start would refuse it.
    """
    sample, skeleton = checked(context, wishes)
    names = {name: label for label, name in families(context.settings.adapter)}
    network = wishes.config or names.get(wishes.family, wishes.family)
    count = 0 if sample.truth is None else int((np.asarray(sample.truth)[:, 2] > 0).sum())
    told = (
        f"Start trains {network} from first weights on {sample.key or wishes.where} alone, {count} annotated "
        f"keypoints, for {wishes.steps} steps on {wishes.device}, and ends with a verdict; where it cannot "
        f"be learned, the switch that stands in the way is looked for.{_training(wishes)}"
    )
    return told, _picture(sample, skeleton)


def _training(wishes: Wishes) -> str:
    """Whose optimizer and schedule are used, where a config could say."""
    if wishes.config_training:
        return (
            " Optimizer, learning rate, schedule, parameter groups, clipping, averaging and codec are the "
            "config's, not this page's; what of it is not used is listed once it runs."
        )
    if wishes.config:
        return " Optimizer, learning rate and schedule are this page's values, not the config's."
    return ""


def _picture(sample: Sample, skeleton: Skeleton) -> str:
    H, W = sample.image.shape[:2]
    x0, y0, x1, y1 = sample.box
    dx, dy = MARGIN * (x1 - x0), MARGIN * (y1 - y0)
    left, top = int(max(0, x0 - dx)), int(max(0, y0 - dy))
    right, bottom = int(min(W, np.ceil(x1 + dx))), int(min(H, np.ceil(y1 + dy)))
    if right <= left or bottom <= top:
        left, top, right, bottom = 0, 0, W, H
    w, h = right - left, bottom - top
    photo = image_data_uri(sample.image[top:bottom, left:right])
    r = max(w, h) / 80
    truth = np.zeros((0, 3)) if sample.truth is None else np.asarray(sample.truth, float)
    marks = [
        f'<circle cx="{x - left:.1f}" cy="{y - top:.1f}" r="{r * 1.4:.2f}" fill="none" stroke="{ink}" '
        f'stroke-width="{r / 2:.2f}"><title>{html.escape(name)}</title></circle>'
        for (x, y, v), name, ink in zip(truth, skeleton.keypoints, keypoint_colours(skeleton), strict=False)
        if v > 0
    ]
    return (
        '<div class="ovf-pictures"><figure>'
        f'<svg viewBox="-0.5 -0.5 {w} {h}" role="img" aria-label="what is to be learned" '
        f'data-testid="overfit-awaited"><image href="{photo}" x="-0.5" y="-0.5" width="{w}" height="{h}" '
        f'preserveAspectRatio="none"/>{"".join(marks)}</svg>'
        "<figcaption>the image and its annotation (rings)</figcaption></figure></div>"
    )
