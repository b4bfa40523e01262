"""What do the files of torch.save and torch.jit.save hold? Zips since torch 1.6, bare pickles before."""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path
from typing import Any

from workbench.checkpoints.budget import Budget, Limits
from workbench.checkpoints.contents import Contents, run_member, run_pickle
from workbench.checkpoints.pickled_objects import Symbol
from workbench.checkpoints.tensors import ITEMSIZE, Extent, Storage
from workbench.checkpoints.zip_archive import NO_CHECKSUMS, Archive

# torch.serialization.MAGIC_NUMBER: the first pickle of a file of torch < 1.6.
_MAGIC = 0x1950A86A20F9469CFC6C


def read_torch_zip(archive: Archive, limits: Limits, budget: Budget) -> Contents:
    """A file of torch.save (torch >= 1.6) or torch.jit.save; code inside it is never compiled.

    Raises:
        ValueError: damaged, cut off, or a bomb.
    """
    main = min((n for n in archive.members if n == "data.pkl" or n.endswith("/data.pkl")), key=len)
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
        return Storage(name, dtype, numel, found.place, big)

    value, inert = run_member(archive.members[main], persistent, limits, budget)
    scripted = any(n.startswith(folder + "code/") for n in archive.members)
    version = archive.members.get(folder + "version")
    facts: dict[str, Any] = {}
    if version is not None and version.nbytes < 16:
        facts["torch file version"] = version.read(0, version.nbytes).decode("ascii", "replace").strip()
    if not archive.checksums:
        facts["checksums"] = NO_CHECKSUMS
    return Contents("TorchScript" if scripted else "torch zip", value, inert, facts)


def read_bare_pickle(path: Path, limits: Limits, budget: Budget) -> Contents:
    """A file that begins as a pickle: torch.save of torch < 1.6, or any other pickle.

    Raises:
        ValueError: damaged, cut off, or a bomb.
    """
    size = path.stat().st_size
    source = partial(Extent, path)
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
                return (
                    key[1] if len(key) > 1 else None
                )  # a class with its source code: the source is not used
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
        part.place = root.place
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
            storage.place = Extent(path, at + 8, nbytes)
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
