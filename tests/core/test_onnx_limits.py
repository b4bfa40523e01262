"""What an ONNX graph may take, whatever its name, its batch and what images show."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402

from workbench.checkpoints import open_checkpoint  # noqa: E402
from workbench.core import onnx_graph  # noqa: E402


def saved(path, nodes, batch, weights=()):
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        list(weights),
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def numbers_for_the_brightest(path):
    """The mean of each image, as many times as the brightest pixel of all says; the sum of them."""
    one = helper.make_tensor("one", TensorProto.INT64, (1,), [1])
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["count"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["count", "last"], ["counts"]),
        helper.make_node("Concat", ["one", "counts"], ["shape"], axis=0),
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMean", ["mean"], ["means"], axes=[1], keepdims=1),
        helper.make_node("Expand", ["means", "shape"], ["many"]),
        helper.make_node("ReduceSum", ["many", "one"], ["y"], keepdims=0),
    ]
    return saved(path, nodes, "N", [one, helper.make_tensor("last", TensorProto.INT64, (1,), [0])])


def images(*brightest):
    array = np.zeros((len(brightest), 3, 8, 8), np.float32)
    array[:, 0, 0, 0] = brightest
    return {"x": array}


def test_an_image_that_asks_for_gigabytes_is_refused_though_a_blank_one_asks_for_nothing(tmp_path):
    path = numbers_for_the_brightest(tmp_path / "grows.onnx")
    opened = onnx_graph.session(path)
    assert onnx_graph.outputs(opened, path, images(1920.0))[0].tolist() == [pytest.approx(1920 * 10.0)]
    with pytest.raises(ValueError, match=r"grows\.onnx: one image takes more memory than its file allows"):
        onnx_graph.outputs(opened, path, images(float(1 << 30)))
    # Waiting threads sleep: spinning took a third of a pose network's processor time again.
    assert opened.get_session_options().get_session_config_entry("session.intra_op.allow_spinning") == "0"
    # The session answers as before.
    assert onnx_graph.outputs(opened, path, images(1920.0))[0].tolist() == [pytest.approx(1920 * 10.0)]


def test_images_that_take_too_much_together_are_read_one_after_the_other(tmp_path, monkeypatch):
    path = numbers_for_the_brightest(tmp_path / "grows.onnx")
    monkeypatch.setattr(onnx_graph, "_tried", lambda *_: "")
    monkeypatch.setattr(onnx_graph, "TRY_MEMORY", 40 << 20)
    opened = onnx_graph.session(path)
    count = float(1 << 22)  # 16 MB an image, 48 MB together
    found = onnx_graph.outputs(opened, path, images(count, count, count))[0]
    np.testing.assert_allclose(found, count * count / 192, rtol=0.01)  # 4 million float32 are added
    assert found.shape == (3,)


def test_a_fixed_batch_of_gigabytes_is_refused_before_it_is_made(tmp_path):
    path = saved(tmp_path / "batch.onnx", [helper.make_node("Relu", ["x"], ["y"])], 1_000_000)
    with pytest.raises(ValueError, match=r"takes \[1000000, 3, 8, 8\], 1.9e\+08 numbers at once"):
        onnx_graph.session(path)


@pytest.mark.parametrize("ending", ["textproto", "pbtxt", "onnxtxt", "onnxjson", "json", "ort"])
def test_an_onnx_file_is_read_as_one_whatever_its_name_ends_with(tmp_path, ending):
    """By onnxruntime, too, which reads a format of its own from a name that ends in .ort."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, (3, 3, 1, 1), [0.0] * 9)
    path = saved(tmp_path / f"m.{ending}", [helper.make_node("Conv", ["x", "w"], ["y"])], 1, [weight])
    assert open_checkpoint(path).tensors["w"].shape == (3, 3, 1, 1)
    assert onnx_graph.output_names(onnx_graph.session(path), path) == ["y"]
    path.write_bytes(b"\x08garbage \x01 { text")
    with pytest.raises(ValueError, match=rf"m\.{ending} is no ONNX model, or it is cut off or damaged"):
        open_checkpoint(path)


@pytest.mark.parametrize("name", [b"relu-of-x", b"metadata-key", b"tensor-name", b"node-input"])
def test_a_name_that_is_no_text_is_damage_wherever_it_stands(tmp_path, name):
    """Protobuf 7 gives such a name as bytes, and older versions raise an error of their own."""
    weight = helper.make_tensor("tensor-name", TensorProto.FLOAT, (1,), [0.0])
    nodes = [
        helper.make_node("Relu", ["x"], ["node-input"], name="relu-of-x"),
        helper.make_node("Relu", ["node-input"], ["y"]),
    ]
    path = saved(tmp_path / "m.onnx", nodes, 1, [weight])
    model = onnx.load(path)
    helper.set_model_props(model, {"metadata-key": "1"})
    data = model.SerializeToString()
    assert name in data
    path.write_bytes(data.replace(name, name[:-1] + b"\xff"))
    for read in (open_checkpoint, onnx_graph.session):
        with pytest.raises(ValueError, match=r"m\.onnx"):
            read(path)


def of_other_types(path, *chosen):
    """A graph that gives a tensor, texts, a sequence and a map of it; `chosen` of these are its outputs."""
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    row = helper.make_map_type_proto(
        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    )
    given = {
        "y": helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        "texts": helper.make_tensor_value_info("texts", TensorProto.STRING, None),
        "sequence": helper.make_value_info("sequence", sequence),
        "rows": helper.make_value_info("rows", helper.make_sequence_type_proto(row)),
    }
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Cast", ["y"], ["texts"], to=TensorProto.STRING),
        helper.make_node("SequenceConstruct", ["y", "y"], ["sequence"]),
        helper.make_node("Flatten", ["y"], ["flat"]),
        helper.make_node(
            "ZipMap", ["flat"], ["rows"], domain="ai.onnx.ml", classlabels_int64s=list(range(192))
        ),
    ]
    fed = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])
    graph = helper.make_graph(nodes, "g", [fed], [given[name] for name in chosen])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    return path


def test_texts_sequences_and_maps_are_no_outputs(tmp_path):
    path = of_other_types(tmp_path / "m.onnx", "texts", "y", "rows", "sequence")
    opened = onnx_graph.session(path)
    assert onnx_graph.output_names(opened, path) == ["y"]
    (found,) = onnx_graph.outputs(opened, path, images(5.0, 7.0))
    assert found[:, 0, 0, 0].tolist() == [5, 7]


@pytest.mark.parametrize("name", ["texts", "sequence", "rows"])
def test_a_graph_without_numbers_as_output_says_what_it_gives(tmp_path, name):
    path = of_other_types(tmp_path / "m.onnx", name)
    with pytest.raises(
        ValueError, match=rf"m\.onnx: expected a tensor of numbers as output, it gives {name} "
    ):
        onnx_graph.outputs(onnx_graph.session(path), path, images(1.0))


def test_a_graph_of_more_parts_than_any_network_is_tried_in_a_process_of_its_own(tmp_path, monkeypatch):
    """One of 1.9 MB with 95,000 numbers took onnxruntime more than 19 s."""
    path = saved(tmp_path / "a.onnx", [helper.make_node("Relu", ["x"], ["y"])] * 1, "N")
    asked = []
    monkeypatch.setattr(onnx_graph, "ESTIMATED", 0)
    monkeypatch.setattr(onnx_graph, "_tried", lambda path, size: asked.append(size) or "too large")
    with pytest.raises(ValueError, match=r"a\.onnx: too large"):
        onnx_graph.session(path)
    assert asked == [path.stat().st_size]


def test_a_sparse_file_of_external_data_does_not_raise_the_limits(tmp_path):
    sparse, full = tmp_path / "sparse.bin", tmp_path / "full.bin"
    with sparse.open("wb") as file:
        file.truncate(1 << 36)
    full.write_bytes(bytes(range(256)) * 64)
    assert onnx_graph._on_disk(sparse.stat()) < 1 << 16
    assert onnx_graph._on_disk(full.stat()) == 1 << 14
