"""Protocol: the rules of an evaluation. Two figures are comparable only if every rule is the same."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import DecodeOptions, Groups, PoseModel, Skeleton, nearest
from workbench.core.capabilities import (
    CropsBoxes,
    MixesBatch,
    RollsOut,
    ShiftsHeatmaps,
    StatesGroupingRules,
    StatesSupport,
    TakesSupport,
)
from workbench.core.report import counted, plain
from workbench.decoding import KEYPOINT_SCORES, decoders_for
from workbench.decoding.grouping import GroupingSettings
from workbench.skeletons import FILE_SIGMAS, MODEL_SIGMAS, skeleton_for, spelling

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.checkpoints.loading import LoadReport
    from workbench.data.pose_set import PoseSet
    from workbench.models import LoadedModel


# What names the subject of a measurement, not its rules: epochs of one run differ in these.
SUBJECT = frozenset({"checkpoint", "sha256"})


@dataclass(frozen=True)
class Protocol:
    """The rules of one evaluation; what is not known says so.

    Attributes:
        boxes: where the crops come from: ``annotation``, the name of a detection file, ``unknown`` ...
        padding: factor on the boxes; nan when unknown.
        flip: predictions were averaged with those of the mirrored image; None when unknown.
        flip_shift: mirrored heatmaps were moved by one cell, as models trained without UDP need it.
        decoder: how keypoints were read off the output.
        keypoint_score: how a keypoint's score is made of the output; "" where there is one way only.
        score_rule: how a pose's score is made; see workbench.evaluation.protocol.
        nms: OKS above which the worse of two poses was dropped; nan for none.
        input: how a whole image becomes the input of a bottom-up model; "" for crops.
        scales: at which a bottom-up model looks at an image, and which of its maps count; "" for crops.
        grouping: by which rules detections become people; "" where boxes say who is who.
        assumed: what nothing says of the model's outputs and was taken for granted; "" where nothing was.
        support: of a category-agnostic model, which examples it was given; "" for others.
        batch: how many crops went through the network together, and why that counts; "" where it does not.
        max_dets: detections that count per image and category.
        data: name of the set.
        images: how many were evaluated.
        instances: annotated ones that count.
        left_out: images that the annotations name and that were missing, left out as the user asked.
        unseen: of these, those that no crop showed, because their boxes have no size within the image; they
            count as missed.
        sigmas: where the OKS constants come from.
        oks_sigmas: the constants themselves; () where a file does not state them.
        area: where the annotations' areas come from.
        detection_area: where the detections' areas come from; moves APM, APL, ARM and ARL.
        checkpoint: what was evaluated.
        sha256: of the checkpoint, "" when it was not computed.
        loaded_fraction: share of the model's parameters that came from the checkpoint; nan when unknown.
        complete: every tensor of the model came from it, running statistics included; None when unknown.
    """

    boxes: str = "unknown"
    padding: float = math.nan
    flip: bool | None = None
    flip_shift: bool = False
    decoder: str = "unknown"
    keypoint_score: str = ""
    score_rule: str = "as given"
    nms: float = math.nan
    input: str = ""
    scales: str = ""
    grouping: str = ""
    assumed: str = ""
    support: str = ""
    batch: str = ""
    max_dets: int = 20
    data: str = ""
    images: int = 0
    instances: int = 0
    left_out: int = 0
    unseen: int = 0
    sigmas: str = ""
    oks_sigmas: tuple[float, ...] = ()
    area: str = "annotated"
    detection_area: str = ""
    checkpoint: str = ""
    sha256: str = ""
    loaded_fraction: float = math.nan
    complete: bool | None = None

    @property
    def partly_loaded(self) -> bool:
        """The numbers are those of a model that was not fully loaded."""
        return self.loaded_fraction < 1 or self.complete is False

    def text(self) -> str:
        """The rules in one line, what matters most first."""
        named = {"annotation": "GT boxes", "unknown": "boxes unknown", "whole image": "whole images"}
        parts = [
            self._warning() if self.partly_loaded else "",
            named.get(self.boxes, f"boxes {self.boxes}"),
            "" if math.isnan(self.padding) else f"pad {self.padding:g}",
            self.flip_text,
            "" if self.grouping else "decoder unknown" if self.decoder == "unknown" else self.decoder,
            f"{self.keypoint_score} score" if self.keypoint_score else "",
            f"pose score {self.score_rule}",
            self.input,
            self.scales,
            self.grouping,
            self.support,
            self.batch,
            self.assumed,
            "no NMS" if math.isnan(self.nms) else f"OKS NMS {self.nms:g}",
            f"maxDets {self.max_dets}",
            "" if self.area == "annotated" else f"area {self.area}",
            self._given_sigmas(),
            f"{self.data}: {counted(self.instances, 'instance')}, {counted(self.images, 'image')}"
            if self.data
            else "",
            f"{counted(self.left_out, 'missing image')} left out" if self.left_out else "",
            f"{self.unseen} of them missed for want of a box with a size" if self.unseen else "",
        ]
        return ", ".join(part for part in parts if part)

    @property
    def flip_text(self) -> str:
        """Whether predictions were averaged with those of the mirrored image, in words."""
        flips = {None: "flip unknown", True: "flip", False: "no flip"}
        return flips[self.flip] + (" shifted by a cell" if self.flip_shift else "")

    def _given_sigmas(self) -> str:
        """Which OKS constants count; "" for the published ones of the skeleton, which its name tells."""
        if not self.oks_sigmas:
            return ""
        low, high = min(self.oks_sigmas), max(self.oks_sigmas)
        values = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        if self.sigmas == "given" or self.sigmas.endswith("--sigmas"):
            return f"OKS sigmas {values}" if low == high else f"OKS sigmas as given, {values}"
        source = self.sigmas.partition(": ")[2]
        whose = {MODEL_SIGMAS: "the model's own OKS sigmas", FILE_SIGMAS: "OKS sigmas of the annotation file"}
        named = next((text for start, text in whose.items() if source.startswith(start)), "")
        return f"{named}, {values}" if named else ""

    def _warning(self) -> str:
        # 99.96 % would be printed as all of them.
        share = (
            f"{self.loaded_fraction:.1%} of parameters"
            if self.loaded_fraction < 0.9995
            else "tensors missing"
        )
        return f"NOT FULLY LOADED ({share})"

    def differs_from(self, other: Protocol) -> list[str]:
        """What makes two figures incomparable, one phrase for each rule: ``flip: False against True``."""
        return [
            f"{f.name}: {_value_text(mine)} against {_value_text(theirs)}"
            for f in dataclasses.fields(self)
            if f.name not in SUBJECT
            for mine, theirs in [(getattr(self, f.name), getattr(other, f.name))]
            if _value_text(mine) != _value_text(theirs) and (f.name != "oks_sigmas" or (mine and theirs))
        ]

    def to_json(self) -> dict[str, Any]:
        """All rules as plain data, with the line for people under ``text``."""
        return {**plain(self), "text": self.text()}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Protocol:
        """Read what to_json wrote.

        Raises:
            ValueError: a setting is of another type than to_json writes; files of predictions are edited.
        """
        known = {f.name: str(f.type) for f in dataclasses.fields(cls)}
        given: dict[str, Any] = {k: v for k, v in facts.items() if k in known and v is not None}
        for name, value in given.items():
            if not _is_kind(value, known[name]):
                raise ValueError(f"the protocol's {name} is {repr(value)[:40]}, expected {known[name]}")
        given["oks_sigmas"] = tuple(given.get("oks_sigmas", ()))
        return cls(**given)


def _is_kind(value: Any, kind: str) -> bool:
    """Whether a value of a JSON is what a field of Protocol holds; `kind` is the field's annotation."""
    if kind.startswith("tuple"):
        return isinstance(value, list | tuple) and all(_is_kind(one, "float") for one in value)
    if kind == "float":  # a whole number may be written without its point; a huge one fits no float
        return isinstance(value, float) or (type(value) is int and abs(value) < _FLOAT_LIMIT)
    if kind == "int":
        return type(value) is int and abs(value) < _FLOAT_LIMIT
    return type(value) is (str if kind == "str" else bool)


def _value_text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


# Whole numbers beyond it are no count, and overflow where they are divided.
_FLOAT_LIMIT = 1 << 63

# How sure is the model of a whole pose? Rules that make one score of the keypoints' scores.


# CocoMetric's keypoint_score_thr.
LEAST_SCORE = 0.2

SCORE_RULES: dict[str, str] = {
    "bbox_keypoint": "box score x mean of keypoint scores > .2",
    "bbox": "box score",
    "bbox_rle": "box score + mean + maximum of keypoint scores",
    "mean": "mean of keypoint scores",
    "min": "lowest keypoint score",
    "max": "highest keypoint score",
    "oracle": "true OKS (an upper bound, no protocol)",
}
DEFAULT = "bbox_keypoint"


def check_score_rule(rule: str) -> None:
    """Raise KeyError for a pose score that SCORE_RULES does not hold."""
    if rule not in SCORE_RULES:
        raise KeyError(f"no score rule {rule!r}; nearest: {nearest(rule, SCORE_RULES)}")


def pose_scores(
    rule: str,
    scores: Float[np.ndarray, "N K"],
    box_score: Float[np.ndarray, " N"],
    oks: Float[np.ndarray, " N"] | None = None,
) -> Float[np.ndarray, " N"]:
    """One score for each pose.

    Args:
        rule: a name of SCORE_RULES.
        scores: of keypoints.
        box_score: of the boxes; 1 for annotated ones.
        oks: against its annotation, for ``oracle``.

    Raises:
        KeyError: no such rule.
        ValueError: ``oracle`` without OKS.
    """
    check_score_rule(rule)
    if rule == "oracle":
        if oks is None:
            raise ValueError(
                "score rule oracle: needs boxes from annotations, so that each pose has its truth"
            )
        return np.nan_to_num(oks, nan=0.0)
    if rule == "bbox":
        return np.array(box_score, float)
    if rule == "min":
        return scores.min(1)
    if rule == "max":
        return scores.max(1)
    if rule == "mean":
        return scores.mean(1)
    if rule == "bbox_rle":
        return box_score + scores.mean(1) + scores.max(1)
    sure = scores > LEAST_SCORE
    # cumsum adds one by one from the left, as CocoMetric's loop does, so that ties stay ties.
    total = np.cumsum(np.where(sure, scores, 0), axis=1)[:, -1]
    count = sure.sum(1)
    return box_score * np.divide(total, count, out=np.zeros_like(total), where=count > 0)


# Which rules come with a model, and does it fit the data set at all?


# OKS above which two poses from a detector's boxes are one; mmpose's nms_thr.
DETECTOR_NMS = 0.9
# Crops in one forward pass, where nobody asks for another number.
BATCH_SIZE = 16


def protocol_of(
    model: PoseModel,
    *,
    boxes: str = "annotation",
    flip: bool = False,
    options: DecodeOptions | None = None,
    score_rule: str = DEFAULT,
    nms: float | None = None,
    batch_size: int = BATCH_SIZE,
    checkpoint: str = "",
    sha256: str = "",
    load: LoadReport | None = None,
) -> Protocol:
    """The rules that predict follows with the same arguments; evaluate adds the data set's.

    Args:
        model: its padding and its own decoder are written down.
        boxes: where they come from: ``annotation``, or what to call the detector's.
        flip: as in predict.
        options: as in predict.
        score_rule: as in predict.
        nms: as in predict.
        batch_size: as in predict.
        checkpoint: what to call it.
        sha256: of the file.
        load: what the model took from it; unknown when not given.
    """
    options = options or DecodeOptions()
    if isinstance(model, Groups):
        return _of_people(model, flip, checkpoint, sha256, load)
    codec = model.codec
    simcc = codec is not None and codec.kind == "simcc"
    # Keypoints of a sequence model are always those that it reads its own answers for.
    own = "the model's own" + (", free-running" if isinstance(model, RollsOut) else "")
    return Protocol(
        boxes=boxes,
        padding=float(model.padding) if isinstance(model, CropsBoxes) else math.nan,
        flip=flip,
        flip_shift=flip and isinstance(model, ShiftsHeatmaps) and bool(model.shift_heatmap),
        decoder=options.decoder or (codec.decoder if codec is not None else own),
        keypoint_score=(options.score or "min") if simcc else "",
        score_rule=SCORE_RULES[score_rule],
        nms=nms_threshold(nms, annotated=boxes == "annotation"),
        assumed=codec.assumed if codec is not None else "",
        support=support_rule(model),
        batch=batch_rule(model, batch_size),
        checkpoint=checkpoint,
        sha256=sha256,
        loaded_fraction=math.nan if load is None else load.loaded_fraction,
        complete=None if load is None else load.complete,
    )


def support_rule(model: PoseModel) -> str:
    """Which examples show a category-agnostic model what to look for; "" for other models.

    Args:
        model: that may take a support.
    """
    if not isinstance(model, TakesSupport):
        return ""
    if not isinstance(model, StatesSupport):
        return "support as the adapter chooses it"
    shown = [sample.key or "an example without a key" for sample in model.support]
    # Not the accuracy with another example: the answer is among the inputs.
    return (
        f"support {' + '.join(shown)}"
        if shown
        else ("each instance is its own support (its true keypoints are an input: an upper bound)")
    )


def batch_rule(model: PoseModel, batch_size: int) -> str:
    """How many crops go through the network together, and why that counts; "" where it does not.

    Args:
        model: that may state how samples of a batch change each other's answers.
        batch_size: crops in one forward pass.
    """
    mixing = model.batch_text if isinstance(model, MixesBatch) else ""
    return f"batches of {batch_size} ({mixing})" if mixing else ""


def _of_people(
    model: PoseModel, flip: bool, checkpoint: str, sha256: str, load: LoadReport | None
) -> Protocol:
    """The rules of a bottom-up model: it gets no boxes, and its grouping gives the scores."""
    rules = model if isinstance(model, StatesGroupingRules) else None
    grouping = model.grouping if isinstance(model, Groups) else None
    after = isinstance(grouping, GroupingSettings) and grouping.person_score == "filled"
    return Protocol(
        boxes="whole image",
        flip=flip,
        decoder="grouping",
        score_rule=f"mean of all keypoint values {'after' if after else 'before'} missing ones are filled",
        input=rules.input_text if rules else "",
        scales=rules.scales_text if rules else "",
        grouping=rules.grouping_text if rules else "the model's own",
        checkpoint=checkpoint,
        sha256=sha256,
        loaded_fraction=math.nan if load is None else load.loaded_fraction,
        complete=None if load is None else load.complete,
    )


def protocol_of_loaded(loaded: LoadedModel, *, sha256: str = "", **rules: Any) -> Protocol:
    """The rules of a model as open_model gave it: its title, its file's hash, how far it was loaded.

    Args:
        loaded: opened.
        sha256: of its checkpoint where that has been read already: a large file is not read again.
        rules: the other arguments of protocol_of.
    """
    # One file alone: of several, and of none, the model knows better what its hash is.
    known = sha256 if loaded.checkpoint and len(loaded.checkpoint.paths) == 1 else ""
    protocol = protocol_of(
        loaded.model, checkpoint=loaded.title, sha256=known or loaded.sha256, load=loaded.load, **rules
    )
    from workbench.models.families import families

    # An adapter without a report may leave parts out.
    whole = loaded.load is None and loaded.family in {one.name for one in families() if one.file_is_model}
    return replace(protocol, loaded_fraction=1.0, complete=True) if whole else protocol


def check_options(model: PoseModel, options: DecodeOptions) -> None:
    """Raise if a decoding option would be ignored, because the protocol would then be wrong.

    Args:
        model: whose outputs are decoded.
        options: of decoding.

    Raises:
        KeyError: no such decoder for this model's output.
        ValueError: the score rule is unknown or for other outputs, or the model decodes in its own way.
    """
    if model.codec is None:
        if options != DecodeOptions():
            raise ValueError("decoder and score: this model reads its output in its own way; leave them out")
        return
    names = decoders_for(model.codec)
    if options.decoder and options.decoder not in names:
        raise KeyError(
            f"no decoder {options.decoder!r} for {model.codec.kind} outputs; there are {', '.join(names)}"
        )
    if options.score and options.score not in KEYPOINT_SCORES:
        raise ValueError(f"score rule: expected {', '.join(KEYPOINT_SCORES)}, got {options.score!r}")
    if options.score and model.codec.kind != "simcc":
        raise ValueError("score rule: min, mean and max are of SimCC's two peaks; a heatmap has one")


def check_same_keypoints(model: Skeleton, data: Skeleton, name: str) -> None:
    """Raise ValueError if a model and a data set do not have the same keypoints in the same order.

    Args:
        model: its skeleton.
        data: the skeleton of the annotations.
        name: of the data set, for the error.
    """
    if len(model) != len(data):
        raise ValueError(
            f"the model predicts {counted(len(model), 'keypoint')} ({model.name}), but {name} is annotated "
            f"with {len(data)} ({data.name}); choose a data set with the model's keypoints"
        )
    # Skeletons of files with names of their own (or numbers, as ONNX has) can only be counted.
    own = [s for s in (model, data) if s.name.startswith("own-")]
    if not own and model.keypoints != data.keypoints:
        first = next(
            k for k, (a, b) in enumerate(zip(model.keypoints, data.keypoints, strict=True)) if a != b
        )
        raise ValueError(
            f"the model and {name} order their keypoints differently: number {first} is "
            f"{model.keypoints[first]} in {model.name} and {data.keypoints[first]} in {data.name}"
        )


def judged_by(pose_set: PoseSet, model: Skeleton) -> PoseSet:
    """The set with the sigmas that came with a model, where both name the same keypoints.

    One rule decides which OKS constants count: those that the user gives, a model's own (mmpose judges with
    the metainfo that a config or a checkpoint holds), those that the annotation file states, the published
    ones of a known skeleton. A model that repeats the published ones has none of its own. The skeleton's
    source says which they are, and with it the protocol.

    Args:
        pose_set: annotations.
        model: its skeleton.
    """
    own = pose_set.skeleton
    same = list(map(spelling, model.keypoints)) == list(map(spelling, own.keypoints))
    if not same or not model.sigmas:
        return pose_set
    if own.sigmas and any(
        known and np.allclose(model.sigmas, known, rtol=0.01, atol=0)
        for known in (own.sigmas, skeleton_for(own.keypoints).sigmas)
    ):
        return pose_set
    skeleton = replace(
        own,
        sigmas=model.sigmas,
        mirror=own.mirror or model.mirror,
        source=", ".join(filter(None, (MODEL_SIGMAS, model.source))),
    )
    return replace(pose_set, skeleton=skeleton)


def judged_with(pose_set: PoseSet, sigmas: Sequence[float]) -> PoseSet:
    """The set with given OKS constants: one for each keypoint, or one for all.

    Args:
        pose_set: annotations.
        sigmas: of OKS.

    Raises:
        ValueError: another number of them, or one that is not above 0.
    """
    given, K = tuple(sigmas), len(pose_set.skeleton)
    if len(given) not in (1, K) or not min(given) > 0:
        raise ValueError(
            f"--sigmas: expected one number above 0, or {K}, one for each keypoint of {pose_set.name}, got "
            f"{len(given)}: {', '.join(f'{one:g}' for one in given[:8])}"
        )
    given = given if len(given) == K else given * K
    return replace(pose_set, skeleton=replace(pose_set.skeleton, sigmas=given, source="--sigmas"))


def judged_as(pose_set: PoseSet, protocols: Iterable[Protocol | None]) -> PoseSet:
    """The set with the sigmas that predictions were judged with when they were written: a model's own.

    Args:
        pose_set: the annotations.
        protocols: of the predictions; the first one that states sigmas counts.
    """
    own = pose_set.skeleton
    stated = next((p for p in protocols if p is not None and len(p.oks_sigmas) == len(own)), None)
    if stated is None or stated.oks_sigmas == own.sigmas:
        return pose_set
    source = stated.sigmas.partition(": ")[2] or stated.sigmas
    return replace(pose_set, skeleton=replace(own, sigmas=stated.oks_sigmas, source=source))


def other_sigmas(pose_set: PoseSet, alone: Mapping[str, Sequence[float]]) -> list[str]:
    """What to know where models with OKS sigmas of their own are compared by one of them.

    Args:
        pose_set: as all are judged.
        alone: by title, the sigmas that each is judged with by itself; () where they are not known.
    """
    used = pose_set.skeleton.sigmas
    known = {title: own for title, own in alone.items() if len(own) == len(used)}
    others = [title for title, own in known.items() if not np.allclose(own, used, rtol=1e-6)]
    if not others:
        return []
    owner = next((title for title in known if title not in others), pose_set.name)
    return [
        f"all are judged with the OKS sigmas of {owner}, {min(used):.3g} to {max(used):.3g}; the figures of "
        f"{', '.join(others)} by `workbench evaluate` are made with other ones; --sigmas sets them for all"
    ]


def nms_threshold(asked: float | None, *, annotated: bool) -> float:
    """OKS above which the worse of two poses is dropped; nan for none.

    Args:
        asked: by the user; None leaves it to the boxes, 1 drops nothing.
        annotated: the boxes are annotations', one for each instance, so none is found twice.

    Raises:
        ValueError: not above 0.
    """
    if asked is None:
        return math.nan if annotated else DETECTOR_NMS
    if not asked > 0:
        raise ValueError(f"nms: expected an OKS above 0, or 1 for none, got {asked:g}")
    return asked if asked < 1 else math.nan
