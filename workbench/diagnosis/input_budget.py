"""What a diagnosis at level evaluate may still give to the network: one budget, shared by all of its tests.

It costs two evaluations of the set at most, counted in inputs of the network: crops, or images of a
bottom-up model. What the evaluation of the whole set has not had yet is set aside, and every test that can do
with fewer inputs asks how many are left. Below level evaluate there is no such bound.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from workbench.core import Conditioned, Groups, NotAvailable

if TYPE_CHECKING:
    from workbench.diagnosis.case import Case

# What a diagnosis at level evaluate may cost, in evaluations of the set.
EVALUATIONS = 2
# A set of fewer samples than this has the budget of so many, and one of fewer images of people that of these:
# the looks at every cause, a few instances each, are as much as an evaluation of such a set.
FEW_SAMPLES, FEW_IMAGES = 4, 60
# Inputs set aside for the tests after the search, of these the flip test's, and the fewest that do for it.
LATER, OF_FLIP_TEST, LEAST_FLIPPED = 40, 32, 12
# Those of the conditioning clinic.
CLINIC_PASSES = 40
# Why a cause is not tested once they are given.
SPENT_INPUTS = (
    "the inputs of two evaluations, which a diagnosis at level evaluate may give to the network, were spent "
    "before; --level forward has no such bound"
)


def left_of_inputs(case: Case) -> float:
    """Inputs that may still be given, beside those of the evaluation of the whole set; not below 0.

    Infinite below level evaluate, and for results without their network. Of people the whole set is looked at
    where a figure is claimed.

    Raises:
        NotAvailable: there is no data set.
    """
    if not _is_bounded(case):
        return math.inf
    size, whole = case.evaluation_size(), case.peek("measured")
    if isinstance(case.model(), Groups):
        least, waiting = FEW_IMAGES, size * bool(case.options.claim)
    else:
        least = FEW_SAMPLES * case.options.sample
        waiting = size - len(case.chosen()) if whole is None else 0
    return max(EVALUATIONS * max(size, least) - case.forwarded - waiting, 0)


def left_to_search(case: Case) -> float:
    """Inputs that the search for causes may still give, so that enough are left for what follows."""
    if not _is_bounded(case):
        return math.inf
    clinic = CLINIC_PASSES if isinstance(case.model(), Conditioned) else 0
    return left_of_inputs(case) - LATER - clinic


def _is_bounded(case: Case) -> bool:
    if not case.reaches("evaluate"):
        return False
    try:
        case.model()
    except NotAvailable:
        return False
    return True


def affordable(case: Case, count: int, passes: int) -> int:
    """How many instances of the set a test may give to the network so many times, at most `count`.

    Args:
        case: at any level.
        count: of instances that it would like.
        passes: over each of them.
    """
    return int(min(count, len(case.pose_set().labelled), left_of_inputs(case) / passes))
