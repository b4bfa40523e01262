"""A model without names of keypoints is called as the data set on every page, as on the command line."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import fields

import pytest
import torch

from apps.pages.controls import BAR
from apps.pages.grouping import set_evaluation
from apps.pages.grouping.page import PictureParams
from apps.pages.inspectors import report_of
from apps.pages.report_section import printing, report_code
from apps.pages.sections import Download, buttons_html
from apps.pages.subject import subject_of
from apps.server.context import Context
from apps.server.settings import Settings
from tests.apps.test_bottom_up_run import written
from tests.waiting import until
from workbench.core.report import plain
from workbench.inspectors import get

TOP_DOWN = """
from torch import nn
from workbench.checkpoints.loading import load_state
from workbench.core import Codec, Skeleton
from workbench.models import TopDown


def load(checkpoint, device):
    network = nn.Conv2d(3, 17, 4, 4)
    report = load_state(network, checkpoint)
    names = tuple(f"keypoint {k}" for k in range(17))
    codec = Codec("heatmap", (32, 32), (8, 8), sigma=(1.0, 1.0))
    return TopDown(network.eval(), Skeleton("own-17", names), codec), report
"""
BOTTOM_UP = """
from workbench.core import Skeleton
from workbench.models import open_model
from workbench.models.naming import with_skeleton


def load(checkpoint, device):
    opened = open_model(checkpoint.path, device=device)
    names = tuple(f"keypoint {k}" for k in range(17))
    return with_skeleton(opened.model, Skeleton("own-17", names), "they are numbered"), opened.load
"""


@pytest.fixture(scope="module", params=["astronaut", "scenes-people-val"])
def served(request, tmp_path_factory):
    """Context, id of the set, adapter and checkpoint: a top-down network, and one that finds people."""
    place, data = tmp_path_factory.mktemp('it\'s "numbered"'), request.param
    adapter, file = place / "my model.py", place / "root" / "a run" / "epoch_1.pth"
    if data == "astronaut":
        adapter.write_text(TOP_DOWN)
        torch.manual_seed(0)
        file.parent.mkdir(parents=True)
        torch.save({"state_dict": torch.nn.Conv2d(3, 17, 4, 4).state_dict()}, file)
    else:
        adapter.write_text(BOTTOM_UP)
        written(file.parent, 1, 0.12)
    context = Context.of(Settings(root=place / "root", cache=place / "cache", adapter=adapter))
    yield context, data, adapter, file
    context.jobs.close()


# Pairs that the set alone states are exchanged in the ablation's table and in the flip test of the grouping.
ASKED = {
    "astronaut": ("overlay", "heatmap_grid", "target_residual", "feature_ablation"),
    "scenes-people-val": ("overlay", "heatmap_grid", "tag_maps", "grouping_steps"),
}


def facts_of(report):
    """Everything but the name that a page gives to a model."""
    facts = json.loads(json.dumps(plain(report.to_json())))
    return {name: value for name, value in facts.items() if name != "title"}


def test_page_verb_and_copied_code_of_an_inspector_give_the_same(workbench, served, tmp_path, monkeypatch):
    context, data, adapter, file = served
    monkeypatch.chdir(tmp_path)
    bar = ["a run", 0, data, 0, *[None] * (len(BAR) - 4)]
    for name in ASKED[data]:
        inspector = get(name)
        report, params, _ = report_of(context, inspector, *bar, *[None] * len(fields(inspector.params)))
        shown = facts_of(report)
        assert "keypoint 0" not in json.dumps(shown), name
        made: dict = {}
        with contextlib.redirect_stdout(io.StringIO()):
            exec(report_code(context, subject_of(context, *bar), inspector, params), made)
        assert facts_of(made["report"]) == shown, name
        words = ["--adapter", adapter, "--data", data, "--sample", 0, "--json"]
        code, out, err = workbench("look", name, file, *words)
        assert code == 0, err
        verb = json.loads(out)
        assert {key: verb.get(key) for key in shown} == shown, name


def test_the_grouping_page_evaluates_a_set_with_the_pairs_that_the_set_states(served, monkeypatch):
    context, data, *_ = served
    if data == "astronaut":
        pytest.skip("a top-down model does not group")
    monkeypatch.setattr(set_evaluation, "IMAGES", 2)
    subject = subject_of(context, "a run", 0, data, 0, *[None] * (len(BAR) - 4))
    request = set_evaluation.SetRequest.of(subject, PictureParams(flip=True))
    pages = set_evaluation.SetEvaluations(context)
    pages.begin(request)
    until(lambda: pages.found(request), 60)
    found = pages.found(request)
    assert found is not None
    assert ", flip," in found.protocol


def test_a_section_without_code_offers_none_to_copy():
    assert printing("") == ""
    assert "Copy as code" not in buttons_html(Download("data", "views", ""), {}, printing(""))
