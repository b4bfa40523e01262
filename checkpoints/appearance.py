"""What may a drawn scene look like? Changes of appearance that keep every coordinate where it is.

Drawn textures are cleaner than photographs; a network that has only seen clean ones answers to edges
that no photograph has. Grey, blur, noise, blocks and JPEG-like quantisation take that shortcut away.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmpose.registry import TRANSFORMS


@TRANSFORMS.register_module()
class DrawnAppearance(BaseTransform):
    """The image with its appearance changed at random; keypoints are untouched.

    Args:
        strength: probability scale of each change, 0 (never) to 1.
    """

    def __init__(self, strength: float = 0.5) -> None:
        self.strength = strength

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """A new image under `img`."""
        image = results["img"].copy()
        for change, share in ((_grey, 0.25), (_blur, 0.4), (_gamma, 0.5), (_noise, 0.5), (_block, 0.6)):
            if np.random.rand() < share * self.strength:  # noqa: NPY002 - mmengine seeds the global generator
                image = change(image)
        return {**results, "img": image}


def _grey(image: np.ndarray) -> np.ndarray:
    return np.repeat(image.mean(2, keepdims=True), 3, 2).astype(np.uint8)


def _blur(image: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), np.random.uniform(0.4, 2.0))  # noqa: NPY002


def _gamma(image: np.ndarray) -> np.ndarray:
    exponent = np.exp(np.random.uniform(-0.7, 0.7))  # noqa: NPY002
    return cv2.LUT(image, (255 * (np.arange(256) / 255) ** exponent).astype(np.uint8))


def _noise(image: np.ndarray) -> np.ndarray:
    noise = np.random.randn(*image.shape) * np.random.uniform(2, 16)  # noqa: NPY002
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _block(image: np.ndarray) -> np.ndarray:
    """One rectangle of one colour, up to a third of the side: something stands in front."""
    H, W = image.shape[:2]
    h, w = (np.random.uniform(0.08, 0.35, 2) * (H, W)).astype(int)  # noqa: NPY002
    y, x = np.random.randint(0, H - h), np.random.randint(0, W - w)  # noqa: NPY002
    image = image.copy()
    image[y : y + h, x : x + w] = np.random.randint(0, 256, 3)  # noqa: NPY002
    return image
