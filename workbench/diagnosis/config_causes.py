"""Causes in the config: contradictions, misplaced keys, decay of norms."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.core import NotAvailable
from workbench.core.errors import available
from workbench.core.finding import Finding, Measurement
from workbench.curves.schedule import rate_of
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut
from workbench.diagnosis.fixes import REMOVED, config_diff
from workbench.diagnosis.run_logs import own_curves
from workbench.diagnosis.schedule import parts_of, rate_at
from workbench.diagnosis.text_causes import recipe_name, stated_recipe
from workbench.recipes.key_rules import NEVER_TRAIN
from workbench.recipes.value_rules import TIGHTLY_CLIPPED

# Decay takes less than this share of norms and biases over a run: nothing to speak of.
LITTLE_DECAY = 0.15
# A decay under which no weight lasts: another cause, which names it.
TOO_STRONG = 1.0
# How far the logarithm of a ratio may lie from a whole number.
POWER_OF_TEN = 0.005
# Points at which the schedule of a config is read.
POINTS = 200


class Audit(Cause):
    """The config contradicts itself, or differs from the reference recipe that it follows."""

    name, group, needs = "config contradicts itself", "file", ("config",)
    refuted_by = "the code that reads the config, where it gives these keys another meaning"
    # Differences from a recipe may be wanted: they are remarks, and only the weightiest are named.
    MOST = 4

    def test(self, case: Case) -> Answer:
        config = case.config()
        from workbench.recipes.audit import audit

        # A text about a recipe says which one the config is meant to follow.
        report = audit(config, stated_recipe(case) or None, title="the config")
        # What gets no rate is a cause of its own, GroupRates, and so is mmengine's clip: Clipping.
        own = (NEVER_TRAIN, TIGHTLY_CLIPPED) if "optim_wrapper" in config else (NEVER_TRAIN,)
        said = [one for one in report.findings if one.cause not in own]
        wrong = [one for one in said if one.severity == "error" and not _of_recipe(one)]
        differing = [one for one in said if one not in wrong and one.severity != "remark"]
        if not wrong and not differing:
            return RuledOut(report.summary())
        found = [_of_audit(case, one, self.refuted_by) for one in wrong]
        remarks = [_of_audit(case, one, self.refuted_by) for one in differing[: self.MOST]]
        return [
            *found,
            *(dataclasses.replace(one, severity="remark", confidence="possible") for one in remarks),
        ]


def _of_recipe(found: Any) -> bool:
    """Whether a finding says no more than that the config differs from its recipe, which may be wanted."""
    return found.cause.endswith(("differs from the recipe", "left out"))


class RateOfRecipe(Cause):
    """The config's learning rate is a power of ten away from that of the recipe that it follows."""

    name, group, needs = "learning rate is ten times off its recipe's", "training", ("config",)
    refuted_by = "a short training with the recipe's rate that learns no better"

    def test(self, case: Case) -> Answer:
        from workbench.recipes.audit import audit

        config = case.config()
        report = audit(config, stated_recipe(case) or None, title="the config")
        if not report.recipe:
            raise NotAvailable("the config follows no recipe that is known here")
        differing = {one.field: one for one in report.findings if _of_recipe(one)}
        rate = differing.get("optimizer.lr")
        if rate is None:
            return RuledOut(f"the learning rate is the one of {report.recipe}, or no rate is stated")
        if config.get("load_from") or {"optimizer.type", "train.batch_size"} & set(differing):
            return RuledOut(
                f"{rate.evidence}: with other weights, optimizer or batch another rate may be right"
            )
        power = math.log10(float(rate.found) / float(rate.expected))
        if round(power) == 0 or abs(power - round(power)) > POWER_OF_TEN:
            return RuledOut(f"{rate.evidence}: no power of ten")
        return self.found(
            f"{rate.evidence}: {10.0 ** round(power):g} times as much, with the recipe's optimizer and batch",
            fix=f"set the recipe's rate, {float(rate.expected):g}",
            diff=config_diff(case, {rate.key: rate.expected}),
            severity="warning",
            confidence="likely",
        )


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
        config = case.config()
        model = config.get("model")
        if not isinstance(model, Mapping) or "type" not in model:
            raise NotAvailable("the config describes no model of mmpose")
        from workbench.models.mmpose.model import misplaced_keys_of

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


class WeightDecayOnNorms(Cause):
    """Norms and biases are decayed as weights are, and lose much of their size over the run."""

    name, group = "weight decay on norms and biases", "training"
    needs = ("config", "log, checkpoint, or the set of a recipe")
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
        if decay >= TOO_STRONG:
            return RuledOut(f"weight_decay={decay:g} is too strong for every weight, not for these alone")
        groups = wrapper if isinstance(wrapper, Mapping) else optimizer
        constructor = str(groups.get("constructor", ""))
        if "LayerDecay" in constructor:
            return RuledOut(f"{constructor} leaves norms and biases without decay")
        factors = groups.get("paramwise_cfg")
        factors = factors if isinstance(factors, Mapping) else {}
        shares = {kind: _factor(factors, kind) for kind in ("norm", "bias")}
        worst = max(shares.values())
        if worst <= 0:
            return RuledOut("norm_decay_mult and bias_decay_mult are 0")
        lost = 1 - math.exp(-decay * worst * _summed_rate(case))
        which = " and ".join(kind for kind, factor in shares.items() if factor > 0)
        if lost < LITTLE_DECAY:
            return RuledOut(f"{which} are decayed, but over this run by {lost:.0%} only")
        return self.found(
            f"weight_decay={decay:g} acts on {which} as well: over this run it alone takes {lost:.0%} "
            "of their size",
            fix="optim_wrapper = dict(paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0, "
            "bypass_duplicate=True))",
            diff=config_diff(case, {f"optim_wrapper.paramwise_cfg.{kind}_decay_mult": 0 for kind in shares}),
            numbers=(Measurement("share taken by the decay alone", lost, expected=0.0),),
            severity="error" if lost > 0.5 else "warning",
            confidence="likely",
        )


def _factor(factors: Mapping[str, Any], kind: str) -> float:
    """What the decay of norms, or of biases, is multiplied with; custom_keys name them as well."""
    keys = factors.get("custom_keys")
    for name, rule in keys.items() if isinstance(keys, Mapping) else ():
        if (
            kind in str(name).lower().split(".")[-1]
            and "table" not in str(name)
            and isinstance(rule, Mapping)
        ):
            return float(rule.get("decay_mult", 1.0))
    return float(factors.get(f"{kind}_decay_mult", 1.0))


def _summed_rate(case: Case) -> float:
    """Sum of the learning rates of all steps: from the log, else from the config's schedule.

    Raises:
        NotAvailable: nothing says how many steps were made.
    """
    series = available(lambda: rate_of(own_curves(case)), None)
    if series is not None:
        known = np.isfinite(series.iteration) & np.isfinite(series.value)
        if known.sum() >= 2:
            rate, at = series.value[known], series.iteration[known]
            return float((np.diff(at) * (rate[1:] + rate[:-1]) / 2).sum())
    steps, epochs = _length_of_run(case)
    base, parts = parts_of(case.config())
    per_epoch = steps / epochs
    at = np.linspace(0, steps, POINTS)
    return float(np.mean([rate_at(base, parts, i, per_epoch) for i in at]) * steps)


def _length_of_run(case: Case) -> tuple[float, float]:
    """Steps and epochs of the run: of the checkpoint, else of the config where its set is that of a recipe.

    Raises:
        NotAvailable: neither says it.
    """
    from workbench.recipes.comparison import Subject
    from workbench.recipes.recipe import recipe
    from workbench.recipes.schedule_rules import iterations_of
    from workbench.recipes.values import decisions_of

    steps, epoch = available(lambda: (case.checkpoint().iteration, case.checkpoint().epoch), (None, None))
    if steps:
        return steps, max(epoch or 1, 1)
    name, made = recipe_name(case), decisions_of(case.config())
    epochs, known = made.get("schedule.epochs"), recipe(name) if name else None
    if known is not None and isinstance(epochs, (int, float)) and 0 < epochs < math.inf:
        steps = iterations_of(Subject(made, known, known.devices), epochs)
    if not steps:
        raise NotAvailable("no log, checkpoint or set of a recipe says how many steps were made")
    return steps, epochs


CAUSES: tuple[Cause, ...] = (Audit(), RateOfRecipe(), MisplacedKeys(), WeightDecayOnNorms())
