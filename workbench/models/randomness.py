"""Random numbers from a seeded generator that no other thread draws from.

Building a network draws first weights, and torch draws them from one generator of the whole process. Seeding
and restoring that generator does not help where threads run side by side: each would draw from the other's.
`private_randomness` gives the functions that draw a generator of their own, in the calling thread alone.
Code whose draws cannot be redirected (a compiled or captured training step) holds `PROCESS_GENERATOR`
instead, while it seeds, uses and restores the process-wide generator; nothing else draws from that one.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from jaxtyping import Float

_DRAWING = frozenset(
    {
        Tensor.normal_, Tensor.uniform_, Tensor.bernoulli_, Tensor.exponential_, Tensor.random_,
        Tensor.geometric_, Tensor.log_normal_, Tensor.cauchy_, Tensor.multinomial, Tensor.bernoulli,
        torch.bernoulli, torch.multinomial, torch.normal, torch.poisson, torch.rand, torch.randn,
        torch.randint, torch.randperm, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_,
    }
)  # fmt: skip
# Functions of one tensor's shape, and the method that fills such a tensor with the same numbers.
_LIKE = {torch.rand_like: "uniform_", torch.randn_like: "normal_", torch.randint_like: "random_"}


class private_randomness(TorchFunctionMode):  # noqa: N801 - used as a function
    """Within the block and this thread, torch draws from generators of the block's own.

    They give the numbers that the process-wide generator would give after `torch.manual_seed(seed)`, and that
    one is neither read nor moved. Dropout in training mode is redirected as well.

    Args:
        seed: of all generators of the block.

    Example:
        >>> import torch
        >>> with private_randomness(0):
        ...     first = torch.nn.Linear(2, 2).weight
        >>> with private_randomness(0):
        ...     again = torch.nn.Linear(2, 2).weight
        >>> bool((first == again).all())
        True
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def generator(self, device: torch.device | str | None = None) -> torch.Generator:
        """The block's generator of a device, made when first asked for."""
        place = torch.device(device or "cpu")
        if place not in self._generators:
            self._generators[place] = torch.Generator(place).manual_seed(self._seed)
        return self._generators[place]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.dropout:
            return self._dropout(*args, **kwargs)
        if func in _LIKE:
            # Without a generator among their arguments before torch 2.10.
            like = torch.empty_like(args[0], **kwargs)
            return getattr(like, _LIKE[func])(*args[1:], generator=self.generator(like.device))
        if func in _DRAWING and kwargs.get("generator") is None:
            # Functions of nn.init hand their tensor over by name.
            tensors = [a for a in (*args, kwargs.get("tensor")) if isinstance(a, Tensor)]
            place = kwargs.get("device") or (tensors[0].device if tensors else None)
            kwargs = {**kwargs, "generator": self.generator(place)}
        return func(*args, **kwargs)

    def _dropout(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0 or not 0 <= p < 1:
            return functional.dropout(input, p, training, inplace)
        # As torch's own kernel draws and scales it.
        noise = torch.empty_like(input).bernoulli_(1 - p, generator=self.generator(input.device)).div_(1 - p)
        return input.mul_(noise) if inplace else input * noise


def normal_like(vectors: Tensor, seed: int) -> Tensor:
    """Standard normal numbers in the shape, type and place of a tensor, the same on every device.

    Args:
        vectors: whose shape, type and device are taken.
        seed: of the numbers.
    """
    drawn = np.random.default_rng(seed).standard_normal(tuple(vectors.shape)).astype(np.float32)
    return torch.from_numpy(drawn).to(vectors)


def directions_like(vectors: Float[Tensor, "*n D"], seed: int) -> Float[Tensor, "*n D"]:
    """Random vectors, each as long as the given one; of length 1 where all given ones are zeros.

    Args:
        vectors: of which the lengths are taken.
        seed: of the numbers.
    """
    random = normal_like(vectors, seed)
    random = random / random.norm(dim=-1, keepdim=True)
    # Zeros in place of zeros would show nothing of whether the vectors are read.
    return random * vectors.norm(dim=-1, keepdim=True) if vectors.any() else random


class FairLock:
    """A lock that waiting threads get in the order in which they asked.

    A training run asks for it again at once after every step: from a plain lock another run might wait for
    ever.
    """

    def __init__(self) -> None:
        self._state = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._state:
            if not self._taken:
                self._taken = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()  # released by whoever hands the lock over
        except BaseException:
            # An interrupt while waiting: leave the queue, or hand on what was handed over meanwhile.
            with self._state:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                    raise
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        with self._state:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False


PROCESS_GENERATOR = FairLock()
"""Held by whoever draws from torch's process-wide generators."""
