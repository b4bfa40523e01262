"""The choices of the Overfit page: checked, previewed, and made into a model, a sample and a plan."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apps.pages.overfit.own_photo import OwnPhoto, own_sample
from apps.pages.report_section import absolute_path
from apps.server.context import Context
from apps.server.reading import checked
from workbench.core import PoseModel, Sample, Skeleton
from workbench.core.errors import available
from workbench.core.job import LruCache, version_of
from workbench.core.plain_text import escaped
from workbench.core.report import counted
from workbench.figures import image_data_uri, keypoint_colours
from workbench.recipes.reading import TEXTS

if TYPE_CHECKING:
    from workbench.training.overfit import OverfitSetup
    from workbench.training.session import Breakpoint
    from workbench.training.settings import Settings


DEMO, DEMO_TITLE = "demo", "RTMPose (demo)"
"""The family's name under which the demo's small RTMPose is offered, and what a person reads."""

ADAPTER = "adapter"
"""The family's name under which the adapter of the command line is offered; a request never names a file."""

# Often enough to watch, rare enough to cost less than one step in a hundred: a measurement takes a forward
# pass and a copy of the weights, half of a step.
MEASURE_EVERY = 50


@dataclass(frozen=True)
class Choices:
    """The page's values.

    Attributes:
        family: a family to train from initial weights, or ``demo``; ignored when a config is named.
        config: an mmpose config, or a checkpoint that holds one, below the served folder; read, never run.
        data: id of a data set.
        sample: number of the instance in it; None takes the first labelled one.
        device: cpu, cuda ...
        steps: of the training.
        learning_rate: of AdamW.
        schedule: constant, cosine or multistep.
        weight_decay: of AdamW.
        ema: decay of averaged weights; 0 is off.
        plant: name of a fault to plant; "" none.
        every: steps between breakpoints; 0 none.
        pck_falls: breakpoint when PCK falls by this; 0 none.
        wait: seconds that a breakpoint waits.
        seed: of the initial weights and of every step.
        warm_up: steps of linear warm-up; None takes the family's default.
        clip: maximum gradient norm, 0 is off; None takes the family's default.
        dropout: dropout layers act as the network defines them; False turns them off.
        config_training: the config's own training replaces learning rate, schedule, weight decay, EMA decay,
            warm-up and clip.
        own: an uploaded photo with its annotation, instead of data.
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
        """Source of the sample, for people."""
        return self.own.name if self.own else self.data

    def breakpoint(self) -> Breakpoint:
        """When the session waits for the user."""
        from workbench.training.session import Breakpoint

        return Breakpoint(self.every, self.pck_falls, self.wait)


NAMES = tuple(field.name for field in dataclasses.fields(Choices) if field.name != "own")
"""The choices that the page has widgets for, in the order of its handlers."""

WHOLE = ("sample", "steps", "every", "seed", "warm_up")
"""Those that are whole numbers."""


def choices_from(own: OwnPhoto | None, given: Mapping[str, Any]) -> Choices:
    """The choices of the page's values.

    Args:
        own: an uploaded photo.
        given: name -> value; None takes the default.
    """
    stated: dict[str, Any] = {k: int(v) if k in WHOLE else v for k, v in given.items() if v is not None}
    return Choices(**stated | {"config": (given.get("config") or "").strip(), "own": own})


def families(adapter: Path | None = None) -> list[tuple[str, str]]:
    """What can be trained from initial weights, as (label, name): the served adapter, the demo, families.

    Args:
        adapter: of the command line; offered where there is one.
    """
    from workbench.checkpoints.demo import demo_manifest
    from workbench.models.families import fresh_networks

    demo = available(lambda: [(DEMO_TITLE, DEMO)] if demo_manifest() else [], [])
    own = [(f"adapter {adapter.name}", ADAPTER)] if adapter else []
    return [*own, *demo, *((name, name) for name in fresh_networks())]


def config_of_run(context: Context, run: str) -> str:
    """Id of the file that holds a run's config: a config, or its last checkpoint; "" where there is none.

    Raises:
        KeyError: no such run.
    """
    file = context.registry.config_file(run)
    return context.registry.served.identity(file) if file else ""


def defaults_for(family: str) -> Settings:
    """The settings that the page proposes for a family."""
    from workbench.models.families import fresh_networks
    from workbench.training.settings import PEOPLE, SEQUENCE, TOP_DOWN

    network = fresh_networks().get(family)
    return {"sequence": SEQUENCE, "whole images": PEOPLE}.get(network.learns_as if network else "", TOP_DOWN)


def devices() -> list[str]:
    """Devices of this machine that torch can train on."""
    import torch

    return ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]


def setup_of(context: Context, choices: Choices) -> OverfitSetup:
    """The attempt of the choices: model with initial weights, sample and plan.

    Raises:
        KeyError: no such family, set or sample.
        Refused: the config lies outside the served folder.
        ValueError: a value out of its range, a config that cannot be read, keypoints that differ.
    """
    from workbench.models.fresh import config_in
    from workbench.training.overfit import overfit_setup

    sample, skeleton = _checked(context, choices)
    config = _config_of(context, choices)
    own_training = None
    with context.registry.inside(*([config] if choices.config and config else [])):
        model, title = _network(choices, config, context, skeleton)
        if config is not None and choices.config_training:
            # Read, never run; base files of a config that the browser names lie in the served folder.
            own_training = config_in(config, context.settings.root if choices.config else None)
    check_keypoints(title, model.skeleton, skeleton, choices)
    own = choices.family == ADAPTER and not choices.config
    source = {
        "name": None if config or choices.family == ADAPTER else choices.family,
        "adapter": absolute_path(context.settings.adapter) if own and context.settings.adapter else None,
        "config": absolute_path(config) if config else None,
        **_sample_options(context, choices),
    }
    return overfit_setup(
        model,
        (sample,),
        _requested(choices),
        defaults=_defaults(choices),
        title=f"{title} on {sample.key or choices.where}",
        config=own_training,
        plant=choices.plant,
        dropout=choices.dropout,
        device=choices.device,
        source=source,
        # A shipped or served config is trained with the page's values unless its own training was chosen.
        config_ignored=config is not None and not choices.config_training,
        **_fixed(choices),
    )


def _defaults(choices: Choices) -> Settings:
    return defaults_for("" if choices.config else choices.family)


def _requested(choices: Choices) -> dict[str, Any]:
    """Fields of Settings that the page decides: all, or those that a config's own training leaves open."""
    if choices.config_training:
        return {"steps": choices.steps}
    defaults = _defaults(choices)
    return {
        "steps": choices.steps,
        "learning_rate": choices.learning_rate,
        "schedule": choices.schedule,
        "weight_decay": choices.weight_decay,
        "ema": choices.ema,
        "warm_up": defaults.warm_up if choices.warm_up is None else choices.warm_up,
        "clip": defaults.clip if choices.clip is None else choices.clip,
    }


def _settings(choices: Choices) -> Settings:
    """What is trained with, apart from what a config's own training decides.

    Raises:
        ValueError: a value is out of its range.
    """
    return dataclasses.replace(_defaults(choices), **_requested(choices), **_fixed(choices))


def _fixed(choices: Choices) -> dict[str, Any]:
    return {"seed": choices.seed, "measure_every": max(1, min(MEASURE_EVERY, choices.steps // 10))}


def _sample_options(context: Context, choices: Choices) -> dict[str, Any]:
    """The command line's options for the sample; an uploaded photo has the name of the user's file."""
    if choices.own is None:
        return _set_options(context, choices.data, choices.sample)
    options: dict[str, Any] = {"annotation": choices.own.annotation_name}
    if choices.sample is not None and choices.own.annotation:
        return {**options, "images": ".", "sample": choices.sample}  # run where both files lie
    return {**options, "image": choices.own.name}


def _set_options(context: Context, data: str, sample: int | None) -> dict[str, Any]:
    """The options for a sample of a served set, whose images were named where the app was started."""
    from workbench.data import BUILTIN

    if data in BUILTIN:
        return {"annotation": data, "sample": sample}
    sets = context.registry.sets
    shown, images = sets.get(data), context.settings.images
    if shown.left_out:
        # The verb counts what is annotated on missing images, too.
        index = shown.labelled[0] if sample is None else sample
        chosen = shown.instances[index].annotation_id
        sample = [one.annotation_id for one in sets.get(data, whole=True).instances].index(chosen)
    annotation, reading = absolute_path(sets.file(data)), context.settings.reading
    return {
        "annotation": annotation, "images": images and absolute_path(images), "sample": sample,
        "bits": reading.bits, "as_stored": reading.as_stored,
    }  # fmt: skip


def checked_choices(context: Context, choices: Choices) -> tuple[Sample, Skeleton]:
    """The sample of the choices and its skeleton, after every check that needs no network.

    Start and the preview before Start use the same checks.

    Raises:
        KeyError: no such family, set or sample.
        Refused: the config lies outside the served folder.
        ValueError: a value out of its range, nothing to learn, or keypoints that the family does not have.
    """
    from workbench.models.families import fresh_network, fresh_networks
    from workbench.models.fresh import config_skeleton

    sample, skeleton = _checked(context, choices)
    config = _config_of(context, choices)
    if choices.config and config is not None:
        with context.registry.inside(config):
            known = config_skeleton(config, context.settings.root)
        check_keypoints(config.name, known, skeleton, choices)
    elif choices.family == ADAPTER and context.settings.adapter is not None:
        adapter = context.settings.adapter
        check_keypoints(adapter.name, of_adapter(adapter, skeleton, choices.device), skeleton, choices)
    else:
        network = fresh_networks().get(choices.family)
        if network is None and choices.family != DEMO:
            fresh_network(choices.family, skeleton.name)  # raises, and names the families
        known = network.skeletons if network else ("ap10k-17",)
        if known and skeleton.name not in known:
            title = DEMO_TITLE if choices.family == DEMO else choices.family
            raise _other_keypoints(title, " or ".join(sorted(known)), skeleton, choices)
    return sample, skeleton


def check_keypoints(title: str, own: Skeleton | None, annotated: Skeleton, choices: Choices) -> None:
    """Raise where a network's keypoints are not those of the annotation.

    Args:
        title: of the network.
        own: its keypoints; None where they are not known before it is built.
        annotated: those of the annotation.
        choices: name the source of the annotation.

    Raises:
        ValueError: they differ.
    """
    if own is not None and own.keypoints != annotated.keypoints:
        raise _other_keypoints(title, own.name, annotated, choices)


def _other_keypoints(title: str, predicted: str, annotated: Skeleton, choices: Choices) -> ValueError:
    advice = "choose a set with the same keypoints"
    if choices.own is not None:
        advice = "remove the json and click keypoints on the photo, or choose another network"
    return ValueError(
        f"{title} predicts {predicted}, {choices.where} is annotated with {annotated.name}; {advice}"
    )


# Keypoints of adapters' models by file; one is built where its file has changed.
_ADAPTERS: LruCache[Skeleton] = LruCache(4)


def of_adapter(adapter: Path, skeleton: Skeleton, device: str) -> Skeleton:
    """The keypoints of the model that the user's own file makes without a checkpoint.

    Args:
        adapter: named on the command line.
        skeleton: what a model without keypoints of its own takes.
        device: where it is put.

    Raises:
        ValueError: the file makes no model; names the line.
    """
    from workbench.models.fresh import new_model

    def built() -> Skeleton:
        return new_model(adapter=adapter, skeleton=skeleton, device=device)[0].skeleton

    return _ADAPTERS.get(version_of(adapter), built)


def _checked(context: Context, choices: Choices) -> tuple[Sample, Skeleton]:
    """The instance and its skeleton, after checking that all values are in their ranges."""
    import numpy as np

    _settings(choices)  # raises where a value is out of range
    if choices.device not in devices():
        raise ValueError(f"device: expected one of {', '.join(devices())}, got {choices.device!r}")
    if choices.config_training and not choices.config and choices.family != DEMO:
        raise ValueError("training of the config: no config is named; name one, or clear that choice")
    sets = context.registry.sets
    if choices.own is not None:
        sample, skeleton = own_sample(choices.own, sets.skeleton(choices.data), choices.sample, sets.reading)
    else:
        chosen = sets.get(choices.data)
        if not chosen.labelled:
            raise ValueError(f"{choices.data}: no instance can be learned: {chosen.unscored_text()}")
        index = chosen.labelled[0] if choices.sample is None else choices.sample
        sample, skeleton = sets.sample(choices.data, index), sets.skeleton(choices.data)
    if sample.truth is None or not (np.asarray(sample.truth)[:, 2] > 0).any():
        raise ValueError(
            f"{sample.key or choices.where}: no keypoint is visible, so there is nothing to learn"
        )
    if choices.family == ADAPTER and not choices.config and context.settings.adapter is None:
        raise ValueError("adapter: this server was started without --adapter, so there is none to train")
    return sample, skeleton


def _config_of(context: Context, choices: Choices) -> Path | None:
    if choices.config:
        path = context.registry.served.path(choices.config)
        if path.suffix not in TEXTS:  # a checkpoint
            checked(path)
        return path
    if choices.family == DEMO:
        from workbench.checkpoints.demo import demo_config

        return demo_config()
    return None


def _network(
    choices: Choices, config: Path | None, context: Context, skeleton: Skeleton
) -> tuple[PoseModel, str]:
    from workbench.models.fresh import demo_model, new_model, read_model

    if choices.config and config:
        # A config named by the browser is read and never run; base files must lie in the served folder too.
        return read_model(config, context.settings.root, seed=choices.seed, device=choices.device)
    if choices.family == DEMO:
        return demo_model(choices.seed, choices.device)
    if choices.family == ADAPTER:
        # The file that the user named on the command line, never one of a request.
        adapter = context.settings.adapter
        return new_model(adapter=adapter, skeleton=skeleton, seed=choices.seed, device=choices.device)
    return new_model(choices.family, skeleton=skeleton, seed=choices.seed, device=choices.device)


# Share of the box, on each side: the surroundings help to recognise the picture.
MARGIN = 0.125


def preview(context: Context, choices: Choices) -> tuple[str, str]:
    """What Start would do, as a sentence, and the picture as HTML.

    Raises:
        KeyError: no such set or sample.
        ValueError: Start would refuse it.
    """
    sample, skeleton = checked_choices(context, choices)
    names = {name: label for label, name in families(context.settings.adapter)}
    network = choices.config or names.get(choices.family, choices.family)
    count = 0 if sample.truth is None else int((np.asarray(sample.truth)[:, 2] > 0).sum())
    start = f"Start trains {network} from initial weights on {sample.key or choices.where} alone"
    text = (
        f"{start}, {counted(count, 'annotated keypoint')}, for {counted(choices.steps, 'step')} on "
        f"{choices.device}. A verdict then says whether it learned the image; if it did not, the part of the "
        f"pipeline that prevents it is searched.{_training(choices)}{_doubt(choices)}"
    )
    return text, _picture(sample, skeleton)


def _doubt(choices: Choices) -> str:
    """What speaks against the page's learning rate and warm-up; "" where a config's training is used."""
    from workbench.training.settings import rate_text

    text = "" if choices.config_training else rate_text(_settings(choices))
    return f" Before you start: {text}." if text else ""


def _training(choices: Choices) -> str:
    """Whether a config's or the page's optimizer and schedule are used."""
    if choices.config_training:
        return (
            " Optimizer, learning rate, schedule, parameter groups, clipping, averaging and codec are the "
            "config's, not this page's; what of it is not used is listed once it runs."
        )
    if choices.config:
        return " Optimizer, learning rate and schedule are this page's values, not the config's."
    return ""


def _picture(sample: Sample, skeleton: Skeleton) -> str:
    H, W = sample.image.shape[:2]
    x0, y0, x1, y1 = sample.box
    dx, dy = MARGIN * (x1 - x0), MARGIN * (y1 - y0)
    left, top = int(max(0, x0 - dx)), int(max(0, y0 - dy))
    right, bottom = int(min(W, np.ceil(x1 + dx))), int(min(H, np.ceil(y1 + dy)))
    if right <= left or bottom <= top:
        left, top, right, bottom = 0, 0, W, H
    w, h = right - left, bottom - top
    photo = image_data_uri(sample.image[top:bottom, left:right])
    r = max(w, h) / 80
    truth = np.zeros((0, 3)) if sample.truth is None else np.asarray(sample.truth, float)
    marks = [
        f'<circle cx="{x - left:.1f}" cy="{y - top:.1f}" r="{r * 1.4:.2f}" fill="none" stroke="{ink}" '
        f'stroke-width="{r / 2:.2f}"><title>{escaped(name)}</title></circle>'
        for (x, y, v), name, ink in zip(truth, skeleton.keypoints, keypoint_colours(skeleton), strict=False)
        if v > 0
    ]
    return (
        '<div class="ovf-pictures"><figure>'
        f'<svg viewBox="-0.5 -0.5 {w} {h}" role="img" aria-label="what is to be learned" '
        f'data-testid="overfit-awaited"><image href="{photo}" x="-0.5" y="-0.5" width="{w}" height="{h}" '
        f'preserveAspectRatio="none"/>{"".join(marks)}</svg>'
        "<figcaption>the image and its annotation (rings)</figcaption></figure></div>"
    )
