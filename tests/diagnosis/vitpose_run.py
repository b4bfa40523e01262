"""A small ViTPose of the suite: it learns some instances of a drawn set by heart, once, and is cached.

A vision transformer needs more than seconds to generalise. For the suite it is enough that it is right on the
instances on which causes are separated, and that it becomes wrong when its input, weights or reading change.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from workbench.data import builtin
from workbench.data.builtin import cache_folder
from workbench.data.pose_set import PoseSet

VERSION = 1
"""Raised whenever the training below changes."""
INSTANCES = 48
EPOCHS = 120
KEPT = (40, 80, EPOCHS)
"""Epochs whose checkpoints are written: the examined one, and earlier ones of the same run."""


def vitpose_run(data: str = "scenes-val", seed: int = 0) -> Path:
    """The folder of the run, with ``epoch_N.pth`` of the epochs `KEPT`; trained at the first call.

    Args:
        data: a built-in set, whose first `INSTANCES` spread instances are learned.
        seed: of the weights and of the order.
    """
    folder = cache_folder() / f"diagnosis-vitpose-{VERSION}-{data}-{seed}"
    if not (folder / f"epoch_{EPOCHS}.pth").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
            _train(Path(beside), builtin(data), seed)
            folder.mkdir(exist_ok=True)
            for path in sorted(Path(beside).iterdir()):
                path.replace(folder / path.name)
    return folder


def checkpoints(data: str = "scenes-val", seed: int = 0) -> list[Path]:
    """Its checkpoints, the earliest first."""
    folder = vitpose_run(data, seed)
    return [folder / f"epoch_{epoch}.pth" for epoch in KEPT]


def _train(folder: Path, pose_set: PoseSet, seed: int) -> None:
    import torch

    from workbench.diagnosis.evidence import spread
    from workbench.models.vitpose.demo import random_vitpose
    from workbench.models.vitpose.model import new_vitpose, write
    from workbench.models.vitpose.network import Architecture, HeadShape

    torch.manual_seed(seed)
    shape = Architecture(width=128, layers=3, heads=4, hidden=256, image=(128, 128))
    network = random_vitpose(shape, HeadShape(len(pose_set.skeleton), kernel=3, enlarged=4), seed)
    torch.nn.init.normal_(network.backbone.pos_embed, std=0.2)
    model = new_vitpose(network, pose_set.skeleton)
    indices = spread(pose_set, INSTANCES)
    pixels, heatmaps, weights = _examples(model, [pose_set.sample(i) for i in indices])
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01)
    steps = EPOCHS * 3
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.15)
    network.train()
    for epoch in range(1, EPOCHS + 1):
        for rows in np.array_split(torch.randperm(len(pixels)).numpy(), 3):
            optimizer.zero_grad()
            lost = (network(pixels[rows]) - heatmaps[rows]) ** 2 * weights[rows]
            loss = lost.mean() * 100
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        if epoch in KEPT:
            write(new_vitpose(network.eval(), pose_set.skeleton), folder / f"epoch_{epoch}.pth", epoch)
            network.train()


def _examples(model, samples):
    """Pixels, heatmaps and weights of the instances, as tensors."""
    import torch

    from workbench.core.geometry import apply
    from workbench.decoding.targets import target

    batch = model.prepare(samples)
    to_crop = [np.linalg.inv(np.vstack([affine, [0, 0, 1]]))[:2] for affine in batch.to_image]
    truth = np.stack([np.asarray(sample.truth, float) for sample in samples])
    points = np.stack([apply(affine, one[:, :2]) for affine, one in zip(to_crop, truth, strict=True)])
    made = target(model.codec, points, (truth[..., 2] > 0).astype(float))
    found = {name: torch.as_tensor(np.asarray(value), dtype=torch.float32) for name, value in made.items()}
    weight = found["weights"].reshape(len(samples), -1, 1, 1)
    return batch.pixels, found["heatmaps"], weight
