"""Capabilities: what only some models can do, as Protocols with declared members.

A model has a capability if it has all members that the Protocol declares. The test is the same everywhere::

    if isinstance(model, RollsOut):
        outputs = model.rollout(batch)

No inheritance and no registration is needed; a user's own class that defines the members has the capability.
`isinstance` looks the members up without evaluating properties, on every Python version. A model around
another model has the capabilities of the inner one if it derives from workbench.core.wrapping.Wrapper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import Protocol, runtime_checkable

from workbench.core.model import PoseModel

if TYPE_CHECKING:
    from torch import Tensor, nn

    from workbench.core.conditioning import Conditioning
    from workbench.core.model import DecodeOptions, Outputs, Passed, Prediction
    from workbench.core.sample import Batch, Sample, Skeleton


@dataclass(frozen=True)
class Attention:
    """Self-attention of a network, layer by layer.

    The weights are read and replaced with workbench.core.hooks, which is also what makes a layer compute them
    one by one: without a hook the layer uses a fused kernel that never has them in memory.

        with recording(model.module, model.attention.taps, model.attention.weights) as found:
            model.forward(batch)
        found[model.attention.weights[-1]]  # [N, heads, T, T], last layer

    Attributes:
        weights: for each layer, from the first, the path of the module whose output are its weights
            [N, heads, T, T]: a row per querying token, summing to 1.
        heads: of each layer.
        grid: (h, w) patches of the input.
        before: tokens in front of those of the patches, such as a class token: the patch in row y and column
            x is token ``before + y * w + x``.
    """

    weights: tuple[str, ...]
    heads: int
    grid: tuple[int, int]
    before: int = 0

    @property
    def taps(self) -> dict[str, str]:
        """The modules of `weights` as workbench.core.hooks takes them, name -> module path."""
        return {path: path for path in self.weights}


# Not those of typing: before Python 3.12 its isinstance evaluates properties.


# How a box becomes the input, and what was assumed.


@runtime_checkable
class CropsBoxes(Protocol):
    """The model crops the bounding box of each sample.

    Attributes:
        padding: factor on the box before it is cropped.
    """

    @property
    def padding(self) -> float: ...


@runtime_checkable
class SizesInput(Protocol):
    """The model states the size of its input.

    Attributes:
        input_size: (height, width) in pixels; of a bottom-up model the short side alone may be stated.
    """

    @property
    def input_size(self) -> Any: ...


@runtime_checkable
class HasNote(Protocol):
    """The model states what had to be assumed to open it.

    Attributes:
        note: for people; "" when nothing was assumed.
    """

    @property
    def note(self) -> str: ...


# Flip test.


@runtime_checkable
class ShiftsHeatmaps(Protocol):
    """The flip test may move mirrored heatmaps by one cell.

    Attributes:
        shift_heatmap: whether it moves them one cell to the right.
    """

    @property
    def shift_heatmap(self) -> bool: ...


@runtime_checkable
class ShiftsCoordinates(Protocol):
    """The flip test may move mirrored coordinates, of a network whose output is coordinates in 0..1.

    Attributes:
        shift_coordinates: how far to the left, in widths of the input; None for other outputs.
    """

    @property
    def shift_coordinates(self) -> float | None: ...


@runtime_checkable
class MultiPass(Protocol):
    """The model makes several forward passes over one batch and averages them when it decodes."""

    def all_passes(self, batch: Batch, flip: bool = False) -> Outputs:
        """Every forward pass over a batch: other scales, and with flip the mirrored images.

        Args:
            batch: the prepared input.
            flip: with the mirrored images.
        """
        ...


@runtime_checkable
class MixesBatch(Protocol):
    """The model states how the samples of one batch change each other's answers: figures need its size.

    Attributes:
        batch_text: why, for the protocol beside each figure; "" where each answer is its sample's own.
    """

    @property
    def batch_text(self) -> str: ...


# Bottom-up models.


@runtime_checkable
class Groups(MultiPass, Protocol):
    """The model finds all people of an image by itself and tells them apart.

    workbench.models.bottom_up.BottomUp has it; a class of one's own needs all five members.

    Attributes:
        aggregation: which of the network's maps count.
        grouping: how detections become people.
    """

    @property
    def aggregation(self) -> Any: ...

    @property
    def grouping(self) -> Any: ...

    def maps(self, outputs: Outputs, batch: Batch, n: int, *more: Any, **named: Any) -> Any:
        """The aggregated maps of one image of a batch.

        Args:
            outputs: of `all_passes`.
            batch: that was passed.
            n: index of the image in the batch.
            more: aggregation and cache, as of BottomUp.maps.
            named: the same by name.
        """
        ...

    def group(self, outputs: Outputs, batch: Batch, *more: Any, **named: Any) -> Any:
        """All people in each image of a batch.

        Args:
            outputs: of the forward pass.
            batch: that was passed.
            more: grouping, aggregation and trace, as of BottomUp.group.
            named: the same by name.
        """
        ...


@runtime_checkable
class HasTagMaps(Protocol):
    """The model states how many tag maps its network gives.

    Attributes:
        tags: tag maps for one value of a tag: one per keypoint, or 1 for all keypoints.
    """

    @property
    def tags(self) -> int: ...


@runtime_checkable
class StatesGroupingRules(Protocol):
    """The model states the rules by which it reads whole images, for the protocol beside each figure.

    Attributes:
        input_text: how an image becomes the input.
        scales_text: at which scales the image is read.
        grouping_text: by which rules detections become people.
    """

    @property
    def input_text(self) -> str: ...

    @property
    def scales_text(self) -> str: ...

    @property
    def grouping_text(self) -> str: ...


@runtime_checkable
class PlacesMaps(Protocol):
    """The model states how its maps lie in an image, so that maps can be drawn from annotations.

    Attributes:
        scales: at which an image is read; 1 is among them if there are several.
        main_scale: the scale of the main forward pass.
        tag_size: values that a tag has.
    """

    @property
    def scales(self) -> tuple[float, ...]: ...

    @property
    def main_scale(self) -> float: ...

    @property
    def tag_size(self) -> int: ...

    def place(self, image: tuple[int, int], scale: float = 1.0) -> Any:
        """How an image of (height, width) pixels becomes the input: workbench.models.bottom_up.Resizing.

        Args:
            image: (height, width), pixels.
            scale: one of `scales`.
        """
        ...

    def pass_named(self, name: str) -> tuple[float, bool]:
        """(scale, mirrored) of a key of `Outputs.passes`."""
        ...


@runtime_checkable
class GroupingModel(PoseModel, Groups, Protocol):
    """A PoseModel that finds all people of an image by itself."""


@runtime_checkable
class BottomUpModel(GroupingModel, HasTagMaps, PlacesMaps, Protocol):
    """A PoseModel whose maps and rules can be exchanged one by one, as oracle and ablation do."""


# Sequence models.


@runtime_checkable
class RollsOut(Protocol):
    """The model finds keypoints one after the other, and can run on its own answers (free-running).

    `forward` of such a model is teacher-forced: it reads ``batch.extra["given"]``, [N, K, 2] in 0..1 of the
    input. See workbench.inspectors.sequence.
    """

    def rollout(self, batch: Batch, forced: Any = 0) -> Outputs:
        """Free-running, but for the first `forced` tokens (or a mask [N, K] of tokens) that are given.

        Args:
            batch: the prepared input.
            forced: how many tokens are given from the truth, or which.
        """
        ...


@runtime_checkable
class NamesTokens(Protocol):
    """The model names the types of its tokens.

    Attributes:
        token_types: names of the columns of the output ``types``, [N, L, Y].
    """

    @property
    def token_types(self) -> tuple[str, ...]: ...


@runtime_checkable
class TakesSupport(Protocol):
    """The model finds the keypoints that a support example shows, and can be given another support."""

    def supported_by(self, support: Sequence[Sample], skeleton: Skeleton | None = None) -> Any:
        """The same network with these examples as the support of every query: a PoseModel.

        Args:
            support: samples with ground truth.
            skeleton: of the support; None for that of the model.
        """
        ...


@runtime_checkable
class StatesSupport(Protocol):
    """The model states which examples are the support of every query.

    Attributes:
        support: samples with ground truth; empty where every sample is its own support.
    """

    @property
    def support(self) -> Sequence[Sample]: ...


# Training.


@runtime_checkable
class HasObjective(Protocol):
    """The model has its own loss; training then makes no target from a codec."""

    def objective(self, outputs: Outputs, batch: Batch) -> Mapping[str, Tensor]:
        """Parts of the loss by name, scalars; their sum is minimised.

        Args:
            outputs: of the forward pass, with gradients.
            batch: with ground truth.
        """
        ...


@runtime_checkable
class LogsItself(Protocol):
    """The model tells what its own training code would have logged."""

    def logged(self, outputs: Outputs, batch: Batch) -> Mapping[str, float]:
        """Column -> value, such as ``loss_coordinates`` and ``pck``.

        Args:
            outputs: of the forward pass.
            batch: with ground truth.
        """
        ...


@runtime_checkable
class Reinitialises(Protocol):
    """The model states how its network was made, so that it can be trained again from first weights."""

    def untrained(self, seed: int = 0) -> Any:
        """A PoseModel around the same network with first weights, known defects of its code included.

        Args:
            seed: of the first weights.
        """
        ...


@runtime_checkable
class HasSwitches(Protocol):
    """The model has parts that the overfit bisector can take away.

    Attributes:
        switches: of workbench.training.switches.Switch, those of the model in the order of suspicion.
    """

    @property
    def switches(self) -> tuple[Any, ...]: ...


@runtime_checkable
class HasDefects(Protocol):
    """A network (the `module` of a model) whose known defects can be switched on and off.

    Attributes:
        defects: frozen dataclass with one bool per defect; may be replaced.
    """

    defects: Any


def step_counter(module: nn.Module) -> Tensor | None:
    """The buffer ``taught``, a scalar in which a network counts its training steps; None without one.

    A buffer is no attribute that a Protocol could find, and it must be one: a resumed training continues with
    the number in the checkpoint.
    """
    return dict(module.named_buffers(recurse=False)).get("taught")


# Text.


@runtime_checkable
class HasText(Protocol):
    """The model knows the text that its features are given.

    Attributes:
        text: sentence vectors, workbench.text.vectors.TextVectors; None where there are none.
    """

    @property
    def text(self) -> Any: ...


@runtime_checkable
class TakesText(Protocol):
    """The model can be given other text."""

    def reading(self, text: Any) -> Any:
        """The same network with other sentence vectors: a PoseModel.

        Raises:
            ValueError: vectors of another dimension, or of another number of keypoints.
        """
        ...


@runtime_checkable
class TextNeckModel(PoseModel, CropsBoxes, HasText, TakesText, Protocol):
    """A PoseModel whose text neck can be exchanged, and whose network has several paths: for experiments.

    Attributes:
        has_neck: whether the network has a text neck.
        device: where it runs; None for the CPU.
        inference: the path of `forward` in evaluation mode; a value that says in words what it is.
        training: the path of `forward` in training mode.
        ways: name of a way through the network -> its path.
    """

    @property
    def has_neck(self) -> bool: ...

    @property
    def device(self) -> str | None: ...

    @property
    def inference(self) -> Any: ...

    @property
    def training(self) -> Any: ...

    @property
    def ways(self) -> Mapping[str, Any]: ...

    def through(self, path: Any) -> Any:
        """The same network and text, with another path of inference: a TextNeckModel."""
        ...

    def with_neck(
        self, config: Mapping[str, Any], options: Mapping[str, Any], start: Mapping[str, Tensor], seed: int
    ) -> Any:
        """The model with a neck of other options and first weights: a TextNeckModel.

        Args:
            config: from which this model was built.
            options: of the neck, those that change.
            start: tensors by name that the new network begins with, in the shapes of its parameters.
            seed: of the first weights of all others.

        Raises:
            ValueError: the neck cannot be built.
        """
        ...


# Transformers.


@runtime_checkable
class HasAttention(Protocol):
    """The network has self-attention over patches of the input whose weights can be recorded and replaced.

    Attributes:
        attention: where they pass, and which token is which patch.
    """

    @property
    def attention(self) -> Attention: ...


# Conditioned networks.


@runtime_checkable
class Conditioned(Protocol):
    """A condition (sentence vectors, a class embedding) modulates the features, and both passes can be run.

    The conditioning inspectors, the clinic and ``ablate conditioning`` work on these members alone. They call
    the passes without gradients (the gradients by part aside); in `training_pass` the user's own modules are
    in training mode, layers of libraries (dropout, normalisation) in evaluation mode, so that only what the
    user's code does differs. workbench.models.conditioning.ByTaps derives all members from the names of taps.

    Attributes:
        conditioning: where the condition enters, and what is known about it; every field may be left out.
    """

    @property
    def conditioning(self) -> Conditioning: ...

    def training_pass(self, batch: Batch) -> Passed:
        """The path of training's loss, as far as the network's outputs."""
        ...

    def predict_pass(self, batch: Batch) -> Passed:
        """The path of inference."""
        ...

    def with_condition(self, batch: Batch, edit: Callable[[Tensor], Tensor] | None) -> Batch:
        """The batch with every condition vector edited (first axis: samples); without any for None.

        Args:
            batch: the prepared input.
            edit: from the vectors [N, ...] to others of the same shape; None for a batch without a condition.

        Raises:
            NotAvailable: there is no condition, or the network cannot run without.
        """
        ...


# Inference without torch.


@runtime_checkable
class Answers(Protocol):
    """The model goes from samples to keypoints by itself, without torch.

    A file that another runtime executes (ONNX) needs torch only where its outputs are looked into; an
    evaluation and a prediction do not, and importing torch alone takes longer than they do.
    """

    def answer(
        self, samples: Sequence[Sample], options: DecodeOptions, flip: bool = False
    ) -> tuple[Prediction, ...]:
        """Keypoints of samples, equal to those of workbench.core.run.

        Args:
            samples: with image and box.
            options: of decoding.
            flip: average with the mirrored input.
        """
        ...


CAPABILITIES: tuple[type, ...] = (
    CropsBoxes,
    SizesInput,
    HasNote,
    ShiftsHeatmaps,
    ShiftsCoordinates,
    MultiPass,
    MixesBatch,
    Groups,
    HasTagMaps,
    StatesGroupingRules,
    PlacesMaps,
    RollsOut,
    NamesTokens,
    TakesSupport,
    StatesSupport,
    HasObjective,
    LogsItself,
    Reinitialises,
    HasSwitches,
    HasText,
    TakesText,
    HasAttention,
    Conditioned,
    Answers,
)
"""All capabilities of a PoseModel. A wrapper passes these on; a new capability is added here."""


def capabilities_of(model: object) -> frozenset[type]:
    """The capabilities that a model has."""
    return frozenset(kind for kind in CAPABILITIES if isinstance(model, kind))
