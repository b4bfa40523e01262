"""Damaged annotations, results, boxes, images and videos: each reader ends in values or its own errors."""

from __future__ import annotations

import copy
import json
import random
import time
import warnings

import numpy as np
import pytest

from tests.mutation import survivors
from workbench.cli.predict import boxes_by_number
from workbench.data import read_coco
from workbench.data.boxes import read_detections
from workbench.data.coco import read_episodes, read_json
from workbench.data.facts import data_facts
from workbench.data.images import image_size, read_image, upright_size, write_image
from workbench.data.video import VideoWriter, frames
from workbench.evaluation import Predictions, evaluate
from workbench.evaluation.ground_truth import GroundTruth
from workbench.evaluation.measures import measure
from workbench.evaluation.result_lists import keypoint_count, results_of

DOCUMENTED = (ValueError, FileNotFoundError)
ODD = (
    None, True, "", "x", "1", "9" * 5000, -1, 0, 0.5, -0.0, 2**31, 2**63, 10**400, 1e308, -1e308,
    float("inf"), float("nan"), [], {}, [[]], [None], {"a": 1}, [[1, 2, 3]], ["x"] * 3, [1e308] * 6,
    [float("inf")] * 4, "\0",
    "../x", "/etc/passwd", "a" * 5000,
)  # fmt: skip


def annotations(images=3, categories=2):
    rng = np.random.default_rng(0)
    data = {
        "images": [
            {"id": i + 1, "file_name": f"{i}.png", "width": 40, "height": 30, "crowdIndex": 0.3}
            for i in range(images)
        ],
        "annotations": [],
        "categories": [
            {"id": c + 1, "name": f"kind {c}", "keypoints": ["a", "b", "c"], "skeleton": [[1, 2], [2, 3]]}
            for c in range(categories)
        ],
    }
    for n in range(2 * images):
        points = np.concatenate([rng.uniform(2, 28, (3, 2)).round(1), [[2], [1], [2]]], 1)
        data["annotations"].append(
            {"id": n + 1, "image_id": n // 2 + 1, "category_id": n % 2 % categories + 1, "iscrowd": 0}
            | {"bbox": [1.0, 2.0, 30.0, 25.0], "area": 300.0, "num_keypoints": 3, "head_size": 5.0}
            | {"keypoints": points.ravel().tolist()}
        )
    return data


def results(data):
    return [
        {k: a[k] for k in ("image_id", "category_id", "keypoints", "bbox")} | {"score": 0.1 * a["id"]}
        for a in data["annotations"]
    ]


def boxes(data):
    return [{k: r[k] for k in ("image_id", "category_id", "bbox", "score")} for r in results(data)]


def places_in(value, path=()):
    """Every place of a nested value, as a path."""
    yield path
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in steps:
        yield from places_in(inner, (*path, key))


def changed(value, chance):
    """A copy with one place replaced, removed, repeated, or given a key that it does not know."""
    value = copy.deepcopy(value)
    path = chance.choice([p for p in places_in(value) if p])
    owner = value
    for key in path[:-1]:
        owner = owner[key]
    kind = chance.randrange(8)
    if kind == 0:
        del owner[path[-1]]
    elif kind == 1 and isinstance(owner, list):
        owner.append(copy.deepcopy(owner[path[-1]]))
    else:
        owner[path[-1]] = copy.deepcopy(chance.choice(ODD))
    return value


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        write_image(tmp_path / f"{i}.png", np.full((30, 40, 3), 40 * i, np.uint8))
    return tmp_path


@pytest.fixture
def good(folder):
    (folder / "good.json").write_text(json.dumps(annotations(categories=1)))
    return read_coco(folder / "good.json")


def whole_set(path):
    """Everything that the verbs do with an annotation file before a model is asked."""
    pose_set = read_coco(path)
    data_facts(pose_set, images=True).to_json()
    for i in pose_set.labelled[:2]:
        pose_set.sample(i)
    for rule in ("annotated", "box"):
        found = Predictions.from_coco([])
        evaluate(pose_set, found, area_rule=rule, sigmas=[0.1] * len(pose_set.skeleton))
    measure(pose_set, Predictions.from_coco([]))
    return pose_set


def truth(path):
    return GroundTruth.from_coco(read_json(path))


def episode(path):
    return read_episodes(path, 2)


def scored(good):
    def read(path):
        items = read_json(path)
        keypoint_count(items)
        items = results_of(good, items)
        found = Predictions.from_coco(items)
        measure(good, found)
        return evaluate(good, found, sigmas=[0.1] * len(good.skeleton))

    return read


def readers(good):
    return {
        "set": (annotations(), whole_set),
        "truth": (annotations(), truth),
        "episodes": (annotations(), episode),
        "results": (results(annotations(categories=1)), scored(good)),
        "boxes": (boxes(annotations(categories=1)), lambda path: read_detections(path, good)),
        "boxes by number": (boxes(annotations(categories=1)), boxes_by_number),
    }


def check(kind, good, folder, count, seed):
    value, read = readers(good)[kind]
    chance = random.Random(seed)
    path = folder / "mutated.json"
    accepted = 0
    for number in range(count):
        odd = changed(value, chance)
        path.write_text(json.dumps(odd))
        began, said = time.process_time(), None
        try:
            read(path)
            accepted += 1
        except DOCUMENTED as error:
            said = str(error)
        assert said is None or 0 < len(said.splitlines()) <= 1, f"{kind} {number}: {said!r:.300}"
        assert said is None or len(said) < 1000, f"{kind} {number}: {said!r:.300}"
        assert time.process_time() - began < 5, f"{kind} {number}: a hang"
    return accepted


KINDS = ("set", "truth", "episodes", "results", "boxes", "boxes by number")


@pytest.mark.parametrize("kind", KINDS)
def test_odd_values_in_any_place_are_read_or_refused_in_one_sentence(kind, good, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # distances of 1e308 are infinite
        assert check(kind, good, folder, 60, seed=1) > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_odd_values_are_read_or_refused(kind, good, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for seed in range(2, 8):
            check(kind, good, folder, 400, seed)


def image_reader(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image_size(path)
        upright_size(path)
        return read_image(path)


def video_reader(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(frames(path))


def image_bytes(folder, ending):
    import cv2

    picture = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    if ending == "tif":
        picture = picture.astype(np.float32) / 255
    if ending == "16.png":
        picture = picture.astype(np.uint16) * 16
    cv2.imwrite(str(folder / f"whole.{ending}"), picture)
    return (folder / f"whole.{ending}").read_bytes()


def some(generator):
    for _ in generator:
        pass


@pytest.mark.parametrize("ending", ["jpg", "png", "16.png", "tif", "bmp", "webp"])
def test_damaged_images_are_read_or_refused(folder, ending):
    data = image_bytes(folder, ending)
    some(survivors(data, folder / f"a.{ending}", image_reader, count=40, errors=DOCUMENTED))


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["jpg", "png", "16.png", "tif", "bmp", "webp"])
def test_thousands_of_damaged_images_are_read_or_refused(folder, ending):
    data = image_bytes(folder, ending)
    some(survivors(data, folder / f"a.{ending}", image_reader, count=1500, seed=1, errors=DOCUMENTED))


def video_bytes(folder, ending):
    with VideoWriter(folder / f"whole.{ending}", 10) as video:
        for i in range(6):
            video.write(np.full((32, 48, 3), 40 * i, np.uint8))
    return (folder / f"whole.{ending}").read_bytes()


@pytest.mark.parametrize("ending", ["avi", "mp4"])
def test_damaged_videos_are_read_or_refused(folder, ending):
    data = video_bytes(folder, ending)
    some(survivors(data, folder / f"a.{ending}", video_reader, count=25, errors=DOCUMENTED))


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["avi", "mp4"])
def test_hundreds_of_damaged_videos_are_read_or_refused(folder, ending):
    data = video_bytes(folder, ending)
    some(survivors(data, folder / f"a.{ending}", video_reader, count=600, seed=1, errors=DOCUMENTED))


@pytest.mark.parametrize("kind", ["set", "episodes", "results", "boxes"])
def test_damaged_json_is_read_or_refused(kind, good, folder):
    value, read = readers(good)[kind]
    some(survivors(json.dumps(value).encode(), folder / "a.json", read, count=40, errors=DOCUMENTED))


def test_two_thousand_categories_are_gone_through_once(folder):
    data = annotations(images=2, categories=1)
    base, category = data["annotations"][0], data["categories"][0]
    data["categories"] = [{**category, "id": c, "name": f"{c}"} for c in range(1, 2001)]
    data["annotations"] = [
        {**base, "id": 2 * c + i, "category_id": c, "image_id": i + 1} for c in range(1, 2001) for i in (0, 1)
    ]
    path = folder / "many.json"
    path.write_text(json.dumps(data))
    began = time.process_time()
    found = read_episodes(path, 3)
    assert time.process_time() - began < 5
    assert [e.category for e in found] == ["1", "2", "3"]
