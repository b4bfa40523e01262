"""From samples to a run: the one forward pass that all inspectors share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from workbench.decoding.flip import average_with_flip
from workbench.hooks import recording, replacing
from workbench.records import DecodeOptions, PoseModel, Run, Sample

if TYPE_CHECKING:
    from torch import Tensor, nn


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
        replace: interventions, tap name -> edit of what passes there.
        options: how to read keypoints off the outputs; the model's own way by default.
        title: what to call this run in figures: ``rtmpose-demo, epoch 5``.
        flip: average the outputs with those of the mirrored crops; what is recorded is of the plain ones. A
            family with `all_passes` keeps both, and averages when it decodes.

    Raises:
        ValueError: no samples, outputs that cannot be read, or no mirror pairs to flip with.
        NotAvailable: with flip, outputs that have no average.
        KeyError: a name is not a tap.
    """
    import torch

    samples = tuple(samples)
    if not samples:
        raise ValueError("run: expected at least one sample, got none")
    names = tuple(record)
    names = tuple(model.taps) if "*" in names else names
    options = options or DecodeOptions()
    mirror = model.skeleton.mirror
    if flip and not mirror:
        raise ValueError(f"flip: skeleton {model.skeleton.name} does not say what is left and what right")
    with (
        torch.no_grad(),
        replacing(model.module, model.taps, replace or {}),
        recording(model.module, model.taps, names) as activations,
        # Inside the hooks' lock: two threads in one module would undo each other's mode.
        evaluating(model.module),
    ):
        batch = model.prepare(samples)
        back = None
        if (all_passes := getattr(model, "all_passes", None)) is not None:
            outputs = all_passes(batch, flip).detach()
        else:
            # The mirrored pass comes first: hooks keep the last.
            if flip:
                mirrored = dataclasses.replace(batch, pixels=batch.pixels.flip(-1))
                back = model.forward(mirrored).detach()
            # A sequence model is looked at as it is used: on its own, not with the truth before every step.
            used = getattr(model, "rollout", model.forward)
            outputs = used(batch).detach()
    if back is not None:
        shift = bool(getattr(model, "shift_heatmap", False))
        outputs = average_with_flip(outputs, back, mirror, shift, getattr(model, "shift_coordinates", None))
    return Run(model, samples, batch, outputs, model.decode(outputs, batch, options), activations, title)


def redecode(old: Run, options: DecodeOptions) -> Run:
    """The same run with keypoints read off by other rules: no forward pass."""
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
