"""Training of an mmpose config: optimizer, parameter groups, schedule, clipping, averaging, target codec.

A config is read as plain dictionaries. Only what is listed here is built from it, by mmengine's own classes,
so that a config from anywhere can be read without running what it names; everything else is reported as not
used. The schedule is compressed to the steps of an attempt.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core import Codec, NotAvailable, PoseModel
from workbench.core.report import counted
from workbench.training.gradients import ADAM_EPS, LOST_IN_EPS
from workbench.training.settings import Settings

if TYPE_CHECKING:
    from torch import nn


SCHEDULERS = (
    "LinearLR", "ConstantLR", "CosineAnnealingLR", "MultiStepLR", "StepLR", "ExponentialLR", "PolyLR",
)  # fmt: skip
# Schedulers that start small and end at the full rate.
WARM_UPS = ("LinearLR", "ConstantLR")
# Per config; recipes have two or three. Each is evaluated step by step.
MOST_SCHEDULERS = 50
# Steps of one entry at least. mmengine's LinearLR and ConstantLR reach their last value after end - begin - 1
# steps, so an entry of a single step never would: the rate stayed at start_factor for the whole attempt.
SHORTEST = 2
# A step that moves weights, which are about .01 to 1, by less does nothing within a training.
LEAST_STEP = 1e-9
# Steps of an epoch where neither data set nor schedule state it: COCO has 584 with 256 crops per batch.
EPOCH_STEPS = 500


def type_of(entry: Any) -> str:
    """Name of an entry's type without its module; "none" where it has none."""
    return str(entry.get("type", "none")).rpartition(".")[2] if isinstance(entry, Mapping) else "none"


def schedule_of(
    config: Mapping[str, Any], steps: int, base: float, used: list[str], unused: list[str], wrong: list[str]
) -> dict[str, Any]:
    """Changes to Settings: the factor on the learning rate at every step.

    Args:
        config: parsed content.
        steps: of the attempt.
        base: peak learning rate.
        used: sentences on what is used are appended.
        unused: sentences on what is not used are appended.
        wrong: sentences on what is wrong are appended.

    Raises:
        ValueError: too many entries, or one that cannot be used.
    """
    entries = config.get("param_scheduler") or []
    entries = [entries] if isinstance(entries, Mapping) else list(entries)
    known = [dict(entry) for entry in entries if type_of(entry) in SCHEDULERS]
    unused += [f"schedule {type_of(entry)}" for entry in entries if type_of(entry) not in SCHEDULERS]
    if not known:
        return {}
    if len(known) > MOST_SCHEDULERS:
        raise ValueError(
            f"config: expected at most {MOST_SCHEDULERS} entries of param_scheduler, got {len(known)}"
        )
    epochs, whole, assumed = _length(config, known)
    wrong += _long_warm_ups(known, epochs, whole)
    used.append(
        f"schedule {' and '.join(type_of(e) for e in known)}, {counted(whole, 'step')} compressed to "
        f"{steps}{assumed}"
    )
    return {"rates": _rates(known, epochs, whole, steps, base), "warm_up": 0}


def _length(config: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> tuple[int, int, str]:
    """Epochs and steps of the config's own run, and what was assumed."""
    train = config.get("train_cfg") or {}
    if "max_iters" in train or train.get("by_epoch") is False:
        whole = int(train.get("max_iters") or 1)
        return 1, whole, ""
    epochs = max(1, int(train.get("max_epochs") or 1))
    # A decay counted in steps ends with the run; a warm-up may end anywhere.
    ends = [
        int(entry.get("end") or entry.get("T_max") or 0)
        for entry in entries
        if entry.get("by_epoch", True) is False and type_of(entry) not in WARM_UPS
    ]
    if ends and max(ends) > 0:
        return epochs, max(ends), ""
    whole = epochs * EPOCH_STEPS
    return epochs, whole, f" ({EPOCH_STEPS} steps an epoch assumed)"


def _long_warm_ups(entries: Sequence[Mapping[str, Any]], epochs: int, whole: int) -> list[str]:
    """Warm-ups that the config's own run does not finish."""
    found = []
    for entry in entries:
        default = 1 / 3 if type_of(entry) in WARM_UPS else 1.0
        if (
            type_of(entry) not in WARM_UPS
            or float(entry.get("start_factor", entry.get("factor", default))) >= 1
        ):
            continue
        by_epoch = entry.get("by_epoch", True) is not False
        end, run = int(entry.get("end") or 0), epochs if by_epoch else whole
        unit = "epochs" if by_epoch else "steps"
        if end >= run:
            found.append(
                f"the warm-up is longer than the run: it ends after {end} {unit}, the run has {run}, so the "
                "learning rate never reaches the optimizer's value"
            )
    return found


def _rates(
    entries: Sequence[Mapping[str, Any]], epochs: int, whole: int, steps: int, base: float
) -> tuple[float, ...]:
    """Factor on the learning rate at every step, from mmengine's schedulers over a run of `steps` steps."""
    import mmengine
    import torch
    from mmengine.optim import scheduler as mmengine_schedulers

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    made = []
    for entry in entries:
        by_epoch = entry.get("by_epoch", True) is not False
        shrink = steps / (epochs if by_epoch else whole)

        def at(value: Any, shrink: float = shrink) -> int:
            return max(0, round(float(value) * shrink))

        kind = type_of(entry)
        options = {k: v for k, v in entry.items() if k not in ("type", "by_epoch", "convert_to_iter_based")}
        begin = at(options.pop("begin", 0) or 0)
        end = options.pop("end", None)
        end = max(begin + SHORTEST, at(end)) if end and math.isfinite(end) else max(begin + SHORTEST, steps)
        options |= {"begin": begin, "end": end}
        if "T_max" in options:
            options["T_max"] = max(1, at(options["T_max"]))
        if "milestones" in options:
            options["milestones"] = [at(m) for m in options["milestones"]]
        if "step_size" in options:
            options["step_size"] = max(1, at(options["step_size"]))
        if kind == "ExponentialLR" and "gamma" in options:
            options["gamma"] = float(options["gamma"]) ** (1 / shrink)
        if "eta_min" in options:  # a rate, not a factor
            options["eta_min"] = float(options["eta_min"]) / base
        try:
            made.append(getattr(mmengine_schedulers, kind)(optimizer, by_epoch=False, **options))
        except (TypeError, ValueError) as failure:
            raise ValueError(
                f"config: param_scheduler {kind} cannot be used, mmengine {mmengine.__version__} refuses it: "
                f"{str(failure).rstrip('.')}; correct it, or leave the config's training out with "
                "--no-config-training"
            ) from failure
    rates = []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()  # does nothing without gradients, but schedulers expect it
        for scheduler in made:
            scheduler.step()
    return tuple(rates)


# How does an mmpose config train: optimizer, rates of each part, schedule, clipping, averaging, targets?


# Options that torch's optimizer has under the same name; others are reported as not used.
OPTIMIZERS: Mapping[str, tuple[str, ...]] = {
    "AdamW": ("betas", "eps", "amsgrad"),
    "Adam": ("betas", "eps", "amsgrad"),
    "SGD": ("momentum", "nesterov", "dampening"),
}
# Weight decay of torch where a config states none.
DECAY = {"AdamW": 1e-2, "Adam": 0.0, "SGD": 0.0}
# Pipeline steps that are the same in training and in use.
FIXED_STEPS = ("LoadImage", "LoadImageFromFile", "GetBBoxCenterScale", "TopdownAffine", "GenerateTarget",
               "PackPoseInputs", "BottomupGetHeatmapMask")  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """The training of a config, adapted to a short attempt.

    Attributes:
        settings: of the attempt; the config's whole schedule, compressed to the attempt's steps.
        encoder: codec of the training pipeline's targets; None where it names none.
        used: what of the config is used, in words.
        unused: what is not used, in words.
        wrong: what is wrong with it before training, in words.
    """

    settings: Settings
    encoder: Codec | None
    used: tuple[str, ...]
    unused: tuple[str, ...]
    wrong: tuple[str, ...]


def written_codec(recipe: Recipe | None, model: PoseModel) -> Codec | None:
    """The pipeline's codec where it differs from the model's own; None where it does not.

    A codec for outputs of another size cannot be used at all: the recipe reports it as wrong.

    Args:
        recipe: of the config; None where there is none.
        model: whose codec is compared.
    """
    if recipe is None or not encoder_text(recipe.encoder, model.codec):
        return None
    one, other = recipe.encoder, model.codec
    fits = (
        one is not None
        and other is not None
        and (one.kind, one.output_size) == (other.kind, other.output_size)
    )
    return one if fits else None


def recipe_of(
    config: Mapping[str, Any], module: nn.Module, decoder: Codec | None, settings: Settings
) -> Recipe:
    """The config's own training.

    Args:
        config: parsed content.
        module: the network; its parameters are looked up by name.
        decoder: codec of the head.
        settings: of the attempt: its steps are kept, and whatever the config does not define.

    Raises:
        ValueError: an entry that cannot be understood; the message says which.
    """
    try:
        return _recipe_of(config, module, decoder, settings)
    except (TypeError, AttributeError, OverflowError) as reason:  # a list where a number is expected, ...
        raise ValueError(f"config: its training cannot be understood: {reason}") from reason


def _recipe_of(
    config: Mapping[str, Any], module: nn.Module, decoder: Codec | None, settings: Settings
) -> Recipe:
    used: list[str] = []
    unused: list[str] = []
    wrong: list[str] = []
    changes = _optimizer(config, module, used, unused)
    base = changes.get("learning_rate", settings.learning_rate)
    changes |= schedule_of(config, settings.steps, base, used, unused, wrong)
    changes |= _average(config, used, unused)
    wrong += [*_too_weak(config, changes), *_other_crops(config)]
    wrong += _loss(config, changes, decoder, unused)
    unused += _left_out(config)
    encoder = _encoder(config, unused)
    if text := encoder_text(encoder, decoder):
        wrong.append(text)
    return Recipe(dataclasses.replace(settings, **changes), encoder, tuple(used), tuple(unused), tuple(wrong))


def _optimizer(
    config: Mapping[str, Any], module: nn.Module, used: list[str], unused: list[str]
) -> dict[str, Any]:
    wrapper = config.get("optim_wrapper") or {}
    optimizer = wrapper.get("optimizer") or {}
    changes: dict[str, Any] = {}
    kind = type_of(optimizer)
    if kind in OPTIMIZERS:
        rate = _number(optimizer.get("lr", 1e-3), "optimizer.lr")
        decay = _number(optimizer.get("weight_decay", DECAY[kind]), "optimizer.weight_decay")
        options = {name: _plain(optimizer[name]) for name in OPTIMIZERS[kind] if name in optimizer}
        changes |= {"optimizer": kind.lower(), "learning_rate": rate, "weight_decay": decay}
        changes["optimizer_options"] = options
        used.append(f"optimizer {kind}, rate {rate:g}, weight decay {decay:g}")
        known = {"type", "lr", "weight_decay", *OPTIMIZERS[kind]}
        unused += [f"optimizer.{name}" for name in optimizer if name not in known]
        changes |= _groups(wrapper, module, rate, decay, used, unused)
    elif optimizer:
        unused.append(f"optimizer {kind} (AdamW instead)")
    clip = wrapper.get("clip_grad") or {}
    if "max_norm" in clip:
        changes["clip"] = _number(clip["max_norm"], "clip_grad.max_norm")
        used.append(f"clipping to a gradient norm of {changes['clip']:g}")
        unused += [f"clip_grad.{name}" for name in clip if name not in ("max_norm",)]
    elif clip:
        unused.append("clip_grad (by value)")
    if type_of(wrapper) == "AmpOptimWrapper":
        unused.append("mixed precision (--amp turns it on)")
    if int(wrapper.get("accumulative_counts", 1)) > 1:
        unused.append("accumulated gradients (every step is one batch)")
    return changes


def _too_weak(config: Mapping[str, Any], changes: Mapping[str, Any]) -> list[str]:
    """What of the optimizer is not used in the attempt and leaves the weights where they are.

    Args:
        config: parsed content.
        changes: to Settings, as far as they are known: optimizer, learning rate and its options.
    """
    wrapper = config.get("optim_wrapper") or {}
    found = []
    value = (wrapper.get("clip_grad") or {}).get("clip_value")
    if value is not None:
        value = _number(value, "clip_grad.clip_value")
        kind, rate = changes.get("optimizer", "adamw"), float(changes.get("learning_rate", 1e-3))
        eps = float((changes.get("optimizer_options") or {}).get("eps", ADAM_EPS))
        if kind != "sgd" and value < LOST_IN_EPS * eps:
            found.append(
                f"every value of the gradient is clipped to {value:g}, far below eps of {kind} ({eps:g}): "
                "the weights hardly move"
            )
        elif kind == "sgd" and value * rate < LEAST_STEP:
            found.append(
                f"every value of the gradient is clipped to {value:g}: at the rate {rate:g} a step moves a "
                f"weight by {value * rate:.1g} at most"
            )
    counts = int(wrapper.get("accumulative_counts", 1))
    train = config.get("train_cfg") or {}
    whole = train.get("max_iters")
    if isinstance(whole, int) and counts >= whole > 0:
        found.append(
            f"gradients are accumulated over {counts} steps and the run has {whole}: the weights are changed "
            "once at most"
        )
    elif counts > (most := max(1, int(train.get("max_epochs") or 1)) * EPOCH_STEPS) and whole is None:
        found.append(
            f"gradients are accumulated over {counts} steps, more than a run of {most} ({EPOCH_STEPS} steps "
            "an epoch assumed): the weights are changed once at most"
        )
    return found


def _other_crops(config: Mapping[str, Any]) -> list[str]:
    """How the crops of the training pipeline differ from those of the test pipeline."""
    from workbench.models.mmpose.config import pipeline_of

    trained, used = (
        {type_of(step): step for step in steps if isinstance(step, Mapping)}
        for steps in (train_pipeline(config), pipeline_of(config))
    )
    found = []
    for step, key, usual in (
        ("GetBBoxCenterScale", "padding", 1.25),
        ("TopdownAffine", "input_size", None),
        ("TopdownAffine", "use_udp", False),
    ):
        if step not in trained or step not in used:
            continue
        one, other = (_plain(steps[step].get(key, usual)) for steps in (trained, used))
        if one != other:
            found.append(
                f"the network is trained on other crops than it is used on: {key} of {step} is {one} in the "
                f"training pipeline and {other} in the test pipeline"
            )
    return found


# Losses that an attempt uses itself; those of mmpose that count unlabelled keypoints unless told otherwise.
OWN_LOSSES = ("KeypointMSELoss", "CombinedTargetMSELoss", "KLDiscretLoss")
ALL_BY_DEFAULT = ("KeypointMSELoss", "KeypointOHKMMSELoss", "AdaptiveWingLoss", "CombinedTargetMSELoss")


def _loss(
    config: Mapping[str, Any], changes: Mapping[str, Any], decoder: Codec | None, unused: list[str]
) -> list[str]:
    """A loss of the config that teaches nothing; how it differs from the attempt's goes to `unused`."""
    model = config.get("model")
    head = model.get("head") if isinstance(model, Mapping) else None
    loss = head.get("loss") if isinstance(head, Mapping) else None
    if not isinstance(loss, Mapping):
        return []
    kind = type_of(loss)
    if kind not in OWN_LOSSES and decoder is not None:
        instead = "mean squared error" if decoder.kind == "heatmap" else "KL divergence"
        unused.append(f"loss {kind} ({instead} instead)")
    if not loss.get("use_target_weight", kind not in ALL_BY_DEFAULT):
        unused.append(f"use_target_weight False of {kind} (unlabelled keypoints are left out here)")
    weight = _number(loss.get("loss_weight", 1.0), "loss.loss_weight")
    if weight <= 0:
        return [f"the weight of the head's loss {kind} is {weight:g}, so the training learns nothing of it"]
    unused += [f"loss_weight {weight:g} of {kind}"] * (weight != 1)
    optimizer = changes.get("optimizer", "adamw")
    eps = float((changes.get("optimizer_options") or {}).get("eps", ADAM_EPS))
    if optimizer == "sgd" or weight >= LOST_IN_EPS * eps:
        return []
    return [
        f"the weight of the head's loss {kind} is {weight:g}: a gradient of 1 is then far below eps of "
        f"{optimizer} ({eps:g}), and the weights hardly move"
    ]


def _groups(
    wrapper: Mapping[str, Any], module: nn.Module, rate: float, decay: float, used: list[str],
    unused: list[str],
) -> dict[str, Any]:  # fmt: skip
    """Rate and decay of every parameter that differs, by mmengine's own rules."""
    paramwise = wrapper.get("paramwise_cfg")
    constructor = str(wrapper.get("constructor", "DefaultOptimWrapperConstructor")).rpartition(".")[2]
    if constructor != "DefaultOptimWrapperConstructor":
        unused.append(f"parameter groups of {constructor}")
        return {}
    # Without paramwise_cfg mmengine decays every parameter; this workbench leaves small ones out.
    alike = {name: (1.0, decay) for name, p in module.named_parameters() if p.ndim <= 1}
    if not paramwise:
        return {"groups": alike}
    from mmengine.optim import DefaultOptimWrapperConstructor

    from workbench.models.mmpose.model import quiet

    # Any optimizer gives the same groups; this one never makes a step.
    plain = {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": rate, "weight_decay": decay}}
    try:
        with quiet():
            made = DefaultOptimWrapperConstructor(plain, _plain(paramwise))(module)
    except (ValueError, TypeError, KeyError, AttributeError) as failure:
        raise ValueError(f"config: paramwise_cfg cannot be used: {failure}") from failure
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found = {}
    for group in made.optimizer.param_groups:
        own = group["lr"] / rate if rate else 1.0, float(group["weight_decay"])
        found |= {names[id(p)]: own for p in group["params"] if own != (1.0, decay)}
    if not found:
        return {"groups": alike}
    rates = sorted({own for own, _ in found.values() if own != 1})
    described = (
        f"rates of {', '.join(f'{r:g}' for r in rates)} times" if rates else "weight decay by kind of layer"
    )
    used.append(f"parameter groups ({described}, {counted(len(found), 'tensor')})")
    return {"groups": found}


def _average(config: Mapping[str, Any], used: list[str], unused: list[str]) -> dict[str, Any]:
    for hook in config.get("custom_hooks") or ():
        if type_of(hook) != "EMAHook":
            continue
        momentum = _number(hook.get("momentum", 2e-4), "EMAHook.momentum")
        kind = str(hook.get("ema_type", "ExponentialMovingAverage")).rpartition(".")[2]
        if kind not in ("ExponentialMovingAverage", "ExpMomentumEMA"):
            unused.append(f"averaged weights of {kind}")
            continue
        # ExpMomentumEMA follows the weights initially; gamma is mmengine's default.
        warm_up = int(hook.get("gamma", 2000)) if kind == "ExpMomentumEMA" else 0
        used.append(f"averaged weights ({kind}, momentum {momentum:g})")
        return {"ema": 1 - momentum, "ema_warm_up": warm_up}
    return {}


def _left_out(config: Mapping[str, Any]) -> list[str]:
    """Augmentation, hooks and batches, which an attempt on one unchanged image does not use."""
    random = [type_of(step) for step in train_pipeline(config) if type_of(step) not in FIXED_STEPS]
    found = [f"pipeline {name} (the image is used unchanged)" for name in random]
    hooks = [type_of(h) for h in config.get("custom_hooks") or () if type_of(h) not in ("EMAHook",)]
    found += [f"hook {name}" for name in hooks if name != "SyncBuffersHook"]
    batch = (config.get("train_dataloader") or {}).get("batch_size")
    scaling = config.get("auto_scale_lr")
    if isinstance(scaling, Mapping) and scaling.get("enable") is True:
        found.append(f"auto_scale_lr (base batch size {scaling.get('base_batch_size')}): the rate as written")
    return [*found, *([f"batches of {batch}"] if batch and batch > 1 else [])]


def train_pipeline(config: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Steps of the training pipeline; () where the config has no training data set."""
    data = (config.get("train_dataloader") or {}).get("dataset") or {}
    while isinstance(data, Mapping) and "pipeline" not in data and "dataset" in data:
        data = data["dataset"]
    steps = data.get("pipeline") or config.get("train_pipeline") or ()
    return [step for step in steps if isinstance(step, Mapping)]


def _encoder(config: Mapping[str, Any], unused: list[str]) -> Codec | None:
    from workbench.models.mmpose.config import codec_of

    for step in train_pipeline(config):
        encoder = step.get("encoder") if type_of(step) == "GenerateTarget" else None
        if isinstance(encoder, Mapping):
            try:
                return codec_of({"model": {"type": "none"}, "codec": encoder})
            except NotAvailable:
                unused.append(f"encoder {type_of(encoder)} of the pipeline")
    return None


def encoder_text(encoder: Codec | None, decoder: Codec | None) -> str:
    """How the codec of the targets differs from the one of the head; "" where it does not.

    Args:
        encoder: of the training pipeline.
        decoder: of the head.
    """
    if encoder is None or decoder is None:
        return ""
    # The decoder of a peak may differ from its encoder, but not the peak's place.
    names = ("kind", "input_size", "output_size", "sigma", "split_ratio", "udp", "normalized")
    if encoder.kind == decoder.kind == "heatmap":
        names = names[:4] + names[5:6]
    off = [name for name in names if getattr(encoder, name) != getattr(decoder, name)]
    if not off:
        return ""
    differences = ", ".join(
        f"{name.replace('_', ' ')} {getattr(encoder, name)} against {getattr(decoder, name)}" for name in off
    )
    return f"the training pipeline encodes targets with another codec than the head's: {differences}"


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"config: {name}: expected a number, got {value!r}")
    return float(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value
