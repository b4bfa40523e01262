"""The clinic's answer as one HTML document that needs no network: the verdict, then all the evidence."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from workbench.core.report import figure_html

if TYPE_CHECKING:
    from workbench.inspectors.conditioning.clinic import Clinic

STYLE = (
    ":root{color-scheme:light dark} body{margin:1.5rem auto;max-width:1200px;padding:0 1rem;"
    "background:Canvas;color:CanvasText;font:14px/1.5 system-ui,sans-serif}"
)


def document(clinic: Clinic) -> str:
    """A page of its own."""
    title = html.escape(f"clinic: {clinic.title}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><h1>{title}</h1>{body(clinic, alone=True)}</body></html>\n"
    )


def body(clinic: Clinic, alone: bool = False) -> str:
    """What stands in the page, and in a notebook.

    Args:
        clinic: the report.
        alone: a document of its own, which carries plotly.js (4.5 MB) itself; a notebook's outputs share it.
    """
    items = "".join(
        f"<li><b>{html.escape(finding.name)}</b>"
        + (f" (assumed: {html.escape(finding.assumption)})" if finding.assumption else "")
        + (f" ({finding.gives_back} AP)" if finding.gives_back is not None else "")
        + f"<br>{html.escape(finding.evidence)}<br><i>Do:</i> {html.escape(finding.advice)}</li>"
        for finding in clinic.findings
    )
    parts = [f"<p>{html.escape(clinic.summary())}</p>", f"<ol>{items}</ol>" if items else ""]
    for number, (title, report) in enumerate(clinic.evidence):
        # Its title is the sentence above it. The library is 4 MB: once is enough.
        drawn = report.plot().update_layout(title_text="")
        figure = drawn.to_html(full_html=False, include_plotlyjs=number == 0) if alone else figure_html(drawn)
        parts.append(f"<h2>{html.escape(title)}</h2><p>{html.escape(report.summary())}</p>{figure}")
    for question, why in clinic.missing.items():
        parts.append(f"<p><b>{html.escape(question)}</b>: {html.escape(why)}</p>")
    if clinic.ablation is not None:
        parts.append(f"<p><small>{html.escape(clinic.ablation.reference.protocol.text())}</small></p>")
    return "".join(parts)
