"""A small ViTPose of the suite: it learns some instances of a drawn set by heart, once, and is cached.

A vision transformer needs more than seconds to generalise. For the suite it is enough that it is right on the
instances on which causes are separated, and that it becomes wrong when its input, weights or reading change.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.diagnosis.cached_runs import cached_folder
from workbench.data import builtin
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
    return cached_folder(
        f"diagnosis-vitpose-{VERSION}-{data}-{seed}", lambda folder: _train(folder, builtin(data), seed)
    )


def checkpoints(data: str = "scenes-val", seed: int = 0) -> list[Path]:
    """Its checkpoints, the earliest first."""
    folder = vitpose_run(data, seed)
    return [folder / f"epoch_{epoch}.pth" for epoch in KEPT]


def _train(folder: Path, pose_set: PoseSet, seed: int) -> None:
    import torch

    from workbench.diagnosis.evidence import spread
    from workbench.models.vitpose.export import random_vitpose
    from workbench.models.vitpose.model import new_vitpose, write
    from workbench.models.vitpose.network import Architecture, HeadShape

    torch.manual_seed(seed)
    shape = Architecture(width=128, layers=3, heads=4, hidden=256, image=(128, 128))
    network = random_vitpose(shape, HeadShape(len(pose_set.skeleton), kernel=3, enlarged=4), seed)
    torch.nn.init.normal_(network.backbone.pos_embed, std=0.2)
    model = new_vitpose(network, pose_set.skeleton)
    indices = spread(pose_set, INSTANCES)
    pixels, (heatmaps,), weights = examples(model, [pose_set.sample(i) for i in indices])
    weights = weights.unsqueeze(-1)
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


def examples(model, samples):
    """Pixels, targets (heatmaps, or vectors along x and y) and weights [N, K, 1] of instances, as tensors."""
    import torch

    from workbench.core.geometry import apply
    from workbench.decoding.targets import target

    batch = model.prepare(samples)
    to_crop = [np.linalg.inv(np.vstack([affine, [0, 0, 1]]))[:2] for affine in batch.to_image]
    truth = np.stack([np.asarray(sample.truth, float) for sample in samples])
    points = np.stack([apply(affine, one[:, :2]) for affine, one in zip(to_crop, truth, strict=True)])
    made = target(model.codec, points, (truth[..., 2] > 0).astype(float))
    wanted = made["simcc"] if "simcc" in made else (made["heatmaps"],)
    targets = tuple(torch.as_tensor(np.asarray(one), dtype=torch.float32) for one in wanted)
    weight = torch.as_tensor(np.asarray(made["weights"]), dtype=torch.float32)
    return batch.pixels, targets, weight.reshape(len(samples), -1, 1)
