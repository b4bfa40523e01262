"""Long work: in its turn, with progress, really cancelled, its errors in one sentence."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.waiting import until
from workbench.core import NotAvailable
from workbench.core.job import ASKS_SECONDS, LEFT_SECONDS, asker


def wait(job, *states, seconds=5):
    until(lambda: job.state in states, seconds, 0.01, seen=job)


def endless(job):
    """Work that ends when it is cancelled."""
    job.progress(1, 1000)
    until(job.cancelled)
    job.checkpoint()


def test_a_job_tells_how_far_it_is_and_how_long_it_will_take(jobs):
    go = threading.Event()

    def work(job):
        job.progress(1, 4)
        go.wait(5)

    job = jobs.start("a", "a job", work)
    wait(job, "running")
    job._started -= 10
    facts = job.facts()
    assert (facts["done"], facts["total"], facts["state"], facts["error"]) == (1, 4, "running", None)
    assert facts["seconds_left"] >= 30  # three quarters are left, one took ten seconds
    go.set()
    wait(job, "done")


def test_cancelling_stops_the_work_itself(jobs):
    ended = threading.Event()

    def work(job):
        try:
            endless(job)
        finally:
            ended.set()

    job = jobs.start("a", "a", work)
    wait(job, "running")
    job.cancel()
    wait(job, "cancelled")
    assert ended.is_set()


def test_one_job_at_a_time_and_a_waiting_one_can_be_cancelled(jobs):
    first = jobs.start("a", "a", endless)
    second = jobs.start("b", "b", lambda job: None)
    wait(first, "running")
    assert second.state == "queued"
    second.cancel()
    assert second.state == "cancelled"
    first.cancel()
    wait(first, "cancelled")
    wait(jobs.start("c", "c", lambda job: None), "done")
    assert second.state == "cancelled"


def test_a_waiting_job_says_which_one_runs_and_how_far_it_is(jobs):
    first = jobs.start("a", "a comparison", endless, listed=True)
    until(lambda: first.total)
    first.progress(1, 4)
    first._started -= 10
    second, third = (jobs.start(key, "own file", lambda job: None) for key in "bc")
    assert (first.waits_for, first.before, third.before) == ("", [], [first, second])
    assert second.facts()["waits_for"] == "a comparison runs first (25%, 30 s left)"
    assert third.waits_for == "a comparison runs first (25%, 30 s left), 1 more after it"
    first.listed = False  # what one user sent is not named to another
    assert "comparison" not in second.waits_for
    assert (jobs.waiting(first), jobs.waiting(third)) == (True, False)
    first.cancel()
    wait(third, "done")
    assert (third.waits_for, third.before) == ("", [])


@pytest.fixture
def asking():
    """Ask in this thread as a page of a browser."""
    before = asker.set(("", ""))
    yield lambda browser, page="": asker.set((browser, page))
    asker.reset(before)


def test_a_job_that_another_browser_waits_for_is_not_cancelled(jobs, monkeypatch, asking):
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("workbench.core.job.time", clock)
    job = jobs.start("a", "a", endless)
    for browser in ("one", "two"):
        asking(browser)
        jobs.latest("a")
    with pytest.raises(NotAvailable, match="another browser"):
        job.cancel_for_user()
    assert not job.cancelled()
    clock.now += LEFT_SECONDS + 1
    jobs.latest("a")
    job.cancel_for_user()
    assert job.cancelled()


def test_one_page_gives_up_what_another_waits_for(jobs, asking):
    job = jobs.start("a", "a", endless)
    for page in ("a", "b"):
        asking("", page)
        jobs.latest("a")
    asking("", "forged")
    job.give_up()
    asking("", "b")
    job.give_up()
    job.give_up()
    assert not job.cancelled()
    asking("", "a")
    job.give_up()
    assert job.cancelled()


def test_a_job_is_left_when_its_pages_are_closed_or_ask_no_more(jobs, monkeypatch):
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("workbench.core.job.time", clock)
    job = jobs.start("a", "a", endless)
    job.leave()
    clock.now += 1000
    assert not job.left  # no page has asked: whoever started it waits otherwise
    assert jobs.latest("a") is job
    clock.now += LEFT_SECONDS - 1
    assert not job.left
    clock.now += 2
    assert job.left
    jobs.latest("a")
    job.leave()
    assert not job.left  # another page may ask within this time
    clock.now += ASKS_SECONDS + 1
    assert job.left
    jobs.latest("a")
    assert not job.left
    job.cancel()


def test_other_devices_do_not_wait(jobs):
    first = jobs.start("a", "a", endless, device="cpu")
    second = jobs.start("b", "b", lambda job: None, device="cuda")
    wait(second, "done")
    assert first.alive
    first.cancel()


def test_the_same_work_asked_for_twice_is_one_job(jobs):
    first = jobs.start("a", "a", endless)
    assert jobs.start("a", "a", endless) is first
    first.cancel()
    assert jobs.start("a", "a", lambda job: None) is not first


def test_a_mistake_is_one_sentence_and_a_bug_ends_only_its_job(jobs, capsys):
    def mistake(job):
        raise ValueError("expected a,\n got b")

    def bug(job):
        raise ZeroDivisionError("by nothing")

    first, second = jobs.start("a", "a", mistake), jobs.start("b", "b", bug)
    third = jobs.start("c", "c", lambda job: None)
    wait(third, "done")
    assert (first.state, first.error) == ("failed", "expected a, got b")
    assert second.error == "ZeroDivisionError: by nothing"


def test_an_unknown_job_is_a_key_error(jobs):
    with pytest.raises(KeyError, match="no job 'job-7'"):
        jobs.get("job-7")


def test_a_hundred_jobs_leave_no_thread_and_no_file(jobs, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def work(job):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "half").write_text("something")
            job.checkpoint()
            if int(job.key) % 3 == 1:
                raise ValueError("a user's mistake")
            job.progress(1, 2)
            job.checkpoint()

    before = threading.active_count()
    started = [jobs.start(str(number), "a job", work) for number in range(100)]
    for job in started[2::3]:
        job.cancel()
    for job in started:
        wait(job, "done", "failed", "cancelled", seconds=20)
    assert {job.state for job in started} == {"done", "failed", "cancelled"}
    # The one thread of the device stays for the next job.
    assert threading.active_count() <= before + 1
    assert list(tmp_path.iterdir()) == []
