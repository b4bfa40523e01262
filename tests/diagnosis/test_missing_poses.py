"""Instances without a pose, and poses without an instance, are named with what can be told of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from workbench.diagnosis import diagnose
from workbench.diagnosis.box_causes import InstancesLeftOut
from workbench.diagnosis.score_causes import CAUSES

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


MISSING = (InstancesLeftOut(),)


def diagnosed(folder, kept, causes=MISSING, on_nothing=None):
    """The findings for results that hold the annotations that `kept` lets through, a little off.

    Args:
        folder: to write to.
        kept: called with the number of an annotation and its score.
        causes: that are tested.
        on_nothing: score of one more pose of each image, which lies on no instance; None for none.
    """
    annotations, random = cups(), np.random.default_rng(1)
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(1, 41)]
    categories = [{"id": 1, "name": "cup", "keypoints": NAMES, "skeleton": []}]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "cups.json").write_text(json.dumps(truth))
    results = []
    for number, one in enumerate(annotations):
        score = random.uniform(0.3, 1)
        points = np.array(one["keypoints"]).reshape(6, 3) + random.normal(0, 8 * (1.1 - score), (6, 3))
        points[:, 2] = score
        if kept(number, score):
            row = {"image_id": one["image_id"], "category_id": 1, "score": score}
            results.append(row | {"keypoints": points.ravel().tolist()})
    for image in images if on_nothing is not None else ():
        points = np.c_[SHAPE * SIDE + [random.uniform(200, 300), 330], np.full(6, on_nothing)]
        row = {"image_id": image["id"], "category_id": 1, "score": on_nothing}
        results.append(row | {"keypoints": points.ravel().tolist()})
    (folder / "results.json").write_text(json.dumps(results))
    return diagnose(
        [folder / "results.json"], data=str(folder / "cups.json"), level="evaluate", sigmas=(0.06,),
        causes=list(causes),
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


@pytest.mark.parametrize(("score", "named"), [(0.99, ["poses on no instance rank first"]), (0.1, [])])
def test_poses_on_no_instance_are_named_where_they_rank_first_and_no_score_is_blamed(tmp_path, score, named):
    """Turned round, the order of such poses gives AP as well, though it ranks those on instances rightly."""
    report = diagnosed(tmp_path, lambda number, score: True, CAUSES, score)
    assert [one.cause for one in report.findings] == named
    assert all(one.confidence == "proved" for one in report.findings)
