"""What the Checkpoint page answers: facts of a file, how much of a model it fills, what changed in it."""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apps.pages.code import literal, path_literal
from apps.pages.frame import sentence_html
from apps.pages.report_section import sheet
from apps.server.context import Context
from apps.server.folders import SUFFIXES, Refused
from workbench.cli import MISTAKES, sentence
from workbench.core import NotAvailable

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.checkpoints import Checkpoint
    from workbench.checkpoints.loading import LoadReport

# Files offered in the list; a path can be typed for others below the root.
OFFERED = 2000


def files(context: Context) -> list[tuple[str, str]]:
    """(title, id) of every checkpoint of every run."""
    served = context.registry.served
    return [
        (f"{run.title} / {epoch.path.name}", served.identity(epoch.path))
        for run in context.registry.runs()
        for epoch in run.epochs
    ][:OFFERED]


def file_of(context: Context, identity: str) -> Path:
    """The checkpoint file of an id.

    Raises:
        Refused: it lies outside the served folders.
        FileNotFoundError: there is nothing.
        ValueError: it is a folder, or its ending is no checkpoint's.
    """
    path = context.registry.served.path(identity.strip())
    if path.is_dir():
        raise ValueError(f"{identity} is a folder; choose a file in it")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path.name}: expected a checkpoint ({', '.join(SUFFIXES)})")
    return path


def summary(checkpoint: Checkpoint) -> str:
    """What the file is, in one sentence."""
    identity = checkpoint.identity
    what = " ".join(part for part in (identity.family, identity.variant) if part) or "unknown network"
    when = "" if checkpoint.epoch is None else f", epoch {checkpoint.epoch}"
    # What the run was judged by comes before what it was trained with.
    judged = sorted(checkpoint.metrics.items(), key=lambda item: "AP" not in item[0] and "PCK" not in item[0])
    metrics = "".join(f", {name} {value:.4g}" for name, value in judged[:2])
    validated = any(name.startswith(("val/", "best_score")) for name, _ in judged[:2])
    note = f" ({checkpoint.metrics_note})" if validated and checkpoint.metrics_note else ""
    return (
        f"{what}: {checkpoint.parameters / 1e6:.2f} M parameters in {checkpoint.format}{when}{metrics}{note}."
    )


def facts(checkpoint: Checkpoint) -> list[tuple[str, str | list[str]]]:
    """(name, value or values) of everything the file says; what it does not say is left out."""
    identity = checkpoint.identity
    size = sum(path.stat().st_size for path in checkpoint.paths)
    keypoints = checkpoint.dataset_meta.get("keypoint_id2name") or {}
    told: list[tuple[str, Any]] = [
        ("file", f"{', '.join(p.name for p in checkpoint.paths)}, {size / 1e6:.1f} MB"),
        ("format", f"{checkpoint.format} ({checkpoint.container})"),
        ("family", " ".join(part for part in (identity.family, identity.variant) if part)),
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
    return [(name, value) for name, value in told if value]


def _data_set(checkpoint: Checkpoint, keypoints: int) -> str:
    name = str(checkpoint.dataset_meta.get("dataset_name", ""))
    return f"{name}, {keypoints} keypoints" if keypoints else name


def facts_html(told: Iterable[tuple[str, str | list[str]]]) -> str:
    """The facts as a table; names and values come from a file, so all of it is escaped."""
    rows = []
    for name, value in told:
        shown = "<br>".join(html.escape(v) for v in value) if isinstance(value, list) else html.escape(value)
        rows.append(f"<tr><th scope='row'>{html.escape(name)}</th><td>{shown}</td></tr>")
    return f'<table class="wb-facts">{"".join(rows)}</table>'


def parts_figure(checkpoint: Checkpoint) -> Figure:
    """Parameters by first part of the name."""
    import plotly.graph_objects as go

    from workbench.figures import RUN_COLOURS, new_figure

    parts = checkpoint.parts()
    largest = sorted(parts, key=lambda name: parts[name])[-14:]
    most = largest[-1] if largest else "nothing"
    share = parts[most] / max(1, sum(parts.values())) if largest else 0
    figure = new_figure(
        f"{most} holds {share:.0%} of the parameters",
        x="parameters, millions",
        height=130 + 26 * max(3, len(largest)),
    )
    figure.add_trace(
        go.Bar(
            x=np.array([parts[name] / 1e6 for name in largest], np.float32),
            y=largest,
            orientation="h",
            marker={"color": RUN_COLOURS[0]},
            hovertemplate="%{y}: %{x:.3f} M<extra></extra>",
        )
    )
    return figure


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


def gate(context: Context, path: Path, remap: bool) -> LoadReport:
    """How much of its model the file fills.

    Raises:
        NotAvailable: nothing tells how to build the model, or the file is the model itself.
        ValueError: its config cannot be read.
    """
    from workbench.models import open_model

    told = context.settings
    loaded = open_model(
        path, config=told.config, family=told.family, adapter=told.adapter, remap=remap or told.remap,
        output=told.output, assume=told.assume, allow_partial=True, device=told.device,
    )  # fmt: skip
    if loaded.load is None:
        raise NotAvailable(
            f"{path.name} is its own model ({loaded.family}): there is nothing to load it into"
        )
    return loaded.load


def gate_code(context: Context, path: Path, remap: bool) -> str:
    """The Python that makes the same report of loading."""
    told = context.settings
    words = [path_literal(path)]
    words += [f"{n}={path_literal(p)}" for n, p in (("config", told.config), ("adapter", told.adapter)) if p]
    words += [f"family={literal(told.family)}"] if told.family else []
    words += ["remap=True"] if remap or told.remap else []
    words += [f"{n}={list(w)}" for n, w in (("output", told.output), ("assume", told.assume)) if w]
    return (
        f"from workbench.models import open_model\n\nopen_model({', '.join(words)}, allow_partial=True).load"
    )


def reason(mistake: BaseException) -> str:
    """Why there is no answer, as the sentence on the page."""
    kind = "error" if isinstance(mistake, Refused) else "why"
    return sentence_html(sentence(mistake), kind)


__all__ = [
    "MISTAKES",
    "facts",
    "facts_html",
    "file_of",
    "files",
    "gate",
    "gate_code",
    "parts_figure",
    "reason",
]
