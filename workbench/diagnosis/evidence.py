"""Evidence of a diagnosis: poses and what they become when one thing is changed, all from few forward passes.

A `Change` undoes one cause. Changes of the input need a forward pass; changes of how outputs are read, of the
poses, of their scores and of the labels need none. Every measurement is paired: the same instances with the
change and without. `separate` tells several causes at once apart: each alone, and all together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.core import Batch, DecodeOptions, NotAvailable, Outputs, PoseModel, Sample
from workbench.core.finding import Effect
from workbench.core.run import run
from workbench.evaluation.compare import paired_bootstrap
from workbench.evaluation.evaluate import images_of, instance_oks, truth_of
from workbench.evaluation.keypoint_ap import KeypointAP, keypoint_ap
from workbench.evaluation.predict import poses_of
from workbench.evaluation.predictions import Predictions
from workbench.evaluation.protocol import DEFAULT

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.data.pose_set import Instance, PoseSet

Stage = Literal["labels", "weights", "input", "outputs", "poses", "scores"]

# The order in which changes are applied, whatever the order in which they are named.
STAGES: tuple[Stage, ...] = ("weights", "input", "outputs", "poses", "scores", "labels")
NEEDS_FORWARD: tuple[Stage, ...] = ("weights", "input")

# A change counts as a cause undone where the mean OKS rises by so much, and in so many of all resamples.
# A third of a hundred changes is asked at once: a level of .95 would call one of them a cause by chance.
LEAST_GAIN, LEVEL = 0.02, 0.998
# The same of AP, for changes that leave keypoints where they are.
LEAST_AP = 0.02
RESAMPLES = 1000
# Instances of a first look; a change that costs more than this much OKS there is looked at no further.
GLANCE, HOPELESS = 12, 0.0
# Two causes explain the same where the second gives at least this share of the first one's gain.
ALIKE = 0.85
# A last resort is not named where another change, though not certain, gives this share of it.
NEARLY = 0.5
MOST_CAUSES = 5
# Instances up to which their images stay in memory: some 0.3 to 1 MB each.
MOST_SAMPLES = 64
# Sets of outputs that are kept besides those of the model as it is.
MOST_KEPT = 4


@dataclass(frozen=True, eq=False)
class Change:
    """One thing changed, which undoes a cause.

    Attributes:
        cause: that it undoes.
        name: what is changed, in a few words: ``red and blue exchanged``.
        stage: where it acts.
        of: for ``weights``, ``input`` and ``outputs`` from model to model; for ``poses`` and ``scores`` from
            Predictions to Predictions; for ``labels`` from PoseSet to PoseSet.
        fix: what to do, where this change helps; a sentence.
        least: gain of mean OKS (of AP for ``scores``) from which it counts.
        last_resort: it makes up for other causes as well, and is considered where nothing else is left.
        facts: numbers or words that belong to it, for evidence.
    """

    cause: str
    name: str
    stage: Stage
    of: Callable[[Any], Any]
    fix: str = ""
    least: float = LEAST_GAIN
    last_resort: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Measured:
    """Poses with some changes, compared with the annotations.

    Attributes:
        ap: of the evaluator.
        oks: of every annotated instance; nan where nothing is labelled.
        predictions: the poses.
    """

    ap: KeypointAP
    oks: Float[np.ndarray, " G"]
    predictions: Predictions

    @cached_property
    def mean_oks(self) -> float:
        """Over the instances that count."""
        return float(np.nanmean(self.counted)) if len(self.counted) else float("nan")

    @cached_property
    def counted(self) -> Float[np.ndarray, " n"]:
        """OKS of the instances that count; 0 for those without any pose."""
        return np.nan_to_num(self.oks[~self.ap.truth.ignored])

    @property
    def figures(self) -> dict[str, float]:
        """COCO's ten figures."""
        return self.ap.figures


@dataclass(frozen=True)
class Gain:
    """What a change gives, paired.

    Attributes:
        oks: mean OKS with the change less that without.
        low: lower end of its interval.
        high: upper end.
        instances: compared.
        AP: the same of AP; nan where it was not measured.
        AP_low: lower end of its interval of 95 %.
        AP_high: upper end.
    """

    oks: float
    low: float
    high: float
    instances: int
    AP: float = float("nan")
    AP_low: float = float("nan")
    AP_high: float = float("nan")

    def certain(self, change: Change) -> bool:
        """Whether the change undoes something: large enough, and not by chance."""
        if change.stage == "scores":
            return max(change.least, LEAST_AP) <= self.AP and self.AP_low > 0
        return self.oks >= change.least and self.low > 0


def gain(before: Measured, after: Measured, *, with_ap: bool = False, seed: int = 0) -> Gain:
    """The paired difference of two measurements of the same instances.

    Args:
        before: without the change.
        after: with it.
        with_ap: also of AP, which takes longer.
        seed: of the resampling.
    """
    images = before.ap.truth.image[~before.ap.truth.ignored]
    difference = after.counted - before.counted
    _, image = np.unique(images, return_inverse=True)
    count = int(image.max(initial=-1)) + 1
    if not count:
        return Gain(float("nan"), float("nan"), float("nan"), 0)
    # Instances of one image are not independent: images are drawn.
    sums, sizes = np.bincount(image, difference, count), np.bincount(image, minlength=count)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    means = (draws @ sums) / np.maximum(draws @ sizes, 1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    ap: dict[str, float] = {}
    if with_ap:
        interval = paired_bootstrap(before.ap, after.ap, resamples=RESAMPLES // 2, seed=seed)
        ap = {"AP": interval.delta, "AP_low": interval.low, "AP_high": interval.high}
    return Gain(float(difference.mean()), float(low), float(high), len(difference), **ap)


@dataclass(frozen=True, eq=False)
class Forward:
    """Stored outputs of one batch."""

    rows: tuple[int, ...]
    samples: tuple[Sample, ...]
    batch: Batch
    outputs: Outputs


class Evidence:
    """Poses of one model, or of one result file, on some instances of a data set.

    Args:
        pose_set: annotated.
        indices: instances that are looked at.
        model: top-down, None for a result file.
        given: poses of a result file; None for a model.
        flip: average with the mirrored image.
        sigmas: OKS constants; the skeleton's by default.
        batch_size: crops in one forward pass.
        stepped: called before every forward pass; what it raises ends the measurement.
    """

    def __init__(
        self,
        pose_set: PoseSet,
        indices: Sequence[int],
        model: PoseModel | None = None,
        given: Predictions | None = None,
        *,
        flip: bool = False,
        sigmas: Sequence[float] | None = None,
        batch_size: int = 16,
        stepped: Callable[[], None] = lambda: None,
    ) -> None:
        self.pose_set, self.model, self.given = pose_set, model, given
        self.indices = tuple(indices)
        self.flip, self.batch_size, self.stepped = flip, batch_size, stepped
        K = len(pose_set.skeleton)
        self.sigmas = tuple(sigmas or pose_set.skeleton.sigmas) or (0.07,) * K
        area = np.array([pose_set.instances[i].area for i in self.indices])
        self.area_rule: Any = "annotated" if np.isfinite(area).all() else "box"
        self._forwards: dict[Any, list[Forward]] = {}
        self._measured: dict[Any, Measured] = {}
        self._samples: dict[int, Sample] = {}
        self.forward_passes = 0  # of one crop

    @property
    def glance(self) -> tuple[int, ...]:
        """The first few instances, spread over the set as all of them are."""
        step = max(1, len(self.indices) // GLANCE)
        return self.indices[::step][:GLANCE]

    def protocol(self) -> str:
        """By which rules everything here is measured, in one line."""
        what = "poses of the result file" if self.model is None else "annotation boxes, no flip"
        images = len({self.pose_set.instances[i].image_id for i in self.indices})
        sigmas = "" if self.pose_set.skeleton.sigmas else ", sigma .07 for every keypoint"
        count, every = len(self.indices), len(self.pose_set.labelled)
        of = f"{count}" if count == every else f"{count} of {every}"
        return f"{what}, {self.pose_set.name}, {of} annotated instances on {images} images{sigmas}"

    def measure(self, changes: Iterable[Change] = (), *, glance: bool = False) -> Measured:
        """The poses with some changes, evaluated; computed once for each set of changes.

        Args:
            changes: of different causes.
            glance: on the first few instances only.
        """
        chosen = sorted(changes, key=lambda change: STAGES.index(change.stage))
        key = (*chosen, glance)
        if key not in self._measured:
            self._measured[key] = self._measure(chosen, self.glance if glance else self.indices)
        return self._measured[key]

    def poses(self, changes: Sequence[Change] = (), rows: Sequence[int] | None = None) -> Predictions:
        """The poses with some changes, not evaluated.

        Args:
            changes: in the order in which they act.
            rows: instances; all by default.
        """
        rows = self.indices if rows is None else rows
        if self.given is not None:
            found = self._given(rows)
        else:
            found = self._predicted(changes, rows)
        for change in changes:
            if change.stage in ("poses", "scores"):
                found = change.of(found)
        return found

    def forwards(self, changes: Sequence[Change] = (), rows: Sequence[int] | None = None) -> list[Forward]:
        """Stored batches and outputs of the model with some changes of weights and input."""
        rows = self.indices if rows is None else rows
        acting = [change for change in changes if change.stage in NEEDS_FORWARD]
        whole = (*acting, self.indices)
        if whole in self._forwards:
            wanted = set(rows)
            return [one for one in self._forwards[whole] if wanted.issuperset(one.rows)]
        key = (*acting, tuple(rows))
        if key not in self._forwards:
            made = self._forward(acting, rows)
            # Outputs as the model gives them are read often, those of a change a few times in a row.
            for old in [k for k in self._forwards if len(k) > 1][:-MOST_KEPT]:
                del self._forwards[old]
            self._forwards[key] = made
        return self._forwards[key]

    def _forward(self, acting: Sequence[Change], rows: Sequence[int]) -> list[Forward]:
        model: Any = self.model
        for change in acting:
            model = change.of(model)
        made, glance = [], set(self.glance)
        # The glance is a batch of its own, so that both can be cut from one pass.
        parts = [[i for i in rows if i in glance], [i for i in rows if i not in glance]]
        for part in parts:
            for start in range(0, len(part), self.batch_size):
                self.stepped()
                chunk = part[start : start + self.batch_size]
                samples = tuple(map(self._sample, chunk))
                seen = run(model, samples, flip=self.flip)
                self.forward_passes += len(chunk)
                made.append(Forward(tuple(chunk), samples, seen.batch, seen.outputs))
        return made

    def _sample(self, index: int) -> Sample:
        """An instance with its image, read once where there are few."""
        if len(self.indices) > MOST_SAMPLES:
            return self.pose_set.sample(index)
        if index not in self._samples:
            self._samples[index] = self.pose_set.sample(index)
        return self._samples[index]

    def _predicted(self, changes: Sequence[Change], rows: Sequence[int]) -> Predictions:
        model: Any = self.model
        for change in changes:
            if change.stage in (*NEEDS_FORWARD, "outputs"):
                model = change.of(model)
        parts = []
        for one in self.forwards(changes, rows):
            poses = model.decode(one.outputs, one.batch, DecodeOptions())
            parts.append(poses_of(one.samples, poses, DEFAULT, self.pose_set))
        return Predictions.joined(parts)

    def _given(self, rows: Sequence[int]) -> Predictions:
        assert self.given is not None
        if len(rows) == len(self.indices):
            return self.given
        images = {self.pose_set.instances[i].image_id for i in rows}
        return self.given.take(np.flatnonzero(np.isin(self.given.image_id, list(images))))

    def without_others(self, kept: Sequence[Instance]) -> Effect:
        """AP that comes back when annotations are left out, the poses as they are.

        Args:
            kept: instances of the set that stay.
        """
        before, part = self.measure(), only(self.pose_set, kept)
        place = {id(instance): row for row, instance in enumerate(part.instances)}
        chosen = [self.pose_set.instances[i] for i in self.indices]
        rows = [place[id(instance)] for instance in chosen if id(instance) in place]
        found, truth = before.predictions, truth_of(part, self.area_rule, rows)
        if self.given is not None:
            truth = truth_of(part, self.area_rule).on_images(images_of(self.pose_set, self.indices))
        elif found.annotation_id is not None:
            ids = [part.instances[row].annotation_id for row in rows]
            found = found.take(np.flatnonzero(np.isin(found.annotation_id, ids)))
        after = keypoint_ap(truth, found.detections(), self.sigmas)
        delta, low, high = after.figures["AP"] - before.figures["AP"], float("nan"), float("nan")
        try:
            interval = paired_bootstrap(before.ap, after, resamples=RESAMPLES // 2, seed=0)
            low, high = interval.low, interval.high
        except ValueError:
            pass  # an image without any annotation left: no resample of the same images
        return Effect("AP", delta, low, high, self.protocol())

    def _measure(self, changes: Sequence[Change], rows: Sequence[int]) -> Measured:
        pose_set = self.pose_set
        for change in changes:
            if change.stage == "labels":
                pose_set = change.of(pose_set)
        found = self.poses(changes, rows)
        truth = truth_of(pose_set, self.area_rule, rows)
        if self.given is not None:
            truth = truth_of(pose_set, self.area_rule).on_images(images_of(pose_set, rows))
        result = keypoint_ap(truth, found.detections(), self.sigmas)
        return Measured(result, instance_oks(found, result), found)


@dataclass(frozen=True, eq=False)
class Separated:
    """Which changes undo something, and how much each gives.

    Attributes:
        base: without any change.
        chosen: the changes that undo something, in the order of their gain.
        alone: gain of every change that was measured, alone.
        last: gain of each chosen change when all other chosen ones are made already.
        together: gain of all chosen changes; None where none was chosen.
        alike: for a chosen change the others that explain the same.
        failed: changes that could not be measured, and why.
    """

    base: Measured
    chosen: tuple[Change, ...]
    alone: Mapping[Change, Gain]
    last: Mapping[Change, Gain]
    together: Gain | None
    alike: Mapping[Change, tuple[Change, ...]]
    failed: Mapping[Change, str]

    def promises(self, change: Change) -> bool:
        """Whether a change gave at least half of what counts, so that more instances may decide."""
        found = self.alone.get(change)
        return change in self.chosen or (found is not None and found.oks >= change.least / 2)


class Separation:
    """The search for the changes that undo something, the one that gives most first.

    Args:
        evidence: of the poses.
        changes: all that are tried.
        stepped: called before every measurement; what it raises ends the search.
    """

    def __init__(
        self, evidence: Evidence, changes: Sequence[Change], stepped: Callable[[], None] = lambda: None
    ) -> None:
        self.evidence, self.changes, self.stepped = evidence, tuple(changes), stepped
        self.alone: dict[Change, Gain] = {}
        self.failed: dict[Change, str] = {}
        self.alike: dict[Change, tuple[Change, ...]] = {}

    def result(self) -> Separated:
        """Each change alone; then the best on top of those chosen before, until none adds anything."""
        base = self.evidence.measure()
        chosen: list[Change] = []
        while len(chosen) < MOST_CAUSES:
            gains = self._gains(chosen)
            able = {i: g for i, (c, g) in enumerate(gains) if g.certain(c)}
            able = {i: g for i, g in able.items() if not gains[i][0].last_resort} or _last_resorts(
                able, gains
            )
            if not able:
                break
            best = max(able, key=lambda i: _size(gains[i][0], able[i]))
            change, found = gains[best]
            rivals = [
                c
                for c, g in gains
                if c.cause != change.cause and g.certain(c) and _size(c, g) >= ALIKE * _size(change, found)
            ]
            chosen.append(change)
            self.alike[change] = self._adding_nothing(chosen, rivals)
        chosen, last = self._needed(chosen)
        together = None
        if chosen:
            together = gain(base, self.evidence.measure(chosen), with_ap=True)
        chosen.sort(key=lambda change: -_size(change, self.alone.get(change, last[change])))
        alone = {c: gain(base, self.evidence.measure([c]), with_ap=True) for c in chosen}
        return Separated(
            base, tuple(chosen), {**self.alone, **alone}, last, together, self.alike, self.failed
        )

    def _gains(self, chosen: Sequence[Change]) -> list[tuple[Change, Gain]]:
        """The gain of every change on top of the chosen ones, where it is not hopeless at a first look."""
        taken = {change.cause for change in chosen}
        found = []
        for change in self.changes:
            if change.cause in taken or change in self.failed:
                continue
            self.stepped()
            try:
                measured = self._gain(chosen, change)
            except (ValueError, LookupError, RuntimeError) as error:
                self.failed[change] = str(error)
                continue
            if not chosen:
                self.alone[change] = measured
            found.append((change, measured))
        return found

    def _gain(self, chosen: Sequence[Change], change: Change) -> Gain:
        evidence = self.evidence
        if change.stage in NEEDS_FORWARD and len(evidence.indices) > 2 * GLANCE:
            first = gain(
                evidence.measure(chosen, glance=True), evidence.measure([*chosen, change], glance=True)
            )
            if first.oks < HOPELESS:
                return first
        before, after = evidence.measure(chosen), evidence.measure([*chosen, change])
        return gain(before, after, with_ap=change.stage == "scores")

    def _adding_nothing(self, chosen: Sequence[Change], rivals: Sequence[Change]) -> tuple[Change, ...]:
        """Of other causes that gave as much, those that give nothing once this one is undone."""
        same: dict[str, Change] = {}
        for rival in rivals:
            if not self._gain(chosen, rival).certain(rival):
                same.setdefault(rival.cause, rival)
        return tuple(same.values())

    def _needed(self, chosen: Sequence[Change]) -> tuple[list[Change], dict[Change, Gain]]:
        """The chosen changes without those that the others made needless; what each adds as the last."""
        held = list(chosen)
        last: dict[Change, Gain] = {}
        for change in list(held):
            others = [c for c in held if c is not change]
            added = gain(
                self.evidence.measure(others), self.evidence.measure([*others, change]), with_ap=True
            )
            if others and not added.certain(change):
                held.remove(change)
            else:
                last[change] = added
        return held, last


def _last_resorts(able: dict[int, Gain], gains: Sequence[tuple[Change, Gain]]) -> dict[int, Gain]:
    """Those of them beside which no other change comes near: else more instances have to decide."""
    most = max((_size(c, g) for c, g in gains if not c.last_resort and c.stage != "scores"), default=0.0)
    return {i: g for i, g in able.items() if most < NEARLY * g.oks}


def _size(change: Change, found: Gain) -> float:
    return found.AP if change.stage == "scores" else found.oks


def spread(pose_set: PoseSet, count: int | None) -> list[int]:
    """So many labelled instances, spread over the set; all where there are no more.

    Raises:
        NotAvailable: none is labelled.
    """
    labelled = list(pose_set.labelled)
    if not labelled:
        raise NotAvailable(f"{pose_set.name}: no instance is annotated, so nothing can be compared")
    if count is None or count >= len(labelled):
        return labelled
    places = np.linspace(0, len(labelled) - 1, count).round().astype(int)
    return [labelled[i] for i in np.unique(places)]


def only(pose_set: PoseSet, instances: Sequence[Instance]) -> PoseSet:
    """The set with some of its annotations alone; of two with one id the first stays."""
    ids = {instance.annotation_id for instance in instances}
    entries: dict[Any, Any] = {}
    for entry in pose_set.raw.get("annotations", ()):
        if entry.get("id") in ids:
            entries.setdefault(entry["id"], entry)
    raw = {**pose_set.raw, "annotations": list(entries.values())}
    return dataclasses.replace(pose_set, instances=tuple(instances), raw=raw)


def with_points(predictions: Predictions, keypoints: Float[np.ndarray, "N K 2"]) -> Predictions:
    """The same poses with other keypoints, (x, y) in image pixels."""
    return dataclasses.replace(predictions, keypoints=keypoints)
