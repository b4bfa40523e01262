"""A student that learns its teacher's maps, and one that can only learn their mean."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.tiny import Tiny, picture
from workbench.cli.distill import _line
from workbench.core import Outputs, Skeleton
from workbench.training.distillation import Distilled, distil
from workbench.training.objectives import target_of
from workbench.training.settings import Settings


class Knowing(Tiny):
    """A teacher that knows the truth."""

    def forward(self, batch):
        from workbench.core import geometry

        points = np.stack(
            [
                geometry.apply(geometry.inverse(a), np.asarray(s.truth)[:, :2])
                for a, s in zip(batch.to_image, batch.samples, strict=True)
            ]
        )
        return Outputs(heatmaps=target_of(self.codec, points, np.ones(points.shape[:2])).heatmaps)


class OneMap(Tiny):
    """A student whose head gives one map for all keypoints."""

    def __init__(self):
        super().__init__()
        self.module.append(nn.Conv2d(3, 1, 1))

    def forward(self, batch):
        return Outputs(heatmaps=self.module(batch.pixels).expand(-1, 3, -1, -1))


class Darker(Tiny):
    """A teacher that was trained on another range of pixels."""

    def prepare(self, samples):
        batch = super().prepare(samples)
        return dataclasses.replace(batch, pixels=batch.pixels - 0.1)


def taught(student, steps=60, rate=1e-2, **more):
    return distil(
        student, Knowing(), [picture()], Settings(steps=steps, learning_rate=rate), epochs=3, **more
    )


def test_a_student_that_learns_the_maps_is_healthy():
    report = taught(Tiny(), foreground=10.0)
    assert report.outcome == "healthy"
    assert report.summary().startswith("The student distinguishes its keypoints")
    assert report.loss[-1] < 0.2 * report.loss[1]
    assert report.reach[-1] > 0.5
    assert f"the foreground reaches {report.reach[-1]:.0%} of the teacher's mean" in report.summary()
    assert report.rank[-1] > 2.5
    # One keypoint: no two maps can be alike, so the student has not collapsed; its row has no correlation.
    none = np.full_like(report.correlation, np.nan)
    alone = dataclasses.replace(report, teacher_correlation=float("nan"), correlation=none)
    assert alone.outcome == "healthy"
    assert alone.summary().startswith("The student reaches its keypoints")
    assert "maps correlate by - and" in _line(alone.table()[-1])


def test_a_student_whose_maps_are_all_alike_is_named():
    report = taught(OneMap(), foreground=10.0)
    assert report.outcome == "collapsed"
    assert "its maps are nearly equal: mean correlation of two maps 1.00" in report.summary()
    assert report.rank[-1] == pytest.approx(1, abs=1e-3)


def test_a_student_that_hardly_moved_has_fitted_the_background():
    report = taught(Tiny(), steps=3, rate=1e-9)
    assert report.outcome in ("background only", "collapsed")
    assert abs(report.reach[-1]) < 0.5


def test_histograms_are_shares_and_every_epoch_has_a_row():
    report = taught(Tiny(), steps=6)
    assert report.epochs == (0, 1, 2, 3)
    assert np.isnan(report.loss[0])
    np.testing.assert_allclose(report.map_counts.sum(1), 1)
    np.testing.assert_allclose(report.weight_counts.sum(1), 1)
    assert (report.stem > 0).all()
    assert [row["epoch"] for row in report.table()] == [0, 1, 2, 3]
    assert len(report.plot().data) == 6


def test_the_stems_features_are_kept_before_the_first_step_and_at_the_end():
    report = taught(Tiny(), steps=30, rate=0.1)
    first, last = report.features
    assert first.shape == last.shape
    assert first.ndim == 3
    assert np.abs(last - first).max() > 1e-3
    mosaic = report.plot().data[-1].z
    assert mosaic.shape == (2 * first.shape[1], len(first) * first.shape[2])
    assert (mosaic.min(), mosaic.max()) == (0, 1)


def test_the_teacher_is_not_trained():
    teacher = Tiny(seed=1)
    before = {k: v.clone() for k, v in teacher.module.state_dict().items()}
    distil(Tiny(), teacher, [picture()], Settings(steps=3), epochs=1)
    for name, tensor in teacher.module.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_other_keypoints_and_other_inputs_are_refused():
    other = Tiny()
    other.skeleton = Skeleton("other-1", ("nose",), source="made up")
    with pytest.raises(ValueError, match="expected the same keypoints"):
        Distilled(Tiny(), other)
    with pytest.raises(ValueError, match="both see one"):
        Distilled(Tiny(), Darker()).prepare([picture()])


def test_more_epochs_than_steps_are_refused():
    with pytest.raises(ValueError, match="as many as steps"):
        distil(Tiny(), Knowing(), [picture()], Settings(steps=2), epochs=3)
