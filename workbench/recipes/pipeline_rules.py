"""Rules about the pipelines of a config: crops, encoders and random steps of training and validation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from workbench.recipes.comparison import AuditFinding, Subject, finding, shown
from workbench.recipes.values import Decisions, class_name, look_up


def steps_of(made: Decisions, part: str) -> list[Mapping[str, Any]]:
    """The steps of a loader's own pipeline, else those of the pipeline that the config names so."""
    places = (f"{part}_dataloader.dataset.pipeline", f"data.{part}.pipeline", f"{part}_pipeline")
    found = (look_up(made.config, place) for place in places)
    steps = next((one for one in found if isinstance(one, (list, tuple)) and one), ())
    return [step for step in steps if isinstance(step, Mapping)]


def udp_agrees(subject: Subject) -> Iterator[AuditFinding]:
    """Codec, crop and flip follow one convention of a pixel's place."""
    made = subject.decisions
    codec = made.get("codec.type")
    source = "Huang et al., UDP, arXiv 1911.07524; mmpose 1.3.2 get_udp_warp_matrix"
    if made.dialect != "mmengine" or codec not in ("UDPHeatmap", "MSRAHeatmap"):
        return
    udp = codec == "UDPHeatmap"
    crops = {name: look_up(steps_of(made, name), "TopdownAffine") for name in ("train", "val")}
    other = {
        name: crop for name, crop in crops.items()
        if isinstance(crop, Mapping) and udp != bool(crop.get("use_udp"))
    }  # fmt: skip
    # One pipeline that follows the codec, beside one that does not, cannot be meant.
    apart = len(other) == 1 and all(isinstance(crop, Mapping) for crop in crops.values())
    for name, crop in other.items():
        yield finding(
            "error" if apart else "warning",
            f"{name}_pipeline.TopdownAffine.use_udp",
            crop.get("use_udp"),
            udp,
            cause="crop and codec follow two conventions",
            why="one measures in steps between pixel centres (size - 1), the other in pixels (size): "
            "keypoints come out up to one input pixel off at the far borders",
            source=source,
            fix=f"set use_udp={udp} in the {name} pipeline",
            field="crop.udp",
        )
    if made.get("test.flip") is True and made.get("test.shift_heatmap") is udp:
        yield finding(
            "error",
            made.key("test.shift_heatmap"),
            udp,
            not udp,
            cause="flip test shifts a UDP map" if udp else "flip test does not shift its maps",
            why="with UDP the mirrored map lies right as it is: shifted by a cell, the average is half a "
            "cell off"
            if udp
            else "without UDP the mirrored map lies a cell off: unless it is shifted, the average is half a "
            "cell off",
            source=source,
            fix=f"set shift_heatmap to {not udp}",
            field="test.shift_heatmap",
        )


def crops_agree(subject: Subject) -> Iterator[AuditFinding]:
    """Training and validation enlarge and crop the boxes alike."""
    made = subject.decisions
    if made.dialect != "mmengine":
        return
    steps: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name in ("train", "val"):
        steps[name] = {class_name(step): step for step in steps_of(made, name)}
    source = "mmpose 1.3.2 GetBBoxCenterScale and TopdownAffine"
    for step, key, usual, why in (
        ("GetBBoxCenterScale", "padding", 1.25, "people are larger or smaller in the test than in training"),
        ("TopdownAffine", "input_size", None, "the network sees another crop in the test than in training"),
    ):
        if step not in steps["train"] or step not in steps["val"]:
            continue
        trained, judged = (_listed(steps[name][step].get(key, usual)) for name in ("train", "val"))
        if trained != judged:
            yield finding(
                "error",
                f"val_pipeline.{step}.{key}",
                judged,
                trained,
                cause="trained on other crops than judged on",
                why=why,
                source=source,
                fix=f"use one {key} in both pipelines",
            )


def steps_in_order(subject: Subject) -> Iterator[AuditFinding]:
    """Pictures are moved before their targets are made, boxes before they are cut out."""
    made, named = subject.decisions, set[str]()
    if made.dialect != "mmengine":
        return
    order = [class_name(step) for step in steps_of(made, "train")]
    for late, first, cause, why in (
        (_MOVING, "GenerateTarget", "pictures moved after their targets were made",
         "the targets stay where the keypoints were: most of them are wrong"),
        (("RandomFlip",), "TopdownAffine", "pictures moved after their targets were made",
         "targets are made of the keypoints that TopdownAffine has moved, which are not mirrored behind it"),
        (_OF_BOXES, "TopdownAffine", "augmentation without effect",
         "the crop is cut with the box as it was: scale, rotation and shift change nothing behind it"),
    ):  # fmt: skip
        if first not in order:
            continue
        for name in order[order.index(first) + 1 :]:
            if name not in late or name in named:
                continue
            named.add(name)
            yield finding(
                "error", f"train_pipeline.{name}", f"behind {first}", f"before {first}",
                cause=cause, evidence=f"the train pipeline has {name} behind {first}", why=why,
                source="mmpose 1.3.2 mmpose/datasets/transforms: RandomFlip, RandomBBoxTransform, "
                "TopdownAffine",
                fix=f"put {name} before {first}",
            )  # fmt: skip


# Steps that move the picture with its keypoints, and such that move the box alone.
_MOVING = ("RandomFlip", "TopdownAffine", "BottomupResize", "BottomupRandomAffine", "BottomupRandomCrop")
_OF_BOXES = ("RandomBBoxTransform", "RandomHalfBody", "GetBBoxCenterScale")
# Steps that draw anew for every sample, and have no name that says so.
_DRAWN = ("PhotometricDistortion", "Mosaic", "YOLOXMixUp")


def random_steps(subject: Subject) -> Iterator[AuditFinding]:
    """What a model is judged on is not drawn anew in every validation."""
    named: set[str] = set()
    for part in ("val", "test"):
        for step in steps_of(subject.decisions, part):
            name, chances = class_name(step), _chances(step)
            scales = step.get("scales")  # of one scale nothing is drawn
            one = "Choice" in name and isinstance(scales, (list, tuple)) and len(scales) == 1
            drawn = (
                ("Random" in name and not one) or name in _DRAWN or any(0 < chance < 1 for chance in chances)
            )
            if name in named or not drawn or (chances and not any(chances)):
                continue
            named.add(name)
            yield finding(
                "error",
                f"{part}_pipeline.{name}",
                name,
                None,
                cause="random augmentation in the validation",
                evidence=f"the {part} pipeline has the random step {name}",
                why="every evaluation judges other crops than the last one, and harder ones than were "
                "published",
                source="mmpose 1.3.2: none of its configs draws in a val_pipeline",
                fix=f"remove {name} from the {part} pipeline",
            )


def _chances(step: Mapping[str, Any]) -> list[float]:
    """The probabilities of a step and of those inside of it."""
    inner = step.get("transforms")
    inner = inner if isinstance(inner, (list, tuple)) else ()
    own = [value for key, value in step.items() if str(key) in ("p", "prob") or str(key).endswith("_prob")]
    within = [chance for one in inner if isinstance(one, Mapping) for chance in _chances(one)]
    flat = [v for value in own for v in (value if isinstance(value, (list, tuple)) else [value])]
    return [*(v for v in flat if isinstance(v, (int, float))), *within]


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


# What encoder and decoder say both, and what mmpose takes where one is silent.
_OF_CODEC = {
    "type": None, "input_size": None, "heatmap_size": None, "sigma": None, "simcc_split_ratio": 2.0,
    "normalize": None,
}  # fmt: skip
# Heads that have sizes of their own, beside those of their decoder.
_OF_SIMCC_HEADS = ("RTMCCHead", "RTMWHead", "SimCCHead")


def codecs_agree(subject: Subject) -> Iterator[AuditFinding]:
    """Targets are encoded as outputs are decoded; head and crop have the codec's sizes."""
    made = subject.decisions
    head = look_up(made.config, "model.head")
    decoder = head.get("decoder") if isinstance(head, Mapping) else None
    if made.dialect != "mmengine" or not isinstance(head, Mapping) or not isinstance(decoder, Mapping):
        return
    named: set[str] = set()
    for split in ("train", "val"):
        steps = steps_of(made, split)
        encoder, crop = (look_up(steps, name) for name in ("GenerateTarget.encoder", "TopdownAffine"))
        if isinstance(encoder, Mapping):
            cause = "targets encoded otherwise than outputs are decoded"
            yield from _differing(
                f"{split}_pipeline.GenerateTarget.encoder", encoder, decoder, _OF_CODEC, cause, named
            )
        if isinstance(crop, Mapping) and "input_size" in crop and "input_size" in decoder:
            place = f"{split}_pipeline.TopdownAffine"
            yield from _differing(place, crop, decoder, ["input_size"], "config contradicts itself", named)
    own = [key for key in _OF_CODEC if key in head and key in decoder and key != "type"]
    if class_name(head) in _OF_SIMCC_HEADS and "simcc_split_ratio" in (*head, *decoder):
        own.append("simcc_split_ratio")
    yield from _differing("model.head", head, decoder, own, "config contradicts itself", named)


def _differing(
    place: str,
    mine: Mapping[str, Any],
    decoder: Mapping[str, Any],
    keys: Iterable[str],
    cause: str,
    named: set[str],
) -> Iterator[AuditFinding]:
    """A finding for each key that a part of a config and the head's decoder give other values, once."""
    for key in dict.fromkeys(keys):
        a, b = (_listed(one.get(key, _OF_CODEC[key])) for one in (mine, decoder))
        if a != b and key not in named:
            named.add(key)
            yield finding(
                "error",
                f"{place}.{key}",
                a,
                b,
                cause=cause,
                evidence=f"{place}.{key} is {shown(a)}, model.head.decoder.{key} is {shown(b)}",
                why="the network learns maps that the head reads as other coordinates",
                source="the config itself",
                fix=f"use one {key} in both places",
            )


PIPELINE_RULES = (crops_agree, steps_in_order, random_steps, udp_agrees, codecs_agree)
"""In the order of a report."""
