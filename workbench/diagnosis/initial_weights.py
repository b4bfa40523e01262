"""Weights of a checkpoint that look exactly as an initialiser leaves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from workbench.checkpoints.initialisers import LEAST_CHANNELS, LEAST_NUMBERS, new_norm, started
from workbench.core.run import run
from workbench.diagnosis.evidence import spread
from workbench.diagnosis.exchanged_tensors import WithTensors

if TYPE_CHECKING:
    from workbench.checkpoints.checkpoint import Checkpoint
    from workbench.core.run import Run
    from workbench.diagnosis.case import Case


def untouched(checkpoint: Checkpoint) -> dict[str, str]:
    """Weight -> how it was started, of those that no update reached."""
    found = {}
    for name, info in checkpoint.tensors.items():
        if not info.is_floating or name in checkpoint.unread or not name.endswith("weight"):
            continue
        bias = checkpoint.tensors.get(name.removesuffix("weight") + "bias")
        offset = None if bias is None or bias.name in checkpoint.unread else checkpoint.read(bias.name)
        if len(info.shape) >= 2 and info.numel >= LEAST_NUMBERS:
            how = started(checkpoint.read(name), offset)
        elif len(info.shape) == 1 and info.numel >= LEAST_CHANNELS and offset is not None:
            how = "1 and 0 as a new norm" if new_norm(checkpoint.read(name), offset) else ""
        else:
            continue
        if how:
            found[name] = how
    return found


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
