"""What does the workbench ask of a model?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from workbench.core.outputs import DecodeOptions, Outputs, Passed, Prediction
    from workbench.core.sample import Batch, Codec, Sample
    from workbench.core.skeleton import Skeleton

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
        """Read keypoints off the outputs, in image pixels. Must not modify them."""
        ...


@runtime_checkable
class Groups(Protocol):
    """Capability: the model finds all people of an image by itself and tells them apart.

    The one test for it everywhere is ``isinstance(model, Groups)``. workbench.models.bottom_up.BottomUp has
    it; a class of one's own needs all five members.

    Attributes:
        aggregation: which of the network's maps count.
        grouping: how detections become people.
    """

    @property
    def aggregation(self) -> Any: ...

    @property
    def grouping(self) -> Any: ...

    def all_passes(self, batch: Batch, flip: bool = False) -> Outputs:
        """Every forward pass over a batch: other scales, and with flip the mirrored images."""
        ...

    def maps(self, outputs: Outputs, batch: Batch, n: int, *more: Any) -> Any:
        """The aggregated maps of one image of a batch."""
        ...

    def group(self, outputs: Outputs, batch: Batch, *more: Any) -> Any:
        """All people in each image of a batch."""
        ...


@runtime_checkable
class Answers(Protocol):
    """Capability: the model answers from samples to keypoints by itself, without torch.

    A file that another runtime executes (ONNX) needs torch only where somebody looks into its outputs; an
    evaluation and a prediction do not, and torch alone takes longer to import than they take.
    """

    def answer(
        self, samples: Sequence[Sample], options: DecodeOptions, flip: bool = False
    ) -> tuple[Prediction, ...]:
        """Keypoints of samples, equal to those of workbench.core.run."""
        ...


@runtime_checkable
class Conditioned(Protocol):
    """Capability: code of the user's own gives the features text, and both of its passes can be run.

    The clinic measures these passes and takes nothing for granted about the code. It calls them without
    gradients; in `training_pass` the user's own modules are in training mode, layers of libraries (dropout,
    normalisation) in evaluation mode, so that only what the user's code does differs.

    Attributes:
        text_taps: names in `taps`: ``neck`` is the part that gives the features the text, ``film`` the layer
            that leaves the scales and the shifts [N, 2C] side by side. Either may be left out; what then
            cannot be measured is said.
    """

    @property
    def text_taps(self) -> Mapping[str, str]: ...

    def training_pass(self, batch: Batch) -> Passed:
        """The way that training's loss goes, as far as the network's outputs."""
        ...

    def predict_pass(self, batch: Batch) -> Passed:
        """The way that inference goes."""
        ...

    def with_text(self, batch: Batch, edit: Callable[[Tensor], Tensor] | None) -> Batch:
        """The batch with every text tensor edited (first axis: samples); without any text for None.

        Raises:
            NotAvailable: there is no text, or the network cannot do without.
        """
        ...
