"""Evidence of a diagnosis: poses and what they become when one thing is changed, all from few forward passes.

A `Change` undoes one cause. Changes of the input need a forward pass; changes of how outputs are read, of the
poses, of their scores and of the labels need none. Every measurement is paired: the same instances with the
change and without. `separate` tells several causes at once apart: each alone, and all together.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.core import Batch, DecodeOptions, NotAvailable, Outputs, PoseModel, Sample
from workbench.core.finding import Effect
from workbench.core.hooks import OnceComputed
from workbench.core.report import counted, ends_text, signed_text
from workbench.core.run import run
from workbench.diagnosis.report import ASSUMED_SIGMA, ASSUMED_SIGMAS
from workbench.evaluation.bootstrap import (
    FEWEST_UNITS,
    no_interval_text,
    paired_bootstrap,
    percentile_interval,
)
from workbench.evaluation.evaluate import images_of, instance_oks, truth_of
from workbench.evaluation.keypoint_ap import KeypointAP, keypoint_ap
from workbench.evaluation.predict import poses_of
from workbench.evaluation.predictions import Predictions
from workbench.evaluation.probes.probe_report import DOUBTLESS
from workbench.evaluation.protocol import DEFAULT, batch_rule

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
# Instances of the first two looks at a change that needs forward passes. It is looked at no further where the
# first one loses more than this much OKS (any, once a cause is undone), or the second one any.
FIRST, GLANCE, LOST = 4, 12, -0.1
# A run of so little OKS has nothing to lose: a change that does not gain at the first look undoes nothing.
NOTHING_TO_LOSE = 0.1
# Poses that have less mean OKS with all changes prove nothing: stray keypoints gain as much.
STRAY = 0.05
# Instances whose outputs are kept: of the model as it is, and of all changes together. Images and input are
# kept of the sample alone, some 1 MB each.
MOST_STORED, MOST_CACHED = 1024, 256


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
        needs_ap: it counts only where AP rises by so much as well, beyond chance; 0 asks for none.
        last_resort: it makes up for other causes as well, and is considered where nothing else is left.
        facts: numbers or words that belong to it, for evidence.
        shown: the files show the cause without any pose: where undoing it gains, it comes before causes that
            gain by making up for it.
        inputs: that the network is given for one instance.
        is_stored: of the sample it is made of outputs that are stored, and takes none.
    """

    cause: str
    name: str
    stage: Stage
    of: Callable[[Any], Any]
    fix: str = ""
    least: float = LEAST_GAIN
    needs_ap: float = 0.0
    last_resort: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    shown: bool = False
    inputs: int = 1
    is_stored: bool = False


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
        low: lower end of its interval; nan where the images are too few for one.
        high: upper end.
        instances: compared.
        AP: the same of AP.
        AP_low: lower end of its interval of 95 %; nan where it was not drawn, which takes longer.
        AP_high: upper end.
        images: the instances are in.
    """

    oks: float
    low: float
    high: float
    instances: int
    AP: float = float("nan")
    AP_low: float = float("nan")
    AP_high: float = float("nan")
    images: int = 0

    def certain(self, change: Change) -> bool:
        """Whether the change undoes something: large enough, and not by chance."""
        if change.stage == "scores":
            return max(change.least, LEAST_AP) <= self.AP and _beyond_chance(self.AP, self.AP_low)
        if change.needs_ap and not (change.needs_ap <= self.AP and _beyond_chance(self.AP, self.AP_low)):
            return False
        return self.oks >= change.least and _beyond_chance(self.oks, self.low)

    def text(self) -> str:
        """``mean OKS +0.031 (+0.022 to +0.040)``."""
        if 0 < self.images < FEWEST_UNITS:
            return f"mean OKS {signed_text(self.oks)} ({no_interval_text(self.images)})"
        return f"mean OKS {signed_text(self.oks)} {ends_text(self.low, self.high)}"

    def by_ap(self, change: Change) -> bool:
        """Whether AP shows it where OKS rises by less, not by chance: for a second look at few changes."""
        return self.oks >= change.least / 2 and self.low > 0 and self.AP >= LEAST_AP and self.AP_low > 0

    def too_few(self) -> bool:
        """Whether the images are too few for an interval, and the loss too small to be beyond doubt."""
        return not np.isfinite(self.low) and self.oks > -DOUBTLESS

    def open(self, change: Change) -> bool:
        """Whether more instances may show that the change undoes something; never of the order of poses."""
        return change.stage != "scores" and self.oks >= change.least / 2 and not self.high < change.least


def _beyond_chance(value: float, low: float) -> bool:
    """Whether a gain is none of chance; without an interval, of few images, a large one alone."""
    return low > 0 or (np.isnan(low) and value > DOUBTLESS)


def gain(
    before: Measured,
    after: Measured,
    *,
    with_ap: bool = False,
    seed: int = 0,
    level: float = LEVEL,
    looked: bool = False,
) -> Gain:
    """The paired difference of two measurements of the same instances.

    Args:
        before: without the change.
        after: with it.
        with_ap: also of AP, which takes longer.
        seed: of the resampling.
        level: of the interval of OKS.
        looked: a look at few instances, by which the search orders what it measures: with the percentiles
            of so few images, which are no interval that may be stated.
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
    low, high = percentile_interval(means, level, count)
    if looked and count > 1:
        low, high = (float(end) for end in np.quantile(means, [(1 - level) / 2, (1 + level) / 2]))
    ap = {"AP": after.figures["AP"] - before.figures["AP"]}
    if with_ap:
        interval = paired_bootstrap(before.ap, after.ap, resamples=RESAMPLES // 2, seed=seed)
        ap = {"AP": interval.delta, "AP_low": interval.low, "AP_high": interval.high}
    return Gain(float(difference.mean()), low, high, len(difference), **ap, images=count)


@dataclass(frozen=True, eq=False)
class Forward:
    """Outputs of one batch."""

    rows: tuple[int, ...]
    samples: tuple[Sample, ...]
    batch: Batch
    outputs: Outputs

    def without_pixels(self) -> Forward:
        """The same without the numbers of images and input, whose shapes stay."""
        empty = [
            dataclasses.replace(s, image=np.broadcast_to(np.zeros(1, np.uint8), s.image.shape))
            for s in self.samples
        ]
        pixels = self.batch.pixels
        batch = dataclasses.replace(
            self.batch, pixels=pixels.new_zeros(1).expand(pixels.shape), samples=tuple(empty)
        )
        return dataclasses.replace(self, samples=tuple(empty), batch=batch)


class Evidence:
    """Poses of one model, or of one result file, on some instances of a data set.

    Every instance is given to the model once for each set of changes that need a forward pass.

    Args:
        pose_set: annotated.
        indices: instances that are looked at.
        model: top-down, None for a result file.
        given: poses of a result file; None for a model.
        flip: average with the mirrored image.
        sigmas: OKS constants; the skeleton's by default.
        batch_size: crops in one forward pass.
        stepped: called before every forward pass; what it raises ends the measurement.
        within: evidence of the same model on some of these instances, whose outputs are used.
        kept: instances for which the backbone's results are kept; these alone by default.

    Attributes:
        backbone: what it gave for the instances that are kept; None where the network has no such part.
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
        within: Evidence | None = None,
        kept: int = 0,
    ) -> None:
        self.pose_set, self.model, self.given = pose_set, model, given
        self.indices = tuple(indices)
        self.flip, self.batch_size, self.stepped = flip, batch_size, stepped
        K = len(pose_set.skeleton)
        self.sigmas = tuple(sigmas or pose_set.skeleton.sigmas) or (ASSUMED_SIGMA,) * K
        area = np.array([pose_set.instances[i].area for i in self.indices])
        self.area_rule: Any = "annotated" if np.isfinite(area).all() else "box"
        self._measured: dict[Any, Measured] = {}
        self._forwards: dict[tuple[Change, ...], list[Forward]] = {} if within is None else within._forwards
        self._samples: dict[int, Sample] = {} if within is None else within._samples
        # Weights behind the backbone are changed without another pass of the backbone.
        most = max(kept, len(self.indices))
        self.backbone = within.backbone if within is not None else _backbone(model, most)
        glance = self.indices[:: max(1, len(self.indices) // GLANCE)][:GLANCE]
        # Batches end where one of these ends, so that each is made of whole batches.
        looks = (glance[:: GLANCE // FIRST], glance, self._half(glance), self.indices)
        self._looks: tuple[tuple[int, ...], ...] = looks if within is None else within._looks

    def with_sigmas(self, sigmas: Sequence[float]) -> Evidence:
        """The same poses, judged with other OKS constants."""
        other = copy.copy(self)
        other.sigmas, other._measured = tuple(sigmas), {}
        return other

    @property
    def first(self) -> tuple[int, ...]:
        """The instances of a first look, spread over the sample."""
        return self._looks[0]

    @property
    def glance(self) -> tuple[int, ...]:
        """The instances of a second look, those of the first among them."""
        return self._looks[1]

    @property
    def half(self) -> tuple[int, ...]:
        """The instances of a third look: half of the sample, those of the second among them."""
        return self._looks[2]

    def _half(self, glance: tuple[int, ...]) -> tuple[int, ...]:
        others = [i for i in self.indices if i not in set(glance)]
        chosen = {*glance, *others[:: 3 if len(others) > 2 * GLANCE else 2]}
        return tuple(i for i in self.indices if i in chosen)

    def protocol(self) -> str:
        """By which rules everything here is measured, in one line."""
        what = "poses of the result file" if self.model is None else "annotation boxes, no flip"
        if self.model is not None and (batch := batch_rule(self.model, self.batch_size)):
            what = f"{what}, {batch}"
        images = len({self.pose_set.instances[i].image_id for i in self.indices})
        sigmas = "" if self.pose_set.skeleton.sigmas else f", {ASSUMED_SIGMAS}"
        count, every = len(self.indices), len(self.pose_set.labelled)
        of = f"{count}" if count == every else f"{count} of {every}"
        seen = f"{of} annotated {'instance' if of == '1' else 'instances'} on {counted(images, 'image')}"
        return f"{what}, {self.pose_set.name}, {seen}{sigmas}"

    def measure(self, changes: Iterable[Change] = (), rows: tuple[int, ...] | None = None) -> Measured:
        """The poses with some changes, evaluated; computed once for each set of changes.

        Args:
            changes: of different causes.
            rows: `first` or `glance`; all instances by default.
        """
        chosen = sorted(changes, key=lambda change: STAGES.index(change.stage))
        key = (tuple(chosen), rows)
        if key not in self._measured:
            self._measured[key] = self._measure(chosen, self.indices if rows is None else rows)
        return self._measured[key]

    def is_measured(self, changes: Iterable[Change]) -> bool:
        """Whether `measure` has these changes on all instances already."""
        return (tuple(sorted(changes, key=lambda change: STAGES.index(change.stage))), None) in self._measured

    def passes_of(self, changes: Iterable[Change]) -> int:
        """Forward passes over all instances that were made with some of these changes and no others."""
        allowed = set(changes)
        made = {acting(chosen) for chosen, rows in self._measured if rows is None}
        return len([key for key in made if key and allowed.issuperset(key)])

    def seen_with(self, change: Change) -> int:
        """How many instances the outputs with this change alone are stored of."""
        return sum(len(one.rows) for one in self._forwards.get(acting([change]), ()))

    def stored(self, changes: Iterable[Change], samples: Sequence[Sample]) -> Outputs | None:
        """Heatmaps or SimCC vectors of samples with some changes; None where some are not stored.

        Args:
            changes: that were made.
            samples: of this evidence's batches.
        """
        import torch

        row_of = {id(sample): row for row, sample in self._samples.items()}
        parts = self._forwards.get(acting(changes), ())
        held = {row: (one.outputs, place) for one in parts for place, row in enumerate(one.rows)}
        found = [held.get(row_of.get(id(sample), -1)) for sample in samples]
        known = [one for one in found if one is not None]
        if len(known) < len(samples):
            return None
        if all(outputs.given() == ("heatmaps",) for outputs, _ in known):
            return Outputs(heatmaps=torch.stack([o.heatmaps[i] for o, i in known if o.heatmaps is not None]))
        if all(outputs.given() == ("simcc",) for outputs, _ in known):
            vectors = [(o.simcc, i) for o, i in known if o.simcc is not None]
            x, y = (torch.stack([both[axis][i] for both, i in vectors]) for axis in (0, 1))
            return Outputs(simcc=(x, y))
        return None

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
        """Batches and outputs of the model with some changes of weights and input; they are kept."""
        key, rows = acting(changes), self.indices if rows is None else rows
        made = self._forwards[key] = self._forwards.pop(key, [])  # the last one used stands last
        wanted = set(rows)
        held = [one for one in made if wanted.issuperset(one.rows)]
        missing = wanted.difference(*(one.rows for one in held))
        for one in self._forward(key, [row for row in rows if row in missing]):
            made.append(one if set(one.rows) <= set(self._looks[-1]) else one.without_pixels())
            held.append(made[-1])
        self._forget()
        return held

    def _forget(self) -> None:
        """Drop outputs of changes, those used least lately first; outputs of the model as it is stay."""
        changed = [key for key in self._forwards if key]
        sizes = [sum(len(one.rows) for one in self._forwards[key]) for key in changed]
        while len(sizes) > 1 and sum(sizes) > MOST_CACHED:
            del self._forwards[changed.pop(0)], sizes[0]

    def _forward(self, changes: Sequence[Change], rows: Sequence[int]) -> Iterator[Forward]:
        model: Any = self.model
        for change in changes:
            model = change.of(model)
        left = list(rows)
        for look in (*map(set, self._looks), set(rows)):
            part, left = [i for i in left if i in look], [i for i in left if i not in look]
            for start in range(0, len(part), self.batch_size):
                self.stepped()
                chunk = part[start : start + self.batch_size]
                samples = tuple(map(self._sample, chunk))
                with self._sharing(changes):
                    seen = run(model, samples, flip=self.flip)
                yield Forward(tuple(chunk), samples, seen.batch, seen.outputs)

    def _sharing(self, changes: Sequence[Change]) -> AbstractContextManager[None]:
        behind = all(change.stage == "weights" for change in changes)
        return self.backbone.reused() if self.backbone is not None and behind else nullcontext()

    def _sample(self, index: int) -> Sample:
        """An instance with its image, read once if it is of the sample."""
        if index not in self._looks[-1]:
            return self.pose_set.sample(index)
        if index not in self._samples:
            self._samples[index] = self.pose_set.sample(index)
        return self._samples[index]

    def _predicted(self, changes: Sequence[Change], rows: Sequence[int]) -> Predictions:
        model: Any = self.model
        for change in changes:
            if change.stage in (*NEEDS_FORWARD, "outputs"):
                model = change.of(model)
        kept, rest = rows[:MOST_STORED], rows[MOST_STORED:]
        parts = []
        for one in chain(self.forwards(changes, kept), self._forward(acting(changes), rest)):
            poses = model.decode(one.outputs, one.batch, DecodeOptions())
            parts.append(poses_of(one.samples, poses, DEFAULT, self.pose_set))
        return Predictions.joined(parts)

    def _given(self, rows: Sequence[int]) -> Predictions:
        assert self.given is not None
        if len(rows) == len(self.indices):
            return self.given
        images = {self.pose_set.instances[i].image_id for i in rows}
        return self.given.take(np.flatnonzero(np.isin(self.given.image_id, list(images))))

    def with_areas_of_boxes(self) -> Effect:
        """AP that comes back when poses are judged by .53 of the boxes' areas, not by the annotated ones."""
        before = self.measure()
        truth = truth_of(self.pose_set, "box", self.indices)
        if self.given is not None:
            truth = truth_of(self.pose_set, "box").on_images(images_of(self.pose_set, self.indices))
        after = keypoint_ap(truth, before.predictions.detections(), self.sigmas)
        interval = paired_bootstrap(before.ap, after, resamples=RESAMPLES // 2, seed=0)
        return Effect("AP", interval.delta, interval.low, interval.high, self.protocol())

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


class Mended(Evidence):
    """The same evidence as if some changes were made for good; measurements are shared with it.

    Args:
        evidence: without them.
        changes: that are made.
    """

    def __init__(self, evidence: Evidence, changes: Sequence[Change]) -> None:
        self.__dict__.update(evidence.__dict__)
        self._plain, self._made = evidence, tuple(changes)
        for change in changes:
            if change.stage == "labels":
                self.pose_set = change.of(self.pose_set)

    def measure(self, changes: Iterable[Change] = (), rows: tuple[int, ...] | None = None) -> Measured:
        return self._plain.measure([*self._made, *changes], rows)

    def poses(self, changes: Sequence[Change] = (), rows: Sequence[int] | None = None) -> Predictions:
        return self._plain.poses([*self._made, *changes], rows)

    def forwards(self, changes: Sequence[Change] = (), rows: Sequence[int] | None = None) -> list[Forward]:
        return self._plain.forwards([*self._made, *changes], rows)


def _backbone(model: PoseModel | None, instances: int) -> OnceComputed | None:
    return None if model is None else OnceComputed.of(model.module, instances)


def acting(changes: Iterable[Change]) -> tuple[Change, ...]:
    """The changes that need a forward pass."""
    return tuple(change for change in changes if change.stage in NEEDS_FORWARD)


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


def check_keypoints(count: int, pose_set: PoseSet, what: str) -> None:
    """Raise NotAvailable where poses have another number of keypoints than the data set."""
    if count != len(pose_set.skeleton):
        raise NotAvailable(
            f"{what} has {counted(count, 'keypoint')} and {pose_set.name} {len(pose_set.skeleton)}, so they "
            "cannot be compared; give a set with the same keypoints"
        )
