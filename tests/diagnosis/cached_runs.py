"""Runs of the suite that are trained once, in seconds, and kept in the cache folder."""

from __future__ import annotations

import copy
import csv
import fcntl
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from workbench.data.opening import cache_folder

VERSION = 1
"""Raised whenever a training below changes."""


def cached_folder(name: str, make: Callable[[Path], None]) -> Path:
    """A folder in the cache; `make` fills it at the first call, and other processes wait for it."""
    folder = cache_folder() / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
                (Path(beside) / "made").mkdir()
                make(Path(beside) / "made")
                (Path(beside) / "made").rename(folder)
    return folder


# A healthy network that reads text: the demo's base run with a neck and a refiner, trained for a moment.

Changes = Mapping[str, Mapping[str, Any]]
HEALTHY_TEXT: Changes = {
    "neck": {"init": "identity", "mlp": "linear", "text_from": "each", "gate": "none"},
    "refiner": {"softmax": "none", "mask": "all"},
    "head": {"use_refiner_in_training": True, "use_refiner_in_predict": True},
    "model": {"text": "drawn-quadrupeds", "fuse_in_predict": True},
}


def text_run(steps: int = 40) -> list[Path]:
    """Checkpoint of epoch 1 of a network with text fusion in which nothing is wrong."""
    folder = cached_folder(f"diagnosis-text-{VERSION}-{steps}", lambda made: train_text(made, steps, batch=8))
    return [folder / "epoch_1.pth"]


def train_text(
    folder: Path, steps: int, batch: int, changes: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Train the healthy network that reads text, or one with changed options, as epoch 1 of a folder.

    Args:
        folder: gets ``epoch_1.pth``.
        steps: of the optimizer.
        batch: instances to a step.
        changes: options by part (neck, refiner, head, model) that differ from HEALTHY_TEXT.
    """
    import torch

    from workbench.checkpoints import open_checkpoint
    from workbench.checkpoints.config_reader import read_config
    from workbench.checkpoints.demo import demo_checkpoints
    from workbench.data import builtin
    from workbench.models.mmpose.model import build, model_of
    from workbench.training.experiments.arms import Arm
    from workbench.training.experiments.running import Course, halves, learned

    fusion = open_checkpoint(demo_checkpoints("rtmpose-text-fusion")[-1])
    settings = copy.deepcopy(dict(read_config(fusion.config_text)))
    model = settings["model"]
    parts = {
        "neck": model["neck"],
        "refiner": model["head"]["refiner"],
        "head": model["head"],
        "model": model,
    }
    for name, part in parts.items():
        part.update({**HEALTHY_TEXT[name], **changes.get(name, {})})
    torch.manual_seed(0)
    module = build(settings).eval()
    base = open_checkpoint(demo_checkpoints("rtmpose-text-base")[-1])
    module.load_state_dict(dict(base.state_dict()), strict=False)
    train = halves(builtin("scenes-val")).train
    learned(model_of(module, settings, None), Arm(""), *train, Course(steps, batch=batch), lambda *_: None)
    text = "\n".join(f"{name} = {value!r}" for name, value in settings.items())
    meta = {"meta": {"epoch": 1, "cfg": text}, "state_dict": module.state_dict()}
    torch.save(meta, folder / "epoch_1.pth")


# Runs that were really trained with a fault: two epochs from an early checkpoint of a system, with their log.


def trained_wrongly(fault: str, source: Callable[[], Path], name: str, steps: int = 24) -> Path:
    """The folder of a run: the checkpoint it began with, the one after training, metrics.csv.

    Args:
        fault: ``evaluation mode``, ``head alone``, ``no zero_grad``, ``rate times 10``, or "" for a healthy
            training.
        source: the checkpoint from which it begins.
        name: of the system, in the folder's name.
        steps: of the optimizer, 12 to an epoch.
    """
    words = fault.replace(" ", "-") or "healthy"
    folder = f"diagnosis-trained-{VERSION}-{name}-{words}-{steps}"
    return cached_folder(folder, lambda made: _train(made, fault, source(), steps))


def _train(folder: Path, fault: str, source: Path, steps: int) -> None:
    import torch

    from tests.diagnosis.vitpose_run import examples
    from workbench.core import Outputs
    from workbench.data import builtin
    from workbench.diagnosis.evidence import spread
    from workbench.models import open_model

    torch.manual_seed(0)
    pose_set = builtin("scenes-val")
    model = open_model(source).model
    network = model.module
    chosen = spread(pose_set, 48)
    pixels, wanted, weights = examples(model, [pose_set.sample(i) for i in chosen])
    parts = network.head if fault == "head alone" else network
    rate = 2e-3 if fault == "rate times 10" else 2e-4
    optimizer = torch.optim.AdamW(parts.parameters(), lr=rate)
    rows = []
    (folder / "epoch_1.pth").write_bytes(source.read_bytes())
    network.train(fault != "evaluation mode")
    for step in range(1, steps + 1):
        chosen = np.random.default_rng(step).choice(len(pixels), 8, replace=False)
        if fault != "no zero_grad":
            optimizer.zero_grad()
        found = (model.call or network)(pixels[chosen])
        if isinstance(found, Outputs):
            found = found.simcc or found.heatmaps
        found = found if isinstance(found, tuple) else (found,)
        errors = []
        for given, right in zip(found, wanted, strict=True):
            weight = weights[chosen].reshape(len(chosen), -1, *[1] * (given.ndim - 2))
            errors.append(((given - right[chosen]) ** 2 * weight).mean())
        loss = torch.stack(errors).sum()
        loss.backward()
        optimizer.step()
        rows.append(
            {"epoch": 1 + (step - 1) // 12, "step": step, "train_loss": loss.item(), "lr-AdamW": rate}
        )
    content = torch.load(source, map_location="cpu", weights_only=False)
    content["state_dict"] = network.state_dict()
    content["meta"].update(epoch=2, iter=steps)
    if "cfg" in content["meta"]:
        # The config inside says what this training did, or should have done.
        text = re.sub(r"(?s)param_scheduler = \[.*?\n\]", "param_scheduler = []", content["meta"]["cfg"])
        content["meta"]["cfg"] = re.sub(r"lr=[\d.e-]+", "lr=2e-4", text, count=1)
    torch.save(content, folder / "epoch_2.pth")
    with (folder / "metrics.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
