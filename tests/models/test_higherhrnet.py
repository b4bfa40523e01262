"""HigherHRNet: the published names and shapes, features equal to mmpose's HRNet, every form opens."""

from __future__ import annotations

import ast
import dataclasses

import numpy as np
import pytest
import torch

from workbench.checkpoints import open_checkpoint
from workbench.core import NotAvailable, Sample
from workbench.core.run import run
from workbench.models import open_model
from workbench.models.higherhrnet.model import architecture_of, new_higherhrnet, published, write
from workbench.models.higherhrnet.network import W32, W48, Architecture, HigherHRNet
from workbench.skeletons import SKELETONS

COCO = SKELETONS["coco-17"]
SMALL = Architecture(width=4, stem=8, bottlenecks=1, modules=(1, 2, 1), blocks=1, deconv_blocks=1)


def keys(shared, file):
    lines = (shared / f"reference/higherhrnet_{file}_keys.txt").read_text().splitlines()
    return {name: ast.literal_eval(shape) for name, _, shape in (li.partition("\t") for li in lines if li)}


def small(architecture=SMALL, seed=0):
    torch.manual_seed(seed)
    return HigherHRNet(architecture).eval()


def to_mmpose(name):
    return ("keypoint_head." if name.startswith(("final", "deconv")) else "backbone.") + name


@pytest.mark.parametrize(
    ("file", "architecture", "millions"), [("w32_512", W32, 28.645331), ("w48_640", W48, 63.827139)]
)
def test_names_and_shapes_are_those_of_the_published_checkpoints(shared, file, architecture, millions):
    with torch.device("meta"):
        network = HigherHRNet(architecture)
    want = keys(shared, file)
    assert len(want) == 1810
    assert {name: tuple(t.shape) for name, t in network.state_dict().items()} == want
    assert list(network.state_dict()) == list(want)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions)
    assert architecture_of(want, "the list") == architecture


def test_it_gives_heatmaps_and_tags_at_a_quarter_and_heatmaps_at_a_half():
    coarse, fine = small()(torch.rand(2, 3, 64, 96))
    assert (coarse.shape, fine.shape) == ((2, 34, 16, 24), (2, 17, 32, 48))
    shared_tag, _ = small(dataclasses.replace(SMALL, tags=1))(torch.rand(1, 3, 64, 64))
    assert shared_tag.shape == (1, 18, 16, 16)


@pytest.mark.parametrize("size", [(3, 50, 64), (1, 64, 64)])
def test_an_input_that_does_not_halve_five_times_is_refused(size):
    with pytest.raises(ValueError, match="multiples of 32"):
        small()(torch.rand(1, *size))


def test_features_equal_those_of_mmposes_hrnet_with_the_same_weights():
    from workbench.models.mmpose_compat import install

    install()
    from mmpose.models.backbones import HRNet

    def stage(modules, branches, block="BASIC"):
        return {
            "num_modules": modules,
            "num_branches": branches,
            "block": block,
            "num_blocks": (2,) * branches,
            "num_channels": (64,) if block == "BOTTLENECK" else tuple(8 * 2**i for i in range(branches)),
        }

    extra = {"stage1": stage(1, 1, "BOTTLENECK"), "stage2": stage(1, 2), "stage3": stage(2, 3)}
    other = HRNet({**extra, "stage4": stage(2, 4)})
    other.eval()  # answers with nothing
    mine = small(Architecture(width=8, stem=64, bottlenecks=2, modules=(1, 2, 2), blocks=2))
    for part in mine.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.normal_(part.running_mean, std=0.1)
        elif isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)
    backbone = {n: t for n, t in mine.state_dict().items() if not n.startswith(("final_", "deconv_"))}
    other.load_state_dict(backbone, strict=True)
    pixels = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        theirs, ours = other(pixels)[0], mine.features(pixels)
    assert ours.std() > 0.01
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


WRAPPED = {
    "official": lambda state: state,
    "training": lambda state: {
        "epoch": 3,
        "model": "pose_higher_hrnet",
        "state_dict": {f"module.{n}": t for n, t in state.items()},
        "perf": 0.6,
    },
    "fp16": lambda state: {f"1.{n}": t.half() if t.is_floating_point() else t for n, t in state.items()},
    "mmpose": lambda state: {
        "meta": {"epoch": 300, "config": "model = dict(type='AssociativeEmbedding')"},
        "state_dict": {to_mmpose(n): t for n, t in state.items()},
    },
}


@pytest.mark.parametrize("form", WRAPPED)
def test_every_published_form_opens_with_the_same_weights(tmp_path, form):
    network = small()
    torch.save(WRAPPED[form](network.state_dict()), tmp_path / "some.pth")
    loaded = open_model(tmp_path / "some.pth")
    assert (loaded.family, loaded.load.complete) == ("higherhrnet", True)
    assert loaded.model.module.architecture == SMALL
    for name, tensor in loaded.model.module.state_dict().items():
        want = network.state_dict()[name]
        assert torch.equal(tensor, want.half().float() if form == "fp16" and want.ndim else want), name


def test_a_top_down_config_that_is_named_is_not_passed_over(tmp_path):
    """Every tensor of the file fits its own network: 100 % would be no answer about this config."""
    torch.save(small().state_dict(), tmp_path / "some.pth")
    config = tmp_path / "other.py"
    codec = "dict(type='MSRAHeatmap', input_size=(48, 64), heatmap_size=(12, 16), sigma=2)"
    config.write_text(
        f"codec = {codec}\nmodel = dict(type='TopdownPoseEstimator', backbone=dict(type='ResNet', depth=18),"
        " head=dict(type='HeatmapHead', in_channels=512, out_channels=17, deconv_out_channels=None,"
        f" loss=dict(type='KeypointMSELoss'), decoder={codec}))\n"
    )
    loaded = open_model(tmp_path / "some.pth", config=config, allow_partial=True)
    assert loaded.family == "mmpose"
    assert not loaded.load.complete


def test_a_model_split_over_two_files_opens_as_one(tmp_path):
    state = list(small().state_dict().items())
    torch.save(dict(state[:100]), tmp_path / "a.pth")
    torch.save(dict(state[100:]), tmp_path / "b.pth")
    assert open_model([tmp_path / "a.pth", tmp_path / "b.pth"]).load.complete
    with pytest.raises(NotAvailable, match="weights"):
        open_model(tmp_path / "a.pth")


def test_the_published_size_loads_strictly_and_says_what_to_expect(shared, tmp_path):
    state = {n: torch.tensor(0.01).expand(s) for n, s in keys(shared, "w32_512").items()}
    path = tmp_path / "pose_higher_hrnet_w32_512.pth"
    torch.save(state, path)
    loaded = open_model(path)
    assert loaded.load.summary() == "1810 of 1810 tensors, 100.0 % of 28.6 M parameters loaded"
    assert loaded.model.input_size == 512
    assert "input size 512 taken from the file's name" in loaded.note
    assert "coco-17" in loaded.note
    identity = open_checkpoint(path).identity
    expected = identity.expected
    assert identity.evidence[-1] == "the file name says input 512, so AP 67.1 is what w32 should reach"
    assert "67.1" in expected
    assert "69.9 is a figure of w48" in expected


@pytest.mark.parametrize(
    ("name", "width", "size"), [("a.pth", 32, 512), ("a.pth", 48, 640), ("w32_640.pth", 32, 640)]
)
def test_the_input_size_is_the_names_or_the_widths(tmp_path, name, width, size):
    network = HigherHRNet(dataclasses.replace(SMALL, width=width))
    torch.save(network.state_dict(), tmp_path / name)
    assert open_model(tmp_path / name).model.input_size == size


def test_what_is_written_opens_again_without_assumptions(tmp_path):
    model = new_higherhrnet(small(), COCO, 128)
    write(model, tmp_path / "epoch_7.pth", 7)
    loaded = open_model(tmp_path / "epoch_7.pth")
    assert (loaded.model.input_size, loaded.model.skeleton, loaded.note) == (128, COCO, "")
    assert loaded.checkpoint.epoch == 7
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    sample = Sample(image, (0, 0, 90, 60))
    before, after = (run(m, [sample], flip=True).outputs for m in (model, loaded.model))
    assert torch.equal(before.tags, after.tags)
    assert torch.equal(before.passes["mirrored"].heatmaps, after.passes["mirrored"].heatmaps)


def test_one_tag_map_for_all_is_declared_by_the_channels(tmp_path):
    torch.save(small(dataclasses.replace(SMALL, tags=1)).state_dict(), tmp_path / "a.pth")
    model = open_model(tmp_path / "a.pth").model
    assert (model.tags, model.grouping.tag_layout) == (1, "shared")


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"final_layers.0.weight": (40, 4, 1, 1)}, ValueError, "expected 17 tag maps .* or 1"),
        ({"final_layers.0.weight": (17, 4, 1, 1)}, NotAvailable, "no tag maps"),
        ({"stage3.0.branches.0.0.conv1.weight": None}, ValueError, "1 missing"),
        ({"stage3.0.branches.0.0.conv1.weight": (5, 4, 3, 3)}, ValueError, "another shape"),
        ({"deconv_layers.1.0.0.weight": (4, 4, 4, 4)}, ValueError, "second deconvolution"),
        ({"final_layers.1.weight": None}, NotAvailable, "final_layers.1"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_sentence(tmp_path, change, kind, words):
    state = dict(small().state_dict())
    for name, shape in change.items():
        state.pop(name, None)
        if shape is not None:
            state[name] = torch.zeros(shape)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(kind, match=words) as refused:
        open_model(tmp_path / "a.pth")
    assert "\n" not in str(refused.value)


def test_a_skeleton_of_another_length_is_refused():
    with pytest.raises(ValueError, match="17 heatmaps"):
        new_higherhrnet(small(), SKELETONS["crowdpose-14"])


def test_prefixes_are_taken_off_once():
    assert published("module.1.backbone.conv1.weight") == "conv1.weight"
    assert published("keypoint_head.final_layers.0.bias") == "final_layers.0.bias"
    assert published("layer1.1.conv1.weight") == "layer1.1.conv1.weight"
