"""Does a rollout's answer turn on rounding?

A free-running model reads its own answers, so a difference in the last digits of its input can be amplified
until an answer lies elsewhere: then another machine, batch size or library version gives other figures. The
input is changed by a millionth, about what rounding does, and the rollout is made again.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import Run
from workbench.inspectors.sequence import rollout
from workbench.inspectors.sequence.rollout import PckRule

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

# Relative change of every input number: a dozen times the last digit of a float32.
CHANGE = 1e-6
# So many random changes are tried; the largest movement is told.
DRAWS = 4
# Movement, share of the box's longer side, from which an answer turns on rounding: ten thousand times the
# change. Healthy models stay thousands of times below.
MATTERS = 0.01


def moved_by_rounding(run: Run, points: Float[np.ndarray, "N K 2"]) -> Float[np.ndarray, "N K"]:
    """How far each free-running answer moves when the input changes by CHANGE, at most.

    Args:
        run: of a sequence model.
        points: its free-running answers, image pixels.

    Returns:
        shares of the box's longer side; inf where an answer is given in one pass and not in another.
    """
    import torch

    many = rollout.repeated(run, DRAWS)
    generator = torch.Generator().manual_seed(0)

    def changed(values: Tensor) -> Tensor:
        signs = (
            torch.randint(2, values.shape, generator=generator, dtype=torch.int8).to(values.device) * 2 - 1
        )
        return values * (1 + CHANGE * signs.to(values.dtype))

    extra = {
        name: changed(value)
        if name.startswith("support") and isinstance(value, torch.Tensor) and value.is_floating_point()
        else value
        for name, value in many.batch.extra.items()
    }
    batch = dataclasses.replace(many.batch, pixels=changed(many.batch.pixels), extra=extra)
    many = dataclasses.replace(many, batch=batch)
    again = rollout.points_of(many, rollout.free(many)).reshape(DRAWS, *points.shape)
    distance = np.linalg.norm(again - points, axis=-1) / PckRule().sizes(run)[:, None]
    missing, absent = np.isnan(again).any(-1), np.isnan(points).any(-1)
    distance = np.where(missing & absent, 0.0, np.where(missing ^ absent, np.inf, distance))
    return np.asarray(distance.max(0))
