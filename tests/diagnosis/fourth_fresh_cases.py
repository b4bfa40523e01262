"""A fourth set of cases by somebody who had not read the methods, written after the others and run once.

The kinds that the list of causes names, in other systems, at other strengths and places; about a third are
mistakes beside the list. What each costs was measured before its diagnosis.
"""

# ruff: noqa: E501 - one case a line
from __future__ import annotations

from tests.diagnosis.cases_labs import text
from tests.diagnosis.cases_training import ANEW, RATE, WARM
from tests.diagnosis.fresh_cases import edited_poses, nothing, on, plain
from tests.diagnosis.planted_code import (
    HRNET_W32,
    heatmaps,
    known_people,
    own_code,
    published,
    vitpose_config,
    whole_images,
)
from tests.diagnosis.planted_fourths import (
    BASE,
    CROWD,
    EPOCH_20,
    GOOD,
    LAST,
    PERSONS,
    SEED_7,
    WORDS,
    alone,
    boxes_of_others,
    faces_alone,
    half_area,
    leaked_smaller,
    minus_one_as_visible,
    more_than_annotated,
    of_first,
    of_half_pictures,
    old_format,
    paws_exchanged,
    pck_of_box_diagonal,
    persons_are_0,
    poor_jpeg,
    poses_of_people,
    poses_of_the_middle,
    rightly_turned,
    saturated,
    whole_pixels,
    yolo_boxes,
)
from tests.diagnosis.planted_labels import (
    duplicated,
    exif_not_read,
    labelled,
    moved_boxes,
    narrow,
    permuted,
    stored_as,
    swapped_share,
)
from tests.diagnosis.planted_logs import as_events, begun_anew_at, logged, loss_times, rate_times
from tests.diagnosis.planted_results import claimed, good_results
from tests.diagnosis.planted_seconds import printed, several, written_as
from tests.diagnosis.planted_trainings import script
from tests.diagnosis.planted_weights import (
    checkpoint,
    exchanged_average,
    fresh_norms,
    frozen,
    renamed_part,
    scaled,
    statistics_of_first,
    with_earlier,
    with_skeleton,
    with_versions,
    zero_units,
)
from tests.diagnosis.systems import CAPE, OTHER_VITPOSE, Case
from tests.diagnosis.unplanned_cases import begun_anew

PARTLY = ("weights only partly loaded", "model cannot be built or run", "checkpoint cannot be opened")
NORMS = ("batch-norm statistics do not fit",)
NEVER = ("layers that never learned", "weights of one part of an earlier epoch")
DISTURBED = ("weights of one part disturbed", "weights differ from those of the other run")
RANGE, ORDER, PADDING = ("normalisation", "value range"), ("channel order",), ("crop padding", "crop aspect")
CROPS = ("crops differ from their affine",)
TURNED = ("width and height exchanged", "output axes exchanged", "own decoding contradicts the codec")
PLACED = ("keypoints placed wrongly", "own decoding contradicts the codec")
HALF = (*PLACED, "half-pixel shift", "decoder of another codec")
MIRRORS, SHIFT = ("mirror pairs contradict the names", "mirror pairs", "flip test"), ("flip shift",)
PERMUTED = ("keypoint order permuted",)
IN_PART = ("left and right exchanged in part of the labels",)
BOXES = ("annotated boxes", "annotated boxes do not fit their keypoints", "keypoints outside the box")
MOVED = ("annotated keypoints moved", "annotated keypoints", "image files of another size than annotated")
TWICE, NMS = ("instances annotated twice",), ("no NMS: poses found twice",)
SCORE, RULES = ("score does not rank the poses",), ("figure comes from other rules",)
SUBSET = ("only part of the images has results",)
ABSENT = ("detected boxes in place of annotated ones", "instances without a pose")
CATEGORIES = ("wrong category ids",)
SUPPORT, UNLEARNED = ("support not read",), ("keypoints not learned", "exposure bias")
DESTROYED = ("features destroyed", "random initialisation")
SCALED, HALVED = ("loss in the log is scaled",), ("half precision overflows in training",)
CLIP = ("gradient clipping too small",)
MISSING = ("optimizer misses parameters", "weights that are not trained")
KEPT, ORDERED = ("gradients are not cleared",), ("training data not shuffled",)
ITSELF = "config against itself"
AMP = (r"optim_wrapper = dict\(", "optim_wrapper = dict(dtype='float16', ")
COCO_PAIRS = "skeleton=dataclasses.replace(model.skeleton, mirror=(0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15))"
OPENPOSE = [0, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]
AXES = "keypoints=(((p.keypoints - a[:, 2]) / a[0, 0])[:, ::-1] * a[0, 0]) + a[:, 2]"
HALF_CELL = "keypoints=p.keypoints + 4 * a[[0, 1], [0, 1]]"
RATIO = "keypoints=(p.keypoints - a[:, 2]) * 2 / 3 + a[:, 2]"
HALF_STRIDE = "keypoints=(p.keypoints - a[:, 2]) * 0.5 + a[:, 2]"
STEP = "            optimizer.step()\n"
LOOP = "        for batch in loader:\n"
MADE = "    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)\n"
FILTERED = "    for p in model.stem.parameters():\n        p.requires_grad_(False)\n    optimizer = torch.optim.AdamW(filter(lambda p: p.requires_grad, model.parameters()), lr=5e-3)\n"
UNFROZEN = (
    "        if epoch == 3:\n            for p in model.stem.parameters():\n                p.requires_grad_(True)\n"
    + LOOP
)
SCALER = ("    optimizer =", "    scaler = torch.amp.GradScaler('cuda')\n    optimizer =")
BACKWARD = ("            loss.backward()\n", "            scaler.scale(loss).backward()\n")
UNSCALED = (
    "            loss.backward()\n",
    "            scaler.scale(loss).backward()\n            scaler.unscale_(optimizer)\n",
)
SCALED_STEP = (STEP, "            scaler.step(optimizer)\n            scaler.update()\n")
ONE_CYCLE = "    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, epochs=10, steps_per_epoch=len(loader))\n    for epoch"

FAULTS: tuple[Case, ...] = (
    # Files.
    Case("fourth: people, stage 3 under another prefix", CROWD.name, checkpoint(renamed_part("stage3.", "backbone.stage3."), CROWD), PARTLY, "strong", plants="weights only partly loaded"),
    Case("fourth: people, raw weights saved, average beside", CROWD.name, checkpoint(exchanged_average(0.3), CROWD), ("raw and averaged weights exchanged",), "strong"),
    Case("fourth: people, statistics of epoch 2", CROWD.name, checkpoint(statistics_of_first(1.0, CROWD), CROWD), (*NORMS, "batch-norm statistics not updated"), "strong"),
    Case("fourth: attention of the head frozen", LAST.name, with_earlier(frozen("head.gau", LAST), LAST, earlier=0), NEVER, "strong"),
    Case("fourth: people, two thirds of the first block's units zero", CROWD.name, checkpoint(zero_units("layer1.0.conv3.weight", 0.66), CROWD), ("units with all weights zero",), "strong", both=NORMS),
    Case("fourth: people, numpy 2 with torch 2.1", CROWD.name, checkpoint(with_versions(torch="2.1.2", numpy="2.0.1"), CROWD, data=False), ("package versions that do not fit",), "weak", "files"),
    # Input.
    Case("fourth: vitpose, pixels of 0 to 1 normalised as 0 to 255", SEED_7.name, own_code(SEED_7, "mean=tuple(255 * v for v in model.mean), std=tuple(255 * v for v in model.std)"), RANGE, "strong", plants="value range"),
    Case("fourth: people, mean and std of .5", CROWD.name, on(CROWD, whole_images(change="mean=(127.5,) * 3, std=(127.5,) * 3")), RANGE, "weak", plants="mean and std"),
    Case("fourth: heatmaps, a margin of a half", "heatmaps", on(LAST, heatmaps("padding=1.5")), PADDING, "weak", plants="crop padding"),
    Case("fourth, results: people, EXIF not read in half", "results", exif_not_read(0.5, poses_of_people, CROWD, 71, 6), ("EXIF rotation not applied",), "strong"),
    Case("fourth: vitpose, people, boxes of YOLO", OTHER_VITPOSE.name, labelled(yolo_boxes, OTHER_VITPOSE), BOXES, "strong", both=(*BOXES, "model cannot be built or run"), plants="boxes normalised"),
    # Output.
    Case("fourth: text, x and y", "text", own_code(WORDS, decode=AXES), TURNED, "strong", plants="output axes exchanged"),
    Case("fourth: text, split ratio 3", "text", own_code(WORDS, decode=RATIO), ("SimCC split ratio", *PLACED), "strong"),
    Case("fourth: vitpose, maps of half the size", SEED_7.name, own_code(SEED_7, decode=HALF_STRIDE), (*PLACED, "a wrong stride"), "strong", plants="stride"),
    Case("fourth: heatmaps of 16, half a cell off", "heatmaps", on(LAST, heatmaps(decode=HALF_CELL, cells=16)), HALF, "strong", plants="half-pixel shift"),
    Case("fourth: mirror pairs of people in the code", BASE.name, own_code(BASE, COCO_PAIRS), MIRRORS, "strong", plants="flip pairs"),
    Case("fourth: heatmaps of 16, mirrored maps not moved by a cell", "heatmaps", on(LAST, heatmaps("shift_heatmap=False", cells=16)), SHIFT, "strong"),
    Case("fourth, results: scores clipped at 1", "results", good_results(nothing, saturated, low=0.02, high=0.12, **GOOD), SCORE, "weak"),
    # Labels.
    Case("fourth, results: people, sides exchanged in an eighth", "results", good_results(swapped_share(0.125, "coco-17", 71), **PERSONS), IN_PART, "weak", fast=True),
    Case("fourth: vitpose, people, labels in OpenPose's order", OTHER_VITPOSE.name, labelled(permuted(OPENPOSE), OTHER_VITPOSE), PERMUTED, "strong"),
    Case("fourth, results: paws exchanged in two fifths", "results", good_results(paws_exchanged(0.4), **GOOD), (*PERMUTED, *IN_PART), "weak"),
    Case("fourth: people, sigmas of 1/17", CROWD.name, checkpoint(with_skeleton(sigmas=lambda s: [1 / 17] * 17), CROWD), ("sigmas of another skeleton",), "weak"),
    Case("fourth: unlabelled keypoints at (-1, -1)", LAST.name, labelled(minus_one_as_visible, LAST), ("visibility",), "strong", both=(*BOXES, "counts", "keypoints outside the image")),
    Case("fourth: boxes of the others in the picture", LAST.name, labelled(boxes_of_others, LAST), BOXES, "strong", both=BOXES, plants="points outside boxes or images"),
    Case("fourth: people, a quarter drawn twice", CROWD.name, labelled(duplicated(0.25, 71, 2.0), CROWD), TWICE, "weak"),
    Case("fourth: vitpose, people, smaller validation pictures in the training", OTHER_VITPOSE.name, leaked_smaller(0.25, OTHER_VITPOSE), ("training images in the validation set",), "weak", "files"),
    Case("fourth: a third labelled on previews", LAST.name, labelled(of_half_pictures(0.33), LAST), (*MOVED, *BOXES), "strong", both=(*MOVED, *BOXES), plants="annotated keypoints moved"),
    # Evaluation.
    Case("fourth, results: people, OKS with half the sigmas claimed", CROWD.name, claimed(lambda t, d, s, ap: ap(t, d, tuple(v / 2 for v in s)).figures["AP"], CROWD), RULES, "strong"),
    Case("fourth, results: PCK of the box's diagonal claimed", LAST.name, claimed(pck_of_box_diagonal, LAST), RULES, "weak", plants="PCK with another normaliser"),
    Case("fourth, results: .53 of the box for the area claimed", BASE.name, claimed(half_area, BASE), RULES, "weak", plants="area from boxes"),
    Case("fourth, results: AP of the first six images claimed", LAST.name, claimed(of_first(0.1), LAST), (*RULES, *SUBSET), "weak"),
    Case("fourth, results: people are category 0", "results", good_results(nothing, persons_are_0, **PERSONS), CATEGORIES, "strong"),
    # Grouping, sequence, conditioning.
    Case("fourth: people, tags a tenth", "higherhrnet", known_people(maps="tags=found.tags * 0.1"), ("tags of the wrong scale",), "strong"),
    Case("fourth: people of narrow pictures, no inverse affine", CROWD.name, narrow(on(CROWD, whole_images(change="aggregation=dataclasses.replace(model.aggregation, inverse_affine=False)")), CROWD, 320), ("the inverse affine left out",), "strong", both=("cells placed off", "a wrong stride")),
    Case("fourth: cape, offsets of the decoder begun anew", "cape", checkpoint(begun_anew("decoder.offsets."), CAPE), (*NEVER, *DISTURBED, *UNLEARNED), "strong", both=(*NEVER, *DISTURBED, *UNLEARNED, *SUPPORT)),
    Case("fourth: cape, a layer of its image encoder sixfold", "cape", checkpoint(scaled("image.lateral", 6.0), CAPE), ("weights of one part scaled", *DISTURBED, *UNLEARNED), "strong", both=("weights of one part scaled", *DISTURBED, *UNLEARNED, *SUPPORT)),
    Case("fourth: text, statistics as new", "text", on(WORDS, text(fresh_norms(1.0))), NORMS, "strong", both=DESTROYED),
    # Logs.
    Case("fourth, events: ten times the rate", "tensorboard", as_events(rate_times(10.0)), RATE, "strong", "files", plants="learning rate 10 times off"),
    Case("fourth, printed log: loss of four gathered batches", "printed logs", written_as(printed, loss_times(0.25)), SCALED, "strong", "files"),
    Case("fourth, events: schedule begun anew", "tensorboard", as_events(begun_anew_at(0.6)), ANEW, "strong", "files", plants="resume restarted the schedule"),
    # Configs.
    Case("fourth, vitpose config: clipping at .001", "vitpose config", vitpose_config((r"max_norm=1\.", "max_norm=0.001")), CLIP, "strong", "files", fast=True),
    Case("fourth, hrnet config: warm-up of 500 epochs", "hrnet config", published(HRNET_W32, (r"start_factor=0\.001,\s+by_epoch=False", "start_factor=0.001")), WARM, "strong", "files", plants="warm-up longer than the run"),
    Case("fourth, hrnet config: mirrored maps not moved", "hrnet config", published(HRNET_W32, (r"shift_heatmap=True", "shift_heatmap=False")), (*SHIFT, "flip test does not shift its maps", "config contradicts itself", "not the published protocol"), "weak", "files", fast=True, plants="flip shift"),
    # Scripts.
    Case("fourth, script: zero_grad never called", "own network", script(("zero_grad()", "zero_grad")), KEPT, "strong", "files"),
    Case("fourth, script: frozen first, unfrozen without the optimizer", "own network", script((MADE, FILTERED), (LOOP, UNFROZEN)), MISSING, "strong", "files", plants="optimizer misses parameters"),
    Case("fourth, script: clipped before the scale is taken off", "own network", script(SCALER, BACKWARD, SCALED_STEP), (*CLIP, "clipping before the loss scale is taken off"), "strong", "files", plants="gradient clipping too small"),
    Case("fourth, script: one cycle stepped once an epoch", "own network", script(("    for epoch", ONE_CYCLE), (STEP, STEP + "        schedule.step()\n")), ("scheduler counts batches and is stepped every epoch", "scheduler counts epochs and is stepped every batch", "schedule per epoch instead of iteration", *WARM), "strong", "files", plants="schedule per epoch instead of iteration"),
    Case("fourth, script: batches cut in the order of the file", "own network", script((LOOP, "        for batch in images.split(8):\n")), ORDERED, "weak", "files"),
    # Two at once.
    Case("fourth: sides exchanged in a third and boxes moved", LAST.name, labelled(several(swapped_share(0.33, seed=71), moved_boxes(0.33)), LAST), (*IN_PART, *BOXES), "strong", both=(*IN_PART, *BOXES)),
)  # fmt: skip

FINE_TUNED = ((r"lr=0\.003", "lr=0.0003"), (r"eta_min=6e-05", "eta_min=6e-06"))

CONTROLS: tuple[Case, ...] = (
    Case("fourth: epoch 20", EPOCH_20.name, plain(EPOCH_20)),
    Case("fourth: pictures of one animal", LAST.name, labelled(alone, LAST)),
    Case("fourth: heads alone are labelled", LAST.name, labelled(faces_alone, LAST)),
    Case("fourth: every second picture has labels", BASE.name, labelled(poses_of_the_middle, BASE)),
    Case("fourth: half of the pictures turned by their EXIF", LAST.name, rightly_turned(LAST)),
    Case("fourth: pictures of low quality", LAST.name, stored_as(LAST, nothing, poor_jpeg)),
    Case("fourth: file of torch 1.3", LAST.name, old_format),
    Case("fourth: narrow people", CROWD.name, narrow(plain(CROWD), CROWD, 320)),
    Case("fourth: cape, own code", "cape", own_code(CAPE)),
    Case("fourth: vitpose, people, epoch 80", OTHER_VITPOSE.name, lambda folder: ([OTHER_VITPOSE.checkpoints()[1]], OTHER_VITPOSE.options())),
    Case("fourth, results: whole pixels", "results", good_results(nothing, edited_poses(whole_pixels), **PERSONS)),
    Case("fourth, results: many weak false alarms", "results", good_results(nothing, more_than_annotated, **GOOD)),
    Case("fourth, log: a tenth of the rate, in both", "logs", logged(rate_times(0.1), *FINE_TUNED), level="files"),
    Case("fourth, hrnet config: DARK and UDP for 384 x 288", "hrnet config", published("td-hm_hrnet-w48_udp-8xb32-210e_coco-384x288.py"), level="files"),
    Case("fourth, script: clipped once the scale is taken off", "own network", script(SCALER, UNSCALED, SCALED_STEP), level="files"),
    Case("fourth, vitpose config: layer decay without its keys, which it does not read", "vitpose config", vitpose_config((r"(?s)custom_keys=\{.*?\n        \},", "")), level="files"),
    Case("fourth, script: norms converted after the optimizer, with the same parameters", "own network", script((MADE, MADE + "    model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)\n")), level="files"),
)  # fmt: skip
