"""The Compare page, what its Report button writes of a comparison, and the Python that makes it again."""

from __future__ import annotations

import base64
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apps.pages.report_section import (
    Answer,
    opening_model,
    opening_of,
    path_literal,
    printing,
    subject_inputs,
)
from apps.server.comparison import has_areas
from apps.server.encoding import encoded
from workbench.checkpoints.demo import DEFAULT
from workbench.cli.pictures import drawn
from workbench.core import Prediction, Skeleton
from workbench.core.plain_text import escaped
from workbench.core.report import counted

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from apps.server.comparison import Asked
    from apps.server.context import Context
    from workbench.evaluation import Predictions
    from workbench.evaluation.compare import Comparison


# A list in a document shows what to look at first, not all of a thousand.
SHOWN = 20

ADDRESS = (
    "run", "data", "epochs", "epoch", "pair", "decoder", "score", "sample", "keypoint", "threshold", "right",
    "sort", "size", "truth", "view", "fit", "maps", "softmax", "smooth", "table",
)  # fmt: skip
"""Names that the page reads from its address, as in ``static/link.js``."""


def code_of(context: Context, asked: Asked, wanted: Sequence[int]) -> str:
    """The Python that compares some epochs of a comparison, with the figures that the page shows."""
    if context.predictions.has(asked.run):
        return printing(_code_of_predictions(context, asked, wanted))
    files = ", ".join(path_literal(context.registry.epoch(asked.run, index).path) for index in wanted)
    pose_set = context.registry.sets.get(asked.data)
    imports, opening = opening_of(context, asked.data)
    count = len(context.store.indices(asked.data))
    cut = count < len(pose_set.labelled)
    decoding = (("decoder", asked.decoder), ("score", asked.score))
    arguments = ", ".join(f"{name}={value!r}" for name, value in decoding if value)
    options = f", options=DecodeOptions({arguments})" if arguments else ""
    some = ", indices=some" if cut else ""
    areas = "" if has_areas(pose_set) else ', area_rule="box"'
    code = "\n".join(
        [
            imports,
            "from workbench.evaluation import compare, predict, protocol_of_loaded",
            "from workbench.evaluation.protocol import judged_by",
            "from workbench.models import open_model",
            *(["from workbench.core import DecodeOptions"] if arguments else []),
            "",
            f"annotated = {opening}",
            *([f"some = annotated.labelled[:{count}]"] if cut else []),
            f"loaded = [{opening_model(context, 'file')} for file in [{files}]]",
            "annotated = judged_by(annotated, loaded[0].model.skeleton)",
            f"found = [(m.title, predict(m.model, annotated{some}{options})) for m in loaded]",
            f"rules = [protocol_of_loaded(m{options}) for m in loaded]",
            f"compare(annotated, found, rules{some}{areas})",
        ]
    )
    return printing(code)


def _code_of_predictions(context: Context, asked: Asked, wanted: Sequence[int]) -> str:
    """The same for a folder of predictions, which needs no model."""
    opened = context.predictions.opened(asked)
    files = ", ".join(path_literal(opened.folder.run.epochs[index].path) for index in wanted)
    imports, opening = opening_of(context, asked.data)
    areas = "" if has_areas(opened.pose_set) else ', area_rule="box"'
    cut = len(opened.indices) < len(opened.pose_set.labelled)
    chosen_lines = [
        "ids = {i for _, poses in found for i in poses.annotation_id.tolist()}",
        "some = [i for i in annotated.labelled if annotated.instances[i].annotation_id in ids]",
    ]
    return "\n".join(
        [
            "from pathlib import Path",
            imports,
            "from workbench.evaluation import Predictions, compare",
            "from workbench.evaluation.protocol import judged_as",
            "",
            f"annotated = {opening}",
            f"files = [Path(name) for name in [{files}]]",
            "read = [Predictions.from_parquet(file) for file in files]",
            "found = [(file.stem, poses) for file, (poses, _) in zip(files, read)]",
            *(chosen_lines if cut else []),
            "rules = [one for _, one in read]",
            "annotated = judged_as(annotated, rules)",
            f"compare(annotated, found, rules{', indices=some' if cut else ''}{areas})",
        ]
    )


def comparison_answer(context: Context, asked: Asked, wanted: Sequence[int], sample: str = "") -> Answer:
    """Some epochs of a comparison, with what the page shows of them; of one epoch its evaluation.

    Args:
        context: of this serving.
        asked: run or folder of predictions, data set, decoder and score rule.
        wanted: indices of the epochs, in the order of the comparison.
        sample: the one that the page shows, as its address names it; it is drawn first.

    Raises:
        Unready: one of them is not computed yet.
        ValueError: there is nothing to compare.
    """
    predictions = context.predictions.has(asked.run)
    source = context.predictions if predictions else context.comparisons
    run = context.predictions.get(asked.run).run if predictions else context.registry.run(asked.run)
    if predictions:
        inputs = tuple(("results", run.epochs[index].path) for index in wanted)
        inputs += subject_inputs(context, "", [], asked.data)
    else:
        inputs = subject_inputs(context, run.id, wanted, asked.data)
    title, code = f"{run.title} on {asked.data}", code_of(context, asked, wanted)
    if len(wanted) == 1:
        return Answer.of(title, source.evaluation(asked, wanted[0]), code, inputs)
    found = source.side_by_side(asked, wanted)
    return Answer(
        title, {"": found}, code, inputs, functools.partial(_details, context, asked, wanted, found, sample)
    )


def _details(
    context: Context, asked: Asked, wanted: Sequence[int], found: Comparison, sample: str
) -> list[str]:
    """Samples that changed, and the instances and keypoints behind the figures, as parts of a document."""
    pose_set = context.registry.sets.get(asked.data)
    names = {
        instance.annotation_id: f"{pose_set.images[instance.image_id].path.stem}/{instance.annotation_id}"
        for instance in pose_set.instances
    }
    facts = found.to_json()
    parts = [f"<p><strong>Not comparable: {escaped(w)}</strong></p>" for w in found.differences]
    parts.append(_pictures(context, asked, wanted, found, sample))
    for name, what in (("gained", "Gained"), ("lost", "Lost"), ("most_changed", "Most changed")):
        rows = [_named(row, found.titles, names) for row in facts[name]]
        more = f", the first {SHOWN} of them" if len(rows) > SHOWN else ""
        parts += [f"<h3>{what}: {counted(len(rows), 'instance')}{more}</h3>", _table(rows[:SHOWN])]
    for title, rows in facts["per_keypoint"].items():
        parts += [f"<h3>Per keypoint, {escaped(title)}</h3>", _table(rows)]
    protocol = found.evaluations[-1].protocol.to_json()
    return [
        *parts,
        "<h3>Protocol</h3>",
        _table([{"rule": key, "value": value} for key, value in protocol.items()]),
    ]


def _pictures(context: Context, asked: Asked, wanted: Sequence[int], found: Comparison, sample: str) -> str:
    """The chosen sample and those that changed most, annotated and as each epoch has them."""
    pose_set = context.registry.sets.get(asked.data)
    source = context.predictions if context.predictions.has(asked.run) else context.comparisons
    indices, rows = source.rows(asked, wanted)
    truth = found.evaluations[0].ap.truth
    row_of = {pose_set.instances[index].annotation_id: (row, index) for row, index in enumerate(indices)}
    parts = ["<h3>Samples that changed</h3>"]
    chosen = sample.rpartition("/")[2]
    first = [n for n, i in enumerate(truth.ids) if str(i) == chosen]
    for n in dict.fromkeys([*first, *shown_samples(found)]):
        if int(truth.ids[n]) not in row_of:
            continue  # without a box there is nothing to cut out
        row, index = row_of[int(truth.ids[n])]
        instance = pose_set.instances[index]
        image = context.registry.sets.sample(asked.data, index).image
        pictures = cut_outs(image, instance.box, instance.truth, [(p, row) for p in rows], pose_set.skeleton)
        titles = [
            "annotation",
            *(f"{t}, OKS {_cell_text(float(found.oks[e, n]))}" for e, t in enumerate(found.titles)),
        ]
        name = f"{pose_set.images[instance.image_id].path.stem}/{instance.annotation_id}"
        shown = "".join(
            f'<div><img width="{SIDE}" alt="{escaped(name)}, {escaped(t)}" src="{p}"><br>{escaped(t)}</div>'
            for t, p in zip(titles, pictures, strict=True)
        )
        parts.append(
            f"<figure><figcaption>{escaped(name)}{', shown on the page' * (n in first)}</figcaption>"
            f'<div style="display:flex;flex-wrap:wrap;gap:8px">{shown}</div></figure>'
        )
    return "".join(parts)


def _named(row: dict[str, Any], titles: Sequence[str], names: dict[int, str]) -> dict[str, Any]:
    oks = dict(zip((f"OKS, {title}" for title in titles), row["oks"], strict=True))
    return {"sample": names.get(row["annotation_id"], row["annotation_id"]), **oks}


def _table(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return '<p class="quiet">none</p>'
    head = "".join(f"<th>{escaped(str(name))}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escaped(_cell_text(value))}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _cell_text(value: Any) -> str:
    if value is None or value != value:  # nan
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


# The pictures in a comparison's document: what changed in single samples.


SIDE = 220  # of a cut-out, pixels
MARGIN = 1.35  # of the box: limbs reach beyond it
MOST = 12  # samples; of four epochs that are 48 cut-outs of 10 to 20 KB
EACH = 4  # of the gained and of the lost ones


def shown_samples(found: Comparison) -> list[int]:
    """Rows of the ground truth to show: what was gained, what was lost, then what else changed most."""
    order = [*found.gained()[:EACH].tolist(), *found.lost()[:EACH].tolist(), *found.most_changed().tolist()]
    return list(dict.fromkeys(order))[:MOST]


def cut_outs(
    image: UInt8[np.ndarray, "H W 3"],
    box: tuple[float, float, float, float],
    truth: Float[np.ndarray, "K 3"],
    rows: Sequence[tuple[Predictions, int]],
    skeleton: Skeleton,
) -> list[str]:
    """The annotation and each epoch's keypoints on the square around a box, as addresses that hold them.

    Args:
        image: RGB.
        box: (x0, y0, x1, y1) in its pixels.
        truth: (x, y, visibility) in its pixels.
        rows: predictions of each epoch, and which row of them is this sample's.
        skeleton: of the set.
    """
    import cv2

    x0, y0, x1, y1 = box
    scale = SIDE / (max(x1 - x0, y1 - y0, 1.0) * MARGIN)
    shift = SIDE / 2 - scale * np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    affine = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = cv2.warpAffine(image, affine, (SIDE, SIDE), flags=way, borderValue=(128, 128, 128))
    annotated = np.where(truth[:, 2:] > 0, truth[:, :2], np.nan)
    drawings = [(annotated, np.ones(len(truth))), *((p.keypoints[row], p.scores[row]) for p, row in rows)]
    nowhere = (np.nan, np.nan, np.nan, np.nan)
    return [
        _address(drawn(canvas, [Prediction(points * scale + shift, scores, nowhere)], skeleton, -np.inf, 2))
        for points, scores in drawings
    ]


def _address(pixels: UInt8[np.ndarray, "H W 3"]) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(encoded(pixels, 82)).decode()}"


# The Compare page: which epoch is better, on which samples, and what changed in them?


STATIC = Path(__file__).parent / "static"
"""Served as ``/workbench/static/compare``."""

# What stands there until the modules have come: the page's own shape, so nothing jumps when they do.
_PANE = '<div class="cmp-ghost cmp-ghost-pane"></div>'
SHELL = f"""<link rel="stylesheet" href="/workbench/static/compare/theme.css">
<link rel="stylesheet" href="/workbench/static/compare/layout.css">
<link rel="stylesheet" href="/workbench/static/compare/parts.css">
<link rel="stylesheet" href="/workbench/static/compare/panes.css">
<section class="cmp" id="compare" aria-label="Compare epochs" aria-busy="true"
  data-testid="compare" data-first-run="{DEFAULT}">
  <div class="cmp-ghost cmp-ghost-bar"></div><div class="cmp-ghost cmp-ghost-bar"></div>
  <div class="cmp-ghost-body"><div class="cmp-ghost cmp-ghost-list"></div>{3 * _PANE}</div>
</section>
"""

# Gradio runs this text as a function of `element` when the component is on the page. The address is
# taken from the document: inside such a function a relative import starts at Gradio's own scripts.
ON_LOAD = """
const place = element.querySelector('#compare');
if (place && !place.dataset.started) {
  place.dataset.started = 'yes';
  import(new URL('workbench/static/compare/main.js', document.baseURI).href).then(
    (page) => page.start(place),
    () => {
      place.textContent = 'This page could not be loaded; see whether the workbench still runs, then reload.';
    },
  );
}
"""


def build(context: Context) -> None:
    """Add the workspace to the page that is being built.

    Args:
        context: of this serving; the page itself reads everything through the HTTP interface.
    """
    import gradio as gr

    gr.HTML(SHELL, js_on_load=ON_LOAD, apply_default_css=False, padding=False, elem_classes="compare-holder")


# What the front page needs is fetched while Gradio still starts: modules, styles, lists of what there is.


_KINDS = {".js": "rel=modulepreload", ".css": "rel=preload; as=style"}
_LISTS = ("runs", "data")


def links() -> str:
    """The value of a Link header."""
    files = sorted(path for path in STATIC.iterdir() if path.suffix in _KINDS)
    parts = [f"</workbench/static/compare/{path.name}>; {_KINDS[path.suffix]}" for path in files]
    parts += [f"</workbench/api/{name}>; rel=preload; as=fetch; crossorigin=anonymous" for name in _LISTS]
    return ", ".join(parts)


class Ahead:
    """Middleware that adds the Link header to the front page and to nothing else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._links = app, links().encode("latin-1")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                message = {**message, "headers": [*message.get("headers", ()), (b"link", self._links)]}
            await send(message)

        front = scope["type"] == "http" and scope["path"] == "/" and scope["method"] == "GET"
        await self._app(scope, receive, sending if front else send)
