"""Serve the app until it is stopped."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable

import uvicorn

from apps.server.application import build
from apps.server.gradio_private import upload_folder
from apps.server.settings import Settings

# Ports tried after the one asked for: another workbench may run already.
PORTS_TRIED = 20

GRACE_SECONDS = 5.0
"""After a signal, answers under way, open streams and jobs have so long to end; then the process ends."""

# Of these, so long for answers and streams.
_ANSWERS_SECONDS = 2


def bound(settings: Settings) -> socket.socket:
    """A socket bound to the host and the port asked for, or the next free one.

    Raises:
        OSError: none of them is free, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    for port in range(settings.port, settings.port + (PORTS_TRIED if settings.port else 1)):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host.strip("[]"), port))
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
    config = uvicorn.Config(build(settings), log_level="warning", timeout_graceful_shutdown=_ANSWERS_SECONDS)
    try:
        _Server(config, ready).run(sockets=[listener])
    finally:
        if own:  # the command line's end skips what is registered for the end of a process
            shutil.rmtree(upload_folder(), ignore_errors=True)


def _terminated(number: int, _: object) -> None:
    _end(128 + number)
