"""PoseModel: what the workbench asks of every model, its outputs, and the keypoints decoded from them.

What only some models can do: workbench.core.capabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import Protocol, runtime_checkable

from workbench.core.sample import NAN

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float
    from torch import Tensor, nn

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


@dataclass(frozen=True, eq=False)
class Outputs:
    """What the network left, typed by what it is; None where a family has no such thing.

    Tensors in models, hooks and decoding. Readers never write into them.

    Attributes:
        heatmaps: one map per keypoint.
        simcc: logits along x and along y.
        tags: associative embedding maps, layout declared by the family.
        fields: vector fields by name: P vectors (x, y) per cell, in cells
            (``offsets``: from the cell to the keypoint; ``regressions``: from the centre).
        tokens: sequence outputs by name.
        centres: instance-centre maps, one per class.
        coarse: the heatmaps of a network with two resolutions at its coarser one; `heatmaps` is the finer.
        passes: what the same images gave at other scales and mirrored, by name, where a family asks more
            than once: ``mirrored``, ``x0.5``, ``x0.5 mirrored``. As the network left it, not turned back.
    """

    heatmaps: Float[Tensor, "N K h w"] | None = None
    simcc: tuple[Float[Tensor, "N K bins_x"], Float[Tensor, "N K bins_y"]] | None = None
    tags: Float[Tensor, "N T h w"] | None = None
    fields: Mapping[str, Float[Tensor, "N P 2 h w"]] = field(default_factory=dict)
    tokens: Mapping[str, Tensor] = field(default_factory=dict)
    centres: Float[Tensor, "N 1 h w"] | None = None
    coarse: Float[Tensor, "N K h' w'"] | None = None
    passes: Mapping[str, Outputs] = field(default_factory=dict)

    def given(self) -> tuple[str, ...]:
        """Names of the fields that hold something, other passes aside."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "passes"}
        empty = [name for name, value in values.items() if isinstance(value, Mapping) and not value]
        return tuple(name for name, value in values.items() if value is not None and name not in empty)

    def detach(self) -> Outputs:
        """The same outputs on the CPU, cut from the graph, sharing nothing with the network."""

        def copy(value: Any) -> Any:
            if value is None:
                return None
            if isinstance(value, Outputs):
                return value.detach()
            if isinstance(value, Mapping):
                return {name: copy(tensor) for name, tensor in value.items()}
            if isinstance(value, tuple):
                return tuple(copy(tensor) for tensor in value)
            return value.detach().float().cpu().clone()

        return replace(self, **{f.name: copy(getattr(self, f.name)) for f in fields(self)})


@dataclass(frozen=True)
class DecodeOptions:
    """How keypoints are read off stored outputs; changing it needs no forward pass.

    Attributes:
        decoder: a name of workbench.decoding.DECODERS; "" takes the model's own.
        score: "" takes the model's own; for SimCC ``min``, ``mean`` or ``max`` of the two peaks.
    """

    decoder: str = ""
    score: Literal["", "min", "mean", "max"] = ""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Keypoints of one sample.

    Attributes:
        keypoints: (x, y) in image pixels; nan where the model gave none.
        scores: as the model gives them; raw SimCC logits may exceed 1.
        box: (x0, y0, x1, y1) in image pixels that the crop came from, without padding.
        score: of the instance, by the protocol's score rule; nan until one is applied.
    """

    keypoints: Float[np.ndarray, "K 2"]
    scores: Float[np.ndarray, " K"]
    box: tuple[float, float, float, float] = (NAN, NAN, NAN, NAN)
    score: float = NAN


@dataclass(frozen=True, eq=False)
class Passed:
    """What one pass through a conditioned network gave.

    Attributes:
        outputs: of the network.
        features: what its head was given; None where they are not known.
    """

    outputs: Outputs
    features: Tensor | None = None
