"""An augmentation that moves the image alone is seen by what lies under the keypoints."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.training.tiny import Tiny, picture
from workbench.data import builtin
from workbench.training.evidence import evidence, seen_wrong
from workbench.training.kept import Kept
from workbench.training.moved_together import TOGETHER, apart_text, likeness
from workbench.training.plan import Plan
from workbench.training.planted import mirror_image_alone, turn_image_alone


def mirrored(samples, generator):
    """Image, box and truth together."""
    done = []
    for s in samples:
        last = s.image.shape[1] - 1
        truth, (x0, y0, x1, y1) = s.truth.copy(), s.box
        truth[:, 0] = last - truth[:, 0]
        done.append(
            dataclasses.replace(s, image=s.image[:, ::-1], truth=truth, box=(last - x1, y0, last - x0, y1))
        )
    return done


def brighter(samples, generator):
    return [
        dataclasses.replace(s, image=(s.image * generator.uniform(0.5, 1)).astype(np.uint8)) for s in samples
    ]


@pytest.fixture(scope="module", params=["astronaut", "scenes-val"])
def samples(request):
    data = builtin(request.param)
    return data.samples(data.labelled[:2])


def test_mirrored_together_the_same_pixels_lie_under_every_keypoint(samples):
    assert likeness(mirrored, samples) == pytest.approx(1, abs=0.01)


def test_other_colours_are_no_other_place(samples):
    assert likeness(brighter, samples) > 0.95


@pytest.mark.parametrize("alone", [mirror_image_alone, turn_image_alone])
def test_an_image_that_is_moved_alone_has_other_pixels_there(samples, alone):
    assert likeness(alone, samples) < TOGETHER
    assert "not changed together" in apart_text(alone, samples)


def test_nothing_to_compare_is_no_finding():
    flat = dataclasses.replace(picture(), image=np.zeros((64, 64, 3), np.uint8))
    assert np.isnan(likeness(mirrored, [flat]))
    assert apart_text(mirrored, [flat]) == apart_text(None, [flat]) == ""


def test_the_switch_is_named_though_the_network_learned():
    model, plan = Tiny(), Plan(augment=mirrored, flip=mirror_image_alone)
    (one,) = evidence(Kept(model), [picture()], plan, [])
    assert one.culprit == "flip"
    assert seen_wrong(model, [picture()], plan, []) == [one.text]
