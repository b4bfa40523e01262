"""Cases of the suite by somebody who had not read the methods: other mistakes, epochs, pictures and amounts.

They were written with the list of causes and the suite's own plantings at hand, and run once. Nothing was changed
after that run: a case that is missed stays as it is.
"""

# ruff: noqa: E501 - one case a line
from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import numpy as np

from tests.diagnosis import vitpose_run
from tests.diagnosis.cases_labs import text
from tests.diagnosis.cases_training import ANEW, RATE, WARM
from tests.diagnosis.planted_code import heatmaps, own_code, whole_images
from tests.diagnosis.planted_labels import (
    areas_times,
    centre_boxes,
    duplicated,
    each,
    exif_not_read,
    in_part,
    labelled,
    leaked,
    one_in,
    permuted,
    swapped_share,
)
from tests.diagnosis.planted_logs import (
    begun_anew_at,
    csv_logged,
    logged,
    rate_times,
    restarted_rows,
    warm_up_of,
)
from tests.diagnosis.planted_results import (
    claimed,
    good_poses,
    good_results,
    one_keypoint,
    part_of,
    results,
    shifted_ids,
)
from tests.diagnosis.planted_trainings import really_trained, script
from tests.diagnosis.planted_weights import (
    checkpoint,
    noisy,
    state,
    with_config_text,
    with_earlier,
    with_mirror,
    with_sigmas,
)
from tests.diagnosis.systems import CAPE, HIGHERHRNET, TEXT, Case, System, drawn, of_demo
from workbench.checkpoints.demo import demo_checkpoints, demo_log
from workbench.skeletons import SKELETONS

# Runs, epochs and pictures that no other case has.


animals = partial(drawn, "animals", 60, 401)
people = partial(drawn, "people", 36, 402)
EPOCH_20 = of_demo("rtmpose, epoch 20", animals, epochs=slice(-1))
EPOCH_10 = of_demo("rtmpose, epoch 10", animals, epochs=slice(-2))
BASE = of_demo("rtmpose, text base", animals, "rtmpose-text-base")
EPOCH_80 = System(
    "vitpose, epoch 80",
    lambda: vitpose_run.checkpoints("scenes-people-val", 1)[:-1],
    lambda: "scenes-people-val",
)
CROWD = System("higherhrnet, epoch 30", lambda: HIGHERHRNET.checkpoints()[:-1], people)
CROWD_LAST = System("higherhrnet, new people", HIGHERHRNET.checkpoints, people)


def on(system, make):
    """The same files, examined on the data of another system."""

    def elsewhere(folder):
        targets, options = make(folder)
        left = {name: value for name, value in options.items() if name not in ("data", "images")}
        return targets, {**left, **system.options()}

    return elsewhere


def plain(system):
    """The examined checkpoint and its data, unchanged."""
    return lambda folder: ([system.last()], system.options())


# Mistakes in files.


def torchvision_names(content):
    """One stage is called as ResNet's stages are."""
    weights = state(content)
    for name in [n for n in weights if n.startswith("backbone.stage2.")]:
        weights[name.replace("stage2", "layer2")] = weights.pop(name)


def without(name):
    """One tensor is not in the file."""

    def change(content):
        del state(content)[name]

    return change


def infinite(name):
    """One number of one tensor is infinite."""

    def change(content):
        state(content)[name].view(-1)[0] = float("inf")

    return change


def variances_times(factor):
    """Running variances of another scale, as of statistics gathered on other pixels."""

    def change(content):
        for name, tensor in state(content).items():
            if name.endswith("running_var"):
                tensor *= factor

    return change


def classifiers_exchanged(content):
    """A port that loads the classifier along x as the one along y."""
    weights = state(content)
    weights["head.cls_x.weight"], weights["head.cls_y.weight"] = (
        weights["head.cls_y.weight"],
        weights["head.cls_x.weight"],
    )


def sides_of_head(content):
    """The last layer gives the keypoints with left and right exchanged."""
    mirror = list(SKELETONS["coco-17"].mirror)
    weights = state(content)
    for name in ("head.final_layer.weight", "head.final_layer.bias"):
        weights[name] = weights[name][mirror].clone()


def raw_in_place(content):
    """Noisy raw weights as the model, and the average that was evaluated in training beside them."""
    import torch

    generator = torch.Generator().manual_seed(41)
    weights = state(content)
    content["ema_state_dict"] = {
        "steps": torch.tensor(7200),
        **{f"module.{name}": tensor.clone() for name, tensor in weights.items()},
    }
    for tensor in weights.values():
        if tensor.is_floating_point() and tensor.ndim > 1:
            tensor += 0.3 * tensor.std() * torch.randn(tensor.shape, generator=generator)


def pointer(folder: Path):
    """A clone without Git LFS: the checkpoint is a pointer of three lines."""
    target = folder / "rtmpose-animals.pth"
    target.write_text(
        "version https://git-lfs.github.com/spec/v1\n"
        "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 54313721\n"
    )
    return [target], {}


# Mistakes in annotations.


def moved_left(raw):
    """Labels moved along x alone, as after a crop at the left that only the images had."""
    each(raw, lambda points, _: points - np.array([10, 0, 0]) * (points[:, 2:] > 0))


def marked_visible(raw):
    """A converter that writes visibility 2 for every keypoint, those without a place at (0, 0) too."""

    def edit(points, entry):
        points[:, 2] = 2
        entry["num_keypoints"] = len(points)
        return points

    each(raw, edit)


def tight_boxes(raw):
    """Boxes about the visible keypoints, of a detector that leaves the ends of the limbs out."""
    for entry in raw["annotations"]:
        points = np.array(entry["keypoints"], float).reshape(-1, 3)
        points = points[points[:, 2] > 1, :2]
        if len(points) > 4:
            (x0, y0), (x1, y1) = points.min(0), points.max(0)
            w, h = 0.75 * (x1 - x0), 0.75 * (y1 - y0)
            entry["bbox"] = [(x0 + x1 - w) / 2, (y0 + y1 - h) / 2, w, h]


# Mistakes in results.


def from_zero(found):
    """Category ids are the indices of a list: one less than the annotations'."""
    for entry in found:
        entry["category_id"] -= 1


def chance_scores(found):
    """Scores that have nothing to do with the poses."""
    random = np.random.default_rng(41)
    for entry in found:
        entry["score"] = float(random.uniform(0.2, 0.9))


def crops_twice(found):
    """Tiles that overlap: two thirds of the poses are found in two tiles, a little differently."""
    random = np.random.default_rng(41)
    for entry in list(found):
        if random.random() < 0.67:
            other = copy.deepcopy(entry)
            points = np.array(other["keypoints"]).reshape(-1, 3)
            points[:, :2] += random.normal(0, 1.0, (len(points), 2))
            other["keypoints"] = points.ravel().tolist()
            other["score"] = entry["score"] * 1.02
            found.append(other)


def padded(points, entry):
    """Letterboxing that is undone with the wrong margin: everything 14 pixels too low."""
    return np.add(points, [0, 14, 0])


def weak_extras(found):
    """Nothing wrong: a detector's weak false alarms, far below the right poses."""
    random = np.random.default_rng(41)
    for entry in list(found)[::8]:
        points = np.add(np.reshape(entry["keypoints"], (-1, 3)), [*random.uniform(-60, 60, 2), 0])
        found.append({**entry, "keypoints": points.ravel().tolist(), "score": 0.05})


def edited_poses(edit):
    """Every pose [K, 3] changed."""

    def change(found):
        for entry in found:
            points = np.array(entry["keypoints"], float).reshape(-1, 3)
            entry["keypoints"] = edit(points, entry).ravel().tolist()

    return change


def nothing(raw):
    """No change."""


# Mistakes with text.


def glorot(content):
    """The layer that reads the text was set up anew and never loaded."""
    import torch

    weights, generator = state(content), torch.Generator().manual_seed(41)
    for name in ("neck.global_mlp.0", "neck.local_mlp.0"):
        torch.nn.init.xavier_uniform_(weights[f"{name}.weight"], generator=generator)
        weights[f"{name}.bias"].zero_()


PARTLY = ("weights only partly loaded", "model cannot be built or run", "checkpoint cannot be opened")
PLACED = ("keypoints placed wrongly", "own decoding contradicts the codec")
RANGE = ("value range", "normalisation")
AXES = ("output axes exchanged", "own decoding contradicts the codec", "width and height exchanged")
SIDES = ("left and right exchanged", "own decoding contradicts the codec", "keypoint order permuted")
IN_PART = ("left and right exchanged in part of the labels",)
BOXES = ("annotated boxes", "annotated boxes do not fit their keypoints", "keypoints outside the box")
RULES = ("figure comes from other rules",)
ONE_ROW = "one keypoint: axes exchanged, mirrored, scaled, moved"
HALF_LARGE = [0.5 * v for v in SKELETONS["ap10k-17"].sigmas]
LEFT_UP = "heatmaps=torch.nn.functional.pad(found.heatmaps, (0, 1, 0, 1))[..., 1:, 1:]"
FAR_LEFT = "keypoints=p.keypoints - np.array([5.0, 0.0]) * a[[0, 1], [0, 1]]"
STUCK = "keypoints=np.where(np.isin(np.arange(17), [0, 9, 15])[:, None], a @ [64, 64, 1], p.keypoints)"

FAULTS: tuple[Case, ...] = (
    # Files.
    Case("fresh: stage 2 under torchvision's name", BASE.name, checkpoint(torchvision_names, BASE), PARTLY, "strong", plants="weights only partly loaded"),
    Case("fresh: position embedding left out", EPOCH_80.name, checkpoint(without("backbone.pos_embed"), EPOCH_80), PARTLY, "weak", plants="weights only partly loaded"),
    Case("fresh: one infinite bias", CROWD.name, checkpoint(infinite("final_layers.1.bias"), CROWD, data=False), ("weights that are not finite",), "weak", "files", says=(r"final_layers\.1\.bias 1 of them",)),
    Case("fresh: variances of pixels six times as large", EPOCH_20.name, checkpoint(variances_times(36.0), EPOCH_20), ("batch-norm statistics do not fit",), "strong", fast=True),
    Case("fresh: raw weights saved, average beside", EPOCH_20.name, checkpoint(raw_in_place, EPOCH_20), ("raw and averaged weights exchanged",), "strong"),
    Case("fresh: Git LFS pointer for a checkpoint", "rtmpose", pointer, ("checkpoint cannot be opened", "file cannot be read"), "strong", "files", plants="checkpoint cannot be opened", says=("git-lfs pointer",)),
    Case("fresh: noise in the last attention", EPOCH_20.name, with_earlier(noisy("head.gau", 1.5, 41), EPOCH_20, earlier=-2), ("weights of one part disturbed",), "strong"),
    Case("fresh, config: option of the codec in the head", "logs", logged(None, (r"out_channels=17,", "out_channels=17, use_dark=True,")), ("config keys at a wrong place",), "weak", "files", says=(r"model\.head\.use_dark",)),
    Case("fresh, config: head with another split ratio than its codec", "logs", logged(None, (r"simcc_split_ratio=2\.0,(\s+type='RTMCCHead')", r"simcc_split_ratio=3.0,\1")), ("config contradicts itself", "targets encoded otherwise than outputs are decoded"), "weak", "files", fast=True, plants="config against itself", says=("split_ratio is 3.*split_ratio is 2",)),
    # Input.
    Case("fresh: mean and std of 0 to 1 on 0 to 255", BASE.name, own_code(BASE, "mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)"), RANGE, "strong", plants="value range"),
    Case("fresh: mean alone, as in Caffe", EPOCH_80.name, own_code(EPOCH_80, "std=(1.0, 1.0, 1.0)"), RANGE, "strong", plants="mean and std"),
    Case("fresh: images of cv2 as they come", EPOCH_10.name, own_code(EPOCH_10, "bgr=not model.bgr"), ("channel order",), "strong"),
    Case("fresh: padding 1.45", EPOCH_20.name, own_code(EPOCH_20, "padding=1.45"), ("crop padding",), "weak"),
    Case("fresh: EXIF not read in a quarter, turned left", "results", exif_not_read(0.25, lambda: good_poses(EPOCH_20.pose_set(), 41), EPOCH_20, 41, 8), ("EXIF rotation not applied",), "strong"),
    # Output.
    Case("fresh: x and y classifiers exchanged in a port", EPOCH_20.name, checkpoint(classifiers_exchanged, EPOCH_20), AXES, "strong"),
    Case("fresh: split ratio 1.6", BASE.name, own_code(BASE, "codec=dataclasses.replace(model.codec, split_ratio=1.6)"), ("SimCC split ratio",), "strong"),
    Case("fresh: five pixels too far to the left", EPOCH_10.name, own_code(EPOCH_10, decode=FAR_LEFT), PLACED, "weak", plants="offset and placing"),
    Case("fresh: heatmaps of 32, plain argmax", "heatmaps", on(EPOCH_20, heatmaps("codec=dataclasses.replace(codec, decoder='argmax')")), ("decoder of another codec", "half-pixel shift"), "weak", plants="decoder of another codec"),
    Case("fresh: head of a run with mirrored names", EPOCH_80.name, checkpoint(sides_of_head, EPOCH_80), SIDES, "strong"),
    Case("fresh: three keypoints stand still", EPOCH_80.name, own_code(EPOCH_80, decode=STUCK), ("keypoint is the same in every pose",), "strong", both=PLACED, says=("nose", "left_wrist", "left_ankle",)),
    Case("fresh: front and hind legs as mirror pairs", BASE.name, checkpoint(with_mirror({5: 11, 11: 5, 8: 14, 14: 8}), BASE, data=False), ("mirror pairs contradict the names", "mirror pairs"), "strong", "files", plants="flip pairs", says=("L_Shoulder to L_Hip, not R_Shoulder",)),
    Case("fresh, results: scores by chance", "results", good_results(nothing, chance_scores, EPOCH_20, seed=41, low=0.02, high=0.12), ("score does not rank the poses",), "strong", fast=True),
    Case("fresh, results: one paw 20 pixels too high", BASE.name, results(one_keypoint(13, lambda p: p - [0, 20]), BASE), ("one keypoint placed wrongly", "one keypoint annotated wrongly"), "weak", fast=True, plants=ONE_ROW, says=("^L_B_Paw ", r"y moved by \+(19|2[01])\.\d pixels",)),
    Case("fresh, results: letterbox undone wrongly", "results", good_results(nothing, edited_poses(padded), EPOCH_20, seed=41), PLACED, "weak", plants="offset and placing"),
    # Labels.
    Case("fresh: sides swapped in three of ten", "results", good_results(swapped_share(0.3, seed=41), system=EPOCH_20, seed=41), IN_PART, "weak"),
    Case("fresh: shoulders and hips in each other's place", EPOCH_80.name, labelled(permuted([0, 1, 2, 3, 4, 11, 12, 7, 8, 9, 10, 5, 6, 13, 14, 15, 16]), EPOCH_80), ("keypoint order permuted",), "weak", says=("left_hip is found where left_shoulder", "right_hip is found where right_shoulder",)),
    Case("fresh: labels 10 pixels to the left", EPOCH_20.name, labelled(moved_left, EPOCH_20), ("annotated keypoints moved",), "weak", both=BOXES),
    Case("fresh: four of ten boxes as centre and size", BASE.name, labelled(in_part(centre_boxes, 0.4, 41), BASE), BOXES, "weak", both=BOXES, plants="boxes as corners or centre"),
    Case("fresh: boxes inside the keypoints", EPOCH_20.name, labelled(tight_boxes, EPOCH_20), BOXES, "strong", both=(*BOXES, "crop padding"), plants="boxes moved or too small"),
    Case("fresh: every keypoint is visible", "results", good_results(marked_visible, system=EPOCH_20, seed=41), ("visibility",), "strong", both=(*BOXES, "counts")),
    Case("fresh: an eighth of the people drawn twice", "results", good_results(duplicated(0.125, 41, 0.6), system=CROWD, seed=41), ("instances annotated twice",), "weak", fast=True),
    Case("fresh: areas of pictures half as large", BASE.name, labelled(areas_times(0.25), BASE), ("annotated areas",), "strong", plants="counts, ids, areas"),
    Case("fresh: sigmas half as large", BASE.name, checkpoint(with_sigmas(HALF_LARGE), BASE), ("sigmas of another skeleton",), "strong", says=("16 others", r"0\.036 against 0\.072",)),
    Case("fresh: a seventh of the validation in the training", "results", leaked(0.15, EPOCH_20, seed=41, with_checkpoint=False), ("training images in the validation set",), "weak", "files"),
    # Evaluation.
    Case("fresh, results: categories counted from 0", BASE.name, results(from_zero, BASE), ("wrong category ids",), "strong"),
    Case("fresh, results: the last batches dropped", "results", good_results(nothing, part_of(0.85), EPOCH_20, seed=41), ("only part of the images has results",), "weak"),
    Case("fresh, results: each under the next image but one, in a third", "results", good_results(nothing, shifted_ids(2, every=3), EPOCH_20, seed=41), ("results stand under other images' ids",), "weak"),
    Case("fresh, results: overlapping tiles", "results", good_results(nothing, crops_twice, EPOCH_20, seed=41, low=0.03, high=0.1), ("no NMS: poses found twice",), "weak"),
    Case("fresh, results: sigma .05 for every keypoint claimed", BASE.name, claimed(lambda t, d, s, ap: ap(t, d, (0.05,) * 17).figures["AP"], BASE), RULES, "weak", says=("with sigma .05 for every keypoint;",)),
    # Grouping, sequence, conditioning.
    Case("fresh: people, tags 50 times", CROWD.name, on(CROWD, whole_images(50.0, epoch=-2)), ("tags of the wrong scale",), "strong"),
    Case("fresh: people, one cell left and up", CROWD_LAST.name, on(CROWD, whole_images(maps=LEFT_UP)), ("cells placed off",), "weak", plants="offset and placing"),
    Case("fresh: cape with defects, epoch 15", "cape, defects", lambda folder: ([demo_checkpoints("cape-demo-defects")[0]], EPOCH_20.options()), ("support not read", "exposure bias"), "strong", both=("layers that never learned", "support not read", "exposure bias", "coordinates disagree", "loss in the log is scaled", "keypoints not learned")),
    Case("fresh: cape, decoder disturbed", "cape, new animals", on(EPOCH_20, checkpoint(noisy("decoder.", 1.0, 41), CAPE)), ("weights of one part disturbed", "keypoints not learned"), "strong", both=("exposure bias", "support not read")),
    Case("fresh: text, one species for all", "text, new animals", on(EPOCH_20, text(with_config_text(r"'text': 'drawn-quadrupeds'", "'text': 'drawn-quadrupeds/zebra'"))), ("one vector for all",), "strong"),
    Case("fresh: text, its layers set up anew", "text, new animals", on(EPOCH_20, text(glorot)), ("random initialisation", "layers that never learned"), "strong", both=("features destroyed", "batch-norm statistics do not fit")),
    # Training.
    Case("fresh, csv: an eighth of the rate", "csv logs", csv_logged(rate_times(0.125)), RATE, "strong", "files", says=(r"base rate 0\.125 times",)),
    Case("fresh, log: schedule begun anew late", "logs", logged(begun_anew_at(0.7)), ANEW, "strong", "files", plants="resume restarted the schedule", says=("the schedule begun anew",)),
    Case("fresh, log: warm-up of four fifths of the run", "logs", logged(warm_up_of(0.8)), WARM, "weak", "files", both=RATE, fast=True, plants="warm-up longer than the run", says=("epoch 32 of 40",)),
    Case("fresh, config: decay on norms alone", "logs", logged(None, (r"norm_decay_mult=0", "norm_decay_mult=1")), ("weight decay on norms and biases",), "weak", "files", says=("acts on norm as well",)),
    Case("fresh, script: clipped after the step", "own network", script(("            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n            optimizer.step()\n", "            optimizer.step()\n            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n")), ("clipping after the step", "gradient clipping too small"), "strong", "files", plants="gradient clipping too small"),
    Case("fresh, really trained: evaluation mode from epoch 10 on", EPOCH_10.name, really_trained("evaluation mode", EPOCH_10, epoch=-1), ("network is trained in evaluation mode", "batch-norm statistics not updated"), "strong", "files", both=("training loss does not fall",), plants="batch norm in evaluation mode while training"),
    Case("fresh: log of the other run", BASE.name, lambda folder: ([BASE.last(), demo_log("rtmpose-demo")], {}), ("log of another run",), "weak", "files"),
)  # fmt: skip

CONTROLS: tuple[Case, ...] = (
    Case("fresh: epoch 10 on new animals", EPOCH_10.name, plain(EPOCH_10)),
    Case("fresh: text base on new animals, own code", BASE.name, own_code(BASE)),
    Case("fresh: a quarter of the new animals", EPOCH_20.name, labelled(one_in(4), EPOCH_20)),
    Case("fresh: people, epoch 80", EPOCH_80.name, plain(EPOCH_80)),
    Case("fresh: epoch 30 on new people", CROWD.name, plain(CROWD)),
    Case("fresh: cured sequence on new animals", "cape, new animals", on(EPOCH_20, plain(CAPE))),
    Case("fresh: healthy text on new animals", "text, new animals", on(EPOCH_20, plain(TEXT))),
    Case("fresh, results: weak false alarms", "results", good_results(nothing, weak_extras, EPOCH_20, seed=41)),
    Case("fresh, log: rightly resumed", "logs", logged(restarted_rows), level="files"),
)  # fmt: skip
