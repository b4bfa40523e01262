"""Distance measures (PCK, AUC, EPE, NME): pairing of poses and annotations, head sizes, the report."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from workbench.core import nearest
from workbench.core.pck import pck_by_keypoint, pooled_pck
from workbench.core.report import Report, counted, plain
from workbench.evaluation import pck as figures
from workbench.evaluation.predictions import Predictions
from workbench.evaluation.protocol import Protocol
from workbench.evaluation.result_lists import with_own_annotations

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from plotly.graph_objects import Figure

    from workbench.data.pose_set import Instance, PoseSet


# Head sizes of MPII: this part of the diagonal of the head's box. Source: mpii_human_pose evalMPII, SC_BIAS.
_HEAD_BOX_PART = 0.6


def partners(
    chosen: Sequence[Instance], truth: Float[np.ndarray, "N K 3"], predictions: Predictions
) -> Int[np.ndarray, " N"]:
    """For each instance the row of its pose, -1 where there is none.

    Poses made from annotated boxes belong to them. Others are given to the instances of their image and
    category one to one, so that the sum of mean distances is least.

    Args:
        chosen: annotated instances.
        truth: (x, y, visibility) of each, image pixels.
        predictions: of the same images.
    """
    rows = np.full(len(chosen), -1)
    if predictions.annotation_id is not None:
        by_id = {int(number): row for row, number in enumerate(predictions.annotation_id)}
        return np.array([by_id.get(a.annotation_id, -1) for a in chosen], int)
    from scipy.optimize import linear_sum_assignment

    poses, instances = defaultdict(list), defaultdict(list)
    keys = zip(predictions.image_id.tolist(), predictions.category_id.tolist(), strict=True)
    for row, place in enumerate(keys):
        poses[place].append(row)
    for i, a in enumerate(chosen):
        instances[a.image_id, a.category_id].append(i)
    for place, here in instances.items():
        found = poses.get(place)
        if not found:
            continue
        off = predictions.keypoints[found][None] - truth[here][:, None, :, :2]
        with np.errstate(over="ignore"):
            away = np.linalg.norm(off, axis=-1)
        seen = (truth[here][..., 2] > 0)[:, None]
        # A keypoint that was not given is no reason to prefer another pose: it is left out of the mean.
        given = seen & np.isfinite(away)
        cost = np.where(given, away, 0).sum(-1) / np.maximum(given.sum(-1), 1)
        cost = np.where(given.any(-1), cost, 1e9)
        for i, j in zip(*linear_sum_assignment(np.minimum(cost, 1e9)), strict=True):
            rows[here[i]] = found[j]
    return rows


def stated_lengths(
    pose_set: PoseSet, chosen: Sequence[Instance], item: str = "head_size"
) -> Float[np.ndarray, " N"]:
    """As annotated, pixels; nan where an annotation does not say.

    Args:
        pose_set: annotations.
        chosen: instances.
        item: key of the annotations.
    """
    entries = {
        e["id"]: stated_length(e, item)
        for e in pose_set.raw.get("annotations", ())
        if isinstance(e, Mapping) and isinstance(e.get("id"), (int, float))
    }
    return np.array([entries.get(a.annotation_id, np.nan) for a in chosen], float)


def stated_length(entry: Mapping[str, Any], item: str = "head_size") -> float:
    """A length that an annotation states, pixels; nan where it does not.

    Args:
        entry: the annotation.
        item: its key. Of ``head_size`` also .6 of the diagonal of ``head_box`` (x0, y0, x1, y1).
    """
    size = entry.get(item)
    if is_length(size):
        return float(size)
    box = entry.get("head_box", entry.get("headbox")) if item == "head_size" else None
    if isinstance(box, list) and len(box) == 4 and all(map(is_length, box)):
        return _HEAD_BOX_PART * math.hypot(box[2] - box[0], box[3] - box[1])
    return math.nan


def is_length(value: Any) -> TypeGuard[float]:
    """Whether a value is a length in pixels: finite, and possible within an image."""
    return type(value) in (int, float) and abs(value) < 1e9


# How far are predictions off a data set, where OKS is not the question: PCK, PCKh, mPCK, AUC, EPE, NME.


METRICS: dict[str, tuple[str, float | None]] = {
    "pck": ("box", 0.05),
    "pckh": ("head", 0.5),
    "mpck": ("box", None),
    "auc": ("30px", None),
    "epe": ("1px", None),
    "nme": ("box", None),
}
"""Metric -> the normaliser and the threshold that it is published with."""


@dataclass(frozen=True, eq=False)
class Measures(Report):
    """Distances of a model, or of a result file, from the annotations of one data set.

    Attributes:
        metric: the one asked for, a key of METRICS.
        rows: of every metric: metric, value, rule; the one asked for first.
        per_keypoint: keypoint, labelled, pck, epe (pixels), nme; pck and nme are nan beside AUC and EPE.
        missing: labelled keypoints that were not predicted: wrong for PCK and AUC, left out of EPE and NME.
        labelled: labelled keypoints of all instances with a length.
        without_length: instances whose normalising length is not known, which count nowhere.
        pairing: how poses were paired with annotations.
        protocol: how they were made.
        note: why this and not AP; "" when it was asked for.
    """

    metric: str
    rows: tuple[dict[str, Any], ...]
    per_keypoint: tuple[dict[str, Any], ...]
    missing: int
    labelled: int
    without_length: int
    pairing: str
    protocol: Protocol
    note: str = ""

    @property
    def value(self) -> float:
        """Value of the requested metric; nan when nothing is labelled."""
        return self.rows[0]["value"]

    def summary(self) -> str:
        first = self.rows[0]
        gone = (
            f"; {self.missing} of {counted(self.labelled, 'keypoint was', 'keypoints were')} not predicted"
            if self.missing
            else ""
        )
        bare = (
            f"; {counted(self.without_length, 'instance lacks', 'instances lack')} the length that errors "
            "are divided by"
            if self.without_length
            else ""
        )
        why = f" {self.note}." if self.note else ""
        return (
            f"{first['metric']} {_figure_text(first['value'])} ({first['rule']}){gone}{bare}.{why}"
            f" Protocol: {self.pairing}, {self.protocol.text()}."
        )

    def plot(self) -> Figure:
        from workbench.figures import new_figure

        key, axis, high = ("pck", "PCK (0 to 1)", 1.0)
        if any(math.isnan(r["pck"]) for r in self.per_keypoint if r["labelled"]):
            key, axis, high = ("epe", "mean error (px)", None)
        rows = sorted((r for r in self.per_keypoint if r["labelled"]), key=lambda row: -row[key])
        title = f"{self.rows[0]['metric']} {_figure_text(self.value)}"
        figure = new_figure(title, x=axis, height=140 + 22 * max(len(rows), 4))
        x, y = np.array([r[key] for r in rows], np.float32), [r["keypoint"] for r in rows]
        figure.add_bar(x=x, y=y, orientation="h", showlegend=False)
        figure.update_xaxes(range=[0, high])
        return figure

    def table(self) -> list[dict[str, Any]]:
        return [plain(row) for row in self.per_keypoint]

    def to_json(self) -> dict[str, Any]:
        return {
            "summary": self.summary(),
            "metric": self.metric,
            "value": plain(self.value),
            **{row["metric"]: plain(row["value"]) for row in self.rows},
            "metrics": [plain(row) for row in self.rows],
            "per_keypoint": self.table(),
            "missing_keypoints": self.missing,
            "labelled_keypoints": self.labelled,
            "without_length": self.without_length,
            "pairing": self.pairing,
            "note": self.note,
            "protocol": self.protocol.to_json(),
        }

    def text(self) -> str:
        """For the command line: all metrics with their rules, then the keypoints."""
        lines = [self.summary(), ""]
        lines += [f"{row['metric']:<5} {_figure_text(row['value']):>8}  {row['rule']}" for row in self.rows]
        lines += ["", f"{'keypoint':<20} labelled    PCK   EPE px     NME"]
        for row in self.per_keypoint:
            cells = (_figure_text(row["pck"]), _figure_text(row["epe"]), _figure_text(row["nme"]))
            lines.append(
                f"{row['keypoint']:<20} {row['labelled']:8d}  {cells[0]:>5}  {cells[1]:>7}  {cells[2]:>6}"
            )
        return "\n".join(lines)


def measure(
    pose_set: PoseSet,
    predictions: Predictions,
    metric: str = "pck",
    *,
    normalise: str | None = None,
    threshold: float | None = None,
    thresholds: Sequence[float] = figures.MPCK_THRESHOLDS,
    protocol: Protocol | None = None,
    note: str = "",
) -> Measures:
    """Compare predictions with annotations by distance.

    Args:
        pose_set: the annotations; every instance with a labelled keypoint counts, crowds do not.
        predictions: of this set. Those made from annotated boxes, as a result file's boxes tell too, are
            compared with their own annotation; others one to one within image and category, so that the mean
            distance is least.
        metric: a key of METRICS; its figure comes first.
        normalise: see `Normaliser.of`; the metric's usual one by default.
        threshold: of PCK and PCKh; the metric's usual one by default.
        thresholds: of mPCK.
        protocol: how predictions were made.
        note: why this metric replaces AP.

    Raises:
        KeyError: no such metric.
        ValueError: a threshold is not above 0, keypoints differ, or there is no such normaliser.
    """
    check_measurable(pose_set, metric, normalise=normalise, threshold=threshold, thresholds=thresholds)
    chosen = [a for a in pose_set.instances if a.num_keypoints and not a.iscrowd]
    predictions, unpaired = with_own_annotations(pose_set, predictions)
    truth, found = _paired(pose_set, chosen, predictions)
    usual, usual_threshold = METRICS[metric]
    length = normalise or usual
    stated = stated_lengths(pose_set, chosen, figures.stated_item(length))
    normaliser = figures.Normaliser.of(length, pose_set.skeleton, bool((stated > 0).any()))
    boxes = np.array([a.box for a in chosen], float).reshape(-1, 4)
    area = np.array([a.area for a in chosen], float)
    lengths = normaliser.lengths(truth, boxes, area, stated)
    limit = threshold or usual_threshold or METRICS["pck"][1] or 0.05
    parts, pixels = figures.distances(found, truth, lengths), figures.distances(found, truth)
    protocol = replace(
        protocol or Protocol(),
        data=pose_set.name,
        images=len(pose_set.images),
        instances=len(chosen),
        left_out=len(pose_set.left_out),
    )
    own = predictions.annotation_id is not None
    rows = _rows(metric, parts, pixels, normaliser, limit, thresholds, pose_set, threshold, normalise)
    # AUC and EPE are measured in pixels: there is no length of which PCK and NME would be a part.
    ruled = any(row["metric"] == "NME" for row in rows)
    per_keypoint = _per_keypoint(pose_set.skeleton.keypoints, parts if ruled else None, pixels, limit)
    return Measures(
        metric=metric,
        rows=rows,
        per_keypoint=per_keypoint,
        missing=int(np.isinf(parts).sum()),
        labelled=int((~np.isnan(parts)).sum()),
        without_length=int(np.isnan(lengths).sum()),
        pairing="each pose with its own annotation"
        if own
        else "poses paired with annotations one to one, nearest in the mean"
        + (f", because {unpaired}" if unpaired else ""),
        protocol=protocol,
        note=note,
    )


def _paired(
    pose_set: PoseSet, chosen: Sequence[Instance], predictions: Predictions
) -> tuple[Float[np.ndarray, "N K 3"], Float[np.ndarray, "N K 2"]]:
    """Annotations, and the pose of each; nan where it has none.

    Raises:
        ValueError: the predictions are of another skeleton or other images.
    """
    K = len(pose_set.skeleton)
    if len(predictions) and predictions.keypoints.shape[1] != K:
        raise ValueError(
            f"keypoints: the results have {predictions.keypoints.shape[1]}, {pose_set.name} has {K};"
            " they must be of the same skeleton"
        )
    unknown = sorted({int(n) for n in predictions.image_id} - pose_set.images.keys())
    if unknown:
        raise ValueError(
            f"results: image {unknown[0]} is not in the annotations ({len(unknown)} such); are these the"
            " results of another data set?"
        )
    truth = np.stack([a.truth for a in chosen]) if chosen else np.zeros((0, K, 3))
    rows = partners(chosen, truth, predictions)
    found = np.full((len(chosen), K, 2), np.nan)
    if (rows >= 0).any():  # an empty result file has arrays of no keypoints
        found[rows >= 0] = predictions.keypoints[rows[rows >= 0]]
    return truth, found


def _per_keypoint(
    names: Sequence[str],
    parts: Float[np.ndarray, "N K"] | None,
    pixels: Float[np.ndarray, "N K"],
    limit: float,
) -> tuple[dict[str, Any], ...]:
    right = np.full(len(names), np.nan) if parts is None else pck_by_keypoint(parts, limit)
    return tuple(
        {
            "keypoint": name,
            "labelled": int((~np.isnan(pixels if parts is None else parts))[:, k].sum()),
            "pck": float(right[k]),
            "epe": figures.mean_distance(pixels[:, k]),
            "nme": math.nan if parts is None else figures.mean_distance(parts[:, k]),
        }
        for k, name in enumerate(names)
    )


def check_measurable(
    pose_set: PoseSet,
    metric: str,
    *,
    normalise: str | None = None,
    threshold: float | None = None,
    thresholds: Sequence[float] = figures.MPCK_THRESHOLDS,
) -> None:
    """Raise what `measure` would raise for any predictions.

    Args:
        pose_set: annotations.
        metric: a key of METRICS.
        normalise: what distances are divided by; None for that of the metric.
        threshold: of the metric, in units of the normaliser; None for its own.
        thresholds: of mPCK.

    Raises:
        KeyError: no such metric.
        ValueError: the set or the options do not fit it.
    """
    if metric not in METRICS:
        raise KeyError(f"no metric {metric!r}; expected ap, {', '.join(METRICS)}; nearest:"
                       f" {nearest(metric, ('ap', *METRICS))}")  # fmt: skip
    for value in (*thresholds, *(() if threshold is None else (threshold,))):
        if not 0 < value < math.inf:
            raise ValueError(f"{metric}: expected thresholds above 0, such as 0.05, got {value:g}")
    if not thresholds:
        raise ValueError(f"{metric}: expected at least one threshold")
    length = normalise or METRICS[metric][0]
    item = figures.stated_item(length)
    entries = (e for e in pose_set.raw.get("annotations", ()) if isinstance(e, Mapping))
    figures.Normaliser.of(length, pose_set.skeleton, any(stated_length(e, item) > 0 for e in entries))


def _rows(
    metric: str,
    parts: Float[np.ndarray, "N K"],
    pixels: Float[np.ndarray, "N K"],
    normaliser: figures.Normaliser,
    limit: float,
    thresholds: Sequence[float],
    pose_set: PoseSet,
    threshold: float | None,
    normalise: str | None,
) -> tuple[dict[str, Any], ...]:
    """The metric asked for first, then the others by the same normaliser where they take one."""
    text, K = normaliser.text, pose_set.skeleton.keypoints
    limbs = [k for k, name in enumerate(K) if name not in figures.MPII_LEFT_OUT]
    limited = "" if len(limbs) == len(K) else f" without {' and '.join(figures.MPII_LEFT_OUT)}"
    of_length = metric not in ("auc", "epe") or normalise is not None
    rows: dict[str, tuple[str, float, str]] = {
        "epe": ("EPE", figures.mean_distance(pixels), "mean distance in pixels, all keypoints pooled")
    }
    if metric == "auc" and normalise is not None:
        rows["auc"] = ("AUC", figures.auc(parts), f"mean PCK at 0, 1/20 ... 19/20 of {text}")
    else:
        thirty = pixels / np.float32(figures.AUC_PIXELS)
        rows["auc"] = ("AUC", figures.auc(thirty), "mean PCK at 0, 1/20 ... 19/20 of 30 px, as mmpose")
    if metric == "pckh":
        pooled = pooled_pck(parts[:, limbs], limit)
        rows["pckh"] = ("PCKh", pooled, f"below {limit:g} of {text}, all keypoints pooled{limited}")
    if of_length:
        rows["pck"] = ("PCK", figures.pck(parts, limit), f"below {limit:g} of {text}, mean over keypoints")
        rows["mpck"] = (
            "mPCK",
            figures.mean_pck(parts, thresholds),
            f"mean PCK below {', '.join(f'{t:g}' for t in thresholds)} of {text}",
        )
        rows["nme"] = ("NME", figures.mean_distance(parts), f"mean distance as a part of {text}, pooled")
    order = sorted(rows, key=lambda key: (key != metric, list(METRICS).index(key)))
    return tuple(dict(zip(("metric", "value", "rule"), rows[key], strict=True)) for key in order)


def _figure_text(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
