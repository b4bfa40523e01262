"""A run of bottom-up checkpoints in the app: it is listed, looked at, and Compare says why it cannot."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from apps.context import Context
from apps.look import answer
from apps.settings import Settings
from workbench.data import builtin
from workbench.evaluation import predict
from workbench.inspectors import get
from workbench.models.higherhrnet import Architecture, HigherHRNet, new_higherhrnet, write
from workbench.records import NotAvailable
from workbench.skeletons import SKELETONS

SMALL = Architecture(width=4, stem=8, bottlenecks=1, modules=(1, 1, 1), blocks=1, deconv_blocks=1)


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    torch.manual_seed(0)
    network = HigherHRNet(SMALL).eval()
    with torch.no_grad():
        network.final_layers[0].bias[:17] = 0.12
        network.final_layers[1].bias[:] = 0.12
    (root / "small").mkdir()
    write(new_higherhrnet(network, SKELETONS["coco-17"], 64), root / "small/epoch_1.pth", 1)
    return Context.of(Settings(root=root, cache=root / "cache"))


def test_its_run_is_known_and_shown_on_people(context):
    run = context.registry.runs()[0]
    assert context.registry.family(run)[0] == "HigherHRNet (official names)"
    assert context.registry.default_data("small", 0) == "scenes-people-val"
    assert context.registry.decoders("small", 0) == []


@pytest.mark.parametrize("name", ["overlay", "peaks"])
def test_look_pages_answer_for_the_person_in_the_samples_box(context, name):
    inspector = get(name)
    knobs = [f.default for f in dataclasses.fields(inspector.params)]
    bar = ["small", 0, "scenes-people-val", 1, "", None, None, None, None, None]
    sentence, *_ = answer(context, inspector, *bar, *knobs)
    assert "cannot answer" not in sentence


def test_compare_says_why_it_cannot(context):
    model = context.registry.model("small", 0).model
    with pytest.raises(NotAvailable, match="workbench compare"):
        predict(model, builtin("scenes-people-val"), indices=[0], keep_outputs=lambda *_: None)
