"""A bottom-up model that says what was planted: perfect maps of the annotated people, whatever it sees."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import nn

from workbench.core import Outputs, Sample
from workbench.models.bottom_up import BottomUp, true_outputs

SIGMA = 2.0


def planted(pose_set, image_ids, input_size=128, resolutions=2, through=None, **changes):
    """A BottomUp model for these images, plainly and mirrored.

    resolutions: 2 gives coarse heatmaps as well, as HigherHRNet does.
    through: a network that is asked and not listened to, for its cost.
    """
    model = BottomUp(
        nn.Identity(), pose_set.skeleton, len(pose_set.skeleton), input_size=input_size, **changes
    )
    answers: dict[bytes, Outputs] = {}
    for image_id in image_ids:
        image = pose_set.image(image_id)
        h, w = image.shape[:2]
        batch = model.prepare([Sample(image, (0, 0, w, h))])
        H, W = batch.pixels.shape[-2:]
        K = len(pose_set.skeleton)
        blank = Outputs(
            heatmaps=torch.zeros(1, K, H // 2, W // 2),
            coarse=torch.zeros(1, K, H // 4, W // 4) if resolutions == 2 else None,
            tags=torch.zeros(1, K, H // 4, W // 4),
        )
        like = dataclasses.replace(blank, passes={"mirrored": blank})
        people = [i.truth for i in pose_set.instances if i.image_id == image_id]
        given = true_outputs(model, like, batch, [np.stack(people)], SIGMA)
        answers[_digest(batch.pixels.flip(-1))] = given.passes["mirrored"]
        answers[_digest(batch.pixels)] = dataclasses.replace(given, passes={})

    def call(pixels):
        if through is not None:
            through(pixels)
        return answers[_digest(pixels)]

    return dataclasses.replace(model, call=call)


def _digest(pixels):
    return pixels[0, :, ::7, ::5].contiguous().numpy().tobytes()
