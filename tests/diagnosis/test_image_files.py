"""Part of the image files is stored otherwise than the rest: who decides, and what the report says."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from tests.diagnosis.planted_labels import (
    each,
    half_as_large,
    image_files,
    leaked,
    leaked_copies,
    other_training_set,
)
from tests.diagnosis.planted_seconds import leaked_again
from tests.diagnosis.planted_thirds import leaked_mirrored
from tests.diagnosis.systems import RTMPOSE
from workbench.core import Batch, Outputs, Sample
from workbench.core.wrapping import Wrapper
from workbench.data import builtin
from workbench.diagnosis import diagnose
from workbench.diagnosis.annotated_sizes import OtherSize, enlarged, previews_of
from workbench.diagnosis.file_groups import groups_of_files
from workbench.diagnosis.image_file_causes import (
    USES_COLOUR,
    Edited,
    GreyFiles,
    StoredOtherwise,
    Surer,
    _colour_share,
    grey,
    mirrored,
    of_gamma,
    of_hue,
    of_luma,
    red_and_blue,
    turned,
)
from workbench.diagnosis.loading_causes import NotRun
from workbench.diagnosis.mosaic import interpolated, is_mosaic
from workbench.diagnosis.set_causes import TrainingImages
from workbench.models import open_model

IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def test_each_edit_undoes_itself_and_moves_the_pixels_that_it_says():
    for edit in (red_and_blue, turned, mirrored):
        assert np.array_equal(edit(edit(IMAGE)), IMAGE)
    assert np.array_equal(red_and_blue(IMAGE)[0, 0], [2, 1, 0])
    assert np.array_equal(turned(IMAGE)[0, 0], IMAGE[1, 3])
    assert np.array_equal(mirrored(IMAGE)[0, 0], IMAGE[0, 3])


def test_grey_has_the_weights_of_rec_601():
    # .299 * 200 + .587 * 100 + .114 * 50
    assert np.array_equal(grey(np.array([[[200, 100, 50]]], np.uint8))[0, 0], [124, 124, 124])


def test_colours_of_other_spaces_come_back():
    image = np.array([[[200, 100, 50], [50, 200, 100]], [[200, 50, 90], [120, 120, 120]]], np.uint8)
    for scaled in (cv2.COLOR_RGB2HSV_FULL, cv2.COLOR_RGB2HSV):
        assert np.abs(of_hue(cv2.cvtColor(image, scaled)).astype(int) - image).max() <= 6
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    assert np.abs(of_luma(luma).astype(int) - image).max() <= 3
    # 255 * (100 / 255) ** .5
    assert of_gamma(image, 0.5)[0, 0, 1] == 160


def of_level(levels):
    """Samples of noise about each level."""
    random = np.random.default_rng(0)
    return [
        Sample(
            np.clip(random.normal(v, 20, (24, 24, 3)), 0, 255).astype(np.uint8), (0, 0, 4, 4), path=f"{i}.jpg"
        )
        for i, v in enumerate(levels)
    ]


def test_files_are_two_groups_where_nothing_lies_between():
    levels = np.random.default_rng(1).normal(150, 12, 40)
    assert groups_of_files(of_level(levels)) == []
    dark = np.arange(40) % 3 == 0
    groups = groups_of_files(of_level(np.where(dark, levels / 3, levels)))
    assert "brightness" in [one.statistic for one in groups]
    assert all(np.array_equal(one.chosen, dark) for one in groups)
    # A few at one end are no group.
    assert groups_of_files(of_level(np.where(np.arange(40) < 3, levels / 3, levels))) == []


@dataclasses.dataclass(frozen=True, eq=False)
class Bright(Wrapper):
    """A model whose SimCC peaks are as high as its input is bright."""

    model: object

    def prepare(self, samples):
        level = torch.tensor([float(s.image.mean()) for s in samples])
        return Batch(
            level.view(-1, 1, 1, 1).expand(-1, 3, 4, 4),
            np.tile(np.eye(2, 3), (len(samples), 1, 1)),
            tuple(samples),
        )

    def forward(self, batch):
        peak = batch.pixels[:, 0, 0, :1]
        vector = torch.nn.functional.one_hot(torch.tensor(3), 256) * peak
        return Outputs(simcc=(vector[:, None].repeat(1, 17, 1), vector[:, None].repeat(1, 17, 1)))


@pytest.mark.parametrize(("margin", "second"), [(0.0, 100), (60.0, 50)])
def test_the_outputs_with_the_higher_scores_are_kept_sample_by_sample(margin, second):
    model = Bright(open_model(RTMPOSE.last()).model)
    inverted = Edited(model, lambda sample: np.where(sample.image == 200, 10, 100).astype(np.uint8))
    samples = [Sample(np.full((4, 4, 3), v, np.uint8), (0, 0, 4, 4)) for v in (200, 50)]
    both = Surer(model, inverted, margin)
    outputs = both.forward(both.prepare(samples))
    assert outputs.simcc is not None
    assert outputs.simcc[0][:, 0, 3].tolist() == [200, second]


def test_files_of_another_size_are_named_and_the_model_is_not_blamed(tmp_path):
    targets, options = image_files(0.2, half_as_large)(tmp_path)
    report = diagnose(targets, level="forward", causes=[NotRun(), OtherSize()], **options)
    (finding,) = report.findings
    assert finding.cause == "image files of another size than annotated"
    assert "24 of 115 annotated images" in finding.evidence
    assert "reading the images" in report.ruled_out["model cannot be built or run"]


@pytest.mark.long
def test_part_of_the_files_turned_is_undone_and_healthy_files_stay_silent(tmp_path):
    targets, options = image_files(0.4, turned)(tmp_path)
    (finding,) = diagnose(targets, level="forward", causes=[StoredOtherwise()], **options).findings
    assert finding.confidence == "proved"
    assert "turned by 180 degrees" in finding.evidence
    healthy = diagnose(RTMPOSE.last(), level="forward", causes=[StoredOtherwise()], **RTMPOSE.options())
    assert healthy.findings == ()


@pytest.mark.parametrize(("y", "x"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("jpeg", [False, True])
def test_the_colours_of_a_sensor_mosaic_are_interpolated_whichever_place_is_red(y, x, jpeg):
    random = np.random.default_rng(0)
    picture = cv2.resize(
        random.integers(60, 200, (6, 8, 3), np.uint8), (96, 64), interpolation=cv2.INTER_CUBIC
    )
    made = np.zeros_like(picture)
    made[y::2, x::2, 0] = picture[y::2, x::2, 0]
    made[1 - y :: 2, 1 - x :: 2, 2] = picture[1 - y :: 2, 1 - x :: 2, 2]
    for i, j in ((y, 1 - x), (1 - y, x)):
        made[i::2, j::2, 1] = picture[i::2, j::2, 1]
    if jpeg:  # its colours are those of whole cells: the luma alone tells the places
        coded = cv2.imencode(".jpg", made[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        made = cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1]
    assert is_mosaic(made)
    assert not is_mosaic(picture)
    assert np.abs(interpolated(made).astype(float) - picture).mean() < (30 if jpeg else 12)


@pytest.mark.parametrize(("low", "high", "scale"), [((0, 0), (320, 360), 1.0), ((40, 40), (440, 340), 1.4)])
def test_a_part_of_a_validation_picture_in_the_training_is_found_by_its_pose_and_pixels(
    tmp_path, low, high, scale
):
    size = [round(scale * (b - a)) for a, b in zip(low, high, strict=True)]

    def save(picture, path):
        picture.crop((*low, *high)).resize(size).save(path, quality=70)

    def change(raw):
        def edit(points, _):
            inside = (points[:, :2] >= low).all(1) & (points[:, :2] <= high).all(1)
            points[:, :2] = (points[:, :2] - low) * scale
            return points * inside[:, None]

        each(raw, edit)
        for image in raw["images"]:
            image["width"], image["height"] = size

    targets, options = leaked_copies(0.2, RTMPOSE, "part_{}.jpg", save, change)(tmp_path)
    found = diagnose(targets, level="files", causes=[TrainingImages()], **options).findings
    assert [one.cause for one in found] == ["training images in the validation set"]
    assert "cut or scaled" in found[0].evidence


LEAK = ["training images in the validation set"]


@pytest.mark.parametrize(
    ("make", "found", "said"),
    [
        (leaked(0.15, with_checkpoint=False), LEAK, ""),
        (leaked_again(0.3, RTMPOSE), LEAK, ""),
        (leaked_mirrored(0.3, RTMPOSE), LEAK, "of them mirrored"),
        (other_training_set(), [], ""),
    ],
    ids=["copied", "stored anew", "mirrored", "others of the same names"],
)
def test_validation_pictures_in_the_training_are_found(make, found, said, tmp_path):
    targets, options = make(tmp_path)
    report = diagnose(targets, level="files", causes=[TrainingImages()], **options)
    assert [one.cause for one in report.findings] == found, report.text()
    assert all(said in one.evidence for one in report.findings)


def on_copies(pose_set, part, factor):
    """The set with every third instance labelled on a copy that is `factor` times smaller, and these rows."""
    rows = [row for n, row in enumerate(pose_set.labelled) if n % 3 in part]
    return enlarged(pose_set, rows, 1 / factor), rows


@pytest.mark.parametrize("name", ["scenes-val", "scenes-people-val"])
@pytest.mark.parametrize(("part", "factor"), [((0,), 3), ((0, 2), 2), ((1,), 4)])
def test_labels_made_on_smaller_copies_are_told_by_the_corner_that_holds_them(name, part, factor):
    pose_set = builtin(name)
    assert previews_of(pose_set) is None
    spoilt, rows = on_copies(pose_set, part, factor)
    found = previews_of(spoilt)
    assert found.factor == factor
    assert set(rows).issuperset(found.rows) or len(set(found.rows) - set(rows)) <= 4
    assert len(set(rows).intersection(found.rows)) >= 0.9 * len(rows)
    assert f"1/{factor} of the size" in found.text()


def test_enlarged_labels_are_those_of_the_picture_whatever_the_area_states():
    pose_set = builtin("scenes-val")
    rows = list(pose_set.labelled[:5])
    back = enlarged(enlarged(pose_set, rows, 0.5), rows, 2)
    for row in (*rows, pose_set.labelled[7]):
        one, other = pose_set.instances[row], back.instances[row]
        np.testing.assert_allclose(other.truth, one.truth)
        np.testing.assert_allclose(other.box, one.box)
        assert other.area == pytest.approx(one.area)
    kept = dataclasses.replace(pose_set.instances[rows[0]], area=9e5)
    of_picture = dataclasses.replace(pose_set, instances=(kept,), raw={"annotations": []})
    assert enlarged(of_picture, [0], 2).instances[0].area == 9e5


@pytest.mark.long
def test_images_without_any_colour_are_a_candidate_and_coloured_ones_are_not(tmp_path):
    targets, options = image_files(1.0, grey, RTMPOSE)(tmp_path)
    options["sample"] = 6
    report = diagnose(targets, level="forward", causes=[NotRun(), GreyFiles()], **options)
    assert report.findings == ()
    (group,) = report.candidates
    assert group.causes[0].cause == GreyFiles.name
    assert "none of the images of 6 instances has colour" in group.symptom
    assert "no cause is proved" in report.sentences()[0]
    healthy = diagnose(
        [RTMPOSE.last()], data="scenes-val", sample=6, level="forward", causes=[NotRun(), GreyFiles()]
    )
    assert healthy.candidates == ()


def test_a_network_made_for_grey_images_uses_no_colour():
    made = torch.nn.Conv2d(3, 4, 3)
    made.weight.data[:] = made.weight.data.mean(1, keepdim=True)
    assert _colour_share(Module(made)) == pytest.approx(0.0, abs=1e-6)
    assert _colour_share(Module(torch.nn.Conv2d(3, 64, 3))) > USES_COLOUR
    assert _colour_share(Module(torch.nn.Conv2d(1, 4, 3))) == 0.0


@dataclasses.dataclass
class Module:
    """A model of one layer."""

    module: torch.nn.Module
