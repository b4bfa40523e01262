"""The Report button: on every page, says why there is nothing yet, saves what the page shows as one file."""

from __future__ import annotations

import html
import json
import re

import gradio_client
import httpx
import pytest

from apps.server.application import all_pages
from apps.server.settings import Settings
from tests.apps.client import ITEM, connected
from tests.apps.conftest import started
from tests.apps.console import Console
from tests.waiting import when
from workbench.checkpoints.demo import root

pytestmark = pytest.mark.long

PAGES = [page.path for page in all_pages()]
SUBJECT_VALUES = ("painted-run", 2, "painted.json", 0, "")
# What the handler before gave: first, or as the state of a page with several sections.
GIVEN, STATE = object(), object()
SUBJECT = "run=painted-run&epoch=1&data=painted.json"


def asked(server, page, items=()):
    return httpx.post(f"{server}workbench/api/report", json={"page": page, "items": list(items)}, timeout=60)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_the_button_and_says_when_there_is_nothing_yet(server, path):
    from apps.pages.frame import header

    page = next(one for one in all_pages() if one.path == path)
    assert "data-report" in header(page, one_of_several=False)
    answer = asked(server, path)
    assert answer.status_code == 409
    assert answer.json()["error"] == (
        f"{page.title}: there is nothing to report yet: this page shows no finished answer"
    )


def test_what_is_no_page_and_no_answer_is_one_sentence(server):
    assert asked(server, "nowhere").json()["error"] == "no page 'nowhere'"
    gone = asked(server, "audit", [{"page": "audit", "section": "audit", "state": "gone"}])
    assert (gone.status_code, "no longer stored" in gone.json()["error"]) == (409, True)
    path = asked(server, "overfit", [{"page": "overfit", "section": "overfit", "state": "../../etc/passwd"}])
    assert (path.status_code, "no overfit session" in path.json()["error"]) == (409, True)


@pytest.fixture
def uploads(tmp_path, data_file):
    """Two result files of the painted people: 3 pixels off, and where they are."""
    files = []
    for name, off in (("off", 3.0), ("exact", 0.0)):
        results = [
            {
                "image_id": one["image_id"], "category_id": 1, "score": 0.9,
                "keypoints": [v + off if i % 3 < 2 else 0.9 for i, v in enumerate(one["keypoints"])],
            }
            for one in json.loads(data_file.read_text())["annotations"]
        ]  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(results))
        files.append(gradio_client.handle_file(tmp_path / f"{name}.json"))
    return files


CHECKPOINT = "painted-run/epoch_2.pth"
LOG = "epoch AP loss\n" + "".join(f"{e} {0.1 * e:g} {2 / e:g}\n" for e in range(1, 9))
PERSON = ("miss", "any keypoint", "all instances", "")


def questions(files):
    """Of each page that answers for the painted run: its handlers in turn with their values, and its command.

    A handler's None takes what the handler before it gave first.
    """
    results = ("painted.json", *files)
    demo = {"family": "demo", "data": "scenes-val", "sample": 0, "steps": 2, "learning_rate": 1e-3}
    return {
        "errors": (
            [("/errors", ("painted-run", "1", "painted.json", "published", None, *PERSON))],
            "errors(",
        ),
        "curves": ([("/curves", ([], [], None, LOG, ""))], "read_runs("),
        "data": ([("/data_lint", ("painted.json", None, ""))], "lint("),
        "audit": ([("/audit", ("example", "", None, None, "", ""))], "audit"),
        "results": ([("/results_start", results), ("/results_watch", results)], "workbench compare "),
        "checkpoint": ([("/checkpoint_load", (CHECKPOINT, False))], "open_model("),
        "diagnose": (
            [
                ("/diagnose", (None, "painted-run", "no data set", "", "", "files", "", "")),
                ("/diagnose_watch", (GIVEN,)),
            ],
            "diagnose(",
        ),
        "overfit": (
            [("/overfit_start", demo), ("/overfit_watch", (GIVEN, "furthest off", ""))],
            "workbench overfit",
        ),
        "look-overlay": ([("/overlay", (*SUBJECT_VALUES, *[None] * 5))], "overlay.compute("),
        "codecs": (
            [
                ("/codecs", ("painted-run", None, "painted.json", 2, "no", None)),
                ("/codecs_watch", (STATE, "")),
            ],
            "codec_matrix(",
        ),
    }


def reported(server, client, page, calls, words_of_answer=""):
    """The report of what the handlers gave in turn, once the last of them has an answer with these words."""
    given, state, items = "", "", []
    for name, values in calls:
        known = {id(GIVEN): given, id(STATE): state}
        words = values if isinstance(values, dict) else [known.get(id(one), one) for one in values]

        def ask(name=name, words=words):
            return (
                client.predict(**words, api_name=name)
                if isinstance(words, dict)
                else client.predict(*words, api_name=name)
            )

        last = name == calls[-1][0]

        def answered(seen, last=last):
            return not last or (re.search(ITEM, str(seen)) and words_of_answer in str(seen))

        found = when(ask, answered, 120)
        given = found[0] if isinstance(found, (list, tuple)) else found
        state = found[-5] if isinstance(found, (list, tuple)) and len(found) > 5 else ""
        items = [m.groupdict() for m in re.finditer(ITEM, str(found))]
    items = [{name: html.unescape(text) for name, text in one.items()} for one in items]
    return asked(server, page, items)


def lacks_of(answer, command, page):
    return missing_in(answer.text, command, page) if answer.status_code == 200 else answer.text


def test_the_report_of_errors_shows_samples_of_the_errors_that_cost_most(server, client, uploads):
    """Pictures of them, and a note on the page without these."""
    calls, _ = questions(uploads)["errors"]
    text = reported(server, client, "errors", calls, "judged keypoints").text
    shown = text.split("Samples with the errors that cost most AP")[1]
    first, count = re.search(r"<h3>(\w+)[\w ]*: (\d+) instances?", shown).groups()
    assert f"{first} costs most" in text
    assert 1 <= shown.count('src="data:image/jpeg;base64,') <= 12
    assert int(count) <= 6


def test_the_report_of_every_page_with_a_real_answer_is_whole(server, client, uploads):
    lacking = {
        page: lacks_of(reported(server, client, page, calls), command, page)
        for page, (calls, command) in questions(uploads).items()
    }
    assert not {page: lacks for page, lacks in lacking.items() if lacks}


@pytest.mark.long
def test_the_reports_of_pages_for_other_kinds_of_models_are_whole(tmp_path):
    """Of the built-in checkpoints: an autoregressive one, one with text, one that groups people."""
    settings = Settings(root=root(), port=0, cache=tmp_path, limit=2)
    people = {"run": "higherhrnet-demo", "data": "scenes-people-val"}
    with started(settings) as (address, _):
        client = connected(address)
        watched = {
            page: reported(
                address, client, page, [(f"/{page}", words), (f"/{page}_watch", (STATE, ""))], answer
            )
            for page, words, answer in (
                ("rollout", {"run": "cape-demo"}, "PCK"),
                ("conditioning", {"run": "rtmpose-text-fusion", "limit": 4}, "clinic-verdict"),
            )
        }
        assert lacks_of(watched["rollout"], "forced_and_free", "rollout") == []
        assert lacks_of(watched["conditioning"], "rtmpose-text-fusion", "conditioning") == []
        assert "neck skipped in predict" in watched["conditioning"].text
        before = reported(address, client, "grouping", [("/grouping", people)])
        assert lacks_of(before, "grouping_steps.compute(", "grouping") == []
        request = client.predict(**people, api_name="/grouping")[6]
        client.predict(request, "", api_name="/grouping_ask")
        when(
            lambda: client.predict(request, "", api_name="/grouping_watch")[0],
            lambda card: '"ready"' in card,
            200,
        )
        after = reported(address, client, "grouping", [("/grouping", people)])
        assert "On the set" in after.text
        assert "images of scenes-people-val" in after.text


def missing_in(text, command, page):
    """What a report lacks of what every report has."""
    claims = {
        "two million bytes at most": len(text.encode()) < 2_000_000,
        "the command": command in html.unescape(text) and "workbench app " in text,
        # What was pasted, and the example, are no files.
        "hashes": page in ("curves", "audit", "overfit") or "SHA-256" in text,
        "no section without content": re.search(r"<h([123])[^>]*>[^<]*</h\1>\s*(<h[12]|</body)", text)
        is None,
        "nothing left out": "Left out:" not in text,
        "versions": "torch " in text,
    }
    return [claim for claim, holds in claims.items() if not holds]


@pytest.mark.parametrize(
    ("address", "ready", "name", "figures"),
    [
        (f"codecs?{SUBJECT}&limit=2", "#cod-arrows .js-plotly-plot", "report-codecs.html", 2),
        ("?run=painted-run&data=painted.json&epochs=1,10", "#compare", "report-compare.html", 1),
    ],
    ids=["codecs", "compare"],
)
def test_the_file_holds_the_figures_of_the_page_and_needs_no_network(
    server, tab, chromium, tmp_path, address, ready, name, figures
):
    page = tab()
    page.goto(server + address, wait_until="domcontentloaded")
    page.wait_for_selector(ready, timeout=90_000)
    if "epochs=" in address:
        page.wait_for_selector("#compare:not(.waiting):not(.empty)", timeout=90_000)
        page.wait_for_function("location.search.includes('sample=')", timeout=60_000)
    with page.expect_download(timeout=60_000) as saving:
        page.locator(".wb-report-button:visible").click()
    assert saving.value.suggested_filename == name
    file = tmp_path / name
    saving.value.save_as(file)
    text = file.read_text(encoding="utf-8")
    assert len(text.encode()) <= 2_000_000
    assert text.count('id="plotly"') == 1
    assert text.count("data-figure=") == figures
    assert "SHA-256" in text
    assert re.search(r"page /\S*", text)
    alone = chromium.new_context(offline=True)
    report = alone.new_page()
    errors = Console(report)
    report.goto(file.as_uri())
    report.wait_for_function(f"document.querySelectorAll('.js-plotly-plot .main-svg').length >= {figures}")
    errors.closing()
    alone.close()
    assert not errors.errors
