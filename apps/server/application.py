"""The workbench as one web app: pages over the library, a plain HTTP interface beside them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import socket
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Callable

import fastapi
import gradio as gr
import uvicorn

from apps.compare import page as compare_page
from apps.compare.page import Ahead
from apps.pages import frame, inspectors
from apps.pages.audit import AuditPage
from apps.pages.checkpoint import CheckpointPage
from apps.pages.codecs.page import CodecsPage
from apps.pages.conditioning.page import ConditioningPage
from apps.pages.curves import CurvesPage
from apps.pages.data import DataPage
from apps.pages.diagnose import DiagnosePage
from apps.pages.engine import declared_page
from apps.pages.errors import ErrorsPage
from apps.pages.frame import Page, framed, routes_of
from apps.pages.grouping.page import GroupingPage
from apps.pages.history import HistoryPage
from apps.pages.overfit.page import OverfitPage
from apps.pages.results import ResultsPage
from apps.pages.rollout.page import RolloutPage
from apps.server import api, gradio_private
from apps.server.address_filter import AddressFilter, names
from apps.server.connections import Connection
from apps.server.context import Context
from apps.server.control_values import shown_choices
from apps.server.gradio_private import Blocks, described_once, upload_folder
from apps.server.gradio_version import check_version
from apps.server.guard import Guard
from apps.server.queue_bounds import MOST_WAITING
from apps.server.settings import Settings
from workbench.cli import MISTAKES

# Read by Gradio while it is imported: it counts starts and looks for updates unless told not to.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


TITLE = "Pose workbench"

HTTP_ROUTE = "http"

# At the end of the server jobs have this long to remove their files; below serving.GRACE_SECONDS.
LAST_SECONDS = 1.0


def all_pages() -> list[Page]:
    """Every page in the order of a debugging day; adding one is a line here."""
    return [
        declared_page(DiagnosePage),
        declared_page(CheckpointPage),
        *inspectors.pages(),
        *inspectors.pages("Attribution"),
        Page("", "Compare", "What changed between these epochs, and on which samples?", compare_page.build,
             address=compare_page.ADDRESS),
        declared_page(HistoryPage),
        declared_page(ResultsPage),
        declared_page(CurvesPage),
        declared_page(ErrorsPage),
        declared_page(GroupingPage),
        *inspectors.pages("Grouping"),
        declared_page(ConditioningPage),
        *inspectors.pages("Conditioning"),
        declared_page(RolloutPage),
        *inspectors.pages("Rollout"),
        declared_page(CodecsPage),
        declared_page(OverfitPage),
        declared_page(AuditPage),
        declared_page(DataPage),
    ]  # fmt: skip


def blocks(context: Context) -> gr.Blocks:
    """All pages as one Gradio app."""
    pages = all_pages()
    context.titles.update({page.path: (page.title, page.question) for page in pages})
    note = str(context.settings.root.resolve())
    # Uploads and whatever else Gradio keeps for a session go after an hour.
    gradio_private.upload_folder()  # before any component is built: each reads it then
    app = Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 3600), fill_width=True)
    with described_once():
        for route, served in routes_of(pages).items():
            opened = app.route(served[0].title, route, show_in_navbar=False) if route else app
            with opened, framed(pages, served, note):
                served[0].build(context)
        # What only HTTP clients call stands on a route of its own, which no address leads to: the pages
        # would carry its description.
        with app.route("HTTP", HTTP_ROUTE, show_in_navbar=False):
            inspectors.publish(context)
        app.queue(default_concurrency_limit=4, max_size=MOST_WAITING)
    for block in app.blocks.values():
        if isinstance(block, (gr.Dropdown, gr.Radio, gr.CheckboxGroup)):
            block.choices = shown_choices({"choices": block.choices})["choices"]
    gradio_private.publish(app, names())
    return app


def build(settings: Settings) -> fastapi.FastAPI:
    """The whole server: API, pages, guard."""
    check_version()
    context = Context.of(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=_warm, args=(context,), daemon=True, name="warming").start()
        yield
        context.jobs.close()
        context.registry.close()
        context.jobs.wait(LAST_SECONDS)
        gradio_private.close(app)

    # No generated documentation pages: they load scripts from outside.
    server = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    server.state.context = context
    api.install(server, context)
    app, pages = blocks(context), all_pages()
    with warnings.catch_warnings():
        # Gradio warns of server-side rendering with several pages even where that is switched off.
        warnings.filterwarnings("ignore", message="SSR mode is not supported")
        gr.mount_gradio_app(
            server, app, path="/", server_name=settings.host, server_port=settings.port, footer_links=[],
            run_history=False, allowed_paths=[], show_error=True, max_file_size="64mb", ssr_mode=False,
            enable_monitoring=False, pwa=False, mcp_server=False, theme=frame.theme(), css=frame.css(),
            head=frame.head(pages),
            favicon_path=str(frame.STATIC / "favicon.svg"),
        )  # fmt: skip
    gradio_private.finish(app, gradio_private.mounted(server))
    gradio_private.name_routes(app, {page.path: page.route for page in pages})
    server.add_middleware(Ahead)
    server.add_middleware(AddressFilter, pages=[(page.path, page.title, page.route) for page in pages])
    server.add_middleware(Guard, settings=settings)
    return server


def _warm(context: Context) -> None:
    """Open the default run's last epoch before anybody asks: importing its libraries takes seconds."""
    for run in context.registry.runs():
        context.registry.described(run)
    with contextlib.suppress(*MISTAKES):  # the page that shows this run says what is wrong with it
        run = context.registry.default_run()
        context.registry.model(run.id, run.epochs[-1].index)


# Serve the app until it is stopped.


# Ports tried after the one asked for: another workbench may run already.
PORTS_TRIED = 20

GRACE_SECONDS = 5.0
"""After a signal, answers under way, open streams and jobs have so long to end; then the process ends."""

# Of these, so long for answers and streams.
_ANSWERS_SECONDS = 2


def bound(settings: Settings) -> socket.socket:
    """A socket that listens on the host and the port asked for, or on the next free one.

    It listens from here on: two servers may bind one port, and the second to listen would fail later, with a
    traceback, once everything else was read. Until the server answers, browsers wait.

    Raises:
        OSError: none of them is free, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    for port in range(settings.port, settings.port + (PORTS_TRIED if settings.port else 1)):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host.strip("[]"), port))
            listener.listen()
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise OSError(f"cannot listen on {settings.host}:{port}: {error.strerror}") from error
            continue
        except OverflowError:  # beyond 65535
            listener.close()
            break
        return listener
    raise OSError(
        f"ports {settings.port} to {settings.port + PORTS_TRIED - 1} are all taken; give another --port"
    )


def address(listener: socket.socket) -> str:
    """Where a browser finds a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class _Server(uvicorn.Server):
    """uvicorn's server; says when it answers, and ends in any case once it was told to."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, then say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: object) -> None:
        """Begin to stop; `GRACE_SECONDS` later the process ends, whatever still runs."""
        timer = threading.Timer(GRACE_SECONDS, _end, (128 + sig,))
        timer.daemon = True
        timer.start()
        super().handle_exit(sig, frame)  # type: ignore[arg-type]


def _end(code: int) -> None:
    """End the process at once, threads of jobs among them; uploads are removed first."""
    shutil.rmtree(upload_folder(), ignore_errors=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve(settings: Settings, listener: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until interrupted (SIGINT) or terminated (SIGTERM).

    Args:
        settings: what is served.
        listener: a bound socket.
        ready: called once the server answers.
    """
    own = threading.current_thread() is threading.main_thread()
    if own and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        # uvicorn raises the signal again once it has stopped; SIGTERM would then skip the cleaning up.
        signal.signal(signal.SIGTERM, _terminated)
    config = uvicorn.Config(
        build(settings), log_level="warning", timeout_graceful_shutdown=_ANSWERS_SECONDS, http=Connection,
        ws="none",
    )  # fmt: skip
    try:
        _Server(config, ready).run(sockets=[listener])
    finally:
        if own:  # the command line's end skips what is registered for the end of a process
            shutil.rmtree(upload_folder(), ignore_errors=True)


def _terminated(number: int, _: object) -> None:
    _end(128 + number)
