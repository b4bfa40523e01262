"""What surrounds every page: the rail of questions, the header, the theme switch."""

from __future__ import annotations

import html
import pathlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gradio as gr
from gradio.components import Navbar

if TYPE_CHECKING:
    from apps.server.context import Context


@dataclass(frozen=True)
class Page:
    """One question, one address.

    Attributes:
        path: below the server's root, without slashes; "" is the front page.
        title: in the rail.
        question: under the title, one line.
        build: adds the page's components; called inside its route.
        parent: title of the rail entry it stands under; "" at the top level.
    """

    path: str
    title: str
    question: str
    build: Callable[[Context], None]
    parent: str = ""


def rail(pages: Sequence[Page], here: Page, note: str) -> str:
    """The links to all pages; an entry that only gathers others leads to the first of them."""
    short, full = html.escape(pathlib.PurePath(note).name or note), html.escape(note, quote=True)
    lines = [f'<div class="wb-brand">Pose workbench<small title="{full}">{short}</small></div>']
    gathered: set[str] = set()
    for page in pages:
        if page.parent and page.parent not in gathered:
            gathered.add(page.parent)
            lines.append(_link(page.path, page.parent, "wb-here" if here.parent == page.parent else ""))
        # The pages under an entry show only while one of them is open: the rail stays short.
        if not page.parent or page.parent == here.parent:
            marks = " ".join(["wb-sub"] * bool(page.parent) + ["wb-here"] * (page is here))
            lines.append(_link(page.path, page.title, marks, page is here))
    switch = "".join(
        f'<button type="button" data-theme="{name.lower()}" aria-pressed="false">{name}</button>'
        for name in ("Light", "Dark", "System")
    )
    lines += [
        '<div class="wb-fill"></div>',
        f'<div class="wb-theme" role="group" aria-label="theme">{switch}</div>',
    ]
    return f'<nav class="wb-rail" aria-label="pages">{"".join(lines)}</nav>'


def _link(path: str, title: str, marks: str, here: bool = False) -> str:
    current = ' aria-current="page"' if here else ""
    return f'<a class="{marks}" data-page="/{path}" href="/{path}"{current}>{html.escape(title)}</a>'


@contextmanager
def framed(pages: Sequence[Page], here: Page, note: str) -> Iterator[None]:
    """The page's frame; its components go inside the block."""
    Navbar(visible=False)
    gr.HTML(rail(pages, here, note), elem_id="wb-rail-holder", apply_default_css=False, js_on_load=None)
    gr.HTML(
        f'<header class="wb-head"><h1>{html.escape(here.title)}</h1>'
        f"<p>{html.escape(here.question)}</p></header>",
        apply_default_css=False,
        js_on_load=None,
    )
    yield


def sentence_html(text: str, kind: str = "") -> str:
    """The one sentence a page answers with. `kind`: "", ``why`` (cannot answer) or ``error``."""
    return (
        f'<div class="wb-sentence {f"wb-{kind}" if kind else ""}">{html.escape(text)}</div>' if text else ""
    )
