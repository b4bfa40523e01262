"""Sweep over variants of one protocol: COCO figures of each, and its difference in AP from the reference."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Groups, NotAvailable, Outputs
from workbench.core.errors import ReadingNote
from workbench.core.finding import WITH_FLIP_TEST, Effect, Finding, Measurement
from workbench.core.report import Report, counted, plain, signed_text
from workbench.core.statistics import standard_error
from workbench.decoding.grouping import Detections, detect, group
from workbench.decoding.grouping.algorithm import NothingFinite
from workbench.evaluation import keypoint_ap
from workbench.evaluation.ablation.variants import FLIPPED, REFERENCE, TagMaps, Variant
from workbench.evaluation.evaluate import truth_of
from workbench.evaluation.oks import paired_oks
from workbench.evaluation.predict import Looked, category_of, forward_passes, passes_over, predictions_of
from workbench.evaluation.protocol import protocol_of
from workbench.models.bottom_up import Aggregation, MapCache, People

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.core.capabilities import BottomUpModel
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.ground_truth import GroundTruth


# AP that two evaluations of one protocol may differ by: a few images more or less.
NEAR = 0.01
# Undoing a mistake must give back this much AP, and raise the OKS of the annotated people by so many standard
# errors, before the pipeline is said to have it.
LEAST_GAIN, LEAST_ERRORS = 0.03, 3.0
# A gain that so many standard errors more would make large enough is left open.
UNDECIDED_ERRORS = 2.0
# OKS of a person that changes by no more is that of the same pose.
SAME_POSE = 0.05


@dataclass(frozen=True)
class Outcome:
    """One variant's figures.

    Attributes:
        name: of the variant.
        about: what it changes.
        figures: the ten COCO figures by name; nan where there is no such ground truth.
        people: found in all images.
        several: it changes more than one thing on top of another variant.
        undoes: the mistake that it undoes; "" for none.
        beside: name of the variant with which it is compared then.
        oks: of every annotated person, the nearest found one's; None where it was not asked for.
        counts: what it undoes changes who is found rather than where.
    """

    name: str
    about: str
    figures: Mapping[str, float]
    people: int
    several: bool = False
    undoes: str = ""
    beside: str = ""
    oks: Float[np.ndarray, " Q"] | None = None
    counts: bool = False

    @property
    def ap(self) -> float:
        """AP over OKS .5 to .95."""
        return self.figures["AP"]


@dataclass(frozen=True)
class Suspect:
    """An error of the pipeline, with the AP that undoing it gave back.

    Attributes:
        fault: in words.
        undone_by: name of the variant.
        before: AP with the mistake.
        after: AP without it.
        oks_gain: mean over the annotated people; nan where the mistake is one of ranking alone.
        oks_error: its standard error; nan where oks_gain is.
        beside: the variant that has the mistake; the reference leaves out what another one adds.
    """

    fault: str
    undone_by: str
    before: float
    after: float
    oks_gain: float
    oks_error: float
    beside: str = REFERENCE

    @property
    def is_aside(self) -> bool:
        """Whether it is a mistake in the flip test, and the reference has no flip test."""
        return self.beside == FLIPPED

    @property
    def gain(self) -> float:
        """AP given back."""
        return self.after - self.before

    @classmethod
    def of(cls, outcome: Outcome, beside: Outcome) -> Suspect | None:
        """The error that an outcome undid; None where nothing is gained, or the gain may be chance.

        Of fewer than two people the scatter is unknown, and so whether the gain is chance.

        Args:
            outcome: of the variant that undoes the error.
            beside: of what it is compared with.
        """
        gain = outcome.ap - beside.ap
        if not gain >= LEAST_GAIN or outcome.oks is None or beside.oks is None or not len(outcome.oks):
            return None
        each = outcome.oks - beside.oks
        mean, error = float(each.mean()), standard_error(each)
        # The same people at other ranks: no pose changed, and AP alone tells.
        if np.allclose(each, 0, atol=1e-9) or _fewer_twice(outcome, beside, each):
            mean = error = float("nan")
        elif not mean >= LEAST_ERRORS * error:
            return None
        return cls(outcome.undoes, outcome.name, beside.ap, outcome.ap, mean, error, beside.name)

    def text(self) -> str:
        """The finding and its evidence."""
        undone = f"with {self.undone_by.removeprefix('with ')}"
        text = f"{self.fault}: {undone} AP {self.before:.3f} becomes {self.after:.3f}"
        if np.isnan(self.oks_gain):
            return text
        text += f", OKS of the annotated people {signed_text(self.oks_gain)}"
        return f"{text} (standard error {self.oks_error:.3f})"

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return plain({**vars(self), "gain": self.gain, "text": self.text()})

    def finding(self) -> Finding:
        """The fault as a finding; undoing it is the intervention that measured its effect."""
        oks = Measurement("gain in OKS of the annotated people", self.oks_gain, expected=0.0)
        error = Measurement("its standard error", self.oks_error)
        return Finding(
            cause=self.fault,
            evidence=self.text(),
            fix=f"change the pipeline as the variant {self.undone_by!r} does",
            numbers=(oks, error),
            effect=Effect(f"AP{WITH_FLIP_TEST}" if self.is_aside else "AP", self.gain),
            refuted_by="the same sweep on other images finds no gain",
            confidence="proved",
        )


def _fewer_twice(outcome: Outcome, beside: Outcome, each: Float[np.ndarray, " Q"]) -> bool:
    """Whether the poses stay, and at most half as many people are found beyond the annotated ones."""
    beyond = [max(one.people - len(each), 0) for one in (outcome, beside)]
    return outcome.counts and bool(np.abs(each).max() <= SAME_POSE) and 2 * beyond[0] < beyond[1]


def _people(outcome: Outcome) -> str:
    """How many annotated people a measurement rests on."""
    return counted(0 if outcome.oks is None else len(outcome.oks), "annotated person", "annotated people")


def _images(count: int) -> str:
    return "one image" if count == 1 else f"each of {counted(count, 'image')}"


@dataclass(frozen=True)
class Ablation(Report):
    """A sweep over variants of one protocol.

    Attributes:
        title: of the model.
        question: what was varied.
        data: of the data set.
        reference: what the others are compared with.
        variants: in the order of the sweep.
        images: looked at.
        forward_passes: looks at an image; one each, whatever the number of variants.
        network_calls: inputs that the network was given: mirrored ones and other scales count as well.
        protocol: the rules of the reference, in one line.
        explained: errors that are not suspected: undoing them gives nothing back once another one is undone.
    """

    title: str
    question: str
    data: str
    reference: Outcome
    variants: tuple[Outcome, ...]
    images: int
    forward_passes: int
    network_calls: int
    protocol: str = ""
    explained: frozenset[str] = frozenset()

    def delta(self, outcome: Outcome) -> float:
        """Difference in AP from the reference."""
        return outcome.ap - self.reference.ap

    def nearest_to(self, ap: float) -> Outcome:
        """The variant, the reference included, whose AP is nearest to a given AP."""
        return min((self.reference, *self.variants), key=lambda outcome: abs(outcome.ap - ap))

    def match(self, ap: float) -> tuple[Outcome, bool]:
        """The variant whose AP is nearest to a given AP, and whether it is near enough to explain it.

        Near is within a hundredth of AP. Where the nearest one is farther, none of the variants explains the
        figure that was seen.
        """
        nearest = self.nearest_to(ap)
        return nearest, bool(abs(nearest.ap - ap) <= NEAR)

    @property
    def suspects(self) -> list[Suspect]:
        """Errors whose undoing gives AP back, the largest gain first, each by its best variant.

        Those of a flip test that the reference does not use come last: they cost its AP nothing.
        """
        by_name = {outcome.name: outcome for outcome in (self.reference, *self.variants)}
        found: dict[str, Suspect] = {}
        for outcome in self.variants:
            beside = by_name.get(outcome.beside)
            if not outcome.undoes or beside is None or outcome.undoes in self.explained:
                continue
            suspect = Suspect.of(outcome, beside)
            if suspect is not None and suspect.gain > getattr(found.get(outcome.undoes), "gain", 0.0):
                found[outcome.undoes] = suspect
        return sorted(found.values(), key=lambda suspect: (suspect.is_aside, -suspect.gain))

    @property
    def undecided(self) -> frozenset[str]:
        """Errors whose undoing gains AP or OKS, or may gain it, though on these images it may be chance."""
        found = set()
        by_name = {outcome.name: outcome for outcome in (self.reference, *self.variants)}
        for outcome in self.variants:
            beside = by_name.get(outcome.beside)
            if not outcome.undoes or beside is None or outcome.undoes in self.explained:
                continue
            if Suspect.of(outcome, beside) is not None:
                continue
            each = np.zeros(1) if outcome.oks is None or beside.oks is None else outcome.oks - beside.oks
            gained = float(each.mean()) if len(each) else 0.0
            if gained > 0:
                error = standard_error(each)
                gained = gained + UNDECIDED_ERRORS * error if np.isfinite(error) else np.inf
            if max(outcome.ap - beside.ap, gained) >= LEAST_GAIN:
                found.add(outcome.undoes)
        return frozenset(found)

    def _faults_text(self) -> str:
        tried = len({outcome.undoes for outcome in self.variants if outcome.undoes})
        own = [suspect.text() for suspect in self.suspects if not suspect.is_aside]
        aside = [suspect.text() for suspect in self.suspects if suspect.is_aside]
        found = f"found: {'; perhaps '.join(own)}" if own else ""
        if aside:
            found = found or "none of the mistakes that were tried costs it AP"
            found += f"; in the flip test, which these rules do not use: {'; perhaps '.join(aside)}"
        found = found or f"none of the {tried} mistakes that were tried is found"
        if not own and (left_open := sorted(self.undecided)):
            found += f"; not decided with {_people(self.reference)}: {', '.join(left_open)}"
        return found

    def summary(self) -> str:
        whose = f"{self.title} on {self.data}" if self.title else self.data
        text = f"{whose}: AP {self.reference.ap:.3f} by the reference rules"
        if not self.reference.people:
            text += ", which find no people"
        if any(outcome.undoes for outcome in self.variants):
            return f"{text}; {self._faults_text()} ({_images(self.images)})"
        losses = sorted((o for o in self.variants if not o.several), key=self.delta)
        if losses and self.delta(losses[0]) < 0:
            worst = ", ".join(
                f"{o.name} {signed_text(self.delta(o))}" for o in losses[:3] if self.delta(o) < 0
            )
            text += f"; the largest losses are {worst}"
        gains = [o for o in reversed(losses) if self.delta(o) > 0][:1]
        text += "".join(f"; {o.name} gains {signed_text(self.delta(o))}" for o in gains)
        return f"{text} ({len(self.variants)} variants from one forward pass over {_images(self.images)})"

    def plot(self) -> Figure:
        """AP of every variant, and the difference from the reference."""
        from workbench.figures import FINDING_COLOUR, QUIET_COLOUR
        from workbench.figures.bars import Bars, bars_figure

        outcomes = (self.reference, *self.variants)
        deltas = np.array([self.delta(outcome) for outcome in outcomes])
        reach = max(float(np.nanmax(np.abs(deltas), initial=0)), 0.01) * 1.1
        # A hundredth of AP: below it, a few images more or less decide.
        colours = [FINDING_COLOUR if delta < -0.01 else QUIET_COLOUR for delta in deltas]
        notes = [f"{outcome.about}; {counted(outcome.people, 'person', 'people')}" for outcome in outcomes]
        return bars_figure(
            self.summary(),
            [outcome.name for outcome in outcomes],
            [
                Bars("AP", np.array([o.ap for o in outcomes]), colours, notes=notes, span=(0, 1)),
                Bars("AP beyond the reference", deltas, colours, notes=notes, span=(-reach, reach)),
            ],
        )

    def table(self) -> list[dict[str, Any]]:
        return [self._row(outcome) for outcome in (self.reference, *self.variants)]

    def to_json(self) -> dict[str, Any]:
        return {
            "summary": self.summary(),
            "title": self.title,
            "question": self.question,
            "data": self.data,
            "reference": self._row(self.reference),
            "variants": [self._row(outcome) for outcome in self.variants],
            "forward_passes": self.forward_passes,
            "network_calls": self.network_calls,
            "images": self.images,
            "protocol": self.protocol,
            "suspects": [suspect.facts() for suspect in self.suspects],
            "findings": [suspect.finding().facts() for suspect in self.suspects],
        }

    def _row(self, outcome: Outcome) -> dict[str, Any]:
        return plain(
            {
                "name": outcome.name,
                **outcome.figures,
                "delta": self.delta(outcome),
                "people": outcome.people,
                "about": outcome.about,
            }
        )


# Every variant on every image: one forward pass per image, and its maps are grouped by all variants.


def sweep(
    model: BottomUpModel,
    pose_set: PoseSet,
    variants: Sequence[Variant] | Callable[[Outputs], Sequence[Variant]],
    *,
    image_ids: Iterable[int] | None = None,
    flip: bool = True,
    title: str = "",
    question: str = "",
    seen: Callable[[Looked], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Ablation:
    """AP and AR of every variant, the first one being what the others are compared with.

    Args:
        model: bottom-up; its rules do not matter, those of the variants do.
        pose_set: annotated images.
        variants: with names of their own; or what makes them from the first image's outputs.
        image_ids: of the set; all by default.
        flip: mirror every image as well; variants then choose whether that pass counts.
        title: what to call the model.
        question: what is varied, for titles.
        seen: called with the outputs of every image.
        progress: called with (done, total) images.
        cancelled: asked before each image.

    Raises:
        NotAvailable: the model finds nobody by itself.
        ValueError: names twice, no variant, no instance that counts, or anything that the maps refuse.
    """
    if not isinstance(model, Groups):
        raise NotAvailable(
            "ablation: this model does not find people by itself: it is top-down and has no tags and no "
            "grouping"
        )
    ids: list[int] = []
    chosen: Sequence[Variant] = ()
    people: list[list[People | NothingFinite]] = []
    calls = looks = 0
    for looked in forward_passes(
        model, pose_set, image_ids, flip=flip, progress=progress, cancelled=cancelled
    ):
        if not ids:
            chosen = _named(variants(looked.outputs) if callable(variants) else variants)
            people = [[] for _ in chosen]
        ids.append(looked.image_id)
        if seen is not None:
            seen(looked)
        for view, indices in looks_of(model, looked, chosen, flip):
            if chosen[indices[0]].outputs is None:
                calls += 1 + len(view.outputs.passes)
                looks += 1
            for n, found in zip(indices, read(model, view, [chosen[n] for n in indices]), strict=True):
                people[n].append(found)
    truth = truth_of(pose_set).on_images(ids)
    if truth.ignored.all():
        raise ValueError(
            f"{pose_set.name}: no instance counts in these {counted(len(ids), 'image')}, so there is no AP"
        )
    outcomes = _outcomes(pose_set, truth, ids, chosen, people)
    return Ablation(
        title=title,
        question=question,
        data=pose_set.name,
        reference=outcomes[0],
        variants=tuple(outcomes[1:]),
        images=len(ids),
        forward_passes=looks,
        network_calls=calls,
        protocol=protocol_of(model, flip=flip and next(iter(chosen)).aggregation.flip).text(),
    )


def _outcomes(
    pose_set: PoseSet,
    truth: GroundTruth,
    ids: Sequence[int],
    variants: Sequence[Variant],
    people: Sequence[Sequence[People | NothingFinite]],
) -> list[Outcome]:
    """Figures of each variant; those that read maps without finite numbers are left out and named."""
    category, K = category_of(pose_set), len(pose_set.skeleton)
    outcomes, unread = [], []
    judged = any(variant.undoes for variant in variants)
    for variant, answers in zip(variants, people, strict=True):
        found = [one for one in answers if not isinstance(one, NothingFinite)]
        if len(found) < len(answers):
            unread.append(variant.name)
            continue
        detections = predictions_of(ids, found, category, K).detections()
        figures = keypoint_ap(truth, detections, pose_set.skeleton.sigmas).figures
        outcomes.append(
            Outcome(
                variant.name, variant.about, figures, sum(map(len, found)), variant.several,
                variant.undoes, variant.beside, _oks(pose_set, ids, found) if judged else None,
                variant.counts,
            )
        )  # fmt: skip
    if unread:
        warnings.warn(
            f"not measured, because the maps that they read are not finite: {', '.join(unread)}",
            ReadingNote,
            stacklevel=3,
        )
    return outcomes


def _named(variants: Sequence[Variant]) -> Sequence[Variant]:
    names = [variant.name for variant in variants]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"sweep: expected variants with names of their own, got {names}")
    return variants


def looks_of(
    model: BottomUpModel, looked: Looked, variants: Sequence[Variant], flip: bool
) -> Iterator[tuple[Looked, list[int]]]:
    """Every look at an image that some variants ask for, with the indices of these variants.

    Outputs that variants change are looks of their own, without a forward pass.

    Args:
        model: bottom-up.
        looked: the image as it is.
        variants: all that are to be read.
        flip: mirror every image as well.
    """
    for look in dict.fromkeys(variant.look for variant in variants):
        seen = looked if not look else _exchanged(model, looked, flip)
        mine = [n for n, variant in enumerate(variants) if variant.look == look]
        for change in dict.fromkeys(variants[n].outputs for n in mine):
            width = seen.batch.pixels.shape[-1]
            view = seen if change is None else dataclasses.replace(seen, outputs=change(seen.outputs, width))
            yield view, [n for n in mine if variants[n].outputs == change]


def _exchanged(model: BottomUpModel, looked: Looked, flip: bool) -> Looked:
    """Outputs of the same image with red and blue exchanged."""
    sample = looked.batch.samples[0]
    image = np.ascontiguousarray(sample.image[..., ::-1])
    return Looked(looked.image_id, *passes_over(model, dataclasses.replace(sample, image=image), flip))


def _oks(pose_set: PoseSet, ids: Sequence[int], found: Sequence[People]) -> Float[np.ndarray, " Q"]:
    """For every labelled person the highest OKS with a predicted person; 0 where none was predicted."""
    nearest = []
    for image_id, people in zip(ids, found, strict=True):
        annotated = [pose_set.instances[i] for i in pose_set.labelled_of_image.get(image_id, ())]
        if not annotated:
            continue
        P, Q = len(people), len(annotated)
        truth = np.stack([np.asarray(one.truth, float) for one in annotated])
        area = np.array([one.area for one in annotated], float)
        pairs = np.tile(people.keypoints, (Q, 1, 1)), np.repeat(truth, P, 0), np.repeat(area, P)
        oks = paired_oks(*pairs, np.array(pose_set.skeleton.sigmas)).reshape(Q, P)
        nearest.append(np.nan_to_num(oks).max(1, initial=0.0))
    return np.concatenate(nearest) if nearest else np.zeros(0)


def _enlargement(aggregation: Aggregation) -> tuple[bool, bool, bool]:
    return aggregation.align_corners, aggregation.project, aggregation.inverse_affine


def read(model: BottomUpModel, looked: Looked, variants: Sequence[Variant]) -> list[People | NothingFinite]:
    """The people of one image by each variant; maps and detections that variants share are made once.

    Args:
        model: bottom-up.
        looked: the image's outputs.
        variants: all with the same look at the image.

    Returns:
        of each variant its people, or why it has none to say: it reads maps alone that are not finite.

    Raises:
        NothingFinite: the reference itself has no keypoint with finite maps.
    """
    found: dict[int, People | NothingFinite] = {}
    settings: dict[Aggregation, None] = dict.fromkeys(variant.aggregation for variant in variants)
    cache: MapCache = {}
    size = None
    # Those of one size and rule of enlargement one after the other, and no longer kept than for them.
    for aggregation in sorted(settings, key=_enlargement):
        if _enlargement(aggregation) != size:
            cache.clear()
            size = _enlargement(aggregation)
        maps = model.maps(looked.outputs, looked.batch, 0, aggregation, cache)
        tags = TagMaps(maps.tags, looked.image_id)
        detections: dict[tuple[float, ...], tuple[Detections, ...]] = {}
        for place, variant in enumerate(variants):
            if variant.aggregation != aggregation:
                continue
            rules = variant.grouping
            key = (rules.nms_kernel, rules.top_k, rules.detection_threshold)
            if key not in detections:
                detections[key] = detect(maps.heatmaps, rules)
            try:
                own = maps.tags if variant.tags is None else variant.tags(tags)
                groups = group(maps.heatmaps, own, rules, detections=detections[key])
            except NothingFinite as reason:
                if variant.name == REFERENCE:
                    raise
                found[place] = reason
                continue
            people = People.of(groups, maps.to_image)
            if variant.people is not None and looked.outputs.heatmaps is not None:
                stride = looked.batch.pixels.shape[-1] / looked.outputs.heatmaps.shape[-1]
                people = variant.people(people, stride, looked.batch.to_image[0])
            found[place] = people
    return [found[place] for place in range(len(variants))]
