"""The files that README names for one's own model do what it says, in the verbs that it names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.data.images import write_image

ADAPTERS = Path(__file__).parents[1] / "adapters"


def a_set(folder, names, size=(64, 64)):
    """One image with one annotated instance; the words that name it."""
    height, width = size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    write_image(folder / "1.png", image)
    points = [[10 + 8 * k, 12 + 7 * k, 2] for k in range(len(names))]
    person = {
        "id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 1500, "bbox": [4, 4, 56, 56],
        "num_keypoints": len(names), "keypoints": np.ravel(points).tolist(),
    }  # fmt: skip
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": width, "height": height}],
        "annotations": [person],
        "categories": [{"id": 1, "name": "own", "keypoints": list(names)}],
    }
    (folder / "set.json").write_text(json.dumps(content))
    return "--data", folder / "set.json", "--images", folder


@pytest.mark.parametrize("words", [("rollout",), ("look", "prefix"), ("look", "support"), ("predict",)])
def test_a_sequence_model_of_ones_own_answers_the_rollout_lab(workbench, tmp_path, words):
    data = a_set(tmp_path, "abcde")
    shown = ("--image", tmp_path / "1.png") if words == ("predict",) else data
    code, out, err = workbench(*words, "--adapter", ADAPTERS / "sequence.py", *shown, "--json")
    assert code == 0, err
    assert json.loads(out)


def test_teacher_forcing_and_free_running_differ_as_the_example_says():
    from workbench.core import Sample
    from workbench.models import open_model

    model = open_model(None, adapter=ADAPTERS / "sequence.py").model
    truth = np.array([[10 + 8 * k, 12 + 7 * k, 2] for k in range(5)], float)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    batch = model.prepare([Sample(image, (4, 4, 60, 60), truth)])
    forced, free = (f.tokens["coordinates"] for f in (model.forward(batch), model.rollout(batch)))
    assert torch.equal(forced[:, 0], free[:, 0])
    assert not torch.equal(forced[:, 1:], free[:, 1:])
    assert torch.equal(model.rollout(batch, forced=5).tokens["coordinates"], forced)
    other = model.supported_by([Sample(image, (4, 4, 60, 60), truth[::-1])])
    assert not torch.equal(other.forward(other.prepare(batch.samples)).tokens["coordinates"], forced)


def test_call_mean_and_the_checkpoints_path_are_used(workbench, tmp_path):
    from workbench.models import open_model

    torch.manual_seed(0)
    weights = torch.nn.Conv2d(3, 3, 3, 4, 1).state_dict()
    torch.save({f"conv.{name}": value for name, value in weights.items()}, tmp_path / "net.pth")
    (tmp_path / "labels.txt").write_text("nose tail paw")
    opened = open_model(tmp_path / "net.pth", adapter=ADAPTERS / "call_and_path.py")
    assert opened.model.skeleton.keypoints == ("nose", "tail", "paw")
    assert opened.loaded_fraction == 1
    data = a_set(tmp_path, ("nose", "tail", "paw"))
    words = (tmp_path / "net.pth", "--adapter", ADAPTERS / "call_and_path.py", *data)
    for verb in (("evaluate", "--sigmas", "0.05"), ("look", "overlay")):
        code, _, err = workbench(*verb, *words, "--json")
        assert code == 0, err


@pytest.mark.parametrize("adapter", ["tiny_heatmap", "call_and_path", "sequence"])
def test_overfit_takes_an_adapter_without_a_checkpoint(workbench, tmp_path, adapter):
    names = {"tiny_heatmap": ("red", "green"), "call_and_path": ("first", "second"), "sequence": "abcde"}
    a_set(tmp_path, names[adapter])
    words = ("--annotation", tmp_path / "set.json", "--images", tmp_path, "--steps", 4, "--no-bisect")
    code, out, err = workbench("overfit", "--adapter", ADAPTERS / f"{adapter}.py", *words, "--json")
    assert code in (0, 1), err
    assert json.loads(out)["verdict"]
