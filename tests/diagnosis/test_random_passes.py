"""Dropout and noise that are on in evaluation mode."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from workbench.core import Outputs
from workbench.diagnosis import diagnose
from workbench.diagnosis.constant_outputs import REPEATED, PassesDiffer, _apart

RANDOM_ADAPTER = """
import torch
from torch import nn

from workbench.core import Codec
from workbench.models import TopDown
from workbench.skeletons import SKELETONS


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 17, 3, 4, 1), nn.BatchNorm2d(17))
        self.drop = nn.Dropout(0.3)

    def forward(self, pixels):
        return {forward}


def load(checkpoint, device):
    codec = Codec("heatmap", (64, 64), (16, 16), sigma=(1.0, 1.0), decoder="argmax")
    return TopDown(Net(), SKELETONS["ap10k-17"], codec)
"""


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        ("self.drop(self.body(pixels))", ""),
        ("nn.functional.dropout(self.drop(self.body(pixels)), 0.3)", "labelled keypoints by"),
        ("self.drop.train()(self.body(pixels))", "is drop (Dropout)"),
        ("self.body(pixels + 0.1 * torch.randn_like(pixels))", "is body.0 (Conv2d)"),
    ],
    ids=["dropout in training alone", "dropout of torch's function", "dropout switched on", "noise"],
)
def test_dropout_and_noise_that_are_on_in_evaluation_mode_are_named(forward, said, tmp_path):
    path = tmp_path / "adapter.py"
    path.write_text(RANDOM_ADAPTER.replace("{forward}", forward))
    report = diagnose([], adapter=path, data="scenes-val", sample=4, level="forward", causes=[PassesDiffer()])
    evidence = [one.evidence for one in report.findings]
    assert len(evidence) == bool(said), report.text()
    assert all(said in one for one in evidence)


def test_rounding_of_a_healthy_network_is_far_below_what_counts_as_random():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.GELU()]
    net = nn.Sequential(*layers, nn.GroupNorm(4, 32), nn.Conv2d(32, 17, 5, 1, 2)).eval()
    pixels = torch.randn(4, 3, 64, 64)
    threads = torch.get_num_threads()
    with torch.no_grad():
        plain = net(pixels)
        others = {
            "batch size": torch.cat([net(one[None]) for one in pixels]),
            "channels last": net(pixels.contiguous(memory_format=torch.channels_last)),
        }
        torch.set_num_threads(1 if threads > 1 else 2)
        others["threads"] = net(pixels)
        torch.set_num_threads(threads)
        with torch.autocast("cpu", torch.bfloat16):
            half = [Outputs(heatmaps=net(pixels).float()) for _ in range(2)]
    first = Outputs(heatmaps=plain)
    far = {name: _apart(first, Outputs(heatmaps=maps)) for name, maps in others.items()}
    assert max(far.values()) < REPEATED / 100, far
    assert _apart(*half) < REPEATED / 100
