"""ONNX graphs built by hand, whose answers are known."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from workbench.models import open_model
from workbench.models.exported import ordered
from workbench.records import NotAvailable, Sample
from workbench.run import run

ONE = [("one", np.ones(1, np.float32))]


def write(path, nodes, inputs, outputs, weights=(), checked=True):
    graph = helper.make_graph(
        nodes, "pose",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs],
        [helper.make_tensor(n, TensorProto.FLOAT, a.shape, a.ravel().tolist()) for n, a in weights],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if checked:
        onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def heatmap_file(path, batch="N", size=(64, 48), last=False):
    """Map 0 is the red channel at a quarter of the size, map 1 the green one."""
    pick = np.eye(2, 3, dtype=np.float32)[..., None, None]
    h, w = size
    shape = [batch, h, w, 3] if last else [batch, 3, h, w]
    turn = [helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2])] if last else []
    nodes = [
        *turn,
        helper.make_node("Conv", ["planes" if last else "pixels", "pick"], ["picked"]),
        helper.make_node("MaxPool", ["picked"], ["maps"], kernel_shape=[4, 4], strides=[4, 4]),
    ]
    return write(path, nodes, [("pixels", shape)], [("maps", [batch, 2, h // 4, w // 4])], [("pick", pick)])


def simcc_file(path, swapped=False):
    """Two keypoints: column and row maxima of red and green, one bin per pixel."""
    pick = np.eye(2, 3, dtype=np.float32)[..., None, None]
    nodes = [
        helper.make_node("Conv", ["pixels", "pick"], ["picked"]),
        helper.make_node("ReduceMax", ["picked"], ["x"], axes=[2], keepdims=0),
        helper.make_node("ReduceMax", ["picked"], ["y"], axes=[3], keepdims=0),
    ]
    outputs = [("x", ["N", 2, 48]), ("y", ["N", 2, 64])]
    return write(
        path, nodes, [("pixels", ["N", 3, 64, 48])], outputs[::-1] if swapped else outputs, [("pick", pick)]
    )


def lit():
    """An image whose red pixel is in heatmap cell (2, 5), its green one in (9, 1)."""
    image = np.zeros((64, 48, 3), np.uint8)
    image[20, 8, 0] = image[4, 36, 1] = 255
    # Padding 1.25 is undone, so that crop and image are the same.
    return Sample(image, (24 - 19.2, 32 - 25.6, 24 + 19.2, 32 + 25.6))


@pytest.mark.parametrize("options", [{}, {"batch": 1}, {"last": True}, {"batch": 4}, {"batch": 2}])
def test_heatmaps_of_an_onnx_file_by_hand(tmp_path, options):
    opened = open_model(heatmap_file(tmp_path / "pose.onnx", **options))
    done = run(opened.model, [lit()] * 5)
    assert done.heatmaps.shape == (5, 2, 16, 12)
    # The peak's neighbours are equal, so the quarter offset is nought.
    np.testing.assert_allclose(done.keypoints, [[[8, 20], [36, 4]]] * 5, atol=1e-5)
    assert opened.load is None
    assert opened.loaded_fraction == 1


@pytest.mark.parametrize("swapped", [False, True])
def test_simcc_vectors_are_told_apart_by_their_length(tmp_path, swapped):
    opened = open_model(simcc_file(tmp_path / "pose.onnx", swapped))
    done = run(opened.model, [lit()])
    np.testing.assert_allclose(done.keypoints, [[[8, 20], [36, 4]]], atol=1e-5)
    assert opened.model.codec.split_ratio == 1


def test_what_had_to_be_assumed_is_said(tmp_path):
    opened = open_model(heatmap_file(tmp_path / "pose.onnx"))
    assert "normalisation assumed" in opened.note
    assert "2 keypoints: they are numbered" in opened.note
    assert opened.model.skeleton.keypoints == ("keypoint 0", "keypoint 1")


def test_mmdeploys_description_beside_the_file_is_used(tmp_path):
    steps = [
        {"type": "TopDownGetBboxCenterScale", "padding": 1.0, "image_size": [48, 64]},
        {"type": "TopDownAffine", "image_size": [48, 64]},
        {"type": "Normalize", "mean": [0, 0, 0], "std": [255, 255, 255], "to_rgb": True},
    ]
    decode = {"type": "SimCCLabel", "input_size": [48, 64], "sigma": [4.9, 5.66], "simcc_split_ratio": 1.0}
    pipeline = {
        "pipeline": {"tasks": [{"transforms": steps}, {"component": "SimCCLabelDecode", "params": decode}]}
    }
    (tmp_path / "pipeline.json").write_text(json.dumps(pipeline))
    opened = open_model(simcc_file(tmp_path / "pose.onnx"))
    assert opened.model.padding == 1
    assert opened.model.codec.sigma == (4.9, 5.66)
    assert "assumed" not in opened.note
    assert run(opened.model, [lit()]).simcc[0].max() == pytest.approx(1, abs=0.5)


def test_an_onnx_file_has_no_taps_and_says_why(tmp_path):
    opened = open_model(heatmap_file(tmp_path / "pose.onnx"))
    with pytest.raises(NotAvailable, match="without named modules"):
        run(opened.model, [lit()], record=["stem"])
    assert run(opened.model, [lit()], record=["*"]).activations == {}


def test_other_outputs_are_refused_with_their_shapes(tmp_path):
    nodes = [
        helper.make_node("Mul", ["pixels", "one"], ["same"]),
        helper.make_node("Flatten", ["same"], ["flat"]),
    ]
    path = write(tmp_path / "boxes.onnx", nodes, [("pixels", [1, 3, 8, 8])], [("flat", [1, 192])], ONE)
    with pytest.raises(NotAvailable, match=r"\(1, 192\).*--adapter"):
        open_model(path)


def test_an_open_input_size_asks_for_a_config(tmp_path):
    nodes, size = [helper.make_node("Mul", ["pixels", "one"], ["maps"])], ["N", 3, "H", "W"]
    path = write(tmp_path / "any.onnx", nodes, [("pixels", size)], [("maps", size)], ONE)
    with pytest.raises(NotAvailable, match=r"input size.*--config"):
        open_model(path)


def test_a_graph_that_onnxruntime_refuses_is_one_sentence(tmp_path):
    nodes = [
        helper.make_node("Sqrtt", ["pixels"], ["maps"]),
        helper.make_node("Mul", ["maps", "one"], ["same"]),
    ]
    path, shape = tmp_path / "odd.onnx", [1, 3, 8, 8]
    write(path, nodes, [("pixels", shape)], [("same", shape)], ONE, checked=False)
    with pytest.raises(ValueError, match=r"odd\.onnx: onnxruntime refuses it"):
        open_model(path)


def test_maps_and_vectors_together_are_not_guessed_at():
    with pytest.raises(NotAvailable):
        ordered([torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 8), torch.zeros(1, 2, 8)], (4, 4))
