"""A network whose heatmaps are known by hand: three channels of the picture, three keypoints.

Keypoint k is a Gaussian in colour channel k of the picture. The network samples its input every four pixels,
so a map is the Gaussian at the keypoint, exactly as a training with that codec leaves it: ``plain`` samples
pixel 4 i for cell i, ``UDP`` spreads the cells from the first pixel to the last.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from workbench.core import Codec, Outputs, Skeleton
from workbench.data import read_coco
from workbench.models import TopDown

SIZE, CELLS = (64, 48), (16, 12)
SIDE = 4
# Each its own partner: a mirrored dot has its colour still. Small sigmas: AP feels a pixel.
THREE = Skeleton("dots-3", ("red", "green", "blue"), ((0, 1),), (0, 1, 2), (0.025,) * 3, "made up")
SIGMA = 6.0  # of a dot, pixels: 1.5 cells


class Dots(nn.Module):
    """Maps of the three channels at the cells."""

    def __init__(self, cells: str = "plain"):
        super().__init__()
        (H, W), (h, w) = SIZE, CELLS
        if cells == "plain":
            rows, columns = np.arange(h) * SIDE, np.arange(w) * SIDE
        else:
            rows, columns = np.linspace(0, H - 1, h), np.linspace(0, W - 1, w)
        y, x = np.meshgrid(rows / (H - 1) * 2 - 1, columns / (W - 1) * 2 - 1, indexing="ij")
        self.register_buffer("grid", torch.tensor(np.stack([x, y], -1)[None], dtype=torch.float32))
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, pixels):
        grid = self.grid.expand(len(pixels), -1, -1, -1)
        maps = nn.functional.grid_sample(pixels * self.scale, grid, align_corners=True)
        return Outputs(heatmaps=maps)


def model(decoder="dark", udp=False, cells="", shift=False, warp_udp=None):
    """The network with a declared codec; `cells` is how it samples, by default as the codec says."""
    codec = Codec("heatmap", SIZE, CELLS, (1.5, 1.5), udp=udp, decoder=decoder, blur_kernel=3)
    network = Dots(cells or ("UDP" if udp else "plain"))
    return TopDown(
        network.eval(), THREE, codec, (0.0,) * 3, (255.0,) * 3, padding=1.0, warp_udp=warp_udp,
        shift_heatmap=shift,
    )  # fmt: skip


def data(folder: Path, count: int = 16, seed: int = 0):
    """A set of pictures, one instance each, keypoints between the pixels."""
    from workbench.data.images import write_image

    H, W = SIZE
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:H, :W]
    images, annotations = [], []
    for number in range(1, count + 1):
        points = rng.uniform([12, 12], [W - 13, H - 13], (3, 2))
        pixels = np.zeros((H, W, 3))
        for k, (x, y) in enumerate(points):
            pixels[..., k] = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2 / SIGMA**2)
        write_image(folder / f"{number}.png", pixels.round().astype(np.uint8))
        images.append({"id": number, "file_name": f"{number}.png", "height": H, "width": W})
        flat = np.concatenate([points, np.full((3, 1), 2)], 1).ravel().tolist()
        annotations.append(
            {
                "id": number, "image_id": number, "category_id": 1, "keypoints": flat, "num_keypoints": 3,
                "bbox": [0, 0, W, H], "area": float(H * W), "iscrowd": 0,
            }
        )  # fmt: skip
    categories = [{"id": 1, "name": "dots", "keypoints": list(THREE.keypoints), "skeleton": []}]
    path = folder / "dots.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return replace(read_coco(path), skeleton=THREE)
