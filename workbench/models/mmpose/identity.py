"""Networks of mmpose and of its layouts, recognised by names and shapes of the tensors, with evidence.

Coordinate heads: RTMPose, RTMW, RTMO, SimCC, regression. Heatmap heads: HRNet, SimpleBaseline and others,
under mmpose's and the official names, and those with tag maps, displacements or several stages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from workbench.checkpoints.identity import (
    CLASSES,
    Backbone,
    Identity,
    Shapes,
    backbone_of,
    keypoint_sentence,
    linear_sentence,
    times,
)
from workbench.core.report import counted

# Heads of coordinates and heatmaps.


# mmpose's RTMPose configs all use two bins per pixel; a flatten width that disagrees is reported.
_BINS_PER_PIXEL = 2
# Of the map that the head sees: 32 after stage4; 16 or 8 where a smaller network stops earlier.
_STRIDES = (32, 16, 8)


def rtmpose(view: Shapes) -> Identity | None:
    """A SimCC head with a gated attention unit: RTMPose, or RTMW with two of them."""
    head = view.first("head.final_layer.weight", "head.final_layer.conv.weight")
    axes = "head.cls_x.weight" in view and "head.cls_y.weight" in view
    if head is None or not view.any(r"^head\.gau\.uv\.weight$") or not axes:
        return None
    backbone = backbone_of(view)
    keypoints = head[1][0]
    evidence = [
        "head.gau and head.cls_x, head.cls_y: coordinate classification with a gated attention unit (RTMPose)"
    ]
    if backbone:
        evidence.append(backbone.evidence)
    evidence.append(keypoint_sentence(keypoints, *head))
    size, sentence, clash = _input_size(view)
    evidence.append(sentence)
    family = "RTMW" if view.any(r"^head\.(mlp2|conv_dec)\.") else "RTMPose"
    facts = dict(backbone.facts) if backbone else {}
    facts["bins"] = (view["head.cls_x.weight"][0], view["head.cls_y.weight"][0])
    # Published for AP-10K weights of this size; COCO weights of the same shape have other figures.
    is_m = family == "RTMPose" and backbone is not None and backbone.size == "m"
    expected = (
        "if these are the AP-10K weights: AP 0.722 (AP50 .939, AP75 .788) on AP-10K val, "
        "ground-truth boxes, flip test"
        if is_m and keypoints == 17 and size == (256, 256)
        else ""
    )
    return Identity(
        family,
        backbone.size if backbone and backbone.name == "CSPNeXt" else (backbone.title if backbone else ""),
        tuple(evidence),
        expected,
        clash,
        keypoints,
        size,
        facts,
    )


def _input_size(view: Shapes) -> tuple[tuple[int, int] | None, str, tuple[str, ...]]:
    """(height, width) from the bins, checked against the flattened map that enters the linear layer."""
    x, y = view["head.cls_x.weight"][0], view["head.cls_y.weight"][0]
    height, width = y // _BINS_PER_PIXEL, x // _BINS_PER_PIXEL
    bins = f"head.cls_x {x} and head.cls_y {counted(y, 'bin')}"
    linear = view.get("head.mlp.1.weight")
    for stride in _STRIDES:
        rows, columns = height // stride, width // stride
        if linear is None or linear[1] == rows * columns:
            agrees = f"; head.mlp.1.weight {times(linear)} takes {rows}x{columns} cells" if linear else ""
            size = f"input {width}x{height} (w x h)"
            return (height, width), f"{bins}, two per pixel: {size}{agrees}, stride {stride}", ()
    cells = (height // _STRIDES[0]) * (width // _STRIDES[0])
    clash = (
        f"{bins} mean {cells} cells at two bins per pixel and stride {_STRIDES[0]}, but head.mlp.1 takes "
        f"{linear[1] if linear else '?'}: another split ratio or input size"
    )
    return None, f"{bins}; the input size cannot be told", (clash,)


def rtmo(view: Shapes) -> Identity | None:
    """One-stage RTMO: a dynamic coordinate classifier over a dense head."""
    mark = view.any(r"^head\.dcc\.")
    if not mark or not view.any(r"^head\.head_module\."):
        return None
    positions = view.get("head.dcc.pos_enc")
    evidence = [f"{mark} and head.head_module: a dynamic coordinate classifier over a dense head (RTMO)"]
    keypoints = positions[0] if positions else None
    if positions and keypoints:
        evidence.append(keypoint_sentence(keypoints, "head.dcc.pos_enc", positions))
    return Identity("RTMO", "", tuple(evidence), keypoints=keypoints)


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


def generic(view: Shapes) -> Identity | None:
    """Other heads of mmpose that give coordinates: SimCC with linear layers, regression."""
    for prefix in ("head.", "keypoint_head."):
        backbone = backbone_of(view)
        name = backbone.title if backbone else ""
        first = (backbone.evidence,) if backbone else ()
        mlp = view.first(f"{prefix}mlp_head_x.weight")
        final = view.first(f"{prefix}deconv_head.final_layer.weight", f"{prefix}final_layer.weight")
        if mlp is not None:
            count = final[1][0] if final else None
            count_sentence = (keypoint_sentence(count, *final),) if final and count else ()
            why = f"{mlp[0]} {times(mlp[1])}: SimCC head, {counted(mlp[1][0], 'bin')} in x"
            return Identity("SimCC", name, (why, *first, *count_sentence), keypoints=count)
        linear = view.first(f"{prefix}fc.weight", f"{prefix}fcs.0.weight")
        if linear and len(linear[1]) == 2 and linear[1][0] % 2 == 0 and linear[1][0] not in CLASSES:
            rows = linear[1][0]
            why = (
                f"{linear[0]} {times(linear[1])}: regression head; 2 numbers a keypoint "
                f"({rows // 2}), or 4 with RLE ({rows / 4:g})"
            )
            return Identity("coordinate regression (mmpose head)", name, (why, *first))
    return None


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
            sentence = (
                f"{prefix}{displaced}: one displacement field per keypoint (DEKR); "
                f"{counted(keypoints, 'keypoint')} and a centre"
            )
            family = "DEKR (mmpose)"
        elif staged:
            keypoints = inner[staged][0]
            sentence = (
                f"{prefix}{staged} {times(inner[staged])}: heatmaps after every stage (MSPN, RSN); "
                f"{counted(keypoints, 'keypoint')}"
            )
            family = "multi-stage heatmaps (mmpose)"
        elif dense:
            keypoints = inner[dense][0]
            sentence = (
                f"{prefix}{dense} {times(inner[dense])}: dense one-stage head (YOLOX-Pose); "
                f"{counted(keypoints, 'keypoint')}"
            )
            family = "YOLOX-Pose (mmpose)"
        else:
            continue
        backbone = backbone_of(view)
        evidence = (sentence, backbone.evidence) if backbone else (sentence,)
        return Identity(family, backbone.title if backbone else "", evidence, keypoints=keypoints)
    return None


# Weights of the last layer of a detector's keypoint branch -> (family, who writes such names).
_OF_DETECTORS = {
    r"^roi_heads\.keypoint_predictor\.kps_score_lowres\.weight$": "Keypoint R-CNN (torchvision)",
    r"^roi_heads\.keypoint_head\.score_lowres\.weight$": "Keypoint R-CNN (Detectron2)",
}


def detectors(view: Shapes) -> Identity | None:
    """Detectors with a keypoint branch of other code bases, which no config of mmpose builds."""
    advice = "its own code is needed (--adapter), or an ONNX file"
    for pattern, family in _OF_DETECTORS.items():
        if name := view.any(pattern):
            # A transposed convolution: (inputs, keypoints, h, w).
            keypoints = view[name][1] if len(view[name]) == 4 else None
            evidence = (
                f"{name} {times(view[name])}: {counted(keypoints, 'keypoint')} inside each box; {advice}"
            )
            return Identity(family, "", (evidence,), keypoints=keypoints)
    # Branches cv2, cv3 and cv4 of the last part: boxes, classes, keypoints as (x, y) or (x, y, visibility).
    name = view.any(r"^(model\.)?\d+\.cv4\.0\.2\.weight$")
    if name and view.any(r"^(model\.)?\d+\.dfl\.conv\.weight$"):
        count = view[name][0]
        values = next((v for v in (3, 2) if count % v == 0), 0)
        keypoints = count // values if values else None
        triples = {3: "(x, y, visibility)", 2: "(x, y)"}.get(values, "")
        evidence = (
            f"{name} {times(view[name])}: {counted(keypoints, 'keypoint')} {triples} in every cell; {advice}"
        )
        return Identity("YOLO pose (ultralytics names)", "", (evidence,), keypoints=keypoints)
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
        evidence.append(linear_sentence(*classes))
        family = "classifier" if "not of a pose network" in evidence[-1] else "linear outputs over"
        return Identity(family, backbone.title, tuple(evidence), facts=backbone.facts)
    if rest:
        evidence.append(f"and {counted(len(rest), 'tensor')} of no known head ({rest[0]} ...)")
        return Identity(
            f"unknown head over {backbone.name}", backbone.size, tuple(evidence), facts=backbone.facts
        )
    return Identity("backbone alone", backbone.title, tuple(evidence), facts=backbone.facts)


# The most particular first; the first that answers is believed.
_KINDS: tuple[Callable[[Shapes], Identity | None], ...] = (
    rtmo,
    rtmpose,
    grouped,
    top_down,
    generic,
    several_outputs,
    detectors,
    backbone_only,
)


def identify(view: Shapes) -> Identity | None:
    """The network of mmpose, or one of the layouts that mmpose took over, whose tensors these are."""
    return next((found for tell in _KINDS if (found := tell(view)) is not None), None)


def deny(name: str, found: Identity) -> Iterator[str]:
    """What a file's name says of a network of mmpose and its tensors deny.

    Args:
        name: of the file, in lower case.
        found: what the tensors tell.
    """
    size = re.search(r"rtmpose[-_](tiny|[tsmlx])(?![a-z])", name)
    if (
        size
        and found.family.startswith("RTM")
        and found.variant[:1] in "tsmlx"
        and size[1][0] != found.variant[:1]
    ):
        yield f"the file name says RTMPose-{size[1]}, the tensors say {found.variant}"
    if "rtmo-" in name and not found.family.startswith("RTMO"):
        yield f"the file name says RTMO, the tensors say {found.family}"
