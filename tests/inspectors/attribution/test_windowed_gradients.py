import itertools

import pytest
import torch
from torch import nn

from workbench.inspectors.attribution import methods as windowed_gradients
from workbench.inspectors.attribution.methods import WindowedConvolutions, input_gradients, per_target

SETTINGS = [
    {"kernel_size": k, "stride": s, "padding": p, "dilation": d, "groups": g}
    for k, s, p, d, g in itertools.product([1, 3, (4, 2)], [1, 2, (3, 1)], [0, 1], [1, 2], [1, 2])
]


def gradients_of(layer, shape, places):
    """One gradient by the output for each place, zero elsewhere, and the dense gradients by the input."""
    inputs = torch.randn(len(places), *shape, requires_grad=True)
    outputs = layer(inputs)
    by_output = torch.zeros_like(outputs)
    for n, (y, x) in enumerate(places):
        by_output[n, :, int(y * (outputs.shape[2] - 1)), int(x * (outputs.shape[3] - 1))] = torch.randn(
            outputs.shape[1]
        )
    return by_output, inputs, torch.autograd.grad(outputs, inputs, by_output)[0]


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_gradients_of_single_cells_are_those_of_the_dense_pass(kind):
    torch.manual_seed(0)
    corners = [(0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.4), (0.9, 0.1)]
    for settings in SETTINGS:
        layer = kind(4, 6, **settings)
        by_output, inputs, wanted = gradients_of(layer, (4, 17, 14), corners)
        by_output[-1] = 0  # a target that nothing depends on
        wanted[-1] = 0
        options = (list(layer.stride), list(layer.padding), list(layer.dilation), layer.groups)
        found = input_gradients(by_output, inputs.shape, layer.weight, options, kind is nn.ConvTranspose2d)
        assert found is not None
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_gradients_that_cover_the_map_are_left_to_the_dense_pass():
    layer = nn.Conv2d(3, 5, 3)
    options = ([1, 1], [0, 0], [1, 1], 1)
    assert (
        input_gradients(torch.ones(2, 5, 8, 8), torch.Size((2, 3, 10, 10)), layer.weight, options, False)
        is None
    )


def test_a_gradient_that_is_not_a_number_stays_one():
    by_output = torch.zeros(1, 5, 8, 8)
    by_output[0, 2, 4, 4] = torch.nan
    found = input_gradients(
        by_output, torch.Size((1, 3, 10, 10)), nn.Conv2d(3, 5, 3).weight, ([1, 1], [0, 0], [1, 1], 1), False
    )
    assert found is not None
    assert found[0, :, 4:7, 4:7].isnan().all()
    assert found.isfinite().sum() == found.numel() - 27


def test_weights_get_their_gradients_while_windows_are_active():
    layer = nn.Conv2d(3, 5, 3)
    inputs = torch.randn(2, 3, 9, 9, requires_grad=True)
    wanted = torch.autograd.grad(layer(inputs)[:, :, 4, 4].sum(), [inputs, *layer.parameters()])
    with WindowedConvolutions():
        found = torch.autograd.grad(layer(inputs)[:, :, 4, 4].sum(), [inputs, *layer.parameters()])
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_all_targets_of_a_decoder_take_windows_and_equal_those_one_at_a_time(monkeypatch):
    torch.manual_seed(1)
    decoder = nn.Sequential(
        nn.ConvTranspose2d(8, 6, 4, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.ConvTranspose2d(6, 6, 4, 2, 1),
        nn.ReLU(), nn.Conv2d(6, 5, 1),
    ).eval()  # fmt: skip
    asked = []
    dense = input_gradients

    def counted(*arguments):
        asked.append(dense(*arguments) is not None)
        return dense(*arguments)

    monkeypatch.setattr(windowed_gradients, "input_gradients", counted)
    leaf = torch.randn(1, 8, 12, 9, requires_grad=True)
    values = decoder(leaf)[0].flatten(1).amax(1)
    found = per_target(values, leaf, "it")
    wanted = torch.stack([torch.autograd.grad(v, leaf, retain_graph=True)[0] for v in values])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)
    assert asked == [True, True, True]
