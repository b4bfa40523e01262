"""Epochs come by number wherever files are listed, and a figure in a file names the epoch it belongs to."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from apps.server.folders import epochs_in
from workbench.checkpoints.budget import Limits
from workbench.checkpoints.checkpoint import Checkpoint
from workbench.checkpoints.checkpoint_files import as_typed, files_of, models_in, training_order
from workbench.checkpoints.history import History
from workbench.cli.compare import epochs_of
from workbench.cli.conditioned import epochs_of as conditioned_epochs

RUNS = [
    ["epoch_1.pth", "epoch_5.pth", "epoch_40.pth", "best_coco_AP_epoch_5.pth", "latest.pth"],
    ["iter_500.pth", "iter_2000.pth", "iter_10000.pth"],
    ["epoch_2.pth", "epoch_10.pth", "iter_300.pth", "iter_2000.pth", "best.pth", "last.pth"],
    ["epoch=9-step=90.ckpt", "epoch=10-step=100.ckpt", "last.ckpt"],
    ["model_9.pth", "model_0010.pth", "model_100.pth", "final.pth"],
    ["2-ep5-v1.pth", "2-ep12-v1.pth"],
]


@pytest.mark.parametrize("names", RUNS, ids=lambda names: names[0])
def test_files_come_in_the_order_of_training_however_they_are_listed(names, tmp_path):
    wanted = [Path(name) for name in names]
    for seed in range(5):
        mixed = wanted.copy()
        random.Random(seed).shuffle(mixed)
        assert training_order(mixed) == wanted
    assert as_typed(sorted(wanted)) == wanted, "a shell's pattern"
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in epochs_of([tmp_path])] == names
    assert [path.name for path in epochs_of(sorted(tmp_path.iterdir()))] == names
    assert [path.name for path in conditioned_epochs(sorted(tmp_path.iterdir()))] == names


def test_what_a_trainer_writes_beside_a_model_is_no_epoch(tmp_path):
    for name in ("model.bin", "optimizer.bin", "scheduler.pt", "rng_state_0.pth", "training_args.bin"):
        (tmp_path / name).touch()
    assert [path.name for path in models_in(tmp_path)] == ["model.bin"]
    assert files_of(tmp_path, Limits()) == [tmp_path / "model.bin"]
    assert [epoch.path.name for epoch in epochs_in(tmp_path, tmp_path)] == ["model.bin"]


def test_a_link_to_itself_among_checkpoints_is_listed_and_not_followed(tmp_path):
    (tmp_path / "epoch_1.pth").touch()
    (tmp_path / "epoch_2.pth").symlink_to("epoch_2.pth")
    assert {path.name for path in models_in(tmp_path)} == {"epoch_1.pth", "epoch_2.pth"}
    assert [epoch.path.name for epoch in epochs_in(tmp_path, tmp_path)] == ["epoch_1.pth"]


def test_an_order_that_no_shell_makes_is_the_users():
    given = [Path("epoch_5.pth"), Path("epoch_1.pth"), Path("epoch_40.pth")]
    assert as_typed(given) == given
    two_runs = [Path("a/epoch_40.pth"), Path("b/epoch_5.pth")]
    assert as_typed(two_runs) == two_runs


def checkpoint(name, epoch, validations, kind="mmengine", after_validation=None, **metrics):
    series = {"train/loss": [1.0] * 7, "val/time": [0.1] * 50, "val/coco/AP": [0.1] * validations}
    history = History(
        epoch=epoch,
        metrics={"val/coco/AP": 0.1, **metrics},
        series=series if validations else {},
        after_validation=after_validation,
    )
    return Checkpoint((Path(name),), "torch zip", kind, {}, history=history)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("epoch_10.pth", 10, 9), "of epoch 9, not of epoch 10"),
        (("epoch_10.pth", 10, 4), "of an earlier validation, not of epoch 10"),
        (("iter_500.pth", None, 2), "of an earlier validation, not of these weights"),
        (("best_coco_AP_epoch_10.pth", 10, 10), ""),
        (("epoch_10.pth", 10, 10), ""),
        (("epoch_1.pth", 1, 0), ""),
        (("epoch_10.pth", 10, 9, "lightning"), ""),
        # Saved again as the best of all, every second epoch being validated.
        (("epoch_4.pth", 4, 2, "mmengine", True), ""),
        (("copy_of_the_best.pth", 8, 4, "mmengine", True), ""),
        (("best_of_my_runs.pth", 5, 2, "mmengine", False), "of an earlier validation, not of epoch 5"),
    ],
)
def test_the_figure_of_the_epoch_before_says_so(given, said):
    note = checkpoint(*given).metrics_note
    assert said in note
    assert bool(note) == bool(said)


def test_open_and_the_page_say_whose_figure_it_is(workbench, root):
    from apps.pages.checkpoint import facts, summary
    from workbench.checkpoints import open_checkpoint

    file = root / "checkpoints/rtmpose-demo/epoch_10.pth"
    _, out, _ = workbench("open", file)
    assert "val/...: of epoch 9, not of epoch 10" in out
    opened = open_checkpoint(file)
    assert "of epoch 9, not of epoch 10" in summary(opened)
    assert dict(facts(opened))["of which epoch"] == opened.metrics_note


@pytest.mark.long
def test_the_note_is_right_for_every_file_that_mmengine_writes(tmp_path):
    """mmengine's own runner, validating every second epoch: the figure of each file against its own log."""
    import logging

    import torch

    from workbench.checkpoints import open_checkpoint
    from workbench.models import mmpose_compat

    mmpose_compat.install()  # before mmengine, which imports torchvision
    from mmengine.evaluator import BaseMetric
    from mmengine.model import BaseModel
    from mmengine.runner import Runner
    from torch.utils.data import DataLoader

    shown = {2: 0.1, 4: 0.3, 6: 0.2, 8: 0.5, 9: 0.4}  # the last epoch is validated, too

    class Tiny(BaseModel):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(1, 1)

        def forward(self, inputs, mode="tensor"):
            return {"loss": self.head(inputs).sum()} if mode == "loss" else [inputs]

    class Planned(BaseMetric):
        default_prefix = "coco"

        def process(self, data_batch, data_samples):
            self.results.append(0)

        def compute_metrics(self, results):
            return {"AP": shown[runner.epoch]}

    def loader():
        return DataLoader([{"inputs": torch.ones(1)}], batch_size=1)

    runner = Runner(
        Tiny(),
        str(tmp_path),
        train_dataloader=loader(),
        val_dataloader=loader(),
        train_cfg={"by_epoch": True, "max_epochs": 9, "val_interval": 2},
        val_cfg={},
        val_evaluator=[Planned()],
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 1e-3}},
        default_hooks={
            "checkpoint": {
                "type": "CheckpointHook", "interval": 1, "save_best": "coco/AP", "rule": "greater",
                "max_keep_ckpts": -1,
            }
        },
        default_scope="mmengine",
        log_level=logging.ERROR,
        experiment_name=tmp_path.name,
    )  # fmt: skip
    runner.train()
    files = models_in(tmp_path)
    assert len(files) == 10, files  # nine epochs and the best
    for path in files:
        opened = open_checkpoint(path)
        figure, own = opened.metrics.get("val/coco/AP"), shown.get(opened.epoch)
        # A file before the first validation has no figure, thus no note either.
        assert bool(opened.metrics_note) == (figure is not None and figure != own), path.name
    assert open_checkpoint(tmp_path / "epoch_4.pth").metrics["val/coco/AP"] == 0.3
    assert not open_checkpoint(tmp_path / "epoch_4.pth").metrics_note
    assert open_checkpoint(tmp_path / "epoch_6.pth").metrics["val/coco/AP"] == 0.3
    assert "not of epoch 6" in open_checkpoint(tmp_path / "epoch_6.pth").metrics_note
