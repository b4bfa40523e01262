"""Episodes of category-agnostic pose estimation: a support and a query of one category.

Drawn from MP-100-like files, where every category has its own keypoints (8 to 68; ``face`` names none), or
from the built-in scenes, whose species are the categories.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.core import Sample, Skeleton
from workbench.data.coco import read_by_category
from workbench.data.pose_set import PoseSet


@dataclass(frozen=True, eq=False)
class Episode:
    """A query image, and support examples that show which keypoints to find in it.

    Attributes:
        category: name.
        skeleton: keypoints of the category.
        support: examples, one per shot, each of another image than the query.
        query: with ground truth, for evaluation.
    """

    category: str
    skeleton: Skeleton
    support: tuple[Sample, ...]
    query: Sample


def episodes(
    pose_set: PoseSet, count: int, *, category: int | str | None = None, shots: int = 1, seed: int = 0
) -> tuple[Episode, ...]:
    """Random episodes of a set; the same seed gives the same episodes.

    Args:
        pose_set: all its categories share a skeleton.
        count: number of episodes.
        category: id or name; by default the categories alternate.
        shots: support examples per episode.
        seed: of the random choice.

    Raises:
        ValueError: no category has labelled instances in enough images.
        KeyError: no such category.
    """
    if count < 1 or shots < 1:
        raise ValueError(f"episodes: expected at least one episode and one shot, got {count} and {shots}")
    numbers = [n for n, name in pose_set.categories.items() if category in (None, n, name, str(n))]
    if not numbers:
        raise KeyError(f"{pose_set.name}: no category {category!r}")
    usable = {n: found for n in numbers if len(found := _by_image(pose_set, n)) > shots}
    if not usable:
        named = ", ".join(pose_set.categories[n] for n in numbers[:3])
        raise ValueError(
            f"{pose_set.name}: no episode of {named}: a query and {shots} support need visible keypoints in "
            f"{shots + 1} different images"
        )
    random = np.random.default_rng(seed)
    drawn = []
    for turn in range(count):
        number = list(usable)[turn % len(usable)]
        images = random.permutation(list(usable[number]))[: shots + 1]
        query, *support = (pose_set.sample(int(random.choice(usable[number][i]))) for i in images)
        drawn.append(Episode(pose_set.categories[number], pose_set.skeleton, tuple(support), query))
    return tuple(drawn)


def read_episodes(
    annotations: Path, count: int, images: Path | None = None, *, shots: int = 1, seed: int = 0
) -> tuple[Episode, ...]:
    """Episodes of an MP-100-like file, each category with its own skeleton; the categories alternate.

    Categories with labelled instances in too few images are left out; cleaned copies of MP-100 lack images.

    Args:
        annotations: COCO-format json.
        count: number of episodes.
        images: folder of the images, as `read_coco`.
        shots: support examples per episode.
        seed: of the random choice.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no COCO keypoint file, or no category gives an episode.
    """
    sets = read_by_category(annotations, images)
    enough = [s for s in sets if any(len(_by_image(s, n)) > shots for n in s.categories)]
    if not enough:
        raise ValueError(
            f"{annotations.name}: no category has visible keypoints in {shots + 1} different images, so "
            "there is no episode"
        )
    return tuple(
        episodes(enough[turn % len(enough)], 1, shots=shots, seed=seed + turn)[0] for turn in range(count)
    )


def _by_image(pose_set: PoseSet, category: int) -> dict[int, list[int]]:
    """Labelled instances of a category by their image."""
    found: dict[int, list[int]] = {}
    for i in pose_set.labelled:
        if pose_set.instances[i].category_id == category:
            found.setdefault(pose_set.instances[i].image_id, []).append(i)
    return found
