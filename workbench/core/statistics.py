"""Statistics of numbers of which some are unknown (nan), and how many of several shares count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float


def finite_mean(values: Float[np.ndarray, "*s"]) -> float:
    """Mean of the finite values; nan without any."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def finite_median(values: Float[np.ndarray, "*s"]) -> float:
    """Median of the finite values; nan without any."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def finite_medians(values: Float[np.ndarray, "N K"]) -> Float[np.ndarray, " K"]:
    """Median of each column's finite values; nan where it has none."""
    return np.array([finite_median(column) for column in values.T])


def standard_error(values: Float[np.ndarray, " n"]) -> float:
    """Standard error of the mean of independent values; nan for fewer than two, whose scatter is unknown."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def effective_number(amounts: Float[np.ndarray, " n"]) -> float:
    """How many amounts count: exp of the entropy of their shares, n for n equal ones; nan where all are 0.

    Of singular values it is the effective rank of a matrix.

    Source: Roy and Vetterli, The effective rank, EUSIPCO 2007, definition 1.

    Args:
        amounts: not negative.

    Example:
        >>> round(effective_number(np.array([2.0, 2.0, 0.0])), 6)
        2.0
    """
    total = amounts.sum()
    if not total > 0:
        return float("nan")
    shares = amounts[amounts > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))
