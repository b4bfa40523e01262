"""A page asks what is new with one question, whatever has it asked: answers never come mixed."""

from __future__ import annotations

import pytest

from apps.main import blocks


@pytest.fixture
def events(context):
    return list(blocks(context).fns.values())


def test_what_a_timer_asks_is_asked_by_nothing_else_and_never_twice_at_once(events):
    asked = [e for e in events if any(name == "tick" for _, name in e.targets)]
    assert len(asked) == 8
    for event in asked:
        assert event.trigger_mode == "always_last", event.api_name
        assert sum(other.fn == event.fn for other in events) == 1, event.api_name
        assert any(name == "change" for _, name in event.targets), event.api_name


def test_no_page_computes_the_same_with_two_events(events):
    """Two events of one handler may answer in the wrong order; the page then shows the older knobs."""
    shown = {}
    for event in events:
        if event.concurrency_id == "forward" and event.trigger_mode == "always_last":
            shown.setdefault(tuple(c._id for c in event.outputs), []).append(event.api_name)
    assert len(shown) > 20
    assert [names for names in shown.values() if len(names) > 1] == []
