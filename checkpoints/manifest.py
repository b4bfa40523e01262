"""Write manifest.toml: where each checkpoint of this folder comes from. workbench.checkpoints.demo reads it.

``python checkpoints/manifest.py [RUN ...]`` measures every AP anew and rewrites the manifest.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from recipe import SEED, DemoRun  # noqa: E402

from workbench.checkpoints.demo import read_manifest  # noqa: E402
from workbench.core import Sample  # noqa: E402
from workbench.core.files import sha256_of  # noqa: E402

_HEAD = """\
# Written by checkpoints/manifest.py; workbench.checkpoints.demo reads it.
# AP: workbench evaluate (ground truth boxes, padding 1.25, no flip). AP_in_training: mmpose's CocoMetric
# after that epoch, from the run's log; it scores by bbox_keypoint and applies OKS NMS, so they may differ.
# A network that sees whole images has neither: its AP is that of whoever it finds, without flip.
# PCK: workbench rollout on the one image that a sequence model learned, with the truth before every step and
# free-running (closer than .2 of the box's longer side, original pixels).
"""


def update(out: Path, run: DemoRun, minutes: float, **other: Any) -> None:
    """Put one run, freshly trained into out/RUN, into the manifest in place of the old one.

    Args:
        out: folder of the manifest.
        run: what was trained.
        minutes: how long it took.
        other: entries that are not those of make_demo's runs.
    """
    path = out / "manifest.toml"
    others = [old for old in read_manifest(path)["run"] if old["name"] != run.name] if path.exists() else []
    entry = {
        "name": run.name,
        "family": "RTMPose",
        "variant": "RTMPose, CSPNeXt widen .25 deepen .167 cut after stride 16",
        "licence": "Apache-2.0",
        "train": run.train,
        "data": run.val,
        "config": f"{run.name}/{run.name}.py",
        "log": f"{run.name}/vis_data/scalars.json",
        "command": f"python checkpoints/make_demo.py {run.name}",
        "seed": SEED,
        "minutes": round(minutes, 1),
        "ema": run.ema,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "mmpose", "mmengine", "mmcv-lite", "numpy")},
        },
        **other,
        "checkpoint": [_checkpoint(out, run.name, epoch) for epoch in run.keep],
    }
    runs = sorted([*others, entry], key=lambda table: table["name"])
    path.write_text(as_toml(runs))


def update_cape(
    out: Path,
    name: str,
    keep: tuple[int, ...],
    *,
    sample: int,
    side: int,
    seed: int,
    data: str,
    minutes: float | None,
) -> None:
    """Put one run of the sequence model, trained into out/NAME, into the manifest in place of the old one."""
    from workbench.data import builtin

    path = out / "manifest.toml"
    others = [old for old in read_manifest(path)["run"] if old["name"] != name] if path.exists() else []
    shown = builtin(data).sample(sample)
    entry = {
        "name": name,
        "family": "cape",
        "variant": f"{side} x {side}, 3 decoder layers of width 48",
        "licence": "Apache-2.0",
        "train": f"{data}, instance {shown.key} alone",
        "data": data,
        "log": f"{name}/log.jsonl",
        "command": f"python checkpoints/make_cape_demo.py {name}",
        "seed": seed,
        **({} if minutes is None else {"minutes": round(minutes, 1)}),
        "versions": {"python": platform.python_version(), **{n: version(n) for n in ("torch", "numpy")}},
        "checkpoint": [_of_one_image(out / name / f"epoch_{epoch}.pth", epoch, shown) for epoch in keep],
    }
    path.write_text(as_toml(sorted([*others, entry], key=lambda table: table["name"])))


def update_bottom_up(
    out: Path,
    name: str,
    keep: tuple[int, ...],
    *,
    train: str,
    data: str,
    variant: str,
    seed: int,
    minutes: float,
) -> None:
    """Put the run on whole images, trained into out/NAME, into the manifest in place of the old one."""
    path = out / "manifest.toml"
    others = [old for old in read_manifest(path)["run"] if old["name"] != name] if path.exists() else []
    entry = {
        "name": name,
        "family": "HigherHRNet",
        "variant": variant,
        "licence": "Apache-2.0",
        "train": train,
        "data": data,
        "log": f"{name}/log.jsonl",
        "command": f"python checkpoints/make_higherhrnet_demo.py && python checkpoints/manifest.py {name}",
        "seed": seed,
        "minutes": round(minutes, 1),
        "versions": {"python": platform.python_version(), **{n: version(n) for n in ("torch", "numpy")}},
        "checkpoint": [_written(out / name / f"epoch_{epoch}.pth", epoch) for epoch in keep],
    }
    path.write_text(as_toml(sorted([*others, entry], key=lambda table: table["name"])))


def _written(file: Path, epoch: int) -> dict[str, Any]:
    name = f"{file.parent.name}/{file.name}"
    return {"file": name, "epoch": epoch, "bytes": file.stat().st_size, "sha256": sha256_of(file)}


def _of_one_image(file: Path, epoch: int, sample: Sample) -> dict[str, Any]:
    from workbench.core.run import run
    from workbench.inspectors.sequence import forced_and_free
    from workbench.models import open_model

    found = forced_and_free.compute(run(open_model(file).model, [sample]), forced_and_free.Params())
    return {
        **_written(file, epoch),
        "PCK_forced": round(found.pck_forced, 4),
        "PCK_free": round(found.pck_free, 4),
    }


def measure(out: Path, names: Sequence[str] = ()) -> None:
    """Add the AP that `workbench evaluate` finds for every checkpoint trained on a data set.

    Args:
        out: folder of the manifest.
        names: of the runs to measure; all by default.
    """
    from workbench.data import builtin
    from workbench.evaluation import evaluate, predict, protocol_of
    from workbench.models import open_model

    path = out / "manifest.toml"
    runs = read_manifest(path)["run"]
    for run in (run for run in runs if run["family"] != "cape" and (not names or run["name"] in names)):
        pose_set = builtin(run["data"])
        for checkpoint in run["checkpoint"]:
            opened = open_model(out / checkpoint["file"])
            protocol = protocol_of(opened.model, load=opened.load)
            report = evaluate(pose_set, predict(opened.model, pose_set), protocol)
            checkpoint["AP"] = round(float(report.figures["AP"]), 4)
            print(checkpoint, flush=True)  # noqa: T201
    path.write_text(as_toml(runs))


def training_ap(log: Path) -> dict[int, float]:
    """Epoch -> coco/AP as the trainer's own metric wrote it; rows of validation have step = epoch."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return {int(row["step"]): float(row["coco/AP"]) for row in rows if "coco/AP" in row}


def as_toml(runs: list[dict[str, Any]]) -> str:
    """The manifest's text. JSON strings, numbers and booleans are TOML ones as well."""
    lines = [_HEAD]
    for run in runs:
        lines.append("[[run]]")
        for key, value in run.items():
            if isinstance(value, dict):
                inner = ", ".join(f"{k} = {json.dumps(v)}" for k, v in value.items())
                lines.append(f"{key} = {{ {inner} }}")
            elif key != "checkpoint":
                lines.append(f"{key} = {json.dumps(value)}")
        for checkpoint in run["checkpoint"]:
            lines += ["", "[[run.checkpoint]]", *(f"{k} = {json.dumps(v)}" for k, v in checkpoint.items())]
        lines.append("")
    return "\n".join(lines)


def _checkpoint(out: Path, name: str, epoch: int) -> dict[str, Any]:
    file = out / name / f"epoch_{epoch}.pth"
    return {
        "file": f"{name}/{file.name}",
        "epoch": epoch,
        "bytes": file.stat().st_size,
        "sha256": sha256_of(file),
        "AP_in_training": round(training_ap(out / name / "vis_data/scalars.json")[epoch], 4),
    }


if __name__ == "__main__":
    measure(HERE, sys.argv[1:])
