"""A Session and bare loops take turns in one thread, a block of steps each, while curves are drawn.

A machine with other work on it is fast in one second and slow in the next, so a whole run beside a whole run
measures the machine. Here a block lasts a second or two, each is compared with the blocks on both sides of
it, and the median over many is taken. Processor time of the whole process is counted, the drawing of the
curves included: what waits for other programs' work is neither side's. All turns are in the session's own
thread, so that none has a warmer pool of threads than another.
"""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from apps.pages.overfit.choices import MEASURE_EVERY
from benchmarks.overfit_loops import bare_steps, made

# The session measures PCK in both modes, update ratios and dead units once in so many steps, as the page has
# it for a run of that length: once a block.
BLOCK = MEASURE_EVERY


class Watcher:
    """Draws the curves once in a second of computing, as the page does, while the session has its turn.

    By the clock a busy machine would draw many times as often for each step.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.turn, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watcher")

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        from apps.pages.overfit.views import curves

        computed, before = 0.0, time.process_time()
        while not self._ended.wait(0.05):
            now = time.process_time()
            computed, before = computed + (now - before) * self.turn.is_set(), now
            if computed >= 1 and self.turn.is_set():
                computed = 0.0
                curves(list(self.rows), "benchmark")


def in_turns(config: str, blocks: int) -> dict[str, list[float]]:
    """Processor seconds of every block: ``ours``, ``bare``, ``fused`` (AdamW as a Session has it).

    Args:
        config: name of one of mmpose's RTMPose configs.
        blocks: of each; one before them warms up.
    """
    import torch

    from workbench.training.plan import Plan, new_session
    from workbench.training.settings import Settings

    peers: Mapping[str, Iterator[None]] = {
        "bare": bare_steps(config, "cpu"),
        "fused": bare_steps(config, "cpu", fused=True),
    }
    seconds: dict[str, list[float]] = {"ours": [], "bare": [], "fused": []}
    model, samples = made(config, "cpu")
    plan = Plan(Settings(steps=BLOCK * (blocks + 1), measure_every=BLOCK))
    began, threads = time.process_time(), torch.get_num_threads()

    def stepped(row: dict[str, Any]) -> None:
        nonlocal began
        if row["step"] % BLOCK:
            return
        watcher.turn.clear()
        seconds["ours"].append(time.process_time() - began)
        for name in sorted(peers, reverse=bool(row["step"] // BLOCK % 2)):
            began = time.process_time()
            for _ in range(BLOCK):
                next(peers[name])
            seconds[name].append(time.process_time() - began)
        watcher.turn.set()
        began = time.process_time()

    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder, Watcher() as watcher:
            held = new_session(model, samples, plan, folder=Path(folder), on_row=stepped)
            watcher.rows = held.rows
            watcher.turn.set()
            held.start()
            held.join()
            if held.status().state != "finished":
                raise RuntimeError(f"benchmark: the session did not end: {held.status()}")
    finally:
        torch.set_num_threads(threads)
    return {name: each[1:] for name, each in seconds.items()}


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Speed of ours over theirs, block by block: each block of theirs beside ours before and after it."""
    sides = [(a + b) / 2 for a, b in itertools.pairwise(ours)]
    return [b / a for a, b in zip(sides, theirs, strict=False)]
