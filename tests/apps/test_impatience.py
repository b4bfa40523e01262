"""Whoever chooses again before the answer is there gets the answer to what was chosen last."""

from __future__ import annotations

import re
import threading

import pytest

from tests.apps.client import late
from tests.apps.conftest import started

pytestmark = [pytest.mark.browser, pytest.mark.long]

PATIENCE = 90_000
WITHIN = 400  # ms by which an answer comes late: time enough to choose again


@pytest.fixture
def visit(tab, server):
    """Open a page of the app to which every answer comes late."""
    page = tab()
    page.add_init_script(late(WITHIN))

    def go(path, where=server):
        page.goto(where + path)
        return page

    return go


def said(page, place, text):
    page.wait_for_function(
        "([place, text]) => document.querySelector(place)?.textContent.includes(text)", arg=[place, text],
        timeout=PATIENCE,
    )  # fmt: skip


def choose(page, label, *words):
    """One word after the other, each before the answer to the one before it."""
    field = page.get_by_label(label, exact=True)
    for word in words:
        field.fill(word)
        field.press("Enter")
        page.wait_for_timeout(100)


def quiet(page):
    """Nothing is on its way any more."""
    page.wait_for_timeout(4 * WITHIN)


@pytest.mark.long
def test_a_wrong_value_put_right_at_once_is_answered_and_of_two_choices_of_a_knob_the_last_stays(visit):
    page = visit("look-target-residual")
    said(page, "#wb-answer", "px")
    choose(page, "sample of 6", "99", "1")
    page.wait_for_url(re.compile("sample=000002"), timeout=PATIENCE)
    choose(page, "keypoint", "left_ear", "left_hip", "left_knee")
    quiet(page)
    assert page.get_by_label("keypoint", exact=True).input_value() == "left_knee"
    page.wait_for_url(re.compile("k.keypoint=left_knee"), timeout=PATIENCE)


@pytest.mark.long
def test_of_two_choices_of_a_run_the_last_is_answered(visit):
    page = visit("look-overlay?run=painted-run&epoch=1")
    said(page, "#wb-answer", "6.0 px")
    choose(page, "run", "zz-broken", "painted-run")
    page.wait_for_url(re.compile("run=painted-run&epoch=10"), timeout=PATIENCE)
    quiet(page)
    assert page.get_by_label("run", exact=True).input_value() == "painted-run"
    assert page.get_by_label("epoch", exact=True).input_value() == "epoch 10"


@pytest.mark.long
def test_instances_are_those_of_the_error_that_was_chosen_while_the_answer_was_computed(visit, monkeypatch):
    from apps.pages.errors import ErrorsOfResult

    at_once, asked, chosen = ErrorsOfResult._answer, threading.Event(), threading.Event()

    def slow(self, wanted):  # the page asks what is new with what stands there after the first answer
        assert wanted.epoch != "2" or not asked.is_set() or chosen.wait(PATIENCE / 1000)
        asked.set()
        return at_once(self, wanted)

    monkeypatch.setattr(ErrorsOfResult, "_answer", slow)
    page = visit("errors?run=painted-run&epoch=1&data=painted.json")
    said(page, "#wb-errors-cards", "miss")
    quiet(page)
    asked.clear()
    choose(page, "epoch", "epoch 2")
    assert asked.wait(PATIENCE / 1000)
    quiet(page)
    choose(page, "error", "jitter")
    said(page, "#wb-errors-cards", "jitter")
    chosen.set()
    quiet(page)
    said(page, "#wb-errors-cards", "jitter")
    quiet(page)
    said(page, "#wb-errors-cards", "jitter")
    assert page.get_by_label("error", exact=True).input_value() == "jitter"


@pytest.mark.long
def test_facts_link_and_difference_are_those_of_the_checkpoints_chosen_last(visit):
    page = visit("checkpoint?file=painted-run/epoch_1.pth&against=painted-run/epoch_1.pth")
    said(page, "#wb-facts", "epoch_1.pth")
    file = "checkpoint, or its path below the served folder"
    choose(page, file, "painted-run/epoch_2.pth", "painted-run/epoch_10.pth")
    said(page, "#wb-facts", "epoch_10.pth")
    page.wait_for_url(re.compile("epoch_10"), timeout=PATIENCE)
    said(page, "#wb-difference", "tensor")
    choose(page, "compare with", "painted-run/epoch_10.pth", "painted-run/epoch_2.pth")
    quiet(page)
    assert "Cancelled" not in page.locator("#wb-difference").text_content()
    page.wait_for_url(re.compile("against=painted-run%2Fepoch_2.pth"), timeout=PATIENCE)


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """Address of a server of the built-in runs."""
    from apps.server.settings import Settings

    folder = tmp_path_factory.mktemp("none")
    with started(Settings(root=folder, port=0, cache=tmp_path_factory.mktemp("cache"))) as (where, _):
        yield where


@pytest.mark.long
def test_of_two_choices_in_the_bar_of_a_lab_the_last_stays_and_is_answered(visit, demos):
    page = visit("rollout", demos)
    page.wait_for_url(re.compile("epochs="), timeout=PATIENCE)
    field = page.get_by_label("epoch B", exact=True)
    last = field.input_value()
    field.click()
    offered = page.get_by_role("option").all_text_contents()
    field.press("Escape")
    first = next(word for word in map(str.strip, offered) if word.strip(" ✓") != last)
    choose(page, "epoch B", first.strip(" ✓"), last)
    number = last.rpartition(" ")[2]
    quiet(page)
    page.wait_for_url(re.compile(rf"[?&]epochs=(\w+%2C)?{number}(&|$)"), timeout=PATIENCE)
    assert field.input_value() == last


@pytest.mark.long
def test_a_hash_that_comes_late_does_not_stand_beside_another_file(visit, monkeypatch):
    from workbench.checkpoints import Checkpoint

    at_once, chosen, answered = Checkpoint.sha256, threading.Event(), threading.Event()

    def late_hash(self):
        assert chosen.wait(PATIENCE / 1000)
        answered.set()
        return at_once(self)

    monkeypatch.setattr(Checkpoint, "sha256", late_hash)
    page = visit("checkpoint?file=painted-run/epoch_1.pth")
    said(page, "#wb-gate", "load")
    page.get_by_role("button", name="sha256").click()
    choose(page, "checkpoint, or its path below the served folder", "painted-run/epoch_2.pth")
    said(page, "#wb-facts", "epoch_2.pth")
    chosen.set()
    assert answered.wait(PATIENCE / 1000)
    quiet(page)
    assert page.get_by_placeholder("sha256 of the file").input_value() == ""
