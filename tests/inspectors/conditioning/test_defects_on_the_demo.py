"""Networks of the demo's size, trained for a moment on drawn scenes with one defect each: the verb names it.

The same claims on networks of a few thousand weights, untrained, are in test_clinic.py; these are slower.
"""

from __future__ import annotations

import json

import pytest

from tests.diagnosis.cached_runs import train_text
from workbench.inspectors.conditioning.findings import (
    CLIPPED,
    FLATTENED,
    MASKED,
    ONE_VECTOR,
    RANDOM,
    SKIPPED,
    UNTRAINED,
)

CASES = {
    "a healthy network": ({}, ()),
    "no refiner": ({"head": {"refiner": None}}, ()),
    "two layers and a learned gate": ({"neck": {"mlp": "linear-relu-linear", "gate": "learned"}}, ()),
    "attention": ({"neck": {"fusion_type": "attention"}, "head": {"refiner": None}}, ()),
    "the original FiLM": ({"neck": {"init": "random", "gamma_baseline": 1.0}}, ()),
    "skipped in predict": ({"model": {"fuse_in_predict": False}}, (SKIPPED,)),
    "clipped and dropped": ({"neck": {"mlp": "linear-relu-dropout"}}, (CLIPPED,)),
    "untrained refiner": ({"head": {"use_refiner_in_training": False}}, (UNTRAINED,)),
    "softmax on all": ({"refiner": {"softmax": "all"}}, (FLATTENED,)),
    "masked refiner": ({"refiner": {"mask": "uncertain"}}, (MASKED,)),
    "the first one's text": ({"neck": {"text_from": "first"}}, (ONE_VECTOR,)),
    "one subject": ({"model": {"text": "drawn-quadrupeds/horse"}}, (ONE_VECTOR,)),
    "random start": ({"neck": {"init": "random"}}, (RANDOM,)),
}
# One healthy network by default, all of them when there is time.
QUICK = "a healthy network"
STEPS, QUICK_STEPS = 12, 2


@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=() if name == QUICK else pytest.mark.slow) for name in CASES]
)
def test_the_verb_names_the_defect_of_a_trained_network_and_nothing_else(workbench, tmp_path, case):
    changes, wanted = CASES[case]
    train_text(tmp_path, QUICK_STEPS if case == QUICK else STEPS, batch=4, changes=changes)
    code, out, err = workbench("clinic", tmp_path / "epoch_1.pth", "--no-measure", "--samples", 4, "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert tuple(finding["name"] for finding in answer["findings"]) == wanted
    if not wanted:
        assert "nothing wrong found" in answer["summary"]
