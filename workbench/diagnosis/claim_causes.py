"""Causes of figures: what was claimed, or seen, is another checkpoint's, or of other rules or another script.

A result file is scored as evaluators in projects score otherwise, with one departure and with two. A figure
of three digits is met by some of them by chance: what fits is named where this is unlikely, since few were
tried.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable
from workbench.core.finding import Effect, Measurement
from workbench.core.geometry import BOX_SHARE
from workbench.core.report import counted
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut
from workbench.diagnosis.claim_distances import DIAGONAL, distance_figures, torsos
from workbench.diagnosis.evaluation_causes import without_repeated
from workbench.diagnosis.input_budget import EVALUATIONS
from workbench.diagnosis.people_evidence import WHOLE_IMAGES, require_bottom_up, whole_images
from workbench.evaluation.evaluate import truth_of
from workbench.evaluation.ground_truth import GroundTruth
from workbench.evaluation.keypoint_ap import ABSENT, FIGURES, KeypointAP, curves, keypoint_ap
from workbench.evaluation.predictions import Predictions, extent
from workbench.skeletons import SKELETONS

if TYPE_CHECKING:
    from workbench.core.capabilities import BottomUpModel
    from workbench.data.pose_set import PoseSet

# Two figures are one where they differ by less.
SAME = 0.006
# A claim is explained by a step that gives nearly the same AP.
NEAR = 0.01
# How far a figure of all its digits may lie from what is computed here: evaluators round.
ROUNDED = 0.0005
# What fits a claim is named where so many fits are expected by chance, or fewer.
CHANCE = 0.1
# Digits of a figure that lies beside COCO's own from which other rules are recognised by it.
TELLING = 5
# Poses up to which two departures at a time are tried: some hundred evaluations.
MOST_POSES = 5000
# Numbers of images, scores and keypoints at which people cut.
FIRST_IMAGES, LEAST_SCORES, FEWEST_KEYPOINTS = (
    (10, 20, 50, 100, 200, 500, 1000, 2000),
    (0.1, 0.2, 0.3, 0.5),
    (3, 5, 10),
)
# Shares of the images at which sets are cut: a trial, folds of a cross-validation, a training split.
FIRST_SHARES = (0.05, 0.1, 0.2, 0.25, 1 / 3, 0.5, 2 / 3, 0.75, 0.8, 0.9)


class ClaimOfOther(Cause):
    """The expected figure belongs to another checkpoint than this one."""

    name, group, needs = "expected figure is of another model", "evaluation", ("checkpoint", "claim")
    refuted_by = "a published table with this figure for this network and input"

    def test(self, case: Case) -> Answer:
        claim = case.options.claim.get("AP")
        if claim is None:
            raise NotAvailable("no figure was named; add --claim AP=.70")
        identity = case.checkpoint().identity
        if not identity.expected:
            raise NotAvailable(f"no published figure is known for {identity}")
        own, others = _figures_in(identity.expected)
        near = min(own, key=lambda value: abs(value - claim), default=None)
        if near is None:
            raise NotAvailable(f"the published figure of {identity} is not stated as a number")
        if abs(near - claim) < SAME:
            return RuledOut(f"AP {claim:.3f} is what {identity} should reach ({identity.expected})")
        other = next((value for value in others if abs(value - claim) < SAME), None)
        if other is None and claim < near:
            return RuledOut(f"AP {claim:.3f} is below what {identity} should reach ({identity.expected})")
        return self.found(
            f"AP {claim:.3f} is not a figure of {identity}: {identity.expected}",
            fix=f"expect AP {near:.3f} of this checkpoint, or get the one that reached {claim:.3f}",
            numbers=(Measurement("AP claimed", claim), Measurement("AP published for this network", near)),
            confidence="measured" if other is not None else "likely",
            severity="error" if other is not None else "warning",
        )


def _figures_in(text: str) -> tuple[list[float], list[float]]:
    """AP of the network itself, and of others that the text names ("not of this width")."""
    own, others = [], []
    for part in text.split(";"):
        values = [
            float(v)
            for v in re.findall(
                r"(?<![\d.])(?:0?\.\d{2,4}|\d{2}\.\d)(?![\d/])",
                part.partition("(")[0] if "not" not in part else part,
            )
        ]
        values += [float(v) for v in re.findall(r"\), (\d{2}\.\d) with", part)]
        scaled = [v / 100 if v > 1 else v for v in values]
        (others if re.search(r"\bnot\b", part) else own).extend(scaled)
    return own, others


@dataclass(frozen=True)
class Reading:
    """What another evaluator makes of the same poses.

    Attributes:
        names: of its departures from COCO's rules.
        figures: by the names of a claim; ``AP`` is what it calls so.
    """

    names: tuple[str, ...]
    figures: Mapping[str, float]

    def off(self, claims: Mapping[str, float]) -> float:
        """The largest difference from the figures claimed; infinite where one is not known."""
        return max(abs(self.figures.get(name, np.inf) - value) for name, value in claims.items())


class ClaimByOtherRules(Cause):
    """The figure that was seen comes from other rules than COCO's."""

    name, group, level = "figure comes from other rules", "evaluation", "forward"
    needs = ("poses", "data", "claim")
    refuted_by = "the evaluator's code, with COCO's own rules in it"

    def test(self, case: Case) -> Answer:
        claims = {name: value for name, value in case.options.claim.items() if name in FIGURES}
        if not claims:
            raise NotAvailable("no figure was named; add --claim AP=.70")
        evidence = case.measured()
        if evidence.model is not None and len(evidence.indices) < len(case.pose_set().labelled):
            raise NotAvailable("a figure of the whole set needs the whole set; give --level evaluate")
        measured = evidence.measure()
        claimed, own = _in_words(claims), Reading((), measured.figures)
        # Many rules change little: beside COCO's own figure a claim tells them by all of its digits alone.
        is_exact = min(map(_digits, claims.values())) >= TELLING
        if own.off(claims) < (10.0**-TELLING if is_exact else SAME):
            return RuledOut(
                f"{claimed} is what COCO's rules give ({_in_words({n: measured.figures[n] for n in claims})})"
            )
        scored = Scored(measured.predictions, case.pose_set(), tuple(evidence.sigmas), evidence.area_rule)
        alone = list(scored.readings(1))
        fitting, tried = _fitting(claims, alone, exact=True), len(alone)
        if not fitting and len(measured.predictions) <= MOST_POSES:
            case.step()
            together = list(scored.readings(2))
            fitting, tried = _fitting(claims, together, exact=True), tried + len(together)
        if not fitting and own.off(claims) < SAME:
            return RuledOut(f"{claimed} is nearly what COCO's rules give, and none of {tried} ways gives it")
        fitting = fitting or _fitting(claims, alone, exact=False)
        if not fitting:
            nearest = min(alone, key=lambda reading: reading.off(claims))
            return RuledOut(
                f"COCO's rules give {_in_words({n: measured.figures[n] for n in claims})}, the nearest "
                f"of {tried} "
                f"other ways {_in_words({n: nearest.figures.get(n, np.nan) for n in claims})} "
                f"({nearest.names[0]}); none "
                f"gives {claimed} more surely than by chance: figures of four digits, or AP50, AP75 "
                "and AR beside AP, say "
                "more"
            )
        names = [" and ".join(one.names) for one in fitting]
        return self.found(
            f"COCO's rules give {_in_words({n: measured.figures[n] for n in claims})} for these poses, "
            f"and {claimed} is what "
            f"comes out with {_one_of(names)}; {tried} ways were tried",
            fix=f"evaluate with COCO's own rules; {names[0]} is another measure",
            numbers=(
                Measurement("AP by COCO's rules", measured.figures["AP"]),
                *(
                    Measurement(f"with {name}", one.figures["AP"])
                    for name, one in zip(names, fitting, strict=True)
                ),
            ),
            confidence="likely" if len(fitting) == 1 else "possible",
        )


def _in_words(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in figures.items())


def _one_of(names: Sequence[str]) -> str:
    more = f" (or with {'; or with '.join(names[1:4])}, which give the same)" if len(names) > 1 else ""
    return f"{names[0]}{more}"


def _digits(value: float) -> int:
    """Digits behind the point."""
    return len(repr(float(value)).partition(".")[2])


def _fitting(claims: Mapping[str, float], readings: Sequence[Reading], exact: bool) -> list[Reading]:
    """Readings that give what is claimed, nearest first; none where as many would by chance.

    Args:
        claims: figures by name.
        readings: that were tried.
        exact: to all digits of the claim, however many.
    """
    digits = {name: _digits(value) for name, value in claims.items()}
    reach = {
        name: max(0.5 * 10.0 ** -min(n, 6), 0.0 if exact else ROUNDED) * 1.001 for name, n in digits.items()
    }
    if len(readings) * float(np.prod([2 * one for one in reach.values()])) > CHANCE:
        return []
    found = [
        r for r in readings if all(abs(r.figures.get(n, np.inf) - v) <= reach[n] for n, v in claims.items())
    ]
    return sorted(found, key=lambda reading: reading.off(claims))


@dataclass(frozen=True)
class Departure:
    """One thing that an evaluator does otherwise.

    Attributes:
        axis: departures of one axis exclude each other.
        name: in words.
        poses: which of them count; None for all.
        truth: what becomes of the annotations; None for nothing.
        how: arguments of keypoint_ap.
        merged: every category counts as one.
    """

    axis: str
    name: str
    poses: np.ndarray | None = None
    truth: Callable[[GroundTruth], GroundTruth] | None = None
    how: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    merged: bool = False


NAMED = {
    "AP at OKS .5 alone": "AP50",
    "AP at OKS .75 alone": "AP75",
    "large instances alone": "APL",
    "medium instances alone": "APM",
    "AR in place of AP": "AR",
    "AR at OKS .5 alone": "AR50",
    "AR at OKS .75 alone": "AR75",
}
"""What is called AP by mistake -> which of COCO's figures it is."""
SINGLE_IMAGES = "the mean of the AP of single images"


@dataclass(frozen=True)
class Scored:
    """Poses and annotations that are scored in several ways.

    Attributes:
        found: poses.
        pose_set: annotations.
        sigmas: OKS constants.
        area_rule: where areas come from.
    """

    found: Predictions
    pose_set: PoseSet
    sigmas: tuple[float, ...]
    area_rule: Any

    def readings(self, departures: int) -> Iterator[Reading]:
        """What comes out with so many departures from COCO's rules, 1 or 2."""
        truth = truth_of(self.pose_set, self.area_rule)
        every = [*self._of_sigmas(), *self._of_areas(), *self._of_poses(), *self._of_instances(truth)]
        every += self._of_keypoints(truth)
        for made in itertools.combinations(every, departures):
            if len({one.axis for one in made}) < departures:
                continue
            if (result := self._scored(truth, made)) is not None:
                yield Reading(tuple(one.name for one in made), result.figures)
        for made in itertools.combinations(every, departures - 1):
            if (result := self._scored(truth, made)) is None:
                continue
            names = tuple(one.name for one in made)
            for name, figure in NAMED.items():
                yield Reading((name, *names), {**result.figures, "AP": result.figures[figure]})
            if not made:
                yield Reading((SINGLE_IMAGES,), {**result.figures, "AP": _ap_of_images(result)})
                yield from self._of_distances(result, rare=False)
        # Ways that few people use are no more likely than two usual ones at a time.
        if departures > 1 and (result := self._scored(truth, ())) is not None:
            yield from self._of_distances(result, rare=True)

    def _of_distances(self, result: KeypointAP, rare: bool) -> Iterator[Reading]:
        """Mean OKS and PCK of the poses as they are."""
        lengths = self.lengths(result.truth)
        for name, value in distance_figures(result, self.found, lengths, rare).items():
            yield Reading((name,), {**result.figures, "AP": value()})

    def _scored(self, truth: GroundTruth, made: Sequence[Departure]) -> KeypointAP | None:
        """COCO's figures with departures made; None where they cannot be had."""
        how: dict[str, Any] = {"sigmas": self.sigmas}
        rows = np.ones(len(self.found), bool)
        for one in made:
            truth = one.truth(truth) if one.truth is not None else truth
            rows &= True if one.poses is None else one.poses
            how |= one.how
        rows &= np.isin(self.found.image_id, truth.image_ids)
        detections = self.found.take(np.flatnonzero(rows)).detections()
        if any(one.merged for one in made):
            same = np.full(len(detections), truth.category_ids[0])
            detections = dataclasses.replace(detections, category_id=same)
        try:
            return keypoint_ap(truth, detections, how.pop("sigmas"), **how)
        except (ValueError, ZeroDivisionError):
            return None

    def _of_sigmas(self) -> Iterator[Departure]:
        own, K = np.array(self.sigmas), len(self.sigmas)
        known = {
            f"sigmas of {name}": np.array(one.sigmas)
            for name, one in SKELETONS.items()
            if one.sigmas is not None and len(one.sigmas) == K and not np.allclose(one.sigmas, own)
        }
        known |= {
            "sigma .05 for every keypoint": np.full(K, 0.05),
            "sigma .1 for every keypoint": np.full(K, 0.1),
            "sigmas twice as large": 2 * own,
            "sigmas half as large": own / 2,
            "an OKS whose exponent lacks its one half": own / 2**0.5,
            "an OKS whose exponent has its one half twice": own * 2**0.5,
        }
        for name, values in known.items():
            yield Departure("sigmas", name, how={"sigmas": tuple(values)})

    def _of_areas(self) -> Iterator[Departure]:
        for name, area in (
            ("the area of the box", lambda t: t.boxes[:, 2] * t.boxes[:, 3]),
            (".53 of the box's area", lambda t: BOX_SHARE * t.boxes[:, 2] * t.boxes[:, 3]),
            ("the area of the rectangle around the keypoints", _extents),
        ):
            yield Departure("area", name, truth=lambda t, of=area: dataclasses.replace(t, area=of(t)))

    def _of_keypoints(self, truth: GroundTruth) -> Iterator[Departure]:
        """Which keypoints count in the OKS."""

        def counting(given: GroundTruth, least: int) -> GroundTruth:
            points = given.keypoints.copy()
            points[..., 2] = np.where(points[..., 2] >= least, 2, 0)
            # What has no such keypoint is ignored, as COCO ignores instances without keypoints.
            nothing = (points[..., 2] == 0).all(1)
            return dataclasses.replace(given, keypoints=points, ignored=given.ignored | nothing)

        levels = truth.keypoints[~truth.ignored][..., 2]
        if (levels == 0).any():
            yield Departure("keypoints", "unlabelled keypoints counted", truth=lambda t: counting(t, 0))
        if (levels == 1).any():
            yield Departure("keypoints", "visible keypoints alone", truth=lambda t: counting(t, 2))

    def lengths(self, truth: GroundTruth) -> dict[str, np.ndarray]:
        """Of each annotation, in pixels: its image's diagonal, and the distances of its own keypoints.

        Not a number where the annotations state no size, or do not label both keypoints.
        """
        images = [self.pose_set.images[number] for number in truth.image_ids.tolist()]
        diagonals = np.array([np.hypot(i.width or np.nan, i.height or np.nan) for i in images])
        return {DIAGONAL: diagonals[truth.image]} | torsos(truth, self.pose_set.skeleton.keypoints)

    def _of_poses(self) -> Iterator[Departure]:
        found = self.found
        yield Departure("poses", "one detection per image", how={"max_dets": 1})
        order = np.lexsort((-found.score, found.image_id))
        first = order[np.flatnonzero(np.diff(found.image_id[order], prepend=-1))]
        yield Departure("poses", "the best pose of each image alone", np.isin(np.arange(len(found)), first))
        kept = without_repeated(found, np.array(self.sigmas))
        if len(kept) < len(found):
            yield Departure("poses", "OKS NMS at .9", np.isin(np.arange(len(found)), kept))
        for least in LEAST_SCORES:
            if 0 < (above := found.score > least).sum() < len(found):
                yield Departure("poses", f"poses of a score above {least:g} alone", above)

    def _of_instances(self, truth: GroundTruth) -> Iterator[Departure]:
        """Which annotations count."""

        def one_category(given: GroundTruth) -> GroundTruth:
            return dataclasses.replace(
                given,
                category=np.zeros_like(given.category),
                category_ids=given.category_ids[:1],
                category_names=(),
            )

        if len(truth.category_ids) > 1:
            yield Departure("instances", "all categories as one", truth=one_category, merged=True)
        labelled_of = (truth.keypoints[..., 2] > 0).sum(1)
        for least in FEWEST_KEYPOINTS:
            if 0 < (few := truth.ids[labelled_of < least]).size < len(truth):
                name = f"instances of {counted(least, 'keypoint')} or more alone"
                yield Departure("instances", name, truth=lambda t, ids=few: t.without(ids.tolist()))
        crowd = truth.crowd & (labelled_of > 0)
        if crowd.any():
            yield Departure(
                "instances",
                "crowds counted as instances",
                truth=lambda t: dataclasses.replace(
                    t, crowd=np.zeros_like(t.crowd), ignored=t.ignored & ~t.crowd
                ),
            )
        ids = list(self.pose_set.images)
        with_results = set(self.found.image_id.tolist())
        if len(with_results) < len(ids):
            yield Departure(
                "instances", "images with results alone", truth=lambda t: t.on_images(with_results)
            )
        shares = {round(len(ids) * share) for share in FIRST_SHARES}
        for count in sorted({*FIRST_IMAGES, *shares}):
            if 0 < count < len(ids):
                name = f"the first {count} of {counted(len(ids), 'image')} alone"
                yield Departure("instances", name, truth=lambda t, n=count: t.on_images(set(ids[:n])))


def _extents(truth: GroundTruth) -> np.ndarray:
    points = np.where(truth.keypoints[..., 2:] > 0, truth.keypoints[..., :2], np.nan)
    return np.nan_to_num(extent(points))


def _ap_of_images(own: KeypointAP) -> float:
    """The mean of the AP of each image with annotations, every image judged as a set of its own."""
    truth, matches, images = own.truth, own.matches, len(own.truth.image_ids)
    # A cell is one category in one image; detections are sorted by it already.
    of_truth = truth.category * images + truth.image
    of_found = matches.category * images + matches.image
    cells = np.unique(np.r_[of_truth, of_found])
    alone = dataclasses.replace(truth, category=np.searchsorted(cells, of_truth), category_ids=cells)
    single = dataclasses.replace(
        matches,
        category=np.searchsorted(cells, of_found),
        **{name: getattr(matches, name)[:1] for name in ("partner", "hit", "ignored", "truth_ignored")},
    )
    ap = curves(alone, single)[0][..., 0].mean((0, 1))
    held = ap > ABSENT
    count = np.bincount(cells[held] % images, minlength=images)
    total = np.bincount(cells[held] % images, ap[held], minlength=images)
    return float(np.mean(total[count > 0] / count[count > 0])) if held.any() else np.nan


class ClaimByGrouping(Cause):
    """A simplified script: which step, left out or changed, gives the figure that was seen."""

    name, group, level = "simplified inference script", "grouping", "evaluate"
    needs = ("bottom-up model", "data", "claim")
    refuted_by = "the script's own code, with the named step in it"

    def test(self, case: Case) -> Answer:
        claim = case.options.claim.get("AP")
        if claim is None:
            raise NotAvailable(
                "no figure was named; add --claim AP=.42 with the figure that your script gives"
            )
        model = require_bottom_up(
            case.model(), "this is about bottom-up models, whose protocol has many steps"
        )
        steps, images = _swept_for_claim(case, model)
        total = case.evaluation_size()
        of_images = f"{counted(total, 'image')}"
        own = {
            mirrored: steps.pop(("", mirrored))[1] for mirrored in (False, True) if ("", mirrored) in steps
        }
        with_it = "with the mirrored pass" + f", estimated from {counted(images, 'image')}" * (images < total)
        rules = f"the model's own rules give AP {own[False]:.3f}"
        if True in own:
            rules += f", and {own[True]:.3f} {with_it}"
        found = [
            (f"{name} ({with_it})" if mirrored else name, about, ap)
            for (name, mirrored), (about, ap) in steps.items()
        ]
        name, about, ap = min(found, key=lambda one: abs(one[2] - claim))
        nearest = min(own.values(), key=lambda value: abs(value - claim))
        if abs(ap - claim) > NEAR or abs(nearest - claim) <= max(abs(ap - claim), SAME):
            return RuledOut(
                f"{rules} on {of_images}, and no single step changes it to {claim:.3f} (nearest {name}: "
                f"{ap:.3f})"
            )
        return self.found(
            f"with {name} ({about}) AP is {ap:.3f} on {of_images}, as claimed; {rules}",
            fix=f"follow the model's own rules in this step, where the script has: {name} ({about})",
            effect=Effect("AP", nearest - ap, protocol=f"{case.pose_set().name}, {of_images}"),
            numbers=(Measurement("AP claimed", claim), Measurement(f"AP with {name}", ap)),
            confidence="likely",
        )


def _swept_for_claim(
    case: Case, model: BottomUpModel
) -> tuple[dict[tuple[str, bool], tuple[str, float]], int]:
    """What each step, changed, gives with and without the mirrored pass, and on how many images it was made.

    All images are looked at once; the mirrored ones as far as two evaluations allow. Where these are not all,
    a step's AP with the mirrored pass is that on all images without it, and what it adds on some.

    Returns:
        (step, mirrored pass) -> what it changes, and AP; the model's own rules under "".
    """
    from workbench.evaluation.ablation import grouping_variants, sweep

    def swept(flip: bool, count: int) -> dict[str, tuple[str, float]]:
        found = sweep(
            model,
            case.pose_set(),
            lambda outputs: grouping_variants(model, outputs, flip=flip),
            image_ids=whole_images(case.pose_set(), count),
            flip=flip,
            progress=lambda done, total: case.step(),
        )
        return {"": ("", found.reference.ap)} | {one.name: (one.about, one.ap) for one in found.variants}

    size = case.evaluation_size()
    plain = swept(False, size)
    steps = {(name, False): one for name, one in plain.items()}
    if not model.aggregation.flip or not model.skeleton.mirror:
        return steps, 0
    # Of the first images both passes were made before.
    count = min(max(WHOLE_IMAGES, int(EVALUATIONS * size - case.forwarded) // 3), size)
    few = plain if count == size else swept(False, count)
    for name, (about, ap) in swept(True, count).items():
        base = name if name in plain else ""
        steps[name, True] = about, plain[base][1] + ap - few[base][1]
    return steps, count


CAUSES: tuple[Cause, ...] = (ClaimOfOther(), ClaimByOtherRules(), ClaimByGrouping())
