"""Tags of a bottom-up model: whether those of one person agree at their labels, and where they would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.geometry import apply, inverse
from workbench.core.run import evaluating
from workbench.evaluation.ablation.variants import TagMaps, Variant

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.data.pose_set import PoseSet

# Maps are tried so many cells aside; nearer than this they say the same.
REACH, APART = 16, 2
# Labelled keypoints of a person, people of an image, and of all images, from which tags are compared.
LEAST_KEYPOINTS, LEAST_PEOPLE, LEAST_COMPARED = 3, 2, 8
# Tags agree where those of one person vary by less than this share of all; moved maps have to halve it.
AGREE, BETTER = 0.5, 0.5
# Shares that differ by no more are alike.
ALIKE = 0.02


@dataclass(frozen=True)
class TagFit:
    """How much the tags of one person vary at their labels, as a share of how much all of an image do.

    Attributes:
        own: of the maps as they are.
        best: of the maps moved.
        cells: by which they are moved then, (x, y).
        width: of the maps, cells.
        maps: how many there are.
        copies: of these, that are another one in every cell.
    """

    own: float
    best: float
    cells: tuple[int, int]
    width: int
    maps: int
    copies: int

    @property
    def moved(self) -> bool:
        """Whether the tags agree elsewhere, and not where they are."""
        far = max(map(abs, self.cells)) >= APART
        return far and self.best < min(AGREE, BETTER * self.own)


@dataclass(frozen=True)
class TagsMoved:
    """Every tag map moved; values of the mirrored pass the other way.

    Attributes:
        x: to the right, in widths of the map.
        y: down, in the same unit.
        mirrored: the second half of the values is of the mirrored pass.
    """

    x: float
    y: float
    mirrored: bool

    def __call__(self, given: TagMaps) -> Float[np.ndarray, "T H W L"]:
        width, values = given.tags.shape[2], given.tags.shape[3]
        x, y = round(self.x * width), round(self.y * width)
        moved = np.roll(given.tags, (y, x), (1, 2))
        if self.mirrored and values > 1:
            half = values // 2
            moved[..., half:] = np.roll(given.tags[..., half:], (y, -x), (1, 2))
        return moved

    def variant(self, own: Variant, cells: tuple[int, int]) -> Variant:
        """The variant that undoes it.

        Args:
            own: the model's rules.
            cells: (x, y), for people.
        """
        name = f"tag maps moved by ({cells[0]:+d}, {cells[1]:+d}) cells"
        return own.but(name, "to where the tags of one person agree", self).undoing("tags placed off")


def tag_fit(model: Any, pose_set: PoseSet, image_ids: Sequence[int]) -> TagFit | None:
    """The fit of tags to the labels of some images; None where too few people are labelled.

    Args:
        model: bottom-up.
        pose_set: annotated.
        image_ids: that are looked at.
    """
    import torch

    side = 2 * REACH + 1
    within, total, width, compared = np.zeros((side, side)), np.zeros((side, side)), 0, 0
    index = list(model.grouping.maps(len(model.skeleton), model.tags))
    same = np.ones((model.tags, model.tags), bool)
    for image_id in image_ids:
        own = pose_set.labelled_of_image[image_id]
        with torch.no_grad(), evaluating(model.module):
            batch = model.prepare([pose_set.sample(own[0])])
            outputs = model.forward(batch)
        if outputs.tags is None:
            return None
        shape = (model.tag_size, model.tags, *outputs.tags.shape[2:])
        tags = outputs.tags[0].float().cpu().numpy().reshape(shape)
        flat, width = tags[0].reshape(model.tags, -1), tags.shape[-1]
        same &= np.array([(flat == one).all(1) for one in flat])
        truth = np.array([pose_set.instances[i].truth for i in own], float)
        places = apply(inverse(batch.to_image[0]), truth[..., :2]) / batch.pixels.shape[-1] * width
        padded = np.pad(tags, ((0, 0), (0, 0), (REACH, REACH), (REACH, REACH)), mode="edge")
        x = places[..., 0].astype(int).clip(0, width - 1)
        y = places[..., 1].astype(int).clip(0, tags.shape[-2] - 1)
        people = []
        for person in range(len(own)):
            seen = np.flatnonzero(truth[person, :, 2] > 0)
            if len(seen) >= LEAST_KEYPOINTS:
                people.append(
                    np.stack(
                        [padded[:, index[k], y[person, k] :, x[person, k] :][..., :side, :side] for k in seen]
                    )
                )
        if len(people) >= LEAST_PEOPLE:
            compared += len(people)
            within += sum(((one - one.mean(0)) ** 2).sum((0, 1)) for one in people)
            every = np.concatenate(people)
            total += ((every - every.mean(0)) ** 2).sum((0, 1))
    if compared < LEAST_COMPARED:
        return None
    share = within / np.maximum(total, 1e-12)
    # The middle of the places that fit about as well as the best one.
    alike = np.argwhere(share <= share.min() + ALIKE)
    at = np.median(alike, axis=0).astype(int)
    moved = (REACH - int(at[1]), REACH - int(at[0]))
    copies = int(np.tril(same, -1).any(1).sum())
    own, best = float(share[REACH, REACH]), float(share[tuple(at)])
    return TagFit(own, best, moved, width, model.tags, copies)
