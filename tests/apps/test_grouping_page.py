"""The Grouping page and its handlers: knobs regroup one stored output, and AP on the set follows."""

from __future__ import annotations

import importlib
import importlib.util
import json
import threading
from pathlib import Path

import pytest

from apps.pages.grouping.page import GroupingPage, next_image
from apps.pages.grouping.set_evaluation import SetRequest
from tests.apps.conftest import started
from tests.apps.layout import faults
from tests.waiting import when

PATIENCE = 90_000
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A served run of the model, with a set of two people in every picture."""
    from apps.server.settings import Settings

    spec = importlib.util.spec_from_file_location("crowded", HERE / "crowded.py")
    crowded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(crowded)
    root = tmp_path_factory.mktemp("crowd")
    crowded.write_run(root / "served" / "crowd-run")
    data = crowded.write_data(tmp_path_factory.mktemp("pictures"), 3)
    return Settings(
        root=root / "served", data=(data,), port=0, adapter=HERE / "crowded.py", cache=root / "cache"
    )


@pytest.fixture(scope="module")
def handlers(crowd):
    from apps.server.context import Context

    context = Context.of(crowd)
    yield GroupingPage(context)
    context.jobs.close()


def regroup(handlers, **knobs):
    """Sentence, figure, steps, tags, code, address, wish."""
    from apps.pages.controls import BAR
    from workbench.inspectors.grouping.replay import PictureParams

    knobs = [knobs.get(name) for name in PictureParams.__dataclass_fields__]
    return handlers.regrouped(*[None] * len(BAR), *knobs)[:7]


def card_of(handlers, state_text):
    """The card once AP is there."""
    handlers.begin(state_text, "")
    return when(lambda: handlers.watch(state_text, "")[0], lambda card: 'data-state="ready"' in card)


def figure_in(card, name):
    return card.partition(f'data-testid="set-{name}">')[2].partition("<")[0]


def test_both_people_are_found_and_every_step_is_told(handlers):
    line, figure, steps, tags, code, _, _ = regroup(handlers)
    assert "2 people found, 2 annotated" in line
    assert figure["value"].layout.images
    assert tags["value"].layout.title.text.startswith("Tags separate all 2 people")
    assert steps["value"].count('data-testid="step-') == 17
    compile(code, "code", "exec")
    assert "flip=True" in code


def test_after_some_steps_the_others_are_pale(handlers):
    line, _, steps, *_ = regroup(handlers, step="left_eye")
    assert "After left_eye, step 2 of 17" in line
    assert steps["value"].count("grp-later") == 15
    assert steps["value"].count("grp-now") == 1


def test_a_threshold_between_them_leaves_one_person_and_half_the_recall(handlers):
    card = card_of(handlers, regroup(handlers)[-1])
    assert (figure_in(card, "AP"), figure_in(card, "found"), figure_in(card, "annotated")) == (
        "1.000",
        "6",
        "6",
    )
    line, *_, state_text = regroup(handlers, detection_threshold=0.6)
    assert "1 person found, 2 annotated" in line
    card = card_of(handlers, state_text)
    # Every second person, no mistake: precision 1 up to a recall of a half, which is 51 of 101 points.
    assert (figure_in(card, "AP"), figure_in(card, "found")) == (f"{51 / 101:.3f}", "3")
    assert figure_in(card, "change-AP") == f"{51 / 101 - 1:+.3f}"
    assert "detection threshold 0.6" in card
    assert "all 3 images" in card


def drawn_in(figure):
    """Numbers of the people in the picture."""
    numbers = [trace.text[0] for trace in figure["value"].data if trace.mode == "text"]
    return [int(text.removeprefix("<b>").removesuffix("</b>")) for text in numbers]


def test_one_person_or_those_above_a_score_are_drawn_and_nothing_else_changes(handlers):
    line, figure, steps, *_, state_text = regroup(handlers)
    assert drawn_in(figure) == [1, 2]
    assert "are drawn" not in line
    alone, one, pale, *_, same = regroup(handlers, person="person 2")
    assert drawn_in(one) == [2]
    assert "1 of 2 are drawn" in alone
    assert "2 people found" in alone
    assert (pale["value"].count("grp-other"), steps["value"].count("grp-other")) == (17, 0)
    assert drawn_in(regroup(handlers, least_score=0.7)[1]) == [1]
    assert drawn_in(regroup(handlers, person="person 2", least_score=0.7)[1]) == []
    assert same == state_text, "AP does not depend on who is drawn"
    # The list offers those who were found.
    from apps.pages.controls import BAR
    from workbench.inspectors.grouping.replay import PictureParams

    offered = handlers.regrouped(*[None] * (len(BAR) + len(PictureParams.__dataclass_fields__)))[8]
    assert list(offered["choices"]) == ["everybody", "person 1", "person 2"]


def test_a_number_and_a_colour_mean_one_person_in_both_charts(handlers, monkeypatch):
    import numpy as np

    from workbench.figures.drawing import person_colour
    from workbench.inspectors.grouping import tag_values

    def means(tags):
        return {t.name.partition(":")[0]: t.line.color for t in tags["value"].data if t.mode == "lines"}

    assert means(regroup(handlers)[3]) == {f"person {n}": person_colour(n - 1) for n in (1, 2)}
    # Of those whom the threshold leaves out the annotation stays, as somebody missed.
    left = means(regroup(handlers, detection_threshold=0.6)[3])
    assert left == {"person 1": person_colour(0), "missed 1": tag_values.MISSED_COLOUR}
    # Found in another order than annotated: numbers are those of the picture.
    nearest = tag_values.nearest_people
    monkeypatch.setattr(
        tag_values, "nearest_people", lambda found, true: np.array(nearest(found, true)[::-1])
    )
    assert list(means(regroup(handlers)[3])) == ["person 2", "person 1"]


def test_no_forward_pass_is_made_for_other_knobs(handlers, monkeypatch):
    card_of(handlers, regroup(handlers)[-1])

    def never(*args, **kwargs):
        raise AssertionError("a forward pass")

    monkeypatch.setattr("workbench.core.run.run", never)
    monkeypatch.setattr(importlib.import_module("workbench.evaluation.predict"), "run", never)
    *_, state_text = regroup(handlers, tag_threshold=0.5, nms_kernel=3)
    assert figure_in(card_of(handlers, state_text), "AP") == "1.000"


def test_what_nobody_waits_for_any_more_is_given_up(handlers):
    *_, first = regroup(handlers, top_k=7)
    *_, second = regroup(handlers, top_k=8)
    release = threading.Event()
    handlers.context.jobs.start("in the way", "in the way", lambda job: release.wait(20) and None)
    handlers.begin(first, "")
    handlers.begin(second, first)
    release.set()
    assert handlers.on_sets.job(SetRequest.of_text(first)).state == "cancelled"
    assert figure_in(card_of(handlers, second), "AP") == "1.000"


def test_a_link_brings_the_knobs_back(handlers):
    *_, address, _ = regroup(handlers, detection_threshold=0.6, layout="map 3 (left_ear) for all")
    words = json.loads(address)
    assert (words["k.detection_threshold"], words["k.layout"]) == (0.6, "map 3 (left_ear) for all")
    assert words["k.tag_threshold"] is None


def test_it_walks_from_image_to_image_and_begins_where_there_are_several_people(handlers):
    context = handlers.context
    assert [next_image(context, "crowded.json", s, 1) for s in (0, 1, 4, 5)] == [2, 2, 0, 0]
    assert next_image(context, "crowded.json", 1, -1) == 4
    assert [update["value"] for update in handlers.restored("")[2:4]] == ["crowded.json", 0]


def test_an_even_kernel_is_one_sentence_in_the_place_of_the_answer_before(handlers):
    line, figure, steps, tags, code, _, request = regroup(handlers, nms_kernel=4)
    assert "nms_kernel: expected an odd number of cells up to" in line
    assert [shown["visible"] for shown in (figure, steps, tags)] == [False] * 3
    assert code == request == ""
    assert handlers.watch(request)[0] == ""  # no AP of the rules before either


def test_a_model_without_tags_says_so(context):
    line = regroup(GroupingPage(context))[0]
    assert "Grouping cannot answer here: tags: this model gives heatmaps" in line
    assert "wb-why" in line


@pytest.fixture
def served(crowd):
    with started(crowd) as (where, _):
        yield where


@pytest.mark.long
@pytest.mark.browser
def test_moving_a_slider_changes_people_and_ap(served, tab):
    page = tab()
    page.goto(f"{served}grouping")

    def reads(name, text):
        page.wait_for_function(
            "([name, text]) => document.querySelector(`[data-testid=set-${name}]`)?.textContent === text",
            arg=[name, text],
            timeout=PATIENCE,
        )

    reads("AP", "1.000")
    reads("found", "6")
    page.wait_for_selector("#wb-figure .js-plotly-plot", timeout=PATIENCE)
    page.wait_for_selector("#grp-tags .js-plotly-plot", timeout=PATIENCE)
    slider = page.locator("input[type=range][aria-label='range slider for detection threshold']")
    slider.fill("0.6")
    reads("AP", "0.505")
    reads("found", "3")
    page.wait_for_function(
        "document.querySelector('#wb-answer').textContent.includes('1 person found')", timeout=PATIENCE
    )
    # The figures are those of 0.6 before the slider's last step has been answered.
    page.wait_for_url("**k.detection_threshold=0.6*", timeout=PATIENCE)
    page.reload()
    reads("AP", "0.505")
    page.wait_for_selector("#grp-tags .js-plotly-plot", timeout=PATIENCE)
    assert faults(page) == []
