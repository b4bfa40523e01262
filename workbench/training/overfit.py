"""Overfit one image: checks before training, a controllable session, a verdict, and the cause of a failure.

A network that cannot learn one image has a defect that no data set will cure. `OverfitRun` is the whole
attempt; the command line, the Overfit page and the notebook panel all use it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable, PoseModel, Sample
from workbench.core.capabilities import HasObjective
from workbench.core.command_line import command_line
from workbench.core.finding import Effect, Finding
from workbench.core.report import Report, plain
from workbench.training.bisection import Cause, Trial, found_cause, observed, run_to_end, verdict_of
from workbench.training.checks import before_training
from workbench.training.config_recipe import Recipe, recipe_of, written_codec
from workbench.training.faults import planted
from workbench.training.model_state import ModelState
from workbench.training.people import TaughtPeople, with_everybody
from workbench.training.plan import Plan, new_session
from workbench.training.run_folder import snapshots
from workbench.training.sequences import trainable
from workbench.training.session import Breakpoint
from workbench.training.settings import Settings
from workbench.training.switches import cannot_switch, trial_steps
from workbench.training.verdict import CONFIG_WRONG, Evidence, Expectation, Verdict, headline

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True, eq=False)
class OverfitSetup:
    """What is trained, on what, and how.

    Attributes:
        model: its view for training, with initial weights; trained in place.
        samples: one image or a handful, with ground truth.
        plan: everything around the loop, planted faults included.
        device: cpu, cuda, cuda:N.
        title: of the model, for people.
        recipe: the config's own training that the plan follows; None where it is not used.
        command: command line that repeats the attempt; "" where there is none.
        usual: the same with the usual training values; "" where the attempt has them, None where there is no
            command.
    """

    model: PoseModel
    samples: Sequence[Sample]
    plan: Plan
    device: str = "cpu"
    title: str = "the network"
    recipe: Recipe | None = None
    command: str = ""
    usual: str | None = None


def overfit_setup(
    model: PoseModel,
    samples: Sequence[Sample],
    requested: Mapping[str, Any],
    *,
    defaults: Settings,
    title: str,
    config: Mapping[str, Any] | None = None,
    plant: str = "",
    dropout: bool = True,
    device: str = "cpu",
    source: Mapping[str, Any] | None = None,
    config_ignored: bool = False,
    **fixed: Any,
) -> OverfitSetup:
    """The set-up of an attempt from a user's choices.

    Args:
        model: with initial weights.
        samples: with ground truth; a bottom-up model also gets everybody else in their images.
        requested: fields of Settings by name; None where the user chose nothing.
        defaults: settings with which models of this kind learn an image.
        title: of the model, for people.
        config: parsed content of a config; its own training is used for everything that was not requested.
            None uses `defaults`.
        plant: name of a fault to plant; "" none.
        dropout: dropout layers act as the network defines them; False turns them off.
        device: cpu, cuda, cuda:N.
        source: options of the command line that select model and samples, by their names.
        config_ignored: a config defines the model, but its training is not used.
        fixed: further fields of Settings that neither a config nor the defaults decide.

    Raises:
        ValueError: the config cannot be understood, or a value is out of its range.
    """
    chosen = {name: value for name, value in requested.items() if value is not None}
    unchanged, recipe = defaults, None
    if config is not None:
        steps = chosen.get("steps") or defaults.steps
        recipe = recipe_of(config, model.module, model.codec, dataclasses.replace(defaults, steps=steps))
        unchanged = recipe.settings
    if "schedule" in chosen or "warm_up" in chosen:
        chosen["rates"] = ()  # what was requested replaces the config's schedule
    settings = dataclasses.replace(unchanged, **chosen, **fixed)
    model = trainable(model, settings.steps)
    if isinstance(model, TaughtPeople):
        samples = with_everybody(samples)
    plan = planted(plant, Plan(settings, codec=written_codec(recipe, model), dropout=dropout), model)
    options = {**(source or {}), "plant": plant, "device": device}
    options |= {"no_config_training": config_ignored, "no_dropout": not dropout}
    command = repeat_command(plan.settings, unchanged, options)
    plain = dataclasses.replace(defaults, **fixed)
    # More steps than usual are no fault, and may be what it needs.
    plain = dataclasses.replace(plain, steps=max(plain.steps, settings.steps))
    usual = ""
    if recipe or plant or not dropout or dataclasses.replace(settings, steps=plain.steps) != plain:
        options |= {"plant": "", "no_config_training": config_ignored or recipe is not None}
        usual = repeat_command(plain, plain, options | {"no_dropout": False})
    return OverfitSetup(model, tuple(samples), plan, device, title, recipe, command, usual)


def repeat_command(settings: Settings, unchanged: Settings, options: Mapping[str, Any]) -> str:
    """The command line that repeats an attempt.

    Args:
        settings: of the attempt.
        unchanged: what the verb uses for this kind of model when no setting is requested.
        options: the other options by their names, as the user chose them; what is at its default is left out.
            `name` is the family's name, an argument without option.
    """
    given = dict(options)
    words = ["workbench", "overfit", *([name] if (name := given.pop("name", None)) else [])]
    words += ["--demo"] if given.pop("demo", False) else []
    given |= {"steps": settings.steps, "learning_rate": settings.learning_rate, "seed": settings.seed}
    for option in ("weight_decay", "ema", "schedule", "warm_up", "clip", "amp", "compile", "graphs"):
        if (value := getattr(settings, option)) != getattr(unchanged, option):
            given[option] = value
    by_default = {"count": 1, "device": "cpu", "bits": 0}
    for option, value in given.items():
        if value not in (None, "") and value is not False and value != by_default.get(option):
            word = f"--{option.replace('_', '-')}"
            words += [word] if value is True else [word, value]
    return command_line(words)


class OverfitRun:
    """One overfit attempt.

    Attributes:
        setup: model, samples and plan.
        session: the loop; pause, step, resume, stop and snapshot are its methods.
        before: what was wrong before the first step.
        verdict: of the attempt; None before `judge`.
        observed: what was wrong after the last step; () before `judge`.
        cause: result of the bisection; None before `find_cause`.
    """

    def __init__(
        self,
        setup: OverfitSetup,
        *,
        expectation: Expectation | None = None,
        bisect: bool = True,
        folder: Path | None = None,
        pause_at: Breakpoint | None = None,
        on_row: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Check model, samples and plan, and prepare the session; nothing is trained yet.

        Args:
            setup: model, samples and plan.
            expectation: what counts as learned; the default one when None.
            bisect: keep a copy of the initial weights for `find_cause`.
            folder: for rows and snapshots; None keeps everything in memory.
            pause_at: breakpoint of the session.
            on_row: called in the loop's thread after every step of the attempt itself.

        Raises:
            ValueError: samples, plan, device or folder do not fit the model.
            NotAvailable: the model declares no codec and no loss of its own.
        """
        model, plan = setup.model, setup.plan
        if (plan.codec or model.codec) is None and not isinstance(model, HasObjective):
            raise NotAvailable(
                "overfit: this model declares no codec, so no target can be made for it; heads with heatmaps "
                "or SimCC vectors can be trained, others with their own loss (an adapter with an objective)"
            )
        self.setup, self._expectation, self._folder = setup, expectation, folder
        wrong = setup.recipe.wrong if setup.recipe else ()
        seen = before_training(model, setup.samples, plan, setup.device)
        self.before: tuple[Evidence, ...] = (*(Evidence(text, name=CONFIG_WRONG) for text in wrong), *seen)
        self._first = ModelState(model) if bisect else None
        self.session = new_session(
            model, setup.samples, plan, folder=folder, pause_at=pause_at, on_row=on_row, device=setup.device
        )
        self.verdict: Verdict | None = None
        self.observed: tuple[Evidence, ...] = ()
        self.cause: Cause | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row per finished step."""
        return list(self.session.rows)

    @property
    def wrong(self) -> tuple[str, ...]:
        """What was seen before and after training, in words; remarks included."""
        return tuple(one.text for one in (*self.before, *self.observed))

    @property
    def trial_steps(self) -> int:
        """Steps of a bisection in which no trial passes."""
        return trial_steps(self.setup.model, self.setup.plan)

    def judge(self) -> Verdict:
        """The verdict of the ended session, and what else is wrong.

        Raises:
            ValueError: the session failed, or no step was measured.
        """
        self.verdict = verdict_of(self.session, self._expectation)
        setup = self.setup
        self.observed = observed(setup.model, setup.samples, setup.plan, self.session.rows)
        return self.verdict

    @property
    def needs_cause(self) -> bool:
        """Whether something is wrong with a finished attempt, so that its cause is to be found."""
        if self.verdict is None or self._first is None or self.session.status().state != "finished":
            return False
        return bool(self.wrong) or not self.verdict.learned

    def find_cause(
        self,
        *,
        on_trial: Callable[[str], None] | None = None,
        on_step: Callable[[], None] | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> Cause:
        """Repeat the attempt from its initial weights with one piece removed at a time.

        The model has the weights of the attempt afterwards.

        Args:
            on_trial: called with the name of each removed piece.
            on_step: called in the loop's thread after every step of every trial; see `trial_steps`.
            stopped: polled; True ends the bisection without a culprit.

        Raises:
            ValueError: the attempt has no verdict yet, or no copy of its initial weights was kept.
        """
        if self.verdict is None or self._first is None:
            raise ValueError("bisection: the attempt has no verdict yet, or was started without bisection")
        setup = self.setup
        self.cause = found_cause(
            self._first,
            setup.samples,
            setup.plan,
            self.verdict,
            self.session.rows,
            self.before,
            expectation=self._expectation,
            device=setup.device,
            on_trial=on_trial,
            on_row=(lambda _: on_step()) if on_step else None,
            stopped=stopped,
        )
        return self.cause

    def run(
        self,
        *,
        on_trial: Callable[[str], None] | None = None,
        on_step: Callable[[], None] | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> OverfitReport:
        """Run to the end, judge, and find the cause of what is wrong; see `find_cause` for the arguments.

        Args:
            on_trial: called with the name of each switch that is tried.
            on_step: called after each step of a trial.
            stopped: asked whether to end early.

        Raises:
            ValueError: the training failed; the sentence names the step.
        """
        ended = run_to_end(self.session, stopped)
        self.judge()
        if ended and self.needs_cause:
            self.find_cause(on_trial=on_trial, on_step=on_step, stopped=stopped)
        return self.report()

    def report(self) -> OverfitReport:
        """The report on what was done so far.

        Raises:
            ValueError: the attempt has no verdict yet.
        """
        if self.verdict is None:
            raise ValueError("overfit: the attempt has no verdict yet")
        cause = self.cause or Cause(evidence=(*self.before, *self.observed))
        rows, recipe = tuple(self.rows), self.setup.recipe
        files = tuple(str(path) for path in snapshots(self._folder)) if self._folder else ()
        return OverfitReport(
            title=self.setup.title,
            verdict=self.verdict,
            culprit=cause.culprit,
            why=cause.why,
            mended=cause.mended,
            evidence=cause.evidence,
            trials=cause.trials,
            rows=rows,
            steps_per_second=len(rows) / sum(row["seconds"] for row in rows),
            snapshots=files,
            command=self.setup.command,
            helped=cause.helped,
            used=recipe.used if recipe else (),
            unused=recipe.unused if recipe else (),
            cannot_switch=cannot_switch(self.setup.model),
            usual=self.setup.usual,
        )


@dataclass(frozen=True, eq=False)
class OverfitReport(Report):
    """Result of an overfit attempt.

    Attributes:
        title: of the model.
        verdict: of the attempt as it was requested.
        culprit: the first switch without which it passes, or which removes what else is wrong; "" when
            nothing is wrong, or no switch is the cause.
        why: what such a switch does.
        mended: what holds without it.
        evidence: what else is wrong, learned or not: output independent of the support, growing errors, a log
            that does not report what was measured.
        trials: attempts with one piece removed, in the order made.
        rows: of the attempt itself, one per step.
        steps_per_second: of the attempt itself.
        snapshots: files, oldest first.
        command: repeats the attempt.
        helped: where no switch lets it learn, the one that came nearest, as a sentence.
        used: what of the config's own training was used.
        unused: what of it was not.
        cannot_switch: possible causes that the bisection has no switch for.
        usual: command of the same attempt with the usual training values; "" where it has them, None where
            there is no command.
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
    usual: str | None = None

    @property
    def headline(self) -> str:
        """The outcome in a few words, with a fault that was named although the image was learned."""
        return headline(self.verdict, self.evidence)

    @property
    def next_step(self) -> str:
        """What to do where no switch was named; "" otherwise."""
        if self.verdict.learned or self.culprit or self.helped:
            return ""
        if any(one.decides for one in self.evidence) and not self.trials:
            return "no switch removes what was seen, so none was tried; correct it and repeat"
        if not self.trials:
            return ""
        if self.usual != "":
            command = f" ({self.usual})" if self.usual else ""
            return (
                "several of them may act together: repeat with the usual training values, then add your own "
                f"ones one at a time{command}"
            )
        unknown = f" and {', '.join(self.cannot_switch)}" if self.cannot_switch else ""
        return (
            "the training has its usual values, so check what no switch removes: which modules get a "
            "gradient (workbench look gradients), whether the annotation lies on the image (workbench look "
            f"overlay){unknown}"
        )

    @property
    def wrong(self) -> str:
        """What is wrong besides the verdict, in words."""
        return "; ".join(one.text for one in self.evidence if not one.remark)

    def to_findings(self) -> tuple[Finding, ...]:
        """Everything that is wrong, the cause of a failure first."""
        found = [one.finding() for one in self.evidence]
        if self.verdict.learned:
            return tuple(found)
        gains = [(trial.verdict.pck - self.verdict.pck, trial) for trial in self.trials]
        if self.culprit:
            # What a switch that was named by other evidence did to the learning is no effect of its removal.
            removed = next(
                (g for g in gains if g[1].without == self.culprit and (g[1].passed or g[0] > 0)), None
            )
            fix, confidence = f"without {self.culprit} {self.mended}: {self.why}", "proved"
        elif self.helped:
            removed, fix, confidence = (
                max(gains, key=lambda gain: np.nan_to_num(gain[0])),
                self.helped,
                "likely",
            )
        else:
            return (Finding(cause=self.verdict.outcome, evidence=self.verdict.came), *found)
        effect = None
        if removed is not None:
            effect = Effect("PCK@0.05", removed[0], protocol="evaluation mode, on the trained images")
        cause = self.culprit or (removed[1].without if removed else self.verdict.outcome)
        failure = Finding(
            cause, self.verdict.came, fix, effect=effect, confidence=confidence,  # type: ignore[arg-type]
            refuted_by=f"a run with {cause} that learns the image",
        )  # fmt: skip
        return (failure, *found)

    def summary(self) -> str:
        """Verdict, cause and what to do, in one sentence."""
        start = f"{self.title}: {self.headline}; {self.verdict.came}"
        if self.wrong:
            start = f"{start}; {self.wrong}"
        for one in self.evidence:
            start += f"; remark: {one.text}" if one.remark else ""
        if self.culprit:
            return f"{start}; without {self.culprit} {self.mended}: {self.why}"
        if self.trials:
            start = f"{start}; none of {', '.join(t.without for t in self.trials)} is the cause on its own"
        more = self.helped or self.next_step
        return f"{start}; {more}" if more else start

    def plot(self) -> Figure:
        """Loss on a logarithmic axis, and PCK in both modes beside it."""
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
        figure.update_layout(title_text=self.headline, paper_bgcolor="rgba(0,0,0,0)")
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
        return {
            "summary": self.summary(),
            "steps": len(self.rows),
            "loss": plain(self.verdict.loss),
            "pck": plain(self.verdict.pck),
            "verdict": self.verdict.outcome,
            "headline": self.headline,
            "expected": self.verdict.expected,
            "culprit": self.culprit or None,
            "why": self.why or None,
            "evidence": [dataclasses.asdict(one) for one in self.evidence],
            "trials": plain(self.table()[1:]),
            "helped": self.helped or None,
            "next_step": self.next_step or None,
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
    on_step: Callable[[], None] | None = None,
    stopped: Callable[[], bool] | None = None,
    recipe: Recipe | None = None,
) -> OverfitReport:
    """Overfit the samples, judge the result, and find the cause of a failure.

    Args:
        model: trained in place; a bisection trains it again from the same initial weights and restores the
            weights of the attempt.
        samples: one image or a handful, with ground truth.
        plan: everything around the loop; the bare loop by default.
        expectation: what counts as learned; the default one when None.
        bisect: after a failure, repeat with one piece removed at a time.
        folder: for rows and snapshots of the attempt itself.
        title: of the model, for the report.
        command: that repeats the attempt, for the report.
        device: cpu, cuda, cuda:N.
        on_row: called after every step of the attempt itself.
        on_trial: called with the name of each removed piece.
        on_step: called after every step, those of the bisection included.
        stopped: polled; True ends early, and what was measured until then is judged.
        recipe: the config's own training that the plan follows, for the report.

    Raises:
        ValueError: the samples do not fit the model, or the training failed; the message names the step.
        NotAvailable: the model declares no codec and no loss of its own.

    Example:
        >>> from workbench.checkpoints.demo import demo_data
        >>> from workbench.data import builtin
        >>> from workbench.models.fresh import demo_model
        >>> from workbench.training.overfit import overfit
        >>> from workbench.training.plan import Plan
        >>> from workbench.training.settings import Settings
        >>> scenes = builtin(demo_data())
        >>> model, title = demo_model()
        >>> sample = scenes.sample(scenes.labelled[0])
        >>> report = overfit(model, [sample], Plan(Settings(steps=2)), bisect=False, title=title)
        >>> len(report.rows), report.verdict.expected
        (2, 'PCK at least 0.90 in evaluation within 2 steps')
    """
    plan = plan or Plan()
    setup = OverfitSetup(trainable(model, plan.settings.steps), samples, plan, device, title, recipe, command)

    def stepped(row: dict[str, Any]) -> None:
        if on_step:
            on_step()
        if on_row:
            on_row(row)

    run = OverfitRun(setup, expectation=expectation, bisect=bisect, folder=folder, on_row=stepped)
    return run.run(on_trial=on_trial, on_step=on_step, stopped=stopped)
