"""Which weights lie in a torch.export archive (.pt2) or a numpy archive (.npz)? The graph is never run."""

from __future__ import annotations

import ast
import json
import math
import struct
from typing import Any

from workbench.checkpoints.archives import Archive, Member, open_archive
from workbench.checkpoints.contents import Contents
from workbench.checkpoints.limits import Limits
from workbench.checkpoints.stubs import NumpyType
from workbench.checkpoints.tensors import ITEMSIZE, Place, Storage, TensorInfo, checked, contiguous
from workbench.checkpoints.torch_files import read_torch_zip
from workbench.checkpoints.wrappers import state_dict_in

# torch/_export/serde/schema.py, ScalarType, torch 2.13.
_TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16",
    29: "float8_e4m3fn", 30: "float8_e5m2", 31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz",
}  # fmt: skip


def is_export(archive: Archive) -> bool:
    """Written by torch.export.save, of any version."""
    marks = ("weights_config.json", "serialized_exported_program.json", "archive_format")
    return any(archive.ending(mark) for mark in marks)


def read_export(archive: Archive, limits: Limits) -> Contents:
    """The weights of an exported program.

    Raises:
        ValueError: damaged, or a layout that is not known.
    """
    old = archive.ending("serialized_state_dict.pt") + archive.ending("serialized_state_dict.json")
    if old:
        inner = nested(archive, old[0], limits)
        return Contents("torch.export", inner.value, inner.inert)
    tensors: dict[str, TensorInfo] = {}
    inert: list[str] = []
    for config in archive.ending("weights_config.json") + archive.ending("constants_config.json"):
        folder = config.rpartition("/")[0] + "/"
        listed = _json(archive, config, limits).get("config", {})
        for name, entry in listed.items() if isinstance(listed, dict) else ():
            where = folder + str(entry.get("path_name", ""))
            if where not in archive.members:
                raise ValueError(f"{archive.path.name} is damaged: {where} is missing")
            if entry.get("use_pickle"):
                inner = nested(archive, where, limits)
                inert += inner.inert
                if isinstance(inner.value, TensorInfo):
                    tensors[name] = inner.value
            elif entry.get("tensor_meta"):
                tensors[name] = _weight(archive.members[where], entry)
    if not tensors:  # torch 2.7 and 2.8 put one torch.save file per program there
        for name in (n for n in archive.members if "data/weights/" in n and n.endswith(".pt")):
            inner = nested(archive, name, limits)
            inert += inner.inert
            tensors |= state_dict_in(inner.value)
    return Contents("torch.export", tensors, tuple(dict.fromkeys(inert)))


def nested(archive: Archive, name: str, limits: Limits) -> Contents:
    """A file of torch.save that lies inside the archive."""
    member = archive.members[name]
    if member.deflated:
        raise ValueError(
            f"{archive.path.name}: {name} is compressed, so its tensors cannot be read by seeking"
        )
    return read_torch_zip(open_archive(archive.path, member.begin(), member.nbytes, limits), limits)


def _weight(member: Member, entry: dict[str, Any]) -> TensorInfo:
    meta = entry["tensor_meta"]
    try:
        shape = tuple(int(n["as_int"]) for n in meta["sizes"])
        stride = tuple(int(n["as_int"]) for n in meta["strides"])
        offset = int(meta["storage_offset"]["as_int"])
        dtype = _TYPES[meta["dtype"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{member.path.name}: {member.name} has sizes that are not fixed") from error
    storage = Storage(member.name, dtype, member.nbytes // ITEMSIZE[dtype], member)
    return checked(TensorInfo("", shape, dtype, storage, offset, stride, bool(entry.get("is_param"))))


def _json(archive: Archive, name: str, limits: Limits) -> dict[str, Any]:
    try:
        found = json.loads(archive.bytes_of(name, limits.header))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{archive.path.name} is damaged: {name} is no JSON") from error
    return found if isinstance(found, dict) else {}


def read_npz(archive: Archive) -> Contents:
    """The arrays of a numpy archive, as jax and TensorFlow ports of ViT publish their weights."""
    tensors: dict[str, TensorInfo] = {}
    for name in archive.ending(".npy"):
        found = _npy(archive.members[name])
        if found is not None:
            tensors[name.removesuffix(".npy")] = found
    return Contents("numpy archive", tensors)


def _npy(member: Member) -> TensorInfo | None:
    """One array; None for types that are no numbers. Source: numpy.lib.format, versions 1 to 3."""
    head = bytes(member.read(0, min(12, member.nbytes)))
    if head[:6] != b"\x93NUMPY" or len(head) < 12:
        raise ValueError(f"{member.path.name}: {member.name} is no numpy array")
    wide = head[6] > 1
    length = struct.unpack("<I", head[8:12])[0] if wide else struct.unpack("<H", head[8:10])[0]
    begin = 12 if wide else 10
    if length > 10_000:
        raise ValueError(f"{member.path.name}: {member.name} has a header of {length} bytes; refused")
    try:
        facts = ast.literal_eval(bytes(member.read(begin, length)).decode("latin1").strip())
        shape = tuple(int(n) for n in facts["shape"])
        code, fortran = facts["descr"], bool(facts["fortran_order"])
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"{member.path.name}: the header of {member.name} is damaged") from error
    kind = NumpyType(code) if isinstance(code, str) else None
    if kind is None or not kind.is_plain or kind.dtype.name not in ITEMSIZE:
        return None
    place = _After(member, begin + length)
    storage = Storage(member.name, kind.dtype.name, place.nbytes // kind.dtype.itemsize, place)
    storage.big_endian = code.startswith(">")
    stride = contiguous(shape[::-1])[::-1] if fortran else contiguous(shape)
    if math.prod(shape) > storage.numel:
        raise ValueError(f"{member.path.name} is damaged: {member.name} is shorter than its header says")
    return checked(TensorInfo("", shape, kind.dtype.name, storage, 0, stride))


class _After:
    """The bytes of a place behind its header."""

    def __init__(self, place: Place, skip: int) -> None:
        self.place, self.skip = place, skip

    @property
    def nbytes(self) -> int:
        return self.place.nbytes - self.skip

    def read(self, start: int, count: int) -> bytearray:
        return self.place.read(self.skip + start, count)
