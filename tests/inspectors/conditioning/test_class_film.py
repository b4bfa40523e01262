"""A class-conditioned FiLM network gets every conditioning inspector, the clinic and the ablation."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.diagnosis.cases_own_networks import CLIPPING, masked, mixing
from tests.diagnosis.own_networks import edited
from tests.inspectors.conditioning.networks import looked
from workbench.core import NotAvailable
from workbench.core.run import run
from workbench.data import builtin
from workbench.inspectors import ALL, folder_of, get
from workbench.inspectors.conditioning.ablation import ablation, predicted, ranking
from workbench.inspectors.conditioning.clinic import clinic, document
from workbench.inspectors.conditioning.findings import (
    CLIPPED,
    CONDITION_SKIPPED,
    MASKED,
    ONE_VECTOR,
    PARTED,
    SHUT,
    UNTRAINED,
)
from workbench.models import open_model
from workbench.models.adapter import imported
from workbench.models.conditioning import ByTaps, with_film_tap

NAMES = [name for name in ALL if folder_of(name) == "conditioning"]
PLANTED = {
    "": (),
    "skipped in inference": (CONDITION_SKIPPED,),
    "one class in inference": (PARTED,),
    "clipped": (CLIPPED,),
    "constant": (ONE_VECTOR,),
    "first class": (ONE_VECTOR,),
    "gate at 0": (SHUT,),
}


@pytest.fixture(scope="module")
def adapter(root):
    return root / "tests/adapters/class_film.py"


def model_with(adapter, defect=""):
    module = imported(adapter)
    return module.load(None, "cpu", module.ClassFilm(defect))


def test_the_adapter_has_at_most_25_lines(adapter):
    assert len([line for line in adapter.read_text().splitlines() if line.strip()]) <= 25


@pytest.mark.parametrize("name", NAMES)
def test_every_inspector_answers(adapter, name):
    inspector = get(name)
    report = inspector.compute(looked(open_model(None, adapter=adapter).model), inspector.params())
    assert report.summary()
    assert report.plot().data
    json.dumps(report.to_json(), allow_nan=False)


@pytest.mark.parametrize("defect", PLANTED)
def test_a_planted_defect_is_named_and_a_healthy_network_is_not_accused(adapter, defect):
    report = clinic(looked(model_with(adapter, defect)))
    assert report.names == PLANTED[defect]
    assert all(f.evidence.count("on the same input") <= 1 for f in report.findings)
    words = json.dumps(report.to_json(), ensure_ascii=False)
    assert "your text" not in words
    assert set(report.missing) <= {"text"}


def test_categories_with_equal_vectors_are_not_said_to_get_that_of_the_batchs_first(adapter):
    said = {}
    for name in ("equal", "first class"):
        model = model_with(adapter, "" if name == "equal" else name)
        if name == "equal":
            with torch.no_grad():
                model.module.block.embedding.weight[:] = model.module.block.embedding.weight[:1].clone()
        (found,) = clinic(looked(model)).findings
        assert found.cause == ONE_VECTOR
        said[name] = found.evidence
    assert said["first class"].startswith("every image gets the condition of the batch's first")
    assert said["equal"].startswith("γ at block.film is the same for")


def test_scales_of_exactly_0_or_1_are_not_called_clipped_where_the_last_layer_is_linear(adapter):
    model = model_with(adapter)
    block = model.module.block
    with torch.no_grad():
        block.embedding.weight.copy_((torch.arange(10)[:, None] + torch.arange(8)) % 2)
        block.film[0].weight.zero_(), block.film[0].bias.zero_()
        block.film[0].weight[:8, 0] = block.film[0].weight[8:16, 1] = 1
    report = clinic(looked(model))
    assert CLIPPED not in report.names
    assert "clips" not in report.film.summary()


@pytest.mark.parametrize(
    ("edits", "names"),
    [
        ((CLIPPING, ("else nn.Sequential(layer)", "else Clipped(layer)")), (CLIPPED,)),
        ((masked(0.3),), (MASKED,)),
        (mixing("nn.GroupNorm(1, K), ", 1.0), (UNTRAINED,)),
        (mixing("", 1.0), (UNTRAINED,)),
    ],
    ids=["clipped in forward", "masked", "untrained, with a norm", "untrained, without norms"],
)
def test_a_refiner_or_a_clipping_of_another_kind_is_named_and_nothing_beside_it(
    adapter, tmp_path, edits, names
):
    name, source = f"net_{abs(hash(tmp_path)):x}", adapter.parent / "class_film_net.py"
    (tmp_path / f"{name}.py").write_text(edited(source.read_text(), edits))
    (tmp_path / "film.py").write_text(adapter.read_text().replace("class_film_net", name))
    report = clinic(looked(open_model(None, adapter=tmp_path / "film.py").model))
    assert report.names == names
    if UNTRAINED in names:
        assert "no gradient of the training loss reaches it" in report.findings[0].evidence


def test_the_evidence_has_the_figures_of_the_network(adapter):
    model = model_with(adapter)
    report = clinic(looked(model))
    layer = report.film.layers[0]
    seen = looked(model)
    film = run(model, seen.samples, record=["block.film"]).activation("block.film").numpy()
    assert np.allclose(layer.gamma, film[:, :16])
    assert layer.name == "block.film"
    assert layer.gate == pytest.approx(0.5)
    assert report.gradients.parts[0] in ("body", "block", "block.conv")
    assert report.gradients.reaches("block.film")
    assert report.effect.changes("predict")
    assert "<h1>" in document(report)


def test_the_ablation_takes_the_condition_away_and_ranks_the_poses(adapter):
    pose_set = builtin("scenes-val")
    found = predicted(model_with(adapter), pose_set, pose_set.labelled[:4])
    report = ablation(found, "class film")
    assert [v.name for v in found.variants] == [
        "as it is", "training path", "without refiner", "without condition", "zero condition",
        "shuffled condition", "noise for condition",
    ]  # fmt: skip
    assert report.of("training path").interval.delta == 0
    assert ranking(found, pose_set).given_back is not None


def test_without_the_condition_scales_are_1_and_shifts_0(adapter):
    model = model_with(adapter)
    batch = model.prepare(looked(model).samples)
    plain = model.predict_pass(model.with_condition(batch, None)).outputs.heatmaps
    shut = model_with(adapter, "gate at 0")
    assert np.allclose(plain.detach().numpy(), shut.predict_pass(batch).outputs.heatmaps.detach().numpy())


def test_the_film_tap_alone_is_enough_for_the_clinic(adapter, workbench):
    inner = model_with(adapter).model
    with pytest.raises(NotAvailable, match="--film-tap"):
        clinic(looked(inner))
    report = clinic(looked(with_film_tap(inner, "block.film")))
    assert report.names == ()
    assert "before and after" in report.missing["features"]
    with pytest.raises(KeyError, match=r"nearest: block\.film"):
        ByTaps(inner, "block.flim")


def test_the_verbs_answer(adapter, workbench):
    for verb in (("clinic", "--limit", 2), ("film",), ("paths",)):
        code, out, err = workbench(*verb, "--adapter", adapter, "--samples", 2, "--json")
        assert code == 0, err
        assert json.loads(out)["title" if verb[0] != "film" else "layers"]
    code, out, err = workbench("ablate", "conditioning", "--adapter", adapter, "--limit", 2, "--json")
    assert code == 0, err
    assert "without condition" in [row["name"] for row in json.loads(out)["variants"]]
