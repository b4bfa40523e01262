"""The Compare page: which epoch is better, on which samples, and what changed in them?

The page is one element and ES modules in ``static/``. They read the server's plain HTTP interface
(apps/server/api.py), so that moving the epoch slider is a matter of the browser alone: everything it needs is
fetched ahead, and neither Gradio's queue nor a forward pass stands between the hand and the picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workbench.checkpoints.demo import DEFAULT

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from apps.server.context import Context


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
