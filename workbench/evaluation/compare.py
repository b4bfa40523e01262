"""What changed between epochs or models on one set: figures with intervals, gained and lost instances.

Changes of keypoints and slices (size, visibility, crowding, category) say where a change comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from workbench.core.job import current_checkpoint
from workbench.core.report import Report, counted, plain
from workbench.evaluation.bootstrap import (
    Interval,
    drawn_images,
    no_interval_text,
    paired_bootstrap,
    paired_figures,
    paired_means,
)
from workbench.evaluation.calibration import Calibration, calibration, pairs_of
from workbench.evaluation.evaluate import Evaluation, evaluate, figure_text
from workbench.evaluation.file_runs import FileRun
from workbench.evaluation.ground_truth import OVERLAP, AreaRule, others_overlapping
from workbench.evaluation.keypoint_ap import size_classes
from workbench.evaluation.label_audit import LabelAudit, label_audit
from workbench.evaluation.oks import FOUND, keypoint_terms
from workbench.evaluation.predictions import Predictions
from workbench.evaluation.protocol import Protocol

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from plotly.graph_objects import Figure

    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.ground_truth import GroundTruth
    from workbench.evaluation.keypoint_ap import KeypointAP


# Part of the labelled keypoints that are marked occluded (v = 1).
OCCLUDED = 0.5
# A slice or a keypoint with fewer labelled values tells nothing.
FEWEST = 3


@dataclass(frozen=True)
class Change:
    """A change of the mean OKS of some instances, or of one keypoint's part of it.

    Attributes:
        kind: ``keypoint``, ``size``, ``visibility``, ``crowding`` or ``category``.
        name: of the keypoint or slice.
        count: instances in it.
        before: mean of A.
        after: mean of B.
        interval: of the mean change; None where there are too few.
    """

    kind: str
    name: str
    count: int
    before: float
    after: float
    interval: Interval | None

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        low, high = (None, None) if self.interval is None else (self.interval.low, self.interval.high)
        return plain(
            {
                "kind": self.kind, "name": self.name, "count": self.count, "before": self.before,
                "after": self.after, "change": self.after - self.before, "low": low, "high": high,
            }
        )  # fmt: skip


def changes(
    a: KeypointAP,
    b: KeypointAP,
    terms: tuple[Float[np.ndarray, "G K"], Float[np.ndarray, "G K"]],
    names: Sequence[str],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Change]:
    """Change of every keypoint and every slice, with its paired bootstrap interval.

    Args:
        a: before.
        b: after, on the same instances.
        terms: of both, see `instance_terms`.
        names: of the keypoints.
        resamples: of the bootstrap.
        level: of the intervals.
        seed: of the bootstrap.
    """
    truth = a.truth
    weights = drawn_images(a, b, resamples, level, seed)
    before, after = (np.where(truth.ignored[:, None], np.nan, part) for part in terms)
    found = []

    def add(kind: str, name: str, x: np.ndarray, y: np.ndarray) -> None:
        finite = np.isfinite(x) & np.isfinite(y)
        if finite.any():
            few = finite.sum() < FEWEST
            interval = None if few else paired_means(y - x, truth.image, weights, level, seed)
            found.append(
                Change(
                    kind, name, int(finite.sum()), float(x[finite].mean()), float(y[finite].mean()), interval
                )
            )

    for k, name in enumerate(names):
        add("keypoint", name, before[:, k], after[:, k])
    labelled = np.isfinite(before).sum(1)
    whole = [
        np.divide(np.nansum(part, 1), labelled, out=np.full(len(part), np.nan), where=labelled > 0)
        for part in (before, after)
    ]
    for kind, name, mask in slices_of(truth):
        add(kind, name, np.where(mask, whole[0], np.nan), np.where(mask, whole[1], np.nan))
    return found


def instance_terms(
    keypoints: Float[np.ndarray, "G K 2"], truth: GroundTruth, sigmas: Float[np.ndarray, " K"]
) -> Float[np.ndarray, "G K"]:
    """Each keypoint's part of the OKS of every annotated instance; nan where it is not labelled.

    Args:
        keypoints: the pose of each instance; nan where it has none: all its labelled keypoints count 0.
        truth: the annotations.
        sigmas: OKS constants.
    """
    return keypoint_terms(keypoints, truth.keypoints, truth.area, sigmas)


def slices_of(truth: GroundTruth) -> list[tuple[str, str, Bool[np.ndarray, " G"]]]:
    """(kind, name, members) of every slice that holds somebody and not everybody."""
    visible = truth.keypoints[..., 2]
    labelled = (visible > 0).sum(1)
    occluded = (visible == 1).sum(1) >= OCCLUDED * np.maximum(labelled, 1)
    crowded = others_overlapping(truth) > 0
    found = [
        *(("size", name, members) for name, members in size_classes(truth.area).items()),
        ("visibility", "mostly visible", ~occluded & (labelled > 0)),
        ("visibility", "at least half occluded", occluded & (labelled > 0)),
        ("crowding", "boxes apart", ~crowded),
        ("crowding", f"boxes overlap (IoU above {OVERLAP:g})", crowded),
    ]
    if len(truth.category_ids) > 1:
        names = truth.category_names or tuple(map(str, truth.category_ids.tolist()))
        found += [("category", name, truth.category == c) for c, name in enumerate(names)]
    counting = ~truth.ignored
    return [
        (kind, name, mask & counting)
        for kind, name, mask in found
        if (mask & counting).any() and (kind == "category" or (mask & counting).sum() < counting.sum())
    ]


Result = TypeVar("Result")


# What is shown of several epochs side by side: figures, intervals, gained and lost instances.


@dataclass(frozen=True, eq=False)
class Comparison(Report):
    """Epochs of one run, or any models, on one set of instances.

    Attributes:
        titles: of the epochs, in the order given.
        evaluations: one for each.
        oks: of every instance in every epoch, in the order of the ground truth; nan where nothing is
            labelled, the instance does not count, or no pose was predicted for it.
        intervals: change of AP from the first epoch to each other; empty where nothing counts.
        differences: rules in which an epoch's protocol differs from the first's: then numbers do not compare.
        delta: change of each COCO figure from the first epoch to the last; empty where it was not asked for.
        changes: of keypoints and slices of instances, likewise.
        calibrations: of each epoch's scores, likewise.
        audit: annotations that the models contradict together; None where it was not asked for.
    """

    titles: tuple[str, ...]
    evaluations: tuple[Evaluation, ...]
    oks: Float[np.ndarray, "E N"]
    intervals: tuple[Interval, ...]
    differences: tuple[str, ...]
    delta: Mapping[str, Interval] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    calibrations: tuple[Calibration, ...] = ()
    audit: LabelAudit | None = None

    def gained(self, a: int = 0, b: int = -1) -> Int[np.ndarray, " M"]:
        """Instances not found in epoch a and found in epoch b, the largest change first.

        Args:
            a: position of an epoch, from the end where negative.
            b: position of another one.
        """
        return self._sorted((self.oks[a] < FOUND) & (self.oks[b] >= FOUND), self.oks[a] - self.oks[b])

    def lost(self, a: int = 0, b: int = -1) -> Int[np.ndarray, " M"]:
        """Instances found in epoch a and not in epoch b, the largest change first.

        Args:
            a: position of an epoch, from the end where negative.
            b: position of another one.
        """
        return self._sorted((self.oks[a] >= FOUND) & (self.oks[b] < FOUND), self.oks[b] - self.oks[a])

    def most_changed(self, a: int = 0, b: int = -1, count: int = 20) -> Int[np.ndarray, " M"]:
        """Instances whose OKS changed most, in either direction.

        Args:
            a: position of an epoch, from the end where negative.
            b: position of another one.
            count: how many at most.
        """
        change = np.abs(self.oks[b] - self.oks[a])
        return self._sorted(np.isfinite(change), -change)[:count]

    def _sorted(self, mask: np.ndarray, key: np.ndarray) -> Int[np.ndarray, " M"]:
        rows = np.flatnonzero(mask)
        return rows[np.argsort(key[rows], kind="stable")]

    def summary(self) -> str:
        first, last = self.evaluations[0].figures["AP"], self.evaluations[-1].figures["AP"]
        if not self.intervals:
            return (
                f"{self.titles[0]} to {self.titles[-1]}: no annotated instance is evaluated, so there "
                "is no AP to compare."
            )
        interval = self.intervals[-1]
        luck = "" if interval.certain else ", so the change may be due to the choice of images"
        if interval.low == interval.delta == interval.high == 0:
            luck = ", which no choice of these images changes"
        if not interval.measured:
            luck = f": {no_interval_text(interval.units)}"
        mark = f" NOT COMPARABLE, protocols differ ({self.differences[0]})." if self.differences else ""
        return (
            f"{self.titles[0]} to {self.titles[-1]}: AP {first:.3f} -> {last:.3f}, {interval}{luck}; "
            f"{counted(len(self.gained()), 'instance')} gained, {len(self.lost())} lost.{mark} "
            f"Protocol: {self.evaluations[-1].protocol.text()}."
        )

    @property
    def compared(self) -> str:
        """What the titles are of: result files and different models are no epochs."""
        return "epoch" if all(title.startswith("epoch") for title in self.titles) else "model"

    def plot(self) -> Figure:
        """AP and AR over the epochs, with the interval of each change from the first."""
        from workbench.figures import RUN_COLOURS, new_figure

        figure = new_figure(self.summary(), x=self.compared, y="AP, AR (0 to 1)")
        values = {name: self._values(name) for name in ("AP", "AR")}
        for (name, value), colour in zip(values.items(), RUN_COLOURS, strict=False):
            spread = {}
            if name == "AP" and self.intervals:
                base = value[0]
                high = np.array([base, *(base + i.high for i in self.intervals)], np.float32)
                low = np.array([base, *(base + i.low for i in self.intervals)], np.float32)
                spread = {"type": "data", "array": high - value, "arrayminus": value - low}
            figure.add_scatter(
                x=list(self.titles),
                y=value,
                error_y=spread or None,
                name=name if not spread else "AP, 95 % of the change from the first",
                mode="lines+markers",
                line={"color": colour},
                hovertemplate="%{x}: " + name + " %{y:.3f}<extra></extra>",
            )
        figure.update_yaxes(rangemode="tozero")
        return figure

    def _values(self, name: str) -> Float[np.ndarray, " E"]:
        return np.array([e.figures[name] for e in self.evaluations], np.float32)

    def table(self) -> list[dict[str, Any]]:
        """One row for each epoch."""
        changes = [None, *self.intervals] if self.intervals else [None] * len(self.titles)
        return [
            {
                "title": title,
                **plain(evaluation.figures),
                "delta_AP": None if change is None else change.delta,
                "low": None if change is None else plain(change.low),
                "high": None if change is None else plain(change.high),
                "gained": len(self.gained(0, e)),
                "lost": len(self.lost(0, e)),
            }
            for e, (title, evaluation, change) in enumerate(
                zip(self.titles, self.evaluations, changes, strict=True)
            )
        ]

    def instances(self, rows: Int[np.ndarray, " M"]) -> list[dict[str, Any]]:
        """Names and OKS of some instances, in every epoch."""
        truth = self.evaluations[0].ap.truth
        return [
            {
                "annotation_id": int(truth.ids[i]),
                "image_id": int(truth.image_ids[truth.image[i]]),
                "oks": plain(self.oks[:, i]),
            }
            for i in rows
        ]

    def to_json(self) -> dict[str, Any]:
        """All epochs, what was gained and lost from the first to the last, and the protocols."""
        return {
            "summary": self.summary(),
            "epochs": self.table(),
            "gained": self.instances(self.gained()),
            "lost": self.instances(self.lost()),
            "most_changed": self.instances(self.most_changed()),
            "intervals": plain(self.intervals),
            "delta": {
                name: plain({"value": i.delta, "low": i.low, "high": i.high})
                for name, i in self.delta.items()
            },
            "changes": [change.facts() for change in self.changes],
            "calibration": {one.title: one.facts() for one in self.calibrations},
            "audit": None if self.audit is None else self.audit.facts(),
            "per_keypoint": {t: e.table() for t, e in zip(self.titles, self.evaluations, strict=True)},
            "protocols": {
                t: e.protocol.to_json() for t, e in zip(self.titles, self.evaluations, strict=True)
            },
            "differences": list(self.differences),
        }

    def text(self) -> str:
        """For the command line."""
        width = max(20, *(len(t) for t in self.titles))
        lines = [
            self.summary(),
            "",
            f"{self.compared:<{width}}    AP     AR    change of AP            gained  lost",
        ]
        changes = ["", *map(str, self.intervals)] if self.intervals else [""] * len(self.titles)
        for e, (title, evaluation, change) in enumerate(
            zip(self.titles, self.evaluations, changes, strict=True)
        ):
            figures = evaluation.figures
            lines.append(
                f"{title:<{width}} {figure_text(figures['AP'])}  {figure_text(figures['AR'])}   {change:<23}"
                f" {len(self.gained(0, e)):6d} {len(self.lost(0, e)):5d}"
            )
        lines += [f"protocols differ, do not compare: {what}" for what in self.differences]
        return "\n".join([*lines, *self._details()])

    def intervals_text(self) -> str:
        """Which intervals the figures have, or why they have none."""
        if any(i.measured for i in self.delta.values()):
            return "95 % intervals"
        return no_interval_text(max((i.units for i in self.delta.values()), default=0))

    def _details(self) -> list[str]:
        """What was asked for beyond the figures: intervals, keypoints, slices, scores, annotations."""
        first, last = self.evaluations[0].figures, self.evaluations[-1].figures
        ends = f"from {self.titles[0]} to {self.titles[-1]}"
        lines = ["", f"{ends}, {self.intervals_text()}:"] if self.delta else []
        lines += [
            f"  {name:<5} {figure_text(first[name])} -> {figure_text(last[name])}  {change}"
            for name, change in self.delta.items()
        ]
        measured = [c for c in self.changes if c.interval is not None and c.interval.measured]
        certain = sorted(
            (c for c in measured if c.interval is not None and c.interval.certain),
            key=lambda c: -abs(c.after - c.before),
        )
        if measured:
            lines += [
                "",
                f"mean OKS changed beyond chance in {len(certain)} of "
                f"{counted(len(measured), 'keypoint or slice', 'keypoints and slices')}:",
            ]
            width = max((len(c.name) for c in certain[:12]), default=0)
            lines += [
                f"  {c.kind:<10} {c.name:<{width}}  {c.before:.3f} -> {c.after:.3f}  {c.interval}  "
                f"({c.count})"
                for c in certain[:12]
            ]
            lines += [f"  {len(certain) - 12} more: see --json"] if len(certain) > 12 else []
        lines += ["", *(one.summary() for one in self.calibrations)] if self.calibrations else []
        if self.audit is not None:
            lines += ["", self.audit.summary()]
            lines += [
                f"  {f.where}: {s.kind if s.claim else f'to look at, {s.kind}?'}, {s.evidence}"
                for s, f in ((s, s.finding()) for s in self.audit.suspects[:10])
            ]
        return lines


# Which instances did an epoch gain and lose, and is the change of AP more than luck of the images?


def compare(
    pose_set: PoseSet,
    epochs: Sequence[tuple[str, Predictions]],
    protocols: Sequence[Protocol | None] | None = None,
    *,
    runs: Sequence[str | FileRun] | None = None,
    indices: Iterable[int] | None = None,
    area_rule: AreaRule = "annotated",
    sigmas: Sequence[float] | None = None,
    max_dets: int = 20,
    resamples: int = 1000,
    seed: int = 0,
    details: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Evaluate several epochs on one set and put them side by side.

    Args:
        pose_set: the annotations.
        epochs: title and predictions of each, in the order to show.
        protocols: of each, where known; differences are marked.
        runs: name of the run that each is of, where known; only models of different runs prove an annotation
            wrong.
        indices: as in evaluate.
        area_rule: as in evaluate.
        sigmas: as in evaluate.
        max_dets: as in evaluate.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        details: intervals of all figures, changes of keypoints and slices, calibration, audit of annotations.
        progress: called with (done, total) parts: evaluations, intervals, and what the details are made of.

    Raises:
        ValueError: fewer than two epochs, or two of the same title; and what evaluate raises.
        Cancelled: the job in whose thread this runs was cancelled; it is asked between the resamples.
    """
    count = len(epochs)
    parts = _Parts(2 * count - 1 + (count + 3 if details else 0), progress)
    rules = [None] * len(epochs) if protocols is None else list(protocols)
    if len(rules) != len(epochs):
        raise ValueError(f"compare: {counted(len(epochs), 'epoch')} and {len(rules)} protocols")
    chosen = None if indices is None else list(indices)
    rest = {"area_rule": area_rule, "sigmas": sigmas, "max_dets": max_dets}
    evaluations = [
        parts.finished(evaluate(pose_set, found, rule, indices=chosen, **rest))
        for (_, found), rule in zip(epochs, rules, strict=True)
    ]
    titles = [title for title, _ in epochs]
    report = comparison_of(titles, evaluations, resamples=resamples, seed=seed, progress=parts.next)
    if details and report.intervals:
        report = _detailed(report, [found for _, found in epochs], pose_set, runs, resamples, seed, parts)
    return parts.end(report)


@dataclass
class _Parts:
    """Counts the finished parts of a comparison; between two of them its job may be cancelled."""

    total: int
    progress: Callable[[int, int], None] | None
    done: int = 0

    def next(self, *_: int) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)
        current_checkpoint()

    def finished(self, result: Result) -> Result:
        self.next()
        return result

    def end(self, result: Result) -> Result:
        if self.progress is not None:
            self.progress(self.total, self.total)
        return result


def _detailed(
    report: Comparison,
    found: Sequence[Predictions],
    pose_set: PoseSet,
    runs: Sequence[str | FileRun] | None,
    resamples: int,
    seed: int,
    parts: _Parts,
) -> Comparison:
    """The comparison with what only the predictions tell."""
    a, b = report.evaluations[0], report.evaluations[-1]
    ends = [(found[0], a), (found[-1], b)]
    terms = [
        instance_terms(poses_of(one, evaluation), evaluation.ap.truth, evaluation.ap.sigmas)
        for one, evaluation in ends
    ]
    names = pose_set.skeleton.keypoints
    models = list(zip(report.titles, found, report.evaluations, strict=True))
    changed = changes(a.ap, b.ap, (terms[0], terms[1]), names, resamples=resamples, seed=seed)
    parts.next()
    calibrations = [parts.finished(calibration(*model)) for model in models]
    return replace(
        report,
        delta=parts.finished(paired_figures(a.ap, b.ap, resamples=resamples, seed=seed)),
        changes=tuple(changed),
        calibrations=tuple(one for one in calibrations if one is not None),
        audit=parts.finished(label_audit(models, pose_set.skeleton, runs).in_own_ids(pose_set)),
    )


def poses_of(predictions: Predictions, evaluation: Evaluation) -> Float[np.ndarray, "G K 2"]:
    """The pose of every annotated instance, in the order of the ground truth; nan where it has none.

    Args:
        predictions: that were evaluated.
        evaluation: of them.
    """
    points = np.full((*evaluation.ap.truth.keypoints.shape[:2], 2), np.nan)
    rows, target = pairs_of(predictions, evaluation)
    points[target] = predictions.keypoints[rows]
    return points


def comparison_of(
    titles: Sequence[str],
    evaluations: Sequence[Evaluation],
    *,
    resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Put finished evaluations of one set side by side; arguments as in compare, progress counts intervals.

    Args:
        titles: of the models, for people.
        evaluations: in the same order.
        resamples: of the intervals.
        seed: of the drawing.
        progress: called with finished intervals and their number.

    Raises:
        ValueError: fewer than two, two of the same title, or not of the same instances.
    """
    titles = tuple(titles)
    if len(evaluations) < 2:
        raise ValueError(f"compare: expected two epochs or more, got {len(evaluations)}")
    if len(set(titles)) < len(titles):
        raise ValueError(f"compare: two epochs have the same title among {', '.join(titles)}")
    truth = evaluations[0].ap.truth
    for title, other in zip(titles, evaluations, strict=True):
        if not np.array_equal(truth.ids, other.ap.truth.ids):
            raise ValueError(f"compare: {title} was evaluated on other instances than {titles[0]}")
    first = evaluations[0]
    intervals = []
    for other in evaluations[1:] if np.isfinite(first.figures["AP"]) else []:
        intervals.append(paired_bootstrap(first.ap, other.ap, resamples=resamples, seed=seed))
        if progress is not None:
            progress(len(intervals), len(evaluations) - 1)
    return Comparison(
        titles=titles,
        evaluations=tuple(evaluations),
        oks=np.stack([np.where(truth.ignored, np.nan, e.oks) for e in evaluations]),
        intervals=tuple(intervals),
        differences=tuple(
            f"{title}: {what}"
            for title, other in zip(titles[1:], evaluations[1:], strict=True)
            for what in other.protocol.differs_from(first.protocol)
        ),
    )
