"""Plantings in annotations, image files and result files."""

# ruff: noqa: E501 - one case a line
from __future__ import annotations

import dataclasses

import numpy as np

from tests.diagnosis.planted_labels import (
    all_hidden,
    areas_times,
    boxes_of_neighbours,
    darkened,
    duplicated,
    half_as_large,
    half_miscounted,
    hidden_as_visible,
    ids_from_zero,
    image_files,
    in_part,
    labelled,
    leaked,
    miscounted,
    moved_boxes,
    moved_labels,
    normalised,
    normalised_pixels,
    one_label,
    outside,
    points_exchanged,
    small_boxes,
    swapped_share,
    unit_boxes,
)
from tests.diagnosis.planted_results import (
    at_most,
    claimed,
    cut_at,
    detector_boxes,
    good_results,
    own_results,
    part_of,
    pck,
    repeated,
    results,
    shifted_ids,
    some_categories,
    some_other_images,
    unsure_at_zero,
    without_a_category,
)
from tests.diagnosis.planted_weights import checkpoint, with_names, with_sigmas, with_skeleton
from tests.diagnosis.systems import NEW_SCENES, OTHER_RTMPOSE, OTHER_VITPOSE, VITPOSE, Case
from workbench.diagnosis.image_file_causes import grey, mirrored, red_and_blue, turned

BOXES = ("annotated boxes", "annotated boxes do not fit their keypoints", "keypoints outside the box")
SIGMAS, TWICE = ("sigmas of another skeleton",), ("instances annotated twice",)
MOVED, NAMES = ("annotated keypoints moved",), ("keypoints named in another order",)
IN_PART, VISIBILITY = ("left and right exchanged in part of the labels",), ("visibility",)
ONE = ("one keypoint annotated wrongly", "one keypoint placed wrongly")
STORED, GREY = ("part of the image files stored otherwise",), ("part of the image files has no colour",)
SIZE = ("image files of another size than annotated",)
LEAK, RULES = ("training images in the validation set",), ("figure comes from other rules",)
CATEGORIES, SUBSET = ("wrong category ids",), ("only part of the images has results",)
FOREIGN, SHIFTED = ("results of other images",), ("results stand under other images' ids",)
NMS, DETECTED = ("no NMS: poses found twice",), ("detected boxes in place of annotated ones",)
POINTS = ("annotated keypoints",)
LEFT_OUT, HELD = ("instances without a pose",), ("keypoints held at one coordinate",)
UNRANKED = ("score does not rank the poses",)


def nothing(raw):
    """No change."""


def with_box_area(truth):
    """The truth with the area of its boxes, as an evaluator without segmentations takes it."""
    return dataclasses.replace(truth, area=truth.boxes[:, 2] * truth.boxes[:, 3])


FAULTS: tuple[Case, ...] = (
    Case("vitpose: sides swapped in a third of the labels", "vitpose", labelled(swapped_share(0.35), VITPOSE), IN_PART, "strong"),
    Case("vitpose: sigmas twice as large", "vitpose", checkpoint(with_skeleton(sigmas=lambda s: [2 * v for v in s]), VITPOSE), SIGMAS, "strong", says=("16 others", r"0\.05 against 0\.025",)),
    Case("sigmas of two keypoints exchanged", "rtmpose", checkpoint(with_sigmas([0.107, 0.107, 0.026, 0.035, 0.035, 0.079, 0.072, 0.062, 0.079, 0.072, 0.062, 0.025, 0.087, 0.089, 0.025, 0.087, 0.089])), SIGMAS, "weak", says=("3 others", r"0\.107 against 0\.025",)),
    Case("names of the file in another order", "rtmpose", checkpoint(with_names([2, 0, 1, *range(3, 17)])), NAMES, "strong", says=("3 of 17", "Nose in the model and L_Eye in the data set",)),
    Case("vitpose: two names exchanged", "vitpose", checkpoint(with_skeleton(keypoints=lambda k: [*k[:3], k[4], k[3], *k[5:]]), VITPOSE), NAMES, "weak", says=("2 of 17", "Root of tail in the model and Neck in the data set",)),
    Case("vitpose: all hidden", "vitpose", labelled(all_hidden, VITPOSE), VISIBILITY, "weak", both=BOXES),
    Case("points at (0, 0) in a third", "rtmpose", labelled(in_part(hidden_as_visible, 0.33)), VISIBILITY, "strong", both=(*BOXES, "counts", "keypoints outside the box")),
    Case("labels moved by 12 pixels", "rtmpose", labelled(moved_labels(12)), MOVED, "strong"),
    Case("vitpose: labels moved by 5 pixels", "vitpose", labelled(moved_labels(5, False), VITPOSE), MOVED, "weak"),
    Case("labels: x and y of one keypoint", "rtmpose", labelled(one_label(10, lambda p: p[::-1])), ONE, "strong", both=("keypoints outside the box", "keypoints outside the image"), plants="one keypoint: axes exchanged, mirrored, scaled, moved", says=("^R_F_Paw ", "x and y exchanged",)),
    Case("vitpose: labels of one keypoint too far to the right", "vitpose", labelled(one_label(2, lambda p: p * [1.1, 1]), VITPOSE), ONE, "weak", both=("keypoints outside the box", "keypoints outside the image"), plants="one keypoint: axes exchanged, mirrored, scaled, moved", says=("^Nose ",)),
    Case("half of the image files BGR", "rtmpose", image_files(0.5, red_and_blue), STORED, "strong"),
    Case("vitpose: a third of the image files BGR", "vitpose", image_files(0.33, red_and_blue, VITPOSE, 1), STORED, "weak"),
    Case("a third of the image files turned by 180 degrees", "rtmpose", image_files(0.33, turned), STORED, "strong"),
    Case("vitpose: a quarter of the image files mirrored", "vitpose", image_files(0.25, mirrored, VITPOSE), STORED, "weak"),
    Case("vitpose: a third of the image files normalised", "vitpose", image_files(0.33, normalised_pixels, VITPOSE), STORED, "strong"),
    Case("vitpose: a quarter of the image files dark", "vitpose", image_files(0.25, darkened, VITPOSE), STORED, "weak"),
    Case("vitpose: a third of the image files grey", "vitpose", image_files(0.33, grey, VITPOSE), GREY, "strong"),
    Case("vitpose: a sixth of the image files grey", "vitpose", image_files(0.17, grey, VITPOSE, 2), GREY, "weak"),
    Case("a third of the image files half as large", "rtmpose", image_files(0.33, half_as_large), SIZE, "strong"),
    Case("vitpose: a tenth of the image files half as large", "vitpose", image_files(0.1, half_as_large, VITPOSE), SIZE, "weak", "files"),
    Case("results: poses of image files half as large", "results", image_files(0.33, half_as_large, found=own_results), SIZE, "strong"),
    Case("boxes moved by a third", "rtmpose", labelled(moved_boxes(0.33)), BOXES, "strong", plants="boxes moved or too small"),
    Case("vitpose: boxes of two thirds", "vitpose", labelled(small_boxes(0.66), VITPOSE), BOXES, "weak", plants="boxes moved or too small"),
    Case("half of the boxes as shares", "rtmpose", labelled(in_part(unit_boxes, 0.5)), BOXES, "weak", both=BOXES, plants="boxes normalised"),
    Case("vitpose: a tenth of the keypoints outside the picture", "vitpose", labelled(outside(0.1), VITPOSE), ("keypoints outside the image",), "weak", both=BOXES, plants="points outside boxes or images"),
    Case("results: y before x in the labels", "results", good_results(points_exchanged), (*POINTS, "output axes exchanged"), "strong", both=("keypoints outside the box", "keypoints outside the image"), plants="annotated keypoints: shares or exchanged axes"),
    Case("rtmpose: labels as shares in a third", "rtmpose", labelled(in_part(normalised, 0.33)), POINTS, "weak", both=("annotated areas", "keypoints outside the box", *BOXES), plants="annotated keypoints: shares or exchanged axes"),
    Case("results: counts of all keypoints", "results", good_results(miscounted), ("counts",), "strong", plants="counts, ids, areas"),
    Case("vitpose: areas a tenth as large", "vitpose", labelled(areas_times(0.1), VITPOSE), ("annotated areas",), "weak", plants="counts, ids, areas"),
    Case("results: annotation id 0", "results", good_results(ids_from_zero), ("annotation ids",), "weak", plants="counts, ids, areas"),
    Case("a fifth of the categories wrong", "rtmpose", results(some_categories(0.2)), CATEGORIES, "weak"),
    Case("results: a third of other images", "rtmpose", results(some_other_images(0.33)), FOREIGN, "weak"),
    Case("results: ids shifted by one", "rtmpose", results(shifted_ids(1)), SHIFTED, "strong", both=("detected boxes in place of annotated ones",)),
    Case("good results: every second image one further", "results", good_results(nothing, shifted_ids(1, every=2)), SHIFTED, "weak"),
    Case("results: one detection per image claimed", "rtmpose", claimed(lambda t, d, s, ap: ap(t, d, s, max_dets=1).figures["AP"]), RULES, "weak", plants="maxDets", says=("with one detection per image;",)),
    Case("vitpose, results: AR for AP claimed", "vitpose", claimed(lambda t, d, s, ap: ap(t, d, s).figures["AR"], VITPOSE), RULES, "weak", plants="AP50 or AR for AP", says=("with AR in place of AP;",)),
    Case("results: area from boxes claimed", "rtmpose", claimed(lambda t, d, s, ap: ap(with_box_area(t), d, s).figures["AP"]), RULES, "weak", plants="area from boxes", says=("with the area of the box;",)),
    Case("results: sigma .1 for every keypoint claimed, rtmpose", "rtmpose", claimed(lambda t, d, s, ap: ap(t, d, (0.1,) * 17).figures["AP"]), RULES, "strong", says=("with sigma .1 for every keypoint;",)),
    Case("results: PCK of the longer side claimed", "rtmpose", claimed(pck("longer side", 0.2)), RULES, "strong", plants="PCK with another normaliser", says=("with PCK at 0.2 of the longer side;",)),
    Case("results: AP50 with the area of boxes claimed", "rtmpose", claimed(lambda t, d, s, ap: ap(with_box_area(t), d, s).figures["AP50"]), RULES, "strong", plants="area from boxes", says=("with AP at OKS .5 alone and the area of the box;",)),
    Case("results: two poses of an image at most", "results", good_results(nothing, at_most(2)), LEFT_OUT, "strong"),
    Case("rtmpose results: one category never predicted", "rtmpose", results(without_a_category), LEFT_OUT, "weak"),
    Case("results: unsure keypoints at (0, 0)", "results", good_results(nothing, unsure_at_zero(0.3)), HELD, "strong", both=UNRANKED),
    Case("rtmpose results: cut at 192 x 256", "rtmpose", results(cut_at(192, 256)), HELD, "weak", both=UNRANKED),
)  # fmt: skip

HELD_OUT: tuple[Case, ...] = (
    Case("held: sides swapped in a fifth of the labels", "vitpose, people", labelled(swapped_share(0.2, "coco-17", 9), OTHER_VITPOSE), IN_PART, "weak"),
    Case("held: sigmas of .05 for all", "vitpose, people", checkpoint(with_skeleton(sigmas=lambda s: [0.05] * len(s)), OTHER_VITPOSE), SIGMAS, "weak", says=("16 others", r"0\.05 against 0\.107",)),
    Case("held: half hidden", "rtmpose, other run", labelled(in_part(all_hidden, 0.5, 9), OTHER_RTMPOSE), VISIBILITY, "weak", both=BOXES),
    Case("held: labels moved by 8 pixels to the left and up", "rtmpose, other run", labelled(moved_labels(-8), OTHER_RTMPOSE), MOVED, "weak"),
    Case("held: people, labels of one keypoint 15 pixels too low", "vitpose, people", labelled(one_label(9, lambda p: np.add(p, [0, 15])), OTHER_VITPOSE), ONE, "weak", both=("keypoints outside the box", "keypoints outside the image"), plants="one keypoint: axes exchanged, mirrored, scaled, moved", says=("^left_wrist ", r"y moved by \+1[4-6]\.\d pixels",)),
    Case("held: half of the image files BGR", "vitpose, people", image_files(0.5, red_and_blue, OTHER_VITPOSE, 9), STORED, "strong"),
    Case("held: a fifth of the image files turned by 180 degrees", "rtmpose, other run", image_files(0.2, turned, OTHER_RTMPOSE, 9), STORED, "weak"),
    Case("held: a quarter of the image files grey", "vitpose, people", image_files(0.25, grey, OTHER_VITPOSE, 9), GREY, "weak"),
    Case("held: half of the image files half as large", "rtmpose, other run", image_files(0.5, half_as_large, OTHER_RTMPOSE, 9), SIZE, "strong"),
    Case("held: boxes of three quarters", "rtmpose, new scenes", labelled(small_boxes(0.75), NEW_SCENES), BOXES, "weak", plants="boxes moved or too small"),
    Case("held: boxes a quarter too far to the left and up", "vitpose, people", labelled(moved_boxes(-0.25), OTHER_VITPOSE), BOXES, "strong", plants="boxes moved or too small"),
    Case("held: people, boxes of neighbours", "vitpose, people", labelled(boxes_of_neighbours(0.3), OTHER_VITPOSE), BOXES, "strong", both=BOXES, plants="points outside boxes or images"),
    Case("held: a third of the keypoints outside the picture", "results", good_results(outside(0.33, seed=9), system=NEW_SCENES, seed=9), ("keypoints outside the image",), "strong", both=(*BOXES, "keypoints placed wrongly"), plants="points outside boxes or images"),
    Case("held: counts of visible keypoints alone", "rtmpose, other run", labelled(half_miscounted, OTHER_RTMPOSE), ("counts",), "weak", plants="counts, ids, areas"),
    Case("held: people, a fifth annotated twice", "vitpose, people", labelled(duplicated(0.2, 9, 0.3), OTHER_VITPOSE), TWICE, "strong"),
    Case("held: people, a third of the validation in the training", "vitpose, people", leaked(0.33, OTHER_VITPOSE, seed=9, with_checkpoint=False), LEAK, "strong", "files"),
    Case("held, results: a third of the categories wrong", "vitpose, people", results(some_categories(0.33, 9), OTHER_VITPOSE), CATEGORIES, "weak"),
    Case("held, results: half of other images", "results", good_results(nothing, some_other_images(0.5), NEW_SCENES, seed=9), FOREIGN, "weak"),
    Case("held, results: ids shifted by three", "vitpose, people", results(shifted_ids(3), OTHER_VITPOSE), SHIFTED, "strong", both=DETECTED),
    Case("held, results: a quarter of the images", "results", good_results(nothing, part_of(0.25), NEW_SCENES, seed=9), SUBSET, "strong"),
    Case("held, results: twice, people", "vitpose, people", results(repeated(1), OTHER_VITPOSE), NMS, "weak"),
    Case("held, results: loose boxes, all found", "vitpose, people", results(detector_boxes(0.0, 0.15, 9), OTHER_VITPOSE), DETECTED, "weak"),
    Case("held, results: one detection per image claimed", "rtmpose, other run", claimed(lambda t, d, s, ap: ap(t, d, s, max_dets=1).figures["AP"], OTHER_RTMPOSE), RULES, "strong", plants="maxDets", says=("with one detection per image;",)),
    Case("held, results: AP50 claimed", "vitpose, people", claimed(lambda t, d, s, ap: ap(t, d, s).figures["AP50"], OTHER_VITPOSE), RULES, "strong", plants="AP50 or AR for AP", says=("with AP at OKS .5 alone;",)),
    Case("held, results: area from boxes claimed", "vitpose, people", claimed(lambda t, d, s, ap: ap(with_box_area(t), d, s).figures["AP"], OTHER_VITPOSE), RULES, "strong", plants="area from boxes", says=("with the area of the box;",)),
    Case("held, results: people, PCK of the longer side claimed", "vitpose, people", claimed(pck("longer side", 0.1), OTHER_VITPOSE), RULES, "strong", plants="PCK with another normaliser", says=("with PCK at 0.1 of the longer side;",)),
    Case("held, results: PCK of the root of the box claimed", "rtmpose, new scenes", claimed(pck("root", 0.1), NEW_SCENES), RULES, "weak", plants="PCK with another normaliser", says=("with PCK at 0.1 of the root of the box;",)),
)  # fmt: skip
