"""Train the bottom-up demo: a small HigherHRNet that finds everybody in a drawn scene and tells them apart.

Heatmaps at both resolutions and one tag map per keypoint, as published; the network is narrow, the input 192
pixels on its short side. Three things make so short a run possible: cells in a peak weigh more, peaks are
wide before they are narrow, and at first a tag's target is the position of its person. Without the last all
tags were alike after three epochs.
Weights are kept in half precision: the files are half as large, and open as they do in full.

``python checkpoints/make_higherhrnet_demo.py``
"""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from whole_images import Change, Scenes  # noqa: E402

from workbench.data import builtin  # noqa: E402
from workbench.models.bottom_up import BottomUp  # noqa: E402
from workbench.models.higherhrnet.model import new_higherhrnet, write  # noqa: E402
from workbench.models.higherhrnet.network import Architecture, HigherHRNet  # noqa: E402
from workbench.training.people import Emphasis, TaughtPeople  # noqa: E402
from workbench.training.settings import Settings  # noqa: E402
from workbench.training.trainer import Trainer  # noqa: E402

NAME = "higherhrnet-demo"
ARCHITECTURE = Architecture(width=12, stem=16, bottlenecks=1, modules=(1, 1, 1), blocks=1, deconv_blocks=1)
INPUT_SIZE = 192
TRAIN, DATA = "scenes-people-train", "scenes-people-val"
BATCH, SEED = 4, 0
KEEP = (2, 10, 30, 90)
# What counts until the end of an epoch. Peaks of sigma 2, as published, are wide on maps this small, 9 % of a
# person: quickly learned, and then made narrower. A peak that weighs much is learned early and stays too wide
# and too high where the network is in doubt, so its weight falls towards the end.
STAGES = {
    4: Emphasis(foreground=10.0, tags=0.04, push=1.0, position=8.0),
    8: Emphasis(foreground=10.0, tags=0.02, push=1.0),
    35: Emphasis(sigma=1.0, foreground=20.0, tags=0.02, push=1.0),
    60: Emphasis(sigma=1.0, foreground=8.0, tags=0.02, push=1.0),
    90: Emphasis(sigma=1.0, foreground=3.0, tags=0.02, push=1.0),
}
# Images of the validation set that are looked at after every epoch.
WATCHED = 16


@dataclass(frozen=True)
class Run:
    """How the demo is trained.

    Attributes:
        train: built-in set.
        data: built-in set it is judged on.
        keep: epochs whose weights are kept; the last one is the end.
        batch: scenes a step.
        rate: peak learning rate of Adam; it falls to zero by a cosine.
        seed: of first weights and of every step.
    """

    train: str = TRAIN
    data: str = DATA
    keep: tuple[int, ...] = KEEP
    batch: int = BATCH
    rate: float = 3e-3
    seed: int = SEED


def main() -> int:
    """Train, keep some epochs and the log, and put the run into the manifest."""
    import torch

    torch.set_num_threads(1)
    begun = time.monotonic()
    run = Run()
    make(HERE / NAME, run)
    register(HERE, run, (time.monotonic() - begun) / 60)
    return 0


def register(out: Path, run: Run, minutes: float) -> None:
    """Put the run in out/NAME into the manifest."""
    from manifest import update_bottom_up

    a = ARCHITECTURE
    update_bottom_up(
        out,
        NAME,
        run.keep,
        train=run.train,
        data=run.data,
        variant=f"HigherHRNet of width {a.width}, {INPUT_SIZE} pixels, {a.tags} tag maps, half precision",
        seed=run.seed,
        minutes=minutes,
    )


def new_demo(pose_set_name: str = DATA, seed: int = SEED) -> BottomUp:
    """The demo with first weights."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return new_higherhrnet(HigherHRNet(ARCHITECTURE), builtin(pose_set_name).skeleton, INPUT_SIZE)


def make(folder: Path, run: Run) -> None:
    """Train into a folder: ``epoch_N.pth`` for the kept epochs, and ``log.jsonl``, a line for each epoch."""
    folder.mkdir(parents=True, exist_ok=True)
    # Half the sides are already about what the network sees.
    scenes = Scenes(builtin(run.train), run.batch, Change(), small=2)
    per_epoch = len(scenes) // run.batch
    model = new_demo(run.data, run.seed)
    settings = Settings(
        steps=run.keep[-1] * per_epoch, learning_rate=run.rate, optimizer="adam", schedule="cosine",
        warm_up=50, clip=1.0, measure_every=per_epoch, seed=run.seed,
    )  # fmt: skip
    held_out = builtin(run.data)
    watched = held_out.samples(i for i in held_out.labelled if held_out.instances[i].image_id <= WATCHED)
    taught = TaughtPeople(model, emphasis_after(0))
    trainer = Trainer(taught, watched, settings, augment=scenes, pck_threshold=0.1)
    lines, sums = [], {}
    for step in range(1, settings.steps + 1):
        row = trainer.step()
        for key in row:
            if key.startswith("loss"):
                sums[key] = sums.get(key, 0.0) + row[key]
        epoch, rest = divmod(step, per_epoch)
        if rest:
            continue
        told = {key: round(total / per_epoch, 6) for key, total in sums.items()}
        lines.append(json.dumps({"epoch": epoch, "step": step, **told, "pck": round(row["pck"], 4)}))
        print(lines[-1], flush=True)  # noqa: T201
        sums = {}
        taught.emphasis = emphasis_after(epoch)
        if epoch in run.keep:
            write(halved(model), folder / f"epoch_{epoch}.pth", epoch, data=run.data)
        (folder / "log.jsonl").write_text("\n".join(lines) + "\n")


def emphasis_after(epoch: int) -> Emphasis:
    """What counts in the epoch after this one."""
    return next((emphasis for end, emphasis in STAGES.items() if epoch < end), STAGES[max(STAGES)])


def halved(model: BottomUp) -> BottomUp:
    """The same model with weights in half precision."""
    return dataclasses.replace(model, module=copy.deepcopy(model.module).half())


if __name__ == "__main__":
    sys.exit(main())
