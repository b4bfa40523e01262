"""Several runs' curves as one report: their figures side by side, their flags, and those between them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable, nearest
from workbench.core.finding import Finding, ranked
from workbench.core.report import Report, plain
from workbench.curves.flags import ap_and_ar, flags_between
from workbench.curves.quantities import role_of, short
from workbench.curves.table import Curves, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from plotly.graph_objects import Figure


def distinct(runs: Iterable[Curves]) -> tuple[Curves, ...]:
    """Runs whose titles differ: a second `metrics` is called `metrics (2)`."""
    seen: Counter[str] = Counter()
    found = []
    for run in runs:
        seen[run.title] += 1
        number = seen[run.title]
        found.append(run if number == 1 else replace(run, title=f"{run.title} ({number})"))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class CurvesReport(Report):
    """Curves of one or several runs; the first is the base that the others are compared with.

    Attributes:
        runs: in the order given.
        names: series to draw; () for the usual ones.
        more: flags that rest on more than the logs, with the run's title.
    """

    runs: tuple[Curves, ...]
    names: tuple[str, ...] = ()
    more: tuple[tuple[str, Finding], ...] = ()

    def check(self) -> None:
        """Raise NotAvailable where a series was asked for that no run has."""
        for name in self.names:
            if all(run.get(name) is None for run in self.runs):
                known = {label for run in self.runs for s in run.series for label in (s.name, short(s.name))}
                raise NotAvailable(
                    f"no series {name!r} in these logs; nearest: {nearest(name, sorted(known))}"
                )

    @property
    def undrawn(self) -> list[str]:
        """Titles of runs that count iterations where others count epochs: one axis cannot hold both."""
        units = {run.title: _unit(run) for run in self.runs}
        return (
            [title for title, unit in units.items() if unit == "iteration"]
            if "epoch" in units.values()
            else []
        )

    @property
    def flags(self) -> list[tuple[str, Finding]]:
        """Every flag with its run's title, the most important first."""
        found = [(run.title, flag) for run in self.runs for flag in run.flags]
        # Runs of another task, without AP and AR, are no base.
        comparable = [run for run in self.runs if ap_and_ar(run) is not None]
        found += [(run.title, flag) for run in comparable[1:] for flag in flags_between(run, comparable[0])]
        found += self.more
        order = {id(flag): i for i, flag in enumerate(ranked([flag for _, flag in found]))}
        return sorted(found, key=lambda pair: order[id(pair[1])])

    def summary(self) -> str:
        text = "; ".join(
            run.summary().partition(". Flags")[0].removesuffix("; nothing stands out") for run in self.runs
        )
        if self.undrawn:
            text += f". Not drawn, as the others count epochs: {', '.join(self.undrawn)} (iterations)"
        flags = self.flags
        if not flags:
            return f"{text}. Nothing stands out."
        worst = [f"{flag.cause} ({who})" if len(self.runs) > 1 else flag.cause for who, flag in flags[:3]]
        count = "1 flag" if len(flags) == 1 else f"{len(flags)} flags"
        return f"{text}. {count}: {', '.join(worst)}{' ...' if len(flags) > 3 else ''}"

    def text(self) -> list[str]:
        """Lines for a terminal: every run with its best and last figures, notes and flags."""
        lines = [self.summary()]
        for run in self.runs:
            files = "" if run.files == (run.title,) else f": {', '.join(run.files)}"
            lines += ["", f"{run.title} ({run.format}{files})", *self._figures(run)]
            lines += [f"  note: {note}" for note in run.notes]
        flags = self.flags
        lines += ["", "flags:" if flags else "flags: none"]
        for who, flag in flags:
            lines.append(f"* {who}, {flag.cause}{f' ({flag.where})' if flag.where else ''}: {flag.evidence}")
            lines += [f"  -> {flag.fix}"] if flag.fix else []
        return lines

    def _figures(self, run: Curves) -> list[str]:
        shown = [s for name in self.names if (s := run.get(name)) is not None] or [
            s for s in run.series if role_of(s.name) != "other"
        ]
        lines = []
        width = max((len(s.label) for s in shown[:20]), default=0)
        for s in shown[:20]:
            x, value = s.by_epoch()
            if not len(x):
                continue
            lowest = role_of(s.name) in ("loss", "error", "rate")
            best = int(np.argmin(value) if lowest else np.argmax(value))
            word = "lowest" if lowest else "highest"
            lines.append(
                f"  {s.label:{width}}  {word} {value[best]:<9.4g} at {s.unit} {x[best]:<6g} "
                f"last {value[-1]:<9.4g} at {x[-1]:g}"
            )
        if len(shown) > 20:
            lines.append(f"  {len(shown) - 20} more series: see --json")
        for stated in run.stated:
            at = "" if np.isnan(stated.epoch) else f" at epoch {stated.epoch:g}"
            lines.append(f"  {stated.kind}, as stated: {stated.name} {stated.value:.4g}{at}")
        return lines

    def plot(self) -> Figure:
        from workbench.curves.plot import plotted

        return plotted(self.runs, self.names, self.summary())

    def table(self) -> Sequence[dict[str, Any]]:
        return rows_of(self.runs)

    def to_findings(self) -> tuple[Finding, ...]:
        return tuple(flag for _, flag in self.flags)

    def to_json(self) -> dict[str, Any]:
        """summary, runs, series and flags (kind, where, evidence and the whole finding), as plain data."""
        return plain(self.facts())

    def facts(self) -> dict[str, Any]:
        """The same as `to_json`, with arrays as the numbers of the series: lists take ten times as much."""
        runs = [
            {
                "title": run.title, "format": run.format, "files": run.files, "notes": run.notes,
                "headline": None if run.headline is None else run.headline.name,
                "best": None if run.best is None else {"at": run.best[0], "value": run.best[1]},
                "stated": run.stated, "restarts": run.restarts,
            }
            for run in self.runs
        ]  # fmt: skip
        series = [
            {
                "run": run.title, "name": s.name, "split": s.split, "unit": s.unit,
                "epoch": s.epoch, "iteration": s.iteration, "value": s.value,
            }
            for run in self.runs
            for s in run.series
        ]  # fmt: skip
        flags = [{"run": who, "kind": flag.cause, **flag.facts()} for who, flag in self.flags]
        return {"summary": self.summary(), "runs": plain(runs), "series": series, "flags": plain(flags)}


def _unit(run: Curves) -> str:
    """What most series of a run count."""
    return "epoch" if any(series.unit == "epoch" for series in run.series) else "iteration"
