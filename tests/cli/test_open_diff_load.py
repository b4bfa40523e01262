"""The verbs about checkpoints: their facts, their words, their exit codes."""

from __future__ import annotations

import json
import os
import pickle
import shutil

import pytest
import torch
from torch import nn


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"backbone": nn.Conv2d(3, 4, 3), "head": nn.Linear(4, 2)})


ADAPTER = """
import torch
from torch import nn
from workbench.checkpoints.loading import load_state
from workbench.core import Batch, Outputs, Skeleton

class Small:
    skeleton = Skeleton("two", ("a", "b"))
    taps = {}
    codec = None
    def __init__(self):
        self.module = nn.ModuleDict({"backbone": nn.Conv2d(3, 4, 3), "head": nn.Linear(4, 2)})
    def prepare(self, samples): ...
    def forward(self, batch): ...
    def decode(self, outputs, batch, options): ...

def load(checkpoint, device):
    model = Small()
    return model, load_state(model.module, checkpoint)
"""


@pytest.fixture
def files(tmp_path):
    net = small()
    torch.save({"state_dict": net.state_dict(), "epoch": 3, "best_ap": 0.5}, tmp_path / "a.pth")
    other = {k: v * 1.5 if k.startswith("head") else v for k, v in net.state_dict().items()}
    torch.save({"state_dict": other, "epoch": 4}, tmp_path / "b.pth")
    torch.save({k: v for k, v in net.state_dict().items() if k != "head.bias"}, tmp_path / "part.pth")
    (tmp_path / "adapter.py").write_text(ADAPTER)
    return tmp_path


def test_open_tells_the_facts_as_data(workbench, files):
    code, out, err = workbench("open", files / "a.pth", "--json")
    facts = json.loads(out)
    assert (code, err) == (0, "")
    assert {
        "format",
        "family",
        "evidence",
        "epoch",
        "iteration",
        "tensors",
        "parameters",
        "ema",
        "inert",
    } <= facts.keys()
    assert (facts["epoch"], facts["tensors"], facts["parameters"]) == (3, 4, 108 + 4 + 10)
    assert facts["metrics"] == {"best_ap": 0.5}
    assert "sha256" not in facts
    assert "tensor_list" not in facts


def test_open_hashes_and_lists_only_when_asked(workbench, files):
    import hashlib

    facts = json.loads(workbench("open", files / "a.pth", "--json", "--hash", "--tensors")[1])
    assert facts["sha256"] == hashlib.sha256((files / "a.pth").read_bytes()).hexdigest()
    assert facts["tensor_list"][0] == {"name": "backbone.weight", "shape": [4, 3, 3, 3], "dtype": "float32"}


def test_open_tells_people_what_they_ask_first(workbench, files):
    code, out, _ = workbench("open", files / "a.pth")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith("file      a.pth")
    assert "trained   epoch 3" in lines
    assert "metrics   best_ap 0.5" in lines
    assert any(line.startswith("inert     none") for line in lines)


def test_open_names_what_a_file_would_have_run_and_does_not_run_it(workbench, files):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {files / 'pwned'}",)

    torch.save({"state_dict": small().state_dict(), "x": Evil()}, files / "evil.pth")
    code, out, _ = workbench("open", files / "evil.pth", "--json")
    assert code == 0
    assert json.loads(out)["inert"] == [f"{os.name}.system"]
    assert not (files / "pwned").exists()


def test_open_takes_the_parts_of_one_model(workbench, files):
    state = small().state_dict()
    names = list(state)
    torch.save({k: state[k] for k in names[:2]}, files / "1.pth")
    torch.save({k: state[k] for k in names[2:]}, files / "2.pth")
    facts = json.loads(workbench("open", files / "1.pth", files / "2.pth", "--json")[1])
    assert facts["tensors"] == 4
    assert len(facts["file"]) == 2


@pytest.mark.parametrize("verb", ["open", "load"])
@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("photo.jpg", b"\xff\xd8\xff\xe0" + b"\0" * 64, "a JPEG image"),
        ("cut.pth", b"PK\x03\x04" + b"\0" * 64, "is cut off"),
        ("bomb.pkl", b"\x80\x04\x8e" + b"\xff" * 8 + b".", "more than the file holds"),
        ("notes.txt", b"hello\n", "a text file"),
        ("evil.pkl", pickle.dumps(os.getcwd), "no tensors"),
    ],
)
def test_what_is_no_checkpoint_ends_in_one_line_and_2(workbench, tmp_path, verb, name, data, says):
    (tmp_path / name).write_bytes(data)
    code, out, err = workbench(verb, tmp_path / name, "--json")
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("verb", ["open", "diff", "load"])
def test_without_a_file_one_line_says_what_to_do(workbench, verb):
    code, out, err = workbench(verb)
    assert (code, out) == (2, "")
    assert "--demo" in err


def test_diff_tells_what_changed(workbench, files):
    code, out, _ = workbench("diff", files / "a.pth", files / "b.pth", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["changed"] == ["head.weight", "head.bias"]
    assert facts["unchanged"] == ["backbone.weight", "backbone.bias"]
    assert {t["name"]: t["relative"] for t in facts["tensors"]}["head.weight"] == pytest.approx(0.5)
    code, out, _ = workbench("diff", files / "a.pth", files / "b.pth")
    assert out.startswith(
        "2 of 4 tensors changed from a.pth to b.pth; most in head (50 %), least in backbone (0 %)"
    )


def test_diff_draws_and_refuses_other_formats(workbench, files):
    code, out, _ = workbench("diff", files / "a.pth", files / "b.pth", "--out", files / "d.html")
    assert code == 0
    assert "written: " in out
    assert "Plotly.newPlot" in (files / "d.html").read_text()
    code, _, err = workbench("diff", files / "a.pth", files / "b.pth", "--out", files / "d.bmp")
    assert code == 2
    assert ".html" in err


def test_diff_of_averaged_weights_that_are_not_there_says_so(workbench, files):
    code, _, err = workbench("diff", files / "a.pth", files / "b.pth", "--ema")
    assert code == 2
    assert "holds no averaged (EMA) weights" in err


def test_load_is_the_gate(workbench, files):
    code, out, _ = workbench("load", files / "a.pth", "--adapter", files / "adapter.py", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["loaded_fraction"] == 1
    assert facts["missing"] == facts["unexpected"] == facts["mismatched"] == facts["remap"] == []
    code, out, _ = workbench("load", files / "part.pth", "--adapter", files / "adapter.py")
    assert code == 1
    assert "3 of 4 tensors, 98.4 % of 122 parameters loaded; 1 missing (head.bias ...)" in out
    assert workbench("load", files / "part.pth", "--adapter", files / "adapter.py", "--allow-partial")[0] == 0


def test_load_without_a_model_says_what_to_pass(workbench, files):
    alone = files / "alone"
    alone.mkdir()
    shutil.copy(files / "a.pth", alone)
    code, _, err = workbench("load", alone / "a.pth")
    assert code == 2
    assert "--config" in err


def test_the_demo_answers_every_verb(workbench):
    from workbench.checkpoints import demo
    from workbench.core import NotAvailable

    try:
        files = demo.demo_checkpoints()
    except NotAvailable as reason:
        pytest.skip(str(reason))
    facts = json.loads(workbench("open", "--demo", "--json")[1])
    assert facts["family"] == "RTMPose"
    assert facts["epoch"] is not None
    found = json.loads(workbench("diff", "--demo", "--json")[1])
    assert (found["a"], found["b"]) == (files[0].name, files[-1].name)
    assert found["changed"]
    assert found["only_a"] == found["only_b"] == []
    code, out, _ = workbench("load", "--demo", "--json")
    assert code == 0
    assert json.loads(out)["loaded_fraction"] == 1


RESNET = """
codec = dict(type='MSRAHeatmap', input_size=(192, 256), heatmap_size=(48, 64), sigma=2)
model = dict(
    type='TopdownPoseEstimator',
    data_preprocessor=dict(type='PoseDataPreprocessor', mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4]),
    backbone=dict(type='ResNet', depth=18),
    head=dict(type='HeatmapHead', in_channels=512, out_channels=17, decoder=codec))
val_dataloader = dict(dataset=dict(type='CocoDataset', pipeline=[]))
"""


def test_a_checkpoint_of_another_model_than_the_config_is_named_with_both(workbench, tmp_path):
    from workbench.checkpoints.demo import demo_checkpoints

    # As mmpose's own configs have it, of a folder above: only looked at, it need not be read.
    (tmp_path / "runtime.py").write_text("default_scope = 'mmpose'\n")
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "resnet.py").write_text("_base_ = ['../runtime.py']\n" + RESNET)
    words = (demo_checkpoints()[0], "--config", tmp_path / "coco" / "resnet.py")
    both = "another model (RTMPose of stem 16) than the one that was asked for (SimpleBaseline ResNet "
    code, out, _ = workbench("load", demo_checkpoints("higherhrnet-demo")[0], *words[1:])
    assert code == 2
    assert "another model (HigherHRNet (official names) w12) than" in out.splitlines()[-1]
    code, out, _ = workbench("load", *words)
    assert code == 2
    assert "  missing     backbone.conv1.weight" in out
    assert both in out.splitlines()[-1]
    assert workbench("load", *words, "--allow-partial")[0] == 0
    for verb in (("evaluate", "--data", "astronaut"), ("look", "heatmap_grid", "--data", "astronaut")):
        code, out, err = workbench(*verb[:-2], *words, *verb[-2:])
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert both in err
