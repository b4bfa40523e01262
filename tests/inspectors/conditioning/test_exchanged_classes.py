"""Two classes whose conditions are exchanged are named with what it costs; healthy ones are not accused."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from workbench.core import Codec, Outputs, Skeleton
from workbench.data.coco import read_coco
from workbench.inspectors.conditioning.clinic import examine
from workbench.inspectors.conditioning.exchanged_classes import exchanged_classes
from workbench.inspectors.conditioning.findings import CLASSES_EXCHANGED
from workbench.models import TopDown
from workbench.models.conditioning import ByTaps

SIDE, NAMES = 64, ("fish", "frog", "newt")


class Net(nn.Module):
    """Each class has its only keypoint at the spot of its own colour: γ chooses the channel."""

    def __init__(self, rows=(0, 1, 2)):
        super().__init__()
        self.embedding, self.film = nn.Embedding(3, 3), nn.Identity()
        self.embedding.weight.data = torch.eye(3)[list(rows)]

    def forward(self, pixels, classes):
        colours = nn.functional.avg_pool2d(pixels, 9, 4, 4)
        chosen = self.embedding(classes)
        scale, shift = self.film(torch.cat([chosen, chosen * 0], 1)).chunk(2, 1)
        return (scale[..., None, None] * colours + shift[..., None, None]).sum(1, keepdim=True)


class Model(TopDown):
    def prepare(self, samples):
        classes = torch.tensor([sample.category_id for sample in samples])
        return dataclasses.replace(super().prepare(samples), extra={"classes": classes})

    def forward(self, batch):
        return Outputs(heatmaps=self.module(batch.pixels, batch.extra["classes"]))


def model(rows=(0, 1, 2)):
    codec = Codec("heatmap", (SIDE, SIDE), (16, 16), sigma=(2.0, 2.0), decoder="argmax")
    one = Skeleton("spot", ("spot",), sigmas=(0.1,))
    return ByTaps(
        Model(Net(rows).eval(), one, codec, mean=(0, 0, 0), std=(255, 255, 255)), "film", ("embedding",)
    )


@pytest.fixture(scope="module")
def spots(tmp_path_factory):
    """Six images of each class, each with a red, a green and a blue spot."""
    folder, rng = tmp_path_factory.mktemp("spots"), np.random.default_rng(0)
    facts = {"images": [], "annotations": []}
    facts["categories"] = [
        {"id": i, "name": n, "keypoints": ["spot"], "skeleton": []} for i, n in enumerate(NAMES)
    ]
    for i in range(18):
        image, places = np.zeros((SIDE, SIDE, 3), np.uint8), rng.permutation(16)[:3]
        for colour, place in enumerate(places):
            x, y = 8 + 16 * (place % 4), 8 + 16 * (place // 4)
            image[y - 3 : y + 4, x - 3 : x + 4, 2 - colour] = 255  # cv2 writes BGR
            if colour == i % 3:
                own = {"id": i + 1, "image_id": i, "category_id": i % 3, "keypoints": [int(x), int(y), 2]}
        facts["images"].append({"id": i, "file_name": f"{i}.png", "height": SIDE, "width": SIDE})
        facts["annotations"].append(
            {**own, "num_keypoints": 1, "bbox": [0, 0, SIDE, SIDE], "area": SIDE * SIDE / 4, "iscrowd": 0}
        )
        cv2.imwrite(str(folder / f"{i}.png"), image)
    (folder / "spots.json").write_text(json.dumps(facts))
    read = read_coco(folder / "spots.json", folder)
    return dataclasses.replace(read, skeleton=dataclasses.replace(read.skeleton, sigmas=(0.1,)))


@pytest.mark.parametrize(
    ("rows", "pairs"),
    [
        ((0, 1, 2), ""),
        ((1, 0, 2), "fish with that of frog, frog with that of fish"),
        ((1, 2, 0), "fish with that of newt, frog with that of fish, newt with that of frog"),
        ((0, 0, 0), ""),  # two classes have no vector of their own: none can be given back
        ((0, 0, 2), ""),
    ],
)
def test_exchanged_classes_are_named_and_others_are_not(spots, rows, pairs):
    found = exchanged_classes(model(rows), spots, spots.labelled)
    if not pairs:
        assert found is None
        return
    assert found is not None
    assert found.effect is not None
    assert found.evidence.endswith(pairs)
    assert found.effect.low > 0.2
    # The healthy network finds every spot within half a cell.
    assert found.numbers[0].value > 0.9


def test_too_few_instances_say_nothing(spots):
    assert exchanged_classes(model((1, 0, 2)), spots, spots.labelled[:6]) is None


def test_the_clinic_puts_them_first_and_does_not_accuse_the_healthy_network(spots):
    for rows, accused in (((0, 1, 2), False), ((1, 0, 2), True)):
        loaded: Any = SimpleNamespace(model=model(rows), title="net")
        report = examine(loaded, spots, list(spots.labelled), samples=6)
        assert (CLASSES_EXCHANGED in report.names[:1]) is accused
        assert (CLASSES_EXCHANGED in report.summary()) is accused
