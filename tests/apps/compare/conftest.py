"""The stand-in server and the way to visit its page; the browser is that of all app tests."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.apps.compare import double
from tests.apps.console import Console


@pytest.fixture
def server():
    made = double.Double()
    with double.serving(made) as address:
        made.address = address
        yield made


@pytest.fixture
def visit(chromium, server):
    """Open the page: `page = visit("?run=heats")`; no error may come, nothing leave this machine."""
    pages, consoles, elsewhere = [], [], []

    def open_page(query="", wait=True, **settings):
        context = chromium.new_context(viewport={"width": 1280, "height": 800}, **settings)
        page = context.new_page()
        consoles.append(Console(page))
        page.on("request", lambda r: elsewhere.append(r.url) if _foreign(r.url) else None)
        page.goto(server.address + query)
        if wait:
            page.get_by_test_id("sample").first.wait_for()
            page.wait_for_function("document.querySelectorAll('.cmp-pane.loading').length === 0")
        pages.append(context)
        return page

    yield open_page
    for console, context in zip(consoles, pages, strict=True):
        console.closing()
        context.close()
    assert not elsewhere
    # The stand-in answers 409 to what its tests make it refuse.
    assert not [text for console in consoles for text in console.errors if "409" not in text]


def _foreign(url: str) -> bool:
    return urlsplit(url).hostname not in ("127.0.0.1", None)  # data: and blob: have no host
