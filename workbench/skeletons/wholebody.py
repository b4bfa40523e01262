"""COCO-WholeBody: body, feet, face and hands, 133 keypoints."""

from __future__ import annotations

import itertools

from workbench.core import Skeleton
from workbench.skeletons.definitions import COCO_17

_FEET = ("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel")
_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")

# Mirror partners within the 68 face points (counted from 0): the usual 68-point face layout.
_FACE_MIRROR = (
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46,
    39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65,
)  # fmt: skip

_FEET_SIGMAS = (0.068, 0.066, 0.066, 0.092, 0.094, 0.094)
_FACE_SIGMAS = (
    0.042, 0.043, 0.044, 0.043, 0.040, 0.035, 0.031, 0.025, 0.020, 0.023, 0.029, 0.032, 0.037, 0.038, 0.043,
    0.041, 0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011, 0.011, 0.013, 0.015, 0.009, 0.007, 0.007,
    0.007, 0.012, 0.009, 0.008, 0.016, 0.010, 0.017, 0.011, 0.009, 0.011, 0.009, 0.007, 0.013, 0.008, 0.011,
    0.012, 0.010, 0.034, 0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.010, 0.008, 0.009, 0.009, 0.009, 0.007,
    0.007, 0.008, 0.011, 0.008, 0.008, 0.008, 0.010, 0.008,
)  # fmt: skip
_HAND_SIGMAS = (
    0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024, 0.022, 0.026, 0.017, 0.021,
    0.021, 0.032, 0.020, 0.019, 0.022, 0.031,
)  # fmt: skip


def _hand(side: str) -> tuple[str, ...]:
    return (f"{side}_hand_root", *(f"{side}_{finger}{i}" for finger in _FINGERS for i in range(1, 5)))


def _hand_limbs(root: int) -> list[tuple[int, int]]:
    chains = [[root, *range(root + 1 + 4 * f, root + 5 + 4 * f)] for f in range(5)]
    return [(a, b) for chain in chains for a, b in itertools.pairwise(chain)]


COCO_WHOLEBODY_133 = Skeleton(
    name="coco-wholebody-133",
    keypoints=(
        *COCO_17.keypoints,
        *_FEET,
        *(f"face-{i}" for i in range(68)),
        *_hand("left"),
        *_hand("right"),
    ),
    limbs=(
        *COCO_17.limbs,
        *((15, 17), (15, 18), (15, 19), (16, 20), (16, 21), (16, 22)),
        *_hand_limbs(91),
        *_hand_limbs(112),
    ),
    mirror=(
        *COCO_17.mirror,
        *(20, 21, 22, 17, 18, 19),
        *(23 + i for i in _FACE_MIRROR),
        *range(112, 133),
        *range(91, 112),
    ),
    sigmas=(*COCO_17.sigmas, *_FEET_SIGMAS, *_FACE_SIGMAS, *_HAND_SIGMAS, *_HAND_SIGMAS),
    source="COCO-WholeBody (Jin et al. 2020); sigmas of mmpose 1.3.2 datasets/coco_wholebody.py",
)
