"""Where does the session stand, and how did it end? In words."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.overfit.attempts import Attempt
from apps.pages.frame import sentence_html

if TYPE_CHECKING:
    from workbench.training.session import Status

# Speed over this many steps: long enough to be steady, short enough to follow a slower phase.
RECENT = 20


def status_html(attempt: Attempt) -> str:
    """State, step, loss, PCK, learning rate, speed, time left."""
    now, rows = attempt.session.status(), attempt.rows
    facts = [("", f'<b class="ovf-state ovf-{now.state}" data-testid="overfit-state">{now.state}</b>')]
    facts.append(("step", f'<b data-testid="overfit-step">{now.step}</b> of {now.steps}'))
    if rows:
        facts.append(("loss", f"<b>{rows[-1]['loss']:.3g}</b>"))
    measured = next((row for row in reversed(rows) if row.get("pck") is not None), None)
    if measured:
        facts.append(
            ("PCK @ 0.05 of the box", f"<b>{_share(measured['pck'])}</b> evaluation, "
             f"<b>{_share(measured['pck_train'])}</b> training mode (step {measured['step']})")
        )  # fmt: skip
    facts.append(("learning rate", f"{attempt.session.trainer.lr():.2g}"))
    if rows:
        recent = [row["seconds"] for row in rows[-RECENT:]]
        facts.append(("", f"{len(recent) / sum(recent):.2g} steps/s"))
    if math.isfinite(now.seconds_left):
        facts.append(("", f"{now.seconds_left:.0f} s left"))
    spans = "".join(f"<span>{f'<i>{name}</i>' if name else ''}{value}</span>" for name, value in facts)
    return (
        f'<div class="ovf-status">{spans}<progress max="{now.steps}" value="{now.step}"></progress>'
        f"<em>{html.escape(_under(attempt, now))}</em></div>"
    )


def _share(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) and math.isfinite(value) else "?"


def _under(attempt: Attempt, now: Status) -> str:
    said = f"{attempt.made.title} on {attempt.wishes.device}"
    recipe = attempt.made.recipe
    if recipe is not None:
        said += f"; training of the config: {'; '.join(recipe.used) or 'nothing of it can be used'}"
        said += f"; not used: {'; '.join(recipe.unused)}" if recipe.unused else ""
    elif attempt.wishes.config:
        said += "; training by this page's values, not by the config's"
    if now.state == "waiting":
        return f"{said}: waits up to {attempt.wishes.wait:g} s because {now.reason}; Resume or Step goes on"
    files = attempt.snapshots()
    if files:
        said += f"; {len(files)} snapshot{'s' * (len(files) > 1)} in {_short(attempt.folder)}"
    return said


def _short(folder: Path) -> str:
    """As a shell shows it: the home folder is ~."""
    home = Path.home()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)


def verdict_html(attempt: Attempt) -> str:
    """The card at the end: expected, came, the culprit, the command; "" while it runs."""
    if attempt.mistake:
        return sentence_html(attempt.mistake, "error")
    verdict = attempt.verdict
    if verdict is None:
        return ""
    stopped = " (stopped early)" if attempt.state == "stopped" else ""
    command = f'<code data-testid="overfit-command">{html.escape(attempt.made.command)}</code>'
    lines = [
        ("expected", html.escape(verdict.expected)),
        ("came", html.escape(verdict.came)),
        *([("and", "<br>".join(map(html.escape, attempt.wrong)))] if attempt.wrong else []),
        *([("cause", _cause(attempt))] if attempt.job else []),
        *_config_rows(attempt),
        ("again", command + _held(attempt)),
    ]
    rows = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in lines)
    return (
        f'<section class="ovf-verdict {"ovf-learned" if verdict.learned else ""}" '
        'data-testid="overfit-verdict">'
        f'<h2>{verdict.outcome}{stopped}</h2><table class="wb-facts">{rows}</table></section>'
    )


def _config_rows(attempt: Attempt) -> list[tuple[str, str]]:
    """What of the config's own training was used, and what was not."""
    recipe = attempt.made.recipe
    if recipe is None:
        return []
    found = [("config", f'<span data-testid="overfit-config">used: {_listed(recipe.used)}</span>')]
    return [*found, *([("", f"not used: {_listed(recipe.unused)}")] if recipe.unused else [])]


def _listed(words: Sequence[str]) -> str:
    return html.escape("; ".join(words) or "nothing that is known here")


def _held(attempt: Attempt) -> str:
    """What a hand did that the command does not repeat."""
    rate = attempt.session.trainer.peak_learning_rate
    if rate == attempt.made.plan.settings.learning_rate:
        return ""
    return f"<br>The learning rate was set to {rate:.3g} while it paused; the command does not repeat that."


def _cause(attempt: Attempt) -> str:
    job = attempt.job
    if job is None:
        return ""
    if job.state == "queued":
        return "waits for its turn on the device"
    if job.state == "running":
        left = "" if job.seconds_left is None else f", at most {job.seconds_left:.0f} s"
        return (
            f"trying without <b>{html.escape(attempt.trying or '...')}</b>"
            f'<progress max="{max(job.total, 1)}" value="{job.done}"></progress>{job.done} of '
            f"{job.total} steps{left}"
        )
    said = {
        "failed": html.escape(job.error or "the bisection failed"),
        "cancelled": "the bisection was cancelled",
    }.get(job.state, "")
    if not said:
        said = (
            f'<b data-testid="overfit-culprit">{html.escape(attempt.culprit)}</b>: without it, '
            f"{html.escape(attempt.mended)}; {html.escape(attempt.why)}"
            if attempt.culprit
            else "none of these switches is the cause on its own"
            if attempt.trials
            else "no switch ends what is wrong"
        )
    trials = "".join(
        f'<tr class="{"ovf-culprit" if t.without == attempt.culprit else ""}"><td>without '
        f"{html.escape(t.without)}"
        f"</td><td>{t.verdict.outcome}</td><td>PCK {t.verdict.pck:.2f}</td></tr>"
        for t in attempt.trials
    )
    return f'{said}<table class="ovf-trials">{trials}</table>'
