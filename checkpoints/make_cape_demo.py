"""Train the cape demo: one drawn animal, learned once with the truth before every step and once in earnest.

``cape-demo`` is case 003: teacher forcing alone, the loss goes to zero, and free-running PCK peaks early and
falls. ``cape-demo-cured`` is taught with the keypoints in another order at every step, so that it must read
the support, and then finds them on its own. An epoch is ten steps.

``python checkpoints/make_cape_demo.py``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from workbench.data import builtin  # noqa: E402
from workbench.models.cape import Size, new_cape, write  # noqa: E402
from workbench.training.sequences import TaughtSequence, Teaching  # noqa: E402
from workbench.training.settings import Settings  # noqa: E402
from workbench.training.trainer import Trainer  # noqa: E402

STEPS_PER_EPOCH = 10
DATA = "scenes-val"
SIZE = Size(input_size=(96, 96))
# Run -> how it is taught, learning rate, and the epochs that are kept.
RUNS: dict[str, tuple[Teaching, float, tuple[int, ...]]] = {
    "cape-demo": (Teaching(), 2e-3, (10, 40)),
    "cape-demo-cured": (Teaching(shuffled=True), 1e-3, (80,)),
}


def main() -> int:
    """Train every run, or those named."""
    import torch

    torch.set_num_threads(1)
    for name in sys.argv[1:] or RUNS:
        make(name, *RUNS[name])
    return 0


def make(name: str, teaching: Teaching, rate: float, kept: tuple[int, ...]) -> None:
    """Train one run and keep its epochs and its log."""
    scenes = builtin(DATA)
    sample = scenes.sample(scenes.labelled[0])
    model = new_cape(scenes.skeleton, SIZE)
    settings = Settings(
        steps=kept[-1] * STEPS_PER_EPOCH, learning_rate=rate, schedule="cosine", clip=1.0, measure_every=50
    )
    trainer = Trainer(TaughtSequence(model, teaching), [sample], settings)
    folder = HERE / name
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for step in range(1, settings.steps + 1):
        row = trainer.step()
        if "pck" in row:
            told = ("step", "loss", "loss/coordinates", "loss/types", "pck_train", "pck")
            lines.append(json.dumps({key: row[key] for key in told}))
            print(name, lines[-1], flush=True)  # noqa: T201
        epoch, rest = divmod(step, STEPS_PER_EPOCH)
        if not rest and epoch in kept:
            write(model, folder / f"epoch_{epoch}.pth", epoch, sample=sample.key, data=DATA)
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
