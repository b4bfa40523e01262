"""Causes in the evaluation: another figure than the expected one, results that do not fit the data."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from workbench.core import Groups, NotAvailable
from workbench.core.finding import Effect, Measurement
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut, Undone
from workbench.diagnosis.evidence import Change
from workbench.diagnosis.image_id_causes import moved_away
from workbench.evaluation.evaluate import truth_of
from workbench.evaluation.keypoint_ap import KeypointAP, keypoint_ap
from workbench.evaluation.oks import oks_nms
from workbench.evaluation.predictions import Predictions, extent

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet
    from workbench.models.bottom_up import BottomUp

# Two figures are one where they differ by less.
SAME = 0.006
# Share of results whose ids do not fit, from which something is said.
FEW = 0.02
# Share of poses that repeat another one, from which they are told even where they cost little.
REPEATED = 0.1
# Images without results are explained by results under other ids, where these are so many of them.
MOST_OF = 0.8


class WrongImages(Cause):
    """Results for images that the annotations do not list."""

    name, group, needs = "results of other images", "evaluation", ("results", "data")
    refuted_by = "an annotation file that lists these images"

    def test(self, case: Case) -> Answer:
        found, pose_set = case.all_results(), case.pose_set()
        known = np.isin(found.image_id, list(pose_set.images))
        if len(found) == 0 or known.mean() > 1 - FEW:
            return RuledOut(f"{int(known.sum())} of {len(found)} results are of images of {pose_set.name}")
        first = int(found.image_id[~known][0])
        evidence = (
            f"{int((~known).sum())} of {len(found)} results are of images that {pose_set.name} does not "
            f"list, such as {first}: they count for nothing"
        )
        effect, severity = None, "error"
        missing = _without_results(case)
        if not missing:
            evidence += "; every annotated image has results beside them"
            severity = "warning"
        elif _stand_elsewhere(case):
            figures, effect = _on_those_with_results(case)
            evidence += f"; {len(missing)} annotated images have no result{figures}"
        return self.found(
            evidence,
            fix="give the annotation file of the images that were predicted, or map the ids as they are in "
            "it",
            numbers=(Measurement("share of results of other images", float(1 - known.mean()), expected=0.0),),
            effect=effect,
            severity=severity,
            confidence="proved" if effect is not None and effect.delta > 0 else "measured",
        )


def _without_results(case: Case) -> list[int]:
    """Ids of the annotated images that have no result, of whatever category."""
    seen = set(case.all_results().image_id.tolist())
    return [n for n in case.pose_set().labelled_of_image if n not in seen]


def _stand_elsewhere(case: Case) -> bool:
    """Whether results of unknown images are enough to be those of most annotated images without any."""
    unknown = set(case.all_results().image_id.tolist()) - set(case.pose_set().images)
    return len(unknown) >= MOST_OF * max(len(_without_results(case)), 1)


def _on_those_with_results(case: Case) -> tuple[str, Effect | None]:
    """AP on the images with results beside AP on all of them, in words and as an effect."""
    found, evidence = case.results(), case.evidence()
    if not len(found):
        return "", None
    truth = truth_of(case.pose_set(), evidence.area_rule).on_images(set(found.image_id.tolist()))
    part = keypoint_ap(truth, found.detections(), evidence.sigmas).figures["AP"]
    whole = evidence.measure().figures["AP"]
    figures = f"; on those with results alone AP is {part:.3f} instead of {whole:.3f}"
    return figures, Effect("AP", part - whole, protocol=evidence.protocol())


class WrongCategories(Undone):
    """Results under category ids that the annotations do not have, or of other instances."""

    name, group, needs = "wrong category ids", "evaluation", ("results", "data")
    refuted_by = "an annotation file with these category ids"

    def changes(self, case: Case) -> Iterable[Change]:
        found, pose_set = case.all_results(), case.pose_set()
        right = _categories(found, pose_set)
        wrong = right != found.category_id
        if wrong.mean() < FEW:
            raise NotAvailable("the category ids of the results are those of their images' annotations")
        kept = np.flatnonzero(np.isin(found.image_id, list(pose_set.images)))
        mended = dataclasses.replace(found, category_id=right).take(kept)
        yield Change(
            self.name,
            "the category ids of the annotations",
            "poses",
            lambda _: mended,
            fix="write category_id as the annotations have it "
            f"({', '.join(map(str, list(pose_set.categories)[:4]))} ...)",
            facts={"share": float(wrong.mean()), "first": int(found.category_id[wrong][0])},
        )

    def seen(self, case: Case, change: Change) -> str:
        return (
            f"{change.facts['share']:.0%} of the results have another category id than the annotations "
            f"of their image, such as {change.facts['first']}"
        )


def _categories(found: Predictions, pose_set: PoseSet) -> np.ndarray:
    """The category of each pose: its own where its image has it, else that of the nearest annotation."""
    centres: dict[int, list[tuple[int, np.ndarray]]] = {}
    for one in pose_set.instances:
        x0, y0, x1, y1 = one.box
        centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
        centres.setdefault(one.image_id, []).append((one.category_id, centre))
    right = found.category_id.copy()
    for row, image_id in enumerate(found.image_id.tolist()):
        here = centres.get(image_id, [])
        if not here or int(right[row]) in {category for category, _ in here}:
            continue
        middle = np.nanmean(found.keypoints[row], 0)
        right[row] = min(here, key=lambda pair, at=middle: float(np.linalg.norm(pair[1] - at)))[0]
    return right


class Subset(Cause):
    """Results of a part of the images, counted as all of them."""

    name, group, level, needs = (
        "only part of the images has results",
        "evaluation",
        "forward",
        ("results", "data"),
    )
    refuted_by = "images on which the model really found nothing"

    def test(self, case: Case) -> Answer:
        annotated, missing = list(case.pose_set().labelled_of_image), _without_results(case)
        seen = len(annotated) - len(missing)
        if seen >= (1 - FEW) * len(annotated):
            return RuledOut(f"{seen} of {len(annotated)} annotated images have results")
        share = seen / len(annotated)
        if not seen:
            return RuledOut("no annotated image has results, which is a cause of its own")
        if _stand_elsewhere(case):
            return RuledOut(
                f"{len(missing)} annotated images have no result, and as many other ids, which the "
                "annotations do not list, have some: see 'results of other images'"
            )
        if (moved := moved_away(case)) >= MOST_OF * len(missing):
            return RuledOut(
                f"{len(missing)} annotated images have no result under their own id, and results of {moved} "
                "of them stand under another one: see 'results stand under other images' ids'"
            )
        figures, effect = _on_those_with_results(case)
        block = missing == annotated[len(annotated) - len(missing) :]
        return self.found(
            f"{seen} of {len(annotated)} annotated images have "
            f"results{', the last ones have none' if block else ''}{figures}",
            fix="predict all images of the annotation file, or evaluate on the images that were predicted "
            "and say so",
            numbers=(Measurement("share of images with results", share, expected=1.0),),
            effect=effect,
            confidence="proved" if effect is not None and effect.delta > 0 else "measured",
        )


class Duplicates(Undone):
    """Each instance is found several times, because overlapping poses were not suppressed."""

    name, group, needs = "no NMS: poses found twice", "evaluation", ("results", "data")
    refuted_by = "instances that really lie so near to each other"

    def changes(self, case: Case) -> Iterable[Change]:
        found = case.results()
        sigmas = np.array(case.evidence().sigmas)
        kept = _kept(found, sigmas)
        lost = 1 - len(kept) / max(len(found), 1)
        if lost < FEW:
            raise NotAvailable("no two poses of one image are nearly the same")
        yield Change(
            self.name,
            "OKS NMS at .9",
            "scores",
            lambda given: given.take(_kept(given, sigmas)),
            fix="apply OKS NMS (.9) before the results are written",
            facts={"share": lost},
        )

    def test(self, case: Case) -> Answer:
        answer = super().test(case)
        change = next(iter(case.changes_of(self)), None)
        if change is None or not isinstance(answer, RuledOut) or change.facts["share"] < REPEATED:
            return answer
        given = case.separated().alone[change]
        if given.AP <= 0:
            return answer
        # So many copies are no chance, however little a poor run has to lose by them.
        return self.found(
            f"{self.seen(case, change)}; without them AP changes by {given.AP:+.3f}",
            fix=change.fix,
            numbers=(Measurement("share of poses that repeat another", change.facts["share"], expected=0.0),),
            severity="warning",
        )

    def seen(self, case: Case, change: Change) -> str:
        return (
            f"{change.facts['share']:.0%} of the poses repeat a better one of the same image (OKS above .9)"
        )


def _kept(found: Predictions, sigmas: np.ndarray) -> np.ndarray:
    areas = extent(found.keypoints)
    kept = []
    for image_id in np.unique(found.image_id):
        rows = np.flatnonzero(found.image_id == image_id)
        best = oks_nms(found.keypoints[rows], found.score[rows], areas[rows], sigmas, 0.9)
        kept += rows[best].tolist()
    return np.array(sorted(kept), int)


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


class ClaimByOtherRules(Cause):
    """The figure that was seen comes from other rules than COCO's."""

    name, group, level = "figure comes from other rules", "evaluation", "forward"
    needs = ("poses", "data", "claim")
    refuted_by = "the evaluator's code, with COCO's own rules in it"

    def test(self, case: Case) -> Answer:
        claim = case.options.claim.get("AP")
        if claim is None:
            raise NotAvailable("no figure was named; add --claim AP=.70")
        evidence = case.measured()
        if evidence.model is not None and len(evidence.indices) < len(case.pose_set().labelled):
            raise NotAvailable("a figure of the whole set needs the whole set; give --level evaluate")
        measured = evidence.measure()
        by_rule = rules_of(measured.predictions, case.pose_set(), evidence.sigmas, evidence.area_rule)
        own = measured.figures["AP"]
        if abs(own - claim) < SAME:
            return RuledOut(f"AP {claim:.3f} is what COCO's rules give ({own:.3f})")
        name, value = min(by_rule.items(), key=lambda item: abs(item[1] - claim))
        if abs(value - claim) >= SAME:
            nearest = f"the nearest of {len(by_rule)} other rules gives {value:.3f} ({name})"
            return RuledOut(f"COCO's rules give {own:.3f}, {nearest}; none gives {claim:.3f}")
        return self.found(
            f"COCO's rules give AP {own:.3f} for these poses, and {claim:.3f} is what comes out with "
            f"{name} ({value:.3f})",
            fix=f"evaluate with COCO's own rules; {name} is another measure",
            numbers=(Measurement("AP by COCO's rules", own), Measurement(f"with {name}", value)),
            confidence="likely",
        )


def rules_of(
    found: Predictions, pose_set: PoseSet, sigmas: Sequence[float], area_rule: Any
) -> dict[str, float]:
    """What other evaluators, as they are found in projects, give for the same poses.

    Args:
        found: poses.
        pose_set: annotations.
        sigmas: OKS constants.
        area_rule: where areas come from.
    """
    truth, detections = truth_of(pose_set, area_rule), found.detections()
    own = keypoint_ap(truth, detections, sigmas)

    def ap(**more: Any) -> float:
        return keypoint_ap(truth, detections, more.pop("sigmas", sigmas), **more).figures["AP"]

    K = len(sigmas)
    box_area = truth.boxes[:, 2] * truth.boxes[:, 3]
    asked: dict[str, Callable[[], float]] = {
        "AP at OKS .5 alone": lambda: own.figures["AP50"],
        "AP at OKS .75 alone": lambda: own.figures["AP75"],
        "large instances alone": lambda: own.figures["APL"],
        "medium instances alone": lambda: own.figures["APM"],
        "AR in place of AP": lambda: own.figures["AR"],
        "sigma .05 for every keypoint": lambda: ap(sigmas=(0.05,) * K),
        "sigma .1 for every keypoint": lambda: ap(sigmas=(0.1,) * K),
        "sigmas twice as large": lambda: ap(sigmas=tuple(2 * s for s in sigmas)),
        "sigmas half as large": lambda: ap(sigmas=tuple(s / 2 for s in sigmas)),
        "one detection per image": lambda: ap(max_dets=1),
        "the area of the box": lambda: keypoint_ap(
            dataclasses.replace(truth, area=box_area), detections, sigmas).figures["AP"],
        ".53 of the box's area": lambda: keypoint_ap(
            dataclasses.replace(truth, area=0.53 * box_area), detections, sigmas).figures["AP"],
        "mean OKS of matched "
        "poses": lambda: float(np.nanmean(_pair_oks(own))) if len(own.matches.pair_oks) else 0.0,
    }  # fmt: skip
    asked |= _distances(own, found)
    made: dict[str, float] = {}
    for name, compute in asked.items():
        try:
            made[name] = compute()
        except (ValueError, ZeroDivisionError):
            continue
    return {name: value for name, value in made.items() if np.isfinite(value)}


def _pair_oks(result: Any) -> np.ndarray:
    best = np.zeros(len(result.truth))
    np.maximum.at(best, result.matches.pair_truth, result.matches.pair_oks)
    return best[~result.truth.ignored]


def _distances(own: KeypointAP, found: Predictions) -> Mapping[str, Callable[[], float]]:
    """PCK by the lengths that people use."""
    rows = _pairs(own, found)
    if not rows:
        return {}
    truth, held = own.truth, list(rows)
    away = np.linalg.norm(found.keypoints[list(rows.values())] - truth.keypoints[held, :, :2], axis=-1)
    seen = (truth.keypoints[held, :, 2] > 0) & np.isfinite(away)
    w, h = truth.boxes[held, 2:].T

    def pck(length: np.ndarray, share: float) -> Callable[[], float]:
        return lambda: float((away < share * length[:, None])[seen].mean())

    return {
        f"PCK at {share:g} of the {name}": pck(length, share)
        for share in (0.05, 0.1, 0.2)
        for name, length in (("root of the box", np.sqrt(w * h)), ("longer side", np.maximum(w, h)))
    }


def _pairs(own: KeypointAP, found: Predictions) -> dict[int, int]:
    """Row of each judged annotation -> that of its pose: by annotation id, else by OKS, best pairs first."""
    judged = np.flatnonzero(~own.truth.ignored).tolist()
    if found.annotation_id is not None:
        pose_of = {int(n): row for row, n in enumerate(found.annotation_id)}
        return {row: pose_of[int(own.truth.ids[row])] for row in judged if int(own.truth.ids[row]) in pose_of}
    matches, chosen = own.matches, {}
    taken: set[int] = set()
    for pair in np.argsort(-matches.pair_oks, kind="stable"):
        row, pose = int(matches.pair_truth[pair]), int(matches.detection[matches.pair_detection[pair]])
        if row not in chosen and pose not in taken and not own.truth.ignored[row]:
            chosen[row] = pose
            taken.add(pose)
    return chosen


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
        model: Any = case.model()
        if not isinstance(model, Groups):
            raise NotAvailable("this is about bottom-up models, whose protocol has many steps")
        from workbench.evaluation.ablation import grouping_variants, sweep

        model = cast("BottomUp", model)
        case.step()
        report = sweep(
            model,
            case.pose_set(),
            lambda outputs: grouping_variants(model, outputs, flip=True),
            flip=True,
            progress=lambda done, total: case.step(),
        )
        best, near = report.match(claim)
        own = report.reference.ap
        if best is report.reference or not near or abs(best.ap - own) < SAME:
            return RuledOut(
                f"the published protocol gives AP {own:.3f} on {report.images} images, and no single step "
                "changes "
                f"it to {claim:.3f} (nearest {best.name}: {best.ap:.3f})"
            )
        return self.found(
            f"with {best.name} ({best.about}) AP is {best.ap:.3f} on {report.images} images, as claimed; "
            "by the published "
            f"protocol it is {own:.3f}",
            fix=f"put the step back: {best.name}",
            effect=Effect("AP", own - best.ap, protocol=f"{report.data}, {report.images} images, flip"),
            numbers=(Measurement("AP claimed", claim), Measurement(f"AP with {best.name}", best.ap)),
            confidence="likely",
        )


CAUSES: tuple[Cause, ...] = (
    ClaimOfOther(),
    WrongImages(),
    WrongCategories(),
    Subset(),
    Duplicates(),
    ClaimByOtherRules(),
    ClaimByGrouping(),
)
