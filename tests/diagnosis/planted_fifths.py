"""What the fifth set of fresh cases plants: systems, and mistakes in files, labels, results and code."""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from tests.diagnosis import vitpose_run
from tests.diagnosis.planted_labels import annotation_file, each, in_part
from tests.diagnosis.planted_logs import training_rows
from tests.diagnosis.planted_results import good_poses
from tests.diagnosis.planted_weights import state
from tests.diagnosis.systems import HIGHERHRNET, TEXT, System, drawn
from workbench.checkpoints.demo import demo_checkpoints

# Pictures and runs that no other case has.


def animals():
    """Newly drawn animals."""
    return drawn("animals", 60, 801)


def people():
    """Newly drawn people."""
    return drawn("people", 36, 802)


LAST = System("rtmpose, fifth animals", lambda: demo_checkpoints("rtmpose-demo"), animals)
EPOCH_10 = System("rtmpose, epoch 10, fifth animals", lambda: demo_checkpoints("rtmpose-demo")[:-2], animals)
BASE = System("rtmpose, text base, fifth animals", lambda: demo_checkpoints("rtmpose-text-base"), animals)
SEED_5 = System("vitpose, seed 5", lambda: vitpose_run.checkpoints("scenes-val", 5), lambda: "scenes-val")
CROWD = System("higherhrnet, fifth people", HIGHERHRNET.checkpoints, people)
EPOCH_30 = System("higherhrnet, epoch 30, fifth people", lambda: HIGHERHRNET.checkpoints()[:-1], people)
WORDS = System("text", TEXT.checkpoints, animals)
GOOD = {"system": LAST, "seed": 81}
PERSONS = {"system": CROWD, "seed": 81}

# Mistakes in files.


def half_as_new(content):
    """Every second running statistic is as torch starts it: a part of the processes saved too early."""
    weights = state(content)
    for name in [n for n in weights if n.endswith("running_mean")][::2]:
        weights[name].zero_()
        weights[name.replace("running_mean", "running_var")].fill_(1.0)


# Mistakes in labels and image files.


def squares(raw):
    """Boxes as squares of their shorter side, as a detector of faces gives them."""
    for entry in raw["annotations"]:
        x, y, w, h = entry["bbox"]
        side = min(w, h)
        entry["bbox"] = [x + (w - side) / 2, y + (h - side) / 2, side, side]


def coarse_grid(pixels):
    """Labels on a grid, as they were clicked in small previews."""

    def change(raw):
        each(raw, lambda points, _: np.where(points > 2, np.floor(points / pixels) * pixels, points))

    return change


def halves_of_two(raw):
    """The hind part of each animal is that of the next one in the picture: two identities mixed up."""
    for image in raw["images"]:
        entries = [entry for entry in raw["annotations"] if entry["image_id"] == image["id"]]
        points = [np.array(entry["keypoints"], float).reshape(-1, 3) for entry in entries]
        hind = [one[[4, *range(11, 17)]].copy() for one in points]
        for entry, one, other in zip(entries, points, [*hind[1:], *hind[:1]], strict=True):
            one[[4, *range(11, 17)]] = other
            entry["keypoints"] = one.ravel().tolist()
            entry["num_keypoints"] = int((one[:, 2] > 0).sum())


def hidden_in_the_middle(raw):
    """Keypoints that an annotator could not see were clicked in the middle of the box, and called visible."""

    def edit(points, entry):
        x, y, w, h = entry["bbox"]
        points[points[:, 2] == 1] = (x + w / 2, y + h / 2, 2)
        return points

    each(raw, edit)


def moved_by(right, down, share=1.0):
    """Labels moved by one amount where they are labelled, boxes as they were, in part of the annotations."""

    def move(raw):
        each(raw, lambda points, _: points + np.array([right, down, 0]) * (points[:, 2:] > 0))

    return in_part(move, share, 81)


def order_in_part(order, share):
    """Another order of the keypoints in part of the annotations."""
    return in_part(lambda raw: each(raw, lambda points, _: points[order]), share, 81)


def framed(system, width, height):
    """All pictures were brought to one size by a black frame; the labels are those of before."""

    def make(folder):
        from PIL import Image

        (folder / "images").mkdir()
        for record in system.pose_set().images.values():
            with Image.open(record.path) as picture:
                made = Image.new("RGB", (width, height))
                made.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
                made.save(folder / "images" / record.path.name, quality=95)

        def sizes(raw):
            for image in raw["images"]:
                image["width"], image["height"] = width, height

        path, _ = annotation_file(folder, sizes, system)
        return [system.last()], {"data": path, "images": folder / "images"}

    return make


def fogged(image):
    """A camera in fog: a fifth of the contrast, bright."""
    return (150 + 0.2 * image).astype(np.uint8)


def mosaic(image):
    """A raw sensor whose colours were never interpolated: three pixels of four of each colour are 0."""
    made = np.zeros_like(image)
    made[::2, ::2, 0] = image[::2, ::2, 0]
    made[::2, 1::2, 1] = image[::2, 1::2, 1]
    made[1::2, ::2, 1] = image[1::2, ::2, 1]
    made[1::2, 1::2, 2] = image[1::2, 1::2, 2]
    return made


# Mistakes in results.


def by_columns(points, entry):
    """All x, then all y, then all scores: the array was flattened column by column."""
    return np.reshape(np.asarray(points).T.ravel(), (-1, 3))


def twice_in_half(found):
    """No NMS at the seam of two tiles: every second pose twice, and at nearly the same place."""
    random = np.random.default_rng(81)
    for entry in list(found)[::2]:
        points = np.reshape(entry["keypoints"], (-1, 3))
        points = points + np.column_stack([random.normal(0, 0.7, (17, 2)), np.zeros(17)])
        found.append({**entry, "keypoints": points.ravel().tolist(), "score": entry["score"] * 0.999})


def even_images(found):
    """One of two processes wrote its results: those of every second image."""
    ids = sorted({entry["image_id"] for entry in found})
    kept = set(ids[::2])
    return [entry for entry in found if entry["image_id"] in kept]


def evenness(found):
    """The score is how even the keypoints' confidence is."""
    for entry in found:
        entry["score"] = float(1 / (1e-3 + np.std(entry["keypoints"][2::3])))


def smoothed(found):
    """A filter of videos ran over single pictures: each pose is a third of the one before."""
    before = None
    for entry in found:
        points = np.reshape(entry["keypoints"], (-1, 3)).astype(float)
        if before is not None:
            points[:, :2] = 0.85 * points[:, :2] + 0.15 * before
        before = points[:, :2].copy()
        entry["keypoints"] = points.ravel().tolist()


def shorter_side(share):
    """PCK whose reach is a share of the box's shorter side."""

    def figure(truth, detections, sigmas, ap):
        reach = share * truth.boxes[:, 2:].min(1)
        away = np.linalg.norm(detections.keypoints - truth.keypoints[..., :2], axis=-1)
        return float((away < reach[:, None])[truth.keypoints[..., 2] > 0].mean())

    return figure


def without_its_half(truth, detections, sigmas, ap):
    """AP of an own OKS whose exponent lacks its one half."""
    return ap(truth, detections, tuple(v / 2**0.5 for v in sigmas)).figures["AP"]


def visible_alone(truth, detections, sigmas, ap):
    """AP in which hidden keypoints do not count."""
    points = truth.keypoints.copy()
    points[points[..., 2] == 1] = 0
    return ap(dataclasses.replace(truth, keypoints=points), detections, sigmas).figures["AP"]


# Mistakes in trainings.


def plateau(rows):
    """The rate falls to nothing at a third of the run: a plateau was seen too early."""
    trained = training_rows(rows)
    for row in trained[len(trained) // 3 :]:
        row["lr"] = row["base_lr"] = 1e-8


def overfitted_late(rows):
    """From three quarters on the validation is worse at every evaluation."""
    judged = [row for row in rows if "coco/AP" in row]
    first = round(0.6 * len(judged))
    best = judged[first]["coco/AP"]
    for number, row in enumerate(judged[first:]):
        row["coco/AP"] = best * (1 - 0.4 * number / len(judged[first:]))
        row["coco/AR"] = row["coco/AP"] + 0.04


# Healthy and odd.


def small_pictures(picture, folder, name):
    """WebP at three quarters of the size."""
    small = picture.resize((picture.width * 3 // 4, picture.height * 3 // 4))
    small.save(folder / f"{name}.webp", quality=90)
    return f"{name}.webp"


def of_three_quarters(raw):
    """Nothing wrong: all that is annotated, three quarters as large."""
    each(raw, lambda points, _: points * [0.75, 0.75, 1])
    for entry in raw["annotations"]:
        entry["bbox"], entry["area"] = [v * 0.75 for v in entry["bbox"]], entry["area"] * 0.5625
    for image in raw["images"]:
        image["width"], image["height"] = image["width"] * 3 // 4, image["height"] * 3 // 4


def few_labelled(raw):
    """Nothing wrong: a set whose annotators labelled the six keypoints of the body alone."""
    kept = [3, 4, 5, 8, 11, 14]

    def edit(points, entry):
        points[[k for k in range(17) if k not in kept]] = 0
        entry["num_keypoints"] = int((points[:, 2] > 0).sum())
        return points

    each(raw, edit)
    raw["annotations"] = [entry for entry in raw["annotations"] if entry["num_keypoints"]]


def loose_boxes(raw):
    """Nothing wrong: boxes a little looser and moved, each by chance, as annotators draw them."""
    random = np.random.default_rng(81)
    for entry in raw["annotations"]:
        x, y, w, h = entry["bbox"]
        a, b, c, d = random.uniform(0.0, 0.08, 4)
        entry["bbox"] = [x - a * w, y - b * h, w * (1 + a + c), h * (1 + b + d)]


def poses_of_two_models(folder):
    """Nothing wrong: results of a poor model beside the set, in another order of the images."""
    found = good_poses(LAST.pose_set(), 81, 0.03, 0.15)
    np.random.default_rng(81).shuffle(found)
    (folder / "results.json").write_text(json.dumps(found))
    return [folder / "results.json"], LAST.options()


def shuffled_log(rows):
    """Nothing wrong: a noisy loss of small batches."""
    random = np.random.default_rng(81)
    for row in training_rows(rows):
        row["loss"] = row["loss_kpt"] = float(row["loss"] * np.exp(random.normal(0, 0.15)))
