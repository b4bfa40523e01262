"""Family higherhrnet: heatmaps and tags of a whole image; people are told apart by their tags."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from workbench.checkpoints.identity import Identity, Shapes, backbone_of, times
from workbench.models.families import Family, Fresh, FreshOptions, deferred

if TYPE_CHECKING:
    from workbench.core import PoseModel
    from workbench.models.opening import Opening

# COCO val, flip test, one scale; HigherHRNet@aa23881 README. The weights do not tell the input size.
_HIGHER = {
    32: (
        "COCO val, flip, single scale: AP 67.1 with input 512 (86.2 / 73.0 / 61.5 / 76.1), 68.5 with 640; "
        "69.8 or 69.9 is a figure of w48 with 640, not of this width"
    ),
    48: (
        "COCO val, flip, single scale: AP 69.9 with input 640 (87.2 / 76.1 / 65.4 / 76.4); a run that gives "
        "69.8 with these others repeats it"
    ),
}
# mmpose 0.x trained its own; its table of HigherHRNet on COCO val.
_HIGHER_MMPOSE = {
    32: "COCO val, mmpose 0.x, flip: AP 67.7 with input 512, 68.6 with 640",
    48: "COCO val, mmpose 0.x, flip: AP 68.6 with input 512",
}


_NAMED_SIZE = re.compile(r"(?<!\d)(512|640)(?!\d)")
_MMPOSE_1 = "mmpose 1.x names"


def _opens(opening: Opening) -> bool:
    """Every HigherHRNet, whatever config lies in it: mmpose 1.x has none, so a 0.x config cannot be built.

    With names of mmpose 1.x and a config it is somebody's own code.
    """
    checkpoint = opening.required()
    identity = checkpoint.identity
    if identity.record != FAMILY.name or opening.config_is_top_down:
        return False
    own_code = _MMPOSE_1 in identity.family and (opening.config or checkpoint.config_text)
    return not own_code


def _small(options: FreshOptions) -> tuple[PoseModel, str]:
    """Narrow and shallow: the published one takes 5 seconds a step on a CPU, and an image needs hundreds."""
    from workbench.models.higherhrnet.model import new_higherhrnet
    from workbench.models.higherhrnet.network import Architecture, HigherHRNet

    K = len(options.skeleton)
    small = Architecture(16, K, K, stem=16, bottlenecks=1, modules=(1, 1, 1), blocks=1, deconv_blocks=1)
    network = HigherHRNet(small).to(options.device)
    return new_higherhrnet(network, options.skeleton, 192), "higherhrnet from first weights"


def _identify(view: Shapes) -> Identity | None:
    """Heatmaps at two resolutions, tags at the first: final_layers.0 has twice the channels of .1."""
    for prefix, names in (
        ("", "official names"),
        ("keypoint_head.", "mmpose 0.x names"),
        ("head.", "mmpose 1.x names"),
    ):
        first = view.get(f"{prefix}final_layers.0.weight")
        second = view.get(f"{prefix}final_layers.1.weight")
        if first is None or not view.any(
            rf"^{prefix.replace('.', chr(92) + '.')}deconv_layers\.0\.0\.0\.weight"
        ):
            continue
        backbone = backbone_of(view)
        width = int(backbone.facts["width"]) if backbone and backbone.name == "HRNet" else first[1]
        keypoints = second[0] if second else None
        evidence = [
            f"{prefix}final_layers.0.weight {times(first)}, .1 {times(second or ())}: {keypoints} heatmaps "
            f"and {first[0] - (keypoints or 0)} tag maps, then {keypoints} heatmaps at twice the size",
            f"{prefix}deconv_layers.0.0.0.weight: one deconvolution over backbone features and first output",
        ]
        if backbone:
            evidence.append(backbone.evidence)
        if keypoints is not None and first[0] == 2 * keypoints:
            evidence.append(
                f"{keypoints} tag maps are one scalar per keypoint, not one {keypoints}-dimensional embedding"
            )
        if keypoints == 17 and (named := _by_file_name(view.file, width, names)):
            evidence.append(named)
        expected = (_HIGHER_MMPOSE if prefix else _HIGHER).get(width, "") if keypoints == 17 else ""
        return Identity(
            f"HigherHRNet ({names})",
            f"w{width}",
            tuple(evidence),
            expected,
            (),
            keypoints,
            None,
            {"width": width},
            ("Groups",),
        )
    return None


def _by_file_name(name: str, width: int, naming: str) -> str:
    """What to expect where the file's name tells the input size, which tensors cannot; else ""."""
    found = _NAMED_SIZE.search(name)
    known = {(32, "512"): "67.1", (32, "640"): "68.5", (48, "640"): "69.9"}
    if found is None or (width, found[1]) not in known or "official" not in naming:
        return ""
    return (
        f"the file name says input {found[1]}, so AP {known[width, found[1]]} is what w{width} should reach"
    )


def _deny(name: str, found: Identity) -> Iterator[str]:
    if ("higher_hrnet" in name or "higherhrnet" in name) and not found.family.startswith("HigherHRNet"):
        yield f"the file name says HigherHRNet, the tensors say {found.family}"


FAMILY = Family(
    name="higherhrnet",
    summary="HigherHRNet: heatmaps and tags of a whole image; people are told apart by their tags",
    load=deferred("workbench.models.higherhrnet.model", "load"),
    identify=_identify,
    opens=_opens,
    deny=_deny,
    fresh=(Fresh("higherhrnet", _small, learns_as="whole images"),),
    save=deferred("workbench.models.higherhrnet.model", "write"),
)
