"""What the third set of fresh cases plants: systems, and mistakes in files, labels, results and trainings."""

from __future__ import annotations

import json
from functools import partial

import numpy as np

from tests.diagnosis.planted_labels import each, image_files, leaked_copies
from tests.diagnosis.planted_logs import training_rows
from tests.diagnosis.planted_results import claimed, good_poses, own_results
from tests.diagnosis.planted_weights import edited, state
from tests.diagnosis.systems import HIGHERHRNET, System, drawn, of_demo, of_vitpose
from workbench.checkpoints.demo import demo_config
from workbench.skeletons import SKELETONS

# Pictures and runs that no other case has.


animals = partial(drawn, "animals", 64, 601)
people = partial(drawn, "people", 36, 602)
LAST = of_demo("rtmpose, third animals", animals)
FIRST = of_demo("rtmpose, epoch 1, third animals", animals, epochs=slice(1))
BASE = of_demo("rtmpose, text base, third animals", animals, "rtmpose-text-base")
SEED_11 = of_vitpose(11)
CROWD = System("higherhrnet, third people", HIGHERHRNET.checkpoints, people)
GOOD = {"system": LAST, "seed": 61}
NAMES = SKELETONS["ap10k-17"].keypoints
MIRROR = list(SKELETONS["ap10k-17"].mirror)
HEIGHT = 360  # of the drawn pictures, which are 480 wide

# Mistakes in files.


def alphabetical(content):
    """A head that was retrained on keypoints sorted by name, under the old names."""
    order, weights = sorted(range(17), key=lambda k: NAMES[k].lower()), state(content)
    for name in ("head.final_layer.weight", "head.final_layer.bias"):
        weights[name] = weights[name][order].clone()


def mean_of_epochs(folder):
    """The mean of the weights of all epochs, the first ones too, beside the last one."""
    import torch

    others = [state(torch.load(path, map_location="cpu", weights_only=False)) for path in LAST.checkpoints()]

    def change(content):
        weights = state(content)
        for name in [n for n in weights if weights[n].is_floating_point()]:
            weights[name] = torch.stack([one[name] for one in others]).mean(0)

    (folder / "mean").mkdir()
    return [edited(folder / "mean", change, LAST.last())], {**LAST.options(), "against": LAST.last()}


def exchanged_layers(one, other):
    """Two layers in each other's place, as after a sort of their names as text."""

    def change(content):
        weights = state(content)
        for name in [n for n in weights if n.startswith(one)]:
            there = name.replace(one, other)
            weights[name], weights[there] = weights[there], weights[name]

    return change


def transposed_places(content):
    """A position embedding that was resized as height and width of another order."""
    weights = state(content)
    table = weights["backbone.pos_embed"]
    side = round(table.shape[1] ** 0.5)
    weights["backbone.pos_embed"] = table.unflatten(1, (side, side)).transpose(1, 2).flatten(1, 2).clone()


def pruned(share):
    """The smallest weights of every convolution and matrix set to 0, and nothing trained after that."""

    def change(content):
        for tensor in state(content).values():
            if tensor.is_floating_point() and tensor.ndim > 1:
                tensor[tensor.abs() < tensor.abs().flatten().quantile(share)] = 0

    return change


def cut_head(keypoints):
    """A head of fewer keypoints than config and labels have."""

    def change(content):
        weights = state(content)
        for name in ("head.final_layer.weight", "head.final_layer.bias"):
            weights[name] = weights[name][:keypoints].clone()

    return change


def without_its_one(content):
    """The network was trained with γ = 1 + Δ and is read with γ = Δ."""
    bias = state(content)["neck.global_mlp.0.bias"]
    bias[: len(bias) // 2] -= 1


def with_prefix(prefix):
    """What torch.compile or a wrapper puts before every name."""

    def change(content):
        weights = state(content)
        for name in list(weights):
            weights[prefix + name] = weights.pop(name)

    return change


def weights_alone(folder):
    """Nothing wrong: the averaged weights as they are published, beside their config."""
    import torch

    content = torch.load(LAST.last(), map_location="cpu", weights_only=False)
    torch.save({"state_dict": state(content)}, folder / "rtmpose_ema.pth")
    return [folder / "rtmpose_ema.pth"], {**LAST.options(), "config": demo_config("rtmpose-demo")}


def exported(system, skeleton):
    """Nothing wrong: the network as ONNX."""

    def make(folder):
        import torch

        from workbench.models import open_model

        model = open_model(system.last()).model
        pixels, path = torch.zeros(1, 3, 128, 128), folder / "end2end.onnx"
        names = ["simcc_x", "simcc_y"]
        axes = {name: {0: "batch"} for name in ("input", *names)}
        torch.onnx.export(
            model.module,
            (pixels,),
            str(path),
            input_names=["input"],
            output_names=names,
            dynamic_axes=axes,
            dynamo=False,
        )
        return [path], {**system.options(), "skeleton": skeleton}

    return make


# Mistakes in labels and image files.


def in_boxes(edit):
    """Every box [x, y, w, h] of the annotations changed."""

    def change(raw):
        for entry in raw["annotations"]:
            entry["bbox"] = [float(v) for v in edit(*entry["bbox"])]

    return change


def in_entries(**values):
    """Fields of every annotation set."""

    def change(raw):
        for entry in raw["annotations"]:
            entry.update(values)

    return change


def of_species(number, order):
    """One species in another order, as a second data set had it."""

    def change(raw):
        each(raw, lambda points, entry: points[order] if entry["category_id"] == number else points)

    return change


def as_seen(raw):
    """Left is where the viewer has it: sides are exchanged in animals whose head is on the right."""
    each(raw, lambda points, _: points[MIRROR] if points[2, 0] > points[4, 0] else points)


def neck_at_the_withers(raw):
    """One keypoint was understood otherwise: the neck a third of the way to the tail."""

    def edit(points, entry):
        if points[3, 2] and points[4, 2]:
            points[3, :2] += (points[4, :2] - points[3, :2]) / 3
        return points

    each(raw, edit)


def frame_dropped(raw):
    """A frame was lost when the video was cut: labels of the second half stand one image too early."""
    ids = [image["id"] for image in raw["images"]]
    half, last = len(ids) // 2, ids[-1]
    before = {number: ids[n - 1] for n, number in enumerate(ids) if n >= half}
    raw["annotations"] = [
        {**entry, "image_id": before.get(entry["image_id"], entry["image_id"])}
        for entry in raw["annotations"]
    ]
    raw["annotations"] = [entry for entry in raw["annotations"] if entry["image_id"] != last]


def sides_exchanged(raw):
    """Height before width in the list of the images."""
    for image in raw["images"]:
        image["width"], image["height"] = image["height"], image["width"]


def seen_as_hidden(raw):
    """The converter took the flag "occluded" for "labelled"."""

    def edit(points, entry):
        points[:, 2] = np.where(points[:, 2] == 1, 2, 0)
        entry["num_keypoints"] = int((points[:, 2] > 0).sum())
        return points

    each(raw, edit)


def leaked_mirrored(share, system):
    """Training pictures that are mirrored validation pictures, as after an augmentation before the split."""

    from PIL import ImageOps

    def change(raw):
        each(raw, lambda points, _: (points * [-1, 1, 1] + [479, 0, 0] * (points[:, 2:] > 0))[MIRROR])
        for entry in raw["annotations"]:
            entry["bbox"][0] = 480 - entry["bbox"][0] - entry["bbox"][2]

    def save(picture, path):
        ImageOps.mirror(picture).save(path, quality=92)

    return leaked_copies(share, system, "aug_{}.jpg", save, change)


def hue_first(image):
    """Pixels stored as hue, saturation, value."""
    from PIL import Image

    return np.array(Image.fromarray(image).convert("HSV"))


def black(image):
    """A decoder that failed: no picture at all."""
    return np.zeros_like(image)


def linear(image):
    """Pixels of a linear camera, without gamma."""
    return (255 * (image / 255) ** 2.6).astype(np.uint8)


def grey(image):
    """A camera without colour."""
    return np.repeat(image.mean(2, keepdims=True), 3, 2).astype(np.uint8)


def thumbnail(image):
    """A preview of a sixteenth of the size, enlarged again."""
    from PIL import Image

    picture = Image.fromarray(image)
    small = picture.resize((picture.width // 16, picture.height // 16))
    return np.array(small.resize(picture.size, Image.Resampling.BICUBIC))


def as_png(picture, folder, name):
    """With an opaque fourth channel."""
    picture.convert("RGBA").save(folder / f"{name}.png")
    return f"{name}.png"


def a_third(picture, folder, name):
    """A third of the size."""
    picture.resize((picture.width // 3, picture.height // 3)).save(folder / f"{name}.jpg", quality=95)
    return f"{name}.jpg"


def of_a_third(raw):
    """Nothing wrong: all that is annotated, a third as large."""
    each(raw, lambda points, _: points / [3, 3, 1])
    for entry in raw["annotations"]:
        entry["bbox"], entry["area"] = [v / 3 for v in entry["bbox"]], entry["area"] / 9
    for image in raw["images"]:
        image["width"], image["height"] = image["width"] // 3, image["height"] // 3


def odd_ids(raw):
    """Nothing wrong: large ids, one category of an unusual name, fields of a tool."""
    raw["categories"] = [{**raw["categories"][0], "id": 9001, "name": "Specimen α #3 (left bench)"}]
    for image in raw["images"]:
        image.update(id=700_000 + 13 * image["id"], rig="B", flickr_url="")
    for entry in raw["annotations"]:
        entry.update(image_id=700_000 + 13 * entry["image_id"], category_id=9001, id=50_000 + entry["id"])
        entry["attributes"] = {"occluded": False, "track_id": entry["id"]}


def boxes_alone(raw):
    """Nothing wrong: a third of the animals have a box and no keypoints."""
    for entry in raw["annotations"][::3]:
        entry["keypoints"], entry["num_keypoints"] = [0] * 51, 0


def crowded(raw):
    """Nothing wrong: pictures of three animals or more alone."""
    ids = [entry["image_id"] for entry in raw["annotations"]]
    raw["annotations"] = [entry for entry in raw["annotations"] if ids.count(entry["image_id"]) > 2]


# Mistakes in results.


def under_annotation_ids(found):
    """image_id holds the annotation's id."""
    for number, entry in enumerate(found, 1):
        entry["image_id"] = number


def above(share):
    """Poses of low score are not written: the threshold of the demo was left on."""

    def change(found):
        least = np.quantile([entry["score"] for entry in found], 1 - share)
        return [entry for entry in found if entry["score"] >= least]

    return change


def confused(share):
    """A classifier that takes one species for another in part of the poses."""

    def change(found):
        random = np.random.default_rng(61)
        for entry in found:
            if random.random() < share:
                entry["category_id"] = (entry["category_id"] + int(random.integers(0, 7))) % 8 + 1

    return change


def mirrored_pass_too(found):
    """Poses of the mirrored picture stand beside those of the picture, instead of their mean."""
    random = np.random.default_rng(61)
    for entry in list(found):
        points = np.reshape(entry["keypoints"], (-1, 3))
        points = points + np.column_stack([random.normal(0, 1.5, (17, 2)), np.zeros(17)])
        found.append({**entry, "keypoints": points.ravel().tolist(), "score": entry["score"] * 1.01})


def letterboxed(points, entry):
    """The margin that makes the box square is never taken off again."""
    _, _, w, h = entry["bbox"]
    return np.add(points, [max(0, h - w) * 0.625, max(0, w - h) * 0.625, 0])


def doubtful_at_zero(points, entry):
    """Keypoints of low confidence are written as (0, 0)."""
    return points * (points[:, 2:] > np.quantile(points[:, 2], 0.25))


def by_count(found):
    """The score is the number of keypoints above a threshold."""
    for entry in found:
        entry["score"] = int(np.sum(np.array(entry["keypoints"][2::3]) > 0.3))


def of_a_cropped_video(points, entry):
    """Every second video was cropped before, and its corner was not added."""
    return points - np.array([36, 24, 0]) * (entry["image_id"] % 2)


def two_epochs(folder):
    """Half of the results were left from the first epoch; the last checkpoint lies beside."""
    old, new = own_results(FIRST), own_results(LAST)
    ids = sorted({entry["image_id"] for entry in new})
    late = set(ids[len(ids) // 2 :])
    found = [entry for entry in old if entry["image_id"] not in late]
    found += [entry for entry in new if entry["image_id"] in late]
    (folder / "results.json").write_text(json.dumps(found))
    return [LAST.last(), folder / "results.json"], LAST.options()


def no_third_column(found):
    """Nothing wrong: visibility is not predicted, scores are logits, and there are fields of a tool."""
    for entry in found:
        entry["keypoints"][2::3] = [0] * 17
        entry.update(score=12 * entry["score"] - 4, model="v3", latency_ms=4.1)


def claims_ar(folder):
    """Nothing wrong: AR, called so, of the same results."""
    targets, options = claimed(lambda t, d, s, ap: ap(t, d, s).figures["AR"], LAST)(folder)
    return targets, {**options, "claim": {"AR": options["claim"]["AP"]}}


def poses_on_grey(folder):
    """Nothing wrong: good poses on pictures without colour."""
    _, options = image_files(1.0, grey, LAST, 61)(folder)
    (folder / "results.json").write_text(json.dumps(good_poses(LAST.pose_set(), 61)))
    return [folder / "results.json"], {name: options[name] for name in ("data", "images")}


def by_image(truth, detections, sigmas, ap):
    """The mean of the AP of each image, as a loop over images gives it."""
    import dataclasses

    figures = []
    for number in truth.image_ids:
        own = detections.image_id == number
        fields = ("image_id", "category_id", "keypoints", "score", "area")
        found = dataclasses.replace(detections, **{name: getattr(detections, name)[own] for name in fields})
        figures.append(ap(truth.on_images([number]), found, sigmas).figures["AP"])
    return float(np.nanmean(figures))


def mean_oks(truth, detections, sigmas, ap):
    """The mean OKS in place of AP; one pose for each instance, in their order."""
    seen = truth.keypoints[..., 2] > 0
    square = ((detections.keypoints - truth.keypoints[..., :2]) ** 2).sum(-1)
    near = np.exp(-square / (2 * (2 * np.array(sigmas)) ** 2 * truth.area[:, None]))
    return float(np.mean((near * seen).sum(1) / seen.sum(1)))


def unlabelled_too(truth, detections, sigmas, ap):
    """AP of an own OKS in which unlabelled keypoints, at (0, 0), count as the others do."""
    import dataclasses

    points = truth.keypoints.copy()
    points[..., 2] = 2
    return ap(dataclasses.replace(truth, keypoints=points), detections, sigmas).figures["AP"]


def pck_of_diagonal(truth, detections, sigmas, ap):
    """PCK whose reach is a fiftieth of the picture's diagonal (600)."""
    away = np.linalg.norm(detections.keypoints - truth.keypoints[..., :2], axis=-1)
    return float((away < 12)[truth.keypoints[..., 2] > 0].mean())


# Mistakes in trainings.


def same_ap(rows):
    """The same weights are judged after every epoch."""
    for row in rows:
        if "coco/AP" in row:
            row["coco/AP"], row["coco/AR"] = 0.0137, 0.0612


def targets_of_zero(rows):
    """No keypoint has a target: loss and accuracy are 0 from the first step on."""
    for row in rows:
        for name in row:
            if name.startswith(("loss", "acc", "grad", "coco/")):
                row[name] = 0.0


def two_runs(rows):
    """The log of a second training was appended to the first one's."""
    rows += [dict(row) for row in rows]


def lower_from(share, factor):
    """The run was resumed with another rate."""

    def edit(rows):
        trained = training_rows(rows)
        for row in trained[round(share * len(trained)) :]:
            row["lr"] *= factor
            row["base_lr"] *= factor

    return edit


def warm_restarts(base, parts, step, per_epoch, rate_at):
    """A cosine that begins again every ten epochs."""
    share = step % (10 * per_epoch) / (10 * per_epoch)
    return 6e-5 + (base - 6e-5) * (1 + np.cos(np.pi * share)) / 2


def ultralytics(rows):
    """The results.csv of ultralytics, which has names with blanks."""
    judged = [row for row in rows if "coco/AP" in row]
    trained = {row["epoch"]: row for row in training_rows(rows)}
    names = ("epoch", "time", "train/pose_loss", "val/pose_loss", "metrics/mAP50-95(P)", "lr/pg0")
    lines = [",".join(f"{name:>20}" for name in names)]
    for row in judged:
        train = trained[row["step"]]
        lost = row.get("val_loss", train["loss"] + 0.02)
        figures = (row["step"], 31 * row["step"], train["loss"], lost, row["coco/AP"], train["lr"])
        lines.append(",".join(f"{figure:>20.6g}" for figure in figures))
    return "results.csv", "\n".join(lines) + "\n"


def warm_start(rows):
    """Nothing wrong: a training that begins with good weights and gains little."""
    for row in rows:
        if "loss" in row:
            row["loss"] = row["loss_kpt"] = 0.21 + 0.25 * row["loss_kpt"]
        if "coco/AP" in row:
            row["coco/AP"], row["coco/AR"] = 0.37 + 0.08 * row["coco/AP"], 0.42 + 0.08 * row["coco/AR"]


def one_cycle(base, parts, step, per_epoch, rate_at):
    """Nothing wrong: a rise over a quarter of the run, then a cosine to almost 0."""
    share = step / 5880
    return base * (
        0.04 + 0.96 * (1 - np.cos(np.pi * share / 0.25)) / 2
        if share < 0.25
        else (1 + np.cos(np.pi * (share - 0.25) / 0.75)) / 2
    )
