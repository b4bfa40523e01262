"""Maps of keypoints that are another one's, or lie off: told at the annotations, before any grouping.

A heatmap is read where keypoints are annotated. One that has its peaks at another keypoint, or all of them as
far off, is put back, and the gain in AP is measured as for every other error. What half of the people say has
to hold for the other half: among so many maps and distances a few people fit something by chance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.geometry import apply, inverse
from workbench.core.report import counted, signed_text
from workbench.decoding.grouping import detect
from workbench.decoding.grouping.algorithm import checked
from workbench.evaluation.ablation.variants import Variant

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from workbench.core import Outputs
    from workbench.core.capabilities import BottomUpModel
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.predict import Looked

# People with a keypoint labelled, from which something is said of its maps.
LEAST_PEOPLE = 8
# Mean OKS of single keypoints (tags: share of people) that another map, or another place, has to gain.
LEAST_GAIN = 0.1
# A map is its own keypoint's unless another one's fits better by this much.
OWN = 0.05
# Tags agree within so many times what the tags of a person vary, and this share of what people differ.
AGREE, OF_PEOPLE = 3.0, 0.05
# Input pixels below which a map does not lie off: that is a matter of all cells, which has a variant.
LEAST_SHIFT = 2.0
# Heatmaps are one block, tag maps one for each value of a tag.
MOST_CHANNELS = 1 << 31
# Distances that are tried for one map: those of the people that come first say the same.
MOST_TRIED = 256


@dataclass(frozen=True)
class MapsPutBack:
    """Channels of a network's outputs in another order, or some of them moved.

    Attributes:
        heatmaps: for each keypoint the channel that it reads; () for its own.
        tags: likewise.
        moved: keypoints whose heatmaps are moved.
        by: (x, y), input pixels.
        with_tags: their tag maps are moved, too.
        tag_maps: how many there are for one tag value.
    """

    heatmaps: tuple[int, ...] = ()
    tags: tuple[int, ...] = ()
    moved: tuple[int, ...] = ()
    by: tuple[float, float] = (0.0, 0.0)
    with_tags: bool = False
    tag_maps: int = 0

    def __call__(self, outputs: Outputs, width: int) -> Outputs:
        """The outputs of all passes changed.

        Args:
            outputs: of one image; not modified.
            width: of the input, pixels.
        """
        passes = {name: self(one, width) for name, one in outputs.passes.items()}
        tags = outputs.tags
        order = self._all_tags(tags)
        return dataclasses.replace(
            outputs,
            heatmaps=self._put_back(outputs.heatmaps, self.heatmaps, True, width, MOST_CHANNELS),
            coarse=self._put_back(outputs.coarse, self.heatmaps, True, width, MOST_CHANNELS),
            tags=self._put_back(tags, order, self.with_tags, width, self.tag_maps or MOST_CHANNELS),
            passes=passes,
        )

    def _all_tags(self, tags: Tensor | None) -> tuple[int, ...]:
        """The order of all tag channels: values of a tag come in blocks."""
        if tags is None or not self.tags:
            return ()
        return tuple(
            block + channel for block in range(0, tags.shape[1], self.tag_maps) for channel in self.tags
        )

    def _put_back(
        self, maps: Tensor | None, order: tuple[int, ...], move: bool, width: int, block: int
    ) -> Tensor | None:
        if maps is None:
            return None
        changed = maps[:, list(order)] if order else maps
        channels = [c for c in range(maps.shape[1]) if c % block in self.moved]
        if not channels or not move:
            return changed
        x, y = (round(by * maps.shape[-1] / width) for by in self.by)
        changed = changed.clone()
        changed[:, channels] = changed[:, channels].roll((y, x), (-2, -1))
        return changed


@dataclass
class KeypointMaps:
    """Where the maps of each keypoint have their peaks, and whose tags they hold, at the annotations.

    Attributes:
        model: whose outputs are added.
        pose_set: annotated.
        orders: exchanged heatmaps are put back; tag maps that are exchanged otherwise than they always are.
    """

    model: BottomUpModel
    pose_set: PoseSet
    orders: bool = True
    _near: list[Float[np.ndarray, "K K"]] = field(default_factory=list)
    _tags: list[Float[np.ndarray, "K T L"]] = field(default_factory=list)
    _from_truth: list[list[Float[np.ndarray, "D 2"]]] = field(default_factory=list)
    _reach: list[Float[np.ndarray, " K"]] = field(default_factory=list)

    def add(self, looked: Looked) -> None:
        """Read the plain pass over one image at its annotations.

        Args:
            looked: outputs of one image.
        """
        model, grouping = self.model, self.model.grouping
        people = [
            self.pose_set.instances[i] for i in self.pose_set.labelled_of_image.get(looked.image_id, ())
        ]
        if not people:
            return
        rules = dataclasses.replace(model.aggregation, flip=False, inverse_affine=True)
        maps = model.maps(looked.outputs, looked.batch, 0, rules)
        usable = checked(maps.heatmaps, maps.tags, grouping)
        found = detect(usable.heatmaps, grouping)
        # Coordinates of grouping: the centre of the first cell lies at (.5, .5).
        cells = [one.points + 0.5 for one in found]
        to_input = inverse(looked.batch.to_image[0])
        to_pixels = to_input[:, :2] @ maps.to_image[:, :2]
        sigmas = 2 * np.asarray(self.pose_set.skeleton.sigmas)
        H, W = usable.tags.shape[1:3]
        for person in people:
            truth = np.asarray(person.truth, float)
            seen = truth[:, 2] > 0
            at = apply(inverse(maps.to_image), truth[:, :2])
            reach = np.sqrt(person.area * abs(np.linalg.det(to_input[:, :2]))) * sigmas
            offsets = [[(one - place) @ to_pixels.T for place in at] for one in cells]
            near = np.array([[_best(o, r) for o, r in zip(row, reach, strict=True)] for row in offsets])
            near[:, ~seen | usable.left_out] = np.nan
            self._near.append(near)
            x, y = at[:, 0].astype(int).clip(0, W - 1), at[:, 1].astype(int).clip(0, H - 1)
            tags = usable.tags[:, y, x].transpose(1, 0, 2).astype(float)
            tags[~seen] = np.nan
            self._tags.append(tags)
            self._from_truth.append(
                [offsets[k][k] if seen[k] else np.zeros((0, 2)) for k in range(len(seen))]
            )
            self._reach.append(np.where(seen, reach, np.nan))

    def variants(self, own: Variant) -> list[Variant]:
        """Variants that put maps back which are another keypoint's, or lie off; none where all are right.

        Args:
            own: the model's rules.
        """
        order, tags, shifts = self._told
        every, T = tuple(range(len(order))), self.model.tags
        tagged = self._is_tagged()
        made: list[Variant] = []
        if order != every and self.orders:
            both = [MapsPutBack(order), *([MapsPutBack(order, order, tag_maps=T)] if tagged else [])]
            made += self._exchanged(own, "heatmaps", order, both)
        if tags not in (every, order):
            made += self._exchanged(own, "tag maps", tags, [MapsPutBack((), tags, tag_maps=T)])
        if 2 * len(shifts) > len(order):
            # A place of all cells, not of single maps.
            x, y = np.median([shifts.get(k, (0.0, 0.0)) for k in every], axis=0)
            return [*made, *self._moved(own, every, (float(x), float(y)), tagged)]
        for k, by in shifts.items():
            made += self._moved(own, (k,), by, tagged)
        return made

    def is_another(self) -> bool:
        """Whether maps are another keypoint's, or lie off. Call it when all images are read."""
        order, tags, shifts = self._told
        every = tuple(range(len(order)))
        return bool(shifts) or tags not in (every, order) or (self.orders and order != every)

    @cached_property
    def _told(self) -> tuple[tuple[int, ...], tuple[int, ...], dict[int, tuple[float, float]]]:
        """Channels of the heatmaps, of the tag maps, and how far heatmaps are to be moved."""
        every = tuple(range(len(self.pose_set.skeleton)))
        if len(self._near) < LEAST_PEOPLE:
            return every, every, {}
        order = self._order_of_heatmaps()
        tags = self._order_of_tags() if self._is_tagged() else every
        shifts = {k: self._shift(k) for k in every if order[k] == k}
        return order, tags, {k: by for k, by in shifts.items() if by is not None}

    def _is_tagged(self) -> bool:
        """Whether every keypoint has a tag map of its own."""
        grouping = self.model.grouping
        return self.model.tags == len(self.pose_set.skeleton) and grouping.tag_layout == "per_joint"

    def _exchanged(
        self, own: Variant, what: str, order: tuple[int, ...], changes: Sequence[MapsPutBack]
    ) -> list[Variant]:
        names = self.pose_set.skeleton.keypoints
        moved = [k for k, channel in enumerate(order) if k != channel]
        listed = ", ".join(f"{names[k]} in channel {order[k]}" for k in moved[:4])
        listed += " ..." if moved[4:] else ""
        fault = f"{what} of {counted(len(moved), 'keypoint')} exchanged ({listed})"
        made = []
        for change in changes:
            which = "heatmaps and tags" if change.heatmaps and change.tags else what
            name = f"{which} of {counted(len(moved), 'keypoint')} put back"
            about = f"each of them reads the {which} whose peaks lie at its annotations"
            made.append(own.but(name, about, outputs=change).undoing(fault))
        return made

    def _moved(
        self, own: Variant, moved: tuple[int, ...], by: tuple[float, float], tagged: bool
    ) -> list[Variant]:
        one = len(moved) == 1
        name = self.pose_set.skeleton.keypoints[moved[0]] if one else "all keypoints"
        off = ", ".join(signed_text(-axis, "+.0f") for axis in by)
        fault = (
            f"the heatmap of {name} lies off by ({off}) input pixels (x, y)" if one else "cells placed off"
        )
        made = []
        for with_tags in (False, True) if tagged or not one else (False,):
            change = MapsPutBack(moved=moved, by=by, with_tags=with_tags, tag_maps=self.model.tags)
            which = ("heatmap and tag map" if with_tags else "heatmap") + ("" if one else "s")
            about = f"moved by ({', '.join(signed_text(axis, '+.0f') for axis in by)}) input pixels"
            made.append(own.but(f"{which} of {name} moved back", about, outputs=change).undoing(fault))
        return made

    def _order_of_heatmaps(self) -> tuple[int, ...]:
        near = np.stack(self._near)  # [people, channel, keypoint]
        # All pairs of left and right exchanged is a variant of its own.
        order = _agreed(near.transpose(0, 2, 1))
        return tuple(range(len(order))) if order == tuple(self.pose_set.skeleton.mirror) else order

    def _order_of_tags(self) -> tuple[int, ...]:
        tags = np.stack(self._tags)  # [people, keypoint, channel, value]
        K = tags.shape[1]
        own = tags[:, np.arange(K), np.arange(K)]
        person = np.nanmedian(own, axis=1)
        away = np.linalg.norm(tags - person[:, None, None], axis=-1)
        usual = np.nanmedian(away[:, np.arange(K), np.arange(K)])
        differ = np.linalg.norm(person.std(0))
        fits = (away <= max(AGREE * usual, OF_PEOPLE * differ)).astype(float)
        return _agreed(np.where(np.isfinite(away), fits, np.nan))

    def _shift(self, k: int) -> tuple[float, float] | None:
        """How far (x, y) this keypoint's heatmap has to be moved, input pixels; None where it need not."""
        people = [p for p, offsets in enumerate(self._from_truth) if len(offsets[k])]
        if len(people) < LEAST_PEOPLE:
            return None
        most = max(len(self._from_truth[p][k]) for p in people)
        offsets = np.full((len(people), most, 2), np.inf)
        for row, p in enumerate(people):
            offsets[row, : len(self._from_truth[p][k])] = self._from_truth[p][k]
        reach = np.array([self._reach[p][k] for p in people])[:, None]

        def fit(by: Float[np.ndarray, " 2"], of: slice) -> float:
            away = ((offsets[of] - by) ** 2).sum(-1)
            return float(np.exp(-away / (2 * reach[of] ** 2)).max(1).mean())

        def best(of: slice) -> Float[np.ndarray, " 2"]:
            tried = offsets[of][np.isfinite(offsets[of]).all(-1)][:MOST_TRIED]
            return max(tried, key=lambda by: fit(by, of))

        none, every, halves = np.zeros(2), slice(None), (slice(0, None, 2), slice(1, None, 2))
        if fit(none, every) > 1 - LEAST_GAIN:
            return None
        for learned, other in (halves, halves[::-1]):
            if fit(best(learned), other) - fit(none, other) < LEAST_GAIN:
                return None
        by = best(every)
        return None if np.abs(by).max() < LEAST_SHIFT else (float(-by[0]), float(-by[1]))


def _best(offsets: Float[np.ndarray, "D 2"], reach: float) -> float:
    """The OKS of one keypoint with the detection that lies nearest; 0 without detections."""
    if not len(offsets) or not reach > 0:
        return 0.0
    return float(np.exp(-(offsets**2).sum(1).min() / (2 * reach**2)))


def _agreed(fits: Float[np.ndarray, "P K C"]) -> tuple[int, ...]:
    """For each keypoint the channel that fits it, where both halves of the people say the same.

    Args:
        fits: from 0 to 1, of every person, keypoint and channel; nan where it is not labelled.
    """
    from scipy.optimize import linear_sum_assignment

    K = fits.shape[1]
    every = tuple(range(K))
    labelled = np.isfinite(fits[..., 0])
    enough = labelled.sum(0) >= LEAST_PEOPLE

    def mean(part: Float[np.ndarray, "p K C"]) -> Float[np.ndarray, "K C"]:
        return np.nansum(part, 0) / np.maximum(np.isfinite(part).sum(0), 1)

    def order(part: Float[np.ndarray, "p K C"]) -> Int[np.ndarray, " K"]:
        gain = mean(part) + OWN * np.eye(K)
        gain[~enough] = np.eye(K)[~enough]
        return linear_sum_assignment(-gain)[1]

    own, found = np.arange(K), order(fits)
    for part in (fits[::2], fits[1::2]):
        gained = mean(part)[own, found] - mean(part)[own, own]
        if (gained[found != own] < LEAST_GAIN).any():
            return every
    return tuple(found.tolist())
