"""HRNet, SimpleBaseline and MoveNet files are used without a config: built from their tensors alone."""

import numpy as np
import pytest
import torch

from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.identity import identify_shapes
from workbench.core import DecodeOptions, NotAvailable, Sample
from workbench.core.run import run
from workbench.models import open_model
from workbench.models.mmpose.model import build
from workbench.models.movenet.network import MoveNet


def stage(modules, branches, channels, block="BASIC"):
    return {
        "num_modules": modules, "num_branches": branches, "block": block, "num_blocks": (1,) * branches,
        "num_channels": channels,
    }  # fmt: skip


HRNET = {
    "type": "HRNet",
    "in_channels": 3,
    "extra": {
        "stage1": stage(1, 1, (8,), "BOTTLENECK"),
        "stage2": stage(1, 2, (4, 8)),
        "stage3": stage(2, 3, (4, 8, 16)),
        "stage4": stage(1, 4, (4, 8, 16, 32)),
    },
}
NETWORKS = {
    "HRNet": (HRNET, {"in_channels": 4, "deconv_out_channels": None}),
    "SimpleBaseline": (
        {"type": "ResNet", "depth": 18},
        {"in_channels": 512, "deconv_out_channels": (8, 8, 8), "deconv_kernel_sizes": (4, 4, 4)},
    ),
}


def network(kind, keypoints=17, seed=0):
    """As mmpose builds it, statistics of batch norm included that differ from fresh ones."""
    backbone, head = NETWORKS[kind]
    codec = {"type": "MSRAHeatmap", "input_size": (48, 64), "heatmap_size": (12, 16), "sigma": 2}
    loss = {"type": "KeypointMSELoss"}
    head = {"type": "HeatmapHead", "out_channels": keypoints, "loss": loss, "decoder": codec, **head}
    model = {"type": "TopdownPoseEstimator", "backbone": backbone, "head": head}
    torch.manual_seed(seed)
    made = build({"model": model}).eval()
    for name, buffer in made.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return made


@pytest.fixture(scope="module")
def networks():
    return {kind: network(kind) for kind in NETWORKS}


@pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod.module."])
@pytest.mark.parametrize("kind", NETWORKS)
def test_official_layouts_are_built_from_their_tensors(tmp_path, networks, kind, wrapper):
    """Also where one part alone, the last layer, was wrapped."""
    theirs = networks[kind]
    plain = {name.split(".", 1)[1]: tensor for name, tensor in theirs.state_dict().items()}
    path = tmp_path / "pose_256x192.pth"
    torch.save({n.replace("final_layer.", f"final_layer.{wrapper}"): t for n, t in plain.items()}, path)
    assert str(open_checkpoint(path).identity) == str(
        identify_shapes({n: tuple(t.shape) for n, t in plain.items()})
    )
    torch.save({wrapper + name: tensor for name, tensor in plain.items()}, path)
    opened = open_model(path)
    assert (opened.family, opened.loaded_fraction) == ("official_heatmaps", 1)
    assert opened.load.complete
    assert opened.model.skeleton.name == "coco-17"
    assert opened.model.input_size == (256, 192)
    assert "taken from the file's name" in opened.note
    # The published SimpleBaseline code reads blue first.
    assert opened.model.bgr == (kind == "SimpleBaseline")
    assert opened.model.shift_heatmap
    image = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)
    done = run(opened.model, [Sample(image, (5.0, 5.0, 60.0, 80.0))])
    with torch.no_grad():
        wanted = theirs.head(theirs.backbone(done.batch.pixels))
    assert torch.equal(torch.from_numpy(done.heatmaps), wanted)


def test_names_of_mmpose_without_a_config_are_built_and_their_keypoints_numbered(tmp_path, networks):
    path = tmp_path / "epoch_3.pth"
    torch.save({"state_dict": networks["HRNet"].state_dict(), "meta": {"epoch": 3}}, path)
    opened = open_model(path, assume=["input=96x128", "padding=1.1", "channels=bgr", "mean=0", "std=255"])
    assert opened.loaded_fraction == 1
    assert opened.model.input_size == (128, 96)
    assert (opened.model.padding, opened.model.bgr) == (1.1, True)
    assert opened.model.skeleton.keypoints[0] == "keypoint 0"
    assert "assumed" not in opened.note


def test_a_part_of_such_a_network_is_told_as_that(tmp_path, networks):
    state = {n: t for n, t in networks["HRNet"].state_dict().items() if "stage3" not in n}
    torch.save({n.split(".", 1)[1]: t for n, t in state.items()}, tmp_path / "part.pth")
    with pytest.raises(NotAvailable, match=r"no backbone\.stage3\.0\.branches\.\*, which tells the size"):
        open_model(tmp_path / "part.pth")


@pytest.mark.parametrize("prefix", ["", "module."])
def test_movenet_is_used_without_a_config(tmp_path, prefix):
    torch.manual_seed(0)
    net = MoveNet(5).eval()
    torch.save({prefix + n: t for n, t in net.state_dict().items()}, tmp_path / "movenet.pth")
    opened = open_model(tmp_path / "movenet.pth")
    assert (opened.family, opened.loaded_fraction) == ("movenet", 1)
    assert len(opened.model.skeleton) == 5
    assert "box padding 1.25 assumed" in opened.note
    blank = [Sample(np.zeros((9, 9, 3), np.uint8), (0, 0, 9, 9))]
    with pytest.raises(NotAvailable, match="one reading"):
        run(opened.model, blank, options=DecodeOptions("udp"))
    with pytest.raises(ValueError, match=r"--assume mean: only .*official_heatmaps.* leave that open"):
        open_model(tmp_path / "movenet.pth", assume=["mean=0"])


def test_the_published_movenet_finds_people_without_an_adapter(shared):
    """OKS of the trained weights on a real photograph, from the annotated box."""
    from workbench.data import read_coco

    opened = open_model(shared / "data/weights/movenet_mbv3.pth")
    assert opened.loaded_fraction == 1
    pose_set = read_coco(shared / "data/coco/test_coco.json")
    skier = next(i for i in pose_set.labelled if pose_set.instances[i].image_id == 785)
    done = run(opened.model, [pose_set.sample(skier)])
    (truth,), (found,), (one,) = done.truth, done.keypoints, done.samples
    spread = (2 * np.array(pose_set.skeleton.sigmas)) ** 2 * one.area * 2
    oks = np.nan_to_num(np.exp(-((found - truth[:, :2]) ** 2).sum(1) / spread))[truth[:, 2] > 0].mean()
    assert oks >= 0.75
