"""Two implementations: the first place where they part is the one where a difference was planted."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from tests.toy import ToyHeatmaps, samples
from workbench.core import Codec, NotAvailable, Sample
from workbench.evaluation.port import (
    INPUT,
    compare_port,
    compared_weights,
    named_places,
    paired_by_name,
    read_map,
)
from workbench.models import TopDown, open_model
from workbench.models.vitpose.export import random_vitpose, write_demo
from workbench.models.vitpose.model import new_vitpose
from workbench.skeletons import SKELETONS


def crop() -> list[Sample]:
    image = np.random.default_rng(0).integers(0, 255, (150, 120, 3), dtype=np.uint8)
    return [Sample(image, (10.0, 12.0, 100.0, 140.0))]


def model(change=None):
    network = random_vitpose()
    if change is not None:
        change(network)
    return new_vitpose(network, SKELETONS["coco-17"])


def test_a_network_agrees_with_itself():
    report = compare_port(model(), model(), crop())
    assert report.first_difference is None
    assert [tap.name for tap in report.taps][:2] == [INPUT, "backbone"]
    assert [tap.name for tap in report.taps][-1] == "output heatmaps"
    assert all(tap.max_abs == tap.relative == 0 for tap in report.taps)
    assert report.agreeing == tuple(tap.name for tap in report.taps)
    assert "agree at all" in report.summary()
    assert re.search(r"all \d+ tensors that both have are equal", report.summary())


def test_a_part_that_one_does_not_pass_through_is_named():
    class Scaled(nn.Module):
        def __init__(self, skips):
            super().__init__()
            torch.manual_seed(0)
            self.body, self.scale, self.drop = nn.Conv2d(3, 17, 4, 4), nn.Conv2d(17, 17, 1), nn.Dropout()
            self.skips = skips

        def forward(self, pixels):
            found = self.body(pixels)
            return found if self.skips else self.drop(self.scale(found))

    codec = Codec("heatmap", (64, 64), (16, 16), sigma=(2.0, 2.0))
    models = [TopDown(Scaled(skips), SKELETONS["coco-17"], codec) for skips in (False, True)]
    assert "; only A passes through scale; all 4 tensors" in compare_port(*models, crop()).summary()
    assert "; only B passes through scale; all 4 tensors" in compare_port(*models[::-1], crop()).summary()
    assert "passes through" not in compare_port(models[0], models[0], crop()).summary()


def tanh_gelu(network):
    network.backbone.layers[1].ffn.layers[0][1] = nn.GELU(approximate="tanh")


def other_eps(network):
    network.backbone.ln1.eps = 0.1


def no_padding(network):
    network.backbone.patch_embed.projection.padding = (0, 0)


def other_position(network):
    with torch.no_grad():
        # Not the same for all channels: layer norms take the mean away.
        network.backbone.pos_embed[:, 7, ::2].add_(1.0)


def other_scale(network):
    # Attention with another scale: by hand, the query's rows doubled.
    with torch.no_grad():
        network.backbone.layers[2].attn.qkv.weight[:128].mul_(2)


def no_activation(network):
    network.head.deconv_layers[2] = nn.Identity()


@pytest.mark.parametrize(
    ("change", "place", "weights_differ"),
    [
        (tanh_gelu, "backbone.layers.1.ffn.layers.0.1", False),
        (other_eps, "backbone.ln1", False),
        (no_padding, "backbone.patch_embed.projection", False),
        (other_position, "backbone.layers.0.ln1", True),
        (other_scale, "backbone.layers.2.attn.qkv", True),
        (no_activation, "head.deconv_layers.2", False),
    ],
)
def test_the_first_place_that_differs_is_where_the_difference_was_planted(change, place, weights_differ):
    report = compare_port(model(), model(change), crop())
    assert report.first_difference == place
    first = next(n for n, tap in enumerate(report.taps) if tap.name == place)
    assert all(not tap.differs and tap.relative < 1e-6 for tap in report.taps[:first])
    assert report.taps[first].relative > 1e-5
    assert bool(report.differing_weights) is weights_differ
    assert f"first differ at {place}" in report.summary()
    wanted = "if both should have the same weights" if weights_differ else "look at the code of"
    assert wanted in report.summary()


def test_relative_and_absolute_difference_by_hand():
    def shifted(network):
        with torch.no_grad():
            network.head.final_layer.bias.add_(0.5)

    report = compare_port(model(), model(shifted), crop())
    tap = next(tap for tap in report.taps if tap.name == "head.final_layer")
    a = model()
    heatmaps = a.forward(a.prepare(crop())).heatmaps.detach().double()
    assert tap.max_abs == pytest.approx(0.5, rel=1e-5)
    assert tap.relative == pytest.approx(0.5 * math.sqrt(heatmaps.numel()) / float(heatmaps.norm()), rel=1e-5)
    assert [name for name, _ in report.differing_weights] == ["head.final_layer.bias"]


def test_other_preparation_is_told_apart_from_another_network():
    report = compare_port(model(), dataclasses.replace(model(), bgr=True), crop())
    assert report.first_difference == INPUT
    # B was given A's pixels: the network itself is the same.
    assert not any(tap.differs for tap in report.taps[1:])
    assert "channel order" in report.summary()
    own = compare_port(model(), dataclasses.replace(model(), bgr=True), crop(), own_input=True)
    assert any(tap.differs for tap in own.taps[1:])


@pytest.mark.parametrize("naming", ["mmpose-0", "hf"])
def test_transformers_code_agrees_with_ours_and_a_planted_difference_is_found(tmp_path, naming):
    file = write_demo(tmp_path, naming)
    try:
        theirs = open_model(file, family="transformers").model
    except NotAvailable as error:
        pytest.skip(str(error))
    ours = open_model(file).model
    pairs, _ = paired_by_name(ours, theirs)
    assert pairs["backbone.layers.1.attn"] == "backbone.encoder.layer.1.attention"
    assert pairs["backbone.layers.1.ffn.layers.1"] == "backbone.encoder.layer.1.mlp.fc2"
    assert pairs["head.deconv_layers.4"] == "head.batchnorm2"
    report = compare_port(ours, theirs, crop())
    assert report.first_difference is None, report.summary()
    assert "tensors that both have are equal" in report.weights
    theirs.module.backbone.encoder.layer[1].layernorm_after.eps = 0.5
    report = compare_port(ours, theirs, crop())
    assert report.first_difference == "backbone.layers.1.ln2"
    back = compare_port(theirs, ours, crop())
    assert back.first_difference == "backbone.encoder.layer.1.layernorm_after"


def test_maps_and_tokens_are_brought_together():
    a = torch.arange(24.0).reshape(1, 2, 3, 4)
    from workbench.evaluation.port import _difference

    tokens = a.flatten(2).transpose(1, 2)
    for other, note in (
        (tokens, "tokens of B read as a map"),
        (a.permute(0, 2, 3, 1), "channels of B stand last"),
    ):
        found = _difference("x", "y", a, other, 1e-4)
        assert (found.max_abs, found.differs, found.note) == (0, False, note)
    found = _difference("x", "y", tokens, a, 1e-4)
    assert (found.max_abs, found.note) == (0, "map of B read as tokens")
    found = _difference("x", "y", a, a[:, :1], 1e-4)
    assert found.differs
    assert math.isinf(found.relative)
    assert "shape (1, 2, 3, 4) in A, (1, 1, 3, 4) in B" in found.note
    found = _difference("x", "y", a, torch.full_like(a, math.nan), 1e-4)
    assert found.differs
    assert "nan" in found.note


def test_weights_are_compared_under_common_names(tmp_path):
    a = random_vitpose()
    b = copy.deepcopy(a)
    with torch.no_grad():
        b.head.final_layer.bias[3] += 0.25
    sentence, differing = compared_weights(a, b)
    assert differing == (("head.final_layer.bias", pytest.approx(0.25)),)
    assert "1 of 53 tensors differ (head.final_layer.bias)" in sentence
    assert compared_weights(nn.Linear(2, 2), nn.Sequential(nn.Conv2d(1, 1, 1)))[1] == ()


# Map files.


def test_a_map_decides_which_places_are_compared(tmp_path):
    path = tmp_path / "map.toml"
    lines = ('backbone.ln1 = "backbone.ln1"', '"head.final" = "head.final_layer"', "[backbone.layers]",
             '0 = "backbone.layers.0"')  # fmt: skip
    path.write_text("\n".join(lines))
    pairs = read_map(path)
    assert pairs == {
        "backbone.ln1": "backbone.ln1",
        "head.final": "head.final_layer",
        "backbone.layers.0": "backbone.layers.0",
    }
    report = compare_port(model(), model(other_eps), crop(), pairs)
    assert [tap.name for tap in report.taps] == [
        INPUT, "backbone.layers.0", "backbone.ln1", "head.final", "output heatmaps",
    ]  # fmt: skip
    assert report.first_difference == "backbone.ln1"
    path = tmp_path / "map.json"
    path.write_text(json.dumps(pairs))
    assert read_map(path) == pairs


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("map.toml", "a = ", "cannot be read"),
        ("map.json", "{", "cannot be read"),
        ("map.json", "[1]", "expected tap in A -> tap in B, got a list"),
        ("map.json", '{"a": 1}', "a: expected the name of a tap in B, got 1"),
        ("map.toml", "", "is empty"),
        ("map.toml", "a = [1]", "expected the name"),
        ("map.yaml", "a: b", r"expected a .toml or .json"),
        ("map.json", "[" * 100_000, "cannot be read"),
        ("map.toml", "a." * 40_000 + "a = 'b'", "a key of more than 40 parts"),
    ],
)
def test_damaged_maps_are_refused(tmp_path, name, text, match):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=match):
        read_map(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_map(tmp_path / f"no-{name}".replace(".yaml", ".json"))


def test_a_name_that_does_not_exist_lists_near_ones():
    with pytest.raises(KeyError, match=r"A has no tap 'backbone.layers.9'; nearest: backbone.layers"):
        compare_port(model(), model(), crop(), {"backbone.layers.9": "backbone"})
    with pytest.raises(KeyError, match=r"B has no tap 'bakbone'; nearest: backbone"):
        compare_port(model(), model(), crop(), {"backbone": "bakbone"})


# Other models.


def test_networks_without_a_name_in_common_need_a_map():
    with pytest.raises(ValueError, match="no module of A has the name of one of B"):
        compare_port(
            model(),
            dataclasses.replace(model(), module=nn.Sequential(nn.Conv2d(3, 17, 1)), taps=None),
            crop(),
        )


def test_networks_of_other_input_sizes_are_refused():
    other = dataclasses.replace(model(), input_size=(64, 64))
    with pytest.raises(ValueError, match=r"A takes an input of 96x128 px \(w x h\) and B one of 64x64"):
        compare_port(model(), other, crop())
    with pytest.raises(ValueError, match="expected at least one sample"):
        compare_port(model(), model(), [])
    with pytest.raises(ValueError, match="expected a tolerance above 0"):
        compare_port(model(), model(), crop(), tolerance=0)


class Reused(nn.Module):
    """One activation used twice, as in a residual block: before and after the second convolution."""

    def __init__(self, scale):
        super().__init__()
        self.first, self.second, self.act = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3), nn.ReLU()
        torch.manual_seed(0)
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, std=0.3)
            nn.init.ones_(layer.bias)
        with torch.no_grad():
            self.second.weight.mul_(scale)

    def forward(self, pixels):
        return self.act(self.second(self.act(self.first(pixels))))


def test_a_module_that_is_used_twice_stands_where_it_is_last_used():
    def made(scale):
        codec = dataclasses.replace(model().codec, output_size=(124, 92))
        return TopDown(Reused(scale), SKELETONS["coco-17"], codec)

    report = compare_port(made(1.0), made(2.0), crop())
    assert report.first_difference == "second"
    assert [tap.name for tap in report.taps] == [INPUT, "first", "second", "act", "output heatmaps"]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_program_without_parts_is_compared_at_its_input_and_output(tmp_path):
    network = random_vitpose()
    torch.jit.save(torch.jit.trace(network, torch.zeros(1, 3, 128, 96)), str(tmp_path / "program.pt"))
    program = open_model(tmp_path / "program.pt", family="torchscript").model
    report = compare_port(model(), program, crop())
    assert [tap.name for tap in report.taps] == [INPUT, "output heatmaps"]
    assert report.first_difference is None
    assert "weights were not compared" in report.summary()
    other = compare_port(model(other_eps), program, crop())
    assert other.first_difference == "output heatmaps"


def test_any_pose_model_can_be_compared():
    a, b = ToyHeatmaps(), ToyHeatmaps()
    with torch.no_grad():
        b.module[0].weight.mul_(2)
    report = compare_port(a, b, samples(a))
    assert report.first_difference == "0"
    assert named_places(a) == {"0": "0", "1": "1", "blur": "0", "head": "1"}
    assert report.to_json()["first_difference"] == "0"
    assert {"name", "max_abs", "relative"} <= report.to_json()["taps"][0].keys()
    assert len(report.plot().data) == 1
    assert [row["verdict"] for row in report.table()][:2] == ["agrees", "differs"]
