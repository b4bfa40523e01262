"""Experiments of the Conditioning page: short trainings from the same start, compared by one report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from gradio.components import Component

from apps.pages.conditioning import examination as states
from apps.pages.conditioning.examination import (
    ADDRESS,
    ALL,
    BAR,
    LIMITS,
    NONE,
    SAMPLES,
    SECTIONS,
    ClinicState,
    Examination,
    conditioned_runs,
)
from apps.pages.engine import Controls, add_link_button
from apps.pages.epoch_page import EpochPage
from apps.pages.job_sections import JobSection, WorkSection, job_key
from apps.pages.report_section import literal, naming_of, opening_model, opening_of, path_literal
from apps.pages.sections import control_row, hidden_text
from workbench.core.job import JobResults, shares_of
from workbench.core.plain_text import escaped
from workbench.core.report import signed_text
from workbench.inspectors.conditioning import film
from workbench.inspectors.conditioning.training_log import logs_of

if TYPE_CHECKING:
    from apps.server.context import Context
    from apps.server.folders import RunFolder
    from workbench.core.finding import Finding
    from workbench.core.job import Job
    from workbench.core.report import Report
    from workbench.inspectors.conditioning.clinic import Clinic
    from workbench.training.experiments.results import ExperimentReport


MOST_STEPS = 5000
# A minute or two on a CPU.
STEPS, INSTANCES = 40, 80
FIRST = "both-ways"


class Experiments:
    """Experiments as jobs, their reports by key."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._results: JobResults[ExperimentReport] = JobResults(context.jobs, 30)

    def key(self, state: ClinicState, name: str, steps: int, most: int) -> str:
        """Names the job; the run beside gives the weights that all arms begin with."""
        registry = self.context.registry
        versions = [registry.version(state.run, state.epoch), registry.sets.version(state.data)]
        versions += [registry.last_version(state.against)] if state.against else []
        return job_key("experiment", name, versions, state.data, state.against, steps, most)

    def start(self, state: ClinicState, name: str, steps: int, most: int) -> Job:
        """Start, or find, the job.

        Raises:
            KeyError: no such experiment.
            ValueError: steps or instances out of range.
        """
        from workbench.training.experiments import experiment_named

        experiment = experiment_named(name)
        if not 1 <= steps <= MOST_STEPS:
            raise ValueError(f"experiment: expected 1 to {MOST_STEPS} steps, got {steps}")
        if most < 0:
            raise ValueError(f"experiment: expected 1 or more instances, or 0 for all, got {most}")
        run = self.context.registry.run(state.run)
        title = f"{run.title}, {run.epochs[state.epoch].label}: {experiment.name}"
        return self._results.start(
            self.key(state, name, steps, most),
            title,
            lambda job: self._work(job, state, name, steps, most),
            self.context.settings.device,
        )

    def job(self, state: ClinicState, name: str, steps: int, most: int) -> Job | None:
        """The newest job of what was asked."""
        return self._results.job(self.key(state, name, steps, most))

    def result(self, state: ClinicState, name: str, steps: int, most: int) -> ExperimentReport | None:
        """The comparison; None while there is none."""
        return self._results.result(self.key(state, name, steps, most))

    def start_of(self, state: ClinicState) -> Path | None:
        """The checkpoint whose backbone and head every arm begins with: the last one of the run beside."""
        return self.context.registry.last_checkpoint(state.against) if state.against else None

    def _work(self, job: Job, state: ClinicState, name: str, steps: int, most: int) -> ExperimentReport:
        from workbench.training.experiments import experiment_named
        from workbench.training.experiments.arms import origin_of
        from workbench.training.experiments.running import Course, Watch, halves, run_experiment

        # A model of its own: others look at the registry's while this one is taken apart.
        loaded = self.context.registry.model(state.run, state.epoch, state.data)
        origin = origin_of(loaded, self.start_of(state), config=self.context.settings.config)
        material = halves(self.context.registry.sets.apart(state.data), most)
        return run_experiment(
            experiment_named(name), origin, material, Course(steps), Watch(shares_of(job), job.cancelled)
        )


class ExperimentSection(WorkSection):
    """A button for each experiment; the arms of the one that was run last are compared."""

    name, title = "experiments", "Experiments"
    question = (
        "Short trainings from the same start, evaluated on the same images. The run to compare with "
        "gives the initial weights of all arms."
    )
    wide_buttons = True
    linked = ("steps-per-arm", "instances")
    handlers = ("experiment_run", "experiment_watch", "experiment_cancel")

    def __init__(self, context: Context) -> None:
        self.work = Experiments(context)

    def add_fields(self) -> list[Component]:
        steps = gr.Number(STEPS, label="steps per arm", precision=0, minimum=1, min_width=110)
        most = gr.Number(INSTANCES, label="instances (0: all)", precision=0, minimum=0, min_width=110)
        return [self._name, steps, most]

    def add_buttons(self) -> Mapping[gr.Button, Sequence[tuple[Component, str]]]:
        from workbench.training.experiments import EXPERIMENTS

        self._name = hidden_text(FIRST)
        with gr.Row(elem_classes="cnd-experiments"):
            return {
                gr.Button(f"{e.name}\n{e.question}", elem_id=f"cnd-run-{e.name}", min_width=220): (
                    (self._name, e.name),
                )
                for e in EXPERIMENTS.values()
            }

    def arguments(
        self, state: str, name: str = "", steps: float | None = None, most: float | None = None
    ) -> tuple[ClinicState, str, int, int]:
        return ClinicState.of_text(state), name or FIRST, int(steps or 0), int(most or 0)


# The Conditioning page (clinic): defects of neck, text and refiner, their evidence and their cost.


QUESTIONS: dict[str, tuple[str, str]] = {
    "trends": ("Curves", "Do AP and AR change in opposite directions?"),
    "ranking": ("Ranking or localisation", "AP of the same keypoints under refined, raw and perfect scores"),
    "paths": ("Training and inference", "The same weights and input, tap by tap"),
    "effect": ("Effect of the condition", "Does it change anything, in training and in predict?"),
    "film": ("γ and β", "What do scale and shift do to the features?"),
    "epochs": ("γ, β and gate over training", "Do they ever differ between images?"),
    "features": ("Features", "How much of the features remains after conditioning?"),
    "refiner": ("Refiner", "What does one uncertain keypoint do to the scores of the others?"),
    "parts": ("With and without", "What does each part cost or give?"),
    "gradients": ("Gradients", "Which parts does the training loss reach?"),
    "progress": ("Movement of the weights", "How far from the common start, against the other run?"),
    "text": (
        "Sentences of the keypoints",
        "Do they distinguish the keypoints? The nearest of each in the table",
    ),
    "species": ("Sentences of the subjects", "Does naming the species say anything about the image?"),
}
"""Section -> title and question."""

ALONE = {
    "paths": "paths", "film": "film", "features": "features-kept", "refiner": "refined-scores",
}  # fmt: skip
"""Section -> page of its inspector, which asks it of one sample."""

WAITING = {"ranking": "waits for the evaluation", "parts": "waits for the evaluation"}


class ConditioningPage(EpochPage[ClinicState]):
    """The clinic on one epoch of one run."""

    path, prefix, title, parent = "conditioning", "cnd", "Clinic", "Conditioning"
    question = (
        "What is wrong with the neck, the text or the refiner, what proves it, and how much AP does it cost?"
    )
    address, sections, overview_ids, values = ADDRESS, SECTIONS, ("cnd-card",), BAR
    questions, limits, state_type = QUESTIONS, LIMITS, ClinicState
    linked = ExperimentSection.linked
    alone, waiting = ALONE, WAITING

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.work = self.examination = Examination(context)

    def add_controls(self) -> Controls:
        with control_row():
            inputs = self.add_subject("instances")
            inputs.append(
                gr.Dropdown(
                    [], value=None, label="compare curves with", min_width=170, scale=2,
                    allow_custom_value=True,
                )
            )  # fmt: skip
            add_link_button()
        return Controls(inputs, {inputs[0]: inputs[1:]})

    def job_sections(self) -> Sequence[JobSection]:
        return (ExperimentSection(self.context),)

    def state_from(self, values: Sequence[Any]) -> ClinicState:
        return states.state_of(self.context, *values)

    def address_of(self, state: ClinicState) -> dict[str, Any]:
        return {**super().address_of(state), "against": state.against or NONE}

    def choices(self, state: ClinicState, bare: bool = False) -> list[Any]:
        runs = self.context.registry.runs()
        others = [(r.title, r.id) for r in runs if r.id != state.run and logs_of(r.folder)]
        beside = gr.update(choices=[(NONE, NONE), *others], value=state.against or NONE)
        return [*super().choices(state, bare), beside]

    def complete(self, state: ClinicState) -> bool:
        return self.examination.complete(state) is not None

    def overview(self, state: ClinicState) -> list[str]:
        return [verdict_html(self.examination.clinic(state), self.complete(state))]

    def progress_of(self, state: ClinicState, section: str) -> bool:
        if section == "trends":  # read from the logs each time
            return True
        return self.examination.section(state, section) is not None

    def found(self, state: ClinicState, section: str) -> Report | str | None:
        return self.examination.section(state, section)

    def code(self, state: ClinicState, section: str) -> str:
        return code_of(self.examination, state, section)

    def able_runs(self) -> list[RunFolder]:
        return conditioned_runs(self.context)


def verdict_html(clinic: Clinic | None, whole: bool) -> str:
    """The card: what is wrong, what it costs, what to do; "" before anything is known."""
    if clinic is None:
        return ""
    count = len(clinic.findings)
    title = "Nothing wrong found" if not count else f"{count} finding{'s' * (count > 1)}"
    note = "" if whole else " <small>what each one costs is being measured</small>"
    items = "".join(_finding(finding) for finding in clinic.findings)
    listed = f"<ol>{items}</ol>" if items else f"<p>{escaped(clinic.paths.summary())}</p>"
    mark = "cnd-well" if not count else ""
    return (
        f'<section class="cnd-verdict {mark}" data-testid="clinic-verdict"><h2>{title}{note}</h2>{listed}'
        f"{_facts(clinic)}</section>"
    )


def _finding(finding: Finding) -> str:
    effect = finding.effect
    cost = ""
    if effect is not None:
        # Mending one defect alone may cost: then it is no reason for alarm.
        kind = "cnd-certain" if effect.low > 0 else ""
        word = "alone gives" if effect.high < 0 else "gives back"
        ends = (
            f"[{signed_text(effect.low)}, {signed_text(effect.high)}]"
            if math.isfinite(effect.low)
            else "(no interval)"
        )
        cost = (
            f'<b class="cnd-cost {kind}" title="AP on the set without it, less AP with it; 95 % interval">'
            f"{word} {signed_text(effect.delta)} AP</b> <i>{ends}</i>"
        )
    given = f" <i>(only if {escaped(finding.assumption)})</i>" if finding.assumption else ""
    return (
        f'<li data-testid="clinic-finding"><b>{escaped(finding.cause)}</b>{given} {cost}'
        f"<p>{escaped(finding.evidence)}</p><p><i>Do:</i> {escaped(finding.fix)}</p></li>"
    )


def _facts(clinic: Clinic) -> str:
    """The numbers that differ from epoch to epoch, in one row."""
    facts: list[tuple[str, str, str]] = []
    if clinic.ablation is not None:
        figures = clinic.ablation.reference.figures
        facts += [("AP", "AP as it is", f"{figures['AP']:.3f}"), ("AR", "AR", f"{figures['AR']:.3f}")]
    if clinic.film is not None:
        layer = clinic.film.layers[0]
        where = "" if clinic.film.at_inference else ", in training only"
        facts.append(("neck", "neck", film.MEANING[layer.verdict] + where))
        if layer.gamma.size:
            facts.append(("gamma", "γ", f"{layer.gamma.mean():.3f} ± {layer.gamma.std():.3f}"))
            if np.isfinite(layer.gate):
                facts.append(("gate", "gate", f"{layer.gate:.3f}"))
        if np.isfinite(layer.change):
            facts.append(("change", "features change", film.amount(layer.change)))
    if clinic.scores is not None:
        raw, refined = np.median(clinic.scores.raw), np.median(clinic.scores.refined)
        facts.append(("scores", "median score, raw → refined", f"{raw:.3f} → {refined:.3g}"))
    cells = "".join(
        f'<span><i>{escaped(label)}</i><b data-testid="clinic-{name}">{escaped(value)}</b></span>'
        for name, label, value in facts
    )
    protocol = "" if clinic.ablation is None else clinic.ablation.reference.protocol.text()
    shown = f'<p class="wb-protocol">{escaped(protocol)}</p>' if protocol else ""
    return f'<div class="cnd-facts">{cells}</div>{shown}'


_ASK = {
    "paths": ("from workbench.inspectors.conditioning import paths", "paths.compute(looked, paths.Params())"),
    "effect": (
        "from workbench.inspectors.conditioning.evidence import condition_effect",
        "condition_effect(looked)",
    ),
    "film": ("from workbench.inspectors.conditioning import film", "film.compute(looked, film.Params())"),
    "features": (
        "from workbench.inspectors.conditioning import features_kept",
        "features_kept.compute(looked, features_kept.Params())",
    ),
    "refiner": (
        "from workbench.inspectors.conditioning import refined_scores",
        "refined_scores.compute(looked, refined_scores.Params())",
    ),
    "gradients": (
        "from workbench.inspectors.conditioning.evidence import gradient_groups",
        "gradient_groups(looked)",
    ),
    "ranking": ("from workbench.inspectors.conditioning.ablation import ranking", "ranking(found, pose_set)"),
    "parts": ("from workbench.inspectors.conditioning.ablation import ablation", "ablation(found)"),
    "text": ("from workbench.text.vectors import similarity", "similarity(model.text)"),
    "species": ("from workbench.text.vectors import similarity", 'similarity(model.text, "subjects")'),
}


def code_of(examination: Examination, state: ClinicState, name: str) -> str:
    """Python that makes the same report in a notebook."""
    context = examination.context
    run = context.registry.run(state.run)
    if name == "trends":
        folders = [context.registry.run(i).folder for i in (state.run, state.against) if i]
        curves = ", ".join(f"curve_of(Path({path_literal(folder)}))" for folder in folders if logs_of(folder))
        return (
            "from pathlib import Path\n\n"
            "from workbench.inspectors.conditioning.training_log import Trends\n"
            "from workbench.inspectors.conditioning.training_log import curve_of\n\n"
            f"Trends(({curves},))"
        )
    if name == "progress":
        return _progress_code(examination, state)
    imports, opening = opening_of(context, state.data)
    naming = naming_of(context, state.run, state.epoch, state.data, "pose_set")
    start = f"{imports}\nfrom workbench.inspectors.conditioning.passes import several, spread\n"
    start += "from workbench.models import open_model\nfrom workbench.core.run import run\n"
    if name == "epochs":
        files = ", ".join(path_literal(e.path) for e in run.epochs)
        opened = opening_model(context, "file")
        return (
            f"{start}from workbench.inspectors.conditioning import film\n"
            "from workbench.inspectors.conditioning.film import over_epochs\n\n"
            f"pose_set = {opening}\nsamples = several(pose_set, {SAMPLES})\n"
            f"loaded = [{opened}{naming} for file in ({files},)]\n"
            "runs = [run(one.model, samples, title=one.title) for one in loaded]\n"
            "over_epochs([film.compute(looked, film.Params()) for looked in runs])"
        )
    ask, call = _ASK[name]
    opened = opening_model(context, path_literal(run.epochs[state.epoch].path))
    if name in ("text", "species"):
        return f"{ask}\nfrom workbench.models import open_model\n\nmodel = {opened}.model\n{call}"
    lines = [start + ask, "", f"pose_set = {opening}", f"model = {opened}{naming}.model"]
    if "found" in call:
        limit = "None" if state.limit == ALL else state.limit
        lines.insert(1, "from workbench.evaluation.protocol import judged_by")
        lines.insert(2, "from workbench.inspectors.conditioning.ablation import predicted")
        title = literal(f"{run.title}, {run.epochs[state.epoch].label}")
        lines += [
            "pose_set = judged_by(pose_set, model.skeleton)",
            f"found = predicted(model, pose_set, spread(pose_set, {limit}), title={title})",
        ]
    else:
        lines.append(f"looked = run(model, several(pose_set, {SAMPLES}))")
    return "\n".join([*lines, call])


def _progress_code(examination: Examination, state: ClinicState) -> str:

    registry = examination.context.registry
    epochs, base = (
        ", ".join(f"Path({path_literal(e.path)})" for e in registry.run(name).epochs) if name else ""
        for name in (state.run, state.against)
    )
    own = path_literal(registry.epoch(state.run, state.epoch).path)
    return (
        "from pathlib import Path\n\n"
        "from workbench.checkpoints import open_checkpoint\n"
        "from workbench.inspectors.conditioning.weights import read_other_files\n\n"
        f"read_other_files(open_checkpoint(Path({own})), [{epochs}], [{base}]).progress"
    )
