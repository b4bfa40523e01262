"""One HTML file about a run: numbers with protocol and intervals, curves, worst cases, findings, its making.

The file needs no network and no other file: figures, pictures and scripts are inside it.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.files import sha256_of
from workbench.core.finding import Finding, ranked
from workbench.core.report import Report, plain, printable
from workbench.evaluation.compare import Comparison, poses_of
from workbench.evaluation.evaluate import Evaluation, said
from workbench.evaluation.keypoint_ap import FIGURES
from workbench.figures import RUN_COLOURS, TRUTH_COLOUR, image_data_uri

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from plotly.graph_objects import Figure

    from workbench.curves.report import CurvesReport
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation import Predictions

# Longest side of a picture, in its pixels; and the margin around the box, as a part of its longer side.
SIDE, MARGIN = 420, 0.25
STYLE = (
    ":root{color-scheme:light dark}"
    "body{margin:1.5rem auto;max-width:1100px;padding:0 1rem;background:Canvas;color:CanvasText;"
    "font:14px/1.5 system-ui,sans-serif}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "td,th{border-bottom:1px solid color-mix(in srgb,CanvasText 20%,Canvas);text-align:left;"
    "padding:.25rem .8rem .25rem 0;vertical-align:top}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:color-mix(in srgb,CanvasText 7%,Canvas);"
    "padding:.6rem;border-radius:4px}"
    ".answer{border-left:4px solid #1f5fbf;padding:.2rem .8rem;font-size:1.1rem}"
    ".worst{display:flex;flex-wrap:wrap;gap:12px}.worst figure{margin:0;max-width:240px}"
    ".worst svg{width:240px;height:auto;display:block;border-radius:4px}"
    "figcaption{font-size:12px}small,.quiet{color:color-mix(in srgb,CanvasText 65%,Canvas)}"
    "code{overflow-wrap:anywhere}"
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

    annotation_id: int
    image_id: int
    oks: Float[np.ndarray, " E"]
    picture: UInt8[np.ndarray, "H W 3"] | None
    corner: tuple[float, float]
    truth: Float[np.ndarray, "K 3"]
    pose: Float[np.ndarray, "K 2"]
    note: str = ""


@dataclass(frozen=True)
class Input:
    """A file that went in.

    Attributes:
        kind: ``checkpoint``, ``results``, ``annotations`` or ``log``.
        name: of the file.
        nbytes: size.
        sha256: hexadecimal.
    """

    kind: str
    name: str
    nbytes: int
    sha256: str

    @classmethod
    def of(cls, kind: str, path: Path) -> Input:
        """The record of a file."""
        return cls(kind, path.name, path.stat().st_size, sha256_of(path))


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

    def summary(self) -> str:
        text = (self.comparison or self.evaluations[-1]).summary()
        count = len(self.findings)
        told = (
            "no findings"
            if not count
            else f"{count} finding{'s' * (count != 1)}, first: {self.findings[0][1].cause}"
        )
        return f"{self.title}: {text} In all {told}."

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
            "worst": worst,
            "inputs": plain(self.inputs),
            "commands": list(self.commands),
            "versions": dict(self.versions),
            "notes": list(self.notes),
        }


def gathered_findings(
    curves: CurvesReport | None, comparison: Comparison | None, lints: Sequence[Finding]
) -> tuple[tuple[str, Finding], ...]:
    """Findings of the log, the annotations and their audit, the most important first."""
    found = [] if curves is None else [("training log", flag) for _, flag in curves.flags]
    found += [("data set", finding) for finding in lints]
    if comparison is not None and comparison.audit is not None:
        found += [("label audit", suspect.finding()) for suspect in comparison.audit.suspects]
    place = {id(finding): i for i, finding in enumerate(ranked([finding for _, finding in found]))}
    return tuple(sorted(found, key=lambda pair: place[id(pair[1])]))


def worst_cases(
    pose_set: PoseSet,
    predictions: Predictions,
    evaluations: Sequence[Evaluation],
    count: int = 8,
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
                int(truth.ids[g]), image_id, np.array([one.oks[g] for one in evaluations]), picture, corner,
                truth.keypoints[g], poses[g], note,
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
    title = _text(f"report: {report.title}")
    parts = [
        f"<h1>{title}</h1>",
        f'<p class="answer">{_text(report.summary())}</p>',
        *(f"<p>Note: {_text(note)}</p>" for note in report.notes),
        *_numbers(report),
        *_findings(report.findings),
        *_curves(report.curves),
        *_worst(report),
        *_made(report),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _numbers(report: RunReport) -> list[str]:
    """Figures of every evaluation, changes with intervals, protocol; the first figure brings plotly.js."""
    head = "".join(f"<th>{name}</th>" for name in ("", *FIGURES))
    rows = "".join(
        f"<tr><th>{_text(title)}</th>"
        + "".join(f"<td>{said(one.figures[name])}</td>" for name in FIGURES)
        + "</tr>"
        for title, one in zip(report.titles, report.evaluations, strict=True)
    )
    parts = ["<h2>Numbers</h2>", f"<table><tr>{head}</tr>{rows}</table>"]
    comparison = report.comparison
    if comparison is not None and comparison.delta:
        lines = "".join(
            f"<tr><th>{name}</th><td>{_text(str(i))}</td></tr>" for name, i in comparison.delta.items()
        )
        ends = f"Change from {comparison.titles[0]} to {comparison.titles[-1]}, with the 95 % interval"
        parts.append(f"<p>{_text(ends)} of a paired bootstrap over images:</p><table>{lines}</table>")
    if comparison is not None:
        for what in comparison.differences:
            parts.append(f"<p><b>Protocols differ, do not compare:</b> {_text(what)}</p>")
        parts += [f"<p>{_text(one.summary())}</p>" for one in comparison.calibrations]
    parts.append(f"<p><small>Protocol: {_text(report.evaluations[-1].protocol.text())}</small></p>")
    parts.append(_drawn(report.plot(), library=True))
    if comparison is not None:
        parts.append(f"<h3>{_text(f'Keypoints of {report.titles[-1]}')}</h3>")
        parts.append(_drawn(report.evaluations[-1].plot()))
    return parts


def _drawn(figure: Figure, library: bool = False) -> str:
    """A figure whose title stands above it as text; `library`: with plotly.js (4.5 MB), once a document."""
    figure.update_layout(title_text="", margin_t=24)
    return figure.to_html(full_html=False, include_plotlyjs=library)


def _findings(findings: Sequence[tuple[str, Finding]]) -> list[str]:
    if not findings:
        return ["<h2>Findings</h2><p>None: neither the log, the annotations nor their audit stand out.</p>"]
    items = []
    for source, one in findings:
        where = f" ({one.where})" if one.where else ""
        fix = f"<br><i>Do:</i> {_text(one.fix)}" if one.fix else ""
        items.append(
            f"<li><b>{_text(one.cause)}</b>{_text(where)} "
            f"<small>{_text(f'{source}, {one.severity}')}</small><br>"
            f"{_text(one.evidence)}{fix}</li>"
        )
    return [f"<h2>Findings</h2><ol>{''.join(items)}</ol>"]


def _curves(curves: CurvesReport | None) -> list[str]:
    if curves is None:
        return ["<h2>Curves</h2><p>No training log was found or named.</p>"]
    figure = _drawn(curves.plot())
    notes = "".join(f"<li>{_text(f'{run.title}: {note}')}</li>" for run in curves.runs for note in run.notes)
    return [
        "<h2>Curves</h2>",
        f"<p>{_text(curves.summary())}</p>",
        figure,
        f"<ul>{notes}</ul>" if notes else "",
    ]


def _worst(report: RunReport) -> list[str]:
    if not report.worst:
        return []
    shown = "".join(_case(one, report) for one in report.worst)
    legend = (
        f'<p class="quiet"><span style="color:{TRUTH_COLOUR}">&#9679;</span> annotation '
        f'<span style="color:{RUN_COLOURS[1]}">&#9679;</span> {_text(report.titles[-1])}</p>'
    )
    return [f"<h2>Worst cases</h2>{legend}<div class='worst'>{shown}</div>"]


def _case(case: WorstCase, report: RunReport) -> str:
    told = ", ".join(f"{title} {said(float(v))}" for title, v in zip(report.titles, case.oks, strict=True))
    caption = f"image {case.image_id}, annotation {case.annotation_id}: OKS {told}"
    if case.picture is None:
        return f"<figure><figcaption>{_text(caption)}. No picture: {_text(case.note)}</figcaption></figure>"
    H, W = case.picture.shape[:2]
    place = np.array(case.corner)
    marked = np.where(case.truth[:, 2:] > 0, case.truth[:, :2] - place, np.nan)
    size = max(H, W) / 90
    drawn = _pose(marked, report.limbs, TRUTH_COLOUR, size) + _pose(
        case.pose - place, report.limbs, RUN_COLOURS[1], size
    )
    return (
        f'<figure><svg viewBox="0 0 {W} {H}" role="img" aria-label="{_text(caption)}">'
        f'<image href="{image_data_uri(case.picture, SIDE)}" width="{W}" height="{H}"/>{drawn}</svg>'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
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


def _made(report: RunReport) -> list[str]:
    """Commands, hashes of what went in, versions."""
    rows = "".join(
        f"<tr><td>{_text(i.kind)}</td><td>{_text(i.name)}</td><td>{i.nbytes:,}</td><td><code>{i.sha256}</code></td></tr>"
        for i in report.inputs
    )
    commands = html.escape("\n".join(map(printable, report.commands)))
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return [
        "<h2>How this report was made</h2>",
        f"<pre>{commands}</pre>",
        f"<table><tr><th>what</th><th>file</th><th>bytes</th><th>SHA-256</th></tr>{rows}</table>",
        f"<p><small>{_text(versions)}</small></p>",
    ]


def _text(text: str) -> str:
    return html.escape(printable(text))
