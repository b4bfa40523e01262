"""What is for a GPU, as far as a processor can tell: compiled steps, and whether a step could be recorded."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.training.test_session import SHORT, losses, trainer
from workbench.core import Outputs
from workbench.training import passes
from workbench.training.objectives import OBJECTIVES, Target

MEASURED = dataclasses.replace(SHORT, steps=6, measure_every=3)


def rows_of(settings):
    made = trainer(settings)
    return [made.step() for _ in range(settings.steps)]


def test_a_compiled_network_learns_the_same_and_is_still_looked_into(monkeypatch):
    # Without a code generator: its rounding would differ, and it takes a compiler half a minute.
    monkeypatch.setattr(passes, "BACKEND", "aot_eager")
    plain, compiled = rows_of(MEASURED), rows_of(dataclasses.replace(MEASURED, compile=True))
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-4)
    for one, other in zip(plain, compiled, strict=True):
        assert one.get("dead") == other.get("dead"), "every measured step sees the rectifiers"
        assert one.get("pck") == other.get("pck")


class Recordable(TorchDispatchMode):
    """Refuses what a CUDA graph cannot record: a result that the processor has to wait for.

    Source: torch notes/cuda, "CUDA Graphs", constraints: no synchronisation, no dynamic shapes.
    """

    WAITS = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "_unique2",
        "unique_dim",
        "is_nonzero",
        "equal",
    )

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_") else ()
        by_mask = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)
        assert name not in self.WAITS, f"{name} waits for the GPU"
        assert not by_mask, f"{name} by a mask has a shape that only the GPU knows"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("amp", [False, True])
def test_nothing_in_a_step_waits_for_the_gpu(amp):
    made = trainer(dataclasses.replace(SHORT, amp=amp))
    made.model.module.train()
    with Recordable():
        done = made._passes._forward()
        made.scaler.scale(done.loss).backward()
    assert torch.isfinite(done.loss)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_objective_waits_for_the_gpu(objective):
    kind, _, _ = objective.partition("_")
    sizes = [(17, 16, 16)] if kind == "heatmap" else [(17, 32), (17, 32)]
    given = [torch.rand(1, *size, requires_grad=True) for size in sizes]
    wanted = [torch.rand(1, *size) for size in sizes]
    weights = torch.ones(1, 17)
    if kind == "heatmap":
        outputs, target = Outputs(heatmaps=given[0]), Target(weights, heatmaps=wanted[0])
    else:
        outputs, target = Outputs(simcc=tuple(given)), Target(weights, simcc=tuple(wanted))
    with Recordable():
        torch.stack(list(OBJECTIVES[objective](outputs, target).values())).sum().backward()
    assert all(tensor.grad is not None for tensor in given)


def test_the_check_itself_sees_a_step_that_waits():
    with Recordable(), pytest.raises(AssertionError, match="waits for the GPU"):
        torch.ones(3).sum().item()
    with Recordable(), pytest.raises(AssertionError, match="by a mask"):
        _ = torch.ones(3)[torch.tensor([True, False, True])]
