"""Faults in the layout of a page: texts that are cut or lie over others, parts that leave their frame."""

from __future__ import annotations

WIDTHS = (1024, 1280, 1920)
"""Widths of the window that are supported, pixels."""

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
  const ruler = document.createElement("canvas").getContext("2d");
  const wide = (e) => ((ruler.font = getComputedStyle(e).font), ruler.measureText(e.placeholder).width - 1);
  const sides = ({ paddingLeft, paddingRight }) => parseFloat(paddingLeft) + parseFloat(paddingRight);
  const room = (e) => e.clientWidth - sides(getComputedStyle(e));
  const skipped = [".cmp-protocol", ".nav-holder", ".js-plotly-plot", ".sr-only", ".table-wrap",
    "[data-testid=status-tracker]"].join();
  for (const e of document.querySelectorAll("input, textarea")) {
    if (shown(e) && !e.closest(skipped) && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 4 && words(e))
      note(`cut: ${words(e)}`);
    // A text box of several lines wraps its placeholder.
    const hint = shown(e) && !e.value && e.clientHeight < 45 && e.placeholder;
    if (hint && room(e) < wide(e)) note(`cut: ${hint}`);
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
  // What is cut of a picture at its bottom cannot be scrolled to.
  for (const e of document.querySelectorAll("canvas")) {
    if (!shown(e) || e.closest(skipped)) continue;
    const { bottom } = e.getBoundingClientRect();
    for (let p = e.parentElement; p && p !== document.body; p = p.parentElement) {
      const style = getComputedStyle(p);
      if (["auto", "scroll"].includes(style.overflowY)) break;
      if (hides(style, "overflowY") && bottom > p.getBoundingClientRect().bottom + 2) {
        note(`cut: a picture in ${p.className}`);
        break;
      }
    }
  }
  // What reaches beyond its frame and is not clipped there lies over what follows the frame.
  const placed = (style) => !["absolute", "fixed"].includes(style.position);
  const box = (style) => !["inline", "contents", "none"].includes(style.display);
  for (const e of document.body.querySelectorAll("*")) {
    const own = getComputedStyle(e), frame = e.parentElement;
    if (!box(own) || !placed(own) || !shown(e)) continue;
    if (e.closest("svg, .js-plotly-plot, .sr-only, option")) continue;
    const edge = frame.getBoundingClientRect();
    let { bottom } = e.getBoundingClientRect();
    for (let p = frame; p && bottom > edge.bottom + 3; p = p.parentElement) {
      const style = getComputedStyle(p);
      if (style.overflowY !== "visible") bottom = Math.min(bottom, p.getBoundingClientRect().bottom);
    }
    const beyond = bottom - edge.bottom;
    if (beyond > 3 && box(getComputedStyle(frame)))
      note(`beyond ${frame.className}: ${e.className} (${Math.round(beyond)} px)`);
  }
  const where = (e) => {
    const holder = e.closest(".js-plotly-plot")?.closest("[id]:not(.js-plotly-plot):not(.plot-container)");
    return holder ? ` in ${holder.id}` : "";
  };
  const turned = (e) => /rotate\\((?!0[,)])/.test(e.getAttribute("transform") || "");
  const texts = [...document.querySelectorAll(".js-plotly-plot text, .wb-bar span, .wb-bar button")];
  const boxes = texts.filter((e) => shown(e) && words(e) && !turned(e) && !e.querySelector("span, button"))
    .map((e) => [e, e.getBoundingClientRect()]);
  for (const [e, r] of boxes) {
    const plot = e.closest(".js-plotly-plot");
    const edge = plot && plot.getBoundingClientRect();
    if (edge && (r.left < edge.left - 1 || r.right > edge.right + 1)) note(`beyond its figure: ${words(e)}`);
  }
  // A legend, or the numbers of a colour bar, over what is plotted.
  for (const plot of document.querySelectorAll(".js-plotly-plot")) {
    if (!plot.checkVisibility() || !plot._fullLayout) continue;
    const edge = plot.getBoundingClientRect();
    for (const e of plot.querySelectorAll(".legend .bg, .cbaxis text")) {
      const r = e.getBoundingClientRect();
      for (const { xaxis, yaxis } of Object.values(plot._fullLayout._plots || {})) {
        const [left, top] = [edge.left + xaxis._offset, edge.top + yaxis._offset];
        const across = Math.min(r.right, left + xaxis._length) - Math.max(r.left, left);
        const down = Math.min(r.bottom, top + yaxis._length) - Math.max(r.top, top);
        if (across > 3 && down > 5) note(`${words(e) || "legend"} over what is plotted${where(e)}`);
      }
    }
  }
  const axisOf = (e) => (e.closest("[class*=tick]")?.getAttribute("class") || "").match(/x\\d*tick/)?.[0];
  for (const [i, [a, r]] of boxes.entries()) for (const [b, s] of boxes.slice(i + 1)) {
    const across = Math.min(r.right, s.right) - Math.max(r.left, s.left);
    const down = Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top);
    // Numbers of two axes side by side read as one where nothing is between them.
    const joined = axisOf(a) && axisOf(b) && axisOf(a) !== axisOf(b);
    if (across > (joined ? -3 : 3) && down > 5 && !a.contains(b) && !b.contains(a)) {
      note(`${words(a)} over ${words(b)}${where(a)}`);
    }
  }
  return [...new Set(found)];
}
"""


def faults(page, widths=WIDTHS, height=800):
    """What is wrong with an open page at each width; its window is 1280 pixels wide afterwards."""
    found = []
    for width in widths:
        page.set_viewport_size({"width": width, "height": height})
        for patience in (300, 700, 1500):  # plotly draws its figures anew, on a busy machine slowly
            page.wait_for_timeout(patience)
            if not (wrong := page.evaluate(FAULTS)):
                break
        found += [f"{width}: {fault}" for fault in wrong]
    page.set_viewport_size({"width": 1280, "height": 900})
    return found


COVERED = """
(selector) => {
  const boxes = [...document.querySelectorAll(selector)].map((e) => [e, e.getBoundingClientRect()]);
  return [...document.querySelectorAll("button, a[href], input, textarea, select, summary")].filter((e) => {
    const r = e.getBoundingClientRect();
    const across = (b) => Math.min(r.right, b.right) > Math.max(r.left, b.left);
    const down = (b) => Math.min(r.bottom, b.bottom) > Math.max(r.top, b.top);
    const below = ([box, b]) => !box.contains(e) && across(b) && down(b);
    return e.checkVisibility() && r.width > 1 && boxes.some(below);
  }).map((e) => (e.innerText || e.value || e.ariaLabel || e.tagName).slice(0, 40));
}
"""


def covered(page, selector):
    """What can be operated on an open page and lies below an element that a selector names."""
    return page.evaluate(COVERED, selector)
