"""Causes planted in annotations and in image files."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.diagnosis.systems import RTMPOSE, System


def annotation_file(
    folder: Path, change: Callable[[dict[str, Any]], None], system: System = RTMPOSE
) -> tuple[Path, Path]:
    """The set's json with its content changed, and the folder of its images."""
    pose_set = system.pose_set()
    raw = copy.deepcopy(pose_set.raw)
    change(raw)
    path = folder / "annotations.json"
    path.write_text(json.dumps(raw))
    return path, next(iter(pose_set.images.values())).path.parent


def labelled(change, system=RTMPOSE, epoch=-1):
    def make(folder):
        path, images = annotation_file(folder, change, system)
        return [system.checkpoints()[epoch]], {"data": path, "images": images}

    return make


def each(raw, edit):
    for entry in raw["annotations"]:
        points = np.array(entry["keypoints"], float).reshape(-1, 3)
        entry["keypoints"] = edit(points, entry).ravel().tolist()


def permuted(order):
    return lambda raw: each(raw, lambda points, _: points[order])


def swapped_share(share, skeleton="ap10k-17", seed=0):
    from workbench.skeletons import SKELETONS

    mirror = list(SKELETONS[skeleton].mirror)

    def change(raw):
        # Whole images, as one annotator did them.
        ids = [image["id"] for image in raw["images"]]
        chosen = set(np.random.default_rng(seed).choice(ids, round(share * len(ids)), replace=False).tolist())
        each(raw, lambda points, entry: points[mirror] if entry["image_id"] in chosen else points)

    return change


def box_corners(raw):
    for entry in raw["annotations"]:
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [x, y, x + w, y + h]


def normalised(raw):
    sizes = {image["id"]: (image["width"], image["height"]) for image in raw["images"]}
    each(raw, lambda points, entry: points / [*sizes[entry["image_id"]], 1])


def one_in(count):
    """A small set: every n-th image alone."""

    def change(raw):
        kept = {image["id"] for image in raw["images"][::count]}
        raw["images"] = [image for image in raw["images"] if image["id"] in kept]
        raw["annotations"] = [entry for entry in raw["annotations"] if entry["image_id"] in kept]

    return change


def fewer_keypoints(raw):
    random = np.random.default_rng(0)

    def edit(points, entry):
        hidden = random.random(len(points)) < 0.4
        points[hidden] = 0
        entry["num_keypoints"] = int((points[:, 2] > 0).sum())
        return points

    each(raw, edit)


def duplicated(share, seed=0, jitter=0.0):
    """Part of the annotations twice, as after a merge of two files; or drawn twice, nearly the same."""

    def change(raw):
        random = np.random.default_rng(seed)
        last = max(entry["id"] for entry in raw["annotations"])
        usual = [entry for entry in raw["annotations"] if entry.get("num_keypoints")]
        for number in random.choice(np.arange(len(usual)), round(share * len(usual)), replace=False):
            copied, last = copy.deepcopy(usual[number]), last + 1
            points = np.array(copied["keypoints"], float).reshape(-1, 3)
            points[points[:, 2] > 0, :2] += random.normal(0, jitter, (int((points[:, 2] > 0).sum()), 2))
            raw["annotations"].append({**copied, "id": last, "keypoints": points.ravel().tolist()})

    return change


def unit_boxes(raw):
    """Boxes as shares of their image."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in raw["images"]}
    for entry in raw["annotations"]:
        entry["bbox"] = (np.array(entry["bbox"], float) / np.tile(sizes[entry["image_id"]], 2)).tolist()


def centre_boxes(raw):
    """Boxes as centre and size."""
    for entry in raw["annotations"]:
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [x + w / 2, y + h / 2, w, h]


def hidden_as_visible(raw):
    """Unlabelled keypoints at (0, 0) with visibility 1, as a converter wrote them."""

    def edit(points, entry):
        points[points[:, 2] == 0] = (0, 0, 1)
        entry["num_keypoints"] = len(points)
        return points

    each(raw, edit)


def all_hidden(raw):
    """Visibility as a yes or no, which COCO reads as hidden."""
    each(raw, lambda points, _: points * [1, 1, 0] + np.minimum(points, 1) * [0, 0, 1])


def boxes_of_neighbours(share):
    """Boxes moved by twice their width, as after a sort of one of two lists."""

    def change(raw):
        for entry in raw["annotations"][:: max(1, round(1 / share))]:
            x, y, w, h = entry["bbox"]
            entry["bbox"] = [x + 2 * w if x < 200 else x - 2 * w, y, w, h]

    return change


def only_hard(raw):
    """A hard set: instances that are cut off or hidden in part alone."""
    counts = {entry["id"]: sum(v > 1 for v in entry["keypoints"][2::3]) for entry in raw["annotations"]}
    hard = {number for number, count in counts.items() if 3 <= count <= 12}
    raw["annotations"] = [entry for entry in raw["annotations"] if entry["id"] in hard]


# Image files.


def _stored(image, orientation):
    """The stored picture that is upright once it is turned by this EXIF orientation."""
    from PIL import Image

    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    return image.transpose(turns[orientation])


def _with_exif(folder, system, share, orientation, turned, seed):
    """Copies of the images, part of them with an EXIF orientation; gives the ids of these."""

    def save(picture, target):
        exif = picture.getexif()
        exif[0x0112] = orientation
        stored = _stored(picture, orientation) if turned else picture
        stored.save(target, exif=exif, quality=95)

    return _copied(folder, system, share, save, seed)


def _copied(folder, system, share, save, seed):
    """Copies of the images, part of them saved by `save(picture, target)`; gives the ids of these."""
    from PIL import Image

    (folder / "images").mkdir()
    records = list(system.pose_set().images.values())
    random = np.random.default_rng(seed)
    picked = random.choice(np.arange(len(records)), round(share * len(records)), replace=False)
    chosen = {records[i].id for i in picked.tolist()}
    for record in records:
        target = folder / "images" / record.path.name
        if record.id not in chosen:
            target.write_bytes(record.path.read_bytes())
            continue
        with Image.open(record.path) as picture:
            save(picture, target)
    return chosen


def exif_left_behind(share, system=RTMPOSE, seed=0):
    """Pictures that a tool turned already, and that still have the EXIF orientation (upside down)."""

    def make(folder):
        _with_exif(folder, system, share, 3, False, seed)
        path, _ = annotation_file(folder, lambda raw: None, system)
        return [system.last()], {"data": path, "images": folder / "images"}

    return make


def exif_not_read(share, found, system=RTMPOSE, seed=0, orientation=6):
    """Poses of a reader that ignores the EXIF orientation of upright annotated pictures."""

    def make(folder):
        chosen = _with_exif(folder, system, share, orientation, True, seed)
        records, results = system.pose_set().images, found()
        for entry in results:
            if entry["image_id"] in chosen:
                record = records[entry["image_id"]]
                height, width = float(record.height or 0), float(record.width or 0)
                points = np.array(entry["keypoints"], float).reshape(-1, 3)
                x, y = points[:, 0].copy(), points[:, 1].copy()
                # The inverse of the turn: 3 is shown upside down, 6 turned to the right, 8 to the left.
                left, up = width - 1 - x, height - 1 - y
                points[:, 0], points[:, 1] = {3: (left, up), 6: (y, left), 8: (up, x)}[orientation]
                entry["keypoints"] = points.ravel().tolist()
        for entry in results:
            entry.pop("bbox", None)
        path, _ = annotation_file(folder, lambda raw: None, system)
        (folder / "results.json").write_text(json.dumps(results))
        return [folder / "results.json"], {"data": path, "images": folder / "images"}

    return make


def narrow(make, system, width):
    """A case on the left part of its pictures, whose shape is not the input's: padding is beside them."""

    def cut(raw):
        for image in raw["images"]:
            image["width"] = width

        def edit(points, entry):
            points[points[:, 0] > width] = 0
            entry["num_keypoints"] = int((points[:, 2] > 0).sum())
            return points

        each(raw, edit)
        raw["annotations"] = [entry for entry in raw["annotations"] if entry["bbox"][0] < width - 20]
        for entry in raw["annotations"]:
            x, y, w, h = entry["bbox"]
            entry["bbox"] = [x, y, min(w, width - x), h]

    def made(folder):
        from PIL import Image

        targets, options = make(folder)
        path, images = annotation_file(folder, cut, system)
        (folder / "images").mkdir()
        for record in system.pose_set().images.values():
            with Image.open(images / record.path.name) as picture:
                picture.crop((0, 0, width, picture.height)).save(folder / "images" / record.path.name)
        return targets, {**options, "data": path, "images": folder / "images"}

    return made


def leaked(share, system=RTMPOSE, content=True, seed=0, with_checkpoint=True):
    """Annotations of a training set that holds part of the validation images.

    Args:
        share: of the validation images.
        system: whose data.
        content: copy the pictures under other names; else the names and annotations alone are the same.
        seed: of the choice.
        with_checkpoint: name the checkpoint as well.
    """

    def make(folder):
        pose_set = system.pose_set()
        (folder / "train").mkdir()
        raw = copy.deepcopy(pose_set.raw)
        ids = sorted(image["id"] for image in raw["images"])
        chosen = set(np.random.default_rng(seed).choice(ids, round(share * len(ids)), replace=False).tolist())
        raw["images"] = [image for image in raw["images"] if image["id"] in chosen]
        raw["annotations"] = [entry for entry in raw["annotations"] if entry["image_id"] in chosen]
        if content:
            (folder / "train" / "images").mkdir()
            for image in raw["images"]:
                source = pose_set.images[image["id"]].path
                image["file_name"] = f"train_{image['id']:06d}{source.suffix}"
                (folder / "train" / "images" / image["file_name"]).write_bytes(source.read_bytes())
        path = folder / "train" / "train.json"
        path.write_text(json.dumps(raw))
        return [*([system.last()] if with_checkpoint else []), path], system.options()

    return make


def leaked_copies(share, system, name, save, change=lambda raw: None):
    """Annotations of a training set whose pictures are changed copies of validation pictures.

    Args:
        share: of the validation pictures, the first ones.
        system: whose data.
        name: of a copy's file, with ``{}`` for the picture's id.
        save: writes the copy of an open picture to a path.
        change: of the annotations, so that they fit the copies.
    """

    def make(folder):
        from PIL import Image

        pose_set, raw = system.pose_set(), copy.deepcopy(system.pose_set().raw)
        (folder / "train" / "images").mkdir(parents=True)
        raw["images"] = raw["images"][: round(share * len(raw["images"]))]
        ids = {image["id"] for image in raw["images"]}
        raw["annotations"] = [entry for entry in raw["annotations"] if entry["image_id"] in ids]
        change(raw)
        for image in raw["images"]:
            image["file_name"] = name.format(image["id"])
            with Image.open(pose_set.images[image["id"]].path) as picture:
                save(picture, folder / "train" / "images" / image["file_name"])
        (folder / "train" / "train.json").write_text(json.dumps(raw))
        return [folder / "train" / "train.json"], system.options()

    return make


def other_training_set(system=RTMPOSE):
    """Annotations of a training set with the same file names and other pictures: no leak."""

    def make(folder):
        pose_set = system.pose_set()
        (folder / "train" / "images").mkdir(parents=True)
        raw = copy.deepcopy(pose_set.raw)
        raw["images"], kept = raw["images"][:20], {image["id"] for image in raw["images"][:20]}
        raw["annotations"] = [entry for entry in raw["annotations"] if entry["image_id"] in kept]
        from PIL import Image, ImageOps

        for image in raw["images"]:
            source = pose_set.images[image["id"]].path
            with Image.open(source) as picture:
                ImageOps.flip(picture).save(folder / "train" / "images" / image["file_name"])
        each(raw, lambda points, _: points + np.array([3, 1, 0]))
        path = folder / "train" / "train.json"
        path.write_text(json.dumps(raw))
        return [path], system.options()

    return make


# More faults of annotations.


def moved_labels(pixels, boxes=True):
    """All labels moved by one amount, with their boxes or without."""

    def change(raw):
        each(raw, lambda points, _: points + np.array([pixels, pixels, 0]) * (points[:, 2:] > 0))
        for entry in raw["annotations"] if boxes else ():
            x, y, w, h = entry["bbox"]
            entry["bbox"] = [x + pixels, y + pixels, w, h]

    return change


def moved_boxes(share):
    """All boxes moved by a share of their own size."""

    def change(raw):
        for entry in raw["annotations"]:
            x, y, w, h = entry["bbox"]
            entry["bbox"] = [x + share * w, y + share * h, w, h]

    return change


def small_boxes(factor):
    """Boxes of a head or a body without its limbs: smaller about their centre."""

    def change(raw):
        for entry in raw["annotations"]:
            x, y, w, h = entry["bbox"]
            entry["bbox"] = [x + w * (1 - factor) / 2, y + h * (1 - factor) / 2, w * factor, h * factor]

    return change


def in_part(change, share, seed=0):
    """Another fault in part of the annotations alone, as after a merge of two files."""

    def part(raw):
        count = len(raw["annotations"])
        picked = np.random.default_rng(seed).choice(np.arange(count), round(share * count), replace=False)
        chosen = set(picked.tolist())
        inside = {**raw, "annotations": [e for n, e in enumerate(raw["annotations"]) if n in chosen]}
        change(inside)

    return part


def outside(share, pixels=400, seed=0):
    """Keypoints outside their image, as after a crop of the pictures."""

    def change(raw):
        random = np.random.default_rng(seed)

        def edit(points, entry):
            if random.random() < share:
                points[points[:, 2] > 0, 0] += pixels
            return points

        each(raw, edit)

    return change


def miscounted(raw):
    """num_keypoints counts every keypoint, labelled or not."""
    for entry in raw["annotations"]:
        entry["num_keypoints"] = len(entry["keypoints"]) // 3


def half_miscounted(raw):
    """num_keypoints of visible keypoints alone."""
    for entry in raw["annotations"]:
        entry["num_keypoints"] = sum(v == 2 for v in entry["keypoints"][2::3])


def areas_times(factor):
    def change(raw):
        for entry in raw["annotations"]:
            entry["area"] *= factor

    return change


def ids_from_zero(raw):
    for number, entry in enumerate(raw["annotations"]):
        entry["id"] = number


def one_label(number, edit):
    """One keypoint (x, y) of every annotation changed, where it is labelled."""

    def change(raw):
        def moved(points, entry):
            if points[number, 2] > 0:
                points[number, :2] = edit(points[number, :2])
            return points

        each(raw, moved)

    return change


def points_exchanged(raw):
    """y before x."""
    each(raw, lambda points, _: points[:, [1, 0, 2]])


def twice(raw):
    each(raw, lambda points, _: points * [2, 2, 1])


def mirrored(raw):
    heights = {image["id"]: image["height"] for image in raw["images"]}
    each(raw, lambda points, entry: [0, heights[entry["image_id"]], 0] + points * [1, -1, 1])


def boxes_halved(raw):
    for entry in raw["annotations"]:
        entry["bbox"] = [side / 2 for side in entry["bbox"]]


def boxes_larger(raw):
    for entry in raw["annotations"]:
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [x - w / 4, y - h / 4, 1.5 * w, 1.5 * h]


def unlabelled(raw):
    each(raw, lambda points, _: points * [1, 1, 0])


def image_files(share, edit, system=RTMPOSE, seed=0, found=None):
    """Part of the image files written anew after an edit of their RGB pixels; the annotations stay.

    Args:
        share: of the files.
        edit: of an image.
        system: whose data.
        seed: of the choice.
        found: results to examine in place of the checkpoint, in pixels of files `half_as_large`.
    """

    def make(folder):
        from PIL import Image

        def save(picture, target):
            Image.fromarray(edit(np.array(picture.convert("RGB")))).save(target, quality=95)

        chosen = _copied(folder, system, share, save, seed)
        path, _ = annotation_file(folder, lambda raw: None, system)
        if found is None:
            # Part of the files: all of diagnose's own number of instances are looked at.
            return [system.last()], {"data": path, "images": folder / "images", "sample": 48}
        results = found()
        for entry in results:
            if entry["image_id"] in chosen:
                entry["keypoints"] = (
                    (np.reshape(entry["keypoints"], (-1, 3)) * [0.5, 0.5, 1]).ravel().tolist()
                )
            entry.pop("bbox", None)
        (folder / "results.json").write_text(json.dumps(results))
        return [folder / "results.json"], {"data": path, "images": folder / "images"}

    return make


def normalised_pixels(image):
    """Pixels stored after mean and std of ImageNet: nearly black."""
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    return np.clip(np.rint((image - mean) / std), 0, 255).astype(np.uint8)


def darkened(image):
    """A third of the brightness."""
    return (image / 3).astype(np.uint8)


def half_as_large(image):
    """Every second pixel of every second row."""
    return np.ascontiguousarray(image[::2, ::2])


def stored_as(system, change, save):
    """Nothing wrong: pictures in another form; `save(picture, folder, name)` gives the file's name."""

    def make(folder):
        from PIL import Image

        (folder / "images").mkdir()
        names = {}
        for record in system.pose_set().images.values():
            with Image.open(record.path) as picture:
                names[record.id] = save(picture.convert("RGB"), folder / "images", record.path.stem)

        def renamed(raw):
            change(raw)
            for image in raw["images"]:
                image["file_name"] = names[image["id"]]

        path, _ = annotation_file(folder, renamed, system)
        return [system.last()], {"data": path, "images": folder / "images"}

    return make
