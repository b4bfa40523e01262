"""One row per keypoint in the order of grouping: its detections, what they cost, who joined whom. As HTML."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np

from workbench.figures.drawing import person_colour

if TYPE_CHECKING:
    from workbench.decoding.grouping import JointStep
    from workbench.inspectors.grouping.replay import Replay

# More do not fit a row; the CSV has all of them.
MOST = 10

_WORDS = {"joined": "joined", "new": "new", "overwrote": "over", "dropped": "dropped"}


def strip_html(replay: Replay, drawn: tuple[int, ...]) -> str:
    """The table of all steps; those after the one shown are pale, and detections of people not drawn."""
    head = "".join(
        f"<th>{word}</th>"
        for word in (
            "",
            "keypoint",
            "detections: heatmap value, tag, whom they joined",
            "tag distance to each person so far",
        )
    )
    rows = [_row(replay, number, step, drawn) for number, step in enumerate(replay.steps, 1)]
    return f'<table class="grp-strip"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _row(replay: Replay, number: int, step: JointStep, drawn: tuple[int, ...]) -> str:
    marks = " ".join(
        ["grp-now"] * (number == replay.shown < len(replay.steps)) + ["grp-later"] * (number > replay.shown)
    )
    name = html.escape(replay.name(step))
    chips = "".join(_chip(step, m, drawn) for m in range(min(len(step.values), MOST)))
    more = len(step.values) - MOST
    chips += f'<span class="grp-more">and {more} more</span>' if more > 0 else ""
    chips = chips or '<span class="grp-more">none above the threshold</span>'
    return (
        f'<tr class="{marks}" data-testid="step-{number}"><td>{number}</td><th>{name}</th><td>{chips}</td>'
        f"<td>{_matrix(replay, step)}</td></tr>"
    )


def _chip(step: JointStep, m: int, drawn: tuple[int, ...]) -> str:
    person, outcome = step.people[m], step.outcomes[m]
    ink = "var(--wb-quiet)" if person is None else person_colour(person)
    whom = "" if person is None else f"<b>{person + 1}</b>"
    how = _WORDS[outcome]
    near = "" if outcome != "joined" else f" at {step.distances[m, person or 0]:.2f}"
    tag = ", ".join(f"{t:.2f}" for t in step.tags[m])
    other = "" if person is None or person in drawn else " grp-other"
    number = "" if person is None else f" {person + 1}"
    told = f"detection {m + 1}: heatmap {step.values[m]:.3f}, tag {tag}, {how}{number}{near}"
    marks = f"grp-chip grp-{outcome}{other}"
    return (
        f'<span class="{marks}" style="--ink:{ink}" title="{html.escape(told, quote=True)}">'
        f"<i>{step.values[m]:.2f}</i> {step.tags[m][0]:.2f} <em>{how}</em> {whom}</span>"
    )


def _matrix(replay: Replay, step: JointStep) -> str:
    """Distances as a small shaded table: rows are detections, columns people; who was joined is framed."""
    M, G = min(len(step.values), MOST), min(len(step.means), MOST)
    if not M or not G:
        return ""
    threshold = max(replay.settings.tag_threshold, 1e-9)
    heads = "".join(f'<th style="color:{person_colour(g)}">{g + 1}</th>' for g in range(G))
    body = []
    for m in range(M):
        cells = []
        for g in range(G):
            distance = float(step.distances[m, g])
            # Full at 0, gone at twice the threshold.
            share = 100 * float(np.clip(1 - distance / (2 * threshold), 0, 1))
            mine = step.people[m] == g and step.outcomes[m] == "joined"
            cost = f", cost {step.costs[m, g]:.1f}" if step.costs.size else ""
            told = f"detection {m + 1}, person {g + 1}: distance {distance:.3f}{cost}"
            style = f"--near:{share:.0f}%;--ink:{person_colour(g)}"
            frame = "grp-mine" if mine else ""
            cells.append(f'<td class="{frame}" style="{style}" title="{told}">{_short(distance)}</td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f'<table class="grp-costs"><tr>{heads}</tr>{"".join(body)}</table>'


def _short(distance: float) -> str:
    return f"{distance:.2f}" if distance < 9.995 else f"{distance:.0f}"
