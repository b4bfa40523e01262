"""A top-down network whose answers are known by hand: it looks for coloured discs.

Every keypoint of a sample is a disc of its own colour on grey, as large as a fixed share of the box; a small
and a large disc of every colour lie about. Heatmap k is high where the *normalised* input has colour k in a
disc of the expected size. So every fault of the input costs it something: another normalisation or channel
order changes the colours, another padding the size.

`sided` figures have one colour for a pair: left is what lies on the right half of the crop, as of a figure
that faces us. Their mirror image is a figure as well, with left and right exchanged; nothing else lies about.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import nn

from workbench.core import Codec, Sample, Skeleton
from workbench.models import TopDown

COLOURS = np.array([
    [235, 60, 40], [40, 90, 235], [60, 210, 70], [230, 200, 40], [200, 60, 210], [50, 205, 215],
])  # fmt: skip
GREY = (120, 125, 118)
SIX = Skeleton(
    "discs-6", ("left_eye", "right_eye", "left_hand", "right_hand", "left_foot", "right_foot"),
    ((0, 1), (2, 3), (4, 5)), (1, 0, 3, 2, 5, 4), (0.05,) * 6, "made up",
)  # fmt: skip
SIZE = (112, 84)  # height, width
SHARE = 0.06  # radius of a disc, share of the box's height
PADDING = 1.25
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class Discs(nn.Module):
    """Heatmaps at a quarter of the input's size.

    Args:
        udp: cells lie where UDP has them; else cell i lies at pixel 4 i.
        sided: one colour for a pair, sides by halves of the crop.
        doubled: every map also shows the partner's place, as of a network trained with wrong flips.
    """

    def __init__(self, udp=False, sided=False, doubled=False):
        super().__init__()
        colours = (colours_of(sided) - np.array(MEAN)) / np.array(STD)
        self.register_buffer("colours", torch.tensor(colours, dtype=torch.float32))
        radius = 0.88 * SHARE * SIZE[0] / PADDING  # input pixels; the contrast peaks inside
        self.side = 2 * int(np.ceil(1.8 * radius)) + 1
        far = np.hypot(*(np.mgrid[: self.side, : self.side] - self.side // 2))
        inner = np.exp(-((far / radius) ** 2) * 2)
        outer = (far > 1.15 * radius) & (far < 1.8 * radius)
        kernel = inner / inner.sum() - 0.8 * outer / outer.sum()
        self.register_buffer("kernel", torch.tensor(kernel, dtype=torch.float32)[None, None])
        self.udp, self.sided, self.doubled = udp, sided, doubled

    def forward(self, pixels):
        far = (pixels[:, None] - self.colours[None, :, :, None, None]).pow(2).sum(2)
        alike = torch.exp(-far / 0.6)
        N, K, H, W = alike.shape
        maps = nn.functional.conv2d(alike.flatten(0, 1)[:, None], self.kernel, padding=self.side // 2)
        maps = maps.unflatten(0, (N, K))[:, :, 0]
        if self.sided:
            right_half = (torch.arange(W) > (W - 1) / 2).float()
            left, right = (right_half, 1 - right_half)
            maps = maps * torch.stack([left, right] * 3)[None, :, None]
        if self.udp:
            maps = nn.functional.interpolate(maps, (H // 4, W // 4), mode="bilinear", align_corners=True)
        else:
            maps = maps[..., ::4, ::4]
        maps = maps.clamp(min=1e-4)
        return maps + 0.95 * maps[:, list(SIX.mirror)] if self.doubled else maps


def colours_of(sided):
    """The colour of each keypoint."""
    return COLOURS[[0, 0, 2, 2, 4, 4]] if sided else COLOURS


def model(udp=False, trained_udp=None, sided=False, doubled=False, skeleton=SIX, **changes):
    """The healthy model; `trained_udp` where its codec says something else than it was trained with."""
    codec = Codec("heatmap", SIZE, (SIZE[0] // 4, SIZE[1] // 4), udp=udp, decoder="dark", blur_kernel=5)
    network = Discs(udp if trained_udp is None else trained_udp, sided, doubled).eval()
    return TopDown(network, skeleton, codec, **changes)


OTHERS = ((0.6, (0.5, 0.3)), (1.65, (0.5, 0.68)))  # radius and place of the smaller and the larger discs


def samples(n=10, seed=0, sided=False):
    """Pictures of 200 x 260 pixels with one figure each."""
    random = np.random.default_rng(seed)
    made = []
    for i in range(n):
        image = np.empty((200, 260, 3), np.float32)
        image[:] = GREY
        image += random.normal(0, 6, image.shape)
        height = random.uniform(80, 130)
        width = height * random.uniform(0.55, 0.8)
        x0, y0 = random.uniform(35, 225 - width), random.uniform(30, 170 - height)
        # Left is right in the picture, as of a figure that faces us; eyes above hands above feet.
        places = np.array([[0.7, 0.12], [0.3, 0.12], [0.86, 0.5], [0.14, 0.5], [0.72, 0.88], [0.28, 0.88]])
        places = places + random.uniform(-0.07, 0.07, places.shape)
        points = places * (width, height) + (x0, y0)
        own = colours_of(sided)
        for colour, (x, y) in zip(own, points, strict=True):
            disc(image, x, y, SHARE * height, colour)
        for factor, (x, y) in () if sided else OTHERS:
            for k, colour in enumerate(own):
                # A row of them across the figure, away from its keypoints.
                across = (k - 2.5) * (0.09 if factor < 1 else 0.155)
                disc(image, x0 + (x + across) * width, y0 + y * height, factor * SHARE * height, colour)
        truth = np.concatenate([points, np.full((6, 1), 2.0)], 1)
        box = (x0, y0, x0 + width, y0 + height)
        made.append(
            Sample(image.clip(0, 255).astype(np.uint8), box, truth, key=f"discs/{i}", image_id=i,
                   annotation_id=i + 1, area=width * height * 0.6, path=f"{i}.png")
        )  # fmt: skip
    return made


def disc(image, x, y, radius, colour):
    """Draw a disc with the precision of a sixteenth of a pixel."""
    place = (round(float(x) * 16), round(float(y) * 16))
    cv2.circle(image, place, round(radius * 16), tuple(float(c) for c in colour), -1, cv2.LINE_AA, 4)
