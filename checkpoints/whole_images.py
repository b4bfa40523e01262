"""What is a bottom-up network shown in training? Whole scenes, turned, scaled, mirrored and recoloured.

Image and truth go through one affine; keypoints that leave the picture become unlabelled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from workbench.core import Sample, geometry
from workbench.data import PoseSet


@dataclasses.dataclass(frozen=True)
class Change:
    """How far scenes are changed.

    Attributes:
        turn: degrees either way.
        scale: least and largest factor on the scene; above 1 its borders are lost.
        light: standard deviation of the factor on each colour, and of the one on all.
    """

    turn: float = 12.0
    scale: tuple[float, float] = (0.85, 1.5)
    light: float = 0.12


class Scenes:
    """An Augment for the Trainer that draws another batch of scenes before every step."""

    def __init__(self, pose_set: PoseSet, batch: int, change: Change | None = None, small: int = 1) -> None:
        """Read every image once and keep it.

        Args:
            pose_set: with truth.
            batch: scenes a step.
            change: None leaves scenes as they are.
            small: images are kept at this fraction of their sides: memory, and no aliasing later.
        """
        by_image: dict[int, list[Sample]] = {}
        for i in pose_set.labelled:
            sample = pose_set.sample(i)
            by_image.setdefault(sample.image_id, []).append(sample)
        self._scenes = [_shrunk(samples, small) for samples in by_image.values()]
        self._batch, self._change = batch, change
        self._mirror = np.array(pose_set.skeleton.mirror)

    def __len__(self) -> int:
        return len(self._scenes)

    def __call__(self, samples: Sequence[Sample], generator: np.random.Generator) -> list[Sample]:
        """Other samples than the ones given: everybody in some scenes, each scene's people together."""
        chosen = generator.choice(len(self._scenes), self._batch, replace=False)
        return [s for n in chosen for s in self._changed(self._scenes[n], generator)]

    def _changed(self, scene: list[Sample], generator: np.random.Generator) -> list[Sample]:
        if self._change is None:
            return scene
        image, change = scene[0].image, self._change
        H, W = image.shape[:2]
        # Look at somebody: a larger scale must not lose all people.
        x0, y0, x1, y1 = scene[generator.integers(len(scene))].box
        scale = float(np.exp(generator.uniform(*np.log(change.scale))))
        turn = float(np.clip(generator.normal(0, change.turn / 2), -change.turn, change.turn))
        middle, body = np.array([W, H]) / 2, np.array([x0 + x1, y0 + y1]) / 2
        look = middle + (body - middle) * generator.uniform(0, 1) * (scale > 1)
        look += generator.normal(0, 0.05, 2) * (W, H)
        affine = cv2.getRotationMatrix2D((float(look[0]), float(look[1])), turn, scale)
        affine[:, 2] += middle - look
        mirrored = bool(generator.uniform() < 0.5)
        if mirrored:
            affine = np.array([[-1, 0, W - 1], [0, 1, 0]]) @ np.vstack([affine, [0, 0, 1]])
        pixels = cv2.warpAffine(image, affine, (W, H), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        light = np.exp(generator.normal(0, change.light, 3) + generator.normal(0, change.light))
        pixels = np.clip(pixels * light.astype(np.float32), 0, 255).astype(np.uint8)
        found = []
        for sample in scene:
            truth = np.array(sample.truth, float)
            truth[:, :2] = geometry.apply(affine, truth[:, :2])
            if mirrored:
                truth = truth[self._mirror]
            inside = ((truth[:, :2] >= 0) & (truth[:, :2] <= (W - 1, H - 1))).all(1)
            truth[~inside] = 0
            found.append(dataclasses.replace(sample, image=pixels, truth=truth, others=()))
        return found


def _shrunk(samples: list[Sample], factor: int) -> list[Sample]:
    image = samples[0].image
    if factor == 1:
        return samples
    size = image.shape[1] // factor, image.shape[0] // factor
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    found = []
    for sample in samples:
        truth = np.array(sample.truth, float)
        # Pixel centres are integers, so a resize keeps (x + 1/2) in proportion, not x.
        truth[:, :2] = np.where(truth[:, 2:] > 0, (truth[:, :2] + 0.5) / factor - 0.5, 0)
        x0, y0, x1, y1 = (v / factor for v in sample.box)
        found.append(dataclasses.replace(sample, image=small, truth=truth, box=(x0, y0, x1, y1), others=()))
    return found
