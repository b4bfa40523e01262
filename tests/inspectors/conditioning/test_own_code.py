"""With the user's own modules the clinic measures what their two passes do, and takes nothing for granted."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.inspectors.conditioning.networks import looked
from tests.inspectors.conditioning.own_code import own_adapter, own_config
from tests.waiting import until
from workbench.core import Conditioned, NotAvailable
from workbench.data import builtin
from workbench.inspectors.conditioning import features_kept, film, paths, switches
from workbench.inspectors.conditioning.ablation import predicted
from workbench.inspectors.conditioning.clinic import clinic
from workbench.inspectors.conditioning.findings import ONE_VECTOR, PARTED, SKIPPED, UNREAD
from workbench.inspectors.conditioning.passes import in_mode
from workbench.models import open_model
from workbench.models.conditioning import with_film_tap
from workbench.text.vectors import builtin_text


def opened(folder, kind, monkeypatch, **options):
    monkeypatch.syspath_prepend(folder)
    file, config = own_config(folder, kind, **options)
    model = open_model(file, config=config).model
    assert isinstance(model, Conditioned)
    return model.reading(builtin_text())


@pytest.mark.parametrize(
    ("kind", "options", "names"),
    [
        ("published", {}, (SKIPPED,)),
        ("mended", {}, ()),
        ("mended", {"dropout": 0.3}, ()),
        ("published", {"forgiving": False}, (SKIPPED,)),
        ("mended", {"forgiving": False}, ()),
        ("half", {}, (PARTED,)),
        ("mended", {"read": False}, (UNREAD,)),
        ("published", {"read": False}, (UNREAD,)),
        ("mended", {"given": "torch.ones_like(text)"}, (ONE_VECTOR,)),
        ("published", {"given": "torch.ones_like(text)"}, (SKIPPED, ONE_VECTOR)),
    ],
    ids=[
        "skipped",
        "mended",
        "mended, random in training",
        "skipped, needs text",
        "needs text",
        "half the features",
        "unread",
        "skipped, unread",
        "the same whatever the text",
        "skipped, the same whatever the text",
    ],
)
def test_a_users_passes_are_measured_and_nothing_else_is_said(tmp_path, monkeypatch, kind, options, names):
    model = opened(tmp_path, kind, monkeypatch, **options)
    report = clinic(looked(model))
    assert report.names == names
    words = json.dumps(report.to_json(), ensure_ascii=False)
    assert "published" not in words
    assert all(not finding.assumption for finding in report.findings)
    assert "declares no refiner" in report.missing["scores"]
    assert "--film-tap" in report.missing["film"]


def test_paths_name_the_neck_that_predict_skips_and_text_effect_has_figures(tmp_path, monkeypatch):
    run = looked(opened(tmp_path, "published", monkeypatch))
    found = paths.compute(run, paths.Params())
    assert found.first_difference == "neck.mlp"
    assert found.skipped("neck.mlp")
    report = clinic(run)
    assert "training reaches neck.mlp, inference does not" in report.findings[0].evidence
    effect = report.effect
    assert effect.features[0] > 0.01
    assert effect.features[1] == 0
    assert effect.changes("training")
    assert not effect.changes("predict")


def test_film_reads_the_layer_that_was_named(tmp_path, monkeypatch):
    model = opened(tmp_path, "mended", monkeypatch)
    with pytest.raises(NotAvailable, match="--film-tap NAME"):
        film.compute(looked(model), film.Params())
    run = looked(with_film_tap(model, "neck.mlp"))
    (layer,) = film.compute(run, film.Params()).layers
    subject = run.batch.extra["subject"]
    with torch.no_grad():
        scale, shift = model.module.neck.mlp(subject).chunk(2, 1)
    assert np.allclose(layer.gamma, scale.numpy(), atol=1e-6)
    assert np.allclose(layer.beta, shift.numpy(), atol=1e-6)
    assert layer.row()["gate"] is None
    with pytest.raises(KeyError, match="no tap"):
        with_film_tap(model, "neck.nothing")


def test_what_is_predicted_and_evaluated_is_what_the_users_predict_gives(tmp_path, monkeypatch):
    model = opened(tmp_path, "mended", monkeypatch)
    run = looked(model)
    with torch.no_grad():
        text = run.batch.extra["subject"]
        x, _ = model.module.head(model.module.neck(model.module.backbone(run.batch.pixels), text))
    assert torch.allclose(run.outputs.simcc[0], x, atol=1e-5)
    assert "forward" not in vars(model.module.head)
    assert model.module.test_cfg["flip_test"] is True


def test_ablation_takes_the_text_from_the_users_code(tmp_path, monkeypatch):
    model = opened(tmp_path, "published", monkeypatch)
    pose_set = builtin("scenes-val")
    found = predicted(model, pose_set, pose_set.labelled[:2])
    assert [v.name for v in found.variants] == [
        "as it is", "training path", "without text", "zero text", "shuffled text", "noise for text"
    ]  # fmt: skip
    assert {v.against for v in found.variants if v.kind == "text"} == {"training path"}
    # Without the text the user's training pass is what predict does.
    ways = found.predictions
    assert np.allclose(ways["without text"].keypoints, ways["as it is"].keypoints)
    assert not np.allclose(ways["training path"].keypoints, ways["as it is"].keypoints)


def test_a_code_without_text_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file, config = own_config(tmp_path, "mended")
    model = open_model(file, config=config).model
    assert model.text is None
    with pytest.raises(NotAvailable, match="the config names none"):
        clinic(looked_without(model))


def looked_without(model):
    from tests.inspectors.conditioning.networks import scenes
    from workbench.core import Run

    batch = model.prepare(scenes(1))
    return Run(model, scenes(1), batch, None, (), {}, "no text")


@pytest.mark.parametrize("mended", [True, False])
def test_an_adapter_that_declares_the_capability_is_measured(tmp_path, mended, workbench):
    adapter = own_adapter(tmp_path, mended)
    report = clinic(looked(open_model(None, adapter=adapter).model))
    assert (SKIPPED in report.names) is not mended
    assert report.film is not None
    code, out, err = workbench("clinic", "--adapter", adapter, "--samples", 2, "--limit", 2, "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert ("neck skipped in predict" in [f["name"] for f in facts["findings"]]) is not mended
    assert facts["film"]["layers"][0]["name"] == "neck"
    for verb in (("paths",), ("film",)):
        code, out, err = workbench(*verb, "--adapter", adapter, "--samples", 2, "--json")
        assert code == 0, err


def test_switches_answer_for_own_code_and_missing_taps_are_named(tmp_path):
    run = looked(open_model(None, adapter=own_adapter(tmp_path, True)).model)
    rows = {row["name"]: row for row in switches.compute(run, switches.Params()).table()}
    assert rows["training path"]["score"] == rows["training path"]["score_against"]
    assert rows["without text"]["kind"] == "text"
    with pytest.raises(NotAvailable, match="`before` and `after`"):
        features_kept.compute(run, features_kept.Params())


def test_only_the_users_parts_are_in_training_mode_and_statistics_stay():
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.drop = torch.nn.BatchNorm1d(2), torch.nn.Dropout()
            self.register_buffer("seen", torch.zeros(1))

    net = Own().eval()
    with in_mode(net, "training"):
        assert (net.training, net.norm.training, net.drop.training) == (True, False, False)
        net.seen += 1
    assert not net.training
    assert net.seen.item() == 0


def test_the_page_measures_an_adapters_passes_too(tmp_path):

    from apps.pages.conditioning.examination import Examination, state_of
    from apps.pages.conditioning.page import verdict_html
    from apps.server.context import Context
    from apps.server.settings import Settings

    (tmp_path / "run").mkdir()
    torch.save(
        {"state_dict": {"a.weight": torch.zeros(1)}, "meta": {"epoch": 1}}, tmp_path / "run/epoch_1.pth"
    )
    context = Context.of(Settings(tmp_path, cache=tmp_path / "cache", adapter=own_adapter(tmp_path, False)))
    examination = Examination(context)
    state = state_of(context, None, None, "scenes-val", 2, None)
    job = examination.start(state)
    until(lambda: not job.alive)
    assert job.state == "done", job.error
    report = examination.complete(state)
    assert SKIPPED in report.names
    assert SKIPPED in verdict_html(report, whole=True)
    assert report.ablation is not None
