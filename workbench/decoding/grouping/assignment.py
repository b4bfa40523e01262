"""Which detection goes to which person, all together at the least cost?

Where only one assignment is cheapest every solver finds it. Where several are, and rounded distances make
that common, the solver decides: on noisy tags that was 2.2 points of AP between two releases of the munkres
package. So the protocol names the solver and its release.

- ``scipy`` (default): scipy.optimize.linear_sum_assignment. It takes the detections from the highest value
  downwards and gives each the first cheapest column, moving earlier ones where that lowers the total; with
  equal costs throughout, detection n goes to person n. The answer depends on nothing but the costs.
- ``munkres``: the munkres package, which the reference and mmpose ask.

Source: scipy.optimize.linear_sum_assignment (Crouse, IEEE TAES 52(4), 2016); munkres on PyPI.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int

NOBODY = 1e10
"""Cost of joining nobody. Source: HRNet/HigherHRNet-Human-Pose-Estimation, lib/core/group.py."""

# Sums with NOBODY in them are rounded to 2e-6; a lead of this much survives any order of adding up.
_LEAD = 1e-3


def padded(costs: Float[np.ndarray, "M G"]) -> Float[np.ndarray, "M columns"]:
    """Costs with as many columns for nobody as there are more detections than people."""
    missing = max(costs.shape[0] - costs.shape[1], 0)
    return np.concatenate([costs, np.full((len(costs), missing), NOBODY)], 1)


def assign(
    costs: Float[np.ndarray, "M columns"], people: int, solver: str = "scipy"
) -> Int[np.ndarray, " M"]:
    """The column of each detection, at the least total cost.

    Args:
        costs: at least as many columns as rows.
        people: the first so many columns stand for people, the others for nobody.
        solver: ``scipy`` or ``munkres``; they differ only where several assignments cost the same.
    """
    if solver == "scipy":
        from scipy.optimize import linear_sum_assignment

        return linear_sum_assignment(costs)[1]
    if (columns := _obvious(costs, people)) is not None:
        return columns
    from munkres import Munkres

    return np.array([column for _, column in sorted(Munkres().compute(costs.tolist()))], int)


@lru_cache
def solver_text(solver: str) -> str:
    """The solver and its release, for a protocol."""
    from importlib.metadata import version

    return f"{solver} {version(solver)}"


def _obvious(costs: Float[np.ndarray, "M columns"], people: int) -> Int[np.ndarray, " M"] | None:
    """The only cheapest assignment, where everybody's first choice is another one's; None where not."""
    rows = len(costs)
    if rows <= people:
        choice, clear = _first_choices(costs[:, :people])
        return choice if clear else None
    # More detections than people: every person is taken, so the people choose.
    choice, clear = _first_choices(costs[:, :people].T)
    if not clear:
        return None
    columns = np.empty(rows, int)
    left = np.ones(rows, bool)
    left[choice] = False
    columns[choice] = np.arange(people)
    columns[left] = np.arange(people, rows)
    return columns


def _first_choices(costs: Float[np.ndarray, "choosers offers"]) -> tuple[Int[np.ndarray, " choosers"], bool]:
    """The cheapest offer of each chooser; and whether they are all different and clearly the cheapest."""
    choice = costs.argmin(1)
    if len(np.unique(choice)) < len(choice):
        return choice, False
    if costs.shape[1] == 1:
        return choice, True
    first, second = np.partition(costs, 1, axis=1)[:, :2].T
    return choice, bool((second - first > _LEAD).all())
