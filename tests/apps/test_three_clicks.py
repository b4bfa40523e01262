"""From a difference of AP to a single instance: three clicks, no typing, no waiting for another page."""

from __future__ import annotations

import pytest

from tests.apps.compare.reader import settled, words
from tests.apps.test_compare_app import opened

pytestmark = pytest.mark.browser


def test_compare_goes_from_the_change_of_ap_to_an_instance(page, server):
    opened(page, f"{server}?run=painted-run&data=painted.json&epochs=1,10&sort=name")
    page.get_by_test_id("AP-delta").click()
    settled(page)
    assert "sort=changed" in page.url
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
