"""What a reader does and reads on the page, by test ids."""

from __future__ import annotations


def words(page, testid):
    return page.get_by_test_id(testid).first.text_content()


def slide(page, place, done=True):
    events = "input,change" if done else "input"
    page.get_by_test_id("epoch-slider").evaluate(
        "(e, [v, names]) => { e.value = v; names.split(',').forEach((n) => e.dispatchEvent(new Event(n))); }",
        [place, events],
    )
    page.wait_for_function(
        "([p]) => document.querySelector('[data-testid=epoch-slider]').value == p", arg=[place]
    )
    settled(page)


def settled(page):
    page.evaluate("() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")


def keys_in_order(page):
    rows = page.get_by_test_id("sample")
    placed = rows.evaluate_all(
        "all => all.map(r => [new DOMMatrix(getComputedStyle(r).transform).m42, r.dataset.key])"
    )
    return [key for _, key in sorted(placed)]


def fetched_ahead(page, asked):
    """Waits until the page asks for nothing more: what a slider may need is here."""
    before = -1
    while before != len(asked):
        before = len(asked)
        page.wait_for_timeout(500)
