"""The workbench as one web app: pages over the library, a plain HTTP interface beside them."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import AsyncIterator

# Read by Gradio while it is imported: it counts starts and looks for updates unless told not to.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import fastapi
import gradio as gr

from apps import overfit_page
from apps.compare import page as compare_page
from apps.compare.page import Ahead
from apps.pages import checkpoint, frame, inspectors
from apps.pages.conditioning.page import ConditioningPage
from apps.pages.engine import lab_page
from apps.pages.frame import Page, framed
from apps.pages.grouping import page as grouping_page
from apps.pages.rollout.page import RolloutPage
from apps.server import api, gradio_private
from apps.server.address_filter import AddressFilter, names
from apps.server.context import Context
from apps.server.gradio_private import Blocks, described_once
from apps.server.guard import Guard
from apps.server.settings import Settings
from workbench.cli import MISTAKES

TITLE = "Pose workbench"

# At the end of the server jobs have this long to remove their files; below serving.GRACE_SECONDS.
LAST_SECONDS = 1.0


def all_pages() -> list[Page]:
    """Every page in the order of a debugging day; adding one is a line here."""
    return [
        checkpoint.page(),
        *inspectors.pages(),
        Page("", "Compare", "What changed between these epochs, and on which samples?", compare_page.build),
        grouping_page.page(),
        *inspectors.pages("Grouping"),
        lab_page(ConditioningPage),
        *inspectors.pages("Conditioning"),
        lab_page(RolloutPage),
        *inspectors.pages("Rollout"),
        overfit_page.page(),
    ]  # fmt: skip


def blocks(context: Context) -> gr.Blocks:
    """All pages as one Gradio app."""
    pages = all_pages()
    note = str(context.settings.root)
    # Uploads and whatever else Gradio keeps for a session go after an hour.
    gradio_private.upload_folder()  # before any component is built: each reads it then
    app = Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 3600), fill_width=True)
    front = next(page for page in pages if not page.path)
    with described_once():
        with app, framed(pages, front, note):
            front.build(context)
        for page in pages:
            if page.path:
                with app.route(page.title, page.path, show_in_navbar=False), framed(pages, page, note):
                    page.build(context)
        app.queue(default_concurrency_limit=4)
    gradio_private.publish(app, names())
    return app


def build(settings: Settings) -> fastapi.FastAPI:
    """The whole server: API, pages, guard."""
    gradio_private.check_version()
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
            head=frame.head({page.path: page.title for page in pages}),
            favicon_path=str(frame.STATIC / "favicon.svg"),
        )  # fmt: skip
    gradio_private.finish(app, gradio_private.mounted(server))
    server.add_middleware(Ahead)
    server.add_middleware(AddressFilter, pages=[(page.path, page.title) for page in pages])
    server.add_middleware(Guard, settings=settings)
    return server


def _warm(context: Context) -> None:
    """Open the default run's last epoch before anybody asks: importing its libraries takes seconds."""
    for run in context.registry.runs():
        context.registry.described(run)
    with contextlib.suppress(*MISTAKES):  # the page that shows this run says what is wrong with it
        run = context.registry.default_run()
        context.registry.model(run.id, run.epochs[-1].index)
