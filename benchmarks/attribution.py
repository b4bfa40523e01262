"""How long do Grad-CAM and occlusion take for 17 keypoints, against captum's one target at a time?

A heatmap network in the style of SimpleBaseline, input 256x192, 17 maps of 64x48, batch normalisation and
in-place ReLU. Both sides explain the same values (each map at its peak) in one run, and their maps must be
equal. For occlusion captum is also given its best case: all targets in one call, 16 windows in a batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.row import Row, ratio

K = 17
SIZE = (256, 192)
WINDOW, STRIDE = (32, 32), (16, 16)
TARGET = 4.0
EQUAL = 1e-5  # of the largest value of a map


def rows() -> list[Row]:
    """Grad-CAM, occlusion against one target at a time, occlusion against all targets in one call."""
    made = prepared()
    return [_grad_cam(made), *_occlusion(made)]


def prepared() -> tuple[Any, Any, Any, Any]:
    """The network, the input, the score of all targets, and the targets as captum takes them."""
    import torch

    torch.manual_seed(0)
    network = _network().eval()
    pixels = torch.rand(3, *SIZE)
    with torch.no_grad():
        maps = network(pixels[None])[0]
    places = [divmod(int(m.argmax()), maps.shape[2]) for m in maps]
    y, x = torch.tensor(places).T
    k = torch.arange(K)
    targets = [(i, *place) for i, place in enumerate(places)]
    return network, pixels, lambda inputs: network(inputs)[:, k, y, x], targets


def _network() -> Any:
    from torch import nn

    layers: list[Any] = []
    before = 3
    for channels in (32, 64, 128, 256):
        layers += [nn.Conv2d(before, channels, 3, 2, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        before = channels
    body = nn.Sequential(*layers)
    up = [nn.ConvTranspose2d(256, 128, 4, 2, 1), nn.BatchNorm2d(128), nn.ReLU(inplace=True)]
    up += [nn.ConvTranspose2d(128, 64, 4, 2, 1), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    return nn.Sequential(body, nn.Sequential(*up), nn.Conv2d(64, K, 1))


def _grad_cam(made: tuple[Any, Any, Any, Any]) -> Row:
    import torch
    from captum.attr import LayerGradCam

    from workbench.inspectors.attribution.methods import grad_cam

    network, pixels, score, targets = made
    captum = LayerGradCam(network, network[0])

    def theirs() -> Any:
        return torch.cat([captum.attribute(pixels[None], target=t)[0] for t in targets]).detach()

    def ours() -> Any:
        return grad_cam(score, pixels, network, "0", positive=False)

    (own, found), (other, expected) = alternating(ours, theirs, 5)
    return _row("Grad-CAM, 17 keypoints, 256x192", own, "captum, a target at a time", other, found, expected)


def _occlusion(made: tuple[Any, Any, Any, Any]) -> list[Row]:
    import torch
    from captum.attr import Occlusion

    from workbench.inspectors.attribution.methods import occlusion

    network, pixels, score, targets = made
    shape, stride = (3, *WINDOW), (3, *STRIDE)

    def one(target: Any) -> Any:
        return Occlusion(network).attribute(
            pixels[None], sliding_window_shapes=shape, strides=stride, target=target, baselines=0
        )[:, 0]

    def together() -> Any:
        return Occlusion(score).attribute(
            pixels[None], sliding_window_shapes=shape, strides=stride, baselines=0, perturbations_per_eval=16
        )[:, 0]

    def ours() -> Any:
        return occlusion(score, pixels, WINDOW, STRIDE)

    what = "occlusion, 17 keypoints, 165 windows of 256x192"
    (own, found), (other, expected) = alternating(ours, lambda: torch.cat([one(t) for t in targets]), 1)
    first = _row(what, own, "captum, a target at a time", other, found, expected)
    (own, found), (other, expected) = alternating(ours, together, 2)
    second = _row(
        what, own, "captum, all targets in one call, 16 windows a batch", other, found, expected, 1.0
    )
    return [first, second]


def alternating(
    ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int
) -> tuple[tuple[float, Any], tuple[float, Any]]:
    """Shortest time in seconds and answer of both, measured in turns so that a busy machine slows both."""
    ours()  # memory is reserved and kernels are chosen at first
    taken: tuple[list[float], list[float]] = ([], [])
    answers: list[Any] = [None, None]
    for _ in range(repeats):
        for side, call in enumerate((ours, theirs)):
            started = time.perf_counter()
            answers[side] = call()
            taken[side].append(time.perf_counter() - started)
    return (min(taken[0]), answers[0]), (min(taken[1]), answers[1])


def _row(
    what: str, ours: float, peer: str, theirs: float, found: Any, expected: Any, target: float = TARGET
) -> Row:
    apart = float((found - expected).abs().max() / expected.abs().max())
    equal = found.shape == expected.shape and apart <= EQUAL
    return {
        "what": f"{what}; maps {'equal' if equal else 'differ'} (by {apart:.0e} of the largest value)",
        "ours": f"{ours:.2f} s",
        "peer": f"{peer} {theirs:.2f} s",
        "ratio": ratio(theirs, ours),
        "target": f">= {target:g}x, equal maps",
        "met": equal and theirs / ours >= target,
    }
