from __future__ import annotations

import numpy as np
import pytest

from workbench.core.geometry import (
    apply,
    checked_box,
    crop,
    crop_region,
    input_to_image,
    inverse,
    iou,
    warp_matrix,
)

BOXES = [(10, 20, 110, 60), (3.3, 4.7, 50.1, 130.9), (-20.2, 5, 640.7, 479.4), (100, 100, 101, 103)]
SIZES = [(256, 256), (256, 192), (384, 288), (64, 128)]


@pytest.fixture(scope="module")
def mmpose_transforms():
    pytest.importorskip("workbench.models.mmpose_compat").install()
    from mmpose.datasets.transforms import GetBBoxCenterScale, TopdownAffine

    return GetBBoxCenterScale, TopdownAffine


def test_a_box_by_hand():
    # 100x40 in a square input: height grows to the width; padding 1.25.
    centre, size = crop_region((10, 20, 110, 60), (256, 256))
    assert centre.tolist() == [60, 40]
    assert size.tolist() == [125, 125]
    affine = input_to_image(centre, size, (256, 256))
    assert apply(affine, np.array([0.0, 0.0])).tolist() == [-2.5, -22.5]
    assert apply(affine, np.array([128.0, 128.0])).tolist() == [60, 40]


@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize("box", BOXES)
def test_input_to_image_and_back_is_where_one_started(box, udp):
    centre, size = crop_region(box, (256, 192))
    there = input_to_image(centre, size, (256, 192), udp)
    points = np.random.default_rng(0).uniform(-50, 300, (40, 2))
    assert apply(inverse(there), apply(there, points)) == pytest.approx(points, abs=1e-6)


@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize("box", BOXES)
def test_the_warp_is_the_inverse_of_input_to_image(box, udp):
    centre, size = crop_region(box, (256, 192))
    expected = inverse(input_to_image(centre, size, (256, 192), udp))
    assert warp_matrix(centre, size, (256, 192), udp) == pytest.approx(expected, rel=1e-4, abs=2e-3)


@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize("input_size", SIZES)
@pytest.mark.parametrize("box", BOXES)
def test_centre_size_matrix_and_crop_are_mmposes(mmpose_transforms, box, input_size, udp):
    centre_scale, affine = mmpose_transforms
    image = np.random.default_rng(1).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    results = {"img": image.copy(), "bbox": np.array([box], np.float32)}
    results = affine(input_size[::-1], use_udp=udp).transform(centre_scale().transform(results))
    centre, size = crop_region(box, input_size)
    assert centre.astype(np.float32).tolist() == results["input_center"].tolist()
    assert size.astype(np.float32).tolist() == results["input_scale"].tolist()
    assert (crop(image, centre, size, input_size, udp) == results["img"]).all()


def test_a_crop_beyond_the_border_is_black_there_and_leaves_the_image_alone():
    image = np.full((40, 40, 3), 200, np.uint8)
    seen = crop(image, np.array([0.0, 20.0]), np.array([40.0, 40.0]), (40, 40))
    assert (seen[:, :19] == 0).all()
    assert (seen[:, 21:] == 200).all()
    assert (image == 200).all()


def test_affine_of_nan_stays_nan():
    affine = input_to_image(np.array([5.0, 5.0]), np.array([10.0, 10.0]), (10, 10))
    assert np.isnan(apply(affine, np.array([[np.nan, 1.0]]))[0, 0])


@pytest.mark.parametrize(
    "box", [(0, 0, 0, 5), (5, 5, 2, 9), (0, 0, float("nan"), 1), (0, 0, float("inf"), 1)]
)
def test_a_box_of_no_size_is_refused_with_its_numbers(box):
    with pytest.raises(ValueError, match="expected x0 < x1"):
        checked_box(box)
    with pytest.raises(ValueError, match="expected x0 < x1"):
        crop_region(box, (256, 256))


def test_iou_is_the_shared_part_of_both_boxes_and_0_where_there_is_none():
    boxes = np.array([(0, 0, 10, 10), (5, 0, 15, 10), (20, 0, 30, 10), (2, 2, 2, 2), (np.nan,) * 4])
    np.testing.assert_allclose(iou(boxes[:1], boxes), [1, 1 / 3, 0, 0, 0])
    np.testing.assert_allclose(iou(boxes[:, None], boxes[None])[:2, :2], [[1, 1 / 3], [1 / 3, 1]])
