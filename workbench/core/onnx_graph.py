"""ONNX graphs run by onnxruntime, with limits on what a graph may cost when it is opened and run.

A file of 1 kB can ask for gigabytes, for hours of arithmetic, or loop for ever. What the sizes of its tensors
prove to be cheap is opened here; any other graph first in a process of its own, with limits that grow with
the size of the file.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import reason
from workbench.core.job import LruCache, current_checkpoint, stopped_by, version_of
from workbench.core.onnx_messages import check_places, read_graph
from workbench.core.onnx_values import INCONSISTENT, Shapes, products_of, value_of
from workbench.core.processes import limit, own_imports

if TYPE_CHECKING:
    from jaxtyping import Num
    from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TypeProto

# Elements of one intermediate tensor for one image: 1 GB as float32. The largest of Sapiens-2B, attention of
# 3,072 patches in 24 heads, has 2.3e8.
LARGEST = 1 << 28
# Numbers that one call of a graph is fed with: 268 MB as float32, 113 crops of 384x288 or one of 4096x4096.
LARGEST_INPUT = 1 << 26
# Seconds for one image. The largest pose networks take a few on one core.
SECONDS = 30.0
# Nodes once the file's own functions are written out, and how deep these may call each other. The largest
# exported networks have some ten thousand and two or three.
NODES, DEPTH = 1 << 20, 50
# Nodes and weights whose costs are estimated here, at some 100 us each; of more, a process that ends tries.
ESTIMATED = 20_000
# Of these functions, nodes that onnxruntime writes out in a second; its time grows with their square.
_WRITTEN_OUT = 2000
# Numbers in a tensor that may hold sizes of others.
_SIZES = 1024
# Height and width of an input that leaves them open, when costs are estimated.
_SIDE = 256


@dataclass
class _Costs:
    """What a graph takes for one image, as far as its shapes tell.

    Attributes:
        bytes: of the file and of those with its external data.
        elements: of all tensors between nodes.
        products: multiplications of all nodes.
        constant_elements: of tensors that no image changes; onnxruntime computes them when it opens a file.
        constant_products: multiplications of their nodes.
        known: every node and shape could be estimated.
    """

    bytes: int
    elements: int = 0
    products: int = 0
    constant_elements: int = 0
    constant_products: int = 0
    known: bool = True

    def cheap(self) -> bool:
        """Whether all is known and within what networks with so many weights take.

        HRNet-W48 at 384x288 has 3.3e10 products and ViTPose-H, 2.5 GB, 1.2e11; either makes no more from
        constants than masks, positions, and weights that were quantised or split.
        """
        return (
            self.known
            and self.elements <= (1 << 26) + 8 * self.bytes
            and self.products <= (1 << 36) + 1024 * self.bytes
            and self.constant_elements <= (1 << 25) + 2 * self.bytes
            and self.constant_products <= (1 << 34) + 64 * self.bytes
        )


def session(path: Path, provider: str = "CPUExecutionProvider") -> Any:
    """An InferenceSession of a file whose cost is bounded.

    Args:
        path: of the file; its external data beside it.
        provider: onnxruntime's name of what runs it.

    Raises:
        ValueError: it is no graph that onnxruntime can run, or a small file that asks for far more time or
            memory than a pose network of its size.
    """
    with one_sentence(path):
        costs = _costs(path)
        if not costs.cheap():
            why = _tries().get(version_of(path), lambda: _tried(path, costs.bytes))
            if why:
                raise ValueError(f"{path.name}: {why}")
            # What it takes may depend on what the image shows, which no blank one tells.
            return _bounded_session(path, provider, _memory(costs.bytes))
        return _session(path, provider)


def _memory(size: int) -> int:
    """Bytes that a graph may take which was not proven to be cheap; `size` of its file and external data."""
    return TRY_MEMORY + 8 * size


_registering = threading.Lock()


def _bounded_session(path: Path, provider: str, memory: int) -> Any:
    """A session that asks for at most so many bytes between the nodes of its graph, whatever it is fed."""
    import onnxruntime as ort

    place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    # 1: grow by what is asked for, not by doubling.
    arena = ort.OrtArenaCfg({"max_mem": memory, "arena_extend_strategy": 1})
    with _registering:  # a session keeps the arena that was registered last when it was made
        ort.create_and_register_allocator(place, arena)
        return _session(path, provider, arena=True)


def _session(path: Path, provider: str, threads: int = 0, arena: bool = False) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # What was examined is what runs: of a name that ends in .ort it would read another format from the bytes.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if arena:
        options.add_session_config_entry("session.use_env_allocators", "1")
    # What it raises says the same; its log repeats names of the file as they are.
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    # Threads that wait would spin: a third more processor time of a pose network on two cores, not faster.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=[provider])


_NUMBERS = re.compile(r"tensor\((float|float16|double|u?int\d+)\)")


def output_names(session: Any, path: Path) -> list[str]:
    """Names of the outputs that are tensors of numbers: no truth values, texts, sequences, maps, optionals.

    Args:
        session: of `session`.
        path: of its file, for the error.

    Raises:
        ValueError: there is none.
    """
    given = session.get_outputs()
    names = [one.name for one in given if _NUMBERS.fullmatch(one.type)]
    if not names:
        listed = ", ".join(f"{one.name[:80]} {one.type}" for one in given[:6])
        raise ValueError(f"{path.name}: expected a tensor of numbers as output, it gives {listed}")
    return names


def outputs(session: Any, path: Path, fed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of `output_names`, each [N, ...] for N images; ended where these take `SECONDS` each.

    A job that is cancelled ends within the call: onnxruntime stops between two nodes.

    Args:
        session: of `session`.
        path: of its file, for errors.
        fed: name of an input -> its images, [N, ...].

    Raises:
        ValueError: onnxruntime refuses the input, the time is over, or one image takes too much memory.
        Cancelled: the job in whose thread this runs was cancelled.
    """
    images = max((len(array) for array in fed.values() if array.ndim), default=1)
    try:
        with _ended_after(SECONDS * images, path) as options, one_sentence(path):
            return session.run(output_names(session, path), dict(fed), options)
    except ValueError as error:
        if _ARENA_IS_FULL not in str(error):
            raise
    if images > 1 and not any(isinstance(one.shape[0], int) for one in session.get_inputs()):
        # Together they take more than their session may; one after the other they need not.
        parts = [
            outputs(session, path, {name: array[[n]] for name, array in fed.items()}) for n in range(images)
        ]
        return [joined(one) for one in zip(*parts, strict=True)]
    raise ValueError(
        f"{path.name}: one image takes more memory than its file allows, far more than pose networks of its "
        "size"
    )


def joined(parts: Sequence[Num[np.ndarray, " ..."]]) -> Num[np.ndarray, " ..."]:
    """One output of several calls, image after image; of one without axes that of the first call."""
    return np.concatenate(parts) if parts[0].ndim else parts[0]


# onnxruntime/core/framework/bfc_arena.cc, BFCArena::AllocateRawInternal and Extend.
_ARENA_IS_FULL = "bfc_arena"


@contextlib.contextmanager
def _ended_after(seconds: float, path: Path) -> Iterator[Any]:
    import onnxruntime

    options = onnxruntime.RunOptions()

    def end() -> None:
        options.terminate = True

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        with stopped_by(end):
            yield options
    except ValueError:
        if not options.terminate:
            raise
        current_checkpoint()
        raise ValueError(
            f"{path.name}: no answer within {seconds:g} s; the graph may loop for ever"
        ) from None
    finally:
        timer.cancel()


# The process that tries a graph: session and one blank image, one thread.

# Processor time and bytes of a file without weights.
TRY_SECONDS, TRY_MEMORY = 4, 1 << 29


@functools.cache
def _tries() -> LruCache[str]:
    return LruCache(200)


def _tried(path: Path, size: int) -> str:
    """Why a graph is not opened here; "" where it may be, or where onnxruntime will say it here, too.

    Args:
        path: of the file.
        size: bytes of it and its external data.
    """
    seconds, memory = TRY_SECONDS + size // 20_000_000, _memory(size)
    command = [
        sys.executable,
        "-m",
        "workbench.core.onnx_graph",
        str(path.resolve()),
        str(seconds),
        str(memory),
    ]
    too_much = (
        f"opening it and reading one blank image takes more than {seconds} s of processor time or "
        f"{memory >> 20} MB of memory, far more than pose networks of its size"
    )
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=60 + seconds, check=False, **own_imports()
        )
    except subprocess.TimeoutExpired:
        return too_much
    return too_much if done.returncode else ""


def _try(path: Path, seconds: int, memory: int) -> int:
    """Open a graph and run it on zeros within limits; 1 where memory does not suffice."""
    import onnxruntime  # noqa: F401 - before the limit, which is for the graph

    limit(seconds, memory)
    try:
        with one_sentence(path):
            found = _session(path, "CPUExecutionProvider", threads=1)
            fed = {}
            for one in found.get_inputs():
                sides = [
                    n if isinstance(n, int) and n > 0 else _SIDE if i else 1 for i, n in enumerate(one.shape)
                ]
                fed[one.name] = np.zeros(sides, TYPES.get(one.type, np.float32))
            found.run(None, fed)
    except MemoryError:
        return 1
    except ValueError as error:  # met again, and said, by the caller; but for memory, of which it has more
        return int("alloc" in str(error))  # "Failed to allocate memory", "std::bad_alloc"
    return 0


TYPES = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8, "tensor(int32)": np.int32, "tensor(int64)": np.int64,
}  # fmt: skip
"""Types of inputs that hold images."""


# Estimates from shapes; nothing is run.


def _costs(path: Path) -> _Costs:
    """What a graph costs.

    Raises:
        ValueError: a tensor larger, or more nodes, than any pose network's.
    """
    model = read_graph(path)
    check_places(model, path)
    written_out = _check_functions(model, path)
    costs = _Costs(_stored(path, model))
    weights = sum(math.prod(weight.dims) for weight in model.graph.initializer)
    # Some are packed two to a byte. Parts of external data may be named more than once, zeros left out.
    costs.known = weights <= 2 * costs.bytes and not model.graph.sparse_initializer
    if len(model.graph.node) + len(model.graph.initializer) > ESTIMATED:
        costs.known = False
        return costs
    if model.functions:
        costs.known = costs.known and written_out <= _WRITTEN_OUT
        if not costs.known:
            return costs
        import onnx.inliner

        model = onnx.inliner.inline_local_functions(model)
    _add(model, costs, path)
    return costs


def _stored(path: Path, model: ModelProto) -> int:
    """Bytes of a file and of those that hold its external data."""
    names = {
        entry.value
        for weight in model.graph.initializer
        for entry in weight.external_data
        if entry.key == "location"
    }
    beside = [path.parent / name for name in names if "\0" not in name and len(name) < 255]
    return path.stat().st_size + sum(_on_disk(one.stat()) for one in beside if one.is_file())


def _on_disk(state: os.stat_result) -> int:
    """Bytes of a file that lie on the disk, in blocks of 512: a sparse file of a terabyte has none."""
    return min(state.st_size, 512 * getattr(state, "st_blocks", state.st_size))


def _add(model: ModelProto, costs: _Costs, path: Path) -> None:
    """Add the costs of the nodes of a graph, one after the other.

    Shapes that the file states between its nodes are not read: nothing checks them.

    Args:
        model: without functions of its own.
        costs: changed.
        path: of the file, for errors.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    types: dict[str, TypeProto] = {}
    values: dict[str, np.ndarray] = {}
    _add_inputs(graph, types, costs, path)
    for one in graph.initializer:
        types[one.name] = helper.make_tensor_type_proto(one.data_type, list(one.dims))
        if math.prod(one.dims) <= _SIZES and one.data_location != one.EXTERNAL:
            with contextlib.suppress(*INCONSISTENT):
                values[one.name] = numpy_helper.to_array(one)
    constants = {weight.name for weight in graph.initializer}
    for node in graph.node:
        taken, given = [name for name in node.input if name], [name for name in node.output if name]
        found = _inferred(node, model, types, values)
        sides = {name: _sides(types[name]) for name in taken if name in types}
        sides |= {name: _sides(found[name]) for name in given if name in found}
        shapes: Shapes = {name: one for name, one in sides.items() if one is not None}
        if len(shapes) < len({*taken, *given}):
            costs.known = False
            continue
        types |= found
        sizes = {name: math.prod(shapes[name]) for name in given}
        for name, size in sizes.items():
            if size > LARGEST:
                raise ValueError(
                    f"{path.name}: {name[:80]!r} has the size {list(shapes[name])}, {size:.2g} "
                    f"numbers; a pose network has at most {LARGEST:.2g} in one tensor"
                )
        products = products_of(node, shapes)
        if products is None:
            costs.known = False
            continue
        if node.op_type != "Constant":
            costs.elements += sum(sizes.values())
            costs.products += products
        if constants.issuperset(taken) or node.op_type in ("Shape", "Size"):
            constants |= set(given)
            costs.constant_elements += sum(sizes.values())
            costs.constant_products += products
        if sum(sizes.values()) <= _SIZES and (value := value_of(node, shapes, values)) is not None:
            values[given[0]] = value


def _add_inputs(graph: GraphProto, types: dict[str, TypeProto], costs: _Costs, path: Path) -> None:
    """Fill in the open sides of the inputs, and add what these take; raises as `_costs`."""
    for one in graph.input:
        types[one.name] = one.type
        for i, side in enumerate(one.type.tensor_type.shape.dim):
            if side.dim_value <= 0:
                side.dim_value = _SIDE if i else 1
        fed = _sides(one.type) or ()
        if math.prod(fed) > LARGEST_INPUT:
            raise ValueError(
                f"{path.name}: takes {list(fed)}, {math.prod(fed):.2g} numbers at once; a pose network takes "
                f"at most {LARGEST_INPUT:.2g}"
            )
        costs.elements += math.prod(fed)


_EQUATION = re.compile(rb"[A-Za-z, ]*(?:->[A-Za-z ]*)?")


def _inferred(
    node: NodeProto, model: ModelProto, types: Mapping[str, TypeProto], values: Mapping[str, np.ndarray]
) -> dict[str, TypeProto]:
    """Types of what a node gives; none where it follows one of unknown type, or has branches."""
    import onnx
    from onnx import numpy_helper

    versions = list(model.opset_import)
    version = next((one.version for one in versions if one.domain == node.domain), 0)
    taken = [name for name in node.input if name]
    # onnx never returns from an equation with another character, which may stand in a branch, too.
    equations = [a.s for a in node.attribute if a.name == "equation"]
    if any(a.HasField("g") for a in node.attribute) or not all(map(_EQUATION.fullmatch, equations)):
        return {}
    try:
        return onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(node.op_type, version, node.domain), node,
            {name: types[name] for name in taken},
            {name: numpy_helper.from_array(values[name]) for name in taken if name in values},
            opset_imports=versions, ir_version=model.ir_version,
        )  # fmt: skip
    except (
        *INCONSISTENT, onnx.defs.SchemaError, onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    ):  # fmt: skip
        return {}


def _sides(kind: TypeProto) -> tuple[int, ...] | None:
    """Shape of a tensor; None where a side is not known, or it is none."""
    tensor = kind.tensor_type
    sides = tuple(side.dim_value if side.HasField("dim_value") else -1 for side in tensor.shape.dim)
    return sides if tensor.HasField("shape") and -1 not in sides else None


def _check_functions(model: ModelProto, path: Path) -> int:
    """Nodes once the functions of a file are written out.

    Raises:
        ValueError: they call themselves, or each other more often than memory can hold.
    """
    functions = {(one.domain, one.name): one for one in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(owner: GraphProto | FunctionProto, depth: int) -> int:
        if depth > DEPTH:
            raise ValueError(
                f"{path.name}: its functions call each other more than {DEPTH} deep, or themselves"
            )
        count = 0
        for node in (node for graph in _graphs(owner) for node in graph.node):
            key = node.domain, node.op_type
            if key in functions and key not in sizes:
                sizes[key] = size(functions[key], depth + 1)
            count += sizes.get(key, 1)
        if count > NODES:
            raise ValueError(
                f"{path.name}: its functions call each other more than {NODES:.2g} times; a pose network has "
                "some ten thousand nodes"
            )
        return count

    return size(model.graph, 0)


def _graphs(graph: GraphProto | FunctionProto) -> Iterator[GraphProto | FunctionProto]:
    """A graph, or a function, and the graphs of its loops and branches."""
    waiting = [graph]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += [a.g for node in one.node for a in node.attribute if a.HasField("g")]


@contextlib.contextmanager
def one_sentence(path: Path) -> Iterator[None]:
    """Tell onnxruntime's own exceptions, which share no base but Exception, as a user's mistake.

    Raises:
        ValueError: in place of one of these exceptions.
    """
    from google.protobuf.message import DecodeError

    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    names = (
        "EPFail",
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "ModelLoadCanceled",
        "ModelLoaded",
        "NoModel",
        "NoSuchFile",
        "NotImplemented",
        "RuntimeException",
    )
    refusals = tuple(getattr(state, name) for name in names if hasattr(state, name))
    try:
        yield
    except (*refusals, DecodeError, RuntimeError) as error:
        raise ValueError(f"{path.name}: onnxruntime refuses it: {reason(error)}") from None


if __name__ == "__main__":
    sys.exit(_try(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
