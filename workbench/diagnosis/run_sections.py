"""Sections of a run's report: all epochs of a folder, the errors by kind, the diagnostics run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import USER_ERRORS, sentence
from workbench.core.plain_text import escaped
from workbench.core.report import Report, counted, plain
from workbench.diagnosis.document import body
from workbench.figures.document import drawn, rows_html

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.data.pose_set import PoseSet
    from workbench.diagnosis.report import Diagnosis
    from workbench.evaluation import History
    from workbench.evaluation.errors_report import Errors
    from workbench.evaluation.forgetting import Forgetting


@dataclass(frozen=True, eq=False)
class EpochsReport(Report):
    """Every epoch of a folder of predictions.

    Attributes:
        rows: of each epoch: COCO's figures, mean OKS, and the part of the instances with OKS from .5.
        forgetting: when each instance is right; None where poses belong to no annotation.
        differences: epochs whose protocol is another than the first one's; their figures do not compare.
        note: why there is no forgetting; "" where there is.
    """

    rows: tuple[Mapping[str, Any], ...]
    forgetting: Forgetting | None
    differences: tuple[str, ...] = ()
    note: str = ""

    def summary(self) -> str:
        known = [row for row in self.rows if row.get("AP") is not None]
        if not known:
            return f"{counted(len(self.rows), 'epoch')}, none with an AP."
        best, last = max(known, key=lambda row: row["AP"]), known[-1]
        rest = "" if best is last else f"; the last, epoch {last['epoch']}, has {last['AP']:.3f}"
        return (
            f"{counted(len(self.rows), 'epoch')}: AP is highest at epoch {best['epoch']}, "
            f"{best['AP']:.3f}{rest}."
        )

    def plot(self) -> Figure:
        """AP and AR over the epochs."""
        import plotly.graph_objects as go

        from workbench.figures import RUN_COLOURS, as_title, new_figure

        figure = new_figure(as_title(self.summary()), x="epoch", y="AP and AR (0 to 1)")
        x = np.array([row["epoch"] for row in self.rows], np.float32)
        for name, colour in zip(("AP", "AR"), RUN_COLOURS, strict=False):
            y = np.array([np.nan if row.get(name) is None else row[name] for row in self.rows], np.float32)
            figure.add_trace(go.Scatter(x=x, y=y, name=name, mode="lines", line_color=colour))
        return figure

    def table(self) -> list[dict[str, Any]]:
        return [plain(row) for row in self.rows]

    def to_json(self) -> dict[str, Any]:
        """summary, epochs, differences, and the forgetting."""
        forgetting = None if self.forgetting is None else self.forgetting.to_json()
        return plain(
            {
                "summary": self.summary(),
                "epochs": self.rows,
                "differences": self.differences,
                "forgetting": forgetting,
            }
        )


def epochs_report(history: History, pose_set: PoseSet, **counting: Any) -> EpochsReport:
    """AP of every epoch of a folder, and what is forgotten between them.

    Args:
        history: the folder; AP is computed for epochs that are not scored yet, and kept beside the files.
        pose_set: the annotations.
        counting: ``indices``, ``area_rule``, ``sigmas`` and ``max_dets``, as `evaluate` has them.

    Raises:
        ValueError: predictions and annotations do not fit.
    """
    from workbench.evaluation.forgetting import forgetting

    figures = history.score(pose_set, **counting).figures
    found, note = None, ""
    try:
        found = forgetting(history)
    except USER_ERRORS as reason:
        note = sentence(reason)
    rows = tuple({"epoch": epoch, **figures[epoch]} for epoch in history.files)
    return EpochsReport(rows, found, tuple(history.differences), note)


# Their parts of the document.


def epochs_parts(report: EpochsReport | None) -> list[str]:
    """All epochs; [] without a folder of them."""
    if report is None:
        return []
    parts = ["<h2>All epochs</h2>", f"<p>{escaped(report.summary())}</p>"]
    parts += [
        f"<p><b>Protocols differ, do not compare:</b> {escaped(what)}</p>" for what in report.differences
    ]
    parts.append(drawn(report.plot()))
    if report.forgetting is None:
        return [*parts, f"<p>Forgetting: {escaped(report.note)}</p>"]
    parts += ["<h3>Forgetting</h3>", f"<p>{escaped(report.forgetting.summary())}</p>"]
    parts.append(drawn(report.forgetting.plot()))
    often = [row for row in report.forgetting.table() if row["forgotten"]]
    if often:
        shown = f"Forgotten instances ({len(often):,})"
        parts.append(f"<details><summary>{shown}</summary>{rows_html(often)}</details>")
    return parts


def errors_parts(errors: Errors | None) -> list[str]:
    """Errors of the last evaluation by kind; what to do about them stands among the findings."""
    if errors is None:
        return []
    rows = f"<details><summary>By keypoint</summary>{rows_html(errors.table())}</details>"
    return ["<h2>Errors by kind</h2>", f"<p>{escaped(errors.summary())}</p>", drawn(errors.plot()), rows]


def diagnosis_parts(diagnosis: Diagnosis | None) -> list[str]:
    """What was tested for a cause, and what was ruled out."""
    return [] if diagnosis is None else ["<h2>Diagnostics run</h2>", body(diagnosis)]


def diagnosis_facts(diagnosis: Diagnosis | None) -> dict[str, Any] | None:
    """Findings, ruled out and untested causes as plain data."""
    if diagnosis is None:
        return None
    return {
        "summary": diagnosis.summary(), "level": diagnosis.level,
        "findings": [finding.facts() for finding in diagnosis.findings],
        "ruled_out": dict(diagnosis.ruled_out), "not_testable": dict(diagnosis.not_testable),
    }  # fmt: skip
