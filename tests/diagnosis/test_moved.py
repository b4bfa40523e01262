"""Results under other images' ids, keypoints and boxes moved by a constant: found by what undoes it."""

from __future__ import annotations

import dataclasses
import json
import re
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.diagnosis.planted_labels import annotation_file, each, labelled, moved_boxes
from tests.diagnosis.planted_results import good_poses, own_results, shifted_ids
from tests.diagnosis.planted_seconds import sorted_as_text
from tests.diagnosis.systems import OTHER_VITPOSE, RTMPOSE
from workbench.checkpoints.demo import demo_checkpoints
from workbench.core import Codec, NotAvailable
from workbench.core.finding import Effect
from workbench.data import builtin
from workbench.data.coco import read_coco
from workbench.diagnosis import Cause, diagnose
from workbench.diagnosis.annotated_box_causes import MOST_CUT, fit_of
from workbench.diagnosis.decoder_causes import OtherDecoder
from workbench.diagnosis.image_id_causes import OtherPictures, recovered_ids, recovered_poses
from workbench.diagnosis.keypoint_causes import FixedKeypoint
from workbench.diagnosis.lint_causes import from_corner, with_corner
from workbench.diagnosis.offset_causes import check_reading, groups_of, offset_of
from workbench.diagnosis.placing_causes import Placing
from workbench.diagnosis.report import by_proof
from workbench.evaluation.predictions import Predictions


def under(change):
    """The demo's results with image ids changed, and the change: id -> id in the file."""
    found = own_results()
    ids = sorted({entry["image_id"] for entry in found})
    other = change(ids)
    for entry in found:
        entry["image_id"] = other[entry["image_id"]]
    return found, other


def moved_by(places):
    return lambda ids: {n: ids[(i + places) % len(ids)] for i, n in enumerate(ids)}


def shuffled(ids):
    return dict(zip(ids, np.random.default_rng(0).permutation(ids).tolist(), strict=True))


@pytest.mark.parametrize(("change", "shift"), [(moved_by(1), -1), (moved_by(-7), 7), (shuffled, 0)])
def test_the_images_that_the_poses_fit_are_recovered(change, shift):
    found, other = under(change)
    recovered = recovered_ids(Predictions.from_coco(found), RTMPOSE.pose_set())
    assert recovered is not None
    assert recovered.shift == shift
    right = [recovered.right[there] == own for own, there in other.items()]
    assert np.mean(right) > 0.95


def test_results_under_their_own_ids_are_left_alone():
    own, pose_set = Predictions.from_coco(own_results()), RTMPOSE.pose_set()
    assert recovered_ids(own, pose_set) is None
    assert recovered_poses(own, pose_set) is None


@pytest.mark.parametrize(("every", "by"), [(3, 1), (2, -4)])
def test_the_images_that_some_of_the_poses_fit_are_recovered(every, by):
    pose_set = RTMPOSE.pose_set()
    poses = good_poses(pose_set)
    own = [entry["image_id"] for entry in poses]
    shifted_ids(by, every)(poses)
    given = Predictions.from_coco(poses)
    recovered = recovered_poses(given, pose_set)
    assert recovered is not None
    assert recovered.shift == -by
    assert np.mean(recovered.of(given).image_id == own) > 0.95


@pytest.mark.long
def test_a_list_that_is_off_by_one_image_is_the_main_cause(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(under(moved_by(1))[0]))
    report = diagnose([path], data=RTMPOSE.options()["data"])
    assert [f.cause for f in report.findings] == ["results stand under other images' ids"]
    first = report.findings[0]
    assert first.confidence == "proved"
    assert first.effect is not None
    assert first.effect.low > 0.2
    assert "-1 in the order of the ids" in first.evidence


@pytest.mark.parametrize("served", [False, True], ids=["own files", "served folders"])
@pytest.mark.parametrize(
    ("change", "causes"), [(sorted_as_text, ["annotations stand under other images"]), (lambda raw: raw, [])]
)
def test_labels_under_the_names_of_other_images_are_found_wherever_the_set_lies(
    tmp_path, served, change, causes
):
    """A set's own folders bound what is read of it: that was taken for a reason to leave this cause out."""
    targets, given = labelled(change)(tmp_path)
    within = (tmp_path, given["images"]) if served else ()
    report = diagnose(
        targets,
        **given,
        level="forward",
        causes=[OtherPictures()],
        sample=24,
        within=within and (*within, *targets),
    )
    assert [f.cause for f in report.findings] == causes
    assert not report.not_testable


def crops(seed=0, count=24):
    """Affines of boxes of several sizes, predicted keypoints, and the labels that differ by noise alone."""
    random = np.random.default_rng(seed)
    affines = np.zeros((count, 2, 3))
    affines[:, 0, 0] = affines[:, 1, 1] = np.linspace(0.5, 3.0, count)
    affines[:, :, 2] = random.uniform(0, 300, (count, 2))
    inside = random.uniform(20, 100, (count, 17, 2))
    points = np.einsum("nij,nkj->nki", affines[:, :, :2], inside) + affines[:, None, :, 2]
    noise = np.einsum("nij,nkj->nki", affines[:, :, :2], random.normal(0, 1, inside.shape))
    return affines, points, np.concatenate([points + noise, np.full((count, 17, 1), 2.0)], -1)


def test_an_offset_in_the_image_is_told_from_one_in_the_crop():
    affines, points, truth = crops()
    assert offset_of(points, truth, affines) is None
    in_image = truth + np.array([8, 0, 0])
    found = offset_of(points, in_image, affines)
    assert found is not None
    assert found.in_image
    assert found.image == pytest.approx((8, 0), abs=0.4)
    in_crop = truth.copy()
    in_crop[..., :2] += (affines[:, :, :2] @ np.array([-6.0, 3.0]))[:, None]
    found = offset_of(points, in_crop, affines)
    assert found is not None
    assert not found.in_image
    assert found.crop == pytest.approx((-6, 3), abs=0.4)
    assert offset_of(points[:4], in_crop[:4], affines[:4]) is None


@pytest.mark.long
def test_labels_moved_along_x_are_the_main_cause_with_their_amount(tmp_path):
    def to_the_right(raw):
        each(raw, lambda points, entry: points + np.where(points[:, 2:] > 0, [8.0, 0.0, 0.0], 0.0))

    targets, options = labelled(to_the_right)(tmp_path)
    report = diagnose(targets, level="forward", sample=48, **options)
    first = report.findings[0]
    assert (first.cause, first.confidence) == ("annotated keypoints moved", "proved")
    assert "half-pixel shift" not in [f.cause for f in report.findings]
    amount = first.fix.split("(")[1].split(",")[0]
    assert float(amount) == pytest.approx(-8, abs=1)


@pytest.mark.long
def test_a_rolled_output_is_told_along_its_own_axis(tmp_path):
    import torch

    source = demo_checkpoints("rtmpose-demo")[-1]
    stored = torch.load(source, map_location="cpu", weights_only=True)
    for name in ("head.cls_x.weight", "head.cls_x.bias"):
        if name in stored["state_dict"]:
            stored["state_dict"][name] = stored["state_dict"][name].roll(12, 0)
    path = tmp_path / source.name
    torch.save(stored, path)
    report = diagnose([path], data=RTMPOSE.options()["data"], level="forward", sample=48)
    first = report.findings[0]
    assert (first.cause, first.confidence) == ("keypoints placed wrongly", "proved")
    x, y = (
        float(word.strip(" ()")) for word in first.fix.split("input pixels")[0].split("by ")[1].split(",")
    )
    assert x == pytest.approx(-6, abs=0.6)
    assert y == pytest.approx(0, abs=0.6)


class Named(Cause):
    """A cause of a given name, to make findings of."""

    group = "file"

    def __init__(self, name):
        self.name = name

    def test(self, case):
        return ()


def test_what_leaves_ap_at_zero_comes_after_a_broken_invariant():
    nothing = Named("statistics").found("a", effect=Effect("AP", 0.0, 0.0, 0.0), confidence="likely")
    broken = Named("zero weights").found("b")
    assert [f.evidence for f in by_proof([nothing, broken])] == ["b", "a"]


@pytest.mark.slow
def test_zero_weights_come_before_the_batch_statistics_that_they_spoil(tmp_path):
    import torch

    source = demo_checkpoints("rtmpose-demo")[-1]
    stored = torch.load(source, map_location="cpu", weights_only=True)
    for name, tensor in stored["state_dict"].items():
        if name.startswith("backbone.stage3.1") and name.endswith("conv.weight"):
            tensor.zero_()
    path = tmp_path / source.name
    torch.save(stored, path)
    report = diagnose([path], data=RTMPOSE.options()["data"], level="forward", sample=24)
    first, *others = report.findings
    assert first.cause == "layers with all weights zero"
    assert "batch-norm" not in report.sentences()[1]
    for finding in others:
        if finding.cause == "batch-norm statistics do not fit" and finding.effect is not None:
            assert (finding.confidence == "proved") == (finding.effect.low > 0)


def boxes(edit):
    """The demo's checkpoint, beside annotations with other boxes."""

    def change(raw):
        for entry in raw["annotations"]:
            entry["bbox"] = edit(*entry["bbox"])

    return labelled(change)


def test_annotated_boxes_of_the_demo_lie_around_their_keypoints():
    fit = fit_of(RTMPOSE.pose_set())
    assert fit is not None
    assert np.abs(fit.offset).max() < 0.06 * fit.size
    assert 0.7 < fit.span < 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("edit", "words", "confidence"),
    [
        (lambda x, y, w, h: [x + 20, y + 20, w, h], "by about (-20, -1", "proved"),
        pytest.param(
            lambda x, y, w, h: [x, y, x + w, y + h],
            "convert x0, y0, x1, y1 to x, y, width, height",
            "proved",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda x, y, w, h: [x + 0.2 * w, y + 0.2 * h, 0.6 * w, 0.6 * h],
            "makes up for the same",
            "likely",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["moved", "corners", "small"],
)
def test_boxes_beside_their_keypoints_are_named_with_what_to_do(edit, words, confidence, tmp_path):
    targets, options = boxes(edit)(tmp_path)
    report = diagnose(targets, level="forward", sample=48, **options)
    first, *others = report.findings
    assert (first.cause, first.confidence) == ("annotated boxes do not fit their keypoints", confidence)
    assert words in first.fix
    assert first.effect is not None
    assert first.effect.low > 0
    names = [finding.cause for finding in others]
    assert len(set(names)) == len(names)
    assert all(finding.fix for finding in others)


@pytest.mark.long
def test_what_a_sample_leaves_open_is_asked_again_within_two_evaluations(tmp_path):
    targets, options = boxes(lambda x, y, w, h: [x + 20, y, w, h])(tmp_path)
    report = diagnose(targets, level="evaluate", sample=48, **options)
    first, (given, size) = report.findings[0], report.cost
    assert given <= 2 * size
    assert (first.cause, first.confidence) == ("annotated boxes do not fit their keypoints", "proved")
    assert "by about (-20, " in first.fix


def test_boxes_are_moved_by_a_share_of_their_size_or_by_pixels(tmp_path):
    for change, by_size, wanted in ((moved_boxes(-0.25), True, -0.25), (moved_boxes(0.33), True, 0.33)):
        path, images = annotation_file(tmp_path, change, OTHER_VITPOSE)
        fit = fit_of(read_coco(path, images))
        assert fit.by_size is by_size
        np.testing.assert_allclose(fit.share, wanted, atol=0.03)

    def by_pixels(raw):
        for entry in raw["annotations"]:
            x, y, w, h = entry["bbox"]
            entry["bbox"] = [x + 40, y - 30, w, h]

    path, images = annotation_file(tmp_path, by_pixels, OTHER_VITPOSE)
    fit = fit_of(read_coco(path, images))
    assert not fit.by_size
    np.testing.assert_allclose(fit.offset, (40, -30), atol=4)


def of_moved_poses(folder, amount, level="forward"):
    """Findings of poses near the truth, each moved by `amount` of its instance."""
    pose_set = RTMPOSE.pose_set()
    found = good_poses(pose_set)
    for i, entry in zip(pose_set.labelled, found, strict=True):
        moved = np.reshape(entry["keypoints"], (-1, 3))
        moved[:, :2] += amount(pose_set.instances[i])
        entry["keypoints"] = moved.ravel().tolist()
    (folder / "results.json").write_text(json.dumps(found))
    return diagnose(folder / "results.json", level=level, causes=[Placing()], **RTMPOSE.options()).findings


@pytest.mark.parametrize("level", ["forward", pytest.param("evaluate", marks=pytest.mark.long)])
def test_a_margin_of_the_box_that_was_not_taken_off_is_undone(level, tmp_path):
    def margin(one):
        x0, y0, x1, y1 = one.box
        return 0.4 * max(0, y1 - y0 - x1 + x0), 0.4 * max(0, x1 - x0 - y1 + y0)

    (finding,) = of_moved_poses(tmp_path, margin, level)
    assert re.search(
        r"x by -0\.(39|40|41) \* what it is higher than wide; y by -0\.(39|40|41) \* what it is wider",
        finding.evidence,
    )
    assert finding.confidence == "proved"


@pytest.mark.long
def test_poses_of_part_of_the_images_moved_by_one_amount_are_undone(tmp_path):
    (finding,) = of_moved_poses(tmp_path, lambda one: (30, -20) if one.image_id % 3 == 0 else (0, 0))
    assert "two groups" in finding.evidence
    assert "moved by (-30." in finding.evidence or "moved by (-29." in finding.evidence
    assert finding.confidence == "proved"
    assert of_moved_poses(tmp_path, lambda one: (0, 0)) == ()


@pytest.mark.parametrize("with_scores", [pytest.param(True, marks=pytest.mark.long), False])
def test_numbers_that_were_written_column_by_column_are_read_so(tmp_path, with_scores):
    found = good_poses(RTMPOSE.pose_set())
    for entry in found:
        points = np.reshape(entry["keypoints"], (-1, 3))
        written = points.T.reshape(-1, 3)
        if not with_scores:
            written = np.column_stack([points[:, :2].T.reshape(-1, 2), points[:, 2]])
        entry["keypoints"] = written.ravel().tolist()
    (tmp_path / "results.json").write_text(json.dumps(found))
    causes = [Placing(), FixedKeypoint()]
    report = diagnose(tmp_path / "results.json", level="forward", causes=causes, **RTMPOSE.options())
    (finding,) = report.findings
    assert (finding.cause, finding.confidence) == ("keypoints placed wrongly", "proved")
    assert ("all scores" in finding.fix) == with_scores


def test_boxes_of_another_shape_than_the_body_cut_poses_and_loose_ones_do_not(tmp_path):
    def squares(raw):
        for entry in raw["annotations"]:
            x, y, w, h = entry["bbox"]
            entry["bbox"] = [x + (w - min(w, h)) / 2, y + (h - min(w, h)) / 2, min(w, h), min(w, h)]

    def loose(raw):
        for entry in raw["annotations"]:
            x, y, w, h = entry["bbox"]
            entry["bbox"] = [x - 0.1 * w, y - 0.1 * h, 1.2 * w, 1.2 * h]

    for change, cuts in ((squares, True), (loose, False), (lambda raw: None, False)):
        fit = fit_of(read_coco(*annotation_file(tmp_path, change)))
        assert fit is not None
        assert (fit.cut >= MOST_CUT) is cuts


def test_one_cloud_of_offsets_is_no_two_groups():
    random = np.random.default_rng(0)
    for drawn in (
        random.normal(0, 4, (60, 2)),
        random.uniform(-9, 9, (60, 2)),
        random.standard_t(3, (60, 2)),
    ):
        assert groups_of(drawn) is None
    apart = random.normal(0, 2, (60, 2))
    apart[:12] += [30, 10]
    second, centres, _ = groups_of(apart) or (None, None, None)
    assert second is not None
    assert centres is not None
    assert second.tolist() == [True] * 12 + [False] * 48
    assert np.abs(centres - [[0, 0], [30, 10]]).max() < 1.5


@pytest.mark.parametrize("name", ["scenes-val", "scenes-people-val"])
def test_keypoints_from_the_corner_of_their_box_are_told_from_the_boxes_alone(name):
    pose_set = builtin(name)
    assert from_corner(pose_set) == []
    rows = list(pose_set.labelled[::6])
    corners = {row: (*pose_set.instances[row].box[:2], 0) for row in rows}
    spoilt = dataclasses.replace(
        pose_set,
        raw={"annotations": []},
        instances=tuple(
            dataclasses.replace(one, truth=np.asarray(one.truth) - corners[row] * (one.truth[:, 2:] > 0))
            if row in corners
            else one
            for row, one in enumerate(pose_set.instances)
        ),
    )
    found = from_corner(spoilt)
    assert set(found) <= set(rows)
    assert len(found) >= len(rows) / 2  # the others lie at the left or the upper edge of their image
    back = with_corner(spoilt, found)
    for row in found:
        np.testing.assert_allclose(back.instances[row].truth, pose_set.instances[row].truth)


@pytest.mark.parametrize(
    ("assumed", "nearer", "waits"), [("quarter", True, True), ("quarter", False, False), ("", True, False)]
)
def test_labels_are_not_accused_while_an_exported_file_may_be_read_by_the_wrong_decoder(
    monkeypatch, assumed, nearer, waits
):
    monkeypatch.setattr(OtherDecoder, "changes", lambda self, case: iter([object()] * nearer))
    codec = Codec("heatmap", (64, 64), (16, 16), assumed=assumed)
    case: Any = SimpleNamespace(model=lambda: SimpleNamespace(codec=codec))
    with pytest.raises(NotAvailable, match="settle the decoder first") if waits else nullcontext():
        check_reading(case)
