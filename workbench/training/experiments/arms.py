"""Which experiments are there, and in what do their arms differ?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from workbench.core import nearest

TextOf = Literal["own", "each species", "shuffled species", "given"]
Way = Literal[
    "as it predicts", "as it was trained", "fused and refined", "neither neck nor refiner", "no refiner"
]


@dataclass(frozen=True)
class Arm:
    """One model of an experiment; the defaults change nothing.

    Attributes:
        name: what is different, in a few words.
        neck: options of the neck; see workbench.models.text_fusion.neck.
        factors: learning rate factor by module prefix.
        text: whose sentences it reads.
        way: how it is gone through when it is judged.
    """

    name: str
    neck: Mapping[str, Any] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=dict)
    text: TextOf = "own"
    way: Way = "as it predicts"


@dataclass(frozen=True)
class Experiment:
    """A question and the arms that answer it; the first arm is what the others are compared with.

    Attributes:
        name: on the command line.
        question: what it asks.
        arms: two or more.
        trains: False judges the checkpoint as it is, in every arm.
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
            "Does FiLM have to begin as the identity?",
            (
                Arm("random start", {"init": "random"}),
                Arm("identity start", {"init": "identity"}),
            ),
        ),
        Experiment(
            "residual",
            "Does a way around FiLM help?",
            (
                Arm("no gate", {"gate": "none"}),
                Arm("learned gate from .1", {"gate": "learned", "gate_value": 0.1}),
                Arm("fixed gate .1", {"gate": "fixed", "gate_value": 0.1}),
            ),
        ),
        Experiment(
            "better-text",
            "Does a sentence about each image's species say more than one for all?",
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
            "Are these weights judged the way they were trained?",
            (
                AS_IT_IS,
                Arm("the way of training", way="as it was trained"),
                Arm("fused and refined", way="fused and refined"),
                Arm("neither neck nor refiner", way="neither neck nor refiner"),
            ),
            trains=False,
        ),
    )
}
"""The six experiments of the published analysis, and the one it missed."""


def experiment_named(name: str) -> Experiment:
    """One experiment.

    Raises:
        KeyError: no such experiment; the message lists near ones.
    """
    if name not in EXPERIMENTS:
        raise KeyError(f"no experiment {name!r}; nearest: {nearest(name, EXPERIMENTS)}")
    return EXPERIMENTS[name]
