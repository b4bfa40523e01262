"""What the Overfit page shows: curves, pictures of the prediction, status line and verdict card."""

from __future__ import annotations

import base64
import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gradio.components.plot import PlotData

from apps.pages.frame import sentence_html
from apps.pages.overfit.attempts import Attempt
from apps.pages.report_section import command_in
from apps.pages.sections import Download, report_mark
from workbench.core import Run, Skeleton
from workbench.core.plain_text import escaped, escaped_lines
from workbench.core.report import counted
from workbench.figures import (
    FINDING_COLOUR,
    RUN_COLOURS,
    SEQUENTIAL,
    TRUTH_COLOUR,
    image_data_uri,
    keypoint_colours,
    new_figure,
    sprite,
)
from workbench.figures.panels import cell_pitch, crop_of, in_input, visible_truth
from workbench.figures.safe_figure import safe_text
from workbench.training.bisection import Cause
from workbench.training.verdict import headline

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.training.session import Session, Status


# More points cannot be distinguished on half a page; a run of 100000 steps stays quick to draw.
POINTS = 500

PANELS = (
    ("loss", "loss", "log"),
    ("PCK", "PCK", "linear"),
    ("learning rate", "learning rate", "log"),
    ("gradient norm", "gradient norm", "log"),
)
GROUPED = {"learning rate": "lr", "gradient norm": "gradient"}
"""Panel -> first word of its columns, one for each parameter group."""
INKS = (*RUN_COLOURS, FINDING_COLOUR)


def curves(rows: Sequence[dict[str, Any]], key: str) -> PlotData:
    """Four panels over the steps, as JSON for plotly; before the first step a sentence in their place.

    Args:
        rows: of a session, one per step.
        key: zoom and hidden curves are kept while it stays the same.
    """
    if not rows:
        return PlotData(type="plotly", plot=json.dumps({"data": [], "layout": _before_start()}))
    drawn = rows[:: max(1, len(rows) // POINTS)]
    parts = [k for k in rows[0] if k.startswith("loss/")]
    traces = [_curve(0, drawn, "loss", "loss", INKS[0])]
    if len(parts) > 1:
        for part, ink in zip(parts, INKS[1:], strict=False):
            traces.append(_curve(0, drawn, part, part.replace("/", ": "), ink, dash="dot"))
    measured = [row for row in rows if row.get("pck") is not None]
    measured = measured[:: max(1, len(measured) // POINTS)]
    traces.append(_curve(1, measured, "pck_train", "PCK, training mode", INKS[1], dash="dot"))
    traces.append(_curve(1, measured, "pck", "PCK, evaluation mode", INKS[0]))
    groups = [k.partition("/")[2] for k in rows[0] if k.startswith("lr/")]
    for group, ink in zip(groups, INKS * 3, strict=False):
        traces.append(_curve(2, drawn, f"lr/{group}", group, ink))
        traces.append(_curve(3, drawn, f"gradient/{group}", group, ink, legend=False))
    # Drawn every second beside the loop that it watches: plotly's figure and its checks took a hundredth of
    # that loop's time. A test makes them instead.
    layout = {**_panels(), "uirevision": key}
    columns = {"loss": ["loss", *(parts if len(parts) > 1 else [])]}
    columns |= {name: [f"{word}/{group}" for group in groups] for name, word in GROUPED.items()}
    for i, (name, _, _) in enumerate(PANELS):
        if name in columns:
            axis = f"yaxis{'' if i == 0 else i + 1}"
            values = [row.get(column) for row in drawn for column in columns[name]]
            layout[axis] = layout[axis] | _log_numbers(values)
    figure = {"data": traces, "layout": layout}
    return PlotData(type="plotly", plot=json.dumps(figure))


def _log_numbers(values: Sequence[float | None]) -> dict[str, Any]:
    """Range and two to four numbers of a logarithmic axis: 1, 2 and 5 times powers of ten, or powers alone.

    With a limit on their number alone, plotly leaves one where the values lie within a decade.
    """
    logs = [math.log10(value) for value in values if value is not None and 0 < value < math.inf]
    if not logs:
        return {}
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    marks = [k + math.log10(m) for k in range(low, high + 1) for m in (1, 2, 5)]
    first = max(mark for mark in marks if mark <= min(logs))
    last = min([mark for mark in marks if mark >= max(logs) and mark > first] or [first + 1])
    shown = [mark for mark in marks if first <= mark <= last]
    if len(shown) > 4:
        first, last = low, high
        shown = list(range(low, high + 1, math.ceil((high - low) / 3)))
    return {
        "range": [first - 0.05, last + 0.05], "tickmode": "array",
        "tickvals": [float(f"{10**mark:.3g}") for mark in shown],
    }  # fmt: skip


@functools.cache
def _before_start() -> dict[str, Any]:
    """The layout of a figure that holds nothing but what will be drawn here."""
    figure = new_figure("", height=120)
    text = "Start draws loss, PCK, learning rate and gradient norm here, step by step."
    figure.add_annotation(text=text, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure.to_dict()["layout"]


@functools.cache
def _panels() -> dict[str, Any]:
    """The layout, made once: 2 x 2 panels, with room for the axes' titles between them."""
    figure = new_figure("", height=450, showlegend=True, hovermode="x unified")
    for i, (name, unit, scale) in enumerate(PANELS):
        suffix = "" if i == 0 else str(i + 1)
        left, top = (i % 2) * 0.57, 1 - (i // 2) * 0.56
        x = {"domain": [left, left + 0.43], "anchor": f"y{suffix}"}
        y = {"domain": [max(0.0, top - 0.44), top], "anchor": f"x{suffix}", "type": scale}
        figure.update_layout({f"xaxis{suffix}": x, f"yaxis{suffix}": y})
        figure.update_layout(
            {
                f"yaxis{suffix}_title_text": unit,
                f"yaxis{suffix}_exponentformat": "power",
                # Titles keep their distance however long the numbers are, and the margin grows with them.
                f"yaxis{suffix}_automargin": True,
                f"xaxis{suffix}_automargin": True,
                f"yaxis{suffix}_title_standoff": 6,
                # Also for the panels whose numbers `_log_numbers` chooses, until they have values.
                f"yaxis{suffix}_nticks": 3,
            }
            | ({f"xaxis{suffix}_title_text": "step"} if i > 1 else {})
            | ({f"xaxis{suffix}_matches": "x"} if i else {})
            | ({f"yaxis{suffix}_range": [-0.03, 1.03]} if name == "PCK" else {})
        )
    figure.update_layout(margin={"l": 60, "r": 16, "t": 56, "b": 44})
    # Above the topmost label of the axes, which stands half above the panel.
    figure.update_layout(legend={"y": 1.1, "yanchor": "bottom"})
    return figure.to_dict()["layout"]


def _curve(
    panel: int,
    rows: Sequence[dict[str, Any]],
    column: str,
    name: str,
    ink: str,
    dash: str = "solid",
    legend: bool = True,
) -> dict[str, Any]:
    suffix = "" if panel == 0 else str(panel + 1)
    return {
        "type": "scatter",
        "x": _numbers([row["step"] for row in rows]),
        "y": _numbers([row.get(column) for row in rows]),
        "name": safe_text(name),
        "legendgroup": safe_text(name),
        "showlegend": legend,
        "mode": "lines+markers" if len(rows) < 60 else "lines",
        "marker": {"size": 4},
        "line": {"color": ink, "width": 1.7, "dash": dash},
        "connectgaps": True,
        "xaxis": f"x{suffix}",
        "yaxis": f"y{suffix}",
    }


def _numbers(values: Sequence[float | None]) -> dict[str, str]:
    """An array as plotly.js reads it from JSON; nan where there is no value."""
    array = np.array([np.nan if value is None else value for value in values], "<f4")
    return {"dtype": "f4", "bdata": base64.b64encode(array.tobytes()).decode()}


FURTHEST = "furthest off"


def last_measured(session: Session) -> Run | None:
    """The last measurement as a run; None before the first."""
    trainer = session.trainer
    if trainer.seen is None:
        return None
    outputs, predictions = trainer.seen
    return Run(trainer.model, trainer.samples, trainer.batch, outputs, predictions)


def keypoints_of(skeleton: Skeleton) -> list[str]:
    """Choices of the keypoint menu."""
    return [FURTHEST, *skeleton.keypoints]


def pictures(run: Run, keypoint: str) -> str:
    """The overlay, and the chosen keypoint's heatmap or SimCC vectors beside it, as HTML.

    Drawn as SVG on the network's input: an image and a few marks are about ten kB, so that the picture can
    follow the training.

    Args:
        run: the last measurement.
        keypoint: its name; "" or FURTHEST takes the one with the largest error.

    Raises:
        KeyError: no such keypoint.
    """
    points = in_input(run, 0, np.asarray(run.predictions[0].keypoints, float))
    truth = in_input(run, 0, visible_truth(run, 0))
    errors = np.linalg.norm(points - truth, axis=1)
    skeleton = run.model.skeleton
    chosen = keypoint not in ("", FURTHEST)
    k = skeleton.index(keypoint) if chosen else int(np.nan_to_num(errors, nan=-1).argmax())
    error = f"{errors[k]:.1f} px off" if np.isfinite(errors[k]) else "not annotated"
    photo = image_data_uri(crop_of(run, 0))
    mean = f"{np.nanmean(errors):.1f}" if np.isfinite(errors).any() else "?"
    return (
        '<div class="ovf-pictures"><figure>'
        f"{_overlay(run, photo, points, truth, errors, k)}<figcaption>prediction "
        f"(filled) and annotation (rings) on the network's input; mean error {mean} input "
        "px</figcaption></figure>"
        f"<figure>{_answer(run, photo, k, points[k], truth[k])}<figcaption><b>"
        f"{escaped(skeleton.keypoints[k])}</b>, "
        f"{error}: {_kind(run)}, evaluation mode</figcaption></figure></div>"
    )


def _overlay(
    run: Run,
    photo: str,
    points: Float[np.ndarray, "K 2"],
    truth: Float[np.ndarray, "K 2"],
    errors: Float[np.ndarray, " K"],
    k: int,
) -> str:
    skeleton = run.model.skeleton
    H, W = run.batch.pixels.shape[-2:]
    r = max(H, W) / 80
    marks = []
    for i, (name, ink) in enumerate(zip(skeleton.keypoints, keypoint_colours(skeleton), strict=True)):
        (x, y), (u, v) = points[i], truth[i]
        wide = 1.7 if i == k else 1.0
        if np.isfinite([x, y, u, v]).all():
            marks.append(
                f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{u:.1f}" y2="{v:.1f}" stroke="{ink}" '
                f'stroke-width="{r / 4:.2f}"/>'
            )
        if np.isfinite([u, v]).all():
            marks.append(
                f'<circle cx="{u:.1f}" cy="{v:.1f}" r="{r * 1.4 * wide:.2f}" fill="none" stroke="{ink}" '
                f'stroke-width="{r / 2.5:.2f}"/>'
            )
        if np.isfinite([x, y]).all():
            far = f", {errors[i]:.1f} px off" if np.isfinite(errors[i]) else ", not annotated"
            marks.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r * wide:.2f}" fill="{ink}" stroke="#14161c" '
                f'stroke-width="{r / 5:.2f}"><title>{escaped(name + far)}</title></circle>'
            )
    return (
        f'<svg viewBox="-0.5 -0.5 {W} {H}" role="img" aria-label="overlay" data-testid="overfit-overlay">'
        f"{_image(photo, W, H)}{''.join(marks)}</svg>"
    )


def _answer(
    run: Run, photo: str, k: int, point: Float[np.ndarray, " 2"], truth: Float[np.ndarray, " 2"]
) -> str:
    H, W = (int(v) for v in run.batch.pixels.shape[-2:])
    margin = 0.0
    if run.outputs.heatmaps is not None:
        drawn = _heatmap(run, k)
    elif run.outputs.simcc is not None:
        margin = 0.28 * min(H, W)
        drawn = _simcc(run, k, W, H, margin)
    else:
        return "<p>This family has neither heatmaps nor SimCC vectors.</p>"
    r = max(H, W) / 50
    marks = ""
    for (x, y), ink in ((truth, TRUTH_COLOUR), (point, "#ffffff")):
        if np.isfinite([x, y]).all():
            marks += (
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.2f}" fill="none" stroke="{ink}" '
                f'stroke-width="{r / 4:.2f}"/>'
            )
    return (
        f'<svg viewBox="-0.5 -0.5 {W + margin:.1f} {H + margin:.1f}" role="img" aria-label="answer" '
        f'data-testid="overfit-answer">{_image(photo, W, H, 0.45)}{drawn}{marks}</svg>'
    )


def _heatmap(run: Run, k: int) -> str:
    values = run.heatmaps[0, k]
    h, w = values.shape
    dx, dy = cell_pitch(run, (h, w))
    png, *_ = sprite(values[None], colours=SEQUENTIAL, transparent=True)
    return (
        f'<image href="{image_data_uri(png)}" x="{-dx / 2:.2f}" y="{-dy / 2:.2f}" width="{w * dx:.2f}" '
        f'height="{h * dy:.2f}" preserveAspectRatio="none" style="image-rendering:pixelated"/>'
    )


def _simcc(run: Run, k: int, W: int, H: int, margin: float) -> str:
    """The vector along x below the crop, the one along y to its right, each filling its margin."""
    x, y = (v[0, k] for v in run.simcc)
    lines = ""
    for curve, length, along_x in ((x, W, True), (y, H, False)):
        low, high = float(min(curve.min(), 0)), float(max(curve.max(), 1e-9))
        place = np.arange(len(curve)) / len(curve) * length
        height = (curve - low) / (high - low) * 0.9 * margin
        pairs = (
            zip(place, H + margin - height, strict=True) if along_x else zip(W + height, place, strict=True)
        )
        at = " ".join(f"{a:.1f},{b:.1f}" for a, b in pairs)
        width = f"{margin / 45:.2f}"
        lines += f'<polyline points="{at}" fill="none" stroke="var(--wb-accent)" stroke-width="{width}"/>'
    return lines


def _kind(run: Run) -> str:
    return "heatmap" if run.outputs.heatmaps is not None else "SimCC vectors along x (below) and y (right)"


def _image(source: str, W: int, H: int, opacity: float = 1.0) -> str:
    return (
        f'<image href="{source}" x="-0.5" y="-0.5" width="{W}" height="{H}" opacity="{opacity}" '
        'preserveAspectRatio="none"/>'
    )


# Speed is averaged over this many steps: steady, but follows a slower phase.
RECENT = 20


def status_html(attempt: Attempt) -> str:
    """State, step, loss, PCK, learning rate, speed, time left."""
    now, rows = attempt.run.session.status(), attempt.run.rows
    facts = [("", f'<b class="ovf-state ovf-{now.state}" data-testid="overfit-state">{now.state}</b>')]
    facts.append(("step", f'<b data-testid="overfit-step">{now.step}</b> of {now.steps}'))
    if rows:
        facts.append(("loss", f"<b>{rows[-1]['loss']:.3g}</b>"))
    measured = next((row for row in reversed(rows) if row.get("pck") is not None), None)
    if measured:
        facts.append(
            ("PCK @ 0.05 of the box", f"<b>{_share(measured['pck'])}</b> evaluation, "
             f"<b>{_share(measured['pck_train'])}</b> training mode (step {measured['step']})")
        )  # fmt: skip
    facts.append(("learning rate", f"{attempt.run.session.trainer.lr():.2g}"))
    if rows:
        recent = [row["seconds"] for row in rows[-RECENT:]]
        facts.append(("", f"{len(recent) / sum(recent):.2g} steps/s"))
    if math.isfinite(now.seconds_left):
        facts.append(("", f"{now.seconds_left:.0f} s left"))
    spans = "".join(f"<span>{f'<i>{name}</i>' if name else ''}{value}</span>" for name, value in facts)
    # The page says so when it is closed: whoever needs the device may then end the session.
    shown = f' data-job="{attempt.holding.id}"' if attempt.alive and attempt.holding else ""
    return (
        f'<div class="ovf-status"{shown}>{spans}<progress max="{now.steps}" value="{now.step}"></progress>'
        f"<em>{escaped(_details(attempt, now))}</em></div>"
    )


def _share(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) and math.isfinite(value) else "?"


def _details(attempt: Attempt, now: Status) -> str:
    text = f"{attempt.setup.title} on {attempt.setup.device}"
    recipe = attempt.setup.recipe
    if recipe is not None:
        text += f"; training of the config: {'; '.join(recipe.used) or 'nothing of it can be used'}"
        text += f"; not used: {'; '.join(recipe.unused)}" if recipe.unused else ""
    elif attempt.choices.config:
        text += "; training by this page's values, not by the config's"
    if now.state == "waiting":
        wait = f"waits up to {attempt.choices.wait:g} s because {now.reason}"
        return f"{text}: {wait}; Resume or Step continues"
    files = attempt.snapshots()
    if files:
        text += f"; {len(files)} snapshot{'s' * (len(files) > 1)} in {_short(attempt.folder)}"
    return text


def _short(folder: Path) -> str:
    """The path with ~ for the home folder."""
    home = Path.home()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)


def verdict_html(attempt: Attempt, served: Path) -> str:
    """The card at the end: expected and measured result, cause, and the command; "" while it runs.

    Args:
        attempt: that has ended, or not yet.
        served: the served folder, in which the shown command is typed.
    """
    if attempt.mistake:
        return sentence_html(attempt.mistake, "error")
    verdict, wrong = attempt.run.verdict, list(attempt.run.wrong)
    if verdict is None:
        return ""
    if attempt.run.cause and attempt.run.cause.helped:
        wrong.append(attempt.run.cause.helped)
    said = headline(verdict, (*attempt.run.before, *attempt.run.observed))
    stopped = " (stopped early)" if attempt.state == "stopped" else ""
    lines = [
        ("expected", escaped(verdict.expected)),
        ("measured", escaped(verdict.came)),
        *([("also", "<br>".join(map(escaped, wrong)))] if wrong else []),
        *([("cause", _cause(attempt))] if attempt.job else []),
        *_config_rows(attempt),
        ("repeat", command_html(attempt, served) + _not_repeated(attempt)),
    ]
    rows = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in lines)
    return (
        f'<section class="ovf-verdict {"ovf-learned" if said == "learned" else ""}" '
        'data-testid="overfit-verdict">'
        f'<h2>{escaped(said)}{stopped}</h2><table class="wb-facts">{rows}</table></section>'
        f"{report_mark(Download('overfit', 'overfit', attempt.id))}"
    )


def _config_rows(attempt: Attempt) -> list[tuple[str, str]]:
    """What of the config's own training was used, and what was not."""
    recipe = attempt.setup.recipe
    if recipe is None:
        return []
    found = [("config", f'<span data-testid="overfit-config">used: {_listed(recipe.used)}</span>')]
    return [*found, *([("", f"not used: {_listed(recipe.unused)}")] if recipe.unused else [])]


def _listed(words: Sequence[str]) -> str:
    return escaped("; ".join(words) or "nothing that is supported")


def command_html(attempt: Attempt, served: Path) -> str:
    """The command that repeats an attempt, and the folder in which it is typed.

    Args:
        attempt: any.
        served: the served folder; an uploaded photo lies in a folder of its owner.
    """
    whole, where = attempt.setup.command, ""
    typed = whole if attempt.is_private else command_in(served, whole)
    if attempt.choices.own is not None:
        files = f"{attempt.choices.own.name} and {attempt.choices.own.annotation_name}"
        saved = "" if attempt.choices.own.annotation else " (Save annotation writes it)"
        where = f"<br>in the folder that holds {escaped(files)}{saved}"
    elif typed != whole:
        where = (
            "<br>in the served folder; Copy command gives whole paths, which run from any folder"
            '<div class="wb-details"><div class="wb-buttons"><button type="button" data-copy>Copy command'
            f"</button></div><pre hidden><code>{escaped_lines(whole)}</code></pre></div>"
        )
    return f'<code data-testid="overfit-command">{escaped(typed)}</code>{where}'


def _not_repeated(attempt: Attempt) -> str:
    """Changes made by hand during the session, which the command does not repeat."""
    rate = attempt.run.session.trainer.peak_learning_rate
    if rate == attempt.setup.plan.settings.learning_rate:
        return ""
    return f"<br>The learning rate was set to {rate:.3g} while it paused; the command does not repeat that."


def _untried(attempt: Attempt) -> str:
    """Why a bisection tried no switch."""
    verdict = attempt.run.verdict
    if verdict is not None and verdict.learned:
        return "the image was learned, so no switch was tried"
    return "no switch was tried: none can mend what stands under “also”; mend that first"


def _cause(attempt: Attempt) -> str:
    job = attempt.job
    if job is None:
        return ""
    if job.state == "queued":
        return "waiting for the device"
    if job.state == "running":
        left = "" if job.seconds_left is None else f", at most {job.seconds_left:.0f} s"
        return (
            f"trying without <b>{escaped(attempt.trying or '...')}</b>"
            f'<progress max="{max(job.total, 1)}" value="{job.done}"></progress>{job.done} of '
            f"{counted(job.total, 'step')}{left}"
        )
    text = {
        "failed": escaped(job.error or "the bisection failed"),
        "cancelled": "the bisection was cancelled",
    }.get(job.state, "")
    found = attempt.run.cause or Cause()
    if not text and found.culprit:
        text = (
            f'<b data-testid="overfit-culprit">{escaped(found.culprit)}</b>: without it, '
            f"{escaped(found.mended)}; {escaped(found.why)}"
        )
    elif not text:
        text = (
            "none of these switches is the cause on its own"
            + escaped(f"; {step}" if (step := attempt.run.report().next_step) else "")
            if found.trials
            else _untried(attempt)
        )
    trials = "".join(
        f'<tr class="{"ovf-culprit" if t.without == found.culprit else ""}"><td>without '
        f"{escaped(t.without)}"
        f"</td><td>{t.verdict.outcome}</td><td>PCK {t.verdict.pck:.2f}</td></tr>"
        for t in found.trials
    )
    return f'{text}<table class="ovf-trials">{trials}</table>'
