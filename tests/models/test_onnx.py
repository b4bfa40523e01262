"""ONNX graphs built by hand, whose answers are known."""

import dataclasses
import json
import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from workbench.core import Answers, DecodeOptions, NotAvailable, Sample, Skeleton
from workbench.core.run import run
from workbench.data.images import write_image
from workbench.evaluation.protocol import protocol_of_loaded
from workbench.models import open_model
from workbench.models.exported import roles_of
from workbench.models.naming import named_as

PLAIN = DecodeOptions()
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


def test_an_output_without_images_beside_the_maps_is_left_alone(tmp_path):
    path = heatmap_file(tmp_path / "a.onnx")
    graph = onnx.load(path)
    graph.graph.node.append(helper.make_node("ReduceMax", ["maps"], ["most"], keepdims=0))
    graph.graph.output.append(helper.make_tensor_value_info("most", TensorProto.FLOAT, []))
    onnx.save(graph, path)
    model = open_model(path).model
    assert len(model.answer([lit(), lit()], PLAIN)) == 2


@pytest.mark.parametrize("alone", [False, True])
def test_truth_values_are_no_heatmaps(tmp_path, alone):
    """A mask of [N, K, h, w] has the shape of heatmaps, and its first true cell is no peak."""
    path = heatmap_file(tmp_path / "mask.onnx")
    graph = onnx.load(path)
    graph.graph.node.append(helper.make_node("Cast", ["maps"], ["mask"], to=TensorProto.BOOL))
    graph.graph.output.append(helper.make_tensor_value_info("mask", TensorProto.BOOL, ["N", 2, 16, 12]))
    if alone:
        del graph.graph.output[0]
    onnx.save(graph, path)
    if alone:
        with pytest.raises(ValueError, match=r"tensor of numbers as output, it gives mask tensor\(bool\)"):
            open_model(path)
    else:
        assert open_model(path).model.graph.names == ["maps"]


def test_maps_of_fewer_images_than_went_in_are_refused(tmp_path):
    """A graph that keeps the first image gave one pose for two, or an error about zip()."""
    path = heatmap_file(tmp_path / "a.onnx")
    graph = onnx.load(path)
    graph.graph.node.append(helper.make_node("Slice", ["maps", "from", "to"], ["first"]))
    graph.graph.initializer.extend(
        helper.make_tensor(name, TensorProto.INT64, (1,), [n]) for name, n in (("from", 0), ("to", 1))
    )
    graph.graph.output[0].name = "first"
    onnx.save(graph, path)
    model = open_model(path).model
    assert len(model.answer([lit()], PLAIN)) == 1
    with pytest.raises(ValueError, match=r"output 0 has the shape \[1, 2, 16, 12\] for 2 images"):
        model.answer([lit(), lit()], PLAIN)
    with pytest.raises(ValueError, match=r"output 0 has the shape \[1, 2, 16, 12\] for 2 images"):
        run(model, [lit(), lit()])


def two_keypoints(folder):
    """A COCO-format set of one image with the red and green pixel of `lit`, annotated."""
    sample = lit()
    write_image(folder / "1.png", sample.image)
    person = {
        "id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 900, "num_keypoints": 2,
        "bbox": [4.8, 6.4, 38.4, 51.2], "keypoints": [8, 20, 2, 36, 4, 2],
    }  # fmt: skip
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 48, "height": 64}],
        "annotations": [person],
        "categories": [{"id": 1, "name": "pair", "keypoints": ["left_dot", "right_dot"]}],
    }
    (folder / "set.json").write_text(json.dumps(content))
    return folder / "set.json"


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
    assert "2 keypoints of the output: they are numbered" in opened.note
    assert opened.model.skeleton.keypoints == ("keypoint 0", "keypoint 1")
    named = named_as(opened.model, Skeleton("ends", ("head", "tail")), "my-set")
    assert "normalisation assumed" in named.note
    assert named.note.endswith("; keypoints are called ends, as in my-set")
    assert "numbered" not in named.note


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


@pytest.mark.parametrize(
    ("step", "name", "value"),
    [
        (0, "padding", None), (0, "padding", [1]), (1, "image_size", 5), (1, "image_size", [1e999, 64]),
        (2, "mean", 5), (2, "mean", ["a", 0, 0]), (2, "mean", [[1], 0, 0]), (2, "std", [0, 1, 1]),
        (2, "std", [1, 1]), (3, "sigma", None), (3, "simcc_split_ratio", {}), (3, "input_size", [None, 1]),
        (3, "input_size", None),
        *((3, "simcc_split_ratio", v) for v in (0, -2, math.nan, 1e30)),
        *((3, "sigma", v) for v in (0, [4.9, 0], math.nan)),
        (0, "padding", 0), (0, "padding", math.nan), (2, "std", [-1, 1, 1]), (3, "input_size", [0, 64]),
        (1, "image_size", [48, 0]),
    ],
)  # fmt: skip
def test_odd_values_of_mmdeploys_description_are_one_sentence(tmp_path, step, name, value):
    steps = [
        {"type": "TopDownGetBboxCenterScale", "padding": 1.0},
        {"type": "TopDownAffine", "image_size": [48, 64]},
        {"type": "Normalize", "mean": [0, 0, 0], "std": [255, 255, 255], "to_rgb": True},
        {"type": "SimCCLabel", "input_size": [48, 64], "sigma": 4.9, "simcc_split_ratio": 1.0},
    ]
    steps[step][name] = value
    (tmp_path / "pipeline.json").write_text(json.dumps(steps))
    with pytest.raises(ValueError, match="config: "):
        run(open_model(simcc_file(tmp_path / "pose.onnx")).model, [lit()])


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
        roles_of(["", "", ""], [(1, 2, 4, 4), (1, 2, 8), (1, 2, 8)], (4, 4))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("make", [heatmap_file, simcc_file])
def test_the_answer_without_torch_is_that_of_a_run(tmp_path, make, flip):
    path = make(tmp_path / "pose.onnx")
    opened = open_model(path, assume=["padding=1.1", "channels=bgr", "mean=10", "std=40,50,60"])
    assert isinstance(opened.model, Answers)
    facts = dataclasses.replace(opened.model.facts, skeleton=Skeleton("two", ("l", "r"), mirror=(1, 0)))
    model = dataclasses.replace(opened.model, facts=facts)
    noise = np.random.default_rng(0).integers(0, 256, (80, 70, 3), np.uint8)
    samples = [Sample(noise, (3.0, 5.0, 60.0, 71.0)), Sample(noise, (10.0, 20.0, 30.0, 44.0))]
    ours, theirs = model.answer(samples, DecodeOptions(), flip), run(model, samples, flip=flip).predictions
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.keypoints, other.keypoints)
        np.testing.assert_array_equal(one.scores, other.scores)
        assert one.box == other.box


def constant(path, values, size, last=False):
    """A graph that gives these values whatever it is shown: output name -> array."""
    shape = [1, *size, 3] if last else [1, 3, *size]
    nodes = [helper.make_node("ReduceMean", ["pixels"], ["mean"], keepdims=0)]
    nodes += [helper.make_node("Mul", ["mean", "nought"], ["zero"])]
    nodes += [helper.make_node("Add", ["zero", f"value {name}"], [name]) for name in values]
    weights = [(f"value {name}", np.asarray(v, np.float32)) for name, v in values.items()]
    outputs = [(name, list(np.shape(v))) for name, v in values.items()]
    return write(
        path, nodes, [("pixels", shape)], outputs, [*weights, ("nought", np.zeros((), np.float32))], False
    )


def peaks(last, K=17, h=64, w=48):
    maps = np.zeros((1, K, h, w), np.float32)
    for k in range(K):
        maps[0, k, 20 + k, 10 + k] = 1
    return maps.transpose(0, 2, 3, 1) if last else maps


@pytest.mark.parametrize("last", [False, True])
def test_channels_of_maps_are_found_first_or_last(tmp_path, last):
    opened = open_model(constant(tmp_path / "keras.onnx", {"maps": peaks(last)}, (256, 192), last))
    assert len(opened.model.skeleton) == 17
    (found,) = opened.model.answer([Sample(np.zeros((256, 192, 3), np.uint8), (0, 0, 192, 256))], PLAIN)
    assert np.isfinite(found.keypoints).all()
    # One cell to the right and down from keypoint to keypoint.
    np.testing.assert_allclose(np.diff(found.keypoints, axis=0), 1.25 * 4, atol=1e-5)


def softmax(maps):
    shares = np.exp(maps)
    return (shares / shares.sum(1, keepdims=True)).astype(np.float32)


CLASSES = np.random.default_rng(0).normal(size=(1, 21, 64, 48)).astype(np.float32)


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        ({"out": CLASSES[:, :1]}, "one channel may as well be depth or a mask"),
        ({"predicted_depth": CLASSES[:, :2]}, "its name speaks of depth"),
        ({"out": softmax(CLASSES)}, "its channels add up to 1 at every cell"),
    ],
)
def test_maps_that_are_none_of_keypoints_are_refused_until_the_user_says_they_are(tmp_path, outputs, why):
    path = constant(tmp_path / "maps.onnx", outputs, (256, 192))
    with pytest.raises(NotAvailable, match=rf"\(1, \d+, 64, 48\) holds heatmaps of keypoints: {why}"):
        open_model(path)
    (name,) = outputs
    said = open_model(path, output=[f"heatmaps={name}"])
    assert said.model.codec.assumed == ""
    named = constant(tmp_path / "named.onnx", {"heatmaps": outputs[name]}, (256, 192))
    assert "taken for heatmaps" not in open_model(named).note


def test_maps_that_nothing_names_are_an_assumption_of_every_protocol(tmp_path):
    opened = open_model(constant(tmp_path / "classes.onnx", {"out": CLASSES}, (256, 192)))
    taken = "out (1, 21, 64, 48) taken for heatmaps, which nothing says (--output heatmaps=...)"
    assert taken in opened.note
    assert taken in protocol_of_loaded(opened).text()


@pytest.mark.parametrize(
    ("outputs", "size"),
    [
        ({"out": (1, 1, 17, 3)}, (192, 192)),  # MoveNet: y, x, score
        ({"out": (1, 10, 17, 3)}, (640, 640)),  # RTMO after its postprocessing
        ({"out": (1, 17, 3)}, (256, 192)),
        ({"out": (1, 17, 2), "scores": (1, 17, 1)}, (256, 192)),
        ({"out": (1, 1, 4, 3)}, (64, 64)),
        ({"out": (1, 8400, 56)}, (640, 640)),  # a dense detector
        ({"boxes": (1, 100, 5), "labels": (1, 100, 1)}, (256, 192)),
        ({"features": (1, 1024, 8, 8)}, (256, 256)),
        ({"x": (1, 17, 512), "y": (1, 17, 384)}, (256, 192)),  # the names say the contrary of the lengths
    ],
)
def test_what_is_neither_maps_nor_simcc_is_refused_with_names_and_shapes(tmp_path, outputs, size):
    values = {name: np.random.default_rng(0).random(shape) for name, shape in outputs.items()}
    with pytest.raises(NotAvailable) as caught:
        open_model(constant(tmp_path / "other.onnx", values, size))
    for name, shape in outputs.items():
        assert f"{name} {shape}" in str(caught.value)
    assert "--output" in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        ("simcc_x", "simcc_y"),
        ("pred_x", "pred_y"),
        ("x", "y"),
        ("simccX", "simccY"),
        ("pred_w", "pred_h"),
        ("width_logits", "height_logits"),
        ("horizontal", "vertical"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_names_tell_the_axes_of_simcc_where_the_input_is_square(tmp_path, names, turned):
    x, y = np.zeros((2, 1, 1, 128), np.float32)
    x[..., 84], y[..., 22] = 1, 1
    values = dict(zip(names, (x, y), strict=True))
    values = dict(reversed(values.items())) if turned else values
    opened = open_model(constant(tmp_path / "simcc.onnx", values, (64, 64)), assume=["padding=1"])
    (found,) = opened.model.answer([Sample(np.zeros((64, 64, 3), np.uint8), (0, 0, 64, 64))], PLAIN)
    assert found.keypoints.tolist() == [[42, 11]]
    assert "SimCC" not in opened.note


def test_an_order_of_simcc_that_nothing_tells_is_refused_until_the_user_says_it(tmp_path):
    x, y = np.zeros((2, 1, 1, 128), np.float32)
    x[..., 84], y[..., 22] = 1, 1
    path = constant(tmp_path / "simcc.onnx", {"out1": y, "out2": x}, (64, 64))
    sample = Sample(np.zeros((64, 64, 3), np.uint8), (0, 0, 64, 64))
    with pytest.raises(
        NotAvailable, match=r"out1 \(1, 1, 128\) and out2 .*--output simcc_x=out1,simcc_y=out2"
    ):
        open_model(path)
    for words in ("simcc_x=out2,simcc_y=out1", "simcc_x=1,simcc_y=0"):
        opened = open_model(path, output=[words], assume=["padding=1"])
        assert opened.model.answer([sample], PLAIN)[0].keypoints.tolist() == [[42, 11]]


def test_one_of_several_maps_is_taken_by_its_name_or_as_the_user_says(tmp_path):
    values = {"offsets": np.zeros((1, 34, 48, 48)), "heatmaps": np.zeros((1, 17, 48, 48))}
    assert len(open_model(constant(tmp_path / "a.onnx", values, (192, 192))).model.skeleton) == 17
    values = {"first": np.zeros((1, 34, 48, 48)), "second": np.zeros((1, 17, 48, 48))}
    path = constant(tmp_path / "b.onnx", values, (192, 192))
    with pytest.raises(NotAvailable, match=r"first \(1, 34, 48, 48\), second \(1, 17, 48, 48\)"):
        open_model(path)
    assert len(open_model(path, output=["heatmaps=second"]).model.skeleton) == 17


def test_maps_that_fit_both_ways_follow_the_input_and_the_user(tmp_path):
    path = constant(tmp_path / "both.onnx", {"maps": np.zeros((1, 16, 16, 16))}, (64, 64))
    assert "taken for channels-first" in open_model(path).note
    assert "taken for" not in open_model(path, assume=["layout=channels-last"]).note


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"output": ["heatmap=maps"]}, "ROLE=NAME with a role of heatmaps, simcc_x, simcc_y"),
        ({"output": ["heatmaps=mapps"]}, r"no output 'mapps' among maps .*nearest names: maps"),
        ({"output": ["simcc_x=maps"]}, "name both"),
        ({"output": ["simcc_x=maps,simcc_y=maps"]}, r"simcc_x: expected \[N, K, bins\]"),
        ({"assume": ["pading=1"]}, "nearest names: padding"),
        ({"assume": ["padding=-1"]}, "padding: expected a number above 0"),
        ({"assume": ["std=0"]}, "std: expected a number above 0"),
        ({"assume": ["mean=1,2"]}, "mean: expected one number for all channels, or three as in 0.5,0.5,0.5"),
        ({"assume": ["mean=0;0;0"]}, "number, got '0;0;0'; one number for all channels, or three as in"),
        ({"assume": ["input=tall"]}, "input: expected WIDTHxHEIGHT"),
        ({"assume": ["input=64x48"]}, "the file 48x64, --assume input 64x48"),
        ({"assume": ["layout=nhwc"]}, "layout: expected channels-first or channels-last"),
        ({"assume": ["expert=ap10k"]}, "only ViTPose"),
    ],
)
def test_what_the_user_says_wrongly_is_one_sentence(tmp_path, words, match):
    with pytest.raises(ValueError, match=match):
        open_model(heatmap_file(tmp_path / "pose.onnx"), **words)


def test_all_that_is_assumed_is_said_and_what_is_told_is_not(tmp_path):
    path = heatmap_file(tmp_path / "pose.onnx")
    note = open_model(path).note
    assert all(word in note for word in ("RGB", "mean (123", "std (58", "padding 1.25", "decoder quarter"))
    stated = open_model(path, assume=["padding=1.1", "mean=0", "std=255", "channels=rgb"])
    assert stated.model.padding == 1.1
    assert "normalisation" not in stated.note
    assert "padding" not in stated.note


POOLED = [
    helper.make_node("Mul", ["pixels", "one"], ["same"]),
    helper.make_node("MaxPool", ["same"], ["maps"], kernel_shape=[4, 4], strides=[4, 4]),
]


def test_an_open_input_size_may_be_said(tmp_path):
    path = tmp_path / "open.onnx"
    write(path, POOLED, [("pixels", ["N", 3, "H", "W"])], [("maps", ["N", 3, "h", "w"])], ONE)
    assert open_model(path, assume=["input=48x64"]).model.input_size == (64, 48)


def test_a_grey_input_is_made_of_the_three_channels_and_said(tmp_path):
    path = tmp_path / "grey.onnx"
    write(path, POOLED, [("pixels", ["N", 1, 64, 48])], [("maps", ["N", 1, 16, 12])], ONE)
    opened = open_model(path, assume=["mean=0", "std=1"], output=["heatmaps=maps"])
    assert "one channel: grey values" in opened.note
    image = np.zeros((64, 48, 3), np.uint8)
    image[20, 8] = (100, 200, 50)
    maps = run(opened.model, [Sample(image, (4.8, 6.4, 43.2, 57.6))]).heatmaps
    assert maps.max() == pytest.approx(0.299 * 100 + 0.587 * 200 + 0.114 * 50, abs=1e-3)


def test_the_reason_of_onnxruntime_stands_whole_at_the_end(tmp_path):
    path = heatmap_file(tmp_path / "newer.onnx")
    model = onnx.load(str(path))
    model.ir_version = 99
    onnx.save(model, str(path))
    with pytest.raises(ValueError, match=r"IR version: 99, max supported IR version: \d+$"):
        open_model(path)
