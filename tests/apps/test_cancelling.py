"""A computation that takes minutes: cancelled for real, resumed on request, nothing half-written kept."""

from __future__ import annotations

import pytest

from apps.server.api import Unready
from apps.server.comparison import Asked
from tests.waiting import until


@pytest.fixture
def slow(tmp_path, painted, data_file):
    """A context whose model takes 3 s for a picture: a batch at a time is all it can do before it looks."""
    from pathlib import Path

    from apps.server.context import Context
    from apps.server.settings import Settings

    painted.write_checkpoint(tmp_path / "root" / "slow" / "epoch_1.pth", 1, 0, delay=0.1)
    many = painted.write_data(tmp_path / "data", 64)
    found = Context.of(
        Settings(
            root=tmp_path / "root", data=(many,), cache=tmp_path / "cache",
            adapter=Path(__file__).parent / "painted.py",
        )
    )  # fmt: skip
    yield found
    found.jobs.close()


ASKED = Asked("slow", "painted.json")


@pytest.mark.long
def test_cancelling_ends_the_forward_passes_and_leaves_nothing_behind(slow):
    slow.computing.begin(ASKED)
    job = slow.jobs.latest(ASKED.key)
    until(lambda: job.done > 0 or job.state != "running")  # the first batch of 16 is through
    job.cancel()
    until(lambda: not job.alive, seconds=4)  # one batch takes 1.6 s, all four would take 6.4 s
    assert job.state == "cancelled"
    assert job.done < 64
    assert list(slow.store.folder.iterdir()) == []
    with pytest.raises(Unready) as raised:
        slow.computing.begin(ASKED)
    assert raised.value.job["state"] == "cancelled"


def test_it_starts_again_when_asked_to(slow):
    slow.computing.begin(ASKED)
    first = slow.jobs.latest(ASKED.key)
    first.cancel()
    until(lambda: not first.alive)
    with pytest.raises(Unready):
        slow.computing.begin(ASKED)
    slow.computing.begin(ASKED, page_opened=True)  # by a page that did not cancel it
    second = slow.jobs.latest(ASKED.key)
    assert second is not first
    second.cancel()
    until(lambda: not second.alive)
    slow.computing.begin(ASKED, anew=True)
    third = slow.jobs.latest(ASKED.key)
    assert third is not second
    third.cancel()


def test_the_cache_forgets_its_oldest_beyond_its_size(root_folder, data_file, tmp_path, settings):
    import dataclasses

    from apps.server.context import Context

    # Heatmaps of six pictures are 6 x 17 x 64 x 48 float32: 1.25 MB. Two epochs fit, three do not.
    small = dataclasses.replace(settings, cache=tmp_path / "cache", cache_bytes=3_000_000)
    context = Context.of(small)
    asked = Asked("painted-run", "painted.json")
    context.computing.begin(asked)
    until(lambda: not context.jobs.latest(asked.key).alive, seconds=20)
    assert context.jobs.latest(asked.key).state == "done"
    stored_outputs = [context.store.stored(asked.run, epoch, asked.data) for epoch in range(3)]
    assert [entry.has_outputs for entry in stored_outputs] == [False, True, True]
    assert [e["ready"] for e in context.comparisons.answer(asked)["epochs"]] == [True] * 3
    # Another decoder needs the first epoch's outputs again: they are computed anew, for it alone.
    other = Asked(asked.run, asked.data, "quarter")
    context.computing.begin(other, [1, 2])
    until(lambda: not context.jobs.latest(other.key).alive, seconds=20)
    assert [e["ready"] for e in context.comparisons.answer(other)["epochs"]] == [True] * 3
    context.jobs.close()
