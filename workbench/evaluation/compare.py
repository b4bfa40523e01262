"""Comparison of epochs instance by instance, and queries over a folder of Parquet files, one for each epoch.

DuckDB reads the columns that a question needs and nothing else, so a hundred epochs answer in well under a
second. Instances are named by their annotation, so only predictions from annotation boxes have a history.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import Report, plain
from workbench.evaluation.evaluate import Evaluation, evaluate, figure_text
from workbench.evaluation.ground_truth import AreaRule
from workbench.evaluation.keypoint_ap import RECALLS, THRESHOLDS
from workbench.evaluation.predictions import SHAPE_KEY, Predictions, read_protocol
from workbench.evaluation.protocol import Protocol

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from plotly.graph_objects import Figure

    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.keypoint_ap import KeypointAP


FOUND = 0.5
"""OKS from which COCO begins to count a pose as found."""


@dataclass(frozen=True)
class History:
    """A folder of epochs.

    Attributes:
        files: by epoch, rising.
        protocols: by epoch; None where a file keeps none.
    """

    files: dict[int, Path]
    protocols: dict[int, Protocol | None]

    @property
    def differences(self) -> list[str]:
        """Rules in which an epoch differs from the first; with any, the figures are not comparable."""
        first, *others = self.files
        return [
            f"epoch {epoch}: {what}"
            for epoch in others
            for a, b in [(self.protocols[epoch], self.protocols[first])]
            for what in (a.differs_from(b) if a and b else ["a protocol is not known"] if a or b else [])
        ]

    def worst(self, epoch: int, count: int = 20) -> list[dict[str, Any]]:
        """The instances with the lowest OKS."""
        return self._ask(
            "SELECT image_id, annotation_id, oks FROM poses WHERE epoch = ? AND oks IS NOT NULL "
            "ORDER BY oks, annotation_id LIMIT ?",
            [epoch],
            epoch,
            count,
        )

    def changed(self, a: int, b: int, count: int = 20) -> list[dict[str, Any]]:
        """The instances whose OKS differs most between two epochs, in either direction."""
        return self._pairs("true", "abs(change) DESC", a, b, count)

    def gained(self, a: int, b: int, count: int = 1_000_000) -> list[dict[str, Any]]:
        """Instances not found in epoch a and found in b, the largest change first."""
        return self._pairs(f"a.oks < {FOUND} AND b.oks >= {FOUND}", "change DESC", a, b, count)

    def lost(self, a: int, b: int, count: int = 1_000_000) -> list[dict[str, Any]]:
        """Instances found in epoch a and not in b, the largest change first."""
        return self._pairs(f"a.oks >= {FOUND} AND b.oks < {FOUND}", "change", a, b, count)

    def of(self, annotation_id: int) -> list[dict[str, Any]]:
        """One instance: its OKS and score in every epoch."""
        return self._ask(
            "SELECT epoch, oks, pose_score AS score FROM poses WHERE annotation_id = ? ORDER BY epoch",
            list(self.files),
            annotation_id,
        )

    def keypoints(self) -> list[dict[str, Any]]:
        """Mean OKS term of every keypoint, by epoch."""
        return self._ask(
            "SELECT epoch, keypoint, avg(term) AS oks, count(term) AS labelled FROM rows "
            "GROUP BY epoch, keypoint ORDER BY epoch, keypoint",
            list(self.files),
        )

    def _pairs(self, condition: str, order: str, a: int, b: int, count: int) -> list[dict[str, Any]]:
        return self._ask(
            "SELECT a.image_id, annotation_id, a.oks AS before, b.oks AS after, b.oks - a.oks AS change "
            "FROM poses a JOIN poses b USING (annotation_id) "
            f"WHERE a.epoch = ? AND b.epoch = ? AND {condition} ORDER BY {order}, annotation_id LIMIT ?",
            [a, b],
            a,
            b,
            count,
        )

    def _ask(self, question: str, epochs: list[int], *values: Any) -> list[dict[str, Any]]:
        import duckdb

        missing = [e for e in epochs if e not in self.files]
        if missing:
            raise KeyError(f"no epoch {missing[0]}; there are {', '.join(map(str, self.files))}")
        files = [str(self.files[e]) for e in dict.fromkeys(epochs)]
        with duckdb.connect() as database:
            database.read_parquet(files).create_view("rows")
            database.execute("CREATE VIEW poses AS SELECT * FROM rows WHERE keypoint = 0")
            answer = database.execute(question, list(values))
            names = [column[0] for column in answer.description or ()]
            return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def query_epochs(folder: Path) -> History:
    """Open a folder of predictions for questions across its epochs.

    Raises:
        FileNotFoundError: there is no file of predictions with an epoch in it.
        ValueError: two files are of the same epoch.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: dict[int, tuple[Path, Protocol | None]] = {}
    for path in sorted(Path(folder).glob("*.parquet")):
        try:
            file = pq.ParquetFile(path)
        except pa.ArrowInvalid as reason:
            raise ValueError(f"{path.name}: expected a Parquet file of predictions ({reason})") from None
        notes = file.schema_arrow.metadata or {}
        if SHAPE_KEY not in notes or not file.metadata.num_rows:
            continue
        epoch = next(file.iter_batches(batch_size=1, columns=["epoch"]))["epoch"][0].as_py()
        if epoch is None:
            continue
        if epoch in found:
            raise ValueError(f"{path.name}: epoch {epoch} is also in {found[epoch][0].name}")
        found[epoch] = (path, read_protocol(notes))
    if not found:
        raise FileNotFoundError(f"{folder}: no predictions with an epoch in them (*.parquet)")
    order = sorted(found)
    return History({e: found[e][0] for e in order}, {e: found[e][1] for e in order})


# Would another sample of images show the same change? A paired bootstrap of the difference of two APs.


# Numbers in one block of resamples x detections: 16 MB an array.
BLOCK = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A change of AP with its interval under resampling of the images.

    Attributes:
        delta: AP of B less AP of A, on all images.
        low: lower end of the interval.
        high: upper end of the interval.
        level: share of resamples inside it.
        resamples: how many were drawn.
        seed: of the drawing.
    """

    delta: float
    low: float
    high: float
    level: float
    resamples: int
    seed: int

    @property
    def certain(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.delta:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def paired_bootstrap(
    a: KeypointAP, b: KeypointAP, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Interval of the difference AP(b) - AP(a), percentiles over resampled images.

    Args:
        a: before.
        b: after, on the same images.
        resamples: how many sets of images to draw.
        level: share of resamples that the interval holds.
        seed: same seed, same interval.

    Raises:
        ValueError: the two are not of the same images, or there is nothing to draw.
    """
    if not np.array_equal(a.truth.image_ids, b.truth.image_ids):
        raise ValueError("interval: expected two evaluations of the same images")
    if resamples < 2 or not 0 < level < 1:
        raise ValueError(
            f"interval: expected 2 resamples or more and a level below 1, got {resamples}, {level}"
        )
    images = len(a.truth.image_ids)
    draws = np.random.default_rng(seed).integers(0, max(images, 1), (resamples, images))
    weights = np.stack([np.bincount(draw, minlength=images) for draw in draws])
    difference = resampled_ap(b, weights) - resampled_ap(a, weights)
    # A draw without any counted annotation has no AP.
    held = difference[np.isfinite(difference)]
    if not len(held):
        raise ValueError("interval: no annotation counts, so there is no AP to compare")
    low, high = np.quantile(held, [(1 - level) / 2, (1 + level) / 2])
    delta = b.figures["AP"] - a.figures["AP"]
    return Interval(delta, float(low), float(high), level, resamples, seed)


def resampled_ap(ap: KeypointAP, weights: Int[np.ndarray, "B I"]) -> Float[np.ndarray, " B"]:
    """AP of each resample; nan where it holds no evaluated annotation.

    Args:
        ap: the evaluation of all images.
        weights: how often each image was drawn.
    """
    total, curves = np.zeros(len(weights)), np.zeros(len(weights))
    for category in range(len(ap.truth.category_ids)):
        for rows, mean in _category_ap(ap, category, weights):
            there = np.isfinite(mean)
            total[rows] += np.where(there, mean, 0)
            curves[rows] += there
    return np.divide(total, curves, out=np.full(len(weights), np.nan), where=curves > 0)


def _category_ap(
    ap: KeypointAP, category: int, weights: Int[np.ndarray, "B I"]
) -> Iterator[tuple[slice, Float[np.ndarray, " b"]]]:
    """AP of one category, block of resamples by block; nan where nothing of it is to be found."""
    matches, truth = ap.matches, ap.truth
    own = np.flatnonzero(matches.category == category)
    own = own[np.argsort(-matches.score[own], kind="stable")]
    sought = (truth.category == category) & ~matches.truth_ignored[0]
    if not sought.any():
        return
    per_image = np.bincount(truth.image[sought], minlength=len(truth.image_ids))
    step = max(1, BLOCK // max(len(own), len(RECALLS)))
    for start in range(0, len(weights), step):
        rows = slice(start, min(start + step, len(weights)))
        present = weights[rows] @ per_image
        drawn = weights[rows][:, matches.image[own]]
        area = np.zeros(len(present))
        for t in range(len(THRESHOLDS)):
            counted = ~matches.ignored[0, t, own]
            at = np.flatnonzero(matches.hit[0, t, own] & counted)
            seen = np.cumsum(np.where(counted, drawn, 0), axis=1)[:, at]
            right = np.cumsum(drawn[:, at], axis=1)
            area += _mean_precision(right, seen, present)
        yield rows, np.where(present > 0, area / len(THRESHOLDS), np.nan)


def _mean_precision(
    right: Int[np.ndarray, "b M"], seen: Int[np.ndarray, "b M"], present: Int[np.ndarray, " b"]
) -> Float[np.ndarray, " b"]:
    """Mean over the 101 recalls of the best precision at or beyond each.

    Args:
        right: hits up to and with each hit, falling score.
        seen: counted detections up to there.
        present: annotations to be found.
    """
    B, M = right.shape
    if not M:
        return np.zeros(B)
    precision = right / (seen + np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # Where a hit was not drawn (weight 0) it repeats the one before, which does no harm.
    needed = _needed(present)
    # One search for all resamples: each row's counts are moved above those of the rows before.
    lift = (np.arange(B) * (int(right.max()) + int(present.max()) + 2))[:, None]
    at = np.searchsorted((right + lift).ravel(), (needed + lift).ravel()).reshape(B, -1)
    at -= np.arange(B)[:, None] * M
    reached = np.take_along_axis(best, at.clip(max=M - 1), axis=1)
    return np.where(at < M, reached, 0.0).mean(1)


def _needed(present: Int[np.ndarray, " b"]) -> Int[np.ndarray, "b 101"]:
    """How many true positives each of the 101 recalls needs, by the division that the evaluator makes."""
    counts, inverse = np.unique(present, return_inverse=True)
    table = np.stack(
        [np.searchsorted(np.arange(n + 1) / max(int(n), 1), RECALLS, side="left") for n in counts]
    )
    return table[inverse]


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
    """

    titles: tuple[str, ...]
    evaluations: tuple[Evaluation, ...]
    oks: Float[np.ndarray, "E N"]
    intervals: tuple[Interval, ...]
    differences: tuple[str, ...]

    def gained(self, a: int = 0, b: int = -1) -> Int[np.ndarray, " M"]:
        """Instances not found in epoch a and found in epoch b, the largest change first."""
        return self._sorted((self.oks[a] < FOUND) & (self.oks[b] >= FOUND), self.oks[a] - self.oks[b])

    def lost(self, a: int = 0, b: int = -1) -> Int[np.ndarray, " M"]:
        """Instances found in epoch a and not in epoch b, the largest change first."""
        return self._sorted((self.oks[a] >= FOUND) & (self.oks[b] < FOUND), self.oks[b] - self.oks[a])

    def most_changed(self, a: int = 0, b: int = -1, count: int = 20) -> Int[np.ndarray, " M"]:
        """Instances whose OKS changed most, in either direction."""
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
        mark = f" NOT COMPARABLE, protocols differ ({self.differences[0]})." if self.differences else ""
        return (
            f"{self.titles[0]} to {self.titles[-1]}: AP {first:.3f} -> {last:.3f}, {interval}{luck}; "
            f"{len(self.gained())} instances gained, {len(self.lost())} lost.{mark} "
            f"Protocol: {self.evaluations[-1].protocol.text()}."
        )

    def plot(self) -> Figure:
        """AP and AR over the epochs, with the interval of each change from the first."""
        import plotly.graph_objects as go

        from workbench.figures import RUN_COLOURS, new_figure

        figure = new_figure(self.summary(), x="epoch", y="AP, AR (0 to 1)")
        values = {name: self._values(name) for name in ("AP", "AR")}
        for (name, value), colour in zip(values.items(), RUN_COLOURS, strict=False):
            spread = {}
            if name == "AP" and self.intervals:
                base = value[0]
                high = np.array([base, *(base + i.high for i in self.intervals)], np.float32)
                low = np.array([base, *(base + i.low for i in self.intervals)], np.float32)
                spread = {"type": "data", "array": high - value, "arrayminus": value - low}
            figure.add_trace(
                go.Scatter(
                    x=list(self.titles),
                    y=value,
                    error_y=spread or None,
                    name=name if not spread else "AP, 95 % of the change from the first",
                    mode="lines+markers",
                    line={"color": colour},
                    hovertemplate="%{x}: " + name + " %{y:.3f}<extra></extra>",
                )
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
                "low": None if change is None else change.low,
                "high": None if change is None else change.high,
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
            f"{'epoch':<{width}}    AP     AR    change of AP            gained  lost",
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
        return "\n".join(lines)


# Which instances did an epoch gain and lose, and is the change of AP more than luck of the images?


def compare(
    pose_set: PoseSet,
    epochs: Sequence[tuple[str, Predictions]],
    protocols: Sequence[Protocol | None] | None = None,
    *,
    indices: Iterable[int] | None = None,
    area_rule: AreaRule = "annotated",
    sigmas: Sequence[float] | None = None,
    max_dets: int = 20,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Evaluate several epochs on one set and put them side by side.

    Args:
        pose_set: the annotations.
        epochs: title and predictions of each, in the order to show.
        protocols: of each, where known; differences are marked.
        indices: as in evaluate.
        area_rule: as in evaluate.
        sigmas: as in evaluate.
        max_dets: as in evaluate.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: fewer than two epochs, or two of the same title; and what evaluate raises.
    """
    rules = [None] * len(epochs) if protocols is None else list(protocols)
    if len(rules) != len(epochs):
        raise ValueError(f"compare: {len(epochs)} epochs and {len(rules)} protocols")
    chosen = None if indices is None else list(indices)
    evaluations = [
        evaluate(pose_set, found, rule, indices=chosen, area_rule=area_rule, sigmas=sigmas, max_dets=max_dets)
        for (_, found), rule in zip(epochs, rules, strict=True)
    ]
    return comparison_of([title for title, _ in epochs], evaluations, resamples=resamples, seed=seed)


def comparison_of(
    titles: Sequence[str], evaluations: Sequence[Evaluation], *, resamples: int = 1000, seed: int = 0
) -> Comparison:
    """Put finished evaluations of one set side by side; arguments as in compare.

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
    countable = bool(np.isfinite(first.figures["AP"]))
    return Comparison(
        titles=titles,
        evaluations=tuple(evaluations),
        oks=np.stack([np.where(truth.ignored, np.nan, e.oks) for e in evaluations]),
        intervals=tuple(
            paired_bootstrap(first.ap, other.ap, resamples=resamples, seed=seed) for other in evaluations[1:]
        )
        if countable
        else (),
        differences=tuple(
            f"{title}: {what}"
            for title, other in zip(titles[1:], evaluations[1:], strict=True)
            for what in other.protocol.differs_from(first.protocol)
        ),
    )
