"""A comparison to keep: one HTML file with everything in it, and the Python that makes it again."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from apps.compare.report import chart, cut_outs, shown_samples
from apps.pages.code import opening_model, opening_of, path_literal
from apps.server.comparison import has_areas

if TYPE_CHECKING:
    from apps.server.comparison import Asked
    from apps.server.context import Context
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
.chart { width: 100%; max-width: 760px; font-size: 12px; fill: currentColor; }
.chart .grid { stroke: var(--line); } .chart .ap { stroke: #0072b2; } .chart .ar { stroke: #d55e00; }
.chart circle.ap, .chart text.ap { fill: #0072b2; } .chart circle.ar, .chart text.ar { fill: #d55e00; }
.chart text.ap, .chart text.ar { stroke: none; } .chart polyline { stroke-width: 2; }
figure { margin: 0 0 1.2em; } figure img { width: 220px; max-width: 100%; border-radius: 4px; }
.row { display: flex; flex-wrap: wrap; gap: 8px; } .row div { text-align: center; font-size: .85em; }
.wide td { max-width: 44em; white-space: normal; overflow-wrap: anywhere; }
@media print { body { max-width: none; } }
"""

# The list shows what to look at first, not all of a thousand.
SHOWN = 20


def page(title: str, found: Comparison, names: dict[int, str], code: str, samples: str = "") -> str:
    """One HTML document, with its figure, tables, protocol and code; nothing in it comes from elsewhere.

    Args:
        title: of the run and the set.
        found: the comparison.
        names: annotation id -> what the pages call that sample.
        code: the Python that makes this comparison again.
        samples: pictures of single samples, as HTML.
    """
    facts = found.to_json()
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{html.escape(found.summary())}</p>",
        *(f"<p><strong>Not comparable: {html.escape(w)}</strong></p>" for w in found.differences),
        chart(found),
        "<h2>Figures</h2>",
        _table(facts["epochs"]),
        samples,
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
    files = ", ".join(path_literal(context.registry.epoch(asked.run, index).path) for index in wanted)
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
            *(["from workbench.core import DecodeOptions"] if told else []),
            "",
            f"annotated = {opening}",
            *([f"some = annotated.labelled[:{count}]"] if cut else []),
            f"loaded = [{opening_model(context, 'file')} for file in [{files}]]",
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
    return page(
        title, found, names, code_of(context, asked, wanted), _pictures(context, asked, wanted, found)
    )


def _pictures(context: Context, asked: Asked, wanted: Sequence[int], found: Comparison) -> str:
    """The samples that changed most, annotated and as each epoch has them."""
    pose_set = context.registry.sets.get(asked.data)
    indices, rows = context.comparisons.rows(asked, wanted)
    truth = found.evaluations[0].ap.truth
    held = {pose_set.instances[index].annotation_id: (row, index) for row, index in enumerate(indices)}
    parts = ["<h2>Samples that changed</h2>"]
    for n in shown_samples(found):
        if int(truth.ids[n]) not in held:
            continue  # without a box there is nothing to cut out
        row, index = held[int(truth.ids[n])]
        instance = pose_set.instances[index]
        image = context.registry.sets.sample(asked.data, index).image
        pictures = cut_outs(image, instance.box, instance.truth, [(p, row) for p in rows], pose_set.skeleton)
        titles = [
            "annotation",
            *(f"{t}, OKS {_said(float(found.oks[e, n]))}" for e, t in enumerate(found.titles)),
        ]
        name = f"{pose_set.images[instance.image_id].path.stem}/{instance.annotation_id}"
        shown = "".join(
            f'<div><img alt="{html.escape(name)}, {html.escape(t)}" src="{p}"><br>{html.escape(t)}</div>'
            for t, p in zip(titles, pictures, strict=True)
        )
        parts.append(
            f'<figure><figcaption>{html.escape(name)}</figcaption><div class="row">{shown}</div></figure>'
        )
    return "".join(parts)


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
    if value is None or value != value:  # nan
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
