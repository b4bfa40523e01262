"""Do the training pass and the inference pass compute the same, tap by tap on the same input?

Both passes run on the same samples, with layers of libraries (dropout, normalisation) in evaluation mode, so
that only the path differs. The first tap that differs is where the cause lies; all taps behind it only carry
the difference on. A tap that one pass alone reaches is a part that was trained and is not used, or used and
was not trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core.capabilities import Conditioned
from workbench.core.inspector import Inspector, Needs, Range
from workbench.core.report import Report, plain, rows
from workbench.figures import FINDING_COLOUR, RUN_COLOURS
from workbench.figures.bars import Bars, bars_figure
from workbench.inspectors.conditioning.passes import (
    NOTHING,
    apart_text,
    conditioning_of,
    median_moved,
    one_pass,
    one_per_path,
    relative_difference,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.core import Run
    from workbench.inspectors.conditioning.passes import OnePass

BOTH, TRAINING, INFERENCE = "both", "training only", "inference only"
# Two passes that are equal but for random numbers differ by at most this factor of what two of one kind do.
NOISE = 1.5


@dataclass(frozen=True)
class Params:
    """Controls.

    Attributes:
        depth: taps nested deeper than this are compared, but shown only if the first difference is there.
    """

    depth: Annotated[int, Range(1, 8, 1)] = 2


@dataclass(frozen=True, eq=False)
class Paths(Report):
    """The training pass against the predict pass of one network.

    Attributes:
        training: the training pass, in words.
        inference: the predict pass, in words.
        names: of the taps, in the order in which they are reached.
        reached: by which pass each: ``both``, ``training only``, ``inference only``.
        differences: length of the difference as a share of the training pass's; nan where one pass alone
            reaches the tap.
        shown: the rows that a figure shows.
        moved: median distance of the keypoints that both passes found, share of the box; nan without any.
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
        """Index of the first tap that differs; None where none does."""
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
        """Name of the first tap that differs; None where none does."""
        return None if self.first is None else self.names[self.first]

    def skipped(self, part: str) -> bool:
        """Whether training reaches taps of a part that inference does not."""
        return any(
            where == TRAINING and (name == part or name.startswith(f"{part}."))
            for name, where in zip(self.names, self.reached, strict=True)
        )

    def summary(self) -> str:
        if self.first is None:
            return f"Inference does what training did: all {len(self.names)} taps agree"
        where = self.reached[self.first]
        how = (
            f"only {where.removesuffix(' only')} reaches it"
            if where != BOTH
            else f"by {100 * self.differences[self.first]:.2g} %"
        )
        alone = sum(r != BOTH for r in self.reached)
        return (
            f"Training runs {self.training}, inference runs {self.inference}: the first tap that differs "
            f"is {self.names[self.first]} ({how}); {alone} of {len(self.names)} taps are reached by one pass "
            f"alone, and {apart_text(self.moved)}"
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
            Bars("reached by one pass alone", np.where(alone, 1.0, np.nan), inks, span=(0, 1.05),
                 notes=[self.reached[i] for i in chosen]),
        ]  # fmt: skip
        figure = bars_figure(self.summary(), names, columns, (3, 1))
        # Yes or no needs no scale.
        return figure.update_layout(xaxis2_showticklabels=False, xaxis2_showgrid=False)

    def table(self) -> list[dict[str, Any]]:
        return rows(name=self.names, difference=self.differences, reached=self.reached)

    def to_json(self) -> dict[str, Any]:
        """The facts under the names of the command line."""
        return plain(
            {
                "summary": self.summary(),
                "training": self.training,
                "inference": self.inference,
                "taps": self.table(),
                "first_difference": self.first_difference,
                "keypoints_moved": self.moved,
                "scores": {"training": self.scores[0], "inference": self.scores[1]},
            }
        )


def compute(run: Run, params: Params) -> Paths:
    """Run both passes and compare every tap.

    Raises:
        NotAvailable: the model declares no condition, or a pass cannot be run.
    """
    record = conditioning_of(run.model, needed=False)
    trained, again = one_pass(run, "training"), one_pass(run, "training", seed=1)
    used, twice = one_pass(run, "predict"), one_pass(run, "predict", seed=1)
    names = in_order(list(trained.parts), list(used.parts))
    compared = [_compared(name, (trained, again), (used, twice)) for name in names]
    random = sum(drawn for _, _, drawn in compared)
    public = {name for name, path in one_per_path(run.model.taps).items() if name != path}
    note = f" ({random} taps are random in themselves; that part of a difference is not counted)"
    reached, differences = tuple(where for where, _, _ in compared), [d for _, d, _ in compared]
    first = next((i for i, d in enumerate(differences) if reached[i] != BOTH or not d <= NOTHING), None)
    shown = {i for i, n in enumerate(names) if n in public or n.count(".") < params.depth}
    return Paths(
        training=f"{record.training}{note if random else ''}",
        inference=record.inference,
        names=tuple(names),
        reached=reached,
        differences=np.array(differences, float),
        shown=tuple(sorted(shown if first is None else {*shown, first})),
        moved=median_moved(trained.run, used.run),
        scores=(float(np.median(trained.run.scores)), float(np.median(used.run.scores))),
    )


def _compared(
    name: str, training: tuple[OnePass, OnePass], inference: tuple[OnePass, OnePass]
) -> tuple[str, float, bool]:
    """(by which pass a tap is reached, how much it differs, whether it is random in itself).

    Args:
        name: of the tap.
        training: two training passes with other random numbers.
        inference: two predict passes with other random numbers.
    """
    a, b = (two[0].parts.get(name) for two in (training, inference))
    if a is None or b is None:
        return INFERENCE if a is None else TRAINING, float("nan"), False
    own = max(
        relative_difference(a, training[1].parts.get(name, a)),
        relative_difference(b, inference[1].parts.get(name, b)),
    )
    difference = relative_difference(a, b)
    return BOTH, 0.0 if difference <= NOISE * own else difference, own > NOTHING


def in_order(first: list[str], second: list[str]) -> list[str]:
    """Both lists in one order: what only the second has comes after what it follows there."""
    names = list(first)
    known = set(first)
    for index, name in enumerate(second):
        if name not in known:
            before = second[index - 1] if index else None
            names.insert(names.index(before) + 1 if before is not None else 0, name)
            known.add(name)
    return names


INSPECTOR = Inspector(
    "Training and inference", Params, compute, needs=Needs(capability=Conditioned), order=20
)
