"""A model with some of its tensors exchanged while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from workbench.core import Answers, Batch, Outputs, PoseModel
from workbench.core.wrapping import Wrapper


@dataclass(frozen=True, eq=False)
class WithTensors(Wrapper):
    """A model with some of its tensors exchanged while it runs; they are put back afterwards.

    Attributes:
        model: the inner model.
        tensors: by their names in the module's state dict.
    """

    model: PoseModel
    tensors: Mapping[str, Any]
    withheld: ClassVar[tuple[type, ...]] = (Answers,)

    def forward(self, batch: Batch) -> Outputs:
        """The inner model's outputs with the other tensors."""
        with self._exchanged():
            return self.model.forward(batch)

    def forwarded(self, name: str) -> Any:
        """As of the inner model; its other passes are made with the other tensors as well."""
        inner = super().forwarded(name)
        if name not in ("all_passes", "rollout"):
            return inner

        def made(*given: Any, **named: Any) -> Any:
            with self._exchanged():
                return inner(*given, **named)

        return made

    @contextmanager
    def _exchanged(self) -> Iterator[None]:
        import torch

        own = self.model.module.state_dict(keep_vars=True)
        before = {name: own[name].detach().clone() for name in self.tensors}
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                own[name].copy_(tensor.to(own[name]))
            try:
                yield
            finally:
                for name, tensor in before.items():
                    own[name].copy_(tensor)
