"""The Results page: two result files of any trainer on one data set, compared without a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import gradio as gr
import numpy as np
from gradio.components import Component

from apps.compare.page import cut_outs
from apps.pages.engine import QuestionPage
from apps.pages.job_sections import JobSection, job_key
from apps.pages.report_section import Answer, absolute_path
from apps.pages.sections import (
    DATA_NOTE,
    Download,
    details_html,
    hidden_text,
    html_block,
    report_updates,
    root_block,
    table_html,
)
from apps.server.comparison import has_areas
from workbench.checkpoints.demo import demo_checkpoints, demo_config, demo_data
from workbench.core.command_line import command_line
from workbench.core.errors import USER_ERRORS, sentence
from workbench.core.job import JobResults, LruCache, current_checkpoint
from workbench.core.plain_text import escaped
from workbench.data import BUILTIN, builtin
from workbench.evaluation import Predictions
from workbench.evaluation.calibration import pairs_of

if TYPE_CHECKING:
    from apps.server.context import Context
    from workbench.core.job import Job
    from workbench.data import PoseSet
    from workbench.evaluation import Comparison, Evaluation, Protocol

QUEUE, DEMO = "files", "demo"
TITLES = ("A", "B")
# Instances of a group that are drawn; the list of the comparison's own file has all of them.
SHOWN = 8


class ResultsPage(QuestionPage):
    """One comparison of two uploads."""

    path, prefix, title = "results", "res", "Results"
    question = "Which of two result files is better, by how much, and on which instances?"
    address = ()

    def add_controls(self) -> Mapping[str, Component]:
        html_block(
            value='<p class="wb-sentence">Upload two COCO result files (lists of image_id, category_id, '
            "keypoints, score; mmpose writes them too), and choose the annotations of their data set. The "
            "demo compares the first and the last epoch of the built-in run.</p>"
        )
        return {}

    def sections(self) -> Sequence[JobSection]:
        return (ResultFiles(self.context),)


class ResultFiles(JobSection):
    """The comparison as a job; results are kept by the uploads' names."""

    name: ClassVar[str] = "compare"
    title: ClassVar[str] = "What changed from A to B?"
    question: ClassVar[str] = "Figures with intervals, keypoints, slices, scores, and annotations in doubt"
    handlers: ClassVar[tuple[str, str, str]] = ("results_start", "results_watch", "results_cancel")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._results: JobResults[Comparison] = JobResults(context.jobs)
        self._cards: LruCache[str] = LruCache(20)

    def add_fields(self) -> list[Component]:
        """Data set and the two uploads."""
        sets = self._context.registry.sets.ids()
        data = gr.Dropdown(sets, value=sets[0] if sets else None, label="annotations", min_width=140)
        # No address holds the set of this page.
        data.change(None, data, None, js=DATA_NOTE)
        root_block().load(None, data, None, js=DATA_NOTE)
        files = [
            gr.File(label=f"{letter}: result file (.json)", file_types=[".json"], height=150, min_width=170)
            for letter in TITLES
        ]
        self._demo = hidden_text()
        return [data, *files, self._demo]

    def add_buttons(self) -> Mapping[gr.Button, Sequence[tuple[Component, str]]]:
        """The buttons that start: with the uploads, and without."""
        more: dict[str, Any] = {"min_width": 110, "scale": 0}
        return {
            gr.Button("Compare", variant="primary", elem_id="res-start", **more): ((self._demo, ""),),
            gr.Button("Show a demo", elem_id="res-demo", **more): ((self._demo, DEMO),),
        }

    def start(self, *values: Any) -> None:
        """Start the comparison; raises ValueError where something was not chosen."""
        data, a, b, demo = values
        if not demo and (not data or data not in self._context.registry.sets.ids()):
            raise ValueError("choose the annotations that the results are of")
        if not demo and not (a and b):
            raise ValueError("upload two result files, A and B")
        self._results.start(
            self._key(*values), "comparing A and B", lambda job: self._compared(job, *values), QUEUE
        )

    def _key(self, data: str, a: str, b: str, demo: str = "") -> str:
        """Names a comparison; every upload has a folder of its own."""
        if demo:
            return "results demo"
        return job_key("results", data, self._context.registry.sets.version(data, whole=True), a, b)

    def job(self, *values: Any) -> Job | None:
        """The newest job of these files."""
        return self._results.job(self._key(*values))

    def result(self, *values: Any) -> Comparison | None:
        """The comparison; None while there is none."""
        return self._results.result(self._key(*values))

    def updates(self, result: Comparison, download: Download, figure: str, *asked: Any) -> list[Any]:
        """The sentence, the figure, and all tables."""
        sentence, drawn, details = report_updates(
            result, "", lambda report: details_html(download, report.table(), "", {figure: ""})
        )
        cards = self._cards.peek(self._key(*asked)) or ""
        return [sentence, drawn, cards + details + details_of(result)]

    def shown(self, section: str, state: str) -> Answer:
        """The comparison with its tables, the command that makes it, and the files that went in."""
        found = super().shown(section, state)
        data, a, b, demo = self.values_of(state)
        if demo:
            inputs, words = (
                [("checkpoint", path) for path in demo_epochs()],
                ["workbench", "compare", "--demo"],
            )
        else:
            inputs, annotations = [("results", Path(one)) for one in (a, b)], data
            if data not in BUILTIN:
                inputs.append(("annotations", self._context.registry.sets.file(data)))
                annotations = absolute_path(inputs[-1][1])
            words = ["workbench", "compare", *(Path(Path(one).name) for one in (a, b)), "--data", annotations]
            pose_set = self._context.registry.sets.get(data, whole=True)
            judged, note = self._context.registry.judging(pose_set, self._context.registry.runs())
            words += ["--sigmas", ",".join(f"{one:g}" for one in judged.skeleton.sigmas)] if note else []
        tables = details_of(found.reports[""])  # type: ignore[arg-type]
        return dataclasses.replace(
            found, code=command_line(words), inputs=tuple(inputs), details=lambda: [tables]
        )

    def _compared(self, job: Job, data: str, a: str, b: str, demo: str) -> Comparison:
        from workbench.evaluation import compare
        from workbench.evaluation.file_runs import runs_of_files
        from workbench.evaluation.result_lists import minus_ones, pairing_note, with_own_annotations

        key = self._key(data, a, b, demo)  # of the annotations that are read from here on
        paths = demo_epochs() if demo else [Path(a), Path(b)]
        pose_set = builtin(demo_data()) if demo else self._context.registry.sets.get(data, whole=True)
        pose_set, note = self._context.registry.judging(pose_set, self._context.registry.runs())
        found, protocols, notes = [], [], [note] if note else []
        for done, (title, path) in enumerate(zip(TITLES, paths, strict=True)):
            job.progress(done, 10)
            job.step = f"{'predicting' if demo else 'reading'} {title}"
            job.checkpoint()
            poses, protocol = demo_poses(path, pose_set) if demo else (poses_of(path, pose_set), None)
            notes += minus_ones(poses, f"{title}: {path.stem}")
            poses, why = with_own_annotations(pose_set, poses)
            notes += [pairing_note(f"{title}: {path.stem}", why)] if why else []
            found.append((f"{title}: {path.stem}", poses))
            protocols.append(protocol)
        job.step = "comparing"
        job.checkpoint()
        rule = "annotated" if has_areas(pose_set) else "box"
        report = compare(
            pose_set,
            found,
            protocols,
            # Each upload has a folder of its own, which says nothing.
            runs=runs_of_files([Path(path.name) for path in paths]),
            area_rule=rule,
            details=True,
            progress=lambda done, total: job.progress(done + len(found), total + len(found)),
        )
        job.step = "drawing the instances that changed"
        cards = "".join(f"<p>{escaped(note)}</p>" for note in notes)
        cards += change_html(report, [poses for _, poses in found], pose_set)
        self._cards.get(key, lambda: cards)
        return report


def poses_of(path: Path, pose_set: PoseSet) -> Predictions:
    """The poses of a COCO result file.

    Raises:
        ValueError: it is none, or does not fit the set.
    """
    from workbench.data.coco import read_json
    from workbench.evaluation import Predictions
    from workbench.evaluation.result_lists import results_of

    return Predictions.from_coco(results_of(pose_set, read_json(path)), path.name, len(pose_set.skeleton))


def demo_epochs() -> list[Path]:
    """The first and the last checkpoint of the demo run."""
    return demo_checkpoints()[:: len(demo_checkpoints()) - 1]


def demo_poses(path: Path, pose_set: PoseSet) -> tuple[Predictions, Protocol]:
    """What a checkpoint of the demo run predicts, and by which rules."""
    from workbench.evaluation import predict, protocol_of_loaded
    from workbench.models import open_model

    opened = open_model(path, config=demo_config())
    return predict(opened.model, pose_set), protocol_of_loaded(opened)


def details_of(report: Comparison) -> str:
    """Tables of intervals, changes and suspects, as HTML."""
    first, last = (one.figures for one in (report.evaluations[0], report.evaluations[-1]))
    figures = [
        {"figure": name, "A": first[name], "B": last[name], "change": i.delta, "low": i.low, "high": i.high}
        for name, i in report.delta.items()
    ]
    changes = [change.facts() for change in sorted(report.changes, key=lambda c: c.after - c.before)]
    parts = [
        (f"Figures, {report.intervals_text()} of the change", figures),
        ("Keypoints and slices, mean OKS", changes),
    ]
    if report.audit is not None and report.audit.suspects:
        parts.append(("Annotations to look at", report.audit.table()))
    texts = [one.summary() for one in report.calibrations]
    texts += [] if report.audit is None else [report.audit.summary()]
    shown = "".join(f"<h3>{escaped(title)}</h3>{table_html(rows)}" for title, rows in parts if rows)
    return f'<div class="res-details">{"".join(f"<p>{escaped(t)}</p>" for t in texts)}{shown}</div>'


def change_html(report: Comparison, found: Sequence[Predictions], pose_set: PoseSet) -> str:
    """The change of AP from the first to the last result, which opens groups of instances, which open them.

    Everything is in the page, so that a click asks the server nothing: the change, a group, an instance.

    Args:
        report: of the results.
        found: the predictions of each, in the same order.
        pose_set: the annotations with their images.

    Raises:
        Cancelled: the job in whose thread this runs was cancelled.
    """
    change = report.delta.get("AP")
    if change is None:
        return ""
    ends = [_by_truth(found[i], report.evaluations[i]) for i in (0, -1)]
    groups = (
        ("gained", "gained: OKS below .5 in A, above it in B", report.gained()),
        ("lost", "lost: OKS above .5 in A, below it in B", report.lost()),
        ("changed", "changed most", report.most_changed()),
    )
    parts = []
    for name, words, rows in groups:
        cards = "".join(_card(report, ends, pose_set, g) for g in rows[:SHOWN].tolist())
        more = f", the first {SHOWN} of them" if len(rows) > SHOWN else ""
        count = f"{len(rows)} " if name != "changed" else ""
        parts.append(
            f'<details data-testid="res-{name}"><summary>{count}{escaped(words)}{more}</summary>'
            f"{cards or '<p>none</p>'}</details>"
        )
    return (
        f'<details class="res-change" data-testid="res-ap"><summary>AP {escaped(str(change))}: '
        f"on which instances?</summary>{''.join(parts)}</details>"
    )


def _by_truth(found: Predictions, evaluation: Evaluation) -> Predictions:
    """The pose of each annotated instance, in the order of the ground truth; nan where there is none."""
    G, K = evaluation.ap.truth.keypoints.shape[:2]
    points, scores = np.full((G, K, 2), np.nan), np.zeros((G, K))
    rows, target = pairs_of(found, evaluation)
    points[target], scores[target] = found.keypoints[rows], found.scores[rows]
    ids, boxes = np.zeros(G, np.int64), np.full((G, 4), np.nan)
    return Predictions(ids, ids, boxes, points, scores, np.zeros(G))


def _card(report: Comparison, ends: Sequence[Predictions], pose_set: PoseSet, g: int) -> str:
    """One instance: its OKS in A and B, the annotation and both poses on the image."""
    current_checkpoint()
    truth = report.evaluations[0].ap.truth
    number, image_id = int(truth.ids[g]), int(truth.image_ids[truth.image[g]])
    instance = next(one for one in pose_set.instances if one.annotation_id == number)
    oks = [float(report.oks[i, g]) for i in (0, -1)]
    name = f"{pose_set.images[image_id].path.stem}/{number}"
    try:
        pictures = cut_outs(
            pose_set.image(image_id), instance.box, instance.truth, [(one, g) for one in ends],
            pose_set.skeleton,
        )  # fmt: skip
    except USER_ERRORS as missing:
        shown = f"<p>{escaped(sentence(missing))}</p>"
    else:
        titles = ("annotation", *(f"{letter}, OKS {v:.2f}" for letter, v in zip("AB", oks, strict=True)))
        shown = "".join(
            f'<figure><img alt="{escaped(f"{name}, {title}")}" src="{source}">'
            f"<figcaption>{escaped(title)}</figcaption></figure>"
            for title, source in zip(titles, pictures, strict=True)
        )
    return (
        f'<details data-testid="res-instance"><summary>{escaped(name)}: OKS {oks[0]:.2f} → {oks[1]:.2f}'
        f'</summary><div class="res-cases">{shown}</div></details>'
    )
