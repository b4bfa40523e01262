"""Configs of the new style are read without an import, and absent base files are told."""

from __future__ import annotations

import contextlib

import pytest

from workbench.checkpoints.config_reader import read_available, read_config

RUNTIME = """
from mmengine.hooks import CheckpointHook
train_cfg = dict(by_epoch=True)
default_hooks = dict(checkpoint=dict(type=CheckpointHook, interval=10))
"""
CONFIG = """
from mmengine.config import read_base

with read_base():
    from .._base_.runtime import *
    from .shared import width as w

from torch.optim import AdamW
from mmpose.models import (HeatmapHead, KeypointMSELoss as Loss)

train_cfg.update(max_epochs=210, val_interval=10)
default_hooks.merge(dict(checkpoint=dict(save_best='coco/AP')))
optim_wrapper = dict(optimizer=dict(type=AdamW, lr=5e-4))
head = dict(type=HeatmapHead, loss=dict(type=Loss), sizes=[s // 4 for s in (w, 256)])
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "_base_").mkdir()
    (tmp_path / "_base_/runtime.py").write_text(RUNTIME)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/shared.py").write_text("width = 192\nsecret = 1\n")
    (tmp_path / "own/config.py").write_text(CONFIG)
    return tmp_path


def test_bases_are_merged_and_classes_become_their_names(folder):
    found = read_available(folder / "own/config.py", folder)
    assert found.missing == ()
    assert found.values == {
        "train_cfg": {"by_epoch": True, "max_epochs": 210, "val_interval": 10},
        "default_hooks": {
            "checkpoint": {"type": "mmengine.hooks.CheckpointHook", "interval": 10, "save_best": "coco/AP"}
        },
        "w": 192,
        "optim_wrapper": {"optimizer": {"type": "torch.optim.AdamW", "lr": 5e-4}},
        "head": {
            "type": "mmpose.models.HeatmapHead",
            "loss": {"type": "mmpose.models.KeypointMSELoss"},
            "sizes": [48, 64],
        },
    }


def test_the_values_are_those_that_mmengine_reads(folder, monkeypatch):
    from mmengine.config import Config

    monkeypatch.chdir(folder / "own")
    theirs = Config.fromfile(folder / "own/config.py").to_dict()
    mine = read_available(folder / "own/config.py", folder).values
    assert {name: theirs[name] for name in mine} == mine


def test_a_base_outside_of_the_root_is_not_read_but_told(folder):
    found = read_available(folder / "own/config.py")  # the root is the config's own folder
    assert found.missing == (".._base_.runtime",)
    assert found.values["train_cfg"] == {"max_epochs": 210, "val_interval": 10}
    assert read_available("_base_ = ['../a.py', 'b.py']\nx = 1").missing == ("../a.py", "b.py")
    assert read_available("_base_ = 'a.py'\nx = {{_base_.info}}").values == {"x": "{{_base_.info}}"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("from os import system\nsystem('true')", "the call system"),
        ("import os\nwith read_base():\n    pass", "an import"),
        ("with open('x') as f:\n    pass", "a with block"),
        ("with read_base():\n    import os", "anything but"),
        ("with read_base():\n    from .a import *\nx = __import__('os')", "the call __import__"),
        ("from torch.optim import *\nwith read_base():\n    pass", "a star import"),
        ("with read_base():\n    pass\na = dict(x=1)\nb = dict(c=a)\na.update(x=2)", "after its use"),
        ("with read_base():\n    pass\na = dict(x=dict(y=1))\nb = a['x']\na.update(z=2)", "after its use"),
        ("with read_base():\n    pass\na = [1]\na.append(2)", "the call a.append"),
        ("from torch import nn\nx = nn.Linear(1, 2)", "the call nn.Linear"),
        ("from torch import nn\nx = nn.Linear", "the attribute 'Linear' of a str"),
        ("with read_base():\n    from " + "a." * 200 + "b import *", "this length"),
    ],
)
def test_what_would_run_is_refused_in_the_new_style_too(text, says):
    with pytest.raises(ValueError, match=says):
        read_available(text)


def test_other_readers_still_refuse_the_new_style():
    with pytest.raises(ValueError, match="new style"):
        read_config("with read_base():\n    from .a import *")


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['true']",
        "a: &a [*a]",
        "a: " + "[" * 3000,
        "a: &a [x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{c}: &{c} [{', '.join([f'*{b}'] * 8)}]\n" for b, c in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "a: [1\nb",
        "x: 1\n" * 30000,
    ],
)
def test_a_yaml_file_makes_no_object_and_no_bomb(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml"):
        read_available(path)


def test_merge_keys_of_yaml_do_not_multiply(tmp_path):
    levels = zip("abcdefgh", "bcdefghi", strict=True)
    text = "".join(f"{c}: &{c} {{<<: [{', '.join([f'*{b}'] * 8)}]}}\n" for b, c in levels)
    (tmp_path / "config.yaml").write_text("a: &a {x: 1}\n" + text)
    # PyYAML before 6.0.4 makes 8 to the 8th pairs, and is stopped; later ones merge each pair once.
    with contextlib.suppress(ValueError):
        assert len(str(read_available(tmp_path / "config.yaml"))) < 1000


def test_yaml_is_read(tmp_path):
    path = tmp_path / "config.yml"
    path.write_text("base: &b {lr: 0.1}\ntrain:\n  <<: *b\n  sizes: [256, 192]\n")
    assert read_available(path).values == {"base": {"lr": 0.1}, "train": {"lr": 0.1, "sizes": [256, 192]}}
