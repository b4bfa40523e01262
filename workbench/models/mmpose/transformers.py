"""Vision transformers: ViTPose under its three namings, ViTPose+ with experts, Sapiens."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.checkpoints.backbones import keypoint_sentence
from workbench.checkpoints.identity import Identity, Shapes, times

# (width, layers) -> size.
_VITPOSE = {(384, 12): "S", (768, 12): "B", (1024, 24): "L", (1280, 32): "H"}
_SAPIENS = {(1024, 24): "0.3b", (1280, 32): "0.6b", (1536, 40): "1b", (1920, 48): "2b"}
# COCO val, classic decoder, 256x192, detector boxes, flip; ViTPose@c050ed2 README.
_VITPOSE_AP = {"S": "73.8", "B": "75.8", "L": "78.3", "H": "79.1"}
# COCO val, AP_H_70 detector boxes, flip; sapiens@3e829ac pose README.
_SAPIENS_AP = {"0.3b": "79.6", "0.6b": "81.2", "1b": "82.1", "2b": "82.2"}
_PATCH = 16


@dataclass(frozen=True)
class Transformer:
    """A plain vision transformer.

    Attributes:
        naming: whose names it has.
        width: channels of a token.
        layers: blocks.
        positions: of patches, without a class token's; 0 when the file has none.
        class_token: there is a position for one.
        evidence: why.
    """

    naming: str
    width: int
    layers: int
    positions: int
    class_token: bool
    evidence: tuple[str, ...]


# naming -> (a block's first norm, position table, patch projection), relative to the backbone.
_NAMINGS = (
    ("ViTPose 0.x names", r"^blocks\.(\d+)\.norm1\.weight$", "pos_embed", "patch_embed.proj.weight"),
    ("mmpretrain names", r"^layers\.(\d+)\.ln1\.weight$", "pos_embed", "patch_embed.projection.weight"),
    (
        "Hugging Face names",
        r"^encoder\.layer\.(\d+)\.layernorm_before\.weight$",
        "embeddings.position_embeddings",
        "embeddings.patch_embeddings.projection.weight",
    ),
)
# Patch counts that occur without a class token: 16x12, 12x16 of 256x192; 24x18; 64x48 of Sapiens; squares.
_WITHOUT_CLASS = (192, 432, 3072, 196, 256, 1024, 576, 768)


def transformer_of(view: Shapes) -> Transformer | None:
    """The transformer, under ``backbone.`` or bare."""
    inner = view.under("backbone.", "")
    for naming, block, position, patch in _NAMINGS:
        layers = inner.count(block)
        projection = inner.get(patch)
        if not layers or projection is None:
            continue
        width = projection[0]
        shape = inner.get(position)
        tokens = shape[1] if shape and len(shape) == 3 else 0
        extra = tokens > 0 and tokens not in _WITHOUT_CLASS and tokens - 1 in _WITHOUT_CLASS
        evidence = [f"{layers} blocks of width {width} under {naming}"]
        if shape:
            told = f"{tokens - extra} patches" + (" and a class token" if extra else "")
            evidence.append(f"{position} {times(shape)}: {told}")
        return Transformer(naming, width, layers, tokens - extra, extra, tuple(evidence))
    return None


def _head(view: Shapes) -> tuple[str, tuple[int, ...]] | None:
    return view.first(
        "head.final_layer.weight",
        "keypoint_head.final_layer.weight",
        "head.conv.weight",
        "decoder.final_layer.weight",
    )


def _decoder(view: Shapes) -> str:
    found = view.any(r"^(keypoint_)?head\.(deconv_layers\.|deconv1\.)")
    return (
        f"classic decoder ({found.rpartition('.')[0]} ...)" if found else "simple decoder (no deconvolution)"
    )


def sapiens(view: Shapes) -> Identity | None:
    """Widths up to 1920, 64x48 patches of a 1024x768 input, 1x1 convolutions behind the deconvolutions."""
    found = transformer_of(view)
    if found is None or found.naming != "mmpretrain names":
        return None
    size = _SAPIENS.get((found.width, found.layers))
    convs = view.any(r"^head\.conv_layers\.\d+\.weight$")
    if size is None or not (found.positions == 3072 or (convs and found.width > 1280)):
        return None
    head = _head(view)
    evidence = list(found.evidence)
    if convs:
        evidence.append(
            f"{convs} {times(view[convs])} and no tensors for its norms: convolutions with "
            "InstanceNorm (SiLU), as Sapiens has"
        )
    keypoints = head[1][0] if head else None
    if head and keypoints:
        evidence.append(keypoint_sentence(keypoints, *head))
    else:
        evidence.append("no head: a pretrained backbone")
    expected = (
        f"COCO val, AP_H_70 detector boxes, flip, input 768x1024 (w x h): AP {_SAPIENS_AP[size]}"
        if keypoints == 17
        else ""
    )
    clash = _batch_norm_clash(view)
    return Identity("Sapiens", size, tuple(evidence), expected, clash, keypoints, (1024, 768), _facts(found))


def _batch_norm_clash(view: Shapes) -> tuple[str, ...]:
    norm = view.any(r"^head\.(deconv|conv)_layers\.\d+\.running_mean$")
    if not norm:
        return ()
    return (
        f"{norm}: batch normalisation in the head; the published Sapiens heads have InstanceNorm "
        "without tensors",
    )


def vitpose_plus(view: Shapes) -> Identity | None:
    """ViTPose with several experts in each block, one per data set."""
    experts = view.count(r"\.mlp\.experts\.(\d+)\.")
    found = transformer_of(view)
    if not experts or found is None:
        return None
    size = _VITPOSE.get((found.width, found.layers), f"width {found.width}")
    more = view.count(r"^associate_keypoint_heads\.(\d+)\.")
    head = _head(view)
    evidence = [*found.evidence, f"{experts} experts in mlp.experts of each block: ViTPose+"]
    if more:
        evidence.append(f"{more} associate_keypoint_heads: trained on {more + 1} data sets")
    narrow = view.any(r"\.mlp\.fc2\.weight$")
    if narrow and view[narrow][0] < found.width:
        rows = view[narrow][0]
        evidence.append(
            f"{narrow} has {rows} of {found.width} rows: the other {found.width - rows} are those of the "
            "data set's expert, so a plain ViTPose takes fc2 and one expert together (--remap; "
            "--assume expert=ap10k names another than that of the model's keypoints)"
        )
    elif narrow:
        evidence.append(
            f"{narrow} has all {found.width} rows: already joined for one data set, the experts are left over"
        )
    if head:
        evidence.append(keypoint_sentence(head[1][0], *head))
    return Identity(
        f"ViTPose+ ({found.naming})", size, tuple(evidence), keypoints=head[1][0] if head else None,
        input_size=_input(found), facts={**_facts(found), "experts": experts},
    )  # fmt: skip


def vitpose(view: Shapes) -> Identity | None:
    """A plain vision transformer with a heatmap head, or without one."""
    found = transformer_of(view)
    if found is None:
        return None
    size = _VITPOSE.get((found.width, found.layers), f"width {found.width}, {found.layers} layers")
    head = _head(view)
    if head is None or len(head[1]) != 4:
        why = "no heatmap head: pretrained weights (MAE, a classifier ...) and not a pose network"
        return Identity(
            f"vision transformer ({found.naming})", size, (*found.evidence, why), facts=_facts(found)
        )
    keypoints = head[1][0]
    decoder = _decoder(view)
    evidence = (*found.evidence, keypoint_sentence(keypoints, *head), decoder)
    classic = decoder.startswith("classic")
    expected = (
        f"COCO val, detector boxes, flip, 256x192, classic decoder: AP {_VITPOSE_AP[size]}"
        if size in _VITPOSE_AP and keypoints == 17 and classic and found.positions == 192
        else ""
    )
    return Identity(
        f"ViTPose ({found.naming})", size, evidence, expected, (), keypoints, _input(found), _facts(found)
    )


def _input(found: Transformer) -> tuple[int, int] | None:
    # Portrait crops of 4:3, as all person configs have; a square or unknown count tells nothing.
    sizes = {192: (16, 12), 432: (24, 18), 3072: (64, 48)}
    rows, columns = sizes.get(found.positions, (0, 0))
    return (rows * _PATCH, columns * _PATCH) if rows else None


def _facts(found: Transformer) -> dict[str, int]:
    return {"width": found.width, "layers": found.layers, "patches": found.positions}
