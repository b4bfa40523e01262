"""At every supported width nothing is cut, overlaps or makes the page scroll sideways; texts can be read."""

import pytest

from apps.pages.frame import routes_of
from apps.server.application import all_pages

WIDTHS = (1024, 1280, 1920)

# The inspectors share one set of components, and their figures are built of the same parts: three of each.
LOOKS = ("look-heatmap-grid", "look-activations", "look-weights", "look-grouping-steps", "look-film")
PAGES = [page.path for page in all_pages()]
OTHER_LOOKS = [path for path in PAGES if path.startswith("look-") and path not in LOOKS]
USUAL = [path for path in PAGES if path not in OTHER_LOOKS]

# Upright texts only: the box of a turned one covers its neighbours. Tables that scroll hold rows behind rows.
FAULTS = """
() => {
  const found = [];
  const shown = (e) => {
    const r = e.getBoundingClientRect();
    const visible = { opacityProperty: true, visibilityProperty: true };
    return r.width > 1 && r.height > 1 && e.checkVisibility(visible);
  };
  const words = (e) => (e.innerText || e.value || e.textContent || "").trim().slice(0, 40);
  const note = (text) => found.push(text);
  if (document.documentElement.scrollWidth > innerWidth) note("the page scrolls sideways");
  const skipped = [".cmp-protocol", ".nav-holder", ".js-plotly-plot", ".sr-only", ".table-wrap",
    "[data-testid=status-tracker]"].join();
  for (const e of document.querySelectorAll("input")) {
    if (shown(e) && !e.closest(skipped) && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 4 && words(e))
      note(`cut: ${words(e)}`);
  }
  // A text is cut where it reaches beyond an element around it that hides what lies beyond itself.
  const hides = (style, side) => ["hidden", "clip"].includes(style[side]);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const own = node.parentElement;
    if (!node.data.trim() || !own || own.closest(`${skipped}, script, style, textarea`)) continue;
    if (!shown(own)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const text = range.getBoundingClientRect();
    for (let e = own; e && e !== document.body; e = e.parentElement) {
      const style = getComputedStyle(e), frame = e.getBoundingClientRect();
      if (style.display === "inline" || style.display === "contents") continue;
      if (["auto", "scroll"].includes(style.overflowX) || ["auto", "scroll"].includes(style.overflowY)) break;
      const across = text.left < frame.left - 1 || text.right > frame.right + 1;
      const down = text.top < frame.top - 2 || text.bottom > frame.bottom + 2;
      const cut = (hides(style, "overflowX") && across) || (hides(style, "overflowY") && down);
      if (cut && frame.width > 4) {
        note(`cut: ${node.data.trim().slice(0, 40)}`);
        break;
      }
    }
  }
  const turned = (e) => /rotate\\((?!0[,)])/.test(e.getAttribute("transform") || "");
  const texts = [...document.querySelectorAll(".js-plotly-plot text, .wb-bar span, .wb-bar button")];
  const boxes = texts.filter((e) => shown(e) && words(e) && !turned(e) && !e.querySelector("span, button"))
    .map((e) => [e, e.getBoundingClientRect()]);
  for (const [e, r] of boxes) {
    const plot = e.closest(".js-plotly-plot");
    const edge = plot && plot.getBoundingClientRect();
    if (edge && (r.left < edge.left - 1 || r.right > edge.right + 1)) note(`beyond its figure: ${words(e)}`);
  }
  for (const [i, [a, r]] of boxes.entries()) for (const [b, s] of boxes.slice(i + 1)) {
    const across = Math.min(r.right, s.right) - Math.max(r.left, s.left);
    const down = Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top);
    if (across > 3 && down > 5 && !a.contains(b) && !b.contains(a)) note(`${words(a)} over ${words(b)}`);
  }
  return [...new Set(found)];
}
"""

ANSWERED = ".wb-sentence, .cmp-panes, .wb-facts, #ovf-start"


@pytest.fixture(scope="module")
def narrow(chromium):
    opened = chromium.new_context(viewport={"width": 1024, "height": 800})
    page = opened.new_page()
    page.set_default_timeout(20_000)
    yield page
    opened.close()


def faults(page, address, path):
    """What is wrong with a page at each width that is supported."""
    page.goto(f"{address}{path}", wait_until="domcontentloaded")
    page.wait_for_selector(ANSWERED, state="attached")
    if path.startswith("look-"):
        page.wait_for_selector("#wb-figure .js-plotly-plot text, #wb-answer .wb-why")
    found = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(250)  # plotly draws its figures anew
        found += [f"{width}: {fault}" for fault in page.evaluate(FAULTS)]
    return found


@pytest.mark.parametrize("path", USUAL)
def test_nothing_is_cut_or_overlaps_at_any_width(narrow, server, path):
    assert faults(narrow, server, path) == []


@pytest.mark.slow
@pytest.mark.parametrize("path", OTHER_LOOKS)
def test_nothing_is_cut_or_overlaps_on_the_other_inspectors_pages(narrow, server, path):
    assert faults(narrow, server, path) == []


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
