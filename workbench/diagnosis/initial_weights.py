"""Weights that look exactly as an initialiser leaves them, told from the numbers of one file alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from workbench.core.run import run
from workbench.diagnosis.evidence import spread
from workbench.diagnosis.exchanged_tensors import WithTensors

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.checkpoints.checkpoint import Checkpoint
    from workbench.core.run import Run
    from workbench.diagnosis.case import Case

# Numbers of a matrix from which its largest one tells the bound of a uniform distribution: of so many the
# largest lies within MISSED of their number below the bound, but once in 100 000 times. A trained matrix has
# numbers beyond the bound, or none so near to it.
LEAST_NUMBERS, MISSED = 256, 12.0
# The kurtosis of a uniform distribution, and how far that of so many numbers may lie from it.
UNIFORM, NEAR = 1.8, 0.15
# Channels of a norm, and numbers of a bias, which are 1 and 0 in all of them only before the first update.
LEAST_CHANNELS = 8
# Deviations with which mmengine and mmpose start weights, and how near to one of them in standard errors.
DEVIATIONS, ERRORS = (0.001, 0.01, 0.02), 4.0


def untouched(checkpoint: Checkpoint) -> dict[str, str]:
    """Weight -> how it was started, of those that no update reached.

    Args:
        checkpoint: whose tensors are read.
    """
    found = {}
    for name, info in checkpoint.tensors.items():
        if not info.is_floating or name in checkpoint.unread or not name.endswith("weight"):
            continue
        bias = checkpoint.tensors.get(name.removesuffix("weight") + "bias")
        offset = None if bias is None or bias.name in checkpoint.unread else checkpoint.read(bias.name)
        if len(info.shape) >= 2 and info.numel >= LEAST_NUMBERS:
            how = started(checkpoint.read(name), offset)
        elif len(info.shape) == 1 and info.numel >= LEAST_CHANNELS and offset is not None:
            new = bool((checkpoint.read(name) == 1).all()) and not bool(offset.any())
            how = "1 and 0 as a new norm" if new else ""
        else:
            continue
        if how:
            found[name] = how
    return found


def started(weight: Tensor, bias: Tensor | None = None) -> str:
    """How an initialiser made a matrix; "" where its numbers are not exactly those of one.

    Args:
        weight: the first axis of which are output channels.
        bias: of the same layer; None where it has none.
    """
    values = weight.detach().double()
    inputs, outputs = values[0].numel(), values[:, 0].numel()
    flat = values.flatten()
    deviation = float(flat.std())
    if not math.isfinite(deviation) or deviation == 0:
        return ""
    kurtosis = float(((flat - flat.mean()) ** 4).mean() / flat.var() ** 2)
    if abs(kurtosis - UNIFORM) < NEAR:
        largest = float(flat.abs().max())
        bounds = {
            "torch's default": inputs**-0.5,
            "Xavier's": math.sqrt(6 / (inputs + outputs)),
            "Kaiming's": math.sqrt(6 / inputs),
        }
        for name, bound in bounds.items():
            if bound * (1 - MISSED / len(flat)) <= largest <= bound * (1 + 1e-6):
                return f"uniform up to {largest:.4f}, as {name} initialisation"
    # A normal distribution has no bound: it takes a bias without any update as well.
    if bias is not None and len(bias) >= LEAST_CHANNELS and not bool(bias.any()):
        known = (*DEVIATIONS, *(math.sqrt(2 / fan) for fan in (outputs, inputs, inputs + outputs)))
        error = ERRORS / math.sqrt(2 * len(flat))
        if abs(kurtosis - 3) < 5 * math.sqrt(24 / len(flat)) and any(
            abs(deviation / one - 1) < error for one in known
        ):
            return f"normal with deviation {deviation:.4g} and bias 0, as an initialisation"
    return ""


def used(case: Case, parts: Mapping[str, Sequence[str]]) -> list[str]:
    """Parts of the weights without which the poses are others: weights that are not used cost nothing.

    Args:
        case: with a model and data.
        parts: name -> tensors of it in the checkpoint.
    """
    model, pose_set = case.model(), case.pose_set()
    samples = [pose_set.sample(i) for i in spread(pose_set, 1)]
    own, prefix = model.module.state_dict(), case.checkpoint().prefix
    before, found = run(model, samples), []
    for part, names in parts.items():
        case.step()
        turned = {n: -own[n] for n in (name.removeprefix(prefix) for name in names) if n in own}
        if turned and _differ(before, run(WithTensors(model, turned), samples)):
            found.append(part)
    return found


def _differ(one: Run, other: Run) -> bool:
    import numpy as np

    pairs = ((one.keypoints, other.keypoints), (one.scores, other.scores))
    return any(a.shape != b.shape or not np.allclose(a, b, equal_nan=True) for a, b in pairs)
