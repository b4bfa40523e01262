"""Everything that this project changes in Gradio; written for and tested with Gradio 6.31.

Mounting an app (`mount_gradio_app`) leaves out what `launch()` does beside starting a server, its checks of
paths among them, and keeps a full description of every component for every session.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import datetime
import functools
import html
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from gradio import processing_utils, routes
from gradio.data_classes import FileData
from gradio.queueing import Queue
from gradio.routes import App
from gradio.server_messages import EventMessage, LogMessage, ProcessCompletedMessage, UnexpectedErrorMessage
from gradio.state_holder import SessionState, StateHolder
from gradio.utils import NamedString
from gradio_client.utils import is_valid_file
from python_multipart.exceptions import FormParserError
from starlette.requests import ClientDisconnect
from starlette.routing import Mount

from apps.server.control_values import (
    check_bounds,
    check_value,
    shown_cells,
    shown_choices,
    shown_html,
    well_formed_values,
)
from apps.server.guard import browser_of
from apps.server.queue_bounds import SessionNameError, Unread, Waiting, check_session, refused
from apps.server.upload_forms import bound_uploads
from workbench.core.errors import USER_ERRORS, sentence, shortened
from workbench.core.files import of_this_process, remove_folders_of_dead_processes
from workbench.core.job import asker
from workbench.core.plain_text import printable_lines
from workbench.core.report import counted

_log = logging.getLogger("workbench")

SESSIONS = 200
"""Sessions remembered; the least recently used beyond that is forgotten, begins anew if it comes back."""


LONGEST_SENTENCE = 4000
"""Characters of a sentence that a page or a client is sent: it may repeat what was asked with, megabytes."""


@contextlib.contextmanager
def described_once() -> Iterator[None]:
    """Pages are added in the block; what serves them is made afterwards, by whoever mounts the app.

    At the end of every page Gradio (6.31, Blocks.__exit__) lists all components of all pages and makes a new
    server of them. Both are made again when the app is mounted, and nobody reads those in between: with
    thirty pages that is half a minute at every start.
    """
    create, describe = App.create_app, gr.Blocks.get_config_file

    def nothing(*_: Any, **__: Any) -> Any:
        return {}

    App.create_app = staticmethod(nothing)  # type: ignore[method-assign]
    gr.Blocks.get_config_file = nothing  # type: ignore[method-assign]
    try:
        yield
    finally:
        App.create_app = staticmethod(create)  # type: ignore[method-assign]
        gr.Blocks.get_config_file = describe  # type: ignore[method-assign]


# How the folders of uploads are called, one for each process.
UPLOADS = "workbench-uploads-"


@functools.cache
def upload_folder() -> Path:
    """This process's own folder for uploads and for the files of answers; removed at its end.

    Gradio's default (/tmp/gradio) is shared by every Gradio app of the machine, and whatever lies there is
    served by all of them.
    """
    parent = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    remove_folders_of_dead_processes(parent, UPLOADS)
    # Names the folder of each upload, with its content; Gradio's own lies in a file among its code, perhaps
    # that of an image which others have too. Only who uploaded a file knows where it is.
    processing_utils.hash_seed = secrets.token_bytes(32)
    folder = Path(tempfile.mkdtemp(prefix=of_this_process(UPLOADS), dir=parent)).resolve()
    # Read by Gradio at every use; components read it when they are built.
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    # Gradio's server makes a folder here at every start, and leaves it.
    routes.DEFAULT_TEMP_DIR = str(folder)  # pyright: ignore[reportPrivateImportUsage]
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def uploaded(path: Any) -> Path:
    """A file of the upload folder.

    Raises:
        gr.Error: anything else, an address or a link that leads out of the folder among them.
    """
    folder = upload_folder()
    if isinstance(path, str) and path.startswith("/") and "\0" not in path and len(path) < 4096:
        found = Path(path)
        if found.resolve().is_relative_to(folder) and found.is_file():
            return found.resolve()
    raise gr.Error(
        "Only a file that was uploaded here can be used, not a path or an address: upload it first.",
        print_exception=False,
    )


def only_uploads(value: Any) -> Any:
    """An input as it came from a browser, with every file in it checked and brought down to its path.

    Args:
        value: JSON, a description of a file (`{"path": ..., "url": ...}`) at any depth of it.

    Raises:
        gr.Error: a file that was not uploaded, or an address to be fetched.
    """
    if isinstance(value, list | tuple):
        return [only_uploads(one) for one in value]
    if not isinstance(value, dict):
        return value
    meta = value.get("meta")
    described = isinstance(meta, dict) and "_type" in meta
    if described or value.get("path") is not None or value.get("url") is not None:
        name = value.get("orig_name")
        # `url` is left out: whatever stands there, nothing is fetched from it. `is_stream` would skip checks.
        return {
            "path": str(uploaded(value.get("path"))),
            "orig_name": Path(name).name[:255] if isinstance(name, str) else None,
            "meta": {"_type": "gradio.FileData"},
        }
    return {key: only_uploads(one) for key, one in value.items()}


class Blocks(gr.Blocks):
    """Gradio's Blocks; every input passes `only_uploads` before a component or a handler sees it.

    A wrong payload is refused with one sentence, and one line in the server's log. Gradio prints a traceback
    for each, which anybody who can reach the server can cause.
    """

    async def process_api(self, *given: Any, **named: Any) -> dict[str, Any]:
        """As Gradio does; `refused` tells the request from one that a fault of this server ended."""
        try:
            return await super().process_api(*given, **named)
        except gr.Error:
            refused.set(True)
            raise

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any = None, *others: Any, **named: Any
    ) -> Any:
        """Check the files in a handler's inputs, then do as Gradio does."""
        checked = only_uploads(inputs)
        try:
            if len(inputs) < len(block_fn.inputs):
                wanted = counted(len(block_fn.inputs), "value")
                raise ValueError(f"expected {wanted}, one of each control, got {len(inputs)}")
            for component, value in zip(block_fn.inputs, checked, strict=False):
                check_value(component, value)
                own = component if state is None or component._id not in state else state[component._id]
                check_bounds(own, value)
            return await super().preprocess_data(block_fn, checked, state, *others, **named)
        except (*USER_ERRORS, TypeError, AttributeError) as error:
            raise _refused(block_fn, error) from error

    async def call_function(
        self,
        block_fn: Any,
        processed_input: list[Any],
        iterator: Any = None,
        requests: Any = None,
        event_id: str | None = None,
        event_data: gr.EventData | None = None,
        *others: Any,
        **named: Any,
    ) -> Any:
        """Call a handler; what a user can cause becomes one sentence."""
        if event_data is not None:
            # Handlers of clicks say what is wrong with one of no place; Gradio takes what came for a dict.
            data = event_data._data if isinstance(event_data._data, dict) else {}
            event_data = gr.EventData(event_data.target, {"index": None, "value": None, **data})
        asker.set(_asker(requests))
        try:
            return await super().call_function(
                block_fn, processed_input, iterator, requests, event_id, event_data, *others, **named
            )
        except (*USER_ERRORS, OverflowError) as error:
            raise _refused(block_fn, error) from error

    async def postprocess_data(self, block_fn: Any, *given: Any, **named: Any) -> list[Any]:
        """What a handler answered, for a page; Gradio's answer ends in the middle at half a character."""
        answered = await super().postprocess_data(block_fn, *given, **named)
        shown = {i for i, block in enumerate(block_fn.outputs) if isinstance(block, (gr.HTML, gr.Markdown))}
        data = [shown_html(value) if i in shown else value for i, value in enumerate(answered)]
        for i, block in enumerate(block_fn.outputs):
            if isinstance(block, gr.Dataframe) and i < len(data):
                data[i] = shown_cells(data[i])
            elif isinstance(block, (gr.Dropdown, gr.Radio, gr.CheckboxGroup)) and i < len(data):
                data[i] = shown_choices(data[i])
        try:
            orjson.dumps(data, default=str, option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError:
            return well_formed_values(data)
        return data


def _check_uploaded(path: Any) -> None:
    try:
        uploaded(path)
    except gr.Error as refused:
        raise ValueError(refused.message) from None


def check_values(components: Sequence[Any], values: Sequence[Any]) -> None:
    """Values that a page wrote into its state and sends back: as many as its controls, each of its kind.

    Args:
        components: what the handlers of the page take.
        values: as the handlers got them.

    Raises:
        ValueError: too many or too few, or one that its control cannot have, as a file that was not uploaded.
    """
    if len(values) != len(components):
        raise ValueError(f"expected a state of {counted(len(components), 'value')}, got {len(values)}")
    for component, value in zip(components, values, strict=True):
        if isinstance(component, (gr.File, gr.Image)):
            for path in value if isinstance(value, list) else [value]:
                if path is not None:
                    _check_uploaded(path)
        elif isinstance(component, (gr.Textbox, gr.Checkbox)):
            if not isinstance(value, (str, bool, type(None))):
                raise ValueError(f"{component.label or 'text'}: expected a text, got {value!r:.60}")
        else:
            check_value(component, value)


def _asker(requests: Any) -> tuple[str, str]:
    """Browser and page behind a call of a handler; the browser is "" where no password is asked for."""
    request = requests[0] if isinstance(requests, list) else requests
    if request is None:
        return "", ""
    headers = {name.lower(): value for name, value in dict(request.headers).items()}
    client = getattr(request, "client", None)
    browser = browser_of(headers.items(), client) if "authorization" in headers else ""
    return browser, str(getattr(request, "session_hash", None) or "")


def _refused(block_fn: Any, error: BaseException) -> gr.Error:
    """The error for the page, and one line in the log."""
    # As text a gr.Error is its message in quotes.
    said = shortened(error.message) if isinstance(error, gr.Error) else sentence(error)
    name, text = getattr(block_fn, "api_name", None) or block_fn, said[:LONGEST_SENTENCE]
    _log.warning("%s refused its input: %s", name, text[:300])
    return gr.Error(text, print_exception=False)


class Session(SessionState):
    """A session without a description of each of its components.

    Gradio makes one for all components of all pages, with every value that was ever sent, so that a session
    can be saved as a link (/deep_link). That is 4 MB and a fifth of a second for each session, and this app
    keeps its state in the address.
    """

    def __init__(self, blocks: gr.Blocks) -> None:
        # Not the parent's __init__: it makes what is to be left out.
        self.blocks_config = copy.copy(blocks.default_config)
        self.config_values = {}
        self.state_data: dict[int, Any] = {}
        self._state_ttl: dict[int, Any] = {}
        self.is_closed = False
        self.STATE_TTL_WHEN_CLOSED = 3600

    def __setitem__(self, key: int, value: Any) -> None:
        block = self.blocks_config.blocks.get(key)
        if isinstance(block, gr.State):
            self._state_ttl[key] = (block.time_to_live, datetime.datetime.now())
            self.state_data[key] = value
        else:
            self.blocks_config.blocks[key] = value

    def _update_config(self, key: int) -> None:
        """Nothing: no description is kept."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Nothing: no description is kept."""


class Sessions(StateHolder):
    """Sessions by their hash, the least recently used forgotten beyond `SESSIONS`."""

    def __getitem__(self, session_id: str) -> SessionState:
        check_session(session_id)
        with self.lock:
            if session_id not in self.session_data:
                self.session_data[session_id] = Session(self.blocks)
            found = self.session_data[session_id]
            self.time_last_used[session_id] = datetime.datetime.now()
        self.update(session_id)
        return found


def publish(app: gr.Blocks, names: Collection[str]) -> None:
    """Let handlers of these names be called by name; the pages call the others by number.

    Raises:
        ValueError: a name that no handler has.
    """
    known = {fn.api_name for fn in app.fns.values()}
    if missing := sorted(set(names) - known):
        raise ValueError(f"no handler is named {', '.join(missing)}")
    for fn in app.fns.values():
        fn.api_visibility = "public" if fn.api_name in names else "private"


def mounted(server: FastAPI) -> App:
    """Gradio's own server below ours, as `mount_gradio_app` left it.

    Raises:
        LookupError: nothing is mounted.
    """
    for route in server.routes:
        if isinstance(route, Mount) and isinstance(route.app, App):
            return route.app
    raise LookupError("no Gradio app is mounted on this server")


def finish(app: gr.Blocks, gradio_app: App) -> None:
    """What `launch()` sets and mounting does not; to be called once the app is mounted.

    has_launched: without it no path in a request is checked (processing_utils._check_allowed).
    is_running: without it any svg file named in a request becomes a served file; streams send no heartbeat.
    """
    app.has_launched = app.is_running = True
    app._queue.set_server_app(gradio_app)
    gradio_app.uploaded_file_dir = str(upload_folder())
    bound_uploads(upload_folder())
    leave_no_empty_files()
    leave_images_as_uploaded()
    gradio_app.state_holder = Sessions()
    app.state_session_capacity = SESSIONS
    gradio_app.state_holder.set_blocks(app)
    gradio_app.add_exception_handler(RequestValidationError, _malformed)
    gradio_app.add_exception_handler(TypeError, _wrong_arguments)
    gradio_app.add_exception_handler(KeyError, _wrong_arguments)
    gradio_app.add_exception_handler(FormParserError, _wrong_arguments)
    gradio_app.add_exception_handler(SessionNameError, _wrong_session)
    gradio_app.add_exception_handler(ClientDisconnect, _gone)
    queue = app._queue
    # No record of what was called: it is shown under /monitoring alone, which is closed, and one session
    # named by half a character made its summary, and with it the end of every later call, an error.
    queue.ANALYTICS_MAX_EVENTS = 0
    queue.send_message = functools.partial(_send_escaped, queue, unread=Unread(queue))  # type: ignore[method-assign]
    queue.push = Waiting(queue).push  # type: ignore[method-assign]


def leave_no_empty_files() -> None:
    """Let a handler that is given an uploaded file leave no other beside it.

    Gradio makes an empty temporary file for each one that a handler takes, renames nothing to it and never
    removes it.
    """
    given = gr.File._process_single_file
    if getattr(given, "leaves_no_file", False):
        return

    @functools.wraps(given)  # `digests` looks at the source of what was replaced
    def process_single_file(self: gr.File, f: FileData) -> NamedString:
        if self.type != "filepath":
            raise ValueError(f"{self.label}: expected a file that is given by its path")
        if self.file_types and not is_valid_file(f.path, self.file_types):
            raise gr.Error(f"Invalid file type: expected one of {', '.join(self.file_types)}.")
        return NamedString(f.path)

    process_single_file.leaves_no_file = True  # type: ignore[attr-defined]
    gr.File._process_single_file = process_single_file  # type: ignore[method-assign]


def leave_images_as_uploaded() -> None:
    """Let a handler that takes an image by its path be given the file that was uploaded, unopened.

    Gradio opens it with Pillow, whatever its format is, which may start Ghostscript, takes a gigabyte for a
    picture of 100 kB, and words its errors with the names of handlers and folders. `read_image` has limits.
    """

    def preprocess(self: gr.Image, payload: Any) -> Any:
        if payload is not None and self.type != "filepath":
            raise ValueError(f"{self.label}: expected an image that is given by its path")
        return payload and payload.path

    gr.Image.preprocess = preprocess  # type: ignore[method-assign]


async def _malformed(_: Request, error: Exception) -> Response:
    """422 for a body that is not what a route takes.

    FastAPI's own answer repeats the body, and is itself an error where that holds NaN or half a character.
    """
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    said = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults[:5])
    return JSONResponse({"detail": said.encode("utf-8", "replace").decode()}, 422)


async def _wrong_session(_: Request, error: Exception) -> Response:
    """422 for a name that no page gives its session."""
    said = error.message if isinstance(error, SessionNameError) else str(error)
    return JSONResponse({"detail": said}, 422)


async def _gone(_: Request, __: Exception) -> Response:
    """408 for a body that does not end: its client hung up or says nothing more."""
    return JSONResponse({"detail": "The request did not end in time."}, 408, {"connection": "close"})


# Where a handler may be named by its number.
_NUMBERED = ("/gradio_api/queue/join", "/gradio_api/run/", "/gradio_api/api/")


async def _wrong_arguments(request: Request, error: Exception) -> Response:
    """422 where a call lacks an argument or names another, or a handler that there is not; a wrong upload."""
    path = request.url.path
    if isinstance(error, KeyError) and path.startswith(_NUMBERED):
        error = ValueError(f"no handler has the number {error}")
    elif not path.startswith(("/gradio_api/upload", "/gradio_api/call/v2/")):
        raise error
    return JSONResponse({"detail": str(error)[:500].encode("utf-8", "replace").decode()}, 422)


def name_routes(app: gr.Blocks, routes: Mapping[str, str]) -> None:
    """Let a route be opened at other addresses; to be called once the app is mounted.

    Gradio's front end looks the layout up by the path in the browser's address, and shows the front page's
    where it finds none.

    Args:
        app: mounted.
        routes: path, without slashes -> route.
    """
    pages: dict[str, Any] = app.config["page"]  # type: ignore[assignment]
    for path, route in routes.items():
        pages[path] = pages[route]


def close(app: gr.Blocks) -> None:
    """End the queue and the streams of a mounted app, as `Blocks.close` does for a launched one."""
    app._queue.close()
    app.is_running = False


def _send_escaped(queue: Queue, event: Any, message: EventMessage, unread: Unread | None = None) -> None:
    """Send a message of the queue; its words are plain text, which a page would show as HTML.

    They may hold the name of a file, a keypoint or a category, chosen by whoever made the file. A client that
    is no page gets them as they are.
    """
    _shorten(message)
    if event.data.simple_format or event.request.headers.get("x-gradio-user") == "api":
        pass
    elif isinstance(message, LogMessage):
        message.log, message.title = escaped(message.log), escaped(message.title)
    elif isinstance(message, UnexpectedErrorMessage):
        message.message = escaped(message.message)
    elif isinstance(message, ProcessCompletedMessage) and not message.success:
        message.output = {
            key: escaped(value) if isinstance(value, str) else value for key, value in message.output.items()
        }
    if event.session_hash in queue.pending_messages_per_session:  # else its answers were dropped
        if unread is not None:
            unread.count(event.session_hash, message)
        Queue.send_message(queue, event, message)


def _shorten(message: EventMessage) -> None:
    """Cut the sentences of a message that is no answer; what it repeats may hold halves of characters."""

    def cut(text: str) -> str:
        return printable_lines(text)[:LONGEST_SENTENCE]

    if isinstance(message, LogMessage):
        message.log = cut(message.log)
    elif isinstance(message, UnexpectedErrorMessage):
        message.message = cut(message.message)
    elif isinstance(message, ProcessCompletedMessage) and not message.success:
        message.output = {
            key: cut(value) if isinstance(value, str) else value for key, value in message.output.items()
        }


def escaped(text: str) -> str:
    """Plain text as HTML; quotes stay, as they mean nothing outside a tag."""
    return html.escape(text, quote=False)
