"""What does the text change in code of the user's own, along its training and its predict pass?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable, Run
from workbench.core.report import Report, rows
from workbench.figures import RUN_COLOURS
from workbench.figures.bars import Bars, bars_figure
from workbench.inspectors.conditioning.passes import (
    FEATURES,
    NOTHING,
    OUTPUTS,
    WAYS,
    OnePass,
    Way,
    difference_of,
    moved,
    passed,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure
    from torch import Tensor


REMOVED, REPLACED = "taking the text away", "random text in place of yours"


@dataclass(frozen=True, eq=False)
class TextEffect(Report):
    """How much the text changes, along both passes of the user's code.

    Attributes:
        ways: ``training`` and ``predict``.
        features: change of what the head is given when the text is taken away, share of its length; nan
            where it was not kept.
        outputs: the same of the network's outputs.
        moved: median movement of the keypoints without the text, shares of the box.
        change: what was done to the text: taken away, or random text where the code cannot do without any.
    """

    ways: tuple[str, ...]
    features: Float[np.ndarray, " W"]
    outputs: Float[np.ndarray, " W"]
    moved: Float[np.ndarray, " W"]
    change: str = REMOVED

    def changes(self, way: Way) -> bool:
        """Whether the text changes anything along this way."""
        i = self.ways.index(way)
        return bool(self.features[i] > NOTHING or self.outputs[i] > NOTHING)

    def summary(self) -> str:
        told = []
        for i, way in enumerate(self.ways):
            features = "" if np.isnan(self.features[i]) else f"features by {100 * self.features[i]:.3g} %, "
            told.append(
                f"in your {way} pass {self.change} changes {features}outputs by "
                f"{100 * self.outputs[i]:.3g} %, keypoints move {100 * self.moved[i]:.2g} % of the box"
            )
        return "; ".join(told)

    def plot(self) -> Figure:
        columns = [
            Bars("features change (%)", 100 * self.features, RUN_COLOURS[0]),
            Bars("outputs change (%)", 100 * self.outputs, RUN_COLOURS[1]),
            Bars("keypoints move (% of the box)", 100 * self.moved, RUN_COLOURS[2]),
        ]
        return bars_figure(self.summary(), [f"{way} pass" for way in self.ways], columns)

    def table(self) -> list[dict[str, Any]]:
        return rows(way=self.ways, features=self.features, outputs=self.outputs, moved=self.moved)


def text_effect(run: Run) -> TextEffect:
    """Both passes with the text and without, or with random text where the code cannot do without any.

    Raises:
        NotAvailable: there is no text.
    """
    found = []
    change = REMOVED
    try:
        others = {way: without_text(run, way) for way in WAYS}
    except NotAvailable:
        change = REPLACED
        others = {way: passed(run, way, noise(0)) for way in WAYS}
    for way in WAYS:
        kept, without = passed(run, way), others[way]
        found.append(
            (
                _change(kept, without, FEATURES),
                _change(kept, without, OUTPUTS),
                float(np.median(moved(kept.run, without.run))),
            )
        )
    features, outputs, far = zip(*found, strict=True)
    return TextEffect(WAYS, np.array(features), np.array(outputs), np.array(far), change)


def noise(seed: int) -> Callable[[Tensor], Tensor]:
    """Random vectors as long as those of the text."""

    def edit(text: Tensor) -> Tensor:
        import torch

        drawn = np.random.default_rng(seed).standard_normal(text.shape).astype(np.float32)
        random = torch.from_numpy(drawn).to(text)
        return random / random.norm(dim=-1, keepdim=True) * text.norm(dim=-1, keepdim=True)

    return edit


def exchanged(text: Tensor) -> Tensor:
    """Every image has the text of the one before it in its batch."""
    return text.roll(1, 0)


def without_text(run: Run, way: Way) -> OnePass:
    """A pass without text.

    Raises:
        NotAvailable: the user's code cannot do without; with what it said.
    """
    try:
        return passed(run, way, None)
    except ValueError as error:
        raise NotAvailable(f"text: your {way} pass cannot be run without text: {error}") from error


def _change(a: OnePass, b: OnePass, part: str) -> float:
    if part not in a.parts or part not in b.parts:
        return float("nan")
    return difference_of(a.parts[part], b.parts[part])
