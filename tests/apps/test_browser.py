"""The app in a real Chromium: its numbers are the model's, its state is in the address, nothing leaves."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytestmark = pytest.mark.browser

# Loading plotly and the first forward pass on two busy cores.
PATIENCE = 90_000


def answer(page, text):
    """Wait until the page's sentence holds `text`."""
    page.wait_for_function(
        "(text) => document.querySelector('#wb-answer')?.textContent.includes(text)",
        arg=text,
        timeout=PATIENCE,
    )


def choose(page, label, option):
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


@pytest.mark.long
def test_an_inspector_answers_on_load_and_follows_every_choice(page, server):
    page.goto(f"{server}look-overlay")
    answer(page, "0.0 px")
    assert page.title() == f"{page.locator('.wb-head h1').text_content()} · Pose workbench"
    page.wait_for_selector(
        "#wb-figure .js-plotly-plot .layer-above, #wb-figure .js-plotly-plot .cartesianlayer",
        timeout=PATIENCE,
    )
    choose(page, "epoch", "epoch 1")
    answer(page, "6.0 px")
    page.wait_for_url(re.compile("epoch=1(&|$)"))
    page.locator("#wb-forth").click()
    page.wait_for_url(re.compile("sample=000002%2F102"))
    page.reload()
    answer(page, "6.0 px")
    assert page.get_by_label("epoch", exact=True).input_value() == "epoch 1"
    sample = page.get_by_label("sample of 6")
    assert sample.input_value() == "1"
    # A value that is refused is said where the answer stands, until there is an answer again.
    # The message of the refusal goes with it, and not after the 10 s that Gradio shows it.
    earlier, message = page.locator(".wb-refused"), page.get_by_test_id("toast-body")
    for value, count in (("99", 1), ("2", 0)):
        sample.fill(value)
        sample.press("Enter")
        earlier.wait_for(state="visible" if count else "detached")
        assert page.locator(".wb-refused + #wb-answer").count() == count
        message.first.wait_for(state="visible" if count else "detached", timeout=6_000)


@pytest.mark.long
def test_a_knob_comes_back_from_the_link_and_the_rail_carries_the_subject_to_the_next_page(page, server):
    page.goto(f"{server}look-overlay?k.view=crop&run=painted-run&epoch=2&sample=000003/103&data=painted.json")
    answer(page, "2.0 px")
    assert page.get_by_label("view", exact=True).input_value() == "crop"
    assert "k.view=crop" in page.url
    page.get_by_role("link", name="Heatmaps").click()
    page.wait_for_url(re.compile("look-heatmap-grid.*epoch=2"))
    page.wait_for_selector("#wb-answer .wb-sentence", timeout=PATIENCE)
    assert "sample=000003" in page.url


def test_what_is_to_be_known_of_a_set_is_said_and_what_is_deleted_from_a_text_is_an_input(page, server):
    text = "images are read from the folder train; other files of the same names lie in val"
    notes = "**/workbench/api/data/notes?data=painted.json"
    page.route(notes, lambda route: route.fulfill(json={"notes": [text]}))
    page.goto(f"{server}history?data=painted.json")
    note = page.locator(".wb-data-note")
    note.wait_for()
    assert note.text_content() == f"painted.json: {text}"
    page.evaluate("window.wb.note('scenes-val')")
    note.wait_for(state="detached")
    box = page.get_by_label("image id", exact=True)
    box.press_sequentially("4")
    box.evaluate("box => box.addEventListener('keypress', () => { window.pressed = true; })")
    box.press("Backspace")
    # Gradio's text box dispatches its input event after a pressed key alone.
    assert page.evaluate("window.pressed")


def test_the_theme_is_chosen_and_kept(page, server):
    page.goto(f"{server}checkpoint")
    answer(page, "epoch")
    page.get_by_role("button", name="Dark").click()
    assert "dark" in page.locator("body").get_attribute("class")
    page.reload()
    answer(page, "epoch")
    assert page.evaluate("document.body.classList.contains('dark')")
    page.get_by_role("button", name="Light").click()
    page.wait_for_function("!document.body.classList.contains('dark')")


def test_the_checkpoint_page_tells_facts_gate_and_difference_and_runs_both_on_one_photograph(page, server):
    page.goto(f"{server}checkpoint")
    answer(page, "epoch 10")
    assert "epoch_10.pth" in page.locator("#wb-facts").text_content()
    finished = "(p) => document.querySelector(`${p} .wb-sentence:not(.wb-why)`)"
    for part in ("#wb-gate", "#wb-difference"):
        page.wait_for_function(finished, arg=part, timeout=PATIENCE)
    page.wait_for_url(re.compile(r"against=painted-run%2Fepoch_2\.pth"))
    page.locator("#wb-port-run").click()
    page.wait_for_function(
        "() => document.querySelector('#wb-port .wb-sentence:not(.wb-why)')", timeout=PATIENCE
    )
    page.locator("#wb-port-figure .js-plotly-plot").wait_for(timeout=PATIENCE)
    assert "epoch_10.pth" in page.locator("#wb-port").text_content()


def test_a_path_outside_the_served_folder_is_one_sentence_on_the_page(page, server):
    page.goto(f"{server}checkpoint?file=../secret.pth")
    page.get_by_text("lies outside the served folder").wait_for(timeout=PATIENCE)


def test_a_link_to_a_file_that_is_gone_says_so_and_shows_another(page, server):
    page.goto(f"{server}checkpoint?file=painted-run/epoch_99.pth")
    page.get_by_text("epoch_99.pth: nothing of that name below the served folder").wait_for(timeout=PATIENCE)
    page.wait_for_function(
        "document.querySelector('#wb-facts')?.textContent.trim().length > 40", timeout=PATIENCE
    )


@pytest.mark.long
def test_an_image_of_ones_own_gets_keypoints_in_the_box_that_two_clicks_draw(page, server, tmp_path):
    from workbench.data.images import write_image

    write_image(tmp_path / "mine.png", np.full((480, 640, 3), 90, np.uint8))
    page.goto(f"{server}look-overlay")
    answer(page, "px")
    page.get_by_text("An image of your own").click()
    page.locator("input[type=file]").first.set_input_files(tmp_path / "mine.png")
    answer(page, "no annotation to compare with")
    drawn = page.locator("#wb-drawn img")
    drawn.wait_for(timeout=PATIENCE)
    before = ""
    for x, y, name in ((100, 60, "x0"), (420, 400, "x1")):
        # A click on a picture that is still being fetched has no place in it.
        page.wait_for_function(
            "(before) => { const p = document.querySelector('#wb-drawn img');"
            " return p.src !== before && p.complete && p.naturalWidth; }",
            arg=before,
            timeout=PATIENCE,
        )
        before = drawn.evaluate("p => p.src")
        place = drawn.bounding_box()
        # The picture keeps its aspect inside the element, centred.
        scale = min(place["width"] / 640, place["height"] / 480)
        left, top = (place["width"] - 640 * scale) / 2, (place["height"] - 480 * scale) / 2
        drawn.click(position={"x": left + x * scale, "y": top + y * scale})
        filled = """(n) => [...document.querySelectorAll('.wb-own label')].some(
            (e) => e.innerText.startsWith(n) && e.querySelector('input').value)"""
        page.wait_for_function(filled, arg=name, timeout=PATIENCE)
    boxed = [float(page.get_by_label(f"{name}, px").input_value()) for name in ("x0", "y0", "x1", "y1")]
    np.testing.assert_allclose(boxed, [100, 60, 420, 400], atol=3)
    answer(page, "keypoints of mine.png")
