"""Reader of torch's files: torch.save (zip since 1.6, bare pickle before), TorchScript and torch.export.

Code and graphs inside them are never compiled or run.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from workbench.checkpoints.budget import Budget, Limits
from workbench.checkpoints.pickle_machine import run_pickle
from workbench.checkpoints.pickled_objects import Symbol
from workbench.checkpoints.state_dicts import Finder
from workbench.checkpoints.tensors import (
    ITEMSIZE,
    ByteSource,
    Contents,
    FileRange,
    Storage,
    SubRange,
    TensorInfo,
    Unread,
    checked,
)
from workbench.checkpoints.zip_archive import NO_CHECKSUMS, Archive, Member, open_archive
from workbench.core.files import Twice, each_once

# torch.serialization.MAGIC_NUMBER: the first pickle of a file of torch < 1.6.
_MAGIC = 0x1950A86A20F9469CFC6C
# Pickles up to this size are read at once; larger ones (numpy weights inside) are read from disk.
_AT_ONCE = 64 << 20


def read_torch_zip(archive: Archive, limits: Limits, budget: Budget) -> Contents:
    """Contents of a file of torch.save (torch >= 1.6) or torch.jit.save.

    Args:
        archive: the file's table of contents.
        limits: bounds on what is read.
        budget: work and memory that are left for the file.

    Raises:
        ValueError: damaged, cut off, or a bomb.
    """
    pickles = [name for name in archive.members if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(outer := [name for name in pickles if name.count("/") < 2]) > 1:
        raise ValueError(
            f"{archive.path.name} is damaged: it holds {len(outer)} pickles where torch writes one "
            f"({', '.join(name[:80] for name in outer[:3])}), and programs differ in which of them they read"
        )
    main = min(pickles, key=len)
    folder = main.removesuffix("data.pkl")
    order = archive.members.get(folder + "byteorder")
    big = order is not None and order.nbytes < 16 and order.read(0, order.nbytes) == b"big"
    storages: dict[str, Storage] = {}

    def persistent(key: Any) -> Any:
        dtype, name, numel = _storage_id(archive.path, key)
        if name not in storages:
            member = archive.members.get(f"{folder}data/{name}") or archive.members.get(
                f"{folder}tensors/{name}"
            )
            if member is None or member.nbytes < numel * ITEMSIZE.get(dtype, 1):
                raise ValueError(
                    f"{archive.path.name} is damaged: storage {name} is "
                    f"{'missing' if member is None else f'too short for {numel} {dtype}'}"
                )
            storages[name] = Storage(name, dtype, numel, member, big)
        found = storages[name]
        if found.dtype == dtype:
            return found
        return Storage(name, dtype, numel, found.source, big)

    value, inert = _run_member(archive.members[main], persistent, limits, budget)
    scripted = any(n.startswith(folder + "code/") for n in archive.members)
    version = archive.members.get(folder + "version")
    facts: dict[str, Any] = {}
    if version is not None and version.nbytes < 16:
        facts["torch file version"] = version.read(0, version.nbytes).decode("ascii", "replace").strip()
    if not archive.checksums:
        facts["checksums"] = NO_CHECKSUMS
    return Contents("TorchScript" if scripted else "torch zip", value, inert, facts)


def _run_member(
    member: Member, persistent: Callable[[Any], Any], limits: Limits, budget: Budget
) -> tuple[Any, tuple[str, ...]]:
    """The value of a pickle inside an archive, and the names in it that stayed inert."""
    path = member.path
    if member.deflated or member.nbytes <= _AT_ONCE:
        if member.deflated:
            budget.hold(member.nbytes)
        data = bytes(member.read(0, member.nbytes))
        source = None if member.deflated else partial(SubRange, member)
        return run_pickle(path, io.BytesIO(data), len(data), persistent, source, limits, budget)
    begin = member.begin()

    def part(at: int, nbytes: int) -> ByteSource:
        return SubRange(member, at - begin, nbytes)

    with path.open("rb") as stream:
        stream.seek(begin)
        return run_pickle(path, stream, begin + member.nbytes, persistent, part, limits, budget)


def read_bare_pickle(path: Path, limits: Limits, budget: Budget) -> Contents:
    """Contents of a file that begins as a pickle: torch.save of torch < 1.6, or any other pickle.

    Args:
        path: the file.
        limits: bounds on what is read.
        budget: work and memory that are left for the file.

    Raises:
        ValueError: damaged, cut off, or a bomb.
    """
    size = path.stat().st_size
    source = partial(FileRange, path)
    with path.open("rb") as stream:
        value, inert = run_pickle(path, stream, size, None, source, limits, budget)
        if value != _MAGIC:
            return Contents("pickle", value, inert)
        for _ in ("protocol version", "system"):
            run_pickle(path, stream, size, None, source, limits, budget)
        storages: dict[str, Storage] = {}
        views: list[tuple[Storage, Storage]] = []

        def persistent(key: Any) -> Any:
            if isinstance(key, tuple) and key and key[0] == "module":
                # A class with its source code, which is not used.
                return key[1] if len(key) > 1 else None
            dtype, name, numel = _storage_id(path, key)
            root = storages.setdefault(name, Storage(name, dtype, numel))
            view = key[5] if len(key) > 5 else None
            if view is None:
                return root
            if not isinstance(view, tuple) or len(view) != 3 or not all(type(n) is int for n in view[1:]):
                raise ValueError(f"{path.name} is damaged: a view of storage {name} makes no sense")
            _, first, count = view
            if first < 0 or count < 0 or first + count > numel:
                raise ValueError(f"{path.name} is damaged: a view reaches beyond storage {name}")
            part = Storage(name, dtype, count, first=first)
            views.append((part, root))
            return part

        value, inert = run_pickle(path, stream, size, persistent, source, limits, budget)
        keys, _ = run_pickle(path, stream, size, None, source, limits, budget)
        if not isinstance(keys, list):
            raise ValueError(f"{path.name} is damaged: the list of its storages is missing")
        _place_storages(path, stream.tell(), size, keys, storages)
    for part, root in views:
        part.source = root.source
    return Contents("torch pickle before 1.6", value, inert)


def _place_storages(path: Path, at: int, size: int, keys: list[Any], storages: dict[str, Storage]) -> None:
    """After the pickles come the storages: for each an int64 count, then its elements, little-endian."""
    with path.open("rb") as file:
        for key in keys:
            storage = storages.get(key) if isinstance(key, str) else None
            if storage is None:
                raise ValueError(f"{path.name} is damaged: a storage that no tensor uses")
            file.seek(at)
            head = file.read(8)
            nbytes = storage.numel * ITEMSIZE.get(storage.dtype, 1)
            if len(head) < 8 or at + 8 + nbytes > size:
                raise ValueError(
                    f"{path.name} is cut off: storage {key} is incomplete; copy or download it again"
                )
            if struct.unpack("<q", head)[0] != storage.numel:
                raise ValueError(
                    f"{path.name} is damaged: storage {key} has another size than its tensors say"
                )
            storage.source = FileRange(path, at + 8, nbytes)
            at += 8 + nbytes


def _storage_id(path: Path, key: Any) -> tuple[str, str, int]:
    """Type, name and element count from a persistent id ("storage", class, key, location, numel, ...)."""
    if (
        isinstance(key, tuple)
        and len(key) >= 5
        and key[0] == "storage"
        and isinstance(key[1], Symbol)
        and key[1].dtype
        and type(key[4]) is int
        and 0 <= key[4] < 1 << 50
    ):
        name = key[2] if isinstance(key[2], str) else None
        if name is not None and len(name) < 200:
            return key[1].dtype, name, key[4]
    raise ValueError(f"{path.name} is damaged: a storage is described in a way that torch never writes")


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

    Args:
        archive: the file's table of contents.
        limits: bounds on what is read.
        budget: work and memory that are left for the file.

    Raises:
        ValueError: damaged, or a layout that is not known.
    """
    archive.require_names()
    facts = {} if archive.checksums else {"checksums": NO_CHECKSUMS}
    old = archive.ending("serialized_state_dict.pt") + archive.ending("serialized_state_dict.json")
    if old:
        inner = _nested(archive, old[0], limits, budget)
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
                    files[where] = _nested(archive, where, limits, budget)
                    inert += files[where].inert
                if isinstance(files[where].value, (TensorInfo, Unread)):
                    tensors[name] = files[where].value
            elif entry.get("tensor_meta"):
                tensors[name] = _weight(archive.members[where], entry)
    if not tensors:  # torch 2.7 and 2.8 put one torch.save file per program there
        for name in (n for n in archive.members if "data/weights/" in n and n.endswith(".pt")):
            inner = _nested(archive, name, limits, budget)
            inert += inner.inert
            tensors |= Finder(budget, limits).named(inner.value)
    return Contents("torch.export", tensors, tuple(dict.fromkeys(inert)), facts)


def _nested(archive: Archive, name: str, limits: Limits, budget: Budget) -> Contents:
    """Contents of a file of torch.save inside the archive."""
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
        found = json.loads(archive.bytes_of(name, limits.header), object_pairs_hook=each_once)
    except Twice as error:
        raise ValueError(f"{archive.path.name} is damaged: {name} names {error} twice") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{archive.path.name} is damaged: {name} is no JSON") from error
    return found if isinstance(found, dict) else {}
