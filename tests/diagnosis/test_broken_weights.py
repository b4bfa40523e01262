"""Weights and statistics that no training leaves behind: told in small networks whose answer is known."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.initialisers import never_updated, started
from workbench.data import builtin
from workbench.diagnosis.exchanged_tensors import moved_tensors, orders_of_blocks, places_of_earlier
from workbench.diagnosis.image_id_causes import OtherPictures, other_orders
from workbench.diagnosis.loading_causes import modules_without_weights
from workbench.diagnosis.norm_statistics import OFF_ALL, fits_of, median_off, misfits_of
from workbench.diagnosis.weight_causes import scattered_zeros
from workbench.diagnosis.weight_sizes import block_of, large_scalars, outsized, outsized_layer


def trained():
    """Four stages of two convolutions with norms whose statistics are those of its images; and the images."""
    torch.manual_seed(0)
    images = torch.randn(64, 3, 12, 12) + torch.linspace(-1, 1, 12)
    stages = []
    for n in range(1, 5):
        blocks = [
            (str(k), nn.Sequential(nn.Conv2d(inputs, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()))
            for k, inputs in enumerate((3 if n == 1 else 16, 16))
        ]
        stages.append((f"stage{n}", nn.Sequential(OrderedDict(blocks))))
    network = nn.Sequential(OrderedDict(stages))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.3, 0.3)
            layer.momentum = None  # the mean over all batches
    with torch.no_grad():
        network.train()(images)
    return network.eval(), images


def broken_parts(network, images):
    model: Any = SimpleNamespace(module=network, forward=network)
    return [(one.part, one.kind) for one in misfits_of(fits_of(model, images.split(32)))]


def off(network, images):
    model: Any = SimpleNamespace(module=network, forward=network)
    return median_off(fits_of(model, images.split(32)))


def test_statistics_of_other_weights_in_all_layers_show_in_the_median_and_wrong_colours_do_not():
    network, images = trained()
    assert off(network, images) < OFF_ALL / 4
    assert off(network, 3 * images + 1) < OFF_ALL / 4
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d) and isinstance(layer.running_var, torch.Tensor):
            layer.running_var *= 2
    assert broken_parts(network, images) == []  # no part is worse than the others
    assert off(network, images) > OFF_ALL


def of_stage(network, number, kind) -> list[Any]:
    return [m for m in network.get_submodule(f"stage{number}").modules() if isinstance(m, kind)]


def permuted(network):
    for norm in of_stage(network, 3, nn.BatchNorm2d):
        order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
        norm.running_mean, norm.running_var = norm.running_mean[order], norm.running_var[order]


def begun_anew(network):
    for norm in of_stage(network, 3, nn.BatchNorm2d):
        norm.reset_running_stats()


def of_other_data(network):
    for norm in of_stage(network, 3, nn.BatchNorm2d):
        norm.running_var = norm.running_var * torch.logspace(-1, 1, 16)


def scaled(network):
    for layer in of_stage(network, 3, nn.Conv2d):
        layer.weight.data *= 3
        layer.bias.data *= 3


def disturbed(network):
    for layer in of_stage(network, 4, nn.Conv2d):
        noise = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(2))
        layer.weight.data += layer.weight.std() * torch.linspace(0, 4, 16).view(-1, 1, 1, 1) * noise


@pytest.mark.parametrize(
    ("broken", "kind"),
    [(permuted, "order"), (of_other_data, "statistics"), (begun_anew, "statistics"), (scaled, "scaled")],
)
def test_statistics_that_do_not_fit_are_told_by_their_numbers(broken, kind):
    network, images = trained()
    assert broken_parts(network, images) == []
    with torch.no_grad():
        broken(network)
    assert broken_parts(network, images) == [("stage3.0", kind), ("stage3.1", kind)]


def test_of_weights_the_first_part_is_named_whose_layers_behind_are_off_too():
    network, images = trained()
    with torch.no_grad():
        disturbed(network)
    assert broken_parts(network, images) == [("stage4.0", "weights")]


def test_measuring_leaves_the_network_as_it_was():
    network, images = trained()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    broken_parts(network, images)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not any(part.training for part in network.modules())


@pytest.mark.parametrize("make", [nn.init.xavier_uniform_, nn.init.kaiming_uniform_, None])
def test_weights_as_an_initialiser_leaves_them_are_told_until_the_first_update(make):
    torch.manual_seed(0)
    layer = nn.Linear(64, 48)
    if make is not None:
        make(layer.weight)
    assert "initialisation" in started(layer.weight)
    layer.weight.data += 0.001 * torch.randn_like(layer.weight)
    assert started(layer.weight) == ""


def test_a_normal_start_is_told_with_a_bias_that_is_still_0_alone():
    weight = 0.001 * torch.randn(17, 512, generator=torch.Generator().manual_seed(0))
    assert "bias 0" in started(weight, torch.zeros(17))
    assert started(weight, torch.full((17,), 1e-4)) == ""
    assert started(weight * 1.2, torch.zeros(17)) == ""


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 17), nn.BatchNorm2d(17), None])
def test_a_part_without_any_update_is_told_by_norms_of_every_kind_or_by_its_matrices(norm):
    torch.manual_seed(0)
    part = nn.Sequential(nn.Conv2d(17, 17, 3), *([] if norm is None else [norm]))
    assert ("ones and zeros" if norm is not None else "initialisation") in never_updated(part)
    for tensor in part.parameters():
        tensor.data += 0.01 * torch.randn_like(tensor)
    assert never_updated(part) == ""
    # A filter that was written down and not drawn, such as a mean, is no untrained one.
    mean = nn.Conv2d(17, 17, 3, groups=17, bias=False)
    nn.init.constant_(mean.weight, 1 / 9)
    assert never_updated(mean) == ""


def blocks() -> Any:
    torch.manual_seed(0)
    named = [(str(n), nn.Linear(64, 64)) for n in range(6)]
    return nn.ModuleDict({"layers": nn.Sequential(OrderedDict(named))})


def test_one_block_with_larger_weights_than_its_siblings_is_named():
    network = blocks()
    assert outsized(network) == []
    network["layers"][2].weight.data *= 1.4
    (one,) = outsized(network)
    assert one.block == "layers.2"
    assert one.is_certain
    assert one.factor == pytest.approx(1.4, abs=0.05)
    # Blocks of many sizes have no usual one.
    for n, layer in enumerate(network["layers"]):
        layer.weight.data *= 1.6**n
    assert outsized(network) == []


def test_a_block_is_named_up_to_its_first_number():
    assert block_of("backbone.layers.1.attn.qkv") == "backbone.layers.1"
    assert block_of("head.cls_x") == "head.cls_x"
    assert block_of("image.stride4.0.0") == "image.stride4.0"


def test_orders_of_file_names_are_tried_both_ways():
    pose_set = builtin("scenes-val")
    ids = sorted(pose_set.images)
    orders = other_orders(pose_set)
    assert [orders["one place further on"][n] for n in ids[:2]] == ids[1:3]
    assert orders["backwards"][ids[0]] == ids[-1]
    # Numbered from 1 and sorted as text: 1, 10, 100 stand where 1, 2, 3 were.
    as_text = orders["numbered from 1 as text"]
    assert [as_text[n] for n in ids[:3]] == [ids[0], ids[9], ids[99]]
    back = orders["numbered from 1, not as text"]
    assert all(back[as_text[n]] == n for n in ids)


@pytest.mark.parametrize(("first", "how"), [(8, "one place further on"), (0, "")])
def test_the_place_from_which_labels_stand_one_image_off_is_found(first, how):
    ids = [7, 3, 5, 11, *range(20, 36)]
    records = {n: SimpleNamespace(path=Path(f"{n}.jpg"), width=4, height=4) for n in ids}
    pose_set = SimpleNamespace(images=records)
    place, right = np.arange(20), other_orders(pose_set)["one place further on"]
    truth = SimpleNamespace(image=place, image_ids=sorted(ids), ignored=np.zeros(20, bool))

    class Given:
        """Poses that lie on their labels before a place, and with the images moved on from it on."""

        def measure(self, changes=()):
            there = (place < first) != bool(changes) if first else np.full(20, not changes)
            return SimpleNamespace(counted=0.8 * there, ap=SimpleNamespace(truth=truth))

    cause, given = OtherPictures(), Given()
    assert cause._breaks_off(given, pose_set) == bool(first)
    change = cause._change(pose_set, "all", right)
    found = list(cause._of_part(given, pose_set, change, how))
    assert len(found) == bool(first)
    for one in found:
        ordered, moved = sorted(ids), one.facts["right"]
        assert [moved[n] for n in ordered[:8]] == ordered[:8]
        assert [moved[n] for n in ordered[8:]] == [*ordered[9:], ordered[0]]
        assert one.name == f"the images from {ordered[8]}.jpg on {how}"


def test_blocks_in_each_others_place_are_told_by_the_earlier_epoch_and_put_back():
    before = blocks().state_dict()
    own = {n: t + 0.3 * t.std() * torch.randn(t.shape) for n, t in before.items()}
    assert places_of_earlier(own, before) == {}
    there = {"layers.1": "layers.4", "layers.4": "layers.2", "layers.2": "layers.1"}
    wrong = {**own, **moved_tensors(own, {place: part for part, place in there.items()})}
    assert places_of_earlier(wrong, before) == there
    right = {**wrong, **moved_tensors(wrong, there)}
    assert all(torch.equal(right[name], own[name]) for name in own)
    # Of weights that have nothing in common with the earlier ones nothing is said.
    torch.manual_seed(1)
    assert places_of_earlier({n: torch.randn_like(t) for n, t in own.items()}, before) == {}


def test_without_an_earlier_epoch_blocks_are_tried_in_pairs_and_sorted_as_text():
    six = list(orders_of_blocks(blocks().state_dict()))
    assert len(six) == 15
    assert {"layers.0": "layers.5", "layers.5": "layers.0"} in six
    twelve = {f"layers.{n}.weight": torch.zeros(4, 4) for n in range(12)}
    *_, as_text, back = orders_of_blocks(twelve)
    assert (as_text["layers.2"], back["layers.10"]) == ("layers.10", "layers.2")
    # Blocks of several builds, and those that hold little of the network, are left alone.
    assert not list(orders_of_blocks({**twelve, "head.weight": torch.zeros(17, 4096)}))


def test_zeros_all_over_a_matrix_are_pruning_and_zero_units_or_few_levels_are_not():
    weight = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))
    assert scattered_zeros(weight) == 0
    pruned = weight.where(weight.abs() > weight.abs().flatten().quantile(0.3), 0.0)
    assert scattered_zeros(pruned) == pytest.approx(0.3, abs=0.001)
    dead = weight.clone()
    dead[:20] = 0
    assert scattered_zeros(dead) == 0
    assert scattered_zeros((weight * 2).round()) == 0


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_block_that_the_file_lists_and_has_no_weights_of_is_told(tmp_path, wrapped):
    parts = [(str(n), nn.ModuleDict({"attn": nn.Linear(8, 8), "act": nn.ReLU()})) for n in range(3)]
    network = nn.ModuleDict({"layers": nn.Sequential(OrderedDict(parts)), "act": nn.Sequential(nn.ReLU())})
    for leave_out, found in (("layers.2.", {"layers.2": "layers.0"}), ("none", {})):
        state = network.state_dict()
        for name in [n for n in state if n.startswith(leave_out)]:
            del state[name]
        torch.save({"state_dict": state} if wrapped else state, tmp_path / "file.pth")
        assert modules_without_weights(open_checkpoint(tmp_path / "file.pth")) == found


@pytest.mark.parametrize(("factor", "named"), [(1.0, False), (1.6, False), (3.0, True), (8.0, True)])
def test_a_linear_layer_is_outsized_beside_all_others_whatever_a_small_one_does(factor, named):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(64, 64) for _ in range(6)]
    layers[1].weight.data *= 0.1
    layers[3].weight.data *= factor
    found = outsized_layer(torch.nn.Sequential(*layers))
    assert (found is not None) == named
    if found is not None:
        assert found.names == ("3.weight",)
        assert found.usual == pytest.approx(factor, rel=0.1)


def test_a_parameter_of_one_number_is_large_from_three_on():
    module = torch.nn.Module()
    for name, value in (("gate", 6.0), ("usual", 0.3), ("open", 1.0)):
        module.register_parameter(name, torch.nn.Parameter(torch.tensor(value)))
    module.register_parameter("many", torch.nn.Parameter(torch.full((4,), 9.0)))
    assert large_scalars(module) == {"gate": 6.0}
