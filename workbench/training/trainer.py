"""Optimizer, its parameter groups, and averaged weights.

Layer-wise learning rate decay as in ViTPose (mmcv_custom/layer_decay_optimizer_constructor.py @c050ed2): with
L blocks, patch and position embeddings are layer 0, block i is layer i + 1, everything else is the top layer;
the factor is rate ** (L + 1 - layer). Biases, normalisation layers and position embeddings have no weight
decay.
"""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import (
    Batch,
    Codec,
    DecodeOptions,
    Outputs,
    PoseModel,
    Prediction,
    Sample,
    geometry,
    reason,
)
from workbench.core.capabilities import HasObjective
from workbench.core.report import counted
from workbench.training import measures
from workbench.training.measures import evaluated, finite
from workbench.training.objectives import Objective, Target, objective_for, target_of
from workbench.training.passes import Diverged, Passes, compile_in_place, uncompiled
from workbench.training.sequence_checks import own_log
from workbench.training.settings import Settings, schedule_factor

if TYPE_CHECKING:
    import torch
    from torch import nn


BLOCK = re.compile(r"(?:^|\.)(?:layers|blocks|layer)\.(\d+)\.")
EMBEDDING = re.compile(r"(?:^|\.)(?:patch_embed|pos_embed|cls_token|embeddings)(?:\.|$)")


def layer_of(name: str, blocks: int) -> int:
    """Layer of a parameter for layer-wise decay: 0 embeddings, i + 1 block i, blocks + 1 everything else.

    Args:
        name: of the parameter, as in `named_parameters`.
        blocks: number of blocks of the backbone.
    """
    if not name.startswith("backbone."):
        return blocks + 1
    if EMBEDDING.search(name):
        return 0
    block = BLOCK.search(name)
    return int(block[1]) + 1 if block else blocks + 1


def layer_scale(name: str, rate: float, blocks: int) -> float:
    """Factor of layer-wise decay on a parameter's peak learning rate: rate^(blocks + 1 - layer).

    Source: mmpose 1.3.2 mmpose/engine/optim_wrappers/layer_decay_optim_wrapper.py; the same rule in
    ViTAE-Transformer/ViTPose@c050ed2 mmcv_custom/layer_decay_optimizer_constructor.py.

    Args:
        name: of the parameter.
        rate: of the decay.
        blocks: of the backbone.

    Example:
        >>> [round(layer_scale(f"backbone.{n}", 0.5, 2), 3) for n in ("pos_embed", "layers.0.ln1.weight",
        ...     "layers.1.ln1.weight", "ln1.weight")]
        [0.125, 0.25, 0.5, 1.0]
    """
    return rate ** (blocks + 1 - layer_of(name, blocks))


def parameter_groups(module: nn.Module, settings: Settings) -> list[dict[str, Any]]:
    """Named parameter groups: what the rows of a run report separately.

    Args:
        module: the network; its first-level children name the groups.
        settings: learning_rate, factors, layer_decay, groups, weight_decay.

    Returns:
        one dict per (child, learning rate factor, weight decay): ``name``, ``params``, ``lr``, ``base_lr``
        and ``weight_decay``, in the order of the parameters.

    Raises:
        ValueError: no parameter can be trained, or a factor's prefix matches no parameter.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    if not named:
        raise ValueError("training: this model has no parameter that can be trained")
    unmatched = [prefix for prefix in settings.factors if not any(_under(name, prefix) for name, _ in named)]
    if unmatched:
        raise ValueError(
            f"training: learning rate factor for {unmatched[0]!r}, but no parameter begins with it"
        )
    blocks = 1 + max((int(b[1]) for name, _ in named if (b := BLOCK.search(name))), default=-1)
    groups: dict[tuple[str, float, float], dict[str, Any]] = {}
    for name, parameter in named:
        scale = _factor(name, settings.factors)
        if settings.layer_decay < 1:
            scale *= layer_scale(name, settings.layer_decay, blocks)
        if settings.groups:
            scale, decay = settings.groups.get(name, (1.0, settings.weight_decay))
        else:
            decay = 0.0 if parameter.ndim <= 1 or "pos_embed" in name else settings.weight_decay
        key = (name.partition(".")[0], scale, decay)
        lr = settings.learning_rate * scale
        group = groups.setdefault(
            key, {"name": key[0], "params": [], "lr": lr, "base_lr": lr, "weight_decay": decay}
        )
        group["params"].append(parameter)
    return list(groups.values())


def merged_groups(groups: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[int]]:
    """Parameter groups with equal learning rate and weight decay as one, for the optimizer.

    Every group of a fused optimizer costs a call per step, and without weight decay most groups differ by
    nothing but their name. Each parameter is updated by the same formula with the same numbers.

    Args:
        groups: of `parameter_groups`; unchanged.

    Returns:
        the optimizer's groups, without names; and for each given group the index of its group there.
    """
    merged: dict[tuple[float, float], dict[str, Any]] = {}
    for group in groups:
        key = group["base_lr"], group["weight_decay"]
        one = merged.setdefault(
            key, {"params": [], "lr": group["lr"], "base_lr": key[0], "weight_decay": key[1]}
        )
        one["params"].extend(group["params"])
    places = {key: index for index, key in enumerate(merged)}
    return list(merged.values()), [places[group["base_lr"], group["weight_decay"]] for group in groups]


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _factor(name: str, factors: Mapping[str, float]) -> float:
    matching = [prefix for prefix in factors if _under(name, prefix)]
    return factors[max(matching, key=len)] if matching else 1.0


def new_optimizer(groups: list[dict[str, Any]], settings: Settings) -> torch.optim.Optimizer:
    """The optimizer that the settings name.

    Args:
        groups: parameter groups with ``params``, ``lr`` and ``weight_decay``.
        settings: optimizer and optimizer_options.
    """
    import torch

    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    more: dict[str, Any] = {"momentum": 0.9} if settings.optimizer == "sgd" else {}
    more |= settings.optimizer_options
    # One kernel over all weights instead of a dozen operations on each: saves a third of a small network's
    # step on a CPU. Same formula; the last bit may be rounded differently.
    fused = all(p.is_floating_point() for group in groups for p in group["params"])
    return kinds[settings.optimizer](groups, fused=fused, **more)


def new_average(module: nn.Module, settings: Settings) -> Any:
    """Exponential moving average of weights and buffers (torch's AveragedModel); None where ema is 0.

    Args:
        module: the network.
        settings: ema and ema_warm_up.
    """
    if not settings.ema:
        return None
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    def following(averaged: Any, current: Any, count: Any) -> None:
        # mmengine 0.10 ExpMomentumEMA: momentum (1 - m) exp(-(1 + steps) / gamma) + m.
        share = settings.ema * math.exp(-(1 + int(count)) / settings.ema_warm_up)
        get_ema_multi_avg_fn(settings.ema - share)(averaged, current, count)

    average = following if settings.ema_warm_up else get_ema_multi_avg_fn(settings.ema)
    return AveragedModel(module, multi_avg_fn=average, use_buffers=True)


# The training loop, one step at a time; it computes the same whether or not somebody watches.


def checked(model: PoseModel, samples: Sequence[Sample]) -> None:
    """Refuse samples that a model cannot learn from.

    Args:
        model: whose skeleton the annotations must have.
        samples: to train on.

    Raises:
        ValueError: no sample, one without annotation, another number of keypoints, or no visible keypoint.
    """
    if not samples:
        raise ValueError("training: expected at least one sample, got none")
    K = len(model.skeleton)
    for sample in samples:
        name = sample.key or sample.path or "a sample"
        if sample.truth is None:
            raise ValueError(f"training: {name} has no annotation to learn from")
        if len(sample.truth) != K:
            raise ValueError(f"training: {name} has {counted(len(sample.truth), 'keypoint')}, the model {K}")
    if not any((np.asarray(s.truth)[:, 2] > 0).any() for s in samples):
        raise ValueError(
            "training: no keypoint is visible in any of the images, so there is nothing to learn"
        )


def checked_device(model: PoseModel, settings: Settings, device: str, augmented: bool) -> None:
    """Refuse a device that is unavailable, and settings that it does not support.

    Args:
        model: with a loss of its own, or a codec.
        settings: graphs need a GPU and the same operations at every step.
        device: cpu, cuda, cuda:N.
        augmented: whether the images change before every step.

    Raises:
        ValueError: with what to do instead.
    """
    import torch

    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"training: expected device cpu or cuda, got {device!r}")
    count = torch.cuda.device_count()
    if kind == "cuda" and (torch.device(device).index or 0) >= count:
        raise ValueError(f"training: no GPU {device} here, torch sees {count}; use --device cpu")
    if not settings.graphs:
        return
    if kind == "cpu":
        raise ValueError("training: CUDA graphs need a GPU, and this runs on the cpu; leave graphs out")
    if augmented:
        raise ValueError(
            "training: a CUDA graph replays one batch, and these images change before every step; leave "
            "graphs or augmentation out"
        )
    if isinstance(model, HasObjective):
        raise ValueError(
            "training: a CUDA graph repeats fixed operations, but a model with its own loss (a sequence "
            "model) draws what it reads at every step; leave graphs out"
        )


def batch_target(batch: Batch, codec: Codec, device: str) -> Target:
    """Target of a batch, encoded by a codec.

    Args:
        batch: with samples that have ground truth.
        codec: encodes coordinates.
        device: of the network.
    """
    truth = [np.asarray(sample.truth, float) for sample in batch.samples]
    maps = [geometry.inverse(affine) for affine in batch.to_image]
    points = np.stack([geometry.apply(m, t[:, :2]) for m, t in zip(maps, truth, strict=True)])
    return target_of(codec, points, np.stack([t[:, 2] for t in truth]), device)


Augment = Callable[[Sequence[Sample], np.random.Generator], Sequence[Sample]]
"""From samples to changed samples (image, box and ground truth together); random by the generator alone."""

__all__ = ["Augment", "Diverged", "Trainer"]


class Trainer:
    """One model, some samples, and the optimizer between them.

    Attributes:
        step_number: finished steps.
        groups: named parameter groups, as the rows report them.
        seen: outputs and predictions of the last measurement in evaluation mode; None before the first.
    """

    def __init__(
        self,
        model: PoseModel,
        samples: Sequence[Sample],
        settings: Settings,
        *,
        augment: Augment | None = None,
        codec: Codec | None = None,
        pck_threshold: float = 0.05,
        device: str = "cpu",
    ) -> None:
        """Prepare the samples once and build the optimizer.

        Args:
            model: its module is trained in place.
            samples: with ground truth; all of them form every batch.
            settings: how to train.
            augment: changes the samples before every step.
            codec: encodes the target; the model's own by default.
            pck_threshold: fraction of the longer side of the box.
            device: cpu, cuda, cuda:N.

        Raises:
            ValueError: no sample, no visible keypoint, another number of keypoints, no codec, or a device
                that is unavailable or does not support the settings.
        """
        checked(model, samples)
        checked_device(model, settings, device, augment is not None)
        given = codec or model.codec
        own = model.objective if isinstance(model, HasObjective) else None
        if given is None and own is None:
            raise ValueError("training: this model declares no codec, so no target can be made for it")
        self.model, self.samples, self.settings = model, tuple(samples), settings
        self.codec, self.augment, self.device = given, augment, device
        self.pck_threshold = pck_threshold
        # A model with a loss of its own (a sequence model) takes its target from the batch.
        self._own_objective: Any = own
        self.objective: Objective | None = (
            objective_for(given, settings.objective) if given and not own else None
        )
        self.step_number = 0
        self.seen: tuple[Outputs, tuple[Prediction, ...]] | None = None
        self._factor = 1.0
        module = model.module.to(device)
        self.groups = parameter_groups(module, settings)
        merged, self._merged_into = merged_groups(self.groups)
        self.optimizer = new_optimizer(merged, settings)
        self.average = new_average(module, settings)
        self._batch, self._target = self._prepared(self.samples)
        self._fixed = self._batch, self._target
        # Read at every call: augmentation replaces the batch before every step.
        self._passes = Passes(
            module,
            lambda: self.model.forward(self._batch),
            self._losses,
            self.optimizer,
            settings,
            device,
            constant=augment is None,
        )
        self.scaler = self._passes.scaler
        self._updates, self._gradients = measures.Updates(self.groups), measures.GradientNorms(self.groups)
        self._measuring = False
        self._activations: dict[str, Any] = {}
        if settings.compile:
            compile_in_place(module)

    def step(self, measure: bool = False) -> dict[str, Any]:
        """Do one step, and measure it where it is due.

        Args:
            measure: measure also where the settings do not; the weights are the same either way.

        Returns:
            the columns of `advance` and `measured`.

        Raises:
            Diverged: the loss is not finite; no weight was touched.
        """
        row = self.advance(measure)
        return row | self.measured(row["seconds"])

    def due(self, number: int) -> bool:
        """Whether the settings have this step measured."""
        return number % self.settings.measure_every == 0 or number in (1, self.settings.steps)

    def advance(self, measure: bool = False) -> dict[str, Any]:
        """Do one step.

        Args:
            measure: keep what `measured` needs also where the settings do not have this step measured.

        Returns:
            ``step`` (from 1), ``loss``, ``loss/PART``, ``lr/GROUP``, ``gradient/GROUP``, ``seconds``.

        Raises:
            Diverged: the loss is not finite; no weight was touched.
        """
        began = time.perf_counter()
        number = self.step_number + 1
        measuring = measure or self.due(number)
        if self.augment:
            generator = np.random.default_rng((self.settings.seed, number))
            self._batch, self._target = self._prepared(self.augment(self.samples, generator))
        # A watcher may have left the network in evaluation mode between two steps.
        if not self.model.module.training:
            self.model.module.train()
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * self._factor * schedule_factor(self.settings, self.step_number)
        done, self._activations = self._passes(number, measuring, self._accepted)
        gradients = self._learned(measuring)
        self.step_number = number
        row: dict[str, Any] = {"step": number, "loss": done.loss.item()}
        row |= {f"loss/{name}": part.item() for name, part in done.parts.items()}
        rates = [group["lr"] for group in self.optimizer.param_groups]
        row |= {f"lr/{g['name']}": rates[i] for g, i in zip(self.groups, self._merged_into, strict=True)}
        row |= {f"gradient/{name}": norm.item() for name, norm in gradients.items()}
        return {**row, "seconds": time.perf_counter() - began}

    def measured(self, seconds: float = 0.0) -> dict[str, Any]:
        """Measurements of the last step; empty where it was not due.

        Args:
            seconds: duration of the step; that of the measurement is added.

        Returns:
            ``update/GROUP`` (norm of the update over that of the weights), ``dead``, ``pck_train`` and
            ``pck`` (of the weights after the step, in training and in evaluation mode), ``seconds``; and
            ``logged/NAME`` beside ``measured/NAME`` for a model that gives the values of its own log.
        """
        if not self._measuring:
            return {}
        began = time.perf_counter()
        ratios = self._updates.ratios()
        row: dict[str, Any] = {f"update/{name}": ratio for name, ratio in ratios.items()}
        row["dead"] = measures.dead_share(self._activations)
        self._measuring, self._activations = False, {}
        row |= {"pck_train": self.pck_train(), "pck": self.pck()}
        if self.seen and row["pck"] == row["pck"]:  # nan: nothing could be decoded
            row |= own_log(self.model, *self.seen, self._fixed[0])
        return {**row, "seconds": seconds + time.perf_counter() - began}

    def _learned(self, measuring: bool) -> dict[str, Any]:
        """One optimizer step; returns the gradient norms by group name, before clipping."""
        import torch

        self.scaler.unscale_(self.optimizer)
        norms = self._gradients.by_name()
        if self.settings.clip:
            parameters = [p for g in self.groups for p in g["params"]]
            total = measures.total_norm(list(norms.values()))
            torch.nn.utils.clip_grads_with_norm_(parameters, self.settings.clip, total)
        if measuring:
            self._updates.record()
        self._measuring = measuring
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update_parameters(self.model.module)
        return norms

    def _accepted(self, loss: float) -> None:
        if not math.isfinite(loss):
            half = (
                ", or a value is too large for mixed precision (try without it)" if self.settings.amp else ""
            )
            raise Diverged(
                f"the loss is {loss} at step {self.step_number + 1}: the learning rate ({self.lr():.2g}) "
                f"is too high, or input or weights are not finite{half}; the weights "
                "of the step before are kept"
            )

    @property
    def batch(self) -> Batch:
        """The batch of the unchanged samples, as used in evaluation mode."""
        return self._fixed[0]

    def _losses(self, outputs: Outputs) -> dict[str, Any]:
        if self.objective is None or self._target is None:
            return dict(self._own_objective(outputs, self._batch))
        return dict(self.objective(outputs, self._target))

    def lr(self) -> float:
        """The learning rate of the next step, before group factors."""
        return self.peak_learning_rate * schedule_factor(self.settings, self.step_number)

    @property
    def peak_learning_rate(self) -> float:
        """The rate that the schedule multiplies, as it was set last."""
        return self.settings.learning_rate * self._factor

    def set_learning_rate(self, rate: float) -> None:
        """Change the peak learning rate from the next step on; factors of groups stay.

        Raises:
            ValueError: not a positive finite number.
        """
        if not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"learning rate: expected a positive number, got {rate}")
        self._factor = rate / self.settings.learning_rate

    def evaluated(self) -> Outputs:
        """Outputs in evaluation mode, of the averaged weights where averaging is on."""
        with uncompiled(self.settings.compile):
            return evaluated(self.model, self._fixed[0], self.average)

    def pck(self) -> float:
        """PCK in evaluation mode; nan when the outputs are not finite."""
        outputs = self.evaluated()
        if not finite(outputs):
            return float("nan")
        self.seen = outputs, tuple(self.model.decode(outputs, self._fixed[0], DecodeOptions()))
        return self._pck(self.seen[1])

    def resumed(self) -> None:
        """Somebody may have changed the network by hand: nothing that was computed from it is used again."""
        self._passes.forget()

    def pck_train(self) -> float:
        """PCK in training mode of the current weights, the same that `pck` uses; nan before the first step.

        The step's own outputs came from the weights before it: with long steps the two modes would differ by
        that alone. These are those of the next step, its dropout included.
        """
        self.model.module.train()
        if not self.step_number or not finite(
            last := self._passes.outputs_in_training_mode(self.step_number + 1)
        ):
            return float("nan")
        # An augmented batch has its own ground truth, in pixels of its own images.
        return self._pck(self.model.decode(last, self._batch, DecodeOptions()), self._batch.samples)

    def _pck(self, predictions: Sequence, samples: Sequence[Sample] = ()) -> float:
        return measures.pck(predictions, samples or self.samples, self.pck_threshold)

    def state(self) -> dict[str, Any]:
        """State of the run for a snapshot, as tensors and plain values."""
        return {
            "step": self.step_number,
            "model": self.model.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "factor": self._factor,
            "settings": self.settings.to_json(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state.

        Args:
            state: of `state`.

        Raises:
            ValueError: it belongs to another model or other settings.
        """
        try:
            self.model.module.load_state_dict(state["model"])
            self.optimizer.load_state_dict(self._in_merged_order(state["optimizer"]))
            with_average = state["average"] is not None
            if self.average and with_average:
                self.average.load_state_dict(state["average"])
            if self.scaler.is_enabled():
                self.scaler.load_state_dict(state["scaler"])
            self.step_number, self._factor = int(state["step"]), float(state["factor"])
        except (RuntimeError, ValueError, TypeError, AttributeError, LookupError, OverflowError) as other:
            why = reason(other)
            raise ValueError(f"this snapshot belongs to another model or other settings: {why}") from other
        if bool(self.average) != with_average:
            raise ValueError("this snapshot was written with another setting of ema")

    def _in_merged_order(self, state: dict[str, Any]) -> dict[str, Any]:
        """The optimizer's state with merged groups, also from a snapshot written with one group per name."""
        groups, ours = state["param_groups"], self.optimizer.param_groups
        if len(groups) == len(ours) or len(groups) != len(self.groups):
            return state
        places = {id(p): place for place, p in enumerate(p for g in self.groups for p in g["params"])}
        order = [places[id(p)] for group in ours for p in group["params"]]
        moments = {new: state["state"][old] for new, old in enumerate(order) if old in state["state"]}
        firsts = [groups[self._merged_into.index(i)] for i in range(len(ours))]
        numbers = iter(range(len(order)))
        merged = [
            {**first, "params": [next(numbers) for _ in group["params"]]}
            for first, group in zip(firsts, ours, strict=True)
        ]
        return {"state": moments, "param_groups": merged}

    def _prepared(self, samples: Sequence[Sample]) -> tuple[Batch, Target | None]:
        batch = self.model.prepare(samples)
        batch = dataclasses.replace(batch, pixels=batch.pixels.to(self.device), samples=tuple(samples))
        if self.objective is None or self.codec is None:
            return batch, None
        return batch, batch_target(batch, self.codec, self.device)
