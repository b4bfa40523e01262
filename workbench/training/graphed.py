"""Can the GPU be told a whole pass once, and then only "again"? A CUDA graph of forward and backward."""

from __future__ import annotations

from collections.abc import Callable

from workbench.core import reason
from workbench.training.passes import Pass

# torch's notes on CUDA graphs ask for some eager passes first, in which libraries choose their algorithms
# and allocate what must not be allocated while a graph is recorded.
WARM_UP = 3


class GraphedPass:
    """A forward and a backward pass, recorded once and replayed.

    The pass must read the same tensors every time and leave every decision to the GPU. The optimizer's step
    is no part of the graph: it is a few fused kernels, and outside it the learning rate stays a plain number
    and a loss that is not finite is seen before any weight is touched.

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
                for _ in range(WARM_UP):
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
        """Replay it: the same tensors with new numbers."""
        import torch

        with torch.cuda.device(self._device):
            self._graph.replay()
        return self._done
