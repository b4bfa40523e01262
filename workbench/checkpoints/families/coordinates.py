"""RTMPose and its relatives: heads that classify coordinates (SimCC) or regress them."""

from __future__ import annotations

from workbench.checkpoints.families.backbones import backbone_of
from workbench.checkpoints.identity import Identity, Shapes, times

# mmpose's RTMPose configs all use two bins per pixel; a flatten width that disagrees is reported.
_BINS_PER_PIXEL = 2
# Of the map that the head sees: 32 after stage4; 16 or 8 where a smaller network stops earlier.
_STRIDES = (32, 16, 8)
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
    """How many keypoints a head has, and who has that many."""
    return f"{name} {times(shape)}: {_KEYPOINTS.get(count, f'{count} keypoints')}"


def rtmpose(view: Shapes) -> Identity | None:
    """A SimCC head with a gated attention unit: RTMPose, or RTMW with two of them."""
    head = view.first("head.final_layer.weight", "head.final_layer.conv.weight")
    if head is None or not view.any(r"^head\.gau\.uv\.weight$") or "head.cls_x.weight" not in view:
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
    bins = f"head.cls_x {x} and head.cls_y {y} bins"
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


def rtmpose_text(view: Shapes) -> Identity | None:
    """RTMPose with a text neck (FiLM or cross-attention) and a SimCC refiner, as in Equistera-Trainer."""
    film = view.first("neck.global_mlp.0.weight", "neck.local_mlp.0.weight")
    attention = view.any(r"^neck\.cross_attn\.in_proj_weight$")
    refiner = view.any(r"^head\.refiner\.")
    if film is None and not attention and not refiner:
        return None
    base = rtmpose(view)
    if base is None:
        return None
    evidence = []
    if film is not None:
        text = film[1][1]
        evidence.append(
            f"{film[0]} {times(film[1])}: FiLM neck, text of {text} numbers to scale and shift of "
            f"{film[1][0] // 2}"
        )
    if "neck.film_gate" in view:
        evidence.append("neck.film_gate: the fusion is gated (the later version)")
    if attention:
        evidence.append(f"{attention}: cross-attention between image and text")
    if refiner:
        evidence.append(f"{refiner} ...: a refiner of the SimCC vectors behind the head")
    mode = "film" if film is not None else "attention" if attention else "plain neck"
    return Identity(
        "RTMPose with text fusion" if film is not None or attention else "RTMPose with refiner",
        f"{base.variant}, {mode}{', refiner' if refiner else ''}",
        (*evidence, *base.evidence),
        "",
        base.contradictions,
        base.keypoints,
        base.input_size,
        base.facts,
    )


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
            told = (keypoint_sentence(count, *final),) if final and count else ()
            why = f"{mlp[0]} {times(mlp[1])}: SimCC head, {mlp[1][0]} bins in x"
            return Identity("SimCC", name, (why, *first, *told), keypoints=count)
        linear = view.first(f"{prefix}fc.weight", f"{prefix}fcs.0.weight")
        if linear is not None and len(linear[1]) == 2 and linear[1][0] % 2 == 0:
            rows = linear[1][0]
            why = (
                f"{linear[0]} {times(linear[1])}: regression head; 2 numbers a keypoint "
                f"({rows // 2}), or 4 with RLE ({rows / 4:g})"
            )
            return Identity("coordinate regression (mmpose head)", name, (why, *first))
    return None
