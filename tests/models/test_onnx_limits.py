"""What an ONNX graph of a stranger may cost, and what it may read."""

import os
import threading
import time

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from workbench.checkpoints import open_checkpoint
from workbench.core.onnx_graph import outputs, session
from workbench.data.detectors import OnnxDetector
from workbench.models import open_model


def graph_file(path, nodes, initializers, functions=()):
    """A graph from an image to 17 maps, with what is given between its convolution `c` and its output."""
    import onnx
    from onnx import TensorProto, helper

    weight = helper.make_tensor("w", TensorProto.FLOAT, (17, 3, 4, 4), np.zeros(17 * 48, np.float32))
    conv = helper.make_node("Conv", ["input", "w"], ["c"], strides=[4, 4], kernel_shape=[4, 4])
    graph = helper.make_graph(
        [conv, *nodes], "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, (1, 3, 64, 64))],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, (1, 17, 16, 16))],
        [weight, *initializers],
    )  # fmt: skip
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=8, functions=functions), path)


def test_a_graph_that_asks_for_gigabytes_is_refused_before_it_runs(tmp_path):
    from onnx import TensorProto, helper

    half = helper.make_tensor("half", TensorProto.INT64, (1,), [1_500_000_000])
    nodes = [
        helper.make_node("Add", ["half", "half"], ["size"]),  # it only arises by reckoning
        helper.make_node("ConstantOfShape", ["size"], ["big"]),
        helper.make_node("ReduceMean", ["big"], ["mean"], keepdims=0),
        helper.make_node("Add", ["c", "mean"], ["heatmaps"]),
    ]
    graph_file(tmp_path / "bomb.onnx", nodes, [half])
    with pytest.raises(ValueError, match=r"'big' has the size \[3000000000\]"):
        open_model(tmp_path / "bomb.onnx")


def square_of(name, *nodes, side, kind=TensorProto.INT64):
    """What makes a square tensor out of its shape alone, the nodes that follow, and the initializer."""
    value = helper.make_tensor("v", TensorProto.FLOAT, (1,), [1e-3])
    made = helper.make_node("ConstantOfShape", [name], ["a"], value=value)
    return [*nodes, made], helper.make_tensor("sides", kind, (2,), [side, side])


READ = helper.make_node("ReduceMean", ["input"], ["r"], keepdims=0)
COSTLY = {
    "constants": (*square_of("sides", side=3000), "a", 400),
    "one product": (*square_of("sides", side=8000), "a", 1),
    "of the image": (*square_of("sides", READ, side=3000), "b", 400),
    "sizes from the image": (
        *square_of(
            "shape", READ, helper.make_node("Add", ["sides", "r"], ["real"]),
            helper.make_node("Cast", ["real"], ["shape"], to=TensorProto.INT64),
            side=3000, kind=TensorProto.FLOAT,
        ), "a", 400,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["constants", *(pytest.param(one, marks=pytest.mark.long) for one in [*COSTLY][1:])]
)
def test_a_small_graph_of_hours_of_arithmetic_is_refused_by_a_process_that_ends(tmp_path, monkeypatch, kind):
    """What no timer ends from within: onnxruntime looks at it between nodes of a run alone."""
    monkeypatch.setattr("workbench.core.onnx_graph.TRY_SECONDS", 1)
    nodes, sides, name, count = COSTLY[kind]
    nodes = [*nodes, helper.make_node("Add", ["a", "r"], ["b"])] if name == "b" else [*nodes]
    nodes += [helper.make_node("MatMul", [f"m{i - 1}" if i else name, name], [f"m{i}"]) for i in range(count)]
    nodes += [helper.make_node("ReduceMean", [f"m{count - 1}"], ["mean"], keepdims=0)]
    nodes += [helper.make_node("Add", ["c", "mean"], ["heatmaps"])]
    graph_file(tmp_path / "slow.onnx", nodes, [sides])
    for opened in (open_model, lambda path: OnnxDetector(path, (0,), 0.3, "auto", 0.5)):
        with pytest.raises(ValueError, match=r"slow.onnx: opening it .* more than 1 s of processor time or"):
            opened(tmp_path / "slow.onnx")


def test_an_equation_that_onnx_never_returns_from_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.core.onnx_graph.TRY_SECONDS", 1)
    node = helper.make_node("Einsum", ["c", "w"], ["heatmaps"], equation="ij.,jk->")
    graph_file(tmp_path / "dot.onnx", [node], [])
    with pytest.raises(ValueError, match=r"dot.onnx: "):
        open_model(tmp_path / "dot.onnx")


def test_a_sparse_weight_that_fills_memory_once_written_out_is_refused(tmp_path):
    graph_file(tmp_path / "full.onnx", [helper.make_node("Add", ["c", "mean"], ["heatmaps"])], [])
    model = onnx.load(tmp_path / "full.onnx")
    index = helper.make_tensor("i", TensorProto.INT64, (1,), [0])
    sparse = helper.make_tensor("a", TensorProto.FLOAT, (1,), [1])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(sparse, index, [20_000, 20_000]))
    model.graph.node.insert(0, helper.make_node("ReduceMean", ["a"], ["mean"], keepdims=0))
    onnx.save(model, tmp_path / "full.onnx")
    with pytest.raises(ValueError, match="or 512 MB of memory"):
        open_model(tmp_path / "full.onnx")


def test_sizes_that_exporters_compute_in_the_graph_are_known_and_the_graph_opened_at_once(
    tmp_path, monkeypatch
):
    """As torch writes nn.MultiheadAttention: the shape, its parts by computed bounds, joined again."""
    monkeypatch.setattr("workbench.core.onnx_graph._tried", None)
    number = {"two": [2], "three": [3], "one": [1], "zero": [0], "rest": [256], "end": [2**62]}
    nodes = [
        helper.make_node("Shape", ["c"], ["shape"]),
        helper.make_node("Mod", ["two", "three"], ["at"]),
        helper.make_node("Reshape", ["at", "one"], ["bound"]),
        helper.make_node("Slice", ["shape", "zero", "bound"], ["before"]),
        helper.make_node("Slice", ["shape", "bound", "end"], ["after"]),
        helper.make_node("Concat", ["before", "rest"], ["flat"], axis=0),
        helper.make_node("Concat", ["before", "after"], ["back"], axis=0),
        helper.make_node("Reshape", ["c", "flat"], ["tokens"]),
        helper.make_node("Softmax", ["tokens"], ["shares"]),
        helper.make_node("Reshape", ["shares", "back"], ["heatmaps"]),
    ]
    weights = [helper.make_tensor(name, TensorProto.INT64, (1,), value) for name, value in number.items()]
    graph_file(tmp_path / "tokens.onnx", nodes, weights)
    assert len(open_model(tmp_path / "tokens.onnx").model.skeleton) == 17


@pytest.mark.parametrize(
    ("depth", "called", "says"),
    [(40, [1, 1], "more than 1e\\+06 times"), (60, [1], "more than 50 deep"), (1, [0], "or themselves")],
)
def test_functions_that_grow_without_end_are_refused_before_they_are_written_out(
    tmp_path, depth, called, says
):
    """A file of 6 kB whose functions call the next one twice has 2^40 nodes."""

    def function(i):
        names = ["a", *(f"t{n}" for n in range(1, len(called))), "b"]
        calls = [
            helper.make_node(f"F{i + step}", [names[n]], [names[n + 1]], domain="own")
            for n, step in enumerate(called)
        ]
        last = [helper.make_node("Relu", ["a"], ["b"])]
        return helper.make_function(
            "own", f"F{i}", ["a"], ["b"], last if i + max(called) > depth else calls,
            [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
        )  # fmt: skip

    first = helper.make_node("F0", ["c"], ["heatmaps"], domain="own")
    graph_file(tmp_path / "grows.onnx", [first], [], [function(i) for i in range(depth + 1)])
    with pytest.raises(ValueError, match=f"grows.onnx: its functions call each other .*{says}"):
        open_model(tmp_path / "grows.onnx")


def test_functions_of_a_graph_are_run(tmp_path):
    sets = [helper.make_opsetid("", 17)]
    relu = helper.make_function("own", "R", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], sets)
    graph_file(tmp_path / "own.onnx", [helper.make_node("R", ["c"], ["heatmaps"], domain="own")], [], [relu])
    assert len(open_model(tmp_path / "own.onnx").model.skeleton) == 17


def test_a_graph_that_loops_for_ever_is_ended(tmp_path, monkeypatch, jobs):
    from onnx import TensorProto, helper

    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["go"]), helper.make_node("Add", ["x", "x"], ["y"])], "b",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("on", TensorProto.BOOL, []),
         helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )  # fmt: skip
    count = helper.make_tensor("n", TensorProto.INT64, (), [2**62])
    true = helper.make_tensor("t", TensorProto.BOOL, (), [True])
    loop = helper.make_node("Loop", ["n", "t", "c"], ["heatmaps"], body=body)
    graph_file(tmp_path / "loop.onnx", [loop], [count, true])
    with monkeypatch.context() as patched:
        patched.setattr("workbench.core.onnx_graph.TRY_SECONDS", 1)
        with pytest.raises(ValueError, match=r"more than 1 s of processor time"):
            open_model(tmp_path / "loop.onnx")
    # One that began to loop with another image is ended here.
    monkeypatch.setattr("workbench.core.onnx_graph._tried", lambda *_: "")
    monkeypatch.setattr("workbench.core.onnx_graph.SECONDS", 0.3)
    os.utime(tmp_path / "loop.onnx", (0, 0))
    with pytest.raises(ValueError, match="no answer within"):
        open_model(tmp_path / "loop.onnx")
    # Nor does a cancelled job wait for it.
    monkeypatch.setattr("workbench.core.onnx_graph.SECONDS", 60.0)
    looping, begun = session(tmp_path / "loop.onnx", "CPUExecutionProvider"), threading.Event()

    def work(job):
        begun.set()
        outputs(looping, tmp_path / "loop.onnx", {"input": np.zeros((1, 3, 64, 64), np.float32)})

    job = jobs.start("key", "title", work)
    begun.wait(10)
    time.sleep(0.1)
    job.cancel()
    assert job.wait(20)
    assert (job.state, job.error) == ("cancelled", None)


@pytest.mark.parametrize("kind", ["weight", "constant"])
@pytest.mark.parametrize("place", ["../secret.bin", "link.bin", "/dev/zero", "*/_ORT_MEM_ADDR_/*"])
def test_numbers_outside_the_folder_of_a_graph_are_not_read(tmp_path, monkeypatch, kind, place):
    from workbench.core.onnx_graph import session

    (tmp_path / "secret.bin").write_bytes(b"\0" * 16)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/link.bin").symlink_to(tmp_path / "secret.bin")
    value = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    value.external_data.add(key="location", value=place)
    node = helper.make_node("Constant", [], ["w"], value=helper.make_tensor("t", TensorProto.FLOAT, [1], [0]))
    node.attribute[0].t.CopyFrom(value)
    nodes = [helper.make_node("Identity", ["w"], ["y"])]
    given = ([], [value]) if kind == "weight" else ([node], [])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    model = helper.make_model(helper.make_graph([*given[0], *nodes], "g", [], [output], given[1]))
    path = tmp_path / "model/m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"w lies in .*, outside the model's folder; it is not read"):
        session(path)
    # The same in the graphs of an attribute, and in a sparse weight.
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("w", 1, [1], [0]), helper.make_tensor("i", 7, [1], [0]), [4]
    )
    sparse.values.CopyFrom(value)
    model.graph.ClearField("initializer")
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    if kind == "constant":
        branch = helper.make_graph(nodes, "branch", [], [output], [value])
        model.graph.node[0].attribute.append(helper.make_attribute("graphs", [branch]))
    else:
        model.graph.sparse_initializer.append(sparse)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"w lies in .*, outside the model's folder; it is not read"):
        session(path)
    monkeypatch.chdir(tmp_path)
    value.external_data[0].value = "secret.bin"  # not beside the model, but in the current folder
    node.attribute[0].t.CopyFrom(value)
    model = helper.make_model(helper.make_graph([node, *nodes], "g", [], [output]))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="onnxruntime refuses it"):
        session(path)


def test_a_pipe_is_not_opened_for_the_numbers_of_a_graph(tmp_path):
    os.mkfifo(tmp_path / "pipe.bin")
    value = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    value.external_data.add(key="location", value="pipe.bin")
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [output], [value])
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(ValueError, match=r"w lies in 'pipe\.bin', which is no regular file"):
        session(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.graph.node.extend([NodeProto()] * 600_000), "more than 524,288 nodes, attributes"),
        (lambda m: m.graph.output.extend([ValueInfoProto()] * 1001), "has 1,002 outputs; .* at most 1,000"),
        (lambda m: setattr(m.graph.output[0], "name", "n" * 1001), "an input or output in 1,001 characters"),
        (lambda m: m.graph.initializer.extend([TensorProto()] * 30_001), "more tensors, or longer names"),
        (lambda m: setattr(m.graph.initializer[0], "name", "n" * 1001), "more tensors, or longer names"),
    ],
)
def test_a_graph_of_more_or_longer_names_than_any_network_is_refused_when_opened(tmp_path, change, said):
    """A file of 15 MB with a million empty weights took minutes; 10 MB of a name were printed."""
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4], [0.0] * 4)
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [output], [weight])
    model = helper.make_model(graph)
    change(model)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=rf"m\.onnx.* {said}"):
        open_checkpoint(path)
