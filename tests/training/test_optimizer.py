"""Who gets which learning rate, and when."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from workbench.training import measures
from workbench.training.settings import Settings, schedule_factor
from workbench.training.trainer import layer_of, merged_groups, new_optimizer, parameter_groups


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.patch_embed = nn.Linear(4, 4)
        self.backbone.pos_embed = nn.Parameter(torch.zeros(1, 3, 4))
        self.backbone.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(12))
        self.neck = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)


def rate(groups, parameter):
    return next(g["lr"] for g in groups if any(p is parameter for p in g["params"]))


def decay(groups, parameter):
    return next(g["weight_decay"] for g in groups if any(p is parameter for p in g["params"]))


def test_the_neck_learns_ten_times_faster():
    net = Network()
    groups = parameter_groups(net, Settings(learning_rate=1e-3, factors={"neck": 10}))
    assert rate(groups, net.neck.weight) == pytest.approx(1e-2)
    assert rate(groups, net.head.weight) == pytest.approx(1e-3)


def test_layer_decay_as_vitpose_has_it():
    net = Network()
    groups = parameter_groups(net, Settings(learning_rate=1.0, layer_decay=0.75))
    assert rate(groups, net.backbone.patch_embed.weight) == pytest.approx(0.75**13)
    assert rate(groups, net.backbone.pos_embed) == pytest.approx(0.75**13)
    assert rate(groups, net.backbone.layers[0].weight) == pytest.approx(0.75**12)
    assert rate(groups, net.backbone.layers[11].weight) == pytest.approx(0.75)
    assert rate(groups, net.head.weight) == 1


def test_biases_and_position_embeddings_are_not_decayed():
    net = Network()
    groups = parameter_groups(net, Settings(weight_decay=0.1))
    assert decay(groups, net.head.bias) == 0
    assert decay(groups, net.backbone.pos_embed) == 0
    assert decay(groups, net.head.weight) == 0.1


def test_every_parameter_is_in_exactly_one_group():
    net = Network()
    groups = parameter_groups(net, Settings(layer_decay=0.8, factors={"neck": 3}, weight_decay=0.1))
    inside = [id(p) for g in groups for p in g["params"]]
    assert sorted(inside) == sorted(id(p) for p in net.parameters())


def test_a_factor_for_nobody_is_refused():
    with pytest.raises(ValueError, match="'nekc'"):
        parameter_groups(Network(), Settings(factors={"nekc": 10}))


def test_layers_outside_the_backbone_are_the_top():
    assert layer_of("head.layers.0.weight", 12) == 13


def test_warm_up_ends_at_one_and_cosine_at_nearly_zero():
    settings = Settings(steps=100, warm_up=10, schedule="cosine")
    assert schedule_factor(settings, 0) == pytest.approx(1e-3)
    assert schedule_factor(settings, 10) == 1
    assert schedule_factor(settings, 55) == pytest.approx(0.5)
    assert schedule_factor(settings, 99) < 1e-3


def test_multistep_falls_at_170_and_200_of_210():
    settings = Settings(steps=210, schedule="multistep")
    assert [schedule_factor(settings, s) for s in (169, 170, 199, 200)] == pytest.approx([1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize("settings", [Settings(), Settings(weight_decay=0.1, factors={"neck": 10.0})])
@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_merged_groups_train_bitwise_the_same(settings, kind):
    import dataclasses

    settings = dataclasses.replace(settings, optimizer=kind)
    networks = []
    for merge in (False, True):
        torch.manual_seed(0)
        net = Network()
        groups = parameter_groups(net, settings)
        merged, places = merged_groups(groups)
        assert [merged[i]["lr"] for i in places] == [g["lr"] for g in groups]
        assert len(merged) < len(groups)
        optimizer = new_optimizer(merged if merge else groups, settings)
        for _ in range(5):
            for parameter in net.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
        networks.append(net)
    for one, other in zip(*(n.parameters() for n in networks), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("few", [0, 4, 4096])
def test_gradient_norms_are_those_of_torch(monkeypatch, few):
    """However many of the tensors are joined before."""
    torch.manual_seed(0)
    monkeypatch.setattr(measures, "FEW_ELEMENTS", few)
    net = Network()
    groups = parameter_groups(net, Settings(weight_decay=0.1))
    norms = measures.GradientNorms(groups)
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter)
    net.neck.bias.grad = None
    found = norms.by_name()
    for name, norm in found.items():
        own = [p.grad for g in groups if g["name"] == name for p in g["params"] if p.grad is not None]
        torch.testing.assert_close(norm, torch.nn.utils.get_total_norm(own))
    parameters = [p for g in groups for p in g["params"]]
    total = measures.total_norm(list(found.values()))
    torch.testing.assert_close(total, torch.nn.utils.clip_grad_norm_(parameters, 1e9))


def test_a_snapshot_with_one_optimizer_group_per_name_is_resumed_bitwise():
    """As versions before merged groups wrote them."""
    import copy

    from tests.training.tiny import Tiny, picture
    from workbench.training.trainer import Trainer

    settings = Settings(steps=6, weight_decay=0.01)
    first, again = Trainer(Tiny(), [picture()], settings), Trainer(Tiny(seed=1), [picture()], settings)
    for _ in range(3):
        first.step()
    state = copy.deepcopy(first.state())
    flat = [p for group in first.optimizer.param_groups for p in group["params"]]
    number, groups = {id(p): n for n, p in enumerate(flat)}, []
    moments, count = {}, 0
    for group, place in zip(first.groups, first._merged_into, strict=True):
        numbers = range(count, count + len(group["params"]))
        moments |= {
            n: state["optimizer"]["state"][number[id(p)]]
            for n, p in zip(numbers, group["params"], strict=True)
        }
        of_merged = state["optimizer"]["param_groups"][place]
        groups.append({**of_merged, "name": group["name"], "params": list(numbers)})
        count += len(group["params"])
    again.restore({**state, "optimizer": {"state": moments, "param_groups": groups}})
    assert [first.step()["loss"] for _ in range(3)] == [again.step()["loss"] for _ in range(3)]
