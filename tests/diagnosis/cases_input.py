"""Plantings in the input and in the output, in configs and in the user's own code."""

# ruff: noqa: E501 - one case a line
from __future__ import annotations

import numpy as np

from tests.diagnosis.planted_code import configured, heatmaps, own_code, squeezed, whole_images
from tests.diagnosis.planted_results import edit_results, good_results, one_keypoint, results, turned_scores
from tests.diagnosis.planted_weights import checkpoint, with_skeleton
from tests.diagnosis.systems import NEW_SCENES, OTHER_RTMPOSE, OTHER_VITPOSE, RTMPOSE, VITPOSE, Case

NORMALISED, RANGE, ORDER = (
    ("normalisation", "value range"),
    ("value range", "normalisation"),
    ("channel order",),
)
TURNED = ("width and height exchanged", "output axes exchanged", "own decoding contradicts the codec")
PLACED = ("keypoints placed wrongly", "own decoding contradicts the codec")
HALF = (
    "half-pixel shift",
    "keypoints placed wrongly",
    "own decoding contradicts the codec",
    "decoder of another codec",
)
UDP = ("UDP against plain affine", "decoder of another codec", "half-pixel shift")
RATIO, CONSTANT = ("SimCC split ratio",), ("outputs are constant",)
ONE = ("one keypoint placed wrongly", "one keypoint annotated wrongly")
FIXED, SCORES = ("keypoint is the same in every pose",), ("score does not rank the poses",)
MIRROR, SHIFT = ("mirror pairs contradict the names", "mirror pairs"), ("flip shift",)
SIDES = ("left and right exchanged", "own decoding contradicts the codec", "keypoint order permuted")
CODEC = ("decoder of another codec",)
SPLIT = r"(normalize=False,\s+sigma=\(\s+4\.0,\s+4\.0,\s+\),\s+simcc_split_ratio=)2\.0"


def fixed(keypoints):
    """These keypoints lie at one place of the crop in every pose."""
    return f"keypoints=np.where(np.isin(np.arange(17), {keypoints!r})[:, None], a @ [40, 70, 1], p.keypoints)"


def one_mirrored(keypoint):
    """One keypoint mirrored in the crop, whose pixels `a` takes to the image."""
    return (
        f"keypoints=np.where((np.arange(17) == {keypoint})[:, None], "
        "2 * (a @ [63.5, 63.5, 1]) * [1, 0] + p.keypoints * [-1, 1], p.keypoints)"
    )


def moved(pixels):
    return f"keypoints=p.keypoints + {pixels} * a[[0, 1], [0, 1]]"


FAULTS: tuple[Case, ...] = (
    Case("no mean subtracted", "rtmpose", configured((r"123\.675,\s+116\.28,\s+103\.53", "0, 0, 0")), NORMALISED, "weak", plants="mean and std"),
    Case("heatmaps: mean and std of .5", "heatmaps", heatmaps("mean=(0, 0, 0), std=(127.5, 127.5, 127.5)"), NORMALISED, "strong", plants="mean and std"),
    Case("heatmaps: raw pixels", "heatmaps", heatmaps("mean=(0, 0, 0), std=(1, 1, 1)"), RANGE, "strong", plants="value range"),
    Case("vitpose: pixels a tenth as large", "vitpose", own_code(VITPOSE, "std=tuple(v * 10 for v in model.std)"), RANGE, "weak", plants="value range"),
    Case("input transposed", "rtmpose", own_code(RTMPOSE, pixels=".transpose(-1, -2)"), TURNED, "strong", plants="width and height exchanged"),
    Case("heatmaps: half a pixel", "heatmaps", heatmaps(decode=moved(1.0)), HALF, "strong", plants="half-pixel shift"),
    Case("vitpose: half a pixel", "vitpose", own_code(VITPOSE, decode=moved(0.5)), HALF, "weak", plants="half-pixel shift"),
    Case("vitpose: read without UDP", "vitpose", own_code(VITPOSE, "codec=dataclasses.replace(model.codec, udp=not model.codec.udp)"), UDP, "weak", plants="UDP against plain affine"),
    Case("heatmaps: read with UDP", "heatmaps", heatmaps("codec=dataclasses.replace(codec, udp=True, decoder='udp'), warp_udp=False"), UDP, "strong", plants="UDP against plain affine"),
    Case("boxes squeezed into the input", "rtmpose", squeezed(RTMPOSE), ("crop padding",), "strong", plants="crop aspect"),
    Case("vitpose: boxes squeezed into the input", "vitpose", squeezed(VITPOSE), ("crop padding",), "weak", plants="crop aspect"),
    Case("split ratio 2.1", "rtmpose", configured((SPLIT, r"\g<1>2.1")), RATIO, "weak", both=("config contradicts itself",)),
    Case("heatmaps: plain argmax of small maps", "heatmaps", heatmaps("codec=dataclasses.replace(codec, decoder='argmax')", cells=16), CODEC, "strong"),
    Case("heatmaps: stride twice", "heatmaps", heatmaps(decode="keypoints=(p.keypoints - a[:, 2]) * 2 + a[:, 2]"), PLACED, "strong", plants="stride"),
    Case("vitpose: stride of 3.5 for 4", "vitpose", own_code(VITPOSE, decode="keypoints=(p.keypoints - a[:, 2]) * 0.875 + a[:, 2]"), PLACED, "weak", plants="stride"),
    Case("pixels all zero", "rtmpose", own_code(RTMPOSE, pixels=" * 0"), (*CONSTANT, "normalisation"), "strong"),
    Case("vitpose: nearly grey pixels", "vitpose", own_code(VITPOSE, pixels=" * 0.001"), (*CONSTANT, "value range", "normalisation"), "weak", plants="outputs are constant"),
    Case("four keypoints at one place", "rtmpose", own_code(RTMPOSE, decode=fixed([7, 10, 13, 16])), FIXED, "strong", both=PLACED, says=("L_F_Paw", "R_F_Paw", "L_B_Paw", "R_B_Paw",)),
    Case("vitpose: one keypoint at one place", "vitpose", own_code(VITPOSE, decode=fixed([2])), FIXED, "weak", both=PLACED, says=("^Nose ",)),
    Case("results: x and y of one keypoint", "rtmpose", results(one_keypoint(5, lambda p: p[::-1])), ONE, "strong", plants="one keypoint: axes exchanged, mirrored, scaled, moved", says=("^L_Shoulder ", "x and y exchanged",)),
    Case("good results: one keypoint 15 pixels to the right", "results", good_results(lambda raw: None, one_keypoint(2, lambda p: np.add(p, [15, 0]))), ONE, "strong", plants="one keypoint: axes exchanged, mirrored, scaled, moved", says=("^Nose ", r"x moved by -1[4-6]\.\d pixels",)),
    Case("vitpose: one keypoint mirrored in its crop", "vitpose", own_code(VITPOSE, decode=one_mirrored(9)), ONE, "weak", plants="one keypoint: axes exchanged, mirrored, scaled, moved", says=("^R_Elbow ", "with x mirrored",)),
    Case("vitpose: no keypoint mirrors", "vitpose", checkpoint(with_skeleton(mirror=lambda m: range(len(m))), VITPOSE), MIRROR, "strong", plants="flip pairs", says=("14 keypoints mirror", "L_Eye to L_Eye, not R_Eye",)),
    Case("heatmaps: mirrored maps not moved by a cell", "heatmaps", heatmaps("shift_heatmap=False"), SHIFT, "strong", plants="flip shift"),
    Case("vitpose: sides of all but the head exchanged", "vitpose", own_code(VITPOSE, decode="keypoints=p.keypoints[[0, 1, *self.model.skeleton.mirror[2:]]]"), SIDES, "weak"),
    Case("results: sides exchanged in a third of the keypoints", "results", good_results(lambda raw: None, edit_results(lambda p, e: p[[1, 0, *range(2, 17)]])), ("keypoint order permuted", *SIDES), "weak", plants="left and right exchanged"),
    Case("results: best pose scored lowest", "results", good_results(lambda raw: None, turned_scores, low=0.02, high=0.08), SCORES, "strong"),
)  # fmt: skip

HELD_OUT: tuple[Case, ...] = (
    Case("held: no mean and std of 1/255", "rtmpose, new scenes", own_code(NEW_SCENES, "mean=(0, 0, 0)"), NORMALISED, "weak", plants="mean and std"),
    Case("held: higherhrnet, 0 to 1", "higherhrnet", whole_images(1.0, "mean=(0, 0, 0), std=(255, 255, 255)"), RANGE, "strong", plants="value range"),
    Case("held: vitpose, input transposed", "vitpose, people", own_code(OTHER_VITPOSE, pixels=".transpose(-1, -2)"), TURNED, "strong", plants="width and height exchanged"),
    Case("held: three quarters of a pixel", "rtmpose, other run", own_code(OTHER_RTMPOSE, decode=moved(0.75)), HALF, "strong", plants="half-pixel shift"),
    Case("held: vitpose, people, read without UDP", "vitpose, people", own_code(OTHER_VITPOSE, "codec=dataclasses.replace(model.codec, udp=not model.codec.udp)"), UDP, "strong", plants="UDP against plain affine"),
    Case("held: split ratio 2.5", "rtmpose, other run", own_code(OTHER_RTMPOSE, "codec=dataclasses.replace(model.codec, split_ratio=2.5)"), RATIO, "strong"),
    Case("held: split ratio 1.9", "rtmpose, new scenes", own_code(NEW_SCENES, "codec=dataclasses.replace(model.codec, split_ratio=1.9)"), RATIO, "weak"),
    Case("held: vitpose, argmax without refinement", "vitpose, people", own_code(OTHER_VITPOSE, "codec=dataclasses.replace(model.codec, decoder='argmax', udp=False)"), CODEC, "weak"),
    Case("held: stride half", "rtmpose, new scenes", own_code(NEW_SCENES, decode="keypoints=(p.keypoints - a[:, 2]) * 0.5 + a[:, 2]"), PLACED, "strong", plants="stride"),
    Case("held: results, half a cell of 4", "results", good_results(lambda raw: None, edit_results(lambda p, e: np.add(p, [2, 2, 0])), NEW_SCENES, seed=9), PLACED, "weak", plants="offset and placing"),
    Case("held: two keypoints at one place", "rtmpose, other run", own_code(OTHER_RTMPOSE, decode=fixed([0, 12])), FIXED, "weak", both=PLACED, says=("L_Eye", "L_Knee",)),
    Case("held: one keypoint mirrored in its crop", "rtmpose, other run", own_code(OTHER_RTMPOSE, decode=one_mirrored(16)), ONE, "strong", plants="one keypoint: axes exchanged, mirrored, scaled, moved", says=("^R_B_Paw ", "with x mirrored",)),
    Case("held, results: one keypoint times .9", "vitpose, people", results(one_keypoint(7, lambda p: p * 0.9), OTHER_VITPOSE), ONE, "weak", plants="one keypoint: axes exchanged, mirrored, scaled, moved", says=("^left_elbow ",)),
    Case("held, results: one keypoint always at (0, 0)", "results", results(edit_results(lambda p, e: [*p[:4], [0, 0, 0], *p[5:]]), NEW_SCENES), FIXED, "strong", both=PLACED, says=("^Root of tail ",)),
    Case("held: vitpose, people, two pairs wrong", "vitpose, people", checkpoint(with_skeleton(mirror=lambda m: [0, 2, 1, 3, 4, *m[5:]]), OTHER_VITPOSE, data=False), MIRROR, "weak", "files", plants="flip pairs", says=("left_ear to left_ear, not right_ear",)),
    Case("held: vitpose, mirrored maps moved by a cell", "vitpose, people", own_code(OTHER_VITPOSE, "shift_heatmap=True"), SHIFT, "weak", plants="flip shift"),
)  # fmt: skip
