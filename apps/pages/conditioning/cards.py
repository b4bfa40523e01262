"""How the Conditioning page tells what is under way, and the verdict: every finding with its evidence."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np

from apps.pages.frame import sentence_html

if TYPE_CHECKING:
    from workbench.core.finding import Finding
    from workbench.core.job import Job
    from workbench.inspectors.conditioning.clinic import Clinic


def status_html(job: Job | None, whole: bool) -> str:
    """What runs, how far, how long; "" when nothing does."""
    if whole or job is None or job.state == "done":
        return ""
    mark = 'data-testid="clinic-status"'
    if job.state == "cancelled":
        text = "Cancelled: what was finished stands below. Measure goes on."
        return f'<div class="cnd-status" {mark}>{text}</div>'
    if job.state == "failed":
        return sentence_html(f"{job.title}: {job.error}", "error")
    left = job.seconds_left
    told = "waiting for its turn" if job.state == "queued" else f"step {job.done} of {job.total}"
    told += f", {left:.0f} s left" if left is not None and left >= 1 else ""
    bar = f'<progress max="{max(1, job.total)}" value="{job.done}"></progress>'
    return f'<div class="cnd-status" {mark}>{html.escape(job.title)}: {told}{bar}</div>'


def verdict_html(clinic: Clinic | None, whole: bool) -> str:
    """The card: what is wrong, what it costs, what to do; "" before anything is known."""
    if clinic is None:
        return ""
    count = len(clinic.findings)
    told = "Nothing wrong found" if not count else f"{count} finding{'s' * (count > 1)}"
    note = "" if whole else " <small>what each costs is being measured</small>"
    items = "".join(_finding(finding) for finding in clinic.findings)
    listed = f"<ol>{items}</ol>" if items else f"<p>{html.escape(clinic.paths.summary())}</p>"
    mark = "cnd-well" if not count else ""
    return (
        f'<section class="cnd-verdict {mark}" data-testid="clinic-verdict"><h2>{told}{note}</h2>{listed}'
        f"{_facts(clinic)}</section>"
    )


def _finding(finding: Finding) -> str:
    effect = finding.effect
    cost = ""
    if effect is not None:
        # Mending one defect alone may cost: then it is no reason for alarm.
        kind = "cnd-certain" if effect.low > 0 else ""
        word = "alone gives" if effect.high < 0 else "gives back"
        cost = (
            f'<b class="cnd-cost {kind}" title="AP on the set without it, less AP with it; 95 % interval">'
            f"{word} {effect.delta:+.3f} AP</b> <i>[{effect.low:+.3f}, {effect.high:+.3f}]</i>"
        )
    given = f" <i>(only if {html.escape(finding.assumption)})</i>" if finding.assumption else ""
    return (
        f'<li data-testid="clinic-finding"><b>{html.escape(finding.cause)}</b>{given} {cost}'
        f"<p>{html.escape(finding.evidence)}</p><p><i>Do:</i> {html.escape(finding.fix)}</p></li>"
    )


def _facts(clinic: Clinic) -> str:
    """The numbers that differ from epoch to epoch, in one row."""
    facts: list[tuple[str, str, str]] = []
    if clinic.ablation is not None:
        figures = clinic.ablation.reference.figures
        facts += [("AP", "AP as it is", f"{figures['AP']:.3f}"), ("AR", "AR", f"{figures['AR']:.3f}")]
    if clinic.film is not None:
        layer = clinic.film.layers[0]
        where = "" if clinic.film.at_inference else " in training alone"
        facts.append(("neck", "text in the neck", layer.verdict + where))
        if layer.gamma.size:
            facts.append(("gamma", "γ", f"{layer.gamma.mean():.3f} ± {layer.gamma.std():.3f}"))
            if np.isfinite(layer.gate):
                facts.append(("gate", "gate", f"{layer.gate:.3f}"))
        if np.isfinite(layer.change):
            facts.append(("change", "features change by", f"{100 * layer.change:.2g} %"))
    if clinic.scores is not None:
        raw, refined = np.median(clinic.scores.raw), np.median(clinic.scores.refined)
        facts.append(("scores", "median score, raw → refined", f"{raw:.3f} → {refined:.3g}"))
    cells = "".join(
        f'<span><i>{html.escape(label)}</i><b data-testid="clinic-{name}">{html.escape(value)}</b></span>'
        for name, label, value in facts
    )
    protocol = "" if clinic.ablation is None else clinic.ablation.reference.protocol.text()
    shown = f'<p class="wb-protocol">{html.escape(protocol)}</p>' if protocol else ""
    return f'<div class="cnd-facts">{cells}</div>{shown}'
