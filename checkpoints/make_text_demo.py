"""Train the text demo: case 000 in small. A base model, and the same with a text neck and a refiner.

Both runs go on from rtmpose-demo's last epoch, with the same data, seed and schedule.
``rtmpose-text-fusion`` has what the published code has: FiLM from one constant sentence whose scales end in
ReLU and dropout and start at random, a neck that is skipped in `predict`, and a refiner that nothing trains
and that is active in evaluation. Its threshold is .2 and not .7: below .2 lie 10 % of this small network's
peaks, below .7 lie 70 %.

Epoch 4 of 6 is what is kept last, of both runs alike: on the machine they were made on, the time ended there.

``python checkpoints/make_text_demo.py [RUN ...]`` takes about ten minutes a run on two cores.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import crops  # noqa: E402
import manifest  # noqa: E402
from make_demo import _first, _inside, _plain_layout  # noqa: E402
from recipe import RUNS, SEED, DemoRun, config  # noqa: E402

BASE, FUSION = "rtmpose-text-base", "rtmpose-text-fusion"
TEXT, SUBJECT = "drawn-quadrupeds", "horse"
START = "weights/rtmpose-demo.pth"
IMAGES = 600  # of scenes-train
EPOCHS, KEEP, EVERY = 6, {BASE: (4,), FUSION: (2, 4)}, 2
THRESHOLD, HIDDEN = 0.2, 32
DROPPED = ("message_hub", "optimizer", "param_schedulers")


def main(argv: list[str] | None = None) -> int:
    """Train the named runs, both by default, and put them into the manifest."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"of {BASE}, {FUSION}; both by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="another length, to try things out")
    parser.add_argument("--limit", type=int, default=IMAGES, help="this many images, to try things out")
    parser.add_argument("--build", type=Path, default=HERE.parent / ".cache/demo", help="scratch folder")
    parser.add_argument("--out", type=Path, default=HERE, help="where RUN/ and manifest.toml go")
    options = parser.parse_args(argv)
    for name in options.runs or (BASE, FUSION):
        if name not in KEEP:
            parser.error(f"no run {name!r}; there are {BASE}, {FUSION}")
        started = time.perf_counter()
        keep = tuple(sorted({min(epoch, options.epochs) for epoch in KEEP[name]}))
        work = make(name, options.build, options.epochs, options.limit, options.threads)
        keep_run(name, keep, work, options.out, (time.perf_counter() - started) / 60)
    return 0


def recipe_of(name: str, epochs: int, steps: int) -> dict[str, Any]:
    """The mmengine config of a run: rtmpose-demo's, going on from its last weights."""
    run = _demo_run(name, epochs)
    settings = copy.deepcopy(config(run, steps))
    settings["load_from"] = START
    settings["train_cfg"] = {"by_epoch": True, "max_epochs": epochs, "val_interval": EVERY}
    if name == BASE:
        return settings
    settings["custom_imports"] = {"imports": ["workbench.models.text_fusion.register"]}
    model = settings["model"]
    channels, bins = model["head"]["in_channels"], int(2 * run.size[0])
    model |= {"type": "TopdownPoseEstimatorWithNeck", "text": f"{TEXT}/{SUBJECT}"}
    model["neck"] = {
        "type": "TextFusionNeck",
        "in_channels": channels,
        "out_channels": channels,
        "num_keypoints": 17,
        "init": "random",
        "gate": "none",
    }
    model["head"] |= {
        "type": "RTMCCHeadWithRefinement",
        "refiner": {
            "type": "SimCCDiffusionRefiner",
            "coord_dim": bins,
            "hidden_dim": HIDDEN,
            "num_keypoints": 17,
            "confidence_threshold": THRESHOLD,
        },
    }
    *before, pack = settings["train_dataloader"]["dataset"]["pipeline"]
    load = {"type": "LoadTextEmbeddings", "required": True}
    load |= {"global_path": "embeddings/subject.npy", "local_path": "embeddings/keypoints.npy"}
    settings["train_dataloader"]["dataset"]["pipeline"] = [*before, load, {**pack, "meta_keys": _meta_keys()}]
    return settings


def make(name: str, build: Path, epochs: int, limit: int, threads: int) -> Path:
    """Draw, train, and give mmengine's work folder."""
    import numpy as np
    import torch

    from workbench.checkpoints.demo import demo_checkpoints
    from workbench.data import builtin
    from workbench.models import mmpose_compat
    from workbench.text.vectors import builtin_text

    mmpose_compat.install()
    import appearance  # noqa: F401 - registers the one transform that is not mmpose's
    from mmengine.config import Config
    from mmengine.runner import Runner
    from mmpose.utils import register_all_modules

    torch.set_num_threads(threads)
    register_all_modules()
    run = _demo_run(name, epochs)
    train, val = build / "data" / run.train, build / "data" / run.val
    for folder in (train, val):
        shutil.rmtree(folder, ignore_errors=True)
    crops.write_crops(_first(builtin(run.train), limit), train, run.truncated, SEED)
    crops.write_images(builtin(run.val), val)
    text = builtin_text(TEXT).for_all(SUBJECT)
    for folder in ("embeddings", "weights"):
        (build / folder).mkdir(parents=True, exist_ok=True)
    np.save(build / "embeddings/subject.npy", text.subject_vectors[0])
    np.save(build / "embeddings/keypoints.npy", text.keypoint_vectors)
    shutil.copy2(demo_checkpoints()[-1], build / START)
    instances = len(json.loads((train / "annotations.json").read_text())["annotations"])
    settings = recipe_of(name, epochs, max(1, instances // run.batch))
    if name == FUSION:  # what Config.fromfile does with custom_imports
        import workbench.models.text_fusion.register  # noqa: F401
    # Relative paths, from inside the scratch folder: the config travels in every checkpoint.
    with _inside(build):
        shutil.rmtree(settings["work_dir"], ignore_errors=True)
        runner = Runner.from_cfg(Config(settings))
        runner.model.to(memory_format=torch.channels_last)
        runner.register_hook(_plain_layout(), priority="LOWEST")
        runner.train()
    return build / settings["work_dir"]


def keep_run(name: str, keep: tuple[int, ...], work: Path, out: Path, minutes: float) -> None:
    """Copy what the demo shows; weights in half precision, without the trainer's own memory."""
    import torch

    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "vis_data").mkdir(parents=True)
    for epoch in keep:
        held = torch.load(work / f"epoch_{epoch}.pth", map_location="cpu", weights_only=True)
        halved = {k: v.half() if v.is_floating_point() else v for k, v in held["state_dict"].items()}
        rest = {key: value for key, value in held.items() if key not in DROPPED}
        torch.save({**rest, "state_dict": halved}, folder / f"epoch_{epoch}.pth")
    newest = max(work.glob("*/vis_data/scalars.json"), key=lambda path: path.stat().st_mtime)
    shutil.copy2(newest, folder / "vis_data/scalars.json")
    (settings,) = work.glob("*.py")
    shutil.copy2(settings, folder / f"{name}.py")
    variant = "" if name == BASE else ", text neck (FiLM) and SimCC refiner with the published defects"
    manifest.update(
        out,
        _demo_run(name, keep[-1], keep),
        minutes,
        variant=f"RTMPose, CSPNeXt widen .25 deepen .167 cut after stride 16{variant}; half precision",
        family="RTMPose" if name == BASE else "RTMPose with text fusion",
        command=f"python checkpoints/make_text_demo.py {name}",
    )


def _demo_run(name: str, epochs: int, keep: tuple[int, ...] = ()) -> DemoRun:
    import dataclasses

    return dataclasses.replace(RUNS["rtmpose-demo"], name=name, epochs=epochs, keep=keep, learning_rate=1e-3)


def _meta_keys() -> tuple[str, ...]:
    """What PackPoseInputs carries by itself, and the text."""
    import inspect

    from mmpose.datasets.transforms import PackPoseInputs

    own = inspect.signature(PackPoseInputs.__init__).parameters["meta_keys"].default
    return (*own, "global_text", "local_text")


if __name__ == "__main__":
    sys.exit(main())
