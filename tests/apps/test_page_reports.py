"""The Report button: on every page, says why there is nothing yet, saves what the page shows as one file."""

from __future__ import annotations

import re

import httpx
import pytest

from apps.server.application import all_pages
from tests.apps.console import Console

PAGES = [page.path for page in all_pages()]
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
    assert (gone.status_code, "no longer kept" in gone.json()["error"]) == (409, True)
    path = asked(server, "overfit", [{"page": "overfit", "section": "overfit", "state": "../../etc/passwd"}])
    assert (path.status_code, "no overfit session" in path.json()["error"]) == (409, True)


@pytest.mark.parametrize(
    ("address", "ready", "name", "figures"),
    [
        (f"codecs?{SUBJECT}&limit=2", "#cod-arrows .js-plotly-plot", "report-codecs.html", 2),
        ("audit", "#wb-audit-figure .js-plotly-plot", "report-audit.html", 1),
        (f"look-overlay?{SUBJECT}", "#wb-figure .js-plotly-plot", "report-look-overlay.html", 1),
        ("?run=painted-run&data=painted.json&epochs=1,10", "#compare", "report-compare.html", 1),
    ],
    ids=["codecs", "audit", "look", "compare"],
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
    assert "SHA-256" in text or name == "report-audit.html"  # the example is no file
    assert re.search(r"page /\S*", text)
    alone = chromium.new_context(offline=True)
    report = alone.new_page()
    errors = Console(report)
    report.goto(file.as_uri())
    report.wait_for_function(f"document.querySelectorAll('.js-plotly-plot .main-svg').length >= {figures}")
    errors.closing()
    alone.close()
    assert not errors.errors
