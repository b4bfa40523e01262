"""The multi-path loss against upstream's formula by hand, and the mask that can let nothing through."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from workbench.training.consistency import (
    Consistency,
    affine,
    best_confidence,
    confidence,
    half_mse,
    multi_path_loss,
    multi_path_step,
    path_loss,
    random_affine,
    warp,
)


@pytest.fixture
def maps():
    torch.manual_seed(0)
    return torch.rand(3, 4, 8, 6), torch.rand(3, 4, 8, 6), torch.tensor([[1.0, 1, 0, 1]] * 3)


def upstream(output, target, weights, sharpen=False, threshold=None):
    """The loss as the paper's code states it: a loop over keypoints, mean squared error of each."""
    loss, (_, count) = 0.0, output.shape[:2]
    for k in range(count):
        mine, theirs = (maps[:, k].flatten(1) * weights[:, k, None] for maps in (output, target))
        if sharpen:
            mine, theirs = functional.softmax(mine, 1), functional.softmax(theirs, 1)
        if threshold is not None:
            sure = (target[:, k].flatten(1).max(1).values > threshold).float()[:, None]
            mine, theirs = mine * sure, theirs * sure
        loss = loss + 0.5 * functional.mse_loss(mine, theirs)
    return loss / count


@pytest.mark.parametrize("sharpen", [False, True])
@pytest.mark.parametrize("threshold", [None, 0.97])
def test_a_path_is_upstreams_formula(maps, sharpen, threshold):
    given, teacher, weights = maps
    options = Consistency(sharpen=sharpen, mask=threshold is not None, threshold=threshold or 0.5)
    mine = path_loss(given, teacher, weights, options)
    torch.testing.assert_close(mine, upstream(given, teacher, weights, sharpen, threshold))
    torch.testing.assert_close(half_mse(given, teacher, weights), upstream(given, teacher, weights))


def test_paths_are_summed_and_fusion_takes_their_mean():
    zero, one = torch.zeros(2, 1, 4, 4), torch.ones(2, 1)
    parts = multi_path_loss((zero + 1, zero, one), [zero + 1, zero + 3], zero)
    assert {name: part.item() for name, part in parts.items()} == {"supervised": 0.5, "consistency": 5.0}
    fused = multi_path_loss((zero, zero, one), [zero + 1, zero + 3], zero, options=Consistency(fuse=True))
    assert fused["consistency"].item() == 2.0


def test_no_gradient_reaches_the_teacher(maps):
    given, teacher, weights = (value.clone().requires_grad_() for value in maps)
    path_loss(given, teacher, weights, Consistency(sharpen=True, mask=True)).backward()
    assert teacher.grad is None
    assert given.grad.abs().sum() > 0


def test_the_defaults_are_upstreams():
    assert Consistency() == Consistency(sharpen=False, mask=False, threshold=0.5, fuse=False)


def test_maps_of_two_sizes_and_no_path_are_refused(maps):
    given, teacher, weights = maps
    with pytest.raises(ValueError, match="one size"):
        path_loss(given, teacher[..., :5], weights)
    with pytest.raises(ValueError, match="at least one path"):
        multi_path_loss((given, teacher, weights), [], teacher)


def test_one_matrix_moves_an_image_and_its_maps_alike():
    image, heat = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 16, 16)
    image[..., 20:24, 40:44] = 1
    heat[..., 5, 10] = 1  # the cell over these pixels
    matrix = affine([90], [1.0])
    moved, maps = warp(image, matrix), warp(heat, matrix)
    y, x = divmod(int(maps.argmax()), 16)
    assert moved[0, 0, 4 * y + 1, 4 * x + 1] > 0.9
    # A quarter turn clockwise about the centre: (dx, dy) = (2.5, -2.5) to (2.5, 2.5).
    assert (y, x) == (10, 10)
    torch.testing.assert_close(warp(image, affine([0], [1.0])), image)


def test_random_warps_are_repeated_by_their_seed_and_bounded():
    a, b = (random_affine(50, np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(a, b)
    scales = torch.linalg.det(a[:, :, :2]).sqrt()
    assert scales.min() >= 0.75 - 1e-6
    assert scales.max() <= 1.25 + 1e-6


def test_a_step_trains_the_network_on_unlabelled_images():
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 2, 3, padding=1)
    images, target = torch.rand(2, 3, 8, 8), torch.rand(2, 2, 8, 8)
    parts = multi_path_step(
        network,
        (images, target, torch.ones(2, 2)),
        torch.rand(4, 3, 8, 8),
        [lambda x: x * 0.5, lambda x: x.flip(1)],
        random_affine(4, np.random.default_rng(0)),
    )
    assert set(parts) == {"supervised", "consistency"}
    parts["consistency"].backward()
    assert network.weight.grad.abs().sum() > 0


def test_without_augmentation_and_warp_there_is_nothing_to_learn():
    network, images = torch.nn.Conv2d(3, 2, 1), torch.rand(2, 3, 8, 8)
    labelled = (images, torch.zeros(2, 2, 8, 8), torch.ones(2, 2))
    still = affine([0, 0], [1.0, 1.0])
    parts = multi_path_step(network, labelled, images, [lambda x: x], still)
    assert parts["consistency"].item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("size", "sigma", "value"), [((64, 48), 2, 0.0023), ((256, 192), 6, 0.0001), ((2, 1), 1e-3, 0.8808)]
)
def test_the_softmax_of_a_perfect_map_by_hand(size, sigma, value):
    assert best_confidence(*size, sigma, temperature=0.5) == pytest.approx(value, abs=6e-5)


def test_a_threshold_on_the_softmax_lets_nothing_through_and_its_loss_is_zero():
    y, x = np.mgrid[:64, :48]
    perfect = np.exp(-((x - 20) ** 2 + (y - 30) ** 2) / 8)[None, None]
    assert confidence(perfect, 0.5).item() == pytest.approx(0.0023, abs=5e-5)
    assert (confidence(perfect, 0.5) <= 0.7).all()
    assert (confidence(perfect) > 0.5).all()
    teacher = torch.as_tensor(perfect)
    sharp = (teacher.flatten(2) / 0.5).softmax(-1)
    masked = ((sharp - sharp.roll(1, -1)) ** 2).sum(-1) * (sharp.amax(-1) > 0.7)
    assert masked.sum() == 0


def test_confidence_is_torchs_softmax():
    maps = np.random.default_rng(0).normal(size=(2, 3, 5, 4)) * 3
    theirs = torch.as_tensor(maps).flatten(2).div(0.7).softmax(-1).amax(-1)
    np.testing.assert_allclose(confidence(maps, 0.7), theirs, rtol=1e-12)
