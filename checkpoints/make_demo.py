"""How were the checkpoints in this folder made? Run this file and see.

``python checkpoints/make_demo.py [RUN ...]`` draws the training and validation scenes, trains each run
with mmengine's Runner, copies the kept epochs, the config and the log to checkpoints/RUN/ and rewrites
manifest.toml. A run takes about half an hour on two cores. Same seed and versions give the same scenes
and the same course; the last digits depend on the processor, and with them the hashes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import crops  # noqa: E402
import manifest  # noqa: E402
from recipe import RUNS, SEED, DemoRun, config, warm_up_config  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    """Train the named runs, all by default, and rewrite the manifest."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"of {', '.join(RUNS)}; all by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, help="another length, to try things out")
    parser.add_argument("--limit", type=int, help="this many images per set, to try things out")
    parser.add_argument("--build", type=Path, default=HERE.parent / ".cache/demo", help="scratch folder")
    parser.add_argument("--out", type=Path, default=HERE, help="where RUN/ and manifest.toml go")
    options = parser.parse_args(argv)
    unknown = [name for name in options.runs if name not in RUNS]
    if unknown:
        parser.error(f"no run {unknown[0]!r}; there are {', '.join(RUNS)}")
    for name in options.runs or RUNS:
        run = RUNS[name]
        if options.epochs:
            keep = tuple(e for e in run.keep if e < options.epochs)
            run = dataclasses.replace(run, epochs=options.epochs, keep=(*keep, options.epochs))
        started = time.perf_counter()
        work = make(run, options.build, options.threads, options.limit)
        keep_run(run, work, options.out, minutes=(time.perf_counter() - started) / 60)
    return 0


def make(run: DemoRun, build: Path, threads: int = 2, limit: int | None = None) -> Path:
    """Draw, train, and give mmengine's work folder."""
    import torch

    from workbench.data import builtin
    from workbench.models import mmpose_compat

    mmpose_compat.install()
    import appearance  # noqa: F401 - registers the one transform that is not mmpose's
    from mmengine.config import Config
    from mmengine.runner import Runner
    from mmpose.utils import register_all_modules

    torch.set_num_threads(threads)
    register_all_modules()
    build.mkdir(parents=True, exist_ok=True)
    train, val = build / "data" / run.train, build / "data" / run.val
    for folder in (train, val):
        shutil.rmtree(folder, ignore_errors=True)
    crops.write_crops(_first(builtin(run.train), limit), train, run.truncated, SEED)
    crops.write_images(_first(builtin(run.val), limit), val)
    instances = len(json.loads((train / "annotations.json").read_text())["annotations"])
    steps = max(1, instances // run.batch)
    # Relative paths, from inside the scratch folder: the config travels in every checkpoint.
    with _inside(build):
        for settings in (warm_up_config(run, steps), config(run, steps)):
            shutil.rmtree(settings["work_dir"], ignore_errors=True)
            runner = Runner.from_cfg(Config(settings))
            # Depthwise convolutions on a CPU are a third faster this way.
            runner.model.to(memory_format=torch.channels_last)
            runner.register_hook(_plain_layout(), priority="LOWEST")
            runner.train()
    return build / "work_dirs" / run.name


def keep_run(run: DemoRun, work: Path, out: Path, minutes: float) -> None:
    """Copy what the demo shows: the kept epochs, the config, the log."""
    folder = out / run.name
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "vis_data").mkdir(parents=True)
    for epoch in run.keep:
        shutil.copy2(work / f"epoch_{epoch}.pth", folder)
    newest = max(work.glob("*/vis_data/scalars.json"), key=lambda path: path.stat().st_mtime)
    shutil.copy2(newest, folder / "vis_data/scalars.json")
    (settings,) = work.glob("*.py")
    shutil.copy2(settings, folder / f"{run.name}.py")
    manifest.update(out, run, minutes)


def _plain_layout() -> object:
    """A hook that stores tensors in row-major order, whatever order they were trained in."""
    from mmengine.hooks import Hook

    class PlainLayout(Hook):
        def before_save_checkpoint(self, runner: object, checkpoint: dict) -> None:
            for part in ("state_dict", "ema_state_dict"):
                for name, tensor in checkpoint.get(part, {}).items():
                    checkpoint[part][name] = tensor.contiguous()

    return PlainLayout()


def _first(pose_set: object, limit: int | None) -> object:
    """The whole set, or the part of it that lies in its first images."""
    if limit is None:
        return pose_set
    ids = set(sorted(pose_set.images)[:limit])  # type: ignore[attr-defined]
    instances = tuple(i for i in pose_set.instances if i.image_id in ids)  # type: ignore[attr-defined]
    return dataclasses.replace(pose_set, instances=instances)  # type: ignore[type-var]


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


if __name__ == "__main__":
    sys.exit(main())
