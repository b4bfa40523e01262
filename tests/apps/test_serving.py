"""A server says where it is once it answers, and ends when it is told to, whatever runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from apps.server import application as serving
from apps.server.settings import Settings

# One process is started for the module; the app takes seconds to be built.
BUSY = """
import sys, threading, time
from pathlib import Path
from apps.server import application as serving
from apps.server.settings import Settings
settings = Settings(root=Path(sys.argv[1]), port=0, cache=Path(sys.argv[2]))
listener = serving.bound(settings)
build = serving.build
def busy(settings):
    app = build(settings)
    context = app.state.context
    context.jobs.start("endless", "endless", lambda job: threading.Event().wait(1000), listed=True)
    return app
serving.build = busy
print(serving.address(listener), flush=True)
serving.serve(settings, listener, lambda: print("ready", flush=True))
"""


@pytest.fixture(scope="module")
def busy(root_folder, tmp_path_factory):
    """A server of its own process with a job that never ends; its address, once it says that it answers."""
    words = [sys.executable, "-c", BUSY, str(root_folder), str(tmp_path_factory.mktemp("cache"))]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ})
    address = process.stdout.readline().strip()
    assert process.stdout.readline().strip() == "ready"
    yield process, address
    process.kill()
    process.wait(10)


@pytest.mark.long
def test_sigterm_ends_a_server_with_a_running_job_and_open_streams(busy):
    process, address = busy
    assert (
        httpx.get(f"{address}workbench/api/jobs").json()[0]["state"] == "running"
    )  # it answers when it says so
    asked = time.monotonic()
    with httpx.stream("GET", f"{address}gradio_api/heartbeat/abc", timeout=60) as beat:
        next(beat.iter_lines())
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
    assert time.monotonic() - asked < 15


def test_a_port_that_is_taken_is_said_before_another_is_used(workbench, root_folder, monkeypatch):
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    monkeypatch.setattr("apps.server.application.serve", lambda _settings, _listener, ready: ready())
    code, _, err = workbench("app", root_folder, "--port", port)
    taken.close()
    starting, first, second = err.strip().splitlines()
    assert code == 0
    assert starting.startswith("Starting the workbench")
    assert first.startswith(f"Port {port} is taken; using ")
    assert second.startswith("Pose workbench: http://127.0.0.1:")
    assert second.split(":")[3].split("/")[0] == first.split()[-1].rstrip(".")


def test_two_servers_that_start_at_once_use_two_ports(root_folder):
    """Neither answers yet: the second to listen ended with a traceback once it had read everything."""
    with serving.bound(Settings(root=root_folder, port=0)) as first:
        port = first.getsockname()[1]
        with serving.bound(Settings(root=root_folder, port=port)) as second:
            assert second.getsockname()[1] != port


def test_the_address_is_not_printed_before_the_server_answers(workbench, root_folder, monkeypatch):
    monkeypatch.setattr("apps.server.application.serve", lambda _settings, _listener, _ready: None)
    _, _, err = workbench("app", root_folder, "--port", 0)
    assert "http://" not in err
