"""Drawing a built-in set takes minutes: its job stops within a picture, and leaves nothing."""

from __future__ import annotations

import sys
import threading

import pytest

from apps.server.data_sets import DataSets
from tests.waiting import until
from workbench.core.job import Cancelled
from workbench.data.scenes import SceneSet

COUNT = 400


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder, and a built-in set of so many pictures that none of these tests draws them all."""
    from workbench.data import builtin  # noqa: F401

    home = sys.modules["workbench.data.opening"]
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(home, "SHIPPED", tmp_path / "nothing shipped")
    monkeypatch.setitem(home.SCENE_SETS, "scenes-val", SceneSet("scenes-val", "animals", COUNT, 2))
    return tmp_path / "cache"


def pictures(cache):
    return len(list(cache.rglob("*.jpg")))


def test_a_cancelled_job_stops_drawing_and_leaves_no_folder(cache, jobs):
    sets = DataSets(())
    job = jobs.start("draw", "drawing", lambda job: sets.get("scenes-val"))
    until(lambda: pictures(cache) > 1)
    job.cancel()
    until(lambda: not job.alive, seconds=5)
    assert job.state == "cancelled"
    assert list(cache.iterdir()) == []


def test_a_job_that_waits_for_anothers_drawing_is_cancelled_without_it(cache, jobs):
    sets = DataSets(())
    first = jobs.start("first", "draws", lambda job: sets.get("scenes-val"), "one line")
    until(lambda: pictures(cache) > 0)
    second = jobs.start("second", "waits", lambda job: sets.get("scenes-val"), "another line")
    until(lambda: second.state == "running")
    second.cancel()
    until(lambda: second.state == "cancelled", seconds=5)
    assert first.state == "running"
    first.cancel()
    jobs.wait(5)
    assert first.state == "cancelled"
    assert list(cache.iterdir()) == []


def test_the_end_of_the_server_ends_a_pages_drawing(cache):
    sets, ended = DataSets(()), []

    def page():
        with pytest.raises(Cancelled):
            sets.get("scenes-val")
        ended.append(True)

    thread = threading.Thread(target=page)
    thread.start()
    until(lambda: pictures(cache) > 0)
    sets.close(5)
    assert list(cache.iterdir()) == []
    thread.join(5)
    assert ended == [True]
