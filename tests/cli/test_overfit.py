"""workbench overfit: what it tells, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.apps.test_overfit_page import SMALL
from tests.waiting import until


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.py"
    path.write_text(SMALL)
    return path


def test_the_demo_tells_every_fact(workbench):
    code, out, _ = workbench("overfit", "--demo", "--steps", 60, "--json")
    assert code == 0
    facts = json.loads(out)
    assert {"steps", "loss", "pck", "verdict", "culprit", "steps_per_second", "snapshots"} <= set(facts)
    assert facts["verdict"] == "learned"
    assert facts["pck"] == 1.0
    assert facts["culprit"] is None
    assert facts["evidence"] == []
    assert facts["snapshots"] == []
    assert facts["steps_per_second"] > 0


def test_the_real_photograph_is_learned_and_snapshots_are_named(workbench, config, tmp_path):
    code, out, err = workbench(
        "overfit", "--config", config, "--steps", 60, "--learning-rate", 2e-3, "--out", tmp_path, "--json"
    )  # fmt: skip
    assert code == 0, err
    facts = json.loads(out)
    assert facts["pck"] == 1.0
    assert [name.rpartition("_")[2] for name in facts["snapshots"]] == [
        f"{n:08d}.pth" for n in (15, 30, 45, 60)
    ]
    assert "step 60 of 60" in err


@pytest.mark.long
def test_a_planted_fault_is_named_on_the_real_photograph(workbench, config):
    code, out, err = workbench(
        "overfit", "--config", config, "--steps", 60, "--learning-rate", 2e-3, "--plant", "codec", "--json"
    )  # fmt: skip
    assert code == 0, err
    facts = json.loads(out)
    assert facts["culprit"] == "codec"
    assert "--plant codec" in facts["command"]
    assert facts["trials"][-1] == {**facts["trials"][-1], "without": "codec", "outcome": "learned"}


def test_the_command_it_gives_repeats_the_same_losses(workbench, config):
    import shlex

    words = ["overfit", "--config", config, "--steps", 5, "--schedule", "cosine", "--no-bisect", "--json"]
    words += ["--bits", 12, "--as-stored"]
    first = json.loads(workbench(*words)[1])
    again = shlex.split(first["command"])[1:]
    assert {"--no-bisect", "--bits", "--as-stored"} <= set(again)
    second = json.loads(workbench(*again, "--json")[1])
    assert second["loss"] == first["loss"]
    assert second["command"] == first["command"]


@pytest.fixture
def bare(tmp_path):
    """A set whose only instance has no visible keypoint."""
    from workbench.data.images import write_image
    from workbench.skeletons import SKELETONS

    names = list(SKELETONS["coco-17"].keypoints)
    write_image(tmp_path / "bare.png", np.zeros((64, 64, 3), np.uint8))
    entry = {
        "images": [{"id": 1, "file_name": "bare.png", "height": 64, "width": 64}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "keypoints": [0] * 51, "num_keypoints": 0,
             "bbox": [0, 0, 60, 60], "area": 3600.0, "iscrowd": 0},
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": names, "skeleton": []}],
    }  # fmt: skip
    path = tmp_path / "bare.json"
    path.write_text(json.dumps(entry))
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bogus"], "no network 'bogus'"),
        (["rtmpose", "--plant", "bogus"], "--plant: expected one of augmentation"),
        (["--config", "absent.py"], "absent.py"),
        ([], "exactly one of"),
        (["rtmpose", "--demo"], "--demo brings its own"),
        (["rtmpose", "--annotation", "absent.json"], "absent.json"),
        (["rtmpose", "--count", "0"], "--count"),
        (["rtmpose", "--steps", "0"], "steps: expected 1 or more, got 0"),
        (["rtmpose", "--schedule", "bogus"], "schedule: expected constant, cosine or multistep, got 'bogus'"),
        (["cape", "--plant", "codec"], "this model declares no codec"),
        (["cape", "--plant", "dropout"], "no dropout layer"),
        (["cape", "--graphs"], "CUDA graphs need a GPU"),
        (["rtmpose", "--plant", "support mask"], "belongs to sequence models"),
        (["rtmpose", "--image", "other.png"], "no instance of other.png"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(workbench, words, message):
    code, out, err = workbench("overfit", *words)
    assert code == 2
    assert not out
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_two_runs_cannot_share_a_folder(workbench, config, tmp_path):
    from workbench.training.run_folder import only_session

    with only_session(tmp_path):
        code, _, err = workbench("overfit", "--config", config, "--steps", 2, "--out", tmp_path)
    assert code == 2
    assert "another training session uses this run folder" in err.strip().splitlines()[-1]


def test_a_loss_that_is_not_a_number_is_one_sentence_and_the_finished_steps_are_on_disk(
    workbench, config, tmp_path
):
    from workbench.training.run_folder import read_rows

    code, _, err = workbench(
        "overfit", "--config", config, "--steps", 60, "--learning-rate", 1e30, "--out", tmp_path
    )  # fmt: skip
    assert code == 2
    assert "the loss is nan at step" in err.strip().splitlines()[-1]
    assert read_rows(tmp_path / "rows")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no file that is always full")
def test_a_full_disk_is_one_sentence(workbench, config, tmp_path):
    (tmp_path / "step_00000001.half").symlink_to("/dev/full")
    code, _, err = workbench("overfit", "--config", config, "--steps", 4, "--out", tmp_path)
    assert code == 2
    assert "step_00000001.pth could not be written: No space left on device" in err.strip().splitlines()[-1]


@pytest.mark.long
def test_a_killed_run_goes_on_from_its_last_snapshot_with_bitwise_the_same_losses(
    workbench, config, tmp_path
):
    from workbench.training.run_folder import read_rows, snapshots

    words = ["overfit", "--config", config, "--steps", 48, "--no-bisect", "--json", "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, out, err = workbench(*words, whole)
    assert code == 0, err
    child = subprocess.Popen(
        [sys.executable, "-m", "workbench", *map(str, words), str(killed)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # as this process: sums in another order differ
    )  # fmt: skip
    try:
        until(lambda: snapshots(killed), 120, 0.01)
    finally:
        child.kill()
        child.wait()
    last = int(snapshots(killed)[-1].stem.rpartition("_")[2])
    assert last < 48, "it was killed before its end"
    code, again, err = workbench(*words, killed)
    assert code == 0, err
    assert json.loads(again)["steps"] == 48
    losses = [[row["loss"] for row in read_rows(folder / "rows")] for folder in (whole, killed)]
    assert losses[0] == losses[1]
    assert json.loads(again)["loss"] == json.loads(out)["loss"]


def test_out_of_memory_is_one_sentence(workbench, config, monkeypatch):
    import torch

    def short(*_arguments, **_more):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("workbench.training.passes.Passes._forward", short)
    code, _, err = workbench("overfit", "--config", config, "--steps", 4)
    assert code == 2
    assert "out of memory after step 0: take fewer images" in err.strip().splitlines()[-1]


def test_cape_tells_what_its_own_log_says_wrongly(workbench):
    code, out, err = workbench("overfit", "cape", "--steps", 2, "--plant", "loss scale", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["culprit"] == "loss scale", facts["summary"]
    assert "its own log says loss_coordinates" in facts["evidence"][-1]["text"]


def test_a_run_that_is_started_again_in_its_folder_goes_on_from_its_snapshot(workbench, config, tmp_path):
    words = ["overfit", "--config", config, "--steps", 4, "--no-bisect", "--out", tmp_path, "--json"]
    first = json.loads(workbench(*words)[1])
    (tmp_path / "step_00000004.pth").unlink()
    again = json.loads(workbench(*words)[1])
    assert again["steps"] == 4
    assert again["loss"] == first["loss"]


def test_cape_learns_any_keypoints_that_a_set_is_annotated_with(workbench, shared, tmp_path):
    folder = shared / "data" / "ap10k"
    facts = json.loads((folder / "test_ap10k.json").read_text())
    for category in facts["categories"]:
        category.update(keypoints=category["keypoints"][:9], skeleton=[])
    for annotation in facts["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][:27]
    (tmp_path / "nine.json").write_text(json.dumps(facts))
    code, out, err = workbench(
        "overfit", "cape", "--annotation", tmp_path / "nine.json", "--images", folder, "--steps", 2,
        "--no-bisect", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["steps"] == 2


def test_an_image_without_a_visible_keypoint_is_refused(workbench, bare):
    code, _, err = workbench("overfit", "rtmpose", "--annotation", bare)
    assert code == 2
    assert (
        err.strip()
        .splitlines()[-1]
        .endswith("no instance can be learned: no instance has a labelled keypoint")
    )


def test_a_box_without_an_area_is_not_told_as_no_keypoint(workbench, shared, tmp_path):
    facts = json.loads((shared / "data" / "ap10k" / "test_ap10k.json").read_text())
    for entry in facts["annotations"]:
        entry["bbox"][2:] = [0, 0]
    (tmp_path / "flat.json").write_text(json.dumps(facts))
    words = ["overfit", "rtmpose", "--annotation", tmp_path / "flat.json"]
    words += ["--images", shared / "data" / "ap10k"]
    for image in ([], ["--image", facts["images"][0]["file_name"]]):
        code, _, err = workbench(*words, *image)
        assert code == 2
        assert err.strip().splitlines()[-1].endswith(": no labelled instance has a box with an area")


def test_an_image_alone_needs_the_json_with_its_keypoints(workbench, tmp_path):
    (tmp_path / "horse.jpg").touch()
    code, _, err = workbench("overfit", "rtmpose", "--image", tmp_path / "horse.jpg")
    assert code == 2
    assert "no instance of horse.jpg" in err
    assert "--annotation" in err.strip().splitlines()[-1]
