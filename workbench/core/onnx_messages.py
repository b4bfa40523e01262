"""The messages of an ONNX file, read within bounds: how many, names that are texts, where numbers lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.files import belongs

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from onnx import ModelProto

# Nodes, attributes, weights, shapes and texts of a file: DenseNet-121 has 9,321 with 1,746 nodes, the largest
# exported networks some hundred thousand. Looking at each takes 3 us.
MOST_MESSAGES = 1 << 19
# Inputs list the weights, too, in files of old exporters.
MOST_INPUTS, MOST_OUTPUTS = 30_000, 1000
# Characters of the name of an input or output: both are shown.
_LONGEST_NAME = 1000
# onnxruntime takes the offset beside it for an address in its own memory.
_MEMORY = "_ORT_MEM_ADDR_"


def read_graph(path: Path) -> ModelProto:
    """The graph of a file, without numbers that lie in other files.

    Raises:
        google.protobuf.message.DecodeError: it is no ONNX file, or a name in it is no text.
        ValueError: it has more parts, inputs or outputs than any network, or longer names of these.
    """
    import onnx
    from google.protobuf.message import DecodeError

    # Without the format onnx chooses a parser by the ending: of text for model.textproto, of JSON for .json.
    model = onnx.load(str(path), format="protobuf", load_external_data=False)
    graph = model.graph
    for what, ports, most in (("input", graph.input, MOST_INPUTS), ("output", graph.output, MOST_OUTPUTS)):
        if len(ports) > most:
            raise ValueError(f"{path.name} has {len(ports):,} {what}s; a network has at most {most:,}")
    try:
        names_are_texts = all(map(_names_are_texts, _messages(model, path.name)))
        longest = max((len(one.name) for one in (*graph.input, *graph.output)), default=0)
    except UnicodeDecodeError:  # how older versions of protobuf say that
        names_are_texts, longest = False, 0
    if not names_are_texts:
        raise DecodeError("a name is no UTF-8")
    if longest > _LONGEST_NAME:
        raise ValueError(
            f"{path.name} names an input or output in {longest:,} characters; at most {_LONGEST_NAME:,} are "
            "read"
        )
    return model


def _messages(model: Message, name: str) -> Iterator[Message]:
    """A message and all in it.

    Raises:
        ValueError: there are more than in any network.
    """
    from google.protobuf.message import Message

    waiting, count = [model], 1
    while waiting:
        message = waiting.pop()
        yield message
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                inner = (value,) if isinstance(value, Message) else value
                count += len(inner)
                if count > MOST_MESSAGES:
                    raise ValueError(
                        f"{name} has more than {MOST_MESSAGES:,} nodes, attributes, weights and texts, more "
                        "than any pose network"
                    )
                waiting += inner


def _names_are_texts(message: Message) -> bool:
    """Whether no string of a message is bytes, as those that are no UTF-8 are given.

    Raises:
        UnicodeDecodeError: how older versions of protobuf say that.
    """
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            every: Iterable[Any] = (value,) if isinstance(value, (str, bytes)) else value
            if any(isinstance(one, bytes) for one in every):
                return False
    return True


def check_places(model: ModelProto, path: Path) -> None:
    """Check where numbers outside of the file lie; not every onnxruntime looks at links, pipes and addresses.

    Args:
        model: of `read_graph`. Every tensor in it is looked at: of weights, sparse ones, attributes,
            branches, functions and training.
        path: of its file.

    Raises:
        ValueError: a tensor lies outside the model's folder, or in what is no regular file.
    """
    from onnx import TensorProto

    folder = path.parent.resolve()
    for tensor in _messages(model, path.name):
        if not isinstance(tensor, TensorProto):
            continue
        for entry in tensor.external_data:
            if entry.key != "location":
                continue
            target = folder / entry.value
            if _MEMORY in entry.value or not belongs(target, folder):
                raise ValueError(
                    f"{path.name}: {tensor.name[:80]} lies in {entry.value[:200]!r}, outside the model's "
                    "folder; it is not read"
                )
            if target.exists() and not target.is_file():
                raise ValueError(
                    f"{path.name}: {tensor.name[:80]} lies in {entry.value[:200]!r}, which is no regular "
                    "file; it is not read"
                )
