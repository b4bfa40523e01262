"""Rules about the model of a config and its checkpoint: sizes, codec, head. None needs a recipe that differs.

A rule yields findings; it is silent where the config does not say enough, and on the configs that mmpose
ships.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from workbench.core.report import counted
from workbench.recipes.comparison import (
    AuditFinding,
    Subject,
    equal,
    file_name,
    finding,
    is_turned,
    numbers,
    shown,
)
from workbench.recipes.recipe import Recipe, fields
from workbench.recipes.values import Decisions, class_name, look_up
from workbench.skeletons import mirror_by_names

# Keypoints of mmpose's data sets. Source: mmpose 1.3.2 configs/_base_/datasets.
KEYPOINTS = {
    "CocoDataset": 17, "AP10KDataset": 17, "CocoWholeBodyDataset": 133, "MpiiDataset": 16,
    "CrowdPoseDataset": 14, "AicDataset": 14, "HalpeDataset": 136, "JhmdbDataset": 15,
    "PoseTrack18Dataset": 17, "OCHumanDataset": 17, "AnimalPoseDataset": 20, "Horse10Dataset": 22,
    "MacaqueDataset": 17, "ATRWDataset": 15, "FlyDataset": 32, "LocustDataset": 35, "ZebraDataset": 9,
    "AFLWDataset": 19, "WFLWDataset": 98, "COFWDataset": 29, "Face300WDataset": 68, "LapaDataset": 106,
}  # fmt: skip


# The files of `metainfo = dict(from_file=...)`, by name.
_META_FILES = {
    "coco.py": 17, "ap10k.py": 17, "coco_wholebody.py": 133, "mpii.py": 16, "crowdpose.py": 14, "aic.py": 14,
    "halpe.py": 136, "halpe26.py": 26, "animalpose.py": 20, "posetrack18.py": 17,
}  # fmt: skip


_IMAGENET = {"preprocess.mean": [123.675, 116.28, 103.53], "preprocess.std": [58.395, 57.12, 57.375]}
# Means or deviations of channels that differ by more than this factor are of two ranges.
_ALIKE = 4.0

# Longer side of the heatmap over sigma. Published: 16 (CPM) to 43 (Sapiens: 256 cells, sigma 6).
_SIGMA_RANGE = (14.0, 72.0)


# Beyond these nothing is learned but the background, or keypoints run into each other. Published bottom-up
# models of two resolutions reach 160 (HigherHRNet: sigma 2 on 320 cells).
_SIGMA_LEAST, _SIGMA_MOST = 8.0, 200.0


def sizes(subject: Subject) -> Iterator[AuditFinding]:
    """Input, heatmap and backbone speak of one crop."""
    made = subject.decisions
    image, maps = numbers(made.get("codec.input_size")), numbers(made.get("codec.heatmap_size"))
    backbone = numbers(made.get("backbone.img_size"))
    source = "mmpose 1.3.2: codecs take (width, height), mmpretrain's VisionTransformer (height, width)"
    right = subject.recipe is not None and backbone == numbers(subject.recipe.get("backbone.img_size"))
    if image and backbone and image[::-1] != backbone and not right:
        why = "the backbone's positional embedding is laid out for another crop than the codec's"
        yield finding(
            "error",
            made.key("backbone.img_size"),
            made.get("backbone.img_size"),
            image[::-1],
            cause="width and height exchanged" if image == backbone else "backbone and codec of two sizes",
            why=why,
            source=source,
            field="backbone.img_size",
            fix=f"codec.input_size is (width, height) = {shown(image)}: set img_size to (height, width) = "
            f"{shown(image[::-1])}",
        )
    if not image or not maps:
        return
    recipe = subject.recipe
    if recipe is not None and maps == numbers(recipe.get("codec.heatmap_size")):
        published = numbers(recipe.get("codec.input_size"))
        if published and image == published[::-1] != published:
            return  # the comparison says so of the input: the heatmap is right
    strides = image[0] / maps[0], image[1] / maps[1]
    # AlexNet's maps in mmpose are 40x56 cells: strides of 4.8 and 4.57.
    if not math.isclose(strides[0], strides[1], rel_tol=0.06) or strides[0] < 1:
        turned = is_turned(maps, image)
        yield finding(
            "error",
            made.key("codec.heatmap_size"),
            made.get("codec.heatmap_size"),
            maps[::-1] if turned else [round(v / max(1.0, round(min(strides)))) for v in image],
            cause="width and height exchanged" if turned else "the heatmap does not fit the input",
            evidence=f"input {shown(image)} over heatmap {shown(maps)} gives strides {strides[0]:g} and "
            f"{strides[1]:g}",
            why="one cell must stand for as many pixels in x as in y, or keypoints are decoded at another "
            "place",
            source="mmpose 1.3.2 mmpose/codecs: keypoints / heatmap_size x input_size",
            fix="give both sizes as (width, height), and the heatmap as input over stride (4 for the usual "
            "heads)",
            field="codec.heatmap_size",
        )


def sigma(subject: Subject) -> Iterator[AuditFinding]:
    """The target's peak belongs to the size of the map."""
    made = subject.decisions
    maps, image = numbers(made.get("codec.heatmap_size")), numbers(made.get("codec.input_size"))
    value = made.get("codec.sigma")
    if made.dialect == "yacs" or "bottomup.input_size" in made.values:
        return  # bottom-up maps hold people of every size
    if maps and isinstance(value, (int, float)) and value > 0 and made.get("codec.type") in (
        "MSRAHeatmap", "UDPHeatmap", None
    ):  # fmt: skip
        if str(made.get("codec.heatmap_type", "gaussian")) == "combined":
            return
        longest = max(maps)
        ratio = longest / value
        if not _SIGMA_RANGE[0] <= ratio <= _SIGMA_RANGE[1]:
            expected = max(1, round(longest / 32)) if longest < 200 else max(1, round(longest / 42.7))
            yield finding(
                "warning" if _SIGMA_LEAST <= ratio <= _SIGMA_MOST else "error",
                made.key("codec.sigma"),
                value,
                expected,
                cause="sigma does not belong to the heatmap size",
                evidence=f"sigma {value:g} on a map of {shown(maps)} cells: the map is {ratio:.0f} sigma "
                f"long",
                why="too small: the target is zero in nearly all cells, and MSE learns the background; "
                "too large: peaks of neighbouring keypoints overlap",
                source="published recipes: sigma 2 at 48x64, 3 at 72x96, 6 at 192x256 cells",
                fix=f"set sigma to about {expected}",
                field="codec.sigma",
            )
    if made.get("codec.type") == "SimCCLabel" and image:
        both = [value, value] if isinstance(value, (int, float)) else value
        if (both := numbers(both)) is None:
            return
        split = made.get("codec.split_ratio", 2.0)
        usual = [math.sqrt(v * split) / 4 for v in image]
        if any(not 0.5 <= mine / theirs <= 2 for mine, theirs in zip(both, usual, strict=True)):
            yield finding(
                "warning",
                made.key("codec.sigma"),
                value,
                [round(v, 2) for v in usual],
                cause="sigma does not belong to the input size",
                why="SimCC's label is a Gaussian in bins; RTMPose scales it with the square root of the axis",
                source="mmpose 1.3.2 configs/**/rtmpose: (4.9, 5.66) at 192x256, (6, 6.93) at 288x384",
                fix=f"set sigma to {shown([round(v, 2) for v in usual])}",
                field="codec.sigma",
            )


def head_channels(subject: Subject) -> Iterator[AuditFinding]:
    """The head has a map for each keypoint of the data."""
    made = subject.decisions
    channels = made.get("head.out_channels")
    keypoints, said = _keypoints(made)
    if not isinstance(channels, int) or not keypoints or channels == keypoints:
        return
    if str(made.get("codec.heatmap_type", "gaussian")) == "combined" and channels == 3 * keypoints:
        return
    if made.get("head.type") not in ("HeatmapHead", "RTMCCHead", "SimCCHead", "RegressionHead", None):
        return
    if made.get("codec.heatmap_type") == "combined":
        keypoints *= 3
    yield finding(
        "error",
        made.key("head.out_channels"),
        channels,
        keypoints,
        cause="head and data set of two skeletons",
        evidence=f"the head gives {counted(channels, 'map')}, {said} has {counted(keypoints, 'keypoint')}",
        why="targets and outputs do not fit, or maps are read as other keypoints than they were trained for",
        source="mmpose 1.3.2 configs/_base_/datasets",
        fix=f"set out_channels to {keypoints}",
        field="head.out_channels",
    )


def _keypoints(made: Decisions) -> tuple[int, str]:
    """Keypoints of the training data and what says so; 0 where nothing does."""
    dataset = look_up(made.config, "train_dataloader.dataset")
    if not isinstance(dataset, Mapping):
        # Older layouts and yaml: the data set's name alone.
        kind = str(made.get("train.dataset") or "") if made.dialect in ("mmpose0", "yacs") else ""
        return KEYPOINTS.get(kind, 0), kind
    meta = dataset.get("metainfo") or look_up(made.config, "dataset_info")
    if isinstance(meta, Mapping):
        named = meta.get("keypoint_info")
        if isinstance(named, Mapping) and named:
            return len(named), "its keypoint_info"
        known = _META_FILES.get(file_name(meta.get("from_file")))
        return (known, file_name(meta["from_file"])) if known else (0, "")
    kind = class_name(dataset)
    # Pipelines such as KeypointConverter give another skeleton than the data set's.
    pipeline = dataset.get("pipeline")
    pipeline = pipeline if isinstance(pipeline, (list, tuple)) else ()
    steps = {class_name(step) for step in pipeline if isinstance(step, Mapping)}
    return (KEYPOINTS.get(kind, 0), kind) if "KeypointConverter" not in steps else (0, "")


def mirror_pairs(subject: Subject) -> Iterator[AuditFinding]:
    """Keypoints swap with the ones that their names say."""
    for part in ("train", "val"):
        place = f"{part}_dataloader.dataset.metainfo.keypoint_info"
        info = look_up(subject.config, place)
        info = info if isinstance(info, Mapping) else {}
        names = [str(one.get("name")) for one in info.values() if isinstance(one, Mapping)]
        partner = [names[k] for k in mirror_by_names(names)] if len(names) == len(info) else names
        sided = [k for k, name in enumerate(names) if partner[k] != name]
        swaps = [str(one.get("swap") or "") for one in info.values() if isinstance(one, Mapping)]
        wrong = [k for k in sided if swaps[k] != partner[k]]
        if wrong:
            k = wrong[0]
            yield finding(
                "error",
                f"{place}.{list(info)[k]}.swap",
                swaps[k],
                partner[k],
                cause="mirror pairs contradict the names",
                evidence=(
                    f"{len(wrong)} of {counted(len(sided), 'keypoint')} that have a left and a right do not "
                    f"swap with their partner: {names[k]} swaps with {swaps[k] or 'none'}"
                ),
                why="flips mirror the picture, and left keypoints keep the names of the left: the network "
                "learns both sides as one",
                source="mmpose 1.3.2 configs/_base_/datasets; RandomFlip and flip_test use flip_indices",
                fix=f"set swap='{partner[k]}' at {names[k]}, and so at every keypoint with a side",
            )
            return


def normalisation(subject: Subject) -> Iterator[AuditFinding]:
    """Means and deviations are on the range of the images."""
    made = subject.decisions
    mean = numbers(made.get("preprocess.mean"), 3)
    if mean and made.dialect == "mmengine" and max(mean) <= 1:
        yield finding(
            "error",
            made.key("preprocess.mean"),
            made.get("preprocess.mean"),
            _IMAGENET["preprocess.mean"],
            cause="normalised on another range",
            source="mmpose 1.3.2 PoseDataPreprocessor works on 0..255",
            why="images of 0..255 less a mean of about 0.5 reach the network a hundred times too large",
            fix="multiply mean and std by 255",
            field="preprocess.mean",
        )
    for name, usual in _IMAGENET.items():
        held = numbers(made.get(name), 3)
        if held and 0 < _ALIKE * min(held) < max(held):
            yield finding(
                "error",
                made.key(name),
                made.get(name),
                usual,
                cause="one channel normalised on another range",
                source="mmpose 1.3.2 PoseDataPreprocessor; statistics of ImageNet",
                why="channels of photographs have means and deviations of one size: one of these is mistyped",
                fix=f"set it to {shown(usual)}, or to what the weights were trained with",
                field=name,
            )


def input_of_head(subject: Subject) -> Iterator[AuditFinding]:
    """The head takes what the backbone gives."""
    made = subject.decisions
    width, taken = _output_width(made), made.get("head.in_channels")
    both = width and isinstance(taken, int) and look_up(made.config, "model.neck") is None
    if both and width != taken:
        yield finding(
            "error",
            made.key("head.in_channels"),
            taken,
            width,
            cause="backbone and head do not fit",
            evidence=f"the backbone gives {counted(width, 'channel')}, the head takes {taken}",
            why="the first forward pass fails",
            source="mmpose 1.3.2 mmpose/models/backbones; mmpretrain vision_transformer.py, arch_zoo",
            fix=f"set in_channels to {width}, or take the backbone that the head was made for",
            field="head.in_channels",
        )


def maps_of_head(subject: Subject) -> Iterator[AuditFinding]:
    """The head gives maps of the size that the codec makes targets of."""
    made = subject.decisions
    head, stride = look_up(made.config, "model.head"), _stride(made)
    image, maps = numbers(made.get("codec.input_size")), numbers(made.get("codec.heatmap_size"))
    plain = isinstance(head, Mapping) and class_name(head) == "HeatmapHead"
    if not plain or not stride or not image or not maps or look_up(made.config, "model.neck") is not None:
        return
    # Each deconvolution doubles the map; mmpose's default are three.
    given = head.get("deconv_out_channels", (256, 256, 256))
    doubled = 2 ** len(given) if isinstance(given, (list, tuple)) else 1
    given_maps = [side // stride * doubled for side in image]
    if any(side % stride for side in image) or given_maps == list(maps):
        return
    yield finding(
        "error",
        made.key("codec.heatmap_size"),
        made.get("codec.heatmap_size"),
        given_maps,
        cause="head and targets of two sizes",
        evidence=f"the backbone's stride is {stride}, and the head's "
        f"{counted(doubled.bit_length() - 1, 'deconvolution')} make maps of {shown(given_maps)}",
        why="the loss cannot compare maps of two sizes",
        source="mmpose 1.3.2 HeatmapHead: each deconvolution doubles the map",
        fix=f"set heatmap_size to {shown(given_maps)}, or change the head's deconvolutions",
        field="codec.heatmap_size",
    )


def _stride(made: Decisions) -> int:
    """Input pixels of a cell of a ResNet's last map; 0 of other backbones and of unusual strides."""
    backbone = look_up(made.config, "model.backbone")
    known = {"type", "depth", "init_cfg", "frozen_stages", "norm_eval", "norm_cfg", "style", "base_channels"}
    usual = isinstance(backbone, Mapping) and {*backbone} <= known | {"deep_stem", "avg_down", "groups"}
    return 32 if usual and made.get("backbone.type") in _RESNETS else 0


_RESNETS = ("ResNet", "ResNetV1d", "ResNeXt", "SEResNet", "SEResNeXt", "SCNet")


def _output_width(made: Decisions) -> int:
    """Channels of the one map that a backbone gives; 0 where the config does not tell them."""
    kind, backbone = made.get("backbone.type"), look_up(made.config, "model.backbone")
    backbone = backbone if isinstance(backbone, Mapping) else {}
    out, width = backbone.get("out_indices"), None
    last = out[0] if isinstance(out, (list, tuple)) and len(out) == 1 else 3 if out is None else None
    if kind == "VisionTransformer":
        width = made.get("backbone.embed_dim")
    elif kind == "HRNet" and look_up(backbone, "extra.upsample") is None:
        stage, widths = look_up(backbone, "extra.stage4"), made.get("backbone.widths")
        if isinstance(stage, Mapping) and isinstance(widths, list) and not stage.get("multiscale_output"):
            width = widths[0] * (4 if stage.get("block") == "BOTTLENECK" else 1) if widths else 0
    elif kind in _RESNETS and isinstance(last, int) and last < 4:
        depth, base = backbone.get("depth"), backbone.get("base_channels", 64)
        if isinstance(depth, int) and isinstance(base, int):
            width = base * 2**last * (1 if depth < 50 else 4)
    elif kind == "CSPNeXt" and out and last == 4 and backbone.get("arch", "P5") == "P5":
        factor = backbone.get("widen_factor", 1.0)
        width = int(1024 * factor) if isinstance(factor, (int, float)) and 0 < factor < 10 else 0
    return width if isinstance(width, int) else 0


MODEL_RULES = (mirror_pairs, sizes, sigma, head_channels, normalisation, input_of_head, maps_of_head)
"""In the order of a report."""


Shapes = Mapping[str, tuple[int, ...]]
_KINDS_OF_HEADS = ("HeatmapHead", "RTMCCHead", "SimCCHead")
_BLOCK = re.compile(
    r"(?:^|\.)(?:layers|blocks|encoder\.layer)\.(\d+)\.(?:attn|attention|norm1|ln1|layernorm)"
)
# Names of heads: mmpose 1.x, mmpose 0.x, and what people call their own.
_HEAD = re.compile(r"(?:^|\.)(?:head|keypoint_head|decoder)\.")


# Backbones by names that only their own tensors have; the first that fits.
_BACKBONES = {
    "HRNet": re.compile(r"(?:^|\.)stage\d\.\d\.branches\.\d\."),
    "CSPNeXt": re.compile(r"(?:^|\.)stage\d\.\d\.short_conv\."),
    "VisionTransformer": _BLOCK,
    "ResNet": re.compile(r"(?:^|\.)layer4\.\d\.conv1\."),
}


def check_network(decisions: Decisions, shapes: Shapes, file: str) -> None:
    """Raise ValueError where the tensors are of another network than the config's, and not of another size.

    Args:
        decisions: of the config.
        shapes: name of a tensor -> shape.
        file: name of the checkpoint.
    """
    said = decisions.values.get("backbone.type")
    if said is None or said.value not in _BACKBONES:
        return
    matching = ((kind, name) for kind, own in _BACKBONES.items() for name in shapes if own.search(name))
    found, tensor = next(matching, (said.value, ""))
    if found != said.value:
        raise ValueError(
            f"{file} is a checkpoint of another model than the config: {said.key} is {said.value}, and "
            f"{tensor} is a tensor of {found}; name a checkpoint that was trained with this config"
        )


def checkpoint_findings(
    decisions: Decisions, reference: Recipe | None, shapes: Shapes, file: str
) -> Iterator[AuditFinding]:
    """Where the tensors of a checkpoint deny what the config says of the model, or the recipe.

    Args:
        decisions: of the config.
        reference: the recipe; asked where the config says nothing. None without one.
        shapes: name of a tensor -> shape.
        file: name of the checkpoint.
    """
    for field, found, tensor in _facts_of_shapes(shapes):
        said = decisions.values.get(field)
        if said is not None and not _same(field, said.value, found):
            if field == "head.type" and said.value not in _KINDS_OF_HEADS:
                continue  # a head of one's own, with layers of these names
            yield finding(
                "error",
                said.key,
                said.value,
                found,
                cause="a checkpoint of another model than the config",
                evidence=f"{said.key} is {shown(said.value)}, {file} has {shown(found)} ({tensor})",
                why="the weights do not fit this config: a strict load fails, a loose one leaves parts at "
                "random",
                source=f"{file}: {tensor} {list(shapes.get(tensor, ()))}",
                fix=f"use the config that {file} was trained with, or a checkpoint of this config",
                field=f"checkpoint.{field}",
            )
        expected = reference.get(field) if reference is not None and said is None else None
        if reference is not None and expected is not None and not _same(field, expected, found):
            yield finding(
                "error",
                tensor,
                found,
                expected,
                cause="weights of another model than the recipe",
                evidence=f"{file} has {field} {shown(found)} ({tensor}), {reference.name} has "
                f"{shown(expected)}",
                why=fields()[field].why,
                source=reference.source_of(field),
                fix=f"build the model with {field} {shown(expected)}: the published weights then fit",
                field=f"checkpoint.{field}",
            )


def _same(field: str, mine: Any, theirs: Any) -> bool:
    empty = (None, "none", [], ())
    return (mine in empty and theirs in empty) or equal(field, mine, theirs)


def _facts_of_shapes(shapes: Shapes) -> Iterator[tuple[str, Any, str]]:
    """Field, value and tensor for whatever the tensors tell."""
    embedding = _first(shapes, ("pos_embed", "position_embeddings"))
    if embedding and len(shapes[embedding]) == 3:
        yield "backbone.embed_dim", shapes[embedding][2], embedding
    blocks = {int(found[1]): name for name in shapes if (found := _BLOCK.search(name))}
    if blocks:
        yield "backbone.layers", max(blocks) + 1, blocks[max(blocks)]
    branch = _first(shapes, ("stage4.0.branches.0.0.conv1.weight",))
    if branch:
        yield "backbone.widths", [shapes[branch][0] * 2**n for n in range(4)], branch
    axis = _first(shapes, ("head.cls_x.weight",))
    if axis:
        yield "head.type", "RTMCCHead", axis
    yield from _head(shapes, with_type=not axis)


def _head(shapes: Shapes, with_type: bool) -> Iterator[tuple[str, Any, str]]:
    """A head of heatmaps: deconvolutions, 1x1 convolutions behind them, norms and the last layer."""
    names = [name for name in shapes if _HEAD.search(name)]
    layers = sorted(
        (name for name in names if name.endswith(".weight") and len(shapes[name]) == 4), key=_place
    )
    deconvolutions = [name for name in layers if shapes[name][2:] == (4, 4)]
    final = _first(shapes, (".final_layer.weight",)) or (layers[-1] if layers and deconvolutions else "")
    if final:
        yield "head.out_channels", shapes[final][0], final
    if not deconvolutions:
        return
    first = deconvolutions[0]
    if with_type and ".deconv_layers." in first:
        yield "head.type", "HeatmapHead", first
    yield "head.deconv_channels", [shapes[name][1] for name in deconvolutions], first
    yield "head.in_channels", shapes[first][0], first
    convolutions = [name for name in layers if shapes[name][2:] == (1, 1) and name != final]
    yield "head.conv_channels", [shapes[name][0] for name in convolutions], (convolutions or [final])[0]
    statistics = next((name for name in names if name.endswith(".running_mean")), "")
    yield "head.norm", "BatchNorm2d" if statistics else "InstanceNorm2d", statistics or first
    if convolutions:
        name = convolutions[0]
        yield "head.conv_bias", name.removesuffix("weight") + "bias" in shapes, name


def _place(name: str) -> tuple[int, list[int]]:
    """Where a layer stands in its head: deconvolutions, convolutions, the last layer; then by number."""
    kinds = ("deconv_layers", "conv_layers", "final_layer")
    kind = next((n for n, word in enumerate(kinds) if word in name), 0)
    return kind, [int(part) for part in name.split(".") if part.isdecimal() and len(part) < 10]


def _first(shapes: Shapes, endings: Sequence[str]) -> str:
    return next((name for name in shapes if name.endswith(tuple(endings))), "")
