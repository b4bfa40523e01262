"""How the Rollout page tells what is under way, and both epochs in one table that leads to the figures."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from apps.pages.frame import sentence_html

if TYPE_CHECKING:
    from apps.pages.rollout.lab import Lab
    from apps.pages.rollout.wishes import Wish
    from workbench.core.job import Job
    from workbench.core.report import Report


def status_html(job: Job | None) -> str:
    """What runs, how far, how long; "" when nothing does."""
    if job is None or job.state == "done":
        return ""
    if job.state == "cancelled":
        text = "Cancelled: what was finished stands below; change anything above to go on."
        return f'<div class="rol-status" data-testid="rollout-status">{text}</div>'
    if job.state == "failed":
        return sentence_html(f"{job.title}: {job.error}", "error")
    left = job.seconds_left
    told = f"{job.done} of {job.total}" if job.total else "waiting"
    told += f", {left:.0f} s left" if left is not None and left >= 1 else ""
    bar = f'<progress max="{max(1, job.total)}" value="{job.done}"></progress>'
    return f'<div class="rol-status" data-testid="rollout-status">{html.escape(job.title)}: {told}{bar}</div>'


def answer_html(lab: Lab, wish: Wish) -> str:
    """The finding in one sentence; "" while the first question is open."""
    from workbench.inspectors.sequence.forced_and_free import ForcedAndFree, diagnosis
    from workbench.inspectors.sequence.support import SupportUse

    found = [lab.found(wish, "forced_and_free", epoch) for epoch in wish.epochs]
    last = found[-1]
    if isinstance(last, str):
        return sentence_html(last, "why")
    if not isinstance(last, ForcedAndFree):
        return ""
    epochs = lab.context.registry.run(wish.run).epochs
    parts = [f"{epochs[wish.epochs[-1]].label}: {diagnosis(last)}"]
    first = found[0]
    if len(found) > 1 and isinstance(first, ForcedAndFree):
        label = epochs[wish.epochs[0]].label
        parts.append(f"{label} had {first.pck_forced:.2f} forced, {first.pck_free:.2f} free")
    support = lab.found(wish, "support", wish.epochs[-1])
    if isinstance(support, SupportUse):
        parts.append(f"the support is {support.verdict}")
    checked: Any = lab.found(wish, "coordinates", wish.epochs[-1])
    if checked is not None and not isinstance(checked, str) and not checked.agree:
        wrong = ", ".join(claim.what for claim in checked.claims if not claim.agrees)
        parts.append(f"not to be believed: {wrong}")
    return sentence_html("; ".join(parts))


def facts_html(lab: Lab, wish: Wish) -> str:
    """One row per fact, one column per epoch; a row's name leads to its section."""
    from workbench.inspectors.sequence.forced_and_free import ForcedAndFree

    epochs = lab.context.registry.run(wish.run).epochs
    letters = "AB" if len(wish.epochs) > 1 else "B"
    heads = "".join(
        f'<th scope="col"><i>{letter}</i> {html.escape(epochs[i].label)}</th>'
        for letter, i in zip(letters, wish.epochs, strict=True)
    )
    rows = []
    for name, question, tell in FACTS:
        cells = []
        for letter, epoch in zip(letters, wish.epochs, strict=True):
            found = lab.found(wish, question, epoch)
            told = "…" if found is None else "–" if isinstance(found, str) else tell(found)
            mark = f"rollout-{name.replace(' ', '-').replace(',', '')}-{letter}"
            cells.append(f'<td data-testid="{mark}">{html.escape(told)}</td>')
        link = f'<a href="#rol-{question}">{html.escape(name)}</a>'
        rows.append(f'<tr><th scope="row">{link}</th>{"".join(cells)}</tr>')
    rule = lab.found(wish, "forced_and_free", max(wish.epochs))
    note = ""
    if isinstance(rule, ForcedAndFree):
        told = f"{rule.rule}; with these keypoints it can only be {rule.steps_of_pck}"
        note = f'<p class="wb-protocol">{html.escape(told)}</p>'
    return (
        f'<div class="wb-card rol-facts"><table><tr><td></td>{heads}</tr>{"".join(rows)}</table>{note}</div>'
    )


def _half(report: Any) -> str:
    return "none" if report.pck[0] >= 1 else f"{report.half} of {report.k[-1]}"


def _end(report: Any) -> str:
    at, K = int(report.ends_at[1].min()), report.K
    if at == K:
        return "after the last keypoint"
    return f"early, at step {at} of {K}" if at < K else "never comes"


def _claims(report: Any) -> str:
    wrong = [claim.what for claim in report.claims if not claim.agrees]
    return f"disagree: {', '.join(wrong)}" if wrong else "agree"


FACTS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("PCK forced", "forced_and_free", lambda r: f"{r.pck_forced:.2f}"),
    ("PCK free", "forced_and_free", lambda r: f"{r.pck_free:.2f}"),
    ("gap", "forced_and_free", lambda r: f"{r.gap:+.2f}"),
    ("true tokens for half of the gap", "prefix", _half),
    ("gain of an error, later steps", "corruption", lambda r: f"{r.gain_at_end:.2f}"),
    ("support", "support", lambda r: f"{r.verdict} (answers move by up to {r.most_moved:.1%})"),
    ("end of sequence", "calibration", _end),
    ("token types right", "calibration", lambda r: f"{r.right[1]:.0%}"),
    ("loss, metric, picture", "coordinates", _claims),
)
"""Name, question that it comes from, and how a report tells it."""


def shown(found: Report | str | None) -> str:
    """A section's sentence: the report's, or why there is none."""
    if found is None:
        return sentence_html("…", "why")
    return sentence_html(found, "why") if isinstance(found, str) else sentence_html(found.summary())
