"""How far did each part of the network move from a common start, against a base run of the same data?

A head that learns ten times too slowly stays near where it started while the backbone goes as far as in the
base run. Told from the files alone: start, this run's checkpoint, and the base run's of the same epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.checkpoints.difference import compare_checkpoints
from workbench.core.report import Report, rows
from workbench.figures import FINDING_COLOUR, RUN_COLOURS
from workbench.figures.bars import Bars, bars_figure
from workbench.inspectors.conditioning.findings import HEAD_BEHIND, Finding

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.checkpoints import Checkpoint

# Below a third of the base run's way, and of what the backbone went against its own. A text neck and a
# refiner beside the head change the ratio to 1.0 on the built-in runs (modules of the head: .81 to 1.15).
BEHIND = 1 / 3


@dataclass(frozen=True, eq=False)
class Progress(Report):
    """How far each module moved from the start, as a share of what the base run's moved.

    Attributes:
        base: name of the base run's checkpoint.
        start: name of the start.
        modules: two levels deep, those that both runs moved.
        ratios: this run's movement over the base run's.
    """

    base: str
    start: str
    modules: tuple[str, ...]
    ratios: Float[np.ndarray, " M"]

    def of(self, part: str) -> float:
        """Median ratio of the modules of a part; nan where none of them moved in the base run."""
        inside = [r for m, r in zip(self.modules, self.ratios, strict=True) if m.partition(".")[0] == part]
        return float(np.median(inside)) if inside else float("nan")

    @property
    def parts(self) -> tuple[str, ...]:
        """First words of the modules' names."""
        return tuple(dict.fromkeys(module.partition(".")[0] for module in self.modules))

    @property
    def behind(self) -> tuple[str, ...]:
        """Parts behind the backbone that moved far less than in the base run, and than the backbone did."""
        others = self.of("backbone")
        reference = 1.0 if np.isnan(others) else min(1.0, others)
        return tuple(p for p in self.parts if p != "backbone" and self.of(p) < BEHIND * reference)

    def summary(self) -> str:
        told = ", ".join(f"{part} {self.of(part):.2g}" for part in self.parts)
        return f"Movement from {self.start}, as a share of that of {self.base}: {told}"

    def finding(self) -> Finding | None:
        """What is wrong; None where nothing is."""
        if not self.behind:
            return None
        part = self.behind[0]
        others = self.of("backbone")
        beside = "" if np.isnan(others) else f", the backbone {others:.2g}"
        return Finding(
            HEAD_BEHIND,
            f"from the same start ({self.start}) the {part} moved {self.of(part):.2g} of the way that it "
            f"moved in {self.base}{beside} (medians over their modules)",
            f"look at the learning rate of the {part} (lr_mult, paramwise_cfg, its parameter group): about "
            f"{1 / max(self.of(part), 1e-3):.0f} times as much would go as far",
        )

    def plot(self) -> Figure:
        late = set(self.behind)
        inks = [FINDING_COLOUR if m.partition(".")[0] in late else RUN_COLOURS[0] for m in self.modules]
        return bars_figure(
            self.summary(), self.modules, [Bars("moved / moved in the base run", self.ratios, inks)]
        )

    def table(self) -> list[dict[str, Any]]:
        return rows(module=self.modules, ratio=self.ratios)


def progress(start: Checkpoint, own: Checkpoint, base: Checkpoint) -> Progress:
    """Movement from the start, module by module, against the base run's.

    Args:
        start: of both.
        own: of the run that is looked at.
        base: of the base run, after as many epochs.

    Raises:
        ValueError: the files hold no module in common that the base run moved.
    """
    here, there = compare_checkpoints(start, own), compare_checkpoints(start, base)
    known = {t.name for t in here.tensors} & {t.name for t in there.tensors}
    # Norms of the start cancel only where both compare the same tensors of a module.
    whole = {
        module
        for module in here.modules.keys() & there.modules.keys()
        if all(t.name in known for report in (here, there) for t in report.tensors if t.module == module)
    }
    found = {
        module: here.modules[module] / moved
        for module, moved in there.modules.items()
        if module in whole and moved > 0 and np.isfinite(moved) and np.isfinite(here.modules[module])
    }
    if not found:
        raise ValueError(
            f"{base.path}: expected modules that moved from {start.path.name} and are {own.path.name}'s too, "
            "found none; name the start of both runs with --start"
        )
    return Progress(there.b, start.path.name, tuple(found), np.array(list(found.values())))
