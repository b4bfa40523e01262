"""A bottom-up model and a data set known by hand; given to the app as a user gives an adapter.

Keypoint k of a person is one pixel: red 12 (k + 1), green its heatmap value (255 is 1), blue
16 times its tag.
Every picture has two people: one of value 1 and tag 2, one of value .5 and tag 8.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from workbench.core import Outputs
from workbench.models.bottom_up import BottomUp
from workbench.skeletons import SKELETONS

SIDE = 64
# No keypoint has a partner: a picture turned about has the same codes.
COCO = dataclasses.replace(SKELETONS["coco-17"], mirror=tuple(range(17)))
PEOPLE = ((255, 32), (128, 128))  # green and blue of each


class Crowded(nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, pixels):
        red, green, blue = pixels[:, :1], pixels[:, 1:2], pixels[:, 2:]
        wanted = 12.0 * (torch.arange(len(COCO)) + 1).view(1, -1, 1, 1)
        here = (1 - (red - wanted).abs() / 6).clamp_min(0)
        return Outputs(heatmaps=here * green / 255, tags=blue.expand_as(here) / 16 + 0 * self.unused)


def load(checkpoint, device):
    from workbench.checkpoints.loading import load_state

    module = Crowded()
    report = load_state(module, checkpoint)
    black, white = (0.0,) * 3, (1.0,) * 3
    return BottomUp(module.eval(), COCO, tags=17, input_size=SIDE, mean=black, std=white), report


def write_run(folder: Path) -> None:
    folder.mkdir(parents=True)
    torch.save({"state_dict": {"unused": torch.zeros(1)}, "meta": {"epoch": 1}}, folder / "epoch_1.pth")


def cells(number: int, person: int) -> np.ndarray:
    """(x, y) of the keypoints in picture `number`: a column of 17 rows, so that no two lie in one window."""
    k = np.arange(len(COCO))
    return np.stack([8 + 30 * person + 6 * (k % 3) + number % 4, 4 + 3 * k], -1)


def write_data(folder: Path, count: int) -> Path:
    """A COCO-format json with its pictures beside it."""
    from workbench.data.images import write_image

    images, annotations = [], []
    for number in range(1, count + 1):
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        for person, (green, blue) in enumerate(PEOPLE):
            for k, (x, y) in enumerate(cells(number, person)):
                pixels[y, x] = 12 * (k + 1), green, blue
            # A quarter cell back and half a cell on: where the protocol puts a peak without neighbours.
            points = np.concatenate([cells(number, person) + 0.25, np.full((17, 1), 2)], 1)
            annotations.append(
                {"id": 10 * number + person, "image_id": number, "category_id": 1, "iscrowd": 0,
                 "area": 1500.0, "bbox": [6 + 30 * person, 2, 20, 56], "num_keypoints": 17,
                 "keypoints": points.ravel().tolist()}
            )  # fmt: skip
        write_image(folder / f"{number:06d}.png", pixels)
        images.append({"id": number, "file_name": f"{number:06d}.png", "width": SIDE, "height": SIDE})
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints), "skeleton": []}]
    path = folder / "crowded.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path
