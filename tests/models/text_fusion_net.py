"""A small text fusion network as a config, and a checkpoint of it on the disk."""

from __future__ import annotations

import copy
from typing import Any

import torch

CHANNELS, BINS = 32, 128
TEXT = "drawn-quadrupeds"


def config(neck: dict | None = None, refiner: dict | None = None, head: dict | None = None, **model) -> dict:
    """An mmpose config: 64 px input, 17 keypoints, the published options unless told otherwise."""
    codec = {
        "type": "SimCCLabel", "input_size": (64, 64), "sigma": (2.83, 2.83), "simcc_split_ratio": 2.0,
        "normalize": False, "use_dark": False,
    }  # fmt: skip
    stages = [[64, 128, 1, True, False], [128, 256, 1, False, True]]
    built: dict[str, Any] = {
        "type": "TopdownPoseEstimatorWithNeck",
        "text": TEXT,
        "data_preprocessor": {"type": "PoseDataPreprocessor", "mean": [0.0] * 3, "std": [255.0] * 3},
        "backbone": {
            "type": "CSPNeXt", "arch": "P5", "arch_ovewrite": stages, "deepen_factor": 0.167,
            "widen_factor": 0.125, "out_indices": (2,), "norm_cfg": {"type": "BN"},
        },
        "neck": {
            "type": "TextFusionNeck", "in_channels": CHANNELS, "out_channels": CHANNELS,
            "num_keypoints": 17, **(neck or {}),
        },
        "head": {
            "type": "RTMCCHeadWithRefinement", "in_channels": CHANNELS, "out_channels": 17,
            "input_size": (64, 64), "in_featuremap_size": (8, 8), "simcc_split_ratio": 2.0,
            "final_layer_kernel_size": 1,
            "gau_cfg": {
                "hidden_dims": 32, "s": 16, "expansion_factor": 2, "dropout_rate": 0.0, "drop_path": 0.0,
                "act_fn": "SiLU", "use_rel_bias": False, "pos_enc": False,
            },
            "loss": {"type": "KLDiscretLoss", "use_target_weight": True, "beta": 10.0, "label_softmax": True},
            "decoder": codec,
            "refiner": {
                "type": "SimCCDiffusionRefiner", "coord_dim": BINS, "hidden_dim": 16, "num_keypoints": 17,
                **(refiner or {}),
            },
            **(head or {}),
        },
        **model,
    }  # fmt: skip
    pipeline = [
        {"type": "LoadImage"},
        {"type": "GetBBoxCenterScale", "padding": 1.25},
        {"type": "TopdownAffine", "input_size": (64, 64)},
        {"type": "PackPoseInputs"},
    ]
    return {"model": built, "val_dataloader": {"dataset": {"type": "AP10KDataset", "pipeline": pipeline}}}


def written(settings, folder, *, drop=(), name="epoch_1.pth", half=False):
    """A checkpoint as mmengine leaves it; keys that begin with one of `drop` are left out."""
    from workbench.models.mmpose.model import build

    torch.manual_seed(0)
    state = build(copy.deepcopy(settings)).state_dict()
    state = {k: v for k, v in state.items() if not k.startswith(tuple(drop))} if drop else state
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    text = "\n".join(f"{key} = {value!r}" for key, value in settings.items())
    torch.save({"meta": {"epoch": 1, "cfg": text}, "state_dict": state}, folder / name)
    return folder / name
