"""Values with which nothing is learned are errors in every layout; published configs have none."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.recipes.older_layouts import FAULTS_OF_HRNET, FAULTS_OF_OLD, FAULTS_OF_YAML, OLD, YAML
from workbench.recipes import reading
from workbench.recipes.audit import audit
from workbench.recipes.comparison import Subject
from workbench.recipes.value_rules import VALUE_RULES
from workbench.recipes.values import decisions_of

PUBLISHED = Path(importlib.util.find_spec("mmpose").origin or "").parent / ".mim/configs/body_2d_keypoint"  # type: ignore[union-attr]
HRNET = (PUBLISHED / "topdown_heatmap/coco/td-hm_hrnet-w32_8xb64-210e_coco-256x192.py").read_text()


def errors(text, path, *edit):
    """Causes of the errors that are no mere difference from a recipe."""
    for old, new in edit:
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text)
    found = audit(reading.read(path).values).findings
    return {one.cause for one in found if one.severity == "error" and "recipe" not in one.cause}


@pytest.mark.parametrize("name", FAULTS_OF_OLD)
def test_a_value_of_an_older_config_with_which_nothing_is_learned_is_an_error(tmp_path, name):
    edit, cause = FAULTS_OF_OLD[name]
    assert errors(OLD, tmp_path / "old.py", edit) == {cause}


@pytest.mark.parametrize("name", FAULTS_OF_YAML)
def test_a_value_of_a_yaml_with_which_nothing_is_learned_is_an_error(tmp_path, name):
    edit, cause = FAULTS_OF_YAML[name]
    assert errors(YAML, tmp_path / "hrnet.yaml", edit) == {cause}


@pytest.mark.parametrize("name", FAULTS_OF_HRNET)
def test_a_value_of_a_config_of_mmengine_with_which_nothing_is_learned_is_an_error(tmp_path, name):
    edit, cause = FAULTS_OF_HRNET[name]
    assert errors(HRNET.replace("_base_ = ", "bases = "), tmp_path / "hrnet.py", edit) == {cause}


def test_whole_configs_of_three_layouts_have_no_error(tmp_path):
    assert errors(OLD, tmp_path / "old.py") == set()
    assert errors(YAML, tmp_path / "hrnet.yaml") == set()
    assert errors(HRNET.replace("_base_ = ", "bases = "), tmp_path / "hrnet.py") == set()


def test_published_configs_have_none_of_these_values():
    wrong = {}
    # Those that combine data sets with comprehensions are not read.
    paths = [path for path in sorted(PUBLISHED.rglob("*8xb*.py")) if "combine" not in path.name][::4]
    for path in paths:
        subject = Subject(decisions_of(reading.read(path).values), None, 1)
        wrong[path.name] = [f.cause for rule in VALUE_RULES for f in rule(subject) if f.severity == "error"]
    assert len(paths) > 20
    assert {name: causes for name, causes in wrong.items() if causes} == {}
