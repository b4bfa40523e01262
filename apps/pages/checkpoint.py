"""The Checkpoint page: what a file is, how much of its model it fills, what changed in it, where two part."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import gradio as gr
import numpy as np
from gradio.components import Component

from apps.pages.controls import LatestQuestion
from apps.pages.engine import QuestionPage, add_link_button
from apps.pages.frame import sentence_html
from apps.pages.job_sections import QUIET, JobSection, QuestionSection
from apps.pages.report_section import opening_model, path_literal, sheet
from apps.pages.sections import control_row, hidden_text, html_block, one_sentence_errors
from apps.pages.subject import epoch_named, file_of, files
from workbench.core import NotAvailable
from workbench.core.plain_text import escaped
from workbench.core.report import counted

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from apps.pages.report_section import Answer
    from workbench.checkpoints import Checkpoint
    from workbench.checkpoints.difference import CheckpointDifference
    from workbench.checkpoints.loading import LoadReport
    from workbench.core.job import Job
    from workbench.evaluation.port import PortReport


def summary(checkpoint: Checkpoint) -> str:
    """What the file is, in one sentence."""
    from workbench.checkpoints.loading import millions

    identity = checkpoint.identity
    what = str(identity) or "unknown network"
    when = "" if checkpoint.epoch is None else f", epoch {checkpoint.epoch}"
    # What the run was judged by comes before what it was trained with.
    judged = sorted(checkpoint.metrics.items(), key=lambda item: "AP" not in item[0] and "PCK" not in item[0])
    metrics = "".join(f", {name} {value:.4g}" for name, value in judged[:2])
    validated = any(name.startswith(("val/", "best_score")) for name, _ in judged[:2])
    note = f" ({checkpoint.metrics_note})" if validated and checkpoint.metrics_note else ""
    size = f"{millions(checkpoint.parameters)} parameters"
    return f"{what}: {size}, format {checkpoint.format}{when}{metrics}{note}."


def facts(checkpoint: Checkpoint) -> list[tuple[str, str | list[str]]]:
    """(name, value or values) of everything the file says; what it does not say is left out."""
    identity = checkpoint.identity
    size = sum(path.stat().st_size for path in checkpoint.paths)
    keypoints = checkpoint.dataset_meta.get("keypoint_id2name") or {}
    found: list[tuple[str, Any]] = [
        ("file", f"{', '.join(p.name for p in checkpoint.paths)}, {size / 1e6:.1f} MB"),
        ("format", f"{checkpoint.format} ({checkpoint.container})"),
        ("family", str(identity)),
        ("because", list(identity.evidence)),
        ("published", identity.expected),
        ("epoch", "" if checkpoint.epoch is None else str(checkpoint.epoch)),
        ("iteration", "" if checkpoint.iteration is None else str(checkpoint.iteration)),
        ("metrics", [f"{k} {v:.4g}" for k, v in checkpoint.metrics.items()]),
        ("of which epoch", checkpoint.metrics_note),
        (
            "tensors",
            f"{len(checkpoint.tensors)}, {', '.join(f'{n} {t}' for t, n in checkpoint.dtypes.items())}",
        ),
        ("parameters", f"{checkpoint.parameters:,}"),
        ("counted once", [f"{name}: weights that others hold too" for name in checkpoint.shared[:20]]),
        ("not read", checkpoint.unread_text),
        ("left in the file", [f"{text}, not read" for text in checkpoint.left]),
        ("checksums", str(checkpoint.facts.get("checksums", ""))),
        ("wrapper", " ".join(part for part in (checkpoint.wrapper, checkpoint.prefix) if part)),
        ("average", checkpoint.ema),
        ("optimiser", checkpoint.optimizer or ""),
        ("data set", _data_set(checkpoint, len(keypoints))),
        ("versions", [f"{k} {v}" for k, v in checkpoint.versions.items()]),
        ("not run", [f"{name}" for name in checkpoint.inert]),
    ]
    return [(name, value) for name, value in found if value]


def _data_set(checkpoint: Checkpoint, keypoints: int) -> str:
    name = str(checkpoint.dataset_meta.get("dataset_name", ""))
    return f"{name}, {counted(keypoints, 'keypoint')}" if keypoints else name


def facts_html(rows: Iterable[tuple[str, str | list[str]]]) -> str:
    """The facts as a table; names and values come from a file, so all of it is escaped."""
    cells = []
    for name, value in rows:
        shown = "<br>".join(escaped(v) for v in value) if isinstance(value, list) else escaped(value)
        cells.append(f"<tr><th scope='row'>{escaped(name)}</th><td>{shown}</td></tr>")
    return f'<table class="wb-facts">{"".join(cells)}</table>'


def parts_figure(checkpoint: Checkpoint) -> Figure:
    """Parameters by first part of the name."""
    from workbench.figures import RUN_COLOURS, new_figure

    parts = checkpoint.parts()
    largest = sorted(parts, key=lambda name: parts[name])[-14:]
    most = largest[-1] if largest else "nothing"
    share = parts[most] / max(1, sum(parts.values())) if largest else 0
    figure = new_figure(
        f"{most} holds {share:.0%} of the parameters", x="parameters", height=130 + 26 * max(3, len(largest))
    )
    figure.add_bar(
        x=np.array([parts[name] for name in largest], np.float32),
        y=largest,
        orientation="h",
        marker={"color": RUN_COLOURS[0]},
        hovertemplate="%{y}: %{x:,.0f}<extra></extra>",
    )
    return figure.update_xaxes(tickformat="~s")


def tensor_sheet(checkpoint: Checkpoint) -> dict[str, Any]:
    """All tensors: name, shape, type, number of elements."""
    return sheet(
        [
            {
                "tensor": name,
                "shape": " x ".join(map(str, info.shape)) or "1",
                "type": info.dtype,
                "elements": info.numel,
            }
            for name, info in checkpoint.tensors.items()
        ]
    )


FILE_LABEL = "checkpoint, or its path below the served folder"


class CheckpointPage(QuestionPage):
    """Facts of one file; its loading report; what changed from another file; both on one photograph."""

    path, prefix, title = "checkpoint", "wb", "Checkpoint"
    question = "What is this file, does it load completely, and where does it differ from another one?"
    address, chosen_name = ("file", "against", "run", "epoch"), "checkpoint_chosen"

    def add_controls(self) -> Mapping[str, Component]:
        offered = files(self.context)
        choice: dict[str, Any] = {"value": None, "allow_custom_value": True, "scale": 3, "min_width": 320}
        with control_row():
            self._file = gr.Dropdown(offered, label=FILE_LABEL, **choice)
            self._against = gr.Dropdown(offered, label="compare with", **choice)
            add_link_button()
        line = html_block("wb-answer")
        self._shown: list[Component] = [line, *self._add_file_card()]
        return {"file": self._file, "against": self._against}

    def _add_file_card(self) -> tuple[gr.HTML, gr.Plot]:
        """Facts of the file with its hash on request, and a figure of its parts."""
        with gr.Row():
            with gr.Column(scale=1, min_width=420, elem_classes="wb-card"):
                facts = html_block("wb-facts")
                with gr.Row(elem_classes="wb-quiet-row"):
                    digest = gr.Textbox(
                        show_label=False, placeholder="sha256 of the file", interactive=False, scale=4,
                        elem_id="wb-digest",
                    )  # fmt: skip
                    hash_it = gr.Button("sha256", size="sm", min_width=80, scale=0)
            with gr.Column(scale=1, min_width=420, elem_classes="wb-card"):
                parts = gr.Plot(show_label=False, container=False, elem_id="wb-parts")
        # A large file takes its time; its hash must not stand beside the facts of another chosen meanwhile.
        asked, found = hidden_text(), hidden_text()
        hash_it.click(None, self._file, asked, js="(file) => file").success(
            one_sentence_errors(self.hashed), asked, found, api_name="checkpoint_hash", **QUIET
        ).success(
            None, [self._file, asked, found], digest,
            js="(file, asked, found) => (file === asked ? found : '')",
        )  # fmt: skip
        self._file.change(None, None, digest, js="() => ''")
        return facts, parts

    def sections(self) -> Sequence[JobSection]:
        pair = self._file, self._against
        return Load(self.context, pair[:1]), Difference(self.context, pair), Port(self.context, pair)

    def first(self, loaded: Any) -> Any:
        """Facts are shown at once; then the sections answer."""
        with gr.Accordion("All tensors", open=False):
            tensors = gr.Dataframe(interactive=False, show_label=False, max_height=420)
        with gr.Accordion("Config inside the file (shown, never run)", open=False):
            config = gr.Code(language="python", show_label=False, interactive=False, max_lines=40)
        opening = LatestQuestion()
        opening.after(loaded)
        return opening.on(
            [self._file.input], one_sentence_errors(self.opened), inputs=self._file,
            outputs=[*self._shown, config, tensors], api_name="checkpoint", show_progress="minimal",
        )  # fmt: skip

    def chosen(self, words: Sequence[str | None]) -> list[Any]:
        """File and file to compare with, as the address or the chosen epoch has them.

        Raises:
            ValueError: the address names a file that is not there; the page then shows another one.
        """
        file, against, run, epoch = words
        registry, offered = self.context.registry, files(self.context)
        for named in filter(None, (file, against)):
            if named not in [identity for _, identity in offered]:
                file_of(self.context, named)
        if not file:
            folder = registry.run(run) if run else registry.default_run()
            index = epoch_named(folder, epoch) if epoch else folder.epochs[-1].index
            file = registry.served.identity(registry.epoch(folder.id, index).path)
        if not against:
            # What a person compares an epoch with is most often the one before.
            ids = [identity for _, identity in offered]
            place = ids.index(file) if file in ids else 0
            against = ids[max(0, place - 1)] if ids else None
        return [gr.update(choices=offered, value=file), gr.update(choices=offered, value=against)]

    def opened(self, identity: str | None) -> list[Any]:
        """Sentence, facts, parts figure, config text, tensors of one file.

        Raises:
            ValueError: it is no checkpoint, or damaged.
            Refused: it lies outside the served folders.
        """
        if not identity:
            raise ValueError("choose a checkpoint, or type its path below the served folder")
        checkpoint = self.context.registry.checkpoint(file_of(self.context, identity))
        return [
            sentence_html(summary(checkpoint)),
            facts_html(facts(checkpoint)),
            parts_figure(checkpoint),
            checkpoint.config_text or "# this file holds no config",
            tensor_sheet(checkpoint),
        ]

    def hashed(self, identity: str | None) -> str:
        """The file's sha256, computed on request."""
        return self.context.registry.checkpoint(file_of(self.context, identity or "")).sha256()


Asked = tuple[Path, Any]
"""The file, and what it is asked together with: the other file, or whether its keys are renamed."""


class FileSection(QuestionSection[Asked]):
    """A section about the chosen file; an answer is found by what it was asked with.

    Attributes:
        verb: what is done with two files, and its participle.
    """

    answer_first = True
    verb: ClassVar[tuple[str, str]]

    def asking(self, fields: Sequence[Component]) -> Sequence[Component]:
        return fields[1:]  # another file asks once its facts are shown

    def asked(self, *values: Any) -> Asked:
        file, against = values
        if not file or not against:
            raise ValueError(f"choose two checkpoints to {self.verb[0]}")
        return file_of(self.context, file), file_of(self.context, against)

    def key(self, asked: Asked) -> str:
        version_of = self.context.registry.version_of
        return " ".join([self.name, *(str(version_of(p) if isinstance(p, Path) else p) for p in asked)])

    def job_title(self, asked: Asked) -> str:
        return " against ".join(f"{p.parent.name}/{p.name}" for p in asked if isinstance(p, Path))

    def inputs(self, asked: Asked) -> Sequence[tuple[str, Path]]:
        return [("checkpoint", p) for p in reversed(asked) if isinstance(p, Path)]

    def token(self, *asked: Any) -> str:
        return json.dumps(list(asked))

    def shown(self, section: str, state: str) -> Answer:
        found = self.result(*self.values_of(state))
        if found is None:
            raise LookupError(f"the files are not {self.verb[1]} yet")
        return found


class Load(FileSection):
    """How much of its model the file fills; building a large model takes seconds."""

    name, line_id, figure_id, verb = "load", "wb-gate", "wb-gate-figure", ("load", "loaded")
    title = "Does the file fill its model?"
    question = "Tensors of the file that have a place in the network"
    handlers = ("checkpoint_load", "checkpoint_load_watch", "checkpoint_load_cancel")
    queue, patience = "models", 3.0

    def add_fields(self) -> list[Component]:
        remap = gr.Checkbox(False, label="apply the proposed renaming of keys", container=False)
        return [*self._controls, remap]

    def asked(self, *values: Any) -> Asked:
        file, remap = values
        return file_of(self.context, file or ""), bool(remap) or self.context.settings.remap

    def work(self, asked: Asked, job: Job) -> LoadReport:
        path, remap = asked
        job.step = "building the model"
        loaded = self.context.registry.opened(path, remap=remap, allow_partial=True)
        if loaded.load is None:
            raise NotAvailable(
                f"{path.name} is its own model ({loaded.family}): there is nothing to load it into"
            )
        return loaded.load

    def code(self, asked: Asked) -> str:
        path, remap = asked
        opened = opening_model(self.context, path_literal(path), remap=remap, allow_partial=True)
        return f"from workbench.models import open_model\n\n{opened}.load"


class Difference(FileSection):
    """Each tensor, compared with the other file's."""

    name, line_id, figure_id = "difference", "wb-difference", "wb-difference-figure"
    verb = ("compare", "compared")
    title, question = "What changed?", "Each tensor, compared with the other file's"
    handlers = ("checkpoint_difference", "checkpoint_difference_watch", "checkpoint_difference_cancel")
    cancelled = "The comparison was cancelled; Start again compares the files."

    def work(self, asked: Asked, job: Job) -> CheckpointDifference:
        from workbench.checkpoints.difference import compare_checkpoints

        def progress(done: int, total: int) -> None:
            job.step = f"{done / 1e6:.0f} of {total / 1e6:.0f} M numbers"
            job.advance(done, total)

        file, against = map(self.context.registry.checkpoint, asked)
        return compare_checkpoints(against, file, progress=progress)

    def code(self, asked: Asked) -> str:
        b, a = (f"open_checkpoint({path_literal(path)})" for path in asked)
        return (
            "from workbench.checkpoints import open_checkpoint\n"
            "from workbench.checkpoints.difference import compare_checkpoints\n\n"
            f"compare_checkpoints({a}, {b})"
        )


class Port(FileSection):
    """Where the networks of two files differ on the same photograph; runs on request."""

    name, line_id, figure_id, verb = "port", "wb-port", "wb-port-figure", ("run", "run")
    title = "Where do the two networks differ?"
    question = "Both run on the same photograph; their values are compared layer by layer"
    handlers = ("checkpoint_port", "checkpoint_port_watch", "checkpoint_port_cancel")
    queue, patience, at_opening = "models", 3.0, False

    def asking(self, fields: Sequence[Component]) -> Sequence[Component]:
        return ()

    def add_buttons(self) -> Mapping[gr.Button, Sequence[tuple[Component, str]]]:
        return {gr.Button("Run both", size="sm", min_width=120, scale=0, elem_id="wb-port-run"): ()}

    def work(self, asked: Asked, job: Job) -> PortReport:
        from workbench.data import builtin
        from workbench.evaluation.port import compare_port

        models, titles = [], []
        for letter, path in zip("AB", reversed(asked), strict=True):
            job.step = f"building model {letter}"
            job.checkpoint()
            models.append(self.context.registry.opened(path, remap=True, allow_partial=False).model)
            titles.append(f"{letter} ({path.parent.name}/{path.name})")
        job.step = "running both models"
        job.checkpoint()
        return compare_port(
            models[0], models[1], [builtin("astronaut").sample(0)], titles=(titles[0], titles[1])
        )

    def code(self, asked: Asked) -> str:
        b, a = (opening_model(self.context, path_literal(path), remap=True) for path in asked)
        return (
            "from workbench.data import builtin\n"
            "from workbench.evaluation.port import compare_port\n"
            "from workbench.models import open_model\n\n"
            f"a, b = {a}, {b}\n"
            "compare_port(a.model, b.model, [builtin('astronaut').sample(0)], titles=(a.title, b.title))"
        )
