"""Family official_heatmaps: HRNet and SimpleBaseline files of the published layouts, without a config.

Widths, depths, blocks and deconvolutions are read off names and shapes, mmpose builds the network, and the
names are turned into mmpose's; the input size stands in the file's name or is assumed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workbench.checkpoints.remap import OFFICIAL, renamed
from workbench.checkpoints.state_dicts import common_prefix, is_counter, unwrapped
from workbench.core import NotAvailable
from workbench.core.report import counted
from workbench.models.families import Family
from workbench.models.opening import Opening
from workbench.models.top_down import IMAGENET_MEAN, IMAGENET_STD, PADDING, TopDown
from workbench.skeletons import SKELETONS

if TYPE_CHECKING:
    from workbench.checkpoints.loading import LoadReport

Shape = tuple[int, ...]
# Keypoints -> data set of the published weights, and their usual (height, width).
_PUBLISHED = {17: ("coco-17", (256, 192)), 16: ("mpii-16", (256, 256))}
_USUAL = (256, 192)
_NAMED_SIZE = re.compile(r"(?<!\d)(\d{3})x(\d{3})(?!\d)")
_RESNET = {(False, 2): 18, (False, 6): 34, (True, 6): 50, (True, 23): 101, (True, 36): 152}
# Source: HRNet@6f69e46 lib/dataset/JointsDataset.py; its configs of pose_resnet say COLOR_RGB: false, and
# microsoft/human-pose-estimation.pytorch has no such switch: blue comes first, under the means of RGB.
_BLUE_FIRST = "SimpleBaseline"


def load(opening: Opening) -> tuple[TopDown, LoadReport]:
    """The network that the file's tensors tell, with its weights.

    Raises:
        NotAvailable: a part of it is missing, or has a size that no published network has.
    """
    from workbench.checkpoints.loading import load_state
    from workbench.models.mmpose.model import build, model_of
    from workbench.models.mmpose.trust import most_parameters

    checkpoint, stated = opening.required(), opening.stated
    where = checkpoint.path.name
    names = [unwrapped(name) for name in checkpoint.infos() if not is_counter(name)]
    prefix = common_prefix(names)

    def published(name: str) -> str:
        plain = unwrapped(name).removeprefix(prefix)
        plain = re.sub(r"^keypoint_head\.", "head.", plain)
        return renamed(plain, OFFICIAL)

    shapes = {published(name): tuple(info.shape) for name, info in checkpoint.infos().items()}
    backbone, kind = _backbone(shapes, where)
    head = _head(shapes, where)
    size, about_size = _input_size(opening, head["out_channels"])
    own_names = any(name.startswith(("backbone.", "module.backbone.")) for name in names)
    bgr = kind == _BLUE_FIRST and not own_names
    config = _config(backbone, head, size)
    module = build(config, most_parameters(sum(math.prod(shape) for shape in shapes.values()))).eval()
    report = load_state(module, checkpoint, remap=opening.remap, rename=published)
    model = model_of(module, config, checkpoint.dataset_meta, opening.device)
    if not isinstance(model, TopDown):
        raise NotAvailable(f"{where}: mmpose builds no top-down network of these parts")
    skeleton, about_names = model.skeleton, model.note
    # Under mmpose's names 17 keypoints may be AP-10K's as well; the official code has these two sets.
    if not checkpoint.dataset_meta and not own_names and len(skeleton) in _PUBLISHED:
        name = _PUBLISHED[len(skeleton)][0]
        skeleton = SKELETONS[name]
        about_names = f"the file does not name its {counted(len(skeleton), 'keypoint')}: taken for {name}"
    notes = [about_names, about_size]
    if stated.channels:
        bgr = stated.channels == "bgr"
    else:
        notes.append(f"{'BGR' if bgr else 'RGB'} assumed, as in the published code")
    if stated.mean is None and stated.std is None:
        notes.append(f"mean {IMAGENET_MEAN} and std {IMAGENET_STD} assumed")
    if stated.padding is None:
        notes.append(f"box padding {PADDING} assumed")
    return replace(
        model,
        skeleton=skeleton,
        bgr=bgr,
        mean=stated.mean or IMAGENET_MEAN,
        std=stated.std or IMAGENET_STD,
        padding=PADDING if stated.padding is None else stated.padding,
        note="; ".join(note for note in notes if note),
    ), report


def _config(backbone: dict[str, Any], head: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """An mmpose config of the network; sigma and decoder are those of the published code."""
    H, W = size
    codec = {"type": "MSRAHeatmap", "input_size": (W, H), "heatmap_size": (W // 4, H // 4), "sigma": 2}
    return {
        "codec": codec,
        "model": {
            "type": "TopdownPoseEstimator",
            "backbone": backbone,
            "head": {**head, "decoder": codec},
            "test_cfg": {"flip_test": True, "flip_mode": "heatmap", "shift_heatmap": True},
        },
        "val_pipeline": [
            {"type": "GetBBoxCenterScale", "padding": PADDING},
            {"type": "TopdownAffine", "input_size": (W, H)},
        ],
    }


def _backbone(shapes: Mapping[str, Shape], where: str) -> tuple[dict[str, Any], str]:
    """Mmpose's backbone of these tensors, and which of the two it is."""
    if "backbone.stage2.0.branches.0.0.conv1.weight" in shapes:
        return {"type": "HRNet", "in_channels": 3, "extra": _stages(shapes, where)}, "HRNet"
    blocks = _count(shapes, r"backbone\.layer3\.(\d+)\.conv1\.", where)
    depth = _RESNET.get(("backbone.layer3.0.conv3.weight" in shapes, blocks))
    if depth is None:
        raise NotAvailable(
            f"{where}: a ResNet with {counted(blocks, 'block')} in layer3, which no published one has"
        )
    return {"type": "ResNet", "depth": depth}, _BLUE_FIRST


def _stages(shapes: Mapping[str, Shape], where: str) -> dict[str, Any]:
    extra: dict[str, Any] = {
        "stage1": {
            "num_modules": 1,
            "num_branches": 1,
            "block": "BOTTLENECK" if "backbone.layer1.0.conv3.weight" in shapes else "BASIC",
            "num_blocks": (_count(shapes, r"backbone\.layer1\.(\d+)\.conv1\.", where),),
            "num_channels": (_shape(shapes, "backbone.layer1.0.conv1.weight", where)[0],),
        }
    }
    for stage in (2, 3, 4):
        start = rf"backbone\.stage{stage}\."
        branches = range(_count(shapes, start + r"0\.branches\.(\d+)\.", where))
        first = f"backbone.stage{stage}.0.branches"
        extra[f"stage{stage}"] = {
            "num_modules": _count(shapes, start + r"(\d+)\.branches\.", where),
            "num_branches": len(branches),
            "block": "BOTTLENECK" if f"{first}.0.0.conv3.weight" in shapes else "BASIC",
            "num_blocks": tuple(
                _count(shapes, rf"{start}0\.branches\.{b}\.(\d+)\.conv1\.", where) for b in branches
            ),
            "num_channels": tuple(_shape(shapes, f"{first}.{b}.0.conv1.weight", where)[0] for b in branches),
        }
    return extra


def _head(shapes: Mapping[str, Shape], where: str) -> dict[str, Any]:
    """Mmpose's heatmap head of these tensors: deconvolutions, if any, and the last convolution."""
    last = _shape(shapes, "head.final_layer.weight", where)
    numbers = sorted(
        int(found[1])
        for name, shape in shapes.items()
        if (found := re.match(r"head\.deconv_layers\.(\d+)\.weight$", name)) and len(shape) == 4
    )
    deconvolutions = [shapes[f"head.deconv_layers.{n}.weight"] for n in numbers]
    return {
        "type": "HeatmapHead",
        "in_channels": deconvolutions[0][0] if deconvolutions else last[1],
        "out_channels": last[0],
        "deconv_out_channels": tuple(shape[1] for shape in deconvolutions) or None,
        "deconv_kernel_sizes": tuple(shape[2] for shape in deconvolutions) or None,
        "final_layer": {"kernel_size": last[2], "padding": last[2] // 2},
        "loss": {"type": "KeypointMSELoss", "use_target_weight": True},
    }


def _input_size(opening: Opening, keypoints: int) -> tuple[tuple[int, int], str]:
    if opening.stated.input is not None:
        return opening.stated.input, ""
    if named := _NAMED_SIZE.search(opening.required().path.name):
        # Published files are named height x width.
        H, W = int(named[1]), int(named[2])
        if H % 32 == 0 and W % 32 == 0:
            return (H, W), f"input {W}x{H} (width x height) taken from the file's name"
    H, W = _PUBLISHED.get(keypoints, ("", _USUAL))[1]
    return (H, W), f"input {W}x{H} (width x height) assumed (--assume input=...)"


def _shape(shapes: Mapping[str, Shape], name: str, where: str) -> Shape:
    found = shapes.get(name)
    if found is None or len(found) != 4:
        raise NotAvailable(f"{where}: no {name}, which tells the size of the network; this is a part of it")
    return found


def _count(shapes: Mapping[str, Shape], pattern: str, where: str) -> int:
    numbers = {int(found[1]) for name in shapes if (found := re.match(pattern, name))}
    if not numbers:
        name = pattern.replace("\\", "").partition("(")[0]
        raise NotAvailable(f"{where}: no {name}*, which tells the size of the network; this is a part of it")
    return max(numbers) + 1


def _opens(opening: Opening) -> bool:
    family = opening.required().identity.family
    return family.startswith(("HRNet (", "SimpleBaseline ResNet (")) and not opening.has_config


FAMILY = Family(
    name="official_heatmaps",
    summary="HRNet and SimpleBaseline files of the published layouts, without a config",
    load=load,
    opens=_opens,
    leaves_open=("padding", "mean", "std", "channels", "input"),
)
