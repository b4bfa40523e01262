"""mmengine's Runner writes a Session's rows, and is held by files or by an object."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.waiting import remains, until
from workbench.training.run_folder import read_rows
from workbench.training.runner_hook import RunControl


@pytest.fixture
def runner(tmp_path):
    """A Runner of 12 iterations on a network of two parts whose losses are known."""
    from workbench.models.mmpose_compat import install

    install()  # mmengine.model imports torchvision where there is one, working or not
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    class Two(BaseModel):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
            for part in (self.backbone, self.head):
                nn.init.constant_(part.weight, 0.5)

        def forward(self, inputs, mode="tensor", **_):
            out = self.head(self.backbone(torch.stack(list(inputs))))
            return {"loss_kpt": out.square().mean(), "acc_pose": torch.tensor(0.25)}

    def make(hook, iterations=12):
        data = [{"inputs": torch.tensor([1.0, 2.0])}] * 2
        loader = {"batch_size": 1, "dataset": data, "num_workers": 0, "sampler": {"type": "InfiniteSampler"}}
        return Runner(
            Two(), str(tmp_path), loader,
            train_cfg={"by_epoch": False, "max_iters": iterations},
            optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.01}},
            default_scope="mmengine", custom_hooks=[hook], log_level=logging.ERROR,
            default_hooks={"logger": None, "checkpoint": None}, experiment_name=f"hook-{time.monotonic_ns()}",
        )  # fmt: skip

    return make


def in_thread(run):
    ended = []

    def work():
        try:
            run()
        except SystemExit as stopped:
            ended.append(str(stopped))
        else:
            ended.append("")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, ended


def test_a_run_named_by_its_config_leaves_a_row_per_iteration(runner, tmp_path):
    import workbench.training.runner_hook  # noqa: F401 - what custom_imports does

    runner({"type": "WorkbenchHook"}).train()
    rows = read_rows(tmp_path / "workbench" / "rows")
    assert [row["step"] for row in rows] == list(range(1, 13))
    first = rows[0]
    # weights .5, input (1, 2): both hidden units 1.5, output 1.5, loss 2.25
    assert first["loss"] == first["loss/kpt"] == pytest.approx(2.25)
    # d loss / d head = 2 * 1.5 * (1.5, 1.5); d loss / d backbone: every entry 2 * 1.5 * .5 * input
    assert first["gradient/head"] == pytest.approx((2 * 4.5**2) ** 0.5)
    assert first["gradient/backbone"] == pytest.approx((2 * (1.5**2 + 3.0**2)) ** 0.5)
    assert first["lr/head"] == first["lr/backbone"] == pytest.approx(0.01)
    assert first["acc_pose"] == pytest.approx(0.25)
    assert rows[-1]["loss"] < first["loss"]


def test_files_pause_step_and_stop_a_run(runner, tmp_path):
    import workbench.training.runner_hook  # noqa: F401

    folder = tmp_path / "workbench"
    folder.mkdir()
    (folder / "pause").touch()
    going = runner({"type": "WorkbenchHook"}, iterations=10**6)
    thread, ended = in_thread(going.train)
    remains(lambda: going.iter == 0, 0.5)
    (folder / "step").write_text("3")
    until(lambda: going.iter == 3)
    remains(lambda: going.iter == 3, 0.5)
    (folder / "pause").unlink()
    until(lambda: going.iter > 3)
    (folder / "stop").touch()
    thread.join(20)
    (reason,) = ended
    assert "stopped after iteration" in reason
    done = going.iter
    assert (tmp_path / f"stopped_iter_{done}.pth").is_file()
    assert [row["step"] for row in read_rows(folder / "rows")] == list(range(1, done + 1))
    assert not (folder / "stop").exists(), "obeyed once, it must not end the next run"


def test_an_object_holds_a_run_in_the_same_process(runner):
    from workbench.training.runner_hook import WorkbenchHook

    run_control = RunControl()
    run_control.pause()
    going = runner(WorkbenchHook(control=run_control))
    thread, ended = in_thread(going.train)
    run_control.step(2)
    until(lambda: going.iter == 2)
    remains(lambda: going.iter == 2)
    run_control.resume()
    thread.join(20)
    assert ended == [""]
    assert going.iter == 12


def test_stepping_by_less_than_one_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        RunControl().step(0)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["stop", "step", "pause"])
@pytest.mark.parametrize("make", ["mkdir", "mkfifo"])
def test_a_folder_or_a_pipe_with_the_name_of_a_control_file_changes_nothing(name, make, tmp_path):
    getattr(os, make)(tmp_path / name)
    run_control = RunControl(tmp_path)
    answers = []
    thread, _ = in_thread(lambda: answers.append(run_control.permitted()))
    thread.join(10)
    assert answers == [True]
    run_control.resume()
    assert (tmp_path / name).exists()


def test_control_files_that_cannot_be_deleted_stop_the_run_and_allow_no_step(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refused)
    (tmp_path / "step").write_text("3")
    (tmp_path / "stop").touch()
    assert not RunControl(tmp_path).permitted()
