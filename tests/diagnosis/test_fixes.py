"""A fix is a diff of the config's own text: the value stands where it stood, and the rest is unchanged."""

from __future__ import annotations

import ast
from types import SimpleNamespace

import pytest

from workbench.checkpoints.config_reader import read_config
from workbench.checkpoints.demo import demo_checkpoints, demo_config
from workbench.diagnosis.case import Case, Options
from workbench.diagnosis.fixes import REMOVED, config_diff, edited, parts_of
from workbench.diagnosis.targets import sorted_targets

CONFIG = """codec = dict(type='SimCCLabel', simcc_split_ratio=1.0)  # ü
model = dict(
    backbone=dict(
        in_channels=768,
        type='CSPNeXt'),
    head=dict(decoder=codec, in_channels=128))
train_pipeline = [dict(type='A'), {'type': 'B', 'padding': 1.0}]
"""


@pytest.mark.parametrize(
    ("edits", "before", "after"),
    [
        ({"codec.simcc_split_ratio": 2.0}, "simcc_split_ratio=1.0", "simcc_split_ratio=2.0"),
        ({"model.head.decoder.simcc_split_ratio": 2.0}, "simcc_split_ratio=1.0", "simcc_split_ratio=2.0"),
        ({"train_pipeline[1].padding": 1.25}, "'padding': 1.0", "'padding': 1.25"),
        ({"model.backbone.in_channels": REMOVED}, "        in_channels=768,\n", ""),
        ({"model.head.loss.weight": 2}, "head=dict(", "head=dict(loss=dict(weight=2), "),
    ],
)
def test_one_place_changes_and_the_rest_stays(edits, before, after):
    assert edited(CONFIG, edits) == CONFIG.replace(before, after)


def test_a_config_larger_than_any_is_not_opened_for_a_change(tmp_path):
    from workbench.checkpoints.config_reader import text_of

    path = tmp_path / "c.py"
    path.write_text("a = 1  #" + "x" * (1 << 18))
    with pytest.raises(ValueError, match="more than 262144 bytes is refused"):
        text_of(path)
    case = SimpleNamespace(config_path=lambda: path)
    assert config_diff(case, {"a": 2}) == ""
    path.write_text("a = 1")
    assert "+a = 2" in config_diff(case, {"a": 2})


def test_several_values_change_at_once():
    changed = edited(CONFIG, {"codec.simcc_split_ratio": 2.0, "model.head.in_channels": 64})
    assert changed is not None
    ast.parse(changed)
    assert "simcc_split_ratio=2.0" in changed
    assert "in_channels=64" in changed


def test_yaml_keeps_its_comments():
    text = "training:\n  phase2:\n    learning_rate: 2.0e-4  # too small\n    sizes: [1, 2]\n"
    wanted = text.replace("2.0e-4", "0.0005").replace("[1, 2]", "[3, 4]")
    edits = {"training.phase2.learning_rate": 0.0005, "training.phase2.sizes": [3, 4]}
    assert edited(text, edits, "a.yaml") == wanted


@pytest.mark.parametrize("text", ["model = dict(", "model = make()[0]\n", ""])
def test_a_text_in_which_the_key_cannot_be_found_is_left_alone(text):
    assert edited(text, {"model.head.x": 1}) is None


def test_paths_have_keys_and_indices():
    assert parts_of("train_pipeline[2].encoder[0].sigma") == ("train_pipeline", 2, "encoder", 0, "sigma")


def test_the_diff_of_the_demo_config_is_applied_by_reading_the_result():
    case = Case(sorted_targets([demo_config()]), Options())
    diff = config_diff(case, {"optim_wrapper.clip_grad.max_norm": 10.0})
    assert diff.startswith(f"--- a/{demo_config().name}\n+++ b/{demo_config().name}\n@@ ")
    changed = [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert [line[0] for line in changed] == ["-", "+"]
    assert "max_norm=10.0" in changed[1]
    whole = edited(demo_config().read_text(), {"optim_wrapper.clip_grad.max_norm": 10.0})
    assert read_config(whole)["optim_wrapper"]["clip_grad"]["max_norm"] == 10.0


def test_the_config_inside_a_checkpoint_has_a_diff_too(tmp_path):
    case = Case(sorted_targets([demo_checkpoints()[-1]]), Options())
    assert "+++ b/config.py" in config_diff(case, {"model.backbone.arch": "P6"})


def test_without_a_config_there_is_no_diff(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("words")
    assert config_diff(Case(sorted_targets([path]), Options()), {"a": 1}) == ""
