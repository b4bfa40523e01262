"""Scores that are all alike: no fault of a network that gives coordinates alone."""

from __future__ import annotations

import pytest

from workbench.diagnosis import diagnose
from workbench.diagnosis.score_causes import ScoreRule

# Answers that lie on the truth, in part of the instances a little beside it: what differs is the score alone.
ADAPTER = """
import numpy as np
import torch
from torch import nn

from workbench.core import Codec, Outputs
from workbench.core.geometry import apply, inverse
from workbench.models import TopDown
from workbench.skeletons import SKELETONS


class Knows(TopDown):
    def forward(self, batch):
        points = [apply(inverse(a), s.truth[:, :2]) for a, s in zip(batch.to_image, batch.samples)]
        points = torch.tensor(np.stack(points)).float()
        for n, sample in enumerate(batch.samples):
            points[n] += 6 * (sample.annotation_id % 3)
        varied = batch.pixels.mean((1, 2, 3)).abs()[:, None].expand(len(points), 17)
        return Outputs(tokens={"coordinates": points{more}})


def load(checkpoint, device):
    def read(outputs, options):
        return outputs.tokens["coordinates"].numpy(), np.ones(outputs.tokens["coordinates"].shape[:2])

    net = nn.Conv2d(3, 1, 1)
    return Knows(net, SKELETONS["ap10k-17"], None, read=read, input_size=(64, 64), taps={})
"""


@pytest.mark.parametrize(
    ("more", "severity"),
    [("", "remark"), (', "scores": varied', "warning")],
    ids=["coordinates alone", "scores that are not used"],
)
def test_scores_of_1_are_no_fault_of_a_network_that_gives_coordinates_alone(more, severity, tmp_path):
    path = tmp_path / "adapter.py"
    path.write_text(ADAPTER.replace("{more}", more))
    report = diagnose([], adapter=path, data="scenes-val", sample=16, level="evaluate", causes=[ScoreRule()])
    (found,) = report.findings
    assert "have the score 1, so their order is chance" in found.evidence, report.text()
    assert found.severity == severity
