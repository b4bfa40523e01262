"""Which parts of the network does training's loss reach, and which parts that inference uses does it not?

The gradient is taken along the way of training: a refiner that training leaves out gets none, whatever
inference does with it. Norms are those of workbench.inspectors.outputs.gradients, gathered by part.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import Report, rows
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS
from workbench.figures.bars import Bars, bars_figure
from workbench.inspectors.conditioning.passes import conditioned

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.core import Run

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
