"""One fault is one finding: what it explains is not named beside it, and a choice is no fault."""

from __future__ import annotations

import numpy as np
import pytest

from tests.diagnosis.planted_code import own_code, whole_images
from tests.diagnosis.planted_labels import (
    all_hidden,
    areas_times,
    boxes_of_neighbours,
    in_part,
    labelled,
    normalised,
    outside,
)
from tests.diagnosis.planted_results import (
    constant_scores,
    edit_results,
    good_results,
    repeated,
    some_categories,
)
from tests.diagnosis.planted_thirds import in_boxes
from tests.diagnosis.planted_weights import checkpoint, missing, zeroed
from tests.diagnosis.systems import HIGHERHRNET, OTHER_RTMPOSE, OTHER_VITPOSE, RTMPOSE, VITPOSE, System
from workbench.diagnosis import diagnose
from workbench.diagnosis.box_causes import DetectedBoxes
from workbench.diagnosis.constant_outputs import Collapsed
from workbench.diagnosis.decoder_causes import OtherDecoder
from workbench.diagnosis.evaluation_causes import Duplicates, Subset, WrongCategories
from workbench.diagnosis.input_causes import Input
from workbench.diagnosis.lab_causes import Grouping
from workbench.diagnosis.lint_causes import Lints
from workbench.diagnosis.loading_causes import NotRun, PartlyLoaded
from workbench.diagnosis.placing_causes import Placing
from workbench.diagnosis.score_causes import ScoreRule
from workbench.diagnosis.weight_causes import DeadLayers, DeadUnits


def causes_of(report):
    return [finding.cause for finding in report.findings]


def test_a_layer_of_zeros_is_not_named_by_its_units_as_well(tmp_path):
    targets, _ = checkpoint(zeroed(), data=False)(tmp_path)
    report = diagnose(targets, level="files", causes=[DeadLayers(), DeadUnits()])
    assert causes_of(report) == ["layers with all weights zero"]


def test_constant_outputs_are_not_said_to_lie_at_a_wrong_place(tmp_path):
    targets, options = checkpoint(zeroed())(tmp_path)
    report = diagnose(targets, level="forward", causes=[Collapsed(), Placing(), ScoreRule()], **options)
    assert causes_of(report) == ["outputs are constant"]
    for cause in ("keypoints placed wrongly", "score does not rank the poses"):
        assert "hardly depend on the image" in report.not_testable[cause]


def scored(make, folder, cause=None):
    targets, options = make(folder)
    return diagnose(
        targets,
        level="forward",
        causes=[cause or ScoreRule()],
        data=options["data"],
        images=options["images"],
    )


def test_equal_scores_are_named_where_they_cost_little(tmp_path):
    found = good_results(lambda raw: None, constant_scores, low=0.001, high=0.004)
    report = scored(found, tmp_path)
    assert [(f.cause, f.severity) for f in report.findings] == [("score does not rank the poses", "warning")]
    assert "their order is chance" in report.findings[0].evidence
    assert causes_of(scored(good_results(lambda raw: None, low=0.001, high=0.004), tmp_path)) == []


@pytest.fixture
def transformer(tmp_path):
    """The checkpoint of a random ViTPose."""
    from workbench.models.vitpose.export import random_vitpose
    from workbench.models.vitpose.model import new_vitpose, write
    from workbench.models.vitpose.network import Architecture, HeadShape
    from workbench.skeletons import SKELETONS

    shape = Architecture(width=32, layers=2, heads=2, hidden=64, image=(64, 64))
    network = random_vitpose(shape, HeadShape(17, kernel=3, enlarged=4), 0)
    path = tmp_path / "epoch_1.pth"
    write(new_vitpose(network.eval(), SKELETONS["coco-17"]), path, 1)
    return path


def test_a_backbone_without_a_head_is_named(transformer):
    import torch

    content = torch.load(transformer, map_location="cpu", weights_only=True)
    missing()(content)
    torch.save(content, transformer)
    report = diagnose(transformer, level="forward", causes=[PartlyLoaded()])
    assert causes_of(report) == ["weights only partly loaded"], report.text()
    assert "a backbone only, and no weights of a head" in report.findings[0].evidence


# The transformers are trained first, which takes longer than all tests here.
@pytest.mark.parametrize(
    ("system", "epoch"),
    [
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((OTHER_VITPOSE, 0), (OTHER_VITPOSE, 1), (VITPOSE, 0))
        ),
        (RTMPOSE, 1),
        (RTMPOSE, 2),
    ],
)
def test_a_half_trained_network_is_not_said_to_need_another_decoder(system, epoch):
    report = diagnose(
        system.checkpoints()[epoch], level="forward", causes=[OtherDecoder()], **system.options()
    )
    assert causes_of(report) == []


@pytest.mark.long
def test_the_colours_of_whole_images_are_told_from_blue_and_red_exchanged(tmp_path):
    causes = [Input("normalisation"), Grouping()]
    for change, epoch, said in (
        ("mean=(0, 0, 0), std=(255, 255, 255)", -1, "normalisation"),
        ("bgr=True", -2, "blue and red exchanged (BGR for RGB)"),
    ):
        targets, options = whole_images(1.0, change, epoch=epoch)(tmp_path)
        report = diagnose(targets, level="forward", causes=causes, **options)
        assert causes_of(report) == [said], report.text()


BEYOND, SHARES = "keypoints outside the image", "annotated keypoints"


# Its pictures have to be drawn first.
@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "system", "said"),
    [
        (outside(0.1), RTMPOSE, [BEYOND]),
        (outside(0.3, -600, 3), OTHER_RTMPOSE, [BEYOND]),
        (in_part(normalised, 0.33), RTMPOSE, [SHARES]),
        (in_part(normalised, 0.1, 5), OTHER_RTMPOSE, [SHARES]),
        (in_part(all_hidden, 0.5, 9), OTHER_RTMPOSE, ["visibility"]),
        (in_part(all_hidden, 0.12, 7), RTMPOSE, ["visibility"]),
        (areas_times(0.1), RTMPOSE, ["annotated areas"]),
        (boxes_of_neighbours(0.3), RTMPOSE, ["annotated boxes", "keypoints outside the box"]),
        (in_boxes(lambda x, y, w, h: (y, x, h, w)), RTMPOSE, ["annotated boxes"]),
        (lambda raw: None, RTMPOSE, []),
    ],
)
def test_what_follows_from_keypoints_at_a_wrong_place_is_said_with_them(change, system, said, tmp_path):
    targets, options = labelled(change, system)(tmp_path)
    report = diagnose(targets, level="files", causes=[Lints()], **options)
    assert causes_of(report) == said, report.text()


def test_areas_of_another_unit_are_proved_by_those_of_the_boxes(tmp_path):
    report = scored(good_results(areas_times(0.1), low=0.04, high=0.08), tmp_path, Lints())
    (found,) = report.findings
    assert (found.cause, found.confidence) == ("annotated areas", "proved")
    assert found.effect.low > 0.1


def test_own_code_that_raises_is_named(transformer, tmp_path):
    system = System("vitpose, random", lambda: [transformer], lambda: "scenes-people-val")
    targets, options = own_code(system, "stride=4")(tmp_path)
    report = diagnose(targets, level="forward", causes=[NotRun()], **options)
    assert causes_of(report) == ["model cannot be built or run"]
    assert "unexpected keyword argument 'stride'" in report.findings[0].evidence


OF_RESULTS = (WrongCategories(), Subset(), DetectedBoxes(), Duplicates(), Placing())


def of_people(change):
    """Poses of people near the truth, changed."""
    return good_results(lambda raw: None, change, HIGHERHRNET, low=0.02, high=0.1)


@pytest.mark.long
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (of_people(some_categories(0.3, 5)), ["wrong category ids"]),
        (of_people(repeated(1)), ["no NMS: poses found twice"]),
        (good_results(lambda raw: None, edit_results(lambda p, _: np.add(p, [-1.5, 2, 0]))),
         ["keypoints placed wrongly"]),
        (good_results(lambda raw: None, low=0.05, high=0.12), []),
        (of_people(lambda found: found), []),
    ],
)  # fmt: skip
def test_results_have_the_fault_that_was_made_and_no_other(make, said, tmp_path):
    targets, options = make(tmp_path)
    report = diagnose(targets, level="forward", causes=OF_RESULTS, **options)
    assert causes_of(report) == said, report.text()
