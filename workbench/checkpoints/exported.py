"""Which weights lie in a torch.export archive (.pt2)? The graph is never run."""

from __future__ import annotations

import json
from typing import Any

from workbench.checkpoints.budget import Budget, Limits
from workbench.checkpoints.contents import Contents
from workbench.checkpoints.pickled_objects import Unread
from workbench.checkpoints.state_dicts import Finder
from workbench.checkpoints.tensors import ITEMSIZE, Storage, TensorInfo, checked
from workbench.checkpoints.torch_files import read_torch_zip
from workbench.checkpoints.zip_archive import NO_CHECKSUMS, Archive, Member, open_archive

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


def read_export(archive: Archive, limits: Limits, budget: Budget) -> Contents:
    """The weights of an exported program.

    Raises:
        ValueError: damaged, or a layout that is not known.
    """
    archive.require_names()
    facts = {} if archive.checksums else {"checksums": NO_CHECKSUMS}
    old = archive.ending("serialized_state_dict.pt") + archive.ending("serialized_state_dict.json")
    if old:
        inner = nested(archive, old[0], limits, budget)
        return Contents("torch.export", inner.value, inner.inert, facts)
    tensors: dict[str, TensorInfo | Unread] = {}
    inert: list[str] = []
    files: dict[str, Contents] = {}  # one file may hold several tensors, and is read once
    for config in archive.ending("weights_config.json") + archive.ending("constants_config.json"):
        folder = config.rpartition("/")[0] + "/"
        listed = _json(archive, config, limits, budget).get("config", {})
        for name, entry in listed.items() if isinstance(listed, dict) else ():
            budget.make()
            where = folder + str(entry.get("path_name", "")) if isinstance(entry, dict) else folder
            if where not in archive.members:
                raise ValueError(f"{archive.path.name} is damaged: {where[:200]} is missing")
            if entry.get("use_pickle"):
                if where not in files:
                    files[where] = nested(archive, where, limits, budget)
                    inert += files[where].inert
                if isinstance(files[where].value, (TensorInfo, Unread)):
                    tensors[name] = files[where].value
            elif entry.get("tensor_meta"):
                tensors[name] = _weight(archive.members[where], entry)
    if not tensors:  # torch 2.7 and 2.8 put one torch.save file per program there
        for name in (n for n in archive.members if "data/weights/" in n and n.endswith(".pt")):
            inner = nested(archive, name, limits, budget)
            inert += inner.inert
            tensors |= Finder(budget, limits).named(inner.value)
    return Contents("torch.export", tensors, tuple(dict.fromkeys(inert)), facts)


def nested(archive: Archive, name: str, limits: Limits, budget: Budget) -> Contents:
    """A file of torch.save that lies inside the archive."""
    member = archive.members[name]
    if member.deflated:
        raise ValueError(
            f"{archive.path.name}: {name} is compressed, so its tensors cannot be read by seeking"
        )
    inner = open_archive(archive.path, member.begin(), member.nbytes, limits)
    return read_torch_zip(inner, limits, budget)


def _weight(member: Member, entry: dict[str, Any]) -> TensorInfo:
    meta = entry["tensor_meta"]
    try:
        shape = tuple(int(n["as_int"]) for n in meta["sizes"])
        stride = tuple(int(n["as_int"]) for n in meta["strides"])
        offset = int(meta["storage_offset"]["as_int"])
        dtype = _TYPES[meta["dtype"]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{member.path.name}: {member.name} has sizes that are not fixed") from error
    storage = Storage(member.name, dtype, member.nbytes // ITEMSIZE[dtype], member)
    return checked(TensorInfo("", shape, dtype, storage, offset, stride, bool(entry.get("is_param"))))


def _json(archive: Archive, name: str, limits: Limits, budget: Budget) -> dict[str, Any]:
    budget.hold(archive.members[name].nbytes)
    try:
        found = json.loads(archive.bytes_of(name, limits.header))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{archive.path.name} is damaged: {name} is no JSON") from error
    return found if isinstance(found, dict) else {}
