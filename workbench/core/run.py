"""Run: one forward pass over some samples, and the function that makes it for all inspectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.capabilities import MultiPass, RollsOut, ShiftsCoordinates, ShiftsHeatmaps
from workbench.core.errors import NotAvailable
from workbench.core.flip import average_with_flip, no_mirror
from workbench.core.hooks import checking, recording, replacing
from workbench.core.inspector import absent_output
from workbench.core.job import current_checkpoint, works_on_job
from workbench.core.model import DecodeOptions, PoseModel
from workbench.core.report import counted
from workbench.core.sample import Sample

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

    from workbench.core.model import Outputs, PoseModel, Prediction
    from workbench.core.sample import Batch, Codec, Sample


@dataclass(frozen=True, eq=False)
class Run:
    """What one forward pass over some samples left behind. Inspectors read it.

    The typed properties give copies as numpy arrays or raise NotAvailable with the reason, so no
    inspector handles None.
    """

    model: PoseModel
    samples: tuple[Sample, ...]
    batch: Batch
    outputs: Outputs
    predictions: tuple[Prediction, ...]
    activations: Mapping[str, Tensor] = field(default_factory=dict)
    title: str = ""

    @property
    def heatmaps(self) -> Float[np.ndarray, "N K h w"]:
        """Heatmaps of all samples, as the network left them."""
        if self.outputs.heatmaps is None:
            raise NotAvailable(absent_output(("heatmaps",), self.outputs.given()))
        return self.outputs.heatmaps.numpy().copy()

    @property
    def simcc(self) -> tuple[Float[np.ndarray, "N K bins_x"], Float[np.ndarray, "N K bins_y"]]:
        """SimCC logits of all samples."""
        if self.outputs.simcc is None:
            raise NotAvailable(absent_output(("simcc",), self.outputs.given()))
        x, y = self.outputs.simcc
        return x.numpy().copy(), y.numpy().copy()

    @property
    def tags(self) -> Float[np.ndarray, "N T h w"]:
        """Associative embedding maps."""
        if self.outputs.tags is None:
            raise NotAvailable(absent_output(("tags",), self.outputs.given()))
        return self.outputs.tags.numpy().copy()

    @property
    def fields(self) -> dict[str, Float[np.ndarray, "N P 2 h w"]]:
        """Vector fields by name."""
        if not self.outputs.fields:
            raise NotAvailable(absent_output(("fields",), self.outputs.given()))
        return {name: tensor.numpy().copy() for name, tensor in self.outputs.fields.items()}

    @property
    def truth(self) -> Float[np.ndarray, "N K 3"]:
        """Annotations of all samples, image pixels."""
        bare = [s.key or str(i) for i, s in enumerate(self.samples) if s.truth is None]
        if bare:
            raise NotAvailable(f"truth: no annotation for {', '.join(bare[:3])}")
        truth = np.stack([np.asarray(s.truth, float) for s in self.samples])
        if truth.shape[1] != len(self.model.skeleton):
            raise NotAvailable(
                f"truth: annotations have {counted(truth.shape[1], 'keypoint')}, the model "
                f"{len(self.model.skeleton)}"
            )
        return truth

    @property
    def keypoints(self) -> Float[np.ndarray, "N K 2"]:
        """Predicted (x, y) of all samples, image pixels."""
        return np.stack([p.keypoints for p in self.predictions])

    @property
    def scores(self) -> Float[np.ndarray, "N K"]:
        """Keypoint scores of all samples."""
        return np.stack([p.scores for p in self.predictions])

    @property
    def codec(self) -> Codec:
        """The model's codec."""
        if self.model.codec is None:
            raise NotAvailable("codec: this family declares none, so no target can be drawn")
        return self.model.codec

    def activation(self, tap: str) -> Tensor:
        """What was recorded at one tap, in the shape that it passed there, on the CPU.

        Raises:
            NotAvailable: the tap was not recorded.
        """
        if tap not in self.activations:
            raise NotAvailable(f"activation {tap!r}: recorded {sorted(self.activations) or 'none'}")
        return self.activations[tap]


# From samples to a run: the one forward pass that all inspectors share.


def run(
    model: PoseModel,
    samples: Iterable[Sample],
    record: Iterable[str] = (),
    replace: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    options: DecodeOptions | None = None,
    title: str = "",
    flip: bool = False,
) -> Run:
    """Apply a model to samples once, keeping what was asked for.

    Args:
        model: any family or adapter.
        samples: at least one.
        record: names of taps whose outputs to keep; ``*`` for all of the model's.
        replace: interventions, tap name -> edit of what passes there, to a tensor of the same shape.
        options: how to read keypoints off the outputs; the model's own way by default.
        title: what to call this run in figures: ``rtmpose-demo, epoch 5``.
        flip: average the outputs with those of the mirrored crops; what is recorded is of the plain ones. A
            model with the capability MultiPass keeps both, and averages when it decodes.

    Raises:
        ValueError: no samples, outputs that cannot be read, or no mirror pairs to flip with.
        NotAvailable: with flip, outputs that have no average.
        KeyError: a name is not a tap.
        Cancelled: the job in whose thread this runs was cancelled.
    """
    import torch

    samples = tuple(samples)
    if not samples:
        raise ValueError("run: expected at least one sample, got none")
    names = tuple(record)
    names = tuple(model.taps) if "*" in names else names
    options = options or DecodeOptions()
    mirror = model.skeleton.mirror
    if flip and (why := no_mirror(model.skeleton)):
        raise ValueError(why)
    with (
        torch.no_grad(),
        replacing(model.module, model.taps, replace or {}),
        recording(model.module, model.taps, names) as activations,
        # Inside the hooks' lock: two threads in one module would undo each other's mode.
        evaluating(model.module),
        # A pass of a large network over a batch takes seconds: a cancelled job ends within it.
        checking(current_checkpoint) if works_on_job() else nullcontext(),
    ):
        batch = model.prepare(samples)
        back = None
        if isinstance(model, MultiPass):
            outputs = model.all_passes(batch, flip).detach()
        else:
            # The mirrored pass comes first: hooks keep the last.
            if flip:
                mirrored = dataclasses.replace(batch, pixels=batch.pixels.flip(-1))
                back = model.forward(mirrored).detach()
            # A sequence model is inspected as it is used: free-running, not teacher-forced.
            used = model.rollout if isinstance(model, RollsOut) else model.forward
            outputs = used(batch).detach()
    current_checkpoint()
    if back is not None:
        shift = isinstance(model, ShiftsHeatmaps) and bool(model.shift_heatmap)
        to_left = model.shift_coordinates if isinstance(model, ShiftsCoordinates) else None
        outputs = average_with_flip(outputs, back, mirror, shift, to_left)
    return Run(model, samples, batch, outputs, model.decode(outputs, batch, options), activations, title)


def redecode(old: Run, options: DecodeOptions) -> Run:
    """The same run with keypoints read off by other rules: no forward pass.

    Args:
        old: a run with its outputs.
        options: decoder and score rule.
    """
    predictions = old.model.decode(old.outputs, old.batch, options)
    return dataclasses.replace(old, predictions=predictions)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode while the block runs; after it, every part in the mode it was in."""
    before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        # Part by part: module.train() would wake the parts that somebody froze.
        for part, training in before.items():
            part.training = training
