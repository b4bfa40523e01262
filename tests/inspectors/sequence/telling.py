"""A sequence model, no relative of cape, that says all that the lab can ask for; known by hand.

Step t adds to the last token the stride from support point t - 1 to point t; step 0 is the first support
point itself. Every error is handed on unchanged, and with a support of zeros all answers lie at 0.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from workbench.core import Batch, Outputs, Prediction, Sample, Skeleton, geometry

SIDE = 21
SKELETON = Skeleton("line-3", ("a", "b", "c"), ((0, 1), (1, 2)))


class Strides(nn.Module):
    """What can be learned: a push on every answer, through a layer that stands for a network."""

    def __init__(self):
        super().__init__()
        self.push = nn.Linear(2, 2, bias=False)
        self.ends = nn.Parameter(torch.tensor([-4.0, 4.0]))  # logit of the end at the keypoints, and after
        self.register_buffer("taught", torch.zeros((), dtype=torch.long))
        nn.init.zeros_(self.push.weight)


class Telling:
    """The crop begins at the box's corner, one image pixel per input pixel; tokens are pixels / 20."""

    token_types = ("coordinate", "separator", "end")
    size = (SIDE, SIDE)

    def __init__(self):
        self.module, self.skeleton, self.codec = Strides().eval(), SKELETON, None
        self.taps = {"push": "push"}
        self.support = ()

    def examples(self, n):
        """So many samples, each moved by two pixels more."""
        return tuple(bent(2 * i) for i in range(n))

    def supported_by(self, support, skeleton=None):
        other = Telling()
        other.module, other.support = self.module, tuple(support)
        return other

    def prepare(self, samples):
        crops, affines, given = [], [], []
        for s in samples:
            x, y = round(s.box[0]), round(s.box[1])
            crops.append(torch.tensor(s.image[y : y + SIDE, x : x + SIDE]).permute(2, 0, 1) / 255)
            affines.append(np.array([[1.0, 0, x], [0, 1, y]]))
            given.append(self._tokens(s))
        support = [[self._tokens(s) for s in self.support or (own,)] for own in samples]
        extra = {
            "given": torch.tensor(np.stack(given), dtype=torch.float32),
            "support": torch.tensor(np.array(support), dtype=torch.float32),
            "support_visible": torch.tensor(np.isfinite(support).all(-1)),
        }
        return Batch(torch.stack(crops), np.stack(affines), tuple(samples), extra)

    def forward(self, batch):
        return self._outputs(batch, batch.extra["given"][:, :-1])

    def rollout(self, batch, forced=0):
        given = batch.extra["given"]
        if isinstance(forced, int):
            forced = (torch.arange(given.shape[1]) < forced).expand(given.shape[:2])
        read = given[:, :0]
        for t in range(given.shape[1]):
            answer = self._answers(batch, read)[:, -1]
            read = torch.cat([read, torch.where(forced[:, t, None], given[:, t], answer)[:, None]], 1)
        outputs = self._outputs(batch, read[:, :-1])
        return Outputs(tokens={**outputs.tokens, "read": read})

    def decode(self, outputs, batch, options=None):
        points = outputs.tokens["coordinates"].detach().double().numpy() * (SIDE - 1)
        return tuple(
            Prediction(geometry.apply(a, p), np.ones(len(p)), s.box)
            for a, p, s in zip(batch.to_image, points, batch.samples, strict=True)
        )

    def _tokens(self, sample):
        if sample.truth is None:
            return np.full((len(SKELETON), 2), np.nan)
        corner = np.round(sample.box[:2])
        truth = np.asarray(sample.truth, float)
        return np.where(truth[:, 2:] > 0, (truth[:, :2] - corner) / (SIDE - 1), np.nan)

    def _answers(self, batch, read):
        """Answers of as many steps as there are tokens to read, and one more."""
        points = batch.extra["support"].nan_to_num(0).mean(1)[:, : read.shape[1] + 1]
        strides = torch.diff(points, dim=1, prepend=points[:, :1] * 0)
        before = torch.cat([points[:, :1] * 0, read], 1)
        return before + strides + self.module.push(before)

    def _outputs(self, batch, read):
        coordinates = self._answers(batch, read.nan_to_num(0))
        N, K = coordinates.shape[:2]
        ends = self.module.ends[[0] * K + [1]].expand(N, -1)
        types = torch.stack([ends * 0, ends * 0 - 9, ends], -1)
        light = batch.pixels.mean(1).flatten(1).add(1e-3)
        maps = (light / light.sum(1, keepdim=True)).view(N, 1, SIDE, SIDE).expand(-1, K + 1, -1, -1)
        reads = torch.eye(K).mul(0.7).add(0.3 / K)[[*range(K), K - 1]].expand(N, -1, -1)
        return Outputs(
            tokens={
                "coordinates": coordinates,
                "types": types,
                "attention_image": maps,
                "attention_support": reads,
                "layers": torch.cat([coordinates, coordinates[:, -1:]], 1)[None],
                "type_layers": types[None],
            }
        )


def load(checkpoint, device):
    """As --adapter calls it."""
    return Telling()


def bent(shift=0):
    """Three points, 12 and 6 pixels apart, in a box of 20; the lit pixel is the last point."""
    image = np.zeros((40, 40, 3), np.uint8)
    image[16, 17 + shift] = 255
    truth = np.array([[5.0 + shift, 10, 2], [17 + shift, 10, 2], [17 + shift, 16, 2]])
    return Sample(image, (3, 4, 23, 24), truth, key=f"bent/{shift}", image_id=shift)
