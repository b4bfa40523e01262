"""What a diagnosis costs: forward passes, counted in inputs of the network, and imports."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from tests.diagnosis.fresh_cases import plain
from tests.diagnosis.planted_code import heatmaps, own_code, whole_images
from tests.diagnosis.planted_labels import labelled, unit_boxes
from tests.diagnosis.systems import CAPE, RTMPOSE, TEXT
from workbench.core import Codec
from workbench.data import builtin
from workbench.diagnosis import diagnose
from workbench.diagnosis.case import Case, Options
from workbench.diagnosis.evidence import FIRST, GLANCE, Change, Evidence, Gain, spread
from workbench.diagnosis.input_budget import OF_FLIP_TEST, SPENT_INPUTS, left_of_inputs
from workbench.diagnosis.input_causes import Input
from workbench.diagnosis.offset_causes import LabelsMoved
from workbench.diagnosis.separation import Separated, Separation, asked_again
from workbench.diagnosis.targets import Given
from workbench.models import TopDown

ADAPTER = """
import dataclasses
from torch import nn
from workbench.core import Codec
from workbench.models import TopDown
from workbench.skeletons import SKELETONS


def load(checkpoint, device):
    network = nn.Sequential(nn.Conv2d(3, 17, 3, 2, 1))
    codec = Codec("heatmap", (32, 32), (16, 16), sigma=(2.0, 2.0), decoder="quarter")
    model = TopDown(network, SKELETONS["ap10k-17"], codec)
    return dataclasses.replace(model, {change})
"""


@pytest.fixture
def adapter(tmp_path):
    """The path of an adapter of a very small network, with some of its fields changed."""

    def written(change=""):
        path = tmp_path / "adapter.py"
        path.write_text(ADAPTER.replace("{change}", change))
        return path

    return written


@pytest.fixture
def counted():
    """Evidence of a network on the sample, on more instances, and how many crops the network was given."""
    from torch import nn

    pose_set, given = builtin("scenes-val"), []
    network = nn.Conv2d(3, 17, 3, 2, 1)
    network.register_forward_pre_hook(lambda module, inputs: given.append(len(inputs[0])))
    codec = Codec("heatmap", (32, 32), (16, 16), sigma=(2.0, 2.0), decoder="quarter")
    model = TopDown(network, pose_set.skeleton, codec)
    sample = Evidence(pose_set, spread(pose_set, 32), model)
    others = [i for i in pose_set.labelled if i not in sample.indices][:32]
    return sample, Evidence(pose_set, [*sample.indices, *others], model, within=sample), given


def input_change(name, of=lambda model: model):
    return Change(name, name, "input", of)


def test_each_instance_is_given_to_the_network_once(counted):
    sample, more, given = counted
    sample.measure(rows=sample.first)
    assert sum(given) == FIRST
    sample.measure(rows=sample.glance)
    assert sum(given) == GLANCE
    sample.measure()
    sample.measure([Change("moved", "moved", "outputs", lambda model: model)])
    assert sum(given) == 32
    more.measure()
    assert sum(given) == 64
    assert more.measure().mean_oks == pytest.approx(
        Evidence(more.pose_set, more.indices, more.model).measure().mean_oks
    )


def test_a_change_that_undoes_nothing_is_looked_at_on_few_instances(counted):
    sample, _, given = counted
    sample.measure()
    before = sum(given)
    Separation(sample, [input_change("nothing")]).result()
    assert sum(given) - before == FIRST


def test_stored_outputs_are_those_of_the_network_and_take_no_inputs(counted):
    import torch

    sample, more, given = counted
    first, *others = sample.forwards()
    before, samples = sum(given), (others[0].samples[0], first.samples[1])
    found = sample.stored((), samples)
    assert found is not None
    assert torch.equal(
        found.heatmaps, torch.stack([others[0].outputs.heatmaps[0], first.outputs.heatmaps[1]])
    )
    assert sample.stored((), [more.pose_set.sample(more.indices[-1])]) is None
    assert sample.stored([input_change("nothing")], samples) is None
    assert sum(given) == before


def test_a_change_for_which_no_input_is_left_is_not_tested_and_not_ruled_out(counted):
    sample, _, given = counted
    sample.measure()
    before, change = sum(given), input_change("nothing")
    apart = Separation(sample, [change], left=lambda: -OF_FLIP_TEST).result()
    assert apart.failed == {change: SPENT_INPUTS}
    assert change not in apart.alone
    assert sum(given) == before


def test_what_is_open_is_asked_again_on_what_two_evaluations_leave_the_most_promising_first(adapter):
    options = Options(adapter=adapter(), data="scenes-val", level="evaluate", sample=48)
    case = Case(Given(), options)
    sample, size = case.tried_on(), case.evaluation_size()
    assert left_of_inputs(case) == size  # the evaluation of the whole set is set aside
    case.measured()
    assert left_of_inputs(case) == size
    changes = [input_change(str(number)) for number in range(9)]
    alone = {change: Gain(0.03 + number / 1000, -0.01, 0.1, 48) for number, change in enumerate(changes)}
    found = Separated(sample, sample.measure(), (), alone, {}, None, {}, {}, tuple(changes))
    longer, again = asked_again(case, found)
    assert again == (changes[8], changes[7], changes[6])  # on 16 more instances, and on the sample itself
    assert len(longer.indices) == 48 + 16
    few = Case(Given(), dataclasses.replace(options, sample=100))
    assert left_of_inputs(few) == 2 * 4 * 100 - (size - 100)  # a set of few samples


@pytest.mark.parametrize(("std", "warned"), [("58.395, 57.12, 57.375", False), ("29.2, 28.56, 28.69", True)])
def test_a_std_that_does_not_belong_to_its_mean_is_named(adapter, std, warned):
    report = diagnose(
        [], adapter=adapter(f"std=({std})"), data="scenes-val", level="forward", sample=4,
        causes=[Input("normalisation")],
    )  # fmt: skip
    assert [finding.severity for finding in report.findings] == ["warning"] * warned
    assert report.cost[0] > 0
    assert f"{report.cost[0]} network inputs" in report.text()


def test_crops_without_their_keypoints_say_nothing_about_a_constant_offset(adapter, tmp_path):
    _, options = labelled(unit_boxes)(tmp_path)
    report = diagnose(
        [], adapter=adapter(), level="forward", causes=[LabelsMoved()], data=options["data"],
        images=options["images"],
    )  # fmt: skip
    assert "mend the boxes first" in report.not_testable["annotated keypoints moved"]


BGR = "bgr=not model.bgr"


@pytest.mark.long
@pytest.mark.parametrize(
    ("make", "first"),
    [
        (own_code(RTMPOSE), None),
        (own_code(RTMPOSE, BGR), "channel order"),
        (heatmaps(), None),
        (heatmaps(BGR), "channel order"),
        (own_code(RTMPOSE, "padding=1.7"), "crop padding"),
        (plain(TEXT), None),
        (plain(CAPE), None),
        (whole_images(change="bgr=True"), "blue and red exchanged (BGR for RGB)"),
        (whole_images(claim={"AP": 0.048}), "simplified inference script"),
    ],
    ids=["RTMPose", "BGR", "heatmaps", "BGR heatmaps", "padding", "text", "sequence", "people", "claim"],
)
def test_level_evaluate_costs_two_evaluations_at_most(make, first, tmp_path):
    targets, options = make(tmp_path)
    report = diagnose(targets, level="evaluate", **options)
    given, size = report.cost
    assert 0 < given <= 2 * size, report.text()
    errors = [finding.cause for finding in report.findings if finding.severity == "error"]
    assert errors[:1] == ([first] if first else [])
    if report.sample and not isinstance(first, str):
        assert report.sample[0] == report.sample[1] == size  # the whole set is evaluated all the same


def test_a_pasted_error_message_is_explained_without_torch():
    code = (
        "import sys; from workbench.diagnosis import diagnose; "
        "found = diagnose('RuntimeError: mat1 and mat2 shapes cannot be multiplied (136x8 and 64x256)'); "
        "print(len(found.findings), 'torch' in sys.modules, 'mmengine' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False", "False"]


def test_the_order_of_instances_is_spread_from_the_beginning(adapter):
    case = Case(Given(), Options(adapter=adapter(), data="scenes-val", sample=48))
    order, labelled_ones = case.in_order(), case.pose_set().labelled
    assert sorted(order) == sorted(labelled_ones)
    place = {index: number for number, index in enumerate(labelled_ones)}
    first = np.sort([place[index] for index in order[:96]])
    assert np.diff(first).max() <= 12
