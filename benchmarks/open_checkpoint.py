"""How long does it take, and how much memory, to look into a checkpoint of 2 GB, beside torch.load?

The file is made like mmengine's: weights, averaged weights, two Adam moments, log history. Every reader runs
in a process of its own, after its imports, with the file in the page cache; memory is the peak beyond them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.row import Row, ratio

BYTES = 2 << 30
TENSORS = 400  # of the network; four times as many in the file
SECONDS, MEGABYTES = 0.5, 150.0
RUNS = 5

_OURS = """
from workbench.checkpoints import open_checkpoint
def act(path):
    checkpoint = open_checkpoint(path)
    return len(checkpoint.tensors), checkpoint.parameters, checkpoint.epoch, checkpoint.identity.family
"""
_PEER = """
import torch
def act(path):
    found = torch.load(path, map_location="cpu", weights_only=False)
    return len(found["state_dict"]), found["meta"]["epoch"]
"""
# VmHWM is the highest resident size so far: what was there before the imports' end is taken off.
_MEASURE = """
import json, resource, sys, time
def peak():
    unit = 1 << 20 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
before, began, worked = peak(), time.perf_counter(), time.process_time()
kept = act(sys.argv[1])
print(json.dumps([time.perf_counter() - began, time.process_time() - worked, peak() - before]))
"""


def write(path: Path, size: int = BYTES) -> None:
    """A checkpoint of about that many bytes; zeros, so that making it costs no random numbers."""
    import numpy as np
    import torch

    each = size // 4 // 4 // TENSORS
    names = [f"backbone.stage{i // 100}.{i % 100}.conv.weight" for i in range(TENSORS)]

    def weights() -> dict[str, torch.Tensor]:
        return {name: torch.zeros(each) for name in names}

    raw = {f"module.{name}": tensor for name, tensor in weights().items()}
    moments = {i: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(each)} for i in range(TENSORS)}
    second = {i: {"exp_avg_sq": torch.zeros(each)} for i in range(TENSORS)}
    torch.save(
        {
            "meta": {"epoch": 20, "iter": 8400, "mmengine_version": "0.10.7", "cfg": "max_epochs = 20\n"},
            "state_dict": weights(),
            "ema_state_dict": raw,
            "optimizer": {
                "state": {i: moments[i] | second[i] for i in moments},
                "param_groups": [{"lr": 4e-3}],
            },
            "message_hub": {"log_scalars": {"train/loss": np.zeros(8400)}},
        },
        path,
    )


def measured(code: str, path: Path, runs: int) -> tuple[float, float, float]:
    """Seconds on the clock, seconds of processor and megabytes: the best of a few fresh processes."""
    found = []
    for _ in range(runs):
        done = subprocess.run(
            [sys.executable, "-c", code + _MEASURE, str(path)], capture_output=True, text=True, check=True
        )
        found.append(json.loads(done.stdout.splitlines()[-1]))
    clock, processor, memory = (min(column) for column in zip(*found, strict=True))
    return clock, processor, memory


def rows() -> list[Row]:
    """Time and memory of opening, against torch.load of the same file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "epoch_20.pth"
        # In a process of its own, so that its memory is given back before anything is measured.
        code = "import sys; from benchmarks.open_checkpoint import *; write(Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)
        what = f"open a checkpoint of {path.stat().st_size / 1e9:.2f} GB, {4 * TENSORS} tensors"
        seconds, processor, memory = measured(_OURS, path, RUNS)
        peer_seconds, peer_processor, peer_memory = measured(_PEER, path, 1)
    return [
        Row(
            what=f"{what}: time",
            ours=f"{seconds:.3f} s ({processor:.3f} s of processor)",
            peer=f"torch.load {peer_seconds:.2f} s ({peer_processor:.2f} s)",
            ratio=ratio(peer_seconds, seconds),
            target=f"< {SECONDS} s",
            met=seconds < SECONDS,
        ),
        Row(
            what=f"{what}: memory beyond imports",
            ours=f"{memory:.1f} MB",
            peer=f"torch.load {peer_memory:.0f} MB",
            ratio=ratio(peer_memory, memory),
            target=f"< {MEGABYTES:g} MB",
            met=memory < MEGABYTES,
        ),
    ]


if __name__ == "__main__":
    from benchmarks.run import as_line

    for row in rows():
        print(as_line("open_checkpoint", row))
