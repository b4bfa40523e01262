"""AP on the set as a card under the knobs: figures, the change from the published rules, how far a job is."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apps.pages.grouping.on_set import OnSet
    from workbench.core.job import Job

SHOWN = ("AP", "AP50", "AP75", "APM", "APL", "AR")


def card_html(
    found: OnSet | None, plain: OnSet | None, job: Job | None, data: str, stale: OnSet | None = None
) -> str:
    """The card; while a job runs, what was found before stays, paler.

    Args:
        found: for the rules asked for.
        plain: for the knobs' defaults.
        job: at work on it.
        data: name of the set.
        stale: the answer to the rules before.
    """
    shown = found or stale
    alive = job is not None and job.alive
    parts = [f'<div class="grp-card" data-testid="set-card" data-state="{_state(found, job)}">']
    if shown is not None:
        parts.append(_figures(shown, plain, pale=found is None))
        parts.append(f'<p class="wb-protocol">{html.escape(_about(shown, data))}</p>')
    elif not alive:
        parts.append(f"<p>{html.escape(_why(job, data))}</p>")
    if alive and job is not None and (found is None or plain is None):
        parts.append(_progress(job))
    elif found is None and shown is not None:
        parts.append(f"<p>{html.escape(_why(job, data))}</p>")
    return "".join([*parts, "</div>"])


def _state(found: OnSet | None, job: Job | None) -> str:
    return "ready" if found is not None else job.state if job is not None else "none"


def _figures(shown: OnSet, plain: OnSet | None, pale: bool) -> str:
    boxes = []
    for name in SHOWN:
        value = _figure(shown, name)
        change = ""
        difference = math.nan if plain is None else value - _figure(plain, name)
        if shown is not plain and not math.isnan(difference):
            mark = "grp-up" if difference > 0.0005 else "grp-down" if difference < -0.0005 else ""
            change = f'<small class="{mark}" data-testid="set-change-{name}">{difference:+.3f}</small>'
        boxes.append(f'<span><i>{name}</i><b data-testid="set-{name}">{_number(value)}</b>{change}</span>')
    for words, name, count in (
        ("people", "found", shown.reached.found),
        ("annotated", "annotated", shown.reached.annotated),
    ):
        boxes.append(f'<span><i>{words}</i><b data-testid="set-{name}">{count}</b></span>')
    return f'<div class="grp-figures{" grp-pale" if pale else ""}">{"".join(boxes)}</div>'


def _figure(found: OnSet, name: str) -> float:
    return found.reached.figures.get(name, math.nan)


def _number(value: float) -> str:
    return "\u2013" if math.isnan(value) else f"{value:.3f}"


def _about(shown: OnSet, data: str) -> str:
    part = (
        f"all {shown.of}"
        if shown.reached.images == shown.of
        else f"the first {shown.reached.images} of {shown.of}"
    )
    moved = f" with {shown.moved}" if shown.moved else ""
    return f"on {part} images of {data}{moved}; changes are against the knobs' defaults; {shown.protocol}"


def _why(job: Job | None, data: str) -> str:
    if job is not None and job.state == "cancelled":
        return f"AP on {data} was cancelled; move a knob to ask again"
    if job is not None and job.error:
        return f"AP on {data}: {job.error}"
    return f"AP on {data} is not computed yet"


def _progress(job: Job) -> str:
    left = job.seconds_left
    more = f", {left:.0f} s left" if left is not None else ""
    words = f"{job.title}: {job.done} of {job.total}{more}" if job.total else f"{job.title}: {job.state}"
    value = f' value="{job.done}" max="{job.total}"' if job.total else ""
    return f'<p class="grp-job"><progress{value}></progress> <span>{html.escape(words)}</span></p>'
