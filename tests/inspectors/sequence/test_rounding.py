"""A free-running answer that turns on the last digits of the input is told; healthy models are not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.inspectors.sequence.counting import Counting, line
from tests.inspectors.sequence.telling import Telling, bent
from workbench.core import Outputs
from workbench.core.run import run
from workbench.inspectors.sequence import corruption, forced_and_free, lab


class OnTheEdge(Counting):
    """The stride hangs on whether the picture's mean is above a number that it is about equal to.

    edge: how far above, relatively.
    gain: of what the picture's mean adds to every answer.
    """

    def __init__(self, edge=0.0, gain=0.0):
        super().__init__()
        self.edge, self.gain = edge, gain

    def prepare(self, samples):
        return dataclasses.replace(
            super().prepare(samples), pixels=torch.full((len(samples), 3, 101, 101), 0.5)
        )

    def rollout(self, batch, forced=0):
        points = super().rollout(batch, forced).tokens["coordinates"]
        seen = batch.pixels.double().mean((1, 2, 3))
        turned = (seen < 0.5 * (1 - self.edge)).float()[:, None, None] * torch.tensor([0.0, 0.2])
        steps = torch.arange(points.shape[1])[None, :, None]
        return Outputs(
            tokens={"coordinates": points + steps * turned + self.gain * (seen[:, None, None] - 0.5)}
        )


def test_an_answer_that_turns_on_rounding_is_reported():
    report = lab.compute(run(OnTheEdge(), [line()]))
    steps = report.steps
    # The step's 0.2 of the picture three times over.
    assert steps.rounding.max() == pytest.approx(0.6, abs=1e-3)
    assert steps.rounding[0, 0] < 1e-5
    for text in (report.summary(), steps.summary()):
        assert "results depend on rounding: a change of the input by 1e-06 moves d by 0.60 of the box" in text
        assert "(3 of 4 keypoints" in text
    assert report.to_json()["moved_by_rounding"] == pytest.approx(0.6, abs=1e-3)


@pytest.mark.parametrize(
    ("model", "samples"),
    [
        (Counting(), [line()]),
        (OnTheEdge(edge=1e-3), [line()]),
        (OnTheEdge(edge=1e-3, gain=50.0), [line()]),
        (Telling(), [bent(), bent(4)]),
    ],
)
def test_healthy_models_have_no_such_sentence(model, samples):
    report = forced_and_free.compute(run(model, samples), forced_and_free.Params())
    assert report.rounding_warning == ""
    assert "rounding" not in report.summary()
    assert (report.rounding < 1e-3).all()


class Batched(Counting):
    """Free-running answers that another batch size moves, as rounding does."""

    def rollout(self, batch, forced=0):
        points = super().rollout(batch, forced).tokens["coordinates"]
        steps = torch.arange(points.shape[1])[None, :, None]
        return Outputs(tokens={"coordinates": points + 0.01 * len(batch) * (steps >= forced)})


def test_a_moved_token_is_compared_within_one_batch_and_rounding_is_reported_beside_it():
    report = corruption.compute(run(Batched(), [line()]), corruption.Params(token="a"))
    assert report.free[:, 1:] == pytest.approx(np.tile(report.sizes[:, None], 3), abs=1e-6)
    assert corruption.compute(run(OnTheEdge(edge=1e-3), [line()]), corruption.Params()).rounding < 1e-3
    moved = corruption.compute(run(OnTheEdge(), [line()]), corruption.Params(token="a"))
    assert moved.rounding == pytest.approx(0.6, abs=1e-3)
    assert "A change of the input by 1e-06 alone moves a later answer by 0.60 of the box" in moved.summary()


def test_an_answer_that_comes_and_goes_is_told():
    model = OnTheEdge()
    decode = model.decode

    def gone(outputs, batch, options=None):
        found = decode(outputs, batch, options)
        return tuple(
            dataclasses.replace(p, keypoints=np.where(p.keypoints[:, 1:] > 55, np.nan, p.keypoints))
            for p in found
        )

    model.decode = gone
    report = forced_and_free.compute(run(model, [line()]), forced_and_free.Params())
    assert "appear or vanish" in report.rounding_warning
