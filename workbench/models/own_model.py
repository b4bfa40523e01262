"""A user's own model behind the workbench's protocols: errors name the line of the user's file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import get_protocol_members

from workbench.core import Batch, DecodeOptions, Outputs, Passed, Prediction, Sample
from workbench.core.capabilities import CAPABILITIES
from workbench.core.wrapping import Wrapper
from workbench.models.own_code import own_code

# Members of capabilities whose results are checked, as those of PoseModel are.
_RETURNED: dict[str, type] = {
    "all_passes": Outputs,
    "training_pass": Passed,
    "predict_pass": Passed,
    "with_text": Batch,
}


@dataclass(frozen=True, eq=False)
class OwnModel(Wrapper):
    """A user's model, with all of its capabilities; what fails in it is reported with file and line.

    Attributes:
        model: what the user's `load` returned.
        path: the user's file.
        film: of a Conditioned model, the tap whose layer outputs γ and β, where the command line names one.
    """

    model: Any
    path: Path
    film: str = ""

    @classmethod
    def inner_capabilities(cls, model: Any) -> frozenset[type]:
        """The capabilities of the user's model, whose class may make its members in ways of its own."""
        return frozenset(
            kind for kind in CAPABILITIES if all(hasattr(model, name) for name in get_protocol_members(kind))
        )

    def forwarded(self, name: str) -> Any:
        """A member of a capability; calls into the user's code are guarded."""
        value = getattr(self.model, name)
        if name == "text_taps" and self.film:
            return {**value, "film": self.film}
        if not callable(value):
            return value

        def guarded(*arguments: Any, **named: Any) -> Any:
            return self._called(name, _RETURNED.get(name, object), *arguments, **named)

        return guarded

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """What the user's model makes of samples."""
        return self._called("prepare", Batch, samples)

    def forward(self, batch: Batch) -> Outputs:
        """The outputs of the user's network."""
        return self._called("forward", Outputs, batch)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """What the user's model reads off its outputs, one prediction for each sample.

        Raises:
            ValueError: it raised something, or gave no prediction for each sample.
        """
        found = tuple(self._called("decode", (tuple, list), outputs, batch, options))
        wrong = [f for f in found if not isinstance(f, Prediction)]
        if wrong or len(found) != len(batch):
            kind = type(wrong[0]).__name__ if wrong else "Prediction"
            raise ValueError(f"{self.path}: decode gave {len(found)} {kind} for {len(batch)} samples")
        return found

    def _called(self, method: str, wanted: Any, *arguments: Any, **named: Any) -> Any:
        with own_code(self.path):
            given = getattr(self.model, method)(*arguments, **named)
        if not isinstance(given, wanted):
            expected = "a tuple of Prediction" if isinstance(wanted, tuple) else wanted.__name__
            raise ValueError(f"{self.path}: {method} returned {type(given).__name__}, expected {expected}")
        return given
