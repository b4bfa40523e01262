"""Does a student's map look like its teacher's? Heatmaps of a teacher as soft targets.

Source: the idea of Zhang et al., Fast Human Pose Estimation, CVPR 2019, eq. 4: a weighted sum of the error
to the truth and the error to the teacher.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.core import Outputs
from workbench.training.objectives import mse

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from workbench.training.objectives import Target


def distilled(
    outputs: Outputs, target: Target, teacher: Float[Tensor, "N K h w"], weight: float = 0.5
) -> dict[str, Tensor]:
    """Error to the truth and to the teacher.

    Args:
        outputs: the student's heatmaps.
        target: the truth.
        teacher: its heatmaps, of the student's size; no gradient flows into it.
        weight: of the teacher, 0 to 1; the truth has the rest.

    Raises:
        ValueError: sizes differ, or the weight is outside 0 to 1.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"distillation: expected a teacher weight from 0 to 1, got {weight:g}")
    if outputs.heatmaps is None or outputs.heatmaps.shape != teacher.shape:
        given = None if outputs.heatmaps is None else tuple(outputs.heatmaps.shape)
        raise ValueError(f"distillation: the student gives {given}, the teacher {tuple(teacher.shape)}")
    truth = mse(outputs, target)["heatmap"]
    soft = ((outputs.heatmaps - teacher.detach()) ** 2).mean()
    return {"truth": (1 - weight) * truth, "teacher": weight * soft}
