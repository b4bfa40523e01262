"""The Audit page: a training config against a reference recipe, or statements about one."""

from __future__ import annotations

import hashlib
import html
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from apps.pages.controls import Looking
from apps.pages.frame import Page, sentence_html
from apps.pages.report_section import literal, path_literal, text_of
from apps.pages.sections import (
    COPY_LINK,
    Download,
    add_heading,
    add_section,
    add_style,
    control_row,
    details_html,
    hidden_text,
    html_block,
    query_js,
    report_updates,
    root_block,
)
from apps.pages.subject import reason
from workbench.cli import MISTAKES
from workbench.core import NotAvailable
from workbench.core.job import LruCache

if TYPE_CHECKING:
    from apps.server.context import Context
    from workbench.recipes.audit import AuditReport
    from workbench.recipes.claims import ClaimsReport
    from workbench.recipes.reading import ConfigFile

FIGURE = "wb-audit-figure"
ADDRESS = ("config", "run", "against", "devices")
EXAMPLE = "example"
"""Value of the choice that shows the built-in config."""

# What the page keeps at most of an uploaded text, bytes; a config has at most 256 kB.
_MOST = 1 << 19
_QUIET: dict[str, Any] = {"show_progress": "hidden"}
REMEMBER = (
    "(config, against, devices) => window.wb.remember({config, against, devices: String(devices || '')})"
)


def page() -> Page:
    """The page's entry in the rail."""
    question = "What in a training config differs from its recipe and matters, and what contradicts itself?"
    return Page("audit", "Audit", question, build)


def build(context: Context) -> None:
    """Add the page's components and events."""
    AuditPage(context).build()


class AuditPage:
    """Components and handlers; reports are kept on the server under a key of what they were made of."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._reports: LruCache[AuditReport | ClaimsReport] = LruCache(20)
        context.downloads["audit"] = self.file

    def build(self) -> None:
        """Add components and events."""
        from workbench.recipes.recipe import recipe, recipe_names

        add_style("audit")
        recipes = [("the nearest", ""), *((recipe(name).title, name) for name in recipe_names())]
        with control_row():
            config = gr.Dropdown(
                [], label="config of a run, or the example", allow_custom_value=True, scale=3,
                min_width=360, elem_id="wb-audit-config",
            )  # fmt: skip
            against = gr.Dropdown(
                recipes, value="", label="reference recipe", allow_custom_value=True, scale=3, min_width=280,
                elem_id="wb-audit-against",
            )  # fmt: skip
            devices = gr.Number(
                None, label="devices (the recipe's)", precision=0, minimum=1, min_width=150, scale=1,
                elem_id="wb-audit-devices",
            )  # fmt: skip
            share = gr.Button("Copy link", min_width=90, scale=0)
        share.click(None, None, None, js=COPY_LINK)
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
                show = gr.Button("Audit the pasted text", size="sm", elem_id="wb-audit-show")
        section = add_section("wb-audit", "audit", figure_id=FIGURE, line_id="wb-audit-line")
        add_heading("wb-audit-findings-head", "Findings", "Both values, why it matters, and what to do")
        findings = html_block("wb-audit-findings")
        self._events(config, against, devices, file, text, show, [*section.outputs, findings])

    def _events(
        self,
        config: gr.Dropdown,
        against: gr.Dropdown,
        devices: gr.Number,
        file: gr.File,
        text: gr.Textbox,
        show: gr.Button,
        shown: list[Any],
    ) -> None:
        looking = Looking()
        asked: list[Any] = [config, against, devices, file, text]
        event = looking.on(
            [config.input, against.input, devices.submit, file.upload, file.clear, show.click],  # type: ignore[attr-defined]
            self.show, inputs=asked, outputs=shown, api_name="audit", show_progress="minimal",
        )  # fmt: skip
        event.success(None, [config, against, devices], None, js=REMEMBER)
        looking.after(
            root_block().load(
                self.chosen, hidden_text(), [config, against, devices], js=query_js(ADDRESS),
                api_name="audit_chosen", **_QUIET,
            )
        )  # fmt: skip

    def chosen(self, query: str) -> list[Any]:
        """Config, recipe and devices as the address names them; the built-in example without one."""
        config, run, against, devices = (json.loads(query) if query else None) or [None] * 4
        offered = [("example: Sapiens 1B", EXAMPLE)]
        offered += [(f"run {one.title}", one.id) for one in self._context.registry.runs()]
        wanted = config or run or EXAMPLE
        if wanted not in [value for _, value in offered]:
            offered.append((wanted, wanted))
        number = int(devices) if devices and str(devices).isdigit() else None
        return [
            gr.update(choices=offered, value=wanted),
            gr.update(value=against or ""),
            gr.update(value=number),
        ]

    def show(
        self,
        config: str | None = EXAMPLE,
        against: str | None = "",
        devices: float | None = None,
        file: str | None = None,
        text: str = "",
    ) -> list[Any]:
        """Sentence, figure, details, findings."""
        try:
            key, report = self._report(config or EXAMPLE, against or "", devices, file, text or "")
            code = self._code(config or EXAMPLE, against or "", devices, bool(file or (text or "").strip()))
        except MISTAKES as mistake:
            return [reason(mistake), gr.update(visible=False), "", ""]
        download = Download("audit", "audit", key)
        updates = report_updates(
            report, "", lambda one: details_html(download, one.table(), code, {FIGURE: ""})
        )
        return [*updates, report_html(report)]

    def file(self, section: str, kind: str, state: str) -> str:
        """The report of a key as the text of a CSV or JSON file.

        Raises:
            LookupError: the server keeps it no longer.
        """
        found = self._reports.peek(state)
        if found is None:
            raise LookupError("this audit is no longer kept: show it again")
        return text_of(found, kind)

    def _report(
        self, config: str, against: str, devices: float | None, file: str | None, text: str
    ) -> tuple[str, AuditReport | ClaimsReport]:
        from workbench.recipes.audit import audit
        from workbench.recipes.claims import judge_claims
        from workbench.recipes.claims_reading import read_claims

        name = Path(file).name if file else ""
        content = _text_of_file(Path(file)) if file else text
        told = [config, against, devices, name, content, None if content.strip() else self._version(config)]
        key = hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()

        def made() -> AuditReport | ClaimsReport:
            suffix = Path(name).suffix.lower()
            if suffix in (".md", ".markdown") or (suffix == ".toml" and "[[claim]]" in content):
                claims, named = read_claims(Path(file or ""))
                if not (against or named):
                    raise NotAvailable(f"{name} names no recipe: choose the one that it is about")
                return judge_claims(claims, against or named, name)
            found = self._config(config, name, content)
            return audit(
                found.values,
                against or None,
                title=found.title,
                devices=int(devices) if devices and devices >= 1 else None,
                notes=found.notes,
                checkpoint=found.checkpoint,
            )

        return key, self._reports.get(key, made)

    def _config(self, config: str, name: str, content: str) -> ConfigFile:
        """The uploaded or pasted config, or the chosen one."""
        from workbench.recipes.demo import CONFIG, TITLE
        from workbench.recipes.reading import of_checkpoint, read_text

        if content.strip():
            return read_text(content, name or "the pasted config")
        if name:
            raise ValueError(f"{name} is empty; expected the text of a config")
        if config == EXAMPLE:
            return read_text(CONFIG, TITLE)
        return of_checkpoint(self._context.registry.checkpoint(self._checkpoint(config)))

    def _checkpoint(self, run: str) -> Path:
        registry = self._context.registry
        return registry.epoch(run, registry.run(run).epochs[-1].index).path

    def _version(self, config: str) -> Any:
        from workbench.core.job import version_of

        return None if config == EXAMPLE else version_of(self._checkpoint(config))

    def _code(self, config: str, against: str, devices: float | None, own: bool) -> str:
        """The Python that makes the same report."""
        more = f", {literal(against)}" if against else ""
        more += f", devices={int(devices)}" if devices and devices >= 1 else ""
        path = '"your config.py"' if own or config == EXAMPLE else path_literal(self._checkpoint(config))
        return (
            "from pathlib import Path\n\nfrom workbench.recipes.audit import audit\n"
            f"from workbench.recipes.reading import read\n\nfound = read(Path({path}))\n"
            f"audit(found.values{more}, title=found.title, notes=found.notes, checkpoint=found.checkpoint)"
        )


def _text_of_file(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_MOST + 1)
    if len(data) > _MOST:
        raise ValueError(f"{path.name} is larger than any config: {_MOST} bytes are read at most")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.name} is no text; expected a .py, .yaml, .json or .toml config, or statements in .md "
            "(a checkpoint is audited as a run of the served folder)"
        ) from error


def report_html(report: AuditReport | ClaimsReport) -> str:
    """The findings of an audit as a list with both values, or the judged statements."""
    from workbench.recipes.claims import ClaimsReport

    if isinstance(report, ClaimsReport):
        return _claims_html(report)
    against = f"{report.recipe}: {report.why_recipe}" if report.recipe else report.why_recipe
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in (f"compared with {against}", *report.notes))
    if report.silent:
        notes += f"<li>not in the config, so not checked: {html.escape(', '.join(report.silent))}</li>"
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
    told = {name: html.escape(str(value)) for name, value in row.items()}
    return (
        f'<tr class="aud-{told["severity"]}"><td><b>{told["severity"]}</b></td>'
        f"<td><code>{told['key']}</code></td><td>{told['found']}</td><td>{told['expected']}</td>"
        f'<td>{told["why"]}<p class="aud-fix">{told["fix"]}</p>'
        f'<p class="aud-source">{told["source"]}</p></td></tr>'
    )


def _claims_html(report: ClaimsReport) -> str:
    order = {"wrong": 0, "right": 1, "not checked": 2}
    head = "".join(f"<th>{name}</th>" for name in ("verdict", "line", "about", "claimed", "upstream", "why"))
    marks = {"wrong": "error", "right": "right", "not checked": "remark"}
    rows = ""
    for row in sorted(report.table(), key=lambda row: order[row["verdict"]]):
        told = {name: html.escape(str(value)) for name, value in row.items()}
        claimed = told["claimed"] if row["key"] else told["text"]
        rows += (
            f'<tr class="aud-{marks[row["verdict"]]}"><td><b>{told["verdict"]}</b></td>'
            f"<td>{told['line']}</td>"
            f"<td><code>{told['key']}</code></td><td>{claimed}</td><td>{told['upstream']}</td>"
            f'<td>{told["why"]}<p class="aud-source">{told["source"]}</p></td></tr>'
        )
    return _table(head, rows)
