"""Causes in the training: what its log shows, against its config; and what a short training proves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable
from workbench.core.finding import Finding, Measurement
from workbench.core.report import counted
from workbench.curves.mistakes import LEAST_FALL, LOSS_ROWS, NOT_FALLING, not_falling, start_and_end
from workbench.curves.schedule import ENDED_EARLY, LONG_WARM_UP
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, NotTestable, RuledOut
from workbench.diagnosis.fixes import config_diff
from workbench.diagnosis.rate_causes import Rate
from workbench.diagnosis.run_logs import log_origin, logged_runs, own_curves
from workbench.diagnosis.training_code import DETACHED, TIGHT_CLIP

if TYPE_CHECKING:
    pass

# What curves of healthy runs show as well, or what is a cause of its own.
OBSERVED = ("best is not "
"last", "plateau", "sudden jump", "metric moves in coarse steps", "learning rate step",
            "late start", NOT_FALLING)  # fmt: skip
# What a schedule shows that is followed in another way than its config says: a cause of its own.
OF_RATE = (LONG_WARM_UP, ENDED_EARLY)
# Part of the rows without any gradient; some steps of a healthy run may have none.
MOSTLY_STILL = 0.5
# Clipping leaves less than this share of the usual gradient.
CLIPPED = 0.05


class LogOfAnotherRun(Cause):
    """The log that was given is not this checkpoint's."""

    name, group, needs = "log of another run", "training", ("log", "checkpoint")
    refuted_by = "the validation figures inside the checkpoint and in the log, side by side"

    def test(self, case: Case) -> Answer:
        origin = log_origin(case)
        if origin.run == "other":
            case.notes.append(origin.evidence)
            return self.found(
                origin.evidence, fix="give the log that lies beside the checkpoint", severity="warning"
            )
        return RuledOut(origin.evidence) if origin.run == "same" else NotTestable(origin.evidence)


class LogFlags(Cause):
    """What stands out in the curves: jumps, restarts, not finite, AP against AR, overfitting."""

    name, group, needs = "training curves", "training", ("log",)
    refuted_by = "another log of the same run without it"

    def test(self, case: Case) -> Answer:
        own = own_curves(case)
        from workbench.curves import flags_between, read_logs

        flags = list(own.flags)
        for other in logged_runs(case)[:-1]:
            flags += flags_between(own, other)
        try:
            logs = case.against().logs
            flags += flags_between(own, read_logs(logs, "the other run")[-1]) if logs else []
        except NotAvailable:
            pass
        found = [flag for flag in flags if flag.severity != "remark" and flag.cause not in OBSERVED]
        if any(flag.cause in OF_RATE for flag in found) and _rate_is_explained(case):
            found = [flag for flag in found if flag.cause not in OF_RATE]
        if not found:
            return RuledOut(own.summary())
        # A curve shows a symptom: it never outranks what undoing a cause gave back.
        return [
            dataclasses.replace(flag, confidence="likely", refuted_by=flag.refuted_by or self.refuted_by)
            for flag in found
        ]


def _rate_is_explained(case: Case) -> bool:
    """Whether a mistake with the config's schedule gives the rates of the log, its warm-up too."""
    try:
        answer = Rate().test(case)
    except NotAvailable:
        return False
    return isinstance(answer, Finding) and answer.severity == "error"


class LossStays(Cause):
    """The training loss does not fall: nothing is learned."""

    name, group, needs = NOT_FALLING, "training", ("log",)

    def test(self, case: Case) -> Answer:
        loss = own_curves(case).loss
        if loss is None or len(loss.finite()[1]) < LOSS_ROWS:
            raise NotAvailable("the log holds no training loss, or too few rows of it")
        if found := not_falling(own_curves(case)):
            return found[0]
        first, last = start_and_end(loss)
        fall, best = 1 - last / first if first else 0.0, own_curves(case).best
        if fall >= LEAST_FALL or best is None:
            return RuledOut(f"the training loss falls by {fall:.0%}, from {first:.3g} to {last:.3g}")
        return RuledOut(f"the loss goes from {first:.3g} to {last:.3g}, and the run reaches {best[1]:.3f}")


class NoGradient(Cause):
    """The gradients of the log are 0: no loss reaches the network."""

    name, group, needs = DETACHED, "training", ("log",)
    refuted_by = "weights that differ between two epochs by more than weight decay takes"

    def test(self, case: Case) -> Answer:
        norm = own_curves(case).get("grad_norm")
        if norm is None or not len(norm.finite()[1]):
            raise NotAvailable("the log holds no gradient norm")
        still = float((norm.finite()[1] == 0).mean())
        if still < MOSTLY_STILL:
            return RuledOut(f"{still:.0%} of the gradient norms are 0")
        loss = own_curves(case).loss
        if loss is not None and not loss.finite()[1].any():
            return RuledOut("the gradients are 0 because the loss is 0 from the first row on")
        return self.found(
            f"the gradient norm is 0 in {still:.0%} of {counted(len(norm.finite()[1]), 'row')}",
            fix="see where outputs are detached, made without gradients, or multiplied by 0 (weight, mask)",
            numbers=(Measurement("share of gradients that are 0", still, expected=0.0),),
        )


class Clipping(Cause):
    """Gradients are clipped to a small part of their usual size in every step."""

    name, group, needs = "gradient clipping too small", "training", ("log", "config")
    refuted_by = "the same curves with the clipping taken away"

    def test(self, case: Case) -> Answer:
        wrapper = case.config().get("optim_wrapper", {})
        clip = wrapper.get("clip_grad") if isinstance(wrapper, Mapping) else None
        most = clip.get("max_norm") if isinstance(clip, Mapping) else None
        if not isinstance(most, (int, float)):
            return RuledOut("the config clips no gradients")
        try:
            norm = own_curves(case).get("grad_norm")
            missing = "" if norm is not None and len(norm.finite()[1]) else "the log holds no gradient norm"
        except NotAvailable as error:
            norm, missing = None, str(error)
        if norm is None or missing:
            if most >= TIGHT_CLIP:
                raise NotAvailable(missing)
            return self.found(
                f"gradients are clipped at a norm of {most:g}; published recipes clip at 0.1 to 35",
                fix="clip the norm at 1, or not at all",
                diff=config_diff(case, {"optim_wrapper.clip_grad.max_norm": 1.0}),
                confidence="likely",
            )
        usual = float(np.median(norm.finite()[1]))
        if most >= CLIPPED * usual:
            return RuledOut(f"gradients have a norm of {usual:.3g} and are clipped at {most:g}")
        return self.found(
            f"gradients have a norm of {usual:.3g} (median) and are clipped at {most:g}: every step keeps "
            f"{most / usual:.1%} of its gradient",
            fix=f"clip at about {_clip_for(usual):g}, or not at all",
            diff=config_diff(case, {"optim_wrapper.clip_grad.max_norm": _clip_for(usual)}),
            confidence="likely",
        )


def _clip_for(usual: float) -> float:
    """The next power of ten above the usual norm of the gradients."""
    return 10.0 ** math.ceil(math.log10(usual))


class NotShuffled(Cause):
    """Training data in the order of the file."""

    name, group, needs = "training data not shuffled", "training", ("config",)
    refuted_by = "a sampler that shuffles outside of the config"

    def test(self, case: Case) -> Answer:
        loader = case.config().get("train_dataloader")
        if not isinstance(loader, Mapping):
            raise NotAvailable("the config has no train_dataloader")
        sampler = loader.get("sampler")
        given = sampler.get("shuffle") if isinstance(sampler, Mapping) else loader.get("shuffle")
        if given is not False:
            return RuledOut("the training data are shuffled" if given else "nothing says that they are not")
        return self.found(
            "train_dataloader.sampler.shuffle is False: every epoch has the same batches, neighbours "
            "together",
            fix="shuffle the training data",
            diff=config_diff(case, {_place_of_shuffle(loader): True}),
        )


def _place_of_shuffle(loader: Mapping[str, Any]) -> str:
    own = "train_dataloader.shuffle"
    return "train_dataloader.sampler.shuffle" if isinstance(loader.get("sampler"), Mapping) else own


CAUSES: Sequence[Cause] = (
    LogOfAnotherRun(),
    LogFlags(),
    LossStays(),
    NoGradient(),
    Clipping(),
    NotShuffled(),
)
