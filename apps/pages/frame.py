"""What surrounds every page: the rail of questions, the header, the theme switch."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
from gradio.components import Navbar
from gradio.themes import Base
from gradio.themes.utils import colors, fonts, sizes

from workbench.core.plain_text import escaped

if TYPE_CHECKING:
    from apps.server.context import Context


@dataclass(frozen=True)
class Page:
    """One question, one address.

    Attributes:
        path: below the server's root, without slashes; "" is the front page.
        title: in the rail.
        question: under the title, one line.
        build: adds the components; called inside the page's route, once for each route.
        parent: title of the rail entry it stands under; "" at the top level.
        shared: route that several pages share: one set of components for all of them, which reads from the
            address which page it is; "" for a page with components of its own.
        address: names that the page reads from its address; None where no unknown name is said.
    """

    path: str
    title: str
    question: str
    build: Callable[[Context], None]
    parent: str = ""
    shared: str = ""
    address: tuple[str, ...] | None = None

    @property
    def route(self) -> str:
        """Path under which Gradio serves the components."""
        return self.shared or self.path


def routes_of(pages: Sequence[Page]) -> dict[str, list[Page]]:
    """Route -> the pages that it serves; the front page first, as Gradio needs it."""
    routes: dict[str, list[Page]] = {"": []}
    for page in pages:
        routes.setdefault(page.route, []).append(page)
    return routes


def rail(pages: Sequence[Page], note: str) -> str:
    """The links to all pages; an entry that only gathers others leads to the first of them.

    It is the same on every page. shell.js marks the page that is open, and shows the entries below a heading
    only while one of them is open.
    """
    short, full = escaped(pathlib.PurePath(note).name or note), escaped(note)
    lines = [f'<div class="wb-brand">Pose workbench<small title="{full}">{short}</small></div>']
    headings: set[str] = set()
    for page in pages:
        if page.parent and page.parent not in headings:
            headings.add(page.parent)
            lines.append(_link(page.path, page.parent, f'data-heading="{escaped(page.parent)}"'))
        below = f'class="wb-sub" data-parent="{escaped(page.parent)}"' if page.parent else ""
        lines.append(_link(page.path, page.title, below))
    switch = "".join(
        f'<button type="button" data-theme="{name.lower()}" aria-pressed="false">{name}</button>'
        for name in ("Light", "Dark", "System")
    )
    lines += [
        '<div class="wb-fill"></div>',
        f'<div class="wb-theme" role="group" aria-label="theme">{switch}</div>',
    ]
    return f'<nav class="wb-rail" aria-label="pages">{"".join(lines)}</nav>'


def _link(path: str, title: str, attributes: str) -> str:
    return f'<a {attributes} data-page="/{path}" href="/{path}">{escaped(title)}</a>'


def header(page: Page, one_of_several: bool) -> str:
    """Title and question of a page; shell.js shows the one of the open page where several share a route."""
    hidden = " hidden" if one_of_several else ""
    title, question = escaped(page.title), escaped(page.question)
    note = "What this page shows as one HTML file, for others to read"
    report = (
        f'<button type="button" class="wb-report-button" data-report title="{note}">Report</button>'
        '<span class="wb-report-said" role="status"></span>'
    )
    return (
        f'<header class="wb-head" data-of="/{page.path}"{hidden}><h1>{title}</h1><p>{question}</p>{report}'
        "</header>"
    )


@contextmanager
def framed(pages: Sequence[Page], here: Sequence[Page], note: str) -> Iterator[None]:
    """The frame of a route; its components go inside the block.

    Args:
        pages: all, for the rail.
        here: those that the route serves.
        note: below the name of the app, such as the served folder.
    """
    Navbar(visible=False)
    gr.HTML(rail(pages, note), elem_id="wb-rail-holder", apply_default_css=False, js_on_load=None)
    headers = "".join(header(page, len(here) > 1) for page in here)
    gr.HTML(headers, apply_default_css=False, js_on_load=None)
    yield


def sentence_html(text: str, kind: str = "") -> str:
    """The one sentence a page answers with. `kind`: "", ``why`` (cannot answer) or ``error``."""
    return f'<div class="wb-sentence {f"wb-{kind}" if kind else ""}">{escaped(text)}</div>' if text else ""


# The look of every page: system fonts, quiet greys, one accent; the same shapes in light and dark.


STATIC = Path(__file__).parent / "static"

SCRIPTS = ("answers.js", "shell.js")

# Fonts that every desktop has: nothing is fetched, and text is there with the first paint.
SANS = [
    fonts.Font(n) for n in ("system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "DejaVu Sans", "sans-serif")
]
MONO = [
    fonts.Font(n)
    for n in ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")
]


# Variables of Gradio's theme; names with _dark are for the dark one.
COLOURS = {
    "body_background_fill": "#f6f7f9",
    "body_background_fill_dark": "#131519",
    "body_text_color": "#1c2027",
    "body_text_color_dark": "#e4e7ec",
    "body_text_color_subdued": "#5c6470",
    "body_text_color_subdued_dark": "#9aa3b0",
    "background_fill_primary": "#ffffff",
    "background_fill_primary_dark": "#1a1d23",
    "background_fill_secondary": "#f6f7f9",
    "background_fill_secondary_dark": "#15181d",
    "block_background_fill": "#ffffff",
    "block_background_fill_dark": "#1a1d23",
    "block_border_color": "#dfe3e8",
    "block_border_color_dark": "#2c313a",
    "border_color_primary": "#dfe3e8",
    "border_color_primary_dark": "#2c313a",
    "block_label_background_fill": "transparent",
    "block_label_background_fill_dark": "transparent",
    "block_label_text_color": "#5c6470",
    "block_label_text_color_dark": "#9aa3b0",
    "block_title_text_color": "#5c6470",
    "block_title_text_color_dark": "#9aa3b0",
    "block_title_text_weight": "500",
    "block_label_text_weight": "500",
    "block_shadow": "none",
    "block_shadow_dark": "none",
    "input_background_fill": "#ffffff",
    "input_background_fill_dark": "#20242b",
    "input_border_width": "1px",
    "button_border_width": "1px",
    "input_border_color": "#cfd5dd",
    "input_border_color_dark": "#353b46",
    "button_primary_background_fill": "#1f5fbf",
    "button_primary_background_fill_hover": "#184d9c",
    "button_primary_background_fill_dark": "#3b7ddd",
    "button_primary_background_fill_hover_dark": "#5590e4",
    "button_primary_text_color": "#ffffff",
    "button_secondary_background_fill": "#ffffff",
    "button_secondary_background_fill_hover": "#eef1f5",
    "button_secondary_background_fill_dark": "#20242b",
    "button_secondary_background_fill_hover_dark": "#2a2f38",
    "button_secondary_border_color": "#cfd5dd",
    "button_secondary_border_color_dark": "#353b46",
    "table_even_background_fill": "#ffffff",
    "table_even_background_fill_dark": "#1a1d23",
    "table_odd_background_fill": "#f9fafb",
    "table_odd_background_fill_dark": "#1d2127",
    "color_accent_soft": "#e7effa",
    "color_accent_soft_dark": "#22304a",
    "link_text_color": "#1f5fbf",
    "link_text_color_dark": "#7fb0f5",
    "slider_color": "#1f5fbf",
    "slider_color_dark": "#5590e4",
}


def theme() -> Base:
    """Gradio's base theme in the workbench's colours."""
    base = Base(
        primary_hue=colors.blue,
        secondary_hue=colors.blue,
        neutral_hue=colors.zinc,
        spacing_size=sizes.spacing_sm,
        radius_size=sizes.radius_sm,
        text_size=sizes.text_sm,
        font=SANS,
        font_mono=MONO,
    )
    return base.set(**COLOURS)


def css() -> str:
    """The shell's style sheet."""
    return (STATIC / "shell.css").read_text(encoding="utf-8")


def head(pages: Sequence[Page]) -> str:
    """What must run before Gradio's scripts: theme, kept subject, queue answers, the page's own title."""
    known = {
        p.path: {"path": p.path, "title": p.title, "parent": p.parent, "address": p.address} for p in pages
    }
    # Another address of a route leads to the first of its pages.
    known |= {
        route: known[served[0].path] for route, served in routes_of(pages).items() if route not in known
    }
    scripts = (f"<script>{(STATIC / name).read_text(encoding='utf-8')}</script>" for name in SCRIPTS)
    data = json.dumps(known).replace("<", "\\u003c")
    named = f"<script>window.workbenchPages = {data};</script>"
    return '<meta name="referrer" content="same-origin">' + named + "".join(scripts)
