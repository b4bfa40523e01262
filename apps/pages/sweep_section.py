"""All epochs of a run on a data set, read in several ways: the form and job of `workbench sweep`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import gradio as gr
from gradio.components import Component

from apps.pages.job_sections import QuestionSection
from apps.pages.links import whole_of_link, word_of_link
from apps.pages.sections import control_row, hidden_text, one_sentence_errors, query_js, root_block
from apps.server.comparison import has_areas
from apps.server.encoding import sent_words
from apps.server.prediction_folders import PREFIX, SWEPT
from workbench.cli import MISTAKES
from workbench.core.command_line import command_line
from workbench.data import BUILTIN
from workbench.evaluation.sweeps.readings import ABLATIONS
from workbench.evaluation.sweeps.rules import SweepRules

if TYPE_CHECKING:
    from apps.pages.report_section import Answer
    from workbench.core.job import Job
    from workbench.evaluation.sweeps.report import SweepReport

LONGEST_NAME = 200
"""Bytes of a run's name in the name of its sweep's folder, which is extended while it is written."""


@dataclass(frozen=True)
class SweepWanted:
    """What is asked.

    Attributes:
        run: id of a served run.
        data: id of a served set.
        ablations: further ways to read the outputs, names of ABLATIONS.
        limit: only the first so many images; None for all.
    """

    run: str
    data: str
    ablations: tuple[str, ...] = ()
    limit: int | None = None


class Sweeping(QuestionSection[SweepWanted]):
    """AP of every epoch and variant; its folder is listed above when it is finished."""

    name, title = "sweep", "Sweep"
    question = "Evaluate all epochs of a run on a data set with several variants, as workbench sweep does"
    handlers = ("history_sweep", "history_swept", "history_unsweep")
    automatic = False
    cancelled = "Cancelled. Finished epochs are stored; the button continues where it stopped."
    report_title = "Sweep"
    linked = ("sweep-run", "sweep-data", "sweep-ablations", "sweep-images")

    def of_link(self, query: str = "") -> list[Any]:
        """The fields for the words of an address; a wrong one is said, and what is shown without it taken."""
        run, data, ablations, limit = sent_words(query, len(self.linked))
        usual = self._usual()
        runs = [one.id for one in self.context.registry.runs()]
        names = self.linked
        wanted = [word_of_link(names[2], word, list(ABLATIONS), "") for word in (ablations or "").split(",")]
        images = whole_of_link(names[3], limit, None, 1)
        return [
            word_of_link(names[0], run, runs, usual[0]) or None,
            word_of_link(names[1], data, self.context.registry.sets.ids(), usual[1]),
            list(dict.fromkeys(filter(None, wanted))),
            "" if images is None else str(images),
        ]

    def _usual(self) -> tuple[str, str]:
        """Run and data set of a page that was opened without any."""
        runs = self.context.registry.runs()
        return (runs[0].id if runs else ""), self.context.registry.sets.ids()[0]

    def link(self, fields: Sequence[Component]) -> None:
        """Fill the fields from the address, and write them into it when they change."""
        root_block().load(
            one_sentence_errors(self.of_link), hidden_text(), list(fields), js=query_js(self.linked),
            api_visibility="private", show_progress="hidden",
        )  # fmt: skip
        plain = json.dumps(dict(zip(self.linked, self._usual(), strict=False)))
        keep = f"(...values) => window.wb.keep({json.dumps(self.linked)}, values, {plain})"
        *menus, limit = fields
        for event in (*(one.change for one in menus), limit.submit, limit.blur):  # type: ignore[attr-defined]
            event(None, list(fields), None, js=keep)

    def add_fields(self) -> list[Component]:
        runs = [(run.title, run.id) for run in self.context.registry.runs()]
        sets = self.context.registry.sets.ids()
        choice: dict[str, Any] = {"allow_custom_value": True}
        with control_row():
            run = gr.Dropdown(
                runs, value=runs[0][1] if runs else None, label="run", min_width=200, elem_id="wb-sweep-run",
                **choice,
            )  # fmt: skip
            data = gr.Dropdown(
                sets, value=sets[0], label="data", min_width=160, scale=2, elem_id="wb-sweep-data", **choice
            )  # the set that fits would have to open a model, which not every run has
            ablations = gr.Dropdown(
                list(ABLATIONS), value=[], multiselect=True, label="ablations", min_width=220,
                elem_id="wb-sweep-ablations",
            )  # fmt: skip
            limit = gr.Textbox(
                "", label="images", placeholder="all", min_width=90, max_lines=1, elem_id="wb-sweep-limit"
            )
        run.input(
            self._fitting, run, data, api_visibility="private", show_progress="hidden",
            trigger_mode="always_last",
        )  # fmt: skip
        return [run, data, ablations, limit]

    def _fitting(self, run: str) -> str | None:
        """The set that a run is looked at with by default."""
        try:
            return self.context.registry.default_data(run, 0)
        except MISTAKES:
            return None

    def add_buttons(self) -> Mapping[gr.Button, Sequence[tuple[Component, str]]]:
        return {gr.Button("Sweep", variant="primary", min_width=110, scale=0, elem_id="wb-sweep-start"): ()}

    # What is asked.

    def asked(
        self,
        run: str | None = None,
        data: str | None = None,
        ablations: Sequence[str] | None = None,
        limit: str | None = None,
    ) -> SweepWanted:
        if not run or not data:
            raise ValueError("sweep: choose a run and a data set")
        self.context.registry.run(run)
        if data not in self.context.registry.sets.ids():
            raise KeyError(f"no data set {data!r} is served")
        text = str(limit or "").strip()
        if text and not (text.isdecimal() and int(text[:9]) > 0 and len(text) < 10):
            raise ValueError(f"images: expected a whole number from 1, or nothing for all, got {text[:40]!r}")
        return SweepWanted(run, data, tuple(ablations or ()), int(text) if text else None)

    def key(self, asked: SweepWanted) -> str:
        epochs = self.context.registry.run(asked.run).epochs
        identity = [
            [self.context.registry.version_of(epoch.path) for epoch in epochs],
            self.context.registry.sets.version(asked.data),
            dataclasses.astuple(asked),
        ]  # fmt: skip
        return f"sweep {hashlib.sha256(json.dumps(identity).encode()).hexdigest()}"

    def job_title(self, asked: SweepWanted) -> str:
        return f"sweep over {asked.run} on {asked.data}"

    def work(self, asked: SweepWanted, job: Job) -> SweepReport:
        from workbench.evaluation.sweeps.sweep import sweep

        report = sweep(
            self.context.registry.run(asked.run).folder, self._data(asked), self._out(asked),
            images=self._images(asked), within=self.context.registry.sets.allowed(asked.data),
            rules=self._rules(asked), progress=job.progress,
            cancelled=job.cancelled,
        )  # fmt: skip
        self.context.predictions.look_again()
        return report

    def _rules(self, asked: SweepWanted) -> SweepRules:
        """What is asked, and what the command line of the app states about models and images."""
        settings = self.context.settings
        names = ("config", "family", "adapter", "remap", "allow_partial", "output", "assume")
        opening = {name: getattr(settings, name) for name in names if getattr(settings, name)}
        return SweepRules(
            ablations=asked.ablations, limit=asked.limit, device=settings.device, opening=opening,
            bits=settings.reading.bits, as_stored=settings.reading.as_stored,
            area_rule="annotated" if has_areas(self.context.registry.sets.get(asked.data)) else "box",
        )  # fmt: skip

    def _data(self, asked: SweepWanted) -> str:
        return asked.data if asked.data in BUILTIN else str(self.context.registry.sets.file(asked.data))

    def _images(self, asked: SweepWanted) -> Path | None:
        return None if asked.data in BUILTIN else self.context.settings.images

    def _out(self, asked: SweepWanted) -> Path:
        """The same question by the same rules goes on in the same folder."""
        digest = hashlib.sha256(repr((asked, self._rules(asked))).encode()).hexdigest()
        # A name may have 255 bytes, also that of the run: the digest tells shortened ones apart.
        name = os.fsencode(Path(asked.run).name or "run")[:LONGEST_NAME].decode("utf-8", "ignore")
        return self.context.predictions.swept / f"{name}-{digest[:8]}"

    # Answers.

    def code(self, asked: SweepWanted) -> str:
        """The command that does the same."""
        rules = self._rules(asked)
        named = {
            "images": self._images(asked), **rules.opening, "bits": rules.bits, "as_stored": rules.as_stored,
            "no_area": rules.area_rule == "box", "device": "" if rules.device == "cpu" else rules.device,
            "ablations": ",".join(rules.ablations), "limit": rules.limit, "out": self._out(asked),
        }  # fmt: skip
        words = [self.context.registry.run(asked.run).folder, "--data", self._data(asked)]
        for name, value in named.items():
            option = f"--{name.replace('_', '-')}"
            if value is True:
                words.append(option)
            elif value:
                for one in value if isinstance(value, tuple) else (value,):
                    words += [option, one]
        return command_line(["workbench", "sweep", *words])

    def inputs(self, asked: SweepWanted) -> Sequence[tuple[str, Path]]:
        found = [("checkpoint", epoch.path) for epoch in self.context.registry.run(asked.run).epochs]
        if asked.data not in BUILTIN:
            found.append(("annotations", self.context.registry.sets.file(asked.data)))
        return found

    def updates(self, result: Answer, download: Any, figure: str, *asked: Any) -> list[Any]:
        """Sentence, figure, details; a link that opens the epochs above."""
        line, drawn, details = super().updates(result, download, figure, *asked)
        wanted = self.asked(*asked)
        folder = quote(f"{PREFIX}{SWEPT}:{self._out(wanted).name}", safe="")
        link = f'<p><a href="/history?run={folder}">Open these epochs: what was gained and lost</a></p>'
        return [line, drawn, link + details]
