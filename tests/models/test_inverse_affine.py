"""What is lost when maps are stretched over the image instead of being taken back by the inverse affine.

The input's sides are rounded up to multiples of 64, so it shows more than the image along the longer side.
How much more depends on the image's size and the input's alone: 640 x 427 at 512 hardly anything, 640 x 426
eight per cent. Reported on two mini sets of COCO, with perfect detections: AP .82 and .78 at 640, .84 and .73
at 512, medium people hit hardest.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.evaluation.ablation.planted import planted
from tests.places import SHARED
from workbench.core.geometry import apply, inverse
from workbench.data import read_coco
from workbench.evaluation import Predictions, evaluate, keypoint_ap, truth_of
from workbench.evaluation.predict import category_of, forward_passes, predict_people, predictions_of
from workbench.models.bottom_up import Aggregation
from workbench.models.bottom_up.aggregation import resizing

COCO = SHARED / "data/coco"
# Width and height of images as COCO has them; real sets mix them in shares of their own.
USUAL = [(640, 480), (640, 427), (480, 640), (640, 426), (427, 640), (500, 375), (375, 500), (612, 612)]


def several(pose_set, count):
    """Images with two people at least."""
    return [i for i, people in pose_set.labelled_of_image.items() if len(people) > 1][:count]


def stretched(pose_set, side):
    """The ten figures of keypoints found exactly, at this input size, and not taken back to the image."""
    ids, keypoints, counts = list(pose_set.labelled_of_image), [], []
    for image_id in ids:
        record = pose_set.images[image_id]
        place = resizing((record.height, record.width), side)
        people = np.stack([pose_set.instances[i].truth for i in pose_set.labelled_of_image[image_id]])
        cells = apply(inverse(place.to_image()), people[..., :2])
        wrong = cells * (record.width / place.size[1], record.height / place.size[0])
        wrong[people[..., 2] == 0] = np.nan
        keypoints.append(wrong)
        counts.append(len(people))
    found = np.concatenate(keypoints)
    low, high = np.nanmin(found, 1), np.nanmax(found, 1)
    predictions = Predictions(
        np.repeat(ids, counts),
        np.full(len(found), category_of(pose_set)),
        np.concatenate([low, high - low], 1),
        found,
        np.isfinite(found[..., 0]).astype(float),
        np.ones(len(found)),
    )
    truth = truth_of(pose_set).on_images(ids)
    return keypoint_ap(truth, predictions.detections(), pose_set.skeleton.sigmas).figures


def on_canvases(scenes, folder, sizes):
    """The drawn people's annotations on images of these sizes in turn, as large as fits; no pixels."""
    images, annotations = [], []
    for turn, entry in enumerate(scenes.raw["images"]):
        w, h = sizes[turn % len(sizes)]
        scale = min(w / entry["width"], h / entry["height"])
        shift = np.array([w - scale * entry["width"], h - scale * entry["height"]]) / 2
        images.append({**entry, "width": w, "height": h})
        for person in (a for a in scenes.raw["annotations"] if a["image_id"] == entry["id"]):
            points = np.array(person["keypoints"], float).reshape(-1, 3)
            points[points[:, 2] > 0, :2] = points[points[:, 2] > 0, :2] * scale + shift
            box = np.array(person["bbox"], float) * scale + (*shift, 0, 0)
            annotations.append(
                {**person, "keypoints": points.ravel().tolist(), "bbox": box.tolist(),
                 "area": person["area"] * scale**2}
            )  # fmt: skip
    path = folder / f"{len(sizes)}.json"
    path.write_text(json.dumps({**scenes.raw, "images": images, "annotations": annotations}))
    return read_coco(path)


@pytest.mark.parametrize("size", [128, 256, 384, 512, 640])
def test_perfect_maps_have_ap_one_at_every_input_size(scenes, size):
    ids = several(scenes, 2)
    model = planted(scenes, ids, size)
    indices = [i for i, one in enumerate(scenes.instances) if one.image_id in ids]
    found = predict_people(model, scenes, ids, flip=True)
    assert evaluate(scenes, found, indices=indices).figures["AP"] == pytest.approx(1)


def test_maps_stretched_over_the_image_put_keypoints_where_the_sizes_say(scenes):
    (image_id,) = several(scenes, 1)
    model = planted(scenes, [image_id], 256)
    (seen,) = forward_passes(model, scenes, [image_id])
    right, wrong = (
        model.group(seen.outputs, seen.batch, aggregation=Aggregation(inverse_affine=with_inverse))[
            0
        ].keypoints
        for with_inverse in (True, False)
    )
    h, w = seen.batch.samples[0].image.shape[:2]
    place = model.place((h, w))
    said = apply(inverse(place.to_image()), right) * (w / place.size[1], h / place.size[0])
    # Equal peaks are dealt out in an order of their own. Peaks are read to a quarter of a cell, twice.
    apart = np.abs(said[:, None] - wrong[None]).max(-1)
    assert len(right) == len(wrong) > 1
    assert (np.median(apart, 2).min(1) < 1).all()


@pytest.mark.parametrize("side", [512, 640])
def test_images_whose_long_side_needs_no_rounding_lose_nothing(scenes, tmp_path, side):
    for size in ((640, 427), (427, 640), (612, 612)):
        assert stretched(on_canvases(scenes, tmp_path, [size]), side)["AP"] > 0.99, size


def test_one_row_of_pixels_decides_between_nothing_and_most_of_it(scenes, tmp_path):
    # 640 / 426 * 512 = 769.2 is rounded up to 832, 640 / 427 * 512 = 767.4 to 768.
    assert stretched(on_canvases(scenes, tmp_path, [(640, 426)]), 512)["AP"] < 0.5
    assert stretched(on_canvases(scenes, tmp_path, [(640, 480)]), 512)["AP"] < 0.75


@pytest.mark.parametrize("side", [512, 640])
def test_on_images_of_cocos_usual_sizes_the_loss_is_as_reported_and_medium_people_lose_most(
    scenes, tmp_path, side
):
    figures = stretched(on_canvases(scenes, tmp_path, USUAL), side)
    assert 0.72 < figures["AP"] < 0.84
    assert figures["APM"] < figures["APL"] < 1


@pytest.mark.skipif(not COCO.is_dir(), reason="no real data beside the project (shared/data is absent)")
@pytest.mark.parametrize(("side", "least", "most"), [(512, 0.7, 0.8), (640, 0.78, 0.86)])
def test_on_photographs_the_loss_is_as_reported_and_medium_people_lose_most(side, least, most):
    figures = stretched(read_coco(COCO / "test_coco.json"), side)
    assert least < figures["AP"] < most
    assert figures["APM"] < figures["APL"]


@pytest.mark.slow
@pytest.mark.skipif(not COCO.is_dir(), reason="no real data beside the project (shared/data is absent)")
@pytest.mark.parametrize(("side", "expected"), [(512, 0.674), (640, 0.768)])
def test_on_photographs_through_the_whole_protocol(side, expected):
    pose_set = read_coco(COCO / "test_coco.json", COCO)
    ids = list(pose_set.labelled_of_image)
    model = planted(pose_set, ids, side)
    people = {True: [], False: []}
    for seen in forward_passes(model, pose_set, ids, flip=True):
        for with_inverse, found in people.items():
            found += model.group(
                seen.outputs, seen.batch, aggregation=Aggregation(inverse_affine=with_inverse)
            )
    truth = truth_of(pose_set).on_images(ids)
    AP = {}
    for with_inverse, found in people.items():
        predictions = predictions_of(ids, found, category_of(pose_set), len(pose_set.skeleton))
        AP[with_inverse] = keypoint_ap(truth, predictions.detections(), pose_set.skeleton.sigmas).figures[
            "AP"
        ]
    assert AP[True] == pytest.approx(1)
    assert AP[False] == pytest.approx(expected, abs=0.02)
