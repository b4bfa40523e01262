"""What the front page needs is fetched while Gradio still starts: modules, styles, lists of what there is.

Named in the answer's head, as a browser reads nothing else so early. Without it they would be asked for one
after the other, and only once Gradio has put the page together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.compare.page import STATIC

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
