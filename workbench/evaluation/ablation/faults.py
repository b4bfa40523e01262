"""Frequent errors of inference scripts: each is undone, and the gain in AP is measured.

A mistake that is there costs AP, and undoing it gives it back; undoing one that is not there costs AP. So
each variant undoes one: mirrored maps whose left and right were not exchanged (or twice), tags of another
scale, a person's score taken after missing keypoints were filled in, cells half a cell off, a wrong stride,
blue and red exchanged, left and right exchanged, people not taken back by the input's affine, and any rule of
detection or assignment with a value that no published protocol has, such as a threshold or NMS.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import FLIP_BY_DEFAULT
from workbench.core.geometry import apply, inverse
from workbench.decoding.grouping import RULES
from workbench.evaluation.ablation.variants import (
    CHANNELS_EXCHANGED,
    FLIPPED,
    REFERENCE,
    TagMaps,
    Variant,
    reference,
)

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.core import Outputs
    from workbench.core.capabilities import BottomUpModel
    from workbench.models.bottom_up import People


@dataclass(frozen=True)
class Scaled:
    """Every tag map times a number.

    Attributes:
        factor: the number.
    """

    factor: float

    def __call__(self, given: TagMaps) -> Float[np.ndarray, "T H W L"]:
        return given.tags * np.float32(self.factor)


@dataclass(frozen=True)
class Moved:
    """People moved and scaled in the network's input.

    Attributes:
        cells: of the finest heatmaps, along both axes.
        factor: of input coordinates.
    """

    cells: float = 0.0
    factor: float = 1.0

    def __call__(self, people: People, stride: float, to_image: Float[np.ndarray, "2 3"]) -> People:
        points = apply(inverse(to_image), people.keypoints) * self.factor + self.cells * stride
        return _placed(people, apply(to_image, points))


@dataclass(frozen=True)
class SidesExchanged:
    """Left and right keypoints exchanged.

    Attributes:
        mirror: for each keypoint its partner.
    """

    mirror: tuple[int, ...]

    def __call__(self, people: People, stride: float, to_image: Float[np.ndarray, "2 3"]) -> People:
        del stride, to_image
        order = list(self.mirror)
        return dataclasses.replace(
            people, keypoints=people.keypoints[:, order], scores=people.scores[:, order]
        )


def _placed(people: People, points: Float[np.ndarray, "P K 2"]) -> People:
    boxes = np.concatenate([np.fmin.reduce(points, axis=1), np.fmax.reduce(points, axis=1)], axis=1)
    return dataclasses.replace(people, keypoints=points, boxes=boxes)


def fault_variants(model: BottomUpModel, outputs: Outputs, flip: bool = FLIP_BY_DEFAULT) -> list[Variant]:
    """The reference first, then one variant for each frequent error, which undoes it.

    Args:
        model: its own rules are the reference.
        outputs: of any image: they tell whether there is a mirrored pass.
        flip: the mirrored pass counts in the reference.
    """
    mirrored = any(name.endswith("mirrored") for name in outputs.passes)
    own = reference(model, flip and mirrored)
    variants = [own, *(_mirrored(own) if mirrored else [])]
    variants += [
        own.but(f"tags x {factor:g}", "tags in another unit than the threshold", Scaled(factor))
        .undoing("tags of the wrong scale")
        for factor in (0.03, 0.1, 0.3, 3.0, 10.0, 30.0)
    ]  # fmt: skip
    variants += _unpublished(own)
    if own.grouping.person_score != "detected":
        variants.append(
            own.but("score before refine", "filled-in keypoints not counted", person_score="detected")
            .undoing("person scores taken after refine")
        )  # fmt: skip
    if not own.aggregation.inverse_affine:
        variants.append(
            own.but("with the inverse affine", "people taken back by the input's affine", inverse_affine=True)
            .undoing("the inverse affine left out")
        )  # fmt: skip
    for cells in (-1.0, -0.5, 0.5, 1.0):
        name = f"{abs(cells):g} cell {'right and down' if cells > 0 else 'left and up'}"
        variants.append(
            own.but(name, "of the finest heatmap", people=Moved(cells)).undoing("cells placed off")
        )
    for factor in (0.5, 2.0):
        what = "half" if factor < 1 else "twice"
        variants.append(
            own.but(f"stride {what} as large", "of the heatmaps", people=Moved(factor=factor))
            .undoing("a wrong stride")
        )  # fmt: skip
    if model.skeleton.mirror:
        sides = SidesExchanged(tuple(model.skeleton.mirror))
        variants.append(
            own.but("left and right exchanged", "in the names of the keypoints", people=sides)
            .undoing("left and right exchanged")
        )  # fmt: skip
    variants.append(
        own.but(CHANNELS_EXCHANGED, "the network is given blue for red", look=CHANNELS_EXCHANGED)
        .undoing("blue and red exchanged (BGR for RGB)")
    )  # fmt: skip
    return variants


# Rules that are undone where they are not as published. Where keypoints lie (centre_shift, quarter) and how
# scores are made has variants of its own.
_RULES = (
    "detection_threshold", "nms_kernel", "top_k", "tag_threshold", "use_detection_value", "max_people",
    "ignore_too_much", "adjust", "refine",
)  # fmt: skip


def _unpublished(own: Variant) -> list[Variant]:
    """One variant for each rule whose value no published protocol has: that of the nearest protocol."""
    protocols = list(RULES.values())
    own_values = dataclasses.asdict(own.grouping)
    nearest = min(protocols, key=lambda rules: len(own_values.items() - dataclasses.asdict(rules).items()))
    made = []
    for rule in _RULES:
        value, published = getattr(own.grouping, rule), getattr(nearest, rule)
        if all(getattr(rules, rule) != value for rules in protocols):
            name, fault = f"{rule} {published}", f"{rule} {value}, where published protocols have {published}"
            made.append(own.but(name, "the published value", **{rule: published}).undoing(fault, counts=True))
    return made


def _mirrored(own: Variant) -> list[Variant]:
    """Variants of how the mirrored maps are exchanged back to left and right."""
    beside, made = REFERENCE, []
    base = own
    if not own.aggregation.flip:
        base = own.but(FLIPPED, "the mirrored pass averaged in", flip=True, flip_tags=True)
        beside = FLIPPED
        made.append(base)
    words = {
        "both": "heatmaps and tags of the mirrored pass exchanged back",
        "heatmaps": "its tags are taken as they come",
        "tags": "its heatmaps are taken as they come",
        "neither": "both are taken as they come",
    }
    names = {
        "both": "mirrored maps exchanged",
        "heatmaps": "mirrored tags as they come",
        "tags": "mirrored heatmaps as they come",
        "neither": "mirrored maps as they come",
    }
    faults = {
        "both": "mirrored maps whose left and right are not exchanged back",
        "heatmaps": "mirrored tags whose left and right are exchanged wrongly",
        "tags": "mirrored heatmaps whose left and right are exchanged wrongly",
        "neither": "mirrored maps whose left and right are exchanged wrongly",
    }
    for swap, about in words.items():
        if swap != base.aggregation.mirror_swap:
            variant = base.but(names[swap], about, mirror_swap=swap)
            made.append(variant.undoing(faults[swap], beside))
    return made
