"""The stand-in server and the way to visit its page; the browser is that of all app tests."""

from __future__ import annotations

import pytest

from tests.apps.compare import double
from tests.apps.conftest import serving


@pytest.fixture(scope="session")
def stage():
    """Address of the server, and the application whose stand-in each test replaces."""
    made = double.Stage()
    with serving(made) as address:
        yield address, made


@pytest.fixture
def server(stage):
    """A stand-in without requests and with its switches as they are at first."""
    address, application = stage
    application.double = double.Double()
    application.double.address = address
    return application.double


@pytest.fixture
def visit(tab, server):
    """Open the page: `page = visit("?run=heats")`; no error may come, nothing leave this machine."""

    def open_page(query="", wait=True, theme=None):
        page = tab(
            height=800, tolerated=("400", "409")
        )  # what the stand-in answers when a test makes it refuse
        if theme:
            page.emulate_media(color_scheme=theme)
        page.goto(server.address + query)
        if wait:
            page.get_by_test_id("sample").first.wait_for()
            page.wait_for_function("document.querySelectorAll('.cmp-pane.loading').length === 0")
        return page

    return open_page
