"""What does the text change in code of the user's own, along its training and its predict pass?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable, Run
from workbench.core.report import Report, rows
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS
from workbench.figures.bars import Bars, bars_figure
from workbench.inspectors.conditioning.passes import (
    FEATURES,
    NOTHING,
    OUTPUTS,
    WAYS,
    OnePass,
    Way,
    conditioned,
    difference_of,
    moved,
)
from workbench.inspectors.conditioning.passes import passed_of_own_passes as passed

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure
    from torch import Tensor

    from workbench.core import Run


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


# Which parts of the network does training's loss reach, and which parts that inference uses does it not?


# Longest prefix first; what none of them begins is called by its first word.
PARTS = ("head.refiner", "neck.global_mlp", "neck.local_mlp", "neck.cross_attn", "neck", "backbone", "head")


@dataclass(frozen=True, eq=False)
class GradientGroups(Report):
    """Gradient and weight norms by part, along the way of training.

    Attributes:
        parts: of the network.
        norms: L2 of the gradient; 0 where none arrives.
        weight_norms: L2 of the weights.
    """

    parts: tuple[str, ...]
    norms: Float[np.ndarray, " P"]
    weight_norms: Float[np.ndarray, " P"]

    def reaches(self, part: str) -> bool:
        """Whether any gradient arrives at a part; True for a part that there is not."""
        return part not in self.parts or bool(self.norms[self.parts.index(part)] > 0)

    def summary(self) -> str:
        silent = [p for p, norm in zip(self.parts, self.norms, strict=True) if norm == 0]
        most = self.parts[int(self.norms.argmax())]
        if silent:
            return f"No gradient of training's loss reaches {', '.join(silent)}; most of it goes to {most}"
        return f"The gradient of training's loss reaches all {len(self.parts)} parts, most of it {most}"

    def plot(self) -> Figure:
        inks = [FINDING_COLOUR if norm == 0 else RUN_COLOURS[0] for norm in self.norms]
        columns = [
            Bars("gradient norm", np.where(self.norms > 0, self.norms, np.nan), inks, log=True),
            Bars("no gradient arrives", np.where(self.norms > 0, np.nan, 1.0), inks, span=(0, 1.05)),
            Bars("weight norm", self.weight_norms, QUIET_COLOUR, log=True),
        ]
        figure = bars_figure(self.summary(), self.parts, columns, (3, 1, 3))
        # Yes or no has no scale.
        return figure.update_layout(xaxis2_showticklabels=False, xaxis2_showgrid=False)

    def table(self) -> list[dict[str, Any]]:
        return rows(part=self.parts, gradient_norm=self.norms, weight_norm=self.weight_norms)


def gradient_groups(run: Run) -> GradientGroups:
    """Loss and gradient of the run's samples along the way of training.

    Raises:
        NotAvailable: no truth, or the model reads no text.
    """
    from workbench.inspectors.outputs import gradients

    model = conditioned(run.model)
    # A text that only training needs may be missing; `forward` then says so.
    along = dataclasses.replace(run, model=model.through(model.training))
    along = dataclasses.replace(along, batch=model.prepare(run.samples))
    report = gradients.compute(along, gradients.Params(depth=8))
    found: dict[str, tuple[float, float]] = {}
    for module, norm, weight in zip(report.modules, report.norms, report.weight_norms, strict=True):
        part = next((p for p in PARTS if module == p or module.startswith(f"{p}.")), module.partition(".")[0])
        gradient, own = found.get(part, (0.0, 0.0))
        found[part] = (gradient + float(norm) ** 2, own + float(weight) ** 2)
    squared, own = np.array(list(found.values())).T
    return GradientGroups(tuple(found), np.sqrt(squared), np.sqrt(own))


# Do the rows of a text speak of the skeleton's keypoints, in their order?


def keypoint_names_text(text: Sequence[str], skeleton: Sequence[str]) -> str:
    """How the keypoints that the text speaks of differ from the skeleton's; "" where they do not.

    Args:
        text: names of the rows, in their order; none where the text does not name them.
        skeleton: the keypoints, in their order.
    """

    def plain_name(name: str) -> str:
        # L_Eye, left eye and left_eye are one; order of the words counts for nothing.
        words = name.lower().replace("_", " ").replace("-", " ").split()
        short = {"l": "left", "r": "right", "f": "front", "b": "back"}
        return " ".join(sorted(short.get(word, word) for word in words))

    a, b = [plain_name(name) for name in text], [plain_name(name) for name in skeleton]
    if not a or a == b or all(name.startswith("keypoint") for name in skeleton):
        return ""
    off = [k for k in range(min(len(a), len(b))) if a[k] != b[k]]
    if sorted(a) == sorted(b):
        k = off[0]
        return (
            f"the text has the skeleton's keypoints in another order: row {k} speaks of {text[k]}, where "
            f"keypoint {k} is {skeleton[k]}; {len(off)} of {len(a)} rows are given to another keypoint"
        )
    known = set(b)
    strange = [text[k] for k in range(len(a)) if a[k] not in known]
    if not strange:
        return ""
    return (
        f"{len(strange)} of {len(a)} rows of the text speak of what the skeleton does not have: "
        f"{', '.join(strange[:3])}{' ...' if len(strange) > 3 else ''} (its keypoints: "
        f"{', '.join(skeleton[:3])} ...)"
    )
