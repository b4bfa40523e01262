"""Plan of an overfit attempt, piece by piece; a model inside it, and the session that trains it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Answers, Batch, Codec, DecodeOptions, Outputs, PoseModel, Prediction, Sample
from workbench.core.capabilities import HasDefects
from workbench.core.files import RECORD_SIZE, read_at_most, write_text
from workbench.core.wrapping import Wrapper
from workbench.training.sequences import TaughtSequence, trainable
from workbench.training.session import Breakpoint, Session
from workbench.training.settings import Settings
from workbench.training.trainer import Augment, Trainer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Plan:
    """An overfit attempt without its model: every piece can be removed by a switch (see switches.py).

    Attributes:
        settings: of the loop.
        augment: changes image and ground truth together before every step.
        flip: mirrors some of the images before every step.
        codec: encodes the targets; None uses the model's own.
        reading: decodes the outputs; None leaves that to the model.
        dropout: dropout layers act as the model defines them; False turns them off.
        normalisation: batch normalisation uses batch statistics in training and running statistics in
            evaluation; False uses batch statistics in both, so that both compute the same.
        norm_eval: batch normalisation is in evaluation mode while the network is trained.
    """

    settings: Settings = field(default_factory=Settings)
    augment: Augment | None = None
    flip: Augment | None = None
    codec: Codec | None = None
    reading: Codec | None = None
    dropout: bool = True
    normalisation: bool = True
    norm_eval: bool = False

    def changes(self) -> Augment | None:
        """Augmentation and flip as one function; None when there is neither."""
        steps = [step for step in (self.augment, self.flip) if step]
        if not steps:
            return None

        def both(samples: Sequence[Sample], generator: np.random.Generator) -> Sequence[Sample]:
            for step in steps:
                samples = step(samples, generator)
            return samples

        return both

    def with_settings(self, **changes: object) -> Plan:
        """The plan with other values of its settings."""
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, **changes))  # type: ignore[arg-type]


def drops(part: nn.Module) -> bool:
    """Whether a layer is dropout of any kind with a rate above 0 (DropPath is no torch class)."""
    rate = getattr(part, "p", None)
    rate = getattr(part, "drop_prob", rate)
    return type(part).__name__.startswith("Drop") and isinstance(rate, float) and rate > 0


def normalises(part: nn.Module) -> bool:
    """Whether a layer is batch normalisation."""
    from torch.nn.modules.batchnorm import _BatchNorm

    return isinstance(part, _BatchNorm)


def prepare_layers(module: nn.Module, plan: Plan) -> None:
    """Set the mode of layers as the plan wants it; to be called before every forward pass.

    Args:
        module: the network; changed in place.
        plan: dropout, normalisation and norm_eval.
    """
    if plan.dropout and plan.normalisation and not plan.norm_eval:
        return  # nothing to change, and visiting every layer costs time at every step
    for part in module.modules():
        if not plan.dropout and drops(part):
            part.eval()
        if plan.norm_eval and normalises(part):
            part.eval()
        elif not plan.normalisation and normalises(part):
            part.train()


@dataclass(frozen=True, eq=False)
class PlannedModel(Wrapper):
    """A model whose layers are in the state that the plan wants and whose codec is the plan's.

    Attributes:
        model: the one that is trained.
        plan: of the attempt.
    """

    model: PoseModel
    plan: Plan
    withheld = (Answers,)  # would bypass `forward`

    @property
    def codec(self) -> Codec | None:
        """The plan's codec, or the model's."""
        return self.plan.codec or self.model.codec

    def forward(self, batch: Batch) -> Outputs:
        """The model's outputs with the layers in the plan's state."""
        prepare_layers(self.module, self.plan)
        return self.model.forward(batch)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """Keypoints in image pixels, decoded as the plan wants."""
        if self.plan.reading is None:
            return self.model.decode(outputs, batch, options)
        from workbench import decoding
        from workbench.core import geometry

        points, scores = decoding.decode(outputs, self.plan.reading, options)
        return tuple(
            Prediction(geometry.apply(a, p), s)
            for a, p, s in zip(batch.to_image, points, scores, strict=True)
        )


def new_session(
    model: PoseModel,
    samples: Sequence[Sample],
    plan: Plan,
    *,
    folder: Path | None = None,
    pause_at: Breakpoint | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
    device: str = "cpu",
) -> Session:
    """A session that follows a plan.

    Args:
        model: trained in place.
        samples: with ground truth.
        plan: of the attempt.
        folder: for rows and snapshots; None keeps everything in memory.
        pause_at: breakpoint; None never waits.
        on_row: called in the loop's thread after every step.
        device: cpu, cuda, cuda:N.

    Raises:
        ValueError: the samples or the plan do not fit the model, see Trainer; or the folder is another
            attempt's.
    """
    model = trainable(model, plan.settings.steps)
    trainer = Trainer(
        PlannedModel(model, plan), samples, plan.settings, augment=plan.changes(), device=device
    )
    belongs = None if folder is None else partial(same_attempt, folder, model, samples, plan)
    return Session(trainer, folder, pause_at, on_row, belongs)


FILE = "attempt.json"

# They define how far to go and what to record, not what a step computes.
NOT_COMPARED = ("steps", "rates", "measure_every", "snapshot_every")


def same_attempt(folder: Path, model: PoseModel, samples: Sequence[Sample], plan: Plan) -> list[str]:
    """Record the attempt in a new run folder; refuse a folder that holds another attempt.

    The last snapshot of a folder is resumed. If it belonged to another attempt (a planted fault, another
    image), its rows would be judged as if they were this one's, and a healthy network would be called broken.

    Args:
        folder: for rows and snapshots.
        model: its view for training.
        samples: of the attempt.
        plan: of the attempt.

    Returns:
        one sentence where the record was damaged and has been rewritten, else an empty list.

    Raises:
        ValueError: the folder holds snapshots made with other images, another network or another plan.
    """
    facts, file = _facts(model, samples, plan), folder / FILE
    if not any(folder.glob("step_*.pth")):
        _write(file, facts)
    elif file.exists():
        was = _read(file)
        if was is None:
            _write(file, facts)
            return [f"{file}: damaged, rewritten; whether the steps in {folder} belong to this attempt is "
                    "checked by the network's shapes alone"]  # fmt: skip
        if other := [name for name in facts if was.get(name) != facts[name]]:
            raise ValueError(
                f"{folder}: expected an empty folder or this attempt's own, got another attempt's "
                f"({', '.join(other)} differ); name another folder"
            )
    return []


def _write(file: Path, facts: dict[str, Any]) -> None:
    write_text(file, json.dumps(facts, indent=1), follow=False)


def _read(file: Path) -> dict[str, Any] | None:
    """None where the file is damaged."""
    try:
        facts = json.loads(read_at_most(file, RECORD_SIZE, "a record"))
    except (ValueError, RecursionError):  # no JSON, or no text at all
        return None
    return facts if isinstance(facts, dict) else None


def _facts(model: PoseModel, samples: Sequence[Sample], plan: Plan) -> dict[str, Any]:
    network: Any = model.module
    # A layer's rates and sizes are in its text; addresses of functions differ between processes.
    described = network, network.defects if isinstance(network, HasDefects) else None, model.skeleton
    settings = {name: value for name, value in plan.settings.to_json().items() if name not in NOT_COMPARED}
    changes = {"augmentation": plan.augment, "flip": plan.flip}
    return {
        "images": _digest(b"".join(np.ascontiguousarray(s.image).tobytes() + _truth(s) for s in samples)),
        "network": _digest(re.sub(r" at 0x[0-9a-f]+", "", repr(described)).encode()),
        **{name: change and getattr(change, "__qualname__", "") for name, change in changes.items()},
        "teaching": repr(model.teaching if isinstance(model, TaughtSequence) else None),
        "codec": repr((plan.codec, plan.reading)),
        "dropout": plan.dropout,
        "normalisation": plan.normalisation,
        "norm_eval": plan.norm_eval,
        **settings,
    }


def _truth(sample: Sample) -> bytes:
    return np.asarray(
        (*sample.box, *np.ravel(sample.truth if sample.truth is not None else ())), float
    ).tobytes()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
