"""From a checkpoint to a HigherHRNet that finds people, and back to a file.

Opened are the published state dicts, training checkpoints, FP16-trained ones, mmpose 0.x ones (which mmpose
1.x can no longer build), parts of one model, and what `write` wrote. The size of the network is read from
names and shapes of the tensors alone.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from workbench.checkpoints.state_dicts import unwrapped
from workbench.core import NotAvailable, PartMissing, Skeleton
from workbench.core.report import counted
from workbench.decoding.grouping import HIGHERHRNET
from workbench.models.bottom_up import BottomUp
from workbench.models.higherhrnet.network import Architecture, HigherHRNet
from workbench.models.opening import Opening, skeleton_from_plain
from workbench.skeletons import SKELETONS

if TYPE_CHECKING:
    from workbench.checkpoints import Checkpoint
    from workbench.checkpoints.loading import LoadReport


# What wrappers and mmpose put before the published names: DataParallel, Lightning, Sequential(tofp16, net).
_BEFORE = re.compile(r"^(?:module\.|model\.|net\.|1\.)*(?:backbone\.|keypoint_head\.|head\.)?(?:module\.)?")


def published(name: str) -> str:
    """A tensor's name as the published checkpoints have it.

    The loss layers of mmpose have no tensors, so nothing else is in its files.
    """
    return _BEFORE.sub("", unwrapped(name), count=1)


def architecture_of(shapes: Mapping[str, tuple[int, ...]], where: str) -> Architecture:
    """The architecture whose tensors these are.

    Args:
        shapes: by published name.
        where: what to call the file in messages.

    Raises:
        NotAvailable: a tensor that tells a size is missing, or there are no tags.
        ValueError: tags that no declared layout fits, or a further deconvolution.
    """
    first = _shape(shapes, "final_layers.0.weight", where)
    second = _shape(shapes, "final_layers.1.weight", where)
    if any(name.startswith(("deconv_layers.1.", "final_layers.2.")) for name in shapes):
        raise ValueError(f"{where}: HigherHRNet with a second deconvolution; only one is known here")
    keypoints = second[0]
    tags = first[0] - keypoints
    if tags == 0:
        raise NotAvailable(f"tags: {where} has heatmaps at both resolutions and no tag maps, so no grouping")
    if tags not in (1, keypoints):
        raise ValueError(
            f"{where}: final_layers.0 gives {counted(first[0], 'map')} and final_layers.1 says that "
            f"{keypoints} are heatmaps; expected {keypoints} tag maps (one per keypoint) or 1 (for all), got "
            f"{tags}"
        )
    return Architecture(
        width=first[1],
        keypoints=keypoints,
        tags=tags,
        stem=_shape(shapes, "conv1.weight", where)[0],
        bottlenecks=_count(shapes, r"layer1\.(\d+)\.", where),
        modules=(
            _count(shapes, r"stage2\.(\d+)\.", where),
            _count(shapes, r"stage3\.(\d+)\.", where),
            _count(shapes, r"stage4\.(\d+)\.", where),
        ),
        blocks=_count(shapes, r"stage2\.0\.branches\.0\.(\d+)\.", where),
        # The first is the deconvolution itself.
        deconv_blocks=_count(shapes, r"deconv_layers\.0\.(\d+)\.", where) - 1,
    )


def _shape(shapes: Mapping[str, tuple[int, ...]], name: str, where: str) -> tuple[int, ...]:
    found = shapes.get(name)
    if found is None or len(found) != 4:
        raise PartMissing(where, "HigherHRNet", [name])
    return found


def _count(shapes: Mapping[str, tuple[int, ...]], pattern: str, where: str) -> int:
    numbers = {int(found[1]) for name in shapes if (found := re.match(pattern, name))}
    if not numbers:
        name = pattern.replace(r"(\d+)", "*").replace("\\", "").rstrip(".")
        raise PartMissing(where, "HigherHRNet", [name])
    return max(numbers) + 1


# Opening and writing.


# The published input size of each width, where nothing names another.
_INPUT = {32: 512, 48: 640}
_USUAL = 512
# The published checkpoints were trained on these two sets and no others.
_PUBLISHED = {17: "coco-17", 14: "crowdpose-14"}
_NAMED_SIZE = re.compile(r"(?<!\d)(384|512|640|768)(?!\d)")


def load(opening: Opening) -> tuple[BottomUp, LoadReport]:
    """The model a checkpoint holds.

    Raises:
        NotAvailable: a part of a network, or one without tags.
        ValueError: what the file says of itself cannot be.
    """
    from workbench.checkpoints.loading import load_state

    checkpoint = opening.required()
    infos = checkpoint.infos()
    shapes = {published(name): tuple(info.shape) for name, info in infos.items()}
    network = HigherHRNet(architecture_of(shapes, checkpoint.path.name)).eval()
    report = load_state(network, checkpoint, rename=published, remap=opening.remap)
    recorded = checkpoint.meta.get("higherhrnet")
    recorded = recorded if isinstance(recorded, dict) else {}
    skeleton, about_names = _skeleton(checkpoint, recorded, network.architecture.keypoints)
    input_size, about_size = _input_size(checkpoint, recorded, network.architecture.width)
    note = "; ".join(part for part in (about_names, about_size) if part)
    model = _model(network.to(opening.device), skeleton, input_size, note)
    return model, report


def new_higherhrnet(network: HigherHRNet, skeleton: Skeleton, input_size: int = _USUAL) -> BottomUp:
    """A model around a network of one's own.

    Args:
        network: with its weights.
        skeleton: of its heatmaps, in their order.
        input_size: of the short side, pixels.

    Raises:
        ValueError: the skeleton has another number of keypoints.
    """
    return _model(network, skeleton, input_size, "")


def write(model: BottomUp, path: Path, epoch: int, **facts: Any) -> None:
    """The weights and what their names do not tell, in mmengine's layout: meta and state_dict.

    Args:
        model: around a HigherHRNet.
        path: of the new file.
        epoch: number of finished epochs.
        facts: further entries of ``meta``.
    """
    recorded = {"input_size": model.input_size, "skeleton": dataclasses.asdict(model.skeleton)}
    meta = {"epoch": epoch, "higherhrnet": recorded, **facts}
    torch.save({"meta": meta, "state_dict": model.module.state_dict()}, path)


def _model(network: HigherHRNet, skeleton: Skeleton, input_size: int, note: str) -> BottomUp:
    a = network.architecture
    if len(skeleton) != a.keypoints:
        raise ValueError(
            f"HigherHRNet: the network gives {a.keypoints} heatmaps, skeleton {skeleton.name} has "
            f"{counted(len(skeleton), 'keypoint')}"
        )
    # The family says it: tag maps stand behind the heatmaps, one for each keypoint or one for all.
    layout = "shared" if a.tags == 1 else "per_joint"
    grouping = dataclasses.replace(HIGHERHRNET, tag_layout=layout)
    return BottomUp(
        module=network, skeleton=skeleton, tags=a.tags, input_size=input_size, grouping=grouping, note=note
    )


def _skeleton(checkpoint: Checkpoint, recorded: dict[str, Any], keypoints: int) -> tuple[Skeleton, str]:
    if "skeleton" in recorded:
        return skeleton_from_plain(recorded["skeleton"], "higherhrnet"), ""
    if checkpoint.dataset_meta:
        from workbench.models.mmpose.config import skeleton_from_meta

        return skeleton_from_meta(checkpoint.dataset_meta), ""
    if keypoints in _PUBLISHED:
        name = _PUBLISHED[keypoints]
        return SKELETONS[name], (
            f"the file does not name its {counted(keypoints, 'keypoint')}: taken for {name}, as of the "
            "published HigherHRNet checkpoints"
        )
    names = tuple(f"keypoint {k}" for k in range(keypoints))
    skeleton = Skeleton(f"own-{keypoints}", names, source="the checkpoint does not name the keypoints")
    return skeleton, f"the file does not name its {counted(keypoints, 'keypoint')}: they are numbered"


def _input_size(checkpoint: Checkpoint, recorded: dict[str, Any], width: int) -> tuple[int, str]:
    if "input_size" in recorded:
        size = recorded["input_size"]
        if type(size) is not int or size < 1:
            raise ValueError(f"higherhrnet: expected an input size in pixels, the checkpoint says {size!r}")
        return size, ""
    if named := _NAMED_SIZE.search(checkpoint.path.name):
        return int(named[1]), f"input size {named[1]} taken from the file's name"
    size = _INPUT.get(width, _USUAL)
    return size, f"weights do not tell the input size: {size} assumed"
