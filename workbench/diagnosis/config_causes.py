"""Causes in the config (contradictions, misplaced keys, decay of norms) and in the packages of a run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.core import NotAvailable
from workbench.core.finding import Finding, Measurement
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut
from workbench.diagnosis.fixes import REMOVED, config_diff
from workbench.diagnosis.schedule import parts_of, rate_at
from workbench.diagnosis.text_causes import stated_recipe
from workbench.diagnosis.training_causes import own_curves
from workbench.doctor.examination import numbers, versions

# Decay takes less than this share of norms and biases over a run: nothing to speak of.
LITTLE_DECAY = 0.15
# Points at which the schedule of a config is read.
POINTS = 200


class Audit(Cause):
    """The config contradicts itself, or differs from the reference recipe that it follows."""

    name, group, needs = "config contradicts itself", "file", ("config",)
    refuted_by = "the code that reads the config, where it gives these keys another meaning"
    # Differences from a recipe may be wanted: they are remarks, and only the weightiest are named.
    MOST = 4

    def test(self, case: Case) -> Answer:
        from workbench.recipes.audit import audit

        # A text about a recipe says which one the config is meant to follow.
        report = audit(case.config(), stated_recipe(case) or None, title="the config")
        wrong = [one for one in report.findings if one.severity == "error" and not report.recipe]
        wrong += [one for one in report.findings if one.source == "the config itself" and one not in wrong]
        wrong = [one for one in wrong if one.severity == "error"]
        differing = [one for one in report.findings if one not in wrong and one.severity != "remark"]
        if not wrong and not differing:
            return RuledOut(report.summary())
        found = [_of_audit(case, one, self.refuted_by) for one in wrong]
        remarks = [_of_audit(case, one, self.refuted_by) for one in differing[: self.MOST]]
        return [
            *found,
            *(dataclasses.replace(one, severity="remark", confidence="possible") for one in remarks),
        ]


def _of_audit(case: Case, found: Any, refuted_by: str) -> Finding:
    """A finding of the audit, the change of the config as a diff."""
    diff = "" if found.expected is None else config_diff(case, {found.key: found.expected})
    why = f"; {found.why}" if found.why else ""
    return Finding(
        found.cause,
        f"{found.evidence}{why} ({found.source})" if found.source else f"{found.evidence}{why}",
        found.fix,
        diff=diff,
        refuted_by=found.refuted_by or refuted_by,
        assumption=found.assumption,
        severity=found.severity,
        confidence=found.confidence,
    )


class MisplacedKeys(Cause):
    """Keys of a config that their class does not take."""

    name, group, needs = "config keys at a wrong place", "file", ("config",)
    refuted_by = "a class of one's own that takes these keys"

    def test(self, case: Case) -> Answer:
        from workbench.models.mmpose.model import misplaced_keys_of

        config = case.config()
        model = config.get("model")
        if not isinstance(model, Mapping) or "type" not in model:
            raise NotAvailable("the config describes no model of mmpose")
        wrong = misplaced_keys_of(config)
        if not wrong:
            return RuledOut("every key of the model is one that its class takes")
        return self.found(
            f"{_counted(len(wrong), 'key does', 'keys do')} not belong: {'; '.join(wrong[:3])}",
            fix="remove these keys, or move them to the part that takes them (in_channels is the head's)",
            diff=config_diff(case, dict.fromkeys([phrase.partition(":")[0] for phrase in wrong], REMOVED)),
        )


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


Version = tuple[int, ...]


@dataclass(frozen=True)
class Pair:
    """Two packages of which some versions do not work together.

    Attributes:
        first: distribution.
        second: distribution.
        breaks: of both versions, whether they break.
        why: what happens then.
        do: what to do.
    """

    first: str
    second: str
    breaks: Callable[[Version, Version], bool]
    why: str
    do: str


PAIRS: tuple[Pair, ...] = (
    Pair("mmdet", "mmcv", lambda mmdet, mmcv: (3,) <= mmdet < (4,) and mmcv >= (2, 2),
         "mmdet 3 refuses mmcv 2.2 and later when it is imported", 'pip install "mmcv<2.2"'),
    Pair("mmpose", "mmcv", lambda mmpose, mmcv: mmpose >= (1,) and mmcv < (2,),
         "mmpose 1 needs mmcv 2: names of the layers moved", 'pip install "mmcv>=2,<2.2"'),
    Pair("mmpose", "mmcv", lambda mmpose, mmcv: mmpose < (1,) and mmcv >= (2,),
         "mmpose 0.x needs mmcv 1: mmcv.runner is gone in 2", 'pip install "mmcv-full<2"'),
    Pair("torchvision", "torch", lambda vision, torch: vision[:2] != _vision_of(torch),
         "torchvision was built for another torch: its operators (nms) are not found",
         "install the torchvision that belongs to this torch"),
    Pair("mmengine", "setuptools", lambda mmengine, tools: mmengine <= (0, 10, 7) and tools >= (82,),
         "mmengine imports pkg_resources, which setuptools 82 no longer has", 'pip install "setuptools<82"'),
    Pair("xtcocotools", "numpy", lambda tools, numpy: tools <= (1, 14, 3) and numpy >= (2,),
         "the wheel of xtcocotools was built for numpy 1: numpy.dtype size changed",
         'pip install "numpy<2", or build xtcocotools from source'),
    Pair("mmpretrain", "transformers", lambda mmpretrain, transformers: transformers >= (5,),
         "mmpretrain cannot be imported beside transformers 5, so VisionTransformer is not registered",
         'pip install "transformers<5"'),
)  # fmt: skip
"""What was measured with these packages; versions that lie between the tested ones are not named."""

# What files call a distribution otherwise.
_OTHER_NAMES = {"pytorch": "torch", "mmcv-full": "mmcv", "mmcv-lite": "mmcv"}


def _vision_of(torch: Version) -> Version:
    """The torchvision of a torch: 0.15 of 2.0, 0.14 of 1.13; both count on together."""
    major, minor = torch[0], torch[1] if len(torch) > 1 else 0
    return (0, minor + 15) if major >= 2 else (0, minor + 1)


class PackagePairs(Cause):
    """Packages that the run was trained with, of which two do not work together, there or with those here."""

    name, group, needs = "package pair that breaks", "file", ("checkpoint with versions in it",)
    refuted_by = "the same two versions importing each other in one environment"

    def test(self, case: Case) -> Answer:
        recorded = recorded_versions(case)
        if not recorded:
            raise NotAvailable("the checkpoint records no versions of packages")
        here = {_OTHER_NAMES.get(n, n): v for n, v in versions().items() if v}
        found = []
        for pair in PAIRS:
            both = recorded.get(pair.first), recorded.get(pair.second)
            if all(both) and pair.breaks(numbers(both[0] or ""), numbers(both[1] or "")):
                where = f"the run records {pair.first} {both[0]} and {pair.second} {both[1]}"
                found.append(self.found(f"{where}: {pair.why}", fix=pair.do))
        if found:
            return found
        checked = ", ".join(f"{name} {version}" for name, version in sorted(recorded.items()))
        own, other = recorded.get("mmpose", ""), here.get("mmpose", "")
        if own and other and (numbers(own) < (1,)) != (numbers(other) < (1,)):
            return self.found(
                f"the run was written by mmpose {own}, and {other} is installed: names of configs and "
                "tensors differ between 0.x and 1.x",
                fix="load it with --remap, which translates the names, or install mmpose of that generation",
                severity="warning",
            )
        return RuledOut(f"no known pair breaks: {checked}")


def recorded_versions(case: Case) -> dict[str, str]:
    """Package -> version, as the checkpoint says; names as in the package index."""
    found = {}
    for name, version in case.checkpoint().versions.items():
        plain = name.lower().replace("_", "-")
        if numbers(version):
            found[_OTHER_NAMES.get(plain, plain)] = version
    return found


class WeightDecayOnNorms(Cause):
    """Norms and biases are decayed as weights are, and lose much of their size over the run."""

    name, group, needs = "weight decay on norms and biases", "training", ("config", "log or checkpoint")
    refuted_by = "the optimizer's parameter groups, in which norms and biases have no decay"

    def test(self, case: Case) -> Answer:
        wrapper = case.config().get("optim_wrapper")
        optimizer = (
            wrapper.get("optimizer") if isinstance(wrapper, Mapping) else case.config().get("optimizer")
        )
        if not isinstance(optimizer, Mapping):
            raise NotAvailable("the config names no optimizer")
        usual = 0.01 if optimizer.get("type") == "AdamW" else 0.0
        decay = float(optimizer.get("weight_decay", usual) or 0.0)
        if decay <= 0:
            return RuledOut("the config decays nothing")
        groups = wrapper if isinstance(wrapper, Mapping) else optimizer
        constructor = str(groups.get("constructor", ""))
        if "LayerDecay" in constructor:
            return RuledOut(f"{constructor} leaves norms and biases without decay")
        factors = groups.get("paramwise_cfg")
        factors = factors if isinstance(factors, Mapping) else {}
        told = {kind: float(factors.get(f"{kind}_decay_mult", 1.0)) for kind in ("norm", "bias")}
        worst = max(told.values())
        if worst <= 0:
            return RuledOut("norm_decay_mult and bias_decay_mult are 0")
        lost = 1 - math.exp(-decay * worst * _summed_rate(case))
        which = " and ".join(kind for kind, factor in told.items() if factor > 0)
        if lost < LITTLE_DECAY:
            return RuledOut(f"{which} are decayed, but over this run by {lost:.0%} only")
        return self.found(
            f"weight_decay={decay:g} acts on {which} as well: over this run it alone takes {lost:.0%} "
            "of their size",
            fix="optim_wrapper = dict(paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0, "
            "bypass_duplicate=True))",
            diff=config_diff(case, {f"optim_wrapper.paramwise_cfg.{kind}_decay_mult": 0 for kind in told}),
            numbers=(Measurement("share taken by the decay alone", lost, expected=0.0),),
            severity="error" if lost > 0.5 else "warning",
            confidence="likely",
        )


def _summed_rate(case: Case) -> float:
    """Sum of the learning rates of all steps: from the log, else from the config's schedule.

    Raises:
        NotAvailable: neither says how many steps were made.
    """
    try:
        curves = own_curves(case)
        series = curves.get("lr", "train") or curves.get("lr")
    except NotAvailable:
        series = None
    if series is not None:
        known = np.isfinite(series.iteration) & np.isfinite(series.value)
        if known.sum() >= 2:
            rate, at = series.value[known], series.iteration[known]
            return float((np.diff(at) * (rate[1:] + rate[:-1]) / 2).sum())
    steps = case.checkpoint().iteration
    if not steps:
        raise NotAvailable("neither a log nor the checkpoint says how many steps were made")
    base, parts = parts_of(case.config())
    per_epoch = steps / max(case.checkpoint().epoch or 1, 1)
    at = np.linspace(0, steps, POINTS)
    return float(np.mean([rate_at(base, parts, i, per_epoch) for i in at]) * steps)


CAUSES: tuple[Cause, ...] = (
    Audit(),
    MisplacedKeys(),
    PackagePairs(),
    WeightDecayOnNorms(),
)
