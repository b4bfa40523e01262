"""Does it cost speed to train under a hand? Steps per second of a Session against a bare PyTorch loop.

Same network (RTMPose-t, and -m for a size that people use, at 256x192), photograph, objective and optimizer.
The session writes rows to disk, measures PCK in both modes every 50 steps and is read every second by a
watcher that draws the curves, as the page does. The bare loop runs twice, with AdamW as torch has it by
default and with the fused one that a Session uses, so that what is gained by that choice does not hide what
is lost beside it. How they take turns: overfit_turns.py.

On a GPU: a compiled session that replays a CUDA graph, against mmengine's Runner on the same network.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks.overfit_loops import runner, session
from benchmarks.overfit_turns import BLOCK, in_turns
from benchmarks.row import Row

TINY = "rtmpose-t_8xb256-420e_coco-256x192"
REAL = "rtmpose-m_8xb256-420e_coco-256x192"
# Network, its name, blocks of every loop: they differ by a hundredth, also on a busy machine.
ON_CPU = ((TINY, "RTMPose-t (3.3 M weights)", 6), (REAL, "RTMPose-m (13.6 M weights)", 4))
TARGET, GPU_TARGET = 0.95, 3.0


def rows() -> list[Row]:
    """On a CPU, and on a GPU where there is one."""
    import torch

    measured = [row for network in ON_CPU for row in _on_cpu(*network)]
    if torch.cuda.is_available():
        return [*measured, _on_gpu()]
    none: Row = {
        "what": "overfit one image, RTMPose-t, GPU, compiled and as a CUDA graph",
        "ours": "no GPU on this machine",
        "peer": "mmengine's Runner",
        "ratio": "-",
        "target": f">= {GPU_TARGET:.0f}x; `python -m benchmarks.run overfit` stands ready where there is one",
        "met": None,
    }
    return [*measured, none]


def _on_cpu(config: str, name: str, blocks: int) -> list[Row]:
    import pandas  # noqa: F401 - half imported by one thread, it breaks plotly in another

    from apps.pages.overfit.views import curves

    curves([], "warming up")  # plotly's first import is no part of a session
    seconds = in_turns(config, blocks)
    what = f"overfit one image, {name}, {blocks} blocks of {BLOCK} steps, CPU, live rows and curves on"
    peers = {"bare": "bare PyTorch loop", "fused": "bare PyTorch loop, fused AdamW"}
    return [_beside(what, seconds, peer, title) for peer, title in peers.items()]


def _beside(what: str, seconds: dict[str, list[float]], peer: str, title: str) -> Row:
    found = sorted(theirs / ours for ours, theirs in zip(seconds["ours"], seconds[peer], strict=True))
    ratio, quarter = statistics.median(found), len(found) // 4
    spread = f"{found[quarter]:.2f} to {found[-1 - quarter]:.2f}"
    ours, theirs = (BLOCK / statistics.median(seconds[name]) for name in ("ours", peer))
    return {
        "what": what,
        "ours": f"{ours:.1f} steps/processor second",
        "peer": f"{title} {theirs:.1f}",
        "ratio": f"{ratio:.2f} of its speed (half of the blocks {spread})",
        "target": f">= {TARGET}",
        "met": ratio >= TARGET,
    }


def _on_gpu() -> Row:
    loops = {
        "ours": lambda: session(TINY, 500, "cuda", compile=True, graphs=True),
        "mmengine's Runner": lambda: runner(TINY, 500, "cuda"),
    }
    speeds = _one_after_the_other(loops, 3)
    what = "overfit one image, RTMPose-t, 500 steps, GPU, compiled and as a CUDA graph"
    return _row(what, speeds, "mmengine's Runner", GPU_TARGET)


def _row(what: str, speeds: dict[str, list[float]], peer: str, target: float) -> Row:
    ours, theirs = speeds["ours"], speeds[peer]
    # Round by round: how busy the machine was changes between rounds more than within one.
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    ratio = statistics.median(ratios)
    return {
        "what": what,
        "ours": f"{statistics.median(ours):.1f} steps/s",
        "peer": f"{peer} {statistics.median(theirs):.1f} steps/s",
        "ratio": f"{ratio:.2f} of its speed ({min(ratios):.2f} to {max(ratios):.2f})",
        "target": f">= {target}",
        "met": ratio >= target,
    }


def _one_after_the_other(loops: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Speeds of every loop in every round, after one round that warms up; the order turns with the round."""
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    names = list(loops)
    for i in range(rounds + 1):
        turn = i % len(names)
        for name in (*names[turn:], *names[:turn]):
            with ThreadPoolExecutor(1) as apart:
                speed = apart.submit(loops[name]).result()
            if i:
                speeds[name].append(speed)
    return speeds
