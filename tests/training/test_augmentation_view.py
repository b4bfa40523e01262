"""What the training pipeline of a config feeds the network: keypoints move with the image, nothing runs."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from workbench.checkpoints.config_reader import read_config
from workbench.core import Skeleton
from workbench.data import builtin
from workbench.training.augmentation_view import contact_sheet, training_views

AFFINE = "dict(type='GetBBoxCenterScale'), {}, dict(type='TopdownAffine', input_size=(96, 128))"


def config(*steps, kind="CocoDataset", more="", **meta):
    """A config with these steps around the crop."""
    pipeline = AFFINE.format(", ".join(steps)) if steps else AFFINE.replace("{}, ", "")
    metainfo = f", metainfo={meta!r}" if meta else ""
    return read_config(
        f"train_dataloader = dict(dataset=dict(type='{kind}'{metainfo}, pipeline=["
        f"dict(type='LoadImage'), {pipeline}{more}, dict(type='PackPoseInputs')]))"
    )


@pytest.fixture(scope="module")
def people():
    pose_set = builtin("scenes-people-val")
    return pose_set.samples(pose_set.labelled[:2]), pose_set.skeleton


def test_without_augmentation_every_keypoint_lies_where_the_crop_has_it(people):
    samples, skeleton = people
    report = training_views(config(), samples, skeleton, draws=2)
    from workbench.core.geometry import apply, crop_region, input_to_image, inverse

    for sample, view in zip(samples, report.views[::2], strict=True):
        centre, size = crop_region(sample.box, (128, 96))
        expected = apply(inverse(input_to_image(centre, size, (128, 96))), sample.truth[:, :2])
        seen = sample.truth[:, 2] > 0
        assert view.keypoints[seen, :2] == pytest.approx(expected[seen], abs=1e-2)
        assert np.isnan(view.keypoints[~seen, :2]).all()
        assert view.image.shape == (128, 96, 3)
        assert view.described() == "as it is"
    figures = report.figures()
    assert (figures["mirrored"], figures["half_body"], figures["largest_rotation"]) == (0, 0, 0)
    assert figures["smallest_scale"] == pytest.approx(1, abs=1e-3)
    assert report.findings == ()


def test_flips_exchange_sides_and_are_counted(people):
    samples, skeleton = people
    report = training_views(config("dict(type='RandomFlip', prob=1.0)"), samples, skeleton, draws=1)
    assert report.figures()["mirrored"] == 1
    plain = training_views(config(), samples, skeleton, draws=1)
    left, right = skeleton.index("left_shoulder"), skeleton.index("right_shoulder")
    one, other = plain.views[0].keypoints, report.views[0].keypoints
    # Pixel x of the image goes to W - 1 - x; the crop's region moves with it, so that x goes to about 95 - x.
    assert other[left, 0] == pytest.approx(95 - one[right, 0], abs=1.5)
    assert report.findings == ()


def test_flip_indices_that_exchange_nothing_are_found(people):
    samples, skeleton = people
    names = skeleton.keypoints
    info = {k: {"name": n, "id": k, "color": [0, 0, 0], "type": "upper" if k < 11 else "lower", "swap": ""}
            for k, n in enumerate(names)}  # fmt: skip
    wrong = config(
        "dict(type='RandomFlip', prob=1.0)", dataset_name="mine", keypoint_info=info, skeleton_info={},
        joint_weights=[1.0] * 17, sigmas=[0.05] * 17,
    )  # fmt: skip
    report = training_views(wrong, samples, skeleton, draws=1)
    assert [one.cause for one in report.findings] == ["augmentation"]
    assert "left and right are not exchanged" in report.findings[0].evidence


@pytest.mark.parametrize("size", [(96, 128), (128, 96)])
def test_colours_and_lying_crops_are_not_taken_for_keypoints_that_stay_behind(people, size):
    """Sapiens' own steps: hue and the order of channels change, and crops have other sides than boxes."""
    samples, skeleton = people
    steps = ("RandomFlip", "RandomHalfBody", "RandomBBoxTransform")
    healthy = config(*(f"dict(type='{name}')" for name in steps), more=", dict(type='PhotometricDistortion')")
    affine = healthy["train_dataloader"]["dataset"]["pipeline"][-3]
    assert affine["type"] == "TopdownAffine"
    affine["input_size"] = size
    assert training_views(healthy, samples, skeleton, draws=1).findings == ()


def test_half_body_rotation_and_scale_are_measured(people):
    samples, skeleton = people
    half = training_views(config("dict(type='RandomHalfBody', prob=1.0)"), samples, skeleton, draws=4)
    assert half.figures()["half_body"] == 1
    turned = "dict(type='RandomBBoxTransform', rotate_factor=60, rotate_prob=1.0, scale_factor=(0.5, 1.5))"
    report = training_views(config(turned), samples, skeleton, draws=8)
    assert 5 < report.figures()["largest_rotation"] <= 120
    assert report.figures()["smallest_scale"] < 0.95
    assert report.figures()["largest_scale"] > 1.05
    assert report.findings == ()


def test_a_dropout_covers_what_it_says_and_hides_the_keypoints_under_it(people):
    samples, skeleton = people
    drop = "max_holes=1, min_holes=1, max_height=0.5, min_height=0.5, max_width=0.5, min_width=0.5, p=1.0"
    hole = (
        f", dict(type='Albumentation', transforms=[dict(type='CoarseDropout', {drop}), "
        "dict(type='Rain', p=1.0)])"
    )
    report = training_views(config(more=hole), samples, skeleton, draws=3)
    for view in report.views:
        assert view.dropped == pytest.approx(0.25, abs=0.01)
        assert (view.image == 0).all(-1).mean() >= 0.24
        for k in np.flatnonzero(view.hidden):
            x, y = view.keypoints[k, :2].round().astype(int)
            assert (view.image[y, x] == 0).all()
    assert report.figures()["keypoints_dropped"] > 0
    assert any("Albumentation Rain" in one for one in report.left_out)
    assert "by albumentations' rules, which itself is not run: CoarseDropout" in report.text()


def test_the_same_seed_draws_the_same_and_leaves_the_global_generator_alone(people):
    samples, skeleton = people
    random = config("dict(type='RandomFlip')", "dict(type='RandomBBoxTransform')")
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, other = (training_views(random, samples, skeleton, draws=3, seed=4) for _ in range(2))
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    for a, b in zip(one.views, other.views, strict=True):
        assert (a.image == b.image).all()
    third = training_views(random, samples, skeleton, draws=3, seed=5)
    assert any((a.image != b.image).any() for a, b in zip(one.views, third.views, strict=True))


def test_steps_that_open_files_or_are_not_known_are_left_out_with_the_reason(people):
    samples, skeleton = people
    report = training_views(
        config("dict(type='os.system', command='touch pwned')", "dict(type='LoadTextEmbeddings', path='/x')"),
        samples, skeleton, draws=1,
    )  # fmt: skip
    assert len(report.left_out) == 2
    assert all("refused" in one for one in report.left_out)


def test_what_cannot_be_drawn_is_one_sentence(people):
    samples, skeleton = people
    for values, message in (
        ({}, "expected a training pipeline"),
        (config("dict(type='RandomFlip', prob=7)"), "RandomFlip"),
        (config(kind="AP10KDataset"), "has other keypoints than the samples"),
        (config("dict(type='RandomBBoxTransform', colour=3)"), "cannot be built"),
        (
            config(more=", dict(type='TopdownAffine', input_size=(20000, 96))"),
            "input_size is 20000; expected",
        ),
        (config(more=", dict(type='Albumentation', transforms=[dict(type='Blur', p=3)])"), "expected 0 to 1"),
        (
            config(more=", dict(type='Albumentation', transforms=[dict(type='Blur', blur_limit=[3])])"),
            r"Blur cannot be used: blur_limit: expected a number or two, got \[3\]",
        ),
        (
            config(more=", dict(type='Albumentation', transforms=[dict(type='Blur', blur_limit=1e999)])"),
            r"pipeline\[3\] .Albumentation.: blur_limit is inf; expected a finite number",
        ),
        (config("dict(type='RandomBBoxTransform', shift_factor=-1e999)"), "shift_factor is -inf; expected"),
        (config("dict(type='RandomBBoxTransform', scale_factor=(1e9, 1e9))"), "RandomBBoxTransform fails on"),
        (config(more=", dict(type='TopdownAffine', input_size=(128, 0))"), "input_size is 0; expected"),
        (config(more=", dict(type='TopdownAffine', input_size=(-1, -1))"), "input_size is -1; expected"),
        (config(more=", dict(type='TopdownAffine', input_size=(0.5, 9))"), "TopdownAffine"),
        (
            config("dict(type='Resize', scale_factor=60.0)"),
            r"Resize.scale_factor enlarges a side of .* 60 times",
        ),
        (
            config("dict(type='RandomApply', transforms=[dict(type='Resize', scale_factor=1e9)])"),
            "Resize.scale_factor enlarges",
        ),
        (config(*["dict(type='Resize', scale_factor=4.0)"] * 4), "enlarges a side of .* 256 times"),
        (config("dict(type='BottomupResize', input_size=(96, 96), aug_scales=[2])"), "expected one picture"),
        (config("dict(type='BottomupResize', input_size=(96, 96), size_factor=0)"), "size_factor is 0"),
        (config("dict(type='BottomupRandomChoiceResize', scales=[])"), "cannot be built|fails on"),
        (config("dict(type='BottomupRandomChoiceResize', scales=['x'])"), "BottomupRandomChoiceResize fails"),
        (config("dict(type='BottomupRandomAffine', input_size=(9, 9), pad_val='x')"), "fails on .*error: "),
    ):
        with pytest.raises(ValueError, match=message) as raised:
            training_views(values, samples, skeleton, draws=1)
        assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="expected 1 to 64"):
        training_views(config(), samples, skeleton, draws=0)
    with pytest.raises(ValueError, match="got none"):
        training_views(config(), [], skeleton)


def test_pictures_that_take_gigabytes_together_are_refused_after_the_first(people):
    samples, skeleton = people
    large = config(more=", dict(type='TopdownAffine', input_size=(4000, 3000))")
    with pytest.raises(ValueError, match=r"10 pictures of 4000x3000 .width x height. take more than 320 MB"):
        training_views(large, samples[:1], skeleton, draws=10)


def test_a_set_whose_keypoints_no_config_describes_is_not_flipped(people):
    samples, _ = people
    own = Skeleton("own-17", tuple(f"point {k}" for k in range(17)))
    values = read_config(
        "train_pipeline = [dict(type='GetBBoxCenterScale'), dict(type='RandomFlip'), "
        "dict(type='TopdownAffine', input_size=(96, 128))]"
    )
    report = training_views(values, samples, own, draws=1)
    assert any("declares no flip_indices" in one for one in report.left_out)


def test_the_report_is_plain_data_and_a_picture(people):
    samples, skeleton = people
    report = training_views(config("dict(type='RandomFlip')"), samples, skeleton, draws=3)
    facts = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert facts["views"] == 6
    assert len(report.table()) == 6
    assert report.plot().layout.title.text
    sheet = contact_sheet(report.views, skeleton, columns=3, side=64)
    assert sheet.shape == (2 * 68, 3 * 52, 3)
    assert dataclasses.replace(report, findings=()).summary()


def test_the_verb_writes_the_picture_and_refuses_in_one_sentence(workbench, tmp_path):
    picture = tmp_path / "views.PNG"
    code, out, err = workbench(
        "data", "augment", "--demo", "--samples", "1", "--draws", "2", "--out", picture, "--json"
    )
    assert code == 0, err
    assert json.loads(out)["views"] == 2
    assert picture.read_bytes().startswith(b"\x89PNG")  # and no HTML, whatever the case of the ending
    (tmp_path / "bad.py").write_text("import os\nos.system('true')\n")
    for words, message in (
        ((), "expected a config and --data"),
        ((tmp_path / "none.py", "--data", "astronaut"), "none.py"),
        ((tmp_path / "bad.py", "--data", "astronaut"), "bad.py"),
    ):
        code, out, err = workbench("data", "augment", *words)
        assert (code, out) == (2, ""), err
        assert message in err
        assert len(err.strip().splitlines()) == 1
