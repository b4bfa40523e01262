"""Drawn annotations and results with everything that makes evaluators disagree, and pycocotools' answer."""

from __future__ import annotations

import contextlib
import copy
import io
import json

import numpy as np
import pytest

from workbench.skeletons import SKELETONS

SIGMAS = np.array(
    [.026, .025, .025, .035, .035, .079, .079, .072, .072, .062, .062, 0.107, 0.107, .087, .087, .089, .089]
)  # fmt: skip


def names_of(keypoints):
    return SKELETONS["coco-17"].keypoints if keypoints == 17 else [f"point {k}" for k in range(keypoints)]


def draw(
    seed, *, images=40, categories=1, keypoints=17, scores="ties", boxes=False, zero_id=False, per_image=5
):
    """A set (dict) and results (list) with crowds, unlabelled people, empty images, ties and duplicates."""
    rng = np.random.default_rng(seed)
    people, found = [], []
    image_ids = rng.choice(10_000, images, replace=False).tolist()
    for image_id in image_ids:
        here = []
        for _ in range(rng.poisson(1.8)):
            w, h = rng.uniform(20, 160, 2)
            x, y = rng.uniform(0, 300, 2)
            visible = (rng.random(keypoints) < 0.7) * rng.integers(1, 3, keypoints)
            if rng.random() < 0.12:
                visible[:] = 0
            xy = np.stack([x + rng.random(keypoints) * w, y + rng.random(keypoints) * h], 1).round(2)
            triplets = np.concatenate([xy, visible[:, None]], 1) * (visible[:, None] > 0)
            person = {
                "id": len(people) + (0 if zero_id else 1),
                "image_id": image_id,
                "category_id": int(rng.integers(categories)) * 3 + 1,
                "keypoints": triplets.ravel().tolist(),
                "num_keypoints": int((visible > 0).sum()),
                "bbox": [x, y, w, h],
                "area": w * h * 0.6,
                "iscrowd": int(rng.random() < 0.08),
            }
            people.append(person)
            here.append((person, xy))
        for _ in range(rng.poisson(per_image)):
            xy = rng.uniform(0, 400, (keypoints, 2))
            category = int(rng.integers(categories)) * 3 + 1
            if here and rng.random() < 0.7:
                person, truth = here[rng.integers(len(here))]
                spread = np.sqrt(person["area"]) * rng.choice([0, 0.01, 0.05, 0.1, 0.3])
                xy, category = truth + rng.normal(0, 1, truth.shape) * spread, person["category_id"]
            result = {
                "image_id": image_id,
                "category_id": category,
                "keypoints": np.concatenate([xy, np.ones((keypoints, 1))], 1).ravel().tolist(),
                "score": round(float(rng.random()), 1 if scores == "ties" else 9),
            }
            if boxes:
                result["bbox"] = [0.0, 0.0, *rng.uniform(10, 150, 2).tolist()]
            found.append(result)
    found += [copy.deepcopy(found[i]) for i in rng.integers(0, len(found), len(found) // 10)] if found else []
    rng.shuffle(people)
    rng.shuffle(found)
    data = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 400, "height": 400} for i in image_ids],
        "annotations": people,
        "categories": [
            {"id": c * 3 + 1, "name": f"kind {c}", "keypoints": list(names_of(keypoints))}
            for c in range(categories)
        ],
    }
    return data, found


def pycocotools_answer(data, results, sigmas=SIGMAS, max_dets=20, image_ids=None):
    """COCOeval after accumulate; its stats where max_dets is 20."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(data)
        truth.createIndex()
        if results:
            found = truth.loadRes(copy.deepcopy(results))
        else:  # loadRes cannot read an empty list
            found = COCO()
            found.dataset = {**data, "annotations": []}
            found.createIndex()
        judge = COCOeval(truth, found, "keypoints")
        judge.params.kpt_oks_sigmas = np.asarray(sigmas)
        judge.params.maxDets = [max_dets]
        if image_ids is not None:
            judge.params.imgIds = list(image_ids)
        judge.evaluate()
        judge.accumulate()
        if max_dets == 20:
            judge.summarize()
    return judge


@pytest.fixture
def drawn():
    return draw


@pytest.fixture
def oracle():
    return pycocotools_answer


@pytest.fixture
def written(tmp_path):
    """Write a set as a file: `path = written(data)`."""

    def write(data, name="set.json"):
        (tmp_path / name).write_text(json.dumps(data))
        return tmp_path / name

    return write
