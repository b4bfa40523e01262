"""What the fourth set of fresh cases plants: systems, and mistakes in files, labels, results and scripts."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np

from tests.diagnosis.planted_labels import _with_exif, annotation_file, each, in_part, leaked_copies
from tests.diagnosis.planted_results import good_poses
from tests.diagnosis.systems import HIGHERHRNET, TEXT, System, drawn, of_demo, of_vitpose

# Pictures and runs that no other case has.


animals = partial(drawn, "animals", 60, 701)
people = partial(drawn, "people", 36, 702)
LAST = of_demo("rtmpose, fourth animals", animals)
EPOCH_20 = of_demo("rtmpose, epoch 20, fourth animals", animals, epochs=slice(-1))
BASE = of_demo("rtmpose, text base, fourth animals", animals, "rtmpose-text-base")
SEED_7 = of_vitpose(7)
CROWD = System("higherhrnet, fourth people", HIGHERHRNET.checkpoints, people)
WORDS = System("text", TEXT.checkpoints, animals)
GOOD = {"system": LAST, "seed": 71}
PERSONS = {"system": CROWD, "seed": 71}

# Mistakes in labels and image files.


def yolo_boxes(raw):
    """Centre and size as shares of the picture."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in raw["images"]}
    for entry in raw["annotations"]:
        x, y, w, h = entry["bbox"]
        width, height = sizes[entry["image_id"]]
        entry["bbox"] = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]


def boxes_of_others(raw):
    """Boxes and keypoints of one picture were matched by their order, which differed."""
    for image in raw["images"]:
        entries = [entry for entry in raw["annotations"] if entry["image_id"] == image["id"]]
        boxes = [entry["bbox"] for entry in entries]
        for entry, box in zip(entries, [*boxes[1:], *boxes[:1]], strict=True):
            entry["bbox"] = box


def minus_one_as_visible(raw):
    """Keypoints that nobody labelled stand at (-1, -1) and are called visible."""

    def edit(points, entry):
        points[points[:, 2] == 0] = (-1, -1, 2)
        entry["num_keypoints"] = len(points)
        return points

    each(raw, edit)


def of_half_pictures(share):
    """Part was labelled on previews of half the size; boxes too."""

    def half(raw):
        each(raw, lambda points, _: points * [0.5, 0.5, 1])
        for entry in raw["annotations"]:
            entry["bbox"] = [v / 2 for v in entry["bbox"]]

    return in_part(half, share, 71)


def paws_exchanged(share):
    """An annotator confuses front and hind paws in part of the pictures."""
    order = [*range(7), 13, 8, 9, 16, 11, 12, 7, 14, 15, 10]
    return in_part(lambda raw: each(raw, lambda points, _: points[order]), share, 71)


def leaked_smaller(share, system):
    """Training pictures that are validation pictures of half the size."""

    def change(raw):
        each(raw, lambda points, _: points * [0.5, 0.5, 1])
        for image in raw["images"]:
            image["width"], image["height"] = image["width"] // 2, image["height"] // 2

    def save(picture, path):
        picture.resize((picture.width // 2, picture.height // 2)).save(path)

    return leaked_copies(share, system, "small_{}.jpg", save, change)


# Mistakes in results.


def saturated(found):
    """Scores that are clipped at 1: most poses are tied."""
    scores = [entry["score"] for entry in found]
    top = np.quantile(scores, 0.25)
    for entry in found:
        entry["score"] = float(min(1.0, entry["score"] / top))


def persons_are_0(found):
    """The class of a detector that counts from 0."""
    for entry in found:
        entry["category_id"] = 0


def of_first(share):
    """AP of the first images alone."""

    def figure(truth, detections, sigmas, ap):
        ids = sorted(truth.image_ids)
        kept = ids[: round(share * len(ids))]
        own = np.isin(detections.image_id, kept)
        fields = ("image_id", "category_id", "keypoints", "score", "area")
        found = dataclasses.replace(detections, **{name: getattr(detections, name)[own] for name in fields})
        return ap(truth.on_images(kept), found, sigmas).figures["AP"]

    return figure


def half_area(truth, detections, sigmas, ap):
    """AP with .53 of the box for the area, as sets without segmentations take it."""
    area = 0.53 * truth.boxes[:, 2] * truth.boxes[:, 3]
    return ap(dataclasses.replace(truth, area=area), detections, sigmas).figures["AP"]


def pck_of_box_diagonal(truth, detections, sigmas, ap):
    """PCK whose reach is a tenth of the box's diagonal."""
    reach = 0.1 * np.hypot(*truth.boxes[:, 2:].T)
    away = np.linalg.norm(detections.keypoints - truth.keypoints[..., :2], axis=-1)
    return float((away < reach[:, None])[truth.keypoints[..., 2] > 0].mean())


# Healthy and odd.


def faces_alone(raw):
    """Nothing wrong: of every animal the head alone is labelled."""

    def edit(points, entry):
        points[4:] = 0
        entry["num_keypoints"] = int((points[:, 2] > 0).sum())
        return points

    each(raw, edit)
    raw["annotations"] = [entry for entry in raw["annotations"] if entry["num_keypoints"]]


def rightly_turned(system):
    """Nothing wrong: half of the pictures lie on their side, and their EXIF orientation says so."""

    def make(folder):
        _with_exif(folder, system, 0.5, 6, True, 71)
        path, _ = annotation_file(folder, lambda raw: None, system)
        return [system.last()], {"data": path, "images": folder / "images"}

    return make


def poor_jpeg(picture, folder, name):
    """Stored at a low quality."""
    picture.save(folder / f"{name}.jpg", quality=30)
    return f"{name}.jpg"


def whole_pixels(points, entry):
    """Nothing wrong: coordinates are rounded to whole pixels."""
    return np.round(points)


def more_than_annotated(found):
    """Nothing wrong: every pose of a second species, too, at its own low score."""
    random = np.random.default_rng(71)
    for entry in list(found)[::3]:
        points = np.add(np.reshape(entry["keypoints"], (-1, 3)), [*random.uniform(-150, 150, 2), 0])
        found.append({**entry, "keypoints": points.ravel().tolist(), "score": 0.1 * random.random()})


def alone(raw):
    """Nothing wrong: pictures of one animal alone."""
    ids = [entry["image_id"] for entry in raw["annotations"]]
    raw["annotations"] = [entry for entry in raw["annotations"] if ids.count(entry["image_id"]) == 1]
    kept = {entry["image_id"] for entry in raw["annotations"]}
    raw["images"] = [image for image in raw["images"] if image["id"] in kept]


def poses_of_the_middle(raw):
    """Nothing wrong: results of a video whose labels are those of every second picture."""
    kept = {image["id"] for image in raw["images"][::2]}
    raw["annotations"] = [entry for entry in raw["annotations"] if entry["image_id"] in kept]


def old_format(folder):
    """Nothing wrong: a file of torch 1.3, without its zip."""
    import torch

    content = torch.load(LAST.last(), map_location="cpu", weights_only=False)
    torch.save(content, folder / "epoch_40.pth", _use_new_zipfile_serialization=False)
    return [folder / "epoch_40.pth"], LAST.options()


def poses_of_people():
    """Poses near the truth."""
    return good_poses(CROWD.pose_set(), 71)
