"""The built-in checkpoints are what the manifest says, open by the restricted parser, and get better."""

from __future__ import annotations

import json

import pytest

from workbench.checkpoints import demo
from workbench.checkpoints.config_reader import read_config
from workbench.core import NotAvailable

MOST_BYTES = 30_000_000
FILES = [(run, checkpoint) for run in demo.demo_manifest() for checkpoint in run["checkpoint"]]
TRAINED = [run for run in demo.demo_manifest() if "config" in run]
OF_ONE_IMAGE = [run for run in demo.demo_manifest() if run["family"] == "cape"]


def test_every_file_is_the_published_one():
    assert demo.verify() == []


def test_the_demo_is_small_enough_for_a_repository():
    total = sum(path.stat().st_size for path in demo.root().rglob("*") if path.is_file())
    assert total <= MOST_BYTES


def test_the_front_page_has_at_least_five_epochs_to_slide_through():
    epochs = [int(path.stem.removeprefix("epoch_")) for path in demo.demo_checkpoints()]
    assert len(epochs) >= 5
    assert epochs == sorted(epochs)


def test_the_default_run_comes_first():
    assert demo.demo_runs()[0] == demo.demo_run() == demo.root() / demo.DEFAULT
    assert all(folder.is_dir() for folder in demo.demo_runs())


@pytest.mark.parametrize("run", TRAINED, ids=lambda run: run["name"])
def test_config_and_log_lie_beside_the_checkpoints(run):
    config = read_config(demo.demo_config(run["name"]))
    assert config["model"]["type"] in ("TopdownPoseEstimator", "TopdownPoseEstimatorWithNeck")
    rows = [json.loads(line) for line in demo.demo_log(run["name"]).read_text().splitlines()]
    logged = {row["step"]: row["coco/AP"] for row in rows if "coco/AP" in row}
    for checkpoint in run["checkpoint"]:
        assert logged[checkpoint["epoch"]] == pytest.approx(checkpoint["AP_in_training"], abs=1e-4)


@pytest.mark.parametrize("run", demo.demo_manifest(), ids=lambda run: run["name"])
def test_nothing_of_the_machine_it_was_made_on_is_in_it(run):
    for path in (demo.root() / run[kind] for kind in ("config", "log") if kind in run):
        assert "/home" not in path.read_text()
        assert "/tmp" not in path.read_text()


@pytest.mark.parametrize(("run", "entry"), FILES, ids=[entry["file"] for _, entry in FILES])
def test_a_demo_checkpoint_says_what_it_is(run, entry):
    from workbench.checkpoints import open_checkpoint

    checkpoint = open_checkpoint(demo.root() / entry["file"])
    assert checkpoint.epoch == entry["epoch"]
    assert checkpoint.identity.family.startswith(run["family"])
    assert checkpoint.optimizer is None
    # A sequence model's checkpoint says itself how it is built.
    assert bool(checkpoint.config_text) == ("config" in run)


@pytest.mark.parametrize("run", OF_ONE_IMAGE, ids=lambda run: run["name"])
def test_a_run_of_one_image_says_which_one_it_learned_and_how_well(run):
    from workbench.core.run import run as forward
    from workbench.data import builtin
    from workbench.inspectors.sequence import forced_and_free
    from workbench.models import open_model

    scenes = builtin(run["data"])
    entry = run["checkpoint"][-1]
    opened = open_model(demo.root() / entry["file"])
    learned = opened.checkpoint.meta["sample"]
    assert learned in run["train"]
    samples = [s for s in scenes.samples(scenes.labelled[:30]) if s.key == learned]
    found = forced_and_free.compute(forward(opened.model, samples), forced_and_free.Params())
    assert found.pck_free == pytest.approx(entry["PCK_free"], abs=0.01)
    assert found.pck_forced == pytest.approx(entry["PCK_forced"], abs=0.01)
    with pytest.raises(NotAvailable, match="has no config"):
        demo.demo_config(run["name"])


def test_the_bottom_up_demo_gets_better_with_every_epoch_that_is_kept():
    (run,) = [run for run in demo.demo_manifest() if run["family"] == "HigherHRNet"]
    ap = [checkpoint["AP"] for checkpoint in run["checkpoint"]]
    assert len(ap) >= 4
    assert ap == sorted(ap)
    assert sum(checkpoint["bytes"] for checkpoint in run["checkpoint"]) <= 4_000_000
    rows = [json.loads(line) for line in demo.demo_log(run["name"]).read_text().splitlines()]
    assert rows[-1]["epoch"] == run["checkpoint"][-1]["epoch"]
    assert rows[-1]["loss/coarse"] < 0.5 * rows[0]["loss/coarse"]


@pytest.mark.parametrize("name", [run["name"] for run in demo.demo_manifest()])
def test_a_demo_model_loads_in_full_from_the_config_inside(name):
    from workbench.models import open_model

    opened = open_model(demo.demo_checkpoints(name)[-1])
    assert opened.load is not None
    assert opened.load.complete
    assert opened.loaded_fraction == 1.0


def test_the_last_epoch_is_much_better_than_the_first():
    from workbench.data import builtin
    from workbench.evaluation import evaluate, predict
    from workbench.models import open_model

    scenes = builtin(demo.demo_data())
    some = scenes.labelled[:40]
    ap = []
    for path in (demo.demo_checkpoints()[0], demo.demo_checkpoints()[-1]):
        poses = predict(open_model(path).model, scenes, indices=some)
        ap.append(evaluate(scenes, poses, indices=some).figures["AP"])
    assert ap[0] < 0.1 < 0.25 < ap[1]


@pytest.mark.long
def test_a_changed_or_missing_file_is_named(workbench, tmp_path, monkeypatch):
    run = dict(demo.demo_manifest()[0])
    lines = [f'[[run]]\nname = "{run["name"]}"\ndata = "scenes-val"']
    for checkpoint in run["checkpoint"][:3]:
        lines.append(
            f'[[run.checkpoint]]\nfile = "{checkpoint["file"]}"\nepoch = {checkpoint["epoch"]}\n'
            f'bytes = {checkpoint["bytes"]}\nsha256 = "{checkpoint["sha256"]}"'
        )
    (tmp_path / "manifest.toml").write_text("\n".join(lines))
    first, second, _third = (tmp_path / c["file"] for c in run["checkpoint"][:3])
    first.parent.mkdir()
    whole = demo.demo_checkpoints()[0].read_bytes()
    first.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    second.write_bytes(b"short")
    monkeypatch.setenv("WORKBENCH_CHECKPOINTS", str(tmp_path))
    changed, short, missing = demo.verify()
    assert "sha256" in changed
    assert "5 bytes" in short
    assert "missing" in missing
    code, out, _ = workbench("doctor")
    assert code == 1
    assert f"BROKEN    demo checkpoints: {changed}" in out


def test_without_the_folder_one_sentence_says_where_it_comes_from(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CHECKPOINTS", str(tmp_path))
    with pytest.raises(NotAvailable, match=r"manifest\.toml.*clone"):
        demo.demo_runs()


def test_a_wrong_name_is_answered_with_near_ones():
    with pytest.raises(KeyError, match="nearest: rtmpose-demo"):
        demo.demo_run("rtmpos-demo")
