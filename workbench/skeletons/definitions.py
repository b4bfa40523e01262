"""Definitions of the known skeletons; sigmas are the OKS constants of the data set's own evaluation."""

from __future__ import annotations

import itertools

from workbench.core import Skeleton

_BODY = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow"
    " left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle"
)

COCO_17 = Skeleton(
    name="coco-17",
    keypoints=tuple(_BODY.split()),
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
        (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    mirror=(0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15),
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062,
        0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
    ),
    source="COCO keypoints 2017; sigmas of pycocotools cocoeval.py (Params.kpt_oks_sigmas)",
)  # fmt: skip

CROWDPOSE_14 = Skeleton(
    name="crowdpose-14",
    keypoints=(
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "top_head", "neck",
    ),
    limbs=(
        (10, 8), (8, 6), (11, 9), (9, 7), (6, 7), (0, 6), (1, 7), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5),
        (12, 13), (1, 13), (0, 13),
    ),
    mirror=(1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 12, 13),
    sigmas=(
        0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079,
    ),
    source="CrowdPose (Li et al. 2019); sigmas of mmpose 1.3.2 configs/_base_/datasets/crowdpose.py",
)  # fmt: skip
CROWDPOSE_ALIASES = {"head": "top_head"}

MPII_16 = Skeleton(
    name="mpii-16",
    keypoints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
        "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder",
        "left_elbow", "left_wrist",
    ),
    limbs=(
        (0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (8, 12), (12, 11), (11, 10),
        (8, 13), (13, 14), (14, 15),
    ),
    mirror=(5, 4, 3, 2, 1, 0, 6, 7, 8, 9, 15, 14, 13, 12, 11, 10),
    sigmas=(
        0.089, 0.083, 0.107, 0.107, 0.083, 0.089, 0.026, 0.026, 0.026, 0.026, 0.062, 0.072, 0.179, 0.179,
        0.072, 0.062,
    ),
    source="MPII (Andriluka et al. 2014), scored by PCKh; sigmas adapted from COCO by mmpose 1.3.2 mpii.py",
)  # fmt: skip

AIC_14 = Skeleton(
    name="aic-14",
    keypoints=(
        "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
        "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "head_top", "neck",
    ),
    limbs=(
        (2, 1), (1, 0), (0, 13), (13, 3), (3, 4), (4, 5), (8, 7), (7, 6), (6, 9), (9, 10), (10, 11), (12, 13),
        (0, 6), (3, 9),
    ),
    mirror=(3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8, 12, 13),
    sigmas=(
        0.01388152, 0.01515228, 0.01057665, 0.01417709, 0.01497891, 0.01402144, 0.03909642, 0.03686941,
        0.01981803, 0.03843971, 0.03412318, 0.02415081, 0.01291456, 0.01236173,
    ),
    source="AI Challenger (Wu et al. 2017); sigmas of its own evaluation, as in mmpose 1.3.2 aic.py",
)  # fmt: skip

JHMDB_15 = Skeleton(
    name="jhmdb-15",
    keypoints=(
        "neck", "belly", "head", "right_shoulder", "left_shoulder", "right_hip", "left_hip", "right_elbow",
        "left_elbow", "right_knee", "left_knee", "right_wrist", "left_wrist", "right_ankle", "left_ankle",
    ),
    limbs=(
        (13, 9), (9, 5), (5, 1), (1, 6), (6, 10), (10, 14), (1, 0), (0, 2), (0, 3), (3, 7), (7, 11), (0, 4),
        (4, 8), (8, 12),
    ),
    mirror=(0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13),
    sigmas=(
        0.025, 0.107, 0.025, 0.079, 0.079, 0.107, 0.107, 0.072, 0.072, 0.087, 0.087, 0.062, 0.062,
        0.089, 0.089,
    ),
    source="J-HMDB (Jhuang et al. 2013), scored by PCK; sigmas adapted from COCO by mmpose 1.3.2 jhmdb.py",
)  # fmt: skip

HUMANART_21 = Skeleton(
    name="humanart-21",
    keypoints=(*_BODY.split(), "left_finger", "right_finger", "left_toe", "right_toe"),
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9),
        (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6), (15, 19), (16, 20), (9, 17),
        (10, 18),
    ),
    mirror=(0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19),
    sigmas=(*COCO_17.sigmas, 0.089, 0.089, 0.089, 0.089),
    source="Human-Art (Ju et al. 2023); sigmas of mmpose 1.3.2 configs/_base_/datasets/humanart21.py",
)  # fmt: skip

HALPE_26 = Skeleton(
    name="halpe-26",
    keypoints=(
        *_BODY.split(), "head", "neck", "hip", "left_big_toe", "right_big_toe", "left_small_toe",
        "right_small_toe", "left_heel", "right_heel",
    ),
    limbs=(
        (15, 13), (13, 11), (11, 19), (16, 14), (14, 12), (12, 19), (17, 18), (18, 19), (18, 5), (5, 7),
        (7, 9), (18, 6), (6, 8), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
        (15, 20), (15, 22), (15, 24), (16, 21), (16, 23), (16, 25),
    ),
    mirror=(
        0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 17, 18, 19, 21, 20, 23, 22, 25, 24,
    ),
    sigmas=(
        *COCO_17.sigmas, 0.026, 0.026, 0.066, 0.079, 0.079, 0.079, 0.079, 0.079, 0.079,
    ),
    source="Halpe full body (Fang et al. 2022); sigmas of mmpose 1.3.2 configs/_base_/datasets/halpe26.py",
)  # fmt: skip


# Quadrupeds: mmpose's names, with the names of the annotation files as aliases.


AP10K_17 = Skeleton(
    name="ap10k-17",
    keypoints=(
        "L_Eye", "R_Eye", "Nose", "Neck", "Root of tail", "L_Shoulder", "L_Elbow", "L_F_Paw", "R_Shoulder",
        "R_Elbow", "R_F_Paw", "L_Hip", "L_Knee", "L_B_Paw", "R_Hip", "R_Knee", "R_B_Paw",
    ),
    limbs=(
        (0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (3, 5), (5, 6), (6, 7), (3, 8), (8, 9), (9, 10), (4, 11),
        (11, 12), (12, 13), (4, 14), (14, 15), (15, 16),
    ),
    mirror=(1, 0, 2, 3, 4, 8, 9, 10, 5, 6, 7, 14, 15, 16, 11, 12, 13),
    sigmas=(
        0.025, 0.025, 0.026, 0.035, 0.035, 0.079, 0.072, 0.062, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089,
        0.107, 0.087, 0.089,
    ),
    source="AP-10K (Yu et al. 2021); sigmas of mmpose 1.3.2 configs/_base_/datasets/ap10k.py",
)  # fmt: skip

AP10K_ALIASES = {
    "left_eye": "L_Eye", "right_eye": "R_Eye", "nose": "Nose", "neck": "Neck", "root_of_tail": "Root of tail",
    "left_shoulder": "L_Shoulder", "left_elbow": "L_Elbow", "left_front_paw": "L_F_Paw",
    "right_shoulder": "R_Shoulder", "right_elbow": "R_Elbow", "right_front_paw": "R_F_Paw",
    "left_hip": "L_Hip", "left_knee": "L_Knee", "left_back_paw": "L_B_Paw",
    "right_hip": "R_Hip", "right_knee": "R_Knee", "right_back_paw": "R_B_Paw",
}  # fmt: skip
"""The names in AP-10K's own json files -> mmpose's."""

ANIMALPOSE_20 = Skeleton(
    name="animalpose-20",
    keypoints=(
        "L_Eye", "R_Eye", "L_EarBase", "R_EarBase", "Nose", "Throat", "TailBase", "Withers", "L_F_Elbow",
        "R_F_Elbow", "L_B_Elbow", "R_B_Elbow", "L_F_Knee", "R_F_Knee", "L_B_Knee", "R_B_Knee", "L_F_Paw",
        "R_F_Paw", "L_B_Paw", "R_B_Paw",
    ),
    limbs=(
        (0, 1), (0, 2), (1, 3), (0, 4), (1, 4), (4, 5), (5, 7), (6, 7), (5, 8), (8, 12), (12, 16), (5, 9),
        (9, 13), (13, 17), (6, 10), (10, 14), (14, 18), (6, 11), (11, 15), (15, 19),
    ),
    mirror=(1, 0, 3, 2, 4, 5, 6, 7, 9, 8, 11, 10, 13, 12, 15, 14, 17, 16, 19, 18),
    sigmas=(
        0.025, 0.025, 0.026, 0.035, 0.035, 0.10, 0.10, 0.10, 0.107, 0.107, 0.107, 0.107, 0.087, 0.087,
        0.087, 0.087, 0.089, 0.089, 0.089, 0.089,
    ),
    source=(
        "AnimalPose (Cao et al. 2019), whose authors gave no sigmas; these are mmpose 1.3.2's, adapted"
        " from COCO (configs/_base_/datasets/animalpose.py)"
    ),
)  # fmt: skip

ANIMALPOSE_ALIASES = {
    name.replace("L_", "left_", 1).replace("R_", "right_", 1): name
    for name in ANIMALPOSE_20.keypoints
    if name[:2] in ("L_", "R_")
}

HORSE_26 = Skeleton(
    name="horse-26",
    keypoints=(
        "nose", "l_eye", "r_eye", "l_ear", "r_ear", "neck", "withers", "back", "tail_base", "tail_end",
        "l_elbow", "r_elbow", "l_knee", "r_knee", "lf_fetlock", "rf_fetlock", "lf_hoof", "rf_hoof",
        "l_hip", "r_hip", "l_hock", "r_hock", "lh_fetlock", "rh_fetlock", "lh_hoof", "rh_hoof",
    ),
    limbs=(
        (0, 1), (0, 2), (1, 3), (2, 4), (0, 5), (5, 6), (6, 7), (7, 8), (8, 9), (6, 10), (6, 11), (10, 12),
        (11, 13), (12, 14), (13, 15), (14, 16), (15, 17), (7, 18), (7, 19), (18, 20), (19, 21), (20, 22),
        (21, 23), (22, 24), (23, 25),
    ),
    mirror=(
        0, 2, 1, 4, 3, 5, 6, 7, 8, 9, 11, 10, 13, 12, 15, 14, 17, 16, 19, 18, 21, 20, 23, 22, 25, 24,
    ),
    sigmas=(
        0.025, 0.025, 0.025, 0.035, 0.035, 0.079, 0.072, 0.079, 0.079, 0.089, 0.072, 0.072, 0.062, 0.062,
        0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.062, 0.062, 0.062, 0.062, 0.107, 0.107,
    ),
    source=(
        "a-kitaev/Equistera-Trainer@23117ce configs/_base_/datasets/horse_ap10k.py; its authors chose the"
        " sigmas, nobody measured them"
    ),
)  # fmt: skip


# Faces: points are numbered, and no OKS constants are published, so PCK, NME and AUC only.


def _face(name: str, mirror: tuple[int, ...], source: str) -> Skeleton:
    return Skeleton(name, tuple(f"kpt-{i}" for i in range(len(mirror))), mirror=mirror, source=source)


FACE_68 = _face(
    "300w-68",
    (
        *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46,
        39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65,
    ),
    "300W (Sagonas et al. 2013); mirror of mmpose 1.3.2 configs/_base_/datasets/300w.py",
)  # fmt: skip

WFLW_98 = _face(
    "wflw-98",
    (
        *range(32, -1, -1), *range(46, 41, -1), *range(50, 46, -1), *range(37, 32, -1), *range(41, 37, -1),
        *range(51, 55), *range(59, 54, -1), *range(72, 67, -1), 75, 74, 73, *range(64, 59, -1), 67, 66, 65,
        *range(82, 75, -1), *range(87, 82, -1), *range(92, 87, -1), 95, 94, 93, 97, 96,
    ),
    "WFLW (Wu et al. 2018); mirror of mmpose 1.3.2 configs/_base_/datasets/wflw.py",
)  # fmt: skip


# COCO-WholeBody: body, feet, face and hands, 133 keypoints.


_FEET = ("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel")
_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")

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
        *(23 + i for i in FACE_68.mirror),
        *range(112, 133),
        *range(91, 112),
    ),
    sigmas=(*COCO_17.sigmas, *_FEET_SIGMAS, *_FACE_SIGMAS, *_HAND_SIGMAS, *_HAND_SIGMAS),
    source="COCO-WholeBody (Jin et al. 2020); sigmas of mmpose 1.3.2 datasets/coco_wholebody.py",
)
