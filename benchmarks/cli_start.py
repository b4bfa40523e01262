"""How long does `workbench --help` take, and what of that is Python itself?"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.row import Row, ratio

RUNS = 5
TARGET = 0.5  # seconds


def seconds(*words: str) -> float:
    """Median wall time of a fresh Python with these words, after one run that fills the disk cache."""
    taken = []
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])


def rows() -> list[Row]:
    """The command line's start beside the bare interpreter's and beside importing torch."""
    bare = seconds("-c", "pass")
    ours = seconds("-m", "workbench", "--help")
    torch = seconds("-c", "import torch")
    return [
        {
            "what": f"`workbench --help`, median of {RUNS} (bare Python: {bare:.3f} s)",
            "ours": f"{ours:.3f} s",
            "peer": f"import torch alone {torch:.3f} s",
            "ratio": ratio(torch, ours),
            "target": f"< {TARGET} s",
            "met": ours < TARGET,
        }
    ]
