"""What stands in place of pixels that are taken away: zeros, the mean of the input, or a blurred copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

Baseline = Literal["zero", "mean", "blurred"]
"""zero: the mean colour of the training data for a normalised input, black for one that is not. mean: the
mean colour of this input. blurred: this input without its details, which leaves the colours of the
surroundings."""

BASELINES: tuple[str, ...] = get_args(Baseline)

BLUR = (
    1 / 12
)  # standard deviation of the blur, share of the input's longer side: limbs vanish, the body stays


def baseline(pixels: Tensor, kind: Baseline) -> Tensor:
    """The input [3, H, W] that stands for nothing being seen.

    Args:
        pixels: the input [3, H, W].
        kind: see `Baseline`.
    """
    import cv2
    import numpy as np
    import torch

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
