"""Which samples are shown, in which order, and can all be reached by mouse and keyboard?"""

from __future__ import annotations

import pytest

from tests.apps.compare import double
from tests.apps.compare.reader import keys_in_order, settled, slide, words

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("worst", ["a/2", "b/1", "c/1", "b/10", "a/1", "b/2"]),
        ("changed", ["a/1", "b/2", "c/1", "a/2", "b/10", "b/1"]),
        ("gained", ["a/1", "b/2", "b/10", "b/1", "a/2", "c/1"]),
        ("lost", ["a/2", "c/1", "b/1", "b/10", "b/2", "a/1"]),
        ("name", ["a/1", "a/2", "b/1", "b/2", "b/10", "c/1"]),
    ],
)
def test_samples_are_sorted(visit, sort, order):
    page = visit(f"?sort={sort}")  # OKS from epoch 5 to epoch 20
    assert keys_in_order(page) == order


def test_gained_and_lost_samples_are_marked_and_counted(visit):
    page = visit()
    assert words(page, "count-gained") == "1 gained"
    assert words(page, "count-lost") == "1 lost"
    assert page.locator(".cmp-sample[data-key='a/1'] .cmp-mark").text_content() == "gained"
    assert page.locator(".cmp-sample[data-key='a/2'] .cmp-mark").text_content() == "lost"
    page.get_by_test_id("count-lost").click()
    settled(page)
    assert page.get_by_test_id("sample-sort").input_value() == "lost"


def test_rows_keep_their_places_while_the_slider_moves(visit):
    page = visit("?sort=worst")
    before = keys_in_order(page)
    slide(page, 0, done=False)
    assert keys_in_order(page) == before
    slide(page, 0)
    assert keys_in_order(page)[0] == "a/1", "worst in epoch 1, once the slider rests"


def test_everything_works_from_the_keyboard(visit):
    page = visit("?keypoint=nose&sort=worst&sample=a/2")
    page.keyboard.press("ArrowRight")
    settled(page)
    assert page.locator("[aria-selected=true].cmp-sample").get_attribute("data-key") == "b/1"
    page.keyboard.press("ArrowDown")
    settled(page)
    assert words(page, "pane-title-b") == "epoch 10"
    page.keyboard.press("Alt+ArrowDown")
    settled(page)
    assert words(page, "pane-title-a") == "epoch 1"
    page.keyboard.press("k")
    settled(page)
    assert page.get_by_test_id("keypoint").locator("option:checked").text_content() == "neck"
    page.keyboard.press("Shift+K")
    page.keyboard.press("t")
    settled(page)
    assert page.get_by_test_id("toggle-truth").get_attribute("aria-pressed") == "false"
    page.keyboard.press("?")
    assert page.get_by_test_id("help").is_visible()
    page.keyboard.press("Escape")
    assert page.get_by_test_id("help").is_hidden()


def test_a_row_of_the_table_chooses_the_keypoint_and_a_head_sorts(visit):
    page = visit("?sample=b/1&keypoint=nose")
    page.get_by_test_id("keypoint-2").click()
    settled(page)
    assert "keypoint=left+paw" in page.url
    page.get_by_test_id("head-error-B").click()
    settled(page)
    rows = page.locator("[data-testid=keypoints] tbody tr").evaluate_all(
        "all => all.map(r => r.dataset.testid)"
    )
    assert rows == ["keypoint-2", "keypoint-1", "keypoint-0", "keypoint-3"], "largest first, unknown last"


def test_a_number_opens_the_instances_behind_it(visit):
    page = visit("?sort=name")
    page.get_by_test_id("AP-delta").click()
    settled(page)
    assert page.get_by_test_id("sample-sort").input_value() == "changed"
    assert page.locator("[aria-selected=true].cmp-sample").get_attribute("data-key") == "a/1"


def test_another_order_selects_its_first_row_and_keys_go_to_both_ends(visit):
    page = visit("?epochs=1,20&sort=name")

    def chosen():
        settled(page)
        return page.locator("[aria-selected=true][data-key]").get_attribute("data-key")

    for sort in ("worst", "lost", "changed", "name"):
        page.get_by_test_id("sample-sort").select_option(sort)
        settled(page)
        assert chosen() == keys_in_order(page)[0]
    page.get_by_test_id("count-gained").click()
    assert chosen() == keys_in_order(page)[0]
    page.get_by_test_id("samples").focus()
    ends = {"End": -1, "Home": 0, "PageDown": None, "PageUp": 0}
    for key, place in ends.items():
        page.keyboard.press(key)
        if place is not None:
            assert chosen() == keys_in_order(page)[place]
        else:
            assert chosen() != keys_in_order(page)[0]


def test_a_keypoints_name_reverses_no_text_of_the_page(visit, monkeypatch):
    monkeypatch.setitem(double.SKELETON, "keypoints", ["no\u202ese", *double.NAMES[1:]])
    text = visit().inner_text("body")
    assert r"no\u202ese" in text
    assert "\u202e" not in text
