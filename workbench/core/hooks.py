"""PyTorch hooks: record, or replace, what passes the named taps. No other module registers hooks."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from workbench.core.errors import nearest

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

# Hooks sit on the module, not on the call: two threads in one module would record each
# other's pass. One lock for all, because one accelerator serves them all.
_lock = threading.RLock()


def _attach(module: nn.Module, taps: Mapping[str, str], name: str, hook: Callable) -> RemovableHandle:
    if name not in taps:
        raise KeyError(f"no tap {name!r}; nearest: {nearest(name, taps)}")
    return module.get_submodule(taps[name]).register_forward_hook(hook)


def _first_tensor(output: Any) -> Tensor | None:
    """The tensor of a module's output: itself, or the last of a tuple or list (the deepest stage)."""
    if hasattr(output, "detach"):
        return output
    if isinstance(output, (tuple, list)) and output:
        return _first_tensor(output[-1])
    return None


def is_tapped(module: nn.Module) -> bool:
    """Whether somebody records or replaces what this module returns.

    For a part that is run only where its output is wanted, such as attention weights that a fused kernel
    never has in memory. torch.nn.TransformerEncoderLayer decides about its fast path in the same way.
    """
    return bool(module._forward_hooks or module._forward_pre_hooks)


@contextmanager
def recording(
    module: nn.Module, taps: Mapping[str, str], names: Iterable[str], *, gradients: bool = False
) -> Iterator[dict[str, Tensor]]:
    """Record what passes the named taps while the block runs.

    Args:
        module: the network.
        taps: public name -> module path.
        names: the taps to record.
        gradients: keep the tensors in the graph instead of detached copies.

    Yields:
        name -> output in the module's own shape, detached and on the CPU unless `gradients`; filled by the
        forward pass, in the order in which the modules were last left. A module that returns several tensors
        is recorded by its last.

    Raises:
        KeyError: a name is not a tap. The message lists near ones.
    """
    record: dict[str, Tensor] = {}

    def keep(name: str) -> Callable:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            tensor = _first_tensor(output)
            if tensor is not None:
                # The last call counts, in value and in order: a module may be used several times.
                record.pop(name, None)
                # clone: an in-place layer downstream would otherwise rewrite the record.
                record[name] = tensor if gradients else tensor.detach().clone().cpu()

        return hook

    with _lock, ExitStack() as stack:
        for name in names:
            stack.callback(_attach(module, taps, name, keep(name)).remove)
        yield record


@contextmanager
def checking(check: Callable[[], None], backward: bool = False) -> Iterator[None]:
    """Call a function before every layer that this thread runs while the block runs; an error ends the pass.

    It is a hook for modules in general: layers that have hooks of their own leave torch's fused kernels.

    Args:
        check: raises to end the pass.
        backward: call it also whenever the backward pass has left a layer.
    """
    from torch.nn.modules.module import register_module_forward_pre_hook

    mine = threading.get_ident()

    def left(_gradient: Tensor) -> None:
        check()

    def hook(module: nn.Module, inputs: tuple[object, ...]) -> None:
        if threading.get_ident() != mine:
            return
        check()
        tensor = _first_tensor(inputs[:1]) if backward and module._parameters else None
        if tensor is not None and tensor.grad_fn is not None:
            tensor.register_hook(left)

    handle = register_module_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def checking_operations(check: Callable[[], None]) -> Iterator[None]:
    """Call a function before every operation of torch in this thread while the block runs.

    For programs, whose layers take no hooks. The same kernels run: scripted, traced, frozen and exported
    programs give the same bits.

    Args:
        check: raises to end the program; what TorchScript raises then is an error of its own.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    class Checked(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            check()
            return func(*args, **(kwargs or {}))

    with Checked():
        yield


def count_inputs(module: nn.Module, given: Callable[[int], None]) -> None:
    """Tell the size of every batch that a network is given, for as long as the network lives.

    The first convolution is asked, or the first layer with weights: parts of a network may be run alone.

    Args:
        module: the network.
        given: called with the size.
    """
    from torch import jit, nn

    # Compiled modules take no hooks.
    parts = [part for part in module.modules() if not isinstance(part, jit.ScriptModule)]
    with_weights = [part for part in parts if list(part.parameters(recurse=False))]
    layers = [part for part in with_weights if isinstance(part, nn.Conv2d)] or with_weights
    for layer in layers[:1]:
        # A function and no bound method: a copy of the network counts for the same caller.
        layer.register_forward_pre_hook(lambda part, inputs: given(len(inputs[0])))


# Share of a network's layers with weights from which sharing one part saves most of a pass.
MOST_LAYERS = 0.6


class OnceComputed:
    """What the first part of a network, its backbone, gave for some inputs: for passes that differ behind it.

    Kept results are used only while the part has the weights that it had at the beginning, in evaluation
    mode, without gradients and without a hook inside: any other pass is computed as always.

    Args:
        part: of a network, with one tensor as input.
        most: inputs whose results are kept.
    """

    def __init__(self, part: nn.Module, most: int) -> None:
        self.part, self.most = part, most
        self._cache: dict[bytes, Any] = {}
        self._weights = [tensor.detach().clone() for tensor in part.state_dict().values()]

    @classmethod
    def of(cls, module: nn.Module, most: int) -> OnceComputed | None:
        """For a network's first child with weights; None where it does not hold most of the layers.

        Args:
            module: a network.
            most: how many outputs are cached.
        """
        from torch import jit

        with_weights = {
            name: len([part for part in child.modules() if list(part.parameters(recurse=False))])
            for name, child in module.named_children()
        }
        first = next((name for name, count in with_weights.items() if count), None)
        if first is None or with_weights[first] < MOST_LAYERS * sum(with_weights.values()):
            return None
        part = module.get_submodule(first)
        scripted = any(isinstance(one, jit.ScriptModule) for one in part.modules())
        return None if scripted or len(with_weights) < 2 else cls(part, most)

    @contextmanager
    def reused(self) -> Iterator[None]:
        """Passes of the network take kept results while the block runs, and keep new ones."""
        with _lock:
            original = self.part.forward
            self.part.forward = lambda *inputs, **named: self._given(original, inputs, named)
            try:
                yield
            finally:
                del self.part.forward

    def remembering(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A function of inputs that runs the part, with what it gave for the very same ones before.

        Args:
            function: from a batch of inputs to what is kept as it is.
        """
        import torch

        def given(inputs: Tensor) -> Any:
            if torch.is_grad_enabled() or not self._as_at_first():
                return function(inputs)
            key = _digest(inputs)
            if key in self._cache:
                return self._cache[key]
            made = function(inputs)
            if len(self._cache) < self.most:
                self._cache[key] = made
            return made

        return given

    def forget(self) -> None:
        """Drop all kept results."""
        self._cache.clear()

    def _given(self, original: Callable, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        import torch

        if named or len(inputs) != 1 or torch.is_grad_enabled() or not self._as_at_first():
            return original(*inputs, **named)
        keys = [_digest(one) for one in inputs[0]]
        if keys and all(key in self._cache for key in keys):
            return _joined([self._cache[key] for key in keys])
        given = original(*inputs)
        if len(self._cache) + len(keys) <= self.most and _is_batch(given, len(keys)):
            self._cache |= {key: _item(given, i) for i, key in enumerate(keys)}
        return given

    def _as_at_first(self) -> bool:
        import torch

        parts = list(self.part.modules())
        if any(part.training for part in parts) or any(part._forward_hooks for part in parts[1:]):
            return False  # what is recorded or replaced inside has to run
        # Compared in value: an edit through `.data` leaves no trace in a tensor's version.
        return all(map(torch.equal, self.part.state_dict().values(), self._weights))


def _digest(one: Tensor) -> bytes:
    return hashlib.blake2b(one.detach().cpu().contiguous().numpy().tobytes(), digest_size=16).digest()


def _is_batch(given: Any, count: int) -> bool:
    """Whether it is a tensor with so many items, or a list or tuple of such."""
    if isinstance(given, (list, tuple)):
        return type(given) in (list, tuple) and all(_is_batch(one, count) for one in given)
    return hasattr(given, "ndim") and given.ndim > 0 and len(given) == count


def _item(given: Any, index: int) -> Any:
    """A copy of one item: layers behind may write into what they are given."""
    if isinstance(given, (list, tuple)):
        return type(given)([_item(one, index) for one in given])
    return given[index].clone()


def _joined(items: Sequence[Any]) -> Any:
    import torch

    first = items[0]
    if isinstance(first, (list, tuple)):
        return type(first)([_joined(parts) for parts in zip(*items, strict=True)])
    return torch.stack(list(items))


@contextmanager
def entering(module: nn.Module) -> Iterator[list[Tensor]]:
    """Record what enters the first layer that is given images while the block runs.

    Yields:
        a list that holds the tensor [N, C, H, W], detached and on the CPU, once such a layer has run.
    """
    record: list[Tensor] = []

    def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        tensor = inputs[0] if inputs else None
        if not record and tensor is not None and hasattr(tensor, "detach") and tensor.ndim == 4:
            record.append(tensor.detach().clone().cpu())

    with _lock, ExitStack() as stack:
        for part in module.modules():
            if next(part.children(), None) is None:
                stack.callback(part.register_forward_pre_hook(hook).remove)
        yield record


@contextmanager
def reading_inputs(layers: Iterable[nn.Module], read: Callable[[nn.Module, Tensor], None]) -> Iterator[None]:
    """Read the first input of some layers whenever they run within the block.

    Args:
        layers: of a network.
        read: called with the layer and its input, of any shape, which it must not change.
    """
    with _lock, ExitStack() as stack:
        for layer in layers:
            # No result: what a hook returns would take the input's place.
            stack.callback(layer.register_forward_pre_hook(lambda part, given: read(part, given[0])).remove)
        yield


@contextmanager
def modes(module: nn.Module) -> Iterator[dict[str, bool]]:
    """Record whether each part was in training mode when it ran.

    Yields:
        path of every part that has no parts of its own -> its flag at its last call; filled by the passes,
        in the order of these calls.
    """
    record: dict[str, bool] = {}

    def keep(name: str) -> Callable:
        def hook(part: nn.Module, _inputs: tuple[Any, ...]) -> None:
            record.pop(name, None)
            record[name] = part.training

        return hook

    with _lock, ExitStack() as stack:
        for name, part in module.named_modules():
            if next(part.children(), None) is None:
                stack.callback(part.register_forward_pre_hook(keep(name)).remove)
        yield record


@contextmanager
def replacing(
    module: nn.Module, taps: Mapping[str, str], edits: Mapping[str, Callable[[Tensor], Tensor]]
) -> Iterator[None]:
    """Put `edit(output)` in place of what passes each named tap while the block runs.

    Args:
        module: a network.
        taps: tap -> name of a module in it.
        edits: tap -> from its output to another one of the same shape.

    Raises:
        KeyError: a name is not a tap. The message lists near ones.
    """

    def swap(edit: Callable[[Tensor], Tensor]) -> Callable:
        def hook(_module: nn.Module, _inputs: object, output: Any) -> Any:
            if isinstance(output, (tuple, list)):
                return type(output)((*output[:-1], edit(output[-1])))
            return edit(output)

        return hook

    with _lock, ExitStack() as stack:
        for name, edit in edits.items():
            stack.callback(_attach(module, taps, name, swap(edit)).remove)
        yield
