"""From a difference of AP to a single instance: three clicks, no typing, no waiting for another page."""

from __future__ import annotations

import pytest

from tests.apps.compare.reader import settled, words
from tests.apps.test_compare_app import opened
from tests.apps.test_results_page import uploads  # noqa: F401 - fixture

pytestmark = pytest.mark.browser


@pytest.mark.long
def test_compare_goes_from_the_change_of_ap_to_an_instance(page, server):
    opened(page, f"{server}?run=painted-run&data=painted.json&epochs=1,10&sort=name")
    page.get_by_test_id("AP-delta").click()
    settled(page)
    assert page.get_by_test_id("sample-sort").input_value() == "changed"
    page.get_by_test_id("count-gained").click()
    settled(page)
    assert "sort=gained" in page.url
    row = page.locator(".cmp-sample[data-key='000003/103']")
    row.click()
    settled(page)
    # The instance: its OKS and keypoints in both epochs, on its image.
    assert "sample=000003/103" in page.url
    assert row.get_attribute("aria-selected") == "true"
    assert (words(page, "error-A-0"), words(page, "error-B-0")) == ("6.0", "0.0")
    assert "6.0 px" in words(page, "pane-note-a")
    assert "0.0 px" in words(page, "pane-note-b")


def test_results_goes_from_the_change_of_ap_to_an_instance(page, server, uploads):  # noqa: F811
    page.goto(f"{server}results")
    files = page.locator("input[type=file]")
    files.first.wait_for(state="attached", timeout=60_000)
    for place, name in ((1, "exact"), (0, "off")):  # one that is filled has no input any more
        files.nth(place).set_input_files(uploads / f"{name}.json")
        # Not its text: that stands there as one word only while it is being uploaded.
        page.locator(f"[aria-label='{name}.json']").wait_for()
    page.locator("#res-start").click()
    change = page.get_by_test_id("res-ap").locator("summary").first
    change.wait_for(timeout=90_000)
    requests = []
    page.on("request", lambda r: requests.append(r.url) if "/workbench/" in r.url else None)
    change.click()
    page.get_by_test_id("res-changed").locator("summary").first.click()
    instance = page.get_by_test_id("res-changed").get_by_test_id("res-instance").first
    instance.locator("summary").click()
    pictures = instance.locator("img")
    assert pictures.count() == 3
    assert pictures.last.is_visible()
    assert pictures.last.evaluate("i => i.naturalWidth > 0")
    assert "OKS 1.00" in instance.locator("figcaption").last.text_content()
    assert not requests
