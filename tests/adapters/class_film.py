"""A network conditioned by a class embedding: with ByTaps the clinic and its inspectors work on it."""

import dataclasses

import torch
from class_film_net import ClassFilm

from workbench.core import Codec, Outputs
from workbench.core.conditioning import Refiner
from workbench.models import TopDown
from workbench.models.conditioning import ByTaps
from workbench.skeletons import SKELETONS


class Model(TopDown):
    def prepare(self, samples):
        classes = torch.tensor([sample.category_id for sample in samples])
        return dataclasses.replace(super().prepare(samples), extra={"classes": classes})

    def forward(self, batch):
        return Outputs(heatmaps=self.module(batch.pixels, batch.extra["classes"]))


def load(checkpoint, device, net=None):
    codec = Codec("heatmap", (64, 64), (16, 16), sigma=(2.0, 2.0), decoder="argmax")
    model = Model((net or ClassFilm()).eval(), SKELETONS["ap10k-17"], codec)
    taps = {"before": "block.entering", "after": "block.modulated", "gate": "block.gate"}
    refiner = Refiner(("head",), ("refiner",), "refiner", threshold=0.3)
    return ByTaps(model, "block.film", ("block.embedding",), refiner=refiner, **taps)
