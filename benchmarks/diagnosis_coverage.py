"""In how many systems and at which strengths each cause is planted, from what the cases declare.

One row for each cause that a person can have (`KINDS`); a case belongs to the row that it names, or to the
one that has its finding's name. A row with one system or one strength says why.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.diagnosis.systems import Case

NO_DEGREE = "it is there or not"


@dataclass(frozen=True)
class Kind:
    """One cause as a person has it.

    Attributes:
        group: of causes.
        cause: in the words of a case that names its row.
        names: of findings that are of this cause; () where the row is named by the cases.
        one_system: why it is planted in one system.
        one_strength: why it is planted at one strength.
        no_case: why it is not planted at all.
    """

    group: str
    cause: str
    names: tuple[str, ...] = ()
    one_system: str = ""
    one_strength: str = ""
    no_case: str = ""


def _named(group: str, *names: str, **why: str) -> Kind:
    """A row called as its finding is."""
    return Kind(group, names[0], names, **why)


KINDS: tuple[Kind, ...] = (
    _named("file", "weights only partly loaded"),
    _named("file", "raw and averaged weights exchanged"),
    _named("file", "batch-norm statistics do not fit"),
    _named("file", "layers that never learned"),
    _named("file", "weights that are not finite"),
    _named("file", "layers with all weights zero"),
    _named("file", "units with all weights zero"),
    _named("file", "weights of one part scaled"),
    _named("file", "weights of one part disturbed"),
    _named("file", "weights of one part of an earlier epoch"),
    _named("file", "weights are quantised"),
    _named("file", "weights differ from those of the other run"),
    _named("file", "checkpoint cannot be opened"),
    _named("file", "file cannot be read"),
    _named("file", "file is not what its name or config says"),
    _named("file", "model cannot be built or run"),
    _named("file", "package versions that do not fit"),
    _named("file", "config keys at a wrong place"),
    Kind("file", "config against itself", (
        "config contradicts itself", "targets encoded otherwise than outputs are decoded",
        "head and data set of two skeletons")),
    Kind("file", "error message", ("error message",)),
    _named("file", "head cannot load the published weights",
           one_system="what its head must be like is known of the published Sapiens alone"),
    _named("input", "channel order", "blue and red exchanged (BGR for RGB)"),
    Kind("input", "value range", ("value range",)),
    Kind("input", "mean and std", ("normalisation",)),
    Kind("input", "width and height exchanged", ("width and height exchanged",), one_strength=NO_DEGREE),
    _named("input", "crop padding"),
    Kind("input", "crop aspect"),
    Kind("input", "half-pixel shift", ("half-pixel shift",)),
    Kind("input", "UDP against plain affine", ("UDP against plain affine",)),
    _named("input", "EXIF rotation not applied"),
    _named("input", "crops differ from their affine"),
    _named("input", "part of the image files stored otherwise"),
    _named("input", "part of the image files has no colour",
           one_system="the demo network of RTMPose hardly uses colour: without it mean OKS changes by -.02"),
    _named("input", "image files of another size than annotated"),
    Kind("input", "boxes as corners or centre", ("annotated boxes",)),
    Kind("input", "boxes normalised"),
    _named("output", "decoder of another codec"),
    _named("output", "output axes exchanged"),
    _named("output", "SimCC split ratio"),
    Kind("output", "stride", ("a wrong stride",)),
    Kind("output", "offset and placing", ("keypoints placed wrongly", "cells placed off",
                                          "own decoding contradicts the codec")),
    Kind("output", "flip pairs", ("mirror pairs contradict the names", "mirror pairs", "flip test",
         "mirrored maps that are not mirrored back")),
    _named("output", "flip shift"),
    _named("output", "doubled mirror peaks",
           no_case="it takes a training whose flip does not exchange sides"),
    Kind("output", "sigma of the targets"),
    _named("output", "score does not rank the poses"),
    _named("output", "left and right exchanged"),
    _named("output", "outputs are constant"),
    _named("output", "outputs change from pass to pass"),
    _named("output", "keypoint is the same in every pose"),
    Kind("output", "one keypoint: axes exchanged, mirrored, scaled, moved", (
        "one keypoint placed wrongly", "one keypoint annotated wrongly")),
    _named("output", "codec ceiling"),
    _named("labels", "left and right exchanged in part of the labels"),
    _named("labels", "keypoint order permuted"),
    _named("labels", "keypoints named in another order"),
    _named("labels", "sigmas of another skeleton"),
    _named("labels", "visibility"),
    Kind("labels", "points outside boxes or images", (
        "keypoints outside the box", "keypoints outside the image")),
    Kind("labels", "annotated keypoints: shares or exchanged axes", ("annotated keypoints",)),
    Kind("labels", "counts, ids, areas", ("counts", "annotation ids", "annotated areas",
                                          "crowd regions with keypoints",
                                          "annotations are inconsistent")),
    _named("labels", "annotated keypoints moved"),
    Kind("labels", "boxes moved or too small", ("annotated boxes do not fit their keypoints",)),
    _named("labels", "instances annotated twice"),
    _named("labels", "training images in the validation set"),
    Kind("evaluation", "simplified OKS", ("figure comes from other rules",)),
    Kind("evaluation", "PCK with another normaliser"),
    Kind("evaluation", "maxDets"),
    Kind("evaluation", "area from boxes"),
    Kind("evaluation", "AP50 or AR for AP"),
    _named("evaluation", "no NMS: poses found twice"),
    _named("evaluation", "poses on no instance rank first",
           no_case="planted in a set of cups by tests/diagnosis/test_missing_poses.py"),
    _named("evaluation", "detected boxes in place of annotated ones"),
    _named("evaluation", "wrong category ids"),
    _named("evaluation", "only part of the images has results"),
    _named("evaluation", "results of other images"),
    _named("evaluation", "results stand under other images' ids"),
    _named("labels", "annotations stand under other images"),
    _named("evaluation", "results of another model"),
    _named("evaluation", "instances without a pose"),
    _named("evaluation", "keypoints held at one coordinate"),
    _named("evaluation", "expected figure is of another model",
           no_case="it takes published weights; tests/diagnosis/test_diagnose.py"),
    _named("grouping", "tags of the wrong scale"),
    _named("grouping", "mirrored maps whose left and right are not exchanged back"),
    Kind("grouping", "mirrored maps that the network exchanges itself", (
        "mirrored tags whose left and right are exchanged wrongly",
        "mirrored heatmaps whose left and right are exchanged wrongly",
        "mirrored maps whose left and right are exchanged wrongly")),
    _named("grouping", "person scores taken after refine"),
    _named("grouping", "the inverse affine left out", one_strength=NO_DEGREE),
    _named("grouping", "simplified inference script"),
    _named("grouping", "part of the network that loses most",
           no_case="it says where AP is lost of every model, and is no fault"),
    _named("sequence", "exposure bias"),
    _named("sequence", "support not read"),
    _named("sequence", "support read, but not needed",
           no_case="so it is in every sequence model that learned one image"),
    _named("sequence", "coordinates disagree"),
    _named("sequence", "keypoints not learned"),
    _named("sequence", "results depend on rounding",
           no_case="it is of a machine and not of a file; tests/inspectors/sequence/test_rounding.py"),
    _named("conditioning", "neck skipped in predict", "condition skipped in predict"),
    _named("conditioning", "scores flattened by the refiner"),
    _named("conditioning", "untrained refiner"),
    _named("conditioning", "refiner masked at inference"),
    _named("conditioning", "random initialisation"),
    _named("conditioning", "features destroyed"),
    _named("conditioning", "gate stuck at 0"),
    _named("conditioning", "one vector for all"),
    _named("conditioning", "γ clipped and dropped"),
    Kind("conditioning", "conditions of classes exchanged", ("conditions of classes exchanged",),
         no_case="planted by tests/inspectors/conditioning/test_exchanged_classes.py"),
    Kind("conditioning", "what the user's own conditioned code does", (
        "training and predict differ", "text changes nothing", "condition changes nothing",
        "text of other keypoints", "head moved too little", "no gradient reaches the condition",
        "γ and β exchanged", "γ saturated")),
    Kind("training", "learning rate 10 times off", (
        "learning rate too high or too low", "learning rate is ten times off its recipe's"),
        one_strength="other factors stand under 'learning rate is not the config's'"),
    Kind("training", "learning rate is not the config's", ("learning rate is not the config's",)),
    Kind("training", "schedule per epoch instead of iteration", (
        "scheduler counts epochs and is stepped every batch",
        "scheduler counts batches and is stepped every epoch"), one_strength=NO_DEGREE),
    _named("training", "the schedule ends before the run"),
    _named("training", "every evaluation gives the same figures"),
    _named("training", "optimizer is made anew in the loop", one_strength=NO_DEGREE),
    _named("training", "no gradient reaches the network", one_strength=NO_DEGREE),
    _named("training", "optimizer steps once an epoch", "optimizer never steps",
           one_strength=NO_DEGREE),
    Kind("training", "half precision without its loss scale", (
        "half precision without a loss scale", "loss scale is never taken off the gradients")),
    Kind("training", "scheduler that does not do its work", (
        "scheduler is never stepped", "scheduler waits for the wrong direction",
        "milestones after the end of the run")),
    Kind("training", "loss that does not fit what it is given", (
        "loss does not fit the outputs", "keypoints without labels are learned")),
    _named("training", "only part of the data is trained on"),
    _named("training", "network is used in training mode", one_strength=NO_DEGREE),
    Kind("training", "resume restarted the schedule", (
        "resume restarted the schedule", "training began anew", "resume lost the optimizer's state")),
    Kind("training", "warm-up longer than the run", (
        "warm-up longer than the run", "warm-up is long for this run",
        "warm-up or schedule keeps the learning rate too small")),
    _named("training", "weight decay on norms and biases"),
    Kind("training", "optimizer misses parameters", (
        "optimizer misses parameters", "weights that are not trained",
        "parts of the network get a learning rate near 0")),
    _named("training", "gradient clipping too small", "clipping after the step"),
    Kind("training", "batch norm in evaluation mode while training", (
        "network is trained in evaluation mode", "batch-norm statistics not updated")),
    _named("training", "loss in the log is scaled"),
    _named("training", "training data not shuffled", "augmentation is the same every time"),
    _named("training", "gradients are not cleared", "gradients are cleared before the step"),
    Kind("training", "overfitting", (
        "loss falls while the metric does not", "validation loss far above training loss")),
    _named("training", "half precision overflows in training"),
    _named("training", "training loss does not fall"),
    _named("training", "not finite"),
    _named("training", "log of another run"),
    _named("training", "validated on the training data", one_strength=NO_DEGREE),
    _named("training", "AP and AR go opposite ways", "AP changes alone"),
    _named("training", "stated best is below another value",
           no_case="it takes a log that names its best value; tests/curves/test_flags.py plants it"),
    _named("training", "statements that the published files deny"),
    _named("training", "consistency loss is always 0"),
    _named("training", "own loss wants maps on another scale than its codec",
           no_case="planted at seven scales and in five losses by tests/training/test_target_scale.py"),
    Kind("training", "other pieces of a training, by the bisector", (
        "averaged weights lag behind the trained ones", "dropout too strong",
        "batch normalisation differs between training and use",
        "targets are encoded in another way than outputs are decoded", "weight decay too strong",
        "augmentation changes image and keypoints differently",
        "flip changes image and keypoints differently"),
        no_case="planted, one by one, by tests/training/test_overfit.py"),
)  # fmt: skip

CONTAINERS: dict[str, str] = {
    "condition or refiner at fault": "the conditioning clinic",
    "sequence model at fault": "the rollout lab",
    "inference script of a bottom-up model": "the known mistakes of grouping scripts",
    "training curves": "the flags of the curves",
    "training script": "the loop's code",
    "one image cannot be learned": "the overfit bisector",
}
"""Registered causes whose findings have names of their own, and what names them."""


def verdicts() -> set[str]:
    """The names of findings that the registered causes and the labs behind them can give."""
    import dataclasses

    from torch import nn

    from workbench.core import Outputs
    from workbench.curves import flags, mistakes, schedule
    from workbench.diagnosis import (
        augmentation_code,
        gradient_code,
        loss_code,
        parameter_code,
        picture_code,
        schedule_code,
        training_code,
    )
    from workbench.diagnosis.cause import all_causes
    from workbench.diagnosis.lint_causes import Lints
    from workbench.diagnosis.overfit_causes import CAUSE_OF
    from workbench.evaluation.ablation import fault_variants
    from workbench.inspectors.conditioning.findings import ORDER
    from workbench.models.bottom_up import BottomUp
    from workbench.models.bottom_up.aggregation import Aggregation
    from workbench.skeletons import SKELETONS
    from workbench.training.target_scale import SCALED

    skeleton, outputs = SKELETONS["coco-17"], Outputs()
    outputs = dataclasses.replace(outputs, passes={"mirrored": outputs})
    found = {cause.name for cause in all_causes()} - set(CONTAINERS)
    for swap in ("both", "neither"):
        model = BottomUp(
            nn.Identity(), skeleton, 17, aggregation=Aggregation(mirror_swap=swap, inverse_affine=False)
        )
        model = dataclasses.replace(
            model, grouping=dataclasses.replace(model.grouping, person_score="filled")
        )
        found |= {variant.undoes for variant in fault_variants(model, outputs)} - {""}
    found |= {flags.LOSS_WITHOUT_METRIC, flags.AGAINST, flags.BEST_BELOW, flags.NOT_FINITE, flags.GAP}
    found |= {schedule.LONG_WARM_UP, schedule.RESTARTED, schedule.BEGUN_ANEW, schedule.ENDED_EARLY}
    found |= {mistakes.STANDS_STILL, mistakes.IN_ORDER}
    code = (
        training_code, augmentation_code, gradient_code, loss_code, parameter_code, picture_code,
        schedule_code,
    )  # fmt: skip
    # The names of causes are the texts among the constants of these modules.
    constants = [value for module in code for name, value in vars(module).items() if name.isupper()]
    found |= {value for value in constants if isinstance(value, str)}
    return found | {SCALED} | set(ORDER) | set(CAUSE_OF.values()) | set(Lints.CHECKED)


def kind_of(case: Case) -> Kind | None:
    """The row of a planted case; None for a control, or where no row has its name."""
    wanted = case.plants or (case.cause[0] if case.cause else "")
    return next((k for k in KINDS if k.cause == wanted or (not case.plants and wanted in k.names)), None)


@dataclass(frozen=True)
class Planted:
    """One row of the table.

    Attributes:
        kind: its cause.
        where: system -> the strengths in which it is planted there.
    """

    kind: Kind
    where: dict[str, set[str]]

    @property
    def strengths(self) -> set[str]:
        """In all systems together."""
        return set().union(*self.where.values())

    @property
    def lacks(self) -> str:
        """What is neither planted nor explained; "" for nothing."""
        kind = self.kind
        if kind.no_case:
            return ""
        short = []
        if len(self.where) < 2 and not kind.one_system:
            short.append(f"planted in {len(self.where)} systems and no reason is given")
        if len(self.strengths) < 2 and not kind.one_strength:
            short.append(f"planted as {', '.join(self.strengths) or 'nothing'} and no reason is given")
        if not self.where:
            short.append("no case")
        return "; ".join(short)

    @property
    def outdated(self) -> str:
        """A reason for something that is planted all the same; "" for none."""
        kind = self.kind
        reasons = (
            (kind.no_case, bool(self.where)),
            (kind.one_system, len(self.where) > 1),
            (kind.one_strength, len(self.strengths) > 1),
        )
        return "; ".join(reason for reason, there in reasons if reason and there)

    def text(self) -> str:
        """The row of the page."""
        where = "; ".join(f"{system}: {', '.join(sorted(s))}" for system, s in sorted(self.where.items()))
        kind = self.kind
        why = "; ".join(reason for reason in (kind.no_case, kind.one_system, kind.one_strength) if reason)
        return f"| {kind.group} | {kind.cause} | {where or '-'} | {why or '-'} |"


def coverage(cases: Iterable[Case]) -> tuple[Planted, ...]:
    """Every cause, with where the cases plant it."""
    where: dict[str, dict[str, set[str]]] = {kind.cause: {} for kind in KINDS}
    for case in cases:
        if (kind := kind_of(case)) is not None:
            system = case.system.partition(",")[0]
            where[kind.cause].setdefault(system, set()).add(case.strength)
    return tuple(Planted(kind, where[kind.cause]) for kind in KINDS)


def table(cases: Iterable[Case]) -> list[str]:
    """The lines of the page."""
    rows = coverage(cases)
    two = sum(len(row.where) > 1 and len(row.strengths) > 1 for row in rows)
    none = sum(not row.where for row in rows)
    return [
        f"{len(rows)} causes: {two} in two systems or more and at both strengths, "
        f"{len(rows) - two - none} in one system or at one strength, {none} not planted; each of these says "
        "why.",
        "",
        "| group | cause | systems and strengths | why not more |",
        "| --- | --- | --- | --- |",
        *(row.text() for row in rows),
    ]
