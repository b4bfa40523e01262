"""Wait for what a server computes."""

from __future__ import annotations

import time

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


def connected(address):
    """A client of the app that may also call what only the pages call, by number as they do.

    Its first question, what all pages hold, may take more than 5 s.
    """
    import gradio_client

    client = gradio_client.Client(address, verbose=False, httpx_kwargs={"timeout": 120})
    for handler in client.config["dependencies"]:
        if handler["api_visibility"] == "private":
            handler["api_visibility"] = "undocumented"
            client.endpoints[handler["id"]].is_valid = handler["backend_fn"]
    return client


def finished(api, asked, seconds=60):
    """The comparison once its job is done."""
    until = time.monotonic() + seconds
    while True:
        answer = api.post("compare", params=asked)
        if answer.status_code == 200 and answer.json()["job"] is None:
            return answer.json()
        assert answer.status_code in (200, 202), answer.text
        assert time.monotonic() < until, answer.text
        time.sleep(0.05)


def until(wanted, seconds=20.0):
    """Return once `wanted()` holds."""
    end = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < end
        time.sleep(0.02)


def late(milliseconds):
    """Script for a page to which what the queue answers comes late, each piece by so many milliseconds."""
    return LATE.replace("LATE", str(milliseconds))
