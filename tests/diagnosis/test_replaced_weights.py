"""Parts of an earlier epoch, and weights with few different values: told from parts that never moved."""

from __future__ import annotations

import pytest
import torch

from tests.diagnosis.planted_weights import among_epochs, part_of_epoch, quantised
from tests.diagnosis.systems import RTMPOSE
from workbench.core.finding import Effect
from workbench.diagnosis import diagnose, replaced_weights
from workbench.diagnosis.replaced_weights import OfEarlierEpoch, Quantised, ScaledPart, few_levels
from workbench.diagnosis.weight_causes import NeverLearned, StatisticsNotUpdated

CAUSES = [NeverLearned(), StatisticsNotUpdated(), OfEarlierEpoch(), Quantised()]


def of_files(folder, change):
    targets, _ = among_epochs(change)(folder)
    return diagnose(targets, level="files", causes=CAUSES).findings


@pytest.mark.parametrize(("part", "source"), [("head.", -3), ("backbone.stage3", 0)])
def test_a_part_that_moved_and_came_back_is_of_an_earlier_epoch(tmp_path, part, source):
    (finding,) = of_files(tmp_path, part_of_epoch(part, source))
    assert finding.cause == "weights of one part of an earlier epoch"
    assert RTMPOSE.checkpoints()[source].name in finding.evidence
    assert finding.severity == "error"


def test_a_part_that_moves_no_more_is_a_warning_and_a_healthy_run_is_silent(tmp_path):
    (finding,) = of_files(tmp_path, part_of_epoch("head.", -2))
    assert finding.severity == "warning"
    (healthy := tmp_path / "healthy").mkdir()
    assert of_files(healthy, lambda content: None) == ()


def test_a_part_that_never_moved_is_not_of_an_earlier_epoch(tmp_path):
    def frozen(content):
        part_of_epoch("backbone.stem", 0)(content)

    targets, _ = among_epochs(frozen, epochs=(0,))(tmp_path)
    assert [f.cause for f in diagnose(targets, level="files", causes=CAUSES).findings] == [
        "layers that never learned",
        "batch-norm statistics not updated",
    ]


CONSTANT = """
import torch
from torch import nn
from workbench.checkpoints.loading import load_state
from workbench.core import Codec, Skeleton
from workbench.models import TopDown

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 4, 4)
        self.{made}

    def forward(self, pixels):
        return self.conv(pixels)

def load(checkpoint, device):
    net = Net()
    report = load_state(net, checkpoint)
    return TopDown(net, Skeleton("two", ("nose", "tail")), Codec("heatmap", (16, 16), (4, 4))), report
"""


@pytest.mark.parametrize(
    ("made", "accused"),
    [('register_buffer("vectors", torch.ones(8, 4))', 0), ("vectors = nn.Parameter(torch.ones(8, 4))", 1)],
)
def test_a_constant_that_the_code_registers_as_a_buffer_is_no_layer_that_never_learned(
    tmp_path, made, accused
):
    for epoch in (1, 2):
        generator = torch.Generator().manual_seed(epoch)
        state = {name: torch.randn(shape, generator=generator)
                 for name, shape in (("conv.weight", (2, 3, 4, 4)), ("conv.bias", (2,)))}  # fmt: skip
        state["vectors"] = torch.full((8, 4), 0.5)
        torch.save({"state_dict": state, "epoch": epoch}, tmp_path / f"epoch_{epoch}.pth")
    (tmp_path / "own.py").write_text(CONSTANT.format(made=made))
    report = diagnose(
        tmp_path / "epoch_2.pth", adapter=tmp_path / "own.py", level="forward", causes=[NeverLearned()]
    )
    assert len(report.findings) == accused, report.text()


@pytest.mark.parametrize(("change", "accused"), [(-0.5, False), (0.0, True), (0.5, True)])
def test_a_part_is_not_called_scaled_where_its_old_size_costs_ap(tmp_path, monkeypatch, change, accused):
    layers = {name: torch.randn(8, 8, generator=torch.Generator().manual_seed(0)) for name in "abcd"}
    for epoch, factor in ((1, 0.04), (2, 1.0)):
        state = {f"{name}.weight": layers[name] * (factor if name == "d" else 1.0) for name in layers}
        torch.save({"state_dict": state, "epoch": epoch}, tmp_path / f"epoch_{epoch}.pth")
    tried = []

    def given_back(case, cause, tensors):
        tried.append(tensors)
        return Effect("AP", change, change - 0.1, change + 0.1)

    monkeypatch.setattr(replaced_weights, "given_back", given_back)
    report = diagnose([tmp_path / "epoch_2.pth"], level="files", causes=[ScaledPart()])
    assert tried[0]["d.weight"].numpy() == pytest.approx(layers["d"].numpy() * 0.04, rel=1e-4)
    assert [one.confidence for one in report.findings] == [["measured"], ["proved"]][change > 0] * accused
    if not accused:
        assert "divided by it AP changes by -0.500" in report.ruled_out["weights of one part scaled"]


def test_few_levels_of_a_matrix_and_of_its_channels_are_counted():
    weights = torch.randn(32, 128, generator=torch.Generator().manual_seed(0))
    assert few_levels(weights) is None
    assert few_levels(weights.half()) is None
    assert few_levels(weights.bfloat16()) is None
    assert few_levels((weights[:, :48] * 2).round()) == len((weights[:, :48] * 2).round().unique())
    scales = torch.arange(1, 33)[:, None] * 0.37
    by_channel = (weights * 2).round() * scales
    assert few_levels(by_channel) == max(len(row.unique()) for row in by_channel[:8])
    assert few_levels(torch.zeros(32, 128)) is None
    assert few_levels(weights.sign()) is None


@pytest.mark.parametrize(("levels", "severity"), [(16, "error"), (200, "remark")])
def test_quantised_weights_are_named_by_their_levels(tmp_path, levels, severity):
    (finding,) = of_files(tmp_path, quantised(levels))
    assert (finding.cause, finding.severity) == ("weights are quantised", severity)
