"""On the narrowest page that is supported nothing is cut, overlaps or makes the page scroll sideways."""

import pytest

# One page of each kind; the figures of the other inspectors' pages are built of the same parts.
PAGES = (
    "checkpoint", "", "grouping", "conditioning", "rollout", "overfit", "look-heatmap-grid",
    "look-activations", "look-weights", "curves", "results",
)  # fmt: skip

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
  const worded = "button, input, label, h1, h2, p, .wb-sentence, .wb-bar span";
  for (const e of document.querySelectorAll(worded)) {
    if (!shown(e) || e.closest(".cmp-protocol, .nav-holder")) continue;
    const hidden = e.tagName === "INPUT" || ["hidden", "clip"].includes(getComputedStyle(e).overflowX);
    const cut = hidden && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 4;
    if (cut && words(e)) note(`cut: ${words(e)}`);
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


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_cut_or_overlaps_at_1024_pixels(narrow, server, path):
    narrow.goto(f"{server}{path}", wait_until="domcontentloaded")
    narrow.wait_for_selector(ANSWERED, state="attached")
    if path.startswith("look-"):
        narrow.wait_for_selector("#wb-figure .js-plotly-plot text")
    narrow.wait_for_timeout(150)
    assert narrow.evaluate(FAULTS) == []


def test_the_check_finds_what_is_cut_and_what_overlaps(narrow):
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
