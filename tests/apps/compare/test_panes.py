"""Do the panes show the image, the maps and the keypoints where they belong?"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.compare.reader import settled, slide

pytestmark = pytest.mark.browser

CONTRAST = Path(__file__).with_name("contrast.js")


def test_a_click_on_a_keypoint_of_the_image_chooses_it(visit):
    page = visit("?sample=b/1&keypoint=nose&view=80,80,160")
    pane = page.get_by_test_id("overlay-b").bounding_box()
    scale = pane["height"] / 160
    page.mouse.click(
        pane["x"] + pane["width"] / 2 + (82 - 80) * scale, pane["y"] + pane["height"] / 2 + (60 - 80) * scale
    )
    settled(page)
    assert page.get_by_test_id("keypoint").locator("option:checked").text_content() == "neck"


def test_the_wheel_zooms_all_panes_and_a_double_click_fits_again(visit):
    page = visit("?sample=b/1")
    before = page.get_by_test_id("overlay-a").evaluate("c => c.toDataURL()")
    box = page.get_by_test_id("overlay-b").bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.wheel(0, -400)
    settled(page)
    assert "view=" in page.url
    assert page.get_by_test_id("overlay-a").evaluate("c => c.toDataURL()") != before
    page.mouse.dblclick(box["x"] + 10, box["y"] + 10)
    settled(page)
    assert "view=" not in page.url


def test_a_heatmap_is_drawn_where_it_belongs(visit):
    page = visit("?run=heats&maps=alone&truth=0&epochs=1,20&sample=b/1&keypoint=nose&view=100,80,160")
    # Cells are 10 px wide from x = 20: the peak at 61 lies in the cell from 60 to 70, row 4.
    colours = page.get_by_test_id("maps-b").evaluate(
        """c => { const s = c.height / 160, at = (x, y) => [...c.getContext('2d').getImageData(
               Math.round(c.width / 2 + (x - 100) * s), Math.round(c.height / 2 + (y - 80) * s), 1, 1).data];
               return [at(63, 47), at(95, 45), at(63, 65)]; }"""
    )
    bright, *dark = (sum(colour[:3]) for colour in colours)
    assert bright > 500
    assert max(dark) < 150


def test_values_can_be_read_off_the_maps(visit):
    page = visit("?run=heats&maps=alone&epochs=1,20&sample=b/1&keypoint=nose&view=100,80,160")
    box = page.get_by_test_id("maps-b").bounding_box()
    scale = box["height"] / 160
    page.mouse.move(
        box["x"] + box["width"] / 2 + (65 - 100) * scale, box["y"] + box["height"] / 2 + (45 - 80) * scale
    )
    page.locator(".cmp-readout:not([hidden])").wait_for()
    assert page.locator(".cmp-readout:not([hidden])").text_content().endswith(": 2.000")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable_in_both_themes(visit, theme):
    page = visit("?__theme=dark" if theme == "dark" else "", theme=theme)
    assert page.get_by_test_id("compare").get_attribute("data-theme") == theme
    poor = page.evaluate(CONTRAST.read_text())
    assert poor == []


def test_a_step_of_the_slider_draws_all_canvases_before_it_writes_into_the_page(visit):
    """Each text on a canvas computed the style of the page anew: 30 of the 43 ms of a step's script."""
    page = visit("?run=heats&epochs=1,20&sample=b/1&keypoint=nose")
    page.evaluate(
        """() => {
          window.order = [];
          const text = CanvasRenderingContext2D.prototype.fillText;
          CanvasRenderingContext2D.prototype.fillText = function (...a) {
            order.push([document.timeline.currentTime, 'drawn']);
            return text.apply(this, a);
          };
          const content = Object.getOwnPropertyDescriptor(Node.prototype, 'textContent');
          Object.defineProperty(Node.prototype, 'textContent', {
            ...content,
            set(value) {
              if (this.closest?.('.cmp-pane-head')) order.push([document.timeline.currentTime, 'written']);
              content.set.call(this, value);
            },
          });
        }"""
    )
    slide(page, 2, done=False)
    order = page.evaluate("order")
    assert {what for _, what in order} == {"drawn", "written"}
    # The time stands still within a frame, and "drawn" is before "written" in the alphabet.
    assert order == sorted(order), order
