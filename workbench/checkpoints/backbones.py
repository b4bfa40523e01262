"""Backbones and heads that several families share, recognised by names and shapes of their tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from workbench.checkpoints.identity import Shapes, times


@dataclass(frozen=True)
class Backbone:
    """A backbone that was recognised.

    Attributes:
        name: e.g. ``HRNet``, ``CSPNeXt``.
        size: e.g. ``w32``, ``m``, ``50``.
        evidence: why.
        facts: its numbers.
    """

    name: str
    size: str
    evidence: str
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.name}-{self.size}" if self.size else self.name


# Channels after the stem -> size; CSPNeXt P5 of mmdet, widen .375, .5, .75, 1, 1.25 of 64 channels.
_CSPNEXT = {24: "t", 32: "s", 48: "m", 64: "l", 80: "x"}
# (bottleneck blocks, blocks in layer3) -> depth.
_RESNET = {(False, 2): "18", (False, 6): "34", (True, 6): "50", (True, 23): "101", (True, 36): "152"}


def backbone_of(view: Shapes) -> Backbone | None:
    """The backbone, with or without the prefix ``backbone.``; None when none is known."""
    inner = view.under("backbone.", "")
    for tell in (_cspnext, _hrnet, _resnet, _hourglass, _mobilenet):
        found = tell(inner)
        if found is not None:
            return found
    return None


def _cspnext(view: Shapes) -> Backbone | None:
    stem = view.get("stem.2.conv.weight")
    if stem is None or not view.any(r"^stage1\.1\.blocks\.0\.conv2\.depthwise_conv"):
        return None
    size = _CSPNEXT.get(stem[0], "")
    blocks = view.count(r"^stage1\.1\.blocks\.(\d+)\.")
    told = f"CSPNeXt-{size}" if size else "CSPNeXt of no published size"
    return Backbone(
        "CSPNeXt",
        size or f"of stem {stem[0]}",
        f"backbone.stem.2.conv.weight {times(stem)}, blocks in stage1: {blocks}: {told}",
        {"stem channels": stem[0], "blocks in stage1": blocks},
    )


def _hrnet(view: Shapes) -> Backbone | None:
    name = "stage4.0.branches.0.0.conv1.weight"
    if name not in view or not view.any(r"^transition3\."):
        return None
    width = view[name][0]
    return Backbone(
        "HRNet", f"w{width}", f"{name} {times(view[name])}: HRNet of width {width}", {"width": width}
    )


def _resnet(view: Shapes) -> Backbone | None:
    if not view.any(r"^layer4\.0\.conv1\.weight$"):
        return None
    blocks = view.count(r"^layer3\.(\d+)\.conv1\.")
    deep = "layer3.0.conv3.weight" in view
    size = _RESNET.get((deep, blocks), "")
    kind = "bottleneck" if deep else "basic"
    return Backbone(
        "ResNet",
        size,
        f"{blocks} {kind} blocks in layer3: ResNet{'-' + size if size else ' of unknown depth'}",
    )


def _hourglass(view: Shapes) -> Backbone | None:
    if not view.any(r"hourglass_modules\.|^hgs\.|^pre\.\d.*\.hg|\.hourglass\."):
        return None
    return Backbone("Hourglass", "", f"{view.any('hourglass_modules|hgs|hourglass')}: stacked hourglass")


def _mobilenet(view: Shapes) -> Backbone | None:
    name = view.any(r"(inverted_res|layer\d\.\d\.conv\.\d\.conv|features\.\d+\.conv\.\d)")
    if not name:
        return None
    return Backbone("MobileNet-like", "", f"{name}: inverted residual blocks")


# Number of keypoints -> data sets that have as many.
_KEYPOINTS = {
    17: "17 keypoints, as COCO and AP-10K have (shapes alone cannot tell these two)",
    26: "26 keypoints, as Halpe has (and some horse data sets)",
    133: "133 keypoints, as COCO-WholeBody has",
    106: "106 keypoints, as LaPa's faces have (shapes alone do not tell whose)",
    21: "21 keypoints, as hands have in most sets (shapes alone do not tell whose)",
    14: "14 keypoints, as CrowdPose and AIC have",
    20: "20 keypoints, as AnimalPose has",
    68: "68 keypoints, as 300W's faces have (shapes alone do not tell whose)",
}


def keypoint_sentence(count: int, name: str, shape: tuple[int, ...]) -> str:
    """How many keypoints a head has, and who has that many.

    Args:
        count: number of keypoints.
        name: of the head's tensor.
        shape: of that tensor.
    """
    return f"{name} {times(shape)}: {_KEYPOINTS.get(count, f'{count} keypoints')}"
