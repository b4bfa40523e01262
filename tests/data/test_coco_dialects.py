"""Annotation files as data sets and converters leave them: read, noted, scored as pycocotools does."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import sys

import numpy as np
import pytest

from workbench.data import data_facts, open_data, read_coco
from workbench.data.boxes import read_detections
from workbench.data.coco import read_by_category
from workbench.data.facts import counted_findings
from workbench.data.images import write_image
from workbench.evaluation import Predictions, evaluate
from workbench.evaluation.result_lists import results_of
from workbench.skeletons import SKELETONS

NAMES = list(SKELETONS["coco-17"].keypoints)


def people(images=3, seed=0):
    """A set with labelled, unlabelled and crowd people, and results 1 to 4 pixels off."""
    rng = np.random.default_rng(seed)
    data = {
        "images": [
            {"id": 10 * i + 5, "file_name": f"{10 * i + 5:012d}.jpg", "width": 200, "height": 100}
            for i in range(images)
        ],
        "annotations": [],
        "categories": [{"id": 1, "name": "person", "keypoints": NAMES}],
    }
    results = []
    for n in range(4 * images):
        keypoints = np.concatenate([rng.uniform(10, 90, (17, 2)).round(1), np.full((17, 1), 2)], 1)
        labelled = n % 4 != 3
        if not labelled:
            keypoints[:] = 0
        image_id = data["images"][n // 4]["id"]
        data["annotations"].append(
            {"id": n + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0, "bbox": [10, 10, 80, 80]}
            | {"area": 4000.0, "num_keypoints": 17 * labelled, "keypoints": keypoints.ravel().tolist()}
        )
        off = np.concatenate([rng.normal(0, 4, (17, 2)), np.zeros((17, 1))], 1)
        results.append({"image_id": image_id, "category_id": 1, "score": float(rng.random())})
        results[-1]["keypoints"] = (keypoints + off).ravel().tolist()
    return data, results


def oracle(path, results):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluator = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "keypoints")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats


def empty_keypoints(data, results):
    for a in data["annotations"]:
        if not a["num_keypoints"]:
            a["keypoints"] = []


def nan_where_unlabelled(data, results):
    for a in data["annotations"]:
        points = np.reshape(a["keypoints"], (17, 3))
        points[::5] = np.nan, np.nan, 0
        a["keypoints"], a["num_keypoints"] = points.ravel().tolist(), int((points[:, 2] > 0).sum())


def text_ids(data, results):
    for i in data["images"]:
        i["id"] = f"{i['id']:012d}"
    for a in (*data["annotations"], *results):
        a["image_id"] = f"{a['image_id']:012d}"


def text_names(data, results):
    for i in data["images"]:
        i["id"] = f"clip/frame_{i['id']}"
    for a in (*data["annotations"], *results):
        a["image_id"] = f"clip/frame_{a['image_id']}"


def absolute_names(data, results):
    for i in data["images"]:
        i["file_name"] = "/data/val/" + i["file_name"]


def no_height(data, results):
    for i in data["images"]:
        del i["height"]


def visibility_score(data, results):
    for a in data["annotations"]:
        a["keypoints"][2::3] = [0.87 * (v > 0) for v in a["keypoints"][2::3]]


def visibility_three(data, results):
    for a in data["annotations"]:
        a["keypoints"][2::3] = [3 if v and k % 5 == 0 else v for k, v in enumerate(a["keypoints"][2::3])]


def other_category_too(data, results):
    data["annotations"].append({**data["annotations"][0], "id": 900, "category_id": 7})


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (empty_keypoints, "3 annotations have an empty list"),
        (nan_where_unlabelled, "12 annotations have null or nan for unlabelled keypoints"),
        (text_ids, "image ids are text"),
        (text_names, "image ids are text"),
        (absolute_names, None),
        (no_height, None),
        (visibility_score, "visibility is given as a score"),
        (visibility_three, "in AI Challenger 3 means"),
        (other_category_too, r"1 annotation is of a category that the file does not list \(7\)"),
    ],
)
def test_files_as_they_are_in_the_wild_are_scored_as_pycocotools_scores_them(tmp_path, change, note):
    data, results = people()
    change(data, results)
    path = tmp_path / "set.json"
    path.write_text(json.dumps(data))
    before = copy.deepcopy(results)
    pose_set = read_coco(path)
    items = results_of(pose_set, results)
    report = evaluate(pose_set, Predictions.from_coco(items))
    assert results == before
    np.testing.assert_array_equal(report.ap.stats, oracle(path, results))
    assert 0 < report.ap.stats[0] < 1
    assert (len(pose_set.notes) > 0) == (note is not None)
    if note:
        with pytest.raises(AssertionError, match=note):
            raise AssertionError(pose_set.notes)
        assert set(pose_set.notes) <= set(data_facts(pose_set).findings)


def test_every_spelling_of_one_annotation_is_one_instance(tmp_path):
    data, _ = people(images=1)
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps(data))
    wanted = read_coco(plain).instances
    nested = copy.deepcopy(data)
    for a in nested["annotations"]:  # RHD, InterHand
        a["keypoints"] = np.reshape(a["keypoints"], (-1, 3)).tolist()
    bare = copy.deepcopy(data)
    for a in bare["annotations"]:
        del a["category_id"]
    faces = copy.deepcopy(data)  # WFLW and 300W state center and scale
    for a in faces["annotations"]:
        x, y, w, h = a.pop("bbox")
        a["center"], a["scale"] = [x + w / 2, y + h / 2], w / 200
    for n, (changed, note) in enumerate(
        [(nested, "nested"), (bare, "no category"), (faces, "center and scale")]
    ):
        path = tmp_path / f"{n}.json"
        path.write_text(json.dumps(changed))
        found = read_coco(path)
        assert note in found.notes[0]
        for one, other in zip(found.instances, wanted, strict=True):
            assert one.truth.tolist() == other.truth.tolist()
            assert (one.box, one.category_id) == (pytest.approx(other.box), other.category_id)


def test_unlisted_categories_come_from_the_annotations_when_the_file_lists_none_of_them(tmp_path):
    data, _ = people(images=1)
    for categories in ([], None, [{"id": 0, "name": "person", "keypoints": NAMES}]):
        changed = {**data, "categories": categories}
        if categories is None:
            del changed["categories"]
        path = tmp_path / "set.json"
        path.write_text(json.dumps(changed))
        found = read_coco(path)
        assert (len(found), set(found.categories)) == (4, {1})
        assert len(found.skeleton) == 17
        assert found.skeleton.name == ("coco-17" if categories else "own-17")
        assert "added here" in found.notes[0]


def test_ai_challengers_own_list(tmp_path):
    pose = [[10 + k, 20 + k, 1 + k % 3] for k in range(14)]
    entry = {
        "image_id": "0a1",
        "keypoint_annotations": {"human1": [v for triple in pose for v in triple]},
        "human_annotations": {"human1": [5, 6, 105, 206]},
    }
    path = tmp_path / "aic.json"
    path.write_text(json.dumps([entry]))
    found = read_coco(path)
    assert found.skeleton is SKELETONS["aic-14"]
    one = found.instances[0]
    assert found.images[1].path.name == "0a1.jpg"
    assert one.box == (5, 6, 105, 206)
    assert one.truth[:3].tolist() == [[10, 20, 2], [11, 21, 1], [0, 0, 0]]
    assert one.num_keypoints == 10


@pytest.fixture
def extended(monkeypatch):
    """COCO and COCOeval of xtcocotools; its masks were built for another numpy, and keypoints need none."""
    pytest.importorskip("xtcocotools", reason="xtcocotools is not built for this Python")
    from pycocotools import mask

    monkeypatch.setitem(sys.modules, "xtcocotools.mask", mask)
    monkeypatch.setattr(sys.modules["xtcocotools"], "mask", mask, raising=False)
    from xtcocotools.coco import COCO
    from xtcocotools.cocoeval import COCOeval

    return COCO, COCOeval


def whole_body():
    data, _ = people(images=1)
    rng = np.random.default_rng(3)
    for a in data["annotations"]:
        for key, count in (("foot", 6), ("face", 68), ("lefthand", 21), ("righthand", 21)):
            values = np.concatenate([rng.uniform(10, 90, (count, 2)), rng.integers(0, 2, (count, 1))], 1)
            a[f"{key}_kpts"] = (values * values[:, 2:]).ravel().tolist()
    return data


@pytest.mark.parametrize(
    ("part", "count"), [("wholebody", 133), ("foot", 6), ("face", 68), ("lefthand", 21), ("body", 17)]
)
def test_parts_of_whole_bodies_are_scored_as_xtcocotools_scores_them(
    workbench, tmp_path, extended, part, count
):
    COCO, COCOeval = extended
    data = whole_body()
    path = tmp_path / "whole.json"
    path.write_text(json.dumps(data))
    pose_set = open_data(f"{path}#{part}")
    assert (len(pose_set.skeleton), len(pose_set.skeleton.sigmas)) == (count, count)
    rng = np.random.default_rng(4)
    results = []
    for a in data["annotations"]:
        one = {"image_id": a["image_id"], "category_id": 1, "score": float(rng.random()), "bbox": a["bbox"]}
        for key in ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts"):
            moved = np.reshape(a[key], (-1, 3)) + np.append(rng.normal(0, 1.5, 2), 0.3)
            one[key] = moved.ravel().tolist()
        one[f"{part}_score"] = float(rng.random())
        if part == "body":
            one["score"] = one["body_score"]
        results.append(one)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        kind = "keypoints" if part == "body" else f"keypoints_{part}"
        evaluator = COCOeval(
            truth, truth.loadRes(copy.deepcopy(results)), kind, np.array(pose_set.skeleton.sigmas)
        )
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    items = results_of(pose_set, results)
    report = evaluate(pose_set, Predictions.from_coco(items))
    assert report.ap.stats[:1] == pytest.approx(evaluator.stats[:1])
    np.testing.assert_allclose(report.ap.stats, evaluator.stats, atol=1e-12)
    assert 0 < report.ap.stats[0] < 1
    # The command line takes the named part of results in parts and of results in one list of 133.
    keys = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
    whole = [
        {
            "image_id": one["image_id"],
            "category_id": 1,
            "keypoints": [value for key in keys for value in one[key]],
            "score": one[f"{part}_score"],
            "bbox": one["bbox"],
        }
        for one in results
    ]
    file = tmp_path / "results.json"
    for written in (results, whole):
        file.write_text(json.dumps(written))
        for verb in ("score", "errors"):
            code, out, err = workbench(verb, file, "--data", f"{path}#{part}", "--json")
            assert code == 0, err
            assert json.loads(out)["AP"] == pytest.approx(evaluator.stats[0])


def test_a_result_file_of_133_keypoints_takes_the_whole_body_and_one_of_17_the_body(workbench, tmp_path):
    data = whole_body()
    path, results = tmp_path / "whole.json", tmp_path / "results.json"
    path.write_text(json.dumps(data))
    keys = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
    labelled = [a for a in data["annotations"] if a["num_keypoints"]]
    for parts, count in ((keys, 133), (keys[:1], 17)):
        results.write_text(
            json.dumps(
                [{"score": 0.9, **{k: a[k] for k in (*parts, "image_id", "category_id")}} for a in labelled]
            )
        )
        code, out, err = workbench("score", results, "--data", path, "--json")
        assert code == 0, err
        assert len(json.loads(out)["per_keypoint"]) == count
        assert json.loads(out)["AP50"] > 0


@pytest.mark.parametrize(
    ("annotations", "image", "name"),
    [
        ("annotations/val.json", "val2017/a.png", "a.png"),  # COCO
        ("annotations/val.json", "images/val2017/a.png", "a.png"),
        ("annotations/val.json", "val2017/a.png", "val2017/a.png"),
        (
            "Human-Art/annotations/val.json",
            "Human-Art/images/cartoon/a.png",
            "Human-Art/images/cartoon/a.png",
        ),
        ("val.json", "imgs/a.png", "a.png"),
        ("annotations/val.json", "val2017/a.png", "/data/coco/val2017/a.png"),
        ("annotations/val.json", "val2017/sub/a.png", "D:\\data\\val2017\\sub\\a.png"),
        ("labels/val.json", "images/a.png", "a.png"),
    ],
)
def test_images_are_found_in_the_usual_layouts(tmp_path, annotations, image, name):
    data, _ = people(images=1)
    for file in (annotations, image):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    write_image(tmp_path / image, np.zeros((100, 200, 3), np.uint8))
    data["images"][0]["file_name"] = name
    (tmp_path / annotations).write_text(json.dumps(data))
    found = read_coco(tmp_path / annotations)
    assert found.images[5].path.resolve() == (tmp_path / image).resolve()
    assert found.sample(0).image.shape == (100, 200, 3)


def test_an_absolute_name_is_never_followed_outside_the_folder(tmp_path):
    data, _ = people(images=1)
    outside, inside = tmp_path / "outside", tmp_path / "set"
    for folder in (outside, inside):
        folder.mkdir()
    write_image(outside / "a.png", np.zeros((100, 200, 3), np.uint8))
    data["images"][0]["file_name"] = str(outside / "a.png")
    (inside / "val.json").write_text(json.dumps(data))
    found = read_coco(inside / "val.json")
    assert found.images[5].path == inside / "a.png"
    with pytest.raises(FileNotFoundError, match=r"a.png: no such image file.*--images"):
        found.sample(0)
    named = read_coco(inside / "val.json", images=outside)
    assert named.sample(0).image.shape == (100, 200, 3)


def test_a_link_out_of_the_folders_of_a_set_is_not_read(tmp_path):
    data, _ = people(images=1)
    outside, inside = tmp_path / "outside", tmp_path / "set"
    for folder in (outside, inside):
        folder.mkdir()
    write_image(outside / "a.png", np.zeros((100, 200, 3), np.uint8))
    (inside / "a.png").symlink_to(outside / "a.png")
    data["images"][0] = {"id": 5, "file_name": "a.png"}  # its size would be read from the image
    path = inside / "val.json"
    path.write_text(json.dumps(data))
    served = read_coco(path, within=[inside])
    assert served.images[5].width is None
    with pytest.raises(ValueError, match=r"a.png: leads out of the data set's folders"):
        served.sample(0)
    assert read_coco(path, within=[inside, outside]).sample(0).image.shape == (100, 200, 3)
    # On the command line nobody names folders that are served: those of the set are.
    (by_category,) = read_by_category(path)
    for found in (read_coco(path), by_category):
        assert found.images[5].width is None
        with pytest.raises(ValueError, match=r"a.png: leads out of the data set's folders.*--images"):
            found.sample(0)
    assert read_coco(path, images=outside).sample(0).image.shape == (100, 200, 3)


def test_links_within_a_set_and_folders_that_the_user_names_through_a_link_are_read(tmp_path):
    data, _ = people(images=1)
    top, store = tmp_path / "set", tmp_path / "store"
    for folder in (top / "annotations", top / "val2017", top / ".annex", store):
        folder.mkdir(parents=True)
    write_image(top / ".annex/1f.png", np.zeros((100, 200, 3), np.uint8))
    (top / "val2017/a.png").symlink_to("../.annex/1f.png")
    data["images"][0] = {"id": 5, "file_name": "a.png"}
    path = top / "annotations/val.json"
    path.write_text(json.dumps(data))
    assert read_coco(path).sample(0).image.shape == (100, 200, 3)
    (tmp_path / "mine").symlink_to(top, target_is_directory=True)
    assert read_coco(tmp_path / "mine/annotations/val.json").sample(0).image.shape == (100, 200, 3)
    (top / "val2017/a.png").unlink()
    (top / "val2017").rmdir()
    write_image(store / "a.png", np.zeros((100, 200, 3), np.uint8))
    (top / "val2017").symlink_to(store, target_is_directory=True)
    with pytest.raises(ValueError, match=r"a.png: leads out of the data set's folders"):
        read_coco(path).sample(0)
    assert read_coco(path, images=top / "val2017").sample(0).image.shape == (100, 200, 3)


def test_links_of_the_cache_of_hugging_face_lead_to_its_blobs(tmp_path):
    data, _ = people(images=1)
    snapshot, blobs = tmp_path / "datasets--a--b/snapshots/1c", tmp_path / "datasets--a--b/blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    write_image(tmp_path / "a.png", np.zeros((100, 200, 3), np.uint8))
    (tmp_path / "a.png").rename(blobs / "7e")
    (snapshot / "a.png").symlink_to("../../blobs/7e")
    data["images"][0]["file_name"] = "a.png"
    (snapshot / "val.json").write_text(json.dumps(data))
    assert read_coco(snapshot / "val.json").sample(0).image.shape == (100, 200, 3)


def test_images_are_found_from_within_the_folder_of_annotations(tmp_path, monkeypatch):
    data, _ = people(images=1)
    for folder in ("annotations/more", "val2017"):
        (tmp_path / folder).mkdir(parents=True)
    data["images"][0]["file_name"] = "a.png"
    write_image(tmp_path / "val2017/a.png", np.zeros((100, 200, 3), np.uint8))
    (tmp_path / "annotations/val.json").write_text(json.dumps(data))
    for inner, name in (("annotations", "val.json"), ("annotations/more", "../val.json")):
        monkeypatch.chdir(tmp_path / inner)
        assert read_coco(name).sample(0).image.shape == (100, 200, 3)


def test_boxes_by_text_ids_are_those_of_the_same_images(tmp_path):
    data, results = people()
    text_names(data, results)
    path, boxes = tmp_path / "set.json", tmp_path / "boxes.json"
    path.write_text(json.dumps(data))
    boxes.write_text(
        json.dumps(
            [
                {"image_id": i["id"], "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.5}
                for i in data["images"]
            ]
        )
    )
    pose_set = read_coco(path)
    assert [box.image_id for box in read_detections(boxes, pose_set)] == list(pose_set.images)
    assert [pose_set.image_name(n) for n in pose_set.images] == [i["id"] for i in data["images"]]


def test_null_is_read_as_unlabelled_like_an_empty_list_and_like_nan(tmp_path):
    data, _ = people()
    nan_where_unlabelled(data, [])
    plain = tmp_path / "nan.json"
    plain.write_text(json.dumps(data))
    expected = read_coco(plain)
    for a in data["annotations"]:
        a["keypoints"] = [None if v != v else v for v in a["keypoints"]] if a["num_keypoints"] else None
    (tmp_path / "null.json").write_text(json.dumps(data))
    found = read_coco(tmp_path / "null.json")
    for one, other in zip(expected.instances, found.instances, strict=True):
        np.testing.assert_array_equal(one.truth, other.truth)
    assert any("3 annotations have an empty list of keypoints, or null" in note for note in found.notes)


def test_repeated_annotations_are_said_with_the_counts_of_a_score(tmp_path):
    data, _ = people()
    data["annotations"] += [{**a, "id": a["id"] + 100} for a in data["annotations"]]
    (tmp_path / "twice.json").write_text(json.dumps(data))
    assert "9 annotations repeat another one" in counted_findings(read_coco(tmp_path / "twice.json"))
