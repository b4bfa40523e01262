"""Can this network learn one image? If it cannot, which switch stands in its way?

A network that cannot learn one image by heart has a defect that no data set will cure. The attempt ends with
a verdict; a failed one is repeated with one piece of the pipeline taken away at a time, from the same first
weights, and the first piece whose absence lets it pass is named.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable, PoseModel, Sample
from workbench.core.capabilities import HasObjective
from workbench.core.report import Report
from workbench.training.bisection import Cause as Finding
from workbench.training.bisection import Trial, found_cause, verdict_of
from workbench.training.bisection import observed as seen_wrong
from workbench.training.bisection import run_to_end as run_out
from workbench.training.checks import before_training
from workbench.training.model_state import ModelState as Kept
from workbench.training.plan import Plan
from workbench.training.planned import new_session
from workbench.training.run_folder import snapshots
from workbench.training.sequences import trainable
from workbench.training.switches import cannot_switch
from workbench.training.verdict import Evidence, Expectation, Verdict

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.training.config_recipe import Recipe


@dataclass(frozen=True, eq=False)
class OverfitReport(Report):
    """The end of an overfit attempt.

    Attributes:
        title: of the model.
        verdict: of the attempt as it was asked for.
        culprit: the first switch whose absence lets it pass, or ends what else is wrong; "" when nothing is
            wrong, or when none is the cause.
        why: what such a switch does.
        mended: what is so without it.
        evidence: what else is wrong, learned or not: a support without effect, errors that grow, a log that
            does not say what was measured.
        trials: attempts with one piece away, in the order made.
        rows: of the attempt itself, one per step.
        steps_per_second: of the attempt itself.
        snapshots: files, oldest first.
        command: repeats the attempt.
        helped: where no switch lets it learn, the one that came nearest, in words.
        used: what of the config's own training was used.
        unused: what of it was not.
        cannot_switch: what about this model the bisection has no switch for.
    """

    title: str
    verdict: Verdict
    culprit: str
    why: str
    mended: str
    evidence: tuple[Evidence, ...]
    trials: tuple[Trial, ...]
    rows: tuple[dict[str, Any], ...]
    steps_per_second: float
    snapshots: tuple[str, ...] = ()
    command: str = ""
    helped: str = ""
    used: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    cannot_switch: tuple[str, ...] = ()

    @property
    def wrong(self) -> str:
        """What is wrong besides the verdict, in words."""
        return "; ".join(one.text for one in self.evidence if not one.remark)

    def summary(self) -> str:
        """The verdict and the culprit in one sentence."""
        start = f"{self.title}: {self.verdict.outcome}; {self.verdict.came}"
        if self.wrong:
            start = f"{start}; {self.wrong}"
        for one in self.evidence:
            start += f"; remark: {one.text}" if one.remark else ""
        if self.culprit:
            return f"{start}; without {self.culprit} {self.mended}: {self.why}"
        if self.trials:
            start = f"{start}; none of {', '.join(t.without for t in self.trials)} is the cause on its own"
        return f"{start}; {self.helped}" if self.helped else start

    def plot(self) -> Figure:
        """Loss on a logarithmic axis, PCK in both modes beside it."""
        from plotly.subplots import make_subplots

        figure = make_subplots(1, 2, subplot_titles=("loss", "PCK"))
        step = np.array([row["step"] for row in self.rows], np.float32)
        loss = np.array([row["loss"] for row in self.rows], np.float32)
        figure.add_scatter(x=step, y=loss, name="loss", row=1, col=1)
        measured = [row for row in self.rows if row.get("pck") is not None]
        at = np.array([row["step"] for row in measured], np.float32)
        for key, name in (("pck_train", "training mode"), ("pck", "evaluation mode")):
            values = np.array([row[key] for row in measured], np.float32)
            figure.add_scatter(x=at, y=values, name=name, mode="lines+markers", row=1, col=2)
        figure.update_yaxes(type="log", row=1, col=1)
        figure.update_yaxes(range=[-0.02, 1.02], row=1, col=2)
        figure.update_xaxes(title_text="step")
        figure.update_layout(title_text=self.verdict.outcome, paper_bgcolor="rgba(0,0,0,0)")
        return figure

    def table(self) -> list[dict[str, Any]]:
        """One row per attempt."""
        attempts = [Trial("nothing", self.verdict, self.verdict.learned), *self.trials]
        return [
            {
                "without": t.without,
                "outcome": t.verdict.outcome,
                "passed": t.passed,
                "pck": t.verdict.pck,
                "pck_train": t.verdict.pck_train,
                "loss": t.verdict.loss,
            }
            for t in attempts
        ]

    def to_json(self) -> dict[str, Any]:
        """The facts under the names of the command line."""
        from workbench.core.report import plain

        return {
            "summary": self.summary(),
            "steps": len(self.rows),
            "loss": plain(self.verdict.loss),
            "pck": plain(self.verdict.pck),
            "verdict": self.verdict.outcome,
            "expected": self.verdict.expected,
            "culprit": self.culprit or None,
            "why": self.why or None,
            "evidence": [dataclasses.asdict(one) for one in self.evidence],
            "trials": plain(self.table()[1:]),
            "helped": self.helped or None,
            "config_used": list(self.used),
            "config_not_used": list(self.unused),
            "cannot_switch": list(self.cannot_switch),
            "steps_per_second": plain(self.steps_per_second),
            "snapshots": list(self.snapshots),
            "command": self.command,
        }


def overfit(
    model: PoseModel,
    samples: Sequence[Sample],
    plan: Plan | None = None,
    *,
    expectation: Expectation | None = None,
    bisect: bool = True,
    folder: Path | None = None,
    title: str = "the network",
    command: str = "",
    device: str = "cpu",
    on_row: Callable[[dict[str, Any]], None] | None = None,
    on_trial: Callable[[str], None] | None = None,
    on_note: Callable[[str], None] = lambda note: None,
    on_step: Callable[[], None] = lambda: None,
    stopped: Callable[[], bool] | None = None,
    recipe: Recipe | None = None,
) -> OverfitReport:
    """Train on the samples until the plan's steps are done, judge, and look for the cause of a failure.

    Args:
        model: trained in place; a bisection trains it anew from the same first weights, and puts the
            weights of the attempt back.
        samples: one image or a handful, with truth.
        plan: what surrounds the loop; the bare loop by default.
        expectation: what counts as learned.
        bisect: on failure, repeat with one piece away at a time.
        folder: for rows and snapshots of the attempt itself.
        title: of the model, for the report.
        command: that repeats this.
        device: where to train.
        on_row: called after every step of the attempt itself.
        on_trial: called with the name of each piece that is taken away.
        on_note: called with what was damaged in the folder, one sentence each.
        on_step: called after every step, those of the bisection included.
        stopped: asked whether to end early; what was measured till then is judged.
        recipe: the config's training that the plan was made of, for the report.

    Raises:
        ValueError: the samples do not fit the model, or the training failed; the message says at which step.
        NotAvailable: the model declares no codec.
    """
    plan = plan or Plan()
    model = trainable(model, plan.settings.steps)
    if (plan.codec or model.codec) is None and not isinstance(model, HasObjective):
        raise NotAvailable("overfit: this model declares no codec, so no target can be made for it")
    before = before_training(model, samples, plan, device)
    if recipe is not None:
        before = (*(Evidence(text) for text in recipe.wrong), *before)
    first = Kept(model) if bisect else None

    def stepped(row: dict[str, Any]) -> None:
        on_step()
        if on_row:
            on_row(row)

    session = new_session(model, samples, plan, folder=folder, device=device, on_row=stepped)
    for note in session.notes:
        on_note(note)
    ended = run_out(session, stopped)
    verdict = verdict_of(session, expectation)
    rows = tuple(session.rows)
    if first is None or not ended:
        seen = map(Evidence, seen_wrong(model, samples, plan, rows))
        found = Finding(evidence=(*before, *seen))
    else:
        asked = {"expectation": expectation, "device": device, "on_trial": on_trial, "stopped": stopped}
        asked["on_row"] = lambda _: on_step()
        found = found_cause(first, samples, plan, verdict, rows, before, **asked)
    seconds = sum(row["seconds"] for row in rows)
    files = tuple(str(path) for path in snapshots(folder)) if folder else ()
    return OverfitReport(
        title,
        verdict,
        found.culprit,
        found.why,
        found.mended,
        found.evidence,
        found.trials,
        rows,
        len(rows) / seconds,
        files,
        command,
        found.helped,
        recipe.used if recipe else (),
        recipe.unused if recipe else (),
        cannot_switch(model),
    )
