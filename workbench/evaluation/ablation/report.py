"""What did each variant reach, and what did it lose? The ten COCO figures, and the difference in AP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import Report, plain

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure


# AP that two evaluations of one protocol may differ by: a few images more or less.
NEAR = 0.01
# Undoing a mistake must give back this much AP, and raise the OKS of the annotated people by so many standard
# errors, before the pipeline is said to have it.
LEAST_GAIN, LEAST_ERRORS = 0.03, 3.0


@dataclass(frozen=True)
class Outcome:
    """One variant's figures.

    Attributes:
        name: of the variant.
        about: what it changes.
        figures: the ten COCO figures by name; nan where there is no such ground truth.
        people: found in all images.
        several: it changes more than one thing on top of another variant.
        undoes: the mistake that it undoes; "" for none.
        beside: name of the variant with which it is compared then.
        oks: of every annotated person, the nearest found one's; None where it was not asked for.
    """

    name: str
    about: str
    figures: Mapping[str, float]
    people: int
    several: bool = False
    undoes: str = ""
    beside: str = ""
    oks: Float[np.ndarray, " Q"] | None = None

    @property
    def ap(self) -> float:
        """AP over OKS .5 to .95."""
        return self.figures["AP"]


@dataclass(frozen=True)
class Suspect:
    """A mistake that the pipeline has, by what its undoing gave.

    Attributes:
        fault: in words.
        undone_by: name of the variant.
        before: AP with the mistake.
        after: AP without it.
        oks_gain: mean over the annotated people; nan where the mistake is one of ranking alone.
        oks_error: its standard error.
    """

    fault: str
    undone_by: str
    before: float
    after: float
    oks_gain: float
    oks_error: float

    @property
    def gain(self) -> float:
        """AP given back."""
        return self.after - self.before

    @classmethod
    def of(cls, outcome: Outcome, beside: Outcome) -> Suspect | None:
        """The mistake that an outcome undid; None where the gain is none, or could be chance."""
        gain = outcome.ap - beside.ap
        if not gain >= LEAST_GAIN or outcome.oks is None or beside.oks is None or not len(outcome.oks):
            return None
        each = outcome.oks - beside.oks
        mean, error = float(each.mean()), float(each.std() / np.sqrt(len(each)))
        # The same people at other ranks: no pose changed, and AP alone tells.
        if np.allclose(each, 0, atol=1e-9):
            return cls(outcome.undoes, outcome.name, beside.ap, outcome.ap, float("nan"), float("nan"))
        if mean < LEAST_ERRORS * error:
            return None
        return cls(outcome.undoes, outcome.name, beside.ap, outcome.ap, mean, error)

    def text(self) -> str:
        """The finding and its evidence."""
        text = f"{self.fault}: with {self.undone_by} AP {self.before:.3f} becomes {self.after:.3f}"
        if np.isnan(self.oks_gain):
            return text
        return (
            f"{text}, OKS of the annotated people {self.oks_gain:+.3f} (standard error {self.oks_error:.3f})"
        )

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return plain({**vars(self), "gain": self.gain, "text": self.text()})


def _images(count: int) -> str:
    return "one image" if count == 1 else f"each of {count} images"


@dataclass(frozen=True)
class Ablation(Report):
    """A sweep over variants of one protocol.

    Attributes:
        title: of the model.
        question: what was varied.
        data: of the data set.
        reference: what the others are compared with.
        variants: in the order of the sweep.
        images: looked at.
        forward_passes: looks at an image; one each, whatever the number of variants.
        network_calls: inputs that the network was given: mirrored ones and other scales count as well.
    """

    title: str
    question: str
    data: str
    reference: Outcome
    variants: tuple[Outcome, ...]
    images: int
    forward_passes: int
    network_calls: int

    def delta(self, outcome: Outcome) -> float:
        """AP beyond the reference's."""
        return outcome.ap - self.reference.ap

    def nearest_to(self, ap: float) -> Outcome:
        """The variant, the reference included, whose AP comes nearest to one that somebody has seen."""
        return min((self.reference, *self.variants), key=lambda outcome: abs(outcome.ap - ap))

    def match(self, ap: float) -> tuple[Outcome, bool]:
        """The variant whose AP comes nearest to one that somebody has seen; and whether it is near.

        Near is within a hundredth of AP. Where the nearest one is farther, none of the variants explains the
        figure that was seen.
        """
        nearest = self.nearest_to(ap)
        return nearest, bool(abs(nearest.ap - ap) <= NEAR)

    @property
    def suspects(self) -> list[Suspect]:
        """Mistakes whose undoing gives AP back, the costliest first, each by its best variant."""
        by_name = {outcome.name: outcome for outcome in (self.reference, *self.variants)}
        found: dict[str, Suspect] = {}
        for outcome in self.variants:
            beside = by_name.get(outcome.beside)
            if not outcome.undoes or beside is None:
                continue
            suspect = Suspect.of(outcome, beside)
            if suspect is not None and suspect.gain > getattr(found.get(outcome.undoes), "gain", 0.0):
                found[outcome.undoes] = suspect
        return sorted(found.values(), key=lambda suspect: -suspect.gain)

    def _faults_text(self) -> str:
        tried = len({outcome.undoes for outcome in self.variants if outcome.undoes})
        suspects = self.suspects
        if not suspects:
            return f"none of the {tried} mistakes that were tried is found"
        text = f"found: {suspects[0].text()}"
        return text + "".join(f"; perhaps {suspect.text()}" for suspect in suspects[1:])

    def summary(self) -> str:
        whose = f"{self.title} on {self.data}" if self.title else self.data
        text = f"{whose}: AP {self.reference.ap:.3f} by the reference"
        if not self.reference.people:
            text += ", which finds nobody"
        if any(outcome.undoes for outcome in self.variants):
            return f"{text}; {self._faults_text()} ({_images(self.images)})"
        losses = sorted((o for o in self.variants if not o.several), key=self.delta)
        if losses and self.delta(losses[0]) < 0:
            worst = ", ".join(f"{o.name} {self.delta(o):+.3f}" for o in losses[:3] if self.delta(o) < 0)
            text += f"; most is lost by {worst}"
        gains = [o for o in reversed(losses) if self.delta(o) > 0][:1]
        text += "".join(f"; {o.name} gains {self.delta(o):+.3f}" for o in gains)
        return f"{text} ({len(self.variants)} variants from one look at {_images(self.images)})"

    def plot(self) -> Figure:
        """AP of every variant, and the difference from the reference."""
        from workbench.figures import FINDING_COLOUR, QUIET_COLOUR
        from workbench.figures.bars import Bars, bars_figure

        outcomes = (self.reference, *self.variants)
        deltas = np.array([self.delta(outcome) for outcome in outcomes])
        reach = max(float(np.nanmax(np.abs(deltas), initial=0)), 0.01) * 1.1
        # A hundredth of AP: below it, a few images more or less decide.
        colours = [FINDING_COLOUR if delta < -0.01 else QUIET_COLOUR for delta in deltas]
        notes = [f"{outcome.about}; {outcome.people} people" for outcome in outcomes]
        return bars_figure(
            self.summary(),
            [outcome.name for outcome in outcomes],
            [
                Bars("AP", np.array([o.ap for o in outcomes]), colours, notes=notes, span=(0, 1)),
                Bars("AP beyond the reference", deltas, colours, notes=notes, span=(-reach, reach)),
            ],
        )

    def table(self) -> list[dict[str, Any]]:
        return [self._row(outcome) for outcome in (self.reference, *self.variants)]

    def to_json(self) -> dict[str, Any]:
        return {
            "summary": self.summary(),
            "title": self.title,
            "question": self.question,
            "data": self.data,
            "reference": self._row(self.reference),
            "variants": [self._row(outcome) for outcome in self.variants],
            "forward_passes": self.forward_passes,
            "network_calls": self.network_calls,
            "images": self.images,
            "suspects": [suspect.facts() for suspect in self.suspects],
        }

    def _row(self, outcome: Outcome) -> dict[str, Any]:
        return plain(
            {
                "name": outcome.name,
                **outcome.figures,
                "delta": self.delta(outcome),
                "people": outcome.people,
                "about": outcome.about,
            }
        )
