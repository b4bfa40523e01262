"""Parity with xtcocotools' own evaluation, whose Python runs here although its compiled half does not."""

import contextlib
import copy
import importlib
import io
import json
import sys
import types

import numpy as np
import pytest

from workbench.models.mmpose import stand_ins


@pytest.fixture(scope="module")
def original():
    """xtcocotools.coco and .cocoeval over pycocotools' masks."""
    spec = importlib.util.find_spec("xtcocotools")
    if spec is None:
        pytest.skip("xtcocotools is not installed: no wheel for this Python")
    import pycocotools._mask

    before = {n: m for n, m in sys.modules.items() if n.split(".")[0] == "xtcocotools"}
    package = types.ModuleType("xtcocotools")
    package.__path__ = list(spec.submodule_search_locations)
    package._mask = pycocotools._mask
    sys.modules.update({"xtcocotools": package, "xtcocotools._mask": pycocotools._mask})
    try:
        yield importlib.import_module("xtcocotools.coco"), importlib.import_module("xtcocotools.cocoeval")
    finally:
        for name in [n for n in sys.modules if n.split(".")[0] == "xtcocotools"]:
            del sys.modules[name]
        sys.modules.update(before)


def scene(seed, K=17):
    """Images with crowds, empty annotations, id 0, ties, wrong num_keypoints, all-zero detections."""
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for image in range(6):
        for _ in range(rng.integers(0, 5)):
            points = np.concatenate([rng.uniform(0, 200, (K, 2)), rng.integers(0, 3, (K, 1))], 1).round(1)
            points[:, 2] *= rng.random() > 0.2
            x, y, w, h = *rng.uniform(0, 60, 2), *rng.uniform(20, 140, 2)
            truths.append(
                {
                    "id": len(truths),
                    "image_id": image,
                    "category_id": 1,
                    "keypoints": points.ravel().tolist(),
                    "area": w * h * 0.6,
                    "bbox": [x, y, w, h],
                    "num_keypoints": int(rng.integers(0, 2)),
                    "iscrowd": int(rng.random() < 0.15),
                }
            )
            moved = points + rng.normal(0, 4, points.shape) * (rng.random() > 0.1)
            if rng.random() < 0.1:
                moved = moved * 0
            found.append(
                {
                    "image_id": image,
                    "category_id": 1,
                    "keypoints": moved.ravel().tolist(),
                    "score": float(rng.integers(0, 5)) / 5,
                }
            )
    images = [{"id": i, "width": 300, "height": 300} for i in range(6)]
    return {"images": images, "annotations": truths, "categories": [{"id": 1, "name": "person"}]}, found


def figures(coco_class, eval_class, dataset, found, **options):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_class()
        truth.dataset, truth.anno_file = copy.deepcopy(dataset), [None]
        truth.createIndex()
        evaluation = eval_class(truth, truth.loadRes(copy.deepcopy(found)), **options)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("use_area", [True, False])
def test_figures_equal_xtcocotools(original, seed, use_area):
    coco, cocoeval = original
    dataset, found = scene(seed)
    options = {"iouType": "keypoints", "sigmas": np.linspace(0.03, 0.1, 17), "use_area": use_area}
    ours = figures(stand_ins.COCO, stand_ins.COCOeval, dataset, found, **options)
    theirs = figures(coco.COCO, cocoeval.COCOeval, dataset, found, **options)
    np.testing.assert_array_equal(ours, theirs)
    assert ours[0] != -1


def test_whole_body_parts_equal_xtcocotools(original):
    coco, cocoeval = original
    dataset, found = scene(3)
    names = {"foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}
    rng = np.random.default_rng(0)
    for one in dataset["annotations"] + found:
        one |= {name: rng.integers(0, 3, 3 * count).tolist() for name, count in names.items()}
    for one in found:
        one["wholebody_score"] = float(rng.random())
    for kind, count in (("wholebody", 133), ("lefthand", 21), ("face", 68)):
        options = {"iouType": f"keypoints_{kind}", "sigmas": np.full(count, 0.05)}
        ours = figures(stand_ins.COCO, stand_ins.COCOeval, dataset, found, **options)
        theirs = figures(coco.COCO, cocoeval.COCOeval, dataset, found, **options)
        np.testing.assert_array_equal(ours, theirs)


def test_no_detections_give_figures_and_no_error():
    dataset, _ = scene(1)
    assert figures(stand_ins.COCO, stand_ins.COCOeval, dataset, [])[0] == 0


def test_the_dataset_is_left_as_it_was():
    dataset, found = scene(2)
    truth = stand_ins.COCO()
    truth.dataset = dataset
    truth.createIndex()
    before = json.dumps(truth.dataset["annotations"])
    stand_ins.COCOeval(truth, truth.loadRes(found), use_area=False)._prepare()
    assert json.dumps(truth.dataset["annotations"]) == before


def test_the_crowd_summary_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match="needs the real xtcocotools"):
        stand_ins.COCOeval(iouType="keypoints_crowd")


def test_a_missing_area_is_named():
    dataset, found = scene(2)
    del dataset["annotations"][1]["area"]
    with pytest.raises(ValueError, match="annotation 1 has no area"):
        figures(stand_ins.COCO, stand_ins.COCOeval, dataset, found)
