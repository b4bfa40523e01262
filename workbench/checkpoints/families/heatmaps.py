"""Networks that give heatmaps: HRNet, SimpleBaseline, HigherHRNet and other grouped ones, MoveNet."""

from __future__ import annotations

import re

from workbench.checkpoints.families.backbones import Backbone, backbone_of
from workbench.checkpoints.families.coordinates import keypoint_sentence
from workbench.checkpoints.identity import Identity, Shapes, times

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


def higherhrnet_by_name(name: str, width: int, naming: str) -> str:
    """What to expect where the file's name tells the input size, which tensors cannot; else ""."""
    found = _NAMED_SIZE.search(name)
    known = {(32, "512"): "67.1", (32, "640"): "68.5", (48, "640"): "69.9"}
    if found is None or (width, found[1]) not in known or "official" not in naming:
        return ""
    return (
        f"the file name says input {found[1]}, so AP {known[width, found[1]]} is what w{width} should reach"
    )


def higherhrnet(view: Shapes) -> Identity | None:
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
            f"{prefix}final_layers.0.weight {times(first)}, .1 {times(second or ())}: "
            f"{keypoints} heatmaps and {first[0] - (keypoints or 0)} tag maps, then {keypoints} "
            "heatmaps at twice the size",
            f"{prefix}deconv_layers.0.0.0.weight: one deconvolution over backbone features and first output",
        ]
        if backbone:
            evidence.append(backbone.evidence)
        if keypoints is not None and first[0] == 2 * keypoints:
            evidence.append(
                f"{keypoints} tag maps are one scalar per keypoint, not one {keypoints}-dimensional embedding"
            )
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
        )
    return None


def grouped(view: Shapes) -> Identity | None:
    """Mmpose's associative embedding at one resolution: as many tag maps as heatmaps in one layer."""
    final = view.first(
        "head.final_layer.weight", "keypoint_head.final_layer.weight", "keypoint_head.final_layers.0.weight"
    )
    if (
        final is None
        or len(final[1]) != 4
        or final[1][0] not in (34, 28, 40, 266)
        or view.any(r"deconv_layers\.\d+\.0\.0\.")
    ):
        return None
    backbone = backbone_of(view)
    keypoints = final[1][0] // 2
    evidence = [
        f"{final[0]} {times(final[1])}: {keypoints} heatmaps and {keypoints} tag maps in one "
        "layer, one scalar tag per keypoint"
    ]
    if backbone:
        evidence.append(backbone.evidence)
    return Identity(
        "associative embedding (mmpose)",
        backbone.title if backbone else "",
        tuple(evidence),
        keypoints=keypoints,
    )


def top_down(view: Shapes) -> Identity | None:
    """One heatmap per keypoint from a last convolution: HRNet, SimpleBaseline, other backbones."""
    final = view.first(
        "head.final_layer.weight",
        "keypoint_head.final_layer.weight",
        "final_layer.weight",
        "keypoint_head.final_layer.0.weight",
    )
    if final is None or len(final[1]) != 4:
        return None
    backbone = backbone_of(view)
    prefix = final[0].partition("final_layer")[0]
    stages = sum(len(view[n]) == 4 for n in view if n.startswith(f"{prefix}deconv_layers."))
    family, expected = _top_down_family(backbone, stages)
    naming = {"": "official names", "head.": "mmpose 1.x names"}.get(prefix, "mmpose 0.x names")
    evidence = [keypoint_sentence(final[1][0], *final)]
    if stages:
        evidence.append(f"{stages} deconvolutions under {prefix}deconv_layers")
    if backbone:
        evidence.append(backbone.evidence)
    facts = dict(backbone.facts) if backbone else {}
    facts["deconvolutions"] = stages
    return Identity(
        f"{family} ({naming})",
        backbone.size if backbone else "",
        tuple(evidence),
        expected if final[1][0] == 17 else "",
        (),
        final[1][0],
        None,
        facts,
    )


def _top_down_family(backbone: Backbone | None, deconvolutions: int) -> tuple[str, str]:
    if backbone is None:
        return "heatmap head over an unknown backbone", ""
    if backbone.name == "HRNet" and not deconvolutions:
        return "HRNet", ""
    if backbone.name == "ResNet" and deconvolutions:
        return "SimpleBaseline ResNet", ""
    return f"heatmaps over {backbone.name}", ""


def movenet(view: Shapes) -> Identity | None:
    """Four heads over one map: heatmaps, centre, regressions from the centre, offsets."""
    prefix = "header.header_"
    heads = {
        name: view.any(rf"^header\.header_{name}\.1\.weight$")
        for name in ("heatmaps", "centers", "regs", "offsets")
    }
    if not all(heads.values()):
        return None
    sizes = {name: view[weight][0] for name, weight in heads.items()}
    keypoints = sizes["heatmaps"]
    evidence = [
        f"{prefix}heatmaps, centers, regs, offsets with "
        f"{', '.join(str(n) for n in sizes.values())} channels: MoveNet's four heads",
        keypoint_sentence(keypoints, heads["heatmaps"], view[heads["heatmaps"]]),
    ]
    clash = ()
    if sizes["regs"] != 2 * keypoints or sizes["offsets"] != 2 * keypoints:
        clash = (
            f"{sizes['regs']} regressions and {sizes['offsets']} offsets do not fit {keypoints} keypoints",
        )
    return Identity("MoveNet", "", tuple(evidence), "", clash, keypoints, None, {"channels": sizes})


def several_outputs(view: Shapes) -> Identity | None:
    """Other heads of mmpose: DEKR's displacements, outputs after every stage, dense one-stage heads."""
    for prefix in ("head.", "keypoint_head."):
        inner = view.under(prefix)
        displaced = inner.any(r"^displacement_conv_layers\.")
        staged = inner.any(r"^predict_layers\.\d+\.conv_layers\.1\.conv\.weight$")
        dense = inner.any(r"^head_module\.out_kpt_vis\.0\.weight$")
        if displaced:
            final = inner.any(r"^heatmap_conv_layers\.\d+\.bias$")
            keypoints = inner[final][0] - 1 if final else None
            told = (
                f"{prefix}{displaced}: one displacement field per keypoint (DEKR); {keypoints} "
                "keypoints and a centre"
            )
            family = "DEKR (mmpose)"
        elif staged:
            keypoints = inner[staged][0]
            told = (
                f"{prefix}{staged} {times(inner[staged])}: heatmaps after every stage (MSPN, RSN); "
                f"{keypoints} keypoints"
            )
            family = "multi-stage heatmaps (mmpose)"
        elif dense:
            keypoints = inner[dense][0]
            told = (
                f"{prefix}{dense} {times(inner[dense])}: dense one-stage head (YOLOX-Pose); "
                f"{keypoints} keypoints"
            )
            family = "YOLOX-Pose (mmpose)"
        else:
            continue
        backbone = backbone_of(view)
        evidence = (told, backbone.evidence) if backbone else (told,)
        return Identity(family, backbone.title if backbone else "", evidence, keypoints=keypoints)
    return None


def backbone_only(view: Shapes) -> Identity | None:
    """A backbone without a head that is known: pretrained weights, or a network of one's own."""
    backbone = backbone_of(view)
    if backbone is None:
        return None
    rest = [
        n
        for n in view
        if not n.startswith(("backbone.", "stem.", "stage", "layer", "conv", "bn", "transition"))
    ]
    classes = view.first("fc.weight", "head.fc.weight", "classifier.weight")
    evidence = [backbone.evidence]
    if classes is not None:
        evidence.append(
            f"{classes[0]} {times(classes[1])}: {classes[1][0]} classes, weights of a classifier "
            "and not of a pose network"
        )
        return Identity("classifier", backbone.title, tuple(evidence), facts=backbone.facts)
    if rest:
        evidence.append(f"and {len(rest)} tensors of no known head ({rest[0]} ...)")
        return Identity(
            f"unknown head over {backbone.name}", backbone.size, tuple(evidence), facts=backbone.facts
        )
    return Identity("backbone alone", backbone.title, tuple(evidence), facts=backbone.facts)
