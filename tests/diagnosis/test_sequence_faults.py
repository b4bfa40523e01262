"""Faults of sequence models: what is named first, and what is not said beside it."""

from __future__ import annotations

import pytest

from tests.diagnosis.planted_weights import checkpoint, noisy, with_defects
from tests.diagnosis.systems import CAPE, System
from workbench.checkpoints.demo import demo_checkpoints
from workbench.diagnosis import diagnose
from workbench.diagnosis.lab_causes import Rollout
from workbench.diagnosis.weight_causes import NeverLearned

FORCED = System("cape", lambda: demo_checkpoints("cape-demo"), lambda: "scenes-val")
"""Trained with true tokens alone: it has exposure bias besides."""


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "system", "said"),
    [
        (with_defects("support_discarded"), CAPE, ["support not read", "keypoints not learned"]),
        (with_defects("support_discarded"), FORCED, ["support not read", "exposure bias"]),
        # On the one instance that it knows by heart every rule gives PCK 1.
        (with_defects("pck_in_input_pixels"), CAPE, ["coordinates disagree"]),
        # A network that finds nothing has no use for its support, and depends on rounding: both say nothing.
        (noisy("", 1.5), CAPE, ["keypoints not learned"]),
        (noisy("", 3.0, 4), CAPE, ["keypoints not learned"]),
    ],
)
def test_the_fault_of_a_sequence_model_comes_first(change, system, said, tmp_path):
    targets, options = checkpoint(change, system)(tmp_path)
    report = diagnose(targets, level="forward", causes=[Rollout()], **options)
    assert [finding.cause for finding in report.findings] == said


def test_a_switch_in_a_checkpoint_is_no_layer_that_never_learned():
    report = diagnose(FORCED.last(), level="files", causes=[NeverLearned()])
    assert "every weight of 199 differs" in report.ruled_out["layers that never learned"], report.text()
