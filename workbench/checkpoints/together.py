"""Read many tensors at once: each storage once, so that tied tensors stay tied."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from workbench.checkpoints.tensors import TensorInfo, read_tensor, tensor_over

if TYPE_CHECKING:
    from torch import Tensor


def read_together(infos: Mapping[str, TensorInfo]) -> dict[str, Tensor]:
    """All tensors, in order; those that share bytes on disk share memory."""
    groups: dict[tuple[int, str], list[str]] = defaultdict(list)
    for name, info in infos.items():
        groups[(id(info.storage.place), info.dtype)].append(name)
    found: dict[str, Tensor] = {}
    for names in groups.values():
        members = [infos[name] for name in names]
        if len(members) == 1 or not all(info.span and info.itemsize for info in members):
            found.update({name: read_tensor(infos[name]) for name in names})
            continue
        begins = [_first(info) for info in members]
        low = min(begins)
        high = max(begin + info.span for begin, info in zip(begins, members, strict=True))
        data = _block(members[0], low, high - low)
        for name, begin, info in zip(names, begins, members, strict=True):
            found[name] = tensor_over(info, data, offset=begin - low)
    return {name: found[name] for name in infos}


def _first(info: TensorInfo) -> int:
    """First element in the stored block, counted in the tensor's own type."""
    from workbench.checkpoints.tensors import ITEMSIZE

    return info.storage.first * ITEMSIZE[info.storage.dtype] // info.itemsize + info.offset


def _block(info: TensorInfo, first: int, count: int) -> bytearray:
    """`count` elements from `first` of a tensor's stored block."""
    from dataclasses import replace

    from workbench.checkpoints.tensors import read_bytes

    whole = replace(info.storage, first=0)
    return read_bytes(replace(info, storage=whole, shape=(count,), stride=(1,), offset=first))
