"""Curves drawn: losses, metrics and learning rate of one or several runs over one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.curves.quantities import role_of, short
from workbench.figures import FINDING_COLOUR, RUN_COLOURS, new_figure, rgba

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.curves.table import Curves, Series

# Points of one line: more are not seen on a screen; peaks are kept.
MOST_POINTS = 2000
_ROWS = (("metric", "metric"), ("error", "distance"), ("loss", "loss"), ("rate", "learning rate"))
_DASHES = ("solid", "dot", "dash", "dashdot", "longdash")
_MOST_LINES = 5


def plotted(runs: Sequence[Curves], names: Sequence[str] = (), title: str = "") -> Figure:
    """One figure with a row for each kind of quantity that is there.

    Args:
        runs: at most so many as there are colours are told apart by them.
        names: series to draw, as `Curves.get` finds them; by default the headline, AP, AR and PCK, the losses
            and the learning rate.
        title: of the figure; the first run's sentence by default.
    """
    chosen = [(i, series) for i, run in enumerate(runs) for series in _chosen(run, names)]
    unit = "epoch" if any(s.unit == "epoch" for _, s in chosen) else "iteration"
    # One axis cannot count both; CurvesReport says which runs are left out.
    chosen = [(i, series) for i, series in chosen if series.unit == unit]
    kinds = [kind for kind, _ in _ROWS if any(role_of(s.name) == kind for _, s in chosen)] or ["metric"]
    figure = new_figure(title or runs[0].summary(), height=140 + 220 * len(kinds))
    # Below: many names take several rows, which would lie over the title.
    figure.update_layout(legend={"y": -0.14 / len(kinds), "yanchor": "top"})
    _axes(figure, kinds, unit)
    styles: dict[str, str] = {}
    for run, series in chosen:
        kind = role_of(series.name)
        if kind not in kinds:
            continue
        dash = styles.setdefault(series.label, _DASHES[len(styles) % len(_DASHES)])
        x, value = thinned(series.drawn_x(), series.value)
        who = f"{runs[run].title}: " if len(runs) > 1 else ""
        figure.add_scatter(
            x=x.astype(np.float32), y=value.astype(np.float32), name=f"{who}{series.label}",
            yaxis=_axis(kinds, kind),
            mode="lines+markers" if len(x) <= 60 else "lines", marker={"size": 5},
            line={"color": RUN_COLOURS[run % len(RUN_COLOURS)], "dash": dash, "width": 1.6},
            meta={"run": run, "name": series.name, "split": series.split},
            hovertemplate=f"{unit} %{{x:.4g}}: {short(series.name)} %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    for run in runs[:1]:
        _mark(figure, run, unit)
    return figure


def _axes(figure: Figure, kinds: Sequence[str], unit: str) -> None:
    """One y axis per kind, above each other over one x axis."""
    named, gap = dict(_ROWS), 0.06
    height = (1 - gap * (len(kinds) - 1)) / len(kinds)
    for row, kind in enumerate(kinds):
        top = 1 - row * (height + gap)
        axis: dict[str, Any] = {"domain": [max(top - height, 0), top], "title": {"text": named[kind]}}
        figure.update_layout({f"yaxis{'' if row == 0 else row + 1}": axis})
    last = "y" if len(kinds) == 1 else f"y{len(kinds)}"
    figure.update_layout(xaxis={"title": {"text": unit}, "anchor": last})


def _axis(kinds: Sequence[str], kind: str) -> str:
    row = list(kinds).index(kind)
    return "y" if row == 0 else f"y{row + 1}"


def _chosen(run: Curves, names: Sequence[str]) -> list[Series]:
    if names:
        return [series for name in names if (series := run.get(name)) is not None]
    headline = run.headline
    found = [headline] if headline is not None else []
    found += [s for word in ("AP", "AR", "PCK", "pck") if (s := run.get(word)) is not None]
    losses = [s for s in run.series if role_of(s.name) == "loss"][:_MOST_LINES]
    # A single part of a loss is the loss again.
    first = run.loss
    found += [s for s in losses if s is first or first is None or not np.array_equal(s.value, first.value)]
    found += [s for s in run.series if role_of(s.name) == "rate" and short(s.name) in ("lr", "lr/pg0")][:1]
    return list(dict.fromkeys(found)) or list(run.series[:_MOST_LINES])


def _mark(figure: Figure, run: Curves, unit: str) -> None:
    """Shade what the flags of warnings and errors name."""
    marked = set()
    for flag in run.flags:
        words = flag.where.split()
        if flag.severity == "remark" or not words or words[0] != unit or flag.where in marked:
            continue
        marked.add(flag.where)
        numbers = [
            float(w)
            for w in (words[1].rstrip(","), words[3] if words[2:3] == ["to"] else "")
            if _is_number(w)
        ]
        if not numbers:
            continue
        figure.add_vrect(
            x0=numbers[0] - 0.5 * (len(numbers) == 1), x1=numbers[-1] + 0.5 * (len(numbers) == 1),
            fillcolor=rgba(FINDING_COLOUR, 0.10), line_width=0, layer="below",
        )  # fmt: skip


def _is_number(word: str) -> bool:
    try:
        return np.isfinite(float(word))
    except ValueError:
        return False


def thinned(x: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most MOST_POINTS points: of each stretch the lowest and the highest, so that peaks stay."""
    finite = np.isfinite(x) & np.isfinite(value)
    x, value = x[finite], value[finite]
    if len(x) <= MOST_POINTS:
        return x, value
    extremes = []
    for part in np.array_split(np.arange(len(x)), MOST_POINTS // 2):
        low, high = part[value[part].argmin()], part[value[part].argmax()]
        extremes += sorted({int(low), int(high)})
    return x[extremes], value[extremes]
