"""Files that hold less, or something else, than the usual training checkpoint: said, never guessed."""

from __future__ import annotations

import pytest
import torch

from workbench.checkpoints import open_checkpoint


@pytest.fixture
def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))


def test_the_state_of_an_optimiser_alone_is_no_model(tmp_path, net):
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.rand(1, 3)).sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    with pytest.raises(ValueError, match=r"optimizer.pt: it holds the state of an optimiser .* no weights"):
        open_checkpoint(tmp_path / "optimizer.pt")


@pytest.mark.parametrize("key", ["ema", "model_ema", "ema_state_dict"])
def test_weights_that_lie_under_an_average_alone_are_called_one(tmp_path, net, key):
    torch.save({key: net.state_dict(), "epoch": 3}, tmp_path / "e.pth")
    got = open_checkpoint(tmp_path / "e.pth")
    assert key in got.ema
    assert "raw ones are not in the file" in got.ema
    for asked in (None, True):
        assert torch.equal(got.state_dict(ema=asked)["0.weight"], net.state_dict()["0.weight"])
    assert got.averages.which(None) == "averaged (EMA) weights"
    with pytest.raises(LookupError, match="no raw ones"):
        got.state_dict(ema=False)


def test_a_stripped_yolo_file_has_no_epoch(tmp_path, net):
    torch.save({"model": None, "ema": net, "epoch": -1}, tmp_path / "best.pt")
    got = open_checkpoint(tmp_path / "best.pt")
    assert (got.epoch, got.wrapper) == (None, "ema")
    assert torch.equal(got.read("1.bias"), net[1].bias)
    assert "'ema'" in got.ema


def test_an_averaged_model_beside_the_network_is_named_as_its_average(tmp_path):
    state = {"model.conv.weight": torch.full((2, 2), 3.0), "model.conv.bias": torch.ones(2)}
    state["swa.n_averaged"] = torch.tensor(5)
    state |= {"swa.module.conv.weight": torch.full((2, 2), 4.0), "swa.module.conv.bias": torch.zeros(2)}
    torch.save(state, tmp_path / "lit.pth")
    averages = open_checkpoint(tmp_path / "lit.pth").averages
    assert averages.text == "swa.* is an average (torch's AveragedModel) of model.*; 2 tensors"
    assert set(averages.averaged) == set(averages.raw) == {"conv.weight", "conv.bias"}
    torch.save({n: v for n, v in state.items() if not n.startswith("model.")}, tmp_path / "alone.pth")
    assert open_checkpoint(tmp_path / "alone.pth").averages.text == ""  # of nothing else in the file


def test_averages_are_of_the_network_and_not_of_each_other(tmp_path):
    state = {"swa.n_averaged": torch.tensor(5), "swa.module.conv.weight": torch.zeros(2, 2)}
    state |= {"ema.n_averaged": torch.tensor(5), "ema.module.conv.weight": torch.ones(2, 2)}
    torch.save(state, tmp_path / "both.pth")
    assert open_checkpoint(tmp_path / "both.pth").averages.text == ""
    torch.save({**state, "net.conv.weight": torch.full((2, 2), 3.0)}, tmp_path / "all.pth")
    assert "AveragedModel) of net.*" in open_checkpoint(tmp_path / "all.pth").averages.text
