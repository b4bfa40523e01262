"""An augmentation that moves the image alone is seen by what lies under the keypoints."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from tests.training.tiny import Tiny, picture
from workbench.data import builtin
from workbench.training.augmentation_check import TOGETHER, apart_text, likeness
from workbench.training.bisection import evidence, observed
from workbench.training.faults import mirror_image_alone, turn_image_alone
from workbench.training.model_state import ModelState
from workbench.training.plan import Plan


def flipping(order=None, share=1.0, image=True, truth=True):
    """A change that mirrors the image, the places of the keypoints, and exchanges them by `order`."""

    def change(samples, generator):
        done = []
        for s in samples:
            if generator.random() >= share:
                done.append(s)
                continue
            last = s.image.shape[1] - 1
            moved, (x0, y0, x1, y1) = s.truth.copy(), s.box
            if truth:
                moved[:, 0] = last - moved[:, 0]
            moved = moved if order is None else moved[list(order)]
            pixels = np.ascontiguousarray(s.image[:, ::-1]) if image else s.image
            box = (last - x1, y0, last - x0, y1) if truth else s.box
            done.append(dataclasses.replace(s, image=pixels, truth=moved, box=box))
        return done

    return change


mirrored = flipping((1, 0, 2))  # of the tiny skeleton


def turned(samples, generator):
    """Image and truth by one angle."""
    done = []
    for s in samples:
        H, W = s.image.shape[:2]
        turn = cv2.getRotationMatrix2D(
            (W / 2, H / 2), generator.uniform(-40, 40), generator.uniform(0.8, 1.2)
        )
        truth = s.truth.copy()
        truth[:, :2] = truth[:, :2] @ turn[:, :2].T + turn[:, 2]
        truth[((truth[:, :2] < 0) | (truth[:, :2] >= (W, H))).any(1), 2] = 0
        done.append(dataclasses.replace(s, image=cv2.warpAffine(s.image, turn, (W, H)), truth=truth))
    return done


def hidden(samples, generator):
    """Some squares drawn over the animal, as CoarseDropout does."""
    done = []
    for s in samples:
        image, (x0, y0, x1, y1) = s.image.copy(), s.box
        side = 0.15 * max(x1 - x0, y1 - y0)
        for _ in range(3):
            x, y = (int(v) for v in generator.uniform((x0, y0), (x1, y1)))
            image[max(y, 0) : int(y + side), max(x, 0) : int(x + side)] = generator.integers(0, 255, 3)
        done.append(dataclasses.replace(s, image=image))
    return done


def blurred(samples, generator):
    wide = [0.02 * max(s.box[2] - s.box[0], s.box[3] - s.box[1]) for s in samples]
    return [
        dataclasses.replace(s, image=cv2.GaussianBlur(s.image, (0, 0), w))
        for s, w in zip(samples, wide, strict=True)
    ]


def brighter(samples, generator):
    return [
        dataclasses.replace(s, image=(s.image * generator.uniform(0.5, 1)).astype(np.uint8)) for s in samples
    ]


@pytest.fixture(scope="module", params=["astronaut", "scenes-val"])
def data(request):
    return builtin(request.param)


@pytest.fixture(scope="module")
def samples(data):
    return data.samples(data.labelled[:2])


@pytest.fixture(scope="module")
def sides(data):
    return data.skeleton.mirror


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("with_sides", [True, False])
def test_a_correct_mirror_is_not_accused(samples, sides, share, with_sides):
    mirror = flipping(sides, share)
    assert likeness(mirror, samples, sides if with_sides else None) == pytest.approx(1, abs=0.01)
    assert apart_text(mirror, samples, sides if with_sides else None) == ""


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_mirror_that_never_exchanges_left_and_right_is_accused(samples, sides, share):
    assert "left and right are not exchanged" in apart_text(flipping(share=share), samples, sides)
    assert "left and right are not exchanged" in apart_text(flipping(share=share), samples)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_an_image_mirrored_without_its_truth_is_accused_however_seldom(samples, sides, share):
    change = flipping(share=share, truth=False)
    assert "not changed together" in apart_text(change, samples, sides)
    exchanged = flipping(sides, share, truth=False)
    assert apart_text(exchanged, samples, sides)


def test_keypoints_exchanged_without_a_mirror_are_accused(samples, sides):
    assert apart_text(flipping(sides, 0.5, image=False, truth=False), samples, sides)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_one_pair_that_is_left_out_of_the_exchange_is_named(samples, sides, share):
    seen = np.stack([s.truth[:, 2] > 0 for s in samples]).all(0)
    apart = [abs(samples[0].truth[k, :2] - samples[0].truth[m, :2]).max() for k, m in enumerate(sides)]
    k = min((k for k, m in enumerate(sides) if k < m and seen[[k, m]].all()), key=lambda k: apart[k])
    pair = (k, sides[k])
    forgotten = [j if j in pair else m for j, m in enumerate(sides)]
    said = f"keypoints {pair[0]} and {pair[1]}, a pair of left and right, are not exchanged"
    assert said in apart_text(flipping(forgotten, share), samples, sides)
    alone = [m if j in pair else j for j, m in enumerate(sides)]
    assert said in apart_text(flipping(alone, share, image=False, truth=False), samples[:1], sides)


def test_visibility_that_stays_behind_is_told(samples, sides):
    k = next(k for k, m in enumerate(sides) if k < m and samples[0].truth[[k, m], 2].all())
    truth = samples[0].truth.copy()
    truth[k, 2] = 0
    one = dataclasses.replace(samples[0], truth=truth)

    def left_behind(given, generator):
        done = flipping(sides)(given, generator)
        kept = [np.c_[new.truth[:, :2], old.truth[:, 2]] for new, old in zip(done, given, strict=True)]
        return [dataclasses.replace(s, truth=t) for s, t in zip(done, kept, strict=True)]

    assert "visibility is not exchanged" in apart_text(left_behind, [one], sides)
    assert apart_text(flipping(sides), [one], sides) == ""


def test_a_skeleton_without_sides_has_nothing_to_exchange(samples):
    alone = range(len(samples[0].truth))
    assert apart_text(flipping(), samples, alone) == ""
    assert apart_text(flipping(), samples, ()) == "", "nobody knows its sides"


@pytest.mark.parametrize("change", [turned, hidden, blurred])
def test_what_moves_together_is_not_accused(samples, sides, change):
    assert apart_text(change, samples, sides) == ""


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
    (one,) = evidence(ModelState(model), [picture()], plan, [])
    assert one.culprit == "flip"
    assert [seen.text for seen in observed(model, [picture()], plan, [])] == [one.text]
