"""Skeletons of quadrupeds, under mmpose's names, with the names of the annotation files as aliases."""

from __future__ import annotations

from workbench.core import Skeleton

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
