"""The Audit page: a training config against a reference recipe, or statements about one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from apps.pages.engine import QuestionPage, add_link_button
from apps.pages.frame import sentence_html
from apps.pages.job_sections import JobSection, QuestionSection, job_key
from apps.pages.links import whole_of_link
from apps.pages.report_section import config_text, literal, path_literal
from apps.pages.sections import add_heading, control_row, html_block
from apps.server.registry import is_demo
from workbench.cli import MISTAKES
from workbench.core import NotAvailable
from workbench.core.plain_text import escaped

if TYPE_CHECKING:
    from apps.pages.report_section import Answer
    from workbench.core.job import Job
    from workbench.recipes.audit import AuditReport
    from workbench.recipes.claims import ClaimsReport
    from workbench.recipes.reading import ConfigFile

EXAMPLE = "example"
"""Value of the choice that shows the built-in config."""


class AuditPage(QuestionPage):
    """One config at a time: of a run, uploaded, pasted, or the example."""

    path, prefix, title = "audit", "wb", "Audit"
    question = (
        "Where does a training config differ from its reference recipe, and where does it contradict itself?"
    )
    address, chosen_name = ("config", "run", "against", "devices"), "audit_chosen"

    def add_controls(self) -> Mapping[str, Component]:
        from workbench.recipes.recipe import recipe, recipe_names

        recipes = [("the nearest", ""), *((recipe(name).title, name) for name in recipe_names())]
        with control_row():
            self._config = gr.Dropdown(
                [], label="config of a run, or the example", allow_custom_value=True, scale=3,
                min_width=360, elem_id="wb-audit-config",
            )  # fmt: skip
            self._against = gr.Dropdown(
                recipes, value="", label="reference recipe", allow_custom_value=True, scale=3, min_width=280,
                elem_id="wb-audit-against",
            )  # fmt: skip
            self._devices = gr.Number(
                None, label="devices (empty: the recipe's)", precision=0, minimum=1, min_width=220, scale=1,
                elem_id="wb-audit-devices",
            )  # fmt: skip
            add_link_button()
        return {"config": self._config, "against": self._against, "devices": self._devices}

    def sections(self) -> Sequence[JobSection]:
        self._audit = Audit(self.context, [self._config, self._against, self._devices])
        return (self._audit,)

    def uploads(self) -> Mapping[str, Sequence[Component]]:
        return {"config": self._audit.own}

    def chosen(self, words: Sequence[str | None]) -> list[Any]:
        """Config, recipe and number of devices as the address has them."""
        config, run, against, devices = words
        offered = [("example: Sapiens 1B", EXAMPLE)]
        offered += [(f"run {one.title}", one.id) for one in self.context.registry.runs()]
        wanted = config or run or self._own_config() or EXAMPLE
        if wanted not in [value for _, value in offered]:
            offered.append((wanted, wanted))
        number = whole_of_link("devices", devices, None)
        return [
            gr.update(choices=offered, value=wanted), gr.update(value=against or ""), gr.update(value=number),
        ]  # fmt: skip

    def _own_config(self) -> str:
        """Id of the first run of the user's own whose last checkpoint holds a config; "" where none does."""
        registry = self.context.registry
        if is_demo(self.context.settings.root):
            return ""
        for run in registry.served_runs():
            with contextlib.suppress(*MISTAKES):  # a damaged file is refused where it is opened for itself
                if registry.checkpoint(registry.last_checkpoint(run.id)).config_text:
                    return run.id
        return ""


@dataclass(frozen=True)
class ConfigText:
    """What is audited.

    Attributes:
        config: id of a run, or EXAMPLE.
        against: name of a recipe; "" for the nearest.
        devices: number of devices; None for the recipe's.
        name: of the uploaded file; "" for none.
        text: of the uploaded file, or pasted; "" for none.
        file: the uploaded one.
    """

    config: str
    against: str
    devices: int | None
    name: str
    text: str
    file: Path | None


class Audit(QuestionSection[ConfigText]):
    """The audit, and its findings below the figure."""

    name, figure_id, handlers = "audit", "wb-audit-figure", ("audit", "audit_watch", "audit_cancel")
    report_title = "Audit"
    patience = 5.0

    def add_fields(self) -> list[Component]:
        with gr.Accordion("A config of your own: upload a file, or paste its text", open=False), gr.Row():
            file = gr.File(
                label="config (.py, .yaml, .json, .toml), or statements about a recipe (.md)",
                file_count="single", height=150, elem_id="wb-audit-file",
            )  # fmt: skip
            with gr.Column(min_width=320):
                text = gr.Textbox(
                    label="text of a config: it is read and never run", lines=6, max_lines=16,
                    elem_id="wb-audit-text",
                )  # fmt: skip
                self._show = gr.Button("Audit the pasted text", size="sm", elem_id="wb-audit-show")
        self.own = file, text
        return [*self._controls, file, text]

    def add_buttons(self) -> Mapping[gr.Button, Sequence[tuple[Component, str]]]:
        return {self._show: ()}

    def add_below(self) -> list[Component]:
        add_heading("wb-audit-findings-head", "Findings", "Both values, why it matters, and what to do")
        return [html_block("wb-audit-findings")]

    def below(self, result: Answer | None, *asked: Any) -> list[Any]:
        return ["" if result is None else report_html(result.reports[""])]  # type: ignore[arg-type]

    def asked(
        self,
        config: str | None = EXAMPLE,
        against: str | None = "",
        devices: float | None = None,
        file: str | None = None,
        text: str | None = "",
    ) -> ConfigText:
        path = Path(file) if file else None
        content = config_text(path) if path else text or ""
        if path and not content.strip():
            raise ValueError(f"{path.name} is empty; expected the text of a config")
        number = int(devices) if devices and devices >= 1 else None
        name = path.name if path else ""
        return ConfigText(config or EXAMPLE, against or "", number, name, content, path)

    def key(self, asked: ConfigText) -> str:
        served = asked.config != EXAMPLE and not asked.text.strip()
        version = self.context.registry.last_version(asked.config) if served else None
        return job_key("audit", *astuple(asked), version)

    def job_title(self, asked: ConfigText) -> str:
        return f"audit of {asked.name or ('the pasted config' if asked.text.strip() else asked.config)}"

    def work(self, asked: ConfigText, job: Job) -> AuditReport | ClaimsReport:
        from workbench.recipes.audit import audit
        from workbench.recipes.claims import judge_claims
        from workbench.recipes.claims_markdown import read_claims

        suffix = Path(asked.name).suffix.lower()
        if suffix in (".md", ".markdown") or (suffix == ".toml" and "[[claim]]" in asked.text):
            claims, named = read_claims(asked.file or Path())
            if not (asked.against or named):
                raise NotAvailable(f"{asked.name} names no recipe: choose the one that it is about")
            return judge_claims(claims, asked.against or named, asked.name)
        found = self._found(asked)
        return audit(
            found.values, asked.against or None, title=found.title, devices=asked.devices, notes=found.notes,
            checkpoint=found.checkpoint,
        )  # fmt: skip

    def _found(self, asked: ConfigText) -> ConfigFile:
        """The uploaded or pasted config, or the chosen one."""
        from workbench.recipes.demo import CONFIG, TITLE
        from workbench.recipes.reading import of_checkpoint, read_text

        if asked.text.strip():
            return read_text(asked.text, asked.name or "the pasted config")
        if asked.config == EXAMPLE:
            return read_text(CONFIG, TITLE)
        return of_checkpoint(
            self.context.registry.checkpoint(self.context.registry.last_checkpoint(asked.config))
        )

    def code(self, asked: ConfigText) -> str:
        more = f", {literal(asked.against)}" if asked.against else ""
        more += f", devices={asked.devices}" if asked.devices else ""
        own = asked.text.strip()
        if not own and asked.config == EXAMPLE:
            named, reading = "from workbench.recipes.demo import CONFIG, TITLE", "read_text(CONFIG, TITLE)"
        else:
            path = (
                '"your config.py"'
                if own
                else path_literal(self.context.registry.last_checkpoint(asked.config))
            )
            named, reading = "from pathlib import Path", f"read(Path({path}))"
        return (
            f"{named}\nfrom workbench.recipes.audit import audit\n"
            f"from workbench.recipes.reading import {reading.partition('(')[0]}\n\nfound = {reading}\n"
            f"audit(found.values{more}, title=found.title, notes=found.notes, checkpoint=found.checkpoint)"
        )

    def inputs(self, asked: ConfigText) -> Sequence[tuple[str, Path]]:
        if asked.file is not None:
            return (("config", asked.file),)
        if asked.text.strip() or asked.config == EXAMPLE:
            return ()
        return (("checkpoint", self.context.registry.last_checkpoint(asked.config)),)


def report_html(report: AuditReport | ClaimsReport) -> str:
    """The findings of an audit as a list with both values, or the judged statements."""
    from workbench.recipes.claims import ClaimsReport

    if isinstance(report, ClaimsReport):
        return _claims_html(report)
    against = f"{report.recipe}: {report.why_recipe}" if report.recipe else report.why_recipe
    notes = "".join(f"<li>{escaped(note)}</li>" for note in (f"compared with {against}", *report.notes))
    if report.silent:
        notes += f"<li>not in the config, so not checked: {escaped(', '.join(report.silent))}</li>"
    below = f'<ul class="aud-notes">{notes}</ul>'
    if not report.findings:
        return sentence_html("Nothing here differs in a way that matters.") + below
    head = "".join(
        f"<th>{name}</th>" for name in ("severity", "key", "found", "expected", "why and what to do")
    )
    rows = "".join(_row(row) for row in report.table())
    return _table(head, rows) + below


def _table(head: str, rows: str) -> str:
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="aud-rows">{table}</div>'


def _row(row: dict[str, Any]) -> str:
    cells = {name: escaped(str(value)) for name, value in row.items()}
    return (
        f'<tr class="aud-{cells["severity"]}"><td><b>{cells["severity"]}</b></td>'
        f"<td><code>{cells['key']}</code></td><td>{cells['found']}</td><td>{cells['expected']}</td>"
        f'<td>{cells["why"]}<p class="aud-fix">{cells["fix"]}</p>'
        f'<p class="aud-source">{cells["source"]}</p></td></tr>'
    )


def _claims_html(report: ClaimsReport) -> str:
    order = {"wrong": 0, "right": 1, "not checked": 2}
    head = "".join(f"<th>{name}</th>" for name in ("verdict", "line", "about", "claimed", "upstream", "why"))
    marks = {"wrong": "error", "right": "right", "not checked": "remark"}
    rows = ""
    for row in sorted(report.table(), key=lambda row: order[row["verdict"]]):
        cells = {name: escaped(str(value)) for name, value in row.items()}
        claimed = cells["claimed"] if row["key"] else cells["text"]
        rows += (
            f'<tr class="aud-{marks[row["verdict"]]}"><td><b>{cells["verdict"]}</b></td>'
            f"<td>{cells['line']}</td>"
            f"<td><code>{cells['key']}</code></td><td>{claimed}</td><td>{cells['upstream']}</td>"
            f'<td>{cells["why"]}<p class="aud-source">{cells["source"]}</p></td></tr>'
        )
    return _table(head, rows)
