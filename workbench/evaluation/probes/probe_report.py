"""What a probe gave: every alternative with its numbers, and the findings that follow from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.finding import Finding
from workbench.core.report import Report, counted, ends_text, plain, signed_text
from workbench.evaluation.probes.intervention import NotTried

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

LEAST = 0.02
"""Gain of OKS or PCK below which no cause is named. Alternatives that hardly differ from what a network was
trained with (another padding, another published mean) reach .01 on a healthy model by chance."""

LEARNED = 0.2
"""Mean OKS or PCK below which a network finds too little for its input or flip test to be
called right: networks of a few hundred steps ask for any mirror pairs (OKS .005 to .03)."""

DOUBTLESS = 0.2
"""Change of OKS or PCK that is none of chance, where too few samples give no interval."""

LEAST_SHARE = 0.5
"""Of a fine shift: above it, moving the keypoints brings them nearer to the labels than leaving them."""

EXPLAINED = (2 / 3, 3 / 2)
"""Shares of a fine shift that it explains: errors of another size have another cause (a network trained with
few images is off by a pixel in some direction)."""


@dataclass(frozen=True)
class Trial:
    """One alternative, measured.

    Attributes:
        name: of the intervention.
        cause: what is wrong with the model if the alternative is better.
        about: what it changes.
        fix: what to do if it is better.
        base: mean OKS (or PCK) of the model it is compared with.
        value: the same with the alternative.
        delta: value less base.
        low: lower end of the interval of delta; nan where too few samples were measured (see `fewest_units`).
        high: upper end.
        share: of a fine shift, how much of it the labels ask for; nan for others.
        share_low: lower end of its interval.
        share_high: upper end.
        pixels: of a fine shift, how far it moves keypoints on average, input pixels; nan for others.
        fine: judged by its share.
        round: 1 on the model as it is opened, 2 on the model with the first finding mended, ...
    """

    name: str
    cause: str
    about: str
    fix: str
    base: float
    value: float
    delta: float
    low: float
    high: float
    share: float = math.nan
    share_low: float = math.nan
    share_high: float = math.nan
    pixels: float = math.nan
    fine: bool = False
    round: int = 1

    @property
    def better(self) -> bool:
        """The alternative is better than the model, beyond chance and beyond what hardly matters."""
        if self.fine:
            low, high = EXPLAINED
            return self.share_low > LEAST_SHARE and low <= self.share <= high
        # Of few samples there is no interval: the step itself must be beyond doubt.
        return self.delta > LEAST and (self.low > 0 if math.isfinite(self.low) else self.delta > DOUBTLESS)

    @property
    def undecided(self) -> bool:
        """It would matter, and these samples are too few to tell it from chance."""
        return not self.fine and not self.better and self.delta > LEAST

    @property
    def verdict(self) -> str:
        """What the interval allows to say: of the share of a fine shift, of the change for all others.

        ``better``; ``ruled out``, worse beyond chance; ``hardly better``, beyond chance by `LEAST` or less;
        ``no difference`` above `LEAST` either way; else, and of too few samples, ``not decided``.
        """
        if self.better:
            return "better"
        if self.fine:
            return "not what the errors ask for" if self._unasked else "not decided"
        if not math.isfinite(self.high):
            return "ruled out" if self.delta < -DOUBTLESS else "not decided"
        if self.high < 0:
            return "ruled out"
        if self.low > 0:
            return "hardly better" if self.delta <= LEAST else "not decided"
        return "no difference" if max(-self.low, self.high) <= LEAST else "not decided"

    @property
    def _unasked(self) -> bool:
        """Of a fine shift: the errors ask for less than half of it, or are far from it in size."""
        low, high = EXPLAINED
        return self.share_high < LEAST_SHARE or self.share_low > high or self.share_high < low


@dataclass(frozen=True, eq=False)
class ProbeReport(Report):
    """The alternatives of one probe, what they gave, and what follows.

    Attributes:
        title: of the model and the data.
        question: what was probed: ``input``.
        measure: ``OKS`` or ``PCK@0.05``.
        value: of the model as it is opened, mean over the samples.
        samples: labelled instances.
        images: they are in.
        trials: every alternative.
        not_tried: causes that could not be examined, with the reason.
        findings: causes that were named, the largest effect first.
        protocol: how everything was measured.
    """

    title: str
    question: str
    measure: str
    value: float
    samples: int
    images: int
    trials: tuple[Trial, ...]
    not_tried: tuple[NotTried, ...]
    findings: tuple[Finding, ...]
    protocol: str

    def summary(self) -> str:
        causes = len({t.cause for t in self.trials})
        head = f"{self.title}: {self.measure} {self.value:.3f} on {counted(self.samples, 'instance')}"
        tried = f"{len(self.trials)} alternatives of {counted(causes, 'cause')} were tried"
        if self.findings:
            found = "; ".join(f"{f.cause}: {f.evidence}" for f in self.findings)
            return f"{head}; {tried}. Found: {found}. {self.findings[0].fix}"
        nearest = max((t for t in self.trials if not t.fine), key=lambda t: t.delta, default=None)
        near = "" if nearest is None else f" (the nearest is {nearest.name}, {signed_text(nearest.delta)})"
        if nearest is not None and nearest.undecided:
            return (
                f"{head}; {tried}, and none is better beyond chance. {nearest.name} is not decided: "
                f"{signed_text(nearest.delta)} {ends_text(nearest.low, nearest.high)} with "
                f"{counted(self.images, 'image')}; measure more (--limit)"
            )
        if self.value < LEARNED:
            return (
                f"{head}; {tried}, and none is better{near}. With a value this low that does not show that "
                f"the {self.question} is right: look at the weights (workbench load) and the labels."
            )
        return f"{head}; {tried}, and none is better{near}: the {self.question} is as the network expects it."

    def text(self) -> str:
        """The summary, every alternative with its numbers, and what could not be tried."""
        width = max((len(t.name) for t in self.trials), default=0)
        lines = [self.summary(), "", f"{'alternative':{width}}  {self.measure:>9}  change (interval)"]
        for t in self.trials:
            interval = ends_text(t.low, t.high)
            ends = ends_text(t.share_low, t.share_high, "+.2f")
            share = f"; the errors hold {signed_text(t.share, '+.2f')} {ends} of it" if t.fine else ""
            lines.append(
                f"{t.name:{width}}  {t.value:9.3f}  {signed_text(t.delta)} {interval}  {t.verdict}, "
                f"{t.cause}{share}"
            )
        lines += [f"not tried: {one.cause}: {one.reason}" for one in self.not_tried]
        lines += [f"finding: {finding.text()}" for finding in self.findings]
        return "\n".join([*lines, f"protocol: {self.protocol}"])

    def plot(self) -> Figure:
        from workbench.figures import FINDING_COLOUR, QUIET_COLOUR
        from workbench.figures.bars import Bars, bars_figure

        deltas = np.array([t.delta for t in self.trials])
        reach = max(float(np.nanmax(np.abs(deltas), initial=0)), 0.01) * 1.1
        colours = [FINDING_COLOUR if t.better else QUIET_COLOUR for t in self.trials]
        notes = [f"{t.cause}: {t.about}; {t.verdict}" for t in self.trials]
        widths = np.array([(t.high - t.low) / 2 for t in self.trials])
        column = Bars(f"{self.measure} beyond the model as it is opened", deltas, colours, notes=notes,
                      span=(-reach, reach), whiskers=np.nan_to_num(widths))  # fmt: skip
        return bars_figure(self.summary(), [t.name for t in self.trials], [column])

    def table(self) -> list[dict[str, Any]]:
        return [{**plain(trial), "verdict": trial.verdict} for trial in self.trials]

    def to_findings(self) -> tuple[Finding, ...]:
        return self.findings

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "trials": self.table()}
