"""What comes back from a browser is checked; what a session leaves behind is bounded, and its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests import waiting
from workbench.core.errors import USER_ERRORS

WRONG = [
    "/etc/hostname",
    ["/etc/hostname"],
    {"path": "/etc/hostname"},
    5,
    1e308,
    float("inf"),
    True,
    "\0",
    "\ud800",
]
"""In turn at each place of a state."""


@pytest.mark.long
def test_no_value_of_a_state_ends_in_an_internal_error(server, server_app):
    """Every report of every page, lists of every length up to that of the longest page but one."""
    for page in server_app.state.context.reports:
        for section in ("", page.rpartition("/")[2]):
            for count, wrong in itertools.product((1, 2, 4, 10), WRONG):
                for place in {0, count // 2, count - 1}:
                    state = [None] * count
                    state[place] = wrong
                    with contextlib.suppress(*USER_ERRORS):  # some can be asked
                        server_app.state.context.reports[page](section, json.dumps(state))


@pytest.mark.parametrize(
    ("page", "state"),
    [
        ("checkpoint/load", [{"path": "/x"}, None]), ("checkpoint/load", [5, None]),
        ("results/compare", [None]), ("results/compare", [None] * 6), ("rollout/bisection", [None] * 9),
        ("conditioning/experiments", [None] * 4), ("codecs/errors", [None] * 6),
        ("codecs/errors", ['{"run": [], "epoch": 0, "data": "", "limit": 1}', "", "", "", "", ""]),
        ("rollout/bisection", ['{"epochs": 1}', 1]), ("grouping", [None, float("inf")] + [None] * 24),
        ("overlay", ["painted-run", float("inf"), *[None] * 13]),
        ("overlay", ["painted-run", 0, "", 0, "", "/etc/hostname", *[None] * 9]),
        ("results/compare", ["painted.json", "/etc/hostname", "/etc/hostname", ""]),
    ],
)  # fmt: skip
def test_a_state_that_no_page_wrote_is_one_sentence(server, page, state):
    asked = {"page": page, "section": page.rpartition("/")[2], "kind": "json", "state": json.dumps(state)}
    answer = httpx.post(f"{server}workbench/api/file", json=asked)
    assert answer.status_code in (400, 404), answer.text
    items = [{"page": page, "section": "", "state": json.dumps(state)}]
    report = httpx.post(f"{server}workbench/api/report", json={"page": "", "items": items})
    assert report.status_code == 409
    assert len(report.json()["error"]) > 20


def test_a_report_asks_each_item_once_and_has_no_more_of_them_than_a_page(server, server_app, monkeypatch):
    """A request of 16 MB may name an answer 50,000 times, which was computed as often."""
    asked = []

    def answer(*words):
        asked.append(words)
        raise ValueError("no answer of this name")

    monkeypatch.setitem(server_app.state.context.reports, "counted", answer)
    item = {"page": "counted", "section": "", "state": "{}"}
    for count, status, said in ((50, 409, "no answer of this name"), (51, 400, "items: ")):
        answered = httpx.post(
            f"{server}workbench/api/report", json={"page": "", "items": [item] * count}, timeout=60
        )
        assert (answered.status_code, said in answered.json()["error"]) == (status, True)
    assert asked == [("", "{}")]


def test_the_jobs_of_what_one_user_sent_are_not_listed(server, server_app):
    """Their titles and errors tell of the user's files, and only the user's page cancels them."""
    started, ended = threading.Event(), threading.Event()

    def work(job):
        started.set()
        waiting.until(job.cancelled, seconds=30)
        ended.set()

    job = server_app.state.context.jobs.start("own", "audit of secret.py", work, "own queue")
    try:
        assert started.wait(10)
        assert "secret" not in httpx.get(f"{server}workbench/api/jobs").text
        assert httpx.get(f"{server}workbench/api/jobs/{job.id}").status_code == 404
        assert httpx.post(f"{server}workbench/api/jobs/{job.id}/cancel").status_code == 404
        assert not job.cancelled()
    finally:
        job.cancel()
    assert ended.wait(30)


def test_a_job_that_no_page_shows_can_be_cancelled_by_whoever_waits_for_it(server, server_app, monkeypatch):
    """It held up every other one, and the page that waited did not say for what."""
    from apps.pages.sections import job_html
    from workbench.core import job as core

    monkeypatch.setattr(core, "ASKS_SECONDS", 0.1)
    jobs, api = server_app.state.context.jobs, f"{server}workbench/api/jobs"
    first = jobs.start("left", "audit of secret.py", lambda job: job._stop.wait(60), "own queue")
    jobs.latest("left")
    httpx.post(f"{api}/left", params={"ids": f"job-0,{first.id}"}).raise_for_status()
    waiting.until(lambda: first.left)
    assert httpx.post(f"{api}/{first.id}/cancel").status_code == 404  # it holds up nobody
    second = jobs.start("second", "a <b>", lambda job: None, "own queue")
    shown = job_html(second)
    assert "a &lt;b&gt;: waiting for its turn; another job runs first" in shown
    assert f'data-cancel-job="{first.id}"' in shown
    assert "secret" not in shown
    jobs.latest("left")  # another page asks
    assert "data-cancel-job" not in job_html(second)
    assert httpx.post(f"{api}/{first.id}/cancel").status_code == 404
    httpx.post(f"{api}/left", params={"ids": first.id}).raise_for_status()
    waiting.until(lambda: first.left)
    answer = httpx.post(f"{api}/{first.id}/cancel")
    assert (answer.status_code, set(answer.json())) == (200, {"id", "state"})
    assert second.wait(10)
    assert (first.cancelled(), second.state) == (True, "done")


def test_a_refusal_does_not_repeat_megabytes_that_were_sent(server, gradio_app):
    number = next(fn._id for fn in gradio_app.fns.values() if fn.api_name == "checkpoint")
    body = {"data": ["a" * 2_000_000], "fn_index": number, "session_hash": "long-text"}
    httpx.post(f"{server}gradio_api/queue/join", json=body).raise_for_status()
    with httpx.stream("GET", f"{server}gradio_api/queue/data?session_hash=long-text", timeout=60) as stream:
        text = "".join(stream.iter_text())
    assert '"success":false' in text
    assert len(text) < 2000
    direct = httpx.post(f"{server}gradio_api/run/overlay", json={"data": ["9" * 5000] * 15}, timeout=60)
    assert (direct.status_code, len(direct.text) < 1000) == (422, True)  # no fault of the server: not 500
    page = {"page": "9" * 5000, "section": "", "kind": "csv", "state": ""}
    for asked in (page, {**page, "kind": "9" * 5000}):
        assert len(httpx.post(f"{server}workbench/api/file", json=asked).text) < 1000


def test_answers_that_nobody_reads_are_bounded(monkeypatch):
    from types import SimpleNamespace

    from gradio.queueing import AsyncQueue
    from gradio.server_messages import UnexpectedErrorMessage

    from apps.server import queue_bounds

    queues = {}
    queue_of_all = SimpleNamespace(pending_messages_per_session=queues, pending_event_ids_session={})

    def sent(session, text):
        message = UnexpectedErrorMessage(message=text)
        queue = queues.setdefault(session, AsyncQueue())
        unread.count(session, message)
        queue.put_nowait(message)

    monkeypatch.setattr(queue_bounds, "UNREAD_BYTES", 10_000)
    unread = queue_bounds.Unread(queue_of_all)
    for number in range(9):
        sent(f"s{number}", "a" * 2000)
    left = list(queues)
    assert left == ["s5", "s6", "s7", "s8"]
    for name in left:  # who reads is not counted
        queues[name].get_nowait()
    sent("s9", "a" * 2000)
    assert list(unread._weights) == ["s9"]
    assert len(queues) == 5


def test_questions_that_wait_are_bounded_by_what_they_hold(monkeypatch):
    from types import SimpleNamespace

    from gradio.data_classes import PredictBody

    from apps.server import queue_bounds

    monkeypatch.setattr(queue_bounds, "WAITING_BYTES", 5000)
    waits = SimpleNamespace(data=PredictBody(data=["a" * 3000, {"b": ["c" * 1000]}, 1]))
    queue = SimpleNamespace(event_ids_to_events={"e": waits})
    # In a thread of its own: a browser test before this one leaves a running event loop in its thread.
    with ThreadPoolExecutor(1) as pool:
        for given in (
            {"data": ["a" * 1000]},
            {"data": [], "event_data": {"value": "a" * 1000}},
            {"data": [], "oauth_token": "a" * 1000},
        ):
            pushed = queue_bounds.Waiting(queue).push(PredictBody(**given))
            accepted, _, why = pool.submit(asyncio.run, pushed).result()
            assert (accepted, why) == (False, "queue_full")


def test_what_waits_is_weighed_once(monkeypatch):
    """A walk over 16 MB of numbers holds up everybody, and each question that waits would repeat it."""
    from types import SimpleNamespace

    from gradio.data_classes import PredictBody
    from gradio.queueing import Queue

    from apps.server import queue_bounds

    async def pushed(queue, body):
        queue.event_ids_to_events[body.data[0]] = SimpleNamespace(data=body)

    monkeypatch.setattr(Queue, "push", pushed)
    weighed, weight = [], queue_bounds.weight
    monkeypatch.setattr(queue_bounds, "weight", lambda value: weighed.append(value) or weight(value))
    queue = SimpleNamespace(
        event_ids_to_events={}, pending_event_ids_session={}, pending_messages_per_session={}
    )
    waiting = queue_bounds.Waiting(queue)
    with ThreadPoolExecutor(1) as pool:
        for name in "abcdefgh":
            pool.submit(asyncio.run, waiting.push(PredictBody(data=[name]))).result()
    assert len(weighed) <= 2 * 8


def test_what_is_noted_of_sessions_that_nobody_reads_is_bounded(monkeypatch):
    from types import SimpleNamespace

    from gradio.data_classes import PredictBody
    from gradio.queueing import Queue

    from apps.server import queue_bounds

    async def pushed(queue, body):
        return True, "", "success"

    monkeypatch.setattr(Queue, "push", pushed)
    monkeypatch.setattr(queue_bounds, "MOST_WAITING", 2)
    noted = {name: set() for name in "abcde"}
    queue = SimpleNamespace(
        event_ids_to_events={}, pending_event_ids_session=noted, pending_messages_per_session={"d": 1, "e": 1}
    )
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, queue_bounds.Waiting(queue).push(PredictBody(data=[]))).result()
    assert list(noted) == ["d", "e"]
