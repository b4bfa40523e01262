"""Vision transformers recognised by names and shapes of the tensors: ViTPose, ViTPose+, Sapiens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workbench.checkpoints.identity import Identity, Shapes, keypoint_sentence, linear_sentence, times
from workbench.checkpoints.vit_names import NAMINGS, grid_of_positions, has_class_position
from workbench.core.report import counted

if TYPE_CHECKING:
    from workbench.checkpoints.loading import LoadReport

# (width, layers) -> size.
_VITPOSE = {(384, 12): "S", (768, 12): "B", (1024, 24): "L", (1280, 32): "H"}
_SAPIENS = {(1024, 24): "0.3b", (1280, 32): "0.6b", (1536, 40): "1b", (1920, 48): "2b"}
# COCO val, classic decoder, 256x192, detector boxes, flip; ViTPose@c050ed2 README.
_VITPOSE_AP = {"S": "73.8", "B": "75.8", "L": "78.3", "H": "79.1"}
# COCO val, AP_H_70 detector boxes, flip; sapiens@3e829ac pose README.
_SAPIENS_AP = {"0.3b": "79.6", "0.6b": "81.2", "1b": "82.1", "2b": "82.2"}
_PATCH = 16
# What its models can do beyond PoseModel (workbench.core.capabilities).
ATTENDS = ("HasAttention",)
# Patches of its pose networks (1024x768 px) and of its pretraining (1024x1024 px).
_OF_SAPIENS = (3072, 4096)


@dataclass(frozen=True)
class Transformer:
    """A plain vision transformer.

    Attributes:
        naming: whose names it has, a key of NAMINGS.
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


# Naming -> (a block's first norm, position table, patch projection), relative to the backbone.
_PARTS = {
    "mmpose-0": (r"^blocks\.(\d+)\.norm1\.weight$", "pos_embed", "patch_embed.proj.weight"),
    "mmpose-1": (r"^layers\.(\d+)\.ln1\.weight$", "pos_embed", "patch_embed.projection.weight"),
    "hf": (
        r"^encoder\.layer\.(\d+)\.layernorm_before\.weight$",
        "embeddings.position_embeddings",
        "embeddings.patch_embeddings.projection.weight",
    ),
}


def transformer_of(view: Shapes) -> Transformer | None:
    """The transformer, under ``backbone.`` or bare."""
    inner = view.under("backbone.", "")
    for naming, (block, position, patch) in _PARTS.items():
        layers = inner.count(block)
        projection, shape = inner.get(patch), inner.get(position)
        # One of the two may be missing in a file that was cut; of other transformers both are.
        width = projection[0] if projection and len(projection) == 4 else 0
        if projection is None and shape and len(shape) == 3:
            width = shape[2]
        if not layers or not width:
            continue
        tokens = shape[1] if shape and len(shape) == 3 else 0
        extra = has_class_position(tokens, naming)
        evidence = [f"{counted(layers, 'block')} of width {width} under {NAMINGS[naming]}"]
        if shape:
            count_text = f"{tokens - extra} patches" + (" and a class token" if extra else "")
            evidence.append(f"{position} {times(shape)}: {count_text}")
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
    if found is None or found.naming != "mmpose-1":
        return None
    size = _SAPIENS.get((found.width, found.layers))
    convs = view.any(r"^head\.conv_layers\.\d+\.weight$")
    if size is None or not (found.positions in _OF_SAPIENS or found.width > 1280):
        return None
    head = _head(view)
    evidence, clash = list(found.evidence), _batch_norm_clash(view)
    if convs and not clash:
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
    return Identity("Sapiens", size, tuple(evidence), expected, clash, keypoints, (1024, 768), _facts(found),
                    capabilities=ATTENDS)  # fmt: skip


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
            f"{narrow} has {rows} of {counted(found.width, 'row')}: the other {found.width - rows} are those "
            "of the data set's expert, so a plain ViTPose takes fc2 and one expert together (--remap; "
            "--assume expert=ap10k names another than that of the model's keypoints)"
        )
    elif narrow:
        evidence.append(
            f"{narrow} has all {counted(found.width, 'row')}: already joined for one data set, the experts "
            "are left over"
        )
    if head:
        evidence.append(keypoint_sentence(head[1][0], *head))
    return Identity(
        f"ViTPose+ ({NAMINGS[found.naming]})", size, tuple(evidence), keypoints=head[1][0] if head else None,
        input_size=_input(found), facts={**_facts(found), "experts": experts}, capabilities=ATTENDS,
    )  # fmt: skip


def vitpose(view: Shapes) -> Identity | None:
    """A plain vision transformer with a heatmap head, or without one."""
    found = transformer_of(view)
    if found is None:
        return None
    size = _VITPOSE.get((found.width, found.layers), f"width {found.width}, {counted(found.layers, 'layer')}")
    head = _head(view)
    if head is None or len(head[1]) != 4:
        linear = view.first("head.weight", "head.fc.weight", "classifier.weight")
        why = (
            f"no heatmap head; {linear_sentence(*linear)}"
            if linear and len(linear[1]) == 2
            else "no heatmap head: pretrained weights (MAE, a classifier ...) and not a pose network"
        )
        return Identity(
            f"vision transformer ({NAMINGS[found.naming]})", size, (*found.evidence, why), facts=_facts(found)
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
        f"ViTPose ({NAMINGS[found.naming]})",
        size,
        evidence,
        expected,
        (),
        keypoints,
        _input(found),
        _facts(found),
        capabilities=ATTENDS,
    )


def _input(found: Transformer) -> tuple[int, int] | None:
    grid = grid_of_positions(found.positions)
    # A square grid is that of a pretrained classifier; it tells nothing of a pose network's input.
    return (grid[0] * _PATCH, grid[1] * _PATCH) if grid and grid[0] != grid[1] else None


def _facts(found: Transformer) -> dict[str, int]:
    return {"width": found.width, "layers": found.layers, "patches": found.positions}


def identify(view: Shapes) -> Identity | None:
    """The vision transformer whose tensors these are."""
    transformer = transformer_of(view)
    found = next(
        (found for recognise in (vitpose_plus, sapiens, vitpose) if (found := recognise(view)) is not None),
        None,
    )
    return (
        replace(found, naming=transformer.naming) if found is not None and transformer is not None else found
    )


def deny(name: str, found: Identity) -> Iterator[str]:
    """What a file's name says of a vision transformer and its tensors deny.

    Args:
        name: of the file, in lower case.
        found: what the tensors tell.
    """
    vit = re.search(r"vit(?:pose)?\+?[-_](s|b|l|h|small|base|large|huge)(?![a-z])", name)
    if vit and found.family.startswith("ViTPose") and vit[1][0].upper() != found.variant[:1]:
        yield f"the file name says ViTPose-{vit[1][0].upper()}, the tensors say {found.variant}"
    if "sapiens" in name and not found.family.startswith("Sapiens"):
        yield f"the file name says Sapiens, the tensors say {found.family}"


_NORMS = re.compile(r"^head\.(?:de)?conv_layers\.\d+\.(?:bias|running_mean)$")


def explain(found: Identity, report: LoadReport) -> str:
    """Why a model does not get all weights from a file of this family; "" where no reason is known.

    Args:
        found: what the file's tensors tell.
        report: of the load that did not fill the model.
    """
    heads = [name for name in report.missing if name.startswith(("head.", "keypoint_head."))]
    if found.keypoints is None and heads and len(heads) == len(report.missing):
        return (
            "the file is a pretrained backbone without a head: heatmaps would come from random weights, so "
            "train the head first, or open a pose checkpoint"
        )
    norms = [name for name in heads if _NORMS.match(name)]
    if found.family == "Sapiens" and norms:
        return (
            f"Sapiens' head has InstanceNorm without tensors and SiLU, this model's has batch normalisation "
            f"({norms[0]}): name the backbone arch 'sapiens_{found.variant}' or give the head use_silu=True, "
            "or leave the config out"
        )
    positions = [one for one in report.mismatched if one.name.endswith("pos_embed") and len(one.file) == 3]
    if positions and positions[0].file[::2] == positions[0].model[::2]:
        return (
            f"the file's position embedding has {counted(positions[0].file[1], 'row')} and the model's "
            f"{positions[0].model[1]}: it belongs to an input of another size; --resample-pos-embed "
            "resamples it"
        )
    return ""
