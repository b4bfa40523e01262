"""What the sixth set of fresh cases plants: systems, and mistakes in files, labels, results and trainings."""

from __future__ import annotations

import copy
import dataclasses
import json
from functools import partial

import numpy as np

from tests.diagnosis.planted_labels import each, image_files
from tests.diagnosis.planted_logs import MMCV_CONFIG, training_rows
from tests.diagnosis.planted_weights import state
from tests.diagnosis.systems import HIGHERHRNET, TEXT, System, drawn, of_demo, of_vitpose
from workbench.skeletons import SKELETONS

# Pictures and runs that no other case has.

animals = partial(drawn, "animals", 60, 901)
people = partial(drawn, "people", 36, 902)
LAST = of_demo("rtmpose, sixth animals", animals)
EPOCH_5 = of_demo("rtmpose, epoch 5, sixth animals", animals, epochs=slice(3))
BASE = of_demo("rtmpose, text base, sixth animals", animals, "rtmpose-text-base")
SEED_11 = of_vitpose(11)
CROWD = System("higherhrnet, sixth people", HIGHERHRNET.checkpoints, people)
WORDS = System("text", TEXT.checkpoints, animals)
GOOD = {"system": LAST, "seed": 91}
PERSONS = {"system": CROWD, "seed": 91}
MIRROR = list(SKELETONS["ap10k-17"].mirror)
WIDTH, HEIGHT = 480, 360  # of the drawn pictures

# Mistakes in files.


def class_token_kept(content):
    """Position embeddings of MAE copied with the class token: every place has those of the place before."""
    weights = state(content)
    (name,) = (n for n in weights if n.endswith("pos_embed"))
    weights[name] = weights[name].roll(1, 1)


def clipped_weights(part, deviations):
    """A quantiser's calibration that cuts all weights beyond so many standard deviations."""

    def change(content):
        for name, tensor in state(content).items():
            if name.startswith(part) and tensor.is_floating_point() and tensor.ndim > 1:
                edge = deviations * float(tensor.std())
                tensor.clamp_(-edge, edge)

    return change


def variances_of(part, factor):
    """Running variances of one part, of another scale."""

    def change(content):
        for name, tensor in state(content).items():
            if name.startswith(part) and name.endswith("running_var"):
                tensor *= factor

    return change


def nan_at(name, row):
    """One number of one tensor is nan."""

    def change(content):
        state(content)[name].view(-1)[row] = float("nan")

    return change


# Mistakes in labels and image files.


def boxes_of_thousand(raw):
    """Boxes on a scale of 0 to 1000, as vision-language models give them."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in raw["images"]}
    for entry in raw["annotations"]:
        entry["bbox"] = (1000 * np.array(entry["bbox"]) / np.tile(sizes[entry["image_id"]], 2)).tolist()


def letterboxed_boxes(side):
    """Boxes in pixels of the square that a detector saw: enlarged, with a margin above."""

    def change(raw):
        scale = side / WIDTH
        margin = (side - scale * HEIGHT) / 2
        for entry in raw["annotations"]:
            x, y, w, h = entry["bbox"]
            entry["bbox"] = [scale * x, scale * y + margin, scale * w, scale * h]

    return change


def boxes_of_pictures(raw):
    """The box is the whole picture."""
    for entry in raw["annotations"]:
        entry["bbox"] = [0, 0, WIDTH, HEIGHT]


def sides_of_two(raw):
    """Whoever annotated the pictures of two animals had left and right exchanged."""
    ids = [entry["image_id"] for entry in raw["annotations"]]
    each(raw, lambda points, entry: points[MIRROR] if ids.count(entry["image_id"]) == 2 else points)


def unlabelled_in_the_corner(raw):
    """Unlabelled keypoints are infinite, are cut at the picture's size, and are called visible."""

    def edit(points, entry):
        points[points[:, 2] == 0] = (WIDTH, HEIGHT, 2)
        entry["num_keypoints"] = len(points)
        return points

    each(raw, edit)


def lens(strength):
    """Pictures were undistorted and their labels were not: keypoints move outwards with the radius."""

    def change(raw):
        centre, reach = np.array([WIDTH / 2, HEIGHT / 2]), np.hypot(WIDTH, HEIGHT) / 2

        def edit(points, _):
            seen = points[:, 2] > 0
            away = points[seen, :2] - centre
            radius = np.linalg.norm(away, axis=1, keepdims=True) / reach
            points[seen, :2] = centre + away * (1 + strength * radius**2)
            return points

        each(raw, edit)

    return change


def listed_twice(raw):
    """Every picture is listed under two ids, with its annotations: two exports of a tool were joined."""
    images, entries = copy.deepcopy(raw["images"]), copy.deepcopy(raw["annotations"])
    raw["images"] += [{**image, "id": image["id"] + 50_000} for image in images]
    raw["annotations"] += [
        {**entry, "id": entry["id"] + 50_000, "image_id": entry["image_id"] + 50_000} for entry in entries
    ]


def middle_alone(picture, path):
    """The middle of a picture."""
    picture.crop((48, 36, WIDTH - 48, HEIGHT - 36)).save(path, quality=90)


def of_the_middle(raw):
    """Labels of the middle of the pictures."""
    each(raw, lambda points, _: points - np.array([48, 36, 0]) * (points[:, 2:] > 0))
    for entry in raw["annotations"]:
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [x - 48, y - 36, w, h]
    for image in raw["images"]:
        image["width"], image["height"] = WIDTH - 96, HEIGHT - 72


def ten_bits(image):
    """Frames of ten bits of which the lower eight were stored: bright pixels begin at 0 again."""
    return (4 * image.astype(int) % 256).astype(np.uint8)


def interlaced(image):
    """Two fields of a moving camera in one frame: every second row is of a moment later."""
    made = image.copy()
    made[1::2] = np.roll(made[1::2], 14, 1)
    return made


def files(share, edit, system):
    """Part of the image files written anew."""
    return image_files(share, edit, system, 91)


# Mistakes in results.


def scores_sorted_alone(found):
    """The scores were sorted, the poses were not."""
    scores = sorted((entry["score"] for entry in found), reverse=True)
    for entry, score in zip(found, scores, strict=True):
        entry["score"] = score


def in_images(every, edit):
    """An edit (points, entry) of the poses of every n-th image."""

    def change(found):
        ids = sorted({entry["image_id"] for entry in found})
        chosen = set(ids[::every])
        for entry in found:
            if entry["image_id"] in chosen:
                points = np.reshape(np.array(entry["keypoints"], float), (-1, 3))
                entry["keypoints"] = np.asarray(edit(points, entry)).ravel().tolist()

    return change


def second_opinion(found):
    """Large instances are found by two heads, 3 pixels apart, and no NMS joins them."""
    random = np.random.default_rng(91)

    def span(entry):
        points = np.reshape(entry["keypoints"], (-1, 3))[:, :2]
        return float(np.ptp(points, axis=0).max())

    middle = np.median([span(entry) for entry in found])
    for entry in list(found):
        if span(entry) > middle:
            points = np.reshape(np.array(entry["keypoints"], float), (-1, 3))
            points[:, :2] += random.normal(0, 3.0, 2)
            score = entry["score"] * random.uniform(0.95, 1.05)
            found.append({**entry, "keypoints": points.ravel().tolist(), "score": score})


def of_single_instances(found):
    """Pictures with one instance alone were predicted."""
    ids = [entry["image_id"] for entry in found]
    return [entry for entry in found if ids.count(entry["image_id"]) == 1]


def stems_as_ids(found):
    """The image's id is the stem of a file name, as a text with zeros in front."""
    for entry in found:
        entry["image_id"] = f"{entry['image_id']:012d}"


def torso(share):
    """PCK whose reach is a share of the torso, from the neck to the root of the tail."""

    def figure(truth, detections, sigmas, ap):
        points = truth.keypoints
        known = (points[:, 3, 2] > 0) & (points[:, 4, 2] > 0)
        reach = share * np.linalg.norm(points[:, 3, :2] - points[:, 4, :2], axis=-1)
        away = np.linalg.norm(detections.keypoints - points[..., :2], axis=-1)
        return float((away < reach[:, None])[(points[..., 2] > 0) & known[:, None]].mean())

    return figure


def in_crop_pixels(pixels):
    """PCK in pixels of the network's input, which is 128 wide and shows 1.25 of the box's longer side."""

    def figure(truth, detections, sigmas, ap):
        reach = pixels / 128 * 1.25 * truth.boxes[:, 2:].max(1)
        away = np.linalg.norm(detections.keypoints - truth.keypoints[..., :2], axis=-1)
        return float((away < reach[:, None])[truth.keypoints[..., 2] > 0].mean())

    return figure


def area_of_keypoints(truth, detections, sigmas, ap):
    """AP whose areas are those of the rectangle around the labelled keypoints."""
    areas = []
    for points in truth.keypoints:
        seen = points[points[:, 2] > 0, :2]
        areas.append(float(np.prod(np.ptp(seen, axis=0))) if len(seen) else 0.0)
    return ap(dataclasses.replace(truth, area=np.array(areas)), detections, sigmas).figures["AP"]


# Mistakes in trainings.


def base_rate_from(share):
    """A resume forgot the schedule: the base rate to the end."""

    def edit(rows):
        trained = training_rows(rows)
        for row in trained[round(share * len(trained)) :]:
            row["lr"] = row["base_lr"] = 0.003

    return edit


def three_steps_an_epoch(folder):
    """mmcv's log of a set of three batches: the warm-up of 500 steps is longer than the run of 40 epochs."""
    lines = [{"env_info": "sys.platform: linux", "seed": 0, "exp_name": "own.py"}]
    random = np.random.default_rng(91)
    for step in range(120):
        rate = 5e-4 * (0.001 + 0.999 * step / 500) * 0.1 ** ((step >= 96) + (step >= 114))
        epoch, loss = 1 + step // 3, 0.0024 + float(random.normal(0, 5e-5)) - 2e-6 * step
        lines.append({"mode": "train", "epoch": epoch, "iter": 1 + step % 3, "lr": rate, "loss": loss,
                      "acc_pose": 0.008 + 1e-4 * step})  # fmt: skip
        if step % 30 == 29:
            lines.append({"mode": "val", "epoch": epoch, "iter": 3, "AP": 2e-5 * step, "AR": 4e-5 * step})
    (folder / "20260301_120000.log.json").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (folder / "config.py").write_text(MMCV_CONFIG)
    return [folder / "20260301_120000.log.json", folder / "config.py"], {}


def falls_from(share, part):
    """From one evaluation on AP falls steadily by a part, while the loss goes on falling."""

    def edit(rows):
        judged = [row for row in rows if "coco/AP" in row]
        first = round(share * len(judged))
        best = max(row["coco/AP"] for row in judged[: first + 1])
        for number, row in enumerate(judged[first:]):
            row["coco/AP"] = best * (1 - part * (number + 1) / len(judged[first:]))
            row["coco/AR"] = row["coco/AP"] + 0.03

    return edit


POSE_YAML = """
path: datasets/hands
train: images/train
val: images/val
kpt_shape: [17, 3]
flip_idx: [FLIPS]
names:
  0: person
kpt_names:
  0: [nose, left_eye, right_eye, left_ear, right_ear, left_shoulder, right_shoulder, left_elbow, right_elbow,
      left_wrist, right_wrist, left_hip, right_hip, left_knee, right_knee, left_ankle, right_ankle]
"""
RIGHT_FLIPS = "0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15"


def pose_yaml(flips):
    """The yaml of a data set of ultralytics with these flip indices."""

    def make(folder):
        (folder / "data.yaml").write_text(POSE_YAML.replace("FLIPS", flips))
        return [folder / "data.yaml"], {}

    return make


# Healthy and odd.


def sloppy_labels(raw):
    """Nothing wrong: an annotator's hand is 1.5 pixels off, by chance."""
    random = np.random.default_rng(91)
    each(
        raw, lambda points, _: points + random.normal(0, 1.5, points.shape) * [1, 1, 0] * (points[:, 2:] > 0)
    )


def halves(points, entry):
    """Nothing wrong: coordinates written in half pixels."""
    return np.round(2 * points) / 2


def restarts(base, parts, step, per_epoch, rate_at):
    """Nothing wrong: a cosine of ten epochs, four times, as the config says."""
    share = ((step - 1) % (10 * per_epoch)) / (10 * per_epoch)
    return base * (1 + np.cos(np.pi * share)) / 2
