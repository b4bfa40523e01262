"""What does AP become when one part after the other is perfect?

The first bar is the model as it is, each further one what a part adds once it is replaced by the truth, those
before it staying replaced. What a part adds depends on what is perfect already, so each is also replaced
alone. The part with the largest bar is where work pays; a bar below zero is no error of arithmetic: two parts
had made up for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import Report, plain

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

AS_IT_IS = "model as it is"
# Below this, AP of a perfect chain is called perfect: a few people at most share one cell.
PERFECT = 0.9995


@dataclass(frozen=True)
class Step:
    """One part replaced.

    Attributes:
        name: of the part.
        AP: with it and all parts before it replaced.
        gain: over the step before; nan for the first.
        AP_alone: with this part alone replaced.
        gain_alone: over the model as it is; nan for the first.
        about: what the truth was put in for, one line.
        figures: all ten, with it and all parts before it replaced.
    """

    name: str
    AP: float
    gain: float
    AP_alone: float
    gain_alone: float
    about: str
    figures: dict[str, float]


@dataclass(frozen=True, eq=False)
class Waterfall(Report):
    """AP as parts are replaced by the truth.

    Attributes:
        title: of the model.
        kind: ``top-down`` or ``bottom-up``.
        steps: the model as it is, then each part.
        missing: parts that could not be replaced, with the reason.
        images: looked at.
        people: annotated in them that count.
        forward_passes: over an image or a crop.
        protocol: the rules, in one line.
        findings: what was measured and is wrong, one sentence each.
        measured: the figures behind them, by name.
    """

    title: str
    kind: str
    steps: tuple[Step, ...]
    missing: dict[str, str]
    images: int
    people: int
    forward_passes: int
    protocol: str
    findings: tuple[str, ...] = ()
    measured: dict[str, Any] = field(default_factory=dict)

    def summary(self) -> str:
        first, *parts = self.steps
        if first.AP >= PERFECT:
            return f"{self.title}: AP {first.AP:.3f}; nothing is lost"
        largest = max(parts, key=lambda step: step.gain)
        ceiling = self.steps[-1].AP
        text = (
            f"{self.title}: AP {first.AP:.3f}; most is lost in {largest.name}: with the truth there AP rises "
            f"by {largest.gain:.3f} to {largest.AP:.3f}"
        )
        alone = max(parts, key=lambda step: step.gain_alone)
        if alone.name != largest.name:
            text += f"; replaced alone, {alone.name} gives most ({alone.gain_alone:+.3f})"
        if ceiling < PERFECT:
            text += (
                f"; with everything replaced it is {ceiling:.3f}: the last {1 - ceiling:.3f} is unexplained"
            )
        return text

    def plot(self) -> Figure:
        import plotly.graph_objects as go

        from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS, new_figure

        figure = new_figure(self.summary(), x="replaced by the truth, from left to right", y="AP", height=460)
        names = np.array([step.name for step in self.steps], object)
        gains = np.array([step.AP if i == 0 else step.gain for i, step in enumerate(self.steps)], np.float32)
        text = [f"{step.AP:.3f}" if i == 0 else f"{step.gain:+.3f}" for i, step in enumerate(self.steps)]
        hover = [f"<b>{step.name}</b><br>{step.about}<br>AP {step.AP:.3f}" for step in self.steps]
        figure.add_trace(
            go.Waterfall(
                x=names, y=gains, measure=np.array(["absolute"] + ["relative"] * (len(names) - 1), object),
                text=np.array(text, object), textposition="outside", hovertext=np.array(hover, object),
                hovertemplate="%{hovertext}<extra></extra>", name="one after the other",
                totals={"marker": {"color": RUN_COLOURS[0]}},
                increasing={"marker": {"color": RUN_COLOURS[2]}},
                decreasing={"marker": {"color": FINDING_COLOUR}}, cliponaxis=False,
                connector={"line": {"color": QUIET_COLOUR, "width": 1}},
            )
        )  # fmt: skip
        figure.add_trace(
            go.Scatter(
                x=names[1:], y=np.array([s.AP_alone for s in self.steps[1:]], np.float32), mode="markers",
                marker={"symbol": "diamond", "size": 11, "color": RUN_COLOURS[3]}, name="this part alone",
                hovertemplate="%{x} alone<br>AP %{y:.3f}<extra></extra>",
            )
        )  # fmt: skip
        figure.update_yaxes(range=[0, 1.08])
        return figure

    def table(self) -> list[dict[str, Any]]:
        return [
            {"part": s.name, "AP": plain(s.AP), "gain": plain(s.gain), "AP_alone": plain(s.AP_alone),
             "gain_alone": plain(s.gain_alone), "replaced_by": s.about}
            for s in self.steps
        ]  # fmt: skip

    def text(self) -> str:
        """For people: the sentence and the table."""
        lines = [self.summary(), "", f"{'part':<16}    AP    gain   alone    gain"]
        for i, s in enumerate(self.steps):
            gains = "" if i == 0 else f"  {s.gain:+.3f}   {s.AP_alone:.3f}  {s.gain_alone:+.3f}"
            lines.append(f"{s.name:<16} {s.AP:.3f}{gains}   {s.about}")
        lines += [f"measured: {finding}" for finding in self.findings]
        lines += [f"not replaced: {part}: {why}" for part, why in self.missing.items()]
        return "\n".join([*lines, "", f"protocol: {self.protocol}"])


def stepped(
    parts: Sequence[tuple[str, str]], figures_of: Callable[[frozenset[str]], dict[str, float]]
) -> tuple[Step, ...]:
    """Each part alone, and all of them one after the other.

    Args:
        parts: name and what its truth is, in the order of the way.
        figures_of: COCO's ten figures with a set of parts replaced.
    """
    made: dict[frozenset[str], dict[str, float]] = {}

    def asked(replaced: frozenset[str]) -> dict[str, float]:
        if replaced not in made:
            made[replaced] = figures_of(replaced)
        return made[replaced]

    whole = asked(frozenset())
    nan = float("nan")
    steps = [Step(AS_IT_IS, whole["AP"], nan, whole["AP"], nan, "nothing is replaced", whole)]
    replaced: frozenset[str] = frozenset()
    for name, about in parts:
        replaced |= {name}
        figures, alone = asked(replaced), asked(frozenset({name}))["AP"]
        AP = figures["AP"]
        steps.append(Step(name, AP, AP - steps[-1].AP, alone, alone - whole["AP"], about, figures))
    return tuple(steps)


def subsets(parts: Sequence[str]) -> list[frozenset[str]]:
    """The sets of parts that `stepped` asks for."""
    growing = [frozenset(parts[:n]) for n in range(len(parts) + 1)]
    return list(dict.fromkeys([*growing, *(frozenset({part}) for part in parts)]))
