"""B with one part from A: what changes is told by part, and B is as before afterwards."""

from __future__ import annotations

import json
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tests.evaluation.test_comparison_details import people_set, sees, true_points
from workbench.evaluation import evaluate
from workbench.evaluation.graft import grafting, parts_of


def net(backbone, head):
    """A network whose keypoints lie (backbone + head) pixels off."""
    module = nn.Sequential(OrderedDict(backbone=nn.Linear(1, 1), neck=nn.Linear(1, 1), head=nn.Linear(1, 1)))
    with torch.no_grad():
        for name, value in (("backbone", backbone), ("neck", 0.0), ("head", head)):
            for tensor in module.get_submodule(name).parameters():
                tensor.fill_(value)
    return SimpleNamespace(module=module)


@pytest.fixture
def judged(written):
    pose_set = people_set(written)
    truth = true_points(pose_set)

    def judge(part, model):
        off = float((model.module.backbone.bias + model.module.head.bias).detach())
        return evaluate(pose_set, sees(pose_set, truth + off, 0.5))

    return judge


def test_the_part_that_lost_the_ap_is_named(judged):
    good, bad = net(0.0, 0.0), net(0.0, 30.0)
    before = {name: value.clone() for name, value in bad.module.state_dict().items()}
    of_a, of_b = judged("", good), judged("", bad)
    report = grafting(("a", good.module.state_dict(), of_a), ("b", bad, of_b), judged, resamples=20)
    found = {g.part: g for g in report.grafts}
    assert list(found) == ["backbone", "neck", "head"]
    assert found["backbone"].reason == "the same in A and B"
    assert np.isnan(found["backbone"].ap)
    assert found["head"].ap == of_a.figures["AP"] > of_b.figures["AP"]
    assert found["head"].change.delta == pytest.approx(of_a.figures["AP"] - of_b.figures["AP"])
    assert "head from a gives most" in report.summary()
    assert all(torch.equal(value, bad.module.state_dict()[name]) for name, value in before.items())
    json.dumps(report.to_json(), allow_nan=False)
    assert report.plot().data


def test_a_part_with_a_weight_that_is_no_number_differs(judged):
    good, bad = net(0.0, 0.0), net(0.0, 0.0)
    with torch.no_grad():
        bad.module.neck.weight.fill_(float("nan"))
    of_a, of_b = judged("", good), judged("", bad)
    grafts = grafting(("a", good.module.state_dict(), of_a), ("b", bad, of_b), judged, resamples=2).grafts
    assert [(g.part, g.different) for g in grafts] == [("backbone", 0), ("neck", 1), ("head", 0)]


def test_counters_of_batch_norm_are_exchanged_and_no_weights_that_moved(judged):
    good, bad = net(0.0, 0.0), net(0.0, 0.0)
    for one, batches, weight in ((good, 1000, 2.0), (bad, 10, 1.0)):
        one.module.neck = nn.BatchNorm1d(1)
        one.module.neck.num_batches_tracked.fill_(batches)
        nn.init.constant_(one.module.neck.weight, weight)
    evaluation = judged("", bad)
    given = good.module.state_dict()
    report = grafting(("a", given, evaluation), ("b", bad, evaluation), judged, resamples=2)
    neck = next(g for g in report.grafts if g.part == "neck")
    assert (neck.moved, neck.different, neck.tensors) == (0.5, 2, 5)


def test_weights_are_restored_when_an_evaluation_fails(judged):
    good, bad = net(1.0, 0.0), net(0.0, 30.0)
    of_b = judged("", bad)

    def fails(part, model):
        raise ValueError("no image")

    with pytest.raises(ValueError, match="no image"):
        grafting(("a", good.module.state_dict(), of_b), ("b", bad, of_b), fails)
    assert float(bad.module.backbone.bias) == 0
    assert float(bad.module.head.bias) == 30


def test_another_network_is_refused_and_a_part_of_another_shape_told(judged):
    one = net(0.0, 1.0)
    of_b = judged("", one)
    with pytest.raises(ValueError, match="share no tensor"):
        grafting(("a", {"x": torch.zeros(2)}, of_b), ("b", one, of_b), judged)
    other = dict(net(1.0, 0.0).module.state_dict())
    other["head.weight"] = torch.zeros(2, 2)
    report = grafting(("a", other, of_b), ("b", one, of_b), judged, resamples=10)
    assert report.grafts[-1].reason == "A has no head.weight of this shape"


def test_parts_are_the_first_words_and_one_part_is_split_further():
    assert list(parts_of(["a.x.w", "a.y.w", "b.w"])) == ["a", "b"]
    assert list(parts_of(["a.x.w", "a.y.w"])) == ["a.x", "a.y"]
    assert list(parts_of(["a.x.w", "b.y.w"], 2)) == ["a.x", "b.y"]
    assert list(parts_of(["w"])) == ["w"]
