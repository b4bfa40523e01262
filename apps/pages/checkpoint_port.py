"""Where two files part when both networks see the same photograph: a section of the Checkpoint page."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from apps.pages.frame import sentence_html
from apps.pages.report_section import Answer, path_literal
from apps.pages.sections import Download, add_heading, add_section, details_html, report_updates
from apps.pages.subject import file_of, reason
from workbench.cli import MISTAKES
from workbench.core.job import LruCache, version_of

if TYPE_CHECKING:
    from apps.server.context import Context
    from workbench.evaluation.port import PortReport

FIGURE = "wb-port-figure"
_QUIET: dict[str, Any] = {"show_progress": "hidden"}


class Section:
    """Components and handlers; nothing runs before the button is pressed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._reports: LruCache[PortReport] = LruCache(8)
        context.reports["checkpoint/port"] = self.shown

    def build(self, file: gr.Dropdown, against: gr.Dropdown) -> None:
        """Add the section's components.

        Args:
            file: the port.
            against: the reference.
        """
        add_heading(
            "wb-port-head", "Where do the two part?", "Both networks on the same photograph, place by place"
        )
        run = gr.Button("Run both", size="sm", min_width=120, scale=0, elem_id="wb-port-run")
        section = add_section("wb-port", "port", figure_id=FIGURE, line_id="wb-port")
        pair = [file, against]
        run.click(
            lambda: sentence_html("Both models are being built and run ...", "why"), None, section.lines[0],
            api_visibility="private", **_QUIET,
        ).success(
            self.compare, pair, section.outputs, api_name="checkpoint_port", concurrency_id="forward",
            concurrency_limit=2, show_progress="minimal",
        )  # fmt: skip
        # What stands there is of the pair before.
        nothing = functools.partial(list, ("", gr.update(visible=False), ""))
        for dropdown in pair:
            dropdown.change(nothing, None, section.outputs, api_visibility="private", **_QUIET)

    def compare(self, file: str | None, against: str | None) -> list[Any]:
        """The report, or why there is none."""
        try:
            report = self._report(file, against)
        except MISTAKES as mistake:
            return [reason(mistake), gr.update(visible=False), ""]
        download = Download("checkpoint/port", "port", json.dumps([file, against]))
        code = self.code(file, against)
        return report_updates(
            report, "", lambda found: details_html(download, found.table(), code, {FIGURE: ""})
        )

    def shown(self, section: str, state: str) -> Answer:
        """The comparison of the two files in `state`."""
        pair = json.loads(state)
        inputs = [("checkpoint", path) for path in self._files(*pair)]
        return Answer.of("Where do the two part?", self._report(*pair), self.code(*pair), inputs)

    def code(self, file: str | None, against: str | None) -> str:
        """The Python that makes the same comparison."""
        a, b = (path_literal(path) for path in self._files(file, against))
        return (
            "from workbench.data import builtin\n"
            "from workbench.evaluation.port import compare_port\n"
            "from workbench.models import open_model\n\n"
            f"a, b = open_model({a}, remap=True), open_model({b}, remap=True)\n"
            "compare_port(a.model, b.model, [builtin('astronaut').sample(0)], titles=(a.title, b.title))"
        )

    def _report(self, file: str | None, against: str | None) -> PortReport:
        a, b = self._files(file, against)
        key = f"port {version_of(a)} {version_of(b)}"
        return self._reports.get(key, lambda: _compared(self._context, a, b))

    def _files(self, file: str | None, against: str | None) -> tuple[Path, Path]:
        if not file or not against:
            raise ValueError("choose two checkpoints to run")
        return file_of(self._context, against), file_of(self._context, file)


def _compared(context: Context, a: Path, b: Path) -> PortReport:
    from workbench.data import builtin
    from workbench.evaluation.port import compare_port
    from workbench.models import open_model

    told = context.settings
    first, second = (
        open_model(
            path, config=told.config, family=told.family, adapter=told.adapter, remap=True,
            output=told.output, assume=told.assume, device=told.device,
        )
        for path in (a, b)
    )  # fmt: skip
    titles = (f"A ({a.parent.name}/{a.name})", f"B ({b.parent.name}/{b.name})")
    return compare_port(first.model, second.model, [builtin("astronaut").sample(0)], titles=titles)
