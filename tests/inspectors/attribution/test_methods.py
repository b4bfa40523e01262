"""Own Grad-CAM, occlusion and gradients: equal to captum by value, on networks with what trips hooks up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam, Saliency
from captum.attr import Occlusion as CaptumOcclusion
from torch import nn

from workbench.core import NotAvailable
from workbench.inspectors.attribution.methods import (
    grad_cam,
    gradients_of_input,
    occlusion,
    per_target,
    windows,
)

K = 5


class Network(nn.Module):
    """Convolutions, batch normalisation and in-place ReLU, then one map per keypoint."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
            nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.up = nn.Sequential(nn.ConvTranspose2d(12, 8, 4, 2, 1), nn.ReLU(inplace=True))
        self.head = nn.Conv2d(8, K, 1)
        with torch.no_grad():  # running statistics other than 0 and 1
            for norm in (self.body[1], self.body[4]):
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2)

    def forward(self, pixels):
        return self.head(self.up(self.body(pixels)))


@pytest.fixture(scope="module")
def network():
    return Network().eval()


@pytest.fixture(scope="module")
def pixels():
    return torch.rand(3, 37, 29, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def targets(network, pixels):
    with torch.no_grad():
        maps = network(pixels[None])[0]
    y, x = np.divmod(maps.flatten(1).argmax(1).numpy(), maps.shape[2])
    return [(k, int(y[k]), int(x[k])) for k in range(K)]


@pytest.fixture(scope="module")
def score(network, targets):
    k, y, x = (torch.tensor(v) for v in zip(*targets, strict=True))
    return lambda inputs: network(inputs)[:, k, y, x]


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("path", ["body", "body.0", "body.1", "body.2", "body.4", "up", "up.0"])
def test_grad_cam_of_all_targets_equals_captums_one_by_one(network, pixels, targets, score, path, positive):
    ours = grad_cam(score, pixels, network, path, positive)
    captum = LayerGradCam(network, network.get_submodule(path))
    theirs = torch.cat(
        [captum.attribute(pixels[None], target=t, relu_attributions=positive)[0] for t in targets]
    )
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-7)


def test_grad_cam_reads_a_layers_own_output_before_an_in_place_layer_overwrites_it(network, pixels, score):
    with torch.no_grad():
        own = network.body[:2](pixels[None])
    leaf = own.clone().requires_grad_(True)
    rest = nn.Sequential(nn.ReLU(), network.body[3:], network.up, network.head)
    k, y, x = (torch.tensor(v) for v in zip(*_where(rest(leaf)), strict=True))
    values = rest(leaf)[0][k, y, x]
    wanted = []
    for value in values:
        (gradient,) = torch.autograd.grad(value, leaf, retain_graph=True)
        wanted.append((gradient.mean((2, 3), keepdim=True) * own).sum(1)[0])
    found = grad_cam(score, pixels, network, "body.1", positive=False)
    torch.testing.assert_close(found, torch.stack(wanted), rtol=1e-5, atol=1e-7)
    assert (own < 0).any()


def _where(maps):
    y, x = np.divmod(maps[0].detach().flatten(1).argmax(1).numpy(), maps.shape[3])
    return [(k, int(y[k]), int(x[k])) for k in range(K)]


def test_grad_cam_leaves_no_gradient_no_hook_and_no_mode_behind(network, pixels, score):
    network.train()
    try:
        grad_cam(score, pixels, network, "body")
        assert network.training
        assert all(weight.grad is None for weight in network.parameters())
        assert not network.body._forward_hooks
    finally:
        network.eval()


def test_a_layer_that_gives_no_map_or_does_not_run_is_refused(network, pixels):
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix, self.idle = nn.Linear(3, K), nn.Conv2d(3, 3, 1)

        def forward(self, inputs):
            return self.mix(inputs.mean((2, 3)))

    flat = Flat().eval()
    with pytest.raises(NotAvailable, match="no map"):
        grad_cam(flat, pixels, flat, "mix")
    with pytest.raises(NotAvailable, match="does not run it"):
        grad_cam(flat, pixels, flat, "idle")


def test_a_target_that_does_not_depend_on_the_layer_has_a_map_of_zeros(network, pixels):
    found = grad_cam(lambda inputs: network(inputs)[:, :2, 0, 0] * 0 + 1, pixels, network, "body")
    assert found.shape[0] == 2
    assert not found.any()


class _Doubled(torch.autograd.Function):
    """An operation that torch cannot batch: it looks at single values."""

    @staticmethod
    def forward(ctx, values):
        return 2 * values

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (2 if gradient.sum().item() == gradient.sum().item() else 0)


def test_an_operation_that_cannot_be_batched_gives_the_same_gradients():
    leaf = torch.tensor([1.0, 2, 3], requires_grad=True)
    values = _Doubled.apply(leaf**2)
    torch.testing.assert_close(per_target(values, leaf, "it"), torch.diag(4 * leaf.detach()))


def test_values_without_a_graph_are_refused_with_what_to_use_instead():
    with pytest.raises(NotAvailable, match="Occlusion"):
        per_target(torch.ones(3), torch.ones(2), "the input")


def test_gradients_of_the_input_equal_captums(network, pixels, targets, score):
    saliency = Saliency(network)
    theirs = torch.stack([saliency.attribute(pixels[None], target=t, abs=False)[0] for t in targets])
    torch.testing.assert_close(gradients_of_input(score, pixels), theirs, rtol=1e-5, atol=1e-7)


def test_windows_begin_at_multiples_of_the_stride_and_the_last_is_cut():
    assert windows(10, 4, 3) == [(0, 4), (3, 7), (6, 10)]
    assert windows(11, 4, 3) == [(0, 4), (3, 7), (6, 10), (9, 11)]
    assert windows(3, 4, 2) == [(0, 3)]
    assert windows(4, 4, 2) == [(0, 4)]


@pytest.mark.parametrize(("window", "stride"), [((8, 8), (4, 4)), ((9, 6), (5, 4)), ((37, 29), (1, 1))])
@pytest.mark.parametrize("fill", ["number", "input"])
def test_occlusion_of_all_targets_equals_captums_one_by_one(
    network, pixels, targets, score, window, stride, fill
):
    base = 0.25 if fill == "number" else torch.rand(3, 37, 29, generator=torch.Generator().manual_seed(2))
    ours = occlusion(score, pixels, window, stride, base)
    captum = CaptumOcclusion(network)
    theirs = torch.cat(
        [
            captum.attribute(
                pixels[None], sliding_window_shapes=(3, *window), strides=(3, *stride), target=t,
                baselines=base if fill == "number" else base[None], perturbations_per_eval=8,
            )[:, 0]
            for t in targets
        ]
    )  # fmt: skip
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_occlusion_says_how_far_it_is(score, pixels):
    ticks = []
    occlusion(score, pixels, (10, 10), (5, 5), tick=lambda done, of: ticks.append((done, of)))
    assert ticks[-1] == (35, 35)  # 7 windows down, 5 across
    assert [done for done, _ in ticks] == [16, 32, 35]


def test_occlusion_of_a_sum_of_pixels_is_what_the_window_holds():
    """By hand: the target is the sum of all values; a pixel's map is the mean over its windows of their
    sums."""
    pixels = torch.arange(12.0).view(1, 3, 4).expand(3, -1, -1).contiguous()
    found = occlusion(lambda inputs: inputs.sum((1, 2, 3))[:, None], pixels, (3, 2), (3, 2))
    left, right = 3 * (0 + 1 + 4 + 5 + 8 + 9), 3 * (2 + 3 + 6 + 7 + 10 + 11)
    assert found[0].tolist() == [[left, left, right, right]] * 3
