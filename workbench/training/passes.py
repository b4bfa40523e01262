"""Forward and backward pass of one step: plain, recorded with hooks, or replayed as a CUDA graph.

The numbers agree. A pass is seeded, and running statistics are restored when it fails.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core import Outputs, reason
from workbench.core.hooks import recording
from workbench.training import measures
from workbench.training.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Diverged(ArithmeticError):  # noqa: N818 - reads as a statement about the run
    """The loss is not finite. The weights are those before the step; no finished step is lost."""


@dataclass(frozen=True, eq=False)
class Pass:
    """Result of a forward pass in training mode.

    Attributes:
        outputs: of the network, in the autograd graph.
        parts: of the loss, by name.
        loss: their sum, which is minimised.
    """

    outputs: Outputs
    parts: dict[str, Tensor]
    loss: Tensor


@dataclass(frozen=True, eq=False)
class Ahead:
    """The forward pass of a step that is not yet asked for.

    Attributes:
        number: of the step.
        done: the pass.
        versions: of every parameter and buffer that it began with; with others its backward pass would fail.
        values: copies of them; a change through ``.data`` leaves the versions as they are.
        statistics: buffers as they are after it.
    """

    number: int
    done: Pass
    versions: list[int]
    values: list[Tensor]
    statistics: list[Tensor]


@contextlib.contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Seed torch's generators in the block; afterwards they are as they were.

    Equivalent to torch.random.fork_rng and torch.manual_seed in a tenth of the time: those visit every kind
    of device, half a millisecond per step. The generators belong to the process, so other runs wait
    meanwhile.

    Args:
        seed: of the CPU generator and of the device's.
        device: cpu, cuda, cuda:N.
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
    """Copy of a network's buffers: a pass in training mode changes them, and one that fails ruins them."""

    def __init__(self, module: nn.Module) -> None:
        # The layers' own dictionaries, since a layer may replace the tensor of a buffer. Asking every layer
        # for its buffers at every step takes as long as copying them.
        self._stores = [part._buffers for part in module.modules() if part._buffers]
        self._seen: list[Tensor] = []
        self._copy: list[Tensor] = []

    def buffers(self) -> list[Tensor]:
        """The current ones, in the shapes of the layers."""
        return [buffer for store in self._stores for buffer in store.values() if buffer is not None]

    @contextlib.contextmanager
    def restored_on_failure(self) -> Iterator[None]:
        """Restore the buffers if the block raises."""
        import torch

        now = self.buffers()
        if len(now) == len(self._seen) and all(a is b for a, b in zip(now, self._seen, strict=True)):
            if now:
                with torch.no_grad():  # no allocation and one call: a fifth of the time of a hundred clones
                    torch._foreach_copy_(self._copy, now)  # type: ignore[reportPrivateImportUsage]
        else:
            self._seen, self._copy = now, [b.clone() for b in now]
        try:
            yield
        except BaseException:
            self.restore()
            raise

    def restore(self) -> None:
        """Write the last copy back."""
        import torch

        with torch.no_grad():
            for buffer, copy in zip(self.buffers(), self._copy, strict=True):
                buffer.copy_(copy)

    def exchanged(self, others: Sequence[Tensor] = ()) -> list[Tensor]:
        """Give the layers other buffers of the same shapes, by default copies; returns the former ones."""
        before = self.buffers()
        # A buffer of two layers stays one.
        after = {id(b): o for b, o in zip(before, others or [b.clone() for b in before], strict=True)}
        for store in self._stores:
            for name, buffer in list(store.items()):
                if buffer is not None:
                    store[name] = after[id(buffer)]
        return before


BACKEND = "inductor"


def compile_in_place(module: nn.Module) -> None:
    """Compile a network; the code is generated at its first call."""
    module.compile(backend=BACKEND)


def uncompiled(compiled: bool) -> contextlib.AbstractContextManager[object]:
    """Calls in the block run the network's original code.

    With other hooks, or in evaluation mode, a network is another program to the compiler and would be
    compiled again, which an evaluation once in fifty steps is not worth.

    Args:
        compiled: whether the network is compiled; changing torch's stance imports its compiler.
    """
    if not compiled:
        return contextlib.nullcontext()
    import torch

    return torch.compiler.set_stance("force_eager")


def half_type(device: str) -> torch.dtype:
    """The half precision type of a device: bfloat16, but float16 on GPUs without it."""
    import torch

    return torch.bfloat16 if device == "cpu" or torch.cuda.is_bf16_supported() else torch.float16


def _in_float32(outputs: Outputs) -> Outputs:
    """Losses are computed in float32: a KL divergence of 1e-4 does not survive half precision."""
    return dataclasses.replace(
        outputs,
        heatmaps=None if outputs.heatmaps is None else outputs.heatmaps.float(),
        simcc=None if outputs.simcc is None else (outputs.simcc[0].float(), outputs.simcc[1].float()),
        tokens={name: tensor.float() for name, tensor in outputs.tokens.items()},
    )


# torch's notes on CUDA graphs ask for some eager passes first, in which libraries choose their algorithms
# and allocate what must not be allocated while a graph is recorded.
GRAPH_WARM_UP = 3


class GraphedPass:
    """A forward and a backward pass, recorded once as a CUDA graph and replayed.

    The pass must read the same tensors every time and take no decision on the CPU. The optimizer's step is
    not part of the graph: it is a few fused kernels, and outside the graph the learning rate stays a plain
    number and a loss that is not finite is detected before any weight changes.

    Source: torch notes/cuda, "CUDA Graphs": warm-up on a side stream; gradients are None before the capture,
    so that backward allocates them in the graph's own memory and every replay writes (not adds) them there.
    """

    def __init__(self, whole: Callable[[], Pass], clear: Callable[[], None], device: str) -> None:
        """Warm up and record.

        Args:
            whole: forward and backward.
            clear: sets gradients to None.
            device: a GPU.

        Raises:
            ValueError: the pass cannot be recorded; the message says why.
        """
        import torch

        self._device = torch.device(device)
        with torch.cuda.device(self._device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(GRAPH_WARM_UP):
                    clear()
                    whole()
            torch.cuda.current_stream().wait_stream(aside)
            clear()
            self._graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(self._graph):
                    self._done = whole()
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as failure:
                raise ValueError(
                    "CUDA graphs: this network's step cannot be recorded; leave graphs out. torch says: "
                    f"{reason(failure)}"
                ) from failure

    def __call__(self) -> Pass:
        """Replay: the same tensors with new numbers."""
        import torch

        with torch.cuda.device(self._device):
            self._graph.replay()
        return self._done


class Passes:
    """Forward and backward over a network, seeded; a failure leaves the running statistics unchanged."""

    def __init__(
        self,
        module: nn.Module,
        forward: Callable[[], Outputs],
        losses: Callable[[Outputs], dict[str, Tensor]],
        optimizer: torch.optim.Optimizer,
        settings: Settings,
        device: str,
        *,
        constant: bool = True,
    ) -> None:
        """Take the parts of a step.

        Args:
            module: the network.
            forward: runs it on the current batch.
            losses: parts of the loss, from outputs in float32.
            optimizer: clears the gradients.
            settings: amp, graphs, seed.
            device: cpu, cuda, cuda:N.
            constant: every step has the same batch.
        """
        import torch

        self._module, self._run, self._losses, self._optimizer = module, forward, losses, optimizer
        self._settings, self._device = settings, device
        self._kind, self._half = device.partition(":")[0], half_type(device)
        self.scaler = torch.amp.GradScaler(self._kind, enabled=settings.amp and self._half is torch.float16)
        self._statistics = RunningStatistics(module)
        self._graph: GraphedPass | None = None
        self._continued = constant and not settings.graphs and not settings.compile
        self._ahead: Ahead | None = None

    def __call__(self, number: int, watched: bool, accept: Callable[[float], None]) -> tuple[Pass, Any]:
        """Forward and backward of a step; afterwards every parameter has its (scaled) gradient.

        Args:
            number: of the step, from 1; its random numbers are derived from it and the seed.
            watched: also return the output of every ReLU.
            accept: receives the loss; when it raises, no gradient is computed where that can be avoided.

        Returns:
            the pass, and activations by module path (empty unless watched).
        """
        with self._statistics.restored_on_failure(), seeded(self._seed(number), self._device):
            begun = self._begun(number, watched)
            # Hooks see nothing of a replay, so a watched step runs without the graph.
            if self._settings.graphs and not watched:
                done = self._replayed()
                accept(done.loss.item())
                return done, {}
            done, activations = self._watched() if watched else (begun or self._forward(), {})
            accept(done.loss.item())
            # A graph's gradients stay where they are.
            if not self._settings.keep_gradients:
                self._optimizer.zero_grad(set_to_none=not self._settings.graphs)
            self.scaler.scale(done.loss).backward()
            return done, activations

    def outputs_in_training_mode(self, number: int) -> Outputs:
        """Outputs of the current weights in training mode; the network is unchanged afterwards.

        It is the forward pass of the next step, which goes on from it: once in fifty steps, a pass beside
        them would cost a hundredth of a small network's training.
        """
        import torch

        goes_on = self._continued and number <= self._settings.steps
        state = self._state()
        begun_with = [t._version for t in state], [t.detach().clone() for t in state] if goes_on else []
        own = self._statistics.exchanged()
        try:
            with (
                torch.set_grad_enabled(goes_on),
                seeded(self._seed(number), self._device),
                uncompiled(self._settings.compile),
            ):
                done = self._forward()
        finally:
            after = self._statistics.exchanged(own)
        self._ahead = Ahead(number, done, *begun_with, after) if goes_on else None
        return done.outputs.detach()

    def _begun(self, number: int, watched: bool) -> Pass | None:
        """The pass that was made ahead, where the network is still the same; hooks would see none of it."""
        import torch

        ahead, self._ahead = self._ahead, None
        if ahead is None or watched or ahead.number != number:
            return None
        state = self._state()
        if ahead.versions != [t._version for t in state] or not all(map(torch.equal, ahead.values, state)):
            return None
        self._statistics.exchanged(ahead.statistics)
        return ahead.done

    def forget(self) -> None:
        """Drop the pass that was made ahead: more than weights and buffers may have been changed."""
        self._ahead = None

    def _state(self) -> list[Tensor]:
        return [*self._module.parameters(), *self._statistics.buffers()]

    def _seed(self, number: int) -> int:
        return self._settings.seed * 1_000_003 + number

    def _watched(self) -> tuple[Pass, Any]:
        taps = measures.rectifiers(self._module)
        if not taps:
            return self._forward(), {}
        with uncompiled(self._settings.compile), recording(self._module, taps, taps) as activations:
            return self._forward(), activations

    def _autocast(self) -> torch.autocast:
        import torch

        # A cast cached outside a graph would be read inside it, and never be made again.
        cached = not self._settings.graphs
        return torch.autocast(self._kind, self._half, enabled=self._settings.amp, cache_enabled=cached)

    def _forward(self) -> Pass:
        import torch

        with self._autocast():
            outputs = self._run()
        parts = self._losses(_in_float32(outputs))
        return Pass(outputs, parts, torch.stack(list(parts.values())).sum())

    def _replayed(self) -> Pass:
        def whole() -> Pass:
            done = self._forward()
            self.scaler.scale(done.loss).backward()
            return done

        if self._graph is None:
            self._graph = GraphedPass(whole, self._optimizer.zero_grad, self._device)
            self._statistics.restore()  # warming up has changed them
        return self._graph()
