"""How does an mmpose config train: optimizer, rates of each part, schedule, clipping, averaging, targets?

A config is read as plain dictionaries. Only what is listed here is built from it, by the classes of mmengine
itself, so that a config from anywhere can be read without running what it names; everything else is named as
not used.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core import Codec, NotAvailable, PoseModel
from workbench.training.config_schedule import schedule_of, type_of
from workbench.training.settings import Settings

if TYPE_CHECKING:
    from torch import nn

# Options that mean the same to torch's optimizer here; the others are named as not used.
OPTIMIZERS: Mapping[str, tuple[str, ...]] = {
    "AdamW": ("betas", "eps", "amsgrad"),
    "Adam": ("betas", "eps", "amsgrad"),
    "SGD": ("momentum", "nesterov", "dampening"),
}
# What torch decays weights by where a config says nothing.
DECAY = {"AdamW": 1e-2, "Adam": 0.0, "SGD": 0.0}
# Steps of the pipeline that every image goes through, in training and in use alike.
FIXED_STEPS = ("LoadImage", "LoadImageFromFile", "GetBBoxCenterScale", "TopdownAffine", "GenerateTarget",
               "PackPoseInputs", "BottomupGetHeatmapMask")  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """The training of a config, made for a short attempt.

    Attributes:
        settings: of the attempt; its schedule is the config's whole one, compressed to the attempt's steps.
        encoder: the codec that the training pipeline writes targets with; None where it names none.
        used: what of the config is used, in words.
        unused: what is not, in words.
        wrong: what is wrong with it before anything is trained, in words.
    """

    settings: Settings
    encoder: Codec | None
    used: tuple[str, ...]
    unused: tuple[str, ...]
    wrong: tuple[str, ...]


def written_codec(recipe: Recipe | None, model: PoseModel) -> Codec | None:
    """The codec that targets are written with where it is not the model's own; None where it is.

    A codec for outputs of another size cannot be trained with at all: the recipe says what is wrong with it.
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
        config: read, whole.
        module: the network; its parameters are looked up by name.
        decoder: the codec that the head reads answers with.
        settings: of the attempt: its steps are kept, and whatever the config leaves open.

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
    unused += _left_out(config)
    encoder = _encoder(config, unused)
    if text := encoder_text(encoder, decoder):
        wrong.append(text)
    return Recipe(
        dataclasses.replace(settings, **changes),
        encoder,
        tuple(used),
        tuple(unused),
        tuple(wrong),
    )


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
    # mmengine decays every parameter alike where it is told nothing; here small ones are left out.
    alike = {name: (1.0, decay) for name, p in module.named_parameters() if p.ndim <= 1}
    if not paramwise:
        return {"groups": alike}
    from mmengine.optim import DefaultOptimWrapperConstructor

    from workbench.models.mmpose.model import quiet

    # SGD only because every optimizer groups alike; nothing is ever stepped with it.
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
    told = (
        f"rates of {', '.join(f'{r:g}' for r in rates)} times" if rates else "weight decay by kind of layer"
    )
    used.append(f"parameter groups ({told}, {len(found)} tensors)")
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
        # ExpMomentumEMA follows the weights at first; gamma is mmengine's default.
        warm_up = int(hook.get("gamma", 2000)) if kind == "ExpMomentumEMA" else 0
        used.append(f"averaged weights ({kind}, momentum {momentum:g})")
        return {"ema": 1 - momentum, "ema_warm_up": warm_up}
    return {}


def _left_out(config: Mapping[str, Any]) -> list[str]:
    """What happens around the loop, and what makes an image another one: it is learned by heart as it is."""
    random = [type_of(step) for step in train_pipeline(config) if type_of(step) not in FIXED_STEPS]
    found = [f"pipeline {name} (the image is learned as it is)" for name in random]
    hooks = [type_of(h) for h in config.get("custom_hooks") or () if type_of(h) not in ("EMAHook",)]
    found += [f"hook {name}" for name in hooks if name != "SyncBuffersHook"]
    batch = (config.get("train_dataloader") or {}).get("batch_size")
    return [*found, *([f"batches of {batch}"] if batch and batch > 1 else [])]


def train_pipeline(config: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The steps of the training pipeline; none where the config has no data set to train on."""
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
    """In what the codec that writes targets differs from the one that reads answers; "" in nothing.

    Args:
        encoder: of the training pipeline.
        decoder: of the head.
    """
    if encoder is None or decoder is None:
        return ""
    # How a peak is read may differ from how it was written, but not where it lies.
    names = ("kind", "input_size", "output_size", "sigma", "split_ratio", "udp", "normalized")
    if encoder.kind == decoder.kind == "heatmap":
        names = names[:4] + names[5:6]
    off = [name for name in names if getattr(encoder, name) != getattr(decoder, name)]
    if not off:
        return ""
    told = ", ".join(
        f"{name.replace('_', ' ')} {getattr(encoder, name)} against {getattr(decoder, name)}" for name in off
    )
    return f"the training pipeline writes targets with another codec than the head reads answers with: {told}"


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"config: {name}: expected a number, got {value!r}")
    return float(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value
