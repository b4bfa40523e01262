"""Pictures of instances for the Errors page: the annotation as rings, the pose as dots by kind of error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import numpy as np

from workbench.core.plain_text import escaped
from workbench.core.report import counted
from workbench.evaluation.errors import GOOD, KINDS, UNLABELLED, WORDS
from workbench.evaluation.errors_report import COLOURS
from workbench.figures import TRUTH_COLOUR, image_data_uri

if TYPE_CHECKING:
    from workbench.data import PoseSet
    from workbench.evaluation.errors_report import Errors

SIDE = 220  # longest side of a picture on the page, pixels
EACH, SHOWN = 3, 12  # pictures of one kind of error in a saved report, and of all kinds
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
        annotated = result.truth.keypoints[g]
        truth = np.where(annotated[:, 2:] > 0, annotated[:, :2], np.nan)
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
    shown = f'<img src="{source}" alt="">' if source else "<i>the image is not there</i>"
    name, text = card_words(pose_set, row)
    title = escaped(name)
    if subject and row["annotation_id"] is not None:
        query = escaped(urlencode({**subject, "sample": name}))
        title = f'<a href="/look-overlay?{query}">{title}</a>'
    return (
        f'<figure class="err-card">{shown}<figcaption><b>{title}</b><span>{escaped(text)}</span>'
        "</figcaption></figure>"
    )


def card_words(pose_set: PoseSet, row: dict[str, Any]) -> tuple[str, str]:
    """The sample's name, and what is wrong with it.

    Args:
        pose_set: of the errors.
        row: of Errors.instances.
    """
    stem = pose_set.images[row["image_id"]].path.stem
    name = stem if row["annotation_id"] is None else f"{stem}/{row['annotation_id']}"
    parts = [f"OKS {row['oks']:.2f}"] if row["oks"] is not None else []
    parts += [f"score {row['score']:.2f}"] if row["score"] is not None else ["no pose found it"]
    parts += [", ".join(row["keypoints"])] if row["keypoints"] else []
    parts += [f"taken from {row['of']}"] if row["of"] is not None else []
    return name, "; ".join(parts)


def sample_parts(report: Errors, pose_set: PoseSet) -> list[str]:
    """Instances with the errors that cost most, a part of a document for each kind of error.

    Args:
        report: of the errors.
        pose_set: with the images; instances without one are named.
    """
    rows = {kind: report.instances(kind) for kind in WORDS if kind != "good"}
    cost = {kind: np.nan_to_num(report.delta_ap.get(kind, 0.0)) for kind in rows}
    parts, left = [], SHOWN
    for kind in sorted((kind for kind in rows if rows[kind]), key=lambda kind: -cost[kind]):
        first = rows[kind][: min(EACH, left)]
        left -= len(first)
        if not first:
            break
        more = f", the first {len(first)} of them" if len(first) < len(rows[kind]) else ""
        head = f"{WORDS[kind]}: {counted(len(rows[kind]), 'instance')}{more}"
        parts.append(f"<h3>{escaped(head)}</h3>{''.join(_figure(report, pose_set, row) for row in first)}")
    how = "<p>Rings: annotation; dots: pose, coloured by error; a line joins both.</p>"
    return [f"<h3>Samples with the errors that cost most AP</h3>{how}", *parts] if parts else []


def _figure(report: Errors, pose_set: PoseSet, row: dict[str, Any]) -> str:
    name, text = card_words(pose_set, row)
    source = picture(report, pose_set, row)
    shown = f'<img alt="{escaped(name)}" src="{source}">' if source else "the image is not there"
    return (
        f'<figure style="display:inline-block;width:{SIDE}px;margin:0 12px 12px 0;vertical-align:top">{shown}'
        f"<figcaption>{escaped(name)}<br>{escaped(text)}</figcaption></figure>"
    )
