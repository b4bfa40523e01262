"""Networks of the user's own in which causes of the labs are planted, opened through adapters.

``class network`` reads the class of what is seen, ``own sequence`` writes one keypoint after the other. Their
code is that of tests/adapters with layers enough to learn drawn animals by heart, once; a case is this code,
or its checkpoint, with one part replaced.
"""

# ruff: noqa: E501 - one edit of the code a line
from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tests.diagnosis.cached_runs import cached_folder
from workbench.data import builtin
from workbench.diagnosis.evidence import spread

VERSION = 1
"""Raised whenever a training below changes."""
ADAPTERS = Path(__file__).parents[1] / "adapters"
INSTANCES, DATA = 48, "scenes-val"
# Instances that a case looks at: the suite has many cases.
FEW = 16
Edit = tuple[str, str]

BODY = """
def body():
    def block(inputs, outputs, stride=2):
        return (nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU())

    def up(inputs, outputs):
        return (nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU())

    return nn.Sequential(
        *block(3, 16), *block(16, 32), *block(32, 64), *block(64, 64), *block(64, 64, 1),
        *up(64, 64), *up(64, CHANNELS),
    )


class FilmBlock("""
CLASS_NET: tuple[Edit, ...] = (
    ("= 16, 8, 10, 17", "= 32, 8, 10, 17"),
    ("\nclass FilmBlock(", BODY),
    ("nn.Conv2d(3, CHANNELS, 4, 4)", "body()"),
    ('0.0 if defect == "gate at 0" else 0.5', "1.0"),
    ("nn.init.constant_(self.head.bias, 1.0)", "pass"),
)
CLASS_ADAPTER: tuple[Edit, ...] = (
    ("from workbench.core import Codec", "from workbench.checkpoints.loading import load_state\nfrom workbench.core import Codec"),
    ('(64, 64), (16, 16), sigma=(2.0, 2.0), decoder="argmax"', '(128, 128), (32, 32), sigma=(1.5, 1.5), decoder="dark"'),
    ("(net or ClassFilm()).eval()", "net"),
    ("    codec = ", "    net = ClassFilm().eval()\n    report = None if checkpoint is None else load_state(net, checkpoint)\n    codec = "),
    ('SKELETONS["ap10k-17"], codec)', 'SKELETONS["ap10k-17"], codec, shift_heatmap=True)'),
    ("    return ByTaps(", "    model = ByTaps("),
    ("refiner=refiner, **taps)", "refiner=refiner, **taps)\n    return model if report is None else (model, report)"),
)  # fmt: skip


def edited(text: str, edits: Iterable[Edit]) -> str:
    """A text with parts replaced, each (old, new)."""
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def write_class_network(folder: Path, net: Iterable[Edit] = (), adapter: Iterable[Edit] = ()) -> Path:
    """The code of the network that reads a class; the path of its adapter.

    Args:
        folder: gets both files.
        net: edits of the network's code.
        adapter: edits of the adapter's.
    """
    source = (ADAPTERS / "class_film_net.py").read_text()
    name = f"class_net_{abs(hash(folder)):x}"
    (folder / f"{name}.py").write_text(edited(edited(source, CLASS_NET), net))
    source = (ADAPTERS / "class_film.py").read_text().replace("class_film_net", name)
    (folder / "adapter.py").write_text(edited(edited(source, CLASS_ADAPTER), adapter))
    return folder / "adapter.py"


def class_run(net: tuple[Edit, ...] = (), name: str = "healthy", epochs: int = 100) -> Path:
    """Checkpoint of the network that reads a class, trained at the first call.

    Args:
        net: edits of the network that is trained.
        name: of the training, in the folder's name.
        epochs: passes over the instances.
    """
    made = cached_folder(
        f"diagnosis-class-{VERSION}-{name}-{epochs}", lambda folder: _train_class(folder, net, epochs)
    )
    return made / f"epoch_{epochs}.pth"


def _train_class(folder: Path, net: tuple[Edit, ...], epochs: int) -> None:
    import torch

    from tests.diagnosis.vitpose_run import examples
    from workbench.models.adapter import imported

    model: Any = imported(write_class_network(folder, net)).load(None, "cpu")
    network, pose_set = model.module, builtin(DATA)
    samples = [pose_set.sample(i) for i in spread(pose_set, INSTANCES)]
    classes = model.prepare(samples).extra["classes"]
    pixels, (heatmaps,), weights = examples(model, samples)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=3 * epochs, pct_start=0.15)
    network.train()
    for _ in range(epochs):
        for rows in np.array_split(torch.randperm(len(pixels)).numpy(), 3):
            optimizer.zero_grad()
            lost = (network(pixels[rows], classes[rows]) - heatmaps[rows]) ** 2 * weights[rows].unsqueeze(-1)
            (lost.mean() * 100).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    torch.save(
        {"meta": {"epoch": epochs}, "state_dict": network.state_dict()}, folder / f"epoch_{epochs}.pth"
    )


Make = Callable[[Path], tuple[list[Path], dict[str, Any]]]
Change = Callable[[dict[str, Any]], None]


def _changed(run: Path, target: Path, weights: Change | None) -> Path:
    """A checkpoint saved again, with other weights where a change of its state dict is given."""
    import torch

    content = torch.load(run, weights_only=True)
    if weights is not None:
        weights(content["state_dict"])
    torch.save(content, target)
    return target


def class_network(
    net: tuple[Edit, ...] = (),
    adapter: tuple[Edit, ...] = (),
    weights: Change | None = None,
    run: Callable[[], Path] = class_run,
) -> Make:
    """The trained network that reads a class, in code of which parts are replaced.

    Args:
        net: edits of the network's code.
        adapter: edits of the adapter's.
        weights: change of the checkpoint's tensors.
        run: the checkpoint.
    """

    def make(folder: Path) -> tuple[list[Path], dict[str, Any]]:
        return [_changed(run(), folder / run().name, weights)], {
            "data": DATA,
            "sample": FEW,
            "adapter": write_class_network(folder, net, adapter),
        }

    return make


# A network that writes keypoints, each as a step from the one before.

SEQUENCE: tuple[Edit, ...] = (
    ("nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.Flatten(), nn.Linear(8 * 16, 16))",
     "nn.Sequential(nn.Conv2d(3, 32, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 16, 128), nn.ReLU())"),
    ("nn.Sequential(nn.Linear(16 + 4, 32), nn.ReLU(), nn.Linear(32, 2), nn.Sigmoid())",
     "nn.Sequential(nn.Linear(128 + 4, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 2))"),
    ("        return self.step(torch.cat([seen, before, wanted], -1))",
     "        return before + self.step(torch.cat([seen, before, wanted], -1)).tanh()"),
    ("Sample, Skeleton, geometry\n", "Sample, Skeleton, geometry\nfrom workbench.skeletons import SKELETONS\n"),
    ("Writer(net, FIVE), report", 'Writer(net, SKELETONS["ap10k-17"]), report'),
    ("    def cropped(self", """    def logged(self, outputs, batch):
        found = self.decode(outputs, batch, None)
        loss = self.objective(outputs, batch)["loss_coordinates"]
        return {"loss_coordinates": float(loss), "pck": float(np.mean([
            self.near(p.keypoints, s, a) for p, s, a in zip(found, batch.samples, batch.to_image, strict=True)
        ]))}

    def near(self, points, sample, affine):
        truth, box = np.asarray(sample.truth, float), sample.box
        away = np.linalg.norm(points - truth[:, :2], axis=-1)[truth[:, 2] > 0]
        return (away < 0.2 * max(box[2] - box[0], box[3] - box[1])).mean()

    def cropped(self"""),
)  # fmt: skip


def write_sequence(folder: Path, edits: Iterable[Edit] = ()) -> Path:
    """The code of the network that writes keypoints, an adapter.

    Args:
        folder: gets the file.
        edits: of the code.
    """
    source = (ADAPTERS / "sequence.py").read_text()
    (folder / "adapter.py").write_text(edited(edited(source, SEQUENCE), edits))
    return folder / "adapter.py"


def sequence_run(
    forced: float = 0.0, edits: tuple[Edit, ...] = (), name: str = "free", steps: int = 600, one: bool = False
) -> Path:
    """Checkpoint of the network that writes keypoints, trained at the first call.

    Args:
        forced: share of the steps of the optimizer that are teacher-forced; the others are free-running.
        edits: of the code that is trained.
        name: of the training, in the folder's name.
        steps: of the optimizer.
        one: it learns a single instance by heart, and its checkpoint says which.
    """
    made = cached_folder(
        f"diagnosis-sequence-{VERSION}-{name}{'-one' * one}-{steps}",
        lambda folder: _train_sequence(folder, forced, edits, steps, one),
    )
    return made / "last.pth"


def _train_sequence(folder: Path, forced: float, edits: tuple[Edit, ...], steps: int, one: bool) -> None:
    import dataclasses

    import torch

    from workbench.models.adapter import imported

    model, _ = imported(write_sequence(folder, edits)).load(None, "cpu")
    network, pose_set, K = model.module, builtin(DATA), len(model.skeleton)
    rows = sorted({*spread(pose_set, INSTANCES), *spread(pose_set, 8), *spread(pose_set, FEW)})
    rows = rows[7:8] if one else rows
    samples = [pose_set.sample(i) for i in rows]
    whole = model.prepare(samples)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    drawn = np.random.default_rng(0)
    for _ in range(steps):
        optimizer.zero_grad()
        chosen = drawn.choice(len(rows), 24, replace=one)
        # The example is another animal each time, and now and then the animal itself.
        example = np.where(drawn.random(24) < 0.2, chosen, drawn.choice(len(rows), 24))
        extra = {"given": whole.extra["given"][chosen], "support": whole.extra["support"][example]}
        batch = dataclasses.replace(whole, pixels=whole.pixels[chosen], extra=extra)
        outputs = model.written(batch, K if drawn.random() < forced else 0)
        model.objective(outputs, batch)["loss_coordinates"].backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    meta = {"epoch": 1, **({"data": DATA, "sample": samples[0].key} if one else {})}
    torch.save({"meta": meta, "state_dict": network.state_dict()}, folder / "last.pth")


def own_sequence(
    edits: tuple[Edit, ...] = (), weights: Change | None = None, run: Callable[[], Path] = sequence_run
) -> Make:
    """The trained network that writes keypoints, in code of which parts are replaced.

    Args:
        edits: of the code.
        weights: change of the checkpoint's tensors.
        run: the checkpoint.
    """

    def make(folder: Path) -> tuple[list[Path], dict[str, Any]]:
        return [_changed(run(), folder / "epoch_1.pth", weights)], {
            "data": DATA,
            "adapter": write_sequence(folder, edits),
        }

    return make
