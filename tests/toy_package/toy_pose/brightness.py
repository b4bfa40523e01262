"""How bright is the input of each sample?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.core import Run
from workbench.core.inspector import Inspector
from workbench.core.report import Report, rows
from workbench.figures import new_figure


@dataclass(frozen=True)
class Params:
    """None."""


@dataclass(frozen=True, eq=False)
class Brightness(Report):
    """Mean of the input of each sample."""

    means: np.ndarray

    def summary(self) -> str:
        return f"The inputs have a mean brightness of {self.means.mean():.3f}"

    def plot(self) -> Any:
        figure = new_figure(self.summary())
        figure.add_bar(x=[str(n) for n in range(len(self.means))], y=self.means.astype(np.float32))
        figure.update_layout(xaxis_title="sample", yaxis_title="mean of the input")
        return figure

    def table(self) -> list[dict[str, Any]]:
        return rows(sample=range(len(self.means)), brightness=self.means)


def compute(run: Run, params: Params) -> Brightness:
    """Mean of all pixels and channels."""
    return Brightness(run.batch.pixels.flatten(1).mean(1).double().cpu().numpy())


INSPECTOR = Inspector("Brightness", Params, compute)
