"""State of a model at one moment, to be restored as often as an experiment starts again from there."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from workbench.core import PoseModel


class ModelState:
    """Weights, buffers and plain attributes of a model at one moment.

    The model itself is restored and never copied: a copy of a network that is called through a function of
    its own (an adapter's closure, an exported program) would still call the original, and train nothing.

    Attributes:
        model: the one that the state belongs to.
    """

    def __init__(self, model: PoseModel) -> None:
        """Copy the tensors; attributes are stored by reference."""
        self.model = model
        module = model.module
        # A frozen record (most models) has no attribute that could change.
        self._own = {} if _frozen(model) else dict(vars(model))
        self._tensors = {name: tensor.detach().clone() for name, tensor in _tensors(module)}
        self._attributes = {name: _plain(part) for name, part in module.named_modules()}

    def restore(self) -> None:
        """Restore the model. Changes inside a list or dict of its own are not undone."""
        import torch

        if self._own:
            vars(self.model).update(self._own)
        module = self.model.module
        with torch.no_grad():
            for name, tensor in _tensors(module):
                tensor.copy_(self._tensors[name])
        for parameter in module.parameters():
            parameter.grad = None
        for name, part in module.named_modules():
            vars(part).update(self._attributes[name])


def _tensors(module: Any) -> list[tuple[str, Any]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _plain(part: Any) -> dict[str, Any]:
    """Attributes of a layer without torch's own dictionaries, whose contents are stored as tensors."""
    return {name: value for name, value in vars(part).items() if not name.startswith("_")}


def _frozen(model: Any) -> bool:
    if not dataclasses.is_dataclass(model):
        return False
    parameters: Any = inspect.getattr_static(model, "__dataclass_params__")
    return bool(parameters.frozen)
