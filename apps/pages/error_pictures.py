"""Pictures of instances for the Errors page: the annotation as rings, the pose as dots by kind of error."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import numpy as np

from workbench.evaluation.errors import GOOD, KINDS, UNLABELLED
from workbench.evaluation.errors_report import COLOURS
from workbench.figures import TRUTH_COLOUR, image_data_uri

if TYPE_CHECKING:
    from workbench.data import PoseSet
    from workbench.evaluation.errors_report import Errors

SIDE = 220  # longest side of a picture on the page, pixels
MARGIN = 0.25  # around the instance, share of its longer side


def picture(report: Errors, pose_set: PoseSet, row: dict[str, Any]) -> str:
    """A cut-out of the image as a data address; "" where the image is not there.

    Args:
        report: of the errors.
        pose_set: with the images.
        row: of Errors.instances.
    """
    import cv2

    try:
        image = pose_set.image(row["image_id"])
    except (OSError, ValueError, KeyError):
        return ""
    truth, points, colours = marks(report, row)
    seen = np.concatenate([p[np.isfinite(p).all(1)] for p in (truth, points)])
    left, top, right, bottom = cut_out(seen, image.shape[1], image.shape[0])
    scale = SIDE / max(right - left, bottom - top, 1)
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    drawn = cv2.resize(
        np.ascontiguousarray(image[top:bottom, left:right]), size, interpolation=cv2.INTER_AREA
    )

    def place(point: np.ndarray) -> tuple[int, int]:
        x, y = (point - (left, top) + 0.5) * scale
        return round(float(x)), round(float(y))

    for true, point, colour in zip(truth, points, colours, strict=True):
        both = np.isfinite([*true, *point]).all()
        if both:
            cv2.line(drawn, place(true), place(point), (255, 255, 255), 1, cv2.LINE_AA)
        if np.isfinite(true).all():
            cv2.circle(drawn, place(true), 5, (20, 22, 28), 3, cv2.LINE_AA)
            cv2.circle(drawn, place(true), 5, _rgb(TRUTH_COLOUR), 1, cv2.LINE_AA)
        if np.isfinite(point).all():
            cv2.circle(drawn, place(point), 4, (20, 22, 28), -1, cv2.LINE_AA)
            cv2.circle(drawn, place(point), 3, _rgb(colour), -1, cv2.LINE_AA)
    return image_data_uri(drawn, side=SIDE, quality=80)


def marks(report: Errors, row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Annotated points and predicted ones [K, 2], nan where there is none, and the colours of the latter."""
    result, K = report.result, len(report.skeleton)
    truth, points = np.full((K, 2), np.nan), np.full((K, 2), np.nan)
    colours = [COLOURS["good"]] * K
    if row["annotation_id"] is not None:
        g = int(np.flatnonzero(result.truth.ids == row["annotation_id"])[0])
        held = result.truth.keypoints[g]
        truth = np.where(held[:, 2:] > 0, held[:, :2], np.nan)
    if row["detection"] is not None:
        points = np.asarray(result.detections.keypoints[row["detection"]], float)
        m = np.flatnonzero(report.found.detection == row["detection"])
        if len(m):
            kinds = report.found.kind[m[0]]
            colours = [COLOURS[KINDS[k if k != UNLABELLED else GOOD]] for k in kinds]
            points = np.where((kinds == UNLABELLED)[:, None], np.nan, points)
    return truth, points, colours


def cut_out(points: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the part of the image around points; all of it without points inside."""
    inside = points[((points >= 0) & (points < (width, height))).all(1)] if len(points) else points
    if not len(inside):
        return 0, 0, width, height
    low, high = inside.min(0), inside.max(0)
    margin = max(16.0, MARGIN * float((high - low).max()))
    left, top = np.floor(np.maximum(low - margin, 0)).astype(int)
    right, bottom = np.ceil(np.minimum(high + margin + 1, (width, height))).astype(int)
    return int(left), int(top), int(right), int(bottom)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def card_html(report: Errors, pose_set: PoseSet, row: dict[str, Any], subject: dict[str, str]) -> str:
    """One instance: its picture, what it is, and a link to the overlay of the same sample.

    Args:
        report: of the errors.
        pose_set: with the images.
        row: of Errors.instances.
        subject: words of the address (run, epoch, data); {} for an uploaded result.
    """
    source = picture(report, pose_set, row)
    stem = pose_set.images[row["image_id"]].path.stem
    shown = f'<img src="{source}" alt="">' if source else "<i>the image is not there</i>"
    name = stem if row["annotation_id"] is None else f"{stem}/{row['annotation_id']}"
    told = [f"OKS {row['oks']:.2f}"] if row["oks"] is not None else []
    told += [f"score {row['score']:.2f}"] if row["score"] is not None else ["no pose found it"]
    told += [", ".join(row["keypoints"])] if row["keypoints"] else []
    told += [f"taken from {row['of']}"] if row["of"] is not None else []
    text = html.escape("; ".join(told))
    title = html.escape(name)
    if subject and row["annotation_id"] is not None:
        query = html.escape(urlencode({**subject, "sample": name}))
        title = f'<a href="/look-overlay?{query}">{title}</a>'
    return (
        f'<figure class="err-card">{shown}<figcaption><b>{title}</b><span>{text}</span></figcaption></figure>'
    )
