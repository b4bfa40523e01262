"""Settings of a training run as plain values, the default settings per kind of model, and the schedule."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from workbench.core.capabilities import Groups, RollsOut


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        steps: number of optimizer steps.
        learning_rate: peak learning rate, before parameter group factors and the schedule.
        optimizer: adamw, adam or sgd (momentum .9).
        weight_decay: applied to weights; never to biases and normalisation layers.
        schedule: constant, cosine (to zero at the end), or multistep (x .1 at 170/210 and 200/210 of the
            steps, as in most top-down recipes).
        warm_up: steps of linear warm-up, starting at a thousandth of the rate.
        rates: factor on the peak rate for every step, replacing schedule and warm-up; () uses those.
        groups: per parameter name, its learning rate factor and weight decay, as a config defines them. A
            parameter without an entry has factor 1 and `weight_decay`. When given, `factors` and
            `layer_decay` are ignored.
        optimizer_options: further options of torch's optimizer, for example betas or momentum.
        ema_warm_up: steps during which the averaged weights still follow the current ones closely (gamma of
            mmengine's ExpMomentumEMA).
        factors: learning rate factor by module prefix; the longest matching prefix wins: {"neck": 10}.
        layer_decay: learning rate factor per layer, counted from the top of a transformer; 1 turns it off.
            See `workbench.training.trainer`.
        clip: maximum gradient norm; 0 turns clipping off.
        keep_gradients: gradients of earlier steps are not cleared but added to, as in a loop without
            ``zero_grad``: a fault that real loops have.
        ema: decay of the exponential moving average of the weights, which is then evaluated; 0 turns it off.
        amp: automatic mixed precision; bfloat16 where available, else float16 with loss scaling.
        compile: compile the network with torch.compile. Measured to be slower on a CPU.
        graphs: replay forward and backward pass as a CUDA graph; needs a GPU and unchanging images.
        objective: key of workbench.training.objectives.OBJECTIVES; "" selects the codec's default.
        seed: seed of all random numbers during training.
        measure_every: steps between measurements (PCK in both modes, update ratio, dead units).
        snapshot_every: steps between snapshots; 0 writes only the final one.
    """

    steps: int = 300
    learning_rate: float = 1e-3
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "multistep"] = "constant"
    warm_up: int = 0
    rates: tuple[float, ...] = ()
    groups: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    optimizer_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    ema_warm_up: int = 0
    factors: Mapping[str, float] = dataclasses.field(default_factory=dict)
    layer_decay: float = 1.0
    clip: float = 0.0
    keep_gradients: bool = False
    ema: float = 0.0
    amp: bool = False
    compile: bool = False
    graphs: bool = False
    objective: str = ""
    seed: int = 0
    measure_every: int = 25
    snapshot_every: int = 0

    def __post_init__(self) -> None:
        allowed = {
            "steps": (self.steps >= 1, "1 or more"),
            "learning_rate": (self.learning_rate > 0, "more than 0"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "layer_decay": (0 < self.layer_decay <= 1, "more than 0, at most 1"),
            "clip": (self.clip >= 0, "0 (no clipping) or more"),
            "keep_gradients": (not (self.keep_gradients and self.graphs), "False with graphs"),
            "ema": (0 <= self.ema < 1, "0 (no average) or more, below 1"),
            "measure_every": (self.measure_every >= 1, "1 or more"),
            "snapshot_every": (self.snapshot_every >= 0, "0 or more"),
            "warm_up": (self.warm_up >= 0, "0 or more"),
            "optimizer": (self.optimizer in ("adamw", "adam", "sgd"), "adamw, adam or sgd"),
            "schedule": (
                self.schedule in ("constant", "cosine", "multistep"), "constant, cosine or multistep",
            ),
        }  # fmt: skip
        for name, (valid, wanted) in allowed.items():
            if not valid:
                raise ValueError(f"training: {name}: expected {wanted}, got {getattr(self, name)!r}")

    def to_json(self) -> dict[str, Any]:
        """The settings as plain data."""
        groups = {name: list(pair) for name, pair in self.groups.items()}
        mappings = {"factors": dict(self.factors), "groups": groups, "rates": list(self.rates)}
        return {**dataclasses.asdict(self), **mappings}


TOP_DOWN = Settings(steps=200, learning_rate=1e-3)
"""Default settings to overfit a top-down network."""

# An autoregressive decoder reads a different sequence at every step: with a constant rate its coordinates
# keep moving by more than PCK .05 allows. The rate falls to zero, so that the last third of the steps
# converges. Clipping is for the first steps, where the weight of 20 on the end token makes gradients large.
SEQUENCE = Settings(steps=400, learning_rate=2e-3, schedule="cosine", warm_up=20, clip=1.0)
"""Default settings to overfit a sequence model."""

# A whole image has more background than a crop, and tags separate only after the heatmaps have formed.
PEOPLE = Settings(steps=300, learning_rate=5e-3, schedule="cosine", warm_up=20, clip=1.0)
"""Default settings to overfit a bottom-up network."""


def default_settings(model: Any) -> Settings:
    """The settings with which a model of this kind learns one image.

    Args:
        model: with the capability RollsOut a sequence model, with Groups bottom-up; any other counts as
            top-down.
    """
    if isinstance(model, RollsOut):
        return SEQUENCE
    return PEOPLE if isinstance(model, Groups) else TOP_DOWN


# Epochs 170 and 200 of 210: the multi-step schedule of nearly every top-down recipe.
MILESTONES = (170 / 210, 200 / 210)


def schedule_factor(settings: Settings, step: int) -> float:
    """Factor on the learning rate at a step.

    Args:
        settings: `rates`, or `schedule`, `warm_up` and `steps`.
        step: counted from 0.

    Returns:
        1 at the end of the warm-up; during the warm-up linear from a thousandth.
    """
    if settings.rates:
        return settings.rates[min(step, len(settings.rates) - 1)]
    if step < settings.warm_up:
        return 1e-3 + (1 - 1e-3) * step / settings.warm_up
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "multistep":
        return 0.1 ** sum(step >= round(m * settings.steps) for m in MILESTONES)
    span = max(settings.steps - settings.warm_up, 1)
    return 0.5 * (1 + math.cos(math.pi * min((step - settings.warm_up) / span, 1)))


# A step of Adam is about as long as the rate in every weight, whatever the gradient, and initialised weights
# are mostly far below 1. Small heatmap networks on one image: the loss falls at .1 and rises at .3.
LARGE_RATE = 0.3
# What all steps together move a weight by. The same networks keep 77 % of the loss at 1e-3, 95 % at 2e-4.
SMALL_WAY = 1e-3


def rate_text(settings: Settings) -> str:
    """Why a run can hardly learn with its learning rate, as far as settings alone tell; "" for nothing.

    Args:
        settings: with the schedule, its warm-up and the number of steps. Nothing is said of SGD: its
            steps are as long as the gradient, which is not known here.
    """
    if settings.optimizer == "sgd":
        return ""
    stride = max(1, settings.steps // 1000)  # a preview asks, and a user may enter any number of steps
    warm_up = 0 if settings.rates else settings.warm_up
    peak = schedule_factor(settings, min(warm_up, settings.steps - 1))
    factors = [schedule_factor(settings, step) for step in range(0, settings.steps, stride)]
    most, way = (settings.learning_rate * one for one in (max(*factors, peak), stride * sum(factors)))
    if most >= LARGE_RATE:
        return (
            f"the learning rate of {most:g} is very high: a step of Adam changes each weight "
            "by about that much, and weights are mostly below 1, so the loss will probably rise; usual are "
            "1e-4 to 1e-2"
        )
    if warm_up > settings.steps:
        return (
            f"the warm-up of {warm_up:,} steps is longer than the run of {settings.steps:,}: the learning "
            f"rate reaches {most:.2g} instead of {settings.learning_rate:g}"
        )
    if way < SMALL_WAY:
        return (
            f"the learning rate is very low: all {settings.steps:,} steps together change a weight by about "
            f"{way:.1g} at most, so the network stays nearly as it is"
        )
    return ""
