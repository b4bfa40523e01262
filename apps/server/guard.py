"""Who may talk to the server: a password where one is set, and no foreign page behind a user's back."""

from __future__ import annotations

import base64
import binascii
import hmac
import math
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from apps.server.settings import Settings, loopback
from workbench.core.job import asker

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Refusal = tuple[int, str, Headers]

# A name or an address, and a port: no user name (evil.com@127.0.0.1), no path, no second name.
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(?::(?P<port>[0-9]{1,5}))?")
_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]{0,31})://(?P<host>[^/?#@\\\s]{1,300})", re.IGNORECASE)

# What a browser says of a request that another site's page caused. "none": typed, or a bookmark.
_OWN_SITE = ("", "same-origin", "none")

# Where a browser puts the page that a link leads to; not into a frame of the foreign page.
_WINDOW = ("", "document")

# Whatever a page holds, nothing of it is sent to another host or shown inside another site's page, where a
# click could be led to a button of this one. Gradio's own scripts stand in the page, and are made in it.
_OWN_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; object-src 'none'; base-uri 'self'; "
        b"form-action 'self'; frame-ancestors 'self'",
    ),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
]

COOKIE = "workbench-known"
"""Cookie of a browser that gave the right password: others' wrong guesses do not lock it out."""

BROWSER = "workbench-browser"
"""Cookie that tells the browsers of one password apart: none cancels what another one waits for."""

_BROWSER = re.compile(r"[\w-]{16,64}")


class Guard:
    """ASGI middleware before pages and API alike.

    A server that only this machine reaches is asked under this machine's own names alone: a page
    elsewhere whose name was made to point here (DNS rebinding) is refused. Requests that a foreign page
    causes (posts, pictures, scripts, frames) are refused as well; a link to a page is followed.
    Wrong passwords are slowed down.
    """

    def __init__(self, app: Asgi, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._limits = LoginLimits()
        self._cookie = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        refusal = self._foreign(headers, scope) or self._unknown(headers, scope)
        if refusal is None:
            # Gradio would build its pages' addresses from whatever stands in x-gradio-server.
            trusted = [
                (name, _plain_cookies(value) if name.lower() == b"cookie" else value)
                for name, value in scope["headers"]
                if name.lower() != b"x-gradio-server"
            ]
            scope = {**scope, "headers": trusted}
            if self._settings.auth:
                send = self._remembering(headers, send)
                asker.set((browser_of(headers, scope.get("client")), ""))
            await self._app(scope, receive, _with(_OWN_HEADERS, send))
            return
        status, text, extra = refusal
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        head = [(b"content-type", b"text/plain; charset=utf-8"), *_OWN_HEADERS, *extra]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": text.encode()})

    def _foreign(self, headers: list[tuple[str, str]], scope: Scope) -> Refusal | None:
        """Why the request's names are not this server's or a page of its own's; None where they are."""
        hosts = _all(headers, "host")
        host = _name(hosts[0]) if len(hosts) == 1 else None
        if host is None:
            return 400, "The Host header is not one name or address with an optional port.", []
        forwarded = [_name(text.partition(",")[0].strip()) for text in _all(headers, "x-forwarded-host")]
        for name in (host, *forwarded):
            if name is None:
                return 400, "The X-Forwarded-Host header is not a name or address with an optional port.", []
            if self._settings.local and not loopback(name):
                return 403, f"This server answers to 127.0.0.1 and localhost, not to {name[:100]}.", []
        origins = _all(headers, "origin")
        method = scope.get("method", "GET")
        changes = method not in ("GET", "HEAD")
        if origins:
            origin = _ORIGIN.fullmatch(origins[0]) if len(origins) == 1 else None
            if origin is None and origins != ["null"]:
                return 400, "The Origin header is not one scheme, host and port.", []
            # Gradio would let pages of this machine's other servers read its answers, with the password.
            if (origin is None and changes) or (origin and origin["host"].lower() != hosts[0].lower()):
                return 403, "Requests from other pages are refused.", []
        site = _first(headers, "sec-fetch-site")
        linked = (
            _first(headers, "sec-fetch-mode") == "navigate"
            and _first(headers, "sec-fetch-dest") in _WINDOW
            and not (changes or _data(scope))
        )
        if site not in _OWN_SITE and not linked:
            return 403, "Requests from other pages are refused.", []
        return None

    def _unknown(self, headers: list[tuple[str, str]], scope: Scope) -> Refusal | None:
        """Why the request's password is refused; None where it is right or none is asked for."""
        if not self._settings.auth:
            return None
        given = _first(headers, "authorization")
        asked = (b"www-authenticate", b'Basic realm="Pose workbench", charset="UTF-8"')
        if not given:
            return 401, "User and password are needed.", [asked]
        client = (scope.get("client") or ("",))[0]
        known = self._known(headers)
        if not known and (wait := self._limits.wait(client)):
            later = (b"retry-after", str(math.ceil(wait)).encode())
            return 429, f"Too many wrong passwords; try again in {math.ceil(wait)} s.", [later]
        if self._right(given):
            if not known:
                self._limits.right(client)
            return None
        self._limits.wrong(client)
        return 401, "User and password are needed.", [asked]

    def _right(self, authorization: str) -> bool:
        scheme, _, coded = authorization.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            given = base64.b64decode(coded, validate=True)
        except (binascii.Error, ValueError):
            return False
        # Constant time: how long a refusal takes must not tell how much of a guess was right.
        return hmac.compare_digest(given, ":".join(self._settings.auth or ("", "")).encode())

    def _known(self, headers: list[tuple[str, str]]) -> bool:
        """Whether this browser gave the right password before."""
        return hmac.compare_digest(_cookie(headers, COOKIE).encode(), self._cookie.encode())

    def _remembering(self, headers: list[tuple[str, str]], send: Send) -> Send:
        cookies = [] if self._known(headers) else [f"{COOKIE}={self._cookie}; SameSite=Strict"]
        if not _BROWSER.fullmatch(_cookie(headers, BROWSER)):
            # Lax: a link from another site leads to the same browser.
            cookies.append(f"{BROWSER}={secrets.token_urlsafe(24)}; SameSite=Lax")
        return _with([(b"set-cookie", f"{one}; Path=/; HttpOnly".encode()) for one in cookies], send)


def browser_of(headers: Iterable[tuple[str, str]], client: Any) -> str:
    """Stands for the browser that sent a request: its cookie, else the address it comes from.

    Args:
        headers: of the request.
        client: address and port; None where they are not known.
    """
    named = _cookie(headers, BROWSER)
    return named if _BROWSER.fullmatch(named) else f"at {client[0] if client else ''}"


def _cookie(headers: Iterable[tuple[str, str]], name: str) -> str:
    """The first cookie of a name; "" where there is none."""
    words = (word.strip() for text in _all(headers, "cookie") for word in text.split(";"))
    return next((word.removeprefix(f"{name}=") for word in words if word.startswith(f"{name}=")), "")


def _with(more: Headers, send: Send) -> Send:
    """`send` that adds these headers to each answer."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await send(message)

    return sending


def _plain_cookies(header: bytes) -> bytes:
    """A Cookie header without the cookies that are escaped.

    Reading the escapes of 60 kB takes Pythons before 3.11.10 and 3.12.6 seconds, in which the server answers
    nobody; no cookie of this server holds one.
    """
    return b";".join(word for word in header.split(b";") if b"\\" not in word)


def _all(headers: Iterable[tuple[str, str]], name: str) -> list[str]:
    return [value.strip() for key, value in headers if key.lower() == name]


def _first(headers: Iterable[tuple[str, str]], name: str) -> str:
    return next(iter(_all(headers, name)), "")


def _name(host: str) -> str | None:
    """Name or address of a Host header, its port cut off; None for anything else."""
    found = _HOST.fullmatch(host)
    return found["name"] if found and int(found["port"] or 0) <= 65535 else None


def _data(scope: Scope) -> bool:
    """Whether the address answers with data, not with a page that a link may lead to."""
    path = scope.get("path", "").lstrip("/")
    return path.startswith(("workbench/api/", "gradio_api/", "config"))


# How often may somebody guess the password? Back-off per client and for all together, in constant memory.


FREE = 5
"""Wrong passwords of one client before it has to wait."""

LONGEST_WAIT = 60.0
"""Seconds; the wait doubles from one second with each further wrong password."""

CLIENTS = 1024
"""Clients remembered; the one not heard of for the longest time is forgotten first."""

# All clients together: so many wrong passwords at once, and one more for each second after that.
BURST, PER_SECOND = 30.0, 1.0


@dataclass
class _Client:
    wrong: int = 0
    until: float = 0.0


class LoginLimits:
    """Counts wrong passwords. Whoever must wait is refused unheard, whether the password is right or not."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self._left, self._filled = BURST, clock()
        self._lock = threading.Lock()

    def wait(self, client: str) -> float:
        """Seconds until this client may try again; 0 when it may now."""
        with self._lock:
            now = self._clock()
            self._fill(now)
            known = self._clients.get(client)
            own = max(0.0, known.until - now) if known is not None else 0.0
            return max(own, 0.0 if self._left >= 1 else (1 - self._left) / PER_SECOND)

    def wrong(self, client: str) -> None:
        """Count one wrong password."""
        with self._lock:
            now = self._clock()
            self._fill(now)
            self._left = max(0.0, self._left - 1)
            known = self._clients.setdefault(client, _Client())
            self._clients.move_to_end(client)
            known.wrong += 1
            if known.wrong >= FREE:
                known.until = now + min(LONGEST_WAIT, 2.0 ** min(known.wrong - FREE, 10))
            while len(self._clients) > CLIENTS:
                self._clients.popitem(last=False)

    def right(self, client: str) -> None:
        """Forget a client's wrong passwords: it gave the right one."""
        with self._lock:
            self._clients.pop(client, None)

    def _fill(self, now: float) -> None:
        self._left = min(BURST, self._left + (now - self._filled) * PER_SECOND)
        self._filled = now
