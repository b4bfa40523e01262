from __future__ import annotations

import json

import numpy as np
import pytest

from workbench.data import ImageRecord, PoseSet, read_coco
from workbench.data.boxes import (
    box_from_text,
    box_in_image,
    detect,
    read_detections,
    whole_image,
    whole_images,
)
from workbench.skeletons import SKELETONS


def pose_set(categories=None, path=None):
    images = {i: ImageRecord(i, path, 40, 30) for i in (1, 2)}
    return PoseSet("set", SKELETONS["coco-17"], (), images, categories or {1: "person"})


def test_a_box_as_people_type_it():
    assert box_from_text("10, 20,110,220.5") == (10, 20, 110, 220.5)
    for text in ("", "1,2,3", "1,2,3,x", "5,5,5,9", "1,2,nan,4"):
        with pytest.raises(ValueError, match="box: expected"):
            box_from_text(text)


def test_a_box_beside_the_image_is_refused_and_one_that_hangs_over_its_edge_is_not():
    image = np.zeros((30, 40, 3), np.uint8)
    assert box_in_image((-5, 25, 1, 99), image) == (-5, 25, 1, 99)
    for box in ((40, 0, 50, 10), (0, 30, 9, 40), (-9, 0, 0, 9), (0, -9, 9, 0)):
        with pytest.raises(ValueError, match="overlaps the image of 40 x 30 pixels"):
            box_in_image(box, image)


def test_whole_images_are_one_box_each():
    assert whole_image(np.zeros((30, 40, 3), np.uint8)) == (0, 0, 40, 30)
    found = whole_images(pose_set())
    assert [(b.image_id, b.box, b.score) for b in found] == [(1, (0, 0, 40, 30), 1), (2, (0, 0, 40, 30), 1)]
    with pytest.raises(ValueError, match="boxes need a category"):
        whole_images(pose_set({1: "cat", 2: "dog"}))


def entry(**changes):
    return {"image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 5], "score": 0.5} | changes


def test_detections_are_chosen_by_image_and_category(tmp_path):
    path = tmp_path / "det.json"
    others = [entry(image_id=9), entry(category_id=2)]
    path.write_text(json.dumps([entry(), *others]))
    assert [b.box for b in read_detections(path, pose_set())] == [(1, 2, 11, 7)]
    path.write_text(json.dumps(others))
    with pytest.raises(ValueError, match=r"none of its 2 detections .* of category \[1\] and of score 0"):
        read_detections(path, pose_set())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "expected a list of detections"),
        ([1], "detection 0: expected"),
        ([entry(), {"image_id": 1}], "detection 1: .*category_id, bbox, score is absent"),
        ([entry(bbox=[1, 2, 3])], "detection 0"),
        ([entry(bbox=[1, 2, 0, 3])], "detection 0: bbox: expected x0 < x1"),
        ([entry(score="x")], "got something else"),
        ([entry(score=float("nan"))], "expected a finite score"),
        ([entry(bbox=[10**400, 0, 1, 1])], "got something else"),
    ],
)
def test_bad_detection_files_are_refused_by_their_entry(tmp_path, value, message):
    path = tmp_path / "det.json"
    path.write_text(json.dumps(value))
    with pytest.raises(ValueError, match=message):
        read_detections(path, pose_set())


def test_the_real_detection_files_fit_their_sets(shared):
    coco = read_coco(shared / "data/coco/test_coco.json")
    found = read_detections(shared / "data/coco/test_coco_det_AP_H_56.json", coco)
    assert len(found) == 118
    assert max(b.score for b in found) == pytest.approx(0.99997, abs=1e-4)
    crowd = read_coco(shared / "data/crowdpose/test_crowdpose.json")
    assert len(read_detections(shared / "data/crowdpose/test_crowdpose_det_AP_40.json", crowd)) == 6


def test_detecting_reports_progress(tmp_path):
    from workbench.data.images import write_image

    class Middle:
        title = "middle"

        def __call__(self, image):
            return [((10.0, 10.0, 20.0, 20.0), 0.5)]

    found = pose_set(path=write_image(tmp_path / "a.png", np.zeros((30, 40, 3), np.uint8)))
    calls: list[tuple[int, int]] = []
    boxes = detect(Middle(), found, progress=lambda done, total: calls.append((done, total)))
    assert [(b.image_id, b.category_id, b.score) for b in boxes] == [(1, 1, 0.5), (2, 1, 0.5)]
    assert calls == [(0, 2), (1, 2), (2, 2)]
