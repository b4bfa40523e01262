"""Clients of a served app: Python, plain HTTP, and a page whose answers come late."""

from __future__ import annotations

import functools
import html

from tests.waiting import when

# What a page gets from the queue comes late by so many milliseconds for each piece; the rest comes at once.
LATE = """
const fetched = window.fetch;
window.fetch = async (...asked) => {
  const answer = await fetched(...asked);
  if (!String(asked[0].url || asked[0]).includes("queue/data")) return answer;
  const later = new TransformStream({
    async transform(piece, out) { await new Promise((done) => setTimeout(done, LATE)); out.enqueue(piece); },
  });
  return new Response(answer.body.pipeThrough(later), { status: answer.status, headers: answer.headers });
};
"""


SERVED = {}
"""Address -> app of the servers in this process."""


def connected(address):
    """A client of the app that may also call what only the pages call, by number as they do.

    Its first question, what all pages hold, may take more than 5 s.
    """
    import gradio_client

    client = gradio_client.Client(address, verbose=False, httpx_kwargs={"timeout": 120})
    told = _parameters(address) if address in SERVED else {}
    for handler in client.config["dependencies"]:
        if handler["api_visibility"] == "private" and handler["backend_fn"]:
            handler["api_visibility"] = "undocumented"
            endpoint = client.endpoints[handler["id"]]
            endpoint.is_valid = True
            endpoint.parameters_info = told.get(f"/{handler['api_name']}", {}).get("parameters")
    return client


@functools.cache
def _parameters(address):
    """What each handler takes, those that only the pages call among them."""
    from apps.server.gradio_private import mounted

    blocks = mounted(SERVED[address]).get_blocks()
    handlers = {fn: fn.api_visibility for fn in blocks.fns.values()}
    for fn in handlers:
        fn.api_visibility = "public"
    told = blocks.get_api_info()["named_endpoints"]
    for fn, visibility in handlers.items():
        fn.api_visibility = visibility
    return told


def finished(api, asked, seconds=60):
    """The comparison once its job is done."""

    def ask():
        answer = api.post("compare", params=asked)
        assert answer.status_code in (200, 202), answer.text
        return answer

    done = when(ask, lambda a: a.status_code == 200 and a.json()["job"] is None, seconds)
    return done.json()


def late(milliseconds):
    """Script for a page to which what the queue answers comes late, each piece by so many milliseconds."""
    return LATE.replace("LATE", str(milliseconds))


def saved(address, page, section, kind, state):
    """What a CSV or JSON button of a page saves.

    Raises:
        AssertionError: the server refuses; the message is its sentence.
    """
    import httpx

    asked = {"page": page, "section": section, "kind": kind, "state": state}
    answer = httpx.post(f"{address}workbench/api/file", json=asked, timeout=60)
    assert answer.status_code == 200, answer.json()["error"]
    return answer.text


ITEM = r'data-page="(?P<page>[^"]*)"[^>]*data-section="(?P<section>[^"]*)"[^>]*data-state="(?P<state>[^"]*)"'
"""What a section's details say of their answer: what the Report button sends."""


def code_in(details):
    """The Python that a section's details hold."""
    return html.unescape(details.partition('<pre class="wb-code"><code>')[2].partition("</code>")[0])
