"""The late epoch's sample learned anew by a network with the same defects, and bisected, as a job."""

from __future__ import annotations

import dataclasses
import html
from typing import TYPE_CHECKING

from apps.pages.frame import sentence_html
from apps.pages.rollout.lab import Lab
from apps.pages.rollout.wishes import Wish
from workbench.core.cache import LruCache
from workbench.core.job import Job

if TYPE_CHECKING:
    from workbench.training.overfit import OverfitReport

MOST_STEPS = 5000


class Bisection:
    """Attempts by what was asked, kept for whoever asks again."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._found: LruCache[OverfitReport] = LruCache(20)

    def key(self, wish: Wish, steps: int) -> str:
        """Names the job."""
        return f"bisection {(wish.run, wish.epochs[-1], wish.data, wish.sample, wish.support)} {steps}"

    def begin(self, wish: Wish, steps: int) -> Job:
        """Start, or find, the job.

        Raises:
            NotAvailable: the model does not say how its network was made.
            ValueError: steps out of range.
        """
        from workbench.core import NotAvailable
        from workbench.core.capabilities import Reinitialises

        if not 4 <= steps <= MOST_STEPS:
            raise ValueError(f"bisection: expected 4 to {MOST_STEPS} steps, got {steps}")
        if not isinstance(self._lab.looked(wish, wish.epochs[-1]).model, Reinitialises):
            raise NotAvailable(
                "bisection: only a checkpoint of cape says how its network was made; for another model use "
                "workbench overfit --adapter"
            )
        jobs, device = self._lab.context.jobs, self._lab.context.settings.device
        title = f"{self._lab.title(wish)}: learned anew"
        return jobs.start(self.key(wish, steps), title, lambda job: self._learn(job, wish, steps), device)

    def job(self, wish: Wish, steps: int) -> Job | None:
        """The newest job of what was asked."""
        return self._lab.context.jobs.latest(self.key(wish, steps))

    def found(self, wish: Wish, steps: int) -> OverfitReport | None:
        """The attempt; None while it is not made."""
        key = self.key(wish, steps)
        return self._found.get(key, _never) if key in self._found else None

    def _learn(self, job: Job, wish: Wish, steps: int) -> None:
        from workbench.training.overfit import overfit
        from workbench.training.plan import Plan
        from workbench.training.sequences import untrained_copy as untaught
        from workbench.training.settings import SEQUENCE
        from workbench.training.switches import trial_steps

        lab = self._lab
        model = untaught(lab.own_model(wish, wish.epochs[-1]))
        plan = Plan(dataclasses.replace(SEQUENCE, steps=steps, measure_every=max(1, min(25, steps // 4))))
        job.progress(0, steps + trial_steps(model, plan))
        report = overfit(
            model,
            [lab.context.registry.sets.sample(wish.data, wish.sample)],
            plan,
            title=f"{lab.title(wish)} anew",
            command=self._command(wish, steps),
            device=lab.context.settings.device,
            on_step=lambda: job.progress(job.done + 1, job.total),
            stopped=job.cancelled,
        )
        job.checkpoint()
        self._found.get(self.key(wish, steps), lambda: report)

    def _command(self, wish: Wish, steps: int) -> str:
        registry = self._lab.context.registry
        path = registry.epoch(wish.run, wish.epochs[-1]).path
        key = registry.sets.sample(wish.data, wish.sample).key
        return f"workbench rollout {path} --data {wish.data} --instance {key} --bisect {steps}"


def card(report: OverfitReport) -> str:
    """Verdict, what else is wrong, and what each switch gave back."""
    said = report.verdict
    cause = f'<b data-testid="rollout-culprit">{html.escape(report.culprit or "none of the switches")}</b>'
    if report.culprit:
        cause += f": without it, {html.escape(report.mended)}; {html.escape(report.why)}"
    lines = [("expected", html.escape(said.expected)), ("came", html.escape(said.came)), ("cause", cause)]
    for one in report.evidence:
        ends = (
            f"; without <b>{html.escape(one.culprit)}</b>, {html.escape(one.mended)}" if one.culprit else ""
        )
        lines.append(("and", html.escape(one.text) + ends))
    for trial in report.trials:
        lines.append((f"without {trial.without}", f"{trial.verdict.outcome}, PCK {trial.verdict.pck:.2f}"))
    lines.append(("again", f"<code>{html.escape(report.command)}</code>"))
    rows = "".join(f"<tr><th>{html.escape(name)}</th><td>{value}</td></tr>" for name, value in lines)
    headline = sentence_html(f"Learned anew: {said.outcome}")
    return f'{headline}<div class="wb-card rol-facts"><table class="wb-facts">{rows}</table></div>'


def _never() -> OverfitReport:
    raise LookupError("the attempt was forgotten while it was asked for; press Learn anew again")
