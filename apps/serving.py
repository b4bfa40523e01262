"""Serve the app until it is stopped."""

from __future__ import annotations

import errno
import socket

import uvicorn

from apps.main import build
from apps.settings import Settings

# Ports tried after the one asked for: another workbench may run already.
PORTS_TRIED = 20


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
        return listener
    raise OSError(
        f"ports {settings.port} to {settings.port + PORTS_TRIED - 1} are all taken; give another --port"
    )


def address(listener: socket.socket) -> str:
    """Where a browser finds a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve until interrupted."""
    server = uvicorn.Server(uvicorn.Config(build(settings), log_level="warning"))
    server.run(sockets=[listener])
