"""Networks of the demo's size, trained for a moment on drawn scenes with one defect each: the verb names it.

The same claims on networks of a few thousand weights, untrained, are in test_clinic.py; these are slower.
"""

from __future__ import annotations

import copy
import json

import pytest
import torch

from workbench.inspectors.conditioning.findings import (
    CLIPPED,
    FLATTENED,
    MASKED,
    ONE_VECTOR,
    RANDOM,
    SKIPPED,
    UNTRAINED,
)

HEALTHY = {
    "neck": {"init": "identity", "mlp": "linear", "text_from": "each", "gate": "none"},
    "refiner": {"softmax": "none", "mask": "all"},
    "head": {"use_refiner_in_training": True, "use_refiner_in_predict": True},
    "model": {"text": "drawn-quadrupeds", "fuse_in_predict": True},
}
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


@pytest.fixture(scope="module")
def demo():
    """The fusion run's config and the base run's weights."""
    from workbench.checkpoints import open_checkpoint
    from workbench.checkpoints.config_reader import read_config
    from workbench.checkpoints.demo import demo_checkpoints

    fusion = open_checkpoint(demo_checkpoints("rtmpose-text-fusion")[-1])
    base = open_checkpoint(demo_checkpoints("rtmpose-text-base")[-1])
    return read_config(fusion.config_text), dict(base.state_dict())


def trained(demo, changes, folder, steps):
    """A checkpoint: the base run's weights with a neck and a refiner, a few steps further."""
    from workbench.data import builtin
    from workbench.models.mmpose.model import build, model_of
    from workbench.training.experiments.arms import Arm
    from workbench.training.experiments.running import Course, halves, learned

    settings = copy.deepcopy(dict(demo[0]))
    model = settings["model"]
    places = {
        "neck": model["neck"],
        "refiner": model["head"]["refiner"],
        "head": model["head"],
        "model": model,
    }
    for part, place in places.items():
        place.update({**HEALTHY[part], **changes.get(part, {})})
    torch.manual_seed(0)
    module = build(settings).eval()
    module.load_state_dict(demo[1], strict=False)
    material = halves(builtin("scenes-val"))
    course = Course(steps, batch=4)
    learned(model_of(module, settings, None), Arm(""), *material.train, course, lambda *_: None)
    told = "\n".join(f"{name} = {value!r}" for name, value in settings.items())
    torch.save({"meta": {"epoch": 1, "cfg": told}, "state_dict": module.state_dict()}, folder / "epoch_1.pth")
    return folder / "epoch_1.pth"


@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=() if name == QUICK else pytest.mark.slow) for name in CASES]
)
def test_the_verb_names_the_defect_of_a_trained_network_and_nothing_else(demo, workbench, tmp_path, case):
    changes, wanted = CASES[case]
    file = trained(demo, changes, tmp_path, QUICK_STEPS if case == QUICK else STEPS)
    code, out, err = workbench("clinic", file, "--no-measure", "--samples", 4, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert tuple(finding["name"] for finding in told["findings"]) == wanted
    if not wanted:
        assert "nothing wrong found" in told["summary"]
