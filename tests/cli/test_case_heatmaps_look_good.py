"""Heatmaps look good, AP is .418 instead of .698: what the file is, and what it should reach.

The files have the official names and shapes and no weights worth the name: no official ones are at hand.
"""

from __future__ import annotations

import json

import pytest
import torch

from tests.places import SHARED
from workbench.models.higherhrnet.network import Architecture, HigherHRNet

REFERENCE = SHARED / "reference"


def official(folder, name, width):
    """A bare state dict as published; every tensor one number repeated, so that the file is small."""
    with torch.device("meta"):  # names and shapes alone
        weights = HigherHRNet(Architecture(width=width)).state_dict()
    state = {key: torch.tensor(0.0).expand(value.shape) for key, value in weights.items()}
    torch.save(state, folder / name)
    return folder / name


@pytest.mark.parametrize(
    ("name", "width", "listed", "variant", "figure", "words"),
    [
        ("pose_higher_hrnet_w48_640.pth.tar", 48, "w48_640", "w48", "69.9", "input 640, so AP 69.9"),
        ("pose_higher_hrnet_w32_512.pth", 32, "w32_512", "w32", "67.1", "input 512, so AP 67.1"),
        ("downloaded.pth", 48, "w48_640", "w48", "69.9", "not one 17-dimensional embedding"),
    ],
)
def test_the_file_says_which_one_it_is_and_what_it_should_reach(
    workbench, tmp_path, name, width, listed, variant, figure, words
):
    from apps.pages.checkpoint import facts
    from workbench.checkpoints import open_checkpoint

    path = official(tmp_path, name, width)
    code, printed, err = workbench("open", path, "--json")
    assert code == 0, err
    identity = json.loads(printed)
    assert (identity["family"], identity["variant"]) == ("HigherHRNet (official names)", variant)
    assert f"AP {figure}" in identity["expected"]
    # Whose figure .698 is, whichever width the file has.
    assert "69.8" in identity["expected"]
    assert any(words in sentence for sentence in identity["evidence"])
    checkpoint = open_checkpoint(path)
    page = dict(facts(checkpoint))
    assert page["family"] == f"HigherHRNet (official names) {variant}"
    assert page["published"] == identity["expected"]
    if REFERENCE.is_dir():
        lines = (REFERENCE / f"higherhrnet_{listed}_keys.txt").read_text().splitlines()
        assert set(checkpoint.tensors) == {line.split()[0] for line in lines if line.strip()}


def test_loading_it_says_the_same(workbench, tmp_path):
    path = official(tmp_path, "pose_higher_hrnet_w32_512.pth", 32)
    code, printed, err = workbench("load", path, "--json")
    assert code == 0, err
    facts = json.loads(printed)
    assert facts["loaded_fraction"] == 1
    assert "AP 67.1" in facts["expected"]
    code, printed, _ = workbench("load", path)
    assert "HigherHRNet (official names) w32" in printed
    assert "69.8 or 69.9 is a figure of w48" in printed
