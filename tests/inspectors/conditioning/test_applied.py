"""How γ and β are applied is measured at the features; the gradient of their layer and their order, too."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.inspectors.conditioning.networks import looked
from workbench.core import Codec, Outputs
from workbench.inspectors.conditioning.applied import Applied, applied
from workbench.inspectors.conditioning.clinic import clinic
from workbench.inspectors.conditioning.evidence import exchanged_halves
from workbench.inspectors.conditioning.findings import DETACHED, HALVES, IGNORED, SATURATED, SHUT
from workbench.models import TopDown
from workbench.models.adapter import imported
from workbench.models.conditioning import ByTaps
from workbench.models.randomness import directions_like
from workbench.skeletons import SKELETONS
from workbench.training.objectives import target_of

MIXED = "changed = scale[..., None, None] * entering + shift[..., None, None]"


@pytest.fixture(scope="module")
def folder(root):
    return root / "tests/adapters"


def model_of(folder, tmp_path, *edits, alone=False):
    """The class FiLM network with its source edited; `alone` declares the tap of γ and β and nothing else."""
    source = (folder / "class_film_net.py").read_text()
    for old, new in edits:
        assert old in source
        source = source.replace(old, new)
    name = f"net_of_{abs(hash(tmp_path)):x}"
    (tmp_path / f"{name}.py").write_text(source)
    (tmp_path / "film.py").write_text((folder / "class_film.py").read_text().replace("class_film_net", name))
    model = imported(tmp_path / "film.py").load(None, "cpu")
    return ByTaps(model.model, "block.film") if alone else dataclasses.replace(model, refiner=None)


def features(seed=0):
    rng = np.random.default_rng(seed)
    gamma, beta = rng.normal(1, 0.5, (3, 4)), rng.normal(0, 0.5, (3, 4))
    return gamma.astype(np.float32), beta.astype(np.float32), rng.normal(size=(3, 4, 5, 6)).astype(np.float32)


@pytest.mark.parametrize(
    ("activation", "by_hand"),
    [
        ("", lambda g: g),
        ("1 + γ", lambda g: 1 + g),
        ("sigmoid(γ)", lambda g: 1 / (1 + np.exp(-g))),
        ("tanh(γ)", np.tanh),
        ("exp(γ)", np.exp),
    ],
)
@pytest.mark.parametrize("exchanged", [False, True])
@pytest.mark.parametrize("gate", [np.nan, 0.3])
def test_order_activation_and_gate_are_those_that_give_the_features(activation, by_hand, exchanged, gate):
    gamma, beta, before = features()
    share = 1.0 if np.isnan(gate) else gate
    scale, shift = (beta, gamma) if exchanged else (gamma, beta)
    whole = by_hand(scale)[..., None, None] * before + shift[..., None, None]
    found = applied(Applied(gamma, beta, gate), before, share * whole + (1 - share) * before)
    assert (found.exchanged, found.activation) == (exchanged, activation)
    assert np.allclose(found.gamma, by_hand(scale), atol=1e-6)
    assert np.array_equal(found.beta, shift)


def test_a_gate_behind_an_activation_of_its_own_has_the_share_that_is_measured():
    """A logit that is named as the gate is no share: at -14 a sigmoid lets 8.3e-7 through."""
    gamma, beta, before = features()
    whole = gamma[..., None, None] * before + beta[..., None, None]
    found = applied(Applied(gamma, beta, 0.5), before, 0.25 * whole + 0.75 * before)
    assert found.gate == pytest.approx(0.25, abs=1e-4)
    assert not found.text


@pytest.mark.parametrize("kind", ["normalised", "random", "another shape"])
def test_what_is_explained_by_no_way_stays_as_declared(kind):
    gamma, beta, before = features()
    normal = (before - before.mean((2, 3), keepdims=True)) / before.std((2, 3), keepdims=True)
    after = {
        "normalised": gamma[..., None, None] * normal + beta[..., None, None],
        "random": features(1)[2],
        "another shape": before[:, :, :2],
    }[kind]
    declared = Applied(gamma, beta, np.nan)
    assert applied(declared, before, after) is declared


DETACHING = (MIXED, "scale, shift = scale.detach(), shift.detach()\n        " + MIXED)
SIGMOID = (MIXED, MIXED.replace("scale[", "scale.sigmoid()["))
CLOSED = (
    ("self.gate * changed", "self.gate.sigmoid() * changed"),
    ("(1 - self.gate)", "(1 - self.gate.sigmoid())"),
)


@pytest.mark.parametrize("alone", [False, True])
def test_a_detached_layer_is_named_and_one_that_learns_is_not(folder, tmp_path, alone):
    report = clinic(looked(model_of(folder, tmp_path, DETACHING, alone=alone), 4))
    assert report.names == (DETACHED,)
    assert "block.film is exactly 0" in report.findings[0].evidence


def test_an_embedding_alone_that_is_detached_is_named_by_itself(folder, tmp_path):
    edit = ("self.film(self.embedding(classes))", "self.film(self.embedding(classes).detach())")
    (found,) = clinic(looked(model_of(folder, tmp_path, edit), 4)).findings
    assert found.cause == DETACHED
    assert "at block.embedding is exactly 0" in found.evidence


def test_a_saturated_sigmoid_is_named_with_what_is_left_and_a_steep_one_is_not(folder, tmp_path):
    saturating = ('(1.3 if defect == "constant" else 1.0)', "40.0")
    (found,) = clinic(looked(model_of(folder, tmp_path, SIGMOID, saturating), 4)).findings
    assert found.cause == SATURATED
    assert "sigmoid(γ)" in found.evidence
    steep = clinic(looked(model_of(folder, tmp_path, SIGMOID), 4))
    assert steep.names == ()
    assert steep.film is not None
    layer = steep.film.layers[0]
    assert 0 < layer.gamma.min() < layer.gamma.max() < 1
    assert "multiplied by sigmoid(γ)" in steep.film.summary()


@pytest.mark.parametrize("alone", [False, True])
def test_a_gate_behind_a_sigmoid_that_is_closed_is_named(folder, tmp_path, alone):
    shut = ('torch.tensor(0.0 if defect == "gate at 0" else 0.5)', "torch.tensor(-14.0)")
    (found,) = clinic(looked(model_of(folder, tmp_path, *CLOSED, shut, alone=alone), 4)).findings
    assert found.cause == SHUT
    assert "first step" not in found.evidence


def test_an_open_gate_behind_a_sigmoid_is_healthy_and_has_its_own_share(folder, tmp_path):
    report = clinic(looked(model_of(folder, tmp_path, *CLOSED), 4))
    assert report.names == ()
    assert report.film is not None
    assert report.film.layers[0].gate == pytest.approx(1 / (1 + np.exp(-0.5)), abs=1e-4)


def test_a_condition_that_is_added_alone_is_healthy(folder, tmp_path):
    """The scales are 1 for every image, the shifts are each image's own."""
    added = (MIXED, "changed = entering + shift[..., None, None]")
    no_scales = (
        "layer.bias[:CHANNELS], layer",
        "layer.weight[:CHANNELS] = 0.0\n            layer.bias[:CHANNELS], layer",
    )
    assert clinic(looked(model_of(folder, tmp_path, added, no_scales), 4)).names == ()


def test_a_start_at_the_identity_is_said_to_look_the_same(folder, tmp_path):
    zero = ('layer.weight.normal_(std=0.0 if defect == "constant" else 0.5)', "layer.weight.zero_()")
    no_shift = ("else 1.0), 0.1", "else 1.0), 0.0")
    (found,) = clinic(looked(model_of(folder, tmp_path, zero, no_shift), 4)).findings
    assert found.cause == IGNORED
    assert "looks the same before its first step" in found.evidence


CODEC = Codec("heatmap", (64, 64), (16, 16), sigma=(2.0, 2.0), decoder="argmax")


class Painter(torch.nn.Module):
    """Multiplies maps that are right by one half of what its layer outputs, and adds the other."""

    def __init__(self, exchanged: bool) -> None:
        super().__init__()
        self.film, self.exchanged = torch.nn.Linear(1, 34), exchanged
        with torch.no_grad():
            self.film.weight.zero_()
            self.film.bias[:17], self.film.bias[17:] = 1.0, 0.0

    def forward(self, maps):
        scale, shift = self.film(torch.ones(len(maps), 1)).chunk(2, 1)
        if self.exchanged:
            scale, shift = shift, scale
        return scale[..., None, None] * maps + shift[..., None, None]


class Painted(TopDown):
    def forward(self, batch):
        inputs = [np.linalg.inv(np.vstack([one, [0, 0, 1]])) for one in batch.to_image]
        truth = np.stack([s.truth for s in batch.samples if s.truth is not None])
        points = np.stack(
            [t[:, :2] @ a[:2, :2].T + a[:2, 2] for t, a in zip(truth, inputs, strict=True)]
        )  # fmt: skip
        maps = target_of(CODEC, points, truth[..., 2] > 0).heatmaps
        assert maps is not None
        return Outputs(heatmaps=self.module(maps.float()))


@pytest.mark.parametrize("wrong", [False, True])
def test_exchanged_halves_are_named_where_the_exchange_brings_keypoints_to_their_labels(wrong):
    model = ByTaps(Painted(Painter(wrong).eval(), SKELETONS["ap10k-17"], CODEC), "film")
    run = looked(model, 4)
    found = exchanged_halves(run)
    assert found is not None
    assert found.better is wrong
    near, far = (found.exchanged, found.own) if wrong else (found.own, found.exchanged)
    assert near < 0.05 < far
    assert (HALVES in clinic(run).names) is wrong


def test_random_vectors_for_zeros_alone_are_no_zeros():
    zeros, some = torch.zeros(2, 3), torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert torch.allclose(directions_like(zeros, 0).norm(dim=-1), torch.ones(2))
    assert torch.allclose(directions_like(some, 0).norm(dim=-1), torch.tensor([0.0, 5.0]))
