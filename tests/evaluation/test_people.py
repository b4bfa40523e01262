"""Whole sets by bottom-up models: perfect maps give AP 1, wrong protocols lose, wishes that mean nothing."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from workbench.core import DecodeOptions, NotAvailable, Outputs, Sample
from workbench.data import builtin
from workbench.data.coco import read_coco
from workbench.evaluation import Cancelled, evaluate, predict, protocol_of
from workbench.evaluation.predict import category_of, forward_passes, predictions_of
from workbench.models.bottom_up import Aggregation, BottomUp, true_outputs
from workbench.models.higherhrnet.model import new_higherhrnet, write
from workbench.models.higherhrnet.network import Architecture, HigherHRNet
from workbench.skeletons import SKELETONS

COCO = SKELETONS["coco-17"]
SMALL = Architecture(width=4, stem=8, bottlenecks=1, modules=(1, 1, 1), blocks=1, deconv_blocks=1)
DROPPED = Aggregation(inverse_affine=False)


def first_images(pose_set, count):
    ids = list(pose_set.images)[:count]
    return dataclasses.replace(
        pose_set,
        images={i: pose_set.images[i] for i in ids},
        instances=tuple(a for a in pose_set.instances if a.image_id in ids),
        raw={**pose_set.raw, "annotations": [a for a in pose_set.raw["annotations"] if a["image_id"] in ids]},
    )


def ap_of_perfect_maps(pose_set, size, *settings):
    model = BottomUp(nn.Identity(), COCO, 17, input_size=size)
    people = [[] for _ in settings]
    for image_id in pose_set.images:
        pixels = pose_set.image(image_id)
        batch = model.prepare([Sample(pixels, (0, 0, *pixels.shape[1::-1]))])
        h, w = batch.pixels.shape[-2:]
        like = [torch.empty(1, 17, h // s, w // s, device="meta") for s in (2, 4)]
        known = [a.truth for a in pose_set.instances if a.image_id == image_id and a.num_keypoints]
        truth = np.array(known).reshape(-1, 17, 3)
        outputs = Outputs(heatmaps=like[0], coarse=like[1], tags=like[1])
        outputs = true_outputs(model, outputs, batch, [truth])
        for found, setting in zip(people, settings, strict=True):
            found += model.group(outputs, batch, aggregation=setting)
    ids = list(pose_set.images)
    return [evaluate(pose_set, predictions_of(ids, found, 1, 17)).ap.figures for found in people]


@pytest.mark.parametrize(("size", "images"), [(256, 10), (512, 3), (640, 2)])
def test_perfect_maps_give_ap_1_at_every_input_size_and_lose_without_the_inverse_affine(size, images):
    right, wrong = ap_of_perfect_maps(
        first_images(builtin("scenes-people-val"), images), size, Aggregation(), DROPPED
    )
    assert (right["AP"], right["APM"], right["AR"]) == (1, 1, 1)
    assert wrong["AP"] < 0.9
    assert wrong["APM"] < wrong["APL"] or np.isnan(wrong["APL"])


def test_real_people_lose_without_the_inverse_affine_and_medium_ones_most(shared):
    pose_set = read_coco(shared / "data/coco/test_coco.json")
    right, wrong = ap_of_perfect_maps(pose_set, 512, Aggregation(), DROPPED)
    assert right["AP"] == 1
    assert 0.5 < wrong["AP"] < 0.85
    assert wrong["APM"] < wrong["APL"]


def loud():
    torch.manual_seed(0)
    network = HigherHRNet(SMALL).eval()
    with torch.no_grad():
        network.final_layers[0].bias[:17] = 0.12
        network.final_layers[1].bias[:] = 0.12
    return new_higherhrnet(network, COCO, 64)


@pytest.fixture(scope="module")
def few():
    return first_images(builtin("scenes-people-val"), 2)


def test_predict_looks_at_every_image_and_gives_boxes_that_are_extents(few):
    calls = []
    found = predict(loud(), few, flip=True, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(0, 2), (1, 2), (2, 2)]
    assert len(found) > 0
    assert found.annotation_id is None
    assert set(found.image_id) <= set(few.images)
    points = found.keypoints
    extent = np.concatenate([np.nanmin(points, 1), np.nanmax(points, 1)], 1)
    np.testing.assert_allclose(found.box, extent)


def test_the_protocol_says_how_it_looked_and_grouped():
    model = dataclasses.replace(loud(), aggregation=DROPPED)
    protocol = protocol_of(model, flip=True).text()
    for words in (
        "whole images",
        "flip",
        "input short side 64, long side to 64",
        "scale 1 (no inverse affine)",
        "grouping as HigherHRNet, solver scipy 1.",
        "mean of all keypoint values before missing ones are filled",
        "no NMS",
    ):
        assert words in protocol
    assert protocol_of(model).differs_from(protocol_of(loud())) == [
        "scales: scale 1 (no inverse affine) against scale 1"
    ]


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"boxes": []}, ValueError, "whole images"),
        ({"options": DecodeOptions(decoder="dark")}, ValueError, "groups detections"),
        ({"score_rule": "min"}, ValueError, "leave --pose-score out"),
        ({"nms": 0.5}, ValueError, "no NMS"),
        ({"keep_outputs": print}, NotAvailable, "image by image"),
        ({"cancelled": lambda: True}, Cancelled, "0 of 2 images"),
    ],
)
def test_wishes_that_would_be_passed_over_are_refused(few, options, kind, words):
    with pytest.raises(kind, match=words):
        predict(loud(), few, **options)


def test_several_categories_are_refused(few):
    some = few.instances[0]
    two = dataclasses.replace(few, instances=(some, dataclasses.replace(some, category_id=2)))
    with pytest.raises(ValueError, match="2 categories"):
        category_of(two)


def test_another_skeleton_is_refused(few):
    other = dataclasses.replace(few, skeleton=SKELETONS["ap10k-17"])
    with pytest.raises(ValueError, match="order their keypoints differently"):
        next(forward_passes(loud(), other))


def test_nobody_found_is_an_evaluation_of_nothing(few):
    silent = loud()
    torch.nn.init.constant_(silent.module.final_layers[0].bias, -1.0)
    torch.nn.init.constant_(silent.module.final_layers[1].bias, -1.0)
    found = predict(silent, few)
    assert found.keypoints.shape == (0, 17, 2)
    assert evaluate(few, found).ap.figures["AP"] == 0


def test_the_command_line_evaluates_predicts_and_loads(workbench, few, tmp_path):
    write(loud(), tmp_path / "epoch_1.pth", 1)
    entries = [{"id": i, "file_name": r.path.name, "width": r.width, "height": r.height}
               for i, r in few.images.items()]  # fmt: skip
    (tmp_path / "few.json").write_text(json.dumps({**few.raw, "images": entries}))
    folder = next(iter(few.images.values())).path.parent
    words = ["evaluate", tmp_path / "epoch_1.pth", "--data", tmp_path / "few.json", "--images", folder]
    code, out, err = workbench(*words, "--flip", "--rule", "refine=off", "--json")
    assert code == 0, err
    protocol = json.loads(out)["protocol"]
    assert protocol["flip"] is True
    assert protocol["grouping"].startswith("grouping refine False, solver scipy ")
    code, out, _ = workbench("load", tmp_path / "epoch_1.pth", "--json")
    assert code == 0
    code, out, _ = workbench("predict", tmp_path / "epoch_1.pth", "--image", folder / "000001.jpg", "--json")
    assert code == 0
    assert json.loads(out)["instances"]
    for wrong in (["--rule", "nms=1"], ["--boxes", "whole"], ["--decoder", "dark"]):
        code, _, err = workbench(*words, *wrong)
        assert code == 2
        assert err.count("\n") <= 2
