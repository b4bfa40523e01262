"""The Grouping page over HTTP and in a real Chromium: knobs regroup one stored output, AP follows."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path

import gradio_client
import pytest

from tests.apps.conftest import started
from tests.apps.console import Console

PATIENCE = 60_000
HERE = Path(__file__).parent
BAR = dict.fromkeys(("run", "epoch", "data", "sample", "decoder", "image", "x0", "y0", "x1", "y1"))


@pytest.fixture(scope="module")
def crowded():
    spec = importlib.util.spec_from_file_location("crowded", HERE / "crowded.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def served(tmp_path_factory, crowded):
    """Address and app of a server over one run of the model with two people in every picture."""
    from apps.settings import Settings

    root = tmp_path_factory.mktemp("crowd")
    crowded.write_run(root / "served" / "crowd-run")
    data = crowded.write_data(tmp_path_factory.mktemp("pictures"), 3)
    where, app, stop = started(
        Settings(
            root=root / "served", data=(data,), port=0, adapter=HERE / "crowded.py", cache=root / "cache"
        )
    )
    yield where, app
    stop()


@pytest.fixture(scope="module")
def api(served):
    return gradio_client.Client(served[0], verbose=False)


def regroup(api, **knobs):
    """Sentence, figure, steps, tags, code, address, wish."""
    return api.predict(**BAR, **knobs, api_name="/grouping")[:7]


def card_of(api, wish):
    """The card once AP is there."""
    api.predict(wish, "", api_name="/grouping_ask")
    end = time.monotonic() + 60
    while 'data-state="ready"' not in (card := api.predict(wish, "", api_name="/grouping_watch")[0]):
        assert time.monotonic() < end, card
        time.sleep(0.1)
    return card


def told(card, name):
    return card.partition(f'data-testid="set-{name}">')[2].partition("<")[0]


def value(update):
    return update["value"] if isinstance(update, dict) and "value" in update else update


class TestOverHttp:
    def test_both_people_are_found_and_every_step_is_told(self, api):
        line, figure, steps, tags, code, _, _ = regroup(api)
        assert "2 people found, 2 annotated" in line
        assert value(figure)["type"] == value(tags)["type"] == "plotly"
        assert value(steps).count("data-testid=") == 17
        assert 'data-testid="step-17"' in value(steps)
        compile(code, "code", "exec")
        assert "flip=True" in code

    def test_a_threshold_between_them_leaves_one_person_and_half_the_recall(self, api):
        *_, wish = regroup(api)
        card = card_of(api, wish)
        assert (told(card, "AP"), told(card, "found"), told(card, "annotated")) == ("1.000", "6", "6")
        line, *_, wish = regroup(api, detection_threshold=0.6)
        assert "1 person found, 2 annotated" in line
        card = card_of(api, wish)
        # Every second person, no mistake: precision 1 up to a recall of a half, which is 51 of 101 points.
        assert (told(card, "AP"), told(card, "found")) == (f"{51 / 101:.3f}", "3")
        assert told(card, "change-AP") == f"{51 / 101 - 1:+.3f}"
        assert "detection threshold 0.6" in card

    def test_no_forward_pass_is_made_for_another_knob(self, api, served, monkeypatch):
        import workbench.run

        context = served[1].state.context
        *_, wish = regroup(api)
        card_of(api, wish)

        def never(*args, **kwargs):
            raise AssertionError("a forward pass")

        monkeypatch.setattr(workbench.run, "run", never)
        monkeypatch.setattr("workbench.evaluation.people.run", never)
        _, *_, wish = regroup(api, tag_threshold=0.5, nms_kernel=3)
        assert told(card_of(api, wish), "AP") == "1.000"
        assert context.jobs.latest(f"grouping {wish}").state == "done"

    def test_a_link_brings_the_knobs_back(self, api):
        *_, address, _ = regroup(api, detection_threshold=0.6, layout="map 3 (left_ear) for all")
        words = json.loads(address)
        assert (words["k.detection_threshold"], words["k.layout"]) == (0.6, "map 3 (left_ear) for all")
        assert words["k.tag_threshold"] is None

    def test_an_even_kernel_is_one_sentence(self, api):
        with pytest.raises(gradio_client.exceptions.AppError, match="odd number of cells"):
            regroup(api, nms_kernel=4)

    def test_a_model_without_tags_says_so(self, client):
        line = client.predict(**BAR, api_name="/grouping")[0]
        assert "Grouping cannot answer here: tags: this model gives heatmaps" in line
        assert "wb-why" in line


@pytest.mark.browser
def test_moving_a_slider_changes_people_and_ap(served, chromium):
    opened = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = opened.new_page()
    console = Console(page)
    page.goto(f"{served[0]}grouping")

    def reads(name, text):
        page.wait_for_function(
            "([name, text]) => document.querySelector(`[data-testid=set-${name}]`)?.textContent === text",
            arg=[name, text],
            timeout=PATIENCE,
        )

    reads("AP", "1.000")
    reads("found", "6")
    page.wait_for_selector("#wb-figure .js-plotly-plot .layer-above", timeout=PATIENCE)
    page.wait_for_selector("#grp-tags .js-plotly-plot", timeout=PATIENCE)
    slider = page.locator("input[type=range][aria-label='range slider for detection threshold']")
    slider.focus()
    for _ in range(50):
        page.keyboard.press("ArrowRight")
    reads("AP", "0.505")
    reads("found", "3")
    page.wait_for_function(
        "document.querySelector('#wb-answer').textContent.includes('1 person found')", timeout=PATIENCE
    )
    assert "k.detection_threshold=0.6" in page.url
    page.reload()
    reads("AP", "0.505")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    console.closing()
    opened.close()
    assert not console.errors
