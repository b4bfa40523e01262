"""Who may talk to the server: a password where one is set, and no foreign page behind a user's back."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from apps.settings import Settings, loopback

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """ASGI middleware before pages and API alike.

    A server that only this machine reaches is asked under this machine's own names alone: a page
    elsewhere whose name was made to point here (DNS rebinding) is refused. Requests that a foreign page
    sends with the user's password (cross-site posts) are refused as well.
    """

    def __init__(self, app: Asgi, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(headers, scope.get("method", "GET"))
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, text, extra = refusal
        head = [(b"content-type", b"text/plain; charset=utf-8"), *extra]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": text.encode()})

    def _refusal(
        self, headers: dict[str, str], method: str
    ) -> tuple[int, str, list[tuple[bytes, bytes]]] | None:
        host = urlsplit("//" + headers.get("host", "")).hostname or ""
        if self._settings.local and not loopback(host):
            return 403, f"This server answers to 127.0.0.1 and localhost, not to {host or 'no name'}.", []
        origin = headers.get("origin")
        if origin and method not in ("GET", "HEAD") and urlsplit(origin).netloc != headers.get("host"):
            return 403, "Requests from other pages are refused.", []
        if self._settings.auth and not self._known(headers.get("authorization", "")):
            asked = (b"www-authenticate", b'Basic realm="Pose workbench", charset="UTF-8"')
            return 401, "User and password are needed.", [asked]
        return None

    def _known(self, authorization: str) -> bool:
        scheme, _, coded = authorization.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            given = base64.b64decode(coded, validate=True)
        except (binascii.Error, ValueError):
            return False
        # Constant time: how long a refusal takes must not tell how much of a guess was right.
        return hmac.compare_digest(given, ":".join(self._settings.auth or ("", "")).encode())
