"""How long do Grad-CAM and occlusion take for 17 keypoints, against captum's one target at a time?

Three networks with 17 keypoints: one that keeps a high resolution (as HRNet), one with a deconvolution
decoder (as SimpleBaseline), both for 256x192 with batch normalisation and in-place ReLU, and the built-in
RTMPose run. Processor time. What comes before the layer runs once for all keypoints; what comes behind it
has a backward pass for each, whose convolutions are computed where gradients are not zero: around each peak
of a map, everywhere behind a SimCC head. Both sides explain the same values (each map at its peak) in one
run, and their maps must be equal. Captum's occlusion has 16 windows in a batch as well, and is also given all
targets in one call.
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
    """Grad-CAM on three networks, occlusion against one target at a time, and against all in one call."""
    high, decoder = prepared(_high_resolution()), prepared(_with_decoder())
    return [
        _grad_cam("high-resolution network, 256x192", *high, high[0][0]),
        _rtmpose(),
        _grad_cam("network with a decoder, 256x192", *decoder, decoder[0][0]),
        *_occlusion(decoder),
    ]


def prepared(network: Any) -> tuple[Any, Any, Any, Any]:
    """The network, the input, the score of all targets, and the targets as captum takes them."""
    import torch

    generator = torch.Generator().manual_seed(0)
    network = network.eval()
    pixels = torch.rand(3, *SIZE, generator=generator)
    with torch.no_grad():
        maps = network(pixels[None])[0]
    places = [divmod(int(m.argmax()), maps.shape[2]) for m in maps]
    y, x = torch.tensor(places).T
    k = torch.arange(K)
    targets = [(i, *place) for i, place in enumerate(places)]
    return network, pixels, lambda inputs: network(inputs)[:, k, y, x], targets


def _block(before: int, channels: int, stride: int) -> list[Any]:
    from torch import nn

    return [nn.Conv2d(before, channels, 3, stride, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def _high_resolution() -> Any:
    from torch import nn

    body = [*_block(3, 32, 2), *_block(32, 32, 2), *(part for _ in range(6) for part in _block(32, 32, 1))]
    return nn.Sequential(nn.Sequential(*body), nn.Conv2d(32, K, 1))


def _with_decoder() -> Any:
    from torch import nn

    body = [*_block(3, 32, 2), *_block(32, 64, 2), *_block(64, 128, 2)]
    up = [nn.ConvTranspose2d(128, 64, 4, 2, 1), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    return nn.Sequential(nn.Sequential(*body), nn.Sequential(*up), nn.Conv2d(64, K, 1))


def _rtmpose() -> Row:
    """The last epoch of the built-in run; targets are the sums of both SimCC logits at the peaks."""
    from workbench.checkpoints.demo import demo_checkpoints, demo_data
    from workbench.core.run import run
    from workbench.data import builtin
    from workbench.inspectors.attribution.targets import score_of, targets_of
    from workbench.models import open_model

    model = open_model(demo_checkpoints()[-1]).model
    scenes = builtin(demo_data())
    made = run(model, [scenes.sample(scenes.labelled[0])])
    score = score_of(made, 0, targets_of(made, 0))
    network = model.module
    targets = list(range(len(model.skeleton)))
    layer = network.get_submodule("backbone")
    return _grad_cam("rtmpose-demo, 128x128", network, made.batch.pixels[0], score, targets, layer, score)


def _grad_cam(
    what: str, network: Any, pixels: Any, score: Any, targets: Any, layer: Any, asked: Any = None,
    least: float = TARGET,
) -> Row:  # fmt: skip
    """One row: Grad-CAM of a layer; captum asks `asked`, the network itself by default."""
    import torch
    from captum.attr import LayerGradCam

    from workbench.inspectors.attribution.methods import grad_cam

    captum = LayerGradCam(asked or network, layer)
    path = next(name for name, module in network.named_modules() if module is layer)

    def theirs() -> Any:
        return torch.cat([_map(captum.attribute(pixels[None], target=t)) for t in targets]).detach()

    def ours() -> Any:
        return grad_cam(score, pixels, network, path, positive=False)

    (own, found), (other, expected) = alternating(ours, theirs, 3)
    name = f"Grad-CAM, 17 keypoints, {what}"
    return _row(name, own, "captum, a target at a time", other, found, expected, least)


def _map(attribution: Any) -> Any:
    """The map [1, h, w] of one target; of a layer with several outputs that of the last."""
    return (attribution[-1] if isinstance(attribution, tuple) else attribution)[0]


def _occlusion(made: tuple[Any, Any, Any, Any]) -> list[Row]:
    import torch
    from captum.attr import Occlusion

    from workbench.inspectors.attribution.methods import occlusion

    network, pixels, score, targets = made
    shape, stride = (3, *WINDOW), (3, *STRIDE)

    def one(target: Any) -> Any:
        return Occlusion(network).attribute(
            pixels[None], sliding_window_shapes=shape, strides=stride, target=target, baselines=0,
            perturbations_per_eval=16,
        )[:, 0]  # fmt: skip

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
    second = _row(what, own, "captum, all targets in one call", other, found, expected, 1.0)
    return [first, second]


def alternating(
    ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int
) -> tuple[tuple[float, Any], tuple[float, Any]]:
    """Shortest processor time in seconds and answer of both, in turns."""
    ours()  # memory is reserved and kernels are chosen at first
    taken: tuple[list[float], list[float]] = ([], [])
    answers: list[Any] = [None, None]
    for _ in range(repeats):
        for side, call in enumerate((ours, theirs)):
            started = time.process_time()
            answers[side] = call()
            taken[side].append(time.process_time() - started)
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
