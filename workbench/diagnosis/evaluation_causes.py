"""Causes in the evaluation: another figure than the expected one, results that do not fit the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import NotAvailable
from workbench.core.finding import Effect, Measurement
from workbench.core.report import counted, signed_text
from workbench.diagnosis.box_causes import LeftOut, left_out
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut, Undone
from workbench.diagnosis.evidence import Change
from workbench.diagnosis.image_id_causes import moved_away
from workbench.evaluation.evaluate import truth_of
from workbench.evaluation.keypoint_ap import keypoint_ap
from workbench.evaluation.oks import oks_nms
from workbench.evaluation.predictions import Predictions, extent

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet

# Share of results whose ids do not fit, from which something is said.
FEW = 0.02
# Poses of one image that are compared with each other: the evaluator counts the best 20.
MOST_COMPARED = 1000
# Share of poses that repeat another one, from which they are reported even where they cost little.
REPEATED = 0.1
# Images without results are explained by results under other ids, where these are so many of them.
MOST_OF = 0.8


class WrongImages(Cause):
    """Results for images that the annotations do not list."""

    name, group, needs = "results of other images", "evaluation", ("results", "data")
    refuted_by = "an annotation file that lists these images"

    def test(self, case: Case) -> Answer:
        found, pose_set = case.all_results(), case.pose_set()
        if (texts := _ids_as_text(case)) is not None:
            number, example = texts
            return self.found(
                f"the image_id of {counted(number, 'result')} is a text, such as {example!r}, and that of "
                "the annotations a number: pycocotools finds no image of this id, and counts these results "
                "for nothing; here they are read as numbers",
                fix=f"write image_id as the annotations have it: int({example!r})",
            )
        known = np.isin(found.image_id, list(pose_set.images))
        if len(found) == 0 or known.mean() > 1 - FEW:
            return RuledOut(
                f"{int(known.sum())} of {counted(len(found), 'result')} are of images of {pose_set.name}"
            )
        first = int(found.image_id[~known][0])
        evidence = (
            f"{int((~known).sum())} of {counted(len(found), 'result')} are of images that {pose_set.name} "
            f"does not list, such as {first}: they count for nothing"
        )
        effect, severity = None, "error"
        missing = _without_results(case)
        if not missing:
            evidence += "; every annotated image has results beside them"
            severity = "warning"
        elif _stand_elsewhere(case):
            figures, effect = _on_those_with_results(case)
            evidence += (
                f"; {counted(len(missing), 'annotated image has', 'annotated images have')} no "
                f"result{figures}"
            )
        return self.found(
            evidence,
            fix="give the annotation file of the images that were predicted, or map the ids as they are in "
            "it",
            numbers=(Measurement("share of results of other images", float(1 - known.mean()), expected=0.0),),
            effect=effect,
            severity=severity,
            confidence="proved" if effect is not None and effect.delta > 0 else "measured",
        )


def _ids_as_text(case: Case) -> tuple[int, str] | None:
    """How many results have a text for an image id, and one of them; None where the set has texts as well."""
    from workbench.data.coco import read_json

    path = next(iter(case.given.results), None)
    if path is None or case.given.predictions or case.pose_set().id_texts:
        return None
    texts = [one["image_id"] for one in read_json(path) if isinstance(one.get("image_id"), str)]
    return (len(texts), texts[0][:40]) if texts else None


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
        yield self.change(
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
    there = {image_id: {category for category, _ in here} for image_id, here in centres.items()}
    right = found.category_id.copy()
    for row, image_id in enumerate(found.image_id.tolist()):
        here = centres.get(image_id, [])
        if not here or int(right[row]) in there[image_id]:
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
            return RuledOut(f"{seen} of {counted(len(annotated), 'annotated image')} have results")
        share = seen / len(annotated)
        if not seen:
            return RuledOut("no annotated image has results, which is a cause of its own")
        if _stand_elsewhere(case):
            return RuledOut(
                f"{counted(len(missing), 'annotated image has', 'annotated images have')} no result, and as "
                "many other ids, which the annotations do not list, have some: see 'results of other images'"
            )
        if (moved := moved_away(case)) >= MOST_OF * len(missing):
            return RuledOut(
                f"{counted(len(missing), 'annotated image has', 'annotated images have')} no result under "
                f"their own id, and results of {moved} of them stand under another one: see 'results stand "
                "under other images' ids'"
            )
        if (rule := left_out(case)) is not None and _explains(case, rule, missing):
            return RuledOut(
                f"{counted(len(missing), 'annotated image has', 'annotated images have')} no result: "
                f"{rule.rule}; see 'instances without a pose'"
            )
        figures, effect = _on_those_with_results(case)
        block = missing == annotated[len(annotated) - len(missing) :]
        return self.found(
            f"{seen} of {counted(len(annotated), 'annotated image')} have "
            f"results{', the last ones have none' if block else ''}{figures}",
            fix="predict all images of the annotation file, or evaluate on the images that were predicted "
            "and say so",
            numbers=(Measurement("share of images with results", share, expected=1.0),),
            effect=effect,
            confidence="proved" if effect is not None and effect.delta > 0 else "measured",
        )


def _explains(case: Case, rule: LeftOut, images: Sequence[int]) -> bool:
    """Whether a rule by which instances are left out leaves out all those of most of these images."""
    pose_set = case.pose_set()
    gone = dict(zip(sorted(pose_set.labelled), rule.missing.tolist(), strict=True))
    by_rule = [all(gone[i] for i in pose_set.labelled_of_image[n]) for n in images]
    return sum(by_rule) >= MOST_OF * len(images) and sum(gone.values()) > sum(
        len(pose_set.labelled_of_image[n]) for n in images
    )


class Duplicates(Undone):
    """Each instance is found several times, because overlapping poses were not suppressed."""

    name, group, needs = "no NMS: poses found twice", "evaluation", ("results", "data")
    refuted_by = "instances that really lie so near to each other"

    def changes(self, case: Case) -> Iterable[Change]:
        found = case.results()
        sigmas = np.array(case.evidence().sigmas)
        kept = without_repeated(found, sigmas)
        lost = 1 - len(kept) / max(len(found), 1)
        if lost < FEW:
            raise NotAvailable("no two poses of one image are nearly the same")
        yield self.change(
            "OKS NMS at .9",
            "scores",
            lambda given: given.take(without_repeated(given, sigmas)),
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
            f"{self.seen(case, change)}; without them AP changes by {signed_text(given.AP)}",
            fix=change.fix,
            numbers=(Measurement("share of poses that repeat another", change.facts["share"], expected=0.0),),
            severity="warning",
        )

    def seen(self, case: Case, change: Change) -> str:
        return (
            f"{change.facts['share']:.0%} of the poses repeat a better one of the same image (OKS above .9, "
            f"among the {MOST_COMPARED:,} best of each image)"
        )


def without_repeated(found: Predictions, sigmas: np.ndarray) -> np.ndarray:
    """Rows that OKS NMS at .9 keeps of the `MOST_COMPARED` best poses of each image, and all others."""
    areas = extent(found.keypoints)
    kept = []
    for image_id in np.unique(found.image_id):
        rows = np.flatnonzero(found.image_id == image_id)
        rows = rows[np.argsort(-found.score[rows], kind="stable")] if len(rows) > MOST_COMPARED else rows
        rows, rest = rows[:MOST_COMPARED], rows[MOST_COMPARED:]
        best = oks_nms(found.keypoints[rows], found.score[rows], areas[rows], sigmas, 0.9)
        kept += [*rows[best].tolist(), *rest.tolist()]
    return np.array(sorted(kept), int)


CAUSES: tuple[Cause, ...] = (WrongImages(), WrongCategories(), Subset(), Duplicates())
