"""Causes that the labs find: conditioning clinic, rollout lab, grouping faults and the oracle waterfall."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.checkpoints.loading import percent
from workbench.core import Conditioned, NotAvailable, Outputs, PoseModel
from workbench.core.capabilities import RollsOut
from workbench.core.errors import available
from workbench.core.finding import WITH_FLIP_TEST, Effect, Finding, Measurement
from workbench.core.hooks import OnceComputed
from workbench.core.report import counted, signed_text
from workbench.diagnosis.case import CLINIC_INSTANCES, Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut
from workbench.diagnosis.constant_outputs import passes_differ
from workbench.diagnosis.evidence import spread
from workbench.diagnosis.input_budget import EVALUATIONS, left_of_inputs
from workbench.diagnosis.offset_causes import LabelsMoved
from workbench.diagnosis.people_evidence import WHOLE_IMAGES, require_bottom_up, whole_images
from workbench.diagnosis.report import is_proved
from workbench.diagnosis.separation import MORE_IMAGES
from workbench.diagnosis.tag_fit import AGREE, TagFit, TagsMoved, tag_fit
from workbench.diagnosis.weight_causes import RAW_IN_PLACE

if TYPE_CHECKING:
    from workbench.core.capabilities import BottomUpModel
    from workbench.data.pose_set import PoseSet
    from workbench.diagnosis.evidence import Change
    from workbench.evaluation.ablation import Ablation
    from workbench.evaluation.ablation.keypoint_maps import KeypointMaps
    from workbench.evaluation.ablation.sweep import Suspect
    from workbench.evaluation.ablation.variants import Variant

# Why a cause of bottom-up models says nothing about another model.
ONE_BOX = "this model sees one box at a time; this is about bottom-up models"
# Samples on which its passes are compared, each of them some eight times.
CLINIC_SAMPLES = 4
# Instances of the clinic where each of its switches costs a pass.
FEW_INSTANCES = 32
# Share of the parameters below which a network is another one than was trained.
LEAST_LOADED = 0.99
# Instances on which the figures that a sequence model logs are compared with their own rules.
LOGGED_INSTANCES = 8
# The same, where nothing says which images were learned; and the part of the PCK of one pose for every box
# that a model has of them which learned anything at all.
UNSEEN_INSTANCES, LEAST_OF_USUAL = 8, 0.67
# PCK that exchanged axes have to give back: of an image that is known by heart, and of others, beyond so many
# standard errors.
LEARNED_RISE, UNSEEN_RISE, LEAST_ERRORS = 0.4, 0.15, 3.0
# Image pixels by which keypoints may lie off the answers that the loss sees.
MOST_OFF = 1.0
# What a mistake is called whose undoing takes another pass.
CHANNELS = "blue and red"
UNLEARNED = "keypoints not learned"


class Conditioning(Cause):
    """The defects that the conditioning clinic knows, each with what it costs."""

    name, group, level = "condition or refiner at fault", "conditioning", "forward"
    needs = ("a conditioned model", "data")

    def test(self, case: Case) -> Answer:
        loaded, pose_set = case.loaded(), case.pose_set()
        if not isinstance(loaded.model, Conditioned):
            raise NotAvailable("no condition (text, class) is declared for this model")
        if loaded.load is not None and loaded.load.loaded_fraction < LEAST_LOADED:
            raise NotAvailable(
                f"only {percent(loaded.load.loaded_fraction)} of the parameters come from the file: what the "
                "condition does can be told once the others do"
            )
        from workbench.inspectors.conditioning.clinic import examine
        from workbench.inspectors.conditioning.weights import read_other_files

        against = _against(case)
        files = read_other_files(
            loaded.checkpoint, case.given.epochs, () if against is None else against.epochs, None
        )
        report = examine(
            loaded,
            pose_set,
            clinic_instances(case) or None,
            samples=CLINIC_SAMPLES,
            curves=_curves(case, against),
            files=files,
            progress=lambda done, total: case.step(),
            stepped=case.step,
            backbone=_backbone(case),
        )
        if not report.findings:
            return RuledOut(report.summary())
        return list(report.findings)


def clinic_instances(case: Case) -> list[int]:
    """On which the switches of a conditioned model are measured; [] below level evaluate.

    All switches act behind the backbone, whose results the evaluation of the whole set uses as well. With a
    budget they are few, and where the file holds averaged and raw weights: these are two backbones.
    """
    if not case.reaches("evaluate"):
        return []
    averages = None if case.given.checkpoint is None else case.checkpoint().averages
    if case.options.budget is None and not (averages is not None and averages.averaged and averages.raw):
        return case.in_order()[:CLINIC_INSTANCES]
    sample = case.chosen()
    count = min(FEW_INSTANCES, len(sample))
    return [sample[i * len(sample) // count] for i in range(count)]


def _backbone(case: Case) -> OnceComputed | None:
    """What the backbone gave for the sample already, where switches are measured."""
    return available(lambda: case.of_model().backbone if clinic_instances(case) else None, None)


def _against(case: Case) -> Any:
    return available(case.against, None)


def _curves(case: Case, against: Any) -> Any:
    from workbench.inspectors.conditioning.training_log import Trends, curve_of

    found = []
    for folder in (case.given.folder, against and against.folder):
        if folder is None:
            continue
        try:
            found.append(curve_of(folder))
        except (LookupError, ValueError, OSError):
            continue
    return Trends(tuple(found)) if found else None


class Rollout(Cause):
    """What the rollout lab finds in a sequence model."""

    name, group, level = "sequence model at fault", "sequence", "forward"
    needs = ("a sequence model", "data")
    refuted_by = "the same measurement on other images of the run, without it"

    def test(self, case: Case) -> Answer:
        model, pose_set = case.model(), case.pose_set()
        if not isinstance(model, RollsOut):
            raise NotAvailable("this model finds all keypoints at once; this is about sequence models")
        from workbench.core.run import run
        from workbench.inspectors.sequence import coordinates, lab

        if isinstance(axes_of_sequence(case), Finding):
            raise NotAvailable("x and y of its keypoints are exchanged: undo that first")
        if passes_differ(case):
            raise NotAvailable("two passes over the same input differ: undo that first")
        learned = learned_samples(case)
        chosen = learned or spread(pose_set, UNSEEN_INSTANCES)
        samples = [pose_set.sample(i) for i in chosen]
        others = pose_set.samples([i for i in pose_set.labelled if i not in chosen][:2])
        case.step()
        report = lab.compute(run(model, samples, title=case.loaded().title), others=others)
        if report.coordinates.agree and learned:
            # On an instance that is learned by heart every rule gives the same PCK: others tell them apart.
            case.step()
            more = pose_set.samples(spread(pose_set, LOGGED_INSTANCES))
            compared = coordinates.compute(run(model, more), coordinates.Params())
            report = dataclasses.replace(report, coordinates=compared)
        found = [one for one in report.to_findings() if one.severity != "remark"]
        usual = float("nan") if learned else of_usual_pose(pose_set, chosen)
        if report.steps.pck_forced >= LEAST_OF_USUAL * usual:
            # Nothing says that these images were learned, and a healthy model may not know others.
            found = [one for one in found if one.cause != UNLEARNED]
        # What another finding already states as part of its own evidence is not repeated.
        found = [one for one in found if not any(one.evidence in f.evidence for f in found if f is not one)]
        if not found:
            return RuledOut(report.summary())
        can_be = Measurement("PCK can only be", float("nan"), unit=report.steps.steps_of_pck)
        return [
            dataclasses.replace(
                one, numbers=(*one.numbers, can_be), refuted_by=one.refuted_by or self.refuted_by
            )
            for one in found
        ]


def axes_of_sequence(case: Case) -> Finding | RuledOut | None:
    """Whether keypoints of a sequence model lie at their labels with x and y exchanged in the crop.

    None for other models. Of an image that was learned most keypoints have to, of others more than chance.
    """
    try:
        model, pose_set = case.model(), case.pose_set()
    except NotAvailable:
        return None
    return case.once("axes of a sequence", lambda: _axes(case, model, pose_set)) if _rolls(model) else None


def _rolls(model: PoseModel) -> bool:
    return isinstance(model, RollsOut)


def _axes(case: Case, model: PoseModel, pose_set: PoseSet) -> Finding | RuledOut:
    from workbench.core.pck import pck_by_image
    from workbench.core.run import run
    from workbench.inspectors.sequence import rollout

    learned = learned_samples(case)
    chosen = learned or spread(pose_set, UNSEEN_INSTANCES)
    case.step()
    seen = run(model, [pose_set.sample(i) for i in chosen])
    outputs = rollout.free_running(seen)
    points = rollout.points_of(seen, outputs)
    affine = seen.batch.to_image
    scale, corner = affine[:, None, (0, 1), (0, 1)], affine[:, None, :, 2]
    other = ((points - corner) / scale)[..., ::-1] * scale + corner
    rule = rollout.PckRule()
    before, after = (pck_by_image(rule.errors(seen, p), rule.threshold) for p in (points, other))
    rise = after - before
    rise = rise[~np.isnan(rise)]
    mean = float(rise.mean()) if len(rise) else 0.0
    error = float(rise.std(ddof=1) / np.sqrt(len(rise))) if len(rise) > 1 else math.inf
    least = LEARNED_RISE if learned else max(UNSEEN_RISE, LEAST_ERRORS * error)
    told = ""
    if "coordinates" in outputs.tokens:
        # The loss sees the same answers: keypoints that are those with x and y exchanged need no chance.
        drawn = rollout.image_points(seen.batch, outputs.tokens["coordinates"].numpy().astype(float))
        apart, exchanged = (float(np.nanmax(np.abs(p - drawn))) for p in (points, other))
        if apart > MOST_OFF >= exchanged and mean > 0:
            told = "keypoints are the answers that the loss sees with x and y exchanged"
            told += f" (to {exchanged:.2f} pixels); "
            least = 0.0
    text = (
        f"{told}with x and y of every keypoint exchanged in the crop, PCK of {len(chosen)} "
        f"{'learned' if learned else 'other'} instances goes from {np.nanmean(before):.3f} by "
        f"{signed_text(mean)} "
        f"({rule.text()}, free-running)"
    )
    if not mean >= least:
        return RuledOut(text)
    return Finding(
        "output axes exchanged",
        text,
        "write x before y when tokens become keypoints",
        (Measurement("PCK given back", mean, expected=0.0),),
        effect=Effect("PCK", mean, mean - 2 * error if error < math.inf else float("nan")),
        confidence="proved",
        refuted_by="an input that is transposed as well",
    )


def learned_samples(case: Case) -> list[int]:
    """The instances that a sequence model was trained on, where its checkpoint names some of this set."""
    pose_set = case.pose_set()
    if case.given.checkpoint is None:
        return []
    meta = case.checkpoint().meta
    # Keys count the images of a set: those of another set have them as well.
    if Path(str(meta.get("data", pose_set.name))).stem != Path(pose_set.name).stem:
        return []
    return [i for i in pose_set.labelled if pose_set.sample(i).key == meta.get("sample")]


def of_usual_pose(pose_set: PoseSet, chosen: Sequence[int]) -> float:
    """PCK of one pose for every box, the median place in the box of each keypoint, on some instances."""
    from workbench.core.pck import distances, pck_by_image

    def placed(rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        boxes = np.array([pose_set.instances[i].box for i in rows], float).reshape(-1, 2, 2)
        return np.array([pose_set.instances[i].truth for i in rows], float), boxes[:, 0], boxes[:, 1]

    others = [i for i in pose_set.labelled if i not in set(chosen)] or list(chosen)
    truth, low, high = placed(others)
    places = (truth[..., :2] - low[:, None]) / np.maximum(high - low, 1.0)[:, None]
    usual = np.nanmedian(np.where(truth[..., 2:] > 0, places, np.nan), 0)
    truth, low, high = placed(chosen)
    points = low[:, None] + usual * (high - low)[:, None]
    return float(np.nanmean(pck_by_image(distances(points, truth, (high - low).max(1)), 0.2)))


class Grouping(Cause):
    """Mistakes of an inference script that a bottom-up model has, each undone."""

    name, group, level = "inference script of a bottom-up model", "grouping", "forward"
    needs = ("a bottom-up model", "data")
    refuted_by = "other images on which undoing it does not help"

    def test(self, case: Case) -> Answer:
        from workbench.evaluation.ablation.fault_sweep import joined
        from workbench.evaluation.ablation.keypoint_maps import KeypointMaps

        given, pose_set = require_bottom_up(case.model(), ONE_BOX), case.pose_set()
        if case.peek(RAW_IN_PLACE):
            raise NotAvailable("raw weights stand in place of their average: undo that first")
        # What wrong weights cost is no mistake of the script: they are mended where that was proved.
        model = _mended(case, given)
        # The order of the heatmaps is a cause of its own, for every kind of model.
        maps = KeypointMaps(model, pose_set, orders=False)
        report = _swept(case, model, pose_set, WHOLE_IMAGES, seen=maps)
        if maps.is_another():
            own = _swept(case, model, pose_set, WHOLE_IMAGES, frozenset(), maps)
            report = joined(report, own, own.variants)
        if not report.suspects and (undecided := report.undecided):
            # Something gains, and these images are too few to say whether by chance: more of them decide.
            each = 2 * (1 + any(CHANNELS in fault for fault in undecided))
            more = int(min(MORE_IMAGES, left_of_inputs(case) // each))
            if more > report.images:
                report = _swept(case, model, pose_set, more, undecided, maps)
        found = [suspect.finding() for suspect in _separate(case, model, pose_set, report, maps)]
        if report.images < (every := len(pose_set.labelled_of_image)):
            on = f" (on {report.images} of {counted(every, 'annotated image')})"
            found = [dataclasses.replace(one, evidence=one.evidence + on) for one in found]
        if _labels_are_moved(case):
            # Cells moved by as much make up for it: the boxes have told which of both it is.
            found = [one for one in found if one.cause != "cells placed off"]
        if (copied := self._copied_maps(case, model)) is not None:
            # Where keypoints read a map that is not theirs, no unit or place of the tags is right.
            found = [copied, *(one for one in found if not one.cause.startswith("tags "))]
        if not found:
            return RuledOut(
                f"{len(report.variants)} mistakes undone on {counted(report.images, 'image')}, none gives AP "
                "back"
            )
        return [dataclasses.replace(one, refuted_by=one.refuted_by or self.refuted_by) for one in found]

    def waits_for(self, finding: Finding, others: Sequence[Finding]) -> str:
        """The flip test of a model whose keypoints are in another order, or that has another proved cause."""
        aside = finding.effect is not None and finding.effect.measure.endswith(WITH_FLIP_TEST)
        first = next((one.cause for one in others if aside and is_proved(one)), "")
        return f"undo '{first}' first: beside it the flip test cannot be judged" if first else ""

    def _copied_maps(self, case: Case, model: BottomUpModel) -> Finding | None:
        """Tag maps that are copies of others, where the tags of one person do not agree."""
        fit = fit_of_tags(case, model)
        if fit is None or not fit.copies or fit.own < AGREE:
            return None
        every = fit.copies == fit.maps - 1
        return Finding(
            f"one tag map for {'all' if every else 'several'} keypoints",
            f"{fit.copies} of the {fit.maps} tag maps are another one in every cell, and the tags of one "
            f"person vary by {fit.own:.0%} of what all of an image do, at their labels",
            "give every keypoint its own tag map: an index or a slice takes one channel for all of them",
            numbers=(Measurement("tag maps that are copies", fit.copies, expected=0.0),),
            refuted_by="a network that was trained with one tag map for all keypoints",
        )


def fit_of_tags(case: Case, model: BottomUpModel) -> TagFit | None:
    """How the tags fit the labels of the first images; None where this cannot be said."""
    pose_set = case.pose_set()
    chosen = whole_images(pose_set, WHOLE_IMAGES)
    ids = list(pose_set.labelled_of_image if chosen is None else chosen)
    return case.once("fit of tags", lambda: tag_fit(model, pose_set, ids))


def _faults(
    case: Case, model: BottomUpModel, outputs: Outputs, maps: KeypointMaps | None = None
) -> list[Variant]:
    """Variants that undo frequent mistakes, those of single keypoints, and tags that lie off.

    Without the mirrored pass, as the run's figure is measured; mistakes of that pass are compared with it.
    """
    from workbench.evaluation.ablation import fault_variants

    found = fault_variants(model, outputs, flip=False)
    fit = fit_of_tags(case, model)
    if fit is not None and fit.moved:
        (x, y), rules = fit.cells, found[0].aggregation
        moved = TagsMoved(x / fit.width, y / fit.width, rules.flip and rules.flip_tags)
        found.append(moved.variant(found[0], fit.cells))
    return [*found, *(maps.variants(found[0]) if maps is not None else [])]


def _labels_are_moved(case: Case) -> bool:
    """Whether labels that are moved by one amount were proved."""
    return any(change.cause == LabelsMoved.name for change in _proved(case))


def _mended(case: Case, model: BottomUpModel) -> BottomUpModel:
    """The model with the changes of weights that were proved to undo something."""
    for change in _proved(case):
        model = change.of(model) if change.stage == "weights" else model
    return model


def _proved(case: Case) -> Sequence[Change]:
    """Changes that were proved to undo something; () where this cannot be said."""
    return available(lambda: case.separated().chosen, ())


def _swept(
    case: Case,
    model: BottomUpModel,
    pose_set: PoseSet,
    count: int,
    faults: frozenset[str] | None = None,
    maps: KeypointMaps | None = None,
    seen: KeypointMaps | None = None,
) -> Ablation:
    """Known mistakes undone, one by one, on so many images: these and those of keypoints, or all of them.

    The mirrored pass is made where a mistake is one of it, or where all are tried.
    """
    from workbench.evaluation.ablation import sweep

    flip = bool(model.skeleton.mirror) and (faults is None or any("mirrored" in fault for fault in faults))

    def variants(outputs: Outputs) -> list[Variant]:
        every = _faults(case, model, outputs)
        chosen = [one for one in every if faults is None or one.undoes in ("", *faults)]
        return [*chosen, *(maps.variants(every[0]) if maps is not None else [])]

    return sweep(
        model,
        pose_set,
        variants,
        image_ids=whole_images(pose_set, count),
        flip=flip,
        seen=seen and seen.add,
        progress=lambda done, total: case.step(),
    )


def _separate(
    case: Case, model: BottomUpModel, pose_set: PoseSet, report: Ablation, maps: KeypointMaps
) -> list[Suspect]:
    """The mistakes that still cost something once the one that costs most is undone, and that one first.

    Beside them the flip test is not judged; without them of its mistakes the one that costs most.
    """
    from workbench.evaluation.ablation import sweep
    from workbench.evaluation.ablation.fault_sweep import explained_by_first, on_top_of_first

    suspects = [suspect for suspect in report.suspects if not suspect.is_aside]
    variants = on_top_of_first(report, lambda outputs: _faults(case, model, outputs, maps))
    if variants is None:
        return suspects or report.suspects[:1]
    again = sweep(
        model,
        pose_set,
        variants,
        image_ids=whole_images(pose_set, report.images),
        flip=False,
        progress=lambda done, total: case.step(),
    )
    explained = explained_by_first(report, again)
    return [suspect for suspect in suspects if suspect.fault not in explained]


class Oracle(Cause):
    """Where the AP of a bottom-up model is lost, part by part."""

    name, group, level = "part of the network that loses most", "grouping", "evaluate"
    needs = ("a bottom-up model", "data")
    # It says where a right script loses AP; the step that gives the figure that was seen is the answer.
    symptom_of = ("simplified inference script",)

    def test(self, case: Case) -> Answer:
        model = require_bottom_up(case.model(), ONE_BOX)
        from workbench.evaluation.oracle import people_waterfall

        pose_set = case.pose_set()
        # As many images as the cost of this level leaves.
        left = max(EVALUATIONS * case.evaluation_size() - case.forwarded, WHOLE_IMAGES)
        report = people_waterfall(
            model,
            pose_set,
            whole_images(pose_set, left) or list(pose_set.labelled_of_image),
            title=case.loaded().title,
            progress=lambda done, total: case.step(),
        )
        if not report.findings:
            return RuledOut(report.summary())
        # They say where AP is lost; what undoing it gives back was not measured.
        return [dataclasses.replace(finding, severity="warning") for finding in report.findings]


CAUSES: Sequence[Cause] = (Conditioning(), Rollout(), Grouping(), Oracle())
