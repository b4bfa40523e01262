"""Train the cape demos: one drawn animal, learned with the truth before every step, with defects, in earnest.

``cape-demo`` is taught by teacher forcing alone: the loss goes to zero, free-running PCK does not go to 1.
``cape-demo-defects`` has besides what published code had for a while: the support is encoded and thrown
away, PCK is logged in pixels of the resized input, the loss with its weight, and the learning rate is
constant. Its crop has more pixels than the original, so that the wrong PCK is too low. Its loss halves from
epoch 15 to 50, and PCK stays where it is. ``cape-demo-cured`` is taught with the keypoints in another order
at every step, so that it must read the support, and finds them alone. An epoch is ten steps.

``python checkpoints/make_cape_demo.py``
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from workbench.core import Sample  # noqa: E402
from workbench.data import builtin  # noqa: E402
from workbench.models.cape.model import Cape, new_cape, write  # noqa: E402
from workbench.models.cape.network import Defects, Size  # noqa: E402
from workbench.training.sequences import TaughtSequence, Teaching  # noqa: E402
from workbench.training.settings import Settings  # noqa: E402
from workbench.training.trainer import Trainer  # noqa: E402

STEPS_PER_EPOCH = 10
DATA = "scenes-val"
# Index of the animal in the set.
SAMPLE = 0


@dataclass(frozen=True)
class CapeRun:
    """How one run is taught.

    Attributes:
        teaching: what the decoder reads.
        rate: learning rate at the start.
        keep: epochs that are kept.
        side: of the square input, pixels.
        defects: of the code that trains and logs.
        seed: of the first weights.
        schedule: of the learning rate.
    """

    teaching: Teaching
    rate: float
    keep: tuple[int, ...]
    side: int = 96
    defects: Defects = field(default_factory=Defects)
    seed: int = 0
    schedule: Literal["constant", "cosine"] = "cosine"


RUNS = {
    "cape-demo": CapeRun(Teaching(), 2e-3, (10, 40)),
    "cape-demo-defects": CapeRun(
        Teaching(), 2e-3, (15, 50), side=192, schedule="constant",
        defects=Defects(support_discarded=True, pck_in_input_pixels=True, logged_loss_scaled=True),
    ),
    "cape-demo-cured": CapeRun(Teaching(shuffled=True), 1e-3, (80,)),
}  # fmt: skip


def main() -> int:
    """Train every run, or those named."""
    import torch

    torch.set_num_threads(1)
    for name in sys.argv[1:] or RUNS:
        make(HERE, name, RUNS[name])
    return 0


def make(out: Path, name: str, run: CapeRun) -> None:
    """Train one run into out/NAME, keep its epochs and its log, and put it into the manifest."""
    from manifest import update_cape

    begun = time.monotonic()
    scenes = builtin(DATA)
    sample = scenes.sample(SAMPLE)
    size = Size(input_size=(run.side, run.side))
    model = new_cape(scenes.skeleton, size, seed=run.seed, defects=run.defects)
    settings = Settings(
        steps=run.keep[-1] * STEPS_PER_EPOCH, learning_rate=run.rate, schedule=run.schedule,
        clip=1.0, measure_every=50,
    )  # fmt: skip
    trainer = Trainer(TaughtSequence(model, run.teaching), [sample], settings)
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for step in range(1, settings.steps + 1):
        row = trainer.step()
        if "pck" in row:
            told = {
                key: row[key]
                for key in ("step", "loss", "loss/coordinates", "loss/types", "pck_train", "pck")
            }
            lines.append(json.dumps({**told, **logged(model, sample)}))
            print(name, lines[-1], flush=True)  # noqa: T201
        epoch, rest = divmod(step, STEPS_PER_EPOCH)
        if not rest and epoch in run.keep:
            write(model, folder / f"epoch_{epoch}.pth", epoch, sample=sample.key, data=DATA)
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    minutes = (time.monotonic() - begun) / 60
    update_cape(out, name, run.keep, sample=SAMPLE, side=run.side, seed=run.seed, data=DATA, minutes=minutes)


def logged(model: Cape, sample: Sample) -> dict[str, float]:
    """What the family's own training log says after a rollout, its defects included."""
    import torch

    with torch.no_grad():
        model.module.eval()
        batch = model.prepare([sample])
        return {f"logged_{k}": round(v, 5) for k, v in model.logged(model.rollout(batch), batch).items()}


if __name__ == "__main__":
    sys.exit(main())
