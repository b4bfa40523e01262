"""A fifth set of cases by somebody who had not read the methods, written after the others and run once.

PLANNED has the kinds that the list of causes names, in systems, at strengths and at places that no other set
has; BESIDE has mistakes that are not on the list, as people make them. What a planting costs its run was
measured before its diagnosis and stands behind the case: the figure of the healthy run, then the planted one's,
of the first 12 images (4 of people) where a model is run, and of all poses of a result file.
"""

# ruff: noqa: E501 - one case a line
from __future__ import annotations

from tests.diagnosis.cases_labs import shut, text
from tests.diagnosis.cases_training import ANEW, EVAL, OVERFITS, RATE, WARM
from tests.diagnosis.fresh_cases import edited_poses, nothing, on, plain
from tests.diagnosis.later_fresh_cases import printed, written_as
from tests.diagnosis.planted_code import (
    HRNET_W32,
    heatmaps,
    own_code,
    published,
    vitpose_config,
    whole_images,
)
from tests.diagnosis.planted_fifths import (
    BASE,
    CROWD,
    EPOCH_10,
    GOOD,
    LAST,
    PERSONS,
    SEED_5,
    WORDS,
    by_columns,
    coarse_grid,
    even_images,
    evenness,
    few_labelled,
    fogged,
    framed,
    half_as_new,
    halves_of_two,
    hidden_in_the_middle,
    loose_boxes,
    mosaic,
    moved_by,
    of_three_quarters,
    order_in_part,
    overfitted_late,
    plateau,
    poses_of_two_models,
    shorter_side,
    shuffled_log,
    small_pictures,
    smoothed,
    squares,
    twice_in_half,
    visible_alone,
    without_its_half,
)
from tests.diagnosis.planted_labels import (
    exif_left_behind,
    hidden_as_visible,
    image_files,
    in_part,
    labelled,
    one_in,
    permuted,
    small_boxes,
    stored_as,
    swapped_share,
)
from tests.diagnosis.planted_logs import as_events, begun_anew_at, csv_logged, logged, nan_from, rate_times
from tests.diagnosis.planted_results import claimed, good_results, results, some_categories
from tests.diagnosis.planted_trainings import script
from tests.diagnosis.planted_weights import (
    checkpoint,
    frozen,
    in_half,
    missing,
    scaled,
    statistics_of_first,
    with_earlier,
    zero_units,
)
from tests.diagnosis.systems import CAPE, Case

PARTLY = (
    "weights only partly loaded",
    "model cannot be built or run",
    "checkpoint cannot be opened",
    "file is not what its name or config says",
)
NORMS = ("batch-norm statistics do not fit", "batch-norm statistics not updated")
NEVER = ("layers that never learned", "weights of one part of an earlier epoch")
SCALED = ("weights of one part scaled", "weights of one part disturbed")
RANGE, PADDING = ("normalisation", "value range"), ("crop padding",)
CROPS = ("crops differ from their affine",)
TURNED = ("width and height exchanged", "output axes exchanged", "own decoding contradicts the codec")
PLACED = ("keypoints placed wrongly", "own decoding contradicts the codec")
PERMUTED = ("keypoint order permuted",)
IN_PART = ("left and right exchanged in part of the labels",)
BOXES = ("annotated boxes", "annotated boxes do not fit their keypoints", "keypoints outside the box")
MOVED = ("annotated keypoints moved", "annotated keypoints")
OUTSIDE = ("keypoints outside the image", *BOXES)
SCORE, RULES = ("score does not rank the poses",), ("figure comes from other rules",)
MISSING = ("optimizer misses parameters", "weights that are not trained")
ORDERED, STORED = ("training data not shuffled",), ("part of the image files stored otherwise",)
ITSELF = ("config contradicts itself",)
AXES = "keypoints=(((p.keypoints - a[:, 2]) / a[0, 0])[:, ::-1] * a[0, 0]) + a[:, 2]"
RATIO = "keypoints=(p.keypoints - a[:, 2]) * 2 / 2.3 + a[:, 2]"
STRIDE = "keypoints=(p.keypoints - a[:, 2]) * 1.125 + a[:, 2]"
CELL_DOWN = "keypoints=p.keypoints + np.array([0, 4 * a[1, 1]])"
LEGS = "keypoints=p.keypoints[[*range(5), 11, 12, 13, 14, 15, 16, 5, 6, 7, 8, 9, 10]]"
STEP = "            optimizer.step()\n"
LOOP = "        for batch in loader:\n"
MADE = "    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)\n"
OF_HEAD = (
    "    optimizer = torch.optim.AdamW([p for n, p in model.named_parameters() if 'head' in n], lr=5e-3)\n"
)
FROZEN_NORMS = (
    LOOP
    + "            for m in model.modules():\n                if isinstance(m, torch.nn.BatchNorm2d):\n                    m.eval()\n"
)
CLEARED = "            optimizer.zero_grad()\n"
SLOW = "    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, total_iters=100_000)\n    for epoch"
VAL_CROP = r"(val_pipeline = \[\s+dict\(type='LoadImage'\),\s+dict\(type='GetBBoxCenterScale'\),\s+dict\(type='TopdownAffine', )input_size=codec\['input_size'\]"


PLANNED: tuple[Case, ...] = (
    # Files.
    Case("fifth: heatmaps, statistics of epoch 1", "heatmaps", on(LAST, heatmaps(weights=statistics_of_first(1.0))), NORMS, "strong"),  # AP .605 to .000
    Case("fifth: people, every second norm as new", CROWD.name, checkpoint(half_as_new, CROWD), NORMS, "strong"),  # AP .281 to .000
    Case("fifth: vitpose, half of the last block's units zero", SEED_5.name, checkpoint(zero_units("backbone.layers.2.ffn.layers.0.0.weight", 0.5), SEED_5), ("units with all weights zero",), "weak"),
    Case("fifth: cape, second layer of the decoder not in the file", CAPE.name, checkpoint(missing("decoder.layers.1."), CAPE), PARTLY, "strong", plants="weights only partly loaded"),
    Case("fifth: text, attention of the head fourfold", "text", on(WORDS, text(scaled("head.gau.uv", 4.0))), SCALED, "strong", both=SCORE),  # AP .490 to .017
    Case("fifth: people, stage 4 frozen", CROWD.name, with_earlier(frozen("stage4.", CROWD), CROWD, earlier=0), NEVER, "strong", "files"),  # AP .281 to .000
    # Input.
    Case("fifth: heatmaps, 0 to 1", "heatmaps", on(LAST, heatmaps("mean=(0.0,) * 3, std=(255.0,) * 3")), RANGE, "strong", plants="value range"),  # AP .605 to .204
    Case("fifth: vitpose, padding 1.5", SEED_5.name, own_code(SEED_5, "padding=1.5"), PADDING, "strong"),
    Case("fifth: heatmaps, input transposed", "heatmaps", on(LAST, heatmaps(pixels=".transpose(-1, -2)")), (*TURNED, *CROPS), "strong", plants="width and height exchanged"),  # AP .605 to .001
    Case("fifth: vitpose, EXIF tag left behind in two fifths", SEED_5.name, exif_left_behind(0.4, SEED_5, 81), ("EXIF rotation not applied", *STORED), "strong", plants="EXIF rotation not applied"),
    # Output.
    Case("fifth: cape, x and y", CAPE.name, own_code(CAPE, decode=AXES), TURNED, "strong", plants="output axes exchanged"),  # PCK .166 to .028
    Case("fifth: split ratio 2.3", BASE.name, own_code(BASE, decode=RATIO), ("SimCC split ratio", *PLACED), "weak"),  # PCK .926 to .123
    Case("fifth: heatmaps, stride of 4.5 for 4", "heatmaps", on(LAST, heatmaps(decode=STRIDE)), (*PLACED, "a wrong stride"), "strong", plants="stride"),  # AP .605 to .000
    Case("fifth: vitpose, one cell down", SEED_5.name, own_code(SEED_5, decode=CELL_DOWN), (*PLACED, "half-pixel shift"), "weak", plants="offset and placing"),
    Case("fifth, results: score is how even the confidence is", LAST.name, results(evenness, LAST), SCORE, "weak"),  # AP .432 to .313
    Case("fifth: text, front and hind legs exchanged", "text", own_code(WORDS, decode=LEGS), (*PERMUTED, *PLACED), "strong"),  # AP .490 to .000
    # Labels.
    Case("fifth: people, shoulders and elbows exchanged in the labels", CROWD.name, labelled(permuted([0, 1, 2, 3, 4, 7, 8, 5, 6, *range(9, 17)]), CROWD), PERMUTED, "strong"),  # AP .281 to .059
    Case("fifth, results: sides exchanged in a tenth", "results", good_results(swapped_share(0.1, seed=81), **GOOD), IN_PART, "weak"),  # AP .825 to .768
    Case("fifth, results: people, unlabelled points visible at (0, 0) in half", "results", good_results(in_part(hidden_as_visible, 0.5, 81), **PERSONS), ("visibility",), "strong", both=(*OUTSIDE, "counts")),  # the file states it: AP stays .833
    Case("fifth: people, labels 9 pixels to the left and 6 too low", CROWD.name, labelled(moved_by(-9, 6), CROWD), MOVED, "strong"),  # AP .281 to .002
    Case("fifth: vitpose, boxes of the torso in two fifths", SEED_5.name, labelled(in_part(small_boxes(0.5), 0.4, 81), SEED_5), BOXES, "strong", both=BOXES),
    Case("fifth, results: people, elbows and wrists exchanged in a third", "results", good_results(order_in_part([*range(7), 9, 10, 7, 8, *range(11, 17)], 0.33), **PERSONS), (*PERMUTED, "one keypoint annotated wrongly"), "weak"),  # AP .833 to .635
    # Evaluation.
    Case("fifth, results: OKS without its one half claimed", BASE.name, claimed(without_its_half, BASE), RULES, "weak"),  # AP .401, claimed .251
    Case("fifth, results: PCK of the shorter side claimed", LAST.name, claimed(shorter_side(0.2), LAST), RULES, "weak", plants="PCK with another normaliser"),  # AP .432, claimed .829
    Case("fifth, results: people, every second pose twice", "results", good_results(nothing, twice_in_half, **PERSONS), ("no NMS: poses found twice",), "weak"),  # AP .833 to .656
    Case("fifth, results: people, two fifths of category 99", "results", good_results(nothing, some_categories(0.4, 81), **PERSONS), ("wrong category ids",), "weak"),  # the file states it
    Case("fifth, results: people, one process of two", "results", good_results(nothing, even_images, **PERSONS), ("only part of the images has results",), "strong"),  # AP .833 to .446
    # Grouping, sequence, conditioning.
    Case("fifth: people, tags 15 times", CROWD.name, on(CROWD, whole_images(15.0)), ("tags of the wrong scale",), "weak"),  # AP .289 to .244 (10 images); in the network that knows its pictures it cost .000
    Case("fifth: text, gate at 6", "text", on(WORDS, text(shut(6.0))), ("features destroyed", *SCALED), "strong", both=NORMS),  # AP .490 to .396
    # Logs.
    Case("fifth, csv: thirty times the rate", "csv logs", csv_logged(rate_times(30.0)), RATE, "strong", "files", plants="learning rate 10 times off"),
    Case("fifth, printed log: schedule begun anew", "printed logs", written_as(printed, begun_anew_at(0.3)), ANEW, "strong", "files", plants="resume restarted the schedule"),
    Case("fifth, printed log: overfits late", "printed logs", written_as(printed, overfitted_late), OVERFITS, "weak", "files", plants="overfitting"),
    Case("fifth, events: loss nan for a while", "tensorboard", as_events(nan_from(0.3, 0.5)), ("not finite",), "weak", "files"),
    # Configs.
    Case("fifth, hrnet config: ten times the rate", "hrnet config", published(HRNET_W32, (r"lr=5e-4", "lr=5e-3")), ("learning rate is ten times off its recipe's",), "strong", "files", plants="learning rate 10 times off"),
    Case("fifth, hrnet config: not shuffled", "hrnet config", published(HRNET_W32, (r"shuffle=True", "shuffle=False")), ORDERED, "strong", "files"),
    Case("fifth, hrnet config: clipped at .0001", "hrnet config", published(HRNET_W32, (r"optim_wrapper = dict\(", "optim_wrapper = dict(clip_grad=dict(max_norm=1e-4), ")), ("gradient clipping too small",), "strong", "files"),
    Case("fifth, hrnet config: validated on crops of 288 x 384", "hrnet config", published(HRNET_W32, (VAL_CROP, r"\1input_size=(288, 384)")), (*ITSELF, "trained on other crops than judged on", "crop and codec follow two conventions"), "strong", "files", plants="config against itself"),
    # Scripts.
    Case("fifth, script: norms alone in evaluation mode", "own network", script((LOOP, FROZEN_NORMS)), EVAL, "weak", "files", plants="batch norm in evaluation mode while training"),
    Case("fifth, script: parameters chosen by their names", "own network", script((MADE, OF_HEAD)), MISSING, "strong", "files", plants="optimizer misses parameters"),
    Case("fifth, script: cleared once an epoch", "own network", script((CLEARED, ""), (LOOP, "        optimizer.zero_grad()\n" + LOOP)), ("gradients are not cleared",), "strong", "files"),
    Case("fifth, script: warm-up of 100000 steps", "own network", script(("    for epoch", SLOW), (STEP, STEP + "            schedule.step()\n")), WARM, "strong", "files", plants="warm-up longer than the run"),
)  # fmt: skip

BESIDE: tuple[Case, ...] = (
    Case("fifth, beside: pictures in a black frame, labels of before", LAST.name, framed(LAST, 576, 432), (*MOVED, "keypoints placed wrongly"), "strong", both=BOXES, plants="annotated keypoints moved"),  # AP .625 to .000
    Case("fifth, beside: vitpose, boxes as squares of the shorter side", SEED_5.name, labelled(squares, SEED_5), BOXES, "strong", both=BOXES, plants="boxes moved or too small"),
    Case("fifth, beside: labels clicked in previews", LAST.name, labelled(coarse_grid(24), LAST), ("annotated keypoints are rounded", *MOVED), "weak", plants="annotated keypoints moved"),  # AP .625 to .075
    Case("fifth, beside, results: hind parts of another animal", "results", good_results(halves_of_two, **GOOD), (*BOXES, "annotations are inconsistent", "annotated keypoints"), "strong", both=BOXES, plants="points outside boxes or images"),  # AP .825 to .162
    Case("fifth, beside: hidden keypoints in the middle of the box", LAST.name, labelled(hidden_in_the_middle, LAST), ("visibility", "keypoints held at one coordinate", "annotated keypoints", "one keypoint annotated wrongly"), "weak"),  # AP .625 to .252
    Case("fifth, beside, results: written column by column", "results", good_results(nothing, edited_poses(by_columns), **GOOD), (*PLACED, "output axes exchanged"), "strong", plants="offset and placing"),  # AP .825 to .000
    Case("fifth, beside, results: a filter of videos over single pictures", "results", good_results(nothing, smoothed, **PERSONS), ("poses mixed with those of other images", "keypoints placed wrongly"), "strong", plants="offset and placing"),  # AP .833 to .027
    Case("fifth, beside: half of the files as a sensor gives them", LAST.name, image_files(0.5, mosaic, LAST, 81), STORED, "strong"),  # AP .625 to .531
    Case("fifth, beside: vitpose, a third of the files in fog", SEED_5.name, image_files(0.35, fogged, SEED_5, 81), STORED, "weak"),
    Case("fifth, beside, results: AP of visible keypoints claimed", LAST.name, claimed(visible_alone, LAST), RULES, "weak"),
    Case("fifth, beside, log: rate gone after a third", "logs", logged(plateau), RATE, "strong", "files"),
    Case("fifth, beside, hrnet config: evaluator reads other annotations", "hrnet config", published(HRNET_W32, (r"data_root \+ 'annotations/person_keypoints_val2017\.json'", "data_root + 'annotations/person_keypoints_train2017.json'")), (*ITSELF, "validated on the training data", "predicted on other data than judged on"), "strong", "files", plants="config against itself"),
    Case("fifth, beside, script: the seed set in every epoch", "own network", script((LOOP, "        torch.manual_seed(0)\n" + LOOP)), (*ORDERED, "same order in every epoch"), "weak", "files"),
)  # fmt: skip

FAULTS: tuple[Case, ...] = (*PLANNED, *BESIDE)

AVERAGED = (
    ("    for epoch", "    average = torch.optim.swa_utils.AveragedModel(model)\n    for epoch"),
    (STEP, STEP + "            average.update_parameters(model)\n"),
)  # fmt: skip

CONTROLS: tuple[Case, ...] = (
    Case("fifth: epoch 10", EPOCH_10.name, plain(EPOCH_10)),
    Case("fifth: loose boxes", LAST.name, labelled(loose_boxes, LAST)),
    Case("fifth: six keypoints of the body alone", BASE.name, labelled(few_labelled, BASE)),
    Case("fifth: WebP at three quarters of the size", LAST.name, stored_as(LAST, of_three_quarters, small_pictures)),
    Case("fifth: six pictures of people", CROWD.name, labelled(one_in(6), CROWD)),
    Case("fifth: cape, own code", CAPE.name, own_code(CAPE)),
    Case("fifth: healthy text", "text", plain(WORDS)),
    Case("fifth: vitpose, epoch 80", SEED_5.name, lambda folder: ([SEED_5.checkpoints()[1]], SEED_5.options())),
    Case("fifth: vitpose, half precision", SEED_5.name, checkpoint(in_half, SEED_5)),
    Case("fifth, results: poor poses in another order of the images", "results", poses_of_two_models),
    Case("fifth, log: noisy loss of small batches", "logs", logged(shuffled_log), level="files"),
    Case("fifth, vitpose config: two thirds of the rate and the batch", "vitpose config", vitpose_config((r"lr=5e-4", "lr=3.5e-4"), (r"batch_size=64", "batch_size=45")), level="files"),
    Case("fifth, script: an average of the weights beside", "own network", script(*AVERAGED), level="files"),
)  # fmt: skip
