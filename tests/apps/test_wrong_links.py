"""A link that names what is not there: that is said, and nothing takes its place in silence."""

from __future__ import annotations

import dataclasses
import json

import pytest

from apps.pages.controls import checked, choice_names, hints_of
from apps.pages.engine import DeclaredPage, LabPage, QuestionPage
from apps.pages.errors import ErrorsOfResult
from apps.pages.inspectors import answer, restored
from apps.pages.subject import SUBJECT
from tests.apps.layout import covered
from tests.waiting import when
from workbench.cli import MISTAKES
from workbench.inspectors import ALL, get

ABSENT = "no such thing"


def kinds(base=DeclaredPage):
    for kind in base.__subclasses__():
        yield from kinds(kind)
        if getattr(kind, "address", ()):
            yield kind


@pytest.fixture
def warned(monkeypatch):
    """Texts of the warnings, which all stay until they are closed."""
    found = []

    def warning(text, duration=10):
        assert duration is None, f"this one closes by itself: {text}"
        found.append(text)

    monkeypatch.setattr("gradio.Warning", warning)
    return found


def shown_for(page, handler, words):
    """What a page makes of a link's words: its answer, or the mistake that it says."""
    if not isinstance(page, LabPage):
        return handler(json.dumps(words))
    try:
        values = page.values_from_address(words)
        return [values, page.state_from(values)]
    except MISTAKES as mistake:
        return str(mistake)


def test_every_word_of_every_address_is_kept_or_said(gradio_app, warned):
    handlers = {fn.api_name: fn.fn for fn in gradio_app.fns.values()}
    silent, asked = [], set()
    for kind in dict.fromkeys(kinds()):
        name = getattr(kind, "chosen_name", "") or f"{kind.path}_restored"
        # Methods of the page, some behind the wrapper that makes one sentence of their mistakes.
        handler = handlers[name]
        page = getattr(handler, "__self__", None)
        if kind.path == "history":  # no predictions are served here; see test_history_page.py
            continue
        asked.add(kind.path)
        for place, word in enumerate(kind.address):
            words = [ABSENT if n == place else None for n in range(len(kind.address))]
            warned.clear()
            if ABSENT not in str(shown_for(page, handler, words)) and not any(ABSENT in w for w in warned):
                silent.append(f"{kind.path}?{word}=")
    assert silent == []
    assert {k.path for k in kinds(QuestionPage)} - {"history"} <= asked
    assert len(asked) >= 11


@pytest.mark.parametrize("name", ALL)
def test_every_control_of_an_inspector_says_a_word_that_it_cannot_have(context, warned, name):
    fields = [f.name for f in dataclasses.fields(get(name).params)]
    free = {field for field, hint in hints_of(get(name).params).items() if hint is str}
    for place, field in enumerate(fields):
        words: list[str | None] = [None] * (len(SUBJECT) + len(fields))
        words[len(SUBJECT) + place] = ABSENT
        warned.clear()
        back = restored(context, get(name), json.dumps(words))
        if field in choice_names(get(name).params) or field in free:  # judged with the model, in the answer
            assert ABSENT in str(back)
        else:
            assert ABSENT in warned[0]


def test_a_choice_that_the_model_does_not_offer_is_said_beside_what_is_shown(context):
    params = get("overlay").params
    (place,) = (n for n, f in enumerate(dataclasses.fields(params)) if f.name == "heatmap")
    asked: list = ["painted-run", *[None] * 9, *[None] * len(dataclasses.fields(params))]
    assert "is not offered here" not in answer(context, get("overlay"), *asked)[0]
    asked[10 + place] = ABSENT
    sentence = answer(context, get("overlay"), *asked)[0]
    assert "heatmap &#x27;no such thing&#x27; is not offered here" in sentence


def test_a_model_that_logs_nothing_is_not_said_to_agree_with_its_log():
    from apps.pages.rollout.page import _claims
    from workbench.inspectors.sequence.coordinates import Claim, Coordinates

    agreed = Claim("distance", "px", 0.0, 0.0, True, "")
    assert _claims(Coordinates((agreed,), logs=False)) == "agree; loss and metric not compared"
    assert _claims(Coordinates((), logs=False)) == "not compared"
    assert _claims(Coordinates((agreed,))) == "agree"


@pytest.mark.parametrize(
    ("hint", "word", "wanted"),
    [
        (bool, "on", True),
        (bool, "False", False),
        (bool, False, False),
        (bool, "2", None),
        (int, "1e999", None),
    ],
)
def test_a_switch_is_true_or_false_and_a_number_finite(hint, word, wanted):
    if wanted is not None:
        assert checked("knob", hint, word) is wanted
        return
    with pytest.raises(ValueError, match=f"knob: expected .*, got '{word}'"):
        checked("knob", hint, word)


def test_errors_say_which_keypoint_and_slice_they_do_not_have(context):
    section = ErrorsOfResult(context, [], [])
    asked = ["painted-run", "10", "painted.json", "published", "", "miss"]
    section.start(*asked[:5])
    found = when(lambda: section.result(*asked[:5]), bool)
    *_, cards = section.below(found, *asked, ABSENT, "size: none")
    assert "not among these errors: no such thing, size: none" in cards
    *_, cards = section.below(found, *asked, "nose", "all instances")
    assert "not among" not in cards


def test_a_message_covers_nothing_that_is_operated(tab, server):
    page = tab(1280, 720)
    page.goto(f"{server}errors?epoch=99")
    page.wait_for_selector(".toast-body")
    page.wait_for_function("() => getComputedStyle(document.querySelector('.toast-body')).opacity === '1'")
    assert covered(page, ".toast-body") == []
    # Scrolled away, it still stands where it is seen.
    page.set_viewport_size({"width": 1280, "height": 300})
    page.evaluate("() => scrollTo(0, 200)")
    assert page.evaluate("() => scrollY") > 100
    top = page.evaluate("() => document.querySelector('.toast-body').getBoundingClientRect().top")
    assert 0 <= top < 60


@pytest.mark.parametrize("wrong", range(4))
def test_one_wrong_word_of_a_link_is_left_out_and_the_others_kept(context, warned, wrong):
    good = ["painted-run", "2", "painted.json", "000002/102"]
    fields = dataclasses.fields(get("overlay").params)
    knobs = ["crop" if field.name == "view" else None for field in fields]
    right = restored(context, get("overlay"), json.dumps([*good, None, None, *knobs]))
    assert warned == []
    words = [ABSENT if place == wrong else word for place, word in enumerate(good)]
    back = restored(context, get("overlay"), json.dumps([*words, None, None, *knobs]))
    assert len(warned) == 1
    assert ABSENT in warned[0]
    # Another run, epoch or set may offer other things; what was asked for beside it is as before.
    kept = [place for place in (*range(4), 5) if place != wrong]
    assert [right[place].get("value") for place in kept] == [back[place].get("value") for place in kept]


def test_names_that_a_page_does_not_read_are_said_once_and_others_not(tab, server):
    page = tab(1280, 720)
    for path in ("", "errors", "look-overlay", "overfit"):
        page.goto(f"{server}{path}?run=painted-run&epochs=2,10&decoder=&bogus=1&colour={'x' * 200}")
        note = page.wait_for_selector(".wb-link-note")
        assert "The address names bogus, colour, which this page does not know: ignored." in note.inner_text()
        page.click(".wb-link-note button")
        assert page.locator(".wb-link-note").count() == 0
        page.goto(f"{server}{path}?run=painted-run&epoch=2")
        page.wait_for_function("() => location.search.length > 0 && document.querySelector('.wb-head')")
        page.wait_for_timeout(300)
        page.reload()  # with what the page itself has written into the address by now
        page.wait_for_selector(".wb-head")
        page.wait_for_timeout(300)
        assert page.locator(".wb-link-note").count() == 0, page.url


def test_compare_shows_a_run_whose_link_names_a_decoder_of_another_output(tab, server):
    page = tab(1280, 720, tolerated=("404", "409"))  # refused with the decoder; then not computed yet
    page.goto(f"{server}?run=painted-run&data=painted.json&decoder=simcc")
    said = page.wait_for_selector("[data-testid=error]").inner_text()
    assert "argmax" in said
    assert said.endswith("; shown as the model is read by itself.")
