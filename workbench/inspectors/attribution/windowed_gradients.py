"""Backward passes of convolutions restricted to the windows in which gradients are not zero.

The gradient of one keypoint's peak begins at a single cell of the output maps. Behind a convolution of 4 x 4
it covers 2 x 2 cells, and the rest of the map is exactly zero, which a dense backward pass computes all the
same. Here the gradients of all targets, one in each row of a batch, are cut to windows of one common size
around what is not zero. The sums are those of the dense pass without their zeros, for any weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from torch import Tensor

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
