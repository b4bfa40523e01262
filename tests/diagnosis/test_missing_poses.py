"""Instances without a pose are named, with the way in which they were lost where it can be told."""

from __future__ import annotations

import json

import numpy as np
import pytest

from workbench.diagnosis import diagnose
from workbench.diagnosis.box_causes import InstancesLeftOut

SHAPE = np.array([[0.2, 0.1], [0.8, 0.1], [0.1, 0.5], [0.9, 0.5], [0.5, 0.0], [0.5, 0.95]])
NAMES = ["left_rim", "right_rim", "left_handle", "right_handle", "lid", "base"]
SIDE = 100.0


def cups():
    """Annotations of 40 images of three cups; two of them stand close together in every second image."""
    random, found = np.random.default_rng(0), []
    for image in range(1, 41):
        for place in (60.0, 130.0 if image % 2 else 250.0, 440.0):
            side = SIDE * random.uniform(0.9, 1.1)
            points = SHAPE * side + [place, 150] + random.normal(0, 3, (6, 2))
            row = {"id": len(found) + 1, "image_id": image, "category_id": 1, "num_keypoints": 6}
            row |= {"bbox": [place, 150, side, side], "area": 0.6 * side**2, "iscrowd": 0}
            found.append(row | {"keypoints": np.c_[points, np.full(6, 2)].ravel().tolist()})
    return found


def diagnosed(folder, kept):
    """The findings for results that hold the annotations that `kept` lets through, a little off."""
    annotations, random = cups(), np.random.default_rng(1)
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(1, 41)]
    categories = [{"id": 1, "name": "cup", "keypoints": NAMES, "skeleton": []}]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "cups.json").write_text(json.dumps(truth))
    results = []
    for number, one in enumerate(annotations):
        points = np.array(one["keypoints"]).reshape(6, 3) + random.normal(0, 1, (6, 3))
        points[:, 2] = score = random.uniform(0.3, 1)
        if kept(number, score):
            row = {"image_id": one["image_id"], "category_id": 1, "score": score}
            results.append(row | {"keypoints": points.ravel().tolist()})
    (folder / "results.json").write_text(json.dumps(results))
    return diagnose(
        [folder / "results.json"], data=str(folder / "cups.json"), level="forward", sigmas=(0.06,),
        causes=[InstancesLeftOut()],
    )  # fmt: skip


def of_pairs(number, score):
    return number % 6 != 1


def above_half(number, score):
    return score > 0.5


@pytest.mark.parametrize(
    ("kept", "severity", "says"),
    [
        (of_pairs, "error", "20 of 120 annotated instances have no pose: nearly all of them stand within"),
        (above_half, "warning", "the lowest score of a pose is 0.5"),
    ],
)
def test_poses_that_are_removed_are_named_with_what_tells_how(tmp_path, kept, severity, says):
    (finding,) = diagnosed(tmp_path, kept).findings
    assert says in finding.evidence
    assert finding.severity == severity
    assert finding.effect is not None
    assert finding.effect.low > 0.05


@pytest.mark.parametrize("lost", [120, 12])
def test_a_run_that_finds_nearly_all_instances_is_left_alone(tmp_path, lost):
    assert diagnosed(tmp_path, lambda number, score: number % lost != 5).findings == ()
