"""What does a person want to overfit, and how? The values, checked and made into a model and a plan."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.overfit.own_photo import OwnPhoto, own_sample
from apps.pages.code import told_path
from apps.server.context import Context
from workbench.core import PoseModel, Sample, Skeleton

if TYPE_CHECKING:
    from workbench.training.config_recipe import Recipe
    from workbench.training.plan import Plan
    from workbench.training.session import Breakpoint
    from workbench.training.settings import Settings

DEMO = "demo"
"""The family's name under which the demo's small RTMPose is offered."""

ADAPTER = "adapter"
"""The family's name under which the adapter of the command line is offered; a request never names a file."""

# Often enough to watch, seldom enough to cost less than one step in a hundred: a measurement takes a forward
# pass and a copy of the weights, half of a step.
MEASURE_EVERY = 50


@dataclass(frozen=True)
class Wishes:
    """The page's values.

    Attributes:
        family: a family to start afresh, or ``demo``; not read when a config is named.
        config: an mmpose config below the served folder; read, never run.
        data: id of a data set.
        sample: number of the instance in it; None takes the first that is labelled.
        device: cpu, cuda ...
        steps: how many.
        learning_rate: of AdamW.
        schedule: constant, cosine or multistep.
        weight_decay: of AdamW.
        ema: decay of averaged weights; 0 is off.
        plant: name of a fault to plant; "" none.
        every: steps between breakpoints; 0 none.
        pck_falls: a breakpoint when PCK fell by this; 0 none.
        wait: seconds that a breakpoint waits.
        seed: of the first weights and of every step.
        warm_up: steps of linear warm-up; None takes what the family usually learns with.
        clip: largest gradient norm, 0 is off; None takes what the family usually learns with.
        dropout: layers drop as the network has them; False turns them off.
        config_training: the config's own training takes the place of learning rate, schedule, weight decay,
            EMA decay, warm-up and clip.
        own: an uploaded photo with its annotation, in the place of data.
    """

    family: str = DEMO
    config: str = ""
    data: str = ""
    sample: int | None = None
    device: str = "cpu"
    steps: int = 200
    learning_rate: float = 1e-3
    schedule: str = "constant"
    weight_decay: float = 0.0
    ema: float = 0.0
    plant: str = ""
    every: int = 0
    pck_falls: float = 0.0
    wait: float = 60.0
    seed: int = 0
    warm_up: int | None = None
    clip: float | None = None
    dropout: bool = True
    config_training: bool = False
    own: OwnPhoto | None = None

    def __post_init__(self) -> None:
        from workbench.training.faults import FAULTS

        if self.plant and self.plant not in FAULTS:
            raise ValueError(f"fault to plant: expected one of {', '.join(FAULTS)}, got {self.plant!r}")
        for name in ("every", "pck_falls", "wait", "learning_rate", "weight_decay", "ema"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(
                    f"{name.replace('_', ' ')}: expected a number from 0 on, got {getattr(self, name)}"
                )

    @property
    def where(self) -> str:
        """What the sample is from, for people."""
        return self.own.name if self.own else self.data

    def breakpoint(self) -> Breakpoint:
        """When to wait for the user."""
        from workbench.training.session import Breakpoint

        return Breakpoint(self.every, self.pck_falls, self.wait)


@dataclass(frozen=True, eq=False)
class Made:
    """What a session is made of.

    Attributes:
        model: with first weights.
        samples: with truth.
        plan: the faults that were planted included.
        title: of the model and the sample.
        command: repeats the attempt.
        recipe: the config's own training; None where the page's values are used.
    """

    model: PoseModel
    samples: tuple[Sample, ...]
    plan: Plan
    title: str
    command: str
    recipe: Recipe | None = None


def families(adapter: Path | None = None) -> list[tuple[str, str]]:
    """Families that can start afresh, as (label, name); the demo's network first where it is there.

    Args:
        adapter: of the command line; offered where there is one.
    """
    from workbench.checkpoints.demo import demo_manifest
    from workbench.core import NotAvailable
    from workbench.models.families import fresh_networks

    try:
        demo = [("RTMPose (demo)", DEMO)] if demo_manifest() else []
    except NotAvailable:
        demo = []
    own = [(f"adapter {adapter.name}", ADAPTER)] if adapter else []
    return [*demo, *own, *((name, name) for name in fresh_networks())]


def config_of_run(context: Context, run: str) -> str:
    """The config that lies in a run's folder, as the page names configs; "" where there is none.

    Raises:
        KeyError: no such run.
    """
    folder = context.registry.run(run).folder
    configs = sorted(folder.glob("*.py")) or sorted(folder.parent.glob("*.py"))
    root = context.settings.root.resolve()
    inside = [path for path in configs if path.resolve().is_relative_to(root)]
    return inside[0].resolve().relative_to(root).as_posix() if inside else ""


def usual_for(family: str) -> Settings:
    """What the page proposes for a family: steps, learning rate and schedule."""
    from workbench.models.families import fresh_networks
    from workbench.training.usual import PEOPLE, SEQUENCE, TOP_DOWN

    network = fresh_networks().get(family)
    return {"sequence": SEQUENCE, "whole images": PEOPLE}.get(network.learns_as if network else "", TOP_DOWN)


def devices() -> list[str]:
    """Where a session can run on this machine."""
    import torch

    return ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]


def made(context: Context, wishes: Wishes) -> Made:
    """Model, sample and plan of the wishes.

    Raises:
        KeyError: no such family, set or sample.
        Refused: the config lies outside the served folder.
        ValueError: a value out of its range, a config that cannot be read, keypoints that differ.
    """
    from workbench.checkpoints.config_reader import read_config
    from workbench.cli.overfit_text import again
    from workbench.training.attempt_plan import attempt_plan
    from workbench.training.people import TaughtPeople, with_everybody

    sample, skeleton = _checked(context, wishes)
    config = _config_of(context, wishes)
    model, title = _network(wishes, config, context, skeleton)
    if model.skeleton.keypoints != skeleton.keypoints:
        raise ValueError(
            f"{title} predicts {model.skeleton.name}, {wishes.where} is annotated with {skeleton.name}; "
            "choose a set with the same keypoints"
        )
    own_training = None
    if config is not None and wishes.config_training:
        # Read, never run; base files of a config that the browser names lie in the served folder.
        own_training = read_config(config, context.settings.root if wishes.config else None)
    attempt = attempt_plan(
        model, _usual(wishes), _asked(wishes), config=own_training, plant=wishes.plant,
        dropout=wishes.dropout, **_always(wishes),
    )  # fmt: skip
    samples = (sample,)
    if isinstance(attempt.model, TaughtPeople):
        samples = tuple(with_everybody(samples))
    own = wishes.family == ADAPTER and not wishes.config
    command = again(
        attempt.plan.settings,
        attempt.unsaid,
        name=None if config or wishes.family == ADAPTER else wishes.family,
        adapter=told_path(context.settings.adapter) if own and context.settings.adapter else None,
        config=told_path(config) if config else None,
        **_sample_options(context, wishes),
        plant=wishes.plant,
        device=wishes.device,
        # A shipped or served config is trained with the page's values unless it was wished otherwise.
        no_config_training=config is not None and not wishes.config_training,
        no_dropout=not wishes.dropout,
    )
    name = f"{title} on {sample.key or wishes.where}"
    return Made(attempt.model, samples, attempt.plan, name, command, attempt.recipe)


def _usual(wishes: Wishes) -> Settings:
    return usual_for("" if wishes.config else wishes.family)


def _asked(wishes: Wishes) -> dict[str, Any]:
    """Fields of Settings that the page says: all of them, or what a config's own training leaves open."""
    if wishes.config_training:
        return {"steps": wishes.steps}
    usual = _usual(wishes)
    return {
        "steps": wishes.steps,
        "learning_rate": wishes.learning_rate,
        "schedule": wishes.schedule,
        "weight_decay": wishes.weight_decay,
        "ema": wishes.ema,
        "warm_up": usual.warm_up if wishes.warm_up is None else wishes.warm_up,
        "clip": usual.clip if wishes.clip is None else wishes.clip,
    }


def _always(wishes: Wishes) -> dict[str, Any]:
    return {"seed": wishes.seed, "measure_every": max(1, min(MEASURE_EVERY, wishes.steps // 10))}


def _sample_options(context: Context, wishes: Wishes) -> dict[str, Any]:
    """The command line's options for the sample; an uploaded photo is named as its owner has it."""
    if wishes.own is None:
        return {"annotation": _annotation(context, wishes.data), "sample": wishes.sample}
    options: dict[str, Any] = {"annotation": wishes.own.annotation_name}
    if wishes.sample is not None and wishes.own.annotation:
        return {**options, "images": ".", "sample": wishes.sample}  # run where both files lie
    return {**options, "image": wishes.own.name}


def checked(context: Context, wishes: Wishes) -> tuple[Sample, Skeleton]:
    """The sample of the wishes and its keypoints, once all that needs no network is checked.

    Start and the page before Start ask the same.

    Raises:
        KeyError: no such family, set or sample.
        Refused: the config lies outside the served folder.
        ValueError: a value out of its range, nothing to learn, or keypoints that the family does not have.
    """
    from workbench.models.families import fresh_network, fresh_networks

    sample, skeleton = _checked(context, wishes)
    _config_of(context, wishes)
    if not wishes.config and wishes.family != ADAPTER:
        network = fresh_networks().get(wishes.family)
        if network is None and wishes.family != DEMO:
            fresh_network(wishes.family, skeleton.name)  # says which families there are
        known = network.skeletons if network else ("ap10k-17",)
        if known and skeleton.name not in known:
            raise ValueError(
                f"{wishes.family} predicts {' or '.join(sorted(known))}, {wishes.where} is annotated with "
                f"{skeleton.name}; choose a set with the same keypoints"
            )
    return sample, skeleton


def _checked(context: Context, wishes: Wishes) -> tuple[Sample, Skeleton]:
    """The instance and its keypoints, once all values are in their ranges."""
    import numpy as np

    dataclasses.replace(_usual(wishes), **_asked(wishes), **_always(wishes))  # refuses what is out of range
    if wishes.device not in devices():
        raise ValueError(f"device: expected one of {', '.join(devices())}, got {wishes.device!r}")
    if wishes.config_training and not wishes.config and wishes.family != DEMO:
        raise ValueError("training of the config: no config is named; name one, or clear that choice")
    sets = context.registry.sets
    if wishes.own is not None:
        sample, skeleton = own_sample(wishes.own, sets.skeleton(wishes.data), wishes.sample)
    else:
        labelled = sets.get(wishes.data).labelled
        if not labelled:
            raise ValueError(f"{wishes.data}: no instance has a visible keypoint to learn")
        index = labelled[0] if wishes.sample is None else wishes.sample
        sample, skeleton = sets.sample(wishes.data, index), sets.skeleton(wishes.data)
    if sample.truth is None or not (np.asarray(sample.truth)[:, 2] > 0).any():
        raise ValueError(
            f"{sample.key or wishes.where}: no keypoint is visible, so there is nothing to learn"
        )
    if wishes.family == ADAPTER and not wishes.config and context.settings.adapter is None:
        raise ValueError("adapter: this server was started without --adapter, so there is none to train")
    return sample, skeleton


def _config_of(context: Context, wishes: Wishes) -> Path | None:
    if wishes.config:
        return context.registry.served.path(wishes.config)
    if wishes.family == DEMO:
        from workbench.checkpoints.demo import demo_config

        return demo_config()
    return None


def _network(
    wishes: Wishes, config: Path | None, context: Context, skeleton: Skeleton
) -> tuple[PoseModel, str]:
    from workbench.models.fresh import demo_model, new_model, read_model

    if wishes.config and config:
        # What the browser names is read and never run; base files must lie in the served folder too.
        return read_model(config, context.settings.root, seed=wishes.seed, device=wishes.device)
    if wishes.family == DEMO:
        return demo_model(wishes.seed, wishes.device)
    if wishes.family == ADAPTER:
        # The file that the user named on the command line, never one of a request.
        adapter = context.settings.adapter
        return new_model(adapter=adapter, skeleton=skeleton, seed=wishes.seed, device=wishes.device)
    return new_model(wishes.family, skeleton=skeleton, seed=wishes.seed, device=wishes.device)


def _annotation(context: Context, data: str) -> str:
    from workbench.data import BUILTIN

    return data if data in BUILTIN else told_path(context.registry.sets.file(data))
