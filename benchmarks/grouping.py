"""How long does grouping take at 512x512 against mmpose's codec and the reference protocol with munkres?

All three group the same maps, and must find the same people; where they do not, the row is not met. The
reference is tests/grouping/literal.py: torch max-pooling and top-k, dictionaries, the munkres package.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.row import Row, ratio

SIDE = 512
TARGETS = {1: 10.0, 10: 5.0, 30: 5.0}
REPEATS = 5


def rows() -> list[Row]:
    """One row per number of people and peer."""
    return [row for people, target in TARGETS.items() for row in _rows(people, target)]


def _rows(people: int, target: float) -> list[Row]:
    """Both peers on one crowd."""
    from tests.grouping import literal
    from workbench.grouping import MMPOSE, group

    heatmaps, tags = maps(people)
    codec, of_mmpose = _codec(), _tensors(heatmaps, tags)
    ours, found = best(lambda: group(heatmaps, tags))
    ours_mmpose, found_mmpose = best(lambda: group(heatmaps, tags, MMPOSE))
    munkres, (expected, _) = best(lambda: literal.grouped(heatmaps, tags), 1)
    mmpose, (points, values, _) = best(lambda: codec.batch_decode(*of_mmpose), 2)
    same = np.array_equal(np.nan_to_num(found.keypoints), expected[..., :3])
    theirs = np.concatenate([points[0], values[0][..., None]], -1)
    same_mmpose = np.array_equal(found_mmpose.keypoints, theirs)
    return [
        {
            "what": f"grouping, {SIDE}x{SIDE}, 17 keypoints, {people} people, rules of {peer}; "
            f"groups {'equal' if equal else 'differ'}",
            "ours": f"{mine * 1e3:.1f} ms",
            "peer": f"{peer} {other * 1e3:.0f} ms",
            "ratio": ratio(other, mine),
            "target": f">= {target:g}x, equal groups",
            "met": equal and other / mine >= target,
        }
        for peer, other, mine, equal in (
            ("mmpose's codec", mmpose, ours_mmpose, same_mmpose),
            ("reference with munkres", munkres, ours, same),
        )
    ]


def maps(people: int) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps [17, 512, 512] and tags [17, 512, 512, 2] of a made-up crowd, with background noise.

    Every tenth keypoint is missing, so that refine has work; tags lie as far apart as training pushes them.
    """
    from tests.grouping.crowds import crowd

    rng = np.random.default_rng(people)
    return crowd(
        rng.integers(1 << 30), people, size=(SIDE, SIDE), L=2, spread=3.0, missing=0.1, noise=0.003, width=8.0
    )


def best(call: Callable[[], Any], repeats: int = REPEATS) -> tuple[float, Any]:
    """The shortest of several times in seconds, and what was returned."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        answer = call()
        taken.append(time.perf_counter() - started)
    return min(taken), answer


def _codec() -> Any:
    from workbench.models import mmpose_compat

    mmpose_compat.install()
    from mmpose.codecs import AssociativeEmbedding

    from workbench.grouping.settings import REFERENCE_ORDER

    return AssociativeEmbedding(
        input_size=(SIDE, SIDE), heatmap_size=(SIDE, SIDE), decode_keypoint_order=list(REFERENCE_ORDER)
    )


def _tensors(heatmaps: np.ndarray, tags: np.ndarray) -> tuple[Any, Any]:
    """The same for mmpose: one image, tag channels by value first and keypoint second."""
    import torch

    by_value = tags.transpose(3, 0, 1, 2).reshape(-1, *tags.shape[1:3])
    return torch.from_numpy(heatmaps)[None], torch.from_numpy(np.ascontiguousarray(by_value))[None]
