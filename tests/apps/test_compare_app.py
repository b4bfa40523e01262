"""The Compare page on the whole app: real checkpoints, a forward pass, the slider, Gradio around it."""

from __future__ import annotations

import re

import pytest

from tests.apps.compare.reader import fetched_ahead, settled, slide, words

pytestmark = pytest.mark.browser


def opened(page, address):
    page.goto(address)
    page.get_by_test_id("sample").first.wait_for(timeout=60_000)
    page.get_by_test_id("job").wait_for(state="hidden", timeout=60_000)
    page.wait_for_function("!document.querySelector('.cmp-pane.loading')")


@pytest.mark.long
def test_the_front_page_compares_and_its_slider_changes_what_is_read(page, server):
    # The model moves every keypoint to the right by 6, 2 and 0 pixels in epochs 1, 2 and 10.
    opened(page, f"{server}?run=painted-run&data=painted.json&epochs=1,10")
    assert words(page, "error-A-0") == "6.0"
    assert words(page, "error-B-0") == "0.0"
    assert words(page, "AP-B") == "1.000"
    before = float(words(page, "AP-A"))
    slide(page, 1)
    assert words(page, "error-B-0") == "2.0"
    assert words(page, "pane-title-b") == "epoch 2"
    assert before < float(words(page, "AP-B")) <= 1
    # Of six images no interval is stated.
    few = "document.querySelector('[data-testid=interval]').textContent === 'too few images'"
    page.wait_for_function(few)
    assert "epochs=1,2" in page.url
    page.wait_for_function("window.workbenchTimings.some(t => t.what === 'epoch')")


def test_a_figure_of_one_size_opens_the_instances_of_that_size(page, server):
    opened(page, f"{server}?run=painted-run&data=painted.json&epochs=1,10&sort=name")
    page.get_by_test_id("APL-B").click()
    settled(page)
    assert words(page, "sample-total") == "0 large of 6 annotated samples"  # all are 48 x 64 pixels
    page.get_by_test_id("APM-B").click()
    settled(page)
    assert "sort=worst&size=medium" in page.url
    assert words(page, "sample-total") == "6 annotated samples"
    page.get_by_test_id("size").click()
    settled(page)
    assert "size" not in page.url


def test_the_decoder_changes_without_another_forward_pass(page, server):
    opened(page, f"{server}?run=painted-run&data=painted.json&epochs=1,10&sort=name")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    fetched_ahead(page, asked)
    asked.clear()
    page.get_by_test_id("decoder").select_option("quarter")
    page.wait_for_function("document.querySelector('[data-testid=protocol]').textContent.includes('quarter')")
    settled(page)
    assert not [url for url in asked if "/maps" in url]
    assert float(words(page, "error-B-0")) <= 0.4, "a quarter pixel each way at most"


def test_a_reload_brings_the_same_view_back(page, server):
    opened(
        page, f"{server}?run=painted-run&data=painted.json&epochs=2,10&sort=name&keypoint=left_knee&truth=0"
    )
    page.keyboard.press("ArrowRight")
    settled(page)
    link = page.url
    opened(page, link)
    assert page.url == link
    assert page.get_by_test_id("keypoint").locator("option:checked").text_content() == "left_knee"
    assert re.search(r"sample=000002/102", link)


def test_the_theme_of_the_shell_is_followed_and_page_and_window_are_of_one_height(page, server):
    opened(page, f"{server}?run=painted-run&data=painted.json")
    box = page.get_by_test_id("compare").bounding_box()
    assert 760 < box["y"] + box["height"] <= 800, "the slider is in sight at 1280 x 800"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for theme in ("dark", "light"):
        page.locator(f".wb-theme button[data-theme={theme}]").click()
        page.wait_for_function("t => document.querySelector('#compare').dataset.theme === t", arg=theme)


def test_the_one_report_button_saves_the_columns_epochs_with_their_samples(page, server, tmp_path):
    opened(page, server)
    assert page.get_by_role("link", name="Report", exact=True).count() == 0
    with page.expect_download(timeout=60_000) as saving:
        page.get_by_role("button", name="Report", exact=True).click()
    file = tmp_path / "report-compare.html"
    saving.value.save_as(file)
    text = file.read_text(encoding="utf-8")
    assert "painted-run on painted.json" in text
    assert text.count("<figure>") >= 3
    assert page.get_by_test_id("AP-B").text_content() in text
