"""What does the network give as it will be used: in evaluation mode, with the averaged weights?"""

from __future__ import annotations

from typing import Any

from workbench.core import Batch, Outputs, PoseModel


def evaluated(model: PoseModel, batch: Batch, average: Any = None) -> Outputs:
    """Outputs in evaluation mode, detached; the network is in training mode afterwards.

    Args:
        model: the one that is trained.
        batch: on its device.
        average: torch's AveragedModel, whose weights are lent to the model for the pass.
    """
    import torch

    module = model.module
    kept = {k: v.clone() for k, v in module.state_dict().items()} if average else None
    if average:
        module.load_state_dict(average.module.state_dict())
    module.eval()
    try:
        with torch.no_grad():
            return model.forward(batch).detach()
    finally:
        if kept is not None:
            module.load_state_dict(kept)
        module.train()


def finite(outputs: Outputs) -> bool:
    """Whether keypoints can be read off; an exploding step is told by its loss, not by its decoder."""
    # What a sequence model read is nan where the support shows no keypoint, and rightly so.
    answers = (tensor for name, tensor in outputs.tokens.items() if name != "read")
    tensors = (outputs.heatmaps, *(outputs.simcc or ()), *answers)
    return all(bool(t.isfinite().all()) for t in tensors if t is not None)
