"""A keypoint that is dead, absent, at one place or scored alike is named; healthy poses stay silent."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.diagnosis.planted_results import good_poses
from workbench.checkpoints.demo import demo_checkpoints
from workbench.data import builtin
from workbench.diagnosis import diagnose
from workbench.diagnosis.keypoint_causes import FixedKeypoint, _shifted, moved_against
from workbench.diagnosis.weight_causes import DeadUnits

KEYPOINT = 9


def found_in(folder, change):
    """The report of poses near the truth, of which a function changed the keypoints [17, 3] of each."""
    pose_set = builtin("scenes-val")
    poses = good_poses(pose_set)
    for pose, index in zip(poses, pose_set.labelled, strict=True):
        points = np.array(pose["keypoints"]).reshape(-1, 3)
        points[:, 2] = np.random.default_rng(index).uniform(0.3, 0.9, len(points))
        change(points, np.array(pose_set.instances[index].box))
        pose["keypoints"] = points.ravel().tolist()
    path = folder / "results.json"
    path.write_text(json.dumps(poses))
    return diagnose([path], data="scenes-val", level="forward", causes=[FixedKeypoint()])


def at_origin(points, box):
    points[KEYPOINT] = 0


def at_origin_with_a_score(points, box):
    points[KEYPOINT, :2] = 0


def absent_as_minus_one(points, box):
    points[KEYPOINT] = -1


def at_one_place_of_the_box(points, box):
    points[KEYPOINT, :2] = box[:2] + 0.3 * (box[2:] - box[:2])


def at_one_place_of_the_image(points, box):
    points[KEYPOINT, :2] = 240, 180


def with_one_score(points, box):
    points[KEYPOINT, 2] = 0.5


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (at_origin, "(0, 0)|absent"),
        (at_origin_with_a_score, "at (0, 0)"),
        (absent_as_minus_one, "at the same place of the image"),
        (at_one_place_of_the_box, "at the same place of the box"),
        (at_one_place_of_the_image, "at the same place of the image"),
        (with_one_score, "scored 0.5"),
    ],
)
def test_a_keypoint_that_is_the_same_in_every_pose_is_named(tmp_path, change, how):
    report = found_in(tmp_path, change)
    (finding,) = report.findings
    name = builtin("scenes-val").skeleton.keypoints[KEYPOINT]
    assert f"{name} (keypoint {KEYPOINT}, counted from 0) is " in finding.evidence
    assert any(part in finding.evidence for part in how.split("|")), finding.evidence
    sentences = [note.partition(" times")[0] for note in report.notes if "-1 " in note]
    count = len(builtin("scenes-val").labelled)
    what = (f"of keypoints, at (-1, -1): {count}", f"of the scores of keypoints: {count}")
    assert sentences == [f"results.json: -1 {one}" for one in what if change is absent_as_minus_one]


def test_poses_of_which_every_keypoint_varies_are_not_accused(tmp_path):
    assert found_in(tmp_path, lambda points, box: None).findings == ()
    own = diagnose(
        demo_checkpoints()[-1], data="scenes-val", level="forward", causes=[FixedKeypoint()], sample=24
    )
    assert own.findings == ()


def test_a_layer_whose_scales_in_the_batch_normalisation_are_zero_is_named(tmp_path):
    content = torch.load(demo_checkpoints()[-1], map_location="cpu", weights_only=False)
    name = next(
        n for n in content["state_dict"] if n.endswith(".bn.weight") and len(content["state_dict"][n]) >= 16
    )
    scale = content["state_dict"][name]
    scale[: len(scale) // 4] = 0
    torch.save(content, tmp_path / "epoch_40.pth")
    (finding,) = diagnose(tmp_path / "epoch_40.pth", level="files", causes=[DeadUnits()]).findings
    assert f"{len(scale) // 4} of {len(scale)} units of {name} have all weights zero" in finding.evidence


def test_one_dead_row_of_the_output_layer_is_a_dead_keypoint(tmp_path):
    content = torch.load(demo_checkpoints()[-1], map_location="cpu", weights_only=False)
    healthy = diagnose(demo_checkpoints()[-1], level="files", causes=[DeadUnits()])
    assert healthy.findings == ()
    content["state_dict"]["head.final_layer.weight"][KEYPOINT] = 0
    path = tmp_path / "epoch_40.pth"
    torch.save(content, path)
    (finding,) = diagnose(path, level="files", causes=[DeadUnits()]).findings
    assert finding.severity == "error"
    assert "1 of 17 rows of the output layer head.final_layer.weight has all weights zero" in finding.evidence
    assert f"keypoint {KEYPOINT} (counted from 0)" in finding.evidence


def keypoints_near_the_truth(seed=0):
    """Poses [N, 17, 2], labels [N, 17, 3] and boxes [N, 4] of 40 instances of several sizes and places."""
    random = np.random.default_rng(seed)
    size = random.uniform(60, 120, (40, 2))
    corner = random.uniform(0, 300, (40, 2))
    truth = corner[:, None] + random.random((40, 17, 2)) * size[:, None]
    points = truth + random.normal(0, 1, truth.shape)
    seen = np.full((40, 17, 1), 2.0)
    return points, np.concatenate([truth, seen], -1), np.concatenate([corner, corner + size], 1)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda p, b: p[:, ::-1], "x and y exchanged"),
        (lambda p, b: p * [-1, 1] + [480, 0], "x mirrored"),
        (lambda p, b: (b[:, :2] + b[:, 2:]) * [0, 1] + p * [1, -1], "y mirrored"),
        (lambda p, b: p * 0.8, "x times 1.25 and y times 1.25"),
        (lambda p, b: np.add(p, [14, 0]), "x moved by -1"),
        (lambda p, b: p + (b[:, 2:] - b[:, :2]) * [0, 0.2], "y moved by -0."),
    ],
    ids=["exchanged", "mirrored in the image", "mirrored in the box", "scaled", "moved", "moved in the box"],
)
def test_the_rule_by_which_one_keypoint_is_moved_is_recovered(edit, message):
    points, truth, boxes = keypoints_near_the_truth()
    assert moved_against(points, truth, boxes) == []
    points[:, KEYPOINT] = edit(points[:, KEYPOINT], boxes)
    [found] = moved_against(points, truth, boxes)
    assert found.keypoint == KEYPOINT
    assert message in found.way.text()
    back = found.way(found.way(points[:, KEYPOINT], boxes, points), boxes, points, back=True)
    assert np.allclose(back, points[:, KEYPOINT])


def test_a_keypoint_that_lies_on_the_way_to_another_one_is_recovered():
    points, truth, boxes = keypoints_near_the_truth()
    truth[:, KEYPOINT, :2] += 0.4 * (truth[:, 3, :2] - truth[:, KEYPOINT, :2])
    [found] = moved_against(points, truth, boxes)
    assert (found.keypoint, found.way.keypoint) == (KEYPOINT, 3)
    assert found.way.share == pytest.approx(0.4, abs=0.02)
    names = [f"part {k}" for k in range(17)]
    assert found.way.text(names) == "moved by 0.4 of the way to part 3"
    labels = truth[..., :2]
    right = found.way(labels[:, KEYPOINT], boxes, labels, back=True)
    assert np.median(np.linalg.norm(right - points[:, KEYPOINT], axis=1)) < 4
    # Where the other one is not known, the label stays.
    unknown = np.full_like(labels, np.nan)
    np.testing.assert_array_equal(found.way(labels[:, KEYPOINT], boxes, unknown), labels[:, KEYPOINT])


def test_a_keypoint_that_is_hard_to_find_is_moved_by_no_rule():
    points, truth, boxes = keypoints_near_the_truth()
    points[:, KEYPOINT] += np.random.default_rng(1).normal(0, 12, (len(points), 2))
    assert moved_against(points, truth, boxes) == []


def test_labels_that_lie_outside_their_boxes_are_to_blame_and_not_the_poses():
    points, truth, boxes = keypoints_near_the_truth()
    truth[:, KEYPOINT, :2] = truth[:, KEYPOINT, 1::-1]
    [found] = moved_against(points, truth, boxes)
    assert (found.in_labels, found.in_poses) == (True, False)


@pytest.mark.parametrize(
    ("offset", "spread", "is_off"), [(0.1, 0.05, True), (0.04, 0.02, False), (0.1, 0.2, False)]
)
def test_a_keypoint_is_off_to_one_side_where_its_offset_is_large_beside_its_spread(offset, spread, is_off):
    random = np.random.default_rng(3)
    assert _shifted(np.array([0.0, offset]) + random.normal(0, spread, (80, 2))) == is_off
