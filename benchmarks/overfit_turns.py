"""A Session and bare loops take turns in one thread, a step each, while curves are drawn.

A machine with other work on it is fast in one second and slow in the next, and the step after another loop's
backward pass is some hundredths slower than the one before it. So neighbours are single steps, the two bare
loops change places after every step, and only sums over whole blocks are compared: the session measures once
in a block. What is counted is the processor time of the threads: the session's own in its turn, and all of
the watcher's, so that what waits for other programs' work is neither side's.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apps.pages.overfit.choices import MEASURE_EVERY
from benchmarks.overfit_loops import bare_steps, made

# The session measures PCK in both modes, update ratios and dead units once in so many steps, as the page has
# it for a run of that length: once a block.
BLOCK = MEASURE_EVERY


class Watcher:
    """Draws the curves once in a second of the session's computing, as the page does.

    By the clock a busy machine would draw many times as often for each step.

    Attributes:
        rows: of the session.
        computed: processor seconds of the session until now.
        spent: processor seconds of the watcher itself until now.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.computed = self.spent = self._drawn = 0.0
        self._due, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watcher")

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._due.set()
        self._thread.join()

    def add(self, seconds: float) -> None:
        """Count a step of the session."""
        self.computed += seconds
        if self.computed - self._drawn >= 1:
            self._drawn = self.computed
            self._due.set()

    def _watch(self) -> None:
        from apps.pages.overfit.views import curves

        while self._due.wait() and not self._ended:
            self._due.clear()
            curves(list(self.rows), "benchmark")
            self.spent = time.thread_time()


def in_turns(config: str, blocks: int) -> dict[str, list[float]]:
    """Processor seconds of every block: ``ours``, ``bare``, ``fused`` (AdamW as a Session has it).

    Args:
        config: name of one of mmpose's RTMPose configs.
        blocks: of each; one before them warms up.
    """
    import torch

    from workbench.training.plan import Plan, new_session
    from workbench.training.settings import Settings

    peers: dict[str, Iterator[None]] = {
        "bare": bare_steps(config, "cpu"),
        "fused": bare_steps(config, "cpu", fused=True),
    }
    seconds: dict[str, list[float]] = {"ours": [], "bare": [], "fused": []}
    total = dict.fromkeys(seconds, 0.0)
    model, samples = made(config, "cpu")
    plan = Plan(Settings(steps=BLOCK * (blocks + 1), measure_every=BLOCK))
    began, threads = 0.0, torch.get_num_threads()

    def stepped(row: dict[str, Any]) -> None:
        nonlocal began
        watcher.add(time.thread_time() - began)
        total["ours"] = watcher.computed + watcher.spent
        for name in sorted(peers, reverse=bool(row["step"] % 2)):
            began = time.thread_time()
            next(peers[name])
            total[name] += time.thread_time() - began
        if row["step"] % BLOCK == 0:
            for name, block in seconds.items():
                block.append(total[name] - sum(block))
        began = time.thread_time()

    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder, Watcher() as watcher:
            held = new_session(model, samples, plan, folder=Path(folder), on_row=stepped)
            watcher.rows = held.rows
            held.start()
            held.join()
            if held.status().state != "finished":
                raise RuntimeError(f"benchmark: the session did not end: {held.status()}")
    finally:
        torch.set_num_threads(threads)
    return {name: each[1:] for name, each in seconds.items()}
