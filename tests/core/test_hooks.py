import threading
from collections import OrderedDict

import pytest
import torch
from torch import nn

from workbench.core.hooks import OnceComputed, count_inputs, recording, replacing


@pytest.fixture
def net():
    """x -> x - 0.5 -> relu in place -> 2 x, with a part that gives two tensors on the way."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lower, self.cut, self.pair = Lower(), nn.ReLU(inplace=True), Pair()

        def forward(self, x):
            return self.pair(self.cut(self.lower(x)))[-1]

    class Lower(nn.Module):
        def forward(self, x):
            return x - 0.5

    class Pair(nn.Module):
        def forward(self, x):
            if x.ndim == 3:
                raise RuntimeError("three axes")
            return x, 2 * x

    return Net()


TAPS = {"lower": "lower", "cut": "cut", "pair": "pair"}


def test_an_in_place_layer_does_not_rewrite_the_record(net):
    with recording(net, TAPS, ["lower", "cut"]) as record:
        net(torch.tensor([[0.0, 1.0]]))
    assert record["lower"].tolist() == [[-0.5, 0.5]]
    assert record["cut"].tolist() == [[0, 0.5]]


def test_of_several_tensors_the_last_is_recorded(net):
    with recording(net, TAPS, ["pair"]) as record:
        net(torch.tensor([[1.0]]))
    assert record["pair"].tolist() == [[1.0]]


def test_hooks_go_even_when_the_forward_pass_fails(net):
    with pytest.raises(RuntimeError, match="three axes"), recording(net, TAPS, ["lower"]):
        net(torch.zeros(1, 1, 1))
    assert not net.lower._forward_hooks


def test_hooks_go_even_when_a_later_name_is_unknown(net):
    with pytest.raises(KeyError, match="nearest: lower"), recording(net, TAPS, ["pair", "lowerr"]):
        pass
    assert not net.pair._forward_hooks


def test_replacing_changes_the_output_only_inside_the_block(net):
    x = torch.tensor([[1.0]])
    with replacing(net, TAPS, {"cut": torch.zeros_like}):
        assert net(x).item() == 0
    assert net(x).item() == 1


def test_replacing_one_of_several_tensors_leaves_the_others(net):
    with replacing(net, TAPS, {"pair": torch.neg}):
        assert net(torch.tensor([[1.0]])).item() == -1


def test_a_record_made_inside_a_replacement_shows_the_replacement(net):
    x = torch.tensor([[1.0]])
    with replacing(net, TAPS, {"lower": torch.zeros_like}), recording(net, TAPS, ["lower"]) as record:
        net(x)
    assert record["lower"].item() == 0


def test_gradients_flow_through_what_is_recorded_for_them(net):
    x = torch.tensor([[1.0]], requires_grad=True)
    with recording(net, TAPS, ["lower"], gradients=True) as record:
        out = net(x)
    (slope,) = torch.autograd.grad(out.sum(), record["lower"])
    assert slope.item() == 2


def test_threads_do_not_record_each_other(net):
    seen = []

    def one(count):
        for _ in range(50):
            with recording(net, TAPS, ["lower"]) as record:
                net(torch.zeros(count, 1))
            seen.append(len(record["lower"]) == count)

    threads = [threading.Thread(target=one, args=(n,)) for n in (1, 2, 3, 4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(seen) == 200
    assert all(seen)


def two_parts():
    """A network with a backbone and a head, and the sizes of what the backbone was given."""
    backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    network = nn.Sequential(OrderedDict(backbone=backbone, head=nn.Conv2d(4, 2, 1))).eval()
    given = []
    count_inputs(network, given.append)
    return network, given


def test_a_backbone_is_computed_once_for_each_input_whatever_the_head():
    network, given = two_parts()
    shared = OnceComputed.of(network, 4)
    pixels = torch.randn(4, 3, 2, 2)
    with torch.no_grad():
        expected = network(pixels)
        given.clear()
        with shared.reused():
            first = network(pixels)
            network.head.weight.mul_(2)
            network.head.bias.mul_(2)
            twice = network(pixels[1:3])
        assert given == [4]
        torch.testing.assert_close(first, expected)
        torch.testing.assert_close(twice, 2 * expected[1:3])
        network(pixels)
    assert given == [4, 4]


@pytest.mark.parametrize("change", ["weights", "training", "hook", "gradients", "input"])
def test_a_backbone_that_would_give_something_else_is_computed_again(change):
    network, given = two_parts()
    shared, pixels = OnceComputed.of(network, 4), torch.randn(2, 3, 2, 2)
    with torch.no_grad(), shared.reused():
        network(pixels)
    if change == "weights":
        network.backbone[0].weight.data.mul_(2)
    if change == "training":
        network.backbone[2].train()
    if change == "hook":
        network.backbone[1].register_forward_hook(lambda part, inputs, output: output + 1)
    if change == "input":
        pixels = pixels + 1
    with torch.set_grad_enabled(change == "gradients"), shared.reused():
        found = network(pixels)
    assert given == [2, 2]
    if change not in ("training",):
        torch.testing.assert_close(found, network(pixels))


def test_a_whole_network_is_asked_once_for_the_same_inputs_with_the_same_weights():
    network, given = two_parts()
    asked, pixels = OnceComputed(network, 1).remembering(network), torch.randn(2, 3, 2, 2)
    with torch.no_grad():
        first = asked(pixels)
        assert asked(pixels.clone()) is first
        asked(pixels + 1)
        asked(pixels + 1)  # one result is kept
        assert given == [2, 2, 2]
        network.head.bias.data.add_(1)
        torch.testing.assert_close(asked(pixels), first + 1)


def test_a_network_whose_first_part_is_small_has_nothing_to_share():
    head = nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(3)))
    assert OnceComputed.of(nn.Sequential(nn.Conv2d(3, 4, 1), head), 4) is None
    assert OnceComputed.of(nn.Sequential(nn.Conv2d(3, 4, 1)), 4) is None
