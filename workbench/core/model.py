"""PoseModel: what the workbench asks of every model. What only some can do: workbench.core.capabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from typing_extensions import Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import nn

    from workbench.core.outputs import DecodeOptions, Outputs, Prediction
    from workbench.core.sample import Batch, Codec, Sample, Skeleton

FLIP_BY_DEFAULT = False
"""Whether predictions are averaged with those of the mirrored image unless somebody says otherwise.

One default for every verb and page, so that their figures compare; `--flip` and the page's switch ask for it.
"""


@runtime_checkable
class PoseModel(Protocol):
    """What the workbench asks of a model. One file in `models` per family, or the user's own.

    Attributes:
        module: the network; a plain callable's stand-in for files that are no torch module.
        skeleton: the keypoints it predicts, in its own order.
        taps: places to record, public name -> module path.
        codec: how coordinates stand in its output; None for a family with its own decoding.
    """

    # Properties, so that frozen records fit as well as classes that set these themselves.
    @property
    def module(self) -> nn.Module: ...

    @property
    def skeleton(self) -> Skeleton: ...

    @property
    def taps(self) -> Mapping[str, str]: ...

    @property
    def codec(self) -> Codec | None: ...

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """Crop, resize and normalise."""
        ...

    def forward(self, batch: Batch) -> Outputs:
        """The network's output, untouched."""
        ...

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """Read keypoints off the outputs, in image pixels. Must not modify them.

        Args:
            outputs: of `forward`.
            batch: that was passed.
            options: decoder and score rule.
        """
        ...
