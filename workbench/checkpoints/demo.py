"""Where are the built-in checkpoints, and are they the ones that were published?

They lie in checkpoints/ beside the library, not in the wheel: a package of code should not carry 30 MB
of weights. `manifest.toml` there says how each was made.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from workbench.core import NotAvailable, nearest
from workbench.core.files import parse_toml, sha256_of

DEFAULT = "rtmpose-demo"


def root() -> Path:
    """The folder of the demo runs: WORKBENCH_CHECKPOINTS, or checkpoints/ beside the library.

    Raises:
        NotAvailable: there is no manifest in it.
    """
    named = os.environ.get("WORKBENCH_CHECKPOINTS")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "checkpoints"
    if not (folder / "manifest.toml").is_file():
        raise NotAvailable(
            f"the built-in checkpoints: expected {folder / 'manifest.toml'}; they come with the repository, "
            "not with the installed package: clone it, or set WORKBENCH_CHECKPOINTS to its checkpoints folder"
        )
    return folder


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest as plain data: a list of runs, each with its checkpoints.

    Raises:
        ValueError: it is no TOML.
    """
    return parse_toml(path.read_text(encoding="utf-8"))


def demo_manifest() -> list[dict[str, Any]]:
    """The runs of the manifest, the default run first."""
    runs = read_manifest(root() / "manifest.toml").get("run", [])
    return sorted(runs, key=lambda run: (run["name"] != DEFAULT, run["name"]))


def demo_runs() -> list[Path]:
    """The folders of the demo runs, the default run first."""
    return [root() / run["name"] for run in demo_manifest()]


def demo_run(name: str = DEFAULT) -> Path:
    """The folder of one demo run."""
    return root() / _run(name)["name"]


def demo_checkpoints(name: str = DEFAULT) -> list[Path]:
    """The checkpoints of one demo run in the order of their epochs."""
    entries = sorted(_run(name)["checkpoint"], key=lambda checkpoint: checkpoint["epoch"])
    return [root() / checkpoint["file"] for checkpoint in entries]


def demo_config(name: str = DEFAULT) -> Path:
    """The mmpose config of one demo run.

    Raises:
        NotAvailable: its checkpoints carry all that is needed to open them, and there is none.
    """
    if "config" not in (run := _run(name)):
        raise NotAvailable(f"{name}: a {run['family']} checkpoint says how it is built and has no config")
    return root() / run["config"]


def demo_log(name: str = DEFAULT) -> Path:
    """The training log of one demo run, JSON lines: mmengine's, or of a sequence model what its log says."""
    return root() / _run(name)["log"]


def demo_data(name: str = DEFAULT) -> str:
    """The built-in data set one demo run is judged on."""
    return str(_run(name)["data"])


def verify() -> list[str]:
    """What is wrong with the demo files, one sentence each; empty when all are as published."""
    wrong = []
    for run in demo_manifest():
        for checkpoint in run["checkpoint"]:
            path = root() / checkpoint["file"]
            if not path.is_file():
                wrong.append(f"{checkpoint['file']}: missing")
            elif path.stat().st_size != checkpoint["bytes"]:
                wrong.append(
                    f"{checkpoint['file']}: {path.stat().st_size} bytes, expected {checkpoint['bytes']}"
                )
            elif sha256_of(path) != checkpoint["sha256"]:
                wrong.append(f"{checkpoint['file']}: its sha256 is not the one in manifest.toml")
    return wrong


def _run(name: str) -> dict[str, Any]:
    runs = {run["name"]: run for run in demo_manifest()}
    if name not in runs:
        raise KeyError(f"no demo run {name!r}; nearest: {nearest(name, runs)}")
    return runs[name]
