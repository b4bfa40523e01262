"""Files that trainers would write, written here."""

from __future__ import annotations

import collections

import pytest
import torch


def tensors() -> dict[str, torch.Tensor]:
    """Every type and layout that a state dict may hold."""
    g = torch.Generator().manual_seed(0)
    base = torch.randn(6, 8, generator=g)
    found = {
        "float32": torch.randn(3, 4, 5, generator=g),
        "float64": torch.randn(7, dtype=torch.float64, generator=g),
        "float16": torch.randn(5, generator=g).half(),
        "bfloat16": torch.randn(2, 3, generator=g).bfloat16(),
        "int64": torch.arange(5),
        "int32": torch.arange(-3, 3, dtype=torch.int32),
        "int16": torch.arange(4, dtype=torch.int16),
        "int8": torch.arange(-4, 4, dtype=torch.int8),
        "uint8": torch.arange(9, dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "complex64": torch.randn(4, dtype=torch.complex64, generator=g),
        "complex128": torch.randn(2, 2, dtype=torch.complex128, generator=g),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 5),
        "base": base,
        "tied": base,
        "view": base[2:5, 1:7:2],
        "transposed": base.t(),
        "expanded": torch.ones(1, 3).expand(4, 3),
        "permuted": torch.randn(2, 3, 4, 5, generator=g).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(torch.randn(3, generator=g)),
    }
    for name in ("float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64"):
        if hasattr(torch, name):
            found[name] = torch.arange(6, dtype=torch.float32).to(getattr(torch, name))
    return found


def network() -> torch.nn.Module:
    """A small network with batch normalisation and tied weights."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        collections.OrderedDict(
            backbone=torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)),
            head=torch.nn.Conv2d(4, 17, 1),
        )
    )


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Bit for bit: type, shape, and bytes, so that nan equals nan."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    a, b = a.detach().contiguous().reshape(-1), b.detach().contiguous().reshape(-1)
    return torch.equal(a.view(torch.uint8), b.view(torch.uint8)) if a.numel() else True


@pytest.fixture
def layouts():
    return tensors()


@pytest.fixture
def net():
    return network()


@pytest.fixture
def bitwise():
    return same
