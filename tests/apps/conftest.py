"""A small run and a small data set behind a running app, and a browser to look at it."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.apps.client import SERVED, connected
from tests.apps.console import Console
from tests.waiting import until

HERE = Path(__file__).parent

# Chromium looks for updates and hosts of its own unless told not to; tests count every request.
# Servers on one host are one site, whatever their port: their pages share one process.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--process-per-site",
]  # fmt: skip
EMPTY = "<!doctype html><title>empty</title><link rel=icon href=data:,>"


@pytest.fixture(scope="session")
def painted():
    """The hand-checkable model's module."""
    spec = importlib.util.spec_from_file_location("painted", HERE / "painted.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def root_folder(tmp_path_factory, painted) -> Path:
    """Two runs: one of three epochs that get better, one whose second epoch is no checkpoint."""
    root = tmp_path_factory.mktemp("served") / "root"
    for epoch, shift in ((1, 6), (2, 2), (10, 0)):
        painted.write_checkpoint(root / "painted-run" / f"epoch_{epoch}.pth", epoch, shift)
    painted.write_checkpoint(root / "zz-broken" / "epoch_1.pth", 1, 0)
    (root / "zz-broken" / "epoch_2.pth").write_bytes(b"not a checkpoint at all")
    (root.parent / "secret.pth").write_bytes(b"outside")
    (root / "painted-run" / "leads_out.pth").symlink_to(root.parent / "secret.pth")
    return root


@pytest.fixture(scope="session")
def data_file(tmp_path_factory, painted) -> Path:
    return painted.write_data(tmp_path_factory.mktemp("data"), 6)


@pytest.fixture(scope="session")
def settings(root_folder, data_file, tmp_path_factory):
    from apps.server.settings import Settings

    return Settings(
        root=root_folder, data=(data_file,), port=0, cache=tmp_path_factory.mktemp("cache"),
        adapter=HERE / "painted.py",
    )  # fmt: skip


@pytest.fixture
def context(settings):
    from apps.server.context import Context

    found = Context.of(settings)
    yield found
    found.jobs.close()


@contextlib.contextmanager
def serving(app):
    """Address of any ASGI application, served in a thread."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(5)


@contextlib.contextmanager
def started(settings, *paths):
    """Address and app of the workbench, served in a thread.

    Args:
        settings: of the server.
        paths: of the pages that are used, beside Compare and the checkpoint page; none for all. All of them,
            and a client that reads what each of their handlers takes, cost 2.5 s, one of them 1.1.
    """
    from apps.server import application

    pages = application.all_pages()
    if paths:
        pages = [page for page in pages if page.path in ("", "checkpoint", *paths)]
        assert {page.path for page in pages} >= set(paths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(application, "all_pages", lambda: pages)
        app = application.build(settings)
    with serving(app) as address:
        SERVED[address] = app
        yield address, app


@pytest.fixture(scope="session")
def running(settings):
    """Address and app of the running server."""
    with started(settings) as address_and_app:
        yield address_and_app


@pytest.fixture(scope="session")
def server(running) -> str:
    """Address of the running app."""
    return running[0]


@pytest.fixture(scope="session")
def server_app(running):
    """The running app itself."""
    return running[1]


@pytest.fixture(scope="session")
def client(server):
    return connected(server)


@pytest.fixture(scope="module")
def api(server):
    """A client of its own for each file: its session is not that of the others."""
    return connected(server)


@pytest.fixture(scope="module")
def gradio_app(server_app):
    """The Gradio blocks of the running app."""
    from apps.server.gradio_private import mounted

    return mounted(server_app).get_blocks()


@pytest.fixture(scope="session")
def chromium():
    """A browser; skips with the reason where none can be had."""
    sync_api = pytest.importorskip("playwright.sync_api")
    found = next((p for p in ("chromium", "chromium-browser", "google-chrome") if shutil.which(p)), None)
    if found is None:
        pytest.skip("no chromium on this machine")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which(found), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def browsing(chromium):
    """One browser context for all tests, so that a page uses what the page before it fetched and compiled.

    A context of its own for each test starts a process that compiles Gradio, plotly and the page anew: more
    than half of a test's time. The shared process lives as long as one page of the site is open: the empty
    one here.
    """
    from fastapi import FastAPI
    from fastapi.responses import HTMLResponse

    app = FastAPI()
    app.get("/")(lambda: HTMLResponse(EMPTY))
    with serving(app) as address:
        shared = chromium.new_context(viewport={"width": 1280, "height": 900})
        shared.new_page().goto(address)
        yield shared
        shared.close()


# Playwright's own 30 s are too few where other tests keep all cores busy.
LONGEST_WAIT = 90_000  # ms


@pytest.fixture
def tab(browsing):
    """Open a page: `page = tab(width, height, tolerated)`, pixels.

    A page fails its test when it asks another host, or when an error without one of the tolerated words
    reaches its console. Its storage, cookies and permissions end with the test.
    """
    opened = []

    def open_tab(width=1280, height=900, tolerated=()):
        page = browsing.new_page()
        page.set_viewport_size({"width": width, "height": height})
        page.set_default_timeout(LONGEST_WAIT)
        outside: list[str] = []
        page.on("request", lambda request: outside.append(request.url) if _foreign(request.url) else None)
        opened.append((page, Console(page), outside, tolerated))
        return page

    yield open_tab
    for page, console, *_ in opened:
        console.closing()
        if page.url.startswith("http"):
            page.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
        page.close()
    browsing.clear_cookies()
    browsing.clear_permissions()
    for _, console, outside, tolerated in opened:
        assert not outside
        assert not [text for text in console.errors if not any(word in text for word in tolerated)]


def _foreign(url: str) -> bool:
    return urlsplit(url).hostname not in ("127.0.0.1", None)  # data: and blob: have no host


@pytest.fixture
def page(tab):
    """A page of the height at which Compare fits into the window."""
    return tab(height=800)
