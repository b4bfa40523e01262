"""What more instances decide, what constant outputs say, and findings that vanish once a cause is undone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.diagnosis.planted_code import own_code, squeezed
from tests.diagnosis.planted_labels import labelled, moved_labels, outside
from tests.diagnosis.systems import RTMPOSE
from workbench.core import DecodeOptions, Outputs, Sample, Skeleton
from workbench.core.geometry import apply, inverse
from workbench.diagnosis import diagnose
from workbench.diagnosis.constant_outputs import Collapsed
from workbench.diagnosis.decoder_causes import OwnDecoding
from workbench.diagnosis.evidence import Change, Gain
from workbench.diagnosis.input_causes import Input
from workbench.diagnosis.label_causes import KeypointOrder
from workbench.diagnosis.lint_causes import Lints
from workbench.diagnosis.loading_causes import NotRun
from workbench.diagnosis.offset_causes import LabelsMoved
from workbench.diagnosis.placing_causes import ReadTransposed
from workbench.models import TopDown


def report_of(case, folder, causes, **options):
    targets, given = case(folder)
    return diagnose(targets, level="forward", causes=causes, **{**given, **options})


def test_a_gain_is_certain_open_or_nothing():
    plain, strict = (Change("a", "a", "outputs", lambda m: m, needs_ap=needed) for needed in (0, 0.02))
    sure = Gain(0.03, 0.01, 0.05, 48, AP=0.04, AP_low=0.01, AP_high=0.06)
    assert sure.certain(plain)
    assert sure.certain(strict)
    without_ap = Gain(0.03, 0.01, 0.05, 48, AP=0.005)
    assert without_ap.certain(plain)
    assert not without_ap.certain(strict)
    by_chance = Gain(0.03, -0.01, 0.07, 24)
    assert not by_chance.certain(plain)
    assert by_chance.open(plain)
    assert not Gain(0.005, -0.01, 0.07, 24).open(plain)
    assert not Gain(0.015, 0.012, 0.018, 230).open(plain)


@pytest.mark.long
def test_more_instances_decide_what_a_few_leave_open(tmp_path):
    report = report_of(squeezed(RTMPOSE), tmp_path, [Input("crop padding")], sample=24)
    (finding,) = report.findings
    assert finding.confidence == "proved"
    assert finding.effect is not None
    assert finding.effect.low > 0
    assert "96 of 230" in finding.effect.protocol


@pytest.mark.parametrize(("pixels", "named"), [(0.3, True), (0.0, False)])
def test_own_code_that_adds_one_amount_is_told_from_the_codec(tmp_path, pixels, named):
    own = own_code(RTMPOSE, decode=f"keypoints=p.keypoints + np.array([{pixels}, 0]) * a[[0, 1], [0, 1]]")
    report = report_of(own, tmp_path, [OwnDecoding()], sample=8)
    assert [f.cause for f in report.findings] == ["own decoding contradicts the codec"] * named
    if named:
        assert report.findings[0].numbers[0].value == pytest.approx(pixels, abs=0.01)
        assert report.findings[0].severity == "warning"


def test_nothing_is_read_off_constant_outputs(tmp_path):
    blind = own_code(RTMPOSE, pixels=" * 0 + 1")
    report = report_of(blind, tmp_path, [Collapsed(), KeypointOrder()], sample=24)
    assert [f.cause for f in report.findings] == ["outputs are constant"]


@pytest.mark.parametrize(("pixels", "apart"), [(-9, False), (9, True)])
def test_a_check_that_fails_because_labels_are_moved_is_no_finding_of_its_own(tmp_path, pixels, apart):
    def change(raw):
        moved_labels(pixels)(raw)
        if apart:
            outside(0.2, 400, 3)(raw)

    report = report_of(labelled(change), tmp_path, [Lints(), LabelsMoved()], sample=32)
    causes = {finding.cause for finding in report.findings}
    assert "annotated keypoints moved" in causes
    assert ("keypoints outside the image" in causes) == apart
    assert apart or causes == {"annotated keypoints moved"}
    assert ("it vanishes once" in report.ruled_out.get("keypoints outside the image", "")) != apart


OWN = """
import numpy as np
import torch
from torch import nn
from workbench.core import Codec, Outputs
from workbench.models import TopDown
from workbench.skeletons import SKELETONS


def load(checkpoint, device):
    net = nn.Conv2d(3, 17, 4, 4)
    return TopDown(net, SKELETONS["coco-17"], {codec})
"""


@pytest.mark.parametrize(("decoder", "found"), [("simcc-dark", 1), ("quarter", 0)])
def test_a_decoder_that_reads_other_outputs_than_the_codecs_is_named(tmp_path, decoder, found):
    codec = f'Codec("heatmap", (64, 48), (16, 12), decoder="{decoder}")'
    (tmp_path / "own.py").write_text(OWN.format(codec=codec))
    report = diagnose([], adapter=tmp_path / "own.py", data="astronaut", level="forward", causes=[NotRun()])
    assert len(report.findings) == found, report.text()
    if found:
        assert "the codec is heatmap, and its decoder simcc-dark reads other outputs" in report.text()


def test_keypoints_of_a_model_without_codec_are_exchanged_as_shares_of_the_input():
    where = np.array([[[0.25, 0.5]]])
    model = TopDown(
        torch.nn.Conv2d(3, 1, 1), Skeleton("one", ("nose",)), None, input_size=(64, 32),
        read=lambda outputs, options: (where * (32, 64), np.ones((1, 1))), call=lambda pixels: Outputs(),
    )  # fmt: skip
    batch = model.prepare([Sample(np.zeros((80, 80, 3), np.uint8), (20, 10, 40, 50))])
    found = ReadTransposed(model).decode(Outputs(), batch, DecodeOptions())[0].keypoints
    assert np.allclose(apply(inverse(batch.to_image[0]), found), [[0.5 * 32, 0.25 * 64]])
