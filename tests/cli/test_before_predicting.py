"""What will be refused anyway is refused before hours go into predicting."""

from __future__ import annotations

import json

import numpy as np
import pytest

from workbench.data.images import write_image
from workbench.skeletons import SKELETONS

# Whoever asks this model for anything has asked too early.
ADAPTER = """
import torch
from workbench.models import TopDown
from workbench.core import Codec
from workbench.skeletons import SKELETONS


class Never(torch.nn.Module):
    def forward(self, pixels):
        raise RuntimeError("predicted before the options were looked at")


def load(checkpoint, device):
    codec = Codec("heatmap", (64, 48), (16, 12), decoder="argmax")
    return TopDown(module=Never(), skeleton=SKELETONS["coco-17"], codec=codec, device=device)
"""


@pytest.fixture
def folder(tmp_path):
    write_image(tmp_path / "a.png", np.full((40, 40, 3), 90, np.uint8))
    category = {"id": 1, "name": "person", "keypoints": list(SKELETONS["coco-17"].keypoints)}
    annotation = {
        "id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "keypoints": [9, 9, 2] * 17,
        "num_keypoints": 17, "iscrowd": 0, "area": 300.0,
    }  # fmt: skip
    whole = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 40}],
        "annotations": [annotation],
        "categories": [category],
    }
    (tmp_path / "set.json").write_text(json.dumps(whole))
    del annotation["area"]
    (tmp_path / "bare.json").write_text(json.dumps(whole))
    (tmp_path / "never.py").write_text(ADAPTER)
    (tmp_path / "file").touch()
    (tmp_path / "is_a_folder.json").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("data", "more", "message"),
    [
        ("bare.json", [], "--no-area"),
        ("set.json", ["--max-dets", "0"], "max_dets: expected at least 1"),
        ("set.json", ["--sigmas", "0"], "--sigmas: expected one number above 0, or 17"),
        ("set.json", ["--sigmas", "1,2"], "one for each keypoint of set, got 2: 1, 2"),
        ("set.json", ["--pck", "nan"], "pck: expected a threshold above 0"),
        ("set.json", ["--nms", "0"], "nms: expected an OKS above 0"),
        ("set.json", ["--out", "{folder}/file/kept.json"], "--out: nothing can be written into"),
        ("set.json", ["--out", "{folder}/is_a_folder.json"], "is a folder"),
    ],
)
def test_evaluate_looks_at_its_options_first(workbench, folder, data, more, message):
    more = [word.format(folder=folder) for word in more]
    code, out, err = workbench("evaluate", "--adapter", folder / "never.py", "--data", folder / data, *more)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_experiment_names_the_option_of_a_folder_that_nothing_can_be_written_into(workbench, folder):
    code, out, err = workbench("experiment", "no-fusion", "--demo", "--folder", folder / "file" / "kept")
    assert (code, out) == (2, "")
    assert err.startswith("workbench: --folder: nothing can be written into")


@pytest.mark.parametrize(
    ("data", "more", "message"),
    [
        ("bare.json", [], "--no-area"),
        ("set.json", ["--sigmas", "0"], "sigmas: expected numbers above 0"),
        ("set.json", ["--resamples", "1"], "--resamples"),
        ("set.json", ["--out", "{folder}/file"], "--out: nothing can be written into"),
    ],
)
def test_compare_looks_at_its_options_first(workbench, folder, data, more, message):
    import torch

    for epoch in (1, 2):
        torch.save({"w": torch.zeros(1)}, folder / f"epoch_{epoch}.pth")
    words = [folder / "epoch_1.pth", folder / "epoch_2.pth", "--adapter", folder / "never.py"]
    more = [word.format(folder=folder) for word in more]
    code, out, err = workbench("compare", *words, "--data", folder / data, *more)
    assert (code, out) == (2, "")
    assert message in err


def test_a_refused_verb_leaves_no_folder_on_the_way_to_its_out(workbench, folder):
    import torch

    torch.save({"w": torch.zeros(1)}, folder / "epoch_1.pth")
    (folder / "no.png").write_bytes(b"no picture")
    deep, file, never = folder / "new" / "deep", folder / "epoch_1.pth", folder / "never.py"
    for words in (
        ("text", folder / "absent.toml", "--out", deep / "text.npz"),
        ("evaluate", file, "--data", folder / "set.json", "--adapter", never, "--out", deep / "found.json"),
        ("evaluate", file, "--data", folder / "set.json", "--out", deep / "found.parquet"),
        ("compare", file, file, "--data", folder / "set.json", "--out", deep),
        ("history", folder, "--data", folder / "set.json", "--out", deep),
        ("sweep", folder, "--data", folder / "absent.json", "--out", deep),
        ("data", folder / "absent.json", "--out", deep),
        ("predict", "--image", folder / "no.png", "--demo", "--out", deep),
    ):
        code, _, err = workbench(*words)
        assert code == 2, (words, err)
        assert not (folder / "new").exists(), words


def test_epochs_of_one_name_in_two_runs_are_told_apart(tmp_path):
    from workbench.cli.compare import titles_of

    one, other = tmp_path / "base/epoch_5.pth", tmp_path / "text/epoch_5.pth"
    assert titles_of([one, other]) == ["base-epoch_5", "text-epoch_5"]
    assert titles_of([one, tmp_path / "base/epoch_6.pth"]) == ["epoch_5", "epoch_6"]
    with pytest.raises(ValueError, match="two files would both be called base-epoch_5"):
        titles_of([one, one])


@pytest.mark.parametrize(
    "words",
    [
        ["oracle", "--demo"],
        ["ablate", "tags", "--demo"],
        ["ablate", "grouping", "--demo"],
        ["ablate", "conditioning", "--demo"],
        ["distill", "--demo"],
        ["rollout", "--demo"],
        ["film", "--demo"],
        ["paths", "--demo"],
        ["clinic", "--demo"],
        ["experiment", "--demo"],
        ["look", "overlay", "--demo"],
    ],
)
def test_where_to_write_is_looked_at_before_a_model_is_opened(workbench, tmp_path, monkeypatch, words):
    monkeypatch.setattr("workbench.models.open_model", None)  # to call it is an error
    for out, said in (("no/such.html", "no such folder"), ("found.xyz", "xyz")):
        code, _, err = workbench(*words, "--out", tmp_path / out)
        assert (code, said in err) == (2, True), err


@pytest.mark.parametrize("words", [["oracle"], ["ablate", "grouping"]])
def test_sets_that_no_ap_can_be_told_of_are_refused_before_they_are_looked_at(workbench, folder, words):
    from workbench.checkpoints.demo import demo_checkpoints

    network = demo_checkpoints("higherhrnet-demo")[-1]
    (folder / "a.png").unlink()
    code, _, err = workbench(*words, network, "--data", folder / "bare.json")
    assert code == 2
    assert "have no 'area'" in err


@pytest.mark.parametrize(
    "words",
    [
        ["decode"],
        ["oracle"],
        ["graft"],
        ["sweep"],
        *(["ablate", of] for of in ("faults", "tags", "grouping")),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("area", [-300.0, 1e300])
def test_sets_of_which_no_instance_counts_are_refused_before_they_are_looked_at(
    workbench, folder, words, area
):
    """Evaluators skip areas outside of their ranges: "no part changes AP" would say what was not measured."""
    import torch

    from workbench.checkpoints.demo import demo_checkpoints

    whole = json.loads((folder / "set.json").read_text())
    whole["annotations"][0]["area"] = area
    (folder / "skipped.json").write_text(json.dumps(whole))
    if words[0] in ("oracle", "ablate"):
        models = [demo_checkpoints("higherhrnet-demo")[-1]]
    else:
        (folder / "run").mkdir()
        models = [folder / "run" / f"epoch_{epoch}.pth" for epoch in (1, 2)]
        for epoch, model in enumerate(models):
            torch.save({"w": torch.full((1,), epoch)}, model)
        models = {"sweep": [folder / "run"], "decode": models[:1]}.get(words[0], models)
        models += ["--adapter", folder / "never.py"]
    code, out, err = workbench(*words, *models, "--data", folder / "skipped.json")
    assert (code, out) == (2, "")
    assert "no annotated instance counts, so there is no AP: their areas are outside of 0 to 1e+10" in err
