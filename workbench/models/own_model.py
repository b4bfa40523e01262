"""A user's own model behind the workbench's protocols: errors are told with the line of their file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core import Batch, Codec, DecodeOptions, Outputs, Passed, Prediction, Sample, Skeleton
from workbench.models.own_code import own_code

if TYPE_CHECKING:
    from torch import Tensor, nn

    from workbench.core.conditioning import Conditioning


@dataclass(frozen=True, eq=False)
class OwnModel:
    """A user's model; what goes wrong in it is told with the line of their file.

    Attributes:
        own: what the user's `load` returned.
        path: their file.
    """

    own: Any
    path: Path

    @property
    def module(self) -> nn.Module:
        """The user's network."""
        return self.own.module

    @property
    def skeleton(self) -> Skeleton:
        """The user's keypoints."""
        return self.own.skeleton

    @property
    def taps(self) -> Mapping[str, str]:
        """The user's names for places in their network."""
        return self.own.taps

    @property
    def codec(self) -> Codec | None:
        """The user's codec."""
        return self.own.codec

    def __getattr__(self, name: str) -> Any:
        # Whatever else it offers: padding, shift_heatmap, note.
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self.own, name)
        if name not in ("rollout", "objective", "logged", "supported_by"):
            return value

        def told(*arguments: Any, **named: Any) -> Any:
            with own_code(self.path):
                return value(*arguments, **named)

        return told

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """What the user's model makes of samples."""
        return self._called("prepare", Batch, samples)

    def forward(self, batch: Batch) -> Outputs:
        """What the user's network leaves."""
        return self._called("forward", Outputs, batch)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """What the user's model reads off its outputs, one prediction for each sample."""
        found = tuple(self._called("decode", (tuple, list), outputs, batch, options))
        wrong = [f for f in found if not isinstance(f, Prediction)]
        if wrong or len(found) != len(batch):
            kind = type(wrong[0]).__name__ if wrong else "Prediction"
            raise ValueError(f"{self.path}: decode gave {len(found)} {kind} for {len(batch)} samples")
        return found

    def _called(self, method: str, wanted: Any, *arguments: Any) -> Any:
        with own_code(self.path):
            given = getattr(self.own, method)(*arguments)
        if not isinstance(given, wanted):
            names = getattr(wanted, "__name__", "a tuple of Prediction")
            raise ValueError(f"{self.path}: {method} returned {type(given).__name__}, expected {names}")
        return given


@dataclass(frozen=True, eq=False)
class OwnGrouping(OwnModel):
    """A user's model that finds all people of an image by code of its own."""

    @property
    def aggregation(self) -> Any:
        """The user's choice of maps."""
        return self.own.aggregation

    @property
    def grouping(self) -> Any:
        """The user's rules."""
        return self.own.grouping

    def all_passes(self, batch: Batch, flip: bool = False) -> Outputs:
        """All passes of the user's network."""
        return self._called("all_passes", Outputs, batch, flip)

    def maps(self, *arguments: Any, **named: Any) -> Any:
        """The user's aggregated maps."""
        with own_code(self.path):
            return self.own.maps(*arguments, **named)

    def group(self, *arguments: Any, **named: Any) -> Any:
        """The people that the user's model finds."""
        with own_code(self.path):
            return self.own.group(*arguments, **named)


@dataclass(frozen=True, eq=False)
class OwnConditioned(OwnModel):
    """A user's model with a condition: see workbench.core.Conditioned.

    Attributes:
        film: the tap of the layer that outputs γ and β, where the command line names one.
    """

    film: str = ""

    @property
    def conditioning(self) -> Conditioning:
        """The user's record, with the tap that was named."""
        record: Conditioning = self.own.conditioning
        return dataclasses.replace(record, film=self.film) if self.film else record

    def with_film(self, tap: str) -> OwnConditioned:
        """The same model with this tap as the layer that outputs γ and β."""
        return dataclasses.replace(self, film=tap)

    def training_pass(self, batch: Batch) -> Passed:
        """The path of the user's training."""
        return self._called("training_pass", Passed, batch)

    def predict_pass(self, batch: Batch) -> Passed:
        """The path of the user's inference."""
        return self._called("predict_pass", Passed, batch)

    def with_condition(self, batch: Batch, edit: Callable[[Tensor], Tensor] | None) -> Batch:
        """The batch with another condition, or with none."""
        return self._called("with_condition", Batch, batch, edit)
