"""Does inference go the way that training went, tap by tap on the same input?

Both passes are made in evaluation mode, so that dropout and running statistics are equal and only the way
differs. The first tap that differs is where the cause lies; all behind it only carry it on. A tap that one
way alone reaches is a part that was trained and is not used, or used and was not trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core.capabilities import Conditioned, TakesText
from workbench.core.inspector import Inspector, Range
from workbench.core.needs import Needs
from workbench.core.report import Report, rows
from workbench.figures import FINDING_COLOUR, RUN_COLOURS
from workbench.figures.bars import Bars, bars_figure
from workbench.inspectors.conditioning.passes import (
    apart,
    conditioned,
    moved,
    one_per_path,
    passed,
    refiner_of,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.core import Run
    from workbench.models.text_fusion import Path, TextFusion

BOTH, TRAINING, INFERENCE = "both", "training only", "inference only"
# float32 sums in another order differ by some 1e-7.
NOTHING = 1e-6


@dataclass(frozen=True)
class Params:
    """Knobs.

    Attributes:
        depth: taps nested deeper than this are compared, and not shown unless the first difference is there.
    """

    depth: Annotated[int, Range(1, 8, 1)] = 2


@dataclass(frozen=True, eq=False)
class Paths(Report):
    """Two ways through one network.

    Attributes:
        training: the way of training, in words.
        inference: the way of inference, in words.
        names: of the taps, in the order in which they are passed.
        reached: by which way each: ``both``, ``training only``, ``inference only``.
        differences: length of the difference as a share of the training pass's; nan where one way alone
            passes.
        shown: the rows that a figure shows.
        moved: median movement of the keypoints from one way to the other, share of the box.
        scores: median keypoint score, (training, inference).
    """

    training: str
    inference: str
    names: tuple[str, ...]
    reached: tuple[str, ...]
    differences: Float[np.ndarray, " T"]
    shown: tuple[int, ...]
    moved: float
    scores: tuple[float, float]

    @property
    def first(self) -> int | None:
        """Where the ways part; None where they do not."""
        return next(
            (
                i
                for i, (where, d) in enumerate(zip(self.reached, self.differences, strict=True))
                if where != BOTH or not d <= NOTHING
            ),
            None,
        )

    @property
    def first_difference(self) -> str | None:
        """The tap where the ways part."""
        return None if self.first is None else self.names[self.first]

    def skipped(self, part: str) -> bool:
        """Whether training passes taps of a part that inference does not reach."""
        return any(
            where == TRAINING and (name == part or name.startswith(f"{part}."))
            for name, where in zip(self.names, self.reached, strict=True)
        )

    def summary(self) -> str:
        if self.first is None:
            return f"Inference goes the way of training: all {len(self.names)} taps agree"
        where = self.reached[self.first]
        told = (
            f"which {where.removesuffix(' only')} alone passes"
            if where != BOTH
            else f"by {100 * self.differences[self.first]:.2g} %"
        )
        alone = sum(r != BOTH for r in self.reached)
        return (
            f"Training goes {self.training}, inference {self.inference}: the ways part at "
            f"{self.names[self.first]}, {told}; {alone} of {len(self.names)} taps are passed by one way "
            f"alone, keypoints end {100 * self.moved:.1f} % of the box apart (median)"
        )

    def plot(self) -> Figure:
        chosen = list(self.shown)
        names = [self.names[i] for i in chosen]
        alone = np.array([self.reached[i] != BOTH for i in chosen])
        shares = 100 * self.differences[chosen]
        inks = [
            FINDING_COLOUR if a or d > 100 * NOTHING else RUN_COLOURS[0]
            for a, d in zip(alone, shares, strict=True)
        ]
        columns = [
            Bars("difference (% of the training pass)", np.where(alone, np.nan, shares), inks,
                 notes=[self.reached[i] for i in chosen]),
            Bars("passed by one way alone", np.where(alone, 1.0, np.nan), inks, span=(0, 1.05),
                 notes=[self.reached[i] for i in chosen]),
        ]  # fmt: skip
        figure = bars_figure(self.summary(), names, columns, (3, 1))
        # Yes or no has no scale.
        return figure.update_layout(xaxis2_showticklabels=False, xaxis2_showgrid=False)

    def table(self) -> list[dict[str, Any]]:
        return rows(name=self.names, difference=self.differences, reached=self.reached)

    def to_json(self) -> dict[str, Any]:
        """The facts under the names of the command line."""
        return {
            "summary": self.summary(),
            "training": self.training,
            "inference": self.inference,
            "taps": self.table(),
            "first_difference": self.first_difference,
            "keypoints_moved": self.moved,
            "scores": {"training": self.scores[0], "inference": self.scores[1]},
        }


def compute(run: Run, params: Params) -> Paths:
    """Go both ways and compare every tap.

    Raises:
        NotAvailable: the model reads no text, or the way of training needs text that is not here.
    """
    if isinstance(run.model, Conditioned):
        from workbench.inspectors.conditioning.own_passes import compared

        return compared(run)
    model = conditioned(run.model)
    taps = one_per_path(model.taps)
    trained = passed(run, model.training, tuple(taps))
    used = passed(run, model.inference, tuple(taps))
    names = in_order(list(trained.activations), list(used.activations))
    reached, differences = [], []
    for name in names:
        a, b = trained.activations.get(name), used.activations.get(name)
        if a is None or b is None:
            reached.append(INFERENCE if a is None else TRAINING)
            differences.append(float("nan"))
        else:
            reached.append(BOTH)
            differences.append(apart(a.float().numpy(), b.float().numpy()))
    public = {name for name, path in taps.items() if name != path}
    shown = {i for i, n in enumerate(names) if n in public or n.count(".") < params.depth}
    report = Paths(
        training=_in_words(model, model.training, model.inference),
        inference=_in_words(model, model.inference, model.training),
        names=tuple(names),
        reached=tuple(reached),
        differences=np.array(differences, float),
        shown=(),
        moved=float(np.median(moved(trained, used))),
        scores=(float(np.median(trained.scores)), float(np.median(used.scores))),
    )
    if report.first is not None:
        shown.add(report.first)
    return Paths(**{**vars(report), "shown": tuple(sorted(shown))})


def _in_words(model: TextFusion, way: Path, other: Path) -> str:
    """The way, and whom the refiner touches where both have one and differ in that."""
    if not way.refine or not other.refine or way.refine == other.refine:
        return str(way)
    everybody = way.refine == "training" or getattr(refiner_of(model), "mask", "") == "all"
    return f"{way} of {'every' if everybody else 'uncertain'} keypoint{'s' * (not everybody)}"


def in_order(first: list[str], second: list[str]) -> list[str]:
    """Both lists in one order: what only the second holds comes after what it follows there."""
    names = list(first)
    held = set(first)
    for place, name in enumerate(second):
        if name not in held:
            before = second[place - 1] if place else None
            names.insert(names.index(before) + 1 if before is not None else 0, name)
            held.add(name)
    return names


INSPECTOR = Inspector(
    "Training and inference",
    "Does inference go the way that training went, tap by tap on the same input?",
    Params,
    compute,
    needs=Needs(capability=(Conditioned, TakesText)),
    order=20,
)
