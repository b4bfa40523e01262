"""Grad-CAM, occlusion and gradients of all targets of a sample at once: equal to captum's, and faster.

captum explains one target at a time. Its Grad-CAM repeats the forward pass for each target; here all targets
share one, and their gradients are taken in one batched backward pass, whose convolutions are computed where
gradients are not zero. Its occlusion adds up maps of the input's size for each window and target; here the
windows of all targets are scattered once at the end.

The gradient of one keypoint's peak begins at a single cell of the output maps. Behind a convolution of 4 x 4
it covers 2 x 2 cells, and the rest of the map is exactly zero, which a dense backward pass computes all the
same. Here the gradients of all targets, one in each row of a batch, are cut to windows of one common size
around what is not zero. The sums are those of the dense pass without their zeros, for any weights.

Source: Grad-CAM is Selvaraju et al. 2017, equation 1 and 2, by place Draelos and Carin 2020 (HiResCAM);
occlusion is Zeiler and Fergus 2014. Reference: captum 0.9, LayerGradCam and Occlusion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from workbench.core import NotAvailable, Run
from workbench.core.capabilities import HasAttention
from workbench.core.hooks import recording, replacing
from workbench.core.inspector import Choice
from workbench.core.run import evaluating

if TYPE_CHECKING:
    from torch import Tensor, nn

AXES = (0, 1)
"""y and x."""

LARGEST_SHARE = 0.5
"""Of the map: with larger windows the dense pass is as fast."""


class WindowedConvolutions(TorchDispatchMode):
    """While active, gradients of 2-D convolutions by their input are computed in windows where that is less.

    Gradients by weights and biases are left to PyTorch, as are convolutions along one or three axes.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution_backward.default:
            gradients, inputs, weight, _, stride, padding, dilation, transposed, _, groups, mask = args
            if list(mask) == [True, False, False] and gradients.ndim == 4:
                settings = (stride, padding, dilation, groups)
                found = input_gradients(gradients, inputs.shape, weight, settings, transposed)
                if found is not None:
                    return found, None, None
        return func(*args, **(kwargs or {}))


Settings = tuple[list[int], list[int], list[int], int]
"""Stride, padding and dilation along (y, x), and groups."""


def input_gradients(
    gradients: Tensor, shape: torch.Size, weight: Tensor, settings: Settings, transposed: bool
) -> Tensor | None:
    """Gradients of a convolution by its input, or None where windows do not pay.

    Args:
        gradients: by the output, [B, O, h, w].
        shape: of the input, [B, I, H, W].
        weight: of the convolution.
        settings: of the convolution.
        transposed: whether it is a transposed one.
    """
    corners, size = _windows(gradients)
    h, w = gradients.shape[2:]
    if size[0] * size[1] > LARGEST_SHARE * h * w:
        return None
    stride, padding, dilation, groups = settings
    reach = [(k - 1) * d for k, d in zip(weight.shape[2:], dilation, strict=True)]
    if transposed:
        # Input i reads the outputs from i stride - padding to reach cells on.
        counts = [(size[a] + reach[a] - 1) // stride[a] + 1 for a in AXES]
        sides = tuple((counts[a] - 1) * stride[a] + reach[a] + 1 for a in AXES)
        starts = [tuple(-((reach[a] - padding[a] - c[a]) // stride[a]) for a in AXES) for c in corners]
        begins = [tuple(s[a] * stride[a] - padding[a] for a in AXES) for s in starts]
        parts = functional.conv2d(
            _patches(gradients, begins, sides), weight, stride=stride, dilation=dilation, groups=groups
        )
    else:
        # Output i reads the inputs from i stride - padding to reach cells on.
        starts = [tuple(c[a] * stride[a] - padding[a] for a in AXES) for c in corners]
        parts = functional.conv_transpose2d(
            _patches(gradients, corners, size), weight, stride=stride, dilation=dilation, groups=groups
        )
    whole = gradients.new_zeros((len(gradients), *shape[1:]))
    for b, start in enumerate(starts):
        (rows, columns), (own_rows, own_columns) = _overlap(start, parts.shape[2:], shape[2:])
        whole[b, :, rows, columns] = parts[b, :, own_rows, own_columns]
    return whole


def _windows(gradients: Tensor) -> tuple[list[tuple[int, ...]], tuple[int, int]]:
    """First row and column of what is not zero in each of a batch, and the largest (height, width) of all."""
    used = (gradients != 0).any(1)
    corners: list[list[int]] = []
    sizes: list[int] = []
    for other in (2, 1):
        along = used.any(other)
        numbers = along.to(torch.uint8)  # argmax takes no booleans
        first = numbers.argmax(1)
        # A window of one cell where all is zero.
        end = torch.where(along.any(1), along.shape[1] - numbers.flip(1).argmax(1), first + 1)
        corners.append(first.tolist())
        sizes.append(int((end - first).max()))
    return list(zip(*corners, strict=True)), (sizes[0], sizes[1])


def _patches(maps: Tensor, begins: Sequence[tuple[int, ...]], sides: tuple[int, ...]) -> Tensor:
    """One window [C, height, width] of each map, zero outside of the map."""
    cut = maps.new_zeros((*maps.shape[:2], *sides))
    for b, begin in enumerate(begins):
        (rows, columns), (own_rows, own_columns) = _overlap(begin, sides, maps.shape[2:])
        cut[b, :, own_rows, own_columns] = maps[b, :, rows, columns]
    return cut


def _overlap(
    begin: Sequence[int], sides: Sequence[int], limits: Sequence[int]
) -> tuple[list[slice], list[slice]]:
    """Rows and columns of a map that a window covers, and the same counted from the window's corner."""
    of_map, of_window = [], []
    for first, side, limit in zip(begin, sides, limits, strict=True):
        start = min(max(first, 0), limit)
        stop = max(min(first + side, limit), start)
        of_map.append(slice(start, stop))
        of_window.append(slice(start - first, stop - first))
    return of_map, of_window


Baseline = Literal["zero", "mean", "blurred"]
"""zero: the mean colour of the training data for a normalised input, black for one that is not. mean: the
mean colour of this input. blurred: this input without its details, which leaves the colours of the
surroundings."""

# Standard deviation of the blur, as a share of the input's longer side: limbs vanish, the body stays.
BLUR = 1 / 12


def baseline(pixels: Tensor, kind: Baseline) -> Tensor:
    """The input [3, H, W] that stands for nothing being seen.

    Args:
        pixels: the input [3, H, W].
        kind: see `Baseline`.
    """
    import cv2

    if kind == "zero":
        return torch.zeros_like(pixels)
    if kind == "mean":
        return pixels.mean((1, 2), keepdim=True).expand_as(pixels).clone()
    sigma = BLUR * max(pixels.shape[1:])
    planes = [
        cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        for plane in pixels.detach().float().cpu().numpy()
    ]
    return torch.from_numpy(np.stack(planes)).to(pixels)


Score = Callable[["Tensor"], "Tensor"]
"""From inputs [B, 3, H, W] to targets [B, T]."""

BATCH = 16  # variants of the input in one forward pass

NO_GRADIENT = (
    "gradients: none leads from this model's outputs to {what}: its network runs outside of PyTorch or "
    "without "
    "gradients; Occlusion and Feature ablation need none"
)


@contextmanager
def asking(run: Run, gradients: bool) -> Iterator[None]:
    """The model in evaluation mode, and no other thread in it, while its scores are asked for.

    Args:
        run: of the model.
        gradients: whether they are recorded.
    """
    module = run.model.module
    with recording(module, {}, ()), evaluating(module), torch.set_grad_enabled(gradients):
        yield


def grad_cam(
    score: Score, pixels: Tensor, module: nn.Module, path: str, positive: bool = True, by_place: bool = False
) -> Tensor:
    """Layer Grad-CAM of all targets, one map [T, h, w] of the layer's resolution.

    Channels of the layer's output are weighted by their mean gradient and added up. The layer's own output is
    meant, also where an in-place layer behind it overwrites the tensor.

    Args:
        score: what is explained.
        pixels: one input [3, H, W].
        module: the network that `score` runs.
        path: of the layer; its output, or the last tensor of it, must be [1, C, h, w].
        positive: negative values are set to 0, as published.
        by_place: weigh each place with its own gradient instead of the mean (HiResCAM).

    Raises:
        NotAvailable: the layer's output is no map, or no gradient arrives.
    """
    outputs: list[Tensor] = []

    def keep(output: Tensor) -> Tensor:
        if not isinstance(output, torch.Tensor) or output.ndim != 4:
            raise NotAvailable(
                f"layer {path}: its output is no map [N, channels, height, width]; choose another"
            )
        # A leaf of its own: the backward pass ends here, and nothing before the layer is held in memory.
        leaf = output.detach().requires_grad_(True)
        outputs.append(leaf)
        return leaf.clone()  # what follows may write into its input

    with torch.enable_grad(), replacing(module, {path: path}, {path: keep}), evaluating(module):
        values = score(pixels[None])[0]
    if not outputs:
        raise NotAvailable(f"layer {path}: the network does not run it; choose another")
    layer = outputs[-1]
    gradients = per_target(values, layer, f"layer {path}")[:, 0]
    weights = gradients if by_place else gradients.mean((2, 3), keepdim=True)
    maps = (weights * layer.detach()).sum(1)
    return maps.clamp_min(0) if positive else maps


def gradients_of_input(score: Score, pixels: Tensor) -> Tensor:
    """Gradient of each target by the input, [T, 3, H, W].

    Args:
        score: what is explained.
        pixels: one input [3, H, W].

    Raises:
        NotAvailable: no gradient arrives.
    """
    with torch.enable_grad():
        leaf = pixels.detach().clone()[None].requires_grad_(True)
        values = score(leaf)[0]
    return per_target(values, leaf, "the input")[:, 0]


def per_target(values: Tensor, leaf: Tensor, what: str) -> Tensor:
    """Gradients [T, *shape of leaf] of T values by one tensor, in one batched backward pass.

    Args:
        values: [T].
        leaf: what they were computed from; values that do not depend on it have the gradient 0.
        what: its name, for the error.

    Raises:
        NotAvailable: the values have no graph.
    """
    if not values.requires_grad:
        raise NotAvailable(NO_GRADIENT.format(what=what))

    one_each = torch.eye(len(values), dtype=values.dtype, device=values.device)

    def gradient(cotangent: Tensor) -> Tensor:
        return torch.autograd.grad(values, leaf, cotangent, retain_graph=True, materialize_grads=True)[0]

    try:
        # Batched by torch.func, whose convolutions take the targets as one batch: those of
        # torch.autograd.grad(is_grads_batched=True) run target by target.
        with WindowedConvolutions():
            return torch.func.vmap(gradient)(one_each).detach()
    except RuntimeError:  # an operation that torch cannot batch: the same numbers, one at a time
        return torch.stack([gradient(cotangent) for cotangent in one_each]).detach()


def windows(length: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Begin and end of the windows along an axis, as captum places them: the last is cut at the end."""
    count = max(0, -((window - length) // stride)) + 1
    return [(i * stride, min(i * stride + window, length)) for i in range(count)]


def occlusion(
    score: Score,
    pixels: Tensor,
    window: tuple[int, int],
    stride: tuple[int, int],
    fill: Tensor | float = 0.0,
    tick: Callable[[int, int], None] | None = None,
) -> Tensor:
    """How much each target falls where a window covers the input, [T, H, W].

    A pixel's value is the mean over the windows that cover it. Call it within `asking(run, False)`.

    Args:
        score: what is explained.
        pixels: one input [3, H, W].
        window: (height, width) in pixels.
        stride: (down, right) in pixels, at most the window.
        fill: what a covered pixel becomes: a number, or an input [3, H, W].
        tick: called with windows done and all windows after each forward pass.
    """
    _, H, W = pixels.shape
    places = [(r, c) for r in windows(H, window[0], stride[0]) for c in windows(W, window[1], stride[1])]
    whole = torch.as_tensor(fill, dtype=pixels.dtype).expand_as(pixels)
    with torch.no_grad():
        plain = score(pixels[None])[0]
        falls = []
        for start in range(0, len(places), BATCH):
            some = places[start : start + BATCH]
            covered = pixels.repeat(len(some), 1, 1, 1)
            for one, ((top, bottom), (left, right)) in zip(covered, some, strict=True):
                one[:, top:bottom, left:right] = whole[:, top:bottom, left:right]
            falls.append(plain - score(covered))
            if tick is not None:
                tick(start + len(some), len(places))
        total = plain.new_zeros((len(plain), H, W))
        count = plain.new_zeros((H, W))
        for ((top, bottom), (left, right)), fall in zip(places, torch.cat(falls), strict=True):
            total[:, top:bottom, left:right] += fall[:, None, None]
            count[top:bottom, left:right] += 1
    return total / count


# Which layer does Grad-CAM read? The taps of a model whose output is a map.


AUTOMATIC = "automatic"


def layer_names(run: Run) -> list[str]:
    """The layers on offer: chosen by the workbench, or one of the model's taps that may be a map."""
    from torch import nn

    never = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.Softmax, nn.MultiheadAttention, nn.Flatten)
    module = run.model.module
    found = [tap for tap, path in run.model.taps.items() if not isinstance(module.get_submodule(path), never)]
    return [AUTOMATIC, *found]


LAYER = Choice(layer_names)


def chosen_layer(
    run: Run, n: int, score: Callable[[Tensor], Tensor], layer: str
) -> tuple[str, tuple[int, ...]]:
    """The tap that a LAYER parameter means, and the shape (C, h, w) of its output.

    Args:
        run: of the model.
        n: a sample.
        score: that passes it.
        layer: one of `layer_names`; "" is the automatic choice.

    Raises:
        ValueError: no such tap.
        NotAvailable: it gives no map, or the network does not run it.
    """
    LAYER.index(run, layer)
    sizes = layers_of(run, n, score)
    if layer in ("", AUTOMATIC):
        layer = automatic_layer(run, sizes)
    if layer not in sizes:
        raise NotAvailable(
            f"layer {layer}: its output is no map [N, channels, height, width], or the network does not run "
            f"it; these are maps: {', '.join(list(sizes)[-3:]) or 'none'}"
        )
    return layer, sizes[layer]


def automatic_layer(run: Run, sizes: dict[str, tuple[int, ...]]) -> str:
    """The last tap at the network's coarsest resolution, where it has seen most of the image.

    The last layers before the output have the keypoints' own maps and would show little else, so maps with
    one channel per keypoint or tag are passed over, and so are pooled ones of a single row or column.

    Args:
        run: of the model.
        sizes: tap -> (C, h, w), in the order in which they ran.

    Raises:
        NotAvailable: no tap gives a map.
    """
    if not sizes:
        raise NotAvailable(
            "layer: no tap of this model gives a map; Occlusion and Integrated gradients need none"
        )
    K = len(run.model.skeleton)
    tags = 0 if run.outputs.tags is None else run.outputs.tags.shape[1]
    known = (K, tags, K + tags)
    wide = {tap: h * w for tap, (C, h, w) in sizes.items() if C not in known and min(h, w) > 1}
    if not wide:
        return list(sizes)[-1]
    coarsest = min(wide.values())
    return [tap for tap, cells in wide.items() if cells == coarsest][-1]


def layers_of(run: Run, n: int, score: Callable[[Tensor], Tensor]) -> dict[str, tuple[int, ...]]:
    """Taps whose output is a map, in the order in which they ran -> the map's shape (C, h, w).

    Args:
        run: of the model.
        n: a sample.
        score: that passes it.
    """
    import torch

    shapes: dict[str, tuple[int, ...]] = {}

    def measure(name: str) -> Callable[[Tensor], Tensor]:
        def look(output: Tensor) -> Tensor:
            if isinstance(output, torch.Tensor) and output.ndim == 4 and output.is_floating_point():
                shapes.pop(name, None)
                shapes[name] = tuple(output.shape[1:])
            return output

        return look

    model = run.model
    # Attention weights [N, heads, T, T] look like maps and are none.
    never = model.attention.weights if isinstance(model, HasAttention) else ()
    edits = {tap: measure(tap) for tap, path in model.taps.items() if path not in never}
    with torch.no_grad(), replacing(model.module, model.taps, edits), evaluating(model.module):
        score(run.batch.pixels[n : n + 1])
    return shapes
