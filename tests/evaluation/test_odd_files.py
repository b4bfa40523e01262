"""Files as tables and exports leave them: read as pycocotools reads them, or refused in one sentence."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.data.coco import read_coco
from workbench.evaluation import PCK, Predictions, evaluate
from workbench.evaluation.ground_truth import integers


def test_numbers_that_a_table_turned_into_floats_count_as_pycocotools_counts_them(drawn, written, oracle):
    data, results = drawn(3)
    for annotation in data["annotations"]:
        for key in ("id", "image_id", "category_id", "num_keypoints"):
            annotation[key] = float(annotation[key])
    for result in results:
        result["image_id"], result["category_id"] = float(result["image_id"]), float(result["category_id"])
    report = evaluate(read_coco(written(data)), Predictions.from_coco(results))
    assert np.array_equal(report.ap.stats, oracle(data, results).stats)


@pytest.mark.parametrize("wrong", [1.5, float("nan"), float("inf"), 2.0**53])
def test_floats_that_are_no_whole_number_are_named(wrong):
    with pytest.raises(ValueError, match="ids: expected integers, got") as caught:
        integers([1.0, wrong], "ids")
    assert repr(wrong) in str(caught.value)


def test_an_annotation_id_that_stands_twice_is_named(drawn, written):
    data, results = drawn(4)
    data["annotations"][5]["id"] = data["annotations"][2]["id"]
    pose_set = read_coco(written(data))
    with pytest.raises(ValueError, match=f"annotation id {data['annotations'][2]['id']} occurs more than"):
        evaluate(pose_set, Predictions.from_coco(results))


@pytest.mark.parametrize("threshold", [0.0, -0.05, float("nan"), float("inf")])
def test_a_pck_that_every_or_no_keypoint_reaches_is_refused(threshold):
    with pytest.raises(ValueError, match="pck: expected a threshold above 0"):
        PCK(threshold)
