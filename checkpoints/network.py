"""What is the demo's network? RTMPose in small: stock parts of mmpose 1.3.2, as plain data.

CSPNeXt is cut after stride 16, which leaves an 8 x 8 map at 128 px as RTMPose has at 256 px and stride 32:
a checkpoint of 2 MB can lie in the repository, one of 54 MB cannot.
"""

from __future__ import annotations

from typing import Any

Size = tuple[int, int]
"""(width, height), as mmpose writes sizes."""

SQUARE: Size = (128, 128)  # 17 keypoints of a drawn animal stay told apart, a step costs a few ms
UPRIGHT: Size = (96, 128)  # 192 x 256 halved
STRIDE = 16

# stride 8 and 16 stages of P5 with SPP moved into the last one kept:
# in, out, blocks, residual, SPP - before widen_factor and deepen_factor.
_STAGES = [[64, 128, 3, True, False], [128, 256, 6, True, False], [256, 512, 6, False, True]]
_WIDEN = 0.25


def model(size: Size) -> dict[str, Any]:
    """The network: backbone and head of RTMPose in small, with the codec its decoder needs."""
    return {
        "type": "TopdownPoseEstimator",
        "data_preprocessor": {
            "type": "PoseDataPreprocessor",
            "mean": [123.675, 116.28, 103.53],
            "std": [58.395, 57.12, 57.375],
            "bgr_to_rgb": True,
        },
        "backbone": {
            "type": "CSPNeXt",
            "arch": "P5",
            "arch_ovewrite": _STAGES,  # the spelling is CSPNeXt's
            "expand_ratio": 0.5,
            "deepen_factor": 0.167,
            "widen_factor": _WIDEN,
            "out_indices": (3,),
            "channel_attention": True,
            "norm_cfg": {"type": "BN"},
            "act_cfg": {"type": "SiLU", "inplace": True},
        },
        "head": {
            "type": "RTMCCHead",
            "in_channels": int(_STAGES[-1][1] * _WIDEN),
            "out_channels": 17,
            "input_size": size,
            "in_featuremap_size": _cells(size),
            "simcc_split_ratio": 2.0,
            "final_layer_kernel_size": 7,
            "gau_cfg": {
                "hidden_dims": 128,
                "s": 64,
                "expansion_factor": 2,
                "dropout_rate": 0.0,
                "drop_path": 0.0,
                "act_fn": "SiLU",
                "use_rel_bias": False,
                "pos_enc": False,
            },
            "loss": {"type": "KLDiscretLoss", "use_target_weight": True, "beta": 10.0, "label_softmax": True},
            "decoder": codec(size),
        },
        "test_cfg": {"flip_test": False},
    }


def codec(size: Size) -> dict[str, Any]:
    """SimCC labels: RTMPose's sigma of 5.66 bins at 256 px goes with the square root of the side."""
    return {
        "type": "SimCCLabel",
        "input_size": size,
        "sigma": tuple(round(5.66 * (side / 256) ** 0.5, 2) for side in size),
        "simcc_split_ratio": 2.0,
        "normalize": False,
        "use_dark": False,
    }


def warm_up_model(size: Size) -> dict[str, Any]:
    """The same backbone and the same last convolution, trained to put one blob per keypoint on the map.

    From random weights RTMCCHead answers with the mean pose for hundreds of steps, because its norm makes
    what all images share louder than what tells them apart. Published RTMPose starts from a trained
    backbone; this is the smallest such start. `head.final_layer` has the same name and shape in both.
    """
    return {
        **model(size),
        "head": {
            "type": "HeatmapHead",
            "in_channels": int(_STAGES[-1][1] * _WIDEN),
            "out_channels": 17,
            "deconv_out_channels": None,
            "final_layer": {"kernel_size": 7, "padding": 3},
            "loss": {"type": "KeypointMSELoss", "use_target_weight": True, "loss_weight": 100.0},
            "decoder": warm_up_codec(size),
        },
    }


def warm_up_codec(size: Size) -> dict[str, Any]:
    """Blobs wider than a cell on the map of the last stage."""
    return {"type": "MSRAHeatmap", "input_size": size, "heatmap_size": _cells(size), "sigma": 1.3}


def _cells(size: Size) -> Size:
    return size[0] // STRIDE, size[1] // STRIDE
