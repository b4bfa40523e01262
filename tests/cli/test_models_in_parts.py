"""A model in parts is one model for every verb: by its index, by the folder of the index, by all files."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from tests.models.text_fusion_net import config, written
from workbench.checkpoints.checkpoint_files import models_in, training_order
from workbench.checkpoints.demo import demo_checkpoints
from workbench.cli.compare import epochs_of, titles_of
from workbench.cli.conditioned import epochs_of as epochs_with_text
from workbench.cli.conditioned import newest
from workbench.data import builtin

INDEX = "pytorch_model.bin.index.json"


def in_parts(file, folder, index=INDEX):
    """The same checkpoint as two files and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    saved = torch.load(file, weights_only=True)
    state = saved["state_dict"]
    names, stem = list(state), index.removesuffix(".index.json").removesuffix(".bin")
    parts = [folder / f"{stem}-{n + 1:05d}-of-00002.pth" for n in range(2)]
    where = {}
    for part, chosen in zip(parts, (names[::2], names[1::2]), strict=True):
        torch.save({"meta": saved["meta"], "state_dict": {n: state[n] for n in chosen}}, part)
        where |= dict.fromkeys(chosen, part.name)
    (folder / index).write_text(json.dumps({"weight_map": where}))
    return parts


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return written(config(), tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def ways(whole, tmp_path_factory):
    """How the model in parts can be named."""
    folder = tmp_path_factory.mktemp("parts")
    parts = in_parts(whole, folder)
    return {"index": [folder / INDEX], "folder": [folder], "files": parts}


# The command, and what of its answer tells that the same network was looked at.
VERBS = {
    "findings": ["clinic", "--no-measure", "--samples", 2],
    "taps": ["paths", "--samples", 2],
    "layers": ["film", "--samples", 2],
    "variants": ["ablate", "conditioning", "--data", "scenes-val", "--limit", 2],
    "arms": ["experiment", "both-ways", "--data", "scenes-val", "--most", 2],
}


@pytest.mark.parametrize("fact", VERBS)
def test_a_verb_of_one_model_takes_it_in_parts(workbench, whole, ways, fact):
    words = VERBS[fact]
    cut = 2 if words[0] in ("ablate", "experiment") else 1

    def facts(files):
        code, out, err = workbench(*words[:cut], *files, *words[cut:], "--json")
        assert code == 0, err
        return json.loads(out)[fact]

    expected = facts([whole])
    assert expected
    for way, files in ways.items():
        if fact == "layers" and way == "files":
            continue  # several files of film are epochs
        assert facts(files) == expected, way


@pytest.mark.parametrize("fact", ["taps", "findings"])
def test_names_that_a_wrapper_changed_are_renamed_on_request(workbench, whole, tmp_path, fact):
    saved = torch.load(whole, weights_only=True)
    state = {f"student.{name}": tensor for name, tensor in saved["state_dict"].items()}
    torch.save({**saved, "state_dict": state}, tmp_path / whole.name)
    answers = []
    for file in (whole, tmp_path / whole.name):
        code, out, err = workbench(VERBS[fact][0], file, *VERBS[fact][1:], "--remap", "--json")
        assert code == 0, err
        answers.append(json.loads(out)[fact])
    assert answers[0] == answers[1]


def test_two_models_are_no_parts_of_one(workbench, whole):
    other = shutil.copy(whole, whole.with_name("epoch_2.pth"))
    code, _, err = workbench("paths", whole, other)
    assert (code, "are not parts of one model" in err) == (2, True)
    other.unlink()


def test_rollout_takes_a_model_in_parts(workbench, root, tmp_path):
    file = root / "checkpoints/cape-demo/epoch_40.pth"
    in_parts(file, tmp_path / "parts")
    given = (file, tmp_path / "parts", tmp_path / "parts" / INDEX)
    code, out, err = workbench("rollout", *given, "--data", "scenes-val", "--json")
    assert code == 0, err
    figures = [(epoch["pck_forced"], epoch["pck_free"]) for epoch in json.loads(out)["epochs"]]
    assert len(figures) == 3
    assert len(set(figures)) == 1


def test_an_index_counts_as_one_epoch(whole, tmp_path):
    run = tmp_path / "run"
    for epoch in (20, 5):
        in_parts(whole, run, f"epoch_{epoch}.bin.index.json")
    shutil.copy(whole, run / "epoch_30.pth")
    (run / "model.json").write_text("{}")
    wanted = ["epoch_5.bin.index.json", "epoch_20.bin.index.json", "epoch_30.pth"]
    assert [path.name for path in training_order(models_in(run, (".pth",)))] == wanted
    assert [path.name for path in epochs_of([run])] == wanted
    assert [path.name for path in epochs_with_text([run])] == wanted
    assert newest([run]).name == "epoch_30.pth"
    assert titles_of(epochs_of([run])) == ["epoch_5", "epoch_20", "epoch_30"]
    folders = [tmp_path / f"checkpoint-{n}" for n in (1000, 500)]
    for folder in folders:
        in_parts(whole, folder)
    assert titles_of(epochs_of(sorted(folders))) == ["checkpoint-500", "checkpoint-1000"]
    indices = [folder / INDEX for folder in folders]
    assert titles_of(epochs_of(indices)) == ["checkpoint-1000-pytorch_model", "checkpoint-500-pytorch_model"]
    assert newest([folders[0]]) == folders[0]


def test_compare_judges_a_model_in_parts_as_one_epoch(workbench, tmp_path):
    scenes = builtin("scenes-val")
    few = scenes.raw["images"][:2]
    ids = {entry["id"] for entry in few}
    people = [a for a in scenes.raw["annotations"] if a["image_id"] in ids]
    (tmp_path / "few.json").write_text(json.dumps({**scenes.raw, "images": few, "annotations": people}))
    last = demo_checkpoints()[-1]
    in_parts(last, tmp_path / "parts")
    folder = scenes.images[few[0]["id"]].path.parent
    words = ["--data", tmp_path / "few.json", "--images", folder, "--resamples", 2, "--no-flip", "--json"]
    code, out, err = workbench("compare", last, tmp_path / "parts", *words)
    assert code == 0, err
    figures = [epoch["AP"] for epoch in json.loads(out)["epochs"]]
    assert len(figures) == 2
    assert figures[0] == figures[1]
