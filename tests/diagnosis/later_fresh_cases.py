"""A second set of cases by somebody who had not read the methods, written after all the others and run once.

Mistakes as bug reports have them: ports, other seeds, averages that stand still, merges, gathered results, other
log formats, and two at once.
"""

# ruff: noqa: E501 - one case a line
from __future__ import annotations

from tests.diagnosis.cases_labs import text
from tests.diagnosis.cases_training import EVAL, OVERFITS, RATE
from tests.diagnosis.fresh_cases import edited_poses, nothing, on, plain
from tests.diagnosis.planted_code import (
    HRNET_W32,
    heatmaps,
    own_code,
    published,
    vitpose_config,
    whole_images,
)
from tests.diagnosis.planted_labels import (
    box_corners,
    duplicated,
    image_files,
    in_part,
    labelled,
    one_in,
    permuted,
    swapped_share,
)
from tests.diagnosis.planted_logs import (
    csv_logged,
    ended_at,
    logged,
    nan_from,
    overfitted,
    rate_of,
    rate_times,
)
from tests.diagnosis.planted_results import claimed, constant_scores, good_results, part_of, results
from tests.diagnosis.planted_seconds import (
    BASE,
    CROWD,
    CROWD_10,
    EARLIER,
    GOOD,
    LAST,
    SEED_7,
    area_shares,
    at_twice_the_size,
    begins_again,
    both_epochs,
    by_area,
    crowds,
    diverges,
    enlarged,
    exchanged,
    first_of_image,
    floored,
    fresh_head,
    gathered,
    hundredfold,
    leaked_again,
    merged_twice,
    mirrored_in,
    mmcv,
    negative,
    next_category,
    of_epoch,
    one_species,
    plain_lines,
    printed,
    relative,
    resumed,
    saved_as,
    several,
    shuffled_statistics,
    sorted_as_text,
    stale_average,
    tensors,
    worn_off,
    written_as,
)
from tests.diagnosis.planted_trainings import script
from tests.diagnosis.planted_weights import (
    among_epochs,
    checkpoint,
    edited,
    fresh_norms,
    missing,
    noisy,
    part_of_epoch,
    quantised,
    state,
    with_config_text,
    with_defects,
    with_earlier,
    with_mirror,
    with_skeleton,
    zeroed,
)
from tests.diagnosis.systems import CAPE, TEXT, VITPOSE, Case, System
from workbench.skeletons import SKELETONS

PARTLY = ("weights only partly loaded",)
NORMS = ("batch-norm statistics do not fit",)
DISTURBED = (
    "weights of one part disturbed",
    "weights of one part of an earlier epoch",
    "weights differ from those of the other run",
)
AVERAGE = ("raw and averaged weights exchanged", "averaged weights lag behind the trained ones")
RANGE, ORDER, PADDING = ("normalisation", "value range"), ("channel order",), ("crop padding",)
CROPS = ("crops differ from their affine",)
PLACED = ("keypoints placed wrongly", "own decoding contradicts the codec")
PERMUTED, SIDES = (
    ("keypoint order permuted",),
    ("left and right exchanged", "left and right exchanged in part of the labels"),
)
BOXES = ("annotated boxes", "annotated boxes do not fit their keypoints", "keypoints outside the box")
SIGMAS, RULES = ("sigmas of another skeleton",), ("figure comes from other rules",)
SHORT = ("the schedule ends before the run", "warm-up or schedule keeps the learning rate too small")
MISSING = (
    "optimizer misses parameters",
    "weights that are not trained",
    "parts of the network get a learning rate near 0",
)
AGAINST_ITSELF = "config against itself"
NO_DECAY_RULE = (r"paramwise_cfg=dict\([^)]*\),", "")
COCO_SIGMAS = list(SKELETONS["coco-17"].sigmas)
SAMPLED = "[..., ::4, ::4].repeat_interleave(4, -1).repeat_interleave(4, -2)"

FAULTS: tuple[Case, ...] = (
    # Files.
    Case("later: average never updated", LAST.name, checkpoint(stale_average(LAST), LAST), AVERAGE, "strong", both=("batch-norm statistics do not fit",)),
    Case("later: vitpose, head of another seed", VITPOSE.name, with_earlier(part_of_epoch("head.", -1, SEED_7), VITPOSE, earlier=-2), DISTURBED, "strong"),
    Case("later: classifiers whose bins begin 12 further on", LAST.name, checkpoint(tensors(["head.cls_"], lambda t: t.roll(12, 0)), LAST), PLACED, "strong", plants="offset and placing"),
    Case("later: head as torch starts it", EARLIER.name, with_earlier(fresh_head, EARLIER, earlier=-2), (*DISTURBED, "layers that never learned"), "strong"),
    Case("later: vitpose, q k v in another order", VITPOSE.name, with_earlier(tensors([".attn.qkv."], lambda t: t.roll(len(t) // 3, 0)), VITPOSE, earlier=-2), DISTURBED, "strong"),
    Case("later: kernels of a stage transposed", LAST.name, with_earlier(tensors(["backbone.stage1."], lambda t: t.transpose(-1, -2) if t.ndim == 4 else t), LAST, earlier=-2), DISTURBED, "strong"),
    Case("later: vitpose, patches read BGR in a port", SEED_7.name, checkpoint(tensors(["patch_embed.projection.weight"], lambda t: t.flip(1)), SEED_7), ORDER, "strong"),
    Case("later: people, statistics of stage 3 in another order", CROWD.name, checkpoint(shuffled_statistics("stage3."), CROWD), NORMS, "strong"),
    Case("later: people, momentum of 0 in the norms", CROWD.name, checkpoint(fresh_norms(1.0), CROWD), NORMS, "strong"),
    Case("later: people, finer head not in the file", CROWD.name, checkpoint(missing("final_layers.1"), CROWD), (*PARTLY, "model cannot be built or run", "checkpoint cannot be opened"), "strong", plants="weights only partly loaded"),
    Case("later: people, noise in the deconvolution", CROWD.name, with_earlier(noisy("deconv_layers.", 1.0, 51), CROWD, earlier=-2), DISTURBED, "strong"),
    Case("later: people, stage 3 of epoch 2", CROWD.name, among_epochs(part_of_epoch("stage3.", 0, CROWD), CROWD), ("weights of one part of an earlier epoch", "layers that never learned"), "strong", both=NORMS),
    Case("later: people, 8 levels", CROWD.name, checkpoint(quantised(8), CROWD), ("weights are quantised",), "strong", both=NORMS),
    Case("later: cape, a layer that reads the image zero", "cape", checkpoint(zeroed("decoder.layers.0.image.out.weight"), CAPE), ("layers with all weights zero",), "weak", both=("keypoints not learned", "exposure bias", "support not read")),
    Case("later: one mirror pair missing", LAST.name, checkpoint(with_mirror({7: 7, 10: 10}), LAST), ("mirror pairs contradict the names", "mirror pairs"), "weak", plants="flip pairs"),
    Case("later: vitpose, one mirror pair missing", SEED_7.name, checkpoint(with_skeleton(mirror=lambda m: [*m[:6], 6, *m[7:9], 9, *m[10:]]), SEED_7), ("mirror pairs contradict the names", "mirror pairs"), "weak", plants="flip pairs"),
    Case("later: vitpose, sigmas of people", VITPOSE.name, checkpoint(with_skeleton(sigmas=lambda s: COCO_SIGMAS), VITPOSE), SIGMAS, "weak"),
    Case("later: epoch 10 saved as epoch 40", LAST.name, saved_as("epoch_40.pth", LAST, -3), ("file is not what its name or config says",), "strong", fast=True),
    Case("later: text, refiner disturbed", "text", on(LAST, text(noisy("head.refiner", 3.0, 51))), (*DISTURBED, "untrained refiner", "scores flattened by the refiner"), "strong", plants="weights of one part disturbed"),
    # Input.
    Case("later: std of one channel without its point", LAST.name, own_code(LAST, "std=(58.395, 57.12, 5737.5)"), RANGE, "weak", plants="mean and std"),
    Case("later: vitpose, std of one channel a fifth", VITPOSE.name, own_code(VITPOSE, "std=(58.395, 57.12, 11.5)"), RANGE, "strong", plants="mean and std"),
    Case("later: channels rotated", LAST.name, own_code(LAST, pixels="[:, [1, 2, 0]]"), ORDER, "weak"),
    Case("later: pixels clipped at 0 and 1 after normalisation", LAST.name, own_code(LAST, pixels=".clamp(0, 1)"), RANGE, "weak", plants="value range", fast=True),
    Case("later: crops of a quarter of the resolution", LAST.name, own_code(LAST, pixels=SAMPLED), CROPS, "strong"),
    Case("later: vitpose, crops of half the resolution", VITPOSE.name, own_code(VITPOSE, pixels=SAMPLED.replace("4", "2")), CROPS, "weak"),
    Case("later: vitpose, pixels rolled", VITPOSE.name, own_code(VITPOSE, pixels=".roll((9, -7), (-2, -1))"), (*CROPS, *PLACED), "strong"),
    Case("later: pictures upside down", LAST.name, own_code(LAST, pixels=".flip(-2)"), (*CROPS, "keypoints placed wrongly"), "strong", fast=True),
    Case("later: text, BGR", "text", on(LAST, text(with_config_text(r"'bgr_to_rgb': True", "'bgr_to_rgb': False"))), ORDER, "weak"),
    Case("later: text, padding 2", "text", on(LAST, text(with_config_text(r"'padding': 1\.25", "'padding': 2.0"))), PADDING, "strong"),
    Case("later: people, pixels as they are", CROWD.name, on(CROWD, whole_images(1.0, "mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)")), (*RANGE, "normalisation left out"), "strong", plants="value range"),
    Case("later: two in five image files are negatives", LAST.name, image_files(0.4, negative, LAST, 51), ("part of the image files stored otherwise",), "strong"),
    # Output.
    Case("later: y of another input size", LAST.name, own_code(LAST, decode="keypoints=(p.keypoints - a[:, 2]) * [1.0, 1.25] + a[:, 2]"), PLACED, "strong", plants="stride"),
    Case("later: heatmaps of a head of stride 5 for 4", "heatmaps", on(LAST, heatmaps(decode="keypoints=(p.keypoints - a[:, 2]) * 0.8 + a[:, 2]")), PLACED, "strong", plants="stride"),
    Case("later: people, hips and knees exchanged", CROWD.name, on(CROWD, whole_images(maps="heatmaps=found.heatmaps[:, [*range(11), 13, 14, 11, 12, 15, 16]]")), PERMUTED, "strong"),
    Case("later, results: knee and paw of one leg exchanged", "results", good_results(nothing, edited_poses(lambda p, _: p[exchanged(12, 13)]), **GOOD), PERMUTED, "weak"),
    Case("later, results: scores times size", "results", good_results(nothing, by_area, low=0.02, high=0.12, **GOOD), ("score does not rank the poses",), "weak"),
    Case("later, results: whole cells of 10 pixels", "results", good_results(nothing, edited_poses(floored), **GOOD), (*PLACED, "half-pixel shift", "coordinates are rounded"), "strong", plants="offset and placing"),
    Case("later, results: of mirrored pictures", "results", good_results(nothing, edited_poses(mirrored_in(480)), **GOOD), (*PLACED, "left and right exchanged"), "strong", plants="offset and placing", fast=True),
    # Labels.
    Case("later: a third of the boxes as corners", LAST.name, labelled(in_part(box_corners, 0.33, 51), LAST), BOXES, "weak", both=BOXES, plants="boxes as corners or centre"),
    Case("later: vitpose, an eighth of the boxes as corners", VITPOSE.name, labelled(in_part(box_corners, 0.125, 51), VITPOSE), BOXES, "weak", both=BOXES, plants="boxes as corners or centre"),
    Case("later: keypoints from the corner of the box in a quarter", LAST.name, labelled(in_part(relative, 0.25, 51), LAST), ("annotated keypoints moved", *BOXES), "weak", both=("annotated keypoints moved", *BOXES)),
    Case("later: labels of pictures an eighth larger", LAST.name, labelled(enlarged(1.125), LAST), ("annotated keypoints moved", "image files of another size than annotated"), "strong", both=(*BOXES, "keypoints outside the image")),
    Case("later: file names sorted as text", LAST.name, labelled(sorted_as_text, LAST), ("annotations stand under other images", "results stand under other images' ids"), "strong", both=BOXES),
    Case("later, results: annotations merged with themselves", "results", good_results(merged_twice, **GOOD), ("instances annotated twice", "images are listed twice"), "strong", both=("only part of the images has results",), fast=True),
    Case("later: areas as shares of the image", LAST.name, labelled(area_shares, LAST), ("annotated areas",), "strong", plants="counts, ids, areas"),
    Case("later, results: sides of the hind legs exchanged in the labels", "results", good_results(permuted([*range(11), 14, 15, 16, 11, 12, 13]), **GOOD), (*PERMUTED, *SIDES), "weak"),
    Case("later: validation pictures in the training, stored anew", "results", leaked_again(0.3, LAST), ("training images in the validation set",), "strong", "files"),
    # Evaluation.
    Case("later, results: two processes gathered in a row", "results", good_results(nothing, gathered, **GOOD), ("results stand under other images' ids",), "strong"),
    Case("later, results: two epochs appended", LAST.name, results(both_epochs, LAST), ("no NMS: poses found twice",), "weak"),
    Case("later, results: the next category", LAST.name, results(next_category, LAST), ("wrong category ids",), "strong"),
    Case("later, results: one pose of every image", "results", good_results(nothing, first_of_image, **GOOD), ("detected boxes in place of annotated ones", "instances without a pose"), "strong"),
    Case("later: results of epoch 20 beside epoch 40", LAST.name, of_epoch(EARLIER, LAST), ("results of another model",), "weak", plants="results of another model"),
    Case("later: people, results of epoch 10 beside epoch 90", CROWD.name, of_epoch(CROWD_10, CROWD), ("results of another model",), "strong", plants="results of another model"),
    Case("later, results: AP of the large ones claimed", LAST.name, claimed(lambda t, d, s, ap: ap(t, d, s).figures["APL"], LAST), RULES, "strong", fast=True, says=("with large instances alone;",)),
    Case("later, results: AP75 of people's sigmas claimed", BASE.name, claimed(lambda t, d, s, ap: ap(t, d, tuple(COCO_SIGMAS)).figures["AP75"], BASE), RULES, "strong", says=("with AP at OKS .75 alone and sigmas of coco-17;",)),
    # Sequence.
    Case("later: cape, image encoder disturbed", "cape", checkpoint(noisy("image.", 1.0, 51), CAPE), ("keypoints not learned", *DISTURBED), "strong", both=("exposure bias", "support not read")),
    Case("later: cape, support discarded and PCK in input pixels", "cape", checkpoint(with_defects("support_discarded", "pck_in_input_pixels"), CAPE), ("support not read", "coordinates disagree"), "strong", both=("exposure bias", "keypoints not learned", "coordinates disagree")),
    # Two at once.
    Case("later: BGR and padding 1.7", LAST.name, own_code(LAST, "bgr=not model.bgr, padding=1.7"), (*ORDER, *PADDING), "strong", both=(*ORDER, *PADDING)),
    Case("later: vitpose, no mean and moved by 5 pixels", VITPOSE.name, own_code(VITPOSE, "mean=(0, 0, 0)", decode="keypoints=p.keypoints + 5 * a[[0, 1], [0, 1]]"), (*PLACED, *RANGE), "strong", both=(*PLACED, *RANGE), plants="offset and placing"),
    Case("later, results: half of the images and scores all 1", "results", good_results(nothing, several(part_of(0.5), constant_scores), low=0.02, high=0.12, **GOOD), ("only part of the images has results", "score does not rank the poses"), "strong", both=("only part of the images has results", "score does not rank the poses")),
    Case("later, results: sides in a third and a tenth annotated twice", "results", good_results(several(swapped_share(0.33, seed=51), duplicated(0.1, 51)), **GOOD), ("left and right exchanged in part of the labels", "instances annotated twice"), "strong", both=("left and right exchanged in part of the labels", "instances annotated twice")),
    Case("later, csv: a quarter of the rate and decay on norms", "csv logs", csv_logged(rate_times(0.25), NO_DECAY_RULE), (*RATE, "weight decay on norms and biases"), "strong", "files", both=(*RATE, "weight decay on norms and biases"), says=(r"base rate 0\.25 times",)),
    # Logs.
    Case("later, mmcv log: a tenth of the rate", "mmcv logs", written_as(mmcv, rate_times(0.1)), RATE, "strong", "files", says=(r"base rate 0\.1 times",)),
    Case("later, printed log: a third of the rate", "printed logs", written_as(printed, rate_times(0.33)), RATE, "strong", "files", says=(r"base rate 0\.33 times",)),
    Case("later, printed log: loss nan from three quarters on", "printed logs", written_as(printed, nan_from(0.75)), ("not finite",), "strong", "files", both=("training loss does not fall",), says=("70 times, first at epoch 31",)),
    Case("later, csv: scheduler never stepped", "csv logs", csv_logged(rate_of(lambda base, *_: base)), RATE, "strong", "files", says=("with no scheduler",)),
    Case("later, log: rate falls by a seventh each epoch", "logs", logged(rate_of(lambda base, parts, step, per_epoch, _: base * 0.86 ** (step // per_epoch))), RATE, "strong", "files"),
    Case("later, log: weights lost at the middle", "logs", logged(begins_again), ("training began anew", "resume restarted the schedule"), "strong", "files", both=OVERFITS, plants="resume restarted the schedule", says=("between epoch 20 and 21",)),
    Case("later, log: diverges", "logs", logged(diverges), ("training diverges", "training loss does not fall", "not finite", *OVERFITS), "strong", "files", both=(*OVERFITS, "training loss does not fall"), plants="training loss does not fall"),
    Case("later, plain log: overfits", "plain logs", written_as(plain_lines, overfitted(0.4, 0.5)), OVERFITS, "strong", "files", both=OVERFITS, plants="overfitting", fast=True),
    Case("later, log and config: cosine over a quarter of the run", "logs", logged(ended_at(1500), (r"T_max=5780", "T_max=1400"), (r"end=5880", "end=1500")), SHORT, "strong", "files", plants=AGAINST_ITSELF, says=("from epoch 11 on",)),
    # Configs and scripts.
    Case("later, hrnet config: milestones at 17 and 20", "hrnet config", published(HRNET_W32, (r"milestones=\[170, 200\]", "milestones=[17, 20]")), (*SHORT, "milestones differ from the recipe"), "strong", "files", plants=AGAINST_ITSELF, fast=True, says=("epoch 20 of 210",)),
    Case("later, hrnet config: judged on the training annotations", "hrnet config", published(HRNET_W32, (r"(ann_file=data_root \+ 'annotations/person_keypoints_)val2017", r"\1train2017")), ("predicted on other data than judged on", "validated on the training data"), "strong", "files", plants=AGAINST_ITSELF, says=("person_keypoints_train2017",)),
    Case("later, hrnet config: trains on both sets", "hrnet config", published(HRNET_W32, (r"(?s)dataset=dict\(\s+type=dataset_type,(.{0,200}?)person_keypoints_train2017\.json',(.{0,60}?)pipeline=train_pipeline,\s+\)\)", r"dataset=dict(type='CombinedDataset', metainfo=dict(from_file='configs/_base_/datasets/coco.py'), pipeline=train_pipeline, datasets=[dict(type=dataset_type,\1person_keypoints_train2017.json',\2pipeline=[]), dict(type=dataset_type,\1person_keypoints_val2017.json', data_prefix=dict(img='val2017/'), pipeline=[])]))")), ("validated on the training data",), "strong", "files", both=("tested on the training data",), fast=True),
    Case("later, hrnet config: validation drops its last batch", "hrnet config", published(HRNET_W32, (r"drop_last=False", "drop_last=True")), ("a test set that is not whole",), "weak", "files", plants=AGAINST_ITSELF),
    Case("later, config: backbone with a rate of 0", "logs", logged(None, (r"bias_decay_mult=0,", "bias_decay_mult=0, custom_keys={'backbone': dict(lr_mult=0.0)},")), MISSING, "strong", "files", plants="optimizer misses parameters", says=("^backbone: 0",)),
    Case("later, vitpose config: all blocks frozen", "vitpose config", vitpose_config((r"type='mmpretrain\.VisionTransformer',", "type='mmpretrain.VisionTransformer', frozen_stages=12,")), (*MISSING, "backbone is frozen"), "strong", "files", plants="optimizer misses parameters", says=("frozen_stages is 12",)),
    Case("later, vitpose config: average with momentum 0", "vitpose config", vitpose_config((r"# codec settings", "custom_hooks = [dict(type='EMAHook', ema_type='ExpMomentumAnnealingEMA', momentum=0.0)]\n# codec settings")), ("averaged weights that do not average", "averaged weights lag behind the trained ones"), "strong", "files", plants=AGAINST_ITSELF, fast=True, says=("momentum is 0,",)),
    Case("later, vitpose config: std of blue without its point", "vitpose config", vitpose_config((r"57\.375", "57375")), ("normalisation", "one channel normalised on another range"), "strong", "files", plants="mean and std", fast=True, says=("57375",)),
    Case("later, script: cleared between backward and step", "own network", script(("            optimizer.zero_grad()\n", ""), ("            optimizer.step()", "            optimizer.zero_grad()\n            optimizer.step()")), ("gradients are cleared before the step", "gradients are not cleared"), "strong", "files", plants="gradients are not cleared", fast=True),
    Case("later, script: a loader without shuffle", "own network", script((", shuffle=True", "")), ("training data not shuffled",), "weak", "files", fast=True),
    Case("later, script: back to training never", "own network", script(("            optimizer.step()\n", "            optimizer.step()\n        model.eval()\n        print(epoch, float((model(images[:8]) - targets).pow(2).mean()))\n")), EVAL, "strong", "files", plants="batch norm in evaluation mode while training", fast=True),
    Case("later, script: head replaced after the optimizer was made", "own network", script(("    for epoch in range(10):", "    model.head = torch.nn.Conv2d(24, 17, 1)\n    for epoch in range(10):")), MISSING, "strong", "files", plants="optimizer misses parameters", fast=True, says=("model.head is replaced",)),
)  # fmt: skip


def in_bfloat16(content):
    """Nothing wrong: half precision of the other kind."""
    weights = state(content)
    for name in [n for n in weights if weights[n].is_floating_point()]:
        weights[name] = weights[name].bfloat16()


def doubled(content):
    """Nothing wrong: double precision."""
    weights = state(content)
    for name in [n for n in weights if weights[n].is_floating_point()]:
        weights[name] = weights[name].double()


def with_stem_of_bgr(system):
    """Nothing wrong: own code that reads BGR, and a first layer that was exchanged with it."""

    def make(folder):
        path = edited(folder, tensors(["backbone.stem.0.conv.weight"], lambda t: t.flip(1)), system.last())
        return own_code(
            System("", lambda: [path], system.data),
            "bgr=not model.bgr, mean=model.mean[::-1], std=model.std[::-1]",
        )(folder)

    return make


LARGER = (
    (r"input_size=\(192, 256\)", "input_size=(288, 384)"),
    (r"heatmap_size=\(48, 64\)", "heatmap_size=(72, 96)"),
    (r"sigma=2", "sigma=3"),
)
ACCUMULATED = (
    ("            optimizer.zero_grad()\n", ""),
    ("        for batch in loader:", "        for n, batch in enumerate(loader):"),
    (
        "            optimizer.step()",
        "            if n % 4 == 3:\n                optimizer.step()\n                optimizer.zero_grad()",
    ),
)

CONTROLS: tuple[Case, ...] = (
    Case("later: epoch 40 on later animals", LAST.name, plain(LAST)),
    Case("later: six images", LAST.name, labelled(one_in(12), LAST)),
    Case("later: epoch 1 on later animals", LAST.name, lambda folder: ([LAST.checkpoints()[0]], LAST.options()), fast=True),
    Case("later: sheep alone", LAST.name, labelled(one_species, LAST)),
    Case("later: regions of crowds", LAST.name, labelled(crowds, LAST)),
    Case("later: everything twice as large", LAST.name, at_twice_the_size(LAST)),
    Case("later: four times the std, pixels times 4", LAST.name, own_code(LAST, "std=tuple(4 * v for v in model.std)", pixels=" * 4")),
    Case("later: BGR with a stem of BGR", BASE.name, with_stem_of_bgr(BASE)),
    Case("later: bfloat16", LAST.name, checkpoint(in_bfloat16, LAST)),
    Case("later: double precision", SEED_7.name, checkpoint(doubled, SEED_7)),
    Case("later: vitpose, seed 7", SEED_7.name, plain(SEED_7)),
    Case("later: people", CROWD.name, plain(CROWD)),
    Case("later: text, own code", "text", on(LAST, own_code(TEXT))),
    Case("later, results: scores in percent", LAST.name, results(hundredfold, LAST)),
    Case("later, results: a poor model, honest", "results", good_results(nothing, low=0.1, high=0.2, **GOOD)),
    Case("later, results: AP of its own rules claimed", LAST.name, claimed(lambda t, d, s, ap: ap(t, d, s).figures["AP"], LAST)),
    Case("later, log: resumed from epoch 30", "logs", logged(resumed), level="files", fast=True),
    Case("later, log: AP moves at the end", "logs", logged(worn_off), level="files"),
    Case("later, mmcv log and config", "mmcv logs", written_as(mmcv), level="files"),
    Case("later, printed log and config", "printed logs", written_as(printed), level="files"),
    Case("later, plain log and config", "plain logs", written_as(plain_lines), level="files", fast=True),
    Case("later, hrnet config: 384 x 288", "hrnet config", published(HRNET_W32, *LARGER), level="files"),
    Case("later, script: gradients of four batches", "own network", script(*ACCUMULATED), level="files", fast=True),
)  # fmt: skip
