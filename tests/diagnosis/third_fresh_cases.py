"""A third set of cases by somebody who had not read the methods, written after both others and run once.

Mistakes as public bug threads tell them: areas of 1, ids mixed up, letterboxes, selfie cameras, converters,
ports, soups of weights, appended logs, own loops. What each costs was measured before its diagnosis.
"""

# ruff: noqa: E501 - one case a line
from __future__ import annotations

from tests.diagnosis.cases_labs import text
from tests.diagnosis.cases_training import ANEW, EVAL, OVERFITS, RATE
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
from tests.diagnosis.planted_labels import image_files, in_part, labelled, one_in, stored_as
from tests.diagnosis.planted_logs import csv_logged, logged, overfitted, rate_of, rate_times
from tests.diagnosis.planted_results import claimed, good_results, results
from tests.diagnosis.planted_seconds import plain_lines, printed, several, tensors, written_as
from tests.diagnosis.planted_thirds import (
    BASE,
    CROWD,
    GOOD,
    HEIGHT,
    LAST,
    SEED_11,
    a_third,
    above,
    alphabetical,
    as_png,
    as_seen,
    black,
    boxes_alone,
    by_count,
    by_image,
    claims_ar,
    confused,
    crowded,
    cut_head,
    doubtful_at_zero,
    exchanged_layers,
    exported,
    frame_dropped,
    grey,
    hue_first,
    in_boxes,
    in_entries,
    leaked_mirrored,
    letterboxed,
    linear,
    lower_from,
    mean_of_epochs,
    mean_oks,
    mirrored_pass_too,
    neck_at_the_withers,
    no_third_column,
    odd_ids,
    of_a_cropped_video,
    of_a_third,
    of_species,
    one_cycle,
    pck_of_diagonal,
    poses_on_grey,
    pruned,
    same_ap,
    seen_as_hidden,
    sides_exchanged,
    targets_of_zero,
    thumbnail,
    transposed_places,
    two_epochs,
    two_runs,
    ultralytics,
    under_annotation_ids,
    unlabelled_too,
    warm_restarts,
    warm_start,
    weights_alone,
    with_prefix,
    without_its_one,
)
from tests.diagnosis.planted_trainings import script
from tests.diagnosis.planted_weights import (
    checkpoint,
    in_half,
    missing,
    noisy,
    statistics_of_first,
    with_config_text,
    with_defects,
    with_earlier,
    with_sigmas,
)
from tests.diagnosis.systems import CAPE, TEXT, Case
from workbench.skeletons import SKELETONS

PARTLY = ("weights only partly loaded", "model cannot be built or run", "checkpoint cannot be opened")
SAYS = ("file is not what its name or config says",)
NORMS = ("batch-norm statistics do not fit",)
DISTURBED = ("weights of one part disturbed", "weights differ from those of the other run")
RANGE, ORDER, PADDING = ("normalisation", "value range"), ("channel order",), ("crop padding",)
CROPS, STORED = ("crops differ from their affine",), ("part of the image files stored otherwise",)
PLACED = ("keypoints placed wrongly", "own decoding contradicts the codec")
TURNED = ("width and height exchanged", "output axes exchanged")
PERMUTED, NO_COLOUR = ("keypoint order permuted",), ("part of the image files has no colour",)
SIDES, IN_PART = ("left and right exchanged",), ("left and right exchanged in part of the labels",)
FIXED = ("keypoint is the same in every pose",)
ONE = ("one keypoint annotated wrongly", "one keypoint placed wrongly")
BOXES = ("annotated boxes", "annotated boxes do not fit their keypoints", "keypoints outside the box")
FOREIGN = (
    "results stand under other images' ids",
    "results of other images",
    "annotations stand under other images",
)
ABSENT = (
    "detected boxes in place of annotated ones",
    "instances without a pose",
    "only part of the images has results",
)
SCORE, RULES = ("score does not rank the poses",), ("figure comes from other rules",)
FLAT = ("training loss does not fall",)
MISSING = ("optimizer misses parameters", "weights that are not trained")
SUPPORT, UNLEARNED = ("support not read",), ("keypoints not learned", "exposure bias")
DESTROYED = ("features destroyed", "random initialisation")
ITSELF = "config against itself"
OWN_CROPS = (
    "trained on other crops than judged on",
    "crop and codec follow two conventions",
    "UDP against plain affine",
)
LEFT_TWICE = "keypoints=p.keypoints[[0, 0, 2, 3, 4, 5, 6, 7, 5, 6, 7, 11, 12, 13, 11, 12, 13]]"
TURN = "keypoints=(p.keypoints - a @ [64, 64, 1]) @ np.array([[0.978, 0.208], [-0.208, 0.978]]) + a @ [64, 64, 1]"
STRIPE = ".index_fill(-1, batch.pixels.new_tensor(range(44, 76)).long(), 0)"
FLIPPED = "call=lambda p, c=maps(inner): Outputs(heatmaps=(c(p).heatmaps + c(p.flip(-1)).heatmaps) / 2)"
MIRRORED_MAPS = (
    "mirrored maps that are not mirrored back",
    "mirrored maps whose left and right are not exchanged back",
    "mirror pairs",
    "flip test",
    "flip shift",
    *SIDES,
)
NO_SWAPS = r"metainfo=dict(dataset_name='own', keypoint_info={0: dict(name='nose', id=0, type='upper', swap=''), 1: dict(name='left_eye', id=1, type='upper', swap=''), 2: dict(name='right_eye', id=2, type='upper', swap='')}, skeleton_info={}, joint_weights=[1.0] * 3, sigmas=[0.026, 0.025, 0.025]), pipeline=\1_pipeline"
STEP = "            optimizer.step()\n"
LOOP = "        for batch in loader:\n"

FAULTS: tuple[Case, ...] = (
    # Files.
    Case("third: head of keypoints sorted by name", LAST.name, checkpoint(alphabetical, LAST), (*PERMUTED, "keypoints named in another order"), "strong"),
    Case("third: mean of all epochs, against the last", LAST.name, mean_of_epochs, ("weights differ from those of the other run",), "strong", both=NORMS),
    Case("third: statistics of epoch 1 in the average", LAST.name, checkpoint(statistics_of_first(1.0, LAST), LAST), (*NORMS, "batch-norm statistics not updated"), "strong"),
    Case("third: vitpose, two blocks exchanged", SEED_11.name, with_earlier(exchanged_layers("backbone.layers.1.", "backbone.layers.2."), SEED_11, earlier=-2), DISTURBED, "strong"),
    Case("third: vitpose, places transposed", SEED_11.name, with_earlier(transposed_places, SEED_11, earlier=-2), DISTURBED, "strong"),
    Case("third: vitpose, last block not in the file", SEED_11.name, checkpoint(missing("backbone.layers.2."), SEED_11), (*PARTLY, *SAYS), "strong", plants="weights only partly loaded"),
    Case("third: names of torch.compile in a file and none in the network", LAST.name, checkpoint(with_prefix("_orig_mod."), LAST), PARTLY, "weak", plants="weights only partly loaded"),
    Case("third: head of 16 keypoints", LAST.name, checkpoint(cut_head(16), LAST), (*PARTLY, *SAYS, "head and data set of two skeletons"), "strong", plants="file is not what its name or config says"),
    Case("third: seven tenths of the weights pruned", LAST.name, with_earlier(pruned(0.7), LAST, earlier=-2), DISTURBED, "strong", both=NORMS),
    Case("third: people, coarse and fine maps in two orders", CROWD.name, with_earlier(tensors(["final_layers.1."], lambda t: t.flip(0)), CROWD, earlier=-2), (*DISTURBED, *PERMUTED), "strong"),
    # Input.
    Case("third: pictures of a selfie camera", LAST.name, own_code(LAST, pixels=".flip(-1)"), (*CROPS, "keypoints placed wrongly", *SIDES), "strong"),
    Case("third: vitpose, video turned by 90 degrees", SEED_11.name, own_code(SEED_11, pixels=".rot90(1, (-2, -1))"), (*TURNED, *CROPS), "strong", plants="width and height exchanged"),
    Case("third: mean and std in each other's place", LAST.name, own_code(LAST, "mean=model.std, std=model.mean"), RANGE, "weak", plants="mean and std"),
    Case("third: normalised twice", BASE.name, own_code(BASE, pixels=".sub(2.03).div(0.226)"), RANGE, "strong", plants="mean and std"),
    Case("third: two in five image files as hue and saturation", LAST.name, image_files(0.4, hue_first, LAST, 61), STORED, "strong"),
    Case("third: three in ten image files black", LAST.name, image_files(0.3, black, LAST, 61), (*STORED, *NO_COLOUR), "strong"),
    Case("third: vitpose, a third of the files of a linear camera", SEED_11.name, image_files(0.35, linear, SEED_11, 61), STORED, "weak"),
    Case("third: two in five image files are enlarged previews", LAST.name, image_files(0.4, thumbnail, LAST, 61), STORED, "weak"),
    Case("third: vitpose, camera without colour", SEED_11.name, image_files(1.0, grey, SEED_11, 61), NO_COLOUR, "strong"),
    Case("third: dropout of pixels left on", LAST.name, own_code(LAST, pixels=STRIPE), CROPS, "strong"),
    Case("third: vitpose, padding .85", SEED_11.name, own_code(SEED_11, "padding=0.85"), PADDING, "weak"),
    Case("third: text, std of 1", "text", on(LAST, text(with_config_text(r"'std': \[58\.395, 57\.12, 57\.375\]", "'std': [1.0, 1.0, 1.0]"))), RANGE, "strong", plants="value range"),
    # Output.
    Case("third: rotation of the crop not undone", LAST.name, own_code(LAST, decode=TURN), (*PLACED, *CROPS), "strong", plants="offset and placing"),
    Case("third: vitpose, left channels read for right ones", SEED_11.name, own_code(SEED_11, decode=LEFT_TWICE), (*PERMUTED, *SIDES, *PLACED, *ONE), "strong"),
    Case("third: channel of the background first", BASE.name, own_code(BASE, decode="keypoints=np.roll(p.keypoints, 1, axis=0)"), (*PERMUTED, "own decoding contradicts the codec"), "strong"),
    Case("third: heatmaps enlarged by their corners", "heatmaps", on(LAST, heatmaps(decode="keypoints=(p.keypoints - a[:, 2]) * 1.0323 + a[:, 2]")), (*PLACED, "UDP against plain affine", "half-pixel shift"), "weak", plants="offset and placing"),
    Case("third: heatmaps, mean with maps that are not mirrored back", "heatmaps", on(LAST, heatmaps(FLIPPED)), MIRRORED_MAPS, "strong", plants="flip pairs"),
    Case("third, results: margin of the letterbox", LAST.name, results(edited_poses(letterboxed), LAST), PLACED, "strong", plants="offset and placing"),
    Case("third, results: y from the bottom", "results", good_results(nothing, edited_poses(lambda p, _: [0, HEIGHT, 0] + p * [1, -1, 1]), **GOOD), (*PLACED, *TURNED), "strong", plants="offset and placing"),
    Case("third, results: doubtful keypoints at (0, 0)", LAST.name, results(edited_poses(doubtful_at_zero), LAST), (*FIXED, "keypoints held at one coordinate", "keypoints placed wrongly", *ONE), "weak"),
    Case("third, results: score counts keypoints", LAST.name, results(by_count, LAST), SCORE, "weak"),
    Case("third, results: corner of a cropped video in every second picture", "results", good_results(nothing, edited_poses(of_a_cropped_video), **GOOD), PLACED, "strong", plants="offset and placing"),
    # Labels.
    Case("third: areas of 1", LAST.name, labelled(in_entries(area=1), LAST), ("annotated areas",), "strong", plants="counts, ids, areas"),
    Case("third: boxes measured from the bottom", LAST.name, labelled(in_boxes(lambda x, y, w, h: (x, HEIGHT - y - h, w, h)), LAST), BOXES, "strong", both=BOXES, plants="boxes moved or too small"),
    Case("third: vitpose, boxes y x h w", SEED_11.name, labelled(in_boxes(lambda x, y, w, h: (y, x, h, w)), SEED_11), BOXES, "strong", both=BOXES, plants="boxes moved or too small"),
    Case("third, results: one species of another data set's order", "results", good_results(of_species(3, [0, 1, 2, 4, 3, 5, 8, 11, 14, 6, 9, 12, 15, 7, 10, 13, 16]), **GOOD), PERMUTED, "strong", fast=True),
    Case("third, results: neck annotated at the withers", "results", good_results(neck_at_the_withers, **GOOD), ONE, "weak", plants="one keypoint: axes exchanged, mirrored, scaled, moved", fast=True),
    Case("third, results: left as the viewer sees it", "results", good_results(as_seen, **GOOD), (*IN_PART, *SIDES), "strong"),
    Case("third: a frame dropped in the middle", LAST.name, labelled(frame_dropped, LAST), FOREIGN, "strong", both=(*BOXES, "instances annotated twice")),
    Case("third: width and height of the images exchanged", LAST.name, labelled(sides_exchanged, LAST), ("image files of another size than annotated", "images of another size", "EXIF rotation not applied", "turned images"), "weak", both=("keypoints outside the image", *BOXES)),
    Case("third: third of the instances with a count of 0", LAST.name, labelled(in_part(in_entries(num_keypoints=0), 0.33, 61), LAST), ("counts",), "weak", plants="counts, ids, areas"),
    Case("third: third of the animals called crowds", LAST.name, labelled(in_part(in_entries(iscrowd=1), 0.33, 61), LAST), ("counts", "crowd regions with keypoints"), "weak", plants="counts, ids, areas"),
    Case("third, results: only hidden keypoints kept", "results", good_results(seen_as_hidden, **GOOD), ("visibility",), "strong", both=("counts", *BOXES)),
    Case("third: mirrored validation pictures in the training", "results", leaked_mirrored(0.3, LAST), ("training images in the validation set",), "strong", "files", says=("of them mirrored",)),
    Case("third: sigmas without their point", BASE.name, checkpoint(with_sigmas([10 * v for v in SKELETONS["ap10k-17"].sigmas]), BASE), ("sigmas of another skeleton",), "strong"),
    # Evaluation.
    Case("third, results: annotation ids as image ids", "results", good_results(nothing, under_annotation_ids, **GOOD), FOREIGN, "strong", both=ABSENT),
    Case("third, results: threshold of the demo left on", LAST.name, results(above(0.6), LAST), ABSENT, "strong"),
    Case("third: half of the results left from epoch 1", LAST.name, two_epochs, ("results of another model",), "strong", plants="results of another model"),
    Case("third, results: species confused in three of ten", "results", good_results(nothing, confused(0.3), **GOOD), ("wrong category ids",), "weak"),
    Case("third, results: poses of the mirrored pass too", "results", good_results(nothing, mirrored_pass_too, low=0.03, high=0.09, **GOOD), ("no NMS: poses found twice",), "weak"),
    Case("third, results: mean AP of single images claimed", LAST.name, claimed(by_image, LAST), RULES, "weak", says=("with the mean of the AP of single images;",)),
    Case("third, results: mean OKS claimed", BASE.name, claimed(mean_oks, BASE), RULES, "strong", says=("with mean OKS of each instance's own pose;",)),
    Case("third, results: AP with unlabelled keypoints claimed", LAST.name, claimed(unlabelled_too, LAST), RULES, "weak", says=("with unlabelled keypoints counted;",)),
    Case("third, results: PCK of the picture's diagonal claimed", BASE.name, claimed(pck_of_diagonal, BASE), RULES, "strong", plants="PCK with another normaliser", says=("with PCK at 0.02 of the image's diagonal;",)),
    # Grouping, sequence, conditioning.
    Case("third: people, tags a fiftieth", "higherhrnet", known_people(maps="tags=found.tags * 0.02"), ("tags of the wrong scale",), "strong"),
    Case("third: people, tags read 10 cells to the left", "higherhrnet", known_people(maps="tags=found.tags.roll(-10, -1)"), ("cells placed off", "tags placed off"), "strong", plants="offset and placing"),
    Case("third: people, one tag map for all keypoints", "higherhrnet", known_people(maps="tags=found.tags[:, :1].expand_as(found.tags)"), ("simplified inference script", "one tag map for all keypoints"), "strong"),
    Case("third: cape, support encoder disturbed", "cape", on(LAST, checkpoint(noisy("support_encoder.", 2.0, 61), CAPE)), (*SUPPORT, *UNLEARNED, *DISTURBED), "strong"),
    Case("third: cape, two layers of the decoder exchanged", "cape", on(LAST, checkpoint(exchanged_layers("decoder.layers.0.", "decoder.layers.1."), CAPE)), (*UNLEARNED, *DISTURBED), "strong", plants="keypoints not learned"),
    Case("third: cape, mask inverted and loss scaled in its log", "cape", on(LAST, checkpoint(with_defects("support_mask_inverted", "logged_loss_scaled"), CAPE)), (*SUPPORT, "loss in the log is scaled"), "strong", both=(*SUPPORT, *UNLEARNED, "loss in the log is scaled")),
    Case("third: text, γ without its one", "text", on(LAST, text(without_its_one)), DESTROYED, "strong", both=NORMS),
    Case("third: text, γ and β in each other's place", "text", on(LAST, text(tensors(["neck.global_mlp.0."], lambda t: t.roll(len(t) // 2, 0)))), DESTROYED, "strong", both=NORMS),
    # Logs.
    Case("third, results.csv of ultralytics: overfits", "csv logs", written_as(ultralytics, overfitted(0.45, 0.7)), OVERFITS, "strong", "files", both=OVERFITS, plants="overfitting"),
    Case("third, log: the same AP after every epoch", "logs", logged(same_ap), ("loss falls while the metric does not",), "strong", "files", both=FLAT, plants="overfitting"),
    Case("third, log: loss and accuracy of 0", "logs", logged(targets_of_zero), FLAT, "strong", "files", fast=True),
    Case("third, csv: log of a second run appended", "csv logs", csv_logged(two_runs), ANEW, "strong", "files", plants="resume restarted the schedule"),
    Case("third, printed log: resumed with a tenth of the rate", "printed logs", written_as(printed, lower_from(0.5, 0.1)), RATE, "strong", "files"),
    Case("third, plain log: cosine with restarts", "plain logs", written_as(plain_lines, rate_of(warm_restarts)), ANEW, "strong", "files", plants="learning rate is not the config's"),
    # Configs.
    Case("third, hrnet config: maps height before width", "hrnet config", published(HRNET_W32, (r"heatmap_size=\(48, 64\)", "heatmap_size=(64, 48)")), ("config contradicts itself", "the heatmap does not fit the input", "width and height exchanged", "codec ceiling"), "strong", "files", both=("codec ceiling", "the heatmap does not fit the input"), plants=ITSELF, says=(r"heatmap \(64, 48\)",)),
    Case("third, hrnet config: everything height before width", "hrnet config", published(HRNET_W32, (r"input_size=\(192, 256\), heatmap_size=\(48, 64\)", "input_size=(256, 192), heatmap_size=(64, 48)")), ("config contradicts itself", "width and height exchanged", "input size differs from the recipe"), "weak", "files", plants=ITSELF),
    Case("third, vitpose config: flip test shifts its maps", "vitpose config", vitpose_config((r"shift_heatmap=False", "shift_heatmap=True")), ("flip test shifts a UDP map", "flip shift", "config contradicts itself"), "weak", "files", plants="flip shift", says=("shift_heatmap is True",)),
    Case("third, vitpose config: validated without UDP's affine", "vitpose config", vitpose_config((r"(val_pipeline = \[\s+dict\(type='LoadImage'\),\s+dict\(type='GetBBoxCenterScale'\),\s+dict\(type='TopdownAffine', input_size=codec\['input_size'\]), use_udp=True", r"\1")), (*OWN_CROPS, "config contradicts itself"), "weak", "files", both=OWN_CROPS, plants=ITSELF, says=("val_pipeline.TopdownAffine.use_udp is not set",)),
    Case("third, hrnet config: mean of 0 to 1 beside std of 0 to 255", "hrnet config", published(HRNET_W32, (r"mean=\[123\.675, 116\.28, 103\.53\]", "mean=[0.485, 0.456, 0.406]")), (*RANGE, "normalised on another range"), "strong", "files", plants="mean and std", says=(r"mean is \(0\.485",)),
    Case("third, hrnet config: ends before its first milestone", "hrnet config", published(HRNET_W32, (r"max_epochs=210", "max_epochs=100")), ("milestones after the end of the run", "milestones differ from the recipe", "config contradicts itself"), "weak", "files", plants=ITSELF, says=(r"100 epochs.*\(170, 200\)",)),
    Case("third, hrnet config: random boxes in the validation", "hrnet config", published(HRNET_W32, (r"(val_pipeline = \[\s+dict\(type='LoadImage'\),\s+dict\(type='GetBBoxCenterScale'\),)", r"\1 dict(type='RandomBBoxTransform'),")), ("random augmentation in the validation", "not the published protocol", "trained on other crops than judged on", "config contradicts itself"), "strong", "files", plants=ITSELF, says=("RandomBBoxTransform",)),
    Case("third, hrnet config: data set whose keypoints swap with none", "hrnet config", published(HRNET_W32, (r"pipeline=(train|val)_pipeline", NO_SWAPS), (r"out_channels=17", "out_channels=3")), ("mirror pairs contradict the names", "mirror pairs"), "strong", "files", plants="flip pairs"),
    Case("third, hrnet config: backbone of w48, head of w32", "hrnet config", published(HRNET_W32, (r"num_channels=\(32, 64", "num_channels=(48, 96"), (r"96, 128", "96, 192"), (r"192, 256\)\)\)", "192, 384)))")), ("backbone and head do not fit", "config contradicts itself", "weights of another model than the recipe"), "strong", "files", both=("backbone and head do not fit", "weights of another model than the recipe", "a checkpoint of another model than the config"), plants=ITSELF, says=("48 channels, the head takes 32",)),
    # Scripts and own code.
    Case("third, script: one step an epoch", "own network", script((STEP, "        optimizer.step()\n")), ("gradients are cleared before the step", "optimizer steps once an epoch"), "strong", "files", plants="optimizer steps once an epoch"),
    Case("third, script: loss made anew from its number", "own network", script(("            loss.backward()", "            loss = torch.tensor(loss.item(), requires_grad=True)\n            loss.backward()")), (*MISSING, "loss without a graph", "no gradient reaches the network"), "strong", "files", plants="optimizer misses parameters"),
    Case("third, script: cosine over epochs, stepped at every batch", "own network", script(("    for epoch", "    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)\n    for epoch"), (STEP, STEP + "            schedule.step()\n")), ("scheduler counts epochs and is stepped every batch", "the schedule ends before the run", "schedule per epoch instead of iteration", "learning rate too high or too low", *RATE), "strong", "files", plants="schedule per epoch instead of iteration", says=("length of 10",)),
    Case("third, script: pictures mirrored, targets not", "own network", script((LOOP, LOOP + "            if torch.rand(1) < 0.5:\n                batch = batch.flip(-1)\n")), ("flip changes image and keypoints differently", "augmentation changes image and keypoints differently"), "strong", "files", plants="flip pairs"),
    Case("third, script: train(False)", "own network", script(("model.train()", "model.train(False)")), EVAL, "strong", "files", plants="batch norm in evaluation mode while training"),
    Case("third, script: sequential sampler", "own network", script((", shuffle=True", ", sampler=torch.utils.data.SequentialSampler(images)")), ("training data not shuffled",), "weak", "files", says=("line 6",)),
    Case("third, script: gradients clipped to .00001 by value", "own network", script(("AdamW", "SGD"), ("clip_grad_norm_(model.parameters(), 1.0)", "clip_grad_value_(model.parameters(), 1e-5)")), ("gradient clipping too small",), "strong", "files", says=("values of 1e-05",)),
    # Two at once.
    Case("third: vitpose, padding 1.7 and sides exchanged", SEED_11.name, own_code(SEED_11, "padding=1.7", decode="keypoints=p.keypoints[list(self.model.skeleton.mirror)]"), (*PADDING, *SIDES, *PLACED, *PERMUTED), "strong", both=(*PADDING, *SIDES, *PLACED, *PERMUTED)),
    Case("third, results: threshold left on and species confused", "results", good_results(nothing, several(above(0.7), confused(0.25)), low=0.02, high=0.12, **GOOD), (*ABSENT, "wrong category ids"), "strong", both=(*ABSENT, "wrong category ids")),
)  # fmt: skip


CLEAN_LOOP = (
    ("    optimizer =", "    scaler = torch.amp.GradScaler('cuda')\n    optimizer ="),
    ("            loss.backward()\n", "            scaler.scale(loss).backward()\n            scaler.unscale_(optimizer)\n"),
    (STEP, "            scaler.step(optimizer)\n            scaler.update()\n        schedule.step()\n        model.eval()\n        with torch.no_grad():\n            print(epoch, model(images[:8]).mean())\n        model.train()\n"),
    ("    for epoch", "    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)\n    for epoch"),
)  # fmt: skip
LONG_RISE = (r"by_epoch=False, end=100, start_factor=0\.01", "by_epoch=False, end=1470, start_factor=0.01")
UDP_HRNET, DARK_HRNET = (HRNET_W32.replace("w32_8xb64", f"w32_{name}-8xb64") for name in ("udp", "dark"))

CONTROLS: tuple[Case, ...] = (
    Case("third: epoch 40", LAST.name, plain(LAST)),
    Case("third: five images", LAST.name, labelled(one_in(13), LAST)),
    Case("third: pictures of three animals or more", LAST.name, labelled(crowded, LAST)),
    Case("third: a third of the animals without keypoints", LAST.name, labelled(boxes_alone, LAST)),
    Case("third, results: one category of an unusual name, large ids", "results", good_results(odd_ids, lambda found: [{**e, "image_id": 700_000 + 13 * e["image_id"], "category_id": 9001} for e in found], **GOOD)),
    Case("third: PNG with a fourth channel", LAST.name, stored_as(LAST, nothing, as_png)),
    Case("third: tiny animals", BASE.name, stored_as(BASE, of_a_third, a_third)),
    Case("third: averaged weights alone, beside their config", LAST.name, weights_alone),
    Case("third: people, half precision", CROWD.name, checkpoint(in_half, CROWD)),
    Case("third: ONNX", LAST.name, exported(LAST, "ap10k-17")),
    Case("third: vitpose, seed 11, epoch 80", SEED_11.name, lambda folder: ([SEED_11.checkpoints()[1]], SEED_11.options())),
    Case("third: people who are known", "higherhrnet", known_people()),
    Case("third: people, epoch 30, own code", CROWD.name, on(CROWD, whole_images(epoch=-2))),
    Case("third: cured sequence", "cape", on(LAST, plain(CAPE))),
    Case("third: healthy text", "text", on(LAST, plain(TEXT))),
    Case("third, results: no third column, scores as logits", LAST.name, results(no_third_column, LAST)),
    Case("third, results: AR of its own rules claimed", LAST.name, claims_ar),
    Case("third, results: poses of a camera without colour", "results", poses_on_grey),
    Case("third, log: warm start", "logs", logged(warm_start), level="files"),
    Case("third, log: twice the rate, in both", "logs", logged(rate_times(2.0), (r"lr=0\.003", "lr=0.006"), (r"eta_min=6e-05", "eta_min=12e-05")), level="files"),
    Case("third, log: one cycle, in both", "logs", logged(rate_of(one_cycle), (r"(?s)param_scheduler = \[.*?\n\]", "param_scheduler = [dict(type='OneCycleLR', eta_max=0.003, total_steps=5880, pct_start=0.25, div_factor=25, by_epoch=False)]")), level="files"),
    Case("third, results.csv of ultralytics", "csv logs", lambda folder: (written_as(ultralytics)(folder)[0][:1], {}), level="files"),
    Case("third, hrnet config: UDP as published", "hrnet config", published(UDP_HRNET), level="files"),
    Case("third, hrnet config: DARK as published", "hrnet config", published(DARK_HRNET), level="files"),
    Case("third, script: scaled loss, schedule, evaluation between epochs", "own network", script(*CLEAN_LOOP), level="files"),
)  # fmt: skip
