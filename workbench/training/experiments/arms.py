"""The experiments, their arms, and the model that each arm starts from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.checkpoints import open_checkpoint
from workbench.core import NotAvailable, nearest
from workbench.core.capabilities import TextNeckModel
from workbench.core.errors import available
from workbench.core.report import counted
from workbench.models.families import config_modules
from workbench.models.opening import Opening
from workbench.text import TextVectors
from workbench.text.vectors import builtin_text

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.models import LoadedModel


TextOf = Literal["own", "each species", "shuffled species", "given"]
Way = Literal[
    "as it predicts", "as it was trained", "fused and refined", "neither neck nor refiner", "no refiner"
]


@dataclass(frozen=True)
class Arm:
    """One model of an experiment; the defaults change nothing.

    Attributes:
        name: what is different, in a few words.
        neck: options of the neck, as its config names them.
        factors: learning rate factor by module prefix.
        text: which sentences it reads.
        way: the path through the network when it is evaluated.
    """

    name: str
    neck: Mapping[str, Any] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=dict)
    text: TextOf = "own"
    way: Way = "as it predicts"


@dataclass(frozen=True)
class Experiment:
    """A question and the arms that answer it; the others are compared with the first arm.

    Attributes:
        name: on the command line.
        question: what it asks.
        arms: two or more.
        trains: False evaluates the checkpoint as it is, in every arm.
    """

    name: str
    question: str
    arms: tuple[Arm, ...]
    trains: bool = True


AS_IT_IS = Arm("as configured")

EXPERIMENTS: dict[str, Experiment] = {
    e.name: e
    for e in (
        Experiment(
            "no-fusion",
            "Does the text neck help at all?",
            (AS_IT_IS, Arm("no fusion", {"fusion_type": "none"})),
        ),
        Experiment(
            "identity-start",
            "Does FiLM need to be initialised as the identity?",
            (Arm("random start", {"init": "random"}), Arm("identity start", {"init": "identity"})),
        ),
        Experiment(
            "residual",
            "Does a residual path around FiLM help?",
            (
                Arm("no gate", {"gate": "none"}),
                Arm("learned gate from .1", {"gate": "learned", "gate_value": 0.1}),
                Arm("fixed gate .1", {"gate": "fixed", "gate_value": 0.1}),
            ),
        ),
        Experiment(
            "better-text",
            "Is AP higher with one sentence per species than with one sentence for all images?",
            (
                AS_IT_IS,
                Arm("each image its species", {"text_from": "each"}, text="each species"),
                Arm("each image another species", {"text_from": "each"}, text="shuffled species"),
            ),
        ),
        Experiment(
            "neck-rate",
            "Does the neck need a learning rate of its own?",
            (AS_IT_IS, Arm("neck ten times faster", factors={"neck": 10.0})),
        ),
        Experiment(
            "no-refiner",
            "What does the refiner do to the predictions of these weights?",
            (AS_IT_IS, Arm("no refiner", way="no refiner")),
            trains=False,
        ),
        Experiment(
            "both-ways",
            "Does inference take the path that these weights were trained on?",
            (
                AS_IT_IS,
                Arm("training path", way="as it was trained"),
                Arm("fused and refined", way="fused and refined"),
                Arm("neither neck nor refiner", way="neither neck nor refiner"),
            ),
            trains=False,
        ),
    )
}
"""Name -> experiment: the six of the published analysis, and the one that it lacks (both-ways)."""


def experiment_named(name: str) -> Experiment:
    """One experiment.

    Raises:
        KeyError: no such experiment; the message lists near ones.
    """
    if name not in EXPERIMENTS:
        raise KeyError(f"no experiment {name!r}; nearest: {nearest(name, EXPERIMENTS)}")
    return EXPERIMENTS[name]


# How does an arm begin? The given network with another neck, on the weights that all arms share.


@dataclass(frozen=True, eq=False)
class Origin:
    """What all arms of an experiment share.

    Attributes:
        given: the text fusion model in question.
        config: the config it was built from.
        start: tensors that every arm begins with, by name; the neck's are not among them.
        species: sentences of all species, for arms that tell them apart; None where there are none.
        note: where the weights come from.
    """

    given: TextNeckModel
    config: Mapping[str, Any]
    start: Mapping[str, Tensor]
    species: TextVectors | None
    note: str


def origin_of(
    loaded: LoadedModel,
    start: Path | list[Path] | None = None,
    text: TextVectors | None = None,
    config: Path | None = None,
) -> Origin:
    """The common start of an experiment's arms.

    Args:
        loaded: a text fusion checkpoint.
        start: a checkpoint whose backbone and head every arm begins with: the base model that both were
            fine-tuned from. By default those of the given one, which have already learned beside its neck.
        text: sentences of the species; by default the built-in text that the config names.
        config: that the user named to open the checkpoint; by default the one in it or beside it.

    Raises:
        NotAvailable: the model has no text neck, or there is no config.
        ValueError: the start holds another network.
    """
    model = loaded.model
    if not isinstance(model, TextNeckModel) or not model.has_neck or loaded.checkpoint is None:
        raise NotAvailable(
            f"experiment: {loaded.title} has no text neck; give a text fusion checkpoint (--demo has one)"
        )
    settings = Opening(loaded.checkpoint, config).read_config()
    for modules in config_modules():
        settings = modules.fitted(settings, loaded.checkpoint.tensors)
    own = {k: v.clone() for k, v in model.module.state_dict().items() if not k.startswith("neck.")}
    note = "backbone and head begin with the given checkpoint's own weights, which learned beside its neck"
    if start is not None:
        begun = open_checkpoint(start)
        tensors, file = begun.state_dict(), begun.path
        lacking = [
            name
            for name, tensor in own.items()
            if not name.startswith("head.refiner.")
            and not name.endswith("num_batches_tracked")
            and (name not in tensors or tensors[name].shape != tensor.shape)
        ]
        if lacking:
            raise ValueError(
                f"experiment: {file.name} does not fit as a start: {counted(len(lacking), 'tensor')} of "
                f"backbone and head are absent or of another shape ({lacking[0]} ...)"
            )
        own |= {name: tensors[name].to(own[name].dtype) for name in own if name in tensors}
        note = f"backbone and head begin with the weights of {file.parent.name}/{file.name}"
    return Origin(model, settings, own, text or _species(settings), note)


def arm_model(origin: Origin, arm: Arm, seed: int) -> TextNeckModel:
    """The model an arm trains: shared weights, and a neck of its own with first weights from the seed.

    Args:
        origin: the shared weights.
        arm: its switches.
        seed: of the neck's first weights.

    Raises:
        NotAvailable: the arm wants sentences of the species and there are none.
        ValueError: the neck cannot be built.
    """
    model = origin.given.with_neck(origin.config, arm.neck, origin.start, seed)
    text = _text(origin, arm)
    return model if text is None else model.reading(text)


def way_through(model: TextNeckModel, way: Way) -> TextNeckModel:
    """The model along the path on which the arm is evaluated.

    Args:
        model: with a text neck.
        way: of training or of inference.
    """
    return model.through(model.ways[way])


def _species(config: Mapping[str, Any]) -> TextVectors | None:
    named = str((config.get("model") or {}).get("text") or "").partition("/")[0]
    return available(lambda: builtin_text(named) if named else None, None)


def _text(origin: Origin, arm: Arm) -> TextVectors | None:
    if arm.text == "own":
        return origin.given.text
    if origin.species is None or len(origin.species.subjects) < 2:
        raise NotAvailable(
            "experiment: sentences of each species are needed, and the config names none; give "
            "some with --text FILE"
        )
    if arm.text == "each species":
        return origin.species
    # Every species another one's sentence: as much information, none of it about the picture.
    return dataclasses.replace(
        origin.species, subject_vectors=np.roll(origin.species.subject_vectors, 1, axis=0)
    )
