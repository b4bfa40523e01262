"""A compiled network, and how to pass by what was compiled when it is to be looked into."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

BACKEND = "inductor"


def compile_in_place(module: nn.Module) -> None:
    """From now on a call of the network runs compiled code, made at the first one."""
    module.compile(backend=BACKEND)


def plainly(compiled: bool) -> contextlib.AbstractContextManager[object]:
    """Calls in the block run the network as it was written.

    With other hooks, or in evaluation mode, a network is another program to the compiler: it would be
    compiled again, and an evaluation once in fifty steps is not worth that.

    Args:
        compiled: whether there is anything to pass by; telling torch so takes its compiler's import.
    """
    if not compiled:
        return contextlib.nullcontext()
    import torch

    return torch.compiler.set_stance("force_eager")
