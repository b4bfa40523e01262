"""mmpose's associative embedding: its config's layout, its way in, and its people, to the bit."""

from __future__ import annotations

import copy

import cv2
import numpy as np
import pytest
import torch

from workbench.core import Sample
from workbench.core.run import run
from workbench.evaluation.predict import passes_over
from workbench.models.bottom_up import BottomUp
from workbench.models.mmpose.model import OnlyWeights, build, model_of

ORDER = [0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16]


def stage(*channels, block="BASIC"):
    n = len(channels)
    return {
        "num_modules": 1, "num_branches": n, "block": block, "num_blocks": (1,) * n, "num_channels": channels,
    }  # fmt: skip


def config(mode="expand", **head):
    codec = {
        "type": "AssociativeEmbedding", "input_size": (128, 128), "heatmap_size": (128, 128), "sigma": 2,
        "decode_topk": 20, "decode_center_shift": 0.5, "decode_keypoint_order": ORDER,
        "decode_max_instances": 12,
    }  # fmt: skip
    extra = {
        "stage1": stage(16, block="BOTTLENECK"),
        "stage2": stage(4, 8),
        "stage3": stage(4, 8, 16),
        "stage4": stage(4, 8, 16, 32),
    }
    model = {
        "type": "BottomupPoseEstimator",
        "data_preprocessor": {
            "type": "PoseDataPreprocessor", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375],
            "bgr_to_rgb": True,
        },
        "backbone": {"type": "HRNet", "in_channels": 3, "extra": extra},
        "head": {
            "type": "AssociativeEmbeddingHead", "in_channels": 4, "num_keypoints": 17,
            "deconv_out_channels": None, "decoder": codec, **head,
        },
        "test_cfg": {"flip_test": True, "restore_heatmap_size": True, "align_corners": False},
    }  # fmt: skip
    resize = {"type": "BottomupResize", "input_size": (128, 128), "size_factor": 64, "resize_mode": mode}
    pipeline = [{"type": "LoadImage"}, resize, {"type": "PackPoseInputs"}]
    return {"model": model, "test_dataloader": {"dataset": {"type": "CocoDataset", "pipeline": pipeline}}}


def network(settings):
    torch.manual_seed(0)
    module = build(copy.deepcopy(settings))
    module.eval()
    with torch.no_grad():
        weight, bias = module.head.final_layer.weight, module.head.final_layer.bias
        weight[:17] *= 60
        weight[17:] *= 240
        bias[:17] = 0.1
    return module


def their_people(module, image, mirror, mode):
    from mmpose.datasets.transforms import BottomupResize
    from mmpose.structures import PoseDataSample

    resize = BottomupResize((128, 128), size_factor=64, resize_mode=mode)
    seen = resize.transform({"img": image[..., ::-1].copy(), "ori_shape": image.shape[:2]})
    names = ("input_size", "input_center", "input_scale", "img_shape")
    sample = PoseDataSample(metainfo={n: seen[n] for n in names} | {"flip_indices": list(mirror)})
    planes = torch.from_numpy(seen["img"].transpose(2, 0, 1).copy())
    pixels = module.data_preprocessor({"inputs": [planes], "data_samples": [sample]})["inputs"]
    with torch.no_grad():
        return pixels, module.predict(pixels, [sample])[0].pred_instances


@pytest.mark.parametrize(("mode", "tag_dim"), [("expand", 1), ("fit", 2)])
def test_people_are_mmposes_to_the_bit(mode, tag_dim):
    settings = config(mode, tag_dim=tag_dim)
    module = network(settings)
    model = model_of(module, settings, None)
    assert isinstance(model, BottomUp)
    assert (model.tags, model.tag_size, model.skeleton.name) == (17, tag_dim, "coco-17")
    small = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
    image = cv2.resize(small, (131, 90))
    batch, outputs = passes_over(model, Sample(image, (0, 0, 131, 90)), flip=True)
    (people,) = model.group(outputs, batch)
    pixels, theirs = their_people(module, image, model.skeleton.mirror, mode)
    assert torch.equal(batch.pixels, pixels)
    assert len(people) == 12
    np.testing.assert_array_equal(people.keypoints.astype(np.float32), theirs.keypoints.astype(np.float32))
    np.testing.assert_array_equal(people.scores, theirs.keypoint_scores)
    np.testing.assert_array_equal(people.score, theirs.bbox_scores)


def test_one_tag_for_all_keypoints_is_declared_by_the_head():
    settings = config(tag_per_keypoint=False)
    model = model_of(build(copy.deepcopy(settings)), settings, None)
    assert (model.tags, model.grouping.tag_layout) == (1, "shared")
    assert model.grouping.joint_order == tuple(ORDER)
    assert (model.grouping.max_people, model.grouping.top_k) == (12, 20)


@pytest.mark.parametrize(("where", "change", "words"), [
    ("test_cfg", {"shift_heatmap": True}, "shift_heatmap"),
    ("resize", {"use_udp": True}, "UDP"),
])  # fmt: skip
def test_what_has_no_equal_is_said_and_its_weights_can_still_be_looked_at(where, change, words):
    settings = config()
    steps = settings["test_dataloader"]["dataset"]["pipeline"]
    (settings["model"]["test_cfg"] if where == "test_cfg" else steps[1]).update(change)
    model = model_of(build(copy.deepcopy(settings)), settings, None)
    assert isinstance(model, OnlyWeights)
    assert words in model.reason


CODEC, RESIZE = ("model", "head", "decoder"), ("test_dataloader", "dataset", "pipeline", 1)


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (CODEC, "decode_nms_kernel", 30_001), (CODEC, "decode_nms_kernel", 2**31 - 1),
        (CODEC, "decode_max_instances", float("inf")), (CODEC, "decode_max_instances", "many"),
        (RESIZE, "size_factor", 0), (RESIZE, "size_factor", -1), (RESIZE, "size_factor", 2),
        (RESIZE, "size_factor", 1e308), (RESIZE, "input_size", (1e308, 1e308)),
        (RESIZE, "aug_scales", [1e308]),
    ],
)  # fmt: skip
def test_numbers_of_a_strangers_config_end_in_one_sentence(module_of_config, where, name, value):
    """A window of 30,001 cells took 900 MB and one of 100,001 9 GB; the others were tracebacks."""
    settings = config()
    settings["model"]["test_cfg"]["multiscale_test"] = True
    place = settings
    for key in where:
        place = place[key]
    place[name] = value
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        run(
            model_of(module_of_config, settings, None),
            [Sample(np.zeros((90, 120, 3), np.uint8), (0, 0, 120, 90))],
        )


@pytest.fixture(scope="module")
def module_of_config():
    return network(config())
