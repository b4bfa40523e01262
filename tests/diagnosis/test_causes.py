"""What the causes compute: factors of parts, turned points, package pairs, leaks, boxes, losses."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.diagnosis.planted_code import vitpose_config
from tests.diagnosis.planted_labels import leaked, other_training_set
from tests.diagnosis.planted_results import at_most, good_poses, good_results, mixed_up_sides, pck
from tests.diagnosis.planted_thirds import by_image, exported, mean_oks, pck_of_diagonal, unlabelled_too
from tests.diagnosis.planted_weights import checkpoint, missing
from tests.diagnosis.systems import RTMPOSE
from workbench.checkpoints.demo import demo_checkpoints, demo_config
from workbench.core import Batch, NotAvailable, Outputs
from workbench.data import builtin
from workbench.decoding.grouping import HIGHERHRNET
from workbench.diagnosis import diagnose, evaluation_causes
from workbench.diagnosis.box_causes import InstancesLeftOut, best_overlap, extents_stated
from workbench.diagnosis.case import Case, Options
from workbench.diagnosis.cause import NotTestable
from workbench.diagnosis.claim_causes import ClaimByOtherRules, Scored
from workbench.diagnosis.commands import _model
from workbench.diagnosis.config_causes import Audit, RateOfRecipe, WeightDecayOnNorms
from workbench.diagnosis.constant_outputs import MirroredAlike
from workbench.diagnosis.evidence import Evidence, only
from workbench.diagnosis.label_causes import KeypointOrder, OrderByName, paired_rows
from workbench.diagnosis.loading_causes import NotRun
from workbench.diagnosis.norm_statistics import NormStatistics
from workbench.diagnosis.package_causes import PAIRS, PackageVersions
from workbench.diagnosis.placing_causes import SidesExchanged
from workbench.diagnosis.precision_causes import LossScaled, MixedPrecision
from workbench.diagnosis.rate_causes import Rate
from workbench.diagnosis.set_causes import (
    TrainingImages,
    Turn,
    annotation_files,
    leaked_images,
    upright_points,
)
from workbench.diagnosis.tag_fit import AGREE, TagsMoved, tag_fit
from workbench.diagnosis.targets import sorted_targets
from workbench.diagnosis.weight_causes import PartChange, scaled_parts
from workbench.doctor import examination
from workbench.doctor.examination import numbers
from workbench.evaluation.ablation.variants import TagMaps
from workbench.evaluation.evaluate import truth_of
from workbench.evaluation.keypoint_ap import keypoint_ap
from workbench.evaluation.predictions import Predictions


def test_a_part_is_scaled_where_its_factor_stands_out_and_its_direction_stayed():
    healthy = [PartChange(name, scale, rest, 10) for name, scale, rest in
               (("a", 0.98, 0.14), ("b", 1.0, 0.23), ("c", 1.04, 0.37), ("d", 1.29, 0.29))]  # fmt: skip
    assert scaled_parts(healthy) == []
    ((one, factor),) = scaled_parts([*healthy, PartChange("e", 3.06, 0.1, 10)])
    assert one.part == "e"
    assert factor == pytest.approx(3.06 / 1.04)
    # A new direction is no scaling, however large the factor.
    assert scaled_parts([*healthy, PartChange("e", 3.0, 0.8, 10)]) == []
    assert scaled_parts(healthy[:2]) == []
    # A single learned number, a gate or an offset, has no direction that could stay.
    assert scaled_parts([*healthy, PartChange("gate", 0.3, 0.0, 1)]) == []


@pytest.mark.parametrize("orientation", range(2, 9))
def test_points_of_a_stored_picture_go_where_pillow_turns_it(orientation, tmp_path):
    from PIL import Image, ImageOps

    stored = np.zeros((4, 6), np.uint8)
    stored[1, 4] = 255
    picture = Image.fromarray(stored)
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened))
    y, x = np.argwhere(upright == 255)[0]
    np.testing.assert_array_equal(upright_points(np.array([[4.0, 1.0]]), Turn(orientation, 4, 6)), [[x, y]])


@pytest.mark.parametrize(
    ("first", "second", "breaks"),
    [
        (("mmdet", "3.3.0"), ("mmcv", "2.2.0"), True),
        (("mmdet", "3.3.0"), ("mmcv", "2.1.0"), False),
        (("torchvision", "0.15.2"), ("torch", "2.0.1+cu118"), False),
        (("torchvision", "0.15.2"), ("torch", "2.1.0"), True),
        (("torchvision", "0.14.1"), ("torch", "1.13.1"), False),
        (("torchvision", "0.28.0"), ("torch", "2.13.0+cpu"), False),
        (("mmengine", "0.10.7"), ("setuptools", "82.0.0"), True),
        (("mmengine", "0.10.7"), ("setuptools", "81.0.0"), False),
        (("torch", "2.1.2+cu121"), ("numpy", "2.0.1"), True),
        (("torch", "2.3.0"), ("numpy", "2.0.1"), False),
        (("torch", "1.13.1"), ("numpy", "1.26.4"), False),
    ],
)
def test_pairs_break_in_the_versions_in_which_they_were_seen_to(first, second, breaks):
    found = [p for p in PAIRS if (p.first, p.second) == (first[0], second[0])]
    assert any(p.breaks(numbers(first[1]), numbers(second[1])) for p in found) is breaks


def test_packages_are_not_testable_without_recorded_versions(tmp_path):
    report = diagnose(demo_config(), level="files", causes=[PackageVersions()])
    assert "no checkpoint was given" in report.not_testable["package versions that do not fit"]


def test_versions_that_a_text_names_are_looked_up_in_the_same_pairs(tmp_path):
    message = "ModuleNotFoundError: No module named 'mmcv.runner'"
    for mmpose, breaks in (("0.29.0", True), ("1.3.2", False)):
        text = tmp_path / f"{mmpose}.txt"
        text.write_text(f"mmpose {mmpose} and mmcv 2.1.0 are installed\n{message}\n")
        report = diagnose([text], level="files", causes=[PackageVersions()])
        if breaks:
            (found,) = report.findings
            assert "the text names mmpose 0.29.0 and mmcv 2.1.0: mmpose 0.x needs mmcv 1" in found.evidence
        else:
            assert "mmpose 1.3.2" in report.ruled_out["package versions that do not fit"]


def test_an_installation_that_cannot_be_tested_in_time_is_not_accused(tmp_path, monkeypatch):
    monkeypatch.setattr(examination, "_SECONDS", 0.0)
    monkeypatch.setattr(examination, "PROBES", {"torch": ("torch", "import torch")})
    report = diagnose(["RuntimeError: a message that nobody knows"], causes=[PackageVersions()])
    assert not report.findings
    assert "could not be tested: torch" in report.not_testable["package versions that do not fit"]


def test_a_backbone_without_a_head_is_no_question_of_packages(tmp_path):
    """The installation is not examined where the file itself tells why no model can be built."""
    targets, _ = checkpoint(missing(), data=False)(tmp_path)
    (file,) = targets
    content = torch.load(file, weights_only=False)
    torch.save({"state_dict": content["state_dict"]}, file)
    report = diagnose(targets, level="forward", causes=[PackageVersions()])
    assert "no model fails to run" in report.not_testable["package versions that do not fit"]


def test_a_leak_is_told_by_content_and_shared_names_are_none(tmp_path):
    targets, options = leaked(0.1, with_checkpoint=False)(tmp_path)
    report = diagnose(targets, level="files", causes=[TrainingImages()], **options)
    assert report.findings[0].evidence.startswith("12 of 115 annotated images")
    assert "the same content" in report.findings[0].evidence
    (tmp_path / "other").mkdir()
    targets, options = other_training_set()(tmp_path / "other")
    report = diagnose(targets, level="files", causes=[TrainingImages()], **options)
    assert "none of 115" in report.ruled_out["training images in the validation set"]


def test_without_pictures_a_leak_needs_the_name_and_the_same_keypoints():
    import dataclasses

    scenes = builtin("scenes-val")
    case = Case(sorted_targets([]), Options())
    away = {
        n: dataclasses.replace(r, path=r.path.parent / "nowhere" / r.path.name)
        for n, r in scenes.images.items()
    }
    train = dataclasses.replace(scenes, images=away)
    found, how = leaked_images(scenes, train, case)
    assert len(found) == len(scenes.labelled_of_image)
    assert "the same file name and keypoints" in how
    moved = tuple(dataclasses.replace(i, truth=i.truth + 1) for i in scenes.instances)
    assert leaked_images(scenes, dataclasses.replace(train, instances=moved), case)[0] == set()


def test_mirrored_pictures_in_the_training_are_a_leak(tmp_path):
    import dataclasses

    from PIL import Image, ImageOps

    scenes = builtin("scenes-val")
    records = list(scenes.images.values())[:12]
    for n, record in enumerate(records):
        with Image.open(record.path) as picture:
            turned = ImageOps.mirror(picture) if n < 4 else picture.transpose(Image.Transpose.ROTATE_180)
            turned.save(tmp_path / record.path.name, quality=90)
    there = {r.id: dataclasses.replace(r, path=tmp_path / r.path.name) for r in records}
    train = dataclasses.replace(scenes, images=there, within=(tmp_path,))
    found, how = leaked_images(scenes, train, Case(sorted_targets([]), Options()))
    assert (found, how) == ({r.id for r in records[:4]}, "the same content, 4 of them mirrored")


def test_a_path_in_a_config_is_followed_only_beside_the_config(tmp_path):
    outside = tmp_path / "train.json"
    outside.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    run = tmp_path / "run"
    run.mkdir()
    config = run / "config.py"
    config.write_text(f"train_dataloader = dict(dataset=dict(ann_file={str(outside)!r}))\n")
    report = diagnose(config, data="scenes-val", level="files", causes=[TrainingImages()])
    assert "were not found" in report.not_testable["training images in the validation set"]


def test_annotation_files_of_nested_data_sets_are_found():
    inner = {"type": "A", "ann_file": "a.json", "data_root": "data"}
    config = {"train_dataloader": {"dataset": {"datasets": [inner, {"dataset": {"ann_file": "b.json"}}]}}}
    assert annotation_files(config, "train_dataloader") == ["data/a.json", "b.json"]


def test_causes_that_explain_the_same_are_named_with_what_tells_them_apart(tmp_path):
    mirror = builtin("scenes-val").skeleton.mirror
    targets, options = good_results(lambda raw: None, lambda found: mixed_up_sides(found, mirror))(tmp_path)
    report = diagnose(targets, level="forward", causes=[KeypointOrder(), SidesExchanged()], **options)
    (first,) = report.findings
    assert "not told apart from" in first.evidence
    for cause in (KeypointOrder, SidesExchanged):
        assert f"'{cause.name}' by {cause.refuted_by}" in first.evidence
    assert first.confidence == "likely"


def rules_of(found, pose_set):
    """What other evaluators give for the same poses, by their first name."""
    scored = Scored(found, pose_set, tuple(pose_set.skeleton.sigmas), None)
    return {one.names[0]: one.figures["AP"] for one in scored.readings(1) if np.isfinite(one.figures["AP"])}


def test_pck_is_among_the_rules_of_a_result_file():
    scenes = builtin("scenes-val")
    found = Predictions.from_coco(good_poses(scenes))
    sigmas = scenes.skeleton.sigmas
    claim = pck("longer side", 0.05)(truth_of(scenes), found.detections(), sigmas, keypoint_ap)
    by_rule = rules_of(found, scenes)
    assert by_rule["PCK at 0.05 of the longer side"] == pytest.approx(claim, abs=0.005)
    assert 0.1 < claim < 0.99


@pytest.mark.parametrize(
    ("figure", "rule"),
    [
        (by_image, "the mean of the AP of single images"),
        (mean_oks, "mean OKS of each instance's own pose"),
        (unlabelled_too, "unlabelled keypoints counted"),
        (pck_of_diagonal, "PCK at 0.02 of the image's diagonal"),
    ],
)
def test_measures_of_other_evaluators_are_among_the_rules(figure, rule):
    scenes = builtin("scenes-val")
    found = Predictions.from_coco(good_poses(scenes, low=0.02, high=0.12))
    sigmas = scenes.skeleton.sigmas
    claim = figure(truth_of(scenes), found.detections(), sigmas, keypoint_ap)
    assert rules_of(found, scenes)[rule] == pytest.approx(claim, abs=1e-6)
    assert 0.1 < claim < 0.99


def test_keypoints_that_a_result_file_does_not_have_are_left_out_of_its_pck():
    scenes = builtin("scenes-val")
    found = Predictions.from_coco(good_poses(scenes, low=0.02, high=0.12))
    gone = np.random.default_rng(0).random(found.keypoints.shape[:2]) < 0.2
    found = dataclasses.replace(found, keypoints=np.where(gone[..., None], np.nan, found.keypoints))
    truth = truth_of(scenes)
    assert found.image_id.tolist() == truth.image_ids[truth.image].tolist()  # one pose of each annotation
    away = np.linalg.norm(found.keypoints - truth.keypoints[..., :2], axis=-1)
    counted = (truth.keypoints[..., 2] > 0) & ~gone
    near = away < 0.05 * truth.boxes[:, 2:].max(1, keepdims=True)
    assert rules_of(found, scenes)["PCK at 0.05 of the longer side"] == pytest.approx(near[counted].mean())


def test_boxes_are_matched_and_missed_instances_left_out():
    scenes = builtin("scenes-val")
    found = Predictions.from_coco([
        {**entry, "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]]}
        for entry, i in zip(good_poses(scenes), scenes.labelled, strict=True)
        for b in [scenes.instances[i].box]
    ])  # fmt: skip
    assert best_overlap(scenes, found) == pytest.approx(1.0)
    assert not extents_stated(found)
    one = scenes.instances[scenes.labelled[0]]
    fewer = found.take(np.flatnonzero(found.image_id != one.image_id))
    gone = [scenes.instances[i].image_id == one.image_id for i in scenes.labelled]
    np.testing.assert_array_equal(best_overlap(scenes, fewer) == 0, gone)


def test_leaving_out_annotations_that_no_pose_finds_gives_their_ap_back():
    scenes = builtin("scenes-val")
    found = Predictions.from_coco(good_poses(scenes, low=0, high=0.001))
    several = [rows for rows in scenes.labelled_of_image.values() if len(rows) > 1]
    gone = {scenes.instances[rows[0]].annotation_id for rows in several}
    left = [n for n, i in enumerate(scenes.labelled) if scenes.instances[i].annotation_id not in gone]
    evidence = Evidence(scenes, scenes.labelled, given=found.take(np.array(left)))
    effect = evidence.without_others([i for i in scenes.instances if i.annotation_id not in gone])
    assert evidence.measure().figures["AP"] + effect.delta == pytest.approx(1.0)
    assert effect.low > 0.1
    rest = only(scenes, scenes.instances[1:])
    assert len(rest.raw["annotations"]) == len(scenes.raw["annotations"]) - 1


def test_boxes_that_are_extents_of_keypoints_are_no_evidence():
    poses = good_poses(builtin("scenes-val"))
    for entry in poses:
        points = np.array(entry["keypoints"]).reshape(-1, 3)[:, :2]
        entry["bbox"] = [*points.min(0), *np.ptp(points, axis=0)]
    assert extents_stated(Predictions.from_coco(poses))


def written(tmp_path, rows, config=""):
    log = tmp_path / "scalars.json"
    log.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    path = tmp_path / "config.py"
    path.write_text(config or "optim_wrapper = dict(type='OptimWrapper')\n")
    return [log, path]


def rows_of(count, **columns):
    return [
        {
            "epoch": 1 + n // 10,
            "step": n + 1,
            "lr": 0.01,
            "loss": 1.0,
            **{k: f(n) for k, f in columns.items()},
        }
        for n in range(count)
    ]


def test_decay_on_norms_is_what_the_decay_takes_over_the_run(tmp_path):
    text = "optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.01, weight_decay={}))\n"
    rows = rows_of(101)
    # 100 steps of rate .01 and decay .7: exp(-.7).
    report = diagnose(written(tmp_path, rows, text.format(0.7)), level="files", causes=[WeightDecayOnNorms()])
    assert report.findings[0].numbers[0].value == pytest.approx(1 - np.exp(-0.7))
    report = diagnose(
        written(tmp_path, rows, text.format(0.01)), level="files", causes=[WeightDecayOnNorms()]
    )
    assert "by 1% only" in report.ruled_out["weight decay on norms and biases"]


def test_the_rate_is_read_under_the_names_of_other_loggers(tmp_path):
    # Lightning's LearningRateMonitor: lr-AdamW, lr-AdamW/pg1.
    log, config = tmp_path / "metrics.csv", tmp_path / "config.py"
    rows = "\n".join(f"{n // 10},{n + 1},1.0,0.1" for n in range(60))
    log.write_text(f"epoch,step,train_loss,lr-AdamW\n{rows}\n")
    config.write_text("optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.3))\n")
    report = diagnose([log, config], level="files", causes=[Rate(), WeightDecayOnNorms()])
    found = {one.cause: one.evidence for one in report.findings}
    assert "a base rate 10 times as large" in found["learning rate is not the config's"]
    assert "weight decay on norms and biases" in found


@pytest.mark.parametrize(
    ("edit", "cause", "severity"),
    [
        ((r"end=500, start_factor=0.001,\s+by_epoch=False", "end=400, start_factor=0.001, by_epoch=True"),
         "warm-up longer than the run", "error"),
        ((r"lr=5e-4", "lr=5e-3"), "learning rate is ten times off its recipe's", "warning"),
    ],
)  # fmt: skip
def test_a_recipe_beside_the_config_hides_no_error_of_its_own(edit, cause, severity, tmp_path):
    targets, _ = vitpose_config(edit)(tmp_path)
    report = diagnose(targets, level="files", causes=[Audit(), RateOfRecipe()])
    assert [(one.cause, one.severity) for one in report.findings if one.severity != "remark"] == [
        (cause, severity)
    ]


@pytest.mark.parametrize(
    "edits", [(), (("lr=5e-4", "lr=1e-3"),), (("lr=5e-4, betas=.*?,.*?,", "lr=5e-5,"), ("AdamW", "SGD"))]
)
def test_a_config_that_differs_from_its_recipe_on_purpose_is_accused_of_nothing(edits, tmp_path):
    targets, _ = vitpose_config(*edits)(tmp_path)
    report = diagnose(targets, level="files", causes=[Audit(), RateOfRecipe()])
    assert [one.cause for one in report.findings if one.severity != "remark"] == []


def test_half_precision_is_found_by_its_gradients_and_scale(tmp_path):
    amp = "optim_wrapper = dict(type='AmpOptimWrapper')\n"
    rows = rows_of(
        50, grad_norm=lambda n: float("inf") if n % 5 == 4 else 1.0, loss_scale=lambda n: 2.0 ** (16 - n // 5)
    )
    report = diagnose(written(tmp_path, rows, amp), level="files", causes=[MixedPrecision()])
    assert report.findings[0].numbers[0].value == pytest.approx(0.2)
    steady = rows_of(50, grad_norm=lambda n: 1.0, loss_scale=lambda n: 65536.0)
    report = diagnose(written(tmp_path, steady, amp), level="files", causes=[MixedPrecision()])
    assert "65536" in report.ruled_out["half precision overflows in training"]


def test_a_scaled_loss_is_a_fixed_multiple_of_its_parts(tmp_path):
    values = np.random.default_rng(0).uniform(0.5, 1, (40, 2))
    rows = rows_of(40, loss_x=lambda n: values[n, 0], loss_y=lambda n: values[n, 1])
    for n, row in enumerate(rows):
        row["loss"] = 3 * values[n].sum()
    report = diagnose(written(tmp_path, rows), level="files", causes=[LossScaled()])
    assert report.findings[0].numbers[0].value == pytest.approx(3.0)
    for n, row in enumerate(rows):
        row["loss"] = values[n, 0] + 2 * values[n, 1]  # weights of parts are no scaling of the log
    report = diagnose(written(tmp_path, rows), level="files", causes=[LossScaled()])
    assert report.findings == ()


def test_a_checkpoint_without_an_earlier_epoch_leaves_parts_untested(tmp_path):
    alone = tmp_path / "weights.pth"
    alone.write_bytes(demo_checkpoints()[-1].read_bytes())
    report = diagnose(alone, level="files")
    for cause in ("weights of one part scaled", "batch-norm statistics not updated"):
        assert "no earlier epoch" in report.not_testable[cause]
    assert RTMPOSE.last() == demo_checkpoints()[-1]


def test_poses_of_one_image_are_paired_with_the_nearest_centre_once_each():
    people, k = builtin("scenes-val"), 17
    (image_id, rows), *_ = ((n, r) for n, r in people.labelled_of_image.items() if len(r) == 2)
    centres = [np.add(people.instances[i].box[:2], people.instances[i].box[2:]) / 2 for i in rows]
    points = np.stack([np.tile(c, (k, 1)) for c in (centres[1], centres[0], centres[0] + 1)])
    lost = np.full((1, k, 2), np.nan)
    results = [
        {"image_id": image_id, "category_id": 1, "score": 0.5, "keypoints": [0, 0, 1] * k} for _ in range(4)
    ]
    found = dataclasses.replace(Predictions.from_coco(results), keypoints=np.concatenate([lost, points]))
    paired, instances = paired_rows(found, people)
    assert paired == [2, 1]
    assert [one.annotation_id for one in instances] == [people.instances[i].annotation_id for i in rows]
    assert paired_rows(found.take(np.zeros(0, int)), people) == ([], [])


def test_of_an_image_full_of_poses_the_best_ones_are_compared(monkeypatch):
    monkeypatch.setattr(evaluation_causes, "MOST_COMPARED", 2)
    results = [
        {
            "image_id": 1,
            "category_id": 1,
            "score": score,
            "keypoints": [x for j in range(17) for x in (j, 9 * j, 1)],
        }
        for score in (0.2, 0.9, 0.3, 0.8)
    ]
    chosen = evaluation_causes.without_repeated(Predictions.from_coco(results), np.full(17, 0.05))
    assert chosen.tolist() == [0, 1, 2], "of the two best the worse is dropped; the others are not compared"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [(lambda ap: ap, ""), (lambda ap: round(ap, 3), ""), (lambda ap: 0.317, "more surely than by chance")],
)
def test_a_claim_is_explained_by_the_rules_that_give_it_and_by_no_others(tmp_path, wanted, said):
    scenes = builtin("scenes-val")
    found = Predictions.from_coco(good_poses(scenes, low=0.03, high=0.2))
    truth = truth_of(scenes)
    boxes = dataclasses.replace(truth, area=truth.boxes[:, 2] * truth.boxes[:, 3])
    ap = keypoint_ap(boxes, found.detections(), scenes.skeleton.sigmas).figures["AP"]
    targets, options = good_results(lambda raw: None, low=0.03, high=0.2)(tmp_path)
    claim = {"AP": wanted(ap)}
    report = diagnose(targets, level="forward", causes=[ClaimByOtherRules()], claim=claim, **options)
    if said:
        assert said in report.ruled_out[ClaimByOtherRules.name]
    else:
        assert "comes out with the area of the box; " in report.findings[0].evidence


@pytest.mark.parametrize(
    ("edit", "rule"),
    [
        (at_most(1), "no image has more than 1 pose, and all"),
        (
            lambda found: [one for n, one in enumerate(found) if n % 4],
            "near to others and far, large and small",
        ),
        (lambda found: [one for n, one in enumerate(found) if n % 8], ""),
        (lambda found: found, ""),
    ],
)
def test_instances_left_out_are_explained_by_a_rule_or_not_at_all(tmp_path, edit, rule):
    targets, options = good_results(lambda raw: None, edit)(tmp_path)
    report = diagnose(targets, level="forward", causes=[InstancesLeftOut()], **options)
    assert [rule in one.evidence for one in report.findings] == [True] * bool(rule)


MIRRORED = """
import dataclasses
import torch
from torch import nn
from workbench.core import Codec, Outputs
from workbench.models import TopDown
from workbench.skeletons import SKELETONS


def load(checkpoint, device):
    skeleton = SKELETONS["ap10k-17"]
    torch.manual_seed(0)
    network, pairs = nn.Conv2d(3, 17, 3, 2, 1, padding_mode="circular"), list(skeleton.mirror)

    def of(pixels):
        return network(pixels)

    def call(pixels):
        other = of(pixels.flip(-1))
        return Outputs(heatmaps=(of(pixels) + {other}) / 2)

    codec = Codec("heatmap", (32, 32), (16, 16), sigma=(2.0, 2.0), decoder="quarter")
    return TopDown(network, skeleton, codec, call=call)
"""


@pytest.mark.parametrize(
    ("other", "cause"),
    [
        ("other", "mirrored maps that are not mirrored back"),
        ("other.flip(-1)", "mirrored maps whose left and right are not exchanged back"),
        ("other.flip(-1)[:, pairs]", None),
        ("of(pixels)", None),
    ],
    ids=["as they are", "mirrored back", "exchanged as well", "no mirrored pass"],
)
def test_maps_averaged_with_mirrored_ones_are_told_by_the_outputs_of_mirrored_images(other, cause, tmp_path):
    path = tmp_path / "adapter.py"
    path.write_text(MIRRORED.replace("{other}", other))
    report = diagnose(
        [], adapter=path, data="scenes-val", level="forward", sample=4, causes=[MirroredAlike()]
    )  # fmt: skip
    assert [one.cause for one in report.findings] == ([cause] if cause else []), report.text()


class Tagged:
    """A network of three keypoints whose tags, 2 and 8, lie around the labels of two people, moved aside."""

    skeleton, tags, tag_size, module = range(3), 3, 1, torch.nn.Identity()
    grouping = HIGHERHRNET

    def __init__(self, points, moved=(0, 0), copied=False):
        self.maps = torch.randn(len(points), 3, 60, 60, generator=torch.Generator().manual_seed(0)) * 3
        for image, people in enumerate(points):
            for person, tag in zip(people, (2.0, 8.0), strict=True):
                for k, (x, y, _) in enumerate(person.astype(int)):
                    self.maps[image, k, y - 2 : y + 3, x - 2 : x + 3] = tag
        self.maps = self.maps.roll(moved, (3, 2))
        if copied:
            self.maps = self.maps[:, :1].expand(-1, 3, -1, -1)

    def prepare(self, samples):
        return Batch(torch.zeros(1, 3, 60, 60), np.array([[[1.0, 0, 0], [0, 1, 0]]]), tuple(samples))

    def forward(self, batch):
        own = self.maps[batch.samples[0] // 2][None]
        return Outputs(heatmaps=own, tags=own)


@pytest.mark.parametrize(
    ("how", "moved", "copies"),
    [({}, None, 0), ({"moved": (-10, 3)}, (10, -3), 0), ({"copied": True}, None, 2)],
    ids=["right", "moved", "one for all"],
)
def test_tags_are_looked_for_where_those_of_one_person_agree(how, moved, copies):
    places = np.random.default_rng(1).uniform(16, 44, (8, 2, 3, 2))
    points = np.concatenate([places, np.full((8, 2, 3, 1), 2.0)], -1)
    people = [SimpleNamespace(truth=person) for image in points for person in image]
    rows = {n: [2 * n, 2 * n + 1] for n in range(8)}
    pose_set = SimpleNamespace(labelled_of_image=rows, instances=people, sample=lambda index: index)
    assert tag_fit(Tagged(points, **how), pose_set, [0]) is None  # two people agree anywhere by chance
    fit = tag_fit(Tagged(points, **how), pose_set, list(rows))
    assert fit is not None
    assert (fit.moved, fit.copies) == (moved is not None, copies)
    # Tags lie in five cells around each label.
    assert moved is None or np.abs(np.subtract(fit.cells, moved)).max() <= 1
    assert (fit.own < AGREE) == (how == {})
    if fit.moved:
        given = TagMaps(np.zeros((3, 60, 60, 2), np.float32), 0)
        given.tags[:, 20, 30] = 1
        put = TagsMoved(10 / 60, -3 / 60, mirrored=True)(given)
        # Values of the mirrored pass move the other way.
        assert put[0, 17, 40, 0] == put[0, 17, 20, 1] == 1
        assert put.sum() == given.tags.sum()


def test_what_an_exported_file_does_not_hold_is_not_ruled_out(tmp_path):
    """ONNX holds no normalisation, its convolutions have taken it in, and no names of keypoints."""
    (path,), options = exported(RTMPOSE, None)(tmp_path)
    cause = NormStatistics()
    case = Case(sorted_targets([path]), Options(data=options["data"], level="forward", sample=8), [cause])
    with pytest.raises(NotAvailable, match="keypoints no names"):
        OrderByName().test(case)
    answer = cause.test(case)
    assert isinstance(answer, NotTestable), answer
    assert answer.needs == "the network has no batch normalisation"


def test_what_an_adapter_raises_is_whole_and_last_and_the_advice_is_about_the_adapter(tmp_path):
    shapes = "mat1 and mat2 shapes cannot be multiplied (2x3 and 5x7)"
    for error in ("KeyError('decoder.3')", f"RuntimeError({shapes!r})"):
        path = tmp_path / "adapter.py"
        path.write_text(f"def load(checkpoint, device):\n    raise {error}\n")
        report = diagnose([], adapter=path, data="scenes-val", level="forward", sample=4, causes=[NotRun()])
        (finding,) = report.findings
        assert finding.evidence.endswith(("KeyError: decoder.3", "(2x3 and 5x7)"))
        assert finding.fix.startswith("mend adapter.py where it raises this")


def test_what_is_stated_of_an_exported_file_reaches_the_model_and_the_commands(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr("workbench.models.open_model", lambda *_, **given: seen.update(given) or 1 / 0)
    options = Options(output=("heatmaps=b",), assume=("padding=1.1",))
    case = Case(dataclasses.replace(sorted_targets([]), checkpoint=tmp_path / "two.onnx"), options)
    with pytest.raises(ZeroDivisionError):
        case._open(remap=False, config=None)
    assert (seen["output"], seen["assume"]) == (options.output, options.assume)
    assert _model(case)[1:] == ["--output", "heatmaps=b", "--assume", "padding=1.1"]
