"""Does it cost speed to train under a hand? Steps per second of a Session against a bare PyTorch loop.

Same network (RTMPose-tiny at 256x192), photograph, objective and optimizer. The session writes rows to
disk, measures PCK in both modes every 25 steps and is read every second by a watcher that draws the curves,
as the page does. Both run in turns in a thread of their own with one intra-op thread, and the medians are
compared: a busy machine hits both, and OpenMP's spinning threads hit neither.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.row import Row

STEPS = 50
ROUNDS = 3
TARGET = 0.95


def rows() -> list[Row]:
    """On a CPU, and on a GPU where there is one."""
    import torch

    measured = [_cpu()]
    if torch.cuda.is_available():
        measured.append(_row("cuda", "GPU, live rows on", *_speeds("cuda")))
    else:
        measured.append(
            {
                "what": "overfit one image on a GPU",
                "ours": "no GPU on this machine",
                "peer": "-",
                "ratio": "-",
                "target": "`python -m benchmarks.run overfit` stands ready where there is one",
                "met": True,
            }
        )
    return measured


def _cpu() -> Row:
    return _row("cpu", "CPU, live rows and curves on", *_speeds("cpu"))


def _row(device: str, how: str, ours: float, bare: float) -> Row:
    return {
        "what": f"overfit one image, RTMPose-tiny, {STEPS} steps, {how}",
        "ours": f"{ours:.1f} steps/s",
        "peer": f"bare PyTorch loop {bare:.1f} steps/s",
        "ratio": f"{ours / bare:.2f} of its speed",
        "target": f">= {TARGET}",
        "met": ours / bare >= TARGET,
    }


def _speeds(device: str) -> tuple[float, float]:
    """Median steps per second: session, bare loop; the first round of both warms up."""
    import pandas  # noqa: F401 - half imported by one thread, it breaks plotly in another
    import torch

    from apps.overfit.curves import curves

    curves([], "warming up")  # plotly's first import is no part of a session
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    ours: list[float] = []
    bare: list[float] = []
    for i in range(ROUNDS + 1):
        with ThreadPoolExecutor(1) as apart:
            pair = _session(device), apart.submit(_bare, device).result()
        if i:
            ours.append(pair[0])
            bare.append(pair[1])
    torch.set_num_threads(before)
    return statistics.median(ours), statistics.median(bare)


def _made(device: str):
    from workbench.data import builtin
    from workbench.models.fresh import new_model

    return new_model("rtmpose", device=device)[0], [builtin("astronaut").sample(0)]


def _session(device: str) -> float:
    from apps.overfit.curves import curves
    from workbench.training.plan import Plan
    from workbench.training.planned import new_session
    from workbench.training.settings import Settings

    model, samples = _made(device)
    with tempfile.TemporaryDirectory() as folder:
        session = new_session(
            model, samples, Plan(Settings(steps=STEPS, measure_every=25)), folder=Path(folder), device=device
        )
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(1.0):
                if session.rows:
                    curves(list(session.rows), "benchmark").to_json()

        watcher = threading.Thread(target=watch, daemon=True)
        began = time.perf_counter()
        watcher.start()
        session.start()
        # To the last step: the snapshot at the end is written once, however long the run.
        while len(session.rows) < STEPS:
            time.sleep(0.002)
        took = time.perf_counter() - began
        session.join()
        ended.set()
        watcher.join()
    return STEPS / took


def _bare(device: str) -> float:
    """What anyone would write: forward, loss, backward, step, the loss read every step."""
    import numpy as np
    import torch

    from workbench import geometry
    from workbench.training.objectives import objective_for, target_of

    model, samples = _made(device)
    batch = model.prepare(samples)
    truth = np.asarray(samples[0].truth, float)[None]
    points = geometry.apply(geometry.inverse(batch.to_image[0]), truth[0, :, :2])[None]
    target = target_of(model.codec, points, truth[..., 2], device)
    objective = objective_for(model.codec, "")
    optimizer = torch.optim.AdamW(model.module.parameters(), lr=1e-3, weight_decay=0.0)
    model.module.train()
    began = time.perf_counter()
    for _ in range(STEPS):
        loss = torch.stack(list(dict(objective(model.forward(batch), target)).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()
    return STEPS / (time.perf_counter() - began)
