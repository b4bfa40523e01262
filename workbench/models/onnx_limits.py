"""Limits on what a graph costs when it is opened: a file of 1 kB can ask for gigabytes, or loop for ever."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import GraphProto

# Elements of one intermediate tensor for one image: 1 GB as float32. The largest of Sapiens-2B, attention of
# 3,072 patches in 24 heads, has 2.3e8.
LARGEST = 1 << 28
# Seconds of the first blank image. The largest pose networks take a few on one core.
FIRST_ANSWER = 30.0
# Weights beyond this are dropped before shapes are inferred: only small ones can be sizes.
_SIZES = 1024


def check_sizes(path: Path) -> None:
    """Refuse a graph that names an intermediate tensor beyond any pose network's; nothing of it is run.

    Sizes that only arise while it runs are not seen.

    Raises:
        ValueError: it names one; says which and how large.
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    for weight in model.graph.initializer:
        if len(weight.raw_data) > _SIZES:
            weight.ClearField("raw_data")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return  # onnxruntime says by itself what is wrong with it
    for graph in _graphs(inferred.graph):
        for value in graph.value_info:
            sides = [d.dim_value for d in value.type.tensor_type.shape.dim if d.HasField("dim_value")]
            if math.prod(sides) > LARGEST:
                raise ValueError(
                    f"{path.name}: {value.name[:80]!r} has the size {sides}, {math.prod(sides):.2g} numbers; "
                    f"a pose network has at most {LARGEST:.2g} in one tensor"
                )


@contextlib.contextmanager
def ended_after(seconds: float, path: Path) -> Iterator[Any]:
    """Options for one run of a session, which onnxruntime ends when the time is over.

    Args:
        seconds: from now.
        path: of the file, for the error.

    Raises:
        ValueError: the run was ended.
    """
    import onnxruntime

    options = onnxruntime.RunOptions()

    def end() -> None:
        options.terminate = True

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield options
    except ValueError:
        if not options.terminate:
            raise
        raise ValueError(
            f"{path.name}: no answer for one blank image within {seconds:g} s; the graph may loop for ever"
        ) from None
    finally:
        timer.cancel()


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and those of its loops and branches."""
    waiting = [graph]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += [a.g for node in one.node for a in node.attribute if a.HasField("g")]
