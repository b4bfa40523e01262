"""Switches: the pieces of a training pipeline that the bisection removes one at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workbench.core import Codec, PoseModel
from workbench.core.capabilities import HasDefects, HasObjective, HasSwitches
from workbench.training.people import TaughtPeople
from workbench.training.plan import Plan, drops, normalises
from workbench.training.sequences import TaughtSequence, scheduled_sampling
from workbench.training.verdict import Verdict


@dataclass(frozen=True)
class Switch:
    """One piece that can be removed.

    Attributes:
        name: for people and for `culprit`.
        why: its effect on a network that has to learn one image.
        present: whether a plan and a model have the piece at all.
        off: the plan without it; the model may change too.
        of_log: it changes only what the model's own log reports.
        times: steps of an attempt without it, as a multiple of those with it.
    """

    name: str
    why: str
    present: Callable[[Plan, PoseModel], bool]
    off: Callable[[Plan, PoseModel], Plan]
    of_log: bool = False
    times: int = 1


STEP_LIMIT, LONGER, CODEC = "step limit", 2, "codec"
CLIP, CLIP_EFFECT = "clip", "gradients are clipped so tightly that the weights hardly change"

# Any of these kinds of network learns an image with it; see settings.py.
USUAL_RATE = 1e-3

# Published recipes clip at a norm of 0.1 (transformers) to 35.
TIGHT_CLIP = 0.05


def reference_codec(codec: Codec | None) -> Codec:
    """A codec known to work for an output of this kind and size, as a published recipe of that size uses.

    Heatmaps: sigma 2 cells at 64 cells and in proportion, as MSRA's recipes; SimCC: 5.66 bins per 512, as
    RTMPose. Split ratio from the sizes themselves, decoder the plain one of the kind.

    Raises:
        ValueError: the model declares none.
    """
    if codec is None:
        raise ValueError("reference codec: this model declares none")
    h, w = codec.output_size
    if codec.kind == "heatmap":
        sigma = max(1.0, round(2 * max(h, w) / 64))
        return dataclasses.replace(codec, sigma=(sigma, sigma), udp=False, decoder="quarter")
    ratio = w / codec.input_size[1]
    sigma = max(2.0, 5.66 * max(h, w) / 512)
    return dataclasses.replace(
        codec, split_ratio=ratio, sigma=(sigma, sigma), normalized=False, decoder="simcc"
    )


def _without_codec(plan: Plan, model: PoseModel) -> Plan:
    """The model's own codec where the plan has another; else the reference codec, to encode and to decode."""
    if plan.codec is not None:
        return dataclasses.replace(plan, codec=None, reading=None)
    codec = reference_codec(model.codec)
    return dataclasses.replace(plan, codec=codec, reading=codec)


def _longer(plan: Plan) -> Plan:
    # A schedule given step by step is stretched, as any other schedule is.
    rates = tuple(rate for rate in plan.settings.rates for _ in range(LONGER))
    return plan.with_settings(steps=plan.settings.steps * LONGER, rates=rates)


def _without_factors(plan: Plan) -> Plan:
    """Every parameter at the full rate, its weight decay unchanged."""
    return plan.with_settings(
        groups={name: (1.0, decay) for name, (_, decay) in plan.settings.groups.items()}
    )


def _without_decay(plan: Plan) -> Plan:
    groups = {name: (rate, 0.0) for name, (rate, _) in plan.settings.groups.items()}
    return plan.with_settings(groups=groups, weight_decay=0.0)


def _other_rate(plan: Plan) -> Plan:
    rate = plan.settings.learning_rate
    near = USUAL_RATE / 10 <= rate <= USUAL_RATE * 10
    return plan.with_settings(learning_rate=rate / 10 if near else USUAL_RATE)


def why_of(switch: Switch, plan: Plan, without: Plan) -> str:
    """What stands in the way where a trial without a piece passes.

    Args:
        switch: of the piece.
        plan: of the attempt, with the piece.
        without: of the trial.
    """
    rate, tried = plan.settings.learning_rate, without.settings.learning_rate
    if switch.name != "learning rate" or rate == tried:
        return switch.why
    way = "low" if tried > rate else "high to converge"
    return f"the learning rate {rate:g} is too {way}; {tried:g} was tried"


SWITCHES: tuple[Switch, ...] = (
    Switch(
        "augmentation",
        "image and keypoints are not changed together, or the changes leave nothing to learn",
        lambda plan, _: plan.augment is not None,
        lambda plan, _: dataclasses.replace(plan, augment=None),
    ),
    Switch(
        "flip",
        "image and keypoints are not mirrored together",
        lambda plan, _: plan.flip is not None,
        lambda plan, _: dataclasses.replace(plan, flip=None),
    ),
    Switch(
        "ema",
        "the averaged weights, which are evaluated, are still close to the initial ones",
        lambda plan, _: plan.settings.ema > 0,
        lambda plan, _: plan.with_settings(ema=0.0),
    ),
    Switch(
        "parameter groups",
        "factors on the learning rate (lr_mult) keep parts of the network from learning",
        lambda plan, _: any(rate != 1 for rate, _ in plan.settings.groups.values()),
        lambda plan, _: _without_factors(plan),
    ),
    Switch(
        "schedule",
        "warm-up or schedule keep the learning rate too small within these steps; constant was tried",
        lambda plan, _: bool(plan.settings.rates) or plan.settings.warm_up >= plan.settings.steps / 2,
        lambda plan, _: plan.with_settings(rates=(), schedule="constant", warm_up=0),
    ),
    Switch(
        CLIP,
        CLIP_EFFECT,
        lambda plan, _: 0 < plan.settings.clip < TIGHT_CLIP,
        lambda plan, _: plan.with_settings(clip=0.0),
    ),
    Switch(
        "uncleared gradients",
        "the gradients of all earlier steps are added to those of each step: zero_grad is missing",
        lambda plan, _: plan.settings.keep_gradients,
        lambda plan, _: plan.with_settings(keep_gradients=False),
    ),
    Switch(
        "batch norm in evaluation mode",
        "batch normalisation keeps the statistics that it starts with, which no input of the network has",
        lambda plan, model: plan.norm_eval and any(map(normalises, model.module.modules())),
        lambda plan, _: dataclasses.replace(plan, norm_eval=False),
    ),
    # Before everything that may slow a network down without being wrong: a healthy one with too few steps may
    # just learn without its dropout, and its dropout would be blamed.
    Switch(
        STEP_LIMIT,
        f"the network needs more steps than it was given; {LONGER} times as many were tried",
        lambda plan, _: True,
        lambda plan, _: _longer(plan),
        times=LONGER,
    ),
    Switch(
        "normalisation",
        "batch statistics in training differ from the running statistics used in evaluation, which a healthy "
        "network's do as well after few steps: repeat it with more",
        lambda plan, model: plan.normalisation and any(map(normalises, model.module.modules())),
        lambda plan, _: dataclasses.replace(plan, normalisation=False),
    ),
    Switch(
        "dropout",
        "so much is dropped in training that what evaluation sees was never trained",
        lambda plan, model: plan.dropout and any(map(drops, model.module.modules())),
        lambda plan, _: dataclasses.replace(plan, dropout=False),
    ),
    Switch(
        CODEC,
        "targets are encoded in another way than outputs are decoded, or their peaks cannot be learned",
        lambda plan, model: model.codec is not None,
        lambda plan, model: _without_codec(plan, model),
    ),
    Switch(
        "weight decay",
        "the weights shrink faster than the loss can make them grow",
        lambda plan, _: plan.settings.weight_decay > 0,
        lambda plan, _: _without_decay(plan),
    ),
    Switch(
        "learning rate",
        "the learning rate is too high to converge, or too low; a tenth was tried, or "
        f"{USUAL_RATE:g} where the rate is far from it",
        lambda plan, _: True,
        lambda plan, _: _other_rate(plan),
    ),
)
"""For every kind of model, in the order in which they are suspected."""


def _defect(name: str, title: str, why: str, of_log: bool = False) -> Switch:
    """Switch for a known defect of a network's code that the network can turn off."""

    def present(_: Plan, model: PoseModel) -> bool:
        network: Any = model.module
        return isinstance(network, HasDefects) and bool(vars(network.defects).get(name))

    def off(plan: Plan, model: PoseModel) -> Plan:
        network: Any = model.module
        network.defects = dataclasses.replace(network.defects, **{name: False})
        return plan

    return Switch(title, why, present, off, of_log)


def _only_truth(_: Plan, model: PoseModel) -> bool:
    return isinstance(model, TaughtSequence) and model.teaching.sampling == "teacher"


def _own_answers(plan: Plan, model: Any) -> Plan:
    model.teaching = scheduled_sampling(plan.settings.steps)
    return plan


SEQUENCE_SWITCHES: tuple[Switch, ...] = (
    _defect(
        "support_mask_inverted",
        "support mask",
        "the support encoder ignores what it should read: its features are 0 for an all-visible support",
    ),
    _defect(
        "support_discarded",
        "support",
        "the support is encoded and the result discarded, so nothing says which keypoint comes next",
    ),
    Switch(
        "teacher forcing",
        "in training every step reads the ground truth, in use its own predictions, which it never saw",
        _only_truth,
        _own_answers,
    ),
    _defect(
        "pck_in_input_pixels",
        "pck coordinates",
        "its log measures distances in pixels of the resized input, the threshold in pixels of the image",
        of_log=True,
    ),
    _defect(
        "logged_loss_scaled",
        "loss scale",
        "its log reports the coordinate loss times its weight of 5, so it cannot be read as a distance",
        of_log=True,
    ),
)
"""For sequence models alone; suspected before the others."""


def switches_of(model: PoseModel, plan: Plan, *, of_log: bool = False) -> list[Switch]:
    """The switches that a model and a plan have.

    Args:
        model: its view for training.
        plan: of the attempt.
        of_log: select those that change only what the model's own log reports.
    """
    own = model.switches if isinstance(model, HasSwitches) else ()
    known = (*own, *(SEQUENCE_SWITCHES if isinstance(model, TaughtSequence) else ()), *SWITCHES)
    return [switch for switch in known if switch.of_log == of_log and switch.present(plan, model)]


def suspected(model: PoseModel, plan: Plan, verdict: Verdict | None = None) -> list[Switch]:
    """The switches in the order in which they are suspected of a verdict.

    A network that has learned in training mode had enough steps: more of them might hide the difference
    between the two modes, so the step limit then comes last. Targets of another codec than the model's own
    come first: they are wrong in any case, and another switch might learn in spite of them.

    Args:
        model: its view for training.
        plan: of the attempt.
        verdict: of the attempt with all pieces.
    """
    other = plan.codec is not None and plan.codec != model.codec
    switches = sorted(switches_of(model, plan), key=lambda switch: not (other and switch.name == CODEC))
    if verdict is None or verdict.outcome not in ("learned", "train and inference paths disagree"):
        return switches
    return sorted(switches, key=lambda switch: switch.name == STEP_LIMIT)


def trial_steps(model: PoseModel, plan: Plan) -> int:
    """Steps of a bisection in which no trial passes: all of them together.

    Args:
        model: its view for training.
        plan: of the attempt.
    """
    return plan.settings.steps * sum(switch.times for switch in switches_of(model, plan))


def cannot_switch(model: PoseModel) -> tuple[str, ...]:
    """Possible causes of a failure of this model that no switch removes, in words."""
    found = []
    if isinstance(model, TaughtSequence):
        if not isinstance(model.module, HasDefects):
            found.append("how its code masks and reads the support, and what its own log reports")
    elif isinstance(model, HasObjective) and not isinstance(model, TaughtPeople):
        found.append("the loss, which is the model's own")
    return tuple(found)
