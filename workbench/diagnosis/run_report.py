"""One HTML file about a run: numbers with protocol and intervals, curves, worst cases, findings, its making.

The file needs no network and no other file: figures, pictures and scripts are inside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.finding import Finding, ranked
from workbench.core.plain_text import escaped
from workbench.core.report import Report, plain
from workbench.diagnosis.document import STYLE as TAG_STYLE
from workbench.diagnosis.run_sections import (
    EpochsReport,
    diagnosis_facts,
    diagnosis_parts,
    epochs_parts,
    epochs_report,
    errors_parts,
)
from workbench.evaluation.compare import Comparison, poses_of
from workbench.evaluation.evaluate import Evaluation, said
from workbench.evaluation.keypoint_ap import FIGURES
from workbench.figures import RUN_COLOURS, TRUTH_COLOUR, image_data_uri
from workbench.figures.document import Input, drawn, findings_html, html_document, made_parts, versions

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from plotly.graph_objects import Figure

    from workbench.curves.report import CurvesReport
    from workbench.data.pose_set import PoseSet
    from workbench.diagnosis.report import Diagnosis
    from workbench.evaluation import History, Predictions, Protocol
    from workbench.evaluation.errors_report import Errors
    from workbench.evaluation.file_runs import FileRun

# Margin around the box, as a part of its longer side.
MARGIN = 0.25
# Longest side of a picture in pixels, and its JPEG quality; `html_document` makes them smaller where needed.
PICTURE = (320, 75)
STYLE = (
    ".worst{display:flex;flex-wrap:wrap;gap:12px}.worst figure{margin:0;max-width:240px}"
    ".worst svg{width:240px;height:auto;display:block;border-radius:4px}figcaption{font-size:12px}"
)


@dataclass(frozen=True, eq=False)
class WorstCase:
    """One instance with its picture.

    Attributes:
        annotation_id: as in the annotation file.
        image_id: as in the annotation file.
        oks: in each of the evaluations.
        picture: the image around the instance; None where it could not be read.
        corner: (x, y) in image pixels of the picture's top left corner.
        truth: (x, y, visibility) in image pixels.
        pose: (x, y) in image pixels, of the last evaluation; nan where there is none.
        note: why there is no picture.
    """

    annotation_id: int | str
    image_id: int | str
    oks: Float[np.ndarray, " E"]
    picture: UInt8[np.ndarray, "H W 3"] | None
    corner: tuple[float, float]
    truth: Float[np.ndarray, "K 3"]
    pose: Float[np.ndarray, "K 2"]
    note: str = ""


@dataclass(frozen=True, eq=False)
class RunReport(Report):
    """All that is said of a run.

    Attributes:
        title: of the run.
        titles: of the evaluations.
        evaluations: in the order of training; the last one is the run's.
        comparison: of them, with details; None for a single one.
        curves: of its logs; None without one.
        findings: (where they come from, finding).
        worst: of the last evaluation.
        limbs: of the skeleton.
        inputs: every file that went in.
        commands: what makes this report again.
        versions: package -> version.
        notes: what was left out, one sentence each.
        errors: of the last evaluation, by kind.
        epochs: of a folder of predictions, all of them; None without one.
        diagnosis: the diagnostics run; None where none was asked for.
    """

    title: str
    titles: tuple[str, ...]
    evaluations: tuple[Evaluation, ...]
    comparison: Comparison | None
    curves: CurvesReport | None
    findings: tuple[tuple[str, Finding], ...]
    worst: tuple[WorstCase, ...]
    limbs: tuple[tuple[int, int], ...]
    inputs: tuple[Input, ...]
    commands: tuple[str, ...]
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()
    errors: Errors | None = None
    epochs: EpochsReport | None = None
    diagnosis: Diagnosis | None = None

    def summary(self) -> str:
        text = (self.comparison or self.evaluations[-1]).summary()
        count = len(self.findings)
        amounts = (
            "no findings"
            if not count
            else f"{count} finding{'s' * (count != 1)}, first: {self.findings[0][1].cause}"
        )
        return f"{self.title}: {text} In all {amounts}."

    def plot(self) -> Figure:
        return (self.comparison or self.evaluations[-1]).plot()

    def table(self) -> list[dict[str, Any]]:
        """One row for each evaluation: its ten figures."""
        return [
            {"title": title, **plain(one.figures)}
            for title, one in zip(self.titles, self.evaluations, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """summary, figures, the comparison, the curves' flags, findings, worst cases, inputs, commands."""
        curves = None if self.curves is None else self.curves.to_json()
        worst = [
            {"annotation_id": w.annotation_id, "image_id": w.image_id, "oks": plain(w.oks)}
            for w in self.worst
        ]
        return {
            "summary": self.summary(),
            "epochs": self.table(),
            "protocols": {
                t: e.protocol.to_json() for t, e in zip(self.titles, self.evaluations, strict=True)
            },
            "comparison": None if self.comparison is None else self.comparison.to_json(),
            "curves": None
            if curves is None
            else {name: curves[name] for name in ("summary", "runs", "flags")},
            "findings": [{"from": source, **finding.facts()} for source, finding in self.findings],
            "errors": None if self.errors is None else self.errors.to_json(),
            "all_epochs": None if self.epochs is None else self.epochs.to_json(),
            "diagnosis": diagnosis_facts(self.diagnosis),
            "worst": worst,
            "inputs": plain(self.inputs),
            "commands": list(self.commands),
            "versions": dict(self.versions),
            "notes": list(self.notes),
        }


def run_report(
    pose_set: PoseSet,
    epochs: Sequence[tuple[str, Predictions]],
    protocols: Sequence[Protocol | None] | None = None,
    *,
    runs: Sequence[str | FileRun] | None = None,
    curves: CurvesReport | None = None,
    history: History | None = None,
    diagnosis: Diagnosis | None = None,
    inputs: Sequence[Input] = (),
    commands: Sequence[str] = (),
    notes: Sequence[str] = (),
    worst: int = 8,
    resamples: int = 1000,
    **counting: Any,
) -> RunReport:
    """Evaluate and compare epochs, sort the errors of the last one, and gather everything in one report.

    Args:
        pose_set: the annotations, with images for the pictures.
        epochs: title and predictions of each, in the order of training; one is enough.
        protocols: of each, where known.
        runs: name of the run that each is of, where known; see `label_audit`.
        curves: of the run's logs.
        history: a folder with all epochs, for AP over the epochs and forgetting.
        diagnosis: of `workbench.diagnosis.diagnose`.
        inputs: the files that went in, with their hashes.
        commands: what makes the report again, one a line.
        notes: what was left out, one sentence each.
        worst: instances that are shown.
        resamples: of the paired bootstrap.
        counting: ``indices``, ``area_rule``, ``sigmas`` and ``max_dets``, as `evaluate` has them.

    Returns:
        the report; `document` writes it as one HTML file.

    Raises:
        ValueError: no epoch, two of the same title, or predictions and annotations that do not fit.
    """
    from workbench.data.lints import lint_findings
    from workbench.evaluation import compare, evaluate
    from workbench.evaluation.errors_report import errors as sorted_errors

    if not epochs:
        raise ValueError("report: expected predictions of at least one epoch")
    rules = [None] * len(epochs) if protocols is None else list(protocols)
    comparison = None
    if len(epochs) > 1:
        comparison = compare(
            pose_set, epochs, rules, runs=runs, resamples=resamples, details=True, **counting
        )
        evaluations = comparison.evaluations
    else:
        evaluations = (evaluate(pose_set, epochs[0][1], rules[0], **counting),)
    errors = sorted_errors(evaluations[-1], pose_set, sliced=False)
    return RunReport(
        title=pose_set.name if curves is None else f"{curves.runs[0].title} on {pose_set.name}",
        titles=tuple(title for title, _ in epochs),
        evaluations=tuple(evaluations),
        comparison=comparison,
        curves=curves,
        findings=gathered_findings(curves, comparison, lint_findings(pose_set), errors),
        worst=worst_cases(pose_set, epochs[-1][1], evaluations, worst),
        limbs=pose_set.skeleton.limbs,
        inputs=tuple(inputs),
        commands=tuple(commands),
        versions=versions(),
        notes=tuple(notes),
        errors=errors,
        epochs=None if history is None else epochs_report(history, pose_set, **counting),
        diagnosis=diagnosis,
    )


def gathered_findings(
    curves: CurvesReport | None,
    comparison: Comparison | None,
    lints: Sequence[Finding],
    errors: Errors | None = None,
) -> tuple[tuple[str, Finding], ...]:
    """Findings of the log, the errors, the annotations and their audit, the most important first."""
    found = [] if curves is None else [("training log", flag) for _, flag in curves.flags]
    found += [] if errors is None else [("errors", finding) for finding in errors.to_findings()]
    found += [("data set", finding) for finding in lints]
    if comparison is not None and comparison.audit is not None:
        found += [("label audit", suspect.finding()) for suspect in comparison.audit.claims]
    place = {id(finding): i for i, finding in enumerate(ranked([finding for _, finding in found]))}
    return tuple(sorted(found, key=lambda pair: place[id(pair[1])]))


def worst_cases(
    pose_set: PoseSet, predictions: Predictions, evaluations: Sequence[Evaluation], count: int = 8
) -> tuple[WorstCase, ...]:
    """The instances with the lowest OKS in the last evaluation, with pictures.

    Args:
        pose_set: with images, where they are there.
        predictions: of the last evaluation.
        evaluations: of one set of instances.
        count: at most so many.
    """
    last = evaluations[-1]
    truth, oks = last.ap.truth, last.oks
    rows = np.flatnonzero(np.isfinite(oks) & ~truth.ignored)
    rows = rows[np.argsort(oks[rows], kind="stable")][:count]
    poses = poses_of(predictions, last)
    found = []
    for g in rows.tolist():
        image_id = int(truth.image_ids[truth.image[g]])
        picture, corner, note = _picture(pose_set, image_id, truth.keypoints[g], poses[g])
        found.append(
            WorstCase(
                pose_set.instance_name(int(truth.ids[g])), pose_set.image_name(image_id),
                np.array([one.oks[g] for one in evaluations]), picture, corner, truth.keypoints[g], poses[g],
                note,
            )
        )  # fmt: skip
    return tuple(found)


def _picture(
    pose_set: PoseSet, image_id: int, truth: np.ndarray, pose: np.ndarray
) -> tuple[np.ndarray | None, tuple[float, float], str]:
    """The image around annotation and pose, its corner, and why there is none."""
    from workbench.core.errors import USER_ERRORS, sentence

    try:
        image = pose_set.image(image_id)
    except USER_ERRORS as missing:
        return None, (0.0, 0.0), sentence(missing)
    points = truth[truth[:, 2] > 0, :2]
    low, high = points.min(0), points.max(0)
    margin = MARGIN * max(float((high - low).max()), 20.0)
    inside = pose[np.isfinite(pose).all(1)]
    near = inside[((inside > low - 4 * margin) & (inside < high + 4 * margin)).all(1)]
    if len(near):
        low, high = np.minimum(low, near.min(0)), np.maximum(high, near.max(0))
    H, W = image.shape[:2]
    x0, y0 = (int(max(v - margin, 0)) for v in low)
    x1, y1 = int(min(high[0] + margin, W)), int(min(high[1] + margin, H))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None, (0.0, 0.0), "the annotation lies outside the image"
    return np.ascontiguousarray(image[y0:y1, x0:x1]), (float(x0), float(y0)), ""


# The document.


def document(report: RunReport) -> str:
    """The report as one HTML document that needs no network."""
    parts = [
        f'<p class="answer">{escaped(report.summary())}</p>',
        *(f"<p>Note: {escaped(note)}</p>" for note in report.notes),
        *_numbers(report),
        *epochs_parts(report.epochs),
        *errors_parts(report.errors),
        *_findings(report),
        *diagnosis_parts(report.diagnosis),
        *_curves(report.curves),
        *_worst(report),
        *made_parts(report.inputs, report.commands, report.versions),
    ]
    return html_document(f"report: {report.title}", parts, STYLE + TAG_STYLE)


def _numbers(report: RunReport) -> list[str]:
    """Figures of every evaluation, changes with intervals and the protocol."""
    head = "".join(f"<th>{name}</th>" for name in ("", *FIGURES))
    rows = "".join(
        f"<tr><th>{escaped(title)}</th>"
        + "".join(f"<td>{said(one.figures[name])}</td>" for name in FIGURES)
        + "</tr>"
        for title, one in zip(report.titles, report.evaluations, strict=True)
    )
    parts = ["<h2>Numbers</h2>", f"<table><tr>{head}</tr>{rows}</table>"]
    comparison = report.comparison
    if comparison is not None and comparison.delta:
        lines = "".join(
            f"<tr><th>{name}</th><td>{escaped(str(i))}</td></tr>" for name, i in comparison.delta.items()
        )
        ends = f"Change from {comparison.titles[0]} to {comparison.titles[-1]}"
        what = f"{comparison.intervals_text()} of a paired bootstrap over images"
        parts.append(f"<p>{escaped(ends)}, {escaped(what)}:</p><table>{lines}</table>")
    if comparison is not None:
        for what in comparison.differences:
            parts.append(f"<p><b>Protocols differ, do not compare:</b> {escaped(what)}</p>")
        parts += [f"<p>{escaped(one.summary())}</p>" for one in comparison.calibrations]
    parts.append(f"<p><small>Protocol: {escaped(report.evaluations[-1].protocol.text())}</small></p>")
    parts.append(drawn(report.plot()))
    if comparison is not None:
        parts.append(f"<h3>{escaped(f'Keypoints of {report.titles[-1]}')}</h3>")
        parts.append(drawn(report.evaluations[-1].plot()))
    return parts


def _findings(report: RunReport) -> list[str]:
    audit = None if report.comparison is None else report.comparison.audit
    audited = [] if audit is None else [f"<p>Label audit: {escaped(audit.summary())}</p>"]
    none = "<p>None: neither the log, the annotations nor their audit stand out.</p>"
    return ["<h2>Findings</h2>", findings_html(report.findings) if report.findings else none, *audited]


def _curves(curves: CurvesReport | None) -> list[str]:
    if curves is None:
        return ["<h2>Curves</h2><p>No training log was found or named.</p>"]
    figure = drawn(curves.plot())
    notes = "".join(
        f"<li>{escaped(f'{run.title}: {note}')}</li>" for run in curves.runs for note in run.notes
    )
    return [
        "<h2>Curves</h2>",
        f"<p>{escaped(curves.summary())}</p>",
        figure,
        f"<ul>{notes}</ul>" if notes else "",
    ]


def _worst(report: RunReport) -> list[str]:
    if not report.worst:
        return []
    shown = [_case(one, report) for one in report.worst]
    legend = (
        f'<p class="quiet"><span style="color:{TRUTH_COLOUR}">&#9679;</span> annotation '
        f'<span style="color:{RUN_COLOURS[1]}">&#9679;</span> {escaped(report.titles[-1])}</p>'
    )
    return [f"<h2>Worst cases</h2>{legend}<div class='worst'>", *shown, "</div>"]


def _case(case: WorstCase, report: RunReport) -> str:
    figures = ", ".join(f"{title} {said(float(v))}" for title, v in zip(report.titles, case.oks, strict=True))
    caption = f"image {case.image_id}, annotation {case.annotation_id}: OKS {figures}"
    if case.picture is None:
        return (
            f"<figure><figcaption>{escaped(caption)}. No picture: {escaped(case.note)}</figcaption></figure>"
        )
    H, W = case.picture.shape[:2]
    uri = image_data_uri(case.picture, *PICTURE)
    place = np.array(case.corner)
    marked = np.where(case.truth[:, 2:] > 0, case.truth[:, :2] - place, np.nan)
    size = max(H, W) / 90
    poses = _pose(marked, report.limbs, TRUTH_COLOUR, size) + _pose(
        case.pose - place, report.limbs, RUN_COLOURS[1], size
    )
    return (
        f'<figure><svg viewBox="0 0 {W} {H}" role="img" aria-label="{escaped(caption)}">'
        f'<image href="{uri}" width="{W}" height="{H}"/>{poses}</svg>'
        f"<figcaption>{escaped(caption)}</figcaption></figure>"
    )


def _pose(points: np.ndarray, limbs: Sequence[tuple[int, int]], colour: str, size: float) -> str:
    there: list[bool] = np.isfinite(points).all(axis=1).tolist()  # type: ignore[assignment]
    lines = "".join(
        f'<line x1="{points[a, 0]:.1f}" y1="{points[a, 1]:.1f}" '
        f'x2="{points[b, 0]:.1f}" y2="{points[b, 1]:.1f}"/>'
        for a, b in limbs
        if there[a] and there[b]
    )
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}"/>' for x, y in points[there])
    return f'<g stroke="{colour}" stroke-width="{size * 0.7:.1f}" fill="{colour}">{lines}{dots}</g>'
