from __future__ import annotations

import json
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workbench.core.job import LruCache
from workbench.data import read_coco
from workbench.data.boxes import whole_images
from workbench.data.coco import read_json
from workbench.data.images import write_image
from workbench.data.set_lint import lint

NAMES = ["nose", "tail", "paw"]


def content(**changes):
    whole = {
        "images": [{"id": 7, "file_name": "a.png", "width": 40, "height": 30}],
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 2,
                "bbox": [5, 6, 20, 10],
                "area": 150.5,
                "keypoints": [10, 11, 2, 0, 0, 0, 12.5, 13, 1],
            }
        ],
        "categories": [{"id": 2, "name": "newt", "keypoints": NAMES, "skeleton": [[1, 2], [2, 3]]}],
    }
    return whole | changes


@pytest.fixture
def written(tmp_path):
    """Write a json beside one image and give its path."""
    write_image(tmp_path / "a.png", np.full((30, 40, 3), 90, np.uint8))

    def write(value, name="set.json"):
        path = tmp_path / name
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    return write


def annotation(**changes):
    return content(annotations=[content()["annotations"][0] | changes])


def test_a_small_file_by_hand(written):
    found = read_coco(written(content()))
    assert (found.name, len(found), found.skeleton.keypoints) == ("set", 1, tuple(NAMES))
    assert found.skeleton.limbs == ((0, 1), (1, 2))
    assert found.categories == {2: "newt"}
    one = found.instances[0]
    assert one.box == (5, 6, 25, 16)
    assert one.area == 150.5
    assert one.num_keypoints == 2
    assert one.truth.tolist() == [[10, 11, 2], [0, 0, 0], [12.5, 13, 1]]
    sample = found.sample(0)
    assert (sample.key, sample.category_id, sample.image_id) == ("a/1", 2, 7)
    assert sample.image.shape == (30, 40, 3)


def test_samples_of_many_large_images_do_not_keep_them_all(tmp_path, monkeypatch):
    """100 images of 74 million pixels took 22 GB where all samples were asked for at once."""
    entries, shape = [], (30, 40, 3)
    for number in range(6):
        write_image(tmp_path / f"{number}.png", np.full(shape, 10 * number, np.uint8))
        for _ in range(2):
            own = {"id": len(entries) + 1, "image_id": number}
            entries.append(content()["annotations"][0] | own)
    pictures = [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 30} for n in range(6)]
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content(images=pictures, annotations=entries)))
    found, one = read_coco(path), int(np.prod(shape))
    monkeypatch.setattr("workbench.data.pose_set.MOST_HELD", 2 * one)
    monkeypatch.setattr("workbench.data.pose_set._decoded_images", LruCache(1))
    samples = found.samples()
    held = {
        id(v): v.nbytes
        for s in samples
        for v in vars(s).values()
        if isinstance(v, np.ndarray) and v.ndim == 3
    }
    assert sum(held.values()) == 2 * one
    assert [int(s.image[0, 0, 0]) for s in samples] == [10 * (n // 2) for n in range(12)]
    for sample, alone in zip(samples, map(found.sample, found.labelled), strict=True):
        assert [o.key for o in sample.others] == [o.key for o in alone.others]
        assert (sample.key, sample.box, sample.area) == (alone.key, alone.box, alone.area)
        moved = replace(sample, box=(1.0, 2.0, 9.0, 8.0))
        assert (moved.box, moved.key, moved.box_score) == ((1.0, 2.0, 9.0, 8.0), alone.key, 1.0)
        assert np.array_equal(moved.image, alone.image)
    with pytest.raises(IndexError, match="no instance 12"):
        found.samples([12])


def test_boxes_are_clipped_to_the_image_as_mmpose_clips_them(written):
    found = read_coco(written(annotation(bbox=[-5, 20, 100, 100])))
    assert found.instances[0].box == (0, 20, 39, 29)


def test_truth_and_pixels_cannot_be_written_to(written):
    sample = read_coco(written(content())).sample(0)
    for array in (sample.truth, sample.image):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_an_image_that_was_replaced_under_its_name_is_read_again(written):
    file = written(content())
    found = read_coco(file)
    before = found.sample(0).image
    path = found.images[7].path
    write_image(path, 255 - before)
    again = found.sample(0).image
    assert (again == 255 - before).mean() > 0.9
    assert (found.sample(0).image == again).all()


def test_without_area_the_area_is_nan_and_nothing_is_invented(written):
    value = annotation()
    del value["annotations"][0]["area"]
    assert np.isnan(read_coco(written(value)).instances[0].area)


def test_crowds_empty_ones_and_boxes_of_no_size_are_read_but_not_scored(written):
    base = content()["annotations"][0]
    several = [
        base,
        base | {"id": 2, "iscrowd": 1},
        base | {"id": 3, "keypoints": [0] * 9},
        base | {"id": 4, "bbox": [5, 5, 0, 5]},
        base | {"id": 5, "bbox": []},
        {"id": 6, "image_id": 7, "category_id": 2, "bbox": [0, 0, 5, 5]},
    ]
    found = read_coco(written(content(annotations=several)))
    assert len(found) == 5  # the one without keypoints is no instance
    assert found.labelled == (0,)
    with pytest.raises(ValueError, match="annotation 4: box: expected x0 < x1"):
        found.sample(3)
    with pytest.raises(ValueError, match="annotation 5"):
        found.sample(4)


def test_the_first_images_are_the_annotated_ones_in_the_order_of_the_file(written):
    images = [{"id": n, "file_name": f"{n}.png", "width": 64, "height": 48} for n in (7, 2, 5, 3)]
    one = content()["annotations"][0]
    people = [one | {"id": i, "image_id": n} for i, n in enumerate((3, 7, 5, 7), 1)]
    pose_set = read_coco(written(content(images=images, annotations=people)))
    assert pose_set.first_images(2) == [7, 5]
    assert pose_set.first_images(9) == [7, 5, 3]
    assert pose_set.first_images(None) == [7, 2, 5, 3]


def test_one_category_is_chosen_by_name_or_number(written):
    other = {"id": 3, "name": "face", "keypoints": ["a", "b"]}
    face = {"id": 9, "image_id": 7, "category_id": 3, "bbox": [0, 0, 9, 9], "keypoints": [1, 1, 2, 2, 2, 2]}
    value = content()
    value["categories"].append(other)
    value["annotations"].append(face)
    path = written(value)
    with pytest.raises(ValueError, match=r"different keypoints .*choose one with .* or as .*#2 .newt"):
        read_coco(path)
    for named, chosen in ((path, 3), (path, "3"), (path, "face"), (f"{path}#3", None)):
        found = read_coco(named, category=chosen)
        assert [a.annotation_id for a in found.instances] == [9]
        assert [a["id"] for a in found.raw["annotations"]] == [9]
        assert [c["name"] for c in found.raw["categories"]] == ["face"]
    with pytest.raises(KeyError, match="no category 'fce'; nearest: face"):
        read_coco(path, category="fce")
    assert read_coco(f"{path}#newt").skeleton.keypoints != ("a", "b")
    with pytest.raises(KeyError, match="no category 'fce'; nearest: face"):
        read_coco(f"{path}#fce")


def test_categories_without_names_of_keypoints_get_numbers(written):
    value = content(categories=[{"id": 2, "name": "face"}])
    assert read_coco(written(value)).skeleton.keypoints == ("0", "1", "2")


def test_images_are_found_in_the_usual_places_and_in_flat_folders(written, tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "b.png", np.zeros((30, 40, 3), np.uint8))
    value = content(images=[{"id": 7, "file_name": "val/b.png", "width": 40, "height": 30}])
    path = tmp_path / "annotations" / "set.json"
    path.write_text(json.dumps(value))
    assert read_coco(path).sample(0).image.max() == 0
    assert read_coco(path, tmp_path / "images").sample(0).path == str(tmp_path / "images" / "b.png")


def test_a_name_with_its_folder_is_looked_for_there_before_its_last_part_is(tmp_path):
    (tmp_path / "annotations").mkdir()
    for grey, folder in enumerate(("train", "val"), 1):
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / "b.png", np.full((30, 40, 3), 50 * grey, np.uint8))
    value = content(images=[{"id": 7, "file_name": "train/b.png", "width": 40, "height": 30}])
    path = tmp_path / "annotations" / "val.json"
    path.write_text(json.dumps(value))
    found = read_coco(path)
    assert (found.sample(0).image.max(), found.folder_doubt) == (50, "")


def test_absent_images_are_listed_and_only_an_error_when_read(written):
    value = content(images=[{"id": 7, "file_name": "gone.png", "width": 40, "height": 30}])
    found = read_coco(written(value))
    assert [p.name for p in found.absent_images()] == ["gone.png"]
    with pytest.raises(FileNotFoundError, match=r"gone.png: no such image file"):
        found.sample(0)


def test_an_image_of_another_size_than_annotated_is_refused(written):
    value = content(images=[{"id": 7, "file_name": "a.png", "width": 41, "height": 30}])
    with pytest.raises(ValueError, match=r"a.png: is 40 x 30 pixels, but the annotations say 41 x 30"):
        read_coco(written(value)).sample(0)


def test_sizes_that_the_file_does_not_state_come_from_the_image(written):
    found = read_coco(written(content(images=[{"id": 7, "file_name": "a.png"}])))
    assert (found.images[7].width, found.images[7].height) == (40, 30)


def test_a_size_that_nobody_states_is_unknown_and_annotations_are_read_all_the_same(written):
    found = read_coco(written(content(images=[{"id": 7, "file_name": "gone.png", "width": 40}])))
    assert (found.images[7].width, found.images[7].height) == (None, None)
    assert found.instances[0].box == (5, 6, 25, 16)
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        found.sample(0)
    with pytest.raises(ValueError, match=r"the size of image 7 is unknown, .*--images"):
        whole_images(found)


BAD = {
    "[1, 2]": "expected a COCO annotation file",
    "no json": "expected JSON",
    "PK\x03\x04": "expected JSON, but it is compressed",
    "\udcff": "expected JSON",
    "[" * 100_000: "expected JSON, but it is nested too deep$",
    "1" * 5000: "expected JSON, but Exceeds the limit .* has 5000 digits$",
    "{}": "expected a list under 'images'",
    json.dumps({"images": [], "annotations": []}): "'categories'",
    json.dumps(content(categories=[], annotations=[])): "at least one category",
    json.dumps(content(categories=[{"id": 2, "name": "box"}], annotations=[])): "expected keypoints",
    json.dumps(content(categories=[{"id": "two"}, {"id": 2}])): "category two: expected a whole number",
    json.dumps(content(images=[{"id": 7, "width": 4, "height": 3}])): "image 7: expected a file_name",
    json.dumps(content(images=content()["images"] * 2)): "image 7: this id is repeated",
    json.dumps(annotation(keypoints=[1, 2])): "annotation 1: keypoints: expected 9 numbers, got 2",
    json.dumps(annotation(keypoints=[1, 2, 2] * 26)): "expected 9 numbers, got 78",
    json.dumps(annotation(keypoints=[10**400, *[0] * 8])): "annotation 1: keypoints: expected 9 numbers",
    json.dumps(annotation(keypoints=[float("nan"), 1, 2, *[0] * 6])): "expected finite numbers",
    json.dumps(annotation(keypoints=[None, 1, 2, *[0] * 6])): "got something else among them",
    json.dumps(annotation(keypoints=["x", *[0] * 8])): "expected 9 numbers, got something else",
    json.dumps(annotation(keypoints=["1_0", *[0] * 8])): "expected 9 numbers, got something else",
    json.dumps(annotation(iscrowd="0")): "annotation 1: expected iscrowd 0 or 1, got '0'",
    json.dumps(content(categories=[{"id": n} for n in range(2001)])): "2,001 categories; at most 2,000",
    json.dumps(annotation(keypoints=[1, 1, 5, *[0] * 6])): "expected visibility 0, 1 or 2, got 5",
    json.dumps(annotation(keypoints={"nose": [1, 2, 2]})): "expected 9 numbers, got dict",
    json.dumps([{"joints": [[1, 2]], "joints_vis": [1], "center": [3, 4]}]): "this is a list of MPII",
    json.dumps([{"data": {"image": "a.jpg"}, "annotations": []}]): "an export of Label Studio",
    json.dumps({"shapes": [], "imagePath": "a.jpg", "version": "5"}): "a file of LabelMe",
    json.dumps({"people": [], "version": 1.3}): "an output of OpenPose for one image",
    json.dumps({"_via_img_metadata": {}}): "a project of the VGG Image Annotator",
    json.dumps({"keypoint_names": [], "keypoint_visible": {}, "images": []}): "OCHuman's own format",
    '<?xml version="1.0"?><annotations><image id="0"/></annotations>': "this is an XML file of CVAT",
    "<\0\0\0\0\0\0\0{}": "expected JSON, but .utf-32",
    "scorer,x,x\nbodyparts,nose,nose\ncoords,x,y\n": "this is a table of DeepLabCut",
    "0 .5 .5 .2 .2 .41 .32 2\n0 .5 .5 .2 .2 .41 .32 2\n": "this is a label file of YOLO",
    json.dumps(annotation(image_id=8)): "annotation 1: names image 8",
    json.dumps(
        annotation(category_id=9) | {"categories": [*content()["categories"], {"id": 9, "name": "box"}]}
    ): "annotation 1: category 9",
    json.dumps(annotation(bbox=[1, 2, 3])): "annotation 1: bbox: expected 4 numbers, got 3",
    json.dumps(annotation(id=10**30)): "expected a whole number under 'id', got a number beyond 64 bits",
    json.dumps(annotation(keypoints=[True, *[0] * 8])): "expected 9 numbers, got something else",
    json.dumps(annotation(area=True)): "annotation 1: area: expected 1 numbers, got something else",
    json.dumps(annotation(id=True)): "expected a whole number under 'id', got True",
    json.dumps(annotation()).replace(
        '"category_id"', '"area": 1, "area": 2, "category_id"'
    ): "an object has 'area' twice",
    json.dumps(content())[:-1] + ', "annotations": []}': "an object has 'annotations' twice",
    "[" + "{}," * 400_000 + "{}]": "400,001 objects and 1 lists in",
    json.dumps(content(annotations=["x"])): "annotation at position 0: expected a whole number under 'id'",
}


@pytest.mark.parametrize("text", BAD, ids=list(range(len(BAD))))
def test_bad_files_are_refused_in_one_sentence_that_names_the_entry(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(ValueError, match=BAD[text].replace("(", r"\(")) as refused:
        read_coco(path)
    assert "bad.json" in str(refused.value)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    "name", ["../a.png", "/data/../etc/passwd", "x/../../a.png", "..\\a.png", "C:\\..\\a.png", "a\0.png", "/"]
)
def test_a_file_name_that_leaves_the_folder_is_refused(written, name):
    value = content(images=[{"id": 7, "file_name": name, "width": 40, "height": 30}])
    with pytest.raises(ValueError, match="leaves the images' folder"):
        read_coco(written(value))


def test_a_file_name_of_hundreds_of_folders_is_not_looked_up_from_each_of_them(written, monkeypatch):
    value = content(images=[{"id": 7, "file_name": "x/" * 700 + "a.png", "width": 40, "height": 30}])
    looked = []
    monkeypatch.setattr("workbench.data.image_folders._is_file", lambda file: looked.append(file) or False)
    with pytest.raises(ValueError, match=r"expected a file_name, got one of 700 folders"):
        read_coco(written(value))
    assert not looked


def test_a_missing_file_and_a_missing_folder_say_so(written, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent.json"):
        read_coco(tmp_path / "absent.json")
    with pytest.raises(FileNotFoundError, match="expected the folder"):
        read_coco(written(content()), tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("file", "skeleton", "instances", "labelled", "categories"),
    [
        ("coco/test_coco.json", "coco-17", 14, 12, 1),
        ("coco/test_coco_wholebody.json", "coco-17", 14, 12, 1),
        ("ap10k/test_ap10k.json", "ap10k-17", 2, 2, 54),
        ("animalpose/test_animalpose.json", "animalpose-20", 2, 2, 1),
        ("crowdpose/test_crowdpose.json", "crowdpose-14", 5, 4, 1),
    ],
)
def test_real_files_are_read_with_their_images(shared, file, skeleton, instances, labelled, categories):
    found = read_coco(shared / "data" / file)
    assert found.skeleton.name == skeleton
    assert (len(found), len(found.labelled), len(found.categories)) == (instances, labelled, categories)
    assert found.absent_images() == ()
    for sample in found.samples():
        H, W = sample.image.shape[:2]
        seen = sample.truth[sample.truth[:, 2] > 0]
        assert (seen[:, :2] >= 0).all()
        assert (seen[:, 0] <= W).all()
        assert (seen[:, 1] <= H).all()


def test_boxes_are_those_that_mmposes_own_data_set_reads(shared):
    pytest.importorskip("workbench.models.mmpose_compat").install()
    from mmpose.datasets.datasets.body import CocoDataset

    root = shared / "data" / "coco"
    theirs = CocoDataset(
        ann_file=str(root / "test_coco.json"), data_prefix={"img": str(root) + "/"}, test_mode=True
    )
    ours = read_coco(root / "test_coco.json")
    by_id = {a.annotation_id: a for a in ours.instances}
    assert {int(theirs[i]["id"]) for i in range(len(theirs))} == {
        ours.instances[i].annotation_id for i in ours.labelled
    }
    for i in range(len(theirs)):
        info = theirs[i]
        assert info["bbox"][0] == pytest.approx(by_id[int(info["id"])].box, abs=1e-3)
        assert info["keypoints"][0] == pytest.approx(by_id[int(info["id"])].truth[:, :2])


def test_a_sample_knows_the_other_labelled_instances_of_its_image(written):
    two = [annotation(id=n)["annotations"][0] for n in (1, 2)]
    crowd = annotation(id=3, iscrowd=1)["annotations"][0]
    found = read_coco(written(content(annotations=[*two, crowd])))
    assert [other.annotation_id for other in found.sample(0).others] == [2]
    assert [other.annotation_id for other in found.sample(-1).others] == [1, 2]
    assert found.sample(0).others[0].others == ()


@pytest.mark.parametrize("orientation", [2, 4, 5, 7])
def test_a_mirrored_picture_is_read_as_it_was_annotated(written, tmp_path, orientation):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    # Each of these mirrorings undoes itself.
    upright = {2: pixels[:, ::-1], 4: pixels[::-1], 5: pixels.swapaxes(0, 1),
               7: pixels[::-1, ::-1].swapaxes(0, 1)}[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    for shown in (upright, *([pixels] if orientation >= 5 else [])):
        height, width = shown.shape[:2]
        entry = {"id": 7, "file_name": "turned.png", "height": height, "width": width}
        found = read_coco(written(content(images=[entry])))
        assert (found.image(7) == shown).all()
        assert (found.sample(0).image == shown).all()


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_a_size_that_the_file_does_not_state_is_that_of_the_upright_picture(written, tmp_path, ending):
    from PIL import Image

    from workbench.data.images import read_image

    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter clockwise
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"turned.{ending}", exif=exif)
    found = read_coco(written(content(images=[{"id": 7, "file_name": f"turned.{ending}"}])))
    # As mmcv reads it: OpenCV decides which formats it turns.
    upright = read_image(tmp_path / f"turned.{ending}")
    assert (found.image(7) == upright).all()
    assert (found.images[7].height, found.images[7].width) == upright.shape[:2]


@pytest.mark.parametrize(
    ("annotations", "folders", "named", "read", "doubt"),
    [
        ("val.json", ("train", "val"), None, "val", ""),
        ("val.json", ("train", "val"), ".", "val", ""),
        ("val.json", ("train", "val"), "train", "train", ""),
        ("annotations/person_keypoints_val2017.json", ("train2017", "val2017"), None, "val2017", ""),
        ("annotations/val.json", ("images/train", "images/validation"), None, "images/validation", ""),
        ("annotations/kp_validation.json", ("train2017", "val2017"), ".", "val2017", ""),
        (
            "kp_val.json",
            ("train2017", "val2014", "val2017"),
            None,
            "train2017",
            "files of the same names lie in",
        ),
        ("gt.json", ("a", "b", "c"), None, "a", "folder a; other files of the same names lie in b, c: name"),
    ],
)
def test_of_folders_with_files_of_the_same_names_the_one_named_like_the_json_is_read(
    tmp_path, annotations, folders, named, read, doubt
):
    for grey, folder in enumerate(folders):
        (tmp_path / folder).mkdir(parents=True)
        write_image(tmp_path / folder / "a.png", np.full((30, 40, 3), 50 * grey, np.uint8))
    (tmp_path / annotations).parent.mkdir(exist_ok=True)
    (tmp_path / annotations).write_text(json.dumps(content()))
    found = read_coco(tmp_path / annotations, None if named is None else tmp_path / named)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert found.sample(0).image.max() == 50 * folders.index(read)
    assert [doubt in str(one.message) for one in said] == [True] * bool(doubt)
    report = lint(found)
    assert [one.finding.cause for one in report.found if "folder" in one.finding.cause] == [
        "folder of the images"
    ] * bool(doubt)


def test_numbers_of_large_files_are_the_same_and_equal_ones_are_one_object(written, monkeypatch):
    text = "[300, 1, 1.0, true, -0.0, 0.0, 300, 2.50, 2.5, 1e400, NaN, -7, 300, 99, 99]"
    file = written(text)
    plain = read_json(file)
    monkeypatch.setattr("workbench.data.coco._LARGE", 0)
    monkeypatch.setattr("workbench.data.coco._MOST_SHARED", 3)
    shared = read_json(file)
    assert [(type(v), repr(v)) for v in shared] == [(type(v), repr(v)) for v in plain]
    assert shared[0] is shared[6] is shared[12]
    file.write_text("[" + "1" * 5000 + "]")
    with pytest.raises(ValueError, match="expected JSON, but"):
        read_json(file)


def test_a_json_of_holes_is_refused_before_it_is_read(tmp_path, monkeypatch):
    file = tmp_path / "holes.json"
    file.write_text('{"images": []}')
    os.truncate(file, 1 << 31)
    monkeypatch.setattr(Path, "read_bytes", None)
    with pytest.raises(ValueError, match=r"holes\.json: expected JSON, but it ends in zero bytes"):
        read_json(file)
    os.truncate(file, (1 << 31) + 1)
    with pytest.raises(ValueError, match=r"holes\.json: JSON of 2,147,483,649 bytes is refused"):
        read_json(file)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"images": []}' + b"\0" * 9, "ends in zero bytes: it was not written whole"),
        (b"\xef\xbb\xbf[" + b"\0" * 9, "ends in zero bytes: it was not written whole"),
        (b"PK\x03\x04" + b"model" * 9 + b"\0\0", "holds binary data"),
        (b"\xff\xd8\xff\xe1\0picture", "holds binary data"),
        (b'{"images": [\0]}', "holds binary data"),
    ],
)
def test_a_binary_file_is_not_told_as_a_json_that_was_not_written_whole(tmp_path, content, why):
    """A checkpoint or a picture that was given for a json was."""
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"^a\.json: expected JSON, but it {why}$"):
        read_json(tmp_path / "a.json")


def test_a_file_of_a_million_categories_is_not_read_to_its_end(tmp_path):
    """80 MB of them took 7 s and 583 MB until they were counted."""
    file = tmp_path / "many.json"
    many = ", ".join(f'{{"id": {n}, "name": "a category of the file"}}' for n in range(20_001))
    file.write_text(f"[{many}, and no JSON behind them")
    with pytest.raises(ValueError, match=r"many\.json: more than 20,000 categories; at most 2,000 are read"):
        read_json(file)


def test_a_category_with_an_endless_name_is_refused_by_its_id(written):
    """A line of each table, page and report would hold 5 MB."""
    (one,) = content()["categories"]
    endless = content(categories=[{**one, "name": "n" * 5_000_000}])
    with pytest.raises(ValueError, match=r", category 2: expected a name, got one of 5,000,000 characters$"):
        read_coco(written(endless))
    longest = {**one, "name": "n" * 255}
    assert read_coco(written(content(categories=[longest]))).categories == {2: "n" * 255}


def test_two_categories_with_one_id_are_refused_unless_they_are_equal(written):
    (one,) = content()["categories"]
    assert read_coco(written(content(categories=[one, one]))).categories == {2: "newt"}
    with pytest.raises(ValueError, match="category 2: another category has this id"):
        read_coco(written(content(categories=[one, one | {"name": "frog"}])))


@pytest.mark.parametrize(
    ("limbs", "note"),
    [
        ([[1, 2], [0, 2], ["1", "2"], [2, 9]], "3 of 4 limbs under 'skeleton' are no pair of keypoint"),
        ("1-2", "1 of 1 limb under 'skeleton' is no pair of keypoint numbers from 1 to 3 and not drawn"),
        ([[1, 2]], None),
        (None, None),
    ],
)
def test_limbs_that_cannot_be_drawn_are_named(written, limbs, note):
    (one,) = content()["categories"]
    notes = read_coco(written(content(categories=[one | {"skeleton": limbs}]))).notes
    assert len(notes) == (note is not None)
    assert all(note in found for found in notes)
