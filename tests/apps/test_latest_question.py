"""A page asks what is new with one question, whatever has it asked: answers never come mixed."""

from __future__ import annotations

import pytest

from apps.server.application import blocks


@pytest.fixture
def events(context):
    return list(blocks(context).fns.values())


def test_what_a_timer_asks_is_asked_by_nothing_else_and_never_twice_at_once(events):
    asked = [e for e in events if any(name == "tick" for _, name in e.targets)]
    assert len(asked) >= 8
    for event in asked:
        assert event.trigger_mode == "always_last", event.api_name
        assert sum(other.fn == event.fn for other in events) == 1, event.api_name
        assert any(name == "change" for _, name in event.targets), event.api_name


def test_no_page_computes_the_same_with_two_events(events):
    """Two events of one handler may answer in the wrong order; the page then shows the older knobs."""
    shown = {}
    for event in events:
        if event.concurrency_id in ("forward", "look") and event.trigger_mode == "always_last":
            shown.setdefault(tuple(c._id for c in event.outputs), []).append(event.api_name)
    assert len(shown) >= 5
    assert [names for names in shown.values() if len(names) > 1] == []


def test_no_choice_is_dropped_while_an_answer_is_on_its_way(events):
    chosen = [e for e in events if e.fn is not None and any(name == "input" for _, name in e.targets)]
    assert len(chosen) > 15
    assert [e.api_name for e in chosen if e.trigger_mode != "always_last"] == []


def test_a_choice_is_not_sent_back_over_one_made_meanwhile():
    from apps.pages.controls import offer, without_echo

    assert "value" not in offer(["a", "b"], "a", "a")
    assert offer(["a", "b"], "a", "of another run")["value"] == "a"
    given = [{"__type__": "update", "choices": [1], "value": 1}, {"__type__": "update", "value": 2}]
    unchanged, corrected = without_echo(given, [1, 3])
    assert unchanged == {"__type__": "update", "choices": [1]}
    assert corrected["value"] == 2
    assert given[0]["value"] == 1
