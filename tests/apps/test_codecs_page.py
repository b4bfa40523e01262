"""The Codecs page over HTTP and in a real Chromium: matrix, arrows, own sizes, what cannot be asked."""

from __future__ import annotations

import html
import json

import gradio as gr
import pytest

from apps.pages.codecs.page import CodecsPage
from tests.apps.client import code_in, saved
from tests.waiting import until, when

pytestmark = pytest.mark.long

PATIENCE = 90_000
RUN, DATA = "painted-run", "painted.json"


def shown(client, *bar):
    """Wish, address and reason for controls (run, epoch, data, limit, flip, against)."""
    *_, state, address, _, why, _ = client.predict(*bar, api_name="/codecs")
    return state, address, html.unescape(why)


def watched(client, state, seconds=60):
    """What the page shows once its job has ended: status, verdict, then the sections' values."""
    return when(
        lambda: client.predict(state, "", api_name="/codecs_watch"),
        lambda seen: "codec-verdict" in seen[1] or "wb-error" in seen[0],
        seconds,
    )


def test_the_matrix_of_a_run_is_computed_and_saved(client, server):
    state, address, why = shown(client, RUN, None, DATA, 0, "no", None)
    assert why == ""
    assert json.loads(address)["run"] == RUN
    seen = watched(client, state)
    # Every keypoint is one pixel, and so is its cell: nothing can be better than the highest cell.
    assert "Keep the model" in html.unescape(seen[1])
    facts = json.loads(saved(server, "codecs", "matrix", "json", state))
    assert (facts["own"], facts["verdict"]) == ("argmax, no flip", "own")
    assert facts["variants"][0]["AP"] == 1
    assert facts["variants"][0]["bias_px"] == [0, 0]
    assert saved(server, "codecs", "matrix", "csv", state).startswith("name,AP")
    moves = json.loads(saved(server, "codecs", "arrows", "json", state))
    assert moves["own"] == "argmax, no flip"
    assert len(moves["keypoints"]) == 17


def test_another_variant_is_drawn_from_the_same_pass(client, server):
    first, _, _ = shown(client, RUN, None, DATA, 0, "no", None)
    watched(client, first)
    state, address, _ = shown(client, RUN, None, DATA, 0, "no", "quarter, no flip")
    # No other job: what the page asks for is there at once.
    seen = client.predict(state, "", api_name="/codecs_watch")
    assert "codec-verdict" in seen[1]
    assert json.loads(address)["against"] == "quarter, no flip"
    moves = json.loads(saved(server, "codecs", "arrows", "json", state))
    # The painted maps rise to the right: a quarter of a cell, which is a pixel, for keypoints off the border.
    assert moves["keypoints"][0]["bias_px"][0] == pytest.approx(0.25, abs=0.01)
    state, _, _ = shown(client, RUN, None, DATA, 0, "no", "quartz, no flip")
    with pytest.raises(AssertionError, match="there is no variant 'quartz, no flip'"):
        saved(server, "codecs", "arrows", "json", state)


def test_the_code_of_the_page_makes_the_same_report(client, server):
    state, _, _ = shown(client, RUN, None, DATA, 2, "no", None)
    seen = watched(client, state)
    code = next(code_in(part) for part in seen if isinstance(part, str) and "codec_matrix(" in part)
    names: dict = {}
    exec(code, names)
    wanted = json.loads(saved(server, "codecs", "matrix", "json", state))
    assert [row["AP"] for row in names["report"].table()] == [row["AP"] for row in wanted["variants"]]


def test_a_job_that_ends_while_its_page_is_drawn_leaves_no_part_of_the_page_behind(context, monkeypatch):
    page = CodecsPage(context)
    with gr.Blocks():
        page.build()
    *_, text, _, _, why, _, _ = page.begin(RUN, None, DATA, 2, "no", None)
    assert why == ""
    drawn = page.section_updates

    def slowly(state, section):
        updates = drawn(state, section)
        until(lambda: page.complete(state), PATIENCE / 1000)
        return updates

    monkeypatch.setattr(page, "section_updates", slowly)
    seen = page.watch(text)
    assert "codec-verdict" in seen[1]
    assert any("codec_matrix(" in str(part) for part in seen)
    assert not any("waits for the predictions" in str(part) for part in seen)


def test_sizes_of_ones_own_are_measured_and_wrong_ones_are_one_sentence(client, server):
    state, _, _ = shown(client, RUN, None, DATA, 0, "no", None)
    asked = (state, "48x64", "12x16", "1.5", "2", "60x120")
    client.predict(*asked, api_name="/codecs_measure")
    seen = when(
        lambda: client.predict(*asked, api_name="/codecs_measured"),
        lambda seen: "wb-sentence" in seen[1] or "wb-error" in seen[0],
    )
    assert "wb-error" not in seen[0], seen[0]
    facts = json.loads(saved(server, "codecs/errors", "errors", "json", json.dumps(asked)))
    assert facts["codecs"][0]["size"] == "48x64, map 12x16, σ 1.5 cells"
    assert "60x120" in facts["assumption"]
    for values, said in (
        (("48x64", "16x12", "", "", ""), "exchanged"),
        (("48", "", "", "", ""), "^expected WIDTHxHEIGHT in pixels, such as 192x256, got '48'$"),
        (("", "", "wide", "", ""), "σ: expected a number"),
        (("48x64", "", "", "0.1", ""), "split ratio"),
    ):
        with pytest.raises(Exception, match=said):
            client.predict(state, *values, api_name="/codecs_measure")
        # What is being typed is no size yet: the page shows nothing, and no error.
        assert client.predict(state, *values, api_name="/codecs_measured")[0] == ""


def test_an_empty_field_takes_the_runs_own_size(context):
    from apps.pages.codecs.matrices import CodecState, ErrorMaps

    setup, person = ErrorMaps(context).asked(CodecState(RUN, 2, DATA), "", None, "", "", "")
    assert (setup.input_size, setup.heatmap_size, setup.sigma) == ((64, 48), (64, 48), 1.0)
    assert (person.width, person.height) == (100, 200)
    setup, _ = ErrorMaps(context).asked(CodecState(RUN, 2, DATA), "96x128")
    assert (setup.input_size, setup.heatmap_size, setup.sigma) == ((128, 96), None, None)


@pytest.mark.parametrize(
    ("bar", "message"),
    [
        (("absent", None, None, None, None, None), "no run 'absent'"),
        ((RUN, 9, None, None, None, None), "epochs 0 to 2"),
        ((RUN, 0, "absent", None, None, None), "no data set 'absent'"),
        ((RUN, 0, DATA, -1, None, None), "expected 1 or more"),
        (("zz-broken", 1, DATA, None, None, None), "epoch_2.pth"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(client, bar, message):
    assert message in shown(client, *bar)[2]


@pytest.mark.browser
def test_read_the_matrix_draw_another_variant_and_measure_a_size(page, server):
    page.goto(f"{server}codecs?run={RUN}&data={DATA}&limit=0")
    page.locator("[data-testid=codec-verdict]").wait_for(timeout=PATIENCE)
    page.locator("#cod-matrix .js-plotly-plot").wait_for(timeout=PATIENCE)
    page.locator("#cod-arrows .js-plotly-plot").wait_for(timeout=PATIENCE)
    assert "argmax, no flip" in page.locator("#cod-matrix-line").text_content()
    page.get_by_label("arrows to").click()
    page.get_by_role("option", name="quarter, no flip", exact=True).click()
    page.wait_for_url("**against=quarter**")
    page.wait_for_function(
        "document.querySelector('#cod-arrows-line')?.textContent.includes('quarter, no flip against')",
        timeout=PATIENCE,
    )
    page.get_by_label("input, px").fill("48x64")
    page.get_by_label("heatmap, cells").fill("12x16")
    page.locator("#cod-measure").click()
    page.locator("#cod-errors .js-plotly-plot").wait_for(timeout=PATIENCE)
    assert "Encoding and decoding alone" in page.locator("#cod-errors-line").text_content()
    page.reload()
    page.wait_for_function(
        "document.querySelector('#cod-arrows-line')?.textContent.includes('quarter, no flip against')",
        timeout=PATIENCE,
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
