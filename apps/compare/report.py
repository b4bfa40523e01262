"""A comparison to keep: one HTML file with everything in it, and the Python that makes it again."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from apps.as_code import opening_model, opening_of, told_path
from apps.comparison import has_areas

if TYPE_CHECKING:
    from apps.computing import Asked
    from apps.context import Context
    from workbench.evaluation.comparison import Comparison

# The page is read far from the workbench: its style travels with it, and follows the reader's system.
STYLE = """
:root { color-scheme: light dark; --line: #d5dae1; --quiet: #5c6470; }
@media (prefers-color-scheme: dark) {
  :root { --line: #343a44; --quiet: #9aa3b0; }
  body { background: #131519; }
}
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; max-width: 1060px; }
body { margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; font-size: .9em; } .wide { overflow-x: auto; }
th, td { border-bottom: 1px solid var(--line); padding: .25em .7em; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.quiet { color: var(--quiet); }
pre { border: 1px solid var(--line); padding: 1em; overflow-x: auto; }
.plot { background: #fff; border-radius: 6px; }
@media print { body { max-width: none; } }
"""

# The list shows what to look at first, not all of a thousand.
SHOWN = 20


def page(title: str, found: Comparison, names: dict[int, str], code: str) -> str:
    """One HTML document, with its figure, tables, protocol and code; nothing in it comes from elsewhere.

    Args:
        title: of the run and the set.
        found: the comparison.
        names: annotation id -> what the pages call that sample.
        code: the Python that makes this comparison again.
    """
    picture = found.plot().to_html(full_html=False, include_plotlyjs=True)
    facts = found.to_json()
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{html.escape(found.summary())}</p>",
        *(f"<p><strong>Not comparable: {html.escape(w)}</strong></p>" for w in found.differences),
        f'<div class="plot">{picture}</div>',
        "<h2>Figures</h2>",
        _table(facts["epochs"]),
    ]
    for name, what in (("gained", "Gained"), ("lost", "Lost"), ("most_changed", "Most changed")):
        rows = [_named(row, found.titles, names) for row in facts[name]]
        more = f", the first {SHOWN} of them" if len(rows) > SHOWN else ""
        parts += [f"<h2>{what}: {len(rows)} instances{more}</h2>", _table(rows[:SHOWN])]
    for told, rows in facts["per_keypoint"].items():
        parts += [f"<h2>Per keypoint, {html.escape(told)}</h2>", _table(rows)]
    protocol = found.evaluations[-1].protocol.to_json()
    parts += [
        "<h2>Protocol</h2>",
        _table([{"rule": key, "value": value} for key, value in protocol.items()]),
        f"<h2>Make it again</h2><pre>{html.escape(code)}</pre>",
    ]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def code_of(context: Context, asked: Asked, wanted: Sequence[int]) -> str:
    """The Python that compares some epochs of a comparison, with the figures that the page shows."""
    files = [told_path(context.registry.epoch(asked.run, index).path) for index in wanted]
    imports, opening = opening_of(context, asked.data)
    pose_set = context.registry.sets.get(asked.data)
    count = len(context.store.indices(asked.data))
    cut = count < len(pose_set.labelled)
    decoding = (("decoder", asked.decoder), ("score", asked.score))
    told = ", ".join(f"{name}={value!r}" for name, value in decoding if value)
    options = f", options=DecodeOptions({told})" if told else ""
    some = ", indices=some" if cut else ""
    areas = "" if has_areas(pose_set) else ', area_rule="box"'
    return "\n".join(
        [
            imports,
            "from workbench.evaluation import compare, predict, protocol_of_loaded",
            "from workbench.models import open_model",
            *(["from workbench.records import DecodeOptions"] if told else []),
            "",
            f"annotated = {opening}",
            *([f"some = annotated.labelled[:{count}]"] if cut else []),
            f"loaded = [{opening_model(context, 'file')} for file in {files!r}]",
            f"found = [(m.title, predict(m.model, annotated{some}{options})) for m in loaded]",
            f"rules = [protocol_of_loaded(m{options}) for m in loaded]",
            f"compare(annotated, found, rules{some}{areas})",
        ]
    )


def document(context: Context, asked: Asked, wanted: Sequence[int]) -> str:
    """The report of some epochs of a comparison.

    Raises:
        Unready: one of them is not computed yet.
        ValueError: there is nothing to compare.
    """
    found = context.comparisons.side_by_side(asked, wanted)
    pose_set = context.registry.sets.get(asked.data)
    names = {
        instance.annotation_id: f"{pose_set.images[instance.image_id].path.stem}/{instance.annotation_id}"
        for instance in pose_set.instances
    }
    title = f"{context.registry.run(asked.run).title} on {asked.data}"
    return page(title, found, names, code_of(context, asked, wanted))


def _named(row: dict[str, Any], titles: Sequence[str], names: dict[int, str]) -> dict[str, Any]:
    oks = dict(zip((f"OKS, {title}" for title in titles), row["oks"], strict=True))
    return {"sample": names.get(row["annotation_id"], row["annotation_id"]), **oks}


def _table(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return '<p class="quiet">none</p>'
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_said(value))}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _said(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
