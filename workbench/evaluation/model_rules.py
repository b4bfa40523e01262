"""Which rules come with a model, and does it fit the data set at all?"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from workbench.core import DecodeOptions, Groups, PoseModel, Skeleton
from workbench.core.capabilities import CropsBoxes, ShiftsHeatmaps, SizesInput
from workbench.core.geometry import crop_region
from workbench.evaluation.predictions import Predictions, extent
from workbench.evaluation.protocol import DEFAULT, SCORE_RULES, Protocol
from workbench.skeletons import spelling

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.checkpoints.loading import LoadReport
    from workbench.data.pose_set import PoseSet
    from workbench.models import LoadedModel
    from workbench.models.bottom_up import BottomUp

# OKS above which two poses from a detector's boxes are one; mmpose's nms_thr.
DETECTOR_NMS = 0.9

# Families whose file is the model: nothing can be missing. An adapter without a report may leave parts out.
FILE_IS_MODEL = ("onnx", "torchscript")


def protocol_of(
    model: PoseModel,
    *,
    boxes: str = "annotation",
    flip: bool = False,
    options: DecodeOptions | None = None,
    score_rule: str = DEFAULT,
    nms: float | None = None,
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
        checkpoint: what to call it.
        sha256: of the file.
        load: what the model took from it; unknown when not given.
    """
    options = options or DecodeOptions()
    if isinstance(model, Groups):
        return _of_people(cast("BottomUp", model), flip, checkpoint, sha256, load)
    codec = model.codec
    simcc = codec is not None and codec.kind == "simcc"
    return Protocol(
        boxes=boxes,
        padding=float(model.padding) if isinstance(model, CropsBoxes) else math.nan,
        flip=flip,
        flip_shift=flip and isinstance(model, ShiftsHeatmaps) and bool(model.shift_heatmap),
        decoder=options.decoder or (codec.decoder if codec is not None else "the model's own"),
        keypoint_score=(options.score or "min") if simcc else "",
        score_rule=SCORE_RULES[score_rule],
        nms=nms_threshold(nms, annotated=boxes == "annotation"),
        checkpoint=checkpoint,
        sha256=sha256,
        loaded_fraction=math.nan if load is None else load.loaded_fraction,
        complete=None if load is None else load.complete,
    )


def _of_people(
    model: BottomUp, flip: bool, checkpoint: str, sha256: str, load: LoadReport | None
) -> Protocol:
    """The rules of a bottom-up model: nobody gives it a box, and its grouping gives the scores."""
    return Protocol(
        boxes="whole image",
        flip=flip,
        decoder="grouping",
        score_rule="mean of all keypoint values before missing ones are filled",
        input=model.input_text,
        scales=model.scales_text,
        grouping=model.grouping_text,
        checkpoint=checkpoint,
        sha256=sha256,
        loaded_fraction=math.nan if load is None else load.loaded_fraction,
        complete=None if load is None else load.complete,
    )


def protocol_of_loaded(loaded: LoadedModel, **rules: Any) -> Protocol:
    """The rules of a model as open_model gave it: its title, its file's hash, how far it was loaded.

    Args:
        loaded: opened.
        rules: the other arguments of protocol_of.
    """
    protocol = protocol_of(
        loaded.model, checkpoint=loaded.title, sha256=loaded.sha256, load=loaded.load, **rules
    )
    whole = loaded.load is None and loaded.family in FILE_IS_MODEL
    return replace(protocol, loaded_fraction=1.0, complete=True) if whole else protocol


def check_options(model: PoseModel, options: DecodeOptions) -> None:
    """Raise where a wish about decoding would be passed over: then the protocol would tell a lie.

    Raises:
        KeyError: no such decoder for this model's output.
        ValueError: the score rule is unknown or for other outputs, or the model decodes in its own way.
    """
    from workbench.decoding import decoders_for

    if model.codec is None:
        if options != DecodeOptions():
            raise ValueError("decoder and score: this model reads its output in its own way; leave them out")
        return
    names = decoders_for(model.codec)
    if options.decoder and options.decoder not in names:
        raise KeyError(
            f"no decoder {options.decoder!r} for {model.codec.kind} outputs; there are {', '.join(names)}"
        )
    if options.score not in ("", "min", "mean"):
        raise ValueError(f"score rule: expected min or mean, got {options.score!r}")
    if options.score and model.codec.kind != "simcc":
        raise ValueError("score rule: min and mean are of SimCC's two peaks; a heatmap has one")


def check_same_keypoints(model: Skeleton, data: Skeleton, name: str) -> None:
    """Raise ValueError when a model and a data set do not speak of the same keypoints in the same order."""
    if len(model) != len(data):
        raise ValueError(
            f"the model predicts {len(model)} keypoints ({model.name}), but {name} is annotated with "
            f"{len(data)} ({data.name}); choose a data set with the model's keypoints"
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
    """The set with the sigmas that came with a model, where both speak of the same keypoints by name.

    mmpose judges with the sigmas of the metainfo that a config or a checkpoint holds; so does this. Where the
    set's own are others, its skeleton's source says so, and with it the protocol.
    """
    own = pose_set.skeleton
    same = list(map(spelling, model.keypoints)) == list(map(spelling, own.keypoints))
    if not same or not model.sigmas:
        return pose_set
    if own.sigmas and np.allclose(model.sigmas, own.sigmas, rtol=0.01, atol=0):
        return pose_set
    skeleton = replace(
        own,
        sigmas=model.sigmas,
        mirror=own.mirror or model.mirror,
        source=f"the model's own sigmas, {model.source}",
    )
    return replace(pose_set, skeleton=skeleton)


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


def crop_areas(model: PoseModel, found: Predictions) -> Float[np.ndarray, " N"]:
    """What CocoMetric takes: the crop's area; the pose's extent where the model does not tell its crop."""
    size = model.input_size if isinstance(model, SizesInput) else None
    size = size or (model.codec.input_size if model.codec is not None else None)
    if size is None or not isinstance(model, CropsBoxes):
        return extent(found.keypoints)
    return np.array([np.prod(crop_region(tuple(box), size, model.padding)[1]) for box in found.box.tolist()])
