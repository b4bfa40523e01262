"""How long does grouping take at 512x512 against mmpose's codec and the reference protocol with munkres?

Four kinds of maps: clean ones, with stray peaks whose tags lie near people's, with stray peaks whose tags lie
far from everybody's (each founds a person of its own), and an untrained network's, whose every keypoint has
thirty peaks. Each peer groups the same maps as we do, and must find the same people; where they do not, the
row is not met. Groups are compared under the peer's solver, munkres; the time is given for it and for the
default, scipy's.

The reference is tests/decoding/grouping/literal.py: torch max-pooling and top-k, dictionaries, the munkres
package.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.row import Row, ratio

SIDE = 512
REPEATS = 3
STRAYS = 25  # per keypoint: with those the limit of 30 detections is reached at 10 people
CLEAN = {1: 10.0, 10: 5.0, 30: 5.0}
WITH_STRAYS = 4.0


def rows() -> list[Row]:
    """One row per kind of maps and peer."""
    made = [
        row
        for people, target in CLEAN.items()
        for row in _rows(f"{people} people", maps(people), target, reference=True)
    ]
    for people in CLEAN:
        for what, spread in (("near", 1.0), ("far", 30.0)):
            name = f"{people} people, {STRAYS} stray peaks per keypoint with {what} tags"
            made += _rows(name, strays(people, spread), WITH_STRAYS)
    return made + _rows("untrained network", untrained(), WITH_STRAYS)


def _rows(
    what: str, made: tuple[np.ndarray, np.ndarray], target: float, reference: bool = False
) -> list[Row]:
    """The peers on one pair of maps; the reference protocol takes minutes where people are many."""
    from tests.decoding.grouping import literal
    from workbench.decoding.grouping import HIGHERHRNET, MMPOSE, group

    heatmaps, tags = made
    codec, of_mmpose = _codec(), _tensors(heatmaps, tags)
    # Once before the clock runs, on both sides: what is compiled and reserved at first is not grouping.
    codec.batch_decode(*of_mmpose)
    group(heatmaps, tags, MMPOSE)
    mmpose, (points, values, _) = best(lambda: codec.batch_decode(*of_mmpose))
    theirs = np.concatenate([points[0], values[0][..., None]], -1)
    peers = [("mmpose's codec", mmpose, MMPOSE, theirs)]
    if reference:
        munkres, (expected, _) = best(lambda: literal.grouped(heatmaps, tags), 1)
        peers.append(("reference with munkres", munkres, HIGHERHRNET, expected[..., :3]))
    made_rows: list[Row] = []
    for peer, other, rules, expected_people in peers:
        own_solver = replace(rules, solver="munkres")
        with_munkres, found = best(lambda own_solver=own_solver: group(heatmaps, tags, own_solver))
        default, _ = best(lambda rules=rules: group(heatmaps, tags, rules))
        equal = np.array_equal(np.nan_to_num(found.keypoints), np.nan_to_num(expected_people))
        slowest = max(with_munkres, default)
        made_rows.append(
            {
                "what": f"grouping, {SIDE}x{SIDE}, 17 keypoints, {what}, {len(found)} groups, "
                f"rules of {peer}; groups {'equal' if equal else 'differ'}",
                "ours": f"{default * 1e3:.1f} ms, with munkres {with_munkres * 1e3:.1f} ms",
                "peer": f"{peer} {other * 1e3:.0f} ms",
                "ratio": ratio(other, slowest),
                "target": f">= {target:g}x with either solver, equal groups",
                "met": equal and other / slowest >= target,
            }
        )
    return made_rows


def strays(people: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """The same crowd with low peaks that belong to nobody; their tags have this standard deviation."""
    import cv2

    heatmaps, tags = maps(people)
    rng = np.random.default_rng(people)
    nobody = (heatmaps < 0.02)[..., None]
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    for heatmap in heatmaps:
        for px, py, value in rng.uniform((0, 0, 0.1), (SIDE - 1, SIDE - 1, 0.4), (STRAYS, 3)):
            rows, columns = (slice(int(max(c - 24, 0)), int(c + 24)) for c in (py, px))
            square = (x[rows, columns] - px) ** 2 + (y[rows, columns] - py) ** 2
            peak = (value * np.exp(-square / 64)).astype(np.float32)
            heatmap[rows, columns] = np.maximum(heatmap[rows, columns], peak)
    coarse = rng.normal(0, spread, (2 * len(tags), SIDE // 8, SIDE // 8)).astype(np.float32)
    around = np.stack([cv2.resize(plane, (SIDE, SIDE)) for plane in coarse])
    around = around.reshape(len(tags), 2, SIDE, SIDE).transpose(0, 2, 3, 1)
    return heatmaps, np.where(nobody, around, tags)


def untrained() -> tuple[np.ndarray, np.ndarray]:
    """Smoothed noise in heatmaps and tags: every keypoint has thirty peaks, and hardly any two agree."""
    import cv2

    rng = np.random.default_rng(0)
    coarse = rng.normal(0, 1, (51, SIDE // 4, SIDE // 4)).astype(np.float32)
    planes = np.stack([cv2.resize(plane, (SIDE, SIDE)) for plane in coarse])
    tags = 50 * planes[17:].reshape(17, 2, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.float32(0.3) * planes[:17], np.ascontiguousarray(tags)


def maps(people: int) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps [17, 512, 512] and tags [17, 512, 512, 2] of a made-up crowd, with background noise.

    Every tenth keypoint is missing, so that refine has work; tags lie as far apart as training pushes them.
    """
    from tests.decoding.grouping.crowds import crowd

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

    from workbench.decoding.grouping.settings import REFERENCE_ORDER

    return AssociativeEmbedding(
        input_size=(SIDE, SIDE), heatmap_size=(SIDE, SIDE), decode_keypoint_order=list(REFERENCE_ORDER)
    )


def _tensors(heatmaps: np.ndarray, tags: np.ndarray) -> tuple[Any, Any]:
    """The same for mmpose: one image, tag channels by value first and keypoint second."""
    import torch

    by_value = tags.transpose(3, 0, 1, 2).reshape(-1, *tags.shape[1:3])
    return torch.from_numpy(heatmaps)[None], torch.from_numpy(np.ascontiguousarray(by_value))[None]
