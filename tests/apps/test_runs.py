"""Which folders are runs, in what order their epochs come, and what their names say."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.server.folders import runs_below
from workbench.checkpoints.checkpoint_files import epoch_of


@pytest.mark.parametrize(
    ("name", "number", "label"),
    [
        ("epoch_10.pth", 10, "epoch 10"),
        ("best_coco_AP_epoch_180.pth", 180, "best, epoch 180"),
        ("iter_5000.pth", 5000, "iter 5000"),
        ("epoch=7-step=700.ckpt", 7, "epoch 7"),
        ("model_0009.pth", 9, "model 0009"),
        ("best.pth", None, "best"),
    ],
)
def test_the_epoch_in_a_file_name(name, number, label):
    assert epoch_of(Path(name)) == (number, label)


def test_epochs_come_in_training_order_and_the_best_last(tmp_path):
    for name in ("best_epoch_2.pth", "epoch_10.pth", "epoch_2.pth", "epoch_1.pth", "notes.txt", "last.pth"):
        (tmp_path / name).write_bytes(b"x")
    (run,) = runs_below(tmp_path)
    assert [e.path.name for e in run.epochs] == [
        "epoch_1.pth", "epoch_2.pth", "epoch_10.pth", "best_epoch_2.pth", "last.pth",
    ]  # fmt: skip
    assert [e.index for e in run.epochs] == list(range(5))
    assert run.id == "."
    assert run.title == tmp_path.name


def test_signs_that_a_browser_obeys_are_escaped_in_titles_and_stay_in_ids(tmp_path):
    name = "run\u202e\u200f"
    (tmp_path / name).mkdir()
    (tmp_path / name / "best\u2066.pth").write_bytes(b"x")
    (run,) = runs_below(tmp_path)
    assert (run.id, run.title, run.epochs[0].label) == (name, r"run\u202e\u200f", r"best\u2066")


def test_runs_lie_at_any_depth_and_hidden_folders_are_left_out(tmp_path):
    for folder in ("work/rtm/20260101", "work/.git", "flat"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "epoch_1.pth").write_bytes(b"x")
    assert [run.id for run in runs_below(tmp_path, "demo:")] == ["demo:flat", "demo:work/rtm/20260101"]


def test_a_link_that_leads_out_is_no_epoch(root_folder):
    run = next(run for run in runs_below(root_folder) if run.id == "painted-run")
    assert [e.path.name for e in run.epochs] == ["epoch_1.pth", "epoch_2.pth", "epoch_10.pth"]


def test_a_runs_config_is_found_beside_it_or_inside_it_and_the_demo_is_not_ones_own(tmp_path):
    import shutil

    from apps.pages.audit import AuditPage
    from apps.server.context import Context
    from apps.server.settings import Settings
    from workbench.checkpoints.demo import root

    (tmp_path / "root/mine").mkdir(parents=True)
    shutil.copy(root() / "rtmpose-demo/epoch_1.pth", tmp_path / "root/mine/epoch_1.pth")
    context = Context.of(Settings(root=tmp_path / "root", cache=tmp_path / "cache"))
    registry = context.registry
    assert [run.id for run in registry.served_runs()] == ["mine"]
    assert registry.config_file("mine").name == "epoch_1.pth"
    (tmp_path / "root/mine/own.py").write_text("model = dict(type='TopdownPoseEstimator')")
    assert registry.config_file("mine").name == "own.py"
    assert AuditPage(context).chosen([None] * 4)[0]["value"] == "mine"
    demo = Context.of(Settings(root=root(), cache=tmp_path / "cache"))
    assert AuditPage(demo).chosen([None] * 4)[0]["value"] == "example"
    for one in (context, demo):
        one.registry.close()
        one.jobs.close()
