"""Nodes of an ONNX graph: the few numbers that sizes are computed with, and the work that a node is."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import NodeProto

Shapes = dict[str, tuple[int, ...]]
# What onnx and numpy raise for parts that contradict each other; onnxruntime says what is wrong with them.
INCONSISTENT = (ValueError, IndexError, TypeError, KeyError, RuntimeError)


def value_of(node: NodeProto, shapes: Shapes, values: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The few numbers that a node gives, of any shape, where sizes are computed with it; else None.

    Args:
        node: of the graph.
        shapes: of the tensors that are known.
        values: of the tensors that are known; of any shape.
    """
    from onnx import helper

    named = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Shape":
        return np.array(shapes[node.input[0]][named.get("start", 0) : named.get("end")], np.int64)
    read = [values.get(name) for name in node.input]
    compute = _COMPUTED.get(node.op_type)
    if compute is None or any(one is None for one in read):
        return None
    with contextlib.suppress(*INCONSISTENT), np.errstate(all="ignore"):
        return np.asarray(compute(named, *read))
    return None


def _constant(named: Mapping[str, Any]) -> np.ndarray:
    from onnx import numpy_helper

    value = named["value"]
    if value.data_location == value.EXTERNAL:  # onnx would look for it in the current folder
        raise ValueError(f"the numbers of {value.name[:80]} lie in another file")
    return numpy_helper.to_array(value)


def _axes(named: Mapping[str, Any], axes: Any) -> Any:
    """Of (un)squeeze: an attribute before opset 13, then an input."""
    chosen = named.get("axes") if axes is None else axes.tolist()
    return None if chosen is None else tuple(chosen)


def _sliced(_: Any, data: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    axes = range(len(starts)) if axes is None else axes
    steps = np.ones(len(starts), int) if steps is None else steps
    kept = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        kept[axis] = slice(start, None if step < 0 and end < -data.shape[axis] else end, step)
    return data[tuple(kept)]


_COMPUTED: dict[str, Callable[..., Any]] = {
    "Add": lambda _, a, b: a + b,
    "Cast": lambda named, a: a.astype(_CAST[named["to"]]),
    "Concat": lambda named, *parts: np.concatenate(parts, named["axis"]),
    "Constant": _constant,
    "Div": lambda _, a, b: a // b if np.issubdtype(a.dtype, np.integer) else a / b,
    "Floor": lambda _, a: np.floor(a),
    "Gather": lambda named, a, i: np.take(a, i, named.get("axis", 0)),
    "Identity": lambda _, a: a,
    "Mod": lambda _, a, b: np.mod(a, b),
    "Mul": lambda _, a, b: a * b,
    "Reshape": lambda _, a, sides: a.reshape(sides),
    "Slice": _sliced,
    "Squeeze": lambda named, a, axes=None: np.squeeze(a, _axes(named, axes)),
    "Sub": lambda _, a, b: a - b,
    "Unsqueeze": lambda named, a, axes=None: np.expand_dims(a, _axes(named, axes)),
}
# ONNX's numbers of the types of sizes and scales.
_CAST = {1: np.float32, 6: np.int32, 7: np.int64, 11: np.float64}


# Nodes whose work is of the order of what they read and write.
_LINEAR = frozenset(
    re.findall(
        r"\w+",
        """
    Abs Acos Add And ArgMax ArgMin Atan BatchNormalization BitShift BitwiseAnd BitwiseNot BitwiseOr
    Cast CastLike Ceil Celu Clip Concat Constant ConstantOfShape Cos CumSum DepthToSpace
    DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp Expand EyeLike Flatten
    Floor Gather GatherElements GatherND Gelu GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual
    GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN
    LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Max Mean MeanVarianceNormalization
    Min Mish Mod Mul Neg Not OneHot Or PRelu Pad Pow QuantizeLinear Range Reciprocal ReduceL1
    ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape RMSNormalization Round ScatterElements ScatterND Selu Shape Sigmoid
    Sign Sin Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan
    Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor
    """,
    )
)
# Convolutions and products of matrices -> which input holds the weights, or the left matrix.
_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "ConvTranspose": 1}
_MATRICES = frozenset({"MatMul", "MatMulInteger", "QLinearMatMul", "Gemm"})
_POOLS = frozenset({"AveragePool", "MaxPool", "LpPool"})


def products_of(node: NodeProto, shapes: Shapes) -> int | None:
    """Multiplications of a node, or values that it touches; None where that is not known.

    Args:
        node: of the graph.
        shapes: of all tensors that it reads and gives.
    """
    read = [shapes[name] if name else () for name in node.input]
    made = math.prod(shapes[node.output[0]]) if node.output else 0
    named = {a.name: a for a in node.attribute}
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type in _LINEAR:
        return sum(map(math.prod, read)) + made
    if node.op_type in _CONVOLUTIONS and len(read) > _CONVOLUTIONS[node.op_type]:
        weights = math.prod(read[_CONVOLUTIONS[node.op_type]][1:])
        return (math.prod(read[0]) if node.op_type == "ConvTranspose" else made) * weights
    if node.op_type in _MATRICES and read[0]:
        turned = "transA" in named and named["transA"].i
        return made * read[0][-2 if turned and len(read[0]) > 1 else -1]
    if node.op_type in _POOLS and "kernel_shape" in named:
        return made * math.prod(named["kernel_shape"].ints)
    if node.op_type == "Resize":  # at most cubic, where it does not average over what it leaves out
        return None if "antialias" in named and named["antialias"].i else 16 * made
    if node.op_type == "Einsum":
        terms = named["equation"].s.decode("ascii", "replace").partition("->")[0].replace(" ", "").split(",")
        sizes = {
            c: n for term, shape in zip(terms, read, strict=False) for c, n in zip(term, shape, strict=False)
        }
        return math.prod(sizes.values())
    return None
