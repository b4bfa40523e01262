"""How is the gradient of one step made: plainly, watched, or by a recorded graph? The numbers agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workbench.core import Outputs
from workbench.core.hooks import recording
from workbench.training import measures
from workbench.training.passes import GraphedPass, Pass, RunningStatistics, seeded
from workbench.training.passes import uncompiled as plainly
from workbench.training.settings import Settings
from workbench.training.trainer import half_type, in_full

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Passes:
    """Forward and backward over a network, seeded, and harmless when they fail."""

    def __init__(
        self,
        module: nn.Module,
        forward: Callable[[], Outputs],
        losses: Callable[[Outputs], dict[str, Tensor]],
        optimizer: torch.optim.Optimizer,
        settings: Settings,
        device: str,
    ) -> None:
        """Take what a step is made of.

        Args:
            module: the network.
            forward: runs it on the batch as it lies.
            losses: parts of the loss, from outputs in float32.
            optimizer: clears the gradients.
            settings: amp, graphs, seed.
            device: where.
        """
        import torch

        self._module, self._run, self._losses, self._optimizer = module, forward, losses, optimizer
        self._settings, self._device = settings, device
        self._kind, self._half = device.partition(":")[0], half_type(device)
        self.scaler = torch.amp.GradScaler(self._kind, enabled=settings.amp and self._half is torch.float16)
        self._statistics = RunningStatistics(module)
        self._graph: GraphedPass | None = None

    def __call__(self, number: int, watched: bool, accept: Callable[[float], None]) -> tuple[Pass, Any]:
        """Forward and backward of step `number`; afterwards every parameter has its (scaled) gradient.

        Args:
            number: of the step, from 1; all that is random comes from it and the seed.
            watched: also return what every rectifier gave.
            accept: is given the loss; when it raises, no gradient is made where that can be helped.

        Returns:
            the pass, and activations by module path (empty unless watched).
        """
        with self._statistics.unharmed(), seeded(self._seed(number), self._device):
            # Hooks see nothing of a replay, so a watched step runs plainly.
            if self._settings.graphs and not watched:
                done = self._replayed()
                accept(done.loss.item())
                return done, {}
            done, activations = self._watched() if watched else (self._forward(), {})
            accept(done.loss.item())
            # A graph's gradients stay where they are.
            self._optimizer.zero_grad(set_to_none=not self._settings.graphs)
            self.scaler.scale(done.loss).backward()
            return done, activations

    def looked_at(self, number: int) -> Outputs:
        """Outputs in training mode of the weights as they are now; the network is as before afterwards.

        Args:
            number: of the step whose dropout is drawn again.
        """
        import torch

        with torch.no_grad(), self._statistics.unharmed(), seeded(self._seed(number), self._device):
            with plainly(self._settings.compile), self._autocast():
                outputs = self._run()
            self._statistics.put_back()
        return outputs.detach()

    def _seed(self, number: int) -> int:
        return self._settings.seed * 1_000_003 + number

    def _watched(self) -> tuple[Pass, Any]:
        taps = measures.rectifiers(self._module)
        if not taps:
            return self._forward(), {}
        with plainly(self._settings.compile), recording(self._module, taps, taps) as activations:
            return self._forward(), activations

    def _autocast(self) -> torch.autocast:
        import torch

        # A cast kept from outside a graph would be read, and never made again, inside it.
        cached = not self._settings.graphs
        return torch.autocast(self._kind, self._half, enabled=self._settings.amp, cache_enabled=cached)

    def _forward(self) -> Pass:
        import torch

        with self._autocast():
            outputs = self._run()
        parts = self._losses(in_full(outputs))
        return Pass(outputs, parts, torch.stack(list(parts.values())).sum())

    def _replayed(self) -> Pass:
        def whole() -> Pass:
            done = self._forward()
            self.scaler.scale(done.loss).backward()
            return done

        if self._graph is None:
            self._graph = GraphedPass(whole, self._optimizer.zero_grad, self._device)
            self._statistics.put_back()  # warming up has moved them
        return self._graph()
