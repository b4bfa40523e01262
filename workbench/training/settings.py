"""Everything that decides how a training run goes, as plain values that fit in a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        steps: how many in all.
        learning_rate: the peak, before group factors and the schedule.
        optimizer: adamw, adam or sgd (momentum .9).
        weight_decay: on weights; never on biases and normalisation layers.
        schedule: constant, cosine (to zero at the end), or multistep (x .1 at 170/210 and 200/210, as pose
            recipes have it).
        warm_up: steps of linear warm-up from a thousandth.
        rates: factor on the peak at every step, in place of schedule and warm-up; () where those are meant.
        groups: (factor on the rate, weight decay) of single parameters by name, as a config gives them; what
            is not named has 1 and the weight decay. Factors and layer decay are then not read.
        optimizer_options: further options of torch's optimizer: betas, momentum.
        ema_warm_up: steps in which averaged weights still follow the others (mmengine's ExpMomentumEMA).
        factors: learning rate factor by module prefix; the longest matching prefix counts: {"neck": 10}.
        layer_decay: factor per layer from the top of a transformer; 1 turns it off. See groups.py.
        clip: largest gradient norm; 0 turns clipping off.
        ema: decay of the averaged weights that are then evaluated; 0 turns averaging off.
        amp: automatic mixed precision; bfloat16 where the GPU has it, else float16 with loss scaling.
        compile: torch.compile the network. On a CPU this was measured to be slower.
        graphs: replay forward and backward as a CUDA graph; needs a GPU and unchanging images.
        objective: a name of workbench.training.objectives.OBJECTIVES; "" takes the codec's own.
        seed: of everything random in the steps.
        measure_every: steps between measurements (PCK in both modes, update ratio, dead units).
        snapshot_every: steps between snapshots; 0 writes one at the end only.
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
    ema: float = 0.0
    amp: bool = False
    compile: bool = False
    graphs: bool = False
    objective: str = ""
    seed: int = 0
    measure_every: int = 25
    snapshot_every: int = 0

    def __post_init__(self) -> None:
        limits = {
            "steps": self.steps >= 1,
            "learning_rate": self.learning_rate > 0,
            "weight_decay": self.weight_decay >= 0,
            "layer_decay": 0 < self.layer_decay <= 1,
            "clip": self.clip >= 0,
            "ema": 0 <= self.ema < 1,
            "measure_every": self.measure_every >= 1,
            "snapshot_every": self.snapshot_every >= 0,
            "warm_up": self.warm_up >= 0,
            "optimizer": self.optimizer in ("adamw", "adam", "sgd"),
            "schedule": self.schedule in ("constant", "cosine", "multistep"),
        }
        for name, fine in limits.items():
            if not fine:
                raise ValueError(
                    f"training: {name} cannot be {getattr(self, name)!r}; see Settings for its range"
                )

    def to_json(self) -> dict[str, Any]:
        """The settings as plain data."""
        groups = {name: list(pair) for name, pair in self.groups.items()}
        mappings = {"factors": dict(self.factors), "groups": groups, "rates": list(self.rates)}
        return {**dataclasses.asdict(self), **mappings}
