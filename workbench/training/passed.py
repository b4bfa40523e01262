"""What did one pass forward in training mode give, and what must be as before when it fails?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.core import Outputs

if TYPE_CHECKING:
    from torch import Tensor, nn


class Diverged(ArithmeticError):  # noqa: N818 - reads as a claim about the run
    """The loss is no longer a number. The weights are those before the step; nothing finished is lost."""


@dataclass(frozen=True, eq=False)
class Pass:
    """What a forward pass gave.

    Attributes:
        outputs: of the network, in the graph.
        parts: of the loss, by name.
        loss: their sum, which is minimised.
    """

    outputs: Outputs
    parts: dict[str, Tensor]
    loss: Tensor


@contextlib.contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Everything random in the block comes from `seed`; afterwards the generators are as they were.

    What torch.random.fork_rng and torch.manual_seed do, at a tenth of their time: they visit every kind of
    device, half a millisecond at each step. Other runs wait meanwhile: the generators are the process's.
    """
    import torch

    from workbench.models.randomness import PROCESS_GENERATOR

    generators = [torch.default_generator]
    if device != "cpu":
        torch.cuda.init()
        generators.append(torch.cuda.default_generators[torch.device(device).index or 0])
    with PROCESS_GENERATOR:
        states = [generator.get_state() for generator in generators]
        for generator in generators:
            generator.manual_seed(seed)
        try:
            yield
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)


class RunningStatistics:
    """Buffers of a network as they were: a pass in training mode moves them, one that fails ruins them."""

    def __init__(self, module: nn.Module) -> None:
        # A network has ten times as many layers as layers with buffers, and walking over it all at every step
        # takes longer than copying them.
        self._parts = [
            part for part in module.modules() if next(part.buffers(recurse=False), None) is not None
        ]
        self._kept: list[Tensor] = []

    def _buffers(self) -> list[Tensor]:
        """As they are now: a layer may have put another tensor in a buffer's place."""
        return [buffer for part in self._parts for buffer in part.buffers(recurse=False)]

    @contextlib.contextmanager
    def unharmed(self) -> Iterator[None]:
        """Put them back should the block raise anything."""
        import torch

        now = self._buffers()
        if [b.shape for b in self._kept] == [b.shape for b in now]:
            if now:
                with torch.no_grad():  # no allocation and one call: a fifth of the time of a hundred clones
                    torch._foreach_copy_(self._kept, now)  # type: ignore[reportPrivateImportUsage]
        else:
            self._kept = [b.clone() for b in now]
        try:
            yield
        except BaseException:
            self.put_back()
            raise

    def put_back(self) -> None:
        """Write what was kept last."""
        import torch

        with torch.no_grad():
            for buffer, kept in zip(self._buffers(), self._kept, strict=True):
                buffer.copy_(kept)
