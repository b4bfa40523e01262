"""Causes in how losses and gradients are scaled: mixed precision that overflows, a scaled loss in the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import NotAvailable
from workbench.core.errors import available
from workbench.core.finding import Measurement
from workbench.core.report import counted
from workbench.curves.quantities import role_of, short
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut
from workbench.diagnosis.fixes import config_diff
from workbench.diagnosis.run_logs import own_curves

if TYPE_CHECKING:
    from workbench.curves import Curves, Series

SCALES = ("loss_scale", "loss_scaler", "grad_scale", "amp_scale", "scale")
"""What trainers call the factor of mixed precision in their logs."""
# Overflows that a growing factor meets on purpose: one in 2000 steps in torch. More is a finding.
OVERFLOWS = 0.02
# A factor below 1 no longer lifts small gradients out of half precision's range.
LEAST_SCALE = 1.0
# The total of a log is a multiple of its parts where rows agree so well, and the factor is no rounding.
SAME_FACTOR, NOT_ONE = 0.01, 0.05


class MixedPrecision(Cause):
    """Half precision overflows in the training: gradients are not finite, the loss scale collapses."""

    name, group, needs = "half precision overflows in training", "training", ("log",)
    refuted_by = "the same steps in float32 or bfloat16 with gradients that are not finite either"

    def test(self, case: Case) -> Answer:
        curves, half = own_curves(case), _half_precision(case)
        scale = next((s for name in SCALES if (s := curves.get(name, "train") or curves.get(name))), None)
        norm = curves.get("grad_norm", "train") or curves.get("grad_norm")
        if scale is None and half is not True:
            if half is None:
                raise NotAvailable(
                    "the log holds no loss scale, and no config says in which precision was trained"
                )
            return RuledOut("the config trains in float32 or bfloat16")
        bad = _not_finite(norm)
        falls, last = _falls(scale)
        if bad <= OVERFLOWS and not (falls and last < LEAST_SCALE):
            seen = "" if scale is None else f", the loss scale ends at {last:g}"
            return RuledOut(f"{bad:.1%} of the gradient norms are not finite{seen}")
        signs = []
        if bad > OVERFLOWS:
            signs.append(f"{bad:.1%} of the gradient norms are nan or infinite: these steps are left out")
        if falls and scale is not None:
            first = float(scale.finite()[1][0])
            signs.append(f"the loss scale falls {falls} times, from {first:g} to {last:g}")
        return self.found(
            "; ".join(signs) + ("; the config trains in half precision" if half else ""),
            fix="train in bfloat16 (optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16')) or in "
            "float32; keep losses and softmax in float32",
            diff=config_diff(case, {"optim_wrapper.dtype": "bfloat16"}) if half else "",
            numbers=(
                Measurement("share of gradients not finite", bad, expected=0.0),
                Measurement("loss scale at the end", last, expected=65536.0),
            ),
        )


def _half_precision(case: Case) -> bool | None:
    """Whether the config trains in float16; None without a config."""
    config = available(case.config, None)
    if config is None:
        return None
    wrapper = config.get("optim_wrapper")
    if isinstance(wrapper, Mapping):
        return wrapper.get("type") == "AmpOptimWrapper" and wrapper.get("dtype") != "bfloat16"
    return config.get("fp16") is not None  # mmcv 0.x


def _not_finite(series: Series | None) -> float:
    if series is None or not len(series.value):
        return 0.0
    return float((~np.isfinite(series.value)).mean())


def _falls(series: Series | None) -> tuple[int, float]:
    """How often a series falls to half or less, and its last value; nan without one."""
    if series is None:
        return 0, float("nan")
    _, value = series.finite()
    if not len(value):
        return 0, float("nan")
    return int((value[1:] <= 0.5 * value[:-1]).sum()), float(value[-1])


class LossScaled(Cause):
    """The total loss of the log is a fixed multiple of its parts: its numbers are not what they seem."""

    name, group, needs = "loss in the log is scaled", "training", ("log",)
    refuted_by = "a part of the loss that the log leaves out"

    def test(self, case: Case) -> Answer:
        total, parts = _loss_parts(own_curves(case))
        ratio = total / np.maximum(parts, 1e-30)
        factor = float(np.median(ratio))
        same = float(np.median(np.abs(ratio / factor - 1))) if factor else 1.0
        if abs(factor - 1) < NOT_ONE or same > SAME_FACTOR:
            return RuledOut(
                f"the loss is {factor:.3g} times the sum of its parts (median of "
                f"{counted(len(ratio), 'row')})"
            )
        return self.found(
            f"the loss is {factor:.3g} times the sum of its parts in every row: one of them is logged with a "
            "factor (a loss weight, a division by accumulated steps, a sum over layers)",
            fix=f"divide by {factor:.3g} before values are compared with another run or with a target",
            numbers=(Measurement("loss over the sum of its parts", factor, expected=1.0),),
            severity="warning",
        )


def _loss_parts(curves: Curves) -> tuple[np.ndarray, np.ndarray]:
    """The total loss, and the sum of its parts, in rows that have both.

    Raises:
        NotAvailable: the log has one of them alone.
    """
    total = curves.loss
    parts = [
        s
        for s in curves.series
        if total is not None and s is not total and s.split == total.split and role_of(s.name) == "loss"
        and short(s.name).lower().startswith("loss_") and short(s.name) not in SCALES
    ]  # fmt: skip
    if total is None or not parts:
        raise NotAvailable("the log holds no total loss beside its parts")
    sums = {float(i): 0.0 for i in total.iteration}
    for one in parts:
        at = dict(zip(map(float, one.iteration), map(float, one.value), strict=True))
        sums = {i: value + at.get(i, float("nan")) for i, value in sums.items()}
    summed = np.array([sums[float(i)] for i in total.iteration])
    known = np.isfinite(total.value) & np.isfinite(summed) & (summed > 0)
    if known.sum() < 6:
        raise NotAvailable("fewer than 6 rows of the log have the loss and all of its parts")
    return total.value[known], summed[known]


CAUSES: tuple[Cause, ...] = (MixedPrecision(), LossScaled())
