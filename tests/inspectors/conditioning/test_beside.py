"""Exchanged averages and a head that learned too slowly are told from the files; healthy runs are silent."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
import torch
from torch import nn

from tests.models.text_fusion_net import config, written
from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.demo import demo_checkpoints
from workbench.evaluation.bootstrap import Interval
from workbench.inspectors.conditioning.findings import EXCHANGED, HEAD_BEHIND
from workbench.inspectors.conditioning.weights import averaged_and_raw, read_other_files


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict(
            {"first": nn.Conv2d(3, 8, 3), "norm": nn.BatchNorm2d(8), "second": nn.Conv2d(8, 8, 3)}
        )
        self.head = nn.ModuleDict({"mlp": nn.Linear(8, 16), "last": nn.Linear(16, 4)})

    def forward(self, images):
        maps = self.backbone["norm"](self.backbone["first"](images)).relu()
        pooled = self.backbone["second"](maps).relu().mean((2, 3))
        return self.head["last"](self.head["mlp"](pooled).relu())


def trained(head_rate=1.0, seed=0, steps=60, rate=1e-2, optimizer=torch.optim.AdamW):
    """State dicts: start, raw at half, raw at the end, average at the end, as mmengine's EMA keeps it."""
    torch.manual_seed(0)
    net, teacher = Net(), Net()
    start = copy.deepcopy(net.state_dict())
    mean = copy.deepcopy(net)
    groups = [
        {"params": net.backbone.parameters()},
        {"params": net.head.parameters(), "lr": rate * head_rate},
    ]
    moving = optimizer(groups, lr=rate)
    generator = torch.Generator().manual_seed(seed)
    half = start
    for step in range(steps):
        if step == steps // 2:
            half = copy.deepcopy(net.state_dict())
        images = torch.randn(16, 3, 8, 8, generator=generator)
        loss = (net(images) - 3 * teacher(images).detach()).square().mean()
        moving.zero_grad()
        loss.backward()
        moving.step()
        with torch.no_grad():
            for a, b in zip(mean.parameters(), net.parameters(), strict=True):
                a.lerp_(b, 0.05)
            for a, b in zip(mean.buffers(), net.buffers(), strict=True):
                a.copy_(b)
    return start, half, copy.deepcopy(net.state_dict()), mean.state_dict()


def saved(file, state, raw=None, epoch=10):
    whole = {"meta": {"epoch": epoch, "iter": 60, "mmengine_version": "0.10.7"}, "state_dict": state}
    if raw is not None:
        swapped = {f"module.{name}": tensor for name, tensor in raw.items()}
        whole["ema_state_dict"] = {"steps": torch.tensor(60), **swapped}
        whole["message_hub"] = {}
    torch.save(whole, file)
    return file


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize("seed", [0, 1])
def test_exchanged_averages_are_told_by_their_lag_and_healthy_ones_are_not(tmp_path, optimizer, seed):
    start, half, raw, mean = trained(seed=seed, optimizer=optimizer)
    earlier = [saved(tmp_path / f"epoch_{n}.pth", state, epoch=n) for n, state in ((1, start), (5, half))]
    healthy = open_checkpoint(saved(tmp_path / "epoch_10.pth", mean, raw))
    swapped = open_checkpoint(saved(tmp_path / "epoch_11.pth", raw, mean, epoch=11))
    assert healthy.averages.main == "averaged"
    assert read_other_files(healthy, earlier).findings == []
    (finding,) = read_other_files(swapped, earlier).findings
    assert finding.cause == EXCHANGED
    assert "farther from epoch_1.pth" in finding.evidence


def test_one_set_of_weights_or_equal_ones_are_no_finding(tmp_path):
    start, _, raw, _ = trained(steps=3)
    first = saved(tmp_path / "epoch_1.pth", start, epoch=1)
    same = open_checkpoint(saved(tmp_path / "epoch_10.pth", raw, raw))
    assert read_other_files(same, [first]).findings == []
    assert averaged_and_raw(open_checkpoint(first)) is None


def test_weights_that_return_towards_their_start_are_no_exchange(tmp_path):
    # A burst from 0 to 1, then decay: .6 an epoch ago, .5 now, and an average of .53 lags behind.
    def state(value):
        return {f"backbone.{i}.weight": torch.full((3, 3), value) for i in range(5)}

    first = saved(tmp_path / "epoch_1.pth", state(0.0), epoch=1)
    last = saved(tmp_path / "epoch_9.pth", state(0.6), epoch=9)
    healthy = open_checkpoint(saved(tmp_path / "epoch_10.pth", state(0.53), state(0.5)))
    assert read_other_files(healthy, [first]).averages.farther == 1
    # A single earlier state decides nothing: AP of both sets would have to confirm it.
    assert read_other_files(healthy, [first]).findings == []
    assert "cannot be decided from epoch_1.pth" in read_other_files(healthy, [first]).averages.undecided
    # Nor does an AP that leaves it open; one that is higher does.
    seen = read_other_files(healthy, [first]).averages
    assert (
        "on more images"
        in dataclasses.replace(seen, gain=Interval(0.01, -0.02, 0.04, 0.95, 999, 0)).undecided
    )
    assert not dataclasses.replace(seen, gain=Interval(0.03, 0.01, 0.05, 0.95, 999, 0)).undecided
    assert read_other_files(healthy, [first, last]).findings == []
    # An average over many epochs lags behind the last one, but not behind the first.
    slow = open_checkpoint(saved(tmp_path / "epoch_11.pth", state(0.2), state(0.7), epoch=11))
    assert read_other_files(slow, [first, last]).findings == []


def test_lengths_alone_accuse_nobody(tmp_path):
    _, _, raw, mean = trained()
    swapped = averaged_and_raw(open_checkpoint(saved(tmp_path / "epoch_10.pth", raw, mean)))
    assert swapped.earlier == ""
    assert swapped.finding() is None, "without an earlier epoch AP has to confirm it"


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_head_that_learned_ten_times_too_slowly_is_told_with_its_ratio(tmp_path, seed):
    start, _, base, _ = trained()
    files = [saved(tmp_path / f"{name}.pth", state) for name, state in (("start", start), ("base", base))]
    slow = open_checkpoint(saved(tmp_path / "slow.pth", trained(0.1, seed)[2]))
    fair = open_checkpoint(saved(tmp_path / "fair.pth", trained(1.0, seed)[2]))
    short = open_checkpoint(saved(tmp_path / "short.pth", trained(1.0, seed, steps=12)[2]))
    (finding,) = read_other_files(slow, (), [files[1]], files[0]).findings
    assert finding.cause == HEAD_BEHIND
    assert "the head moved 0." in finding.evidence
    for healthy in (fair, short):
        assert read_other_files(healthy, (), [files[1]], files[0]).findings == []


def test_the_built_in_runs_are_silent():
    start = demo_checkpoints("rtmpose-demo")
    base, own = demo_checkpoints("rtmpose-text-base"), demo_checkpoints("rtmpose-text-fusion")
    found = read_other_files(open_checkpoint(own[-1]), own, base, start[-1])
    assert found.findings == []
    assert found.progress.of("head") == pytest.approx(1, abs=0.3)
    for epoch in (1, 3, 5):
        again = read_other_files(open_checkpoint(start[epoch]), start[:epoch], start[1:], start[0])
        assert again.findings == []


def test_without_a_start_the_clinic_says_what_is_missing(tmp_path):
    _, _, base, _ = trained(steps=2)
    file = saved(tmp_path / "base.pth", base)
    found = read_other_files(open_checkpoint(file), (), [file], None)
    assert "--start FILE" in found.missing["head"]
    with pytest.raises(FileNotFoundError, match="--start"):
        read_other_files(open_checkpoint(file), (), [file], tmp_path / "absent.pth")


def test_the_verb_takes_the_start_and_measures_both_sets_of_weights(workbench, tmp_path):
    for name in ("own", "base"):
        (tmp_path / name).mkdir()
    file = written(config(), tmp_path)
    whole = torch.load(file, weights_only=False)
    generator = torch.Generator().manual_seed(0)

    def moved(backbone, head):
        return {
            name: tensor + (head if name.startswith("head") else backbone) * torch.randn(
                tensor.shape, generator=generator
            ) if tensor.is_floating_point() and "running" not in name else tensor
            for name, tensor in whole["state_dict"].items()
        }  # fmt: skip

    raw = moved(0.02, 0.002)
    mean = {n: t.lerp(raw[n], 0.5) if t.is_floating_point() else t for n, t in whole["state_dict"].items()}
    meta = {"meta": {**whole["meta"], "epoch": 3, "mmengine_version": "0.10.7"}}
    beside_it = {"steps": torch.tensor(9), **{f"module.{n}": t for n, t in mean.items()}}
    first = {**whole, "meta": {**whole["meta"], "epoch": 1}}
    torch.save(first, tmp_path / "own/epoch_1.pth")
    torch.save({**meta, "state_dict": raw, "ema_state_dict": beside_it}, tmp_path / "own/epoch_3.pth")
    torch.save({**meta, "state_dict": moved(0.02, 0.02)}, tmp_path / "base/epoch_3.pth")
    words = ("clinic", tmp_path / "own/epoch_3.pth", "--against", tmp_path / "base", "--start", file)
    code, out, err = workbench(*words, "--samples", 2, "--limit", 2, "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert {EXCHANGED, HEAD_BEHIND} <= {finding["name"] for finding in facts["findings"]}
    assert facts["averages"]["gain"] is not None
    assert facts["averages"]["farther_in_averaged"] == 1
    assert facts["progress"]["summary"].startswith("Movement of the weights from")
