"""What an audit finds, what it does not, and that nothing in a config is run."""

from __future__ import annotations

import copy
import math
import re

import pytest

from workbench.checkpoints.config_reader import read_config
from workbench.core import NotAvailable
from workbench.recipes.audit import audit
from workbench.recipes.demo import CONFIG
from workbench.recipes.reading import read, read_text


def keys(report, *severities):
    return {one.key for one in report.findings if not severities or one.severity in severities}


def test_the_demo_is_told_its_mistakes_and_nothing_else():
    found = audit(read_config(CONFIG))
    assert found.recipe == "sapiens-1b-coco"
    assert {(one.key, str(one.found), str(one.expected)) for one in found.findings} == {
        ("codec.input_size", "[1024, 768]", "[768, 1024]"),
        ("codec.heatmap_size", "[256, 192]", "[192, 256]"),
        ("codec.sigma", "2", "6"),
        ("model.test_cfg.flip_test", "False", "True"),
        ("optim_wrapper.optimizer.weight_decay", "0.05", "0.1"),
        ("optim_wrapper.constructor", "DefaultOptimWrapperConstructor", "LayerDecayOptimWrapperConstructor"),
        ("optim_wrapper.paramwise_cfg.layer_decay_rate", "none", "0.85"),
        ("train_dataloader.batch_size", "32", "64"),
        ("train_pipeline.CoarseDropout.p", "0.5", "1.0"),
        ("optim_wrapper.paramwise_cfg.custom_keys.bias.decay_multi", "decay_multi", "decay_mult"),
        ("auto_scale_lr", "None", "{'base_batch_size': 512, 'enable': True}"),
    }
    assert all(one.why and one.source and one.fix for one in found.findings)


def test_json_has_the_promised_keys():
    facts = audit(read_config(CONFIG)).to_json()
    assert set(facts["findings"][0]) >= {"severity", "key", "found", "expected", "why", "source", "fix"}
    assert 0 < facts["score"] < 100


def test_a_config_of_nothing_known_is_refused():
    with pytest.raises(NotAvailable, match="expected a training config"):
        audit({"colour": "blue"})


@pytest.mark.parametrize(
    ("config", "against", "says"),
    [
        ({"model": "hrnet", "epochs": 100, "lr": 0.001, "batch_size": 32}, None,
         "no score: 3 fields were read and there is no reference to compare them with"),
        ({"optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 5e-4}}}, "sapiens-1b-coco",
         r"no score: the config decides 5 of the recipe's \d\d fields"),
    ],
)  # fmt: skip
def test_a_handful_of_fields_has_no_perfect_score(config, against, says):
    found = audit(config, against)
    assert math.isnan(found.score)
    assert re.search(says, found.summary())
    assert re.search(says, found.plot().layout.title.text.replace("<br>", " "))
    assert "of 100" not in found.summary()


def test_an_unknown_recipe_ends_with_near_names_and_exit_code_2(workbench, tmp_path):
    path = tmp_path / "c.py"
    path.write_text("lr = 1")
    code, out, err = workbench("audit", path, "--against", "sapien-1b")
    assert (code, out) == (2, "")
    assert "nearest: sapiens-1b-coco" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("text", ["import os\nos.system('touch pwned')", "x = open('pwned', 'w')"])
def test_a_config_that_runs_code_is_refused_and_not_run(workbench, tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c.py"
    path.write_text(text)
    code, out, err = workbench("audit", path)
    assert (code, out) == (2, "")
    assert "not allowed" in err
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "text", ["model = dict(", "x = open('a')", "x = '{{$HOME:1}}'", "{{ fileDirname }}", " "]
)
def test_a_refused_text_is_named_by_its_file(text):
    with pytest.raises(ValueError, match=r"^mine.py[ ,]"):
        read_text(text, "mine.py")


def test_numbers_that_yaml_reads_as_text_are_compared_and_told():
    found = read_text("training:\n  lr: 5e-4\n  weight_decay: 0.1\n", "c.yaml")
    report = audit(found.values, "sapiens-1b-coco", notes=found.notes)
    assert "training.lr" not in keys(report)
    assert any("training.lr: written as text" in note for note in report.notes)


def test_a_base_file_is_read_where_it_is_and_told_where_it_is_not(tmp_path):
    (tmp_path / "_base_").mkdir()
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "_base_/runtime.py").write_text("train_cfg = dict(max_epochs=5)")
    config = tmp_path / "a/b/c.py"
    config.write_text("_base_ = ['../../_base_/runtime.py', '../../_base_/gone.py']\ncodec = dict(sigma=2)")
    found = read(config)
    assert found.values["train_cfg"] == {"max_epochs": 5}
    assert found.notes == ("base file ../../_base_/gone.py is not there: its values were not checked",)


def test_the_config_inside_a_checkpoint_is_audited_and_one_without_is_told(workbench, tmp_path):
    import json

    import torch

    from workbench.checkpoints.demo import demo_checkpoints

    code, out, _ = workbench("audit", demo_checkpoints()[-1], "--against", "rtmpose-m-ap10k", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["config"].endswith("(config inside)")
    assert {"model.backbone.widen_factor", "model.backbone.deepen_factor"} <= {
        one["key"] for one in facts["findings"]
    }
    assert not [one for one in facts["findings"] if one["field"].startswith("checkpoint.")]
    torch.save({"weight": torch.zeros(2)}, tmp_path / "bare.pth")
    code, _, err = workbench("audit", tmp_path / "bare.pth")
    assert code == 2
    assert "holds none" in err


def head_of(norm: bool, bias: bool, first: int = 1536):
    """The tensors of a Sapiens head, and of one written from memory."""
    import torch

    shapes = {
        "head.deconv_layers.0.weight": (first, 768, 4, 4),
        "head.deconv_layers.3.weight": (768, 768, 4, 4),
        "head.conv_layers.0.weight": (768, 768, 1, 1),
        "head.conv_layers.3.weight": (768, 768, 1, 1),
        "head.final_layer.weight": (17, 768, 1, 1),
        "backbone.pos_embed": (1, 3072, 1536),
        "backbone.layers.39.ln1.weight": (1536,),
    }
    if bias:
        shapes |= {f"head.conv_layers.{n}.bias": (768,) for n in (0, 3)}
    if norm:
        shapes |= {f"head.deconv_layers.{n}.running_mean": (768,) for n in (1, 4)}
    return {name: torch.zeros(1).expand(shape).clone() if len(shape) < 2 else torch.zeros(1).expand(shape)
            for name, shape in shapes.items()}  # fmt: skip


def test_a_head_that_cannot_take_the_published_weights_is_told_by_its_tensors(workbench, tmp_path):
    import json

    import torch

    torch.save(head_of(norm=False, bias=True), tmp_path / "published.pth")
    code, out, _ = workbench("audit", tmp_path / "published.pth", "--against", "sapiens-1b-coco", "--json")
    assert (code, json.loads(out)["findings"]) == (0, [])
    torch.save(head_of(norm=True, bias=False), tmp_path / "own.pth")
    code, out, _ = workbench("audit", tmp_path / "own.pth", "--against", "sapiens-1b-coco", "--json")
    found = {one["field"]: (one["found"], one["expected"]) for one in json.loads(out)["findings"]}
    assert found == {
        "checkpoint.head.norm": ("BatchNorm2d", "InstanceNorm2d"),
        "checkpoint.head.conv_bias": (False, True),
    }


def test_the_recipes_are_listed_with_their_sources(workbench):
    code, out, _ = workbench("audit", "--list")
    assert code == 0
    assert "facebookresearch/sapiens@3e829ac:pose/configs" in out


@pytest.mark.parametrize("ending", ["json", "csv", "html"])
def test_the_findings_are_written(workbench, tmp_path, ending):
    out = tmp_path / f"found.{ending}"
    assert workbench("audit", "--demo", "--out", out)[0] == 0
    assert "codec" in out.read_text()


def test_the_reader_does_not_change_the_config():
    config = read_config(CONFIG)
    before = copy.deepcopy(config)
    audit(config)
    assert config == before


@pytest.mark.parametrize(
    ("model", "recipe"),
    [
        ("vitpose-base", "vitpose-b-coco"),
        ("usyd-community/vitpose-base-simple", "vitpose-b-simple-coco"),
        ({"name": "ViTPoseHuge"}, "vitpose-h-coco"),
        ("hrnet_w32", "hrnet-w32-coco"),
        ("HigherHRNet-W32", "higherhrnet-w32-512-coco"),
        ("vitpose+-base", ""),
        ("resnet50", ""),
    ],
)
def test_a_network_that_is_named_is_compared_with_its_recipe(model, recipe):
    found = audit({"model": model, "input_size": [192, 256], "epochs": 210, "optimizer": {"lr": 5e-3}})
    assert found.recipe == recipe
    if recipe:
        (rate,) = [one for one in found.findings if one.key == "optimizer.lr"]
        assert rate.expected == (1e-3 if "higher" in recipe else 5e-4)
        assert found.why_recipe.startswith("the config names its network, ")
