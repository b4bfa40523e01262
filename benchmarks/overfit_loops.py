"""The loops that are compared: a Session as the page runs it, and two that anyone would write.

All train the same network with the same objective and AdamW on the same photograph; each returns its steps
per second after what it does once is done.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FAMILY = "body_2d_keypoint/rtmpose/coco"


def made(config: str, device: str) -> tuple[Any, list[Any]]:
    """A network with first weights, and the photograph.

    Args:
        config: name of one of mmpose's RTMPose configs.
        device: where to put it.
    """
    from workbench.data import builtin
    from workbench.models.fresh import new_model

    return new_model(config=path_of(config), device=device)[0], [builtin("astronaut").sample(0)]


def path_of(config: str) -> Path:
    """Where mmpose keeps a config."""
    import mmpose

    return Path(mmpose.__file__).parent / ".mim" / "configs" / FAMILY / f"{config}.py"


def session(config: str, steps: int, device: str, **settings: Any) -> float:
    """A Session with rows on disk, PCK every 50 steps, and a watcher that draws the curves every second."""
    from apps.pages.overfit.views import curves
    from workbench.training.plan import Plan, new_session
    from workbench.training.settings import Settings

    model, samples = made(config, device)
    warm = 5 if settings else 1  # compiling and recording a graph happen once
    plan = Plan(Settings(steps=steps + warm, measure_every=50, **settings))
    ended, began = threading.Event(), 0.0

    def stepped(row: dict[str, Any]) -> None:
        nonlocal began
        if row["step"] == warm:
            began = time.perf_counter()
        if row["step"] == steps + warm:
            ended.set()

    with tempfile.TemporaryDirectory() as folder:
        held = new_session(model, samples, plan, folder=Path(folder), device=device, on_row=stepped)

        def watch() -> None:
            while not ended.wait(1.0):
                if held.rows:
                    curves(list(held.rows), "benchmark")

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        held.start()
        # To the last step: the snapshot at the end is written once, however long the run.
        if not ended.wait(600):
            raise RuntimeError(f"benchmark: the session did not end: {held.status()}")
        took = time.perf_counter() - began
        held.join()
        watcher.join()
    return steps / took


def bare_steps(config: str, device: str, *, fused: bool = False) -> Iterator[None]:
    """What anyone would write: forward, loss, backward, step, the loss read; one step each time it is asked.

    Args:
        config: as in `made`.
        device: where.
        fused: with AdamW's one-kernel implementation, as a Session has it; torch's default otherwise.
    """
    import torch

    from workbench.training.objectives import objective_for
    from workbench.training.trainer import batch_target

    model, samples = made(config, device)
    batch = model.prepare(samples)
    pixels = batch.pixels.to(device)
    target = batch_target(batch, model.codec, device)
    objective = objective_for(model.codec, "")
    optimizer = torch.optim.AdamW(model.module.parameters(), lr=1e-3, weight_decay=0.0, fused=fused or None)
    model.module.train()
    while True:
        loss = torch.stack(list(dict(objective(model.call(pixels), target)).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()
        yield


def runner(config: str, steps: int, device: str) -> float:
    """The Runner of mmengine with mmpose's config: the photograph, batch 1, no augmentation, two workers."""
    import logging

    from workbench.models.mmpose.config import run_config
    from workbench.models.mmpose.trust import without_pretrained

    given = dict(run_config(path_of(config)))
    from mmengine.config import Config
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    class Clock(Hook):
        """When the first iterations were over, and the last."""

        began = ended = 0.0

        def after_train_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
        ) -> None:
            self.ended = time.perf_counter()
            if runner.iter == WARM:
                self.began = self.ended

    from workbench.data.opening import astronaut

    photograph = astronaut()
    image = next(iter(photograph.images.values())).path
    codec = given["codec"]
    pipeline = [
        {"type": "LoadImage"},
        {"type": "GetBBoxCenterScale"},
        {"type": "TopdownAffine", "input_size": codec["input_size"]},
        {"type": "GenerateTarget", "encoder": codec},
        {"type": "PackPoseInputs"},
    ]
    import workbench.data

    annotations = Path(workbench.data.__file__).with_name("astronaut.json")
    dataset = {
        "type": "CocoDataset",
        "data_mode": "topdown",
        "ann_file": str(annotations),
        "pipeline": pipeline,
    }
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        loader = {"batch_size": 1, "num_workers": 2, "persistent_workers": True}
        loader |= {"sampler": {"type": "InfiniteSampler"}}
        loader["dataset"] = {**dataset, "data_prefix": {"img": f"{image.parent}/"}}
        arguments: dict[str, Any] = {
            "model": Config({"m": without_pretrained(given["model"])}).m,
            "work_dir": folder,
            "train_dataloader": loader,
            "train_cfg": {"by_epoch": False, "max_iters": steps + WARM + 1},
            "optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.0}},
            "default_scope": "mmpose",
            "custom_hooks": [clock],
            "log_level": logging.ERROR,
            "default_hooks": {"checkpoint": None},
            "experiment_name": f"benchmark-{time.monotonic_ns()}",
        }
        run = Runner(**arguments)
        run.model.to(device)
        run.train()
    return steps / (clock.ended - clock.began)


WARM = 5
