"""Comparing two files takes a while when they are large: progress, and a Cancel that really cancels."""

from __future__ import annotations

import pytest
import torch

from apps.pages.checkpoint import Difference
from apps.pages.job_sections import JobHandlers
from tests.waiting import until
from workbench.checkpoints import difference


@pytest.fixture
def context(tmp_path):
    from apps.server.context import Context
    from apps.server.settings import Settings

    for epoch in (1, 2, 3):
        weights = torch.full((400_000,), float(epoch))
        (tmp_path / "root/run").mkdir(parents=True, exist_ok=True)
        torch.save({"state_dict": {"w": weights}}, tmp_path / f"root/run/epoch_{epoch}.pth")
    made = Context.of(Settings(root=tmp_path / "root", cache=tmp_path / "cache"))
    yield made
    made.jobs.close()


PAIR = "run/epoch_2.pth", "run/epoch_1.pth"


def handlers(context):
    return JobHandlers(context, Difference(context), "checkpoint", "wb-difference-figure", False, {}, 0)


def shown(answer):
    line, figure, details, status, timer, stop, again, *_ = answer
    assert figure["visible"] == bool(details)
    return line or status, figure["visible"], timer.active, stop["visible"], again["visible"]


@pytest.fixture
def slow(context, monkeypatch):
    """The section, and the job of a comparison in pieces so small that it takes seconds."""
    monkeypatch.setattr(difference, "_CHUNK", 10)
    section = handlers(context)
    section.ask(*PAIR, "")
    (job,) = context.jobs.all()
    until(lambda: job.done > 0)
    line, figure, ticks, stop, again = shown(section.watch(*PAIR))
    assert "of 0 M numbers" in line
    assert (figure, ticks, stop, again) == (False, True, True, False)
    yield section, job
    # The comparison reads the size of its pieces all the time: it ends before that is put back.
    for other in context.jobs.all():
        other.cancel()
    until(lambda: not any(other.alive for other in context.jobs.all()))


def test_a_long_comparison_tells_how_far_it_is_and_ends_when_cancelled(slow, monkeypatch):
    section, job = slow
    section.cancel(*PAIR)
    until(lambda: not job.alive)
    assert job.state == "cancelled"
    assert 0 < job.done < job.total == 400_000
    line, figure, ticks, stop, again = shown(section.watch(*PAIR))
    assert "was cancelled" in line
    assert (figure, ticks, stop, again) == (False, False, False, True)
    monkeypatch.setattr(difference, "_CHUNK", 1 << 20)
    section.ask(*PAIR, "")
    until(lambda: not section.watch(*PAIR)[4].active)
    line, figure, ticks, stop, again = shown(section.watch(*PAIR))
    assert line.startswith('<div class="wb-sentence ">1 of 1 tensor changed')
    assert (figure, ticks, stop, again) == (True, False, False, False)


def test_choosing_another_pair_ends_the_comparison_that_nobody_waits_for(slow):
    section, job = slow
    section.ask("run/epoch_3.pth", PAIR[1], job.id)
    until(lambda: not job.alive)
    assert job.state == "cancelled"


@pytest.mark.parametrize(
    ("pair", "said"), [((None, "run/epoch_1.pth"), "choose two"), (("run", "run/epoch_1.pth"), "is a folder")]
)
def test_what_cannot_be_compared_is_one_sentence(context, pair, said):
    assert said in handlers(context).ask(*pair, "")[0]
