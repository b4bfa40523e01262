"""Losses on SimCC vectors: how far is each softmax from its label's?

Source: mmpose 1.3.2 models/losses/classification_loss.py (KLDiscretLoss), as RTMPose is trained:
beta 10 on predictions and labels. The sum over samples is divided by the number of keypoints only, so the
loss grows with the batch: one reason why a learning rate does not carry over between batch sizes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.core import Outputs

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.training.objectives import Target


def kl(outputs: Outputs, target: Target, beta: float = 10.0, label_beta: float = 10.0) -> dict[str, Tensor]:
    """Kullback-Leibler divergence of the softmax from the label's, per axis.

    Args:
        outputs: SimCC logits.
        target: SimCC labels and weights.
        beta: sharpening of the prediction.
        label_beta: sharpening of the label.
    """
    from torch.nn import functional

    if outputs.simcc is None or target.simcc is None:
        raise ValueError("SimCC objective: expected SimCC vectors from the model and in the target")
    parts = {}
    for axis, given, wanted in zip("xy", outputs.simcc, target.simcc, strict=True):
        if given.shape != wanted.shape:
            raise ValueError(
                f"SimCC objective, {axis}: the model gives {tuple(given.shape)}, the target is "
                f"{tuple(wanted.shape)}: its codec's split ratio or input size is wrong"
            )
        log_p = functional.log_softmax(given * beta, -1)
        label = functional.softmax(wanted * label_beta, -1)
        per_keypoint = functional.kl_div(log_p, label, reduction="none").mean(-1)
        parts[axis] = (per_keypoint * target.weights).sum() / given.shape[1]
    return parts
