"""Detectors whose right answer is known: tiny ONNX graphs built here."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from workbench.core import NotAvailable
from workbench.data.detectors import (
    COCO_ANIMALS,
    MOST_BOXES,
    PERSON,
    boxes_in_image,
    boxes_of_rows,
    labels_for,
    letterboxed,
    open_detector,
    without_overlaps,
)


def save(path, nodes, outputs, constants, size=(32, 48)):
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, *size])],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.fixture
def suppressed(tmp_path):
    """dets + labels: a box that runs from the first pixel's (B, G) to 30, 30, and one of another class."""

    def build(name="rtmdet.onnx", first="Conv"):
        constants = {
            "kernel": np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1),
            "zero": np.zeros(2, np.int64),
            "one": np.ones(2, np.int64),
            "axes": np.array([2, 3], np.int64),
            "two": np.array([2], np.int64),
            "nought": np.array([0], np.int64),
            "channel": np.array([1], np.int64),
            "flat": np.array([1, 1, 2], np.int64),
            "rest": np.array([[[30, 30, 0.9]]], np.float32),
            "more": np.array([[[1, 1, 9, 9, 0.8], [2, 2, 12, 8, 0.6], [3, 3, 9, 9, 0.2]]], np.float32),
            "classes": np.array([[0, 1, 0, 0]], np.int64),
        }
        take = helper.make_node("Slice", ["image", "zero", "one", "axes"], ["pixel"])
        if first == "Conv":
            head = [helper.make_node("Conv", ["input", "kernel"], ["image"]), take]
        else:
            take = helper.make_node("Slice", ["input", "zero", "one", "axes"], ["cut"])
            head = [take, helper.make_node("Conv", ["cut", "kernel"], ["pixel"])]
        nodes = [
            *head,
            helper.make_node("Slice", ["pixel", "nought", "two", "channel"], ["bg"]),
            helper.make_node("Reshape", ["bg", "flat"], ["corner"]),
            helper.make_node("Concat", ["corner", "rest"], ["best"], axis=2),
            helper.make_node("Concat", ["best", "more"], ["dets"], axis=1),
            helper.make_node("Identity", ["classes"], ["labels"]),
        ]
        outputs = [("dets", TensorProto.FLOAT, [1, 4, 5]), ("labels", TensorProto.INT64, [1, 4])]
        return save(tmp_path / name, nodes, outputs, constants)

    return build


def test_rtmdet_gets_normalised_bgr_and_its_boxes_come_back_in_image_pixels(suppressed):
    image = np.zeros((64, 96, 3), np.uint8)  # twice the input: ratio 1/2
    image[:] = (10, 220, 180)  # red, green, blue
    detector = open_detector(suppressed())
    assert detector.title.startswith("rtmdet.onnx (rtmdet: BGR, ImageNet mean and deviation, 32 x 48")
    (best, score), (second, low) = detector(image)
    blue, green = (180 - 103.53) / 57.375, (220 - 116.28) / 57.12
    assert best == pytest.approx((2 * blue, 2 * green, 60, 60), abs=1e-4)
    assert score == pytest.approx(0.9)
    assert second == (4, 4, 24, 16)
    assert low == pytest.approx(0.6)


def test_other_labels_and_thresholds(suppressed):
    image = np.full((32, 48, 3), 130, np.uint8)
    assert [s for _, s in open_detector(suppressed(), labels=(1,))(image)] == pytest.approx([0.8])
    assert len(open_detector(suppressed(), threshold=0.1)(image)) == 3
    assert open_detector(suppressed(), labels=(7,))(image) == []


def test_a_graph_that_starts_by_slicing_is_yolox_and_gets_plain_bgr(suppressed):
    image = np.full((32, 48, 3), (10, 12, 11), np.uint8)
    detector = open_detector(suppressed("any.onnx", first="Slice"))
    assert "yolox: plain BGR" in detector.title
    assert detector(image)[0][0] == pytest.approx((11, 12, 30, 30))
    stated = open_detector(suppressed("any.onnx", first="Slice"), kind="rtmdet")
    assert "ImageNet" in stated.title


def test_more_boxes_than_any_image_has_are_refused_before_each_is_passed():
    """A file of 500 bytes gave 300,000 of them: more than 30 s of forward passes."""
    boxes = np.tile([1.0, 2, 9, 9], (MOST_BOXES + 1, 1))
    assert len(boxes_in_image(boxes[1:], np.ones(MOST_BOXES), 1.0, (32, 48, 3))) == MOST_BOXES
    with pytest.raises(ValueError, match=r"2,001 boxes in one image reach the score; expected at most 2,000"):
        boxes_in_image(boxes, np.ones(MOST_BOXES + 1), 1.0, (32, 48, 3))


@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (4,)], ids=str)
def test_labels_of_another_number_than_the_boxes_are_refused(tmp_path, shape):
    """One label for all boxes would be spread over them in silence."""
    constants = {
        "kernel": np.zeros((1, 3, 32, 48), np.float32),
        "boxes": np.array([[[1, 1, 9, 9, 0.8]] * 4], np.float32),
        "labels": np.zeros(shape, np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["nothing"]),
        helper.make_node("Squeeze", ["nothing"], ["zero"]),
        helper.make_node("Add", ["boxes", "zero"], ["dets"]),
    ]
    outputs = [("dets", TensorProto.FLOAT, [1, 4, 5]), ("labels", TensorProto.INT64, list(shape))]
    detector = open_detector(save(tmp_path / "a.onnx", nodes, outputs, constants))
    with pytest.raises(ValueError, match=r"expected dets \[1, N, 5\] with labels \[1, N\]"):
        detector(np.zeros((32, 48, 3), np.uint8))


def rows():
    """Raw rows for a 32 x 32 input: 16 cells of 8, 4 of 16, 1 of 32 pixels; two classes."""
    found = np.zeros((21, 7), np.float32)
    found[:, 2:4] = -1
    found[9] = (0.5, 0.25, np.log(2), np.log(1.5), 0.9, 0.8, 0.1)  # cell x 1, y 2 of stride 8
    found[10] = (-0.5, 0.25, np.log(2), np.log(1.4), 0.9, 0.6, 0.1)  # nearly the same box from its neighbour
    found[20] = (0.5, 0.5, np.log(0.9), np.log(0.9), 0.8, 0.0, 0.9)  # stride 32, class 1
    return found


def test_raw_rows_by_hand():
    boxes, scores, labels = boxes_of_rows(rows(), (32, 32), (0, 1), 0.3, 0.45)
    # (1 + .5) * 8 = 12, (2 + .25) * 8 = 18, sizes 16 x 12; the neighbour is suppressed.
    assert boxes[0] == pytest.approx((4, 12, 20, 24), abs=1e-5)
    assert boxes[1] == pytest.approx((1.6, 1.6, 30.4, 30.4), abs=1e-5)
    assert scores == pytest.approx([0.72, 0.72])
    assert labels.tolist() == [0, 1]
    assert len(boxes_of_rows(rows(), (32, 32), (0,), 0.3, 0.99)[0]) == 2


def test_rows_that_are_decoded_already_are_taken_as_they_are():
    found = np.zeros((21, 6), np.float32)
    found[:, 2:4] = 1
    found[3] = (12, 18, 16, 12, 0.9, 0.8)
    boxes, scores, _ = boxes_of_rows(found, (32, 32), (0,), 0.3, 0.45)
    assert boxes.tolist() == [[4, 12, 20, 24]]
    assert scores == pytest.approx([0.72])


def test_yolox_as_it_exports_itself(tmp_path):
    nodes = [
        helper.make_node("ReduceSum", ["input", "axes"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "nought"], ["nothing"]),
        helper.make_node("Add", ["rows", "nothing"], ["output"]),
    ]
    constants = {"rows": rows()[None], "axes": np.arange(4), "nought": np.float32(0)}
    outputs = [("output", TensorProto.FLOAT, [1, 21, 7])]
    detector = open_detector(save(tmp_path / "net.onnx", nodes, outputs, constants, (32, 32)))
    assert "yolox" in detector.title
    ((box, score),) = detector(np.zeros((64, 32, 3), np.uint8))  # ratio 1/2
    assert box == pytest.approx((8, 24, 32, 48), abs=1e-4)  # 40 is cut at the border
    assert score == pytest.approx(0.72)


def test_letterbox_fills_with_grey_to_the_right_and_below():
    framed, ratio = letterboxed(np.zeros((10, 40, 3), np.uint8), (20, 20))
    assert ratio == 0.5
    assert (framed[:5] == 0).all()
    assert (framed[5:] == 114).all()


def test_suppression_by_hand():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [20, 20, 30, 30]], float)
    scores = np.array([0.5, 0.9, 0.1])
    assert without_overlaps(boxes, scores, 0.7) == [1, 2]
    assert without_overlaps(boxes, scores, 0.8) == [1, 0, 2]
    assert without_overlaps(np.zeros((0, 4)), np.zeros(0), 0.5) == []


def test_wrong_numbers_of_rows_are_told():
    with pytest.raises(ValueError, match=r"expected 21 rows for 32 x 32 pixels.* got 20"):
        boxes_of_rows(np.zeros((20, 6)), (32, 32), (0,), 0.3, 0.5)


def test_files_that_are_no_detector_are_refused_in_one_sentence(tmp_path, suppressed):
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(ValueError, match=r"bad.onnx: onnxruntime refuses it"):
        open_detector(tmp_path / "bad.onnx")
    with pytest.raises(FileNotFoundError, match=r"absent.onnx"):
        open_detector(tmp_path / "absent.onnx")
    (tmp_path / "net.pth").write_bytes(b"")
    with pytest.raises(ValueError, match=r"expected an .onnx file or an mmdet config"):
        open_detector(tmp_path / "net.pth")
    with pytest.raises(ValueError, match="kind"):
        open_detector(suppressed(), kind="yolo")
    nodes = [helper.make_node("Identity", ["input"], ["maps"])]
    path = save(tmp_path / "pose.onnx", nodes, [("maps", TensorProto.FLOAT, [1, 3, 32, 48])], {})
    with pytest.raises(ValueError, match=r"expected dets .* got maps \[1, 3, 32, 48\]"):
        open_detector(path)(np.zeros((32, 48, 3), np.uint8))


def test_an_mmdet_config_without_mmdet_says_what_to_do(tmp_path):
    import importlib.util

    if importlib.util.find_spec("mmdet") is not None:
        pytest.skip("mmdet is installed here")
    (tmp_path / "net.py").write_text("raise SystemExit('never run')")
    with pytest.raises(NotAvailable, match="mmdet is not installed"):
        open_detector(tmp_path / "net.py")


def test_labels_follow_the_skeleton():
    from workbench.skeletons import SKELETONS, skeleton_for

    assert labels_for(SKELETONS["coco-17"]) == PERSON
    assert labels_for(SKELETONS["ap10k-17"]) == COCO_ANIMALS
    assert set(labels_for(skeleton_for(["withers", "hoof"]))) == {0, *COCO_ANIMALS}


@pytest.fixture
def end_to_end(tmp_path):
    """As mmdeploy publishes detectors: opset 11, free axes, suppression by an operator inside the graph."""
    boxes = np.array([[[2, 2, 12, 12], [2, 2, 12, 11], [20, 4, 30, 28]]], np.float32)
    constants = {
        "boxes": boxes,
        "scores": np.array([[[0.9, 0.8, 0.4], [0.1, 0.1, 0.7]]], np.float32),
        "most": np.array([200], np.int64),
        "overlap": np.array([0.65], np.float32),
        "least": np.array([0.05], np.float32),
        "class_column": np.array([1], np.int64),
        "box_column": np.array([2], np.int64),
        "flat": np.array([-1], np.int64),
        "batch": np.array([0], np.int64),
        "nought": np.float32(0),
        "box_table": boxes[0],
        "score_table": np.array([[0.9, 0.1], [0.8, 0.1], [0.4, 0.7]], np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["input", "kernel"], ["seen"]),
        node("ReduceMean", ["seen"], ["mean"], keepdims=0),
        node("Mul", ["mean", "nought"], ["nothing"]),
        node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["chosen"]),
        node("Gather", ["chosen", "class_column"], ["classes"], axis=1),
        node("Reshape", ["classes", "flat"], ["class_list"]),
        node("Gather", ["chosen", "box_column"], ["places"], axis=1),
        node("Reshape", ["places", "flat"], ["place_list"]),
        node("Gather", ["box_table", "place_list"], ["found"], axis=0),
        node("Concat", ["places", "classes"], ["pairs"], axis=1),
        node("GatherND", ["score_table", "pairs"], ["rated"]),
        node("Unsqueeze", ["rated"], ["rated_column"], axes=[1]),
        node("Concat", ["found", "rated_column"], ["rows"], axis=1),
        node("Unsqueeze", ["rows"], ["clean"], axes=[0]),
        node("Add", ["clean", "nothing"], ["dets"]),
        node("Unsqueeze", ["class_list"], ["labels"], axes=[0]),
    ]
    constants["kernel"] = np.zeros((1, 3, 1, 1), np.float32)
    graph = helper.make_graph(
        nodes,
        "end2end",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [
            helper.make_tensor_value_info("dets", TensorProto.FLOAT, ["batch", "num_dets", 5]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["batch", "num_dets"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    model.ir_version = 6
    onnx.checker.check_model(model)
    onnx.save(model, tmp_path / "end2end.onnx")
    return tmp_path / "end2end.onnx"


def test_suppression_inside_the_graph_at_the_usual_size(end_to_end):
    detector = open_detector(end_to_end)
    assert "rtmdet: BGR, ImageNet mean and deviation, 640 x 640" in detector.title
    image = np.zeros((320, 160, 3), np.uint8)  # ratio 2
    (first, high), (second, low) = detector(image)
    assert (first, second) == ((1, 1, 6, 6), (10, 2, 15, 14))
    assert (high, low) == pytest.approx((0.9, 0.4))
    assert [score for _, score in open_detector(end_to_end, labels=(1,))(image)] == pytest.approx([0.7])
