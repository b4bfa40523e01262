"""Every lint finds its fault in a set drawn for it, and nothing in the same set without the fault."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from workbench.data import builtin, data_facts, read_coco
from workbench.data.image_lints import duplicate_images, image_lints, pixel_lints
from workbench.data.images import write_image
from workbench.data.lints import lint_findings, lints

NAMES = [f"point {i}" for i in range(8)]


def healthy(seed=0, images=4, width=640, height=400):
    """People of many sizes, boxes a little wider than their keypoints, some keypoints unlabelled."""
    rng = np.random.default_rng(seed)
    data = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "newt", "keypoints": NAMES}]}
    for i in range(images):
        data["images"].append({"id": i + 1, "file_name": f"{i}.png", "width": width, "height": height})
        for _ in range(3):
            w, h = rng.uniform(30, 180, 2)
            x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
            points = np.stack([x + w * rng.uniform(0.1, 0.9, 8), y + h * rng.uniform(0.1, 0.9, 8)], 1)
            seen = rng.integers(0, 3, (8, 1))
            seen[:5] = 2
            keypoints = np.concatenate([points, seen], 1) * (seen > 0)
            data["annotations"].append(
                {"id": len(data["annotations"]) + 1, "image_id": i + 1, "category_id": 1, "area": w * h * 0.6}
                | {"bbox": [x, y, w, h], "keypoints": keypoints.ravel().tolist(), "iscrowd": 0}
            )
    return data


def each(change):
    """The change made to every annotation, with the size of its image."""

    def changed(data):
        sizes = {i["id"]: (i["width"], i["height"]) for i in data["images"]}
        for n, a in enumerate(data["annotations"]):
            change(n, a, *sizes[a["image_id"]])

    return changed


def times(values, factors, start=0):
    return [v * factors[k % len(factors)] for k, v in enumerate(values)]


def centred(box):
    x, y, w, h = box
    return [x + w / 2, y + h / 2, w, h]


def swapped(values):
    points = np.reshape(values, (-1, 3))
    return points[:, [1, 0, 2]].ravel().tolist()


def placed(annotation, change):
    """Keypoints of an annotation with their places changed; unlabelled ones stay at 0, 0."""
    points = np.reshape(np.array(annotation["keypoints"], float), (-1, 3))
    moved = change(points[:, :2], np.array(annotation["bbox"]))
    return np.where(points[:, 2:] > 0, np.c_[moved, points[:, 2]], 0.0).ravel().tolist()


def repeated(data):
    again = copy.deepcopy(data["annotations"][0])
    again["keypoints"] = [v + 0.6 * (k % 3 == 0 and again["keypoints"][k + 2] > 0) for k, v in
                          enumerate(again["keypoints"])]  # fmt: skip
    data["annotations"].append({**again, "id": 99})


def drawn_again(data):
    points = np.reshape(data["annotations"][0]["keypoints"], (-1, 3))
    side, seen = np.ptp(points[points[:, 2] > 0, :2], 0).max(), points[:, 2:] > 0
    off = np.random.default_rng(0).normal(0, 0.02 * side, (len(points), 2)) * seen
    again = np.column_stack([points[:, :2] + off, points[:, 2]]).ravel().tolist()
    data["annotations"].append({**data["annotations"][0], "keypoints": again, "id": 99})


FAULTS = {
    "area 0": (each(lambda n, a, w, h: a.update(area=0)), "12 instances have area 0"),
    "one area 0": (lambda d: d["annotations"][3].update(area=0), "1 instance has area 0"),
    "negative": (each(lambda n, a, w, h: a.update(area=-a["area"])), "12 instances have a negative area"),
    "beyond": (each(lambda n, a, w, h: a.update(area=2e10)), "12 instances have an area above 1e+10"),
    "unit area": (each(lambda n, a, w, h: a.update(area=a["area"] / w / h)), "areas look normalised"),
    "small area": (lambda d: d["annotations"][3].update(area=2.5), "1 instance has an area below 4 square"),
    "areas of a smaller image": (
        each(lambda n, a, w, h: a.update(area=a["area"] / 20)),
        "areas are 0.03 of their boxes",
    ),
    "areas of a larger image": (each(lambda n, a, w, h: a.update(area=a["area"] * 9)), "areas are 5.4 of"),
    "id 0": (each(lambda n, a, w, h: a.update(id=n)), "annotation id 0 never counts as found"),
    "corners": (
        each(lambda n, a, w, h: a.update(bbox=[*a["bbox"][:2], *np.add(a["bbox"][:2], a["bbox"][2:])])),
        r"boxes look like two corners",
    ),
    "centres": (
        each(lambda n, a, w, h: a.update(bbox=centred(a["bbox"]))),
        "boxes look like centre and size",
    ),
    "y x h w": (
        each(lambda n, a, w, h: a.update(bbox=np.take(a["bbox"], [1, 0, 3, 2]).tolist())),
        "boxes look like y, x, height, width",
    ),
    "unit box": (
        each(lambda n, a, w, h: a.update(bbox=times(a["bbox"], (1 / w, 1 / h)))),
        "12 boxes lie within 1 pixel",
    ),
    "unit keypoints": (
        each(lambda n, a, w, h: a.update(keypoints=times(a["keypoints"], (1 / w, 1 / h, 1)))),
        "all labelled keypoints of 12 instances lie within 1 pixel",
    ),
    "unit keypoints in a quarter": (
        each(
            lambda n, a, w, h: a.update(
                keypoints=times(a["keypoints"], (1 / w, 1 / h, 1) if n % 4 == 0 else (1,))
            )
        ),
        "all labelled keypoints of 3 of 12 instances lie within 1 pixel",
    ),
    "keypoints in shares of their box": (
        each(lambda n, a, w, h: a.update(keypoints=placed(a, lambda p, b: (p - b[:2]) / b[2:]))),
        "they look normalised to the box size",
    ),
    "keypoints from the corner of their box": (
        each(lambda n, a, w, h: a.update(keypoints=placed(a, lambda p, b: p - b[:2]))),
        "keypoints look as if they count from the corner of their box",
    ),
    "keypoints of a smaller image": (
        each(lambda n, a, w, h: a.update(keypoints=placed(a, lambda p, b: p / 3))),
        "keypoints look as if they are of an image 0.33",
    ),
    "y upwards": (
        each(lambda n, a, w, h: a.update(keypoints=placed(a, lambda p, b: np.c_[p[:, 0], h - p[:, 1]]))),
        "keypoints look as if they count y from the lower edge",
    ),
    "thousandths": (
        each(lambda n, a, w, h: a.update(keypoints=placed(a, lambda p, b: p * 1000 / [w, h]))),
        "keypoints look as if they are thousandths of the image's size",
    ),
    "boxes in thousandths": (
        each(lambda n, a, w, h: a.update(bbox=times(a["bbox"], (1000 / w, 1000 / h)))),
        "boxes look as if they are thousandths of the image's size",
    ),
    "boxes of a smaller image": (
        each(lambda n, a, w, h: a.update(bbox=times(a["bbox"], (0.45,)))),
        "boxes look as if they are of an image 0.4",
    ),
    "boxes of a larger image": (
        each(lambda n, a, w, h: a.update(bbox=times(a["bbox"], (2.55,)))),
        "boxes look as if they are of an image 2.5",
    ),
    "keypoints of a larger image": (
        each(lambda n, a, w, h: a.update(keypoints=placed(a, lambda p, b: p * 2.55))),
        "keypoints look as if they are of an image 2.5",
    ),
    "exchanged": (
        each(lambda n, a, w, h: a.update(keypoints=swapped(a["keypoints"]))),
        "x and y of keypoints look exchanged",
    ),
    "exchanged without boxes": (
        each(lambda n, a, w, h: a.update(keypoints=swapped(times(a["keypoints"], (1, 0.01, 1))), bbox=None)),
        None,
    ),
    "outside": (lambda d: d["annotations"][2]["bbox"].__setitem__(2, 700), "1 box reaches outside its image"),
    "elsewhere": (
        lambda d: d["annotations"][2].update(bbox=[*d["annotations"][2]["bbox"][:2], 9, 9]),
        "1 box contains less than half",
    ),
    "drawn again by hand": (drawn_again, "1 annotation nearly repeats the pose"),
    "repeated": (repeated, "1 annotation nearly repeats the pose"),
}


@pytest.fixture
def found(tmp_path):
    def of(data):
        path = tmp_path / "set.json"
        path.write_text(json.dumps(data, default=float))
        return lints(read_coco(path))

    return of


@pytest.mark.parametrize("seed", range(4))
def test_a_healthy_set_gets_no_finding(found, seed):
    assert found(healthy(seed)) == ()
    assert found(healthy(seed, images=1, width=200, height=200)) == ()


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_said_and_no_other(found, fault):
    change, words = FAULTS[fault]
    for seed in (5, 6):
        data = healthy(seed)
        change(data)
        said = found(data)
        if words is None:
            continue  # only: nothing is raised
        assert any(words in finding for finding in said), said
        assert len(said) == 1, said


def test_a_crowd_is_paired_by_a_tree_of_its_centres_and_gives_the_same(monkeypatch):
    from workbench.data import lints as module

    centres = np.random.default_rng(0).integers(0, 40, (120, 2)).astype(float)  # many just so far apart
    found = [set(map(tuple, np.column_stack(module._near_pairs(centres, 5.0)).tolist()))]
    monkeypatch.setattr(module, "_CROWD", 0)
    found.append(set(map(tuple, np.column_stack(module._near_pairs(centres, 5.0)).tolist())))
    assert found[0] == found[1]
    assert len(found[0]) > 100


def test_sets_that_come_along_and_real_ones_get_none(shared):
    for name in ("scenes-val", "scenes-people-val", "astronaut"):
        pose_set = builtin(name)
        assert lints(pose_set) == ()
    for file in (
        "coco/test_coco",
        "ap10k/test_ap10k",
        "animalpose/test_animalpose",
        "crowdpose/test_crowdpose",
    ):
        pose_set = read_coco(shared / "data" / f"{file}.json")
        assert (lints(pose_set), image_lints(pose_set)) == ((), ())
    for part in ("body", "wholebody", "foot", "face", "righthand"):
        found = lints(read_coco(shared / "data/coco/test_coco_wholebody.json", part=part))
        assert len(found) == (part in ("wholebody", "righthand"))
        assert all(finding.startswith("visibility is given as a score") for finding in found)


def boxes_by(left, top, right, bottom):
    """Boxes whose sides are moved out by these shares of their size."""

    def change(data):
        for a in data["annotations"]:
            x, y, w, h = a["bbox"]
            a["bbox"] = [x - left * w, y - top * h, w * (1 + left + right), h * (1 + top + bottom)]

    return change


@pytest.mark.parametrize(
    ("by", "severity"),
    [
        ((0.3, 0.2, 0.3, 0.4), "remark"),
        ((0.0, 0.0, 0.4, 0.0), "remark"),
        ((-0.3, 0.0, 0.3, 0.0), "warning"),
        ((0.0, 0.35, 0.0, -0.35), "warning"),
        ((0.0, 0.0, 1.4, 0.0), "warning"),
    ],
    ids=["drawn loosely", "wide", "moved to the right", "moved up", "mostly outside"],
)
def test_boxes_that_reach_outside_are_a_fault_only_where_they_do_not_fit_their_poses(tmp_path, by, severity):
    data = healthy(3, width=240, height=240)
    boxes_by(*by)(data)
    path = tmp_path / "set.json"
    path.write_text(json.dumps(data))
    found = [one for one in lint_findings(read_coco(path)) if "reach outside their image" in one.evidence]
    assert severity in {one.severity for one in found}
    assert severity == "warning" or len(found) == 1


def test_images_that_are_turned_or_there_twice_are_said(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    data = healthy(images=5, width=240, height=200)
    cells = rng.integers(0, 255, (5, 5, 6, 3), np.uint8)
    scenes = [np.kron(c, np.ones((40, 40, 1), np.uint8)) for c in cells]
    for n in (0, 1, 2):
        write_image(tmp_path / f"{n}.png", scenes[n])
    write_image(tmp_path / "3.jpg", scenes[1])  # saved anew
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(scenes[4]).save(tmp_path / "4.jpg", exif=exif)
    for n in (3, 4):
        data["images"][n]["file_name"] = f"{n}.jpg"
    path = tmp_path / "set.json"
    path.write_text(json.dumps(data))
    turned, twice = image_lints(read_coco(path))
    assert turned.startswith("1 image has an EXIF rotation")
    assert "1 are annotated on the stored, unrotated picture" in turned
    assert "does not tell" not in turned
    assert twice.startswith("1 image is a near duplicate of another image, the first 3.jpg")
    assert set(data_facts(read_coco(path), images=True).findings) >= {turned, twice}
    exif[0x0112] = 2
    Image.fromarray(scenes[4]).save(tmp_path / "4.jpg", exif=exif)
    turned, _ = image_lints(read_coco(path))
    assert "1 are mirrored or upside down, or square, so their size does not tell" in turned
    first, second = (Image.fromarray(scene) for scene in scenes[:2])
    first.save(tmp_path / "0.png", save_all=True, append_images=[second])
    assert (
        "1 image has several frames or pages, of which the first alone is read: the first is 0.png with 2"
        in (" ".join(image_lints(read_coco(path))))
    )
    data["images"][3] |= {"width": 480, "height": 400}  # the labels of a picture of twice the size
    path.write_text(json.dumps(data))
    sentence = (
        "1 image has another size than the file states (3.jpg is 240 x 200, the file says 480 x 400): "
        "keypoints do not fit"
    )
    assert image_lints(read_coco(path))[0] == pixel_lints(read_coco(path))[0] == sentence
    assert sentence in data_facts(read_coco(path), images=True).findings
    data["images"][2]["file_name"] = "0.png"
    path.write_text(json.dumps(data))
    assert "1 image names the same file as another image" in " ".join(image_lints(read_coco(path)))


def test_data_and_score_say_it(workbench, tmp_path):
    data = healthy(1)
    FAULTS["id 0"][0](data)
    path, results = tmp_path / "set.json", tmp_path / "results.json"
    path.write_text(json.dumps(data))
    fields = ("image_id", "category_id", "keypoints")
    results.write_text(json.dumps([{"score": 0.5, **{k: a[k] for k in fields}} for a in data["annotations"]]))
    for words in (("data", path), ("score", results, "--data", path, "--sigmas", "0.05")):
        code, out, err = workbench(*words)
        assert code == 0, err
        assert ": annotation id 0 never counts" in out
        code, out, err = workbench(*words, "--json")
        assert any("annotation id 0" in finding for finding in json.loads(out)["findings"])


def test_score_says_wrong_counts_and_keypoints_outside_the_image_as_data_does(workbench, tmp_path):
    data = healthy(1)
    data["annotations"][0]["num_keypoints"] = 0
    data["annotations"][1]["keypoints"][:3] = [5000.0, 5.0, 2]
    path, results = tmp_path / "set.json", tmp_path / "results.json"
    path.write_text(json.dumps(data))
    fields = ("image_id", "category_id", "keypoints")
    results.write_text(json.dumps([{"score": 0.5, **{k: a[k] for k in fields}} for a in data["annotations"]]))
    for words in (("data", path), ("score", results, "--data", path, "--sigmas", "0.05")):
        code, out, err = workbench(*words, "--json")
        assert code == 0, err
        assert {
            "1 annotation states a wrong num_keypoints, which pycocotools uses as stated",
            "1 labelled keypoint lies outside its image",
        } <= set(json.loads(out)["findings"])


def test_dark_scenes_of_one_camera_are_no_duplicates_and_their_copies_are(tmp_path):
    from PIL import Image

    paths = []
    for n, (x, y) in enumerate(((20, 20), (60, 40), (100, 60))):
        image = np.full((120, 160, 3), 40, np.uint8)
        image[y : y + 20, x : x + 20] = 80
        paths.append(tmp_path / f"{n}.png")
        write_image(paths[-1], image)
    again = tmp_path / "again.jpg"
    Image.open(paths[1]).save(again, quality=50)
    assert duplicate_images(paths) == []
    assert duplicate_images([*paths, again]) == [again]
