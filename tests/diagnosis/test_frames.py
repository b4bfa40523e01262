"""Faults of whole annotation files: keypoints and boxes of images of two sizes, mirrored, none labelled."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.diagnosis.planted_labels import (
    annotation_file,
    box_corners,
    boxes_halved,
    boxes_larger,
    centre_boxes,
    each,
    mirrored,
    normalised,
    twice,
    unit_boxes,
    unlabelled,
)
from tests.diagnosis.planted_results import good_results
from tests.diagnosis.planted_sixths import in_images
from tests.diagnosis.systems import RTMPOSE
from workbench.data.coco import read_coco
from workbench.diagnosis import diagnose
from workbench.diagnosis.annotated_box_causes import AnnotatedBoxes, frames_of
from workbench.diagnosis.claim_distances import torsos
from workbench.diagnosis.evaluation_causes import WrongImages
from workbench.diagnosis.input_causes import CAUSES as INPUT
from workbench.diagnosis.lint_causes import Lints
from workbench.diagnosis.offset_causes import LabelsMoved
from workbench.diagnosis.placing_causes import Placing, SplitRatio
from workbench.evaluation.evaluate import truth_of


def nothing(raw):
    """No change."""


@pytest.mark.parametrize(("change", "factor"), [(twice, (2, 2)), (mirrored, (1, -1)), (boxes_halved, (2, 2))])
def test_boxes_and_keypoints_of_two_images_are_told_with_the_factor(change, factor, tmp_path):
    frames = frames_of(read_coco(*annotation_file(tmp_path, change)))
    assert frames is not None
    assert frames.factor == pytest.approx(factor, abs=0.1)


@pytest.mark.parametrize("change", [nothing, box_corners, centre_boxes, unit_boxes, normalised])
def test_boxes_in_another_form_are_of_the_same_image(change, tmp_path):
    assert frames_of(read_coco(*annotation_file(tmp_path, change))) is None


def test_keypoints_twice_too_large_are_proved_and_the_codec_is_not_accused(tmp_path):
    """Poses at a wrong place throughout gain a little by any stray change: that proves nothing."""
    path, images = annotation_file(tmp_path, twice)
    causes = [LabelsMoved(), AnnotatedBoxes(), SplitRatio()]
    report = diagnose([RTMPOSE.last()], data=path, images=images, level="forward", causes=causes)
    (found,) = report.findings
    assert (found.cause, found.confidence) == ("annotated keypoints moved", "proved")
    assert "keypoints times (2.00, 2.00) plus (0, 0)" in found.evidence


def test_boxes_half_as_large_again_are_named_and_not_the_padding(tmp_path):
    path, images = annotation_file(tmp_path, boxes_larger)
    causes = [AnnotatedBoxes(), *(cause for cause in INPUT if cause.name == "crop padding")]
    report = diagnose([RTMPOSE.last()], data=path, images=images, level="forward", causes=causes)
    first = report.findings[0]
    assert (first.cause, first.confidence) == ("annotated boxes do not fit their keypoints", "proved")


def test_coordinates_without_any_labelled_keypoint_are_told(tmp_path):
    path, images = annotation_file(tmp_path, unlabelled)
    report = diagnose([path], images=images, level="files", causes=[Lints()])
    assert "all have visibility 0" in report.findings[0].evidence


def test_a_set_without_poses_is_not_accused(tmp_path):
    path, images = annotation_file(tmp_path, lambda raw: each(raw, lambda points, _: points * 0))
    report = diagnose([path], images=images, level="files", causes=[Lints()])
    assert not [found for found in report.findings if found.cause == "visibility"]


@pytest.mark.parametrize(
    ("every", "factor"), [(4, (1.5, 1.5)), pytest.param(2, (0.8, 1.2), marks=pytest.mark.long)]
)
def test_poses_of_a_part_of_the_pictures_in_another_frame_size_are_taken_back(every, factor, tmp_path):
    edit = in_images(every, lambda points, _: points * [*factor, 1])
    targets, options = good_results(nothing, edit)(tmp_path)
    (found,) = diagnose(targets, level="forward", causes=[Placing()], **options).findings
    told = re.search(r"keypoints times \(([\d.]+), ([\d.]+)\) in the poses of", found.evidence)
    assert told is not None
    assert [float(one) for one in told.groups()] == pytest.approx([1 / one for one in factor], abs=0.01)


@pytest.mark.parametrize("every", [1, 2])
def test_image_ids_that_are_texts_are_named(every, tmp_path):
    def edit(found):
        for entry in found[::every]:
            entry["image_id"] = f"{entry['image_id']:012d}"

    targets, options = good_results(nothing, edit)(tmp_path)
    (found,) = diagnose(targets, level="forward", causes=[WrongImages()], **options).findings
    assert "is a text, such as '0000" in found.evidence
    targets, options = good_results(nothing, seed=0)(tmp_path)
    assert diagnose(targets, level="forward", causes=[WrongImages()], **options).findings == ()


def test_lengths_of_a_pose_are_those_of_both_labelled_keypoints():
    pose_set = RTMPOSE.pose_set()
    truth, names = truth_of(pose_set), pose_set.skeleton.keypoints
    found = torsos(truth, names)
    length = found["distance from neck to root of tail"]
    points = truth.keypoints[0]
    assert length[0] == pytest.approx(np.linalg.norm(points[3, :2] - points[4, :2]), nan_ok=True)
    labelled = (truth.keypoints[:, [3, 4], 2] > 0).all(1)
    assert np.isfinite(length).tolist() == labelled.tolist()
