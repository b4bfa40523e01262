"""What may be called by name over HTTP, and which addresses exist at all.

Gradio gives every handler of every page a name that any client can call, and mounts routes that this app has
no use for: fetching addresses (``proxy=``, ``file=http://…``), saving sessions, serving components' folders.
Here everything is closed that is not listed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from apps.server.connections import paced
from apps.server.gradio_private import upload_folder
from apps.server.queue_bounds import refused
from workbench.core.plain_text import escaped
from workbench.inspectors import ALL

# Words of an address that Gradio reads for itself: another page's components, a saved session. Neither is
# used here, and a wrong one ends in an internal error.
GRADIOS_OWN = ("page", "deep_link")

LONGEST = 2000
"""Longest path of an address, in characters."""

LARGEST_BODY = 16 << 20
"""Bytes that a request may send, but for uploads: Gradio reads a body whole."""

LARGEST_UPLOAD = 1 << 30
"""Bytes that an upload may send; Gradio bounds each of its files alone."""

UPLOAD = "gradio_api/upload"
EVENTS = "gradio_api/queue/data"

# Some readers of text end a line here, and JSON may hold them as they are.
LINE_ENDS = "\x85\u2028\u2029"

# The system's own limit for a file name.
LONGEST_PART = 255

# What Gradio's front end asks for, and what a client needs to call a published name.
_READ = re.compile(
    r"config|theme\.css|robots\.txt|favicon\.ico|manifest\.json|(?:assets|static)/.+"
    r"|gradio_api/(?:info|openapi\.json|app_id|login_check|startup-events|theme\.css|upload_progress"
    r"|queue/data|queue/status|heartbeat/[\w-]{1,64})"
)
_POST = re.compile(r"gradio_api/(?:queue/join|upload|cancel|reset)")
_CALL = re.compile(r"gradio_api/(call(?:/v2)?|run|api)/([^/]+)(?:/([\w-]{1,64}))?")

_OPEN_RANGE = re.compile(rb"bytes=[0-9]{1,15}-")


def names() -> frozenset[str]:
    """What can be called by name: each inspector, the JSON and the CSV of its report; checkpoint facts."""
    forms = {f"{name}{form}" for name in ALL for form in ("", "_json", "_csv")}
    return frozenset(forms | {"checkpoint"})


class AddressFilter:
    """ASGI middleware in front of the pages: an address that is not listed does not exist.

    Args:
        app: the server behind it.
        pages: path without slashes, title and route of every page; several may share one route, which
            then is an address too.
    """

    def __init__(self, app: ASGIApp, pages: Iterable[tuple[str, str, str]]) -> None:
        self._app = app
        self._pages = tuple(pages)
        self._routes = {route: route for _, _, route in self._pages}
        self._routes |= {path: route for path, _, route in self._pages}
        self._names = names()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what exists, refuse the rest."""
        if scope["type"] == "http":
            path = scope["path"].strip("/")
            if any(ord(c) < 32 or ord(c) == 127 for c in path):
                await self._refuse(scope, send, 400, "This address holds a control character.")
                return
            if len(path) > LONGEST or any(len(part.encode()) > LONGEST_PART for part in path.split("/")):
                await self._refuse(scope, send, 404, "This address is longer than any of this server.")
                return
            if not self.open(scope["method"], path):
                await self._refuse(scope, send, 404, f"There is no page at /{shortened(path)}.")
                return
            if path in self._routes:
                scope = {**scope, "query_string": without(scope["query_string"], GRADIOS_OWN)}
                if path and scope["path"].endswith("/"):  # files of a page are named relative to its address
                    await _redirect(scope, send, path)
                    return
                scope["path"] = f"/{self._routes[path]}"
                scope["raw_path"] = scope["path"].encode()
            most = LARGEST_UPLOAD if path == UPLOAD else LARGEST_BODY
            headers = dict(scope["headers"])
            if b"content-length" in headers and b"transfer-encoding" in headers:
                # A proxy that trusts the one and a server that trusts the other see different requests.
                await self._refuse(
                    scope, send, 400, "A request has Content-Length or Transfer-Encoding, not both."
                )
                return
            announced = headers.get(b"content-length", b"0")
            if announced.isdigit() and int(announced[:20]) > most:
                await self._refuse(scope, send, 413, f"A request of more than {most >> 20} MB is refused.")
                return
            receive = bounded(paced(receive), most)
            if called := _CALL.fullmatch(path):
                send = _of_refusal(send)
            if path == EVENTS or (called and called[3]):
                send = _of_events(send)
            if path.startswith("gradio_api/file="):
                scope = {**scope, "headers": [h for h in scope["headers"] if _is_read(*h)]}
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            await self._app(scope, receive, send)
        except RuntimeError as error:
            # Gradio tells a session that it does not know, then raises 404 in the middle of its answer.
            if not isinstance(error.__cause__, HTTPException):
                raise
            await send({"type": "http.response.body", "body": b""})

    def open(self, method: str, path: str) -> bool:
        """Whether there is anything at a path (without outer slashes) for a method."""
        if path == "workbench" or path.startswith("workbench/"):
            return True
        called = _CALL.fullmatch(path)
        if called is not None:
            wanted = method in ("GET", "HEAD") if called[3] else method == "POST"
            return wanted and called[2] in self._names
        if method == "POST":
            return _POST.fullmatch(path) is not None
        if method not in ("GET", "HEAD"):
            return False
        if path in self._routes or _READ.fullmatch(path):
            return True
        return path.startswith("gradio_api/file=") and is_uploaded_file(path.removeprefix("gradio_api/file="))

    async def _refuse(self, scope: Scope, send: Send, status: int, sentence: str) -> None:
        wanted = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
        readable = "text/html" in wanted and not scope["path"].startswith(("/gradio_api", "/workbench"))
        if readable:
            body, media = self._page(sentence).encode(), "text/html; charset=utf-8"
        else:
            body, media = json.dumps({"error": sentence}).encode(), "application/json"
        head = [(b"content-type", media.encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _page(self, sentence: str) -> str:
        """A page that says so and lists those that are there."""
        links = "".join(
            f'<li><a href="/{quote(path)}">{escaped(title)}</a></li>' for path, title, _ in self._pages
        )
        return _NOT_FOUND.replace("SENTENCE", escaped(sentence)).replace("LINKS", links)


def _of_refusal(send: Send) -> Send:
    """`send` that answers 422, not Gradio's 500, where a handler refused what it was asked with."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message.get("status") == 500 and refused.get():
            message = {**message, "status": 422}
        await send(message)

    return sending


def _is_read(name: bytes, value: bytes) -> bool:
    """Whether a header of a request for a file is passed on: a range alone where it has no end.

    Gradio (6.31) answers two ranges with an internal error, and one with an end with the request's own
    headers. A server may leave ranges unread; the whole file is sent then.
    """
    return name.lower() != b"range" or _OPEN_RANGE.fullmatch(value) is not None


def _of_events(send: Send) -> Send:
    r"""`send` of a stream of events, each a line of JSON, with \u2028 where its texts hold such a character.

    A keypoint's name may. Clients that split lines as `str.splitlines` does, httpx and with it gradio_client,
    would read half an event. Gradio sends each event whole.
    """

    async def sending(message: MutableMapping[str, Any]) -> None:
        if body := message.get("body"):
            for end in LINE_ENDS:
                body = body.replace(end.encode(), f"\\u{ord(end):04x}".encode())
            message = {**message, "body": body}
        await send(message)

    return sending


async def _redirect(scope: Scope, send: Send, path: str) -> None:
    query = scope["query_string"]
    target = f"/{quote(path)}".encode() + (b"?" + query if query else b"")
    await send({"type": "http.response.start", "status": 301, "headers": [(b"location", target)]})
    await send({"type": "http.response.body", "body": b""})


def bounded(receive: Receive, most: int) -> Receive:
    """The parts of a request's body up to so many bytes; then the client counts as gone.

    For a body whose size was not announced: whoever reads it sees the connection end.
    """
    taken = 0

    async def receiving() -> MutableMapping[str, Any]:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return message if taken <= most else {"type": "http.disconnect"}

    return receiving


def without(query: bytes, words: Collection[str]) -> bytes:
    """A query string less these words."""
    pairs = query.split(b"&")
    return b"&".join(p for p in pairs if unquote(p.partition(b"=")[0].decode("latin-1")) not in words)


def is_uploaded_file(path: str) -> bool:
    """Whether a path is a file of this process's upload folder, no link on its way out of it."""
    found = Path(path)
    if not found.is_absolute() or ".." in found.parts:
        return False
    try:
        return found.resolve().is_relative_to(upload_folder()) and found.is_file()
    except OSError:  # a name that the system does not take
        return False


def shortened(text: str, longest: int = 80) -> str:
    """A text of a request for showing: its beginning, no character that is not printable."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:longest])
    return shown + "…" * (len(text) > longest)


_NOT_FOUND = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Page not found · Pose workbench</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem;
  background: #f6f7f9; color: #1c2027; }
a { color: #1f5fbf; }
ul { columns: 2; }
@media (prefers-color-scheme: dark) { body { background: #131519; color: #e4e7ec; } a { color: #7fb0f5; } }
</style></head>
<body><h1>Page not found</h1><p>SENTENCE These are the pages of the workbench:</p><ul>LINKS</ul></body></html>
"""
