"""Under which rules was this number made? Two numbers compare only if every rule is the same."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.core.report import plain

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
        max_dets: detections that count per image and category.
        data: name of the set.
        images: how many were evaluated.
        instances: annotated ones that count.
        left_out: images that the annotations name and that were missing, left out as the user asked.
        unseen: of these, those that no crop showed, because their boxes have no size within the image; they
            count as missed.
        sigmas: where the OKS constants come from.
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
    max_dets: int = 20
    data: str = ""
    images: int = 0
    instances: int = 0
    left_out: int = 0
    unseen: int = 0
    sigmas: str = ""
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
        flips = {None: "flip unknown", True: "flip", False: "no flip"}
        parts = [
            self._warning() if self.partly_loaded else "",
            named.get(self.boxes, f"boxes {self.boxes}"),
            "" if math.isnan(self.padding) else f"pad {self.padding:g}",
            flips[self.flip] + (" shifted by a cell" if self.flip_shift else ""),
            "" if self.grouping else "decoder unknown" if self.decoder == "unknown" else self.decoder,
            f"{self.keypoint_score} score" if self.keypoint_score else "",
            f"pose score {self.score_rule}",
            self.input,
            self.scales,
            self.grouping,
            "no NMS" if math.isnan(self.nms) else f"OKS NMS {self.nms:g}",
            f"maxDets {self.max_dets}",
            "" if self.area == "annotated" else f"area {self.area}",
            f"{self.data}: {self.instances} instances, {self.images} images" if self.data else "",
            f"{self.left_out} missing images left out" if self.left_out else "",
            f"{self.unseen} of them missed for want of a box with a size" if self.unseen else "",
        ]
        return ", ".join(part for part in parts if part)

    def _warning(self) -> str:
        # 99.96 % would be printed as all of them.
        share = (
            f"{self.loaded_fraction:.1%} of parameters"
            if self.loaded_fraction < 0.9995
            else "tensors missing"
        )
        return f"NOT FULLY LOADED ({share})"

    def differs_from(self, other: Protocol) -> list[str]:
        """What makes two numbers incomparable, one phrase for each rule: ``flip: False against True``."""
        return [
            f"{f.name}: {_said(mine)} against {_said(theirs)}"
            for f in dataclasses.fields(self)
            if f.name not in SUBJECT
            for mine, theirs in [(getattr(self, f.name), getattr(other, f.name))]
            if _said(mine) != _said(theirs)
        ]

    def to_json(self) -> dict[str, Any]:
        """All rules as plain data, with the line for people under ``text``."""
        return {**plain(self), "text": self.text()}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Protocol:
        """Read what to_json wrote."""
        known = {f.name: f for f in dataclasses.fields(cls)}
        held = {k: v for k, v in facts.items() if k in known and v is not None}
        return cls(**held)


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
