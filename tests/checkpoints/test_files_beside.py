"""Files that a model names lie in its folder; tensors lie where their format puts them, and nowhere else."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.checkpoint_files import models_in


def safetensors_file(path: Path, header, nbytes: int) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(nbytes))
    return path


def entry(begin: int, end: int) -> dict:
    return {"dtype": "F32", "shape": [(end - begin) // 4], "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "nbytes", "says"),
    [
        ({"a": entry(0, 16), "b": entry(8, 24)}, 24, "the data of 'b' overlaps 'a'"),
        ({"a": entry(0, 16), "b": entry(0, 16)}, 16, "the data of 'b' overlaps 'a'"),
        ({"a": entry(0, 16), "b": entry(20, 24)}, 24, "the data of 'b' leaves 4 bytes after 'a' unused"),
        ({"a": entry(4, 16)}, 16, "the data of 'a' leaves 4 bytes after the header unused"),
        ({"a": entry(0, 16)}, 20, "4 bytes follow 'a', the last of its tensors"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [16, 8]}}, 16, "'a' ends before it begins"),
        ({"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 8]}}, 8, "header entry of 'a'"),
        ({"a": {"dtype": "F32", "shape": [1 << 60] * 60, "data_offsets": [0, 8]}}, 8,
         r"a of shape \(over 10\^12, .*, \.\.\. of 60 axes\) cannot have 8 bytes"),
        ({"a": 5}, 8, "header entry of 'a'"),
        (b'{"a":%s,"a":%s}' % ((json.dumps(entry(0, 16)).encode(),) * 2), 16, "names 'a' twice"),
    ],
)  # fmt: skip
def test_safetensors_whose_tensors_overlap_or_leave_gaps_are_refused(tmp_path, header, nbytes, says):
    with pytest.raises(ValueError, match=f"a.safetensors is damaged: .*{says}"):
        open_checkpoint(safetensors_file(tmp_path / "a.safetensors", header, nbytes))


def test_safetensors_in_any_order_and_with_empty_tensors_are_read(tmp_path):
    header = {"__metadata__": {"format": "pt"}, "b": entry(8, 24), "a": entry(0, 8), "none": entry(8, 8)}
    got = open_checkpoint(safetensors_file(tmp_path / "a.safetensors", header, 24))
    assert {name: info.shape for name, info in got.tensors.items()} == {"b": (4,), "a": (2,), "none": (0,)}


def test_shards_outside_the_folder_are_refused_also_through_links(tmp_path):
    (tmp_path / "secret").mkdir()
    outside = safetensors_file(tmp_path / "secret" / "x.safetensors", {"a": entry(0, 8)}, 8)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.safetensors").symlink_to(outside)
    (folder / "loop.safetensors").symlink_to(folder / "loop.safetensors")
    (folder / "inside.safetensors").write_bytes(outside.read_bytes())
    (folder / "near.safetensors").symlink_to("inside.safetensors")
    index = folder / "model.safetensors.index.json"
    for name in ("link.safetensors", "../secret/x.safetensors", str(outside), "loop.safetensors", "a\0b"):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(ValueError, match=r"outside its folder|longer names"):
            open_checkpoint(index)
    index.write_text(json.dumps({"weight_map": {"a": "near.safetensors"}}))
    assert list(open_checkpoint(index).tensors) == ["a"]


def test_an_index_that_names_a_tensor_twice_is_refused(tmp_path):
    """The last of both counted in silence; other programs read the first."""
    for name in ("a", "b"):
        safetensors_file(tmp_path / f"{name}.safetensors", {name: entry(0, 8)}, 8)
    index = tmp_path / "m.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "a.safetensors", "a": "b.safetensors"}}')
    with pytest.raises(ValueError, match=r"index\.json is damaged: it names 'a' twice"):
        open_checkpoint(index)


def test_an_index_whose_values_would_fill_the_memory_is_refused_unread(tmp_path):
    index = tmp_path / "a.index.json"
    with index.open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(ValueError, match=r"a shard index of more than 16777216 bytes is refused"):
        open_checkpoint(index)


@pytest.mark.parametrize("content", ['{"weight_map": %s}' % ("9" * 5000), "[" * 100_000, "\udc80"])
def test_a_json_that_cannot_be_read_hides_no_checkpoint_beside_it(tmp_path, content):
    index = tmp_path / "a.index.json"
    index.write_text(content, errors="surrogatepass")
    safetensors_file(tmp_path / "epoch_1.safetensors", {"a": entry(0, 8)}, 8)
    assert [path.name for path in models_in(tmp_path)] == ["epoch_1.safetensors"]
    assert list(open_checkpoint(tmp_path).tensors) == ["a"]
    with pytest.raises(ValueError, match=r"^a\.index\.json "):
        open_checkpoint(index)


def test_the_cache_of_the_hub_keeps_its_files_as_links_and_is_read(tmp_path):
    repo = tmp_path / "models--a--b"
    (repo / "blobs").mkdir(parents=True)
    folder = repo / "snapshots" / "0123"
    folder.mkdir(parents=True)
    safetensors_file(repo / "blobs" / "aa", {"a": entry(0, 8)}, 8)
    (repo / "blobs" / "bb").write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    (folder / "model-1.safetensors").symlink_to("../../blobs/aa")
    (folder / "model.safetensors.index.json").symlink_to("../../blobs/bb")
    assert list(open_checkpoint(folder).tensors) == ["a"]
    other = safetensors_file(tmp_path / "x.safetensors", {"a": entry(0, 8)}, 8)
    (folder / "model-1.safetensors").unlink()
    (folder / "model-1.safetensors").symlink_to(other)
    with pytest.raises(ValueError, match="outside its folder"):
        open_checkpoint(folder)


def external(folder: Path, dims=(4,), raw: bytes | None = None, **where: str) -> Path:
    """An ONNX model of one tensor that lies elsewhere, or inside as `raw`."""
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims)
    if raw is None:
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in where.items():
            tensor.external_data.add(key=key, value=value)
    else:
        tensor.raw_data = raw
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [])
    graph.initializer.append(tensor)
    (folder / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    return folder / "m.onnx"


def test_external_data_of_onnx_are_read_within_what_is_declared(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"s" * 64)
    (folder / "w.bin").write_bytes(np.arange(8, dtype=np.float32).tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    for where, values in (
        ({"location": "w.bin"}, [0, 1, 2, 3]),
        ({"location": "w.bin", "length": "16"}, [0, 1, 2, 3]),
        ({"location": "w.bin", "offset": "16", "length": "16"}, [4, 5, 6, 7]),
        ({"location": "w.bin", "offset": "16"}, [4, 5, 6, 7]),
    ):
        assert open_checkpoint(external(folder, **where)).read("w").tolist() == values
    for where, says in (
        ({"location": "w.bin", "length": "8"}, "needs 16 bytes of w.bin, 8 are declared"),
        ({"location": "w.bin", "length": "32"}, "needs 16 bytes of w.bin, 32 are declared"),
        ({"location": "w.bin", "offset": "20"}, "too short"),
        ({"location": "w.bin", "offset": "20", "length": "16"}, "too short"),
        ({"location": "w.bin", "offset": "-4", "length": "16"}, "outside the model's folder"),
        ({"location": "../secret.bin", "length": "16"}, "outside the model's folder"),
        ({"location": str(tmp_path / "secret.bin"), "length": "16"}, "outside the model's folder"),
        ({"location": "link.bin", "length": "16"}, "outside the model's folder"),
        ({"location": "gone.bin", "length": "16"}, "which is missing beside it"),
        ({"length": "16"}, "outside the model's folder"),
    ):  # fmt: skip
        got = open_checkpoint(external(folder, **where))
        with pytest.raises(ValueError, match=says):
            got.read("w")
    with pytest.raises(ValueError, match="damaged: external data of w"):
        open_checkpoint(external(folder, location="w.bin", length="many"))


def test_impossible_sizes_in_onnx_are_refused(tmp_path):
    for dims, raw in (((-4,), bytes(16)), ((1 << 62, 4), bytes(16)), ((4,), bytes(12)), ((4,), bytes(20))):
        with pytest.raises(ValueError, match=r"m\.onnx is damaged: w "):
            open_checkpoint(external(tmp_path, dims, raw))
