"""Whoever chooses again before an answer is there sees what was chosen last, and nothing from before."""

from __future__ import annotations

import pytest

from tests.apps.compare import double
from tests.apps.compare.reader import words

pytestmark = [pytest.mark.browser, pytest.mark.long]

# Answers to addresses that hold a word come late, by so many milliseconds.
LATE = """
const fetched = window.fetch;
window.fetch = async (...asked) => {
  const answer = await fetched(...asked);
  const late = Object.entries(window.late ?? {}).find(([word]) => String(asked[0]).includes(word));
  if (late) await new Promise((done) => setTimeout(done, late[1]));
  return answer;
};
"""


def late(page, **words):
    page.evaluate(f"() => {{ {LATE} }}")
    page.evaluate("(late) => { window.late = late; }", words)


def test_the_links_sample_is_not_missed_in_a_set_chosen_later(visit, server):
    server.sets = ("toy-val", "other-val")
    page = visit("?sample=a/1")
    page.get_by_test_id("data").select_option("other-val")
    page.wait_for_function("location.search.includes('other-val')")
    page.wait_for_timeout(300)
    assert words(page, "error") == ""


def test_the_links_sample_is_not_chosen_again_with_another_run(visit):
    page = visit("?sample=b/1&keypoint=neck")
    page.get_by_test_id("sample").filter(has_text="b/10").click()
    page.get_by_test_id("run").select_option("heats")
    page.wait_for_function("location.search.includes('heats')")
    assert "sample=a/1" in page.url  # the one that changed most


def test_the_answer_of_a_run_that_was_left_is_not_shown_for_one_without_data(visit, server):
    server.without_data = True
    page = visit("?run=curves")
    late(page, decoder=500)
    page.get_by_test_id("decoder").select_option("fine")
    page.get_by_test_id("run").select_option("alone")
    page.wait_for_timeout(1000)
    assert words(page, "error").startswith("No data set here has the keypoints of alone")
    for of_another_run in ("AP-B", "sample", "keypoint-0", "pane-note-b", "overlay-b", "maps-b"):
        assert not page.get_by_test_id(of_another_run).first.is_visible(), of_another_run
    page.get_by_test_id("run").select_option("curves")
    page.get_by_test_id("AP-B").wait_for()


def test_playing_ends_with_the_run(visit, server):
    server.short = True
    page = visit("?run=curves&epochs=1,5")
    page.get_by_test_id("play").click()
    page.get_by_test_id("run").select_option("heats")
    page.wait_for_timeout(2500)
    assert words(page, "pane-title-b") in ("epoch 1", "epoch 5")
    assert page.get_by_test_id("play").get_attribute("aria-pressed") == "false"


def test_a_page_whose_first_question_failed_can_try_again(visit, server):
    server.failing = True
    page = visit(wait=False)
    page.get_by_test_id("again").wait_for()
    server.failing = False
    page.get_by_test_id("again").click()
    page.get_by_test_id("sample").first.wait_for()
    assert words(page, "error") == ""


def test_the_word_of_a_job_that_was_cancelled_does_not_stand_over_a_later_answer(visit, server):
    server.ready = 2
    page = visit("?epochs=1,5")
    page.get_by_test_id("job").wait_for()
    late(page, cancel=800)
    page.get_by_test_id("cancel").click()
    server.ready = double.E
    server.cancelled = False
    page.get_by_test_id("decoder").select_option("fine")
    page.wait_for_timeout(1300)
    assert words(page, "error") == ""


def test_a_cancel_that_failed_can_be_tried_again(visit, server):
    server.ready = 2
    page = visit("?epochs=1,5")
    server.failing = True
    page.get_by_test_id("cancel").click()
    page.wait_for_function("document.querySelector('[data-testid=error]').textContent")
    assert page.get_by_test_id("cancel").is_enabled()
    server.failing = False


def test_adding_faster_than_the_page_is_painted_stops_at_four(visit):
    page = visit("?epochs=1,5")
    page.evaluate(
        "() => { const add = document.querySelector('[data-testid=add-epoch]');"
        " for (let i = 0; i < 5; i += 1) add.click(); }"
    )
    page.wait_for_timeout(300)
    assert page.get_by_test_id("epoch-D").count() == 1
    assert page.get_by_test_id("pane-title-d").text_content().startswith("epoch")
