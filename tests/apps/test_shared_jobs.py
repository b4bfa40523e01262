"""A computation is shared by all who ask for the same: who may end it?"""

from __future__ import annotations

import dataclasses

import httpx
import pytest

from apps.server.guard import BROWSER
from tests.apps.conftest import started
from tests.waiting import until, when
from workbench.core import job as core

USER = ("ada", "s3cret")


@pytest.fixture
def shared(settings, tmp_path, monkeypatch):
    """Address and context of a server with a password, and its browsers."""
    monkeypatch.setattr(core, "ASKS_SECONDS", 0.1)
    with started(dataclasses.replace(settings, auth=USER, cache=tmp_path), "curves") as (address, app):
        browsers = [httpx.Client(base_url=address, auth=USER, timeout=60) for _ in range(2)]
        for browser in browsers:
            browser.get("workbench/api/jobs").raise_for_status()
        yield app.state.context, browsers
        for browser in browsers:
            browser.close()


def test_browsers_of_one_password_are_told_apart(shared):
    _, browsers = shared
    first, second = (browser.cookies[BROWSER] for browser in browsers)
    assert first != second
    again = browsers[0].get("workbench/api/jobs")
    assert "set-cookie" not in again.headers
    assert "SameSite=Lax" in httpx.get(again.url, auth=USER).headers["set-cookie"]


def test_what_a_page_of_another_browser_waits_for_is_not_cancelled(shared):
    context, (one, two) = shared
    job = context.jobs.start("k", "a run on a set", lambda job: job._stop.wait(60), listed=True)
    try:
        for browser in (one, two):
            assert browser.get(f"workbench/api/jobs/{job.id}").json()["state"] in ("queued", "running")
        refused = one.post(f"workbench/api/jobs/{job.id}/cancel")
        assert (refused.status_code, job.cancelled()) == (409, False)
        assert refused.json()["error"].startswith("another browser has a page open that waits")
        one.post("workbench/api/jobs/left", params={"ids": job.id}).raise_for_status()
        assert one.post(f"workbench/api/jobs/{job.id}/cancel").status_code == 409  # it spoke for itself alone
        two.post("workbench/api/jobs/left", params={"ids": job.id}).raise_for_status()
        ended = when(lambda: one.post(f"workbench/api/jobs/{job.id}/cancel").status_code, lambda s: s == 200)
        assert (ended, job.cancelled()) == (200, True)
    finally:
        job.cancel()


def test_a_page_that_is_told_a_foreign_jobs_number_does_not_end_it(shared):
    """A page says which job it waited for before, so that it ends; numbers of jobs can be guessed."""
    context, (one, two) = shared
    listed = context.jobs.start("k", "a run on a set", lambda job: job._stop.wait(60), "a", listed=True)
    own = context.jobs.start("own", "an upload", lambda job: job._stop.wait(60), "b")
    try:
        assert two.get(f"workbench/api/jobs/{listed.id}").status_code == 200
        config = one.get("config").json()
        (handler,) = [fn["id"] for fn in config["dependencies"] if fn["api_name"] == "curves"]
        for number, job in enumerate((listed, own)):
            data = [[], [], None, f"epoch,loss\n1,{number}\n2,1", job.id]
            asked = {"fn_index": handler, "data": data, "session_hash": f"s{number}"}
            one.post("gradio_api/queue/join", json=asked).raise_for_status()
            with one.stream("GET", f"gradio_api/queue/data?session_hash=s{number}") as lines:
                assert any("process_completed" in line for line in lines.iter_lines())
        assert [listed.cancelled(), own.cancelled()] == [False, False]
        made = [job for job in context.jobs.all() if job.key.startswith("curves")]
        until(lambda: all(job.state == "done" for job in made))
        assert len(made) == 2
        # The queue's own calls say which browser asks.
        assert {who[0] for job in made for who in job._askers} == {one.cookies[BROWSER]}
        assert {who[1] for job in made for who in job._askers} == {"s0", "s1"}
    finally:
        listed.cancel()
        own.cancel()
