"""The Rollout page: two epochs of a sequence model, teacher-forced and autoregressive, side by side."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from apps.pages.engine import Controls, LabPage
from apps.pages.frame import sentence_html
from apps.pages.job_sections import JobSection, WorkSection
from apps.pages.report_section import Answer, opening_of, report_code, subject_inputs, untitled
from apps.pages.rollout import lab as states
from apps.pages.rollout.lab import (
    ADDRESS,
    DEFAULT_THRESHOLD,
    NORMALISERS,
    QUESTIONS,
    VALUES,
    Lab,
    Retraining,
    RolloutState,
    ScheduleTraining,
)
from apps.pages.sections import (
    COPY_LINK,
    Download,
    Section,
    add_heading,
    add_section,
    control_row,
    details_html,
    figure_update,
    sample_stepper,
)
from apps.pages.subject import neighbour
from workbench.core.plain_text import escaped
from workbench.core.report import Report, signed_text
from workbench.inspectors import get

if TYPE_CHECKING:
    from apps.server.context import Context
    from workbench.core.job import Job
    from workbench.training.overfit import OverfitReport

FIRST = "the first"

# Half the page's width: pictures need less height there than they plan for.
HEIGHTS = {"overlay": 460, "step_attention": 300, "forced_and_free": 360, "prefix": 360, "calibration": 320}


class RolloutPage(LabPage[RolloutState]):
    """All questions of the rollout lab on an early and a late epoch."""

    path, prefix, title, parent = "rollout", "rol", "Two epochs", "Rollout"
    question = (
        "How much accuracy does a sequence model lose when it reads its own predictions, early and late in "
        "training?"
    )
    address, sections, overview_ids, values = ADDRESS, QUESTIONS, ("wb-answer", "rol-facts"), VALUES
    linked = ("steps-of-each", "rate", "steps-of-attempt")

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.lab = Lab(context)

    def add_controls(self) -> Controls:
        choice: dict[str, Any] = {"value": None, "allow_custom_value": True}
        with control_row():
            run = gr.Dropdown([], label="run", min_width=190, scale=2, **choice)
            epoch_a = gr.Dropdown([], label="epoch A", min_width=130, **choice)
            epoch_b = gr.Dropdown([], label="epoch B", min_width=130, **choice)
            data = gr.Dropdown([], label="data", min_width=140, scale=2, **choice)
            back, sample, forth = sample_stepper("rol")
            keypoint = gr.Dropdown([FIRST], label="keypoint", min_width=130, **choice)
        with control_row("wb-tight"):
            support = gr.Number(
                None, label="support", precision=0, minimum=0, min_width=175, scale=0,
                placeholder="the sample itself",
            )  # fmt: skip
            threshold = gr.Number(
                DEFAULT_THRESHOLD, label="PCK threshold", minimum=0, step=0.05, min_width=110, scale=0
            )
            normaliser = gr.Dropdown(
                list(NORMALISERS), value=NORMALISERS[0], label="share of the box's", min_width=150, scale=0
            )
            share = gr.Button("Copy link", min_width=90, scale=0)
        share.click(None, None, None, js=COPY_LINK)
        inputs = [run, epoch_a, epoch_b, data, sample, support, keypoint, threshold, normaliser]
        steps = [
            (button, name, functools.partial(self.next_sample, by), [data, sample], sample)
            for button, name, by in ((back, "back", -1), (forth, "forth", 1))
        ]
        return Controls(inputs, {run: inputs[1:], data: inputs[4:]}, steps)

    def next_sample(self, by: int, data: str | None = "", sample: float | None = 0) -> Any:
        """The next sample that has an annotation; while the set is not known yet, there is none."""
        return neighbour(self.context, data, int(sample or 0), by) if data else gr.skip()

    def add_sections(self) -> list[Section]:
        sections = []
        for question in QUESTIONS:
            inspector = get(question)
            alone = f"look-{question.replace('_', '-')}"
            add_heading(f"rol-{question}", inspector.title, inspector.question, alone)
            sections.append(add_section(f"rol-{question}", question, "AB"))
        return sections

    def job_sections(self) -> Sequence[JobSection]:
        return Schedules(self.lab), Retrain(self.lab)

    def values_from_address(self, words: list[Any]) -> list[Any]:
        return states.from_address(self.context, words)

    def state_from(self, values: Sequence[Any]) -> RolloutState:
        given = list(values)
        given[6] = None if given[6] == FIRST else given[6]
        return states.state_of(self.context, *given)

    def read_state(self, text: str) -> RolloutState:
        return RolloutState.of_text(text)

    def address_of(self, state: RolloutState) -> dict[str, Any]:
        return states.address_of(self.context, state)

    def choices(self, state: RolloutState, bare: bool = False) -> list[Any]:
        registry = self.context.registry
        run, pose_set = registry.run(state.run), registry.sets.get(state.data)
        epochs = [(e.label, e.index) for e in run.epochs]
        skeleton = None if bare else registry.skeleton(state.run, state.epochs[-1])
        sets = [state.data] if skeleton is None else registry.sets.fitting(skeleton)
        return [
            gr.update(choices=[(r.title, r.id) for r in registry.runs()], value=state.run),
            gr.update(choices=epochs, value=state.epochs[0]),
            gr.update(choices=epochs, value=state.epochs[-1]),
            gr.update(choices=sets, value=state.data),
            gr.update(value=state.sample, label=f"sample of {len(pose_set)}"),
            gr.update(value=state.support),
            gr.update(
                choices=[FIRST, *(skeleton.keypoints if skeleton else ())], value=state.keypoint or FIRST
            ),
            gr.update(value=state.threshold),
            gr.update(value=state.normaliser),
        ]

    def start(self, state: RolloutState, again: bool = False) -> None:
        self.lab.start(state)

    def job(self, state: RolloutState) -> Job | None:
        return self.lab.job(state)

    def complete(self, state: RolloutState) -> bool:
        return all(self.lab.found(state, q, e) is not None for q in QUESTIONS for e in state.epochs)

    def overview(self, state: RolloutState) -> list[str]:
        return [answer_html(self.lab, state), facts_html(self.lab, state)]

    def progress_of(self, state: RolloutState, section: str) -> int:
        return sum(self.lab.found(state, section, epoch) is not None for epoch in state.epochs)

    def section_updates(self, state: RolloutState, section: str) -> list[Any]:
        return section_updates(self.lab, state, section)

    def answer(self, state: RolloutState, section: str) -> Answer:
        """Both epochs' reports; computed now where they are not there."""
        reports = {_epoch_label(self.lab, state, e): self.lab.report(state, section, e) for e in state.epochs}
        inputs = subject_inputs(self.context, state.run, state.epochs, state.data)
        return Answer(get(section).title, reports, code_of(self.lab, state, section), inputs)

    def runs_that_can(self) -> list[str]:
        return [run.title for run in states.sequence_runs(self.context)]


def _epoch_label(lab: Lab, state: RolloutState, epoch: int) -> str:
    return lab.context.registry.epoch(state.run, epoch).label


def section_updates(lab: Lab, state: RolloutState, question: str) -> list[Any]:
    """Updates of a section: columns, sentences and figures of A and B, details."""
    found = [lab.found(state, question, epoch) for epoch in state.epochs]
    drawn = [untitled(report) if isinstance(report, Report) else None for report in found]
    labels = [_epoch_label(lab, state, epoch) for epoch in state.epochs]
    two = len(found) == 2
    if two:
        if drawn[0] is not None and drawn[1] is not None:
            from workbench.figures.layout import on_same_axes

            drawn = list(on_same_axes(drawn[0], drawn[1]))
        for figure in filter(None, drawn):
            figure.update_layout(height=HEIGHTS.get(question, figure.layout.height))  # type: ignore[attr-defined]
    else:  # one epoch has the whole width, in B's place
        found, drawn, labels = [None, *found], [None, *drawn], ["", *labels]
    lines = [
        f'<div class="rol-epoch">{letter} {escaped(label)}</div>{found_html(report)}'
        if two
        else found_html(report)
        for letter, label, report in zip("AB", labels, found, strict=True)
    ]
    pictures = {f"rol-{question}-{letter}": letter for letter, f in zip("AB", drawn, strict=True) if f}
    details = ""
    if pictures:
        rows = [
            {"epoch": label, **row}
            for label, report in reports_of(lab, state, question)
            for row in report.table()
        ]
        download = Download("rollout", question, state.text())
        details = details_html(download, rows, code_of(lab, state, question), pictures)
    return [gr.update(visible=two), gr.update(visible=True), *lines, *map(figure_update, drawn), details]


def reports_of(lab: Lab, state: RolloutState, question: str) -> list[tuple[str, Report]]:
    """(label of the epoch, report) of the reports that exist."""
    found = [(_epoch_label(lab, state, e), lab.found(state, question, e)) for e in state.epochs]
    return [(label, report) for label, report in found if isinstance(report, Report)]


def code_of(lab: Lab, state: RolloutState, question: str) -> str:
    """Python that makes the same reports in a notebook."""
    inspector = get(question)
    more = ""
    if question == "support" and (other := lab.other(state)) is not None:
        more = f"[{opening_of(lab.context, state.data)[1]}.sample({other})]"
    codes = [
        report_code(lab.context, state.subject(epoch), inspector, lab.params(state, inspector), more)
        for epoch in state.epochs
    ]
    if state.support is not None:
        example = f"{opening_of(lab.context, state.data)[1]}.sample({state.support})"
        codes = [c.replace(").model\n", f").model.supported_by([{example}])\n") for c in codes]
    return "\n\n".join(codes)


def found_html(found: Report | str | None) -> str:
    """A section's sentence: the report's, or why there is none."""
    if found is None:
        return sentence_html("…", "why")
    return sentence_html(found, "why") if isinstance(found, str) else sentence_html(found.summary())


def answer_html(lab: Lab, state: RolloutState) -> str:
    """The result in one sentence; "" while the first question is open."""
    from workbench.inspectors.sequence.forced_and_free import ForcedAndFree, diagnosis
    from workbench.inspectors.sequence.support import SupportUse

    found = [lab.found(state, "forced_and_free", epoch) for epoch in state.epochs]
    last = found[-1]
    if isinstance(last, str):
        return sentence_html(last, "why")
    if not isinstance(last, ForcedAndFree):
        return ""
    parts = [f"{_epoch_label(lab, state, state.epochs[-1])}: {diagnosis(last)}"]
    first = found[0]
    if len(found) > 1 and isinstance(first, ForcedAndFree):
        label = _epoch_label(lab, state, state.epochs[0])
        parts.append(
            f"{label} had PCK {first.pck_forced:.2f} teacher-forced, {first.pck_free:.2f} free-running"
        )
    support = lab.found(state, "support", state.epochs[-1])
    if isinstance(support, SupportUse):
        parts.append(f"the support is {support.verdict}")
    checked: Any = lab.found(state, "coordinates", state.epochs[-1])
    if checked is not None and not isinstance(checked, str) and not checked.agree:
        wrong = ", ".join(claim.what for claim in checked.claims if not claim.agrees)
        parts.append(f"loss, metric and picture use different coordinates; do not trust: {wrong}")
    return sentence_html("; ".join(parts))


def facts_html(lab: Lab, state: RolloutState) -> str:
    """One row per fact, one column per epoch; a row's name leads to its section."""
    from workbench.inspectors.sequence.forced_and_free import ForcedAndFree

    letters = "AB" if len(state.epochs) > 1 else "B"
    heads = "".join(
        f'<th scope="col"><i>{letter}</i> {escaped(_epoch_label(lab, state, i))}</th>'
        for letter, i in zip(letters, state.epochs, strict=True)
    )
    rows = []
    for name, question, text_of_report in FACTS:
        cells = []
        for letter, epoch in zip(letters, state.epochs, strict=True):
            found = lab.found(state, question, epoch)
            text = "…" if found is None else "–" if isinstance(found, str) else text_of_report(found)
            mark = f"rollout-{name.replace(' ', '-').replace(',', '')}-{letter}"
            cells.append(f'<td data-testid="{mark}">{escaped(text)}</td>')
        link = f'<a href="#rol-{question}">{escaped(name)}</a>'
        rows.append(f'<tr><th scope="row">{link}</th>{"".join(cells)}</tr>')
    rule = lab.found(state, "forced_and_free", max(state.epochs))
    note = ""
    if isinstance(rule, ForcedAndFree):
        protocol = f"{rule.rule}; with these keypoints it can only be {rule.steps_of_pck}"
        note = f'<p class="wb-protocol">{escaped(protocol)}</p>'
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
    if wrong or report.logs:
        return f"disagree: {', '.join(wrong)}" if wrong else "agree"
    return "agree; loss and metric not compared" if report.claims else "not compared"


FACTS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("PCK teacher-forced", "forced_and_free", lambda r: f"{r.pck_forced:.2f}"),
    ("PCK free-running", "forced_and_free", lambda r: f"{r.pck_free:.2f}"),
    ("gap", "forced_and_free", lambda r: signed_text(r.gap, "+.2f")),
    ("true tokens for half of the gap", "prefix", _half),
    ("growth of an error, later steps", "corruption", lambda r: f"{r.gain_at_end:.2f}"),
    ("support", "support", lambda r: f"{r.verdict} (answers move by up to {r.most_moved:.1%})"),
    ("end of sequence", "calibration", _end),
    ("token types right", "calibration", lambda r: f"{r.right[1]:.0%}"),
    ("loss, metric, picture", "coordinates", _claims),
)
"""Name, question that it comes from, and its text for a report."""


class Schedules(WorkSection):
    """Scheduled sampling: trained on request, because it takes its time."""

    name, title = "schedules", "Scheduled sampling"
    question = (
        "Which training schedule closes the gap? Epoch A is trained further on this sample with each "
        "schedule, every time from the same weights."
    )
    linked = ("steps-of-each", "rate")
    handlers = ("rollout_train", "rollout_taught", "rollout_stop")

    def __init__(self, lab: Lab) -> None:
        self.work = ScheduleTraining(lab)

    def add_fields(self) -> list[Component]:
        steps = gr.Number(60, label="steps of each", precision=0, minimum=4, min_width=110, scale=0)
        rate = gr.Number(1e-3, label="learning rate", min_width=110, scale=0)
        return [steps, rate]

    def add_buttons(self) -> Mapping[gr.Button, Sequence[tuple[Component, str]]]:
        return {gr.Button("Train with each schedule", min_width=190, scale=0, elem_id="rol-train"): ()}

    def arguments(
        self, state: str, steps: float | None = None, rate: float | None = None
    ) -> tuple[RolloutState, int, float]:
        return RolloutState.of_text(state), int(steps or 0), float(rate or 0)


class Retrain(WorkSection):
    """The overfit bisection on epoch B's network, trained from its initial weights."""

    name, title = "bisection", "Which switch?"
    question = (
        "Epoch B's network overfits this sample from initial weights, with all its defects; then one defect "
        "at a time is switched off."
    )
    linked = ("steps-of-attempt",)
    handlers = ("rollout_learn", "rollout_learned", "rollout_unlearn")

    def __init__(self, lab: Lab) -> None:
        self.work = Retraining(lab)

    def add_fields(self) -> list[Component]:
        return [gr.Number(400, label="steps of each attempt", precision=0, minimum=4, min_width=150, scale=0)]

    def add_buttons(self) -> Mapping[gr.Button, Sequence[tuple[Component, str]]]:
        return {gr.Button("Retrain and bisect", min_width=190, scale=0, elem_id="rol-learn"): ()}

    def updates(self, result: OverfitReport, download: Download, figure: str, *asked: Any) -> list[Any]:
        return [retraining_html(result), figure_update(None), ""]

    def arguments(self, state: str, steps: float | None = None) -> tuple[RolloutState, int]:
        return RolloutState.of_text(state), int(steps or 0)


def retraining_html(report: OverfitReport) -> str:
    """Verdict, other findings, and what each removed switch gave back."""
    verdict = report.verdict
    cause = f'<b data-testid="rollout-culprit">{escaped(report.culprit or "none of the switches")}</b>'
    if report.culprit:
        cause += f": without it, {escaped(report.mended)}; {escaped(report.why)}"
    elif report.next_step:
        cause += f"; {escaped(report.next_step)}"
    lines = [("expected", escaped(verdict.expected)), ("measured", escaped(verdict.came)), ("cause", cause)]
    for one in report.evidence:
        ends = (
            f"; with <b>{escaped(one.culprit)}</b> switched off, {escaped(one.mended)}" if one.culprit else ""
        )
        lines.append(("and", escaped(one.text) + ends))
    for trial in report.trials:
        lines.append((f"without {trial.without}", f"{trial.verdict.outcome}, PCK {trial.verdict.pck:.2f}"))
    lines.append(("command", f"<code>{escaped(report.command)}</code>"))
    rows = "".join(f"<tr><th>{escaped(name)}</th><td>{value}</td></tr>" for name, value in lines)
    headline = sentence_html(f"Retrained: {report.headline}")
    return f'{headline}<div class="wb-card rol-facts"><table class="wb-facts">{rows}</table></div>'
