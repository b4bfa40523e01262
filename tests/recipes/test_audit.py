"""What an audit finds, what it does not, and that nothing in a config is run."""

from __future__ import annotations

import copy

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


def test_the_reader_does_not_change_the_config():
    config = read_config(CONFIG)
    before = copy.deepcopy(config)
    audit(config)
    assert config == before
