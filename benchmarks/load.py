"""How long do 50 people at once wait, is every answer theirs, and what does the server keep of them?

A server of its own process on this machine; the sessions ask as pages do, through Gradio's queue: Look and
Grouping questions in turn, and Compare over the plain interface. Every answer is compared with the one that
the same question got when nobody else asked. Run by hand:

    python -m benchmarks.load [--sessions 50] [--seconds 30] [--python PYTHON --tree FOLDER]

`--tree` measures another checkout in the same condition. "fresh" are questions that nobody asked before, one
of each session, all at once; the others were asked before by somebody.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

# What is asked: inspectors' handlers, each on the first run that can answer it.
LOOK = ("overlay", "heatmap_grid", "peaks", "simcc_curves")
GROUPING = ("tag_values", "tag_maps")
SAMPLES = 4
PATIENCE = 300.0

# Page loads and API sessions after which the server's memory is read.
PAGES, SESSIONS = 30, 200


@dataclass
class Asked:
    """One question, and the answer it got when nobody else asked."""

    number: int
    values: list[Any]
    expected: Any = None


@dataclass
class Found:
    """What the sessions saw."""

    seconds: list[float] = field(default_factory=list)
    compare: list[float] = field(default_factory=list)
    wrong: int = 0
    failed: int = 0


@contextmanager
def serving(tree: Path, python: str) -> Iterator[tuple[str, int]]:
    """A server on the built-in checkpoints; its address and the number of its process."""
    with tempfile.TemporaryDirectory(prefix="load-") as cache:
        environment = {
            **os.environ,
            "WORKBENCH_CACHE": cache,
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(tree),
        }
        words = [python, "-m", "workbench", "app", "--port", "0", "--limit", "60"]
        server = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment, cwd=tree)
        try:
            for line in server.stderr or ():
                if "http://" in line:
                    address = "http://" + line.partition("http://")[2].split()[0]
                    _until_it_answers(address)
                    yield address, server.pid
                    return
            raise OSError(f"the app did not start: exit code {server.wait()}")
        finally:
            server.kill()
            server.wait(20)


def _until_it_answers(address: str) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            if httpx.get(f"{address}workbench/api/jobs", timeout=60).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise OSError("the app does not answer")


def questions(address: str) -> list[Asked]:
    """The questions of the pages: handler's number, and its inputs as the page would send them."""
    config = httpx.get(f"{address}config", timeout=120).json()
    runs = httpx.get(f"{address}workbench/api/runs", timeout=PATIENCE).json()
    values = {one["id"]: one.get("props", {}).get("value") for one in config["components"]}
    handlers = {one["api_name"]: one for one in config["dependencies"] if one["api_name"]}
    found = []
    for names, family in ((LOOK, ""), (GROUPING, "HigherHRNet")):
        run = next(r for r in runs if r["data"] and (r["family"] or "").startswith(family))
        for name, sample in itertools.product(names, range(SAMPLES)):
            handler = handlers[name]
            subject = [run["id"], run["epochs"][-1]["index"], run["data"][0], sample, "", *[None] * 5]
            knobs = [values[i] for i in handler["inputs"][len(subject) :]]
            found.append(Asked(handler["id"], subject + knobs))
    return found


async def answered(client: httpx.AsyncClient, session: str, asked: Asked) -> tuple[float, Any]:
    """Seconds until a session's question is answered, and the answer's sentence, code and address."""
    started = time.perf_counter()
    body = {"data": asked.values, "fn_index": asked.number, "session_hash": session}
    joined = await client.post("gradio_api/queue/join", json=body)
    event = joined.json()["event_id"]
    async with client.stream("GET", "gradio_api/queue/data", params={"session_hash": session}) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data: ") and '"process_completed"' in line[:200] and event in line[:200]:
                answer = json.loads(line[6:])
                break
        else:
            return time.perf_counter() - started, None
    taken = time.perf_counter() - started
    if not answer["success"]:
        return taken, None
    line, figure, _, code, where, *_ = answer["output"]["data"]
    return taken, [line, code, where, len(json.dumps(figure))]


async def loaded(address: str, asked: list[Asked], sessions: int, seconds: float) -> Found:
    """All sessions at once for so long."""
    found = Found()
    compare = await _compared(address)
    end = time.perf_counter() + seconds

    async def one(number: int) -> None:
        limits = httpx.Limits(max_connections=4)
        async with httpx.AsyncClient(base_url=address, timeout=PATIENCE, limits=limits) as client:
            for question in itertools.islice(itertools.cycle(asked), number, None):
                if time.perf_counter() > end:
                    return
                taken, answer = await answered(client, f"load{number}", question)
                found.seconds.append(taken)
                found.failed += answer is None
                found.wrong += answer is not None and answer != question.expected
                started = time.perf_counter()
                answer = await client.get("workbench/api/compare", params=compare["asked"])
                found.compare.append(time.perf_counter() - started)
                found.wrong += answer.json()["version"] != compare["version"]

    await asyncio.gather(*(one(number) for number in range(sessions)))
    return found


async def _compared(address: str) -> dict[str, Any]:
    """A comparison of the default run once all its epochs are computed."""
    async with httpx.AsyncClient(base_url=address, timeout=PATIENCE) as client:
        run = (await client.get("workbench/api/runs")).json()[0]
        asked = {"run": run["id"], "data": run["data"][0]}
        while True:
            answer = await client.post("workbench/api/compare", params=asked)
            if answer.status_code in (404, 405):  # checkouts where a GET starts it
                answer = await client.get("workbench/api/compare", params=asked)
            if answer.status_code == 200 and answer.json()["job"] is None:
                return {"asked": asked, "version": answer.json()["version"]}
            await asyncio.sleep(0.5)


async def fresh(address: str, asked: Asked, sessions: int) -> list[float]:
    """Seconds of one question of each session that nobody asked before, all at once."""
    async with httpx.AsyncClient(base_url=address, timeout=PATIENCE) as client:
        ask = [
            answered(
                client, f"fresh{n}", Asked(asked.number, [*asked.values[:3], SAMPLES + n, *asked.values[4:]])
            )
            for n in range(sessions)
        ]
        found = await asyncio.gather(*ask)
    if any(answer is None for _, answer in found):
        raise OSError("a question that nobody asked before was not answered")
    return [seconds for seconds, _ in found]


def memory(process: int) -> float:
    """Megabytes that a process holds."""
    with Path(f"/proc/{process}/status").open(encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


async def kept(address: str, process: int, asked: Asked) -> dict[str, float]:
    """Megabytes that stay per API session and per closed page."""
    async with httpx.AsyncClient(base_url=address, timeout=PATIENCE) as client:
        await answered(client, "kept-first", asked)
        await client.get("look-overlay")
        before = memory(process)
        for number in range(SESSIONS):
            await answered(client, f"kept{number}", asked)
        between = memory(process)
        for number in range(PAGES):
            await client.get(("", "look-overlay", "checkpoint", "rollout", "grouping")[number % 5])
            await answered(client, f"page{number}", asked)
        after = memory(process)
    return {"MB per session": (between - before) / SESSIONS, "MB per page": (after - between) / PAGES}


def measured(tree: Path, python: str, sessions: int, seconds: float) -> dict[str, Any]:
    """The figures of one checkout."""
    with serving(tree, python) as (address, process):
        asked = questions(address)

        async def alone() -> list[float]:
            async with httpx.AsyncClient(base_url=address, timeout=PATIENCE) as client:
                taken = []
                for question in asked:
                    for _ in range(2):  # the second time nothing is computed any more that is kept
                        seconds, question.expected = await answered(client, "alone", question)
                    taken.append(seconds)
                return taken

        single = asyncio.run(alone())
        first = memory(process)
        found = asyncio.run(loaded(address, asked, sessions, seconds))
        last = memory(process)
        new = asyncio.run(fresh(address, asked[0], sessions))
        grown = asyncio.run(kept(address, process, asked[0]))
    if not found.seconds:
        raise OSError("no session got an answer")
    cuts = statistics.quantiles(found.seconds, n=20)
    return {
        "alone, s": round(statistics.median(single), 4),
        "answers": len(found.seconds),
        "p50, s": round(statistics.median(found.seconds), 3),
        "p95, s": round(cuts[-1], 3),
        "fresh p50, s": round(statistics.median(new), 3),
        "fresh p95, s": round(statistics.quantiles(new, n=20)[-1], 3),
        "compare p50, s": round(statistics.median(found.compare), 3),
        "compare p95, s": round(statistics.quantiles(found.compare, n=20)[-1], 3),
        "wrong": found.wrong,
        "failed": found.failed,
        "unanswerable": sum(question.expected is None for question in asked),
        "MB before, after": [round(first), round(last)],
        **{name: round(value, 3) for name, value in grown.items()},
    }


def main() -> None:
    """Measure and print one line of JSON."""
    parser = argparse.ArgumentParser(description="50 sessions at once: waiting, mixed answers, memory.")
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--tree", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    print(json.dumps(measured(options.tree.resolve(), options.python, options.sessions, options.seconds)))


if __name__ == "__main__":
    main()
