"""Weights of a ViTPose or Sapiens under the names of another code base, with equal outputs.

Every tensor of the file has a place under the other naming, or the conversion is refused; nothing is left out
that was not named. What changes besides names: transformers has query, key and value as three tensors, and
ViTPose 0.x and transformers add the position of a class token to all others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from workbench.checkpoints.identity import Shapes
from workbench.checkpoints.pieces import Piece, Pieces, pieces_of, stacked
from workbench.checkpoints.remap import joined_experts, renamed
from workbench.checkpoints.state_dicts import common_prefix, is_counter, unwrapped
from workbench.checkpoints.vit_names import (
    BACKBONE,
    CLASSIC_HEAD,
    HOLDERS,
    LAST_LAYER,
    NAMINGS,
    POSITIONS,
    QUERY_KEY_VALUE,
    has_class_position,
    numbered,
    pattern_of,
    replacements,
)
from workbench.core import NotAvailable
from workbench.core.report import counted
from workbench.models.opening import EXPERTS
from workbench.models.vitpose.identity import transformer_of

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.checkpoints import Checkpoint

Shape = tuple[int, ...]
_ENDS = r"\.(weight|bias|running_mean|running_var|num_batches_tracked)$"
# Parts of the projection that mmpretrain has in one; between the two namings only.
_THREE = tuple(f"layers.#.attn.{part}" for part in ("query", "key", "value"))
_WHOLE = {".attn.qkv.": (".attn.query.", ".attn.key.", ".attn.value.")}
# A head of ViTPose and Sapiens under mmpose's names, behind `head.`, `keypoint_head.` or that of a data set.
_HEAD_PARTS = ("deconv_layers.#", "conv_layers.#", "final_layer")
_HEADS = {"mmpose-1": ("head", ""), "mmpose-0": ("keypoint_head", "associate_keypoint_heads.#")}
_OTHERS = "associate_heads.#"


@dataclass(frozen=True)
class Weights:
    """Weights of a file under mmpose 1.x names.

    Attributes:
        naming: of the file, a key of NAMINGS.
        pieces: by name. Experts of ViTPose+ that are not joined have names that mmpose 1.x does not know.
        unknown: tensors of the file that no part of a ViTPose or Sapiens network is called.
        expert: of a ViTPose+ file, the data set's number that was joined; None where nothing was.
        leftover: experts of a file that was joined for one data set before; no network uses them.
    """

    naming: str
    pieces: Pieces
    unknown: Pieces
    expert: int | None = None
    leftover: tuple[str, ...] = ()

    @property
    def shapes(self) -> dict[str, Shape]:
        """Name -> shape."""
        return {name: piece.shape for name, piece in self.pieces.items()}


def weights_of(checkpoint: Checkpoint, expert: int | None = None) -> Weights:
    """The weights of a file, with the parts that wrappers add to names taken away.

    Args:
        checkpoint: opened.
        expert: of a ViTPose+ file, the number of the data set whose expert and head are joined; None joins
            none.

    Raises:
        NotAvailable: no vision transformer under a known naming.
        ValueError: the file has no such expert.
    """
    infos = {unwrapped(name): info for name, info in checkpoint.infos().items() if not is_counter(name)}
    prefix = common_prefix(infos)
    pieces = pieces_of({name.removeprefix(prefix): info for name, info in infos.items()})
    if any(name.startswith("teacher.") for name in pieces) and any(n.startswith("student.") for n in pieces):
        raise NotAvailable(
            f"{checkpoint.path.name}: it holds a teacher and a student; save one of them alone"
        )
    naming = naming_of({name: piece.shape for name, piece in pieces.items()})
    if not naming:
        raise NotAvailable(
            f"{checkpoint.path.name}: {checkpoint.identity}; expected a ViTPose or Sapiens network under the "
            f"names of {', '.join(NAMINGS)}"
        )
    pieces, leftover = _without_leftover(pieces)
    if expert is not None:
        joined = joined_experts(pieces, {}, expert)
        assert joined is not None  # with a number it raises instead
        pieces = joined[1]
    known, unknown = _renamed(pieces, naming)
    return Weights(naming, stacked(known, _WHOLE), unknown, expert, leftover)


def naming_of(shapes: Mapping[str, Shape]) -> str:
    """The key of NAMINGS whose names these are; "" for none.

    Args:
        shapes: name -> shape, under ``backbone.`` or bare.
    """
    found = transformer_of(Shapes(shapes))
    return found.naming if found else ""


def _without_leftover(pieces: Pieces) -> tuple[Pieces, tuple[str, ...]]:
    """The pieces without experts, where fc2 has all rows already, and the names of these experts.

    ViTPose's tools/model_split.py joins fc2 and an expert, but leaves the experts in the file (@c050ed2).
    """
    experts = [name for name in pieces if ".mlp.experts." in name]
    narrow = next((name for name in pieces if name.endswith(".mlp.fc2.weight")), "")
    norm = next((name for name in pieces if name.endswith((".norm2.weight", ".layernorm_after.weight"))), "")
    if not experts or not narrow or not norm or pieces[narrow].shape[0] != pieces[norm].shape[0]:
        return pieces, ()
    return {name: piece for name, piece in pieces.items() if name not in set(experts)}, tuple(experts)


def _renamed(pieces: Pieces, naming: str) -> tuple[Pieces, Pieces]:
    """The pieces that have a name under mmpose 1.x, by that name, and the others by their own."""
    known: Pieces = {}
    unknown: Pieces = {}
    for name, piece in pieces.items():
        new = _translated(name, _to_mmpose(naming))
        if new and new not in known:
            known[new] = piece
        else:
            unknown[name] = piece
    return known, unknown


def _translated(name: str, rules: Sequence[tuple[re.Pattern[str], str]]) -> str:
    for pattern, new in rules:
        if found := pattern.match(name):
            return found.expand(new)
    return ""


Rules = tuple[tuple[re.Pattern[str], str], ...]


def _rule(old: str, new: str, ends: str = _ENDS) -> tuple[re.Pattern[str], str]:
    numbers = old.count("#")
    last = rf".\{numbers + 1}" if ends is _ENDS else ""
    return re.compile(f"^{pattern_of(old)}{ends}"), numbered(new) + last


@cache
def _parts(naming: str) -> tuple[tuple[str, str, str], ...]:
    """(name under mmpose 1.x, name under a naming, what may stand behind both) of all parts."""
    found = [(row.mmpretrain, row.under(naming)) for row in BACKBONE]
    if naming == "hf":
        found += zip(_THREE, QUERY_KEY_VALUE, strict=True)
    rows = [(f"{p}{a}", f"{p}{b}", _ENDS) for p in ("backbone.", "") for a, b in found if b]
    rows += [(p + POSITIONS.mmpretrain, p + POSITIONS.under(naming), "$") for p in ("backbone.", "")]
    if naming == "hf":
        return (*rows, *((r.mmpretrain, r.transformers, _ENDS) for r in (*CLASSIC_HEAD, LAST_LAYER)))
    own, others = _HEADS[naming]
    rows += [(f"head.{part}", f"{own}.{part}", _ENDS) for part in _HEAD_PARTS]
    rows += [(f"{_OTHERS}.{part}", f"{others}.{part}", _ENDS) for part in _HEAD_PARTS if others]
    return tuple(rows)


@cache
def _to_mmpose(naming: str) -> Rules:
    return tuple(_rule(theirs, ours, ends) for ours, theirs, ends in _parts(naming))


@cache
def _from_mmpose(naming: str) -> Rules:
    return tuple(_rule(ours, theirs, ends) for ours, theirs, ends in _parts(naming))


# Of networks in memory.


def state_as_mmpose(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a network under mmpose 1.x names and in its shapes; of no known naming, under their own.

    Query, key and value are joined, and the position of a class token is added to all others, so that two
    networks with equal weights have equal tensors.

    Args:
        state: of any network, tensors in the shapes of its parameters.
    """
    import torch

    prefix = common_prefix(state)
    tensors = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    naming = naming_of({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    if not naming:
        return tensors
    found = {_translated(name, _to_mmpose(naming)) or name: tensor for name, tensor in tensors.items()}
    for name in [name for name in found if ".attn.query." in name]:
        parts = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(part in found for part in parts):
            found[name.replace(".query.", ".qkv.")] = torch.cat([found.pop(part) for part in parts])
    for name in ("backbone.pos_embed", "pos_embed"):
        rows = found[name].shape[1] if name in found and found[name].ndim == 3 else 0
        if rows and has_class_position(rows, naming):
            found[name] = found[name][:, 1:] + found[name][:, :1]
    return found


def tap_as_mmpose(names: Sequence[str], paths: Sequence[str]) -> dict[str, str]:
    """Paths of modules under mmpose 1.x names; one of no known naming keeps its own.

    Args:
        names: of the network's tensors, which tell the naming.
        paths: of modules.
    """
    prefix = common_prefix(names)
    plain = [name.removeprefix(prefix) for name in names]
    marks = {
        "mmpose-0": r"(^|\.)blocks\.\d+\.norm1\.",
        "hf": r"(^|\.)encoder\.layer\.\d+\.layernorm_before\.",
    }
    naming = next((key for key, mark in marks.items() if any(re.search(mark, name) for name in plain)), "")
    rows = (*BACKBONE, *HOLDERS, *CLASSIC_HEAD, LAST_LAYER)
    pairs = replacements(naming, "mmpose-1", rows) if naming else ()

    def common(path: str) -> str:
        path = path.removeprefix(prefix)
        if naming == "mmpose-0":
            path = re.sub(r"^keypoint_head(?=\.|$)", "head", path)
        return renamed(f"{path}.", pairs).removesuffix(".")

    return {path: common(path) for path in paths}


# To another naming.


def converted(weights: Weights, target: str, where: str, dropped: Sequence[str] = ()) -> Pieces:
    """The weights under another naming.

    Args:
        weights: of a file.
        target: naming of NAMINGS.
        where: what to call the file in messages.
        dropped: names of tensors of the file that are left out on purpose, where they have no place.

    Raises:
        ValueError: a tensor has no place under the other naming; says which and what to do.
    """
    refused = [name for name in weights.unknown if name not in dropped]
    called = NAMINGS[target]
    if refused:
        more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
        raise ValueError(
            f"{where}: not part of a ViTPose or Sapiens network and without a name among {called}: "
            f"{', '.join(refused[:3])}{more}; name each with --drop to leave it out"
        )
    if missing := [name for name in dropped if name not in weights.unknown]:
        raise ValueError(
            f"{where}: --drop {missing[0]}: only a tensor without a place can be left out; this one has one, "
            "or is not in the file"
        )
    _refuse_experts(weights, target, where)
    _refuse_head(weights, target, where)
    pieces = _positions(weights.pieces, weights.naming, target)
    pieces = _separate(pieces) if target == "hf" else pieces
    found: Pieces = {}
    for name, piece in pieces.items():
        new = _translated(name, _from_mmpose(target))
        if not new:
            raise ValueError(f"{where}: {name} has no place among {called}")
        found[new] = piece
    return found


def _refuse_experts(weights: Weights, target: str, where: str) -> None:
    experts = [name for name in weights.pieces if ".ffn.experts." in name]
    others = [name for name in weights.pieces if name.startswith("associate_heads.")]
    if target == "mmpose-0" or not (experts or others):
        return
    if experts and target == "mmpose-1":
        what = "mmpose 1.x has no network with experts"
    elif others:
        heads = {name.split(".")[1] for name in others}
        what = f"{NAMINGS[target]} have one head, this ViTPose+ has {len(heads) + 1}"
    else:
        return
    raise ValueError(
        f"{where}: {what}; name the data set whose expert and head are wanted, --assume expert="
        f"{'|'.join(EXPERTS)}"
    )


def _refuse_head(weights: Weights, target: str, where: str) -> None:
    if target == "mmpose-1":
        return
    shapes, called = weights.shapes, NAMINGS[target]
    convolutions = next((name for name in shapes if name.startswith("head.conv_layers.")), "")
    if convolutions:
        raise ValueError(
            f"{where}: {convolutions}: {called} have no head with convolutions behind the deconvolutions, as "
            "Sapiens has; its backbone alone can be converted"
        )
    wanted = {row.mmpretrain for row in CLASSIC_HEAD}
    found = {name.rpartition(".")[0] for name in shapes if name.startswith("head.deconv_layers.")}
    if found and found != wanted and (target == "hf" or len(found) % 2):
        raise ValueError(
            f"{where}: {called} have a head of two deconvolutions with batch normalisation or of none; this "
            f"one has tensors at {', '.join(sorted(found))}"
        )
    if target != "hf":
        return
    for name in ("head.deconv_layers.0.weight", "head.deconv_layers.3.weight"):
        if name in shapes and shapes[name][1:] != (256, 4, 4):
            raise ValueError(
                f"{where}: {name} has {counted(shapes[name][1], 'channel')} and kernel {shapes[name][2]}; "
                "transformers' VitPose knows 256 and 4 alone"
            )
    if not any(name in shapes for name in ("ln1.weight", "backbone.ln1.weight")):
        raise ValueError(f"{where}: no last layer norm, which transformers' VitPose always has")
    last, kernel = shapes.get("head.final_layer.weight"), 1 if found else 3
    if last is not None and last[2:] != (kernel, kernel):
        raise ValueError(
            f"{where}: head.final_layer has kernel {last[2]}; the head of transformers' VitPose "
            f"{'with' if found else 'without'} deconvolutions has {kernel}"
        )


def _positions(pieces: Pieces, source: str, target: str) -> Pieces:
    """The position embedding as the target has it, with the row of a class token or without."""
    found = dict(pieces)
    for name in ("backbone.pos_embed", "pos_embed"):
        piece = found.get(name)
        if piece is None or len(piece.shape) != 3:
            continue
        one, rows, width = piece.shape
        has = has_class_position(rows, source)
        if has and target == "mmpose-1":
            found[name] = replace(piece, how="join class token", shape=(one, rows - 1, width))
        elif not has and target != "mmpose-1":
            found[name] = replace(piece, how="no class token", shape=(one, rows + 1, width))
    return found


def _separate(pieces: Pieces) -> Pieces:
    """The pieces with the joint projection of each layer as its query, key and value."""
    found: Pieces = {}
    for name, piece in pieces.items():
        if ".attn.qkv." not in name:
            found[name] = piece
            continue
        rows = (piece.shape[0] // 3, *piece.shape[1:])
        for n, part in enumerate(("query", "key", "value")):
            new = name.replace(".attn.qkv.", f".attn.{part}.")
            if len(piece.sources) == 3:
                found[new] = Piece((piece.sources[n],), "copy", rows)
            else:
                found[new] = Piece(piece.sources, "rows", rows, part=n)
    return found


def transformers_config(
    shapes: Mapping[str, Shape], heads: int, image: tuple[int, int], eps: float, names: Sequence[str] = ()
) -> dict[str, Any]:
    """What transformers' ``config.json`` says of these weights.

    Args:
        shapes: under mmpose 1.x names, with a head.
        heads: of the attention.
        image: (height, width) of the input, pixels.
        eps: of the layer norms.
        names: of the keypoints; numbers by default.

    Raises:
        ValueError: the hidden width is no multiple of the width, which transformers cannot say.
    """
    patch = shapes["backbone.patch_embed.projection.weight"]
    width, hidden = patch[0], shapes["backbone.layers.0.ffn.layers.0.0.weight"][0]
    layers = len({name.split(".")[2] for name in shapes if name.startswith("backbone.layers.")})
    experts = {name.split(".")[5] for name in shapes if ".0.ffn.experts." in name}
    if hidden % width:
        raise ValueError(
            "transformers' VitPose has a hidden width that is a multiple of the width; here it is "
            f"{hidden} of {width}"
        )
    backbone = {
        "model_type": "vitpose_backbone",
        "architectures": ["VitPoseBackbone"],
        "image_size": list(image),
        "patch_size": list(patch[2:]),
        "num_channels": patch[1],
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "mlp_ratio": hidden // width,
        "qkv_bias": "backbone.layers.0.attn.qkv.bias" in shapes,
        "layer_norm_eps": eps,
        "out_indices": [layers],
    }
    if experts:
        part = width - shapes["backbone.layers.0.ffn.layers.1.weight"][0]
        backbone |= {"num_experts": len(experts), "part_features": part}
    keypoints = shapes["head.final_layer.weight"][0]
    if len(names) != keypoints:
        names = [f"keypoint {k}" for k in range(keypoints)]
    return {
        "model_type": "vitpose",
        "architectures": ["VitPoseForPoseEstimation"],
        "backbone_config": backbone,
        "use_simple_decoder": "head.deconv_layers.0.weight" not in shapes,
        "scale_factor": 4,
        "num_labels": keypoints,
        "id2label": {str(k): name for k, name in enumerate(names)},
        "label2id": {name: k for k, name in enumerate(names)},
    }
