"""From a ViTPose or Sapiens checkpoint to a model, without a config, and back to a file.

Width, layers and head are read off the tensors. What they do not tell is the number of attention heads (known
for the published sizes, stated in Hugging Face's config.json, or 64 channels a head) and how coordinates are
coded (as published: UDP).
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from workbench.checkpoints.pieces import Pieces
from workbench.checkpoints.remap import VITPOSE_PLUS, Rule
from workbench.checkpoints.vit_names import NAMINGS, grid_of_positions, has_class_position
from workbench.core import Codec, NotAvailable, PartMissing, Skeleton, reason
from workbench.core.capabilities import Attention
from workbench.core.files import belongs, read_at_most
from workbench.core.report import counted
from workbench.models.families import FreshOptions
from workbench.models.opening import Opening, skeleton_from_plain
from workbench.models.top_down import IMAGENET_MEAN, IMAGENET_STD, PADDING, TopDown
from workbench.models.vitpose.conversion import Shape, Weights, weights_of
from workbench.models.vitpose.network import CLASSIC, Architecture, HeadShape, ViT, ViTPose
from workbench.skeletons import SKELETONS, skeleton_for

if TYPE_CHECKING:
    from torch import nn

    from workbench.checkpoints import Checkpoint
    from workbench.checkpoints.identity import Identity
    from workbench.checkpoints.loading import LoadReport

# (width, layers) -> heads of the published networks: ViTPose S, B, L, H; Sapiens 1b, 2b. Of 64 channels each
# but for S with 32, H and Sapiens 0.6b with 80, Sapiens 2b with 60.
_HEADS = {(384, 12): 12, (768, 12): 12, (1024, 24): 16, (1280, 32): 16, (1536, 40): 24, (1920, 48): 32}
_CHANNELS_A_HEAD = 64
# transformers' default; the published Hugging Face files say it in their config.json.
_EPS = {"mmpose-1": 1e-6, "mmpose-0": 1e-6, "hf": 1e-12}
# Of the Gaussian target, cells: Sapiens' heatmaps are four times as large.
_SIGMA, _SIGMA_SAPIENS = 2.0, 6.0
# Number of the expert of ViTPose+ -> skeleton of its data set; APT-36K has AP-10K's keypoints.
_SKELETONS = {
    0: "coco-17", 1: "aic-14", 2: "mpii-16", 3: "ap10k-17", 4: "ap10k-17", 5: "coco-wholebody-133",
}  # fmt: skip
_BY_COUNT = {17: "coco-17", 14: "aic-14", 16: "mpii-16", 133: "coco-wholebody-133"}
# Of a config.json beside the weights, bytes.
_CONFIG = 1 << 20


@dataclass(frozen=True, eq=False)
class AttendingTopDown(TopDown):
    """A top-down model with a vision transformer whose attention can be recorded.

    Attributes:
        attention: where its weights pass.
    """

    attention: Attention = None  # type: ignore[assignment] - `attending` fills it


def attending(model: TopDown) -> TopDown:
    """The model with the capability HasAttention, where its network has a vision transformer."""
    path, backbone = next(((p, m) for p, m in model.module.named_modules() if isinstance(m, ViT)), ("", None))
    if backbone is None:
        return model
    fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    return AttendingTopDown(**fields, attention=backbone.attention(path))


def position_grids(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Name of each position embedding of a network -> (h, w) of its patches."""
    return {
        f"{path}.pos_embed".lstrip("."): part.architecture.grid
        for path, part in module.named_modules()
        if isinstance(part, ViT)
    }


def allow_resampling(module: nn.Module) -> None:
    """Let the vision transformers of a network take inputs of other sizes."""
    for part in module.modules():
        if isinstance(part, ViT):
            part.resample = True


# Opening.


def load(opening: Opening) -> tuple[TopDown, LoadReport]:
    """The network that the file's tensors tell, with its weights.

    Raises:
        NotAvailable: no heatmap head, or a part of the network is missing.
        ValueError: an input of another size than the position embedding's, and nobody asked to resample it.
    """
    from workbench.checkpoints.loading import load_state
    from workbench.models.mmpose.trust import bounded, most_parameters

    checkpoint, stated = opening.required(), opening.stated
    where = checkpoint.path.name
    weights, about_expert = weights_to_load(checkpoint, stated.expert)
    recorded = RecordedFacts.of(checkpoint, weights.naming)
    head = head_of(weights.shapes, where, recorded.enlarged)
    architecture, about_heads = architecture_of(weights, recorded, opening)
    # Own elements: views of one number can have any shape.
    with bounded(most_parameters(checkpoint.parameters)):
        module = ViTPose(architecture, head).eval()
    grids = position_grids(module) if opening.resample_pos_embed else None
    pieces = {**plain_pieces(weights, module), **weights.unknown}
    report = load_state(module, checkpoint, remap=opening.remap, pieces=pieces, grids=grids)
    if weights.naming != "mmpose-1":
        rule = Rule(f"{NAMINGS[weights.naming]} -> mmpose 1.x names", report.loaded)
        report = dataclasses.replace(report, remap=(rule, *report.remap), applied=True)
    sapiens = bool(head.convolutions)
    skeleton, about_names = _skeleton(checkpoint, recorded, head.keypoints, weights.expert)
    codec = codec_of(architecture, head, recorded.sigma or (_SIGMA_SAPIENS if sapiens else _SIGMA))
    notes = [about_expert, about_heads, about_names, "UDP heatmaps assumed, as published"]
    if stated.mean is None and stated.std is None:
        notes.append(f"mean {IMAGENET_MEAN} and std {IMAGENET_STD} assumed")
    if stated.padding is None:
        notes.append(f"box padding {PADDING} assumed")
    model = TopDown(
        module=module.to(opening.device),
        skeleton=skeleton,
        codec=codec,
        mean=stated.mean or IMAGENET_MEAN,
        std=stated.std or IMAGENET_STD,
        bgr=stated.channels == "bgr",
        padding=PADDING if stated.padding is None else stated.padding,
        device=opening.device,
        note="" if recorded.own else "; ".join(note for note in notes if note),
    )
    return attending(model), report


def weights_to_load(checkpoint: Checkpoint, expert: int | None = None) -> tuple[Weights, str]:
    """The weights of a file as a plain ViTPose has them, and what was assumed for it.

    Args:
        checkpoint: opened.
        expert: of a ViTPose+ file, the number of the data set; COCO's, the first, by default.

    Raises:
        NotAvailable: no vision transformer under a known naming.
        ValueError: the file has no such expert.
    """
    weights = weights_of(checkpoint, expert)
    if expert is not None or not any(".ffn.experts." in name for name in weights.pieces):
        return weights, ""
    return weights_of(
        checkpoint, 0
    ), f"expert of {VITPOSE_PLUS[0][0]} taken (--assume expert=ap10k for another)"


@dataclass(frozen=True)
class RecordedFacts:
    """What a file says beside its tensors.

    Attributes:
        heads: of the attention; 0 where nothing says it.
        eps: of the layer norms.
        image: (height, width) of the input, pixels; None where nothing says it.
        enlarged: factor of the simple decoder.
        sigma: of the Gaussian target, cells; 0 where nothing says it.
        skeleton: of the keypoints; None where nothing says it.
        own: the workbench itself wrote the file.
    """

    heads: int = 0
    eps: float = 1e-6
    image: tuple[int, int] | None = None
    enlarged: int = 4
    sigma: float = 0.0
    skeleton: Skeleton | None = None
    own: bool = False

    @classmethod
    def of(cls, checkpoint: Checkpoint, naming: str) -> RecordedFacts:
        """From the file's own entry that `write` makes, or from Hugging Face's config.json beside it.

        Args:
            checkpoint: opened.
            naming: of its tensors.

        Raises:
            ValueError: it says something that cannot be.
        """
        own = checkpoint.meta.get("vitpose")
        with _odd_values(checkpoint.path.name):
            if isinstance(own, Mapping):
                skeleton = skeleton_from_plain(own["skeleton"], "vitpose")
                height, width = own["image"]
                return cls(
                    int(own["heads"]), float(own["eps"]), (int(height), int(width)), int(own["enlarged"]),
                    float(own["sigma"]), skeleton, True,
                )  # fmt: skip
            if naming == "hf" and (config := _config_beside(checkpoint.path)):
                backbone = config.get("backbone_config") or config
                size = backbone.get("image_size") or None
                height, width = (size, size) if isinstance(size, int) else size or (0, 0)
                return cls(
                    int(backbone.get("num_attention_heads", 0)),
                    float(backbone.get("layer_norm_eps", _EPS["hf"])),
                    (int(height), int(width)) if size else None,
                    int(config.get("scale_factor", 4)),
                    skeleton=_labelled(config.get("id2label")),
                )
        return cls(eps=_EPS[naming])


def _labelled(labels: Any) -> Skeleton | None:
    """The skeleton of transformers' id2label; None where it says nothing (``LABEL_0``, numbers)."""
    if not isinstance(labels, Mapping) or not labels:
        return None
    names = [str(labels[key]) for key in sorted(labels, key=int)]
    return (
        None if any(re.fullmatch(r"(LABEL_|keypoint )\d+", name) for name in names) else skeleton_for(names)
    )


def known_names(checkpoint: Checkpoint, naming: str) -> tuple[str, ...]:
    """Names of the keypoints that a file states; () where it states none.

    Args:
        checkpoint: opened.
        naming: of its tensors.
    """
    from workbench.models.mmpose.config import names_keypoints, skeleton_from_meta

    skeleton = RecordedFacts.of(checkpoint, naming).skeleton
    if skeleton is None and names_keypoints(checkpoint.dataset_meta):
        skeleton = skeleton_from_meta(checkpoint.dataset_meta)
    return skeleton.keypoints if skeleton is not None else ()


def _config_beside(path: Path) -> Mapping[str, Any] | None:
    """Hugging Face's config.json in the folder of the weights; None where there is none."""
    file = path.parent / "config.json"
    if not file.is_file() or not belongs(file, path.parent.resolve()) or file.stat().st_size > _CONFIG:
        return None
    try:
        config = json.loads(read_at_most(file, _CONFIG, "a config"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file.name} beside {path.name} is no JSON: {error}") from None
    known = isinstance(config, Mapping) and str(config.get("model_type", "")).startswith("vitpose")
    return config if known else None


class _odd_values:  # noqa: N801 - used as a function
    """What comes of odd values in a file, as one sentence.

    Args:
        where: what to call the file.
    """

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (LookupError, TypeError, AttributeError, OverflowError, ValueError)):
            sentence = f"{self.where}: what it says of its network cannot be read: {reason(error)}"
            raise ValueError(sentence) from error


_TELLING = (
    "backbone.pos_embed",
    "backbone.patch_embed.projection.weight",
    "backbone.layers.0.ffn.layers.0.0.weight",
)
"""Tensors that tell the sizes of a backbone, by their names in mmpose 1.x."""


def architecture_of(weights: Weights, recorded: RecordedFacts, opening: Opening) -> tuple[Architecture, str]:
    """Sizes of the backbone, and what was assumed.

    Args:
        weights: of the file.
        recorded: what it says besides.
        opening: the size of the input and the number of heads may be stated there.

    Raises:
        NotAvailable: a tensor that tells a size is missing.
        ValueError: an input of another size than the position embedding's, and nobody asked to resample it.
    """
    where, shapes = opening.required().path.name, weights.shapes
    if missing := [name for name in _TELLING if name not in shapes]:
        raise PartMissing(where, "ViTPose", missing)
    projection = _shape(shapes, "backbone.patch_embed.projection.weight", 4, where)
    hidden = _shape(shapes, "backbone.layers.0.ffn.layers.0.0.weight", 2, where)[0]
    layers = _count(shapes, r"backbone\.layers\.(\d+)\.")
    width, patch = projection[0], projection[2]
    heads, about = opening.stated.heads or recorded.heads or _HEADS.get((width, layers), 0), ""
    if not heads:
        heads = max(width // _CHANNELS_A_HEAD, 1)
        heads = next(n for n in range(heads, 0, -1) if width % n == 0)
        about = f"{heads} attention heads assumed (--assume heads=...)"
    if width % heads:
        raise ValueError(
            f"{where}: {heads} attention heads do not divide a width of {width}; --assume heads=..."
        )
    trained = _trained_grid(shapes, weights.naming, where)
    usual = (trained[0] * patch, trained[1] * patch) if trained else (256, 192)
    architecture = Architecture(
        width, layers, heads, hidden,
        image=opening.stated.input or recorded.image or usual,
        patch=patch,
        eps=recorded.eps,
        qkv_bias="backbone.layers.0.attn.qkv.bias" in shapes,
        final_norm="backbone.ln1.weight" in shapes,
    )  # fmt: skip
    _refuse_other_size(architecture, shapes, weights.naming, trained, opening)
    return architecture, about


def _trained_grid(shapes: Mapping[str, Shape], naming: str, where: str) -> tuple[int, int] | None:
    rows = _shape(shapes, "backbone.pos_embed", 3, where)[1]
    return grid_of_positions(rows - has_class_position(rows, naming))


def _refuse_other_size(
    a: Architecture,
    shapes: Mapping[str, Shape],
    naming: str,
    trained: tuple[int, int] | None,
    opening: Opening,
) -> None:
    """Raise where the position embedding belongs to an input of another size, unless it may be resampled."""
    rows = shapes["backbone.pos_embed"][1]
    count = rows - has_class_position(rows, naming)
    where, size = opening.required().path.name, f"{a.image[1]}x{a.image[0]} px (width x height)"
    if a.grid[0] * a.grid[1] in (count, rows):
        return
    if trained is None:
        raise ValueError(
            f"{where}: its position embedding has {count} patches, which no input of 4:3 and no square one "
            f"has, and an input of {size} has {a.grid[0] * a.grid[1]}; state its own with --assume input=WxH"
        )
    if not opening.resample_pos_embed:
        raise ValueError(
            f"{where}: its position embedding belongs to an input of {trained[1] * a.patch}x"
            f"{trained[0] * a.patch} px (width x height), {size} was asked for; pass --resample-pos-embed to "
            "have it resampled (bicubic, as upstream does)"
        )


def plain_pieces(weights: Weights, module: ViTPose) -> Pieces:
    """The weights as this network has them: the position of a class token is added to all others.

    Args:
        weights: of the file.
        module: whose number of patches decides where the naming does not.
    """
    name, patches = "backbone.pos_embed", module.backbone.pos_embed.shape[1]
    piece = weights.pieces.get(name)
    if piece is None or len(piece.shape) != 3 or piece.shape[1] == patches:
        return weights.pieces
    one, rows, width = piece.shape
    if not has_class_position(rows, weights.naming) and rows != patches + 1:
        return weights.pieces
    joined = dataclasses.replace(piece, how="join class token", shape=(one, rows - 1, width))
    return {**weights.pieces, name: joined}


def head_of(shapes: Mapping[str, Shape], where: str, enlarged: int = 4) -> HeadShape:
    """Sizes of the head.

    Args:
        shapes: under mmpose 1.x names.
        where: what to call the file in messages.
        enlarged: factor of the simple decoder.

    Raises:
        NotAvailable: there is no heatmap head.
    """
    if "head.final_layer.weight" not in shapes:
        if any(re.match(r"head\.((de)?conv_layers\.|final_layer\.bias$)", name) for name in shapes):
            raise PartMissing(where, "ViTPose", ["head.final_layer.weight"])
        raise NotAvailable(
            f"{where}: no heatmap head (head.final_layer), so these are pretrained weights and no pose "
            "network; `workbench open`, `diff` and `convert` take them"
        )
    last = _shape(shapes, "head.final_layer.weight", 4, where)
    layers = {kind: _layers(shapes, kind) for kind in ("deconv", "conv")}
    # Batch normalisation has tensors of one axis; InstanceNorm as Sapiens has it has none.
    between = re.compile(r"head\.(?:de)?conv_layers\.\d+\.(?:weight|running_mean)$")
    batch = any(between.match(name) and len(shape) == 1 for name, shape in shapes.items())
    simple = not layers["deconv"] and last[2] == 3
    return HeadShape(
        last[0],
        layers["deconv"],
        layers["conv"],
        last[2],
        "batch" if batch or not (layers["deconv"] or layers["conv"]) else "instance",
        enlarged if simple else 1,
    )


def _layers(shapes: Mapping[str, Shape], kind: str) -> tuple[tuple[int, int], ...]:
    """(channels, kernel) of the head's layers of a kind, ``deconv`` or ``conv``, in order."""
    found = {}
    for name, shape in shapes.items():
        mark = re.match(rf"head\.{kind}_layers\.(\d+)\.weight$", name)
        if mark and len(shape) == 4:
            found[int(mark[1])] = (shape[1] if kind == "deconv" else shape[0], shape[2])
    return tuple(found[n] for n in sorted(found))


def codec_of(architecture: Architecture, head: HeadShape, sigma: float) -> Codec:
    """How coordinates stand in the heatmaps, as ViTPose and Sapiens were published.

    Args:
        architecture: of the backbone.
        head: of the head.
        sigma: of the Gaussian target, cells.
    """
    h, w = architecture.grid
    return Codec(
        kind="heatmap",
        input_size=architecture.image,
        output_size=(h * head.scale, w * head.scale),
        sigma=(sigma, sigma),
        udp=True,
        decoder="udp",
    )


def _skeleton(
    checkpoint: Checkpoint, recorded: RecordedFacts, keypoints: int, expert: int | None
) -> tuple[Skeleton, str]:
    if recorded.skeleton is not None and len(recorded.skeleton) == keypoints:
        return recorded.skeleton, ""
    if checkpoint.dataset_meta:
        from workbench.models.mmpose.config import skeleton_of

        return skeleton_of({}, checkpoint.dataset_meta, keypoints)
    name = _SKELETONS.get(-1 if expert is None else expert, "") or _BY_COUNT.get(keypoints, "")
    if name and len(SKELETONS[name]) == keypoints:
        return SKELETONS[name], (
            f"the file does not name its {counted(keypoints, 'keypoint')}: taken for {name}"
        )
    names = tuple(f"keypoint {k}" for k in range(keypoints))
    skeleton = Skeleton(f"own-{keypoints}", names, source="the checkpoint does not name the keypoints")
    return skeleton, f"the file does not name its {counted(keypoints, 'keypoint')}: they are numbered"


def _shape(shapes: Mapping[str, Shape], name: str, axes: int, where: str) -> Shape:
    found = shapes[name]
    if len(found) != axes or min(found) < 1:
        raise NotAvailable(
            f"{where}: expected {name} with {axes} axes, which tells the size of the network; its shape is "
            f"{found}"
        )
    return found


def _count(shapes: Mapping[str, Shape], pattern: str) -> int:
    return 1 + max((int(found[1]) for name in shapes if (found := re.match(pattern, name))), default=-1)


def published_config(found: Identity) -> dict[str, Any] | None:
    """How a network of this kind is fed and read as published, in the shape of an mmpose config.

    Returns:
        None where it is no pose network of this family, or its input size is not known.
    """
    if not found.naming or found.keypoints is None or found.input_size is None:
        return None
    H, W = found.input_size
    sigma = _SIGMA_SAPIENS if found.family == "Sapiens" else _SIGMA
    codec = {"type": "UDPHeatmap", "input_size": (W, H), "heatmap_size": (W // 4, H // 4), "sigma": sigma}
    normal = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "bgr_to_rgb": True}
    return {
        "model": {"type": "exported", "data_preprocessor": normal},
        "codec": codec,
        "val_pipeline": [
            {"type": "GetBBoxCenterScale", "padding": PADDING},
            {"type": "TopdownAffine", "input_size": (W, H), "use_udp": True},
        ],
    }


# First weights, and back to a file.


# Learns an image on a CPU in about a minute.
_SMALL = Architecture(width=192, layers=4, heads=3, hidden=384, image=(128, 96), patch=16)


def fresh(options: FreshOptions) -> TopDown:
    """A small ViTPose with first weights.

    Args:
        options: keypoints and device.
    """
    head = HeadShape(len(options.skeleton), CLASSIC)
    return new_vitpose(ViTPose(_SMALL, head).to(options.device), options.skeleton, options.device)


def new_vitpose(network: ViTPose, skeleton: Skeleton, device: str = "cpu", sigma: float = _SIGMA) -> TopDown:
    """A model around a network of one's own.

    Args:
        network: with its weights.
        skeleton: of its heatmaps, in their order.
        device: where it is.
        sigma: of the Gaussian target, cells.

    Raises:
        ValueError: the skeleton has another number of keypoints.
    """
    a, head = network.backbone.architecture, network.head.shape
    if len(skeleton) != head.keypoints:
        raise ValueError(
            f"ViTPose: the network gives {head.keypoints} heatmaps, skeleton {skeleton.name} has "
            f"{counted(len(skeleton), 'keypoint')}"
        )
    return attending(TopDown(network, skeleton, codec_of(a, head, sigma), device=device))


def write(model: TopDown, path: Path, epoch: int, **facts: Any) -> None:
    """The weights and what their names do not tell, in mmengine's layout: meta and state_dict.

    Args:
        model: around a ViTPose.
        path: of the new file.
        epoch: number of finished epochs.
        facts: further entries of ``meta``.
    """
    network: Any = model.module
    a = network.backbone.architecture
    facts_of_model = {
        "heads": a.heads,
        "eps": a.eps,
        "image": list(a.image),
        "enlarged": network.head.shape.enlarged,
        "sigma": model.codec.sigma[0] if model.codec else _SIGMA,
        "skeleton": dataclasses.asdict(model.skeleton),
    }
    torch.save(
        {"meta": {"epoch": epoch, "vitpose": facts_of_model, **facts}, "state_dict": network.state_dict()},
        path,
    )
