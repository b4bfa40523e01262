"""Teaching a sequence: what is read in training, what in use, and the faults a bisection finds."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

from tests.inspectors.sequence.counting import Counting, line
from workbench.core import NotAvailable, Outputs, Sample, Skeleton
from workbench.inspectors.sequence.schedules import compare
from workbench.models.cape.model import new_cape
from workbench.models.cape.network import Size
from workbench.training.bisection import evidence, observed
from workbench.training.faults import SEQUENCE_PLANTED, planted
from workbench.training.model_state import ModelState
from workbench.training.overfit import overfit
from workbench.training.plan import Plan
from workbench.training.sequence_checks import LEAK_NAME, error_gain, growth_text, leak_of, support_moves
from workbench.training.sequences import TaughtSequence, Teaching, taught, trainable
from workbench.training.settings import Settings, default_settings
from workbench.training.switches import SEQUENCE_SWITCHES
from workbench.training.trainer import Trainer

DEFECTS = {"support mask": "support_mask_inverted", "support": "support_discarded"}
SMALL = Size((32, 32), bins=6, width=16, heads=2, layers=2, support_layers=1, steps=12)


def dots():
    random = np.random.default_rng(0)
    truth = np.concatenate([random.uniform(20, 60, (5, 2)), np.full((5, 1), 2.0)], 1)
    return Sample(random.integers(0, 255, (80, 80, 3), np.uint8), (10, 10, 70, 70), truth, key="dots")


def cape():
    return new_cape(Skeleton("five", tuple("abcde"), ((0, 1), (1, 2))), SMALL)


def test_training_reads_the_truth_and_evaluation_its_own_answers():
    sequence = trainable(Counting(start=(0.5, 0.5)))
    batch = sequence.prepare([line()])
    sequence.module.train()
    forced = sequence.forward(batch).tokens["coordinates"][0, :, 0]
    sequence.module.eval()
    free = sequence.forward(batch).tokens["coordinates"][0, :, 0]
    assert forced.tolist() == pytest.approx([0.5, 0.4, 0.6, 0.8])
    assert free.tolist() == pytest.approx([0.5, 0.7, 0.9, 1.1])


def test_a_users_own_sequence_model_is_overfitted_with_no_loss_of_its_own():
    plan = Plan(Settings(steps=120, learning_rate=0.02, schedule="cosine"))
    report = overfit(Counting(start=(0.5, 0.5)), [line()], plan, bisect=False)
    assert report.verdict.learned


def test_a_shuffled_order_changes_no_answer_of_a_model_that_finds_each_by_its_support():
    model = cape()
    batch = model.prepare([dots()])
    torch.manual_seed(0)
    outputs = taught(model, batch, Teaching(shuffled=True))
    order = torch.Generator().manual_seed(0)
    permuted = torch.randperm(5, generator=order)
    anchors = model.module.decoder.anchors[:5].sigmoid()
    # First weights answer with the anchor of the step at which a keypoint came.
    assert torch.allclose(outputs.tokens["coordinates"][0][permuted], anchors, atol=1e-4)


def test_own_answers_are_read_more_and_more_often_and_a_resumed_run_goes_on_counting():
    settings = Settings(steps=8, measure_every=8)
    sequence = TaughtSequence(cape(), Teaching("linear", 4))
    trainer = Trainer(sequence, [dots()], settings)
    losses = [trainer.step()["loss"] for _ in range(4)]
    again = Trainer(TaughtSequence(cape(), Teaching("linear", 4)), [dots()], settings)
    for _ in range(2):
        again.step()
    state = copy.deepcopy(again.state())
    resumed = Trainer(TaughtSequence(cape(), Teaching("linear", 4)), [dots()], settings)
    resumed.restore(state)
    assert [resumed.step()["loss"] for _ in range(2)] == losses[2:]
    assert int(sequence.module.taught) == 4


@pytest.mark.parametrize("fault", SEQUENCE_PLANTED)
def test_a_planted_fault_is_present_and_its_switch_takes_it_away(fault):
    model = trainable(cape(), 10)
    plan = SEQUENCE_PLANTED[fault](Plan(), model)
    (switch,) = (s for s in SEQUENCE_SWITCHES if s.name == fault)
    assert switch.present(plan, model)
    switch.off(plan, model)
    assert not switch.present(plan, model)


def test_nothing_visible_is_one_sentence():
    blind = dataclasses.replace(dots(), truth=dots().truth * (1, 1, 0))
    with pytest.raises(ValueError, match="no keypoint is visible"):
        overfit(cape(), [blind], Plan(Settings(steps=1)))


class Closure(Counting):
    """As users write adapters: the network is called through a function of its own."""

    def __init__(self):
        super().__init__(start=(0.5, 0.5))
        self.module.register_buffer("taught", torch.zeros((), dtype=torch.long))
        inner = Counting()
        inner.module = self.module
        self.forward = lambda batch: inner.forward(batch)
        self.rollout = lambda batch, forced=0: inner.rollout(batch, 0)


def test_schedules_train_a_network_that_is_called_through_a_function_of_its_own():
    model = Closure()
    before = copy.deepcopy(model.module.state_dict())
    report = compare(model, [line()], Settings(steps=30, learning_rate=0.02), kinds=("teacher",))
    assert report.free[0][-1] > report.free[0][0]
    assert all(torch.equal(value, model.module.state_dict()[name]) for name, value in before.items())


def test_schedules_are_compared_from_the_same_weights():
    model = cape()
    before = copy.deepcopy(model.module.state_dict())
    report = compare(model, [dots()], Settings(steps=6), kinds=("teacher", "exponential"))
    assert all(torch.equal(value, model.module.state_dict()[name]) for name, value in before.items())
    assert list(dict.fromkeys(row["schedule"] for row in report.table())) == ["teacher", "exponential"]
    assert np.isfinite(report.loss).all()
    assert report.plot().to_dict()["data"]
    with pytest.raises(NotAvailable, match="taught"):
        compare(Counting(), [line()], Settings(steps=1))


@pytest.mark.long
def test_cape_learns_five_dots_with_the_settings_a_sequence_usually_learns_with():
    model = cape()
    settings = dataclasses.replace(default_settings(model), steps=150, learning_rate=5e-3, measure_every=150)
    report = overfit(model, [dots()], Plan(settings), bisect=False)
    assert report.verdict.pck == 1.0
    assert report.wrong == ""


def test_pck_is_measured_where_the_support_hides_a_keypoint():
    truth = dots().truth.copy()
    truth[3, 2] = 0
    row = Trainer(trainable(cape(), 4), [dataclasses.replace(dots(), truth=truth)], Settings(steps=4)).step()
    assert np.isfinite(row["pck"])


@pytest.mark.parametrize(
    ("fault", "message"), [("loss scale", "loss_coordinates"), ("pck coordinates", "says pck 1 ")]
)
def test_what_the_models_own_log_says_wrongly_is_told_and_its_switch_named(fault, message):
    model = trainable(cape(), 3)
    plan = planted(fault, Plan(Settings(steps=3, measure_every=1)), model)
    report = overfit(model, [dots()], plan)
    assert report.culprit == fault
    assert message in report.wrong
    assert report.to_json()["evidence"][-1]["culprit"] == fault
    row = report.rows[0]
    if fault == "loss scale":
        assert row["logged/loss_coordinates"] == pytest.approx(5 * row["measured/loss_coordinates"])


class Doubling(Counting):
    """Twice the last token: whatever was off before is twice as far off after."""

    def forward(self, batch):
        tokens = super().forward(batch).tokens["coordinates"]
        later = tokens[:, 1:] + batch.extra["given"][:, :-1]
        return Outputs(tokens={"coordinates": torch.cat([tokens[:, :1], later], 1)})


@pytest.mark.parametrize(("kind", "gain"), [(Counting, 1.0), (Doubling, 2.0)])
def test_the_gain_of_an_error_is_what_the_model_does_to_it(kind, gain):
    model = trainable(kind())
    found = error_gain(model, model.prepare([line()]))
    assert found == pytest.approx(gain, rel=1e-5)
    assert bool(growth_text(found)) == (gain > 1)


class Leaking(Counting):
    """A tenth of the token that has to be predicted is in the answer."""

    def forward(self, batch):
        tokens = super().forward(batch).tokens["coordinates"]
        return Outputs(tokens={"coordinates": 0.9 * tokens + 0.1 * batch.extra["given"]})


class Scoring(Leaking):
    def objective(self, outputs, batch):
        return {"loss": (outputs.tokens["coordinates"] - batch.extra["given"]).abs().mean()}


@pytest.mark.parametrize(("kind", "leak"), [(Counting, 0.0), (Doubling, 0.0), (Leaking, 0.1), (Scoring, 0.1)])
def test_a_step_that_reads_what_it_has_to_predict_is_evidence_with_an_own_objective_too(kind, leak):
    model = trainable(kind())
    assert leak_of(model, model.prepare([line()])) == pytest.approx(leak, rel=1e-3, abs=1e-9)
    seen = [one.name for one in observed(model, [line()], Plan(Settings(steps=1)), [])]
    assert (LEAK_NAME in seen) == (leak > 0)


@pytest.mark.parametrize("fault", ["support mask", pytest.param("support", marks=pytest.mark.long)])
def test_a_support_without_effect_is_seen_on_an_image_learned_by_heart_and_its_switch_named(fault):
    model = trainable(cape(), 30)
    plan = planted(fault, Plan(Settings(steps=30, learning_rate=1e-2)), model)
    first = ModelState(model)
    trainer = Trainer(model, [dots()], plan.settings)
    rows = [trainer.step() for _ in range(30)]
    assert support_moves(model, trainer.batch) == 0
    (seen,) = evidence(first, [dots()], plan, rows)
    assert seen.culprit == fault
    assert seen.mended == "the output follows the support"
    assert getattr(model.module.defects, DEFECTS[fault]), "the model is left as the attempt left it"


def test_a_support_that_is_read_is_no_evidence_of_anything():
    model = trainable(cape(), 30)
    first, trainer = ModelState(model), Trainer(model, [dots()], Settings(steps=30, learning_rate=1e-2))
    rows = [trainer.step() for _ in range(30)]
    assert support_moves(model, trainer.batch) > 0.001
    assert evidence(first, [dots()], Plan(trainer.settings), rows) == ()


def test_each_thing_that_a_log_says_wrongly_has_its_own_switch():
    model = trainable(cape(), 3)
    plan = Plan(Settings(steps=3, measure_every=1))
    for fault in ("loss scale", "pck coordinates"):
        plan = planted(fault, plan, model)
    first, trainer = ModelState(model), Trainer(model, [dots()], plan.settings)
    rows = [trainer.step() for _ in range(3)]
    named = [one.culprit for one in evidence(first, [dots()], plan, rows) if "its own log" in one.text]
    assert sorted(named) == ["loss scale", "pck coordinates"]


def test_a_users_sequence_model_has_the_switch_of_teacher_forcing():
    from tests.inspectors.sequence.telling import Telling, bent
    from workbench.training.plan import new_session
    from workbench.training.switches import cannot_switch, switches_of

    model = Telling()
    del model.module.taught  # it counts no steps itself
    taught = TaughtSequence(model)
    plan = Plan(Settings(steps=3, learning_rate=1e-3))
    (switch,) = [s for s in switches_of(taught, plan) if s.name == "teacher forcing"]
    session = new_session(taught, [bent()], switch.off(plan, taught))
    session.start()
    assert session.join(30)
    assert session.status().state == "finished", session.status().reason
    assert taught.teaching.sampling == "exponential"
    assert taught.count >= 3
    assert any("support" in one for one in cannot_switch(taught))
