import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from workbench.data.images import read_image, write_image
from workbench.data.video import VideoWriter, frames

TINY = Path(__file__).parents[1] / "adapters/tiny_heatmap.py"
MOVENET = Path(__file__).parents[1] / "adapters/movenet.py"
# Padding 1.25 is undone, so that crop and image are the same.
BOX = "4.8,6.4,43.2,57.6"


def lit(shift=0):
    image = np.zeros((64, 48, 3), np.uint8)
    image[20, 8 + shift, 0] = image[4, 36, 1] = 255
    return image


@pytest.fixture
def image(tmp_path):
    return write_image(tmp_path / "lit.png", lit())


def test_json_holds_instances_with_keypoints_scores_and_box(workbench, image):
    code, out, err = workbench("predict", "--adapter", TINY, "--image", image, "--box", BOX, "--json")
    assert code == 0, err
    facts = json.loads(out)
    (one,) = facts["instances"]
    np.testing.assert_allclose(one["keypoints"], [[8, 20], [36, 4]], atol=1e-4)
    np.testing.assert_allclose(one["scores"], [1, 1], atol=1e-4)
    assert one["box"] == [4.8, 6.4, 43.2, 57.6]
    assert one["score"] == pytest.approx(1, abs=1e-4)
    assert facts["skeleton"]["keypoints"] == ["red", "green"]


def test_a_box_is_heeded_by_the_demo_too(workbench, image):
    code, out, err = workbench("predict", "--demo", "--image", image, "--box", BOX, "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["boxes"] == "drawn"
    assert facts["instances"][0]["box"] == [4.8, 6.4, 43.2, 57.6]


def test_a_keypoint_that_was_not_given_is_null(workbench, tmp_path):
    dark = write_image(tmp_path / "dark.png", np.zeros((64, 48, 3), np.uint8))
    code, out, _ = workbench("predict", "--adapter", TINY, "--image", dark, "--json")
    assert code == 0
    assert json.loads(out)["instances"][0]["keypoints"] == [[None, None], [None, None]]


def test_a_folder_gives_an_instance_for_each_image_and_a_folder_of_drawings(workbench, tmp_path, image):
    write_image(tmp_path / "second.png", lit(8))
    code, out, err = workbench(
        "predict", "--adapter", TINY, "--image", tmp_path, "--box", BOX, "--out", tmp_path / "drawn", "--json"
    )
    assert code == 0, err
    found = {Path(i["image"]).name: i["keypoints"][0] for i in json.loads(out)["instances"]}
    np.testing.assert_allclose([found["lit.png"], found["second.png"]], [[8, 20], [16, 20]], atol=1e-4)
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == ["lit.png", "second.png"]
    assert read_image(tmp_path / "drawn/lit.png")[20, 8].max() > 150


def test_a_link_in_the_folder_of_drawings_is_replaced_and_not_written_through(workbench, tmp_path):
    for folder in ("in", "drawn"):
        (tmp_path / folder).mkdir()
    write_image(tmp_path / "in/lit.png", lit())
    own = tmp_path / "own.txt"
    own.write_text("own")
    (tmp_path / "drawn/lit.png").symlink_to(own)
    words = ["--image", tmp_path / "in", "--box", BOX, "--out", tmp_path / "drawn"]
    assert workbench("predict", "--adapter", TINY, *words)[0] == 0
    assert (own.read_text(), (tmp_path / "drawn/lit.png").is_symlink()) == ("own", False)


def test_images_of_one_name_in_two_folders_are_drawn_into_two_files(workbench, tmp_path):
    for place in ("horse/0001.png", "zebra/0001.png", "zebra/0002.png"):
        (tmp_path / "in" / place).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / "in" / place, lit())
    write_image(tmp_path / "in/zebra/0001.bmp", lit())
    words = ["--image", tmp_path / "in", "--out", tmp_path / "drawn"]
    code, _, err = workbench("predict", "--adapter", TINY, *words)
    assert code == 0, err
    assert sorted(p.stem for p in (tmp_path / "drawn").iterdir()) == [
        "0002", "horse_0001", "zebra_0001", "zebra_0001_2"
    ]  # fmt: skip


def test_nothing_is_drawn_over_what_it_was_drawn_on(workbench, tmp_path, image):
    before = image.read_bytes()
    for out in (image, tmp_path):
        code, _, err = workbench("predict", "--adapter", TINY, "--image", tmp_path, "--out", out)
        assert code == 2
        assert "would be drawn over" in err
    assert image.read_bytes() == before


def test_where_to_write_is_looked_at_before_anything_is_predicted(workbench, tmp_path, image, monkeypatch):
    monkeypatch.setattr(
        importlib.import_module("workbench.evaluation.predict"), "predict_pictures", None
    )  # to call it is an error
    (tmp_path / "file").touch()
    for out, said in (
        (tmp_path / "no/found.json", "no such folder"),
        (tmp_path / "no/found.png", "no such folder"),
        (tmp_path / "file", "expected a folder"),
    ):
        code, _, err = workbench("predict", "--adapter", TINY, "--image", image, "--out", out)
        assert (code, said in err) == (2, True), err


def test_every_0th_frame_is_none(workbench, tmp_path, image):
    with VideoWriter(tmp_path / "in.avi", 10) as video:
        video.write(lit())
    words = ["--image", tmp_path / "in.avi", "--every", "0", "--out", tmp_path / "out.avi"]
    code, _, err = workbench("predict", "--adapter", TINY, *words)
    assert code == 2
    assert "--every" in err


def test_a_video_becomes_a_video_with_the_keypoints_on_it(workbench, tmp_path):
    with VideoWriter(tmp_path / "in.avi", 10) as video:
        for number in range(6):
            frame = np.zeros((64, 48, 3), np.uint8)
            # Blocks of 8 pixels: Motion JPEG smears the colours of single ones.
            frame[16:24, 4 * number : 4 * number + 8, 0] = frame[0:8, 32:40, 1] = 255
            video.write(frame)
    code, out, err = workbench(
        "predict", "--adapter", TINY, "--image", tmp_path / "in.avi", "--box", BOX, "--every", 2,
        "--out", tmp_path / "out.avi", "--json",
    )  # fmt: skip
    assert code == 0, err
    instances = json.loads(out)["instances"]
    assert [i["frame"] for i in instances] == [0, 2, 4]
    assert instances[1]["seconds"] == pytest.approx(0.2)
    red = np.array([i["keypoints"][0] for i in instances])
    left = np.array([0, 8, 16])
    assert (red[:, 0] >= left).all()
    assert (red[:, 0] <= left + 8).all()
    assert ((red[:, 1] >= 16) & (red[:, 1] <= 24)).all()
    assert len(list(frames(tmp_path / "out.avi"))) == 3


def test_predictions_are_written_as_json(workbench, tmp_path, image):
    out = tmp_path / "predictions.json"
    code, said, err = workbench("predict", "--adapter", TINY, "--image", image, "--out", out)
    assert code == 0, err
    assert "1 instance in 1 image; boxes: whole image" in said
    assert len(json.loads(out.read_text())["instances"]) == 1


def test_boxes_of_a_detection_file_go_by_the_number_in_the_name(workbench, tmp_path):
    path = write_image(tmp_path / "000000000007.png", lit())
    found = [
        {"image_id": 7, "category_id": 1, "bbox": [4.8, 6.4, 38.4, 51.2], "score": 0.9},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 10, 10], "score": 0.1},
        {"image_id": 8, "category_id": 1, "bbox": [0, 0, 10, 10], "score": 0.9},
    ]
    (tmp_path / "found.json").write_text(json.dumps(found))
    code, out, err = workbench(
        "predict", "--adapter", TINY, "--image", path, "--boxes", tmp_path / "found.json", "--json"
    )
    assert code == 0, err
    (one,) = json.loads(out)["instances"]
    np.testing.assert_allclose(one["keypoints"], [[8, 20], [36, 4]], atol=1e-4)
    assert one["score"] == pytest.approx(0.9, abs=1e-3)


def test_a_trained_network_on_a_real_photograph(workbench, shared, tmp_path):
    code, out, err = workbench(
        "predict", shared / "data/weights/movenet_mbv3.pth", "--adapter", MOVENET, "--image",
        shared / "data/coco/000000000785.jpg", "--box", "280,44,499,389", "--flip", "--json",
        "--out", tmp_path / "skier.png",
    )  # fmt: skip
    assert code == 0, err
    (one,) = json.loads(out)["instances"]
    nose = np.array(one["keypoints"][0])
    assert np.hypot(*(nose - [367, 81])) < 12
    assert one["score"] > 0.5
    assert read_image(tmp_path / "skier.png").shape == (425, 640, 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "expected a checkpoint, --adapter, or --demo"),
        (("--adapter", TINY), "expected at least one --image"),
        (("--adapter", TINY, "--image", "nowhere.png"), "nowhere.png"),
        (("--adapter", "nowhere.py", "--image", "IMAGE"), "no such file or folder nowhere.py"),
        (("--adapter", TINY, "--image", "IMAGE", "--box", "1,2,3"), "expected x0,y0,x1,y1"),
        (("--adapter", TINY, "--image", "IMAGE", "--box", "5,5,5,9"), "expected x0 < x1"),
        (
            ("--adapter", TINY, "--image", "IMAGE", "--box", "1,2,3,4", "--boxes", __file__),
            "exclude each other",
        ),
        (("--adapter", TINY, "--image", "IMAGE", "--decoder", "simcc"), "argmax, quarter, dark, udp"),
        (("--adapter", TINY, "--image", "IMAGE", "--out", "x.gif"), "expected .json, an image, a video"),
        (("--adapter", TINY, "--image", "IMAGE", "--out", "x.mp4"), "expected one video in"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(workbench, image, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = workbench("predict", *[image if word == "IMAGE" else word for word in words])
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1, err
    assert said in err


def test_doctor_explains_an_error(workbench):
    message = "mat1 and mat2 shapes cannot be multiplied (136x8 and 64x256)"
    code, out, _ = workbench("doctor", "--error", message, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["known"] is True
    assert facts["version"] is False
    assert "without being flattened" in facts["cause"]


def test_doctor_says_when_it_does_not_know(workbench):
    code, out, _ = workbench("doctor", "--error", "IndexError: list index out of range")
    assert code == 0
    assert "this message is not known" in out
    assert workbench("doctor", "--error", " ")[0] == 2


def test_doctor_leaves_with_1_when_something_is_broken(workbench, monkeypatch):
    from workbench import doctor
    from workbench.doctor.examination import Examination, Problem

    broken = Problem("setuptools and mmengine", "broken", "setuptools 82", "pkg_resources", "downgrade")
    found = Examination("3.11.7", "Linux", "CPU", {"torch": "2.13.0"}, (broken,))
    monkeypatch.setattr(doctor, "examine", lambda: found)
    code, out, _ = workbench("doctor", "--json")
    facts = json.loads(out)
    assert code == 1
    assert facts["packages"] == {"torch": "2.13.0"}
    assert facts["problems"][0]["status"] == "broken"
    assert "BROKEN" in workbench("doctor")[1]
