"""Base of every model around another model: it has the capabilities of the inner model.

    @dataclass(frozen=True, eq=False)
    class Blurred(Wrapper):
        model: PoseModel
        sigma: float = 1.0

        def prepare(self, samples: Sequence[Sample]) -> Batch:
            return blurred(self.model.prepare(samples), self.sigma)

``isinstance(Blurred(model), Groups)`` is true exactly if ``isinstance(model, Groups)`` is. A `__getattr__`
cannot do that: `isinstance` with a Protocol does not call it. So each set of capabilities gets a subclass of
its own, made once, with one property per member.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import get_protocol_members

from workbench.core.capabilities import CAPABILITIES, capabilities_of

if TYPE_CHECKING:
    from torch import nn

    from workbench.core.model import DecodeOptions, Outputs, Prediction
    from workbench.core.sample import Batch, Codec, Sample, Skeleton


class _ByCapabilities(type):
    """Calling a wrapper class makes an instance of its subclass for the inner model's capabilities."""

    # Hidden from type checkers, which would take the result for Any.
    if not TYPE_CHECKING:

        def __call__(cls, *arguments: Any, **named: Any) -> Any:
            written = cls.__dict__.get("_written", cls)
            model = arguments[0] if arguments else named.get("model")
            passed_on = written.inner_capabilities(model) - frozenset(written.withheld)
            return type.__call__(_subclass(written, passed_on), *arguments, **named)


class Wrapper(metaclass=_ByCapabilities):
    """A PoseModel around another one; what is not overridden is the inner model's.

    A subclass overrides members of PoseModel and of capabilities as it needs, and may be a dataclass whose
    first field is `model`.

    Attributes:
        model: the inner model.
        withheld: capabilities of the inner model that the wrapper must not pass on, because their members
            would bypass what it changes.
    """

    model: Any
    withheld: ClassVar[tuple[type, ...]] = ()

    def __init__(self, model: Any) -> None:
        self.model = model

    @classmethod
    def inner_capabilities(cls, model: Any) -> frozenset[type]:
        """The capabilities that the inner model has."""
        return capabilities_of(model)

    def forwarded(self, name: str) -> Any:
        """A member of a capability, taken from the inner model. Called by the properties that pass it on."""
        return getattr(self.model, name)

    @property
    def module(self) -> nn.Module:
        """The inner model's network."""
        return self.model.module

    @property
    def skeleton(self) -> Skeleton:
        """The inner model's keypoints."""
        return self.model.skeleton

    @property
    def taps(self) -> Mapping[str, str]:
        """The inner model's taps, public name -> module path."""
        return self.model.taps

    @property
    def codec(self) -> Codec | None:
        """The inner model's codec."""
        return self.model.codec

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """As the inner model does."""
        return self.model.prepare(samples)

    def forward(self, batch: Batch) -> Outputs:
        """As the inner model does."""
        return self.model.forward(batch)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """As the inner model does."""
        return self.model.decode(outputs, batch, options)


@functools.cache
def _subclass(written: type, passed_on: frozenset[type]) -> type:
    """The wrapper class with a property for every member that it passes on and does not define itself."""
    own = {name for base in written.__mro__ for name in inspect.get_annotations(base)}
    names = {
        name
        for kind in CAPABILITIES
        if kind in passed_on
        for name in get_protocol_members(kind)
        if name not in own and inspect.getattr_static(written, name, None) is None
    }
    members: dict[str, Any] = {name: _property(name) for name in sorted(names)}
    members |= {"__module__": written.__module__, "__qualname__": written.__qualname__}
    members |= {"__doc__": written.__doc__, "_written": written}
    return type(written)(written.__name__, (written,), members)


def _property(name: str) -> property:
    def passed_on(self: Wrapper) -> Any:
        return self.forwarded(name)

    passed_on.__doc__ = "As of the inner model."
    return property(passed_on)
