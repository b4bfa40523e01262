"""At every supported width nothing is cut, overlaps or makes the page scroll sideways; texts can be read."""

import pytest

from apps.pages.frame import routes_of
from apps.server.application import all_pages
from apps.server.settings import Settings
from tests.apps.conftest import started
from tests.apps.layout import FAULTS, faults
from workbench.checkpoints.demo import root

# The inspectors share one set of components, and their figures are built of the same parts.
LOOKS = ("look-heatmap-grid", "look-grouping-steps", "look-film")
PAGES = [page.path for page in all_pages()]
OTHER_LOOKS = [path for path in PAGES if path.startswith("look-") and path not in LOOKS]
USUAL = [path for path in PAGES if path not in OTHER_LOOKS]

ANSWERED = ".wb-sentence, .cmp-panes, .wb-facts, #ovf-start"


@pytest.fixture(scope="module")
def narrow(browsing):
    page = browsing.new_page()
    page.set_viewport_size({"width": 1024, "height": 800})
    page.set_default_timeout(20_000)
    yield page
    page.close()


def opened_faults(page, address, path):
    """What is wrong with a page once it shows its first answer."""
    page.goto(f"{address}{path}", wait_until="domcontentloaded")
    page.wait_for_selector(ANSWERED, state="attached")
    if path.startswith("look-"):
        page.wait_for_selector("#wb-figure .js-plotly-plot text, #wb-answer .wb-why")
    return faults(page)


@pytest.mark.long
@pytest.mark.parametrize("path", USUAL)
def test_nothing_is_cut_or_overlaps_at_any_width(narrow, server, path):
    assert opened_faults(narrow, server, path) == []


# One page for each kind of bar; names of the built-in runs are longer than those of the painted ones.
BARS = ("look-overlay", "errors", "conditioning")


@pytest.mark.long
def test_nothing_is_cut_where_runs_have_long_names(narrow, tmp_path):
    settings = Settings(root=root(), port=0, cache=tmp_path / "cache")
    with started(settings, *BARS) as (address, _):
        assert {path: found for path in BARS if (found := opened_faults(narrow, address, path))} == {}


@pytest.mark.slow
@pytest.mark.parametrize("path", OTHER_LOOKS)
def test_nothing_is_cut_or_overlaps_on_the_other_inspectors_pages(narrow, server, path):
    assert opened_faults(narrow, server, path) == []


def test_every_route_is_among_the_pages_that_are_looked_at():
    assert {page.route for page in all_pages() if page.path in USUAL} == set(routes_of(all_pages()))


def test_the_check_finds_what_is_cut_and_what_overlaps(narrow):
    narrow.set_viewport_size({"width": 1024, "height": 800})
    cut = '<button style="width:30px;overflow:hidden;white-space:nowrap">the model\'s own</button>'
    texts = (
        f'<span style="position:absolute;top:200px;left:{x}px">{word}</span>'
        for x, word in ((5, "first words"), (20, "second"))
    )
    narrow.set_content(f'<div class="wb-bar">{cut}{"".join(texts)}</div><div style="width:1300px">wide</div>')
    assert narrow.evaluate(FAULTS) == [
        "the page scrolls sideways", "cut: the model's own", "first words over second",
    ]  # fmt: skip
    note = '<div class="note" style="height:40px">said above</div>'
    parts = f'<div class="part" style="min-height:0">{note}</div><div class="foot">below</div>'
    narrow.set_content(f'<div style="display:grid;grid-template-rows:20px auto">{parts}</div>')
    assert narrow.evaluate(FAULTS) == ["beyond part: note (20 px)"]
    numbers = (
        f'<g class="{axis}tick"><text x="{x}" y="20" style="font:10px monospace">{text}</text></g>'
        for axis, x, text in (("x", 5, "0.1"), ("x", 24, "10"), ("x2", 37, "0"), ("x2", 60, "5"))
    )
    narrow.set_content(f'<div class="js-plotly-plot"><svg width="200">{"".join(numbers)}</svg></div>')
    assert narrow.evaluate(FAULTS) == ["10 over 0"]


# Both notes of a link that names things that are not there, and a job beside an error.
NOTES = "?run=nope&sort=bad&bogus=1"


@pytest.mark.parametrize("height", [600, 720])
def test_notes_above_compare_never_push_its_parts_over_each_other(narrow, server, height):
    narrow.set_viewport_size({"width": 1280, "height": height})
    narrow.goto(f"{server}{NOTES}", wait_until="domcontentloaded")
    narrow.wait_for_selector(".cmp-table tbody tr")
    narrow.wait_for_selector(".cmp-error:not([hidden])")
    assert narrow.locator(".wb-link-note").count() == 1
    assert faults(narrow, height=height) == []
    narrow.evaluate("document.querySelector('.cmp-job').hidden = false")
    assert faults(narrow, (1280,), height) == []


UNDER = """(button) => {
  const b = button.getBoundingClientRect();
  return [0.1, 0.5, 0.9].map((x) => button.contains(
    document.elementFromPoint(b.left + x * b.width, b.top + b.height / 2)));
}"""


@pytest.mark.parametrize("width", [1024, 1280, 1920])
def test_no_field_lies_over_the_buttons_that_step_through_samples(narrow, server, width):
    narrow.set_viewport_size({"width": width, "height": 900})
    narrow.goto(f"{server}look-overlay", wait_until="domcontentloaded")
    narrow.wait_for_function("location.search.includes('sample=')")
    for name in ("#wb-back", "#wb-forth"):
        assert narrow.eval_on_selector(name, UNDER) == [True] * 3, f"{name} at {width} px"


def test_back_and_forward_undo_the_choice_of_a_sample(narrow, server):
    narrow.goto(f"{server}look-overlay", wait_until="domcontentloaded")
    narrow.wait_for_function("location.search.includes('sample=')")
    first = narrow.url
    narrow.wait_for_selector("#wb-figure .js-plotly-plot")
    narrow.click("#wb-forth")
    narrow.wait_for_function("(first) => location.href !== first", arg=first)
    second = narrow.url
    narrow.go_back()
    narrow.wait_for_url(first)
    # The page is filled anew, not its address alone.
    narrow.wait_for_function("document.querySelector('.wb-bar input[type=number]')?.value === '0'")
    narrow.go_forward()
    narrow.wait_for_url(second)
