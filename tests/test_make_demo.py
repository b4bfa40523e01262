"""The script that trains the demo: what it feeds the network, and what it writes down about it."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from tests.conftest import ROOT
from workbench.checkpoints.config_reader import read_config
from workbench.checkpoints.demo import demo_config, demo_manifest, read_manifest

sys.path.insert(0, str(ROOT / "checkpoints"))

import crops
import make_demo
import manifest
import network
import recipe

TRUTH = np.array(
    [[100.0, 60.0, 2], [140.0, 90.0, 1], [0.0, 0.0, 0], *[[120.0, 70.0 + k, 2] for k in range(6)]]
)


def scene(size=(200, 260)):
    """A black image with one white block of 9 x 9 around the first keypoint."""
    image = np.zeros((*size, 3), np.uint8)
    image[56:65, 96:105] = 255
    return image


def centre_of_light(image):
    y, x = np.nonzero(image[..., 0] > 127)
    return np.array([x.mean(), y.mean()])


@pytest.mark.parametrize("box", [(90.0, 50.0, 150.0, 100.0), (10.0, 5.0, 240.0, 190.0)])
def test_a_crop_takes_its_keypoints_along(box):
    picture, truth, _box = crops.crop(scene(), TRUTH, box)
    assert max(picture.shape) <= crops.LONGEST
    np.testing.assert_allclose(centre_of_light(picture), truth[0, :2], atol=0.6)
    assert (truth[:, 2] == TRUTH[:, 2]).all()


def test_a_crop_moves_the_box_as_the_keypoints():
    picture, truth, box = crops.crop(scene(), TRUTH, (90.0, 50.0, 150.0, 100.0))
    assert box[2] - box[0] == pytest.approx(60)
    assert box[0] + 10 == pytest.approx(truth[0, 0])
    assert picture.shape[0] <= 200


def test_keypoints_beyond_a_cut_are_no_longer_labelled():
    image = scene()
    cut, truth, box = crops.cut_off(image, TRUTH, (90.0, 40.0, 150.0, 110.0), np.random.default_rng(0))
    below = TRUTH[:, 1] > len(cut) - 1
    assert len(cut) < len(image)
    assert (truth[below, 2] == 0).all()
    assert (truth[~below] == TRUTH[~below]).all()
    assert box[3] <= len(cut)
    assert image.shape == (200, 260, 3), "the argument is left alone"


def test_a_cut_that_leaves_too_little_is_not_made():
    few = TRUTH * np.array([1, 1, 0])
    few[0, 2] = 2
    cut, truth, _ = crops.cut_off(scene(), few, (90.0, 40.0, 150.0, 110.0), np.random.default_rng(0))
    assert cut.shape == (200, 260, 3)
    assert truth is few


@pytest.mark.parametrize("name", recipe.RUNS)
def test_a_recipe_keeps_at_least_three_epochs_and_its_last(name):
    run = recipe.RUNS[name]
    assert len(run.keep) >= 3
    assert run.keep[-1] == run.epochs
    settings = recipe.config(run, steps=100)
    assert settings["param_scheduler"][-1]["end"] == run.epochs * 100


@pytest.mark.parametrize("name", recipe.RUNS)
def test_the_warm_up_writes_a_log_of_its_own(name):
    run = recipe.RUNS[name]
    main, before = recipe.config(run, 10), recipe.warm_up_config(run, 10)
    assert main["visualizer"]["name"] != before["visualizer"]["name"]
    assert main["work_dir"] != before["work_dir"]


@pytest.mark.parametrize("name", [run["name"] for run in demo_manifest() if run["name"] in recipe.RUNS])
def test_the_recipe_says_what_the_checkpoints_were_made_with(name):
    made = read_config(demo_config(name))
    run = recipe.RUNS[name]
    steps = made["param_scheduler"][-1]["end"] // run.epochs
    said = json.loads(json.dumps(recipe.config(run, steps)))
    made = json.loads(json.dumps(made))
    for part in (
        "model",
        "train_dataloader",
        "optim_wrapper",
        "param_scheduler",
        "custom_hooks",
        "randomness",
    ):
        assert said[part] == made[part], part


@pytest.mark.parametrize("size", [network.SQUARE, network.UPRIGHT])
def test_both_heads_share_the_last_convolution(size):
    from workbench.models import mmpose_compat

    mmpose_compat.install()
    from mmengine.registry import DefaultScope
    from mmpose.registry import MODELS
    from mmpose.utils import register_all_modules

    with DefaultScope.overwrite_default_scope("mmpose"):
        register_all_modules(init_default_scope=False)
        whole, start = (MODELS.build(m) for m in (network.model(size), network.warm_up_model(size)))
    shared = whole.state_dict().keys() & start.state_dict().keys()
    assert shared == start.state_dict().keys(), "everything the warm-up learns goes on"
    assert whole.head.final_layer.weight.shape == start.head.final_layer.weight.shape


def test_the_manifest_is_written_as_it_is_read(tmp_path):
    run = {
        "name": "a",
        "ema": False,
        "minutes": 1.5,
        "versions": {"torch": "2", "mmcv-lite": "2.1"},
        "checkpoint": [
            {"file": "a/epoch_1.pth", "epoch": 1, "AP": 0.5},
            {"file": "a/epoch_2.pth", "epoch": 2},
        ],
    }
    path = tmp_path / "manifest.toml"
    path.write_text(manifest.as_toml([run]))
    assert read_manifest(path) == {"run": [run]}


def test_an_unknown_run_is_refused(capsys):
    with pytest.raises(SystemExit):
        make_demo.main(["no-such-run"])
    assert "rtmpose-demo" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_of_one_epoch_leaves_checkpoint_config_log_and_manifest(tmp_path):
    words = ["rtmpose-demo", "--epochs", "1", "--limit", "12", "--threads", "1"]
    assert make_demo.main([*words, "--build", str(tmp_path / "build"), "--out", str(tmp_path)]) == 0
    (run,) = read_manifest(tmp_path / "manifest.toml")["run"]
    assert [checkpoint["epoch"] for checkpoint in run["checkpoint"]] == [1]
    for key in ("config", "log"):
        assert (tmp_path / run[key]).is_file()
