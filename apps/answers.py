"""How an answer leaves the API: bodies with an ETag, failures as one sentence with the right status."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from typing import Any, ParamSpec

from fastapi import Request, Response

from apps.server.folders import Refused
from workbench.cli import MISTAKES, sentence
from workbench.core import NotAvailable
from workbench.core.report import plain

# With a version in the address the answer never changes; without one the browser asks each time.
KEPT = "private, max-age=31536000, immutable"
ASKED = "private, no-cache"

Arguments = ParamSpec("Arguments")


class Unready(Exception):  # noqa: N818 - an answer, no error
    """What was asked for is being computed, or its computing ended without it."""

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__(job["title"])
        self.job = job


def sent(
    request: Request, body: bytes, media: str, headers: dict[str, str] | None = None, lasting: bool = False
) -> Response:
    """A body with its ETag; 304 when the browser has it. `lasting`: the address holds the version."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
    head = {"ETag": tag, "Cache-Control": KEPT if lasting else ASKED, **(headers or {})}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=head)
    return Response(body, media_type=media, headers=head)


def compact(facts: Any) -> bytes:
    """Facts as JSON without blanks."""
    return json.dumps(plain(facts), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def as_json(request: Request, facts: Any, status: int = 200) -> Response:
    """Facts as JSON; numbers that are not finite are null."""
    response = sent(request, compact(facts), "application/json")
    if response.status_code == 200:
        response.status_code = status
    return response


def refusal(status: int, text: str, job: dict[str, Any] | None = None) -> Response:
    """A failure as one sentence."""
    facts = {"error": text} if job is None else {"error": text, "job": job}
    return Response(
        compact(facts), status, media_type="application/json", headers={"Cache-Control": "no-store"}
    )


def told(route: Callable[Arguments, Response]) -> Callable[Arguments, Response]:
    """Give a route the failures that the API's docstring lists."""

    @functools.wraps(route)
    def answer(*arguments: Arguments.args, **named: Arguments.kwargs) -> Response:
        try:
            return route(*arguments, **named)
        except Unready as unready:
            if unready.job["state"] in ("queued", "running"):
                return Response(
                    compact({"job": unready.job}), 202, media_type="application/json",
                    headers={"Cache-Control": "no-store"},
                )  # fmt: skip
            ended = unready.job["error"] or "The computing was cancelled; start it again."
            return refusal(409, ended, unready.job)
        except Refused as refused:
            return refusal(403, sentence(refused))
        except NotAvailable as reason:
            return refusal(409, sentence(reason))
        except (LookupError, FileNotFoundError) as missing:
            return refusal(404, sentence(missing))
        except MISTAKES as mistake:
            return refusal(400, sentence(mistake))

    return answer
