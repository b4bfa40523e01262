"""Cape: tokens by hand, one path for both modes, defects off by default and visible when on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from workbench.core import DecodeOptions, Sample, Skeleton
from workbench.core.capabilities import Reinitialises
from workbench.core.run import run
from workbench.inspectors.sequence import coordinates, support
from workbench.inspectors.sequence.rollout import SequenceModel
from workbench.models import open_model
from workbench.models.cape.layers import BilinearTokens, Vocabulary, checked_mask
from workbench.models.cape.model import new_cape, write
from workbench.models.cape.network import Defects, Size
from workbench.training.measures import pck

SMALL = Size((32, 32), bins=6, width=16, heads=2, layers=2, support_layers=1, steps=12)
SKELETON = Skeleton("five", tuple("abcde"), ((0, 1), (1, 2), (2, 3), (3, 4)))


def sample(seed=0, hidden=()):
    random = np.random.default_rng(seed)
    truth = np.concatenate([random.uniform(20, 60, (5, 2)), np.full((5, 1), 2.0)], 1)
    truth[list(hidden), 2] = 0
    return Sample(random.integers(0, 255, (80, 80, 3), np.uint8), (10, 10, 70, 70), truth, key=f"s{seed}")


def cape(**changes):
    model = new_cape(SKELETON, dataclasses.replace(SMALL, **changes))
    torch.manual_seed(1)
    for head in model.module.decoder.offsets:
        torch.nn.init.normal_(head[2].weight, std=0.5)  # first weights answer with the anchors alone
    return model


def test_cells_and_special_tokens_have_the_rows_of_the_source():
    words = Vocabulary(44)
    assert (words.begin, words.end, words.separator, words.padding) == (1936, 1937, 1938, 1939)
    assert words.cell(torch.tensor([[0.5, 0.25]])).item() == 21 * 44 + 10
    assert words.cell(torch.tensor([[1.0, 1.0]])).item() == 1935


def test_an_embedded_point_blends_its_four_cells_bilinearly():
    tokens = BilinearTokens(Vocabulary(3), 4)
    rows = tokens.rows.weight.detach()
    # x = .375 lies at .75 between columns 0 and 1, y = .25 at .5 between rows 0 and 1.
    found = tokens(torch.tensor([[[0.375, 0.25]]]))[0, 0].detach()
    by_hand = 0.125 * rows[0] + 0.375 * rows[3] + 0.125 * rows[1] + 0.375 * rows[4]
    assert torch.allclose(found, by_hand, atol=1e-6)
    assert torch.equal(tokens(torch.full((1, 1, 2), torch.nan))[0, 0], tokens.rows.weight[12])


@pytest.mark.parametrize("hidden", [(), (1, 3)])
@pytest.mark.parametrize("image", [False, True])
def test_a_cached_rollout_equals_re_running_its_prefix(hidden, image):
    model = cape(support_image=image)
    assert isinstance(model, SequenceModel)
    batch = model.prepare([sample(0, hidden), sample(1, hidden)])
    with torch.no_grad():
        for forced in (0, 2, 5):
            free = model.rollout(batch, forced).tokens
            again = model.forward(
                dataclasses.replace(batch, extra={**batch.extra, "given": free["read"]})
            ).tokens
            for name in ("layers", "types", "type_layers", "attention_image"):
                assert (free[name] - again[name]).abs().max() < 1e-5


def test_with_every_token_forced_a_rollout_is_the_forward_pass():
    model = cape()
    batch = model.prepare([sample()])
    with torch.no_grad():
        difference = (
            model.rollout(batch, 5).tokens["coordinates"] - model.forward(batch).tokens["coordinates"]
        )
    assert difference.abs().max() < 1e-5


def test_a_step_does_not_see_its_own_or_later_tokens():
    model = cape()
    batch = model.prepare([sample()])
    given = batch.extra["given"].clone()
    given[:, 2:] = 0.1
    with torch.no_grad():
        one = model.forward(batch).tokens["coordinates"]
        two = model.forward(dataclasses.replace(batch, extra={**batch.extra, "given": given})).tokens[
            "coordinates"
        ]
    assert torch.equal(one[:, :3], two[:, :3])


def test_true_tokens_decode_to_the_truth():
    model, truth = cape(), sample()
    batch = model.prepare([truth])
    outputs = model.forward(batch)
    given = dataclasses.replace(outputs, tokens={**outputs.tokens, "coordinates": batch.extra["given"]})
    found = model.decode(given, batch, DecodeOptions())[0].keypoints
    assert found == pytest.approx(truth.truth[:, :2], abs=1e-3)
    assert pck(model.decode(given, batch, DecodeOptions()), [truth], 0.05) == 1


def test_an_inverted_mask_makes_an_all_visible_support_say_nothing():
    model = cape()
    extra = model.prepare([sample()]).extra
    arguments = (extra["support"], extra["support_visible"], extra["support_graph"])
    encode = model.module.support_encoder
    assert encode(*arguments).abs().max() > 0.1
    assert encode(*arguments, mask_inverted=True).abs().max() == 0
    with pytest.raises(ValueError, match="boolean mask"):
        checked_mask(extra["support_visible"].float(), "support")


@pytest.mark.parametrize("defect", ["support_mask_inverted", "support_discarded"])
def test_a_support_that_is_not_read_is_found_out(defect):
    model = cape()
    healthy = support.compute(run(model, [sample()]), support.Params())
    model.module.defects = Defects(**{defect: True})
    spoilt = support.compute(run(model, [sample()]), support.Params(), [sample(4)])
    assert healthy.verdict != "not read"
    assert spoilt.verdict == "not read"
    assert set(spoilt.by_kind) == {"real", "other", "shuffled", "zero", "mean"}


def test_metric_and_loss_in_wrong_units_are_found_out():
    model = cape()
    assert coordinates.compute(run(model, [sample()]), coordinates.Params()).agree
    model.module.defects = Defects(logged_loss_scaled=True)
    wrong = [
        c for c in coordinates.compute(run(model, [sample()]), coordinates.Params()).claims if not c.agrees
    ]
    assert wrong[0].found == pytest.approx(5 * wrong[0].expected, rel=1e-3)
    model.module.defects = Defects(pck_in_input_pixels=True)
    report = coordinates.compute(run(model, [sample()]), coordinates.Params())
    assert "same pixels" in report.summary()


def test_all_defects_are_off_unless_asked_for():
    assert Defects().names() == ()
    assert new_cape(SKELETON, SMALL).module.defects == Defects()


def test_a_written_model_opens_again_as_it_was(tmp_path):
    model = cape()
    write(model, tmp_path / "epoch_3.pth", 3)
    opened = open_model(tmp_path / "epoch_3.pth")
    assert (opened.family, opened.loaded_fraction, opened.checkpoint.epoch) == ("cape", 1.0, 3)
    one, two = (run(m, [sample()]).keypoints for m in (model, opened.model))
    assert np.array_equal(one, two)
    assert opened.model.skeleton == SKELETON


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda s: dataclasses.replace(s, truth=s.truth[:3]), "has 3 keypoints"),
        (lambda s: dataclasses.replace(s, truth=s.truth * (1, 1, 0)), "no visible keypoint"),
        (lambda s: dataclasses.replace(s, truth=None), "no annotation"),
    ],
)
def test_a_support_that_cannot_be_one_is_one_sentence(spoil, said):
    with pytest.raises(ValueError, match=said):
        cape().supported_by([spoil(sample())])
    with pytest.raises(ValueError, match=said):
        cape().prepare([spoil(sample())])


def test_a_query_of_another_category_and_too_long_sequences_are_refused():
    with pytest.raises(ValueError, match="the support 5"):
        cape().supported_by([sample(1)]).prepare([dataclasses.replace(sample(), truth=sample().truth[:3])])
    with pytest.raises(ValueError, match="12 steps"):
        new_cape(Skeleton("long", tuple(map(str, range(12)))), SMALL)
    with pytest.raises(ValueError, match="forced tokens"):
        cape().rollout(cape().prepare([sample()]), 6)
    with pytest.raises(ValueError, match="bins"):
        Size.of({"bins": "many"})


def test_a_checkpoint_tells_the_defects_of_the_code_that_trained_it(tmp_path):
    size = dataclasses.replace(SMALL)
    model = new_cape(SKELETON, size, defects=Defects(support_discarded=True, logged_loss_scaled=True))
    write(model, tmp_path / "epoch_1.pth", 1)
    assert open_model(tmp_path / "epoch_1.pth").model.module.defects == model.module.defects
    content = torch.load(tmp_path / "epoch_1.pth", weights_only=False)
    content["meta"]["cape"]["defects"] = ["gremlin"]
    torch.save(content, tmp_path / "epoch_2.pth")
    with pytest.raises(ValueError, match=r"expected defects among .* has 'gremlin'"):
        open_model(tmp_path / "epoch_2.pth")


def test_the_logged_pck_asks_only_for_what_the_support_shows():
    from workbench.models.cape.model import logged_pck

    query = sample()
    hidden = query.truth.copy()
    hidden[0, 2] = 0
    batch = cape().supported_by([dataclasses.replace(sample(1), truth=hidden)]).prepare([query])
    points = query.truth[:, :2].copy()
    points[0] += 1000
    assert logged_pck([points], batch, (64, 64)) == 1.0
    points[1] += 1000
    assert logged_pck([points], batch, (64, 64)) == pytest.approx(1 - 1 / (len(points) - 1))


def test_the_same_network_untrained_has_its_size_and_defects_and_other_weights():
    model = new_cape(SKELETON, SMALL, seed=1, defects=Defects(support_discarded=True))
    again = model.untrained(seed=2)
    assert isinstance(model, Reinitialises)
    assert (again.module.size, again.module.defects) == (model.module.size, model.module.defects)
    pairs = zip(model.module.parameters(), again.module.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
    same = zip(model.untrained(1).module.parameters(), model.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
