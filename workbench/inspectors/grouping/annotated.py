"""Who is annotated in the image of a sample, and which tags did the network give them?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from workbench.core import Groups, NotAvailable
from workbench.core.geometry import apply, inverse

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from workbench.core import Run
    from workbench.models.bottom_up import BottomUp, Maps


def bottom_up(run: Run) -> BottomUp:
    """The run's model, one that finds people by their tags.

    Raises:
        NotAvailable: it is none.
    """
    _ = run.tags  # says what there is instead
    if not isinstance(run.model, Groups):
        raise NotAvailable("grouping: this model gives tags, and does not say how people are made of them")
    return cast("BottomUp", run.model)


@dataclass(frozen=True, eq=False)
class People:
    """The annotated people of one image.

    Attributes:
        names: what to call them: ``person 1`` ...; the sample's own comes first.
        truth: (x, y, visibility), image pixels.
    """

    names: tuple[str, ...]
    truth: Float[np.ndarray, "P K 3"]

    @property
    def labelled(self) -> Bool[np.ndarray, "P K"]:
        """Which keypoints are labelled."""
        return self.truth[..., 2] > 0


def annotated(run: Run, n: int) -> People:
    """Everybody annotated in the image of sample n.

    Raises:
        NotAvailable: nobody is.
    """
    sample, K = run.samples[n], len(run.model.skeleton)
    truths = [s.truth for s in (sample, *sample.others) if s.truth is not None]
    if sample.truth is None or not truths:
        raise NotAvailable(f"annotated people: no annotation for {sample.key or f'sample {n}'}")
    if any(len(t) != K for t in truths):
        raise NotAvailable(f"annotated people: annotations have other keypoints than the model's {K}")
    names = tuple(f"person {p}" for p in range(1, len(truths) + 1))
    return People(names, np.stack([np.asarray(t, float) for t in truths]))


def cells_of(maps: Maps, points: Float[np.ndarray, "*s 2"]) -> Int[np.ndarray, "*s 2"]:
    """(column, row) of the cells in which image points lie, the nearest ones for points outside."""
    h, w = maps.heatmaps.shape[-2:]
    # The first cell spans 0 to 1 there, its centre is .5.
    inside = apply(inverse(maps.to_image), np.nan_to_num(points))
    return np.floor(inside).astype(int).clip(0, (w - 1, h - 1))


def tags_at(
    maps: Maps, people: People, layout: tuple[int, ...]
) -> tuple[Float[np.ndarray, "P K L"], Float[np.ndarray, "P K T L"]]:
    """Tags of the annotated keypoints: each in its own map, and each in every map; nan where not labelled."""
    x, y = np.moveaxis(cells_of(maps, people.truth[..., :2]), -1, 0)
    every = np.moveaxis(maps.tags[:, y, x], 0, 2).astype(float)
    every[~people.labelled] = np.nan
    own = np.stack([every[:, k, m] for k, m in enumerate(layout)], 1)
    return own, every


def means_of(own: Float[np.ndarray, "P K L"]) -> Float[np.ndarray, "P L"]:
    """Each person's mean tag; nan for one without any labelled keypoint."""
    known = np.isfinite(own).all(-1, keepdims=True)
    count = known.sum(1)
    total = np.where(known, own, 0).sum(1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
