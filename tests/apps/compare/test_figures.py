"""Do the page's numbers say what the server's arrays hold, and does the slider change them at once?"""

from __future__ import annotations

from statistics import median

import pytest

from tests.apps.compare import double
from tests.apps.compare.reader import fetched_ahead, settled, slide, words

pytestmark = pytest.mark.browser

WITHIN_MS = 300  # what a new epoch on the slider may take


def test_the_page_opens_on_an_early_and_the_last_epoch_with_something_chosen(visit):
    page = visit()
    assert words(page, "AP-A") == ".400"  # epoch 5 of 1, 5, 10, 20: a third of the way
    assert words(page, "AP-B") == ".800"
    assert words(page, "AP-delta") == "+.400"
    assert words(page, "AR-B") == ".840"
    assert words(page, "APM-A") == "–", "a figure the server does not know is a dash"
    assert words(page, "protocol") == "GT boxes, pad 1.25, plain"
    assert words(page, "sample-total") == "6 annotated samples"
    page.wait_for_function("document.querySelector('[data-testid=interval]').textContent === '[+.35, +.44]'")
    assert page.locator("[aria-selected=true].cmp-sample").get_attribute("data-key") == "a/1", "most changed"


def test_the_table_holds_errors_and_scores_by_hand(visit):
    page = visit("?sample=b/2")  # factor 2; epochs 5 and 20: errors 6 and 1 times 2 times (k + 1)
    for k in (0, 1, 2):
        assert words(page, f"error-A-{k}") == f"{12.0 * (k + 1):.1f}"
        assert words(page, f"error-B-{k}") == f"{2.0 * (k + 1):.1f}"
        assert words(page, f"error-change-{k}") == f"−{10.0 * (k + 1):.1f}"
    assert words(page, "score-A-0") == ".60"
    assert words(page, "score-B-1") == "1.10", "raw SimCC scores may exceed 1"
    assert words(page, "score-change-0") == "+.60"
    assert words(page, "error-A-3") == "–", "a keypoint without annotation has no error"
    assert "not annotated" in words(page, "keypoint-3")
    assert "occluded" in words(page, "keypoint-2")
    assert words(page, "mean-error-B") == "4.0"


def test_the_slider_changes_figures_table_list_and_maps_without_asking_the_server(visit, server):
    page = visit("?run=heats&sample=b/2&keypoint=neck")
    fetched_ahead(page, server.asked)
    before = [a for a in server.asked if "/maps" in a]
    drawn = page.get_by_test_id("maps-b").evaluate("c => c.toDataURL()")
    slide(page, 2, done=False)
    assert words(page, "AP-B") == ".600"
    assert words(page, "error-B-0") == "6.0"
    assert words(page, "pane-title-b") == "epoch 10"
    row = page.locator(".cmp-sample[data-key='b/2'] .cmp-oks")
    assert row.text_content() == ".60 → .70"
    page.wait_for_function("c => document.querySelector('[data-testid=maps-b]').toDataURL() !== c", arg=drawn)
    assert [a for a in server.asked if "/maps" in a] == before
    for place in (1, 0, 3, 2, 1, 3):
        slide(page, place, done=False)
        page.wait_for_timeout(120)
    taken = page.evaluate("window.workbenchTimings.filter(t => t.what === 'epoch').map(t => t.ms)")
    assert len(taken) >= 4
    assert median(taken) < WITHIN_MS, taken


def test_with_alt_the_slider_sets_the_first_column(visit):
    page = visit()
    slider = page.get_by_test_id("epoch-slider")
    slider.dispatch_event("pointerdown", {"altKey": True})
    slider.evaluate(
        "e => { e.value = 0; for (const n of ['input', 'change']) e.dispatchEvent(new Event(n)); }"
    )
    settled(page)
    assert words(page, "AP-A") == ".200"
    assert words(page, "AP-B") == ".800"


def test_a_flag_can_be_dragged_to_another_epoch(visit):
    page = visit()
    flag, track = (
        page.get_by_test_id("flag-A").bounding_box(),
        page.get_by_test_id("epoch-slider").bounding_box(),
    )
    page.mouse.move(flag["x"] + 8, flag["y"] + 8)
    page.mouse.down()
    page.mouse.move(track["x"] + 3, flag["y"] + 8, steps=4)
    page.mouse.up()
    settled(page)
    assert words(page, "pane-title-a") == "epoch 1"


def test_play_runs_through_the_epochs(visit):
    page = visit("?epochs=1,1")
    page.get_by_test_id("play").click()
    page.wait_for_function(
        "document.querySelector('[data-testid=pane-title-b]').textContent === 'epoch 20'", timeout=8000
    )
    page.wait_for_function(
        "document.querySelector('[data-testid=play]').getAttribute('aria-pressed') === 'false'"
    )


def test_another_decoder_changes_every_number_and_asks_for_no_maps(visit, server):
    page = visit("?sample=b/2")
    fetched_ahead(page, server.asked)
    maps = sum("/maps" in a for a in server.asked)
    page.get_by_test_id("decoder").select_option("fine")
    page.wait_for_function("document.querySelector('[data-testid=AP-B]').textContent === '.810'")
    assert words(page, "error-B-0") == "1.0"
    assert words(page, "protocol") == "GT boxes, pad 1.25, fine"
    page.get_by_test_id("score").select_option("mean")
    page.wait_for_function("document.querySelector('[data-testid=score-B-0]').textContent === '1.30'")
    assert sum("/maps" in a for a in server.asked) == maps


def test_the_threshold_needs_no_server(visit, server):
    page = visit("?sample=b/1")
    fetched_ahead(page, server.asked)
    before = len(server.asked)
    page.get_by_test_id("threshold").evaluate(
        "e => { e.value = 1.05; e.dispatchEvent(new Event('input', {bubbles: true})); }"
    )
    settled(page)
    # Scores of epoch 20: 1.2, 1.1, 1.0 for the labelled ones; the third falls below.
    assert words(page, "kept") == "B keeps 67 %, median 2.0 px"
    assert page.get_by_test_id("score-B-2").get_attribute("class") == "below"
    assert page.get_by_test_id("score-B-1").get_attribute("class") == ""
    assert len(server.asked) == before


def test_columns_can_be_added_and_removed_up_to_four(visit):
    page = visit("?epochs=1,20")
    page.get_by_test_id("add-epoch").click()
    page.get_by_test_id("add-epoch").click()
    settled(page)
    assert page.get_by_test_id("add-epoch").is_hidden()
    assert page.locator("[data-testid^=overlay-]").count() == 5
    assert {words(page, f"pane-title-{c}") for c in "abcd"} == {f"epoch {e}" for e in double.EPOCHS}
    page.get_by_test_id("pair-to").select_option("2")
    settled(page)
    assert "pair=AC" in page.url
    page.get_by_test_id("remove-D").click()
    page.get_by_test_id("remove-C").click()
    settled(page)
    assert words(page, "pane-title-difference") == "A → B"


def test_with_three_columns_the_change_stands_behind_the_later_of_its_two(visit):
    page = visit("?epochs=1,10,20")
    order = "e => [...e.children].map((c) => c.dataset.testid ?? '').filter(Boolean)"
    block = page.locator(".cmp-figure[data-name=AP]")
    assert block.evaluate(order) == ["AP-A", "AP-B", "AP-pair", "AP-delta", "interval", "AP-C"]
    assert words(page, "AP-pair") == "A→B"
    page.get_by_test_id("pair-to").select_option("2")
    settled(page)
    assert block.evaluate(order) == ["AP-A", "AP-B", "AP-C", "AP-pair", "AP-delta", "interval"]
    assert words(page, "AP-pair") == "A→C"
    assert "A→C" in words(page, "head-error-change")
    page.get_by_test_id("remove-C").click()
    settled(page)
    assert words(page, "AP-pair") == ""
