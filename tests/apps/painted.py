"""A model and a data set whose every number is known by hand; given to the app as a user gives an adapter.

Keypoint k is one pixel of red value 12 (k + 1) on black. The network finds exactly that pixel, moved right by
the `shift` that its checkpoint holds, after sleeping for the `delay` that it holds.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from workbench.core import Codec, Outputs
from workbench.models import TopDown
from workbench.skeletons import SKELETONS

SIZE = (64, 48)
CORNER = (10, 6)  # x, y of the box's corner in the image
COCO = SKELETONS["coco-17"]


class Painted(nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))
        self.delay = nn.Parameter(torch.zeros(1))
        self.seen = nn.Identity()

    def forward(self, pixels):
        time.sleep(float(self.delay) * len(pixels))
        pixels = self.seen(pixels)
        wanted = 12.0 * (torch.arange(len(COCO)) + 1).view(1, -1, 1, 1)
        maps = (1 - (pixels[:, :1] - wanted).abs() / 6).clamp_min(0)
        found = torch.roll(maps, round(float(self.shift)), dims=-1)
        # A faint rise to the right: the right neighbour of every peak is the higher one.
        rise = torch.linspace(0, 0.02, maps.shape[-1])
        return Outputs(heatmaps=found + rise + 0 * (self.shift + self.delay))


def load(checkpoint, device):
    from workbench.checkpoints.loading import load_state

    module = Painted()
    report = load_state(module, checkpoint)
    codec = Codec("heatmap", SIZE, SIZE, sigma=(1.0, 1.0))
    return TopDown(module.eval(), COCO, codec, (0.0,) * 3, (1.0,) * 3, padding=1.0, device=device), report


def write_checkpoint(path: Path, epoch: int, shift: float, delay: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"shift": torch.tensor([float(shift)]), "delay": torch.tensor([float(delay)])}
    torch.save({"state_dict": state, "meta": {"epoch": epoch}}, path)


def truth(number: int) -> np.ndarray:
    """(x, y) in the image of the keypoints in picture `number`, at least 8 px from the crop's right edge."""
    random = np.random.default_rng(number)
    cells = random.choice(40 * 64, len(COCO), replace=False)
    return np.stack([cells % 40 + CORNER[0], cells // 40 + CORNER[1]], 1)


def write_data(folder: Path, count: int) -> Path:
    from workbench.data.images import write_image

    (folder / "images").mkdir(parents=True, exist_ok=True)
    H, W = SIZE
    images, annotations = [], []
    for number in range(1, count + 1):
        pixels = np.zeros((H + 16, W + 24, 3), np.uint8)
        points = truth(number)
        for k, (x, y) in enumerate(points):
            pixels[y, x, 0] = 12 * (k + 1)
        write_image(folder / "images" / f"{number:06d}.png", pixels)
        images.append({"id": number, "file_name": f"{number:06d}.png", "height": H + 16, "width": W + 24})
        flat = np.concatenate([points, np.full((len(points), 1), 2)], 1).ravel().tolist()
        annotations.append(
            {
                "id": 100 + number, "image_id": number, "category_id": 1, "keypoints": flat,
                "num_keypoints": len(points), "bbox": [*CORNER, W, H], "area": float(H * W), "iscrowd": 0,
            }
        )  # fmt: skip
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints), "skeleton": []}]
    path = folder / "painted.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def one_run(place: Path):
    """Settings over one run of one epoch and a set of four images, all below a folder."""
    from apps.server.settings import Settings

    write_checkpoint(place / "root" / "run" / "epoch_1.pth", 1, 0)
    data = write_data(place / "data", 4)
    return Settings(root=place / "root", data=(data,), cache=place / "cache", adapter=Path(__file__))
