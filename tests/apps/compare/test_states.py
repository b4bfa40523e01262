"""Waiting, cancelling, failing, coming back by link, taking numbers along."""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

import pytest

from tests.apps.compare import double
from tests.apps.compare.reader import settled, slide, words
from workbench.checkpoints.demo import DEFAULT

pytestmark = pytest.mark.browser


def test_placeholders_stand_there_before_the_first_answer(visit, server):
    server.ready = 0
    page = visit(wait=False)
    page.get_by_test_id("job").wait_for()
    assert words(page, "job").startswith("predicting curves on toy-val · 0 of 24 · 7 s left")
    assert page.get_by_test_id("epoch-slider").is_visible()
    server.ready = double.E
    page.get_by_test_id("sample").first.wait_for()
    page.get_by_test_id("job").wait_for(state="hidden")


def test_long_work_shows_progress_and_can_be_cancelled(visit, server):
    server.ready = 2
    page = visit("?epochs=1,5")
    assert words(page, "job") == "predicting curves on toy-val · 12 of 24 · 7 s left · 2 of 4 epochs ready"
    assert page.get_by_test_id("progress").get_attribute("aria-valuenow") == "50"
    assert words(page, "AP-B") == ".400", "epochs that are ready are usable"
    slide(page, 3)
    assert words(page, "AP-B") == "–"
    assert words(page, "pane-note-b") == "computing"
    slide(page, 1)
    page.get_by_test_id("cancel").click()
    page.wait_for_function(
        "document.querySelector('[data-testid=error]').textContent.startsWith('Cancelled')"
    )
    assert server.cancelled
    assert words(page, "error") == "Cancelled: 2 of 4 epochs are ready."
    server.ready = double.E
    page.get_by_test_id("again").click()
    page.wait_for_function("document.querySelector('[data-testid=error]').textContent === ''")
    assert any("start=1" in a for a in server.asked)


def test_the_link_brings_everything_back(visit):
    query = (
        "?run=curves&data=toy-val&epochs=1,10,20&pair=AC&decoder=fine&score=mean&sample=a/1&keypoint=neck"
        "&threshold=0.45&sort=name&maps=image&truth=0&view=70,60,90"
    )
    page = visit(query)
    asked, in_link = (
        dict(re.findall(r"([^?&]+)=([^&]*)", text)) for text in (query, urlsplit(page.url).query)
    )
    assert in_link == asked
    assert words(page, "AP-C") == ".810"
    assert words(page, "AP-delta") == "+.600"
    assert words(page, "threshold-value") == ".45"
    assert words(page, "error-C-1") == "3.0"  # neck: 2 x 1 x factor 3, halved by the decoder


def test_the_link_can_be_copied(visit):
    page = visit("?sample=b/10")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_test_id("share").click()
    page.wait_for_function(
        "document.querySelector('[data-testid=share]').textContent === 'Copied: for this machine only'"
    )
    assert page.evaluate("navigator.clipboard.readText()") == page.url


def test_a_link_to_a_run_that_is_gone_says_so_and_shows_another(visit):
    page = visit("?run=gone")
    assert words(page, "error") == "The run gone of this link is not here; curves is shown."
    assert words(page, "AP-B") == ".800"


def test_a_run_that_cannot_be_opened_says_why(visit):
    page = visit("?run=broken")
    assert words(page, "error") == "broken cannot be opened: 1.pth: cut"


def test_without_any_run_the_page_says_what_to_do(visit, server):
    server.empty = True
    page = visit(wait=False)
    page.wait_for_function(
        "document.querySelector('[data-testid=error]')?.textContent.startsWith('No checkpoints here')"
    )


def test_numbers_can_be_taken_along(visit):
    page = visit("?sample=b/2")
    page.get_by_test_id("save").click()
    with page.expect_download() as waiting:
        page.get_by_test_id("save-csv").click()
    lines = waiting.value.path().read_text().splitlines()
    assert lines[0] == "keypoint,error_px_A,score_A,error_px_B,score_B"
    assert lines[1].startswith("nose,12,0.6")
    page.get_by_test_id("save").click()
    with page.expect_download() as waiting:
        page.get_by_test_id("save-json").click()
    facts = json.loads(waiting.value.path().read_text())
    assert facts["protocol_text"] == "GT boxes, pad 1.25, plain"
    # What is of one checkpoint stands with its epoch, and the shared rules name none.
    assert not {"checkpoint", "sha256"} & facts["protocol"].keys()
    assert all("sha256" in epoch for epoch in facts["epochs"])
    assert facts["keypoints"][3]["error_px_A"] is None
    page.get_by_test_id("save").click()
    with page.expect_download() as waiting:
        page.get_by_test_id("save-png").click()
    assert waiting.value.path().read_bytes().startswith(b"\x89PNG")


def test_the_demo_is_shown_when_nothing_is_chosen_wherever_it_stands_in_the_list(visit, server):
    server.names = ("aaa", DEFAULT)
    page = visit()
    assert page.get_by_test_id("run").input_value() == DEFAULT


def test_back_and_forward_undo_the_choice_of_sample_epoch_and_run(visit):
    page = visit("?run=curves&epochs=1,20&sort=name")
    first = page.url
    page.get_by_test_id("sample").nth(2).click()
    settled(page)
    second = page.url
    slide(page, 2)
    third = page.url
    assert len({first, second, third}) == 3
    page.get_by_test_id("run").select_option("heats")
    page.wait_for_function("location.search.includes('run=heats')")
    for address, epoch in ((third, "epoch 10"), (second, "epoch 20"), (first, "epoch 20")):
        page.go_back()
        page.wait_for_function("document.querySelectorAll('.cmp-pane.loading').length === 0")
        page.wait_for_function(
            "e => document.querySelector('[data-testid=pane-title-b]').textContent === e", arg=epoch
        )
        assert page.url == address
    assert page.locator("[aria-selected=true][data-key]").get_attribute("data-key") == "a/1"
    page.go_forward()
    settled(page)
    assert page.url == second
    assert page.locator("[aria-selected=true][data-key]").get_attribute("data-key") != "a/1"


def test_what_is_being_computed_is_said_and_a_wrong_epoch_in_a_link_too(visit, server):
    server.ready = 2
    page = visit("?epochs=1,20,7&keypoint=nose", wait=False)
    page.get_by_test_id("sample").first.wait_for()
    assert words(page, "error") == "curves has no epoch 7; shown: epoch 1, epoch 20."
    assert words(page, "count-gained") == "computing"
    assert not page.get_by_test_id("count-lost").is_visible()
    assert page.get_by_text("0 gained").count() == 0
    server.ready = double.E
    page.wait_for_function(
        "document.querySelector('[data-testid=count-gained]').textContent.endsWith(' gained')"
    )
    assert "no decoder 'foo'; shown as the model is read" in words(visit("?decoder=foo"), "error")


def test_a_link_whose_words_do_not_fit_says_all_of_them_and_shows_the_rest(visit):
    page = visit("?run=gone&sort=bad&sample=nope&keypoint=tail")
    said = words(page, "error")
    assert said.startswith(
        "The run gone of this link is not here; curves is shown. Of this link is not used: sort=bad ("
    )
    assert "There is no sample nope in " in said
    assert "There is no keypoint tail in " in said
    assert words(page, "AP-B") == ".800"
