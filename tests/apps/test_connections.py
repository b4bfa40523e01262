"""A client that says nothing more, or does not read its answer, is not waited for without end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn

from apps.server import connections
from apps.server.connections import Connection, paced
from tests.waiting import until

SIZE = 64 << 20  # bytes; more than the system keeps for a client that does not read


@pytest.fixture(scope="module")
def address():
    """Of an app whose answer is `SIZE` bytes at /large, else the number of bytes that were sent to it."""

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        receive, taken, more = paced(receive), 0, True
        while more:
            message = await receive()
            taken, more = taken + len(message.get("body", b"")), message.get("more_body", False)
        body = b"x" * SIZE if scope["path"] == "/large" else str(taken).encode()
        head = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})

    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", http=Connection, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, value in {"HEAD_SECONDS": 0.3, "PART_SECONDS": 0.3, "LOOK_SECONDS": 0.05}.items():
        monkeypatch.setattr(connections, name, value)


def opened(address, said=b""):
    place = urlsplit(address)
    line = socket.create_connection((place.hostname, place.port), timeout=20)
    line.sendall(said)
    return line


def rest(line, said=b""):
    """What comes until the server ends the connection, while the client says this again and again."""
    line.settimeout(0.05)
    came, begun = b"", time.monotonic()
    while time.monotonic() - begun < 20:
        with contextlib.suppress(TimeoutError):
            try:
                if said:
                    line.sendall(said)
                piece = line.recv(1 << 16)
            except ConnectionError:
                return came
            if not piece:
                return came
            came += piece
    pytest.fail("the connection stays open")


@pytest.mark.parametrize(
    ("begun", "more"),
    [(b"", b""), (b"GET / HTTP/1.1\r\nHost: a\r\n", b""), (b"GET / HTTP/1.1\r\nHost: a\r\n", b"X: y\r\n")],
)
def test_a_head_that_does_not_end_is_not_waited_for(address, begun, more):
    assert rest(opened(address, begun), more) == b""


@pytest.mark.parametrize("more", [b"", b"x"])
def test_a_body_that_does_not_end_is_not_waited_for(address, more):
    """Whoever reads it sees the client gone; what was answered is sent, and the connection ends."""
    line = opened(address, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nab")
    assert b" 200 " in rest(line, more)


def test_a_client_that_reads_nothing_is_not_waited_for(address):
    line = opened(address, b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(1.5)  # some looks
    came = 0
    with contextlib.suppress(ConnectionError):
        while piece := line.recv(1 << 20):
            came += len(piece)
    assert came < SIZE


def test_a_client_that_asks_and_reads_keeps_its_connection(address, monkeypatch):
    with httpx.Client(base_url=address) as client:
        begun = time.monotonic()
        streams = set()
        while time.monotonic() - begun < 1:
            answer = client.post("/", content=b"x" * 1000)
            streams.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
            assert answer.text == "1000"
            time.sleep(0.02)
        assert len(streams) == 1
        assert len(client.get("/large").content) == SIZE


def test_beyond_the_most_connections_the_one_that_waits_longest_is_closed(address, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 60)
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 3)
    first, *others = [opened(address) for _ in range(5)]
    assert rest(first) == b""
    last = others[-1]
    last.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert rest(last).endswith(b"\r\n\r\n0")
    for line in others:
        line.close()


def test_a_slow_body_is_taken_as_long_as_it_is_not_slower_than_the_least(monkeypatch):
    async def sent(pause, size, count):
        left = count

        async def receive():
            nonlocal left
            await asyncio.sleep(pause)
            left -= 1
            return {"type": "http.request", "body": b"x" * size, "more_body": left > 0}

        receiving = paced(receive)
        while (message := await receiving())["type"] == "http.request" and message["more_body"]:
            pass
        return message["type"], count - left

    monkeypatch.setattr(connections, "PART_SECONDS", 0.1)
    with ThreadPoolExecutor(1) as pool:  # in this thread a browser of another test may hold a loop
        whole, slow, late = (
            pool.submit(asyncio.run, sent(*asked)).result()
            for asked in ((0.02, 1000, 20), (0.02, 1, 20), (0.3, 1000, 2))
        )
    assert whole == ("http.request", 20)  # at most 50 kB a second
    assert (slow[0], slow[1] < 10) == ("http.disconnect", True)
    assert late == ("http.disconnect", 0)
