"""The lines of Python that make the same report in a notebook."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apps.pages.subject import Subject
    from apps.server.context import Context
    from workbench.core.inspector import Inspector


def report_code(context: Context, subject: Subject, inspector: Inspector, params: Any, more: str = "") -> str:
    """A few lines that open the same checkpoint, run the same sample and make the same report.

    Args:
        context: of this serving.
        subject: what is looked at.
        inspector: what is asked.
        params: its knobs.
        more: further arguments of its compute, in Python.
    """
    knobs = ", ".join(
        f"{f.name}={getattr(params, f.name)!r}"
        for f in dataclasses.fields(params)
        if getattr(params, f.name) != f.default
    )
    imports, sample = _sample(context, subject)
    record = {(): "", ("*",): ", record=model.taps"}.get(
        inspector.record, f", record={list(inspector.record)!r}"
    )
    options = f", options=DecodeOptions({subject.decoder!r})" if subject.decoder else ""
    path = path_literal(context.registry.epoch(subject.run, subject.epoch).path)
    flips = inspector.flips(context.registry.model(subject.run, subject.epoch).model)
    lines = [
        *imports,
        f"from {inspector.compute.__module__.rpartition('.')[0]} import {inspector.name}",
        "from workbench.models import open_model",
        *(["from workbench.core import DecodeOptions"] if subject.decoder else []),
        "from workbench.core.run import run",
        "",
        f"model = {opening_model(context, path)}.model",
        f"looked = run(model, [{sample}]{record}{options}{', flip=True' if flips else ''})",
        f"{inspector.name}.compute(looked, {inspector.name}.Params({knobs}){more and f', {more}'})",
    ]
    return "\n".join(lines)


def _sample(context: Context, subject: Subject) -> tuple[list[str], str]:
    if subject.image is not None:
        name = Path(subject.image).name
        box = subject.own_box
        told = repr(box) if box else "(0, 0, image.shape[1], image.shape[0])"
        return (
            [
                "from workbench.data.images import read_image",
                "from workbench.core import Sample",
                "",
                f"image = read_image({literal(name)})  # your own file: give its path",
                "",
            ],
            f"Sample(image, {told})",
        )
    imports, opening = opening_of(context, subject.data)
    return imports.splitlines(), f"{opening}.sample({subject.sample})"


def opening_of(context: Context, data: str) -> tuple[str, str]:
    """What opens a set in Python: the lines that import it, and the expression.

    Images that are missing are left out as on the page, so that the same number is the same sample.
    """
    from workbench.data import BUILTIN

    if data in BUILTIN:
        return "from workbench.data import builtin", f'builtin("{data}")'
    images = context.registry.sets.images
    more = "" if images is None else f", {path_literal(images)}"
    opening = f"read_coco({path_literal(context.registry.sets.file(data))}{more})"
    imports = "from workbench.data import read_coco"
    if context.registry.sets.get(data).left_out:
        opening = f"with_present_images({opening})"
        imports += "\nfrom workbench.data.pose_set import with_present_images"
    return imports, opening


def opening_model(context: Context, file: str) -> str:
    """The Python expression that opens a checkpoint as the app does.

    Args:
        context: of this serving; what its command line said about the models is repeated.
        file: a Python expression for the checkpoint's path.
    """
    told = context.settings
    said = {
        "config": told.config and path_literal(told.config),
        "family": told.family and literal(told.family),
        "adapter": told.adapter and path_literal(told.adapter),
        "remap": told.remap,
        "allow_partial": told.allow_partial,
        "output": list(told.output),
        "assume": list(told.assume),
    }
    more = "".join(f", {name}={value}" for name, value in said.items() if value)
    return f"open_model({file}{more})"


def told_path(path: Path) -> str:
    """The absolute path: the lines then run from any folder."""
    return path.resolve().as_posix()


def path_literal(path: Path) -> str:
    """The absolute path as a Python string."""
    return literal(told_path(path))


def literal(text: str) -> str:
    """A Python string literal of a text: a name out of a file or folder cannot end it and add code."""
    try:
        text.encode()
    except UnicodeEncodeError:  # a file name that is not UTF-8
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False)
