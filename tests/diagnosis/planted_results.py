"""Causes planted in result files, as other code writes them."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np

from tests.diagnosis.planted_labels import annotation_file
from tests.diagnosis.systems import RTMPOSE, System

_RESULTS: dict[str, list[dict[str, Any]]] = {}


def own_results(system: System = RTMPOSE) -> list[dict[str, Any]]:
    """What the system's model finds, as a COCO result list; computed once."""
    if system.name not in _RESULTS:
        from workbench.evaluation import predict
        from workbench.models import open_model

        found = predict(open_model(system.last()).model, system.pose_set())
        _RESULTS[system.name] = found.to_coco()
    return copy.deepcopy(_RESULTS[system.name])


def results(change=lambda found: found, system=RTMPOSE, **more):
    """The system's results, changed."""

    def make(folder):
        found = own_results(system)
        found = change(found) or found
        path = folder / "results.json"
        path.write_text(json.dumps(found))
        return [path], {**system.options(), **more}

    return make


def good_poses(pose_set, seed=0, low=0.01, high=0.05):
    """Poses near the truth, scored by how near, as a COCO result list."""
    random, found = np.random.default_rng(seed), []
    for i in pose_set.labelled:
        one = pose_set.instances[i]
        noise = random.uniform(low, high)
        points = np.array(one.truth, float)
        points[:, :2] += random.normal(0, noise * np.sqrt(one.area), (len(points), 2))
        points[:, 2] = 1
        found.append({"image_id": one.image_id, "category_id": one.category_id,
                      "keypoints": points.ravel().tolist(), "score": 1 - noise})  # fmt: skip
    return found


def good_results(change, edit=lambda found: found, system=RTMPOSE, **more):
    """Poses near the truth, beside annotations that were changed; `edit` changes the poses."""

    def make(folder):
        found = good_poses(system.pose_set(), **more)
        path = folder / "results.json"
        path.write_text(json.dumps(edit(found) or found))
        labels, images = annotation_file(folder, change, system)
        return [path], {"data": labels, "images": images}

    return make


def edit_results(edit):
    def change(found):
        for entry in found:
            points = np.array(entry["keypoints"], float).reshape(-1, 3)
            entry["keypoints"] = np.asarray(edit(points, entry)).ravel().tolist()

    return change


def one_keypoint(number, edit):
    """One keypoint (x, y) of every pose changed."""

    def change(points, entry):
        points[number, :2] = edit(points[number, :2])
        return points

    return edit_results(change)


def shares(system=RTMPOSE):
    def edit(points, entry):
        record = system.pose_set().images[entry["image_id"]]
        return points / [record.width, record.height, 1]

    return edit


def in_box(points, entry):
    return points - [entry["bbox"][0], entry["bbox"][1], 0]


def all_one_category(found):
    for entry in found:
        entry["category_id"] = 99


def part_of(share):
    def change(found):
        ids = sorted({entry["image_id"] for entry in found})
        kept = set(ids[: round(share * len(ids))])
        return [entry for entry in found if entry["image_id"] in kept]

    return change


def at_most(number):
    """The best poses of each image alone."""

    def change(found):
        kept: dict[int, list] = {}
        for entry in sorted(found, key=lambda entry: -entry["score"]):
            kept.setdefault(entry["image_id"], []).append(entry)
        return [entry for entries in kept.values() for entry in entries[:number]]

    return change


def without_a_category(found):
    """The most frequent category was never predicted."""
    categories = [entry["category_id"] for entry in found]
    most = max(set(categories), key=categories.count)
    return [entry for entry in found if entry["category_id"] != most]


def unsure_at_zero(share, seed=0):
    """Keypoints below a score are written as (0, 0)."""
    random = np.random.default_rng(seed)
    return edit_results(lambda points, _: points * (random.random((len(points), 1)) >= share))


def cut_at(width, height):
    """Coordinates are cut at the size of the input in place of the image's."""
    return edit_results(lambda points, _: np.minimum(points, [width, height, np.inf]))


def repeated(times):
    def change(found):
        random = np.random.default_rng(0)
        more = []
        for entry in found:
            for _ in range(times):
                other = copy.deepcopy(entry)
                points = np.array(other["keypoints"]).reshape(-1, 3)
                points[:, :2] += random.normal(0, 0.4, (len(points), 2))
                other["keypoints"] = points.ravel().tolist()
                other["score"] = entry["score"] * random.uniform(0.9, 1.1)
                more.append(other)
        return found + more

    return change


def constant_scores(found):
    for entry in found:
        entry["score"] = 1.0


def other_images(found):
    for entry in found:
        entry["image_id"] += 100_000


def some_categories(share, seed=0):
    """A part of the poses under a category that the set does not have."""

    def change(found):
        random = np.random.default_rng(seed)
        for entry in found:
            if random.random() < share:
                entry["category_id"] = 99

    return change


def some_other_images(share, seed=0):
    """A part of the poses under ids of another set."""

    def change(found):
        ids = sorted({entry["image_id"] for entry in found})
        chosen = set(np.random.default_rng(seed).choice(ids, round(share * len(ids)), replace=False).tolist())
        for entry in found:
            entry["image_id"] += 100_000 if entry["image_id"] in chosen else 0

    return change


def shifted_ids(by, every=1):
    """Results under the id of an image further on; of every n-th image alone where `every` is above 1."""

    def change(found):
        ids = sorted({entry["image_id"] for entry in found})
        place = {number: n for n, number in enumerate(ids)}
        for entry in found:
            n = place[entry["image_id"]]
            if n % every == 0:
                entry["image_id"] = ids[(n + by) % len(ids)]

    return change


def rounded_scores(digits):
    def change(found):
        for entry in found:
            entry["score"] = round(entry["score"], digits)

    return change


def turned_scores(found):
    """Scores that are distances: the best pose has the lowest."""
    for entry in found:
        entry["score"] = 1 - entry["score"]


def detector_boxes(missing, loose=0.12, seed=0):
    """Poses of a detector's boxes: some instances have none, the others are off."""

    def change(found):
        random = np.random.default_rng(seed)
        counts: dict[int, int] = {}
        for entry in found:
            counts[entry["image_id"]] = counts.get(entry["image_id"], 0) + 1
        kept = []
        for entry in found:
            # Images keep a pose: images without any are another cause.
            if counts[entry["image_id"]] > 1 and random.random() < missing:
                counts[entry["image_id"]] -= 1
                continue
            x, y, w, h = entry["bbox"]
            a, b, c, d = random.normal(0, loose, 4)
            entry["bbox"] = [x + a * w, y + b * h, w * (1 + c), h * (1 + d)]
            kept.append(entry)
        return kept

    return change


def claimed(figure, system=RTMPOSE, edit=lambda found: found):
    """Results beside a figure that another rule gives for them; `figure` takes COCO's figures."""

    def make(folder):
        from workbench.evaluation.evaluate import truth_of
        from workbench.evaluation.keypoint_ap import keypoint_ap
        from workbench.evaluation.predictions import Predictions

        found, pose_set = own_results(system), system.pose_set()
        found = edit(found) or found
        path = folder / "results.json"
        path.write_text(json.dumps(found))
        detections = Predictions.from_coco(found).detections()
        claim = figure(truth_of(pose_set), detections, pose_set.skeleton.sigmas, keypoint_ap)
        return [path], {**system.options(), "claim": {"AP": float(claim)}}

    return make


def pck(length, share):
    """Share of labelled keypoints nearer than `share` of a length of the box: ``longer side`` or ``root``.

    For results of annotated boxes, one for each labelled instance and in their order.
    """

    def figure(truth, detections, sigmas, ap):
        counted = np.flatnonzero(~truth.ignored)
        assert len(counted) == len(detections.score)
        w, h = truth.boxes[counted, 2:].T
        reach = share * (np.maximum(w, h) if length == "longer side" else np.sqrt(w * h))
        away = np.linalg.norm(detections.keypoints - truth.keypoints[counted, :, :2], axis=-1)
        return (away < reach[:, None])[truth.keypoints[counted, :, 2] > 0].mean()

    return figure


def mixed_up_sides(found, mirror):
    """Left and right exchanged in every pose."""
    for entry in found:
        points = np.array(entry["keypoints"], float).reshape(-1, 3)[list(mirror)]
        entry["keypoints"] = points.ravel().tolist()


def other_category(found):
    for entry in found:
        entry["category_id"] = 7
