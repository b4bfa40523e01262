"""A network that writes keypoints one after the other, as `workbench rollout` and `look prefix` ask it.

`prepare` puts two things beside the image: ``given``, the true tokens [N, K, 2], (x, y) in 0..1 and nan where
nothing is annotated; and ``support``, the example's points [N, shots, K, 2]. `forward` reads ``given`` before
each step: teacher forcing. `rollout` reads its own answers there: inference. `supported_by` puts another
example in, so that it can be asked whether the support is read at all.
"""

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from workbench.checkpoints.loading import load_state
from workbench.core import Batch, Outputs, Prediction, Sample, Skeleton, geometry

SIZE = (32, 32)  # (height, width) of the input, pixels
FIVE = Skeleton("five", ("a", "b", "c", "d", "e"), sigmas=(0.05,) * 5)


class Net(nn.Module):
    """One step: from the image, the token before and the support's point to the next token."""

    def __init__(self):
        super().__init__()
        self.look = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.Flatten(), nn.Linear(8 * 16, 16))
        self.step = nn.Sequential(nn.Linear(16 + 4, 32), nn.ReLU(), nn.Linear(32, 2), nn.Sigmoid())

    def forward(self, seen, before, wanted):
        return self.step(torch.cat([seen, before, wanted], -1))


@dataclass(frozen=True, eq=False)
class Writer:
    """The protocol of a sequence model: see workbench.inspectors.sequence.rollout.SequenceModel."""

    module: nn.Module
    skeleton: Skeleton
    support: tuple[Sample, ...] = ()
    taps: dict = field(default_factory=lambda: {"look": "look", "step": "step"})
    codec: None = None

    def supported_by(self, support, skeleton=None):
        return dataclasses.replace(self, support=tuple(support), skeleton=skeleton or self.skeleton)

    def prepare(self, samples):
        pixels, affines = self.cropped(samples)
        given = np.stack([self.tokens(s, a) for s, a in zip(samples, affines, strict=True)])
        support = given[:, None]  # without an example each sample is its own
        if self.support:
            _, maps = self.cropped(self.support)
            points = np.stack([self.tokens(s, a) for s, a in zip(self.support, maps, strict=True)])
            support = np.broadcast_to(points, (len(samples), *points.shape))
        extra = {"given": torch.tensor(given).float(), "support": torch.tensor(support.copy()).float()}
        return Batch(pixels, affines, tuple(samples), extra)

    def forward(self, batch):
        return self.written(batch, forced=len(self.skeleton))

    def rollout(self, batch, forced=0):
        return self.written(batch, forced)

    def written(self, batch, forced):
        seen = self.module.look(batch.pixels)
        given, wanted = batch.extra["given"], batch.extra["support"].nanmean(1).nan_to_num(0.5)
        before, answers = torch.full_like(given[:, 0], 0.5), []
        for t in range(given.shape[1]):
            answers.append(self.module(seen, before, wanted[:, t]))
            true = given[:, t]
            before = torch.where(true.isnan() | (t >= forced), answers[-1], true)
        return Outputs(tokens={"coordinates": torch.stack(answers, 1)})

    def objective(self, outputs, batch):
        """What `workbench overfit --adapter` minimises: parts by name."""
        far = (outputs.tokens["coordinates"] - batch.extra["given"]).abs()
        return {"loss_coordinates": far[~far.isnan()].mean()}

    def decode(self, outputs, batch, options):
        H, W = SIZE
        points = outputs.tokens["coordinates"].detach().double().numpy() * (W - 1, H - 1)
        found = zip(points, batch.to_image, batch.samples, strict=True)
        return tuple(Prediction(geometry.apply(a, p), np.ones(len(p)), s.box) for p, a, s in found)

    def cropped(self, samples):
        pixels, affines = np.empty((len(samples), *SIZE, 3), np.float32), np.empty((len(samples), 2, 3))
        for n, sample in enumerate(samples):
            region = geometry.crop_region(sample.box, SIZE, 1.25)
            # udp: the outermost pixels' centres span the crop, so that tokens 0 and 1 are places in it.
            pixels[n] = geometry.crop(sample.image, *region, SIZE, udp=True) / 255
            affines[n] = geometry.input_to_image(*region, SIZE, udp=True)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), affines

    def tokens(self, sample, affine):
        if sample.truth is None:
            return np.full((len(self.skeleton), 2), np.nan)
        H, W = SIZE
        truth = np.asarray(sample.truth, float)
        points = geometry.apply(geometry.inverse(affine), truth[:, :2]) / (W - 1, H - 1)
        return np.where((truth[:, 2] > 0)[:, None], points, np.nan)


def load(checkpoint, device):
    torch.manual_seed(0)
    net = Net().to(device)
    report = None if checkpoint is None else load_state(net, checkpoint)
    return Writer(net, FIVE), report
